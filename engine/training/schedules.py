"""What changes with the step: learning rate, weight decay, momentum, teacher temperature.

Functions of the step, so that they can be plotted before a run and need no state to resume.
Source: facebookresearch/dino ``utils.cosine_scheduler`` and ``main_dino.py``.
"""

import math
from dataclasses import dataclass

from engine.recipes import Plan
from engine.settings import OptimiserSettings

ROOT_REFERENCE_BATCH = 1024  # dinov2 scaling_rule sqrt_wrt_1024
REFERENCE_BATCH = 256  # the batch a learning rate is given for: DINO app. C, "linear scaling rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The scheduled values of one step."""

    epoch: int
    learning_rate: float
    weight_decay: float
    momentum: float
    teacher_temperature: float
    is_last_of_epoch: bool = False
    first_epoch: int = 0
    """Where the phase began: only heads learn first, if a run starts from weights, and then everything begins anew."""

    @property
    def epoch_of_phase(self) -> int:
        """Epochs since the phase began."""
        return self.epoch - self.first_epoch
    step: int = 0


def cosine(start: float, end: float, step: int, steps: int, *, warmup: int = 0) -> float:
    """Return the value at ``step``: ``warmup`` steps from 0 to ``start``, both included, then a half cosine.

    The cosine would reach ``end`` one step after the last.
    """
    if step < warmup:
        return start * step / (warmup - 1) if warmup > 1 else 0.0
    turned = math.pi * (step - warmup) / (steps - warmup)
    return end + 0.5 * (start - end) * (1 + math.cos(turned))


def warmed_up(start: float, end: float, time: int, warmup: int) -> float:
    """Return ``warmup`` epochs or steps from ``start`` to ``end`` (both included), then ``end``."""
    if time >= warmup:
        return end
    return start + (end - start) * time / (warmup - 1) if warmup > 1 else start


def peak_rate(optimiser: OptimiserSettings, batch: int) -> float:
    """Return the highest learning rate of a run with so many pictures a step."""
    return _scaled(optimiser.learning_rate, optimiser, batch)


def _scaled(rate: float, optimiser: OptimiserSettings, batch: int) -> float:
    if optimiser.rate_scaling == "root_1024":
        return rate * math.sqrt(batch / ROOT_REFERENCE_BATCH)
    return rate * batch / REFERENCE_BATCH


def moment(plan: Plan, step: int) -> Moment:
    """Return every scheduled value of a step of a plan."""
    steps, per_epoch = plan.steps, plan.steps_per_epoch
    epoch = step // per_epoch
    optimiser = plan.optimiser
    return Moment(
        epoch=epoch,
        learning_rate=cosine(
            peak_rate(optimiser, plan.run.batch),
            optimiser.learning_rate_end,
            step,
            steps,
            warmup=optimiser.warmup_epochs * per_epoch,
        ),
        weight_decay=cosine(optimiser.weight_decay, optimiser.weight_decay_end, step, steps),
        momentum=_momentum(plan, step),
        teacher_temperature=_teacher_temperature(plan, step),
        is_last_of_epoch=(step + 1) % per_epoch == 0,
        step=step,
    )


def _momentum(plan: Plan, step: int) -> float:
    if "follower" in plan.heeded:
        return cosine(plan.follower.follower_momentum, plan.follower.follower_momentum_end, step, plan.steps)
    return cosine(plan.dino.momentum, plan.dino.momentum_end, step, plan.steps)


def _teacher_temperature(plan: Plan, step: int) -> float:
    """DINO's rises from epoch to epoch, DINOv2's from step to step (dinov2 train.py build_schedulers)."""
    dino = plan.dino
    start, end, warmup = dino.teacher_temperature_start, dino.teacher_temperature, dino.teacher_warmup_epochs
    if "ibot" in plan.heeded:
        return warmed_up(start, end, step, warmup * plan.steps_per_epoch)
    return warmed_up(start, end, step // plan.steps_per_epoch, warmup)
