"""The files that looking at pictures writes: their names, what became of each picture, where they come from.

Letters after a name are its axes:
    Y X pixels · 3 colours, RGB
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, UnreadablePicture
from engine.images import open_rgb
from engine.seeing.drawing import Picture, write_png
from engine.seeing.masks import Area
from engine.store import write_atomically

DRAWN_PX = 2048
"""Longest side of drawings; masks always have the size of their picture."""
STEM_BYTES = 200
"""Of a file's name, of which file systems take 255: room for an ending, a number and the suffix while it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What became of one picture: the files written, or the problem.

    ``size`` is height and width of the upright picture; ``areas`` has one entry a mask.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    files: tuple[Path, ...] = ()
    areas: Mapping[str, Area] = field(default_factory=dict)
    problem: str = ""


Listener = Callable[[Looked], object]
"""Is told of each picture as it is done; what it raises ends the work."""


class Files:
    """The files of one picture: gives them their names and remembers them."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder = folder
        self.stem = stem
        self.written: list[Path] = []

    def png(self, what: str, picture: Picture, about: Mapping[str, object] | None = None) -> None:
        """Write a picture; ``about`` says inside it where it comes from."""
        write_png(self._path(f"{what}.png"), picture, about)

    def npz(self, what: str, arrays: Mapping[str, NDArray]) -> None:
        """Write arrays."""
        path = self._path(f"{what}.npz")
        write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))

    def _path(self, ending: str) -> Path:
        self.written.append(self.folder / f"{self.stem}-{ending}")
        return self.written[-1]


Draw = Callable[[Picture, Files], Mapping[str, Area]]


def each_picture(paths: Sequence[Path], out: Path, draw: Draw) -> Iterator[Looked]:
    """Open pictures one by one and let ``draw`` write the files of each; a broken one becomes a row with its problem.

    Raises:
        BadInput: ``out`` holds one of the pictures: a drawing could take its place.
    """
    prepare_folder(out, paths)
    for path, stem in zip(paths, file_stems(paths), strict=True):
        try:
            picture_YX3 = open_rgb(path)
        except UnreadablePicture as problem:
            yield Looked(path=path, problem=problem.message)
            continue
        files = Files(out, stem)
        areas = draw(picture_YX3, files)
        yield Looked(path=path, size=picture_YX3.shape[:2], files=tuple(files.written), areas=areas)


def prepare_folder(out: Path, paths: Sequence[Path]) -> None:
    """Make the folder that is written to.

    Raises:
        BadInput: it holds one of the pictures: a drawing could take its place.
    """
    check_apart(out, paths)
    out.mkdir(parents=True, exist_ok=True)


def check_apart(out: Path, paths: Iterable[Path], *, is_replaced: bool = False) -> None:
    """Refuse to write into the folder of the pictures.

    Args:
        out: the folder.
        paths: the pictures.
        is_replaced: all that is in the folder goes, so that pictures below it are in danger, too.

    Raises:
        BadInput: it is their folder.
    """
    folder = out.resolve()
    places = [path.resolve() for path in {path.parent for path in paths}]  # few, while there may be a million pictures
    if any(folder == place or (is_replaced and folder in place.parents) for place in places):
        raise BadInput(f"The pictures themselves lie in '{out}'.", "Choose another folder for what is written.")


def file_stems(paths: Iterable[Path]) -> Iterator[str]:
    """Give each picture a name for its files: its own, with a number where another has it.

    Names that differ in capitals only are one to some file systems. Programs that look for the file of a picture by
    its name find it, unless two pictures are called alike.
    """
    taken: dict[str, int] = {}
    for place, path in enumerate(paths, start=1):
        stem = os.fsencode(path.stem)[:STEM_BYTES].decode(errors="ignore") or str(place)
        name, n = stem, taken.get(stem.casefold(), 0)
        while name.casefold() in taken:
            n += 1
            name = f"{stem}-{n + 1}"
        taken[stem.casefold()] = n
        taken.setdefault(name.casefold(), 0)
        yield name


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the paths of pictures from the folder that all have in common, '/' between parts; files are given away."""
    absolute = [path.absolute() for path in paths]
    if len({path.drive for path in absolute}) != 1:
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(common).as_posix() for path in absolute]


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, whole or not at all.

    Raises:
        DiskFull: there is no room.
    """
    written = json.dumps(content, indent=1).encode()
    write_atomically(path, lambda file: file.write(written))
