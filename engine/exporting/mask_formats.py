"""The formats that masks are written in: one class each, listed in ``MASK_FORMATS``.

A writer is given the objects of one picture after the other and keeps none of them. The folder it writes to has
another name until the export is whole, so nothing here needs to be atomic by itself.

What all formats share: the size of the upright picture, and no metadata of it (EXIF, GPS).

Letters after a name are its axes:
    Y X pixels · V vertices
"""

import json
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks

from engine.exporting.pictures import Opened, json_line
from engine.exporting.polygons import Holes, Outline, RunLengths, likeness, outlines
from engine.provenance import KEY, Provenance
from engine.seeing.drawing import png_text

MOST_INDICES = 254
"""Objects of an indexed PNG: 0 is the background, 255 means "not labelled" to readers of Pascal VOC."""
MOST_LABELS = 65_535
LABELME_VERSION = "5.5.0"
"""Of the format: the first versions with ``description`` and ``mask`` of a shape are older."""
DECIMALS = 2
"""Of coordinates in pixels: outlines run on quarters of a pixel."""
SHARE_DECIMALS = 7
"""Of coordinates as shares of a side: a quarter of a pixel is told apart up to a million pixels."""
JPEG_QUALITY = 95
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGES = "images"


class MaskObject(NamedTuple):
    """One object in a picture.

    ``name`` is that of its mask (mean, union, head3), ``label`` what it is called, ``part`` its number among the
    connected parts of the mask, where these are objects of their own.
    """

    name: str
    label: str
    part: int | None
    mask: RunLengths

    @property
    def n_pixels(self) -> int:
        """Its area."""
        return int(coco_masks.area(self.mask))

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """The mask, (height, width)."""
        return coco_masks.decode(self.mask).astype(np.bool_, order="C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How masks are written.

    Args:
        holes: what becomes of holes where outlines are written; see ``polygons``.
        tolerance: how far outlines may be from the edges of the pixels, px.
        has_pictures: write the pictures too, upright and without metadata, into ``images``.
    """

    holes: Holes = "cut"
    tolerance: float = 0.0
    has_pictures: bool = False


@dataclass(slots=True)
class Figures:
    """What is counted while masks are written."""

    counts: Counter[str] = field(default_factory=Counter)
    likenesses: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the counts, and how like the polygons are to their masks, where there are any."""
        like = self.likenesses
        polygons = {"iou_median": round(median(like), 5), "iou_least": round(min(like), 5)} if like else {}
        return dict(self.counts) | polygons


Written = tuple[list[Path], dict[str, Any]]
"""Files of one picture, and what ``pictures.jsonl`` says about it."""


class Writer(ABC):
    """What all formats share: where files go, and the pictures themselves where they are asked for."""

    def __init__(self, folder: Path, final: Path, labels: Sequence[str], about: Provenance, options: Options) -> None:
        """Begin an export.

        Args:
            folder: what is written goes here.
            final: where the folder will be; paths to the pictures start from there.
            labels: all that objects can have.
            about: where the masks come from.
            options: how they are written.
        """
        self.folder, self.final, self.labels, self.about, self.options = folder, final, labels, about, options
        self.figures = Figures()

    def write(self, row: Opened, objects: list[MaskObject]) -> Written:
        """Write the objects of one picture."""
        files, masks = self._write(row, objects)
        if self.options.has_pictures:
            files = [*files, self._write_picture(row)]
        self.figures.counts["masks"] += len(masks)
        return files, {"masks": masks}

    def finish(self) -> list[Path]:
        """Write what belongs to all pictures together."""
        return []

    def close(self) -> None:  # noqa: B027 - most formats keep nothing open
        """Let go of what is open."""

    @abstractmethod
    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        """Write the objects of one picture; return the files, and what is told of each mask."""

    def _picture_folder(self, row: Opened) -> str:
        """Return the folder of a picture that is written too."""
        del row
        return IMAGES

    def _picture_name(self, row: Opened) -> str:
        suffix = ".jpg" if row.source.path.suffix.lower() in JPEG_SUFFIXES else ".png"
        return f"{self._picture_folder(row)}/{row.stem}{suffix}"

    def _write_picture(self, row: Opened) -> Path:
        path = self.folder / self._picture_name(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.picture_YX3).save(path, quality=JPEG_QUALITY, subsampling=0)
        return path

    def _save_png(self, stem: str, pixels: NDArray[Any], palette: bytes | None = None) -> Path:
        path = self.folder / f"{stem}.png"
        image = Image.fromarray(pixels)
        if palette:
            image.putpalette(palette)
        image.save(path, pnginfo=png_text(self.about))
        return path


def _described(mask: MaskObject, **more: Any) -> dict[str, Any]:
    part = {} if mask.part is None else {"part": mask.part}
    return {"mask": mask.name, **part, "label": mask.label, "pixels": mask.n_pixels, **more}


class BinaryPng(Writer):
    """``NAME.png``, 8 bits, 0 and 255; with several masks a picture ``NAME-head0.png`` and so on."""

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        several = len(self.labels) > 1
        files = []
        for mask in objects:
            ending = (f"-{mask.name}" if several else "") + (f"-{mask.part}" if mask.part else "")
            files.append(self._save_png(row.stem + ending, mask.pixels.astype(np.uint8) * 255))
        return files, [_described(mask) for mask in objects]


class LabelMap(Writer):
    """One PNG a picture, the value of a pixel is the number of its object; 0 is none.

    Where objects overlap the smaller is above. Of more objects than there are numbers the largest are kept.
    """

    most: int
    dtype: type[np.unsignedinteger[Any]]
    palette: bytes | None = None

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        by_size = sorted(range(len(objects)), key=lambda i: -objects[i].n_pixels)
        kept = sorted(by_size[: self.most])
        numbers = {i: number for number, i in enumerate(kept, start=1)}
        map_YX = np.zeros(row.size, dtype=self.dtype)
        n_hidden = 0
        for i in by_size[: self.most]:
            pixels_YX = objects[i].pixels
            n_hidden += int((map_YX[pixels_YX] > 0).sum())
            map_YX[pixels_YX] = numbers[i]
        self.figures.counts["objects_left_out"] += len(objects) - len(kept)
        self.figures.counts["overlapping_pixels"] += n_hidden
        path = self._save_png(row.stem, map_YX, self.palette)
        return [path], [_described(objects[i], number=number) for i, number in numbers.items()]


def _voc_palette() -> bytes:
    """Return 256 colours that differ as much as they can, as Pascal VOC has them: bits of the number, dealt out."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    numbers = np.arange(256)
    for shift in range(7, -1, -1):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> channel) & 1) << shift).astype(np.uint8)
        numbers >>= 3
    return colours.tobytes()


class IndexedPng(LabelMap):
    """8 bits with a palette; opens in colours everywhere."""

    most = MOST_INDICES
    dtype = np.uint8
    palette = _voc_palette()


class Labels16(LabelMap):
    """16 bits grey, for many objects: dark to the eye, exact to programs."""

    most = MOST_LABELS
    dtype = np.uint16


class Arrays(Writer):
    """``NAME.npz``: ``packed`` bits of all masks, their ``shape`` (masks, height, width), ``names``, ``about``.

    ``np.unpackbits(packed, axis=-1, count=shape[-1])`` gives the pixels.
    """

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        packed = [np.packbits(mask.pixels, axis=-1) for mask in objects]
        path = self.folder / f"{row.stem}.npz"
        np.savez_compressed(
            path,
            allow_pickle=False,
            packed=np.stack(packed) if packed else np.zeros((0, row.size[0], -(-row.size[1] // 8)), np.uint8),
            shape=np.array([len(objects), *row.size]),
            names=np.array([mask.name if mask.part is None else f"{mask.name}-{mask.part}" for mask in objects], "U"),
            about=np.array(json.dumps(self.about)),
        )
        return [path], [_described(mask) for mask in objects]


class Spool:
    """Lines of JSON in a file without a name, gone with the process, until they are copied to their place."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open for the whole export
        self.n_lines = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one line."""
        self._file.write(json_line(row))
        self.n_lines += 1

    def listed(self) -> Iterator[bytes]:
        """Yield all lines with commas between, as in a JSON array."""
        self._file.seek(0)
        for n, line in enumerate(self._file, start=1):
            yield line if n == self.n_lines else line[:-1] + b",\n"

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


class Coco(Writer):
    """``annotations.json`` of COCO, with run lengths: exact; ``iscrowd`` is 1, as COCO has it for these."""

    def __init__(self, folder: Path, final: Path, labels: Sequence[str], about: Provenance, options: Options) -> None:
        super().__init__(folder, final, labels, about, options)
        self._images, self._annotations = Spool(folder), Spool(folder)
        self._categories = {label: number for number, label in enumerate(labels, start=1)}

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        height, width = row.size
        turned = {"exif_orientation": row.orientation} if row.orientation != 1 else {}
        name = self._picture_name(row) if self.options.has_pictures else row.source.name
        self._images.add({"id": row.source.id, "file_name": name, "width": width, "height": height, **turned})
        masks = []
        for mask in objects:
            if not mask.n_pixels:
                self.figures.counts["empty"] += 1
                continue
            shape, about = self._segmentation(mask)
            self._annotations.add(
                {
                    "id": self._annotations.n_lines + 1,
                    "image_id": row.source.id,
                    "category_id": self._categories[mask.label],
                    **shape,
                    "area": mask.n_pixels,
                    "bbox": coco_masks.toBbox(mask.mask).tolist(),
                    "attributes": {"mask": mask.name},
                }
            )
            masks.append(_described(mask, **about))
        return [], masks

    def _segmentation(self, mask: MaskObject) -> tuple[dict[str, Any], dict[str, Any]]:
        run_lengths = {"size": list(mask.mask["size"]), "counts": mask.mask["counts"].decode("ascii")}
        return {"segmentation": run_lengths, "iscrowd": 1}, {}

    def finish(self) -> list[Path]:
        """Write the one file, from the lines that waited for it."""
        path = self.folder / "annotations.json"
        info = {
            "description": "Masks of attention",
            "version": self.about["program"],
            "year": time.gmtime().tm_year,
            "date_created": self.about["made"],
            KEY: self.about,
        }
        categories = [{"id": number, "name": label, "supercategory": ""} for label, number in self._categories.items()]
        with path.open("wb") as file:
            file.write(b'{"info": ' + json.dumps(info).encode() + b',\n"licenses": [],\n"images": [\n')
            file.writelines(self._images.listed())
            file.write(b'],\n"annotations": [\n')
            file.writelines(self._annotations.listed())
            file.write(b'],\n"categories": ' + json.dumps(categories).encode() + b"}\n")
        return [path]

    def close(self) -> None:
        """Give back the disk that the waiting lines took."""
        self._images.close()
        self._annotations.close()


def _outlined(mask: MaskObject, options: Options, figures: Figures) -> tuple[list[Outline], dict[str, Any]]:
    """Return the outlines of an object, and what to note about them; count holes and measure the likeness."""
    found = outlines(mask.pixels, holes=options.holes, tolerance=options.tolerance)
    like = likeness(mask.mask, [outline.ring_V2 for outline in found])
    n_holes = sum(outline.n_holes for outline in found)
    figures.likenesses.append(like)
    figures.counts["holes_cut" if options.holes == "cut" else "holes_filled"] += n_holes
    figures.counts["vertices"] += sum(len(outline.ring_V2) for outline in found)
    return found, {"rings": len(found), "holes": n_holes, "iou": round(like, 5)}


class CocoPolygons(Coco):
    """``annotations.json`` of COCO, with polygons; ``iscrowd`` is 0."""

    def _segmentation(self, mask: MaskObject) -> tuple[dict[str, Any], dict[str, Any]]:
        found, about = _outlined(mask, self.options, self.figures)
        rings = [outline.ring_V2.round(DECIMALS).ravel().tolist() for outline in found]
        return {"segmentation": rings, "iscrowd": 0}, about


class LabelMe(Writer):
    """``NAME.json`` a picture, for labelme and X-AnyLabeling: polygons; parts of one mask have one ``group_id``."""

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        shapes, masks = [], []
        for number, mask in enumerate(objects):
            found, about = _outlined(mask, self.options, self.figures)
            group = number if len(found) > 1 else None
            shapes += [_labelme_shape(mask, outline, group) for outline in found]
            masks.append(_described(mask, **about))
        content = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": self._picture_path(row),
            "imageData": None,
            "imageHeight": row.size[0],
            "imageWidth": row.size[1],
            KEY: self.about,
        }
        path = self.folder / f"{row.stem}.json"
        path.write_bytes(json.dumps(content).encode())
        return [path], masks

    def _picture_path(self, row: Opened) -> str:
        """Return the path to the picture from the JSON, '/' between its parts; all of it on another drive."""
        if self.options.has_pictures:
            return self._picture_name(row)
        picture = row.source.path.resolve()
        try:
            return Path(os.path.relpath(picture, self.final)).as_posix()
        except ValueError:
            return picture.as_posix()


def _labelme_shape(mask: MaskObject, outline: Outline, group: int | None) -> dict[str, Any]:
    return {
        "label": mask.label,
        "points": outline.ring_V2.round(DECIMALS).tolist(),
        "group_id": group,
        "description": f"mask of attention: {mask.name}",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


class Yolo(Writer):
    """``labels/SPLIT/NAME.txt``, a line a ring: class x y x y …, as shares of the sides; and ``data.yaml``.

    Ultralytics looks for the labels of ``images/SPLIT/NAME.jpg`` there. It writes damaged JPEGs anew in place, so
    that links to the pictures would not do; ``has_pictures`` writes copies.
    """

    def __init__(self, folder: Path, final: Path, labels: Sequence[str], about: Provenance, options: Options) -> None:
        super().__init__(folder, final, labels, about, options)
        self._splits: set[str] = set()

    def _write(self, row: Opened, objects: list[MaskObject]) -> tuple[list[Path], list[dict[str, Any]]]:
        split = row.source.split or "train"
        self._splits.add(split)
        lines, masks = [], []
        for mask in objects:
            found, about = _outlined(mask, self.options, self.figures)
            lines += [self._line(mask.label, outline, row.size) for outline in found]
            masks.append(_described(mask, **about))
        path = self.folder / "labels" / split / f"{row.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="ascii", newline="\n")
        return [path], masks

    def _line(self, label: str, outline: Outline, size: tuple[int, int]) -> str:
        shares_V2 = outline.ring_V2 / (size[1], size[0])
        words = " ".join(f"{share:.{SHARE_DECIMALS}f}" for share in shares_V2.ravel())
        return f"{self.labels.index(label)} {words}\n"

    def _picture_folder(self, row: Opened) -> str:
        return f"{IMAGES}/{row.source.split or 'train'}"

    def finish(self) -> list[Path]:
        """Write ``data.yaml``. Paths in it start from its own folder, as there is no ``path``."""
        splits = {split: split for split in ("train", "val", "test") if split in self._splits}
        first = next(iter(splits), "train")
        lines = [
            "# Pictures belong in images/, under the names of the files in labels/, upright.",
            *(f"{name}: {IMAGES}/{split}" for name, split in ({"train": first, "val": first} | splits).items()),
            "names:",
            *(f"  {number}: {json.dumps(label)}" for number, label in enumerate(self.labels)),
        ]
        path = self.folder / "data.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
        return [path]


MASK_FORMATS: dict[str, Callable[[Path, Path, Sequence[str], Provenance, Options], Writer]] = {
    "png": BinaryPng,
    "indexed": IndexedPng,
    "labels16": Labels16,
    "coco": Coco,
    "coco-polygons": CocoPolygons,
    "labelme": LabelMe,
    "yolo": Yolo,
    "npz": Arrays,
}
"""By the names of ``catalogue.EXPORTS``."""
