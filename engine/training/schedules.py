"""What changes with the step: learning rate, weight decay, momentum, teacher temperature.

Functions of the step, so that they can be plotted before a run and need no state to resume.
Source: facebookresearch/dino ``utils.cosine_scheduler`` and ``main_dino.py``.
"""

import math
from dataclasses import dataclass

from engine.recipes import Plan
from engine.settings import OptimiserSettings

ROOT_REFERENCE_BATCH = 1024  # dinov2 scaling_rule sqrt_wrt_1024
HEADS_WARMUP = 10  # the part of the time in which heads alone learn
HEADS_MOMENTUM = 0.99  # half-life 69 steps
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
    step: int = 0
    first_epoch: int = 0
    """Where the phase began: only heads learn first, if a run starts from weights, and then everything begins anew."""

    @property
    def epoch_of_phase(self) -> int:
        """Epochs since the phase began."""
        return self.epoch - self.first_epoch


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
    """Return every scheduled value of a step of a plan.

    Where heads learn first, the schedules of everything else begin after that.
    """
    first, per_epoch = plan.heads_first_steps, plan.steps_per_epoch
    are_heads_alone = step < first
    optimiser = plan.optimiser
    since, steps = (step, first) if are_heads_alone else (step - first, plan.steps - first)
    warmup = first // HEADS_WARMUP if are_heads_alone else optimiser.warmup_epochs * per_epoch
    rate = plan.tuning.heads_rate if are_heads_alone else optimiser.learning_rate
    peak, end = _scaled(rate, optimiser, plan.run.batch), optimiser.learning_rate_end
    decay_end = optimiser.weight_decay if are_heads_alone else optimiser.weight_decay_end
    return Moment(
        epoch=step // per_epoch,
        learning_rate=cosine(peak, end, since, steps, warmup=warmup),
        weight_decay=cosine(optimiser.weight_decay, decay_end, since, steps),
        momentum=_heads_momentum(plan) if are_heads_alone else _momentum(plan, since, steps),
        teacher_temperature=_teacher_temperature(plan, step),
        is_last_of_epoch=(step + 1) % per_epoch == 0,
        step=step,
        first_epoch=0 if are_heads_alone else plan.tuning.heads_first_epochs,
    )


def _heads_momentum(plan: Plan) -> float:
    """A teacher that is to keep what a backbone knows would not take over what new heads learn."""
    return min(HEADS_MOMENTUM, _momentum(plan, 0, 1))


def _momentum(plan: Plan, step: int, steps: int) -> float:
    if "follower" in plan.heeded:
        return cosine(plan.follower.follower_momentum, plan.follower.follower_momentum_end, step, steps)
    return cosine(plan.dino.momentum, plan.dino.momentum_end, step, steps)


def _teacher_temperature(plan: Plan, step: int) -> float:
    """DINO's rises from epoch to epoch, DINOv2's from step to step (dinov2 train.py build_schedulers)."""
    dino = plan.dino
    start, end, warmup = dino.teacher_temperature_start, dino.teacher_temperature, dino.teacher_warmup_epochs
    if "ibot" in plan.heeded:
        return warmed_up(start, end, step, warmup * plan.steps_per_epoch)
    return warmed_up(start, end, step // plan.steps_per_epoch, warmup)
