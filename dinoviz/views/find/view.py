"""Find: search by pictures and by parts; copies, outliers and doubtful labels to work through; what is typical."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLineEdit, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import EmptyState, IconButton, Line, Segmented, label
from dinoviz.desk import Desk
from dinoviz.views.find.doubts import LabelsPanel, OutliersPanel
from dinoviz.views.find.duplicates import DuplicatesPanel
from dinoviz.views.find.lists import Lists, read_lists, stamp_of
from dinoviz.views.find.search import SearchPanel
from dinoviz.views.find.typical import TypicalRows
from dinoviz.views.find.work_panel import WorkPanel
from dinoviz.watching import watch
from dinoviz.words import tr
from engine.errors import UserError

PARTS = (
    ("search", "Search"),
    ("duplicates", "Copies"),
    ("outliers", "Outliers"),
    ("labels", "Doubtful labels"),
    ("typical", "Typical"),
)
KEYS = 9


class FindView(QWidget):
    """The five parts of Find, of which one is in front."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._lists: Lists | None = None
        self._stamp: tuple[Any, ...] | None = None
        self._build()
        self._bind()
        watch(self, self._session, ("choices.find",), self._draw)
        watch(self, self._session, ("project", "set", "sets", "jobs", "table"), self._read)
        self._read()
        self._draw()

    # Layout

    def _build(self) -> None:
        desk = self._desk
        self._parts = Segmented([(name, tr(text)) for name, text in PARTS], self._choose, tr("What to find"))
        self._about = label("", "small")
        self._again = IconButton("arrow-clockwise", desk.actions.tip("find.look_again"), self.look_again)
        self._export = desk.actions.button("export.labels", with_text=True)
        bar = QWidget()
        bar.setProperty("kind", "panel")
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE)
        row.setSpacing(theme.SPACE)
        row.addWidget(self._parts)
        row.addStretch()
        row.addWidget(self._about)
        row.addWidget(self._export)
        row.addWidget(self._again)
        self._search = SearchPanel(desk)
        self._work: dict[str, WorkPanel] = {
            "duplicates": DuplicatesPanel(desk),
            "outliers": OutliersPanel(desk),
            "labels": LabelsPanel(desk),
        }
        self._typical = TypicalRows(desk)
        self._empty = QWidget()
        self._empty_room = QVBoxLayout(self._empty)
        self._empty_key: object = None
        self._stack = QStackedWidget()
        for part in (self._search, *self._work.values(), self._typical, self._empty):
            self._stack.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(bar)
        column.addWidget(Line())
        column.addWidget(self._stack, 1)

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        bind("find.next", lambda: self._do(lambda panel: panel.step(1)), lambda: self._panel() is not None)
        bind("find.previous", lambda: self._do(lambda panel: panel.step(-1)), lambda: self._panel() is not None)
        doings: dict[str, Callable[[WorkPanel], object]] = {
            "fine": lambda panel: panel.fine(),
            "accept": lambda panel: panel.accept(),
            "leave_out": lambda panel: panel.leave_out(),
            "other_label": lambda panel: panel.other_label(),
        }
        for what, doing in doings.items():
            bind(f"find.{what}", partial(self._do, doing), partial(self._can, what))
        for number in range(KEYS):
            bind(f"find.keep_{number + 1}", partial(self._keep, number), partial(self._can, "keep"))
        for name, _ in PARTS:
            bind(f"find.{name}", partial(self._choose, name), lambda: self._session.state.project is not None)
        bind("find.look_again", self.look_again, lambda: self._session.state.set_row is not None)

    # What the person does

    def _choose(self, part: str) -> None:
        self._session.set_choices("find", part=part)

    def _panel(self) -> WorkPanel | None:
        """Return the list in front, where it is one to work through."""
        shown = self._stack.currentWidget()
        return shown if isinstance(shown, WorkPanel) else None

    def _can(self, what: str) -> bool:
        panel = self._panel()
        # Keys of letters never get here from a field that is typed in; Enter does.
        is_typing = isinstance(QApplication.focusWidget(), QLineEdit)
        return panel is not None and not is_typing and panel.can(what)

    def _keep(self, number: int) -> None:
        self._do(lambda panel: panel.keep(number))

    def _do(self, what: Callable[[WorkPanel], object]) -> None:
        panel = self._panel()
        if panel is not None:
            what(panel)

    def look_again(self) -> None:
        """Look for copies, outliers and doubtful labels anew."""
        state = self._session.state
        if state.project is None or state.set is None or self._is_looking():
            return
        common = [str(state.project), "--set", str(state.set)]
        if state.choices.find.part == "duplicates":
            self._desk.jobs.start(["duplicates", *common], tr("Look for copies"))
        else:
            self._desk.jobs.start(["oddities", *common], tr("Look for outliers and doubtful labels"))
        self._draw()

    def _is_looking(self) -> bool:
        verb = "duplicates" if self._session.state.choices.find.part == "duplicates" else "oddities"
        return any(job.argv[:1] == (verb,) and not job.is_over for job in self._session.state.jobs)

    # What there is

    def _read(self) -> None:
        """Read the lists of the set again, where they were made anew."""
        row = self._session.state.set_row
        if row is None:
            self._desk.background.forget("find.lists")
            self._forget()
            return
        folder, table, before = row.folder, self._session.state.table, self._stamp

        def work() -> tuple[tuple[Any, ...], Lists | None]:
            stamp = (folder, stamp_of(folder), table.ids_N)
            is_same = before is not None and stamp[:2] == before[:2] and np.array_equal(stamp[2], before[2])
            return stamp, None if is_same else read_lists(folder, table)

        self._desk.background.run("find.lists", work, lambda read: self._take(*read), self._cannot_read)

    def _take(self, stamp: tuple[Any, ...], lists: Lists | None) -> None:
        if lists is not None:
            self._stamp, self._lists = stamp, lists
            self._show_lists()
        self._draw()

    def _forget(self) -> None:
        """Show no lists: there are none, or they are of a project that was closed."""
        if self._lists is not None:
            self._lists, self._stamp = None, None
            self._show_lists()
        self._draw()

    def _show_lists(self) -> None:
        lists = self._lists
        for panel in self._work.values():
            panel.set_lists(lists)
        self._typical.set_rows(lists.oddities.prototypes if lists and lists.oddities else ())

    def _cannot_read(self, problem: Exception) -> None:
        if not isinstance(problem, UserError):
            raise problem
        self._forget()

    # What is drawn

    def _draw(self) -> None:
        part = self._session.state.choices.find.part
        self._parts.set_value(part)
        is_list = part != "search"
        self._again.setVisible(is_list)
        self._export.setVisible(part == "labels")
        self._about.setText(self._about_text(part))
        if not is_list:
            self._front(self._search)
        elif self._is_missing(part):
            self._say_missing(part)
        elif part == "typical":
            self._front(self._typical)
        else:
            self._front(self._work[part])

    def _front(self, widget: QWidget) -> None:
        if self._stack.currentWidget() is not widget:
            self._stack.setCurrentWidget(widget)
            if isinstance(widget, WorkPanel):
                widget.take_focus()
            elif widget is self._typical:
                self._typical.setFocus(Qt.FocusReason.OtherFocusReason)

    def _about_text(self, part: str) -> str:
        lists = self._lists
        if part == "search" or lists is None:
            return ""
        if ("duplicates" if part == "duplicates" else "oddities") in lists.is_old:
            return tr("Pictures have changed since: look again.")
        return ""

    def _is_missing(self, part: str) -> bool:
        lists = self._lists
        if lists is None:
            return True
        if part == "duplicates":
            return lists.duplicates is None
        found = lists.oddities
        if found is None:
            return True
        return {"outliers": not found.outliers, "labels": not found.suspects}.get(part, not found.prototypes)

    def _say_missing(self, part: str) -> None:
        lists = self._lists
        is_found = lists is not None and lists.oddities is not None and part != "duplicates"
        key = (part, lists is None, is_found, self._is_looking(), self._session.state.set_row is None)
        if key != self._empty_key:
            self._empty_key = key
            while (item := self._empty_room.takeAt(0)) is not None:
                if (widget := item.widget()) is not None:
                    widget.hide()
                    widget.deleteLater()
            self._empty_room.addWidget(self._missing(part, is_found=is_found))
        self._front(self._empty)

    def _missing(self, part: str, *, is_found: bool) -> EmptyState:
        icon, title, text = _WORDS[part]
        if self._session.state.set_row is None:
            text = tr("It is told by what a backbone sees in the pictures: compute features first.")
            return EmptyState(icon, tr("No features yet"), text, tr("Go to Search"), lambda: self._choose("search"))
        if self._is_looking():
            return EmptyState(icon, tr("Looking …"), tr("The jobs below show how far it is. You can go on meanwhile."))
        if is_found:
            return EmptyState(icon, tr("Nothing in doubt"), tr(_NONE[part]))
        return EmptyState(icon, tr(title), tr(text), tr("Look for them"), self.look_again)


_WORDS = {
    "duplicates": (
        "copy",
        "Copies of the same picture",
        "Resized, recompressed, cropped or byte for byte; within a class, or between what is learnt from and what is "
        "tested on. You decide what stays; no file is ever deleted.",
    ),
    "outliers": (
        "target",
        "Pictures unlike all others",
        "Strangers, bad scans, covers of videos: what has no near neighbour in this project.",
    ),
    "labels": (
        "tag",
        "Labels that may be wrong",
        "Where a picture's neighbours vote for another class, or a copy of it has another label. You confirm or "
        "correct; labels are kept in the project and can be exported.",
    ),
    "typical": ("star", "What is typical", "The most central pictures of every class, and those that cover the rest."),
}
_NONE = {
    "outliers": "No picture stands apart from the others.",
    "labels": "The pictures have no labels, or none that its neighbours contradict.",
    "typical": "There are no pictures to choose from.",
}
