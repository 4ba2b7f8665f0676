"""The guard of a run at work: what `guard` decides is done to the weights, in all processes alike.

The first process reads the features; what follows is told to the others. The weights to go back to lie in a checkpoint
of the run, so that a run that was killed and taken up again goes back to the same ones, bit for bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from engine import distributed
from engine.protocol import Measured, Noticed, Tell
from engine.recipes import Plan
from engine.training import checkpoint
from engine.training.gauge import Look
from engine.training.guard import Reading, Verdict, Watch, score_of
from engine.training.schedules import Moment

PREFIX = "guard."
"""Of the guard's tensors in a checkpoint."""


@dataclass(slots=True)
class Guarding:
    """The guard of one run.

    Attributes:
        plan: of the run.
        checkpoints: where the best weights are.
        put_back: gives the run the state it had at a checkpoint.
        tell: gets what was done.
        watch: what is known; None before step 0 was looked at.
        start_Qk: neighbours at step 0; the first process alone has them.
    """

    plan: Plan
    checkpoints: Path
    put_back: Callable[[checkpoint.Checkpoint], None]
    tell: Tell
    watch: Watch | None = None
    start_Qk: Tensor | None = None

    def take_up(self, tensors: Mapping[str, Tensor]) -> None:
        """Know what was known when a checkpoint was written, unless the best weights were left in another run."""
        kept = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        if kept and checkpoint.best_step(self.checkpoints) is not None:
            self.start_Qk = kept.pop("start_Qk")
            self.watch = Watch.of_numbers({name: value.item() for name, value in kept.items()})
            if distributed.world()[0] == 0:  # who was killed just after writing the best had not named it yet
                checkpoint.mark_best(self.checkpoints, self.watch.best_step, self.watch.best_score)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs."""
        if self.watch is None or self.start_Qk is None:
            return {}
        numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.watch.as_numbers().items()}
        return {f"{PREFIX}{name}": value for name, value in {"start_Qk": self.start_Qk.contiguous(), **numbers}.items()}

    @property
    def known(self) -> Watch:
        """What is known since step 0."""
        assert self.watch is not None, "a run begins with a look"
        return self.watch

    def begin(self, look: Look | None, step: int) -> None:
        """Take the first process's look before the first step of a run as what others are compared with."""
        if look is not None:
            self.start_Qk = look.neighbours_Qk
        self.watch = distributed.shared(None if look is None else Watch.from_start(look.reading, step))

    def is_due(self, step: int) -> bool:
        """Tell whether the features are to be looked at: often, and at the end, once the backbone learns."""
        since = step - self.plan.heads_first_steps
        return since > 0 and (since % self.plan.tuning.guard_every == 0 or step == self.plan.steps)

    def slowed(self, at: Moment) -> Moment:
        """Return the scheduled values with the learning rate that is left after all rollbacks."""
        factor = self.known.rate_factor
        return at if factor == 1.0 else replace(at, learning_rate=at.learning_rate * factor)

    def heads_have_learnt(self, step: int) -> None:
        """Let the run go back to here instead of to new heads; the backbone is that of the start still."""
        self.watch = self.known.moved_to(step)

    def judge(self, look: Look | None, step: int) -> bool:
        """Decide by the first process's look, and go back if need be; return whether these are the best weights yet."""
        before = self.known
        most = self.plan.tuning.guard_rollbacks
        decided = None if look is None else before.judge(look.reading, step, most_rollbacks=most)
        verdict, self.watch = distributed.shared(decided) or ("go_on", before)
        first = before.in_short(before.start)
        self._follow(verdict, "" if look is None else f"{before.in_short(look.reading)}, from {first} at the start")
        return verdict == "best"

    def harmed(self) -> None:
        """Go back because the loss or a gradient is not finite."""
        verdict, self.watch = self.known.harmed(most_rollbacks=self.plan.tuning.guard_rollbacks)
        self._follow(verdict, "the loss or a gradient stopped being finite")

    def _follow(self, verdict: Verdict, why: str) -> None:
        watch = self.known
        best = f"the weights of step {watch.best_step:,}"
        if verdict == "roll_back":
            self._go_back()
            said = f"Rollback {watch.rollbacks}: {why}. Back to {best}, at {watch.rate_factor:g} of the learning rate."
            self.tell(Noticed(level="warning", text=said))
        elif verdict == "end":
            self._go_back()
            said = f"Harm was done again: {why}. The run ends with {best}."
            self.tell(Noticed(level="warning", text=said, hint="Try a lower learning_rate, or adapters: lora_rank 8."))

    def _go_back(self) -> None:
        self.put_back(checkpoint.of_step(self.checkpoints, self.known.best_step))

    def end(self, step: int) -> str:
        """Leave the best weights in the run, and return in words what came of it."""
        watch = self.known
        if not watch.has_ended and watch.best_step != step:
            self._go_back()
        if watch.best_step != step:
            self.tell(Measured(step=step, values=self.numbers(watch.best)))
        return watch.in_words()

    def numbers(self, reading: Reading) -> dict[str, float]:
        """Return what is told of a reading."""
        start = reading if self.watch is None else self.watch.start
        numbers = {
            "guard_score": score_of(reading, start),
            "neighbours_of_start": reading.neighbours_of_start,
            "gauge_rank": reading.effective_rank,
        }
        return {"knn": reading.knn, **numbers} if reading.n_asked else numbers
