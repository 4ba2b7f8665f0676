"""What changes with the step: learning rate, weight decay, momentum, teacher temperature.

Functions of the step, so that they can be plotted before a run and need no state to resume.
Source: facebookresearch/dino ``utils.cosine_scheduler`` and ``main_dino.py``.
"""

import math
from dataclasses import dataclass

from engine.recipes import Plan

REFERENCE_BATCH = 256  # the batch a learning rate is given for: DINO app. C, "linear scaling rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The scheduled values of one step."""

    epoch: int
    learning_rate: float
    weight_decay: float
    momentum: float
    teacher_temperature: float


def cosine(start: float, end: float, step: int, steps: int, *, warmup: int = 0) -> float:
    """Return the value at ``step``: ``warmup`` steps from 0 to ``start``, both included, then a half cosine.

    The cosine would reach ``end`` one step after the last.
    """
    if step < warmup:
        return start * step / (warmup - 1) if warmup > 1 else 0.0
    turned = math.pi * (step - warmup) / (steps - warmup)
    return end + 0.5 * (start - end) * (1 + math.cos(turned))


def warmed_up(start: float, end: float, epoch: int, warmup: int) -> float:
    """Return ``warmup`` epochs from ``start`` to ``end`` (both included), then ``end``."""
    if epoch >= warmup:
        return end
    return start + (end - start) * epoch / (warmup - 1) if warmup > 1 else start


def moment(plan: Plan, step: int) -> Moment:
    """Return every scheduled value of a step of a plan."""
    steps, per_epoch = plan.steps, plan.steps_per_epoch
    epoch = step // per_epoch
    optimiser, dino = plan.optimiser, plan.dino
    return Moment(
        epoch=epoch,
        learning_rate=cosine(
            optimiser.learning_rate * plan.run.batch / REFERENCE_BATCH,
            optimiser.learning_rate_end,
            step,
            steps,
            warmup=optimiser.warmup_epochs * per_epoch,
        ),
        weight_decay=cosine(optimiser.weight_decay, optimiser.weight_decay_end, step, steps),
        momentum=cosine(dino.momentum, dino.momentum_end, step, steps),
        teacher_temperature=warmed_up(
            dino.teacher_temperature_start, dino.teacher_temperature, epoch, dino.teacher_warmup_epochs
        ),
    )
