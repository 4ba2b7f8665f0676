"""The window: rail, filter bar, the place in front, inspector, jobs bar; what it remembers; how it closes."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QByteArray, QEvent, QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QResizeEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QMainWindow,
    QMessageBox,
    QPlainTextEdit,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from dinoviz import crash_log, theme
from dinoviz.actions import Actions
from dinoviz.background import Background
from dinoviz.controls import Line
from dinoviz.desk import Desk
from dinoviz.engine_process import SCANS, Jobs, Service, log_folder
from dinoviz.jobs import Job
from dinoviz.preferences import (
    Memory,
    Preferences,
    read_memory,
    read_preferences,
    write_memory,
    write_preferences,
)
from dinoviz.session import BUNDLED, Session
from dinoviz.thumbnails import Thumbnails
from dinoviz.views import VIEWS, View
from dinoviz.watching import follow, watch
from dinoviz.window.focus import FocusKeeper
from dinoviz.window.jobs_bar import JobsBar, JobsPanel
from dinoviz.window.toasts import Toasts
from dinoviz.words import tr

SIZE_PX = (1360, 860)
LEAST_PX = (940, 620)
RAIL_PX = 76
LEAST_INSPECTOR_PX = 240
"""Below so much room beside a place it is shown alone."""
TOP_PX = 44
SERVICE_GRACE_MS = 1000
"""How long a service may take to its end after jobs had theirs."""
REMEMBER_MS = 800
"""After a change the window waits so long before it writes what it remembers: at most 2 s are lost by a kill."""


FIRST = (
    "dinoviz.window.opening",
    "dinoviz.window.drop_overlay",
    "dinoviz.window.filter_bar",
    "dinoviz.window.inspector",
    "dinoviz.window.bindings",
    "dinoviz.window.runs_elsewhere",
    "dinoviz.window.welcoming",
)
LATER = ("numpy.ma", "rapidfuzz.fuzz")
"""Loaded at first use by numpy and the palette, a tenth of a second each."""


def load(modules: Sequence[str]) -> None:
    """Import modules; run in a thread, so that the one that paints finds them loaded."""
    for name in modules:
        importlib.import_module(name)


def _reports() -> list[Path]:
    """Return what windows that ended badly left, and clear old logs away; run in a thread."""
    found = crash_log.left_behind()
    for where in (crash_log.folder(), log_folder()):
        crash_log.keep_newest(where)
    return found


class Window(QMainWindow):
    """One window with one session.

    Args:
        open_first: what to open; nothing for what was open last.
        wants_sample: open the sample instead.
    """

    went_wrong = Signal(str, str)
    """A sentence and what to do, from whatever thread a fault of ours was in."""

    def __init__(self, open_first: Sequence[Path] = (), *, wants_sample: bool = False) -> None:
        super().__init__()
        self.setWindowTitle("dinoviz")
        self.setMinimumSize(*LEAST_PX)
        self.resize(*SIZE_PX)
        self.preferences, wrong = read_preferences()
        self.memory, also_wrong = read_memory()
        theme.use(self.preferences.theme)
        self.desk = self._desk()
        self._views: dict[str, QWidget] = {}
        self._build()
        self._restore_geometry()
        watch(self, self.desk.session, ("place", "project", "pictures_folder"), self._show_place)
        watch(self, self.desk.session, ("jobs",), self._share_gpu)
        self._is_gpu_lent = False
        self.desk.vision.changed.connect(self._follow_vision)
        self.went_wrong.connect(self._tell_fault, Qt.ConnectionType.QueuedConnection)
        self._unwritten: set[str] = set()
        self._inspect_later = QTimer(self, singleShot=True, interval=0)
        self._inspect_later.timeout.connect(self._show_inspector)
        self._remember_later = QTimer(self, singleShot=True, interval=REMEMBER_MS)
        self._remember_later.timeout.connect(self.remember)
        watch(
            self,
            self.desk.session,
            ("project", "place", "query", "current", "selected", "model", "set", "choices", "is_reading"),
            self._remember_soon,
        )
        self._open_first = tuple(open_first)
        self._wants_sample = wants_sample
        self._said_first = [text for text in (wrong, also_wrong) if text]
        self._has_begun = False
        self.is_ready = False
        """Everything can be done."""
        self._show_place()

    def _desk(self) -> Desk:
        background = Background(self)
        session = Session(background.run)
        jobs = Jobs(session, self)

        def vision() -> Sequence[str] | None:
            project = session.state.project
            return None if project is None else ["--model", BUNDLED, "--project", str(project)]

        def search() -> Sequence[str] | None:
            state = session.state
            return None if state.set is None else ["--project", str(state.project), "--set", str(state.set)]

        return Desk(
            session=session,
            jobs=jobs,
            vision=Service("vision", vision, self),
            search=Service("search", search, self),
            thumbnails=Thumbnails(session, self),
            background=background,
            actions=Actions(session, self, self.preferences.keys),
        )

    def _build(self) -> None:
        self.stack = QStackedWidget()
        self._panel = JobsPanel(self.desk.session, self.desk.jobs)
        self._panel.hide()
        self.jobs_bar = JobsBar(self.desk.session, self.desk.jobs, self._panel)
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.setChildrenCollapsible(False)
        self._split.addWidget(self.stack)
        self._inspector: QWidget | None = None
        self._top = QFrame()
        self._top.setProperty("kind", "bar")
        self._top.setFixedHeight(TOP_PX)
        self._top_row = QHBoxLayout(self._top)
        self._top_row.setContentsMargins(theme.SPACE_L, 0, theme.SPACE, 0)
        self._top_row.setSpacing(theme.SPACE_S)
        self._top_row.addStretch()
        names = ("edit.undo", "edit.redo", "view.palette", "view.inspector")
        buttons = {name: self.desk.actions.button(name) for name in names}
        for made in buttons.values():
            self._top_row.addWidget(made)
        self._undo, self._redo = buttons["edit.undo"], buttons["edit.redo"]
        watch(self, self.desk.session, ("undo_text", "redo_text"), self._show_undo)
        self._show_undo()
        middle = QVBoxLayout()
        middle.setSpacing(0)
        for part in (self._top, Line(), self._split):
            middle.addWidget(part, 1 if part is self._split else 0)
        upper = QHBoxLayout()
        upper.setSpacing(0)
        upper.addWidget(self._rail())
        upper.addWidget(Line(is_upright=True))
        upper.addLayout(middle, 1)
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(upper, 1)
        for part in (Line(), self._panel, self.jobs_bar):
            column.addWidget(part)
        self.setCentralWidget(whole)
        self.toasts = Toasts(self.desk.session, self.desk.actions.trigger, self)
        FocusKeeper(self, self.stack.currentWidget)

    def _rail(self) -> QWidget:
        rail = QFrame()
        rail.setProperty("kind", "panel")
        rail.setFixedWidth(RAIL_PX)
        column = QVBoxLayout(rail)
        column.setContentsMargins(theme.SPACE_S, theme.SPACE, theme.SPACE_S, theme.SPACE)
        column.setSpacing(theme.SPACE_S)
        self._places: dict[str, QToolButton] = {}
        group = QButtonGroup(rail)
        for view in VIEWS:
            if view.is_on_rail:
                self._places[view.name] = self._place_button(view)
                group.addButton(self._places[view.name])
                column.addWidget(self._places[view.name])
        self._place_group = group
        column.addStretch()
        for name in ("view.keys", "view.preferences"):
            column.addWidget(self.desk.actions.button(name), 0, Qt.AlignmentFlag.AlignHCenter)
        return rail

    def _place_button(self, view: View) -> QToolButton:
        made = QToolButton()
        made.setProperty("kind", "rail")
        made.setCheckable(True)
        made.setText(tr(view.text))
        made.setAccessibleName(tr(view.text))
        made.setToolTip(self.desk.actions.tip(f"go.{view.name}"))
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        made.setIconSize(QSize(22, 22))
        made.setFixedWidth(RAIL_PX - 2 * theme.SPACE_S)
        made.clicked.connect(lambda _checked=False: self.desk.session.go(view.name))

        def draw() -> None:
            made.setIcon(theme.icon(view.icon))

        draw()
        follow(made, theme.changed, draw)
        return made

    # Beginning: what takes time comes after the first picture of the window.

    def event(self, event: QEvent) -> bool:
        """Begin after the window was painted once."""
        done = super().event(event)
        if event.type() == QEvent.Type.Paint and not self._has_begun:
            self._has_begun = True
            QTimer.singleShot(0, self._load_first)
        return done

    def _load_first(self) -> None:
        """Load what the window begins with, off the thread that paints."""
        views = [f"dinoviz.views.{name}.view" for name in ("welcome", "library")]
        self.desk.background.run("load", lambda: load([*FIRST, *views]), lambda _none: self._begin())

    def _begin(self) -> None:
        from dinoviz.drops import Here
        from dinoviz.window.bindings import bind_window_actions, menu_bar
        from dinoviz.window.drop_overlay import DropOverlay
        from dinoviz.window.filter_bar import FilterBar
        from dinoviz.window.opening import Opening
        from dinoviz.window.runs_elsewhere import RunsElsewhere

        self.opening = Opening(self.desk, self, lambda: self.memory, lambda: self.preferences, self.remember)
        bind_window_actions(self)
        self.setMenuBar(menu_bar(self.desk.actions, self))
        self.filter_bar = FilterBar(self.desk)
        self._top_row.insertWidget(0, self.filter_bar, 1)

        def here() -> Here:
            state = self.desk.session.state
            return Here(place=state.place, project=state.project, pictures_folder=state.pictures_folder)

        self.drops = DropOverlay(self, self.desk.background, here)
        self.drops.dropped.connect(self.opening.take)
        self.desk.jobs.ended.connect(self._tell_end)
        RunsElsewhere(self.desk, self)
        self.is_ready = True
        self._open_at_first()
        self._show_place()
        views = [f"dinoviz.views.{view.name}.view" for view in VIEWS]
        self.desk.background.run("load", lambda: load([*LATER, *views]), lambda _none: None)
        for text in self._said_first:
            self.desk.session.notify("warning", text)
        self.desk.background.run("reports", _reports, self._tell_reports)

    def _tell_reports(self, reports: Sequence[Path]) -> None:
        for report in reports:
            told = tr("dinoviz stopped unexpectedly last time. Everything up to two seconds before is as it was.")
            self.desk.session.notify("warning", told, tr("A report is in {path}.", path=str(report)))

    def _tell_fault(self, text: str, hint: str) -> None:
        self.desk.session.notify("error", text, hint)

    def _open_at_first(self) -> None:
        if self._wants_sample:
            self.opening.open_sample()
        elif self._open_first:
            self.opening.open(self._open_first[0])
        elif self.preferences.opens_last and self.memory.open_folder:
            self.opening.open(Path(self.memory.open_folder))

    # Places.

    def view(self, name: str) -> QWidget:
        """Return the widget of a place, loaded where it was not."""
        if name not in self._views:
            row = next(row for row in VIEWS if row.name == name)
            self._views[name] = row.load()(self.desk)
            self._views[name].setAccessibleName(tr(row.text))
            self.stack.addWidget(self._views[name])
            if name == "welcome":
                welcoming = importlib.import_module("dinoviz.window.welcoming")
                self._show_recent = welcoming.serve_welcome(
                    self._views[name], self.opening, lambda: self.memory, self.set_memory
                )
        return self._views[name]

    def _show_place(self) -> None:
        state = self.desk.session.state
        row = self._row()
        self._mark_place(row)
        if self.is_ready:
            if self.stack.currentWidget() is not self.view(row.name):
                self.stack.setCurrentWidget(self.view(row.name))
                self.view(row.name).setFocus()
            if row.name == "welcome":
                self._show_recent()
            self.filter_bar.setVisible(state.project is not None and row.needs_project)
            self._inspect_later.start()  # a turn later: both at once would be felt
        name = state.pictures_folder.name if state.pictures_folder else ""
        self.setWindowTitle(f"{name} — dinoviz" if name else "dinoviz")

    def _row(self) -> View:
        """Return the view in front: where there is no project, only those that need none can be."""
        state = self.desk.session.state
        row = next((row for row in VIEWS if row.name == state.place), VIEWS[0])
        return VIEWS[0] if state.project is None and row.needs_project else row

    def _mark_place(self, row: View) -> None:
        has_project = self.desk.session.state.project is not None
        self._place_group.setExclusive(False)  # the welcome page is none of them
        for view in VIEWS:
            if view.is_on_rail:
                self._places[view.name].setChecked(view is row)
                self._places[view.name].setEnabled(has_project or not view.needs_project)
        self._place_group.setExclusive(True)

    def _show_inspector(self) -> None:
        has_project = self.desk.session.state.project is not None
        wanted = has_project and self.memory.has_inspector and self._row().has_inspector and self._has_room()
        if wanted and self._inspector is None:
            inspector = importlib.import_module("dinoviz.window.inspector")
            self._inspector = inspector.Inspector(self.desk)
            self._split.addWidget(self._inspector)
            self._split.setStretchFactor(0, 1)
            self._split.setStretchFactor(1, 0)
            width = self.memory.inspector_px
            self._split.setSizes([max(1, self._split.width() - width), width])
        if self._inspector is not None:
            self._inspector.setVisible(wanted)

    def _has_room(self) -> bool:
        """Tell whether the inspector fits beside the place in front without cutting any of it."""
        place = self.stack.currentWidget()
        return place is None or self.width() - RAIL_PX - place.minimumSizeHint().width() >= LEAST_INSPECTOR_PX

    def toggle_inspector(self) -> None:
        """Show or hide the inspector."""
        self.memory = replace(self.memory, has_inspector=not self.memory.has_inspector)
        self._show_place()
        self._remember_soon()

    def toggle_jobs(self) -> None:
        """Show or hide the panel of jobs."""
        self.jobs_bar.toggle()

    def _share_gpu(self) -> None:
        """While a job works the vision service answers from the CPU: one of them holds the GPU at a time."""
        is_working = any(
            job.state in ("running", "stopping") and job.argv[0] not in SCANS for job in self.desk.session.state.jobs
        )
        if is_working != self._is_gpu_lent and self.desk.vision.state == "ready":
            from engine.questions import Reclaim, Release  # not before the window is painted

            self._is_gpu_lent = is_working
            self.desk.vision.ask(Release() if is_working else Reclaim(), "gpu", lambda _done: None)

    def _follow_vision(self) -> None:
        if self.desk.vision.state != "ready":
            self._is_gpu_lent = False  # a new process takes the GPU
        self._share_gpu()

    def _show_undo(self) -> None:
        """Say what would be undone and done again."""
        state = self.desk.session.state
        said = ((self._undo, "edit.undo", state.undo_text), (self._redo, "edit.redo", state.redo_text))
        for made, name, text in said:
            made.setEnabled(bool(text))
            made.setToolTip("\n".join(filter(None, (self.desk.actions.tip(name), text))))

    # Remembering.

    def set_preferences(self, preferences: Preferences) -> None:
        """Take other preferences over, and keep them."""
        if preferences.theme != self.preferences.theme:
            theme.use(preferences.theme)
        if preferences.keys != self.preferences.keys:
            self.desk.actions.set_keys(preferences.keys)
        self.preferences = preferences
        self._write("preferences", lambda: write_preferences(preferences))

    def set_memory(self, memory: Memory) -> None:
        """Remember something else, and keep it."""
        self.memory = memory
        self._remember_soon()

    def _remember_soon(self) -> None:
        """Write what is to be found again a moment after the first of many changes, not after the last."""
        if not self._remember_later.isActive():
            self._remember_later.start()

    def remember(self) -> None:
        """Write what is to be found again at the next start."""
        memory = self._now()
        self.memory = memory
        self._write("memory", lambda: write_memory(memory))

    def _now(self) -> Memory:
        from dinoviz.window.opening import remembered

        width = self._split.sizes()[1] if self._inspector and self._inspector.isVisible() else self.memory.inspector_px
        geometry = bytes(self.saveGeometry().toBase64().data()).decode()
        return replace(remembered(self.memory, self.desk), geometry=geometry, inspector_px=width)

    def _write(self, what: str, work: Callable[[], object]) -> None:
        self.desk.background.run(
            "", work, lambda _done: self._unwritten.discard(what), lambda problem: self._cannot_write(what, problem)
        )

    def _cannot_write(self, what: str, problem: Exception) -> None:
        """Say so once, until it was written again."""
        if what in self._unwritten:
            return
        self._unwritten.add(what)
        self.desk.session.notify(
            "warning", tr("What you see here cannot be remembered: {problem}.", problem=str(problem))
        )

    def _restore_geometry(self) -> None:
        if self.memory.geometry:
            self.restoreGeometry(QByteArray.fromBase64(self.memory.geometry.encode()))

    # Ending.

    def _tell_end(self, job: Job) -> None:
        from dinoviz.window.bindings import tell_end

        tell_end(self, job)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep what lies over the window in its place."""
        super().resizeEvent(event)
        if self.is_ready:
            self._inspect_later.start()
        self.toasts.place()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ask about training that goes on or waits, then end everything and remember."""
        stay = self._what_stays()
        if stay is None:
            event.ignore()
            return
        for number in stay:
            self.desk.jobs.stay(number)
        self.remember()
        self.hide()  # what follows may take seconds, and nobody looks at a window that does not answer
        self.end()
        event.accept()

    def _what_stays(self) -> list[int] | None:
        """Ask which training goes on without the window, and return the jobs; None where it shall not close."""
        training = [job for job in self.desk.jobs.unfinished if job.argv[0] in ("train", "resume") and not job.stays]
        waiting = [job for job in training if job.state == "waiting"]
        if waiting and not self._is_dropped(waiting):
            return None
        stay = []
        for job in training:
            answer = self._ask_about(job.title) if job.state == "running" else QMessageBox.StandardButton.No
            if answer == QMessageBox.StandardButton.Cancel:
                return None
            if answer == QMessageBox.StandardButton.Yes:
                stay.append(job.id)
        return stay

    def _is_dropped(self, waiting: Sequence[Job]) -> bool:
        """Ask whether training that has not begun may be forgotten."""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        titles = ", ".join(job.title for job in waiting)
        box.setText(tr("Not begun yet: {titles}.", titles=titles))
        box.setInformativeText(tr("What waits is not done when the window closes."))
        close = box.addButton(tr("Close without it"), QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        box.deleteLater()
        return box.clickedButton() is close

    def _ask_about(self, title: str) -> QMessageBox.StandardButton:
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(tr("{title} is still going on.", title=title))
        box.setInformativeText(
            tr("It can go on alone; it is found again when the project is opened. Or it stops, with a checkpoint.")
        )
        go_on = box.addButton(tr("Keep it running"), QMessageBox.ButtonRole.YesRole)
        stop = box.addButton(tr("Stop it"), QMessageBox.ButtonRole.NoRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(go_on)
        box.exec()
        box.deleteLater()
        if box.clickedButton() is go_on:
            return QMessageBox.StandardButton.Yes
        return QMessageBox.StandardButton.No if box.clickedButton() is stop else QMessageBox.StandardButton.Cancel

    def end(self) -> None:
        """End the engine's processes and threads; everything is written before."""
        services = (self.desk.vision, self.desk.search)
        for service in services:
            service.end_soon()
        self.desk.jobs.close()
        for service in services:
            service.close(SERVICE_GRACE_MS)
        self.desk.thumbnails.close()
        self.desk.background.finish()


def is_typing(widget: QObject | None) -> bool:
    """Tell whether keys go into a field of text."""
    return isinstance(widget, QLineEdit | QPlainTextEdit)
