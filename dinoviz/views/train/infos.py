"""How the runs of a project are: which go on, how far each is, which can be gone on with. Read in the background."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dinoviz.run_states import RunState, run_state
from dinoviz.session import RunRow
from engine.errors import BadInput
from engine.run_files import has_checkpoint, plan_of, state_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run as it is now.

    Args:
        number: in the project.
        folder: of the run.
        about: what it was called.
        started: seconds since 1970.
        state: how it is.
        process: that trains it, None where nobody does.
        step: steps taken.
        steps: of the whole run, 0 where its plan cannot be read.
        batch: pictures a step.
        knn: newest k-NN accuracy, None where it was not measured.
        knn_step: at which step that was.
        rate: pictures a second, newest.
        has_weights: there is a checkpoint or a backbone.
    """

    number: int
    folder: Path
    about: str
    started: float
    state: RunState
    process: int | None = None
    step: int = 0
    steps: int = 0
    batch: int = 1
    knn: float | None = None
    knn_step: int = 0
    rate: float = 0.0
    has_weights: bool = False

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to its end at the newest rate, None while unknown."""
        return (self.steps - self.step) * self.batch / self.rate if self.rate > 0 else None

    @property
    def can_resume(self) -> bool:
        """It ended before its last step."""
        return self.state != "running" and self.steps > 0 and self.step < self.steps


def read_infos(rows: Sequence[RunRow]) -> tuple[RunInfo, ...]:
    """Return how runs are, the newest first."""
    return tuple(_info(row) for row in sorted(rows, key=lambda row: -row.number))


def _info(row: RunRow) -> RunInfo:
    state, process = run_state(row.folder, row.state)
    told = state_of(row.folder)
    steps, batch = 0, 1
    try:
        plan = plan_of(row.folder)
        steps, batch = plan.steps, plan.run.batch
    except BadInput:
        pass  # shown without its length; its page says why
    return RunInfo(
        number=row.number,
        folder=row.folder,
        about=row.about,
        started=row.started,
        state=state,
        process=process,
        step=told.step,
        steps=steps,
        batch=batch,
        knn=told.values.get("knn"),
        knn_step=told.steps.get("knn", 0),
        rate=told.values.get("pictures_per_s", 0.0),
        has_weights=has_checkpoint(row.folder),
    )
