"""A job: one command of the engine that the window started, as a value that messages move on. No Qt."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.errors import EXIT_PARTIAL
from engine.protocol import Failed, Finished, Made, Measured, Noticed, Progress

State = Literal["waiting", "running", "stopping", "done", "partial", "stopped", "failed"]

ENDED: frozenset[State] = frozenset({"done", "partial", "stopped", "failed"})
MOST_NOTICES = 200
"""Sentences of a job that are kept; its log has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command and how far it is.

    Args:
        id: number, growing within a session.
        title: what it does, for people.
        argv: what stands after ``engine``.
        state: where it is.
        progress: last that it told.
        notices: sentences it told.
        made: files and folders it told of.
        measured: last numbers it told.
        outcome: what ``--json`` would have printed.
        error: what went wrong.
        hint: what to do about it.
        log: file with everything it wrote.
        started: seconds since 1970, 0 while it waits.
        ended: the same, 0 until it ended.
        stays: it goes on when the window closes.
    """

    id: int
    title: str
    argv: tuple[str, ...]
    state: State = "waiting"
    progress: Progress | None = None
    notices: tuple[Noticed, ...] = ()
    made: tuple[Made, ...] = ()
    measured: Measured | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    hint: str = ""
    log: str = ""
    started: float = 0.0
    ended: float = 0.0
    stays: bool = False

    @property
    def is_over(self) -> bool:
        """It ended, in whatever way."""
        return self.state in ENDED

    @property
    def did_it(self) -> bool:
        """It ended, and did what it should, if not for every picture."""
        return self.state in ("done", "partial")

    @property
    def command(self) -> str:
        """What a person would type to do the same."""
        return shlex.join(("engine", *self.argv))

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1; None while unknown."""
        if self.progress is None or not self.progress.total:
            return None
        return min(1.0, self.progress.done / self.progress.total)

    def heard(self, message: object) -> "Job":
        """Return the job after a message of its process."""
        match message:
            case Progress():
                return replace(self, progress=message)
            case Measured():
                return replace(self, measured=message)
            case Noticed():
                return replace(self, notices=(*self.notices, message)[-MOST_NOTICES:])
            case Made():
                return replace(self, made=(*self.made, message)[-MOST_NOTICES:])
            case Finished(stopped=True):
                return replace(self, state="stopped", ended=time.time())
            case Finished():
                state: State = "partial" if message.exit_code == EXIT_PARTIAL else "done"
                return replace(self, state=state, outcome=message.outcome, ended=time.time())
            case Failed():
                return replace(self, state="failed", error=message.message, hint=message.hint, ended=time.time())
        return self


def ended(job: Job, *, exit_code: int, has_crashed: bool, last_words: str) -> Job:
    """Return a job after its process ended; what it said itself stands, silence is worded here.

    Args:
        job: after its last message.
        exit_code: of the process.
        has_crashed: it was ended by a signal or a fault.
        last_words: last lines of its log.
    """
    if job.is_over:
        return job
    if job.state == "stopping":
        return replace(job, state="stopped", ended=time.time())
    how = "was ended by the system or a fault" if has_crashed else f"ended with {exit_code} and no last word"
    hint = "What was finished before is kept. Memory may have run out; the log has its last lines."
    said = f"{hint}\n{last_words}" if last_words else hint
    return replace(job, state="failed", error=f"The engine {how}.", hint=said, ended=time.time())
