"""The panel beside a map of classes: its legend, which classes mix and by how much, how the map was made."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QListView,
    QPushButton,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint, Section, button, label
from dinoviz.views.map.legend import Legend
from dinoviz.views.map.mixing import NEAREST, Mix, Mixing
from dinoviz.views.map.panel import WIDTH_PX, FactsForm
from dinoviz.watching import follow
from dinoviz.widgets.scatter.colouring import REST, Colouring, Group
from dinoviz.widgets.scatter.reading import ClassMapData
from dinoviz.words import counted, tr
from engine.finding.class_map_files import ClassMapAbout

ROW_PX = 24
ROWS_SEEN = 6
"""Of a list of what mixes, before it scrolls."""
Index = QModelIndex | QPersistentModelIndex


class ClassPanel(QFrame):
    """Legend and mixing of the classes.

    Args:
        select: called with the names of a class, or of a pair, whose mixed pictures are wanted.
        find_neighbours: makes the table that mixing is counted from.
    """

    def __init__(self, select: Callable[[tuple[str, ...]], object], find_neighbours: Callable[[], object]) -> None:
        super().__init__()
        self.setProperty("kind", "panel")
        self.setFixedWidth(WIDTH_PX)
        self.legend = Legend()
        self.legend.setMinimumHeight(ROWS_SEEN * ROW_PX)
        self.classes, self.pairs = MixList(tr("Classes that mix")), MixList(tr("Pairs of classes that mix"))
        for made in (self.classes, self.pairs):
            made.picked.connect(select)
        self._said = Hint("")
        self._missing: QPushButton = button(tr("Find neighbours"), find_neighbours, icon="magnifying-glass")
        self._lists = QWidget()
        lists = QVBoxLayout(self._lists)
        lists.setContentsMargins(0, 0, 0, 0)
        lists.setSpacing(theme.SPACE_S)
        tip = tr("A click selects the pictures of a class at least half of whose neighbours have another label.")
        lists.addWidget(label(tr("Neighbours with another label"), "small", tip=tip))
        lists.addWidget(self.classes)
        tip = tr("A click selects the pictures of either class with a neighbour of the other.")
        lists.addWidget(label(tr("Pairs, neighbours of each other"), "small", tip=tip))
        lists.addWidget(self.pairs)
        mixing = Section(tr("Which classes mix"))
        for part in (self._said, self._lists, self._missing):
            mixing.body.addWidget(part)
        self._about = Section(tr("About this map"), is_open=False)
        self._facts = FactsForm()
        self._about.body.addLayout(self._facts)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE)
        column.setSpacing(theme.SPACE)
        column.addWidget(label(tr("Classes"), "small"))
        column.addWidget(self.legend, 1)
        column.addWidget(mixing)
        column.addWidget(self._about)
        self.show_mixing(None, is_searching=False)

    def show_map(self, data: ClassMapData | None) -> None:
        """Show the classes of a map, and how it was made."""
        self._facts.clear()
        self._about.setVisible(data is not None)
        if data is None:
            return
        about = data.about
        self.legend.show_colouring(_legend_of(about), "viridis")
        self._facts.say(tr("Classes"), f"{len(about.names):,}")
        self._facts.say(tr("Pictures"), f"{sum(about.counts):,}")
        tip = tr("Each class lies where the mean of its pictures' features belongs, by t-SNE of these means.")
        self._facts.say(tr("Steps"), f"{about.step:,}", tip)
        self._facts.say(tr("Features"), data.plan.in_words())

    def show_mixing(self, found: Mixing | None, *, is_searching: bool) -> None:
        """Show how much the classes mix; where that is not known, what finds it out."""
        self._lists.setVisible(found is not None)
        self._missing.setVisible(found is None)
        self._missing.setEnabled(not is_searching)
        self._missing.setText(tr("Finding neighbours…") if is_searching else tr("Find neighbours"))
        if found is None:
            self._said.setText(tr("It is counted from the most similar pictures of each, which are not known yet."))
            return
        text = tr("Of the {k} most similar pictures of each, {share} have another label; by chance, {chance}.",
                  k=NEAREST, share=f"{found.share:.0%}", chance=f"{found.by_chance:.0%}")  # fmt: skip
        self._said.setText(text)
        self.classes.show_rows(found.classes)
        self.pairs.show_rows(found.pairs)


def _legend_of(about: ClassMapAbout) -> Colouring:
    """Return the classes as a legend has them: the largest first, in the colours of the map."""
    order = np.argsort(-np.array(about.counts), kind="stable").tolist()
    groups = [
        Group(value=about.names[number], text=about.names[number], count=about.counts[number], code=min(place, REST))
        for place, number in enumerate(order)
    ]
    return Colouring(by="label", codes_N=np.zeros(0, np.uint8), groups=tuple(groups), facet="labels")


class MixList(QListView):
    """Classes or pairs of them, each with its share as a bar; a click or Enter picks one.

    Signals:
        picked(names): of the class or the pair.
    """

    picked = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._rows = _Mixes(self)
        self.setProperty("kind", "plain")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setAccessibleName(name)
        self.setModel(self._rows)
        self.setItemDelegate(_Row(self))
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.setSelectionMode(QListView.SelectionMode.NoSelection)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.clicked.connect(self._pick)
        follow(self, theme.changed, self.viewport().update)

    def show_rows(self, rows: Sequence[Mix]) -> None:
        """Show these."""
        self._rows.show_rows(rows)
        self.setFixedHeight(ROW_PX * min(ROWS_SEEN, max(1, len(rows))))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space and Enter do what a click does."""
        keys = (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if event.key() in keys and self.currentIndex().isValid():
            self._pick(self.currentIndex())
        else:
            super().keyPressEvent(event)

    def _pick(self, index: QModelIndex) -> None:
        self.picked.emit(index.data(Qt.ItemDataRole.UserRole).names)


class _Mixes(QAbstractListModel):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._rows: tuple[Mix, ...] = ()

    def show_rows(self, rows: Sequence[Mix]) -> None:
        self.beginResetModel()
        self._rows = tuple(rows)
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self._rows[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole:
                return " ↔ ".join(row.names)
            case Qt.ItemDataRole.UserRole:
                return row
            case Qt.ItemDataRole.AccessibleTextRole | Qt.ItemDataRole.ToolTipRole:
                return tr(
                    "{names}: {share} of the neighbours of {pictures}",
                    names=" ↔ ".join(row.names),
                    share=f"{row.share:.1%}",
                    pictures=counted(row.count, tr("picture")),
                )
        return None


class _Row(QStyledItemDelegate):
    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        return QSize(80, ROW_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row: Mix = index.data(Qt.ItemDataRole.UserRole)
        c, box = theme.colours(), QRect(option.rect).adjusted(0, 1, 0, -1)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if option.state & (QStyle.StateFlag.State_MouseOver | QStyle.StateFlag.State_HasFocus):
            painter.setPen(c.accent if option.state & QStyle.StateFlag.State_HasFocus else Qt.PenStyle.NoPen)
            painter.setBrush(c.raised)
            painter.drawRoundedRect(QRectF(box).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(c.accent_soft)
        bar = QRectF(box)
        bar.setWidth(bar.width() * row.share)
        painter.drawRoundedRect(bar, 4, 4)
        share = f"{row.share:.0%}" if row.share >= 0.1 else f"{row.share:.1%}"
        painter.setFont(theme.font("number"))
        width = QFontMetrics(painter.font()).horizontalAdvance(share)
        painter.setPen(c.muted)
        inner = box.adjusted(6, 0, -6, 0)
        painter.drawText(inner, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, share)
        painter.setFont(theme.font("body"))
        painter.setPen(c.text)
        room = inner.adjusted(0, 0, -width - theme.SPACE, 0)
        text = QFontMetrics(painter.font()).elidedText(
            " ↔ ".join(row.names), Qt.TextElideMode.ElideMiddle, room.width()
        )
        painter.drawText(room, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)
        painter.restore()
