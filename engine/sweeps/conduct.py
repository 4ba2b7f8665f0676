"""Who runs when: trainings side by side, each measured after its end, whatever happens kept in the ledger."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from engine.errors import EXIT_PARTIAL, DiskFull, Diverged, Stopped, UserError
from engine.protocol import Failed, Finished, Made, Message, Noticed, Progress, Tell
from engine.recipes import Plan, Recipe
from engine.run_files import state_of
from engine.scoring import Division, score_run
from engine.sweeps.children import Child, Ended, Inbox, flags_of
from engine.sweeps.ledger import ENDED, Entry, Ledger
from engine.timing import Pace

LISTEN_S = 0.2
"""Longest time until Ctrl-C is noticed."""
TRAINING = "training"
"""What the progress of a training is called."""
DONE = (0, EXIT_PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a sweep before it runs: a row of the list with a seed."""

    name: str
    seed: int
    recipe: Recipe
    plan: Plan
    key: str

    @property
    def title(self) -> str:
        """What it is called on the terminal and in the names of its files."""
        return f"{self.name}, seed {self.seed}"

    @property
    def pictures(self) -> int:
        """Pictures it sees, each as often as it sees it."""
        return self.plan.steps * self.plan.run.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a sweep works.

    ``division`` is None where labels do not suffice to measure accuracies; ``measured_on`` is its digest.
    """

    project: Path
    pictures: Path
    ledger: Ledger
    division: Division | None
    measured_on: str


@dataclass(slots=True)
class _Running:
    job: Job
    entry: Entry
    slot: int
    begun: float
    done: int = 0
    problem: str = ""
    left_out: int = 0


@dataclass(slots=True)
class Conductor:
    """Runs jobs, some at a time.

    Args:
        place: where.
        parallel: trainings at once.
        environment: what a child in the n-th of these places is given, such as its GPU.
        tell: gets progress and what is noticed, with the name of the run.
        should_stop: asked five times a second.
    """

    place: Place
    parallel: int
    environment: Callable[[int], dict[str, str]]
    tell: Tell
    should_stop: Callable[[], bool]
    _inbox: Inbox = field(default_factory=SimpleQueue)
    _running: dict[Child, _Running] = field(default_factory=dict)
    _done: int = 0

    def run(self, jobs: Sequence[Job]) -> list[Entry]:
        """Run what is not done and return the entries of all jobs, in their order.

        Raises:
            DiskFull: a run found no room; the others were stopped.
            Stopped: it should stop; all work is kept.
        """
        self._done = sum(job.pictures for job in jobs if self.entry(job).state in ENDED)
        begun = self._done + sum(self._seen_before(job) for job in jobs)
        pace = Pace("sweep", sum(job.pictures for job in jobs), "pictures", self.tell, start=begun)
        waiting = deque(job for job in jobs if not self.is_done(job))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.parallel:
                    self._begin(waiting.popleft())
                self._listen()
                done = self._done + sum(running.done for running in self._running.values())
                if done > pace.done:
                    pace.reached(done)
                if self.should_stop():
                    raise Stopped
        finally:
            self._end_all()
        return [self.entry(job) for job in jobs]

    def entry(self, job: Job) -> Entry:
        """Return what was done of a job; started anew where its folder was deleted, measured anew where labels are."""
        entry = self.place.ledger.entry(job.name, job.seed, job.key)
        if entry.run and not (self.place.project / entry.run / "plan.json").is_file():
            return Entry(name=job.name, seed=job.seed, key=job.key)
        return entry

    def _seen_before(self, job: Job) -> int:
        """Return the pictures that a run saw which was begun and is not at its end."""
        entry = self.entry(job)
        if not entry.run or entry.state in ENDED:
            return 0
        return state_of(self.place.project / entry.run).step * job.plan.run.batch

    def is_done(self, job: Job) -> bool:
        """Tell whether nothing is left to do of a job."""
        entry = self.entry(job)
        return entry.state in ENDED and not self._is_to_measure(entry)

    def _is_to_measure(self, entry: Entry) -> bool:
        if self.place.division is None or entry.state not in ("trained", "measured"):
            return False
        return entry.scores is None or entry.measured_on != self.place.measured_on

    def _begin(self, job: Job) -> None:
        entry = self.entry(job)
        if entry.state in ENDED:
            self._measure(job, entry)
            return
        taken = {running.slot for running in self._running.values()}
        slot = next(slot for slot in range(self.parallel) if slot not in taken)
        self._log(job).parent.mkdir(exist_ok=True)
        child = Child(self.command(job), self._log(job), self._inbox, self.environment(slot))
        self._running[child] = _Running(job=job, entry=entry, slot=slot, begun=time.monotonic())
        verb = "goes on" if entry.run else "starts"
        self.tell(Noticed(level="info", text=f"{job.title} {verb}."))

    def command(self, job: Job) -> list[str]:
        """Return what stands after ``engine`` to train a job, or to go on with it."""
        entry = self.entry(job)
        if entry.run:
            return ["resume", str(self.place.project / entry.run)]
        return ["train", str(self.place.project), *flags_of(job.recipe.asked)]

    def _listen(self) -> None:
        """Take the next message of any child, waiting for it a moment."""
        if not self._running:
            return
        try:
            child, message = self._inbox.get(timeout=LISTEN_S)
        except Empty:
            return
        if isinstance(message, Ended):
            self._ended(self._running.pop(child), message.exit_code)
        else:
            self._heard(self._running[child], message)

    def _heard(self, running: _Running, message: Message) -> None:
        title = running.job.title
        match message:
            case Progress(what=what, done=done) if what == TRAINING:
                running.done = done
                self.tell(replace(message, what=title))
            case Made(what="run", path=path):
                folder = Path(path).resolve().relative_to(self.place.project.resolve()).as_posix()
                running.entry = self.place.ledger.change(running.entry, run=folder)
            case Noticed(level="warning", text=text, hint=hint):
                self.tell(Noticed(level="warning", text=f"{title}: {text}", hint=hint))
            case Finished(outcome=outcome):
                running.left_out = len(outcome.get("replaced") or ())
            case Failed(message=text, hint=hint):
                running.problem = f"{text} {hint}".strip()

    def _ended(self, running: _Running, code: int) -> None:
        ledger, job = self.place.ledger, running.job
        entry = self._timed(running)
        if code in DONE:
            self._done += job.pictures
            self._measure(job, ledger.change(entry, state="trained", problem="", left_out=running.left_out))
        elif code == Diverged.exit_code:
            ledger.change(entry, state="diverged", problem=running.problem)
        elif code == DiskFull.exit_code:
            raise DiskFull(running.problem, "The sweep goes on where it was when it is started again.")
        elif not self.should_stop():
            problem = running.problem or f"It ended with code {code}; its log is {self._log(job)}."
            ledger.change(entry, state="failed", problem=problem)
            self.tell(Noticed(level="warning", text=f"{job.title} failed: {problem}"))

    def _timed(self, running: _Running) -> Entry:
        """Add what an attempt took to what those before it did."""
        seconds = running.entry.seconds + time.monotonic() - running.begun
        return self.place.ledger.change(running.entry, seconds=seconds)

    def _log(self, job: Job) -> Path:
        return self.place.ledger.folder / "logs" / f"{job.key}.txt"

    def _measure(self, job: Job, entry: Entry) -> None:
        """Measure a run that is at its end, unless that was done or nothing can be measured."""
        place = self.place
        if place.division is None or not self._is_to_measure(entry):
            return
        run = place.project / entry.run
        try:
            scores = score_run(run, place.pictures, place.division, job.plan.run.device, self.should_stop)
        except UserError as problem:
            place.ledger.change(entry, state="failed", problem=str(problem))
            self.tell(Noticed(level="warning", text=f"{job.title} was not measured: {problem}"))
            return
        place.ledger.change(entry, state="measured", scores=scores, measured_on=place.measured_on)
        told = f"{job.title}: k-NN {100 * scores.knn:.1f} %, linear {100 * scores.linear:.1f} %."
        self.tell(Noticed(level="info", text=told))

    def _end_all(self) -> None:
        """Let the children that still run end with their work kept; a second Ctrl-C ends them at once."""
        for child in self._running:
            child.stop()
        try:
            while self._running:
                with contextlib.suppress(Empty):
                    child, message = self._inbox.get(timeout=LISTEN_S)
                    if isinstance(message, Ended):
                        self._timed(self._running.pop(child))
                    elif isinstance(message, Made):
                        self._heard(self._running[child], message)
        except BaseException:
            for child in self._running:
                child.kill()
            raise
