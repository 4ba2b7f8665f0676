"""Embeddings for programs that show them: TensorBoard's projector, Embedding Atlas, FiftyOne.

Sources: TensorBoard ``plugins/projector/projector_plugin.py`` and ``projector_config.proto``; Embedding Atlas
``projection.py``; FiftyOne's guide to the Brain.

Letters after a name are its axes:
    M rows of the export · N rows of the set · k neighbours · D width of a vector · Y X pixels · 3 colours, RGB
"""

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.exporting.embeddings import picture_columns, picture_fields, write_npz
from engine.exporting.table import BLOCK, LeftOut, Table, readable
from engine.exporting.thumbnails import jpeg, of_all, tile
from engine.finding.neighbours import NeighbourTable
from engine.provenance import KEY, Provenance
from engine.timing import Pace

SPRITE_SIDE = 8192
"""Longest side of a texture that graphics cards can be relied upon to take; TensorBoard's guide gives the same."""
TILE_SIDE = 64
"""Side of a thumbnail on the sprite, px, where there is room; 9 px for 800,000."""
SHOWN_ROWS = 100_000
"""Rows that TensorBoard's viewer takes, the first ones; LIMIT_NUM_POINTS of its data provider."""
NO_PICTURE = 128
"""Grey of the tile of a picture that cannot be decoded any more."""
ATLAS_SIDE = 192
"""Side of the thumbnails in an atlas, px."""


def write_projector(table: Table, folder: Path, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write ``vectors.tsv``, ``metadata.tsv``, ``sprite.png`` and ``projector_config.pbtxt``.

    Open with ``tensorboard --logdir FOLDER``. Characters that would break a line of text become blanks.

    Returns:
        Pictures that have a grey tile because they cannot be decoded any more.
    """
    _write_metadata(table, folder / "metadata.tsv")
    with (folder / "vectors.tsv").open("w", encoding="ascii") as file:
        for rows in table.blocks():
            for vector_D in rows.vectors_BD.tolist():
                file.write("\t".join(f"{value:.9g}" for value in vector_D) + "\n")
    side, missing = write_sprite(table, folder / "sprite.png", pace)
    config = f"""embeddings {{
  tensor_name: {json.dumps(about.get("features", "features"))}
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {side}
    single_image_dim: {side}
  }}
}}
"""
    (folder / "projector_config.pbtxt").write_text(config, encoding="ascii")
    return missing


def _write_metadata(table: Table, path: Path) -> None:
    """Write the columns that there is something in; a single one has no header, as the viewer wants it."""
    columns = {
        "path": [picture.path for picture in table.pictures],
        "label": [picture.label or "" for picture in table.pictures],
        "split": [picture.split or "" for picture in table.pictures],
    }
    columns = {name: texts for name, texts in columns.items() if any(texts)}
    with path.open("w", encoding="utf-8", newline="\n") as file:
        if len(columns) > 1:
            file.write("\t".join(columns) + "\n")
        file.writelines("\t".join(map(_one_line, row)) + "\n" for row in zip(*columns.values(), strict=True))


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in readable(text)) or "-"


def write_sprite(table: Table, path: Path, pace: Pace) -> tuple[int, list[LeftOut]]:
    """Write one square picture with a thumbnail of each row, row by row.

    Returns:
        The side of a thumbnail in pixels, and the pictures that cannot be decoded any more.
    """
    in_line = math.ceil(math.sqrt(len(table)))
    side = min(TILE_SIDE, SPRITE_SIDE // in_line)
    sprite_YX3 = np.zeros((in_line * side, in_line * side, 3), np.uint8)
    missing: list[LeftOut] = []
    for i, tile_YX3 in enumerate(of_all(table, functools.partial(tile, side=side), missing)):
        y, x = i // in_line * side, i % in_line * side
        sprite_YX3[y : y + side, x : x + side] = NO_PICTURE if tile_YX3 is None else tile_YX3
        pace.reached(i + 1)
    Image.fromarray(sprite_YX3).save(path, compress_level=1)
    return side, missing


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What an atlas shows beside the pictures; either may be missing.

    ``places_N2`` are the positions on a map, float32, NaN where a row has none.
    """

    places_N2: NDArray[np.float32] | None = None
    neighbours: NeighbourTable | None = None


def write_atlas(
    table: Table, file: BinaryIO, about: Provenance, pace: Pace, surroundings: Surroundings | None = None
) -> list[LeftOut]:
    """Write a Parquet table for Embedding Atlas.

    Its columns: those about pictures; ``projection_x`` and ``projection_y``, or without a map ``vector``, which the
    atlas makes one of; ``neighbors``, where they are known: places of rows in this table counted from 0, the row
    itself first as the atlas's own are, and distances, 1 - cosine; ``image``, a JPEG thumbnail.

    Returns:
        Pictures that have no thumbnail because they cannot be decoded any more.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    around = surroundings or Surroundings()
    schema = pa.schema([*picture_fields(), *_atlas_fields(table, around)], {KEY: json.dumps(about)})
    missing: list[LeftOut] = []
    thumbnails = of_all(table, functools.partial(jpeg, side=ATLAS_SIDE), missing)
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=["label", "split"]) as writer:
        for start in range(0, len(table), BLOCK // 8):  # thumbnails are larger than vectors
            part = slice(start, min(start + BLOCK // 8, len(table)))
            columns = picture_columns(table.pictures[part])
            columns += _atlas_columns(table, around, part)
            columns.append(_images(table, part, thumbnails, pace))
            writer.write_batch(pa.record_batch(columns, schema))
    return missing


def _atlas_fields(table: Table, around: Surroundings) -> list[tuple[str, Any]]:
    import pyarrow as pa

    fields: list[tuple[str, Any]] = []
    if around.places_N2 is None:
        fields.append(("vector", pa.list_(pa.float32(), table.features.plan.dimensions)))
    else:
        fields += [("projection_x", pa.float32()), ("projection_y", pa.float32())]
    if around.neighbours is not None:
        fields.append(("neighbors", _near_type()))
    return [*fields, ("image", _image_type())]


def _near_type() -> Any:
    import pyarrow as pa

    return pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])


def _image_type() -> Any:
    import pyarrow as pa

    return pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _atlas_columns(table: Table, around: Surroundings, part: slice) -> list[Any]:
    import pyarrow as pa

    rows = table.rows_M[part]
    columns: list[Any] = []
    if around.places_N2 is None:
        vectors_MD = np.asarray(table.features.vectors_ND[rows])
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors_MD.reshape(-1)), vectors_MD.shape[1]))
    else:
        columns += [pa.array(np.ascontiguousarray(axis)) for axis in np.asarray(around.places_N2[rows]).T]
    if around.neighbours is not None:
        columns.append(pa.array(_near(table.rows_M, around.neighbours, part), _near_type()))
    return columns


def _near(rows_M: NDArray[np.intp], neighbours: NeighbourTable, part: slice) -> list[dict[str, list[Any]]]:
    """Return the neighbours of some rows as places in the export; those that are not in it are left out."""
    rows_Bk, likeness_Bk = neighbours.rows_Nk[rows_M[part]], neighbours.likeness_Nk[rows_M[part]]
    places_Bk = np.searchsorted(rows_M, rows_Bk).clip(max=len(rows_M) - 1)
    is_there_Bk = rows_M[places_Bk] == rows_Bk
    return [
        {
            "ids": [own, *places[is_there].tolist()],
            "distances": [0.0, *(1 - likeness[is_there]).tolist()],
        }
        for own, places, likeness, is_there in zip(
            range(part.start, part.stop), places_Bk, likeness_Bk, is_there_Bk, strict=True
        )
    ]


def _images(table: Table, part: slice, thumbnails: Iterator[bytes | None], pace: Pace) -> Any:
    import pyarrow as pa

    images = []
    for picture in table.pictures[part]:
        written = next(thumbnails)
        images.append(None if written is None else {"bytes": written, "path": readable(picture.path)})
        pace.reached(pace.done + 1)
    return pa.array(images, _image_type())


FIFTYONE_SCRIPT = '''"""Make a FiftyOne dataset of these features: python import_to_fiftyone.py FOLDER_OF_PICTURES"""
import sys
from pathlib import Path

import fiftyone as fo
import fiftyone.brain as fob
import numpy as np

data = np.load(Path(__file__).with_name("embeddings.npz"), allow_pickle=False)
dataset = fo.Dataset("dinoviz", persistent=True)
rows = zip(data["paths"], data["labels"], data["splits"])
dataset.add_samples(
    fo.Sample(
        filepath=str(Path(sys.argv[1]).resolve() / str(path)),
        tags=[str(split)] if split else [],
        ground_truth=fo.Classification(label=str(label)) if label else None,
    )
    for path, label, split in rows
)
fob.compute_similarity(dataset, embeddings=data["vectors"], brain_key="dinoviz")
fob.compute_visualization(dataset, embeddings=data["vectors"], brain_key="dinoviz_map")
'''


def write_fiftyone(table: Table, folder: Path, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write ``embeddings.npz`` and a script that makes a FiftyOne dataset of it; leaves no picture out."""
    (folder / "import_to_fiftyone.py").write_text(FIFTYONE_SCRIPT, encoding="ascii")
    with (folder / "embeddings.npz").open("wb") as file:
        return write_npz(table, file, about, pace)
