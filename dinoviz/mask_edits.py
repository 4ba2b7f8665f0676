"""What a person added to a mask and took from it with the brush: kept a picture, undone stroke by stroke.

Edits lie above the mask that attention gives, so the threshold can still be moved: a place that was brushed stays as it
was brushed. They are finer than patches, ``FINER`` cells a side of each. In a project they are files of their own,
``masks-edited/ID.npz``; the pictures and what the engine made are never changed.

Letters after a name are its axes: R C rows and columns of patches · Y X cells
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF

from dinoviz.overlays import covered
from engine.errors import BadInput
from engine.questions import Lattice
from engine.store import write_atomically

FOLDER = "masks-edited"
FINER = 4
"""Cells a side of a patch: 2 px of what a network with patches of 8 saw, finer than the eye follows a brush."""
MOST_STROKES = 100
"""Strokes that can be undone; each is some 100 kB at most."""

Cells = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Edits:
    """Cells that were added and taken away, never both. ``lattice`` is that of the patches below."""

    lattice: Lattice
    added_YX: Cells
    removed_YX: Cells

    @classmethod
    def none(cls, lattice: Lattice) -> Self:
        """Return no edits of a picture whose patches lie so."""
        shape = (lattice.rows * FINER, lattice.cols * FINER)
        return cls(lattice, np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was brushed."""
        return not (self.added_YX.any() or self.removed_YX.any())

    def applied(self, mask_RC: NDArray[np.bool_]) -> Cells:
        """Return a mask of patches with the edits, in cells."""
        return (finer(mask_RC) | self.added_YX) & ~self.removed_YX

    def brushed(self, begin: QPointF, end: QPointF, radius: float, *, is_adding: bool) -> Self:
        """Return the edits and what a brush covers on its way, all in picture pixels."""
        touched_YX = _stroke(self.lattice, begin, end, radius)
        if is_adding:
            return type(self)(self.lattice, self.added_YX | touched_YX, self.removed_YX & ~touched_YX)
        return type(self)(self.lattice, self.added_YX & ~touched_YX, self.removed_YX | touched_YX)

    def on(self, lattice: Lattice) -> Self:
        """Return the edits for patches that lie otherwise, as after another model or side was chosen."""
        if lattice == self.lattice:
            return self
        there = fine(lattice)
        area, old = covered(lattice), covered(self.lattice)
        rows_Y = _nearest(there.rows, area.height(), self.added_YX.shape[0], old.height())
        cols_X = _nearest(there.cols, area.width(), self.added_YX.shape[1], old.width())
        return type(self)(lattice, *(cells[rows_Y[:, None], cols_X] for cells in (self.added_YX, self.removed_YX)))

    def write(self, path: Path) -> None:
        """Write a file.

        Raises:
            DiskFull: there is no room.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"added": self.added_YX, "removed": self.removed_YX}
        about = np.array(json.dumps(asdict(self.lattice)))
        write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays, lattice=about))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what ``write`` wrote; None where there is no such file.

        Raises:
            BadInput: it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                told = json.loads(str(file["lattice"]))
                lattice = Lattice(**{**told, "resized": tuple(told["resized"]), "picture": tuple(told["picture"])})
                return cls(lattice, file["added"].astype(np.bool_), file["removed"].astype(np.bool_))
        except FileNotFoundError:
            return None
        except (OSError, KeyError, ValueError, TypeError) as problem:
            raise BadInput(f"The edits in '{path.name}' cannot be read: {problem}.", "Delete the file.") from problem


def path_of(project: Path, picture: int) -> Path:
    """Return where the edits of a picture are kept."""
    return project / FOLDER / f"{picture}.npz"


def finer(mask_RC: NDArray[np.bool_]) -> Cells:
    """Return a mask of patches in cells."""
    return mask_RC.repeat(FINER, axis=0).repeat(FINER, axis=1)


def fine(lattice: Lattice) -> Lattice:
    """Return how cells lie on the picture, as if they were patches."""
    resized = (lattice.resized[0] * FINER, lattice.resized[1] * FINER)
    return Lattice(
        rows=lattice.rows * FINER,
        cols=lattice.cols * FINER,
        patch=lattice.patch,
        resized=resized,
        picture=lattice.picture,
    )


def _stroke(lattice: Lattice, begin: QPointF, end: QPointF, radius: float) -> Cells:
    """Return the cells whose middles are within a radius of a line; that under its end at least."""
    cells, area = fine(lattice), covered(lattice)
    y_Y = (np.arange(cells.rows) + 0.5) * area.height() / cells.rows
    x_X = (np.arange(cells.cols) + 0.5) * area.width() / cells.cols
    across, down = end.x() - begin.x(), end.y() - begin.y()
    squared = across * across + down * down
    to_x_X, to_y_Y = x_X - begin.x(), y_Y - begin.y()
    along_YX = to_x_X * across + to_y_Y[:, None] * down
    share_YX = np.clip(along_YX / squared, 0, 1) if squared > 0 else np.zeros_like(along_YX)
    away_YX = (to_x_X - share_YX * across) ** 2 + (to_y_Y[:, None] - share_YX * down) ** 2
    touched_YX = away_YX <= radius * radius
    row = int(np.clip(end.y() / area.height() * cells.rows, 0, cells.rows - 1))
    col = int(np.clip(end.x() / area.width() * cells.cols, 0, cells.cols - 1))
    touched_YX[row, col] = True
    return touched_YX


def _nearest(n: int, length: float, n_old: int, old_length: float) -> NDArray[np.intp]:
    middles = (np.arange(n) + 0.5) * length / n
    return np.clip(middles / old_length * n_old, 0, n_old - 1).astype(np.intp)


class Strokes:
    """The edits of one picture, and those before each stroke."""

    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self._before: list[Edits] = []
        self._after: list[Edits] = []

    def begin(self) -> None:
        """Begin a stroke: what comes until the next is undone at once."""
        self._before = [*self._before, self.edits][-MOST_STROKES:]
        self._after = []

    def brush(self, begin: QPointF, end: QPointF, radius: float, *, is_adding: bool) -> None:
        """Go on with a stroke."""
        self.edits = self.edits.brushed(begin, end, radius, is_adding=is_adding)

    def clear(self) -> None:
        """Take all edits back, as one stroke."""
        self.begin()
        self.edits = Edits.none(self.edits.lattice)

    @property
    def can_undo(self) -> bool:
        """Whether there is a stroke to undo."""
        return bool(self._before)

    @property
    def can_redo(self) -> bool:
        """Whether there is a stroke that was undone."""
        return bool(self._after)

    def undo(self) -> None:
        """Go back before the last stroke."""
        if self._before:
            self._after.append(self.edits)
            self.edits = self._before.pop()

    def redo(self) -> None:
        """Do again what was undone."""
        if self._after:
            self._before.append(self.edits)
            self.edits = self._after.pop()
