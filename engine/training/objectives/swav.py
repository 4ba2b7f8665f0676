"""SwAV: pictures are assigned to prototypes, evenly over the batch; each crop is to tell the others' assignment.

Letters after a name are its axes:
    V views · G large views · B pictures · Q queue · D width · K prototypes
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.projectors import SpherePrototypes
from engine.recipes import Plan
from engine.training.crops import GLOBALS
from engine.training.losses import dino_loss, entropy, sinkhorn_knopp
from engine.training.objectives.encoder import Encoder, encoder
from engine.training.objectives.objective import Loss, Objective, Part
from engine.training.objectives.queue import Queue
from engine.training.objectives.self_distillation import spread_of
from engine.training.schedules import Moment


class Swav(Objective):
    """Swapped assignments between views, without a momentum encoder.

    The assignments are those of a copy of the student (DINO table 15), made before the loss over all parts of the
    batch and all processes; main_swav.py takes the scores that the loss is taken of, whose batch normalisation has
    seen the small crops, too.

    Source: Caron et al. 2020, §3; main_swav.py.
    """

    student: Encoder

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.settings = plan.swav
        width = plan.projector.projector_out
        prototypes = SpherePrototypes(width, plan.swav.swav_prototypes)
        self.student = encoder(plan, drop_path=plan.model.drop_path, predictor=prototypes)
        self.queue = Queue(GLOBALS, plan.swav.swav_queue, width) if plan.swav.swav_queue else None
        self._points_GBD: Tensor | None = None

    @property
    def backbone(self) -> nn.Module:
        """The student's: there is no other."""
        return self.student.backbone

    @property
    def prototypes(self) -> SpherePrototypes:
        """The student's prototypes."""
        return cast("SpherePrototypes", self.student.predictor)

    @torch.no_grad()
    def answers(self, parts: Sequence[Part], at: Moment) -> list[list[Tensor]]:
        """Return the assignment of each large view of each part, probabilities (B, K)."""
        seen = [self.student(part.views_VBCYX[:GLOBALS]) for part in parts]
        points_GBD = torch.stack([torch.cat(view) for view in zip(*(one.projected_VBD for one in seen), strict=True)])
        self._points_GBD = F.normalize(points_GBD, dim=-1)
        logits_GBK = [torch.cat(view) for view in zip(*(one.outputs_VBD for one in seen), strict=True)]
        codes_GBK = [self._code(logits_BK, view, at) for view, logits_BK in enumerate(logits_GBK)]
        rows = [len(part.views_VBCYX[0]) for part in parts]
        return [list(of_part) for of_part in zip(*(code_BK.split(rows) for code_BK in codes_GBK), strict=True)]

    def _code(self, logits_BK: Tensor, view: int, at: Moment) -> Tensor:
        logits_NK = torch.cat([logits_BK, *(self.prototypes(points_QD) for points_QD in self._earlier(view, at))])
        return sinkhorn_knopp(logits_NK, self.settings.epsilon, self.settings.swav_iterations)[: len(logits_BK)]

    def _earlier(self, view: int, at: Moment) -> list[Tensor]:
        """Return this process's share of the queue, once it is full of points and its epoch has come."""
        queue = self.queue
        if queue is None or at.epoch < self.settings.swav_queue_epoch or queue.n_put < self.settings.swav_queue:
            return []
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return [queue.rows_GQD[view].tensor_split(processes)[rank]]

    def loss(self, part: Part, answer: list[Tensor], at: Moment, *, watch: bool = False) -> Loss:
        """Return the cross-entropy of every view's scores with the assignments of the other large views."""
        seen = self.learner(part.views_VBCYX)
        total = dino_loss(seen.outputs_VBD, answer, self.settings.swav_temperature)
        watched = self._watch(answer, seen.outputs_VBD, seen.cls_VBD) if watch else {}
        return Loss(total, {"swav": total.detach()}, watched)

    @torch.no_grad()
    def _watch(self, answer: list[Tensor], logits_VBK: list[Tensor], cls_VBD: list[Tensor]) -> dict[str, Tensor]:
        spread = entropy(torch.cat(answer))
        across = dino_loss(logits_VBK[:GLOBALS], answer, self.settings.swav_temperature)
        return {
            "teacher_entropy": spread,
            "marginal_entropy": entropy(torch.cat(answer).mean(dim=0, keepdim=True)),
            "kl": across - spread,
            **spread_of(torch.cat(cls_VBD[:GLOBALS]).detach()),
        }

    def before_step(self, at: Moment) -> None:
        """Keep the prototypes where they are in the first epochs (SwAV §C, main_swav.py freeze_prototypes_niters)."""
        if at.epoch_of_phase < self.plan.optimiser.freeze_last_layer:
            for parameter in self.prototypes.parameters():
                parameter.grad = None

    def after_step(self, at: Moment) -> None:
        """Put the batch's points into the queue."""
        assert self._points_GBD is not None, "after_step follows answers"
        if self.queue is not None:
            self.queue.put(self._points_GBD)
        self._points_GBD = None
