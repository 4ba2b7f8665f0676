"""Masks that a person brushed over: what was added and taken away, finer than patches, in files of their own.

Edits lie above the mask that attention gives, so its threshold can still be moved: a place that was brushed stays as it
was brushed. A project keeps them as ``masks-edited/ID.npz``; pictures and what the engine made are never changed. The
window writes them, exports put them into what they write. Loads nothing heavy.

Letters after a name are its axes: R C rows and columns of patches · Y X cells, or pixels where it says so
"""

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.questions import Lattice
from engine.store import PARSING, write_atomically

FOLDER = "masks-edited"
FINER = 4
"""Cells a side of a patch: 2 px of what a network with patches of 8 saw, finer than the eye follows a brush."""

Cells = NDArray[np.bool_]
Place = tuple[float, float]
"""Pixels of the upright picture, x and y."""


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

    def applied_to_pixels(self, mask_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask of the picture's size with the edits; unchanged where the picture has another size by now."""
        if mask_YX.shape != tuple(self.lattice.picture):
            return mask_YX
        rows_Y, cols_X = cells_of_pixels(self.lattice)
        added, removed = (cells_YX[rows_Y[:, None], cols_X] for cells_YX in (self.added_YX, self.removed_YX))
        return (mask_YX | added) & ~removed

    def brushed(self, begin: Place, end: Place, radius: float, *, is_adding: bool) -> Self:
        """Return the edits and what a brush covers on its way; ``radius`` in pixels of the picture."""
        touched_YX = _stroke(self.lattice, begin, end, radius)
        if is_adding:
            return type(self)(self.lattice, self.added_YX | touched_YX, self.removed_YX & ~touched_YX)
        return type(self)(self.lattice, self.added_YX & ~touched_YX, self.removed_YX | touched_YX)

    def turning(self, mask_RC: NDArray[np.bool_], wanted_YX: Cells) -> Self:
        """Return the edits that turn a mask of patches into one that is wanted, in cells."""
        below_YX = finer(mask_RC)
        return type(self)(self.lattice, wanted_YX & ~below_YX, below_YX & ~wanted_YX)

    def on(self, lattice: Lattice) -> Self:
        """Return the edits for patches that lie otherwise, as after another model or side was chosen."""
        if lattice == self.lattice:
            return self
        (high, wide), (old_high, old_wide) = _covered(lattice), _covered(self.lattice)
        rows_Y = _nearest(lattice.rows * FINER, high, self.added_YX.shape[0], old_high)
        cols_X = _nearest(lattice.cols * FINER, wide, self.added_YX.shape[1], old_wide)
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
            with PARSING, path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                told = json.loads(str(file["lattice"]))
                lattice = Lattice(**{**told, "resized": tuple(told["resized"]), "picture": tuple(told["picture"])})
                made = cls(lattice, file["added"].astype(np.bool_), file["removed"].astype(np.bool_))
        except FileNotFoundError:
            return None
        except (OSError, EOFError, KeyError, ValueError, TypeError, BadZipFile, zlib.error) as problem:
            raise BadInput(f"The edits in '{path.name}' cannot be read: {problem}.", "Delete the file.") from problem
        if {made.added_YX.shape, made.removed_YX.shape} != {(lattice.rows * FINER, lattice.cols * FINER)}:
            raise BadInput(f"The edits in '{path.name}' do not fit their picture.", "Delete the file.")
        return made


def path_of(project: Path, picture: int) -> Path:
    """Return where the edits of a picture are kept."""
    return project / FOLDER / f"{picture}.npz"


def finer(mask_RC: NDArray[np.bool_]) -> Cells:
    """Return a mask of patches in cells."""
    return mask_RC.repeat(FINER, axis=0).repeat(FINER, axis=1)


def fine(lattice: Lattice) -> Lattice:
    """Return how cells lie on the picture, as if they were patches."""
    return Lattice(
        rows=lattice.rows * FINER,
        cols=lattice.cols * FINER,
        patch=lattice.patch,
        resized=(lattice.resized[0] * FINER, lattice.resized[1] * FINER),
        picture=lattice.picture,
    )


def cells_of_pixels(lattice: Lattice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row of cells of every row of pixels, and so the columns; cells lie in patches as these in pixels."""
    cells = fine(lattice)
    rows_Y, cols_X = (
        np.clip((2 * np.arange(n) + 1) * resized // (2 * n * cells.patch), 0, count - 1)
        for n, resized, count in zip(cells.picture, cells.resized, (cells.rows, cells.cols), strict=True)
    )
    return rows_Y, cols_X


def _covered(lattice: Lattice) -> tuple[float, float]:
    """Return height and width of what the patches cover, in pixels of the picture."""
    (high, wide), (height, width) = lattice.resized, lattice.picture
    return lattice.rows * lattice.patch * height / high, lattice.cols * lattice.patch * width / wide


def _stroke(lattice: Lattice, begin: Place, end: Place, radius: float) -> Cells:
    """Return the cells whose middles are within a radius of a line, and the cell under its end in any case."""
    (high, wide), rows, cols = _covered(lattice), lattice.rows * FINER, lattice.cols * FINER
    to_x_X = (np.arange(cols) + 0.5) * wide / cols - begin[0]
    to_y_Y = (np.arange(rows) + 0.5) * high / rows - begin[1]
    across, down = end[0] - begin[0], end[1] - begin[1]
    squared = across * across + down * down
    along_YX = to_x_X * across + to_y_Y[:, None] * down
    share_YX = np.clip(along_YX / squared, 0, 1) if squared > 0 else np.zeros_like(along_YX)
    away_YX = (to_x_X - share_YX * across) ** 2 + (to_y_Y[:, None] - share_YX * down) ** 2
    touched_YX = away_YX <= radius * radius
    row, col = int(end[1] / high * rows), int(end[0] / wide * cols)
    if 0 <= row < rows and 0 <= col < cols:
        touched_YX[row, col] = True
    return touched_YX


def _nearest(n: int, length: float, n_old: int, old_length: float) -> NDArray[np.intp]:
    middles = (np.arange(n) + 0.5) * length / n
    return np.clip(middles / old_length * n_old, 0, n_old - 1).astype(np.intp)
