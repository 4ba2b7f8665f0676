"""A backbone and a classifier that learn the labels of folders, by the recipe of DeiT.

What is done to a batch (mixed pictures, erased boxes, smoothed labels) is in ``mixing``; which pictures are learnt
from and which are held out, in ``training.classes``.

Letters after a name are its axes:
    B pictures · C Y X channels and pixels · D width of the backbone · F features of the classifier · K classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine import distributed
from engine.models.backbones import feature_width
from engine.models.vit import Features
from engine.recipes import Plan
from engine.training import mixing
from engine.training.losses import entropy
from engine.training.mixing import Box, Mix
from engine.training.objectives.objective import Loss, Objective, Part, new_backbone
from engine.training.objectives.self_distillation import spread_of
from engine.training.schedules import Moment

HEAD_STD = 0.02
"""Standard deviation of the classifier's starting weights; DeiT models.py, as all linear layers of a transformer."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """What was drawn for a part of a batch: how its pictures are mixed, what is erased of each, and its place."""

    mix: Mix
    boxes: list[Box | None]
    first: int


class Judged(NamedTuple):
    """What is said of some pictures: the score of each class, (B, K) float32, and the backbone's [CLS]."""

    logits_BK: Tensor
    cls_BD: Tensor


class Classifier(nn.Module):
    """A backbone and one linear layer on its [CLS], or on that and the mean of its patches."""

    def __init__(self, backbone: nn.Module, width: int, n_classes: int, *, takes_mean: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(width * (2 if takes_mean else 1), n_classes)
        self.takes_mean = takes_mean
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures_BCYX: Tensor) -> Judged:
        """Return what is said of some pictures."""
        features: Features = self.backbone(pictures_BCYX)
        taken_BF = features.cls_BD
        if self.takes_mean:
            taken_BF = torch.cat([taken_BF, features.patches_BPD.mean(dim=1)], dim=1)
        with torch.autocast(pictures_BCYX.device.type, enabled=False):
            return Judged(self.head(taken_BF.float()), features.cls_BD)


class Supervised(Objective):
    """Learning from labels: backbone and classifier together.

    Source: Touvron et al. 2021 (DeiT) tab. 9, by which DINO's tab. 6 fine-tunes; what is left out of it stands in
    ``mixing``.
    """

    counts_K: Tensor
    student: Classifier

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        backbone = new_backbone(plan, drop_path=plan.model.drop_path)
        takes_mean = plan.supervised.head_features == "cls+mean"
        self.student = Classifier(backbone, feature_width(plan.shape), len(plan.classes), takes_mean=takes_mean)
        # How often each class came: what is known of the labels without looking at a picture.
        self.register_buffer("counts_K", torch.zeros(len(plan.classes)))

    @property
    def backbone(self) -> nn.Module:
        """The one that learns."""
        return self.student.backbone

    @property
    def classifier(self) -> nn.Linear:
        """The one that learns with the backbone."""
        return self.student.head

    def answers(self, parts: Sequence[Part], at: Moment) -> list[Exercise]:
        """Draw what is done to each part's pictures: the mix of the step is one for all parts and processes."""
        settings, seed = self.plan.supervised, self.plan.run.seed
        rank, processes = distributed.world()
        first = rank * (self.plan.run.batch // processes)
        rows, cols = parts[0].views_VBCYX[0].shape[-2:]
        mix = mixing.draw_mix(settings.mixup, settings.cutmix, rows=rows, cols=cols, seed=seed, step=at.step)
        exercises = []
        for part in parts:
            n = len(part.views_VBCYX[0])
            boxes = mixing.draw_erasings(
                settings.erasing, n, rows=rows, cols=cols, seed=seed, step=at.step, first=first
            )
            exercises.append(Exercise(mix, boxes, first))
            first += n
        self._count(parts)
        return exercises

    def _count(self, parts: Sequence[Part]) -> None:
        labels = torch.cat([cast("Tensor", part.labels_B) for part in parts])
        counts_K = torch.bincount(labels, minlength=len(self.counts_K)).to(self.counts_K)
        if dist.is_initialized():
            dist.all_reduce(counts_K)
        self.counts_K += counts_K

    def loss(self, part: Part, answer: Exercise, at: Moment, *, watch: bool = False) -> Loss:
        """Return the cross-entropy of the classifier's answers with the mixed and smoothed labels."""
        assert part.labels_B is not None
        settings, seed, n_classes = self.plan.supervised, self.plan.run.seed, len(self.counts_K)
        pictures_BCYX = mixing.erased(part.views_VBCYX[0], answer.boxes, seed=seed, step=at.step, first=answer.first)
        judged: Judged = self.learner(mixing.mixed(pictures_BCYX, answer.mix))
        smoothing = settings.label_smoothing
        targets_BK = mixing.targets(part.labels_B, n_classes, smoothing=smoothing, mix=answer.mix)
        cross_entropy = mixing.soft_cross_entropy(judged.logits_BK, targets_BK)
        watched = self._watch(judged, targets_BK) if watch else {}
        return Loss(cross_entropy, {"cross_entropy": cross_entropy.detach()}, watched)

    @torch.no_grad()
    def _watch(self, judged: Judged, targets_BK: Tensor) -> dict[str, Tensor]:
        """Return the share of right answers, the loss of who knows only how frequent classes are, and the spread."""
        smoothing = self.plan.supervised.label_smoothing
        frequent_K = self.counts_K / self.counts_K.sum()
        constant_K = frequent_K * (1 - smoothing) + smoothing / len(frequent_K)
        return {
            "train_accuracy": (judged.logits_BK.argmax(dim=1) == targets_BK.argmax(dim=1)).float().mean(),
            "knowing_nothing": entropy(constant_K[None]),
            **spread_of(judged.cls_BD),
        }

    @torch.no_grad()
    def judge(self, pictures_BCYX: Tensor) -> Tensor:
        """Return the score of each class for normalised pictures, (B, K), float32; the network keeps its mode."""
        was_training = self.student.training
        self.student.eval()
        scores_BK: Tensor = self.student(pictures_BCYX).logits_BK
        self.student.train(was_training)
        return scores_BK
