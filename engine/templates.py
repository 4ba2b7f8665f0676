"""Parts of pictures that are looked for: grids of patches, as a file that goes from who sees to who searches.

One part is shown to the network several times, at several sizes and mirrored, since features of patches change with
both; each time gives a template.

Letters after a name are its axes:
    T templates · R C rows and columns of patches · P patches of all templates · W width of the backbone
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.store import write_atomically


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Template:
    """The patches that a part of a picture covers, in one showing of it.

    Args:
        patches_RCW: their features, float32.
        is_part_RC: bool, False for patches within the box of the part that are none of it; at least one is True.
        edges: top, left, bottom and right of the part itself, in patches from the top left of the grid; a part seldom
            ends where a patch does.
        scale: size at which it was shown, 1 where it is that of the set.
        is_mirrored: left and right changed places.
    """

    patches_RCW: NDArray[np.float32]
    is_part_RC: NDArray[np.bool_]
    edges: tuple[float, float, float, float]
    scale: float
    is_mirrored: bool


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """One part in all its showings."""

    all: tuple[Template, ...]

    def write(self, path: Path) -> None:
        """Write a .npz file, whole or not at all."""
        arrays = {
            "patches_PW": np.concatenate([t.patches_RCW.reshape(-1, t.patches_RCW.shape[-1]) for t in self.all]),
            "is_part_P": np.concatenate([t.is_part_RC.ravel() for t in self.all]),
            "grids_T2": np.array([t.patches_RCW.shape[:2] for t in self.all]),
            "edges_T4": np.array([t.edges for t in self.all]),
            "scales_T": np.array([t.scale for t in self.all]),
            "is_mirrored_T": np.array([t.is_mirrored for t in self.all]),
        }
        write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote.

        Raises:
            BadInput: the file cannot be read or holds something else.
        """
        try:
            # NumPy leaves a file open that it opens by its path and cannot read.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                grids, patches_PW = file["grids_T2"], file["patches_PW"]
                ends = np.cumsum(grids.prod(axis=1))
                columns = (
                    np.split(patches_PW, ends[:-1]),
                    np.split(file["is_part_P"], ends[:-1]),
                    *(grids, file["edges_T4"], file["scales_T"], file["is_mirrored_T"]),
                )
                return cls(tuple(_template(*row) for row in zip(*columns, strict=True)))
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, IndexError) as problem:
            raise BadInput(f"'{path}' holds no part to look for: {problem}.") from problem


def _template(
    patches_PW: NDArray[np.float32],
    is_part_P: NDArray[np.bool_],
    grid: Sequence[int],
    edges: NDArray[np.float64],
    scale: np.float64,
    is_mirrored: np.bool_,
) -> Template:
    top, left, bottom, right = (float(edge) for edge in edges)
    rows, cols = (int(length) for length in grid)
    return Template(
        patches_RCW=patches_PW.reshape(rows, cols, -1),
        is_part_RC=is_part_P.reshape(rows, cols),
        edges=(top, left, bottom, right),
        scale=float(scale),
        is_mirrored=bool(is_mirrored),
    )
