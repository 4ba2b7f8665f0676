"""Library: all pictures of the project as a grid, to sort, choose, rate, tag and leave out; and what cannot be read."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, QSize, Qt
from PySide6.QtGui import QActionGroup, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QSlider,
    QStackedWidget,
    QTableView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import EmptyState, IconButton, button, label
from dinoviz.desk import Desk
from dinoviz.facets import EMPTY, cleared
from dinoviz.query import Sort
from dinoviz.session import State
from dinoviz.table import Ids, PictureTable, no_ids
from dinoviz.watching import follow, watch
from dinoviz.widgets.picture.grid import LARGEST_PX, SMALLEST_PX, STEP_PX, PictureGrid
from dinoviz.widgets.pills import WordPopup
from dinoviz.words import counted, date_in_words, tr
from engine.marks import MOST_STARS
from engine.quantities import size_in_words

SLIDER_PX = 140
SORTS: dict[Sort, str] = {
    "name": "Name",
    "folder": "Folder",
    "label": "Label",
    "rating": "Rating",
    "date": "Date of the file",
    "size": "Size of the file",
    "pixels": "Pixels",
    "similarity": "Similarity to the current picture",
}
CAPTIONS = {"auto": "By the order", "name": "Name", "label": "Label", "none": "Nothing"}
LARGEST_FIRST: frozenset[Sort] = frozenset({"rating", "date", "size", "pixels"})
"""Orders of which one wants to see the large end first."""


class LibraryView(QWidget):
    """The place where one is among one's pictures."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._empty_reason = ""
        self._grid = PictureGrid(desk, key="library")
        self._grid.set_menu(self._menu)
        self._grid.activated.connect(lambda _picture: desk.actions.trigger("picture.look"))
        self._grid.side_changed.connect(self._keep_side)
        self._unreadable = UnreadableList(desk, self._retry)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._grid)
        self._stack.addWidget(self._unreadable)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._bar())
        column.addWidget(self._stack, 1)
        self.setFocusProxy(self._grid)
        self._bind()
        watch(self, self._session, ("shown", "table", "marks", "project", "is_reading", "jobs"), self._show_pictures)
        watch(self, self._session, ("shown", "selected", "table", "marks"), self._show_counts)
        watch(self, self._session, ("query",), self._show_order)
        watch(self, self._session, ("choices.library", "query", "table"), self._show_choices)
        follow(self, theme.changed, self._show_order)
        self._show_order()
        self._show_choices()
        self._show_pictures()
        self._show_counts()

    def showEvent(self, event: QShowEvent) -> None:
        """Let keys go to the pictures."""
        super().showEvent(event)
        self._grid.setFocus()

    # The bar above the pictures

    def _bar(self) -> QFrame:
        bar = QFrame()
        bar.setProperty("kind", "bar")
        self._unseen = label("", "muted")
        self._bad = button("", self._show_unreadable, kind="link", tip=tr("Show them, each with the reason."))
        self._sort = QToolButton()
        self._sort.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._sort.setMenu(self._sort_menu())
        self._sort.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._sort.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the arrow stands behind the text
        self._sort.setIconSize(QSize(12, 12))
        self._sort.setToolTip(tr("What the pictures are ordered by, here and wherever one steps through them."))
        self._turn = IconButton("sort-ascending", tr("Turn the order around"), self._turn_around)
        self._caption = IconButton("text-t", tr("What is written under the pictures"))
        self._caption.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._caption.setMenu(self._caption_menu())
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(SMALLEST_PX // STEP_PX, LARGEST_PX // STEP_PX)
        self._slider.setFixedWidth(SLIDER_PX)
        self._slider.setAccessibleName(tr("Size of the pictures"))
        self._slider.setToolTip(tr("Size of the pictures. Ctrl and the mouse wheel do the same."))
        self._slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._slider.valueChanged.connect(lambda steps: self._grid.set_side(steps * STEP_PX))
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE_L - 4, 0, theme.SPACE_L - 4, theme.SPACE_S)
        row.setSpacing(theme.SPACE_S)
        row.addWidget(label(tr("Order"), "muted"))
        for choice in (self._sort, self._turn, self._caption):
            row.addWidget(choice)
        row.addSpacing(theme.SPACE)
        row.addWidget(self._bad)
        row.addWidget(self._unseen)
        row.addStretch(1)
        row.addWidget(self._desk.actions.button("library.smaller"))
        row.addWidget(self._slider)
        row.addWidget(self._desk.actions.button("library.larger"))
        return bar

    def _sort_menu(self) -> QMenu:
        menu = QMenu(self)
        self._sorts = QActionGroup(menu)
        for sort, text in SORTS.items():
            action = menu.addAction(tr(text))
            action.setCheckable(True)
            action.setData(sort)
            action.triggered.connect(lambda _checked=False, sort=sort: self._sort_by(sort))
            self._sorts.addAction(action)
        menu.aboutToShow.connect(self._show_possible_orders)
        return menu

    def _show_possible_orders(self) -> None:
        state = self._session.state
        for action in self._sorts.actions():
            is_possible = action.data() != "similarity" or (state.set_row is not None and state.current is not None)
            action.setEnabled(is_possible)

    def _caption_menu(self) -> QMenu:
        menu = QMenu(self)
        self._captions = QActionGroup(menu)
        for caption, text in CAPTIONS.items():
            action = menu.addAction(tr(text))
            action.setCheckable(True)
            action.setData(caption)
            action.triggered.connect(lambda _checked=False, caption=caption: self._choose(caption=caption))
            self._captions.addAction(action)
        return menu

    # What can be done

    def _bind(self) -> None:
        actions = self._desk.actions
        actions.bind("library.larger", lambda: self._grid.zoom(1), self._has_pictures)
        actions.bind("library.smaller", lambda: self._grid.zoom(-1), self._has_pictures)
        actions.bind("library.tag", lambda: self._ask_word("tag"), self._has_meant)
        actions.bind("library.label", lambda: self._ask_word("label"), self._has_meant)
        actions.bind("library.unreadable", self._show_unreadable, self._has_pictures)
        actions.bind("library.left_out", self._show_left_out, self._has_pictures)
        actions.bind("library.retry", self._retry, self._has_pictures)
        actions.bind("library.like", lambda: self._sort_by("similarity"), self._can_sort_by_likeness)

    def _has_pictures(self) -> bool:
        return len(self._session.state.table) > 0

    def _has_meant(self) -> bool:
        return len(self._session.state.meant()) > 0

    def _can_sort_by_likeness(self) -> bool:
        return self._session.state.current is not None and self._session.state.set_row is not None

    def _sort_by(self, sort: Sort) -> None:
        state = self._session.state
        like = state.current if sort == "similarity" else None
        self._session.set_query(replace(state.query, sort=sort, like=like, descending=sort in LARGEST_FIRST))

    def _turn_around(self) -> None:
        query = self._session.state.query
        self._session.set_query(replace(query, descending=not query.descending))

    def _choose(self, **choices: Any) -> None:
        self._session.set_choices("library", **choices)

    def _keep_side(self, side: int) -> None:
        self._choose(side_px=side)

    def _show_unreadable(self) -> None:
        query = cleared(self._session.state.query)
        self._session.go("library")
        self._session.set_query(replace(query, problem="unreadable"))

    def _show_left_out(self) -> None:
        query = cleared(self._session.state.query)
        self._session.go("library")
        self._session.set_query(replace(query, is_hidden=True, problem="all"))

    def _retry(self) -> None:
        """Scan again: files that could not be read are tried anew, those that did not change are left alone."""
        state = self._session.state
        if state.pictures_folder is not None and state.project is not None:
            argv = ["scan", str(state.pictures_folder), "--project", str(state.project)]
            self._desk.jobs.start(argv, tr("Try unreadable files again"))

    def _menu(self) -> QMenu:
        """Return the menu of what can be done with the pictures that are meant."""
        menu = QMenu(self)
        rows: tuple[str, ...] = ("picture.look", "picture.similar", "library.like", "", "library.tag", "library.label")
        self._add_rows(menu, rows)
        stars = menu.addMenu(tr("Rate"))
        self._add_rows(stars, [f"picture.rate_{n}" for n in range(MOST_STARS, -1, -1)])
        hide = "picture.restore" if self._session.state.query.is_hidden else "picture.hide"
        rows = ("", "picture.copy", "picture.copy_path", "picture.reveal", "", "selection.keep", hide)
        self._add_rows(menu, rows)
        export = menu.addMenu(tr("Export"))
        self._add_rows(export, ("export.embeddings", "export.masks"))
        return menu

    def _add_rows(self, menu: QMenu, names: tuple[str, ...] | list[str]) -> None:
        for name in names:
            if not name:
                menu.addSeparator()
                continue
            action = self._desk.actions.qaction(name)
            action.setEnabled(self._desk.actions.can(name))
            menu.aboutToHide.connect(partial(action.setEnabled, True))  # or else its shortcut stays off
            menu.addAction(action)

    def _ask_word(self, what: str) -> None:
        """Let the person type a tag or a label, over the pictures it is for."""
        state = self._session.state
        ids = state.meant()
        n = counted(len(ids), tr("picture"))
        if what == "tag":
            popup = WordPopup(tr("Tag {pictures}", pictures=n), state.marks.tags, self)
            popup.given.connect(lambda word: self._session.tag(ids, word))
        else:
            popup = WordPopup(tr("Label {pictures}", pictures=n), state.table.label.words, self)
            popup.given.connect(lambda word: self._session.label(ids, word))
        popup.open_over(self._stack)

    # From the session

    def _show_order(self) -> None:
        query = self._session.state.query
        for action in self._sorts.actions():
            action.setChecked(action.data() == query.sort)
        text = tr(SORTS[query.sort])
        if query.sort == "similarity" and query.like is not None and self._session.state.table.contains(query.like):
            text = tr("Similarity to {name}", name=self._session.state.table.name(query.like))
        self._sort.setText(self._sort.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, 220))
        self._sort.setAccessibleName(tr("Order: {order}", order=text))
        self._sort.setIcon(theme.icon("caret-down", "muted"))
        self._turn.setIcon(theme.icon("sort-descending" if query.descending else "sort-ascending"))
        self._turn.setToolTip(tr("Largest or last first") if query.descending else tr("Smallest or first first"))

    def _show_choices(self) -> None:
        state = self._session.state
        choices = state.choices.library
        self._grid.set_side(choices.side_px)
        self._slider.setValue(self._grid.side // STEP_PX)
        for action in self._captions.actions():
            action.setChecked(action.data() == choices.caption)
        self._grid.set_captions(self._caption_of(state))

    def _caption_of(self, state: State) -> Callable[[int], str | None] | None:
        """Return what is written under pictures: what they are ordered by says most where nothing else is chosen."""
        chosen = state.choices.library.caption
        if chosen == "auto":
            chosen = {
                "name": "label" if state.table.label.words else "name",
                "similarity": "label",
                "rating": "name",
            }.get(state.query.sort, state.query.sort)
        return None if chosen == "none" else lambda picture: _caption(chosen, self._session.state.table, picture)

    def _show_pictures(self) -> None:
        state = self._session.state
        is_unreadable = state.query.problem == "unreadable" and len(state.shown) > 0
        self._stack.setCurrentWidget(self._unreadable if is_unreadable else self._grid)
        self._unreadable.set_ids(state.shown if is_unreadable else no_ids())
        self._grid.set_ids(state.shown)
        if not len(state.shown):
            self._say_why_empty(state)

    def _show_counts(self) -> None:
        state = self._session.state
        n_unseen = _n_unseen(state)
        self._unseen.setVisible(n_unseen > 0)
        self._unseen.setText(tr("{n} selected outside the filter", n=n_unseen))
        n_bad = int((state.table.problem.codes_N >= 0).sum())
        self._bad.setVisible(n_bad > 0 and state.query.problem == "readable")
        self._bad.setText(tr("{files} cannot be read", files=counted(n_bad, tr("file"))))

    def _say_why_empty(self, state: State) -> None:
        reason = _why_empty(state)
        if reason == self._empty_reason:
            return
        self._empty_reason = reason
        self._grid.set_empty(self._empty_state(reason))

    def _empty_state(self, reason: str) -> EmptyState | None:
        do = self._desk.actions.trigger
        match reason:
            case "project":
                return EmptyState(
                    "images",
                    tr("No project is open"),
                    tr("Open a folder of pictures. They stay where they are and are never changed."),
                    tr("Open folder…"),
                    lambda: do("file.open"),
                )
            case "reading":
                return EmptyState("images", tr("Opening…"), tr("The list of pictures is being read."))
            case "scanning":
                return EmptyState(
                    "scan", tr("Looking for pictures…"), tr("The first ones appear here as soon as they are found.")
                )
            case "none":
                return EmptyState(
                    "images",
                    tr("No pictures in this folder"),
                    tr("None was found in it or in the folders below it. Put some there, and look again."),
                    tr("Look again"),
                    lambda: do("file.rescan"),
                )
            case "readable":
                return EmptyState(
                    "check-circle",
                    tr("Every file can be read"),
                    tr("Files that cannot be read are listed here, each with the reason."),
                    tr("Show all pictures"),
                    lambda: self._session.set_query(cleared(self._session.state.query)),
                )
            case "kept":
                return EmptyState(
                    "eye-slash",
                    tr("Nothing was left out"),
                    tr("Pictures that you leave out of the project (Delete) are kept here; their files stay."),
                    tr("Show all pictures"),
                    lambda: self._session.set_query(cleared(self._session.state.query)),
                )
            case "broken":
                return EmptyState(
                    "warning",
                    tr("None of the files can be read"),
                    tr("They are listed with the reason of each."),
                    tr("Show the list"),
                    lambda: do("library.unreadable"),
                )
        return EmptyState(
            "funnel",
            tr("No picture matches the filter"),
            tr("Take away one of its conditions in the bar above, or all of them."),
            tr("Clear the filter"),
            lambda: self._session.set_query(cleared(self._session.state.query)),
        )


def _n_unseen(state: State) -> int:
    """Return how many of the selected pictures one does not see for the filter."""
    if not state.query.is_filter or not len(state.selected):
        return 0
    return int((~state.table.flags(state.shown)[state.selected]).sum())


def _why_empty(state: State) -> str:
    """Return why no picture is shown."""
    if state.project is None:
        return "project"
    if state.is_reading:
        return "reading"
    if not len(state.table):
        is_scanning = any(job.argv[:1] == ("scan",) and not job.is_over for job in state.jobs)
        return "scanning" if is_scanning else "none"
    rest = cleared(state.query)
    if state.query == replace(rest, problem="unreadable"):
        return "readable"
    if state.query.is_hidden and replace(state.query, is_hidden=False, problem=EMPTY.problem) == rest:
        return "kept"
    if not state.query.is_filter and (state.table.problem.codes_N >= 0).all():
        return "broken"
    return "filter"


def _caption(kind: str, table: PictureTable, picture: int) -> str | None:
    """Return one line on a picture."""
    if not table.contains(picture):
        return None
    row = table.row_of(picture)
    match kind:
        case "label":
            return table.label.word(row) or table.name(picture)
        case "folder":
            return table.sub_folder.word(row)
        case "size":
            return size_in_words(int(table.sizes_N[row]))
        case "pixels":
            return f"{table.widths_N[row]:,} \N{MULTIPLICATION SIGN} {table.heights_N[row]:,}"
        case "date":
            return date_in_words(table.mtimes_N[row] / 1e9)
    return table.name(picture)


_AnyIndex = QModelIndex | QPersistentModelIndex


class UnreadableList(QWidget):
    """The files that cannot be read, each with its reason, and what can be done about them."""

    def __init__(self, desk: Desk, on_retry: Callable[[], object]) -> None:
        super().__init__()
        self._session = desk.session
        self._model = _UnreadableModel(self)
        self._title = label("", "heading")
        self._table = QTableView()
        self._table.setModel(self._model)
        self._table.setProperty("kind", "plain")
        self._table.setAccessibleName(tr("Files that cannot be read"))
        self._table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setShowGrid(False)
        self._table.setWordWrap(False)
        self._table.verticalHeader().hide()
        self._table.verticalHeader().setDefaultSectionSize(theme.ROW_PX)
        header = self._table.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setStretchLastSection(True)
        for column, width in enumerate(_UnreadableModel.WIDTHS_PX):
            self._table.setColumnWidth(column, width)
        self._table.selectionModel().selectionChanged.connect(self._select)
        self._table.setTabKeyNavigation(False)
        retry = button(tr("Try again"), on_retry, kind="primary", tip=tr("After you mended or replaced them"))
        hide = desk.actions.button("picture.hide", with_text=True)
        reveal = desk.actions.button("picture.reveal", with_text=True)
        top = QHBoxLayout()
        top.addWidget(self._title, 1)
        for part in (reveal, hide, retry):
            top.addWidget(part)
        text = tr("They take no part in anything, and nothing else is held up by them. The files were not changed.")
        column_layout = QVBoxLayout(self)
        column_layout.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE)
        column_layout.setSpacing(theme.SPACE)
        column_layout.addLayout(top)
        column_layout.addWidget(label(text, "muted", wraps=True))
        column_layout.addWidget(self._table, 1)

    def set_ids(self, ids: Ids) -> None:
        """List these pictures."""
        self._title.setText(tr("{files} cannot be read", files=counted(len(ids), tr("file"))))
        self._model.set_ids(ids, self._session.state.table)

    def _select(self) -> None:
        """Make the rows that are marked the selection, so that every action is about them."""
        rows = sorted(index.row() for index in self._table.selectionModel().selectedRows())
        ids = self._model.ids[rows]
        if len(ids):
            self._session.select(ids)
            self._session.set_current(int(ids[0]))


class _UnreadableModel(QAbstractTableModel):
    """Name, reason, folder and size of files; rows are made when they are seen."""

    WIDTHS_PX = (260, 280, 260, 90)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.ids: Ids = no_ids()
        self._table = PictureTable()

    def set_ids(self, ids: Ids, table: PictureTable) -> None:
        if ids is self.ids and table is self._table:
            return
        self.beginResetModel()
        self.ids, self._table = ids, table
        self.endResetModel()

    def rowCount(self, parent: _AnyIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.ids)

    def columnCount(self, _parent: _AnyIndex | None = None) -> int:
        return len(self.WIDTHS_PX)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return (tr("File"), tr("Why"), tr("Folder"), tr("Size"))[section]
        return None

    def data(self, index: _AnyIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        picture = int(self.ids[index.row()])
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole) or not self._table.contains(picture):
            return None
        row = self._table.row_of(picture)
        match index.column():
            case 0:
                return self._table.name(picture)
            case 1:
                return self._table.problem.word(row)
            case 2:
                return self._table.sub_folder.word(row)
        return size_in_words(int(self._table.sizes_N[row]))
