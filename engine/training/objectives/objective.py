"""The seam between what is learnt and the loop that learns it.

An objective knows its networks, its loss and what happens after a step. It knows nothing of optimisers, precision,
devices, files or messages; the loop in ``train`` knows nothing of teachers. Whatever an objective must carry from one
step to the next lies in its parameters and buffers, so that a checkpoint of its ``state_dict`` is all a run needs.

Letters after a name are its axes:
    V views · G large views · B pictures · P patches · M masked patches · C Y X channels and pixels · D width
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.catalogue import VitShape
from engine.models.adapters import adapt
from engine.models.backbones import build_backbone
from engine.models.vit import VisionTransformer
from engine.recipes import Plan
from engine.training.pictures import Pixels
from engine.training.schedules import Moment

LAYERS_BELOW = ("cls_token", "pos_embed", "mask_token", "register_tokens", "patch_embed.")
"""What comes before the first block, and learns at its rate or slower; dinov2 utils/param_groups.py."""
PATCH_EMBED = "patch_embed."


@dataclass(frozen=True, slots=True)
class Part:
    """What the networks see of some pictures, on their device.

    ``views_VBCYX``: normalised crops, large ones first, each (B, C, Y, X). ``masked_M``: places of the hidden patches
    among all G * B * P of the large crops, ``masks_GBP`` the same as bool, ``weights_M`` one over the number hidden in
    the same crop; None where nothing is hidden. ``labels_B``: classes, -1 for none; None where nothing has one.
    """

    views_VBCYX: list[Tensor]
    masks_GBP: Tensor | None = None
    masked_M: Tensor | None = None
    weights_M: Tensor | None = None
    labels_B: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """The number to go down, its parts, and what is watched for collapse; scalars that still live on the device."""

    total: Tensor
    parts: dict[str, Tensor]
    watched: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are treated alike by the optimiser.

    ``rate`` multiplies the learning rate; ``network`` is the part of the student they belong to, whose gradient may be
    clipped as a whole; ``is_last_layer`` marks prototypes, which stand still at first.
    """

    names: list[str]
    parameters: list[nn.Parameter]
    has_decay: bool
    rate: float = 1.0
    network: str = ""
    is_last_layer: bool = False


class Objective(nn.Module):
    """What a run learns by. ``student`` is the network that gradients move; it has a ``backbone``."""

    student: nn.Module

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self._averaged: tuple[DistributedDataParallel, ...] = ()  # a tuple, so that its tensors are not ours twice
        self._still: tuple[nn.Parameter, ...] = ()  # the same

    @property
    def backbone(self) -> nn.Module:
        """The network a run is for: what is measured, looked through and written at the end."""
        raise NotImplementedError  # abstract: every objective has its own, and a module takes no ABC

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Every network with a ``backbone``, the student first."""
        return (self.student,)

    @property
    def classifier(self) -> nn.Linear | None:
        """What tells classes by the backbone's features; None where no classes are learnt."""
        return None

    def judge(self, pictures_BCYX: Tensor) -> Tensor:
        """Return the score of each class for normalised pictures, (B, K), where classes are learnt."""
        raise NotImplementedError  # abstract: every objective has its own, and a module takes no ABC

    def begin(self, folder: Path, pixels: Pixels, device: torch.device, *, is_new: bool) -> None:
        """Take what a run's folder holds besides the plan and the weights it starts from; nothing for most.

        Called once, before the first step and before a checkpoint is put back. ``pixels`` are those that are learnt
        from; ``device`` is where the objective will be; ``is_new`` where no checkpoint follows.
        """

    def start_from(self, backbone: nn.Module) -> None:
        """Take a backbone's weights for every network; the heads stay new."""
        weights = backbone.state_dict()
        for network in self.networks:
            missing, unexpected = network.backbone.load_state_dict(weights, strict=False)  # type: ignore[union-attr]
            assert not unexpected and set(missing) <= {"mask_token"}, "the plan has the shape of what it starts from"

    def adapt(self, rank: int) -> None:
        """Let matrices of low rank learn in place of the backbones' weights (`models.adapters`), all the same ones."""
        student = cast("nn.Module", self.student.backbone)
        adapt(student, rank)
        for network in self.networks[1:]:
            backbone = cast("nn.Module", network.backbone)
            adapt(backbone, rank)
            backbone.load_state_dict(student.state_dict())
            network.requires_grad_(False)

    def freeze_backbone(self, is_still: bool) -> None:
        """Let only the heads learn, or all of the student again.

        A backbone that stands still computes as it does when it is used: no branch is left out, batch norm does not
        follow the pictures, and no gradient goes back through it.
        """
        student = cast("nn.Module", self.student.backbone)
        if is_still:
            self._still = tuple(parameter for parameter in student.parameters() if parameter.requires_grad)
        elif not self._still:
            return
        for parameter in self._still:
            parameter.requires_grad_(not is_still)
        for backbone in (student, self.backbone):
            backbone.train(not is_still)

    def average(self, wrap: Callable[[nn.Module], DistributedDataParallel]) -> None:
        """Run the student through ``wrap(student)``, which averages its gradients over the processes."""
        self._averaged = (wrap(self.student),)

    @property
    def learner(self) -> nn.Module:
        """The student, or what averages its gradients over the processes."""
        return self._averaged[0] if self._averaged else self.student

    def synced(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of one part of a batch: gradients are averaged over processes with the last only."""
        if is_last or not self._averaged:
            return contextlib.nullcontext()
        return cast("contextlib.AbstractContextManager[None]", self._averaged[0].no_sync())

    def answers(self, parts: Sequence[Part], at: Moment) -> list[Any]:
        """Return what each part's loss is compared with, computed without gradients over the whole batch first."""
        return [None] * len(parts)

    def loss(self, part: Part, answer: Any, at: Moment, *, watch: bool = False) -> Loss:
        """Return the loss of one part of a batch; ``watch`` adds what tells collapse."""
        raise NotImplementedError  # abstract: every objective has its own, and a module takes no ABC

    def groups(self) -> list[Group]:
        """Return the student's parameters as the optimiser treats them.

        Biases and vectors do not decay (DINO utils.py get_params_groups; the same tensors as in dinov2, whose rule
        goes by names). Rates fall towards the first block by ``layer_decay`` (dinov2 utils/param_groups.py).
        """
        found: dict[tuple[str, float, bool, bool], Group] = {}
        for name, parameter in self.student.named_parameters():
            if parameter.requires_grad:
                network, _, within = name.partition(".")
                has_decay = not (name.endswith(".bias") or parameter.ndim == 1)
                rate = self._rate(within) if network == "backbone" else 1.0
                is_last = ".last_layer." in name
                key = (network, rate, has_decay, is_last)
                group = found.setdefault(key, Group([], [], has_decay, rate, network, is_last))
                group.names.append(name)
                group.parameters.append(parameter)
        return list(found.values())

    def _rate(self, name: str) -> float:
        """Return the factor on the learning rate of a parameter of the backbone."""
        settings, shape = self.plan.optimiser, self.plan.shape
        depth = getattr(shape, "depth", 0)
        layer = depth + 1
        if name.startswith(LAYERS_BELOW):
            layer = 0
        elif name.startswith("blocks."):
            layer = int(name.split(".")[1]) + 1
        rate = settings.layer_decay ** (depth + 1 - layer)
        return rate * settings.patch_embed_rate if name.startswith(PATCH_EMBED) else rate

    def before_step(self, at: Moment) -> None:
        """Called with all gradients there, before the optimiser moves."""

    def after_step(self, at: Moment) -> None:
        """Called after the optimiser has moved the student: the time to move teachers, centres and queues."""


def new_backbone(plan: Plan, *, drop_path: float) -> nn.Module:
    """Return the backbone of a plan with new weights."""
    backbone = build_backbone(
        plan.shape,
        drop_path=drop_path,
        drop_path_is_uniform=plan.model.drop_path_by == "leaving_out",
        drop_path_by=plan.model.drop_path_by,
        packing=plan.run.packing,
        checkpointing=plan.run.checkpointing,
        start=plan.model.start,
    )
    is_masked = "ibot" in plan.heeded and plan.ibot.ibot_weight > 0
    if isinstance(plan.shape, VitShape) and plan.shape.has_mask_token and not is_masked:
        # Nothing is masked, and processes wait for the gradient of what learns.
        backbone.get_parameter("mask_token").requires_grad_(False)
    return backbone


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """Make a teacher a mean of itself, weighted by ``keep``, and the student; 0 copies the student.

    Statistics of batch normalisation are no parameters: the teacher's come from its own pictures. What does not learn
    stays what it is, to the bit: a mean of equals would round.
    """
    of_teacher, of_student = dict(teacher.named_parameters()), dict(student.named_parameters())
    moving = [name for name in of_teacher if keep == 0.0 or of_student[name].requires_grad]
    theirs = [of_teacher[name].data for name in moving]
    ours = [of_student[name].data for name in moving]
    torch._foreach_mul_(theirs, keep)
    torch._foreach_add_(theirs, ours, alpha=1 - keep)


def runs_of_one_size(views: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the views in runs of one height and width."""
    start = 0
    for i in range(1, len(views) + 1):
        if i == len(views) or views[i].shape[-2:] != views[start].shape[-2:]:
            yield list(views[start:i])
            start = i


def compiled(network: nn.Module) -> None:
    """Compile a network's backbone block by block: small graphs, compiled once for each size of crop."""
    backbone = cast("nn.Module", network.backbone)
    blocks = list(backbone.blocks) if isinstance(backbone, VisionTransformer) else [backbone]
    for block in blocks:
        block.compile(dynamic=False)
