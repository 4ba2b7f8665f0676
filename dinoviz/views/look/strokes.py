"""What was done by hand to the mask of one picture, a stroke of the brush or all at once: undone one by one."""

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF

from engine.exporting.edited import Cells, Edits

MOST_STROKES = 100
"""Strokes that can be undone; each is some 100 kB at most."""


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
        """Go on with a stroke, in picture pixels."""
        self.edits = self.edits.brushed((begin.x(), begin.y()), (end.x(), end.y()), radius, is_adding=is_adding)

    def turn(self, mask_RC: NDArray[np.bool_], wanted_YX: Cells) -> None:
        """Turn a mask of patches into one that is wanted, in cells; within a stroke that was begun."""
        self.edits = self.edits.turning(mask_RC, wanted_YX)

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
