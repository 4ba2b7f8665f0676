"""A menu that tags pictures: the tags there are, each on or off, and a field for a new one."""

from collections.abc import Callable

import numpy as np
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QMenu, QWidget, QWidgetAction

from dinoviz import theme
from dinoviz.session import Session
from dinoviz.table import Ids
from dinoviz.words import tr

WIDTH_PX = 190


class TagMenu(QMenu):
    """Tags what is meant when it opens.

    Args:
        session: keeps the tags.
        meant: returns the pictures.
        parent: that it belongs to.
    """

    def __init__(self, session: Session, meant: Callable[[], Ids], parent: QWidget | None = None) -> None:
        super().__init__(tr("Tag"), parent)
        self._session = session
        self._meant = meant
        self._field = QLineEdit()
        self._field.setPlaceholderText(tr("New tag …"))
        self._field.setAccessibleName(tr("New tag"))
        self._field.setMinimumWidth(WIDTH_PX)
        self._field.returnPressed.connect(self._add)
        room = QWidget()
        row = QHBoxLayout(room)
        row.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE)
        row.addWidget(self._field)
        around = QWidgetAction(self)
        around.setDefaultWidget(room)
        self.addAction(around)
        self._line = self.addSeparator()
        self._tags: list[QAction] = []
        self.aboutToShow.connect(self._list)

    def showEvent(self, event: object) -> None:
        """Let the person type at once."""
        super().showEvent(event)  # type: ignore[arg-type]
        self._field.setFocus()

    def _list(self) -> None:
        """List the tags, with those on that all of the pictures have."""
        for action in self._tags:
            self.removeAction(action)
            action.deleteLater()
        marks, pictures = self._session.state.marks, frozenset(self._meant().tolist())
        self._tags = []
        for tag in sorted(marks.tags):
            action = QAction(tag, self)
            action.setCheckable(True)
            action.setChecked(bool(pictures) and pictures <= marks.tags[tag])
            action.triggered.connect(lambda is_on, tag=tag: self._turn(tag, is_on=is_on))
            self.addAction(action)
            self._tags.append(action)
        self._line.setVisible(bool(self._tags))
        self._field.clear()

    def _turn(self, tag: str, *, is_on: bool) -> None:
        pictures = np.array(self._meant())
        self._session.tag(pictures, tag) if is_on else self._session.untag(pictures, tag)

    def _add(self) -> None:
        tag = self._field.text().strip()
        if tag:
            self._session.tag(np.array(self._meant()), tag)
        self.close()
