"""The table of nearest neighbours of a set, which maps, duplicates and oddities share.

Letters after a name are its axes: N rows of the set · k neighbours
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.arrays import ArrayFile
from engine.sets import FeatureSet

TABLE, ROWS, LIKENESS = "neighbours.json", "neighbours.npy", "likeness.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAbout:
    """How a table was made. ``recall`` is the share of true neighbours in it, measured on a sample; 1 where exact."""

    made_from: str
    method: Literal["exact", "hnsw"]
    k: int
    recall: float


class NeighbourTable:
    """The ``k`` nearest rows of each row by cosine likeness, nearest first, itself left out.

    A row that was not seen has no neighbours and is nobody's; where there are fewer than ``k``, -1 fills up.
    """

    def __init__(self, folder: Path, about: TableAbout) -> None:
        self.folder = folder
        self.about = about

    @cached_property
    def rows_Nk(self) -> NDArray[np.int32]:
        """Rows of the set, -1 for none."""
        return ArrayFile(self.folder / ROWS).read()

    @cached_property
    def likeness_Nk(self) -> NDArray[np.float32]:
        """Cosine of the angle between the two vectors, 0 for none."""
        return ArrayFile(self.folder / LIKENESS).read()


def read_neighbours(features: FeatureSet) -> NeighbourTable:
    """Open the table of a set.

    Raises:
        BadInput: there is none, or it is of other features than the set holds now.
    """
    about = features.made(TABLE, TableAbout, "table of neighbours", "engine index PROJECT")
    return NeighbourTable(features.folder, about)


def current_neighbours(features: FeatureSet) -> TableAbout | None:
    """Return how the table of a set was made, None where there is none of the features of now."""
    return features.current(TABLE, TableAbout)
