"""Notices in the lower right corner: what happened, and what to do about it."""

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton, button, label, pixmap
from dinoviz.session import Notice, Session
from dinoviz.window.jobs_bar import BAR_PX
from dinoviz.words import tr

ICONS = {"info": ("info", "accent"), "warning": ("warning", "warning"), "error": ("warning-circle", "danger")}


class Toasts(QWidget):
    """The notices that are shown now; errors stay until they are closed.

    Args:
        session: whose notices.
        trigger: does an action by its name.
        parent: the window.
    """

    WIDTH_PX = 400
    TEXT_PX = 300
    STAYS_MS = 7000
    MOST = 4

    def __init__(self, session: Session, trigger: Callable[[str], object], parent: QWidget) -> None:
        super().__init__(parent)
        self._trigger = trigger
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.SPACE)
        self.setFixedWidth(self.WIDTH_PX)
        session.noticed.connect(self.show_notice)
        self.destroyed.connect(partial(session.noticed.disconnect, self.show_notice, missing_ok=True))
        self.hide()

    def show_notice(self, notice: Notice) -> None:
        """Show a notice."""
        while self._column.count() >= self.MOST:
            self._close(self._column.itemAt(0).widget())
        card = self._card(notice)
        self._column.addWidget(card)
        if notice.level != "error":
            QTimer.singleShot(self.STAYS_MS, card, partial(self._close, card))
        self.place()

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
        if notice.action:
            text, action = notice.action
            words.addWidget(button(text, partial(self._do, action, card), kind="link"))
        row = QHBoxLayout(card)
        row.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE)
        row.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words)
        row.addStretch()
        row.addWidget(IconButton("x", tr("Close"), partial(self._close, card)), 0, Qt.AlignmentFlag.AlignTop)
        return card

    def _do(self, action: str, card: QWidget) -> None:
        self._close(card)
        self._trigger(action)

    def _close(self, card: QWidget) -> None:
        self._column.removeWidget(card)
        card.hide()
        card.deleteLater()
        self.place()

    def place(self) -> None:
        """Lie in the lower right corner of the window, as tall as needed."""
        window = self.parentWidget()
        self.setVisible(self._column.count() > 0)
        cards = [self._column.itemAt(i).widget() for i in range(self._column.count())]
        for card in cards:
            _fit(card, self.TEXT_PX)
        height = sum(card.height() for card in cards) + theme.SPACE * max(0, len(cards) - 1)
        self.resize(self.WIDTH_PX, height)
        self.move(window.width() - self.WIDTH_PX - theme.SPACE_L, window.height() - height - BAR_PX - theme.SPACE_L)
        self.raise_()


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
