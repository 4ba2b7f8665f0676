"""Processes of the engine as objects of the window: jobs in a queue, and services that answer.

A job is the command that a person would type, with ``--pipe``: its messages come up one JSON object a line, Stop goes
down. A service stays and answers questions, of every slot only the newest. Their logs are files. When the window ends,
however it ends, its pipes close and everything it started ends too, but for jobs that were told to stay.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_log_dir
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from dinoviz.jobs import Job, ended
from dinoviz.run_states import ask_to_stop
from dinoviz.session import Session
from engine.errors import BadRecipe
from engine.protocol import (
    Answer,
    Ask,
    Failed,
    Finished,
    Made,
    Progress,
    Refused,
    Stay,
    Stop,
    Superseded,
    decode,
    encode,
)

GRACE_MS = 10_000
"""How long a job may take from Stop to its end before it is killed; a training step and its checkpoint take less."""
FLUSH_MS = 200
"""How long a request may take into the pipe, as the window closes; the pipe of a process that is alive takes it now."""
KILL_MS = 1000
"""How long the system may take to end a process that was killed."""
LAST_LINES = 12
TAIL_BYTES = 16 << 10
"""Of a log only its end is read: a training of a week writes hundreds of megabytes."""
REFRESH_S = 1.5
"""While a scan goes on the table is read again this often, or ten times as long as reading takes."""
ENVIRONMENT = {
    # Large tensors are kept by glibc instead of given back at every step: 4 to 11 % of a training step.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    # Threads that wait for each other soon sleep: beside two busy processes on 2 cores a training made 121 steps where
    # it made 1 with threads that spin; with nothing beside it both are as fast.
    "GOMP_SPINCOUNT": "1000",
}
"""What the engine's processes are given beside the person's own; what the person set wins."""


class EngineProcess(QObject):
    """One process of the engine: whole lines up as messages, requests down, the rest to its log.

    Args:
        argv: what stands after ``engine``.
        log: file that its standard error is written to.
    """

    message = Signal(object)
    ended = Signal(int, bool)
    """Exit code, and whether a signal or a fault ended it."""

    def __init__(self, argv: Sequence[str], log: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rest = b""
        self._has_ended = False
        self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        for name, value in ENVIRONMENT.items():
            if not environment.contains(name):
                environment.insert(name, value)
        environment.insert("PYTHONUNBUFFERED", "1")
        self._process.setProcessEnvironment(environment)
        self._process.setStandardErrorFile(_written_to(log))
        self._process.setProgram(sys.executable)
        self._process.setArguments(["-P", "-m", "engine", *argv])  # -P: not a folder 'engine' of the user's own
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._patience = QTimer(self, singleShot=True)
        self._patience.timeout.connect(self.kill)

    @property
    def pid(self) -> int:
        """Number of the process, 0 while it does not run."""
        return self._process.processId()

    def start(self) -> None:
        """Start it."""
        self._process.start()

    def send(self, request: Ask | Stop | Stay) -> None:
        """Send a request down."""
        if self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.write(encode(request).encode() + b"\n")

    def flush(self) -> None:
        """Wait until what was sent is in the pipe, which the event loop does otherwise: the window closes."""
        self._process.waitForBytesWritten(FLUSH_MS)

    def close_pipe(self) -> None:
        """Close the pipe, which ends a service."""
        self._process.closeWriteChannel()

    def kill(self) -> None:
        """End it without asking."""
        self._process.kill()

    def stop(self) -> None:
        """Ask it to end and keep its work; it is killed where that takes too long."""
        self.send(Stop())
        self._patience.start(GRACE_MS)

    def leave(self) -> None:
        """Tell nobody anything any more, end, and then be gone; nothing waits for it."""
        self.message.disconnect()
        self.ended.disconnect()
        self.ended.connect(self.deleteLater)
        self.close_pipe()
        self._patience.start(GRACE_MS)

    def wait(self, timeout_ms: int) -> bool:
        """Wait for its end; only when the window closes."""
        if self._process.state() == QProcess.ProcessState.NotRunning:
            return True
        return self._process.waitForFinished(timeout_ms)

    def _read(self) -> None:
        # Split at newlines first: a chunk may end within a letter.
        *lines, self._rest = (self._rest + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = decode(line.decode())
        except (ValueError, TypeError, BadRecipe):  # of another version, or not ours at all: it is in nobody's way
            return
        if message is not None:
            self.message.emit(message)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        self._end(code, status == QProcess.ExitStatus.CrashExit)

    def _failed(self, problem: QProcess.ProcessError) -> None:
        if problem == QProcess.ProcessError.FailedToStart:  # told within ``start``, where nobody is ready to hear it
            QTimer.singleShot(0, self, lambda: self._end(-1, True))

    def _end(self, code: int, has_crashed: bool) -> None:
        if not self._has_ended:
            self._has_ended = True
            self.ended.emit(code, has_crashed)


def log_folder() -> Path:
    """Return where the logs of engine processes are kept."""
    return Path(user_log_dir("dinoviz")) / "jobs"


def _written_to(log: Path) -> str:
    """Return where a process writes its log: nowhere, where the file cannot be made; it works without."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.open("wb").close()
    except OSError:
        return QProcess.nullDevice()
    return str(log)


def last_lines(log: Path, n: int = LAST_LINES) -> str:
    """Return the last lines of a log, empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
    except OSError:
        return ""
    return "\n".join(tail.decode(errors="replace").splitlines()[-n:])


SCANS = frozenset({"scan", "doctor", "models"})
"""Verbs that run beside the one that works: they are short, or only read."""


class Jobs(QObject):
    """The queue: one working job at a time, scans beside it.

    Args:
        session: told of every job's state.
    """

    message = Signal(int, object)
    """Every message of every job, as it comes."""
    ended = Signal(object)
    """A job, after its end."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._numbers = count(1)
        self._processes: dict[int, EngineProcess] = {}
        self._elsewhere: dict[int, int] = {}
        """Processes that this window did not start, by the numbers of their jobs."""
        self._then: dict[int, Callable[[Job], object]] = {}
        self._last_words: dict[int, Job] = {}
        self._refreshed = 0.0
        self._is_closing = False

    def start(self, argv: Sequence[str], title: str, then: Callable[[Job], object] | None = None) -> int:
        """Put a job into the queue and return its number.

        Args:
            argv: what stands after ``engine``, without ``--pipe``.
            title: what it does, for people.
            then: called with the job after its end, whatever that was.
        """
        number = next(self._numbers)
        if then:
            self._then[number] = then
        log = log_folder() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{number}.txt"
        self._session.set_job(Job(id=number, title=title, argv=tuple(map(str, argv)), log=str(log)))
        self._go_on()
        return number

    def chain(self, steps: Sequence[tuple[Sequence[str], str]], then: Callable[[Job], object] | None = None) -> int:
        """Start jobs one after the other, each only where the one before did what it should.

        Args:
            steps: what stands after ``engine``, and a title, of each.
            then: called with the last one, where it did what it should.
        """
        (argv, title), *rest = steps

        def go_on(job: Job) -> None:
            if not job.did_it:
                return
            if rest:
                self.chain(rest, then)
            elif then:
                then(job)

        return self.start(argv, title, go_on)

    def job(self, number: int) -> Job | None:
        """Return a job by its number."""
        return next((job for job in self._session.state.jobs if job.id == number), None)

    @property
    def unfinished(self) -> list[Job]:
        """Jobs that wait or run."""
        return [job for job in self._session.state.jobs if not job.is_over]

    def stop(self, number: int) -> None:
        """End a job and keep its work; one that waits is taken off the queue. A second time it is killed."""
        job = self.job(number)
        if job is None or job.is_over:
            return
        if job.state == "waiting":
            self._end(replace(job, state="stopped", ended=time.time()))
        elif number in self._elsewhere:
            self._stop_elsewhere(job)
        elif job.state == "stopping":
            self._processes[number].kill()
        else:
            self._session.set_job(replace(job, state="stopping"))
            self._processes[number].stop()

    def retry(self, number: int) -> int | None:
        """Start a job that ended again, and return its new number."""
        job = self.job(number)
        if job is None or not job.is_over:
            return None
        self._session.drop_job(number)
        return self.start(job.argv, job.title, self._then.pop(number, None))

    def dismiss(self, number: int) -> None:
        """Take a job that ended off the list."""
        self._session.drop_job(number)
        self._then.pop(number, None)

    def stay(self, number: int) -> None:
        """Let a job go on when the window closes."""
        job = self.job(number)
        if job and number in self._processes:
            self._processes[number].send(Stay())
            self._processes[number].flush()  # the window may close before the event loop turns again
            self._session.set_job(replace(job, stays=True))

    def close(self, grace_ms: int = GRACE_MS) -> None:
        """End everything but what stays, and begin nothing more; waits for it, as the window closes."""
        self._is_closing = True
        for job in self.unfinished:
            if job.state == "waiting":
                self._session.set_job(replace(job, state="stopped", ended=time.time()))
        going = [p for number, p in self._processes.items() if not getattr(self.job(number), "stays", False)]
        limit = time.monotonic() + grace_ms / 1000
        for process in going:
            process.send(Stop())
            process.flush()  # of all, before the first is waited for: each has the whole time
        for process in going:
            if not process.wait(max(0, round(1000 * (limit - time.monotonic())))):
                process.kill()
                process.wait(KILL_MS)

    # Jobs of processes that this window did not start.

    @property
    def processes(self) -> frozenset[int]:
        """Numbers of the processes that this window started."""
        return frozenset(process.pid for process in self._processes.values())

    def follow(self, job: Job, process: int) -> int:
        """Show what another process does as a job, which can be stopped and is waited for; return its number."""
        number = next(self._numbers)
        self._elsewhere[number] = process
        self._session.set_job(replace(job, id=number))
        return number

    def tell(self, number: int, progress: Progress) -> None:
        """Show how far such a job is."""
        job = self.job(number)
        if job is not None:
            self._session.set_job(replace(job, progress=progress))

    def follow_no_more(self, number: int, **end: Any) -> None:
        """End such a job: its process has; ``end`` are fields of the job."""
        job, _ = self.job(number), self._elsewhere.pop(number)
        if job is not None:
            self._end(replace(job, ended=time.time(), **end))

    def _stop_elsewhere(self, job: Job) -> None:
        try:
            ask_to_stop(self._elsewhere[job.id])
        except ProcessLookupError:
            pass  # it has ended, which whoever follows it finds out
        except OSError as problem:
            self._session.notify("error", f"{job.title} cannot be stopped: {problem.strerror}.")
        else:
            self._session.set_job(replace(job, state="stopping"))

    # The queue.

    def _go_on(self) -> None:
        if self._is_closing:
            return
        waiting = [job for job in self._session.state.jobs if job.state == "waiting"]
        working = self._processes.keys() | self._elsewhere.keys()
        is_busy = any(job.argv[0] not in SCANS for job in self._session.state.jobs if job.id in working)
        for job in waiting:
            if job.argv[0] in SCANS or not is_busy:
                is_busy = is_busy or job.argv[0] not in SCANS
                self._begin(job)

    def _begin(self, job: Job) -> None:
        process = EngineProcess([*job.argv, "--pipe"], Path(job.log), self)
        self._processes[job.id] = process
        process.message.connect(lambda message: self._heard(job.id, message))
        process.ended.connect(lambda code, has_crashed: self._ended(job.id, code, has_crashed))
        self._session.set_job(replace(job, state="running", started=time.time()))
        process.start()

    def _heard(self, number: int, message: object) -> None:
        job = self.job(number)
        if job is None:
            return
        after = job.heard(message)
        if isinstance(message, Finished | Failed):  # shown as ended once the process has
            self._last_words[number] = after
        else:
            self._session.set_job(after)
        self.message.emit(number, message)
        self._refresh_now_and_then(job, message)

    def _refresh_now_and_then(self, job: Job, message: object) -> None:
        """Show what a job made before it ends: pictures found, a map so far."""
        is_due = time.monotonic() - self._refreshed > REFRESH_S
        if (job.argv[0] == "scan" and isinstance(message, Progress) and is_due) or isinstance(message, Made):
            self._refreshed = time.monotonic()
            self._session.refresh()

    def _ended(self, number: int, code: int, has_crashed: bool) -> None:
        process = self._processes.pop(number)
        process.deleteLater()
        job = self._last_words.pop(number, None) or self.job(number)
        if job is not None:
            self._end(ended(job, exit_code=code, has_crashed=has_crashed, last_words=last_lines(Path(job.log))))

    def _end(self, job: Job) -> None:
        self._session.set_job(job)
        if self._is_closing:
            return
        if job.started:
            self._session.refresh()
        then = self._then.get(job.id)  # kept: what follows a job follows it too where it is tried again
        self._go_on()
        self.ended.emit(job)
        if then:
            then(job)


ServiceState = Literal["off", "starting", "ready", "failed"]
MOST_CRASHES = 3
"""Starts in a row without an answer, after which a service is not started again by itself."""


class Service(QObject):
    """A resident process that answers questions: ``engine serve vision`` or ``search``.

    It starts with the first question and again after a crash. Of the questions of one slot only the newest is answered.

    Args:
        name: vision or search.
        arguments: returns what stands after ``engine serve NAME``, or None while it cannot start.
    """

    changed = Signal()

    def __init__(self, name: str, arguments: Callable[[], Sequence[str] | None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._name, self._arguments = name, arguments
        self._process: EngineProcess | None = None
        self._started_with: tuple[str, ...] = ()
        self._numbers = count(1)
        self._asked: dict[int, tuple[Ask, Callable[[object], object], Callable[[Refused], object] | None]] = {}
        self._newest: dict[str, int] = {}
        self._crashes = 0
        self._ending: EngineProcess | None = None
        self._is_closing = False
        self.state: ServiceState = "off"
        self.problem = ""

    def ask(
        self,
        question: object,
        slot: str,
        then: Callable[[object], object],
        refused: Callable[[Refused], object] | None = None,
    ) -> None:
        """Ask, and call ``then`` with the answer.

        Args:
            question: of ``engine.questions``.
            slot: the place that shows the answer; a newer question of it supersedes this one.
            then: called with the answer, unless something newer was asked of the slot.
            refused: called where there is no answer; says why.
        """
        if not self._is_running():
            return self._refuse_now(refused)
        ask = Ask(id=next(self._numbers), question=question, slot=slot)
        older = self._newest.get(slot)
        if older is not None:
            self._asked.pop(older, None)
        self._newest[slot] = ask.id
        self._asked[ask.id] = (ask, then, refused)
        assert self._process is not None
        self._process.send(ask)
        return None

    @property
    def is_busy(self) -> bool:
        """Something was asked and is not answered yet."""
        return bool(self._asked)

    def restart(self) -> None:
        """Start it again with the next question, after it failed."""
        self._let_go()
        self._crashes = 0
        self._set_state("off")

    def end_soon(self) -> None:
        """Let it end without waiting for that, as ``close`` does; it never starts again."""
        self._is_closing = True
        self._ending = self._process or self._ending
        self._let_go()

    def close(self, grace_ms: int = 2000) -> None:
        """End it, and wait for that: the window closes."""
        self.end_soon()
        process, self._ending = self._ending, None
        if process and not process.wait(grace_ms):
            process.kill()
            process.wait(KILL_MS)

    def _let_go(self) -> None:
        """Let its process end, which it does by itself; what was asked is dropped."""
        process, self._process = self._process, None
        self._asked.clear()
        self._newest.clear()
        if process:
            process.leave()

    def _refuse_now(self, refused: Callable[[Refused], object] | None) -> None:
        if refused:
            refused(Refused(id=None, message=self.problem or "There is no project open.", hint=""))

    def _is_running(self) -> bool:
        """Start it where it does not run, or runs with other arguments; tell whether it does then."""
        if self._is_closing:
            return False
        arguments = self._arguments()
        if arguments is None:
            if self._process is None:
                self._set_state("off")  # that it failed before is no reason any more
            return False
        if tuple(arguments) != self._started_with:  # what failed before says nothing about these
            self._let_go()
            self._crashes = 0
        if self._crashes >= MOST_CRASHES:
            return False
        if self._process is None:
            self._begin(tuple(arguments))
        return True

    def _begin(self, arguments: tuple[str, ...]) -> None:
        self._started_with = arguments
        self._log = log_folder() / f"{self._name}-{os.getpid()}.txt"
        self._process = EngineProcess(["serve", self._name, *arguments], self._log, self)
        self._process.message.connect(self._heard)
        self._process.ended.connect(self._ended)
        self._set_state("starting")
        self._process.start()

    def _heard(self, message: object) -> None:
        if isinstance(message, Answer | Refused) and message.id is not None:
            self._crashes = 0
            self._set_state("ready")
            ask, then, refused = self._asked.pop(message.id, (None, None, None))
            if ask is None or self._newest.get(ask.slot) != message.id:
                return
            if isinstance(message, Answer) and then:
                then(message.answer)
            elif isinstance(message, Refused) and refused:
                refused(message)
        elif isinstance(message, Superseded):
            self._asked.pop(message.id, None)
        elif isinstance(message, Failed):
            self.problem = f"{message.message} {message.hint}".strip()

    def _ended(self, code: int, has_crashed: bool) -> None:
        process, self._process = self._process, None
        if process:
            process.deleteLater()
        asked, self._asked = self._asked, {}
        self._crashes += 1
        is_as_asked = tuple(self._arguments() or ()) == self._started_with
        if has_crashed and is_as_asked and self._crashes < MOST_CRASHES and self._is_running():
            self._ask_again([entry for number, entry in asked.items() if number in self._newest.values()])
            return
        how = "was ended by the system or a fault" if has_crashed else f"ended with {code}"
        self.problem = self.problem or f"The {self._name} service {how}. {last_lines(self._log, 3)}"
        self._crashes = MOST_CRASHES
        self._set_state("failed")
        for _ask, _then, refused in asked.values():
            self._refuse_now(refused)

    def _ask_again(self, entries: Sequence[tuple[Ask, Callable[[object], object], object]]) -> None:
        assert self._process is not None
        for ask, then, refused in entries:
            self._asked[ask.id] = (ask, then, refused)  # type: ignore[assignment]
            self._process.send(ask)

    def _set_state(self, state: ServiceState) -> None:
        if state != self.state:
            self.state = state
            if state != "failed":
                self.problem = ""
            self.changed.emit()
