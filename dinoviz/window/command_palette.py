"""Ctrl+K: everything that can be done or gone to, found by a few letters."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PySide6.QtCore import QAbstractListModel, QEvent, QModelIndex, QObject, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QPainter
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QLineEdit,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)
from shiboken6 import isValid

from dinoviz import theme
from dinoviz.desk import Desk
from dinoviz.query import Query
from dinoviz.words import tr

WIDTH_PX = 620
ROW_PX = 36
MOST_ROWS = 12
MOST_FOUND = 60
MOST_PICTURES = 20
LEAST_LETTERS = 2
"""Pictures are looked for from so many letters on; one letter is in nearly all names."""
LEAST_SCORE = 75.0
"""Of 100, by rapidfuzz's ratio: a letter wrong, missing or out of place in a word of five, two in one of eight."""
LEAST_FOR_SLIPS = 3
"""Letters from which on the middle of a word, or a slip of the fingers, is looked for; fewer are in nearly all."""
SECOND, BEGINS = 0.8, 20.0
"""Of words that an entry is known by beside its name, and for a name that begins as was typed."""

Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row: what it says, what kind of thing it is, its keys, and what it does."""

    text: str
    kind: str
    do: Callable[[], object]
    icon: str = "caret-right"
    keys: str = ""
    words: str = ""


class _Rows(QAbstractListModel):
    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.entries: list[Entry] = []

    def set_entries(self, entries: list[Entry]) -> None:
        self.beginResetModel()
        self.entries = entries
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.entries)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        entry = self.entries[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return entry.text
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{entry.kind}: {entry.text} {entry.keys}"
        return entry if role == Qt.ItemDataRole.UserRole else None


class _Row(QStyledItemDelegate):
    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        return QSize(0, ROW_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        entry: Entry = index.data(Qt.ItemDataRole.UserRole)
        c = theme.colours()
        rect: QRect = option.rect.adjusted(4, 1, -4, -1)  # type: ignore[attr-defined]
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if option.state & QStyle.StateFlag.State_Selected:  # type: ignore[attr-defined]
            painter.setBrush(c.accent_soft)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.drawRoundedRect(rect, theme.RADIUS, theme.RADIUS)
        inner = rect.adjusted(theme.SPACE, 0, -theme.SPACE, 0)
        mark = QRect(inner.left(), inner.center().y() - theme.ICON_PX // 2, theme.ICON_PX, theme.ICON_PX)
        theme.icon(entry.icon, "muted").paint(painter, mark)
        right = f"{entry.keys}" if entry.keys else entry.kind
        painter.setFont(theme.font("small"))
        painter.setPen(c.muted)
        painter.drawText(inner, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, right)
        room = painter.fontMetrics().horizontalAdvance(right) + theme.SPACE_L
        painter.setFont(theme.font("body"))
        painter.setPen(c.text)
        words = inner.adjusted(theme.ICON_PX + theme.SPACE_L, 0, -room, 0)
        text = painter.fontMetrics().elidedText(entry.text, Qt.TextElideMode.ElideMiddle, words.width())
        painter.drawText(words, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)
        painter.restore()


class CommandPalette(QFrame):
    """The field and the list, over the middle of the window."""

    def __init__(self, desk: Desk, window: QWidget) -> None:
        super().__init__(window)
        self.setProperty("kind", "card")
        self._desk, self._window = desk, window
        self._entries: list[Entry] = []
        self._before: QWidget | None = None
        """What had the keyboard."""
        self._field = QLineEdit()
        self._field.setPlaceholderText(tr("Type a command, a picture, a tag, a label…"))
        self._field.setAccessibleName(tr("Command palette"))
        self._field.setClearButtonEnabled(True)
        self._field.textChanged.connect(self._search)
        self._field.installEventFilter(self)
        self._rows = _Rows(self)
        self._list = QListView()
        self._list.setProperty("kind", "plain")
        self._list.setModel(self._rows)
        self._list.setItemDelegate(_Row(self._list))
        self._list.setUniformItemSizes(True)
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._list.setAccessibleName(tr("What was found"))
        self._list.setMouseTracking(True)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.clicked.connect(self._do)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE)
        column.addWidget(self._field)
        column.addWidget(self._list)
        self.hide()

    def open(self) -> None:
        """Show it, empty, with all that can be done now."""
        self._before = QApplication.focusWidget()
        self._entries = [*self._actions(), *self._places()]
        self._field.clear()
        self._search("")
        self.show()
        self.raise_()
        self._field.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Move through the list while the field keeps the focus; leave by Escape or by going elsewhere."""
        if event.type() == QEvent.Type.FocusOut:
            self.hide()
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            row = self._list.currentIndex().row()
            match event.key():
                case Qt.Key.Key_Escape:
                    self._leave()
                    return True
                case Qt.Key.Key_Down | Qt.Key.Key_Up:
                    down = event.key() == Qt.Key.Key_Down
                    to = min(max(row + (1 if down else -1), 0), self._rows.rowCount() - 1)
                    self._list.setCurrentIndex(self._rows.index(to, 0))
                    return True
                case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                    self._do(self._list.currentIndex())
                    return True
        return super().eventFilter(watched, event)

    def _do(self, index: Index) -> None:
        entry = index.data(Qt.ItemDataRole.UserRole)
        self._leave()
        if isinstance(entry, Entry):
            entry.do()

    def _leave(self) -> None:
        """Go, and give the keyboard back to where it was."""
        before, self._before = self._before, None
        if before is not None and isValid(before) and before.isVisible() and before.isEnabled():
            before.setFocus(Qt.FocusReason.PopupFocusReason)
        self.hide()

    def _search(self, text: str) -> None:
        self._show(found(text, self._entries))
        if len(text) >= LEAST_LETTERS and self._desk.session.state.project is not None:
            table = self._desk.session.state.table
            self._desk.background.run(
                "palette",
                lambda: table.ids_N[table.is_named(text)][:MOST_PICTURES].tolist(),
                lambda ids: self._add_pictures(text, ids),
            )

    def _add_pictures(self, text: str, ids: list[int]) -> None:
        if self.isVisible() and self._field.text() == text:
            row = self._list.currentIndex().row()
            self._show([*found(text, self._entries), *(self._picture(picture) for picture in ids)])
            self._list.setCurrentIndex(self._rows.index(max(row, 0), 0))

    def _show(self, entries: list[Entry]) -> None:
        self._rows.set_entries(entries)
        self._list.setCurrentIndex(self._rows.index(0, 0))
        height = self._field.sizeHint().height() + 3 * theme.SPACE + ROW_PX * min(MOST_ROWS, max(1, len(entries)))
        width = min(WIDTH_PX, self._window.width() - theme.SPACE_XL)
        self.setGeometry((self._window.width() - width) // 2, self._window.height() // 8, width, height)

    def _actions(self) -> list[Entry]:
        actions = self._desk.actions
        return [
            Entry(
                text=tr(row.text),
                kind=tr("command"),
                do=lambda row=row: actions.trigger(row.id),
                icon=row.icon or "caret-right",
                keys=QKeySequence(actions.keys(row.id)).toString(QKeySequence.SequenceFormat.NativeText),
                words=f"{row.words} {row.menu or row.place}",
            )
            for row in actions.rows()
            if actions.can(row.id)
        ]

    def _places(self) -> list[Entry]:
        """Return tags, labels, selections and backbones."""
        session = self._desk.session
        state = session.state

        def showing(query: Query) -> Callable[[], object]:
            def show() -> None:
                session.set_query(query)
                session.go("library")

            return show

        def selecting(ids: Sequence[int]) -> Callable[[], object]:
            return lambda: session.select_with_tool(list(ids), "replace", tr("Selection"))

        plain = replace(Query(), sort=state.query.sort, descending=state.query.descending)
        return [
            *(
                Entry(text=tag, kind=tr("tag"), icon="tag", do=showing(replace(plain, tags=(tag,))))
                for tag in state.marks.tags
            ),
            *(
                Entry(text=word, kind=tr("label"), icon="text-t", do=showing(replace(plain, labels=(word,))))
                for word in state.table.label.words
            ),
            *(
                Entry(text=name, kind=tr("selection"), icon="selection", do=selecting(ids))
                for name, ids in state.marks.selections.items()
            ),
            *(
                Entry(text=run.about, kind=tr("run {n}", n=run.number), icon="graduation-cap",
                      do=lambda run=run: session.use_model(str(run.folder)))
                for run in state.runs
            ),
        ]  # fmt: skip

    def _picture(self, picture: int) -> Entry:
        session = self._desk.session

        def look() -> None:
            session.set_current(picture)
            session.go("look")

        return Entry(text=session.state.table.path(picture), kind=tr("picture"), icon="image", do=look)


def found(text: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that a few letters mean, the best first; all of them for no letters.

    Every word typed begins a word of the entry. Only where there is no such entry is the middle of a word enough, or
    one that is a slip of the fingers away.
    """
    wanted = _words(text)
    if not wanted:
        return list(entries[:MOST_FOUND])
    known = [(entry, _words(entry.text), _words(entry.words)) for entry in entries]
    for how in (_begun, _nearly):
        scored = []
        for place, (entry, names, others) in enumerate(known):
            each = [max(how(one, names), SECOND * how(one, others)) for one in wanted]
            if min(each) > 0:
                begins = entry.text.lower().startswith(text.strip().lower())
                scored.append((-sum(each) / len(each) - (BEGINS if begins else 0), place, entry))
        if scored:
            return [entry for _, _, entry in sorted(scored, key=lambda row: row[:2])[:MOST_FOUND]]
    return []


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _begun(typed: str, words: Sequence[str]) -> float:
    """Return how well what was typed begins one of some words, 0 to 100."""
    return 100.0 if typed in words else 95.0 if any(word.startswith(typed) for word in words) else 0.0


def _nearly(typed: str, words: Sequence[str]) -> float:
    """Return how well what was typed begins one of some words, stands in its middle, or is a slip away from it."""
    if score := _begun(typed, words):
        return score
    if len(typed) < LEAST_FOR_SLIPS:
        return 0.0
    if any(typed in word for word in words):
        return LEAST_SCORE
    from rapidfuzz import fuzz

    alike = [
        max(fuzz.ratio(typed, word), fuzz.ratio(typed, word[: len(typed)]))
        for word in words
        if len(word) > len(typed) - 2
    ]
    best = max(alike, default=0.0)
    return float(best) if best >= LEAST_SCORE else 0.0
