"""The bar on top of all places: which pictures are shown. Everything it does is ``Session.set_query``.

What there is to filter by, and what a query says of it, is in ``facets``.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QEvent,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QHideEvent, QKeyEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import IconButton, button, label
from dinoviz.desk import Desk
from dinoviz.facets import FACETS, Facet, Value, chosen, cleared, in_words, is_in_use, toggled, values, without
from dinoviz.session import known_of
from dinoviz.watching import follow, watch
from dinoviz.widgets.pills import WordPopup
from dinoviz.words import counted, tr

TYPING_MS = 200
"""Pause in typing after which the search is made: shorter than one notices, longer than between two letters."""
SEARCH_PX = (110, 240)
CHIP_PX = (72, 260)
NARROW_PX = 780
"""A bar this narrow has icons in the place of words where it can."""
POPUP_PX = (300, 360)
SEARCHED_FROM = 9
"""A list of so many values has a field to search in."""
_KEPT = next(facet for facet in FACETS if facet.name == "among")
_AnyIndex = QModelIndex | QPersistentModelIndex
_ON = Qt.ItemDataRole.UserRole
_COUNT = Qt.ItemDataRole.UserRole + 1


class FilterBar(QFrame):
    """Search by name, chips of what is filtered by, the number of pictures that are left."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.setProperty("kind", "bar")
        self.setAccessibleName(tr("Filter"))
        self._desk = desk
        self._session = desk.session
        self._popup: ValuesPopup | None = None
        self._typing = QTimer(self, singleShot=True, interval=TYPING_MS)
        self._typing.timeout.connect(self._take_text)
        self._build()
        watch(self, self._session, ("query", "shown", "table", "marks", "selected", "project"), self._show)
        desk.actions.bind("edit.filter", self._search.setFocus, self._has_project)
        desk.actions.bind("edit.clear_filter", self._clear, self._has_project)
        desk.actions.bind("selection.keep", self._keep_selection, lambda: len(self._session.state.selected) > 0)
        desk.actions.bind("selection.recall", lambda: self._open(_KEPT, self._add), self._has_project)
        self._show()

    def _build(self) -> None:
        self._search = QLineEdit()
        self._search.setPlaceholderText(tr("Search by name"))
        self._search.setAccessibleName(tr("Search by name or folder"))
        self._search.setToolTip(tr("Part of the file's name or of its folder's, in upper or lower case."))
        self._search.setClearButtonEnabled(True)
        self._search.setMinimumWidth(SEARCH_PX[0])
        self._search.setMaximumWidth(SEARCH_PX[1])
        self._search.textEdited.connect(lambda _text: self._typing.start())
        self._search.returnPressed.connect(self._take_text)
        self._lens = self._search.addAction(
            theme.icon("magnifying-glass", "muted"), QLineEdit.ActionPosition.LeadingPosition
        )
        follow(self, theme.changed, lambda: self._lens.setIcon(theme.icon("magnifying-glass", "muted")))
        self._add = IconButton("funnel-simple", tr("Filter by label, tag, folder, …"), text=tr("Filter"))
        self._add.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._add.setMenu(self._facets_menu())
        self._only = IconButton(
            "selection",
            tr("Only selected\nShow only the pictures that are selected now, in every place."),
            self._toggle_only,
            checkable=True,
            text=tr("Only selected"),
        )
        self._count = label("", "muted")
        self._clear_button = button(tr("Clear"), self._clear, kind="quiet", tip=tr("Show all pictures again"))
        self._chips = _ChipsRow()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, theme.SPACE, 0)
        row.setSpacing(theme.SPACE)
        row.addWidget(self._search, 1)
        row.addWidget(self._add)
        row.addWidget(self._only)
        row.addWidget(self._chips, 2)
        row.addWidget(self._count)
        row.addWidget(self._clear_button)
        controls: tuple[QWidget, ...] = (self._search, self._add, self._only, self._clear_button)
        for control in controls:
            control.setFixedHeight(theme.ROW_PX)

    def _facets_menu(self) -> QMenu:
        menu = QMenu(self)
        for facet in FACETS:
            action = menu.addAction(tr(facet.title))
            action.setToolTip(tr(facet.tip))
            action.triggered.connect(lambda _checked=False, facet=facet: self._open(facet, self._add))
        menu.setToolTipsVisible(True)

        def draw() -> None:
            for action, facet in zip(menu.actions(), FACETS, strict=True):
                action.setIcon(theme.icon(facet.icon, "muted"))

        draw()
        follow(menu, theme.changed, draw)
        return menu

    def _has_project(self) -> bool:
        return self._session.state.project is not None

    # From the session

    def _show(self) -> None:
        state = self._session.state
        if not self._typing.isActive() and self._search.text() != state.query.text:
            self._search.setText(state.query.text)
        self._show_chips()
        is_among = state.query.among is not None
        self._only.setChecked(is_among)
        self._only.setEnabled(is_among or len(state.selected) > 0)
        total = len(state.table)
        n = len(state.shown)
        self._count.setText(tr("{n} of {total}", n=n, total=total) if n != total else counted(total, tr("picture")))
        self._count.setVisible(state.project is not None)
        self._clear_button.setVisible(state.query.is_filter)

    def _show_chips(self) -> None:
        """Have one chip for each facet in use; those that stay are kept, so that none flickers or loses the focus."""
        state = self._session.state
        wanted = {facet.name: facet for facet in FACETS if is_in_use(facet, state.query)}
        for name in [name for name in self._chips.chips if name not in wanted]:
            self._chips.take_out(name)
        for name, facet in wanted.items():
            if name not in self._chips.chips:
                chip = Chip(facet)
                chip.pressed.connect(lambda facet=facet, chip=chip: self._open(facet, chip))
                chip.removed.connect(lambda facet=facet: self._set(without(facet, self._session.state.query)))
                self._chips.put_in(chip)
            self._chips.chips[name].say(in_words(facet, state.query, state.marks))
        self._chips.place()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Save room where there is little."""
        super().resizeEvent(event)
        style = Qt.ToolButtonStyle
        is_narrow = self.width() < NARROW_PX
        self._only.setToolButtonStyle(style.ToolButtonIconOnly if is_narrow else style.ToolButtonTextBesideIcon)

    # To the session

    def _set(self, query: Any) -> None:
        self._session.set_query(query)

    def _take_text(self) -> None:
        self._typing.stop()
        self._set(replace(self._session.state.query, text=self._search.text().strip()))

    def _toggle_only(self) -> None:
        state = self._session.state
        among = None if state.query.among is not None else tuple(state.selected.tolist())
        self._set(replace(state.query, among=among))

    def _clear(self) -> None:
        self._typing.stop()
        self._set(cleared(self._session.state.query))

    def _keep_selection(self) -> None:
        """Ask for a name for what is selected."""
        state = self._session.state
        n = counted(len(state.selected), tr("picture"))
        popup = WordPopup(tr("Keep {pictures} under a name", pictures=n), state.marks.selections, self)
        popup.given.connect(self._session.save_selection)
        popup.open_over(self.window())

    def _open(self, facet: Facet, below: QWidget) -> None:
        """Show the values of a facet to choose from."""
        if self._popup is not None:
            self._popup.close()
        self._popup = popup = ValuesPopup(facet, self._none_in_words(facet), self)
        popup.chosen.connect(lambda value: self._set(toggled(facet, self._session.state.query, value)))
        popup.closed.connect(lambda: self._popup_closed(popup))
        popup.forgotten.connect(lambda name: self._forget(popup, name))
        self._fill(popup)
        popup.open_below(below)

    def _none_in_words(self, facet: Facet) -> str:
        """Return how to come by values of a facet that has none yet."""
        keys = self._desk.actions.keys
        match facet.name:
            case "tags":
                return tr("No tags yet. Select pictures in the Library and press {keys}.", keys=keys("library.tag"))
            case "among":
                return tr("Nothing kept yet. Select pictures and press {keys}.", keys=keys("selection.keep"))
            case "clusters":
                return tr("No clusters yet. They are made in Map, from features.")
        return tr("Nothing to choose from.")

    def _forget(self, popup: "ValuesPopup", name: str) -> None:
        """Forget a selection that was kept; undo brings it back."""
        if popup.facet is _KEPT:
            self._session.drop_selection(name)
            self._fill(popup)

    def _popup_closed(self, popup: "ValuesPopup") -> None:
        if self._popup is popup:
            self._popup = None

    def _fill(self, popup: "ValuesPopup") -> None:
        state = self._session.state
        facet = popup.facet

        def then(found: list[Value]) -> None:
            if self._popup is popup:
                popup.show_values(found)

        popup.show_chosen(lambda: chosen(facet, self._session.state.query))
        self._desk.background(
            "filter values",
            lambda: values(facet, state.query, state.table, state.marks, known_of(state, with_clusters=True)),
            then,
        )


class _ChipsRow(QWidget):
    """Chips side by side in one line; where they have too little room, each gives up some of its words."""

    def __init__(self) -> None:
        super().__init__()
        self.chips: dict[str, Chip] = {}
        self.setMinimumHeight(theme.ROW_PX)

    def put_in(self, chip: "Chip") -> None:
        chip.setParent(self)
        chip.show()
        self.chips[chip.facet.name] = chip

    def take_out(self, name: str) -> None:
        chip = self.chips.pop(name)
        chip.hide()
        chip.deleteLater()

    def place(self) -> None:
        """Give every chip its place, and the widest ones less than they ask for until all fit."""
        wanted = {name: min(chip.sizeHint().width(), CHIP_PX[1]) for name, chip in self.chips.items()}
        room = self.width() - theme.SPACE_S * max(0, len(wanted) - 1)
        most = CHIP_PX[1]
        while sum(min(width, most) for width in wanted.values()) > room and most > CHIP_PX[0]:
            most -= 4
        left = 0
        for name, chip in self.chips.items():
            width = min(wanted[name], most)
            chip.setGeometry(left, (self.height() - theme.ROW_PX) // 2, width, theme.ROW_PX)
            left += width + theme.SPACE_S

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.place()


class Chip(QFrame):
    """What is filtered by, and a cross to stop it.

    Signals:
        pressed: the person wants to change the values.
        removed: the person wants to be rid of it.
    """

    pressed = Signal()
    removed = Signal()
    _BESIDE_PX = 66  # icon, cross and the room around them

    def __init__(self, facet: Facet) -> None:
        super().__init__()
        self.facet = facet
        self._whole = ""
        self.setProperty("kind", "card")
        self._text = QToolButton()
        self._text.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._text.setIconSize(QSize(14, 14))
        self._text.clicked.connect(self.pressed)
        self._cross = IconButton("x", tr("Do not filter by this"), self.removed.emit)
        self._cross.setIconSize(QSize(12, 12))
        self._cross.setAccessibleName(tr("Do not filter by {what}", what=tr(facet.title).lower()))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self._text, 1)
        row.addWidget(self._cross)
        self.setFixedHeight(theme.ROW_PX)
        self._draw()
        follow(self, theme.changed, self._draw)

    def say(self, text: str) -> None:
        """Write what is asked for."""
        self._whole = text
        named = f"{tr(self.facet.title)}: {text}"
        self._text.setToolTip(named)
        self._text.setAccessibleName(named)
        self._fit()

    def sizeHint(self) -> QSize:
        """Ask for room for all its words."""
        self._text.ensurePolished()  # before that its font is another one
        words = self._text.fontMetrics().horizontalAdvance(f" {self._whole}")
        return QSize(words + self._BESIDE_PX + 2, theme.ROW_PX)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten the words where there is less room."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        room = max(0, self.width() - self._BESIDE_PX)
        shown = self._text.fontMetrics().elidedText(f" {self._whole}", Qt.TextElideMode.ElideRight, room)
        if self._text.text() != shown:
            self._text.setText(shown)

    def _draw(self) -> None:
        self._text.setIcon(theme.icon(self.facet.icon, "accent"))


class ValuesPopup(QFrame):
    """A list of values with their counts, to tick; a field to search in where it is long.

    Signals:
        chosen: the value that was ticked or unticked.
        closed: it is not seen any more.
        forgotten: text of the value on which Delete was pressed.
    """

    chosen = Signal(object)
    closed = Signal()
    forgotten = Signal(str)

    def __init__(self, facet: Facet, none: str, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.facet = facet
        self._none_text = none
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setProperty("kind", "card")
        self._search = QLineEdit()
        self._search.setPlaceholderText(tr("Search"))
        self._search.setAccessibleName(tr("Search in this list"))
        self._search.textChanged.connect(self._filter)
        self._search.installEventFilter(self)
        self._search.hide()
        self._model = _ValuesModel(self)
        self._list = QListView()
        self._list.setProperty("kind", "plain")
        self._list.setUniformItemSizes(True)
        self._list.setAccessibleName(tr(facet.title))
        self._list.setModel(self._model)
        self._list.setItemDelegate(_ValueDelegate(self._list, has_many=facet.has_many))
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.clicked.connect(self._take)
        self._list.installEventFilter(self)
        self._list.hide()
        self._none = QLabel(tr("Counting…"))
        self._none.setProperty("kind", "muted")
        self._none.setWordWrap(True)
        column = self._column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE)
        column.addWidget(label(tr(facet.tip), "small", wraps=True))
        column.addWidget(self._search)
        column.addWidget(self._list, 1)
        column.addWidget(self._none)
        self.setFixedWidth(POPUP_PX[0])
        self.setAccessibleName(tr(facet.title))

    def open_below(self, widget: QWidget) -> None:
        """Show it under a widget, within the screen."""
        self._below = widget.mapToGlobal(QPoint(0, widget.height() + theme.SPACE_S))
        self._fit()
        self.show()
        (self._search if self._search.isVisibleTo(self) else self._list).setFocus()

    def show_chosen(self, is_on: Callable[[], tuple[Any, ...]]) -> None:
        """Say how to learn which values are ticked."""
        self._model.chosen = is_on

    def show_values(self, found: list[Value]) -> None:
        """Show the values, those that are ticked or frequent first where there are many."""
        on = self._model.chosen()
        if len(found) >= SEARCHED_FROM and self.facet.has_many:
            found = sorted(found, key=lambda value: (value.value not in on, -value.count))
        self._model.set_values(found)
        self._search.setVisible(len(found) >= SEARCHED_FROM)
        self._list.setVisible(bool(found))
        self._none.setVisible(not found)
        self._none.setText(self._none_text)
        rows = min(len(found), (POPUP_PX[1] - 80) // theme.ROW_PX)
        self._list.setFixedHeight(rows * theme.ROW_PX + 2)
        if found:
            self._list.setCurrentIndex(self._model.index(0))
        self._fit()
        (self._search if self._search.isVisibleTo(self) else self._list).setFocus()

    def hideEvent(self, event: QHideEvent) -> None:
        """Tell that it closed, however that came."""
        super().hideEvent(event)
        self.closed.emit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the arrows go from the field to the list, and Enter and Space tick what is marked in the list."""
        if event.type() == QEvent.Type.KeyPress:
            assert isinstance(event, QKeyEvent)
            key = event.key()
            is_space_in_list = key == Qt.Key.Key_Space and watched is self._list
            if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) or is_space_in_list:
                self._take(self._list.currentIndex())
                return True
            if watched is self._list and key == Qt.Key.Key_Delete and self._list.currentIndex().isValid():
                self.forgotten.emit(self._model.value_at(self._list.currentIndex()).text)
                return True
            if watched is self._search and key in (Qt.Key.Key_Down, Qt.Key.Key_Up):
                self._list.setFocus()
                return False
        return super().eventFilter(watched, event)

    def _fit(self) -> None:
        self._column.activate()
        self.adjustSize()
        place = QRect(self._below, self.size())
        room = self.screen().availableGeometry()
        place.moveRight(min(place.right(), room.right() - theme.SPACE))
        place.moveBottom(min(place.bottom(), room.bottom() - theme.SPACE))
        self.move(place.topLeft())

    def _filter(self, text: str) -> None:
        self._model.set_filter(text)
        if self._model.rowCount():
            self._list.setCurrentIndex(self._model.index(0))

    def _take(self, index: QModelIndex) -> None:
        if not index.isValid():
            return
        self.chosen.emit(self._model.value_at(index).value)
        self._model.redraw()
        if not self.facet.has_many:
            self.close()


class _ValuesModel(QAbstractListModel):
    """Values that match what is searched for."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._all: list[Value] = []
        self._shown: list[Value] = []
        self._filter = ""
        self.chosen: Callable[[], tuple[Any, ...]] = tuple

    def set_values(self, found: list[Value]) -> None:
        self._all = found
        self.set_filter(self._filter)

    def set_filter(self, text: str) -> None:
        self.beginResetModel()
        self._filter = text
        wanted = text.casefold()
        self._shown = [value for value in self._all if wanted in value.text.casefold()]
        self.endResetModel()

    def value_at(self, index: _AnyIndex) -> Value:
        return self._shown[index.row()]

    def redraw(self) -> None:
        self.dataChanged.emit(self.index(0), self.index(self.rowCount() - 1))

    def rowCount(self, parent: _AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def data(self, index: _AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        value = self._shown[index.row()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.ToolTipRole:
                return value.text
            case Qt.ItemDataRole.AccessibleTextRole:
                is_on = tr("ticked") if value.value in self.chosen() else tr("not ticked")
                return f"{value.text}, {counted(value.count, tr('picture'))}, {is_on}"
            case int() if role == _ON:
                return value.value in self.chosen()
            case int() if role == _COUNT:
                return f"{value.count:,}"
        return None


class _ValueDelegate(QStyledItemDelegate):
    """A tick, the value, and the number of pictures on the right."""

    def __init__(self, parent: QObject, *, has_many: bool) -> None:
        super().__init__(parent)
        self._has_many = has_many

    def sizeHint(self, _option: QStyleOptionViewItem, _index: _AnyIndex) -> QSize:
        return QSize(POPUP_PX[0] // 2, theme.ROW_PX)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: _AnyIndex) -> None:
        c = theme.colours()
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        is_marked = bool(option.state & QStyle.StateFlag.State_Selected)
        if is_marked or option.state & QStyle.StateFlag.State_MouseOver:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(c.accent_soft if is_marked else c.window)
            painter.drawRoundedRect(option.rect.adjusted(0, 1, 0, -1), theme.RADIUS, theme.RADIUS)
        self._tick(painter, option.rect, is_on=bool(index.data(_ON)))
        count = str(index.data(_COUNT))
        painter.setFont(theme.font("number"))
        painter.setPen(c.muted)
        inside = option.rect.adjusted(30, 0, -theme.SPACE, 0)
        vertical = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(inside, Qt.AlignmentFlag.AlignRight | vertical, count)
        room = inside.width() - painter.fontMetrics().horizontalAdvance(count) - theme.SPACE
        painter.setFont(theme.font("body"))
        painter.setPen(c.text if count != "0" else c.muted)
        text = painter.fontMetrics().elidedText(str(index.data()), Qt.TextElideMode.ElideMiddle, room)
        painter.drawText(inside, Qt.AlignmentFlag.AlignLeft | vertical, text)
        painter.restore()

    def _tick(self, painter: QPainter, row: QRect, *, is_on: bool) -> None:
        c = theme.colours()
        box = QRect(row.left() + 7, row.center().y() - 7, 15, 15)
        painter.setPen(c.accent if is_on else c.faint)
        painter.setBrush(c.accent if is_on else Qt.BrushStyle.NoBrush)
        radius = 3 if self._has_many else 7
        painter.drawRoundedRect(box, radius, radius)
        if is_on:
            theme.icon("check", "accent_text").paint(painter, box.adjusted(2, 2, -1, -1))
