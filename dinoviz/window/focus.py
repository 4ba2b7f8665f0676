"""Keeps the keyboard where the person is: a control that goes, or cannot be pressed any more, hands on what it had.

Qt gives the focus to whatever comes next in the whole window, which may be anywhere. Here it goes to the next control
of the same panel, of what that lies in, and so on up to the place in front.
"""

from collections.abc import Callable, Iterator

from PySide6.QtCore import QObject, Qt, QTimer
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QLineEdit,
    QPlainTextEdit,
    QScrollArea,
    QTextEdit,
    QWidget,
)
from shiboken6 import isValid

NOT_GIVEN_TO = (QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QScrollArea)
"""Where keys that were meant for something else would be typed, or go nowhere."""


class FocusKeeper(QObject):
    """Watches the focus of one window.

    Args:
        window: the window.
        place: returns the place in front.
    """

    def __init__(self, window: QWidget, place: Callable[[], QWidget | None]) -> None:
        super().__init__(window)
        self._window, self._place = window, place
        self._lost: QWidget | None = None
        self._around: list[QWidget] = []
        """What the control that lost the focus lies in, from the inside; it may be gone itself by then."""
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._hand_on)
        QApplication.instance().focusChanged.connect(self._moved)  # type: ignore[union-attr]

    def _moved(self, before: QWidget | None, _now: QWidget | None) -> None:
        """Note a control that lost the focus by going; what a person or a view moves on purpose is left alone."""
        if not self._window.isVisible():  # it is being taken apart
            return
        if before is None or not isValid(before) or before.window() is not self._window:
            return
        if before.isVisible() and before.isEnabled():
            self._later.stop()
            self._lost = None
        elif self._lost is None:
            self._lost, self._around = before, list(_around(before))
            self._later.start()

    def _hand_on(self) -> None:
        """Give the focus to the nearest control that can have it: once all that goes has gone."""
        lost, around, self._lost, self._around = self._lost, self._around, None, []
        taker = self._taker(lost, around)
        if self._window.isActiveWindow() and taker is not None:
            taker.setFocus(Qt.FocusReason.OtherFocusReason)

    def _taker(self, lost: QWidget | None, around: list[QWidget]) -> QWidget | None:
        place = self._place()
        for panel in around:
            if not isValid(panel) or not panel.isVisible():
                continue
            if panel is not place and place is not None and panel.isAncestorOf(place):
                break
            if (found := _next_within(panel, lost)) is not None:
                return found
            if panel is place:
                break
        return place


def _around(widget: QWidget) -> Iterator[QWidget]:
    at = widget.parentWidget()
    while at is not None:
        yield at
        at = None if at.isWindow() else at.parentWidget()


def _next_within(panel: QWidget, lost: QWidget | None) -> QWidget | None:
    """Return the control of a panel after the one that lost the focus, from the beginning again after the end.

    In the order in which they were made, which is that of Tab but for a few: the chain of Tab itself is not walked, as
    PySide then ties the lives of widgets to each other.
    """
    controls = list(_controls(panel, lost if lost is not None and isValid(lost) else None))
    begin = controls.index(lost) + 1 if lost in controls else 0
    return next((one for one in (*controls[begin:], *controls[:begin]) if one is not lost), None)


def _controls(widget: QWidget, lost: QWidget | None) -> Iterator[QWidget]:
    """Yield the controls in a widget that can have the focus, and the one that lost it; hidden parts are passed by."""
    for child in widget.children():
        if child is lost:
            yield lost
        elif isinstance(child, QWidget) and child.isVisible() and child.isEnabled():
            if _takes_focus(child):
                yield child
            yield from _controls(child, lost)


def _takes_focus(widget: QWidget) -> bool:
    takes_tab = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)
    return takes_tab and not isinstance(widget, NOT_GIVEN_TO)
