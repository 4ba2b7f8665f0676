"""What a run learns by. An objective knows its networks, its loss and what happens after a step.

It knows nothing of optimisers, precision, devices, files or messages; the loop in ``train`` knows nothing
of teachers. To add one: a settings class in `engine.recipes` and a class here with the same members.

Letters after a name are its axes:
    V views · G global views · B pictures · C Y X channels and pixels · D width · K prototypes
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.models.backbones import build_backbone, feature_width
from engine.models.heads import ProjectionHead
from engine.models.vit import keep_variance
from engine.recipes import Plan
from engine.training.crops import GLOBALS
from engine.training.losses import dino_loss, effective_rank, entropy, koleo_loss, teacher_answer
from engine.training.schedules import Moment


@dataclass(frozen=True, slots=True)
class Loss:
    """The number to go down, its parts, and what is watched for collapse; scalars that still live on the device."""

    total: Tensor
    parts: dict[str, Tensor]
    watched: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are treated alike by the optimiser."""

    names: list[str]
    parameters: list[nn.Parameter]
    has_decay: bool


class Network(nn.Module):
    """A backbone and its projection head, over views of several sizes."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views_VBCYX: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the head's logits (B, K) and the backbone's [CLS] (B, D) of each view.

        Views of one size go through the backbone together (main_dino.py MultiCropWrapper).
        """
        cls_: list[Tensor] = []
        for same_size in _runs_of_one_size(views_VBCYX):
            features = self.backbone(torch.cat(same_size) if len(same_size) > 1 else same_size[0])
            cls_ += features.cls_BD.chunk(len(same_size))
        logits = self.head(torch.cat(cls_))
        return list(logits.split([len(view) for view in cls_])), cls_


def _runs_of_one_size(views: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    start = 0
    for i in range(1, len(views) + 1):
        if i == len(views) or views[i].shape[-2:] != views[start].shape[-2:]:
            yield list(views[start:i])
            start = i


class Dino(nn.Module):
    """Self-distillation with no labels (Caron et al. 2021, alg. 1; main_dino.py)."""

    centre_1K: Tensor

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.settings = plan.dino
        self.freeze_last_layer = plan.optimiser.freeze_last_layer
        self.student = _network(plan, drop_path=plan.model.drop_path, norm_last_layer=plan.dino.norm_last_layer)
        # The teacher's prototypes have unit length and no gradient, whatever the student's do; a learnt length
        # reaches it by the moving average (main_dino.py: DINOHead of the teacher has the default).
        self.teacher = _network(plan, drop_path=0.0, norm_last_layer=True)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.register_buffer("centre_1K", torch.zeros(1, plan.dino.prototypes))
        self._averaged: tuple[DistributedDataParallel, ...] = ()  # a tuple, so that its tensors are not ours twice
        self._sum_1K: Tensor | None = None
        self._n_rows = 0

    @property
    def backbone(self) -> nn.Module:
        """The network a run is for: the teacher's backbone (DINO §3.1: it is the better one throughout)."""
        return self.teacher.backbone

    def start_from(self, backbone: nn.Module) -> None:
        """Take a backbone's weights for both networks; the heads stay new."""
        for network in (self.student, self.teacher):
            network.backbone.load_state_dict(backbone.state_dict())

    def average(self, wrap: Callable[[nn.Module], DistributedDataParallel]) -> None:
        """Run the student through ``wrap(student)``, which averages its gradients over the processes."""
        self._averaged = (wrap(self.student),)

    def synced(self, *, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of one part of a batch: gradients are averaged over processes with the last only."""
        if is_last or not self._averaged:
            return contextlib.nullcontext()
        return cast("contextlib.AbstractContextManager[None]", self._averaged[0].no_sync())

    def loss(self, views_VBCYX: Sequence[Tensor], at: Moment, *, watch: bool = False) -> Loss:
        """Return the loss of some pictures' views, global views first.

        Called once for each part of a batch; the centre moves in `after_step`, by the mean over all parts and
        processes. Batch norm and KoLeo see one part. ``watch`` adds what tells collapse.
        """
        with torch.no_grad():
            teacher_logits, teacher_cls = self.teacher(views_VBCYX[:GLOBALS])
            answers = [teacher_answer(view, self.centre_1K, at.teacher_temperature) for view in teacher_logits]
            self._remember(teacher_logits)
        student = self._averaged[0] if self._averaged else self.student
        logits, cls_ = student(views_VBCYX)
        cross_entropy = dino_loss(logits, answers, self.settings.student_temperature)
        parts = {"dino": cross_entropy}
        if self.settings.koleo:
            parts["koleo"] = self.settings.koleo * sum((koleo_loss(view) for view in cls_[:GLOBALS]), torch.zeros(()))
        total = sum(parts.values(), cross_entropy.new_zeros(()))
        watched = self._watch(answers, logits, teacher_cls) if watch else {}
        return Loss(total, {name: part.detach() for name, part in parts.items()}, watched)

    @torch.no_grad()
    def _watch(self, answers: list[Tensor], logits: list[Tensor], teacher_cls: list[Tensor]) -> dict[str, Tensor]:
        spread = entropy(torch.cat(answers))
        # The pairs the loss compares: each global view's answer with the other one's.
        across = dino_loss(logits[:GLOBALS], answers, self.settings.student_temperature)
        features_BD = nn.functional.normalize(torch.cat(teacher_cls).float(), dim=-1)
        return {
            "teacher_entropy": spread,
            "marginal_entropy": entropy(torch.cat(answers).mean(dim=0, keepdim=True)),
            "kl": across - spread,
            "centre_norm": self.centre_1K.norm(),
            # 1 for directions spread evenly, 0 when all are one: std of each axis times sqrt(D).
            "feature_std": features_BD.std(dim=0).mean() * features_BD.shape[1] ** 0.5,
            "effective_rank": effective_rank(features_BD),
        }

    def _remember(self, teacher_logits: list[Tensor]) -> None:
        sum_1K = torch.cat(teacher_logits).float().sum(dim=0, keepdim=True)
        self._sum_1K = sum_1K if self._sum_1K is None else self._sum_1K + sum_1K
        self._n_rows += sum(len(view) for view in teacher_logits)

    def groups(self) -> list[Group]:
        """Return the student's parameters: those that decay, then biases and vectors (utils.py get_params_groups)."""
        named = [(name, p) for name, p in self.student.named_parameters() if p.requires_grad]
        bare = [(name, p) for name, p in named if name.endswith(".bias") or p.ndim == 1]
        names = {name for name, _ in bare}
        decaying = [(name, p) for name, p in named if name not in names]
        return [
            Group([name for name, _ in some], [p for _, p in some], has_decay)
            for some, has_decay in ((decaying, True), (bare, False))
        ]

    def before_step(self, at: Moment) -> None:
        """Drop the gradients that must not move: the prototypes' in the first epochs."""
        if at.epoch < self.freeze_last_layer:
            for parameter in cast("ProjectionHead", self.student.head).last_layer.parameters():
                parameter.grad = None

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """Move the teacher and the centre."""
        teacher = [p.data for p in self.teacher.parameters()]
        student = [p.data for p in self.student.parameters()]
        torch._foreach_mul_(teacher, at.momentum)
        torch._foreach_add_(teacher, student, alpha=1 - at.momentum)
        assert self._sum_1K is not None, "after_step follows a loss"
        n_rows = self._n_rows
        if dist.is_initialized():
            dist.all_reduce(self._sum_1K)
            n_rows *= dist.get_world_size()
        keep = self.settings.centre_momentum
        self.centre_1K.mul_(keep).add_(self._sum_1K / n_rows, alpha=1 - keep)
        self._sum_1K, self._n_rows = None, 0


OBJECTIVES = {"dino": Dino}
"""What ``run.objective`` may name."""


def _network(plan: Plan, *, drop_path: float, norm_last_layer: bool) -> Network:
    dino = plan.dino
    backbone = build_backbone(plan.shape, drop_path=drop_path, start=plan.model.start)
    head = ProjectionHead(
        feature_width(plan.shape),
        dino.prototypes,
        layers=dino.head_layers,
        hidden=dino.head_width,
        bottleneck=dino.bottleneck,
        norm=dino.head_norm,
        norm_last_layer=norm_last_layer,
    )
    if plan.model.start == "contrasting":
        keep_variance(head.mlp)
    for name, parameter in backbone.named_parameters():
        if name == "mask_token":  # nothing is masked here, and processes wait for the gradient of what learns
            parameter.requires_grad_(False)
    return Network(backbone, head)
