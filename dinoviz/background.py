"""Work off the thread that paints: reading files, answering queries. Computation is for engine processes.

Every slot is one purpose; of its pieces of work only the newest is answered. Work without a slot is never dropped, and
is done one after the other in the order it came: that is how things are written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal

READERS = 2
"""Threads that read; more would take the interpreter from the one that paints."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    number: int
    slot: str
    work: Callable[[], Any]
    then: Callable[[Any], object]
    failed: Callable[[Exception], object] | None


class _Task(QRunnable):
    def __init__(self, asked: _Asked, is_wanted: Callable[[_Asked], bool], done: Callable[..., object]) -> None:
        super().__init__()
        self._asked, self._is_wanted, self._done = asked, is_wanted, done

    def run(self) -> None:
        if not self._is_wanted(self._asked):
            return
        try:
            result = self._asked.work()
        except Exception as problem:  # noqa: BLE001 - raised again where it was asked, see ``Background._answer``
            self._done(self._asked, None, problem)
        else:
            self._done(self._asked, result, None)


class Background(QObject):
    """Runs work in threads and calls back in the thread it lives in. Has the signature of ``session.Run``."""

    _answered = Signal(object, object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._numbers = count()
        self._newest: dict[str, int] = {}
        self._readers = QThreadPool(self)
        self._readers.setMaxThreadCount(READERS)
        self._writer = QThreadPool(self)
        self._writer.setMaxThreadCount(1)
        self._answered.connect(self._answer)

    def __call__(
        self,
        slot: str,
        work: Callable[[], Any],
        then: Callable[[Any], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Run ``work`` in a thread, then ``then`` with its result here, or ``failed`` with what it raised.

        Args:
            slot: its purpose; older work of the same one is dropped. Empty: it is done in any case, in order.
            work: must not touch widgets.
            then: is not called where something newer of the slot was asked meanwhile.
            failed: the same; without it the exception is raised here, and is a fault of the program.
        """
        asked = _Asked(next(self._numbers), slot, work, then, failed)
        if slot:
            self._newest[slot] = asked.number
        pool = self._readers if slot else self._writer
        pool.start(_Task(asked, self._is_wanted, self._answered.emit))

    run = __call__

    def forget(self, slot: str) -> None:
        """Drop what was asked for a slot."""
        self._newest.pop(slot, None)

    def finish(self) -> None:
        """Wait until everything is written, and drop the rest."""
        self._newest.clear()
        self._readers.clear()
        self._writer.waitForDone()
        self._readers.waitForDone()

    def _is_wanted(self, asked: _Asked) -> bool:
        return not asked.slot or self._newest.get(asked.slot) == asked.number

    def _answer(self, asked: _Asked, result: Any, problem: Exception | None) -> None:
        if not self._is_wanted(asked):
            return
        if problem is None:
            asked.then(result)
        elif asked.failed:
            asked.failed(problem)
        else:
            raise problem
