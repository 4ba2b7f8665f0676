"""The legend of a map: which colour means what. Of categories it is a filter, too.

A click shows only that category, Ctrl and a click takes one in or out; a click on the only one shows all again. While
the mouse is over a category, whoever listens can make it stand out.

Letters after a name are its axes: K colours
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QRectF,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QLineEdit,
    QListView,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint
from dinoviz.query import Query
from dinoviz.watching import follow
from dinoviz.widgets.picture.overlays import image_of_rgb
from dinoviz.widgets.scatter.colouring import Colouring, Group, is_in_filter
from dinoviz.words import counted, tr

ROW_PX, SWATCH_PX = 24, 11
SEARCH_FROM = 14  # groups from which there is a field to find one
BAR_PX = 12
Index = QModelIndex | QPersistentModelIndex


class _Groups(QAbstractListModel):
    """The categories, as rows."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.groups: Sequence[Group] = ()
        self.facet = ""
        self.query = Query()
        self.colours_K3: NDArray[np.uint8] = np.zeros((256, 3), np.uint8)

    def show(self, colouring: Colouring, colours_K3: NDArray[np.uint8]) -> None:
        """Take other categories."""
        self.beginResetModel()
        self.groups, self.facet, self.colours_K3 = colouring.groups, colouring.facet, colours_K3
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:
        """Return how many categories there are."""
        return 0 if parent is not None and parent.isValid() else len(self.groups)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a category, or what is read aloud of it."""
        group = self.groups[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return group.text
            case Qt.ItemDataRole.UserRole:
                return group
            case Qt.ItemDataRole.AccessibleTextRole | Qt.ItemDataRole.ToolTipRole:
                return f"{group.text}: {counted(group.count, 'picture')}"
        return None

    def is_in(self, group: Group) -> bool:
        """Tell whether the filter lets a category through."""
        return not self.facet or is_in_filter(group, self.facet, self.query)


class _Row(QStyledItemDelegate):
    """Draws a category: its colour, its name, how many pictures."""

    def __init__(self, groups: _Groups, parent: QWidget) -> None:
        super().__init__(parent)
        self._groups = groups

    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        """Rows are of one height."""
        return QSize(80, ROW_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw one row."""
        group: Group = index.data(Qt.ItemDataRole.UserRole)
        c, box = theme.colours(), QRect(option.rect)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(1.0 if self._groups.is_in(group) else 0.4)
        if option.state & (QStyle.StateFlag.State_MouseOver | QStyle.StateFlag.State_HasFocus):
            painter.setPen(c.accent if option.state & QStyle.StateFlag.State_HasFocus else Qt.PenStyle.NoPen)
            painter.setBrush(c.raised)
            painter.drawRoundedRect(QRectF(box).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(*map(int, self._groups.colours_K3[group.code])))
        middle = box.center().y() + 0.5
        painter.drawEllipse(QPointF(box.left() + 6 + SWATCH_PX / 2, middle), SWATCH_PX / 2, SWATCH_PX / 2)
        number = f"{group.count:,}"
        painter.setFont(theme.font("number"))
        width = QFontMetrics(painter.font()).horizontalAdvance(number)
        painter.setPen(c.muted)
        painter.drawText(box.adjusted(0, 0, -6, 0), Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, number)
        painter.setFont(theme.font("body"))
        left = 6 + SWATCH_PX + theme.SPACE
        room = box.adjusted(left, 0, -width - 6 - theme.SPACE, 0)
        painter.setPen(c.text)
        text = QFontMetrics(painter.font()).elidedText(group.text, Qt.TextElideMode.ElideRight, room.width())
        painter.drawText(room, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)
        painter.restore()


class _List(QListView):
    """The rows; a click, Space or Enter on one is told with whether Ctrl was held."""

    picked = Signal(object, bool)
    pointed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("kind", "plain")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Tell which category was clicked."""
        super().mouseReleaseEvent(event)
        index = self.indexAt(event.position().toPoint())
        if index.isValid() and event.button() == Qt.MouseButton.LeftButton:
            self._pick(index, event.modifiers())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell which category the mouse is over."""
        super().mouseMoveEvent(event)
        index = self.indexAt(event.position().toPoint())
        self.pointed.emit(index.data(Qt.ItemDataRole.UserRole) if index.isValid() else None)

    def leaveEvent(self, event: QEvent) -> None:
        """Tell that it is over none."""
        super().leaveEvent(event)
        self.pointed.emit(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space and Enter do what a click does."""
        keys = (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if event.key() in keys and self.currentIndex().isValid():
            self._pick(self.currentIndex(), event.modifiers())
        else:
            super().keyPressEvent(event)

    def _pick(self, index: QModelIndex, modifiers: Qt.KeyboardModifier) -> None:
        held = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
        self.picked.emit(index.data(Qt.ItemDataRole.UserRole), bool(modifiers & held))


class _Bar(QWidget):
    """The colours of a range of numbers, with what its ends and its middle are."""

    def __init__(self) -> None:
        super().__init__()
        self._colouring: Colouring | None = None
        self._colours_K3 = np.zeros((256, 3), np.uint8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """It is as high as the bar and a line of text."""
        return QSize(160, BAR_PX + theme.SPACE_S + QFontMetrics(theme.font("small")).height() + 2)

    def show_scale(self, colouring: Colouring, colours_K3: NDArray[np.uint8]) -> None:
        """Take another range."""
        self._colouring, self._colours_K3 = colouring, colours_K3[:255]
        scale = colouring.scale
        self.setAccessibleName(f"{scale.low} to {scale.high}" if scale else "")
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the bar and its three numbers."""
        scale = self._colouring.scale if self._colouring else None
        if scale is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF(0, 0, self.width(), BAR_PX), image_of_rgb(self._colours_K3[None]))
        painter.setFont(theme.font("small"))
        painter.setPen(theme.colours().muted)
        room = QRectF(0, BAR_PX + theme.SPACE_S, self.width(), self.height() - BAR_PX - theme.SPACE_S)
        for text, side in (
            (scale.low, Qt.AlignmentFlag.AlignLeft),
            (scale.middle, Qt.AlignmentFlag.AlignHCenter),
            (scale.high, Qt.AlignmentFlag.AlignRight),
        ):
            painter.drawText(room, side | Qt.AlignmentFlag.AlignTop, text)
        painter.end()


class Legend(QWidget):
    """Which colour means what; see the module."""

    picked = Signal(object, bool)
    """A ``Group``, and whether it is taken in or out instead of being the only one."""
    pointed = Signal(object)
    """The ``Group`` under the mouse, None for none."""

    def __init__(self) -> None:
        super().__init__()
        self._colouring: Colouring | None = None
        self._colour_map = "viridis"
        self._groups = _Groups(self)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self._groups)
        self._sorted.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._search = QLineEdit()
        self._search.setPlaceholderText(tr("Find in the legend"))
        self._search.setAccessibleName(tr("Find in the legend"))
        self._search.setClearButtonEnabled(True)
        self._search.textChanged.connect(self._sorted.setFilterFixedString)
        self._list = _List()
        self._list.setModel(self._sorted)
        self._list.setItemDelegate(_Row(self._groups, self._list))
        self._list.setAccessibleName(tr("Legend"))
        self._list.setAccessibleDescription(tr("Enter shows only that group; Ctrl and Enter takes it in or out."))
        self._list.picked.connect(self.picked)
        self._list.pointed.connect(self.pointed)
        self._bar = _Bar()
        self._missing = Hint("")
        for part in (self._search, self._bar, self._missing):
            part.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        for part in (self._search, self._bar, self._missing):
            column.addWidget(part)
        column.addWidget(self._list, 1)
        column.addStretch(0)
        follow(self, theme.changed, self._draw)

    @property
    def colours_K3(self) -> NDArray[np.uint8]:
        """The colour of each code, uint8 (256, 3)."""
        return self._groups.colours_K3

    def show_colouring(self, colouring: Colouring, colour_map: str) -> None:
        """Take another meaning of colours."""
        if self._colouring is None or colouring.by != self._colouring.by:
            self._search.clear()
        self._colouring, self._colour_map = colouring, colour_map
        self._draw()

    def show_query(self, query: Query) -> None:
        """Draw groups that a filter leaves out faintly."""
        if query != self._groups.query:
            self._groups.query = query
            self._list.viewport().update()

    def _draw(self) -> None:
        colouring = self._colouring
        if colouring is None:
            return
        colours_K3 = colouring.colours(self._colour_map)
        scrolled = self._list.verticalScrollBar().value()
        self._groups.show(colouring, colours_K3)
        self._list.verticalScrollBar().setValue(scrolled)
        self._bar.show_scale(colouring, colours_K3)
        self._bar.setVisible(colouring.scale is not None)
        self._missing.setText(colouring.missing)
        self._missing.setVisible(bool(colouring.missing))
        self._search.setVisible(len(colouring.groups) >= SEARCH_FROM)
        self._list.setVisible(bool(colouring.groups))
