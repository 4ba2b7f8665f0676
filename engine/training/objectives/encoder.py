"""The network that BYOL, MoCo-v2 and SwAV train: a backbone with a head, and for one of them a predictor.

Letters after a name are its axes:
    V views · B pictures · C Y X channels and pixels · D width
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.backbones import feature_width
from engine.models.projectors import Projector, PrototypeHead
from engine.models.vit import Features
from engine.recipes import Plan
from engine.training.objectives.objective import new_backbone, runs_of_one_size


class Encoded(NamedTuple):
    """What an encoder says of each view: the output of its head, and the backbone's [CLS]."""

    outputs_VBD: list[Tensor]
    cls_VBD: list[Tensor]


class Encoder(nn.Module):
    """A backbone, its head and, for the student of BYOL, a predictor, over views of several sizes."""

    def __init__(self, backbone: nn.Module, head: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.predictor = predictor

    def forward(self, views_VBCYX: Sequence[Tensor]) -> Encoded:
        """Return what is said of each view, (B, D) each; views of one size go through the backbone together."""
        cls_VBD = self.seen(views_VBCYX)
        outputs = self.head(torch.cat(cls_VBD))
        if self.predictor is not None:
            outputs = self.predictor(outputs)
        return Encoded(list(outputs.split([len(view) for view in cls_VBD])), cls_VBD)

    def seen(self, views_VBCYX: Sequence[Tensor]) -> list[Tensor]:
        """Return the backbone's [CLS] of each view."""
        runs = list(runs_of_one_size(views_VBCYX))
        found: list[Features] = self.backbone.forward_views([torch.cat(same) for same in runs])  # type: ignore[operator]
        return [view for same, features in zip(runs, found, strict=True) for view in features.cls_BD.chunk(len(same))]


def encoder(plan: Plan, *, drop_path: float, predictor: nn.Module | None = None, prototypes: int = 0) -> Encoder:
    """Return the encoder of a plan with new weights; its head ends in prototypes where there are any."""
    settings = plan.projector
    head: nn.Module = Projector(
        feature_width(plan.shape),
        settings.projector_out,
        layers=settings.projector_layers,
        hidden=settings.projector_width,
    )
    if prototypes:
        head = PrototypeHead(head, settings.projector_out, prototypes)
    return Encoder(new_backbone(plan, drop_path=drop_path), head, predictor)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """Make a teacher a mean of itself, weighted by ``keep``, and the student; 0 copies the student.

    Statistics of batch normalisation are no parameters: the teacher's come from its own pictures. What does not learn
    stays what it is, to the bit: a mean of equals would round.
    """
    of_student = dict(student.named_parameters())
    moving = [name for name, _ in teacher.named_parameters() if keep == 0.0 or of_student[name].requires_grad]
    of_teacher = dict(teacher.named_parameters())
    theirs = [of_teacher[name].data for name in moving]
    ours = [of_student[name].data for name in moving]
    torch._foreach_mul_(theirs, keep)
    torch._foreach_add_(theirs, ours, alpha=1 - keep)
