"""The brush over masks: what was brushed on each picture, read from the project and written to it as it changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF

from dinoviz.desk import Desk
from dinoviz.views.look.strokes import Strokes
from engine.errors import UserError
from engine.exporting.edited import Cells, Edits, path_of
from engine.questions import Lattice


class MaskBrush:
    """Holds the strokes of this session, so that they can be undone after going to other pictures and back.

    Args:
        desk: what every view works with.
        changed: called when the edits of the picture in hand have been read.
    """

    def __init__(self, desk: Desk, changed: Callable[[], object]) -> None:
        self._desk, self._changed = desk, changed
        self._strokes: dict[object, Strokes] = {}
        self._read: set[object] = set()
        self._unread: dict[object, Exception] = {}
        self._key: tuple[Path, int] | None = None
        self._edited: tuple[tuple[Path, int] | None, str] | None = None
        """The mask that was edited last, and what the session would have undone then."""
        self.is_in_hand = False
        self.is_erasing = False

    def take(self, what: str) -> None:
        """Take the brush in hand to add (brush) or to take away (erase), or put it down where that is so already."""
        is_erasing = what == "erase"
        self.is_in_hand = not (self.is_in_hand and self.is_erasing == is_erasing)
        self.is_erasing = is_erasing

    def turn_to(self, picture: int) -> None:
        """Go to a picture; what was brushed on it before is read."""
        project = self._desk.session.state.project
        if project is None:
            return
        key = self._key = project, picture
        if key in self._read:
            return
        path = path_of(project, picture)

        def take(edits: Edits | None) -> None:
            self._read.add(key)
            self._unread.pop(key, None)
            if edits is not None:
                self._strokes[key] = Strokes(edits)
                self._changed()

        def failed(problem: Exception) -> None:
            self._unread[key] = problem
            self._tell(problem)

        self._desk.background("look-edits", lambda: Edits.read(path), take, failed)

    @property
    def strokes(self) -> Strokes | None:
        """Those on the picture in hand; None where there are none."""
        return self._strokes.get(self._key)

    @property
    def edits(self) -> Edits | None:
        """What they come to."""
        return self.strokes.edits if self.strokes else None

    def begin(self, lattice: Lattice) -> None:
        """Begin a stroke on a mask of these patches; not before what was brushed earlier has been read.

        A file that could not be read is not written over: it may hold an hour of work.
        """
        key = self._key
        if key in self._unread:
            self._tell(self._unread[key])
        if key not in self._read:
            return
        strokes = self._strokes.setdefault(key, Strokes(Edits.none(lattice)))
        strokes.begin()
        strokes.edits = strokes.edits.on(lattice)
        self._edited = key, self._desk.session.state.undo_text

    def go_on(self, begin: QPointF, end: QPointF, radius: float, *, is_adding: bool) -> None:
        """Go on with the stroke, in picture pixels."""
        if self.strokes:
            self.strokes.brush(begin, end, radius, is_adding=is_adding)

    def turn(self, lattice: Lattice, mask_RC: NDArray[np.bool_], wanted_YX: Cells) -> None:
        """Turn the mask of these patches into one that is wanted, in cells: one stroke, as it is undone."""
        self.begin(lattice)
        if self.strokes and self._key in self._read:
            self.strokes.turn(mask_RC, wanted_YX)
            self.write()

    @property
    def is_latest(self) -> bool:
        """Whether the mask in hand was edited after anything else that could be undone."""
        return self._edited == (self._key, self._desk.session.state.undo_text)

    def change(self, what: str) -> None:
        """Undo or redo a stroke, or clear all."""
        strokes = self.strokes
        if strokes is None:
            return
        match what:
            case "undo":
                strokes.undo()
            case "redo":
                strokes.redo()
            case "clear":
                strokes.clear()
        self.write()

    def write(self) -> None:
        """Write what was brushed on the picture in hand; a file that would hold nothing is removed."""
        edits = self.edits
        if self._key is None or edits is None:
            return
        path = path_of(*self._key)

        def work() -> None:
            if edits.is_empty:
                path.unlink(missing_ok=True)
            else:
                edits.write(path)

        self._desk.background("", work, lambda _: None, self._tell)

    def _tell(self, problem: Exception) -> None:
        if not isinstance(problem, UserError | OSError):
            raise problem
        text, hint = (problem.message, problem.hint) if isinstance(problem, UserError) else (str(problem), "")
        self._desk.session.notify("warning", text, hint)
