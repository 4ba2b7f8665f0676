"""What commands say and write about pictures of a project: lists of them, tables, pictures for drawings."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.commands import StopSignal
from engine.errors import BadInput, Stopped, UnreadablePicture
from engine.exporting.table import harmless, readable
from engine.finding.neighbours import NeighbourTable, read_neighbours
from engine.images import open_rgb
from engine.project import Project
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet
from engine.store import write_atomically

NAMED = 20
"""Rows of a list that are named on the terminal; the rest is counted."""
NAMED_IN_A_LINE = 10
THUMBNAIL_PX = 160  # shorter side that pictures of a drawing are decoded at, at least


def named_in_words(rows: Sequence[str], what: str = "", *, indent: int = 4) -> list[str]:
    """Return the first lines of a list, and one that says how many more there are; ``what`` is what they are."""
    lines = list(rows[:NAMED])
    if len(rows) > NAMED:
        lines.append(f"… and {len(rows) - NAMED:,} more{' ' if what else ''}{what}, see --json")
    return [" " * indent + line for line in lines]


def counted(n: int, what: str) -> str:
    """Return a number with its noun: 1 group, 2 groups."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def made_folder(folder: Path) -> Path:
    """Make a folder for what is written, and return it.

    Raises:
        BadInput: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BadInput(f"The folder '{folder}' cannot be made: {problem}.", "Choose another one.") from problem
    return folder


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as CSV in UTF-8, its texts as the exports have them: see ``readable`` and ``harmless``.

    Raises:
        DiskFull: there is no room.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([harmless(readable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows)
    written = text.getvalue().encode()
    write_atomically(path, lambda file: file.write(written))


def neighbours_of(features: FeatureSet, tell: Tell, stop: StopSignal) -> NeighbourTable:
    """Return the neighbours of a set, finding them first where they are not there or out of date.

    Raises:
        Stopped: by Ctrl-C or the system; finished blocks are kept.
    """
    from engine.finding.index import make_index

    try:
        return read_neighbours(features)
    except BadInput as problem:
        tell(Noticed(level="info", text=problem.message, hint="They are found first, as engine index does."))
    try:
        return make_index(features, tell, stop.is_set)
    except Stopped as stopped:
        raise stop.stopped() from stopped


class Gallery:
    """Pictures of a set by their row, for drawings; remembers which could not be shown."""

    def __init__(self, project: Project, features: FeatureSet) -> None:
        self._root, self._paths, self._features = project.pictures_folder, project.paths(), features
        self.problems: list[str] = []

    def open(self, row: int, side: int = THUMBNAIL_PX) -> NDArray[np.uint8] | None:
        """Return a picture of at least ``side`` px if it has as many, None where it cannot be read.

        It is uint8, (rows, columns, 3), RGB.
        """
        path = self._paths.get(int(self._features.ids_N[row]))
        if path is None:
            self.problems.append(f"row {row}")
            return None
        try:
            return open_rgb(self._root / path, at_least=side)
        except UnreadablePicture:
            self.problems.append(path)
            return None

    def tell_problems(self, tell: Tell) -> None:
        """Say which pictures are grey on the drawings."""
        if self.problems:
            named = ", ".join(self.problems[:NAMED_IN_A_LINE])
            more = ", …" if len(self.problems) > NAMED_IN_A_LINE else ""
            text = f"{len(self.problems):,} pictures could not be read and are grey on the drawing: {named}{more}."
            tell(Noticed(level="warning", text=text, hint="Look for them: engine scan FOLDER."))
