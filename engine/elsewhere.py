"""A plan for GPUs that are not here: what a run would take on 8 or 64 of them, settled on any machine.

``64xh100`` names them. The plan is settled as it would be there; what it takes is `engine.scaling`'s arithmetic.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.catalogue import VitShape
from engine.errors import BadRecipe
from engine.facts import Machine
from engine.recipes import Plan
from engine.scaling import GPUS, Gpu, Head, Learning, Memory, Pace, memory, pace

CORES_PER_GPU = 12
"""Of the machines that GPUs come in: DGX A100 has 16 cores for each, DGX H100 has 14, rented ones have fewer."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """So many GPUs of a kind."""

    gpus: int
    gpu: Gpu

    @property
    def machine(self) -> Machine:
        """All of them as one machine, as a plan is settled for it."""
        return Machine(
            device="cuda",
            device_name=self.gpu.name,
            device_memory_bytes=int(self.gpu.memory_bytes),
            has_bf16=True,
            cores=CORES_PER_GPU * self.gpus,
            memory_bytes=int(self.gpus * self.gpu.memory_bytes),
        )


def elsewhere(text: str) -> Elsewhere:
    """Return the GPUs that are named.

    Raises:
        BadRecipe: there is no such GPU, or no number of them.
    """
    match = re.fullmatch(r"(\d{1,5})\s*x\s*([a-z0-9-]+)", text.strip().lower())
    if match is None or int(match[1]) < 1 or match[2] not in GPUS:
        raise BadRecipe(
            f"'{text}' names no GPUs.", f"Write a number and a kind, as 64xh100; the kinds are {', '.join(GPUS)}."
        )
    return Elsewhere(int(match[1]), GPUS[match[2]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a plan takes there: the memory of one GPU, the time of a step and of all."""

    memory: Memory
    pace: Pace
    seconds: float


def taken(plan: Plan, there: Elsewhere) -> Taken:
    """Return what a plan that was settled for some GPUs takes of them.

    Raises:
        BadRecipe: the plan is for no transformer.
    """
    run = plan.run
    pictures = run.batch // plan.processes // run.accumulation
    how = {"gpus": there.gpus, "sharding": run.sharding, "pictures": pictures}
    learning = learning_of(plan)
    speed = pace(learning, there.gpu, accumulation=run.accumulation, **how)
    return Taken(memory=memory(learning, **how), pace=speed, seconds=plan.steps * speed.step_s)


def learning_of(plan: Plan) -> Learning:
    """Return what a plan computes for one picture.

    Raises:
        BadRecipe: its network is no transformer.
    """
    shape, dino = plan.shape, plan.dino
    if not isinstance(shape, VitShape):
        raise BadRecipe(f"{plan.model.model} cannot be planned for other machines.", "Only transformers can.")
    head = Head(dino.prototypes, dino.bottleneck, dino.head_width, dino.head_layers)
    patch_head = None
    if "ibot" in plan.heeded and plan.ibot.ibot_weight:
        own = Head(plan.ibot.ibot_prototypes, plan.ibot.ibot_bottleneck, dino.head_width, dino.head_layers)
        patch_head = own if plan.ibot.separate_heads else head
    return Learning(
        shape=shape,
        global_side=plan.crops.global_side,
        local_side=plan.crops.local_side,
        local_crops=plan.crops.local_crops,
        head=head,
        patch_head=patch_head,
        drop_path=plan.model.drop_path if plan.model.drop_path_by == "leaving_out" else 0.0,
        checkpointing=plan.run.checkpointing,
    )


def most_of(memory: Memory) -> Sequence[tuple[str, float]]:
    """Return what memory is for, by size, in words and bytes; what is next to nothing is left out."""
    told = {
        "kept for the way back": memory.kept,
        "scores": memory.scores,
        "weights, gradients and averages": memory.state + memory.gradients,
        "gathered": memory.gathered,
        "CUDA": memory.context,
    }
    return [(name, size) for name, size in sorted(told.items(), key=lambda item: -item[1]) if size > memory.total / 200]
