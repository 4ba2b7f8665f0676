"""A list to work through with keys: rows at the left, the one in hand at the right, what can be done with it below.

Copies, outliers and doubtful labels are three such lists. Which rows are done follows from what the session knows, so
that undo brings a row back into the list and into the hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PySide6.QtCore import QAbstractListModel, QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPen, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QListView,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import EmptyState, Line, button, clear, label
from dinoviz.desk import Desk
from dinoviz.views.find.lists import Lists, Row, WorkList
from dinoviz.watching import follow, watch
from dinoviz.words import tr

LIST_PX = 296
SIGNS = {"Return": "⏎", "Right": "→", "Left": "←"}
"""Of keys, as they stand on buttons."""
SHARPER = 1.5
"""A thumbnail that fills a square is asked for so many times larger: pictures of 3 : 2 are then sharp."""
ROW_PX = 60
THUMB_PX = 44
BADGE_PX = 15

Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True, slots=True)
class RowWords:
    """What a row of the list says: a title, a line below it, and small signs, each an icon and its colour."""

    title: str
    detail: str = ""
    badges: tuple[tuple[str, str], ...] = ()


class _Rows(QAbstractListModel):
    """The rows that are listed, as Qt wants them; what they say is made when it is drawn."""

    def __init__(self, words: Callable[[Any], RowWords]) -> None:
        super().__init__()
        self._words = words
        self.work = WorkList((), np.zeros(0, np.bool_))
        self.places: list[int] = []

    def show(self, work: WorkList, *, with_done: bool, in_hand: int | None) -> None:
        """List all rows, or those that are not done and the one in hand."""
        places = [i for i in range(len(work)) if with_done or not work.is_done_R[i] or i == in_hand]
        if places == self.places and work.rows is self.work.rows:
            self.work = work
            self.dataChanged.emit(self.index(0), self.index(max(0, len(places) - 1)))
            return
        self.beginResetModel()
        self.work, self.places = work, places
        self.endResetModel()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own signature
        """Return how many are listed."""
        return 0 if parent.isValid() else len(self.places)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Return what a row says, for screen readers and tooltips."""
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            words = self.words(index)
            done = tr("worked through") if self.is_done(index) else ""
            return ", ".join(filter(None, (words.title, words.detail, done)))
        return None

    def row(self, index: Index) -> Row:
        """Return a row."""
        return self.work.rows[self.places[index.row()]]

    def words(self, index: Index) -> RowWords:
        """Return what it says."""
        return self._words(self.row(index))

    def is_done(self, index: Index) -> bool:
        """Tell whether it was worked through."""
        return bool(self.work.is_done_R[self.places[index.row()]])


class _RowPainter(QStyledItemDelegate):
    """Draws a row: one or two small pictures, the words, whether it is done."""

    def __init__(self, desk: Desk, model: _Rows, view: QListView) -> None:
        super().__init__(view)
        self._desk, self._model = desk, model

    def sizeHint(self, _option: QStyleOptionViewItem, _index: Index) -> QSize:
        """Return the size of every row."""
        return QSize(LIST_PX - 2 * theme.SPACE, ROW_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw it."""
        colours, words = theme.colours(), self._model.words(index)
        is_done = self._model.is_done(index)
        room: QRect = option.rect.adjusted(2, 1, -2, -1)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        is_in_hand = bool(option.state & QStyle.StateFlag.State_Selected)
        if is_in_hand or option.state & QStyle.StateFlag.State_MouseOver:
            has_focus = is_in_hand and bool(option.state & QStyle.StateFlag.State_HasFocus)
            painter.setPen(QPen(colours.accent, 1.5) if has_focus else Qt.PenStyle.NoPen)
            painter.setBrush(colours.accent_soft if is_in_hand else colours.raised)
            painter.drawRoundedRect(QRectF(room).adjusted(1, 1, -1, -1), theme.RADIUS, theme.RADIUS)
        painter.setOpacity(0.5 if is_done else 1.0)
        left = self._draw_pictures(painter, room, self._model.row(index).pictures)
        right = self._draw_signs(painter, room, words, is_done=is_done)
        self._draw_words(painter, QRect(left, room.top() + 9, right - left - theme.SPACE, room.height() - 18), words)
        painter.restore()

    def _draw_pictures(self, painter: QPainter, room: QRect, pictures: Sequence[int]) -> int:
        """Draw the first two, the second one half behind the first; return where they end."""
        shown = list(pictures[:2])
        left = room.left() + theme.SPACE
        side = round(SHARPER * THUMB_PX * painter.device().devicePixelRatioF())
        for place in reversed(range(len(shown))):
            image = self._desk.thumbnails.image(shown[place], side)
            where = QRect(left + place * THUMB_PX // 2, room.center().y() - THUMB_PX // 2, THUMB_PX, THUMB_PX)
            if image is None:
                painter.fillRect(where, theme.colours().line)
                continue
            scale = THUMB_PX / max(1, min(image.width(), image.height()))
            cut = QRectF(0, 0, THUMB_PX / scale, THUMB_PX / scale)
            cut.moveCenter(QRectF(image.rect()).center())
            painter.drawImage(QRectF(where), image, cut)
        return left + THUMB_PX + (len(shown) - 1) * THUMB_PX // 2 + theme.SPACE + 2

    def _draw_signs(self, painter: QPainter, room: QRect, words: RowWords, *, is_done: bool) -> int:
        """Draw the signs at the right; return where they begin."""
        right = room.right() - theme.SPACE
        signs = [*words.badges, *([("check-circle", "good")] if is_done else [])]
        for icon, colour in reversed(signs):
            right -= BADGE_PX
            theme.icon(icon, colour).paint(painter, QRect(right, room.center().y() - BADGE_PX // 2, BADGE_PX, BADGE_PX))
            right -= theme.SPACE_S
        return right

    def _draw_words(self, painter: QPainter, room: QRect, words: RowWords) -> None:
        colours = theme.colours()
        lines = ((words.title, "strong", colours.text, 0), (words.detail, "small", colours.muted, room.height() // 2))
        for text, role, colour, down in lines:
            font = theme.font(role)  # type: ignore[arg-type]
            painter.setFont(font)
            painter.setPen(colour)
            line = QRect(room.left(), room.top() + down, room.width(), room.height() // 2)
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, line.width())
            painter.drawText(line, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)


def keyed(text: str, keys: str) -> str:
    """Return the text of a button with the key that does the same."""
    return f"{text}   {SIGNS.get(keys, keys)}" if keys else text


class WorkPanel(QWidget):
    """One list to work through. A subclass says what rows say, shows the one in hand, and does what keys mean.

    Args:
        desk: of the window.
        name: of the list, for screen readers.
    """

    def __init__(self, desk: Desk, name: str) -> None:
        super().__init__()
        self.desk = desk
        self.session = desk.session
        self._rows: Sequence[Row] = ()
        self._ids_N = self.session.state.table.ids_N
        self._in_hand: int | None = None
        self._model = _Rows(self._words_now)
        self._build(name)
        watch(self, self.session, ("marks",), self._follow_marks)
        watch(self, self.session, ("choices.find", "table"), self._draw)
        desk.thumbnails.arrived.connect(self._arrived)
        follow(self, theme.changed, self._view.viewport().update)

    # For subclasses

    def words(self, row: Any) -> RowWords:
        """Return what a row says in the list."""
        raise NotImplementedError  # abstract: every panel has its own, and Qt's classes take no ABC

    def _words_now(self, row: Row) -> RowWords:
        """Return what a row says; nothing in the moment before the rows of a project that was closed go."""
        table = self.session.state.table
        return self.words(row) if all(table.contains(picture) for picture in row.pictures) else RowWords("")

    def show_row(self, row: Any | None) -> None:
        """Show the row in hand, or that there is none."""
        raise NotImplementedError  # abstract: every panel has its own, and Qt's classes take no ABC

    def set_lists(self, lists: Lists | None) -> None:
        """Work through what was found in a set; through nothing where there is none."""
        raise NotImplementedError  # abstract: every panel has its own, and Qt's classes take no ABC

    def heading(self) -> list[QWidget]:
        """Return what stands above the list."""
        return []

    # What can be done; what is not of this list does nothing

    def can(self, what: str) -> bool:
        """Tell whether something can be done with the row in hand: fine, accept, leave_out, keep, other_label."""
        return False

    def fine(self) -> None:
        """Say that all is well with the row in hand."""

    def accept(self) -> None:
        """Take what is proposed."""

    def leave_out(self) -> None:
        """Leave the picture in hand out of the project."""

    def keep(self, number: int) -> None:
        """Keep one of the pictures, counted from 0, and leave out the others."""

    def other_label(self) -> None:
        """Let the person say another label."""

    # Layout

    def _build(self, name: str) -> None:
        self._view = QListView()
        self._view.setAccessibleName(name)
        self._view.setProperty("kind", "plain")
        self._view.setModel(self._model)
        self._view.setItemDelegate(_RowPainter(self.desk, self._model, self._view))
        self._view.setUniformItemSizes(True)
        self._view.setMouseTracking(True)
        self._view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self._view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self._view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._view.selectionModel().currentChanged.connect(lambda now, _before: self._taken(now))
        self._progress_text = label("", "strong")
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName(tr("Worked through"))
        self._with_done = QCheckBox(tr("Also what is done"))
        self._with_done.setAccessibleName(self._with_done.text())
        self._with_done.clicked.connect(self._choose_with_done)
        side = QFrame()
        side.setProperty("kind", "panel")
        side.setFixedWidth(LIST_PX)
        column = QVBoxLayout(side)
        column.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE)
        head = QHBoxLayout()
        head.setContentsMargins(0, 0, 0, 0)
        head.addWidget(self._progress_text, 1)
        head.addWidget(self._with_done)
        column.addLayout(head)
        column.addWidget(self._progress)
        for part in self.heading():
            column.addWidget(part)
        column.addWidget(self._view, 1)
        self._detail = QWidget()
        self.detail = QVBoxLayout(self._detail)
        self.detail.setContentsMargins(theme.SPACE_XL, theme.SPACE_L, theme.SPACE_XL, theme.SPACE_L)
        self.detail.setSpacing(theme.SPACE_L)
        self._note = QWidget()
        self._note_room = QVBoxLayout(self._note)
        self._right = QStackedWidget()
        self._right.addWidget(self._detail)
        self._right.addWidget(self._note)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(side)
        row.addWidget(Line(is_upright=True))
        row.addWidget(self._right, 1)

    def action_button(self, name: str, text: str, *, kind: str = "") -> QPushButton:
        """Return a button that does an action and names its key."""
        made = button(text, lambda: self.desk.actions.trigger(name), kind=kind, tip=self.desk.actions.tip(name))
        keys = self.desk.actions.keys(name)
        if keys:
            made.setText(keyed(text, keys))
        made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        made.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        return made

    # The list

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Work through these, but for those with pictures that are in the project no more.

        The one in hand stays in hand where it is among them.
        """
        before, table = self.in_hand, self.session.state.table
        pictures = np.array([picture for row in rows for picture in row.pictures], np.int64)
        if len(table.known(pictures)) < len(pictures):
            rows = [row for row in rows if all(table.contains(picture) for picture in row.pictures)]
        self._rows, self._ids_N = rows, table.ids_N
        work = WorkList.of(rows, self.session.state.marks)
        places = [i for i, row in enumerate(rows) if row == before] if before is not None else []
        self._in_hand = places[0] if places else work.next_open(-1)
        self._list(work)

    @property
    def work(self) -> WorkList:
        """The list as it stands."""
        return self._model.work

    @property
    def in_hand(self) -> Any | None:
        """The row in hand."""
        return None if self._in_hand is None or self._in_hand >= len(self._rows) else self._rows[self._in_hand]

    def step(self, by: int) -> None:
        """Take the next listed row in hand, or the one before."""
        index = self._view.currentIndex()
        if self._model.rowCount():
            self._view.setCurrentIndex(self._model.index(min(max(0, index.row() + by), self._model.rowCount() - 1)))

    def go_on(self) -> None:
        """Take the next row in hand that is not done; to be called after the one in hand was decided."""
        work = WorkList.of(self._rows, self.session.state.marks)
        self._in_hand = work.next_open(-1 if self._in_hand is None else self._in_hand)
        self._list(work)

    def say(
        self, icon: str, title: str, text: str, action: str = "", on_press: Callable[[], object] | None = None
    ) -> None:
        """Say something instead of showing a row."""
        clear(self._note_room)
        self._note_room.addWidget(EmptyState(icon, title, text, action, on_press))
        self._right.setCurrentWidget(self._note)

    def showEvent(self, event: QShowEvent) -> None:
        """Make the picture in hand the current one, as the list comes to the front."""
        super().showEvent(event)
        if self.in_hand is not None:
            self.session.set_current(self.in_hand.pictures[0])

    def _arrived(self, _picture: int) -> None:
        self._view.viewport().update()

    def take_focus(self) -> None:
        """Let keys go to the list."""
        self._view.setFocus()

    def _follow_marks(self) -> None:
        """Draw what was decided; what was undone comes back into the hand, where the list is in front."""
        if self._is_of_another_table:
            self.set_rows(self._rows)
            return
        before, work = self._model.work, WorkList.of(self._rows, self.session.state.marks)
        if self.isVisible() and before.rows is work.rows:
            reopened = np.flatnonzero(before.is_done_R & ~work.is_done_R)
            if len(reopened):
                self._in_hand = int(reopened[0])
        self._list(work)

    @property
    def _is_of_another_table(self) -> bool:
        """Whether pictures may have gone since the rows were set: all have, where another project was opened."""
        return self.session.state.table.ids_N is not self._ids_N

    def _draw(self) -> None:
        if self._is_of_another_table:
            self.set_rows(self._rows)
        else:
            self._list(WorkList.of(self._rows, self.session.state.marks))

    def _list(self, work: WorkList) -> None:
        with_done = self.session.state.choices.find.shows_done
        if self._with_done.isChecked() != with_done:
            self._with_done.setChecked(with_done)
        self._model.show(work, with_done=with_done, in_hand=self._in_hand)
        self._progress.setMaximum(max(1, len(work)))
        self._progress.setValue(work.n_done)
        self._progress_text.setText(tr("{done} of {all} done", done=work.n_done, all=len(work)))
        index = QModelIndex()
        if self._in_hand is not None and self._in_hand in self._model.places:
            index = self._model.index(self._model.places.index(self._in_hand))
        if index != self._view.currentIndex():
            self._view.setCurrentIndex(index)
        self._show()

    def _taken(self, index: QModelIndex) -> None:
        place = self._model.places[index.row()] if index.isValid() else None
        if place is not None and place != self._in_hand:
            self._in_hand = place
            self._show()

    def _show(self) -> None:
        row = self.in_hand
        if row is not None:
            self._right.setCurrentWidget(self._detail)
            if self.isVisible():
                self.session.set_current(row.pictures[0])
        self.show_row(row)

    def _choose_with_done(self, is_on: bool) -> None:
        self.session.set_choices("find", shows_done=is_on)
