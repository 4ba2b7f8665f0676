"""How a widget hears of changes: while it lives, and no longer.

A slot of a plain Python signal that is bound to a widget Qt has destroyed raises at the next emit; so widgets never
connect to such signals themselves.
"""

from collections.abc import Callable, Sequence

from psygnal import SignalInstance
from PySide6.QtCore import QObject, QTimer

from dinoviz.session import Session


def follow(owner: QObject, signal: SignalInstance, callback: Callable[[], object]) -> None:
    """Call ``callback`` at every emit of a signal without arguments, until ``owner`` is destroyed."""

    def hear(*_: object) -> None:
        callback()

    signal.connect(hear)
    owner.destroyed.connect(lambda: signal.disconnect(hear, missing_ok=True))


def watch(owner: QObject, session: Session, fields: Sequence[str], callback: Callable[[], object]) -> None:
    """Call ``callback`` after any of some fields of the session's state changed, once a turn of the event loop.

    Args:
        owner: the widget that draws; nothing is called after it is destroyed.
        session: whose state.
        fields: names of ``State``, or ``choices.NAME`` for what one view remembers.
        callback: without arguments; it reads ``session.state``.
    """
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(0)
    timer.timeout.connect(callback)
    wanted = frozenset(fields)

    def hear(changed: frozenset[str]) -> None:
        if changed & wanted:
            timer.start()

    session.changed.connect(hear)
    owner.destroyed.connect(lambda: session.changed.disconnect(hear, missing_ok=True))
