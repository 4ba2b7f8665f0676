"""Notices over the window: what happened, and what to do about it; they lie where nothing is to be pressed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import QPoint, QRect, QSize, Qt, QTimer
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import (
    QAbstractButton,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QScrollBar,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import IconButton, button, label, pixmap
from dinoviz.session import Notice, Session
from dinoviz.window.jobs_bar import BAR_PX
from dinoviz.words import tr

ICONS = {"info": ("info", "accent"), "warning": ("warning", "warning"), "error": ("warning-circle", "danger")}
STEP_PX = 16
"""Between two places that are tried for the notices."""
LARGE_SHARE = 1 / 8
"""Of the window: what is larger and takes the keys is a canvas or a list, of which a corner can be spared."""
AROUND_MOUSE_PX = (-40, -40, 40, 40)
"""Of the mouse, what is left free."""
LOOK_AGAIN_MS = 250
"""Between two looks at whether something to be pressed came to lie below."""


class Toasts(QWidget):
    """The notices that are shown now; errors stay until they are closed, or another project is opened.

    Args:
        session: whose notices.
        trigger: does an action by its name.
        parent: the window.
    """

    WIDTH_PX = 400
    TEXT_PX = 300
    STAYS_MS = 7000
    STAYS_WITH_BUTTONS_MS = 15_000
    MOST = 4

    def __init__(self, session: Session, trigger: Callable[[str], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._session, self._trigger, self._window = session, trigger, parent
        self._project: Path | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.SPACE)
        self.setFixedWidth(self.WIDTH_PX)
        self._look_again = QTimer(self, interval=LOOK_AGAIN_MS)
        self._look_again.timeout.connect(self._give_way)
        session.noticed.connect(self.show_notice)
        session.changed.connect(self._follow_project)
        self.destroyed.connect(partial(session.noticed.disconnect, self.show_notice, missing_ok=True))
        self.destroyed.connect(partial(session.changed.disconnect, self._follow_project, missing_ok=True))
        self.hide()

    def _follow_project(self, changed: frozenset[str]) -> None:
        """Clear what was said of a project as it is left: at once, as of the next something may be said right then."""
        if "project" in changed and self._session.state.project != self._project:
            if self._project is not None:
                self._clear()
            self._project = self._session.state.project

    def _clear(self) -> None:
        for card in self._cards():
            self._close(card)

    def _cards(self) -> list[QWidget]:
        items = (self._column.itemAt(i) for i in range(self._column.count()))
        return [card for item in items if item is not None and (card := item.widget()) is not None]

    def show_notice(self, notice: Notice) -> None:
        """Show a notice, in place of the same one said before."""
        for card in self._cards():
            if card.property("says") == [notice.text, notice.hint]:
                self._close(card)
        while self._column.count() >= self.MOST:
            self._close(self._cards()[0])
        card = self._card(notice)
        card.setProperty("says", [notice.text, notice.hint])
        self._column.addWidget(card)
        if notice.level != "error":
            has_buttons = notice.action is not None or bool(notice.doings)
            self._expire_in(card, self.STAYS_WITH_BUTTONS_MS if has_buttons else self.STAYS_MS)
        self.place()

    def _expire_in(self, card: QWidget, ms: int) -> None:
        """Take a card away after some time; not from under the mouse."""

        def expire() -> None:
            if _has_mouse(card):
                self._expire_in(card, self.STAYS_MS)
            else:
                self._close(card)

        QTimer.singleShot(ms, card, expire)

    def _card(self, notice: Notice) -> QFrame:
        card = QFrame()
        card.setProperty("kind", "card")
        card.setAccessibleName(notice.text)
        mark = QLabel()
        mark.setPixmap(pixmap(theme.icon(*ICONS[notice.level]), theme.ICON_PX, self))
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE_S)
        for text, kind in ((notice.text, "strong"), (notice.hint, "small")):
            if text:
                said = label(text, kind, wraps=True)
                said.setFixedWidth(self.TEXT_PX)
                words.addWidget(said, 0, Qt.AlignmentFlag.AlignLeft)
        if doings := self._doings(notice):
            row = QHBoxLayout()
            row.setSpacing(theme.SPACE_L)
            for text, do in doings:
                row.addWidget(button(text, partial(self._do, do, card), kind="link"))
            row.addStretch()
            words.addLayout(row)
        whole = QHBoxLayout(card)
        whole.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE)
        whole.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        whole.addLayout(words)
        whole.addStretch()
        whole.addWidget(IconButton("x", tr("Close"), partial(self._close, card)), 0, Qt.AlignmentFlag.AlignTop)
        return card

    def _doings(self, notice: Notice) -> list[tuple[str, Callable[[], object]]]:
        """Return what the buttons of a notice say and do."""
        of_action = [(notice.action[0], partial(self._trigger, notice.action[1]))] if notice.action else []
        return [*of_action, *notice.doings]

    def _do(self, do: Callable[[], object], card: QWidget) -> None:
        self._close(card)
        do()

    def _close(self, card: QWidget) -> None:
        self._column.removeWidget(card)
        card.hide()
        card.deleteLater()
        self.place()

    def place(self) -> None:
        """Be as tall as needed, and lie as near to the lower right corner as nothing to be pressed is covered."""
        cards = self._cards()
        self.setVisible(bool(cards))
        if not cards:
            self._look_again.stop()
            return
        for card in cards:
            _fit(card, self.TEXT_PX)
        self.resize(self.WIDTH_PX, sum(card.height() for card in cards) + theme.SPACE * (len(cards) - 1))
        self.move(free_place(self.size(), self._room(), [*self._pressed(), *self._under_mouse()]))
        self.raise_()
        self._look_again.start()

    def _under_mouse(self) -> list[QRect]:
        """Return what is around the mouse, unless that is on a notice already: something is about to be pressed."""
        mouse = self._window.mapFromGlobal(QCursor.pos())
        return [] if _has_mouse(self) else [QRect(mouse, QSize()).adjusted(*AROUND_MOUSE_PX)]

    def _room(self) -> QRect:
        return self._window.rect().adjusted(0, 0, -theme.SPACE_L, -BAR_PX - theme.SPACE_L)

    def _give_way(self) -> None:
        """Move where something to be pressed came to lie below; not from under the mouse."""
        if not _has_mouse(self) and any(self.geometry().intersects(rect) for rect in self._pressed()):
            self.place()

    def _pressed(self) -> list[QRect]:
        """Return where something can be pressed or typed into, in the window."""
        window = self._window
        most_px = round(LARGE_SHARE * window.width() * window.height())
        return list(_pressed_in(window, QPoint(0, 0), window.rect(), most_px))


def _pressed_in(widget: QWidget, corner: QPoint, seen: QRect, most_px: int) -> Iterator[QRect]:
    """Yield where something in a widget can be pressed; what is hidden or scrolled away is not looked into.

    Args:
        widget: the widget.
        corner: where its upper left is in the window.
        seen: the part of the window that it shows.
        most_px: what covers more of the window is a canvas or a list.
    """
    for child in widget.children():
        if not isinstance(child, QWidget) or child.isHidden() or child.isWindow() or isinstance(child, Toasts):
            continue
        at = corner + child.pos()
        rect = QRect(at, child.size()) & seen
        if rect.isEmpty() or not child.isEnabled():
            continue
        takes_keys = child.focusPolicy() != Qt.FocusPolicy.NoFocus or isinstance(child, QAbstractButton)
        is_room = isinstance(child, QScrollBar | QScrollArea) or child.width() * child.height() > most_px
        if takes_keys and not is_room:
            yield rect
        else:
            yield from _pressed_in(child, at, rect, most_px)


def _has_mouse(widget: QWidget) -> bool:
    """Tell whether the mouse is over a widget now; what Qt keeps of that is late where the widget moved."""
    return widget.isVisible() and widget.rect().contains(widget.mapFromGlobal(QCursor.pos()))


def free_place(size: QSize, room: QRect, taken: Sequence[QRect]) -> QPoint:
    """Return where something of a size covers least of what is taken, and there as near to the lower right as can be.

    Letters after a name are its axes: X Y places tried · R rectangles
    """
    x_X = np.arange(room.right() + 1 - size.width(), room.left() - 1, -STEP_PX)
    y_Y = np.arange(room.bottom() + 1 - size.height(), room.top() - 1, -STEP_PX)
    if not len(x_X) or not len(y_Y):
        return QPoint(max(room.left(), room.right() + 1 - size.width()), max(room.top(), room.bottom() - size.height()))
    covered_YX = np.zeros((len(y_Y), len(x_X)), np.int64)
    for rect in taken:
        left, right = np.maximum(x_X, rect.left()), np.minimum(x_X + size.width(), rect.right() + 1)
        top, bottom = np.maximum(y_Y, rect.top()), np.minimum(y_Y + size.height(), rect.bottom() + 1)
        covered_YX += np.clip(bottom - top, 0, None)[:, None] * np.clip(right - left, 0, None)
    away_YX = (x_X[0] - x_X) + (y_Y[0] - y_Y)[:, None]
    best = np.lexsort((away_YX.ravel(), covered_YX.ravel()))[0]
    row, col = divmod(int(best), len(x_X))
    return QPoint(int(x_X[col]), int(y_Y[row]))


def _fit(card: QWidget, text_px: int) -> None:
    """Give a card the height of its words, which is known once they have their fonts."""
    for said in card.findChildren(QLabel):
        if said.wordWrap():
            said.ensurePolished()
            said.setFixedHeight(said.heightForWidth(text_px))
    layout = card.layout()
    assert layout is not None
    layout.invalidate()
    card.setFixedHeight(layout.totalSizeHint().height())
