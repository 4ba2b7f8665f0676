"""BYOL: a student that predicts what its own moving average says of another crop of the same picture.

Letters after a name are its axes:
    V views · G large views · B pictures · D width
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.models.projectors import Projector
from engine.recipes import Plan
from engine.training.crops import GLOBALS
from engine.training.losses import normalised_mse_loss
from engine.training.objectives.encoder import Followed
from engine.training.objectives.objective import Loss, Part
from engine.training.objectives.self_distillation import spread_of
from engine.training.schedules import Moment


class Byol(Followed):
    """Bootstrap your own latent, without negatives.

    With small crops as well, the student's answer to each of them is compared, too (DINO appendix E).

    Source: Grill et al. 2020, eq. 2; solo-learn methods/byol.py.
    """

    def __init__(self, plan: Plan) -> None:
        width = plan.projector.projector_out
        super().__init__(plan, Projector(width, width, layers=2, hidden=plan.byol.predictor_width))

    @torch.no_grad()
    def answers(self, parts: Sequence[Part], at: Moment) -> list[list[Tensor]]:
        """Return the teacher's projection of each large view of each part, (B, D)."""
        return [self.teacher(part.views_VBCYX[:GLOBALS]).outputs_VBD for part in parts]

    def loss(self, part: Part, answer: list[Tensor], at: Moment, *, watch: bool = False) -> Loss:
        """Return the loss of one part of a batch; batch norm sees that part."""
        predicted = self.learner(part.views_VBCYX)
        # The sum over both directions of two large crops, as published; with more pairs, twice their mean.
        total = 2 * normalised_mse_loss(predicted.outputs_VBD, answer)
        watched = spread_of(torch.cat(predicted.cls_VBD[:GLOBALS]).detach()) if watch else {}
        return Loss(total, {"byol": total.detach()}, watched)
