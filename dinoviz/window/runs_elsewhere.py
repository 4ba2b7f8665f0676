"""Runs that go on without this window, as one that was let go on when it closed last, shown as jobs of it."""

from collections.abc import Iterable
from pathlib import Path

from PySide6.QtCore import QObject, QTimer

from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.session import RunRow
from dinoviz.views.train.infos import RunInfo, read_infos
from dinoviz.watching import watch
from dinoviz.words import run_name, tr
from engine.errors import UserError
from engine.project import Project
from engine.protocol import Made, Progress

EVERY_MS = 1500
"""Between two looks at how far such a run is."""


class RunsElsewhere(QObject):
    """Finds them as a project is opened, and follows them to their end, also when another project is opened."""

    def __init__(self, desk: Desk, parent: QObject) -> None:
        super().__init__(parent)
        self._desk, self._session = desk, desk.session
        self._rows: dict[Path, RunRow] = {}
        """Those that are followed."""
        self._numbers: dict[Path, int] = {}
        """Of their jobs."""
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self._look_again)
        watch(self, self._session, ("project", "runs"), self._look_at_all)
        self._look_at_all()

    def _look_at_all(self) -> None:
        self._look([*self._session.state.runs, *self._rows.values()])

    def _look_again(self) -> None:
        self._look(self._rows.values())

    def _look(self, rows: Iterable[RunRow]) -> None:
        """See how runs are, in the background."""
        wanted = tuple({row.folder: row for row in rows}.values())
        if wanted:
            self._desk.background.run("runs elsewhere", lambda: _read(wanted), self._take)

    def _take(self, infos: tuple[RunInfo, ...]) -> None:
        own = self._desk.jobs.processes
        for info in infos:
            if info.folder in self._rows:
                self._follow(info)
            elif info.process is not None and info.process not in own:
                self._begin(info)
        if self._rows:
            self._timer.start()
        else:
            self._timer.stop()

    def _begin(self, info: RunInfo) -> None:
        assert info.process is not None
        self._rows[info.folder] = RunRow(
            number=info.number, folder=info.folder, started=info.started, state=info.state, about=info.about
        )
        job = Job(
            id=0,
            title=tr("{run}: {about}", run=run_name(info.number), about=info.about),
            argv=("resume", str(info.folder)),
            state="running",
            progress=_progress(info),
            made=(Made(what="run", path=str(info.folder)),),
            log=str(info.folder / "events.jsonl"),
            started=info.started,
            stays=True,
        )
        self._numbers[info.folder] = self._desk.jobs.follow(job, info.process)

    def _follow(self, info: RunInfo) -> None:
        if info.process is not None:
            self._desk.jobs.tell(self._numbers[info.folder], _progress(info))
            return
        del self._rows[info.folder]
        self._desk.jobs.follow_no_more(self._numbers.pop(info.folder), **_end(info))


def _read(rows: tuple[RunRow, ...]) -> tuple[RunInfo, ...]:
    """Return how runs are; of one that was followed and goes on no more, as its project says by now."""
    infos = read_infos(rows)
    over = {info.folder for info in infos if info.process is None}
    ended = read_infos([_as_kept(row) for row in rows if row.state == "running" and row.folder in over])
    return tuple({info.folder: info for info in (*infos, *ended)}.values())


def _as_kept(row: RunRow) -> RunRow:
    try:
        with Project.at(row.folder.parents[1]) as project:
            kept = {number: state for number, _started, state, _about in project.runs()}
    except (UserError, OSError):  # it was moved away meanwhile
        return row
    return RunRow(
        number=row.number,
        folder=row.folder,
        started=row.started,
        state=kept.get(row.number, row.state),
        about=row.about,
    )


def _progress(info: RunInfo) -> Progress:
    return Progress(
        what=tr("training"),
        done=info.step * info.batch,
        total=info.steps * info.batch,
        unit=tr("pictures"),
        rate=info.rate or None,
        eta_s=info.seconds_left,
    )


def _end(info: RunInfo) -> dict[str, str]:
    """Return how a run ended, as fields of its job."""
    match info.state:
        case "finished":
            return {"state": "done"}
        case "stopped":
            return {"state": "stopped"}
        case "failed":
            return {
                "state": "failed",
                "error": tr("The run could not go on."),
                "hint": tr("Its log in Train says why."),
            }
    return {"state": "failed", "error": tr("The run was cut off."), "hint": tr("It can be resumed in Train.")}
