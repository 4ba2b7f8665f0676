"""MoCo-v2: a picture's crop is to be told apart from earlier pictures by the key of its other crop.

Letters after a name are its axes:
    V views · G large views · B pictures · Q queue · D width
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.recipes import Plan
from engine.training.crops import GLOBALS
from engine.training.losses import info_nce_loss
from engine.training.objectives.encoder import Followed
from engine.training.objectives.objective import Loss, Part
from engine.training.objectives.queue import Queue
from engine.training.objectives.self_distillation import spread_of
from engine.training.schedules import Moment


class Moco(Followed):
    """Momentum contrast, symmetric: each large crop gives keys, and every other crop looks for them.

    The queue is that before the batch; the batch's keys enter after the step. Each view has its own. Keys are not
    shuffled over the processes (MoCo §3.3): on GPUs, batch normalisation takes the statistics of all of them.

    Source: He et al. 2020, alg. 1; Chen et al. 2020 (MoCo-v2); solo-learn methods/mocov2plus.py (both directions).
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.queue = Queue(GLOBALS, plan.moco.queue, plan.projector.projector_out)
        self._keys_GBD: Tensor | None = None

    @torch.no_grad()
    def answers(self, parts: Sequence[Part], at: Moment) -> list[list[Tensor]]:
        """Return the keys of each large view of each part, (B, D), of unit length."""
        keys = [
            [F.normalize(view, dim=-1) for view in self.teacher(part.views_VBCYX[:GLOBALS]).outputs_VBD]
            for part in parts
        ]
        self._keys_GBD = torch.stack([torch.cat(of_parts) for of_parts in zip(*keys, strict=True)])
        return keys

    def loss(self, part: Part, answer: list[Tensor], at: Moment, *, watch: bool = False) -> Loss:
        """Return the mean loss over all pairs of a large view's keys and another view's queries."""
        seen = self.learner(part.views_VBCYX)
        queries_VBD = [F.normalize(view, dim=-1) for view in seen.outputs_VBD]
        pairs = [
            info_nce_loss(query, key, self.queue.rows_GQD[g], self.plan.moco.contrast_temperature)
            for g, key in enumerate(answer)
            for v, query in enumerate(queries_VBD)
            if v != g
        ]
        total = torch.stack(pairs).mean()
        watched = spread_of(torch.cat(seen.cls_VBD[:GLOBALS]).detach()) if watch else {}
        return Loss(total, {"moco": total.detach()}, watched)

    def after_step(self, at: Moment) -> None:
        """Move the teacher, and put the batch's keys into the queue."""
        super().after_step(at)
        assert self._keys_GBD is not None, "after_step follows answers"
        self.queue.put(self._keys_GBD)
        self._keys_GBD = None
