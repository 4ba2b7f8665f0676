"""The bar at the bottom: what is going on, how long it will take, and all jobs of the session in a panel above it."""

import time
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import EmptyState, IconButton, label
from dinoviz.engine_process import Jobs
from dinoviz.job_words import pace, state_in_words
from dinoviz.jobs import Job
from dinoviz.session import Session, State
from dinoviz.watching import watch
from dinoviz.words import counted, tr
from engine.quantities import time_in_words

BAR_PX = 32
PANEL_PX = 260
PROGRESS_PX = 160
SHARE_OF_1000 = 1000


class JobsBar(QFrame):
    """One line: the job that works, and what is selected."""

    def __init__(self, session: Session, jobs: Jobs, panel: "JobsPanel") -> None:
        super().__init__()
        self.setProperty("kind", "bar")
        self.setFixedHeight(BAR_PX)
        self._session, self._jobs, self._panel = session, jobs, panel
        self._open = IconButton("caret-up", tr("Show or hide jobs"), self.toggle)
        self._title = label("", "small")
        self._progress = QProgressBar()
        self._progress.setFixedWidth(PROGRESS_PX)
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName(tr("Progress"))
        self._rest = label("", "small")
        self._stop = IconButton("stop", tr("Stop; what is done is kept"), self._stop_working)
        self._counts = label("", "small")
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.SPACE, 0, theme.SPACE_L, 0)
        row.setSpacing(theme.SPACE)
        for part in (self._open, self._title, self._progress, self._rest, self._stop):
            row.addWidget(part)
        row.addStretch()
        row.addWidget(self._counts)
        watch(self, session, ("jobs",), self._draw)
        watch(self, session, ("shown", "selected", "table", "project"), self._count)
        self._draw()
        self._count()

    def toggle(self) -> None:
        """Show or hide the panel."""
        self._panel.setVisible(not self._panel.isVisible())
        self._draw()

    def _stop_working(self) -> None:
        if job := shown_job(self._session.state):
            self._jobs.stop(job.id)

    def _draw(self) -> None:
        job = shown_job(self._session.state)
        is_going = job is not None and not job.is_over
        for part in (self._progress, self._stop, self._rest):
            part.setVisible(is_going)
        self._title.setText(_headline(self._session.state, job))
        self._open.setIcon(theme.icon("caret-down" if self._panel.isVisible() else "caret-up"))
        if job and is_going:
            show_progress(self._progress, job)
            self._rest.setText(pace(job))

    def _count(self) -> None:
        state = self._session.state
        if state.project is None:
            self._counts.setText("")
            return
        words = [counted(len(state.shown), tr("picture"))]
        if len(state.shown) != len(state.table):
            words = [tr("{shown} of {all} pictures", shown=len(state.shown), all=len(state.table))]
        if len(state.selected):
            words.append(tr("{n} selected", n=len(state.selected)))
        self._counts.setText(" · ".join(words))


def shown_job(state: State) -> Job | None:
    """Return the job the bar speaks of: the one that works, or else the last that ended."""
    going = [job for job in state.jobs if job.state in ("running", "stopping")]
    return going[0] if going else (state.jobs[-1] if state.jobs else None)


def _headline(state: State, job: Job | None) -> str:
    if job is None:
        return tr("Reading the project…") if state.is_reading else tr("Ready")
    waiting = sum(1 for other in state.jobs if other.state == "waiting")
    more = tr(" · {n} waiting", n=waiting) if waiting else ""
    return f"{job.title}{'' if not job.is_over else ' · ' + state_in_words(job)}{more}"


def show_progress(bar: QProgressBar, job: Job) -> None:
    """Let a bar show how far a job is; it swings while that is unknown."""
    if job.share is None:
        bar.setRange(0, 0)
    else:
        bar.setRange(0, SHARE_OF_1000)
        bar.setValue(round(SHARE_OF_1000 * job.share))


class JobsPanel(QFrame):
    """All jobs of the session, the newest first."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.setProperty("kind", "panel")
        self.setFixedHeight(PANEL_PX)
        self._session = session
        self._jobs = jobs
        self._rows: dict[int, JobRow] = {}
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._list = QVBoxLayout(inside)
        self._list.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE_L, theme.SPACE)
        self._list.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(inside)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setAccessibleName(tr("Jobs"))
        self._empty = EmptyState("list-bullets", tr("No jobs yet"), tr("What takes longer than a moment shows here."))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scroll)
        column.addWidget(self._empty)
        self._scroll = scroll
        watch(self, session, ("jobs",), self._draw)
        self._draw()

    def _draw(self) -> None:
        known = {job.id for job in self._session.state.jobs}
        for number in [number for number in self._rows if number not in known]:
            self._rows.pop(number).deleteLater()
        for job in self._session.state.jobs:
            if job.id not in self._rows:
                self._rows[job.id] = JobRow(self._jobs, job)
                self._list.insertWidget(0, self._rows[job.id])
            self._rows[job.id].show_job(job)
        self._scroll.setVisible(bool(known))
        self._empty.setVisible(not known)


class JobRow(QFrame):
    """One job: what it is, where it is, and what can be done with it."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        super().__init__()
        self.setProperty("kind", "card")
        self._jobs, self._job = jobs, job
        self._title = label(job.title, "strong")
        self._state = label("", "small")
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName(tr("Progress of {title}", title=job.title))
        self._said = label("", "small", wraps=True)
        self._stop = IconButton("stop", tr("Stop; what is done is kept"), lambda: jobs.stop(self._job.id))
        self._retry = IconButton("arrow-clockwise", tr("Start again"), lambda: jobs.retry(self._job.id))
        self._copy = IconButton("copy", tr("Copy as command"), self._copy_command)
        self._log = IconButton("list", tr("Open the log"), self._open_log)
        self._result = IconButton("folder-open", tr("Show what it made"), self._show_made)
        self._drop = IconButton("x", tr("Take off the list"), lambda: jobs.dismiss(self._job.id))
        head = QHBoxLayout()
        head.setSpacing(theme.SPACE_S)
        head.addWidget(self._title)
        head.addWidget(self._state)
        head.addStretch()
        for part in (self._stop, self._retry, self._result, self._copy, self._log, self._drop):
            head.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_S, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE_S)
        column.addLayout(head)
        column.addWidget(self._progress)
        column.addWidget(self._said)

    def show_job(self, job: Job) -> None:
        """Show a job as it is now."""
        self._job = job
        self._state.setText(_when(job))
        self._progress.setVisible(job.state in ("running", "stopping"))
        show_progress(self._progress, job)
        self._said.setText(_said(job))
        self._said.setVisible(bool(_said(job)))
        self._stop.setVisible(not job.is_over)
        self._retry.setVisible(job.is_over)
        self._drop.setVisible(job.is_over)
        self._result.setVisible(bool(_made(job)))

    def _copy_command(self) -> None:
        QGuiApplication.clipboard().setText(self._job.command)

    def _open_log(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self._job.log))

    def _show_made(self) -> None:
        if made := _made(self._job):
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(made if made.is_dir() else made.parent)))


def _made(job: Job) -> Path | None:
    """Return what a job wrote for the person, where it says so."""
    named = job.outcome.get("out") or job.outcome.get("written")
    if isinstance(named, str):
        return Path(named)
    return Path(job.made[-1].path) if job.made and job.is_over else None


def _when(job: Job) -> str:
    words = [state_in_words(job)]
    if job.started:
        words.append(time_in_words((job.ended or time.time()) - job.started))
    return " · ".join(words)


def _said(job: Job) -> str:
    if job.state == "failed":
        return f"{job.error} {job.hint}".strip()
    if not job.is_over:
        return pace(job)
    warnings = [f"{told.text} {told.hint}".strip() for told in job.notices if told.level == "warning"]
    return "\n".join(warnings[-3:])
