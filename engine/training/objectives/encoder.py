"""The network that BYOL, MoCo-v2 and SwAV train: a backbone with a head, and what predicts from the head's output.

Letters after a name are its axes:
    V views · B pictures · C Y X channels and pixels · D width
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.models.backbones import feature_width
from engine.models.projectors import Projector
from engine.models.vit import Features
from engine.recipes import Plan
from engine.training.objectives.objective import Objective, follow, new_backbone, runs_of_one_size
from engine.training.schedules import Moment


class Encoded(NamedTuple):
    """What an encoder says of each view: its prediction, what that is made from, and the backbone's [CLS].

    Without a predictor the first two are the same.
    """

    outputs_VBD: list[Tensor]
    projected_VBD: list[Tensor]
    cls_VBD: list[Tensor]


class Encoder(nn.Module):
    """A backbone, a head and, where there is one, what predicts from its output, over views of several sizes.

    ``predictor`` is BYOL's perceptron, which the student alone has, or SwAV's prototypes.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, predictor: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.predictor = predictor

    def forward(self, views_VBCYX: Sequence[Tensor]) -> Encoded:
        """Return what is said of each view, (B, D) each; views of one size go through the backbone together."""
        runs = list(runs_of_one_size(views_VBCYX))
        found: list[Features] = self.backbone.forward_views([torch.cat(same) for same in runs])  # type: ignore[operator]
        cls_ = torch.cat([features.cls_BD for features in found])
        projected = self.head(cls_)
        outputs = projected if self.predictor is None else self.predictor(projected)
        rows = [len(view) for view in views_VBCYX]
        return Encoded(list(outputs.split(rows)), list(projected.split(rows)), list(cls_.split(rows)))


class Followed(Objective):
    """What BYOL and MoCo-v2 share: a student that is kept, and a teacher that follows its parameters."""

    student: Encoder

    def __init__(self, plan: Plan, predictor: nn.Module | None = None) -> None:
        super().__init__(plan)
        self.student = encoder(plan, drop_path=plan.model.drop_path, predictor=predictor)
        self.teacher = encoder(plan, drop_path=0.0)
        follow(self.teacher, self.student, 0.0)
        self.teacher.requires_grad_(False)

    @property
    def backbone(self) -> nn.Module:
        """The student's: BYOL's online encoder, MoCo's query encoder, which their papers evaluate."""
        return self.student.backbone

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Student and teacher, which MoCo calls the key encoder."""
        return (self.student, self.teacher)

    def after_step(self, at: Moment) -> None:
        """Move the teacher."""
        follow(self.teacher, self.student, at.momentum)


def encoder(plan: Plan, *, drop_path: float, predictor: nn.Module | None = None) -> Encoder:
    """Return the encoder of a plan with new weights."""
    settings = plan.projector
    head = Projector(
        feature_width(plan.shape),
        settings.projector_out,
        layers=settings.projector_layers,
        hidden=settings.projector_width,
    )
    return Encoder(new_backbone(plan, drop_path=drop_path), head, predictor)
