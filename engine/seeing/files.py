"""The files that looking at pictures writes: their names, what became of each picture, where they come from.

Letters after a name are its axes:
    Y X pixels · 3 colours, RGB
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import __version__
from engine.errors import BadInput, UnreadablePicture
from engine.images import open_rgb
from engine.models.weights import Backbone
from engine.seeing.drawing import Picture, write_png
from engine.seeing.masks import Area
from engine.store import write_atomically

DRAWN_PX = 2048
"""Longest side of drawings; masks always have the size of their picture."""
SOURCE_PARTS = 4
"""Parts of a path shown on a sheet: project, runs, number, file."""
STEM_LETTERS = 60
"""Letters of a picture's name that its files keep: file systems allow 255 bytes for all of it."""


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
    for path, stem in zip(paths, stems(paths), strict=True):
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
    folder = out.resolve()
    if any(path.resolve().parent == folder for path in paths):
        raise BadInput(f"The pictures themselves lie in '{out}'.", "Choose another folder for what is written.")
    out.mkdir(parents=True, exist_ok=True)


def stems(paths: Sequence[Path]) -> list[str]:
    """Return a name for the files of each picture: its own, with a number where it is taken.

    Names that differ in capitals only are one to some file systems.
    """
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = name = path.stem[:STEM_LETTERS]
        n = 1
        while name.casefold() in taken:
            n += 1
            name = f"{stem}-{n}"
        taken.add(name.casefold())
        names.append(name)
    return names


def short(source: str) -> str:
    """Return the end of a path, which tells the run and its project; a drawing is shown to others."""
    return "/".join(Path(source).parts[-SOURCE_PARTS:])


def origin(backbone: Backbone, **more: object) -> dict[str, object]:
    """Return where a file comes from: the program, the model without the folders above its project, and ``more``."""
    return {
        "program": f"dinoviz {__version__}",
        "model": short(backbone.source),
        "sha256": backbone.sha256,
        **more,
    }
