"""Embeddings as tables: NumPy, Parquet, CSV. Rows are streamed; memory does not grow with them.

Every format has the same columns: ``id`` of the picture in the project, ``path`` relative to the folder of pictures,
``label`` and ``split`` where it has them, ``width`` and ``height`` in pixels, and the vector, float32, as it came out
of the backbone. Writers return the pictures that they had to leave out, which are none here.

Letters after a name are its axes:
    M rows of the export · B rows of a block · D width of a vector
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.arrays import write_header
from engine.exporting.table import LeftOut, Rows, Table, harmless, readable
from engine.project import Picture
from engine.provenance import KEY, Provenance
from engine.timing import Pace

if TYPE_CHECKING:
    import pyarrow as pa


def write_npy(table: Table, folder: Path, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write ``vectors.npy`` (M, D) float32, ``ids.npy`` int64 and ``pictures.jsonl``, a JSON object a line."""
    n, width = len(table), table.features.plan.dimensions
    np.save(folder / "ids.npy", table.features.ids_N[table.rows_M])
    with (
        (folder / "vectors.npy").open("wb") as vectors,
        (folder / "pictures.jsonl").open("w", encoding="ascii") as pictures,
    ):
        write_header(vectors, np.dtype(np.float32), (n, width))
        for rows in _paced(table, pace):
            vectors.write(rows.vectors_BD.data)
            pictures.writelines(json.dumps(_described(picture)) + "\n" for picture in rows.pictures)
    return []


def write_npz(table: Table, file: BinaryIO, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write one NumPy file: vectors, ids, paths, labels, splits, sizes (width, height) and ``about``, JSON text."""
    n, width = len(table), table.features.plan.dimensions
    pictures = table.pictures
    with zipfile.ZipFile(file, "w") as archive:
        _write_member(archive, "about", np.array(json.dumps(about)))
        _write_member(archive, "ids", table.features.ids_N[table.rows_M])
        _write_member(archive, "sizes", np.array([_size(picture) for picture in pictures], np.int32))
        for name, texts in (
            ("paths", (readable(picture.path) for picture in pictures)),
            ("labels", (picture.label or "" for picture in pictures)),
            ("splits", (picture.split or "" for picture in pictures)),
        ):
            _write_texts(archive, name, list(texts))
        blocks = (rows.vectors_BD for rows in _paced(table, pace))
        _write_blocks(archive, "vectors", np.dtype(np.float32), (n, width), blocks)
    return []


def write_parquet(table: Table, file: BinaryIO, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write a Parquet table; vectors are lists of a fixed size, and ``about`` is in the metadata of its schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), table.features.plan.dimensions)
    schema = pa.schema([*picture_fields(), ("vector", vector)], {KEY: json.dumps(about)})
    # Vectors do not get smaller by compression; the texts beside them do.
    how = dict.fromkeys(("path", "label", "split"), "zstd") | {"vector.list.element": "none"}
    with pq.ParquetWriter(file, schema, compression=how, use_dictionary=["label", "split"]) as writer:
        for rows in _paced(table, pace):
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors_BD.reshape(-1)), type=vector)
            writer.write_batch(pa.record_batch([*picture_columns(rows.pictures), vectors], schema))
    return []


def write_csv(table: Table, file: BinaryIO, about: Provenance, pace: Pace) -> list[LeftOut]:
    """Write text with a header; numbers are as long as float32 needs to be read back exactly.

    Names of files may be made by anybody: a path, label or split that a spreadsheet would take for a formula is
    given a ' in front, see ``table.FORMULA``.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    names = [f"v{i}" for i in range(table.features.plan.dimensions)]
    schema = pa.schema([*picture_fields(), *((name, pa.float32()) for name in names)])
    with pa_csv.CSVWriter(file, schema) as writer:
        for rows in _paced(table, pace):
            columns = [pa.array(column) for column in np.ascontiguousarray(rows.vectors_BD.T)]
            writer.write_batch(pa.record_batch([*picture_columns(rows.pictures, harmless), *columns], schema))
    return []


WITHOUT_METADATA = {"csv"}
"""Formats whose provenance is in a file beside them."""


def picture_fields() -> "list[tuple[str, pa.DataType]]":
    """Return names and types of the columns about pictures."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("path", "label", "split")]
    return [("id", pa.int64()), *texts, ("width", pa.int32()), ("height", pa.int32())]


def picture_columns(pictures: Iterable[Picture], clean: Callable[[str], str] = str) -> "list[pa.Array]":
    """Return the columns of `picture_fields`; ``clean`` is done to every text."""
    import pyarrow as pa

    rows = [
        (p.id, clean(readable(p.path)), p.label and clean(p.label), p.split and clean(p.split), *_size(p))
        for p in pictures
    ]
    columns = zip(*rows, strict=True)
    return [pa.array(column, kind) for column, (_, kind) in zip(columns, picture_fields(), strict=True)]


def _paced(table: Table, pace: Pace) -> Iterator[Rows]:
    for rows in table.blocks():
        yield rows
        pace.reached(pace.done + len(rows.pictures))


def _described(picture: Picture) -> dict[str, Any]:
    cols, rows = _size(picture)
    about = {"id": picture.id, "path": readable(picture.path), "label": picture.label, "split": picture.split}
    return {**about, "width": cols, "height": rows}


def _size(picture: Picture) -> tuple[int, int]:
    return picture.cols or 0, picture.rows or 0


def _write_member(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    _write_blocks(archive, name, array.dtype, array.shape, [array])


def _write_texts(archive: zipfile.ZipFile, name: str, texts: list[str]) -> None:
    """Write texts as NumPy keeps them, all as long as the longest; compressed, since most of that is nothing."""
    kind = np.dtype(f"<U{max(1, *map(len, texts))}")
    blocks = (np.array(texts[i : i + 1024], kind) for i in range(0, len(texts), 1024))
    _write_blocks(archive, name, kind, (len(texts),), blocks, zipfile.ZIP_DEFLATED)


def _write_blocks(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[Any]],
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Write one array of an NPZ a block at a time, which ``numpy.savez`` cannot."""
    about = zipfile.ZipInfo(f"{name}.npy")
    about.compress_type = compression
    with archive.open(about, "w", force_zip64=True) as member:
        write_header(member, dtype, shape)
        for block in blocks:
            member.write(np.ascontiguousarray(block).tobytes())
