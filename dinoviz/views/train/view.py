"""Train: the runs of the project at the left; beside them the run that is being prepared, or the one looked at.

What a run told and saw is read in the background, twice a second while one of those shown goes on.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QHBoxLayout, QMessageBox, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.commands import embed, index, make_map
from dinoviz.controls import EmptyState, button, label
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.revealing import reveal
from dinoviz.run_states import ask_to_stop
from dinoviz.views.train import run_plan
from dinoviz.views.train.film import ProbeFilm, read_film
from dinoviz.views.train.infos import RunInfo, read_infos
from dinoviz.views.train.log import RunLog
from dinoviz.views.train.new_run import NewRunPage
from dinoviz.views.train.run import Doings, RunPage
from dinoviz.views.train.runs import RunsList
from dinoviz.watching import watch
from dinoviz.words import tr
from engine.errors import BadInput, UserError
from engine.project import Project
from engine.protocol import Made

LIVE_MS = 500
"""Between two readings while a run goes on."""
IDLE_MS = 4000
"""Between two while none does: one may be started from a terminal."""
LIST_PX, LEAST_LIST_PX = 268, 236
NEW = 0
"""Page of the run that is being prepared."""
MOST_COMPARED = 6
TRAINING = ("train", "resume")
"""Commands that make a run, or go on with one."""


class TrainView(QWidget):
    """The place of training."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._infos: tuple[RunInfo, ...] = ()
        self._has_read = False
        self._of: Path | None = None
        self._job_states: dict[int, str] = {}
        self._logs: dict[int, RunLog] = {}
        self._films: dict[int, ProbeFilm] = {}
        self._new_page: NewRunPage | None = None
        self._run_page: RunPage | None = None
        self.runs = RunsList(self.look_at, self._compare)
        self._build()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._read)
        watch(self, self._session, ("project", "runs"), self._read)
        watch(self, self._session, ("jobs",), self._jobs_moved)
        watch(self, self._session, ("choices.train", "model"), self.draw)
        desk.jobs.message.connect(self._heard)
        self._bind()

    def _build(self) -> None:
        left = QWidget()
        left.setProperty("kind", "panel")
        left.setMinimumWidth(LEAST_LIST_PX)
        column = QVBoxLayout(left)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE)
        head = QHBoxLayout()
        head.addWidget(label(tr("Runs"), "heading"))
        head.addStretch()
        self._new_button = button(tr("New run"), lambda: self.look_at(NEW), icon="plus")
        head.addWidget(self._new_button)
        column.addLayout(head)
        self._no_runs = label(
            tr("Nothing was trained yet. A run learns from your pictures alone, without labels, and is kept here."),
            "small",
            wraps=True,
        )
        self._queued = label("", "small", wraps=True)
        column.addWidget(self._no_runs)
        column.addWidget(self._queued)
        column.addWidget(self.runs, 1)
        self._stack = QStackedWidget()
        self._empty = EmptyState(
            "graduation-cap",
            tr("Train on your own pictures"),
            tr("Open a folder of pictures first; then a network learns from them here, offline, without labels."),
        )
        right = QWidget()
        column = QVBoxLayout(right)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE)
        column.addWidget(self._stack)
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.addWidget(left)
        self._split.addWidget(right)
        self._split.setStretchFactor(1, 1)
        self._split.setSizes([LIST_PX, 1000])
        self._split.setChildrenCollapsible(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._split)
        column.addWidget(self._empty)

    @property
    def new_page(self) -> NewRunPage:
        """The page of the run that is being prepared, made when it is first needed."""
        if self._new_page is None:
            self._new_page = NewRunPage(self._desk)
            self._stack.addWidget(self._new_page)
        return self._new_page

    @property
    def run_page(self) -> RunPage:
        """The page of the run that is looked at, made when it is first needed."""
        if self._run_page is None:
            self._run_page = RunPage(self._desk, self._doings())
            self._stack.addWidget(self._run_page)
        return self._run_page

    def _doings(self) -> Doings:
        return Doings(
            stop=self.stop,
            resume=self.resume,
            stay=self.stay,
            use=self.use,
            embed=self.embed,
            again=self.again,
            reveal=lambda: self._with_run(lambda info: reveal(info.folder)),
            trash=self.trash,
            rename=self.rename,
            copy_command=self.copy_command,
        )

    def _bind(self) -> None:
        actions = self._desk.actions

        def on_new() -> bool:
            return self._page() == NEW and self.new_page.prepared is not None

        def on_run() -> bool:
            return self._info() is not None

        actions.bind("train.new", lambda: self.look_at(NEW))
        actions.bind("train.start", lambda: self.new_page.start(), lambda: on_new() and self.new_page.can_start())
        actions.bind("train.stop", self.stop, lambda: self._is("running"))
        actions.bind("train.resume", self.resume, lambda: on_run() and self._shown_run().can_resume)
        actions.bind("train.use", self.use, lambda: on_run() and self._shown_run().has_weights)
        actions.bind("train.embed", self.embed, lambda: on_run() and self._shown_run().has_weights)
        actions.bind("train.another_draw", lambda: self.new_page.preview.draw_again(), on_new)
        actions.bind("train.next_step", lambda: self.run_page.probes.step(1), on_run)
        actions.bind("train.previous_step", lambda: self.run_page.probes.step(-1), on_run)
        actions.bind("train.play", self._play, on_run)
        actions.bind("train.import", lambda: self.new_page.read_file(), lambda: self._page() == NEW)
        actions.bind("train.export", lambda: self.new_page.save_file(), on_new)
        actions.bind("train.copy_command", self.copy_command, lambda: on_new() or on_run())
        actions.bind("train.trash", self.trash, lambda: on_run() and not self._is("running"))

    # Reading.

    def showEvent(self, event: object) -> None:
        """Read what happened while nobody looked."""
        self._read()
        self.draw()

    def _read(self) -> None:
        """Read in the background how all runs are, and what those that are shown told and saw since."""
        state = self._session.state
        if state.project != self._of:
            self._forget(state.project)
        if not self.isVisible() or state.project is None:
            self._timer.stop()
            self.draw()
            return
        rows, numbers = state.runs, self._wanted()
        logs = {number: self._logs.get(number) for number in numbers}
        wants_films = state.choices.train.tab == "pictures"
        films = {number: self._films.get(number) for number in numbers} if wants_films else {}
        folders = {row.number: row.folder for row in rows}
        pictures = state.pictures_folder

        def work() -> tuple[tuple[RunInfo, ...], dict[int, RunLog], dict[int, ProbeFilm]]:
            read = {n: _read_log(log, folders[n], n) for n, log in logs.items() if n in folders}
            seen = {
                n: read_film(folders[n], n, pictures, film)
                for n, film in films.items()
                if n in folders and pictures is not None
            }
            return read_infos(rows), {n: log for n, log in read.items() if log is not None}, seen

        self._desk.background.run("train.runs", work, self._take)

    def _forget(self, project: Path | None) -> None:
        """Begin with another project: its runs have the numbers of those before."""
        self._of, self._has_read, self._infos = project, False, ()
        self._logs.clear()
        self._films.clear()
        self._desk.background.forget("train.runs")

    def _jobs_moved(self) -> None:
        """Show how far the run is; read anew only where a job began or ended."""
        states = {job.id: job.state for job in self._session.state.jobs}
        if states != self._job_states:
            self._job_states = states
            self._read()
        elif (info := self._info()) is not None and self.isVisible():
            self._draw_head(info)

    def _wanted(self) -> list[int]:
        """Return the runs whose curves are shown: the one looked at, then those compared with it."""
        train = self._session.state.choices.train
        if train.page == NEW:
            return []
        return [train.page, *(number for number in train.compared if number != train.page)]

    def _take(self, read: tuple[tuple[RunInfo, ...], dict[int, RunLog], dict[int, ProbeFilm]]) -> None:
        self._infos, logs, films = read
        self._has_read = True
        self._logs |= logs
        self._films |= films
        if self._new_page is not None:
            self._new_page.show_infos(self._infos)
        is_live = any(info.state == "running" for info in self._infos)
        self._timer.start(LIVE_MS if is_live else IDLE_MS)
        self.draw()

    def _heard(self, number: int, message: object) -> None:
        """Go to the run that a job of this window has begun."""
        if not isinstance(message, Made) or message.what != "run" or self._page() != NEW:
            return
        job, project = self._desk.jobs.job(number), self._session.state.project
        if job is not None and job.argv[:2] == ("train", str(project)):  # one of another project may go on
            self.look_at(int(Path(message.path).name))

    # Drawing.

    def draw(self) -> None:
        """Draw what is known."""
        state = self._session.state
        self._split.setVisible(state.project is not None)
        self._empty.setVisible(state.project is None)
        train = state.choices.train
        self.runs.show_infos(self._infos, train.page, train.compared)
        self._no_runs.setVisible(not self._infos)
        self._draw_queue()
        info = self._info()
        if state.project is None or not self.isVisible() or (info is None and train.page != NEW and not self._has_read):
            return
        if info is None:
            self._stack.setCurrentWidget(self.new_page)
            self.new_page.show_infos(self._infos)
            return
        self._stack.setCurrentWidget(self.run_page)
        self.run_page.show_tab(train.tab)
        self._draw_head(info)
        shown = [self._logs[number] for number in self._wanted() if number in self._logs]
        self.run_page.show_logs(shown)
        if train.tab == "pictures":
            films = [self._films[number] for number in self._wanted() if number in self._films]
            self.run_page.show_films(films, self._logs)
            if not films:
                self._read()

    def _draw_queue(self) -> None:
        """Say which runs wait for their turn."""
        waiting = [job for job in self._session.state.jobs if job.state == "waiting" and job.argv[0] in TRAINING]
        self._queued.setText(tr("Waiting: {titles}", titles="; ".join(job.title for job in waiting)))
        self._queued.setVisible(bool(waiting))

    def _draw_head(self, info: RunInfo) -> None:
        failure = next((job for job in reversed(self._jobs_of(info)) if job.state == "failed"), None)
        is_used = self._session.state.model == str(info.folder)
        self.run_page.show_run(info, self._job_of(info), failure, is_used=is_used)

    def _page(self) -> int:
        return self._session.state.choices.train.page

    def _info(self) -> RunInfo | None:
        """Return the run that is looked at, None where one is being prepared."""
        return next((info for info in self._infos if info.number == self._page()), None)

    def _shown_run(self) -> RunInfo:
        info = self._info()
        assert info is not None
        return info

    def _is(self, state: str) -> bool:
        info = self._info()
        return info is not None and info.state == state

    def _jobs_of(self, info: RunInfo) -> list[Job]:
        """Return the jobs of this window that trained a run, oldest first."""

        def is_of_run(job: Job) -> bool:
            has_made = any(one.what == "run" and Path(one.path) == info.folder for one in job.made)
            return has_made or (job.argv[0] == "resume" and Path(job.argv[1]) == info.folder)

        return [job for job in self._session.state.jobs if is_of_run(job)]

    def _job_of(self, info: RunInfo) -> Job | None:
        """Return the job of this window that trains a run now."""
        return next((job for job in self._jobs_of(info) if not job.is_over), None)

    # What a person does.

    def look_at(self, number: int) -> None:
        """Look at a run, or at the one that is being prepared."""
        train = self._session.state.choices.train
        compared = tuple(other for other in train.compared if other != number)
        self._session.choose(train=replace(train, page=number, compared=compared))
        self._read()

    def _compare(self, number: int) -> None:
        train = self._session.state.choices.train
        others = tuple(other for other in train.compared if other != number)
        if len(others) == len(train.compared):
            others = (*others, number)[-MOST_COMPARED:]
        page = train.page or number
        self._session.choose(train=replace(train, page=page, compared=others))
        self._read()

    def _play(self) -> None:
        train = self._session.state.choices.train
        if train.tab != "pictures":
            self._session.choose(train=replace(train, tab="pictures"))
        self.run_page.probes.toggle_play()

    def _with_run(self, do: Callable[[RunInfo], object]) -> None:
        info = self._info()
        if info is not None:
            do(info)

    def stop(self) -> None:
        """Stop the run: by its job, or, where another window began it, as Ctrl-C would."""
        info = self._shown_run()
        job = self._job_of(info)
        if job is not None:
            self._desk.jobs.stop(job.id)
        elif info.process is not None:
            try:
                ask_to_stop(info.process)
            except OSError as problem:
                self._session.notify("error", tr("The run cannot be stopped: {why}.", why=problem.strerror))
            else:
                self._session.notify("info", tr("Run {number} ends after this step.", number=info.number))

    def resume(self) -> None:
        """Go on with the run where it ended."""
        info = self._shown_run()
        title = tr("Resume run {number}", number=info.number)
        self._desk.jobs.start(["resume", str(info.folder)], title, self._ended)

    def stay(self) -> None:
        """Let the run go on when the window closes."""
        job = self._job_of(self._shown_run())
        if job is not None:
            self._desk.jobs.stay(job.id)

    def use(self) -> None:
        """Look through the backbone of the run."""
        info = self._shown_run()
        self._session.use_model(str(info.folder))
        text = tr("Everything is now seen through run {number}.", number=info.number)
        self._session.notify("info", text, action=(tr("Look"), "go.look"))

    def embed(self) -> None:
        """Compute the features of all pictures with the run, their neighbours and a map."""
        state, info = self._session.state, self._shown_run()
        assert state.project is not None
        name = tr("run {number}", number=info.number)

        def tell(_job: Job) -> None:
            if self._session.state.project == state.project:
                self._session.notify("info", tr("The map of {run} is ready.", run=name), action=(tr("Show"), "go.map"))

        steps = [
            (embed(state.project, str(info.folder)), tr("Features of {run}", run=name)),
            (index(state.project, None), tr("Neighbours of {run}", run=name)),
            (make_map(state.project, None, "tsne"), tr("Map of {run}", run=name)),
        ]
        self._desk.jobs.chain(steps, tell)

    def _ended(self, _job: Job) -> None:
        self._read()

    def again(self) -> None:
        """Prepare a new run with the settings of this one."""
        log = self._logs.get(self._shown_run().number)
        if log is None:
            return
        texts = tuple(sorted(run_plan.asked_texts(run_plan.asked_of(log.plan)).items()))
        self._session.choose(train=replace(self._session.state.choices.train, texts=texts, page=NEW))

    def copy_command(self) -> None:
        """Put the command that does the same into the clipboard."""
        info = self._info()
        if info is None:
            self.new_page.copy_command()
            return
        log = self._logs.get(info.number)
        project = self._session.state.project
        if log is None or project is None:
            return
        arguments = run_plan.train_arguments(project, run_plan.asked_of(log.plan))
        QApplication.clipboard().setText(run_plan.as_command(arguments))
        self._session.notify("info", tr("The command is in the clipboard."))

    def rename(self, about: str) -> None:
        """Call the run something else."""
        project, info = self._session.state.project, self._shown_run()
        assert project is not None

        def work() -> None:
            with Project.at(project) as opened:
                opened.name_run(info.folder, about)

        self._desk.background.run("", work, lambda _none: self._session.refresh(), self._refused)

    def trash(self) -> None:
        """Move the run to the system's trash, after asking."""
        project, info = self._session.state.project, self._shown_run()
        assert project is not None
        asked = QMessageBox(
            QMessageBox.Icon.Question,
            tr("Move run {number} to the trash?", number=info.number),
            tr("Its checkpoints, backbone, curves and probe pictures go to the trash of this computer."),
            QMessageBox.StandardButton.Cancel,
            self,
        )
        away = asked.addButton(tr("Move to the trash"), QMessageBox.ButtonRole.DestructiveRole)
        asked.exec()
        if asked.clickedButton() is away:
            self._throw_away(project, info)

    def _throw_away(self, project: Path, info: RunInfo) -> None:
        def work() -> None:
            _to_trash(info.folder)
            with Project.at(project) as opened:
                opened.set_run_state(info.folder, "deleted")

        def done(_none: None) -> None:
            if self._session.state.model == str(info.folder):
                self._session.use_model("bundled")
            if self._session.state.project != project:
                return
            self._logs.pop(info.number, None)
            self._films.pop(info.number, None)
            self.look_at(NEW)
            self._session.refresh()

        self._desk.background.run("", work, done, self._refused)

    def _refused(self, problem: Exception) -> None:
        if isinstance(problem, UserError):
            self._session.notify("error", problem.message, problem.hint)
        elif isinstance(problem, OSError):
            self._session.notify("error", tr("That did not work: {why}.", why=problem.strerror or problem))
        else:
            raise problem


def _read_log(log: RunLog | None, folder: Path, number: int) -> RunLog | None:
    """Read on what a run told; None where its plan cannot be read."""
    try:
        known = log if log is not None and log.run == folder else RunLog(folder, number)
        return known.read_all()
    except BadInput:
        return None


def _to_trash(folder: Path) -> None:
    from send2trash import send2trash

    send2trash(folder)
