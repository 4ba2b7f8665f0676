"""A small student that learns to answer as a frozen, larger teacher does.

The loop is DINO's, with the teacher's weights fixed: nothing is masked, no branch is left out, and what is kept is
the student's moving average, which no loss looks at (DINOv2 §5).

What the teacher answers depends on what is there of it. With the head and the centre of its own run, its answers are
those it gave its own student. Released weights have no head; then its prototypes are its features of some of the
pictures that are learnt from, and its answer to a crop is how like the crop is to each of them, a distribution
(SEED, Fang et al. 2021). Both features and prototypes are brought to mean 0 and length 1 first: features of pictures
share a large common part, by which all would be alike.

The student's head ends as wide as what the teacher compares with its prototypes, and the student is compared with the
very same prototypes: from the first step it is told where a picture lies, as in SEED, instead of having to learn what
each prototype stands for. In 92 steps on 767 photos of clothing that was worth 6 points of 20-NN accuracy. Asked for
another width (bottleneck), it learns prototypes of its own.

The student's patches are brought to the teacher's, each by its own place, through one linear layer: answers for whole
pictures alone leave a small network's patches vague. Here the means are taken out, too.

Letters after a name are its axes:
    V views · G large views · B pictures · P patches of the student · T patches of the teacher · C Y X channels and
    pixels · D width of the student · E F widths of the teacher's picture and patch features · K prototypes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import UnreadablePicture
from engine.models.backbones import feature_width, patch_of
from engine.models.heads import ProjectionHead
from engine.models.vit import Features
from engine.recipes import Plan
from engine.seeing.views import RESIZE, central, normalise
from engine.training.batches import gone
from engine.training.crops import GLOBALS
from engine.training.losses import entropy, koleo_loss
from engine.training.objectives.objective import Loss, Objective, Part, follow, new_backbone, runs_of_one_size
from engine.training.objectives.self_distillation import (
    move_centre,
    projection_head,
    sharpened,
    spread_of,
)
from engine.training.pictures import Pixels
from engine.training.schedules import Moment
from engine.training.teachers import Teacher, kept_teacher

FEWEST_FOR_MEANS = 256
"""Pictures whose features the means are taken of, at least, where there are so many."""
SHOWN_AT_ONCE = 32
EARLY_STEPS = 10
"""The average follows faster at first, so that little is left of how the student began: it keeps (1 + t) / (10 + t) of
itself at step t, until the settled share; ``num_updates`` of TensorFlow's ExponentialMovingAverage."""
ORDER_EPOCH = 2**63
"""Epoch from whose order of pictures those of the prototypes are taken; no run has one so high."""


class Said(NamedTuple):
    """What the student says of some views: scores and [CLS] of each, and patches of the large ones."""

    logits_VBK: list[Tensor]
    cls_VBD: list[Tensor]
    patches_GBPF: list[Tensor]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the teacher says of the large views of a part: probabilities, and patches on the student's grid."""

    answers_GBK: list[Tensor]
    patches_GBPF: list[Tensor]


class Student(nn.Module):
    """A backbone, its head, and what brings its patches to the width of the teacher's."""

    def __init__(self, backbone: nn.Module, head: nn.Module, to_patches: nn.Module | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.to_patches = to_patches

    def forward(self, views_VBCYX: Sequence[Tensor]) -> Said:
        """Return what is said of each view, large ones first; views of one size go through together."""
        runs = list(runs_of_one_size(views_VBCYX))
        pictures = [torch.cat(same_size) if len(same_size) > 1 else same_size[0] for same_size in runs]
        found: list[Features] = self.backbone.forward_views(pictures, [None] * len(runs))  # type: ignore[operator]
        cls_ = [view for same, features in zip(runs, found, strict=True) for view in features.cls_BD.chunk(len(same))]
        logits = self.head(torch.cat(cls_))
        patches: list[Tensor] = []
        if self.to_patches is not None:
            of_large = found[0].patches_BPD.chunk(len(runs[0]))[:GLOBALS]
            patches = [self.to_patches(view) for view in of_large]
        return Said(list(logits.split([len(view) for view in cls_])), cls_, patches)


class Distillation(Objective):
    """Learning from a frozen teacher.

    Source: Oquab et al. 2023 §5 "Knowledge distillation"; Fang et al. 2021 (SEED) eq. 3 to 5 where it has no head.
    """

    centre_1K: Tensor
    prototypes_KE: Tensor
    mean_1E: Tensor
    patch_mean_1F: Tensor
    student: Student
    kept: Student

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.settings = plan.dino
        self._teacher: tuple[Teacher, ...] = ()  # a tuple, so that a checkpoint does not hold what never changes
        self._sum: tuple[Tensor, int] | None = None

    @property
    def backbone(self) -> nn.Module:
        """The student's moving average."""
        return self.kept.backbone

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The student and its moving average."""
        return (self.student, self.kept)

    @property
    def teacher(self) -> Teacher:
        """What is learnt from."""
        return self._teacher[0]

    @torch.no_grad()
    def begin(self, folder: Path, pixels: Pixels, device: torch.device, *, is_new: bool) -> None:
        """Open the teacher that lies in the run's folder, and find its prototypes among the pictures.

        They are in every checkpoint: what a run goes on from needs none found again.
        """
        teacher = kept_teacher(folder)
        self._teacher = (teacher.to(device),)
        has_patches = self.plan.distillation.patch_weight > 0
        self.student = self._network(teacher.patch_width if has_patches else 0)
        self.kept = self._network(teacher.patch_width if has_patches else 0)
        self.kept.load_state_dict(self.student.state_dict())
        self.kept.requires_grad_(False)
        k = self.settings.prototypes
        self.register_buffer("centre_1K", torch.zeros(1, k))
        self.register_buffer("mean_1E", torch.zeros(1, teacher.width))
        self.register_buffer("patch_mean_1F", torch.zeros(1, teacher.patch_width))
        self.register_buffer("prototypes_KE", torch.zeros(0 if teacher.heads else k, teacher.width))
        if is_new:
            self._find_prototypes(pixels, device)
        prototypes_KE = teacher.heads.head.last_layer.weight_v if teacher.heads else self.prototypes_KE
        if self.settings.bottleneck == prototypes_KE.shape[1]:
            for network in (self.student, self.kept):
                last_layer = cast("ProjectionHead", network.head).last_layer.requires_grad_(False)
                last_layer.weight_v.copy_(prototypes_KE)
                last_layer.weight_g.fill_(1.0)
        if is_new and teacher.heads is not None:
            self.centre_1K.copy_(teacher.heads.centre_1K)

    def _network(self, patch_width: int) -> Student:
        plan, dino = self.plan, self.plan.dino
        backbone = new_backbone(plan, drop_path=0.0)
        head = projection_head(plan, dino.prototypes, dino.bottleneck, dino.norm_last_layer)
        return Student(backbone, head, nn.Linear(feature_width(plan.shape), patch_width) if patch_width else None)

    @torch.no_grad()
    def _find_prototypes(self, pixels: Pixels, device: torch.device) -> None:
        """Take the teacher's features of the central squares of some pictures, in a random order of all."""
        n_wanted = max(len(self.prototypes_KE), FEWEST_FOR_MEANS)
        side = self.plan.distillation.teacher_side
        order = np.random.Generator(np.random.Philox(key=[self.plan.run.seed, ORDER_EPOCH])).permutation(len(pixels))
        features_NE, patches_NF = [], []
        for first in range(0, min(n_wanted, len(order)), SHOWN_AT_ONCE):
            crops = _crops(pixels, order[first : first + SHOWN_AT_ONCE].tolist(), side)
            if len(crops):
                seen = self.teacher(normalise(crops.to(device)), side)
                features_NE.append(seen.cls_BD.float().cpu())
                patches_NF.append(seen.patches_BPD.float().mean(dim=1).cpu())
        if not features_NE:
            raise gone()
        found_NE = torch.cat(features_NE)
        self.mean_1E.copy_(found_NE.mean(dim=0, keepdim=True))
        self.patch_mean_1F.copy_(torch.cat(patches_NF).mean(dim=0, keepdim=True))
        # Where there are fewer pictures than prototypes, some stand for two.
        places_K = torch.arange(len(self.prototypes_KE)) % len(found_NE)
        self.prototypes_KE.copy_(F.normalize(found_NE[places_K] - self.mean_1E, dim=-1))

    @torch.no_grad()
    def answers(self, parts: Sequence[Part], at: Moment) -> list[Shown]:
        """Return what the teacher says of the large views; the centre of its head moves in `after_step`."""
        seen = [self._seen(part) for part in parts]
        logits_NK = torch.cat([self._logits(features) for features in seen])
        self._sum = (logits_NK.sum(dim=0, keepdim=True), len(logits_NK))
        answers_NK = sharpened(logits_NK, self.centre_1K, at.teacher_temperature, self.settings)
        of_parts = answers_NK.split([len(features.cls_BD) for features in seen])
        return [
            Shown(list(answers.chunk(GLOBALS)), self._patches(features, part))
            for answers, features, part in zip(of_parts, seen, parts, strict=True)
        ]

    def _seen(self, part: Part) -> Features:
        return self.teacher(torch.cat(part.views_VBCYX[:GLOBALS]), self.plan.distillation.teacher_side)

    def _logits(self, features: Features) -> Tensor:
        """Return the teacher's scores: of its head, or likenesses to its prototypes; float32."""
        cls_NE = features.cls_BD.float()
        if self.teacher.heads is not None:
            return cast("Tensor", self.teacher.heads.head(cls_NE))
        with torch.autocast(cls_NE.device.type, enabled=False):
            return F.normalize(cls_NE - self.mean_1E, dim=-1) @ self.prototypes_KE.T

    def _patches(self, features: Features, part: Part) -> list[Tensor]:
        """Return the teacher's patches of each large view, less their mean, on the student's grid."""
        if self.student.to_patches is None:
            return []
        patches_NTF = features.patches_BPD.float() - self.patch_mean_1F
        rows, cols = self._grid(part.views_VBCYX[0])
        if (rows, cols) != (features.rows, features.cols):
            map_NFYX = patches_NTF.transpose(1, 2).unflatten(2, (features.rows, features.cols))
            resized = F.interpolate(map_NFYX, size=(rows, cols), mode="bilinear", antialias=True, align_corners=False)
            patches_NTF = resized.flatten(2).transpose(1, 2)
        return list(patches_NTF.chunk(GLOBALS))

    def _grid(self, pictures_BCYX: Tensor) -> tuple[int, int]:
        """Return the rows and columns of patches that the student makes of pictures."""
        patch = patch_of(self.plan.shape)
        height, width = pictures_BCYX.shape[-2:]
        return -(-height // patch), -(-width // patch)

    def loss(self, part: Part, answer: Shown, at: Moment, *, watch: bool = False) -> Loss:
        """Return how far the student's answers, to all its views, and its patches are from the teacher's."""
        said: Said = self.learner(part.views_VBCYX)
        temperature = self.settings.student_temperature
        parts = {"distillation": distillation_loss(said.logits_VBK, answer.answers_GBK, temperature)}
        if answer.patches_GBPF:
            weight = self.plan.distillation.patch_weight
            parts["patches"] = weight * patch_loss(said.patches_GBPF, answer.patches_GBPF)
        if self.settings.koleo:
            spread = [koleo_loss(view) for view in said.cls_VBD[:GLOBALS]]
            parts["koleo"] = self.settings.koleo * torch.stack(spread).sum()
        total = torch.stack(list(parts.values())).sum()
        watched = self._watch(said, answer) if watch else {}
        return Loss(total, {name: value.detach() for name, value in parts.items()}, watched)

    @torch.no_grad()
    def _watch(self, said: Said, answer: Shown) -> dict[str, Tensor]:
        answers_NK = torch.cat(answer.answers_GBK)
        spread = entropy(answers_NK)
        own = distillation_loss(said.logits_VBK[:GLOBALS], answer.answers_GBK, self.settings.student_temperature)
        return {
            "teacher_entropy": spread,
            "marginal_entropy": entropy(answers_NK.mean(dim=0, keepdim=True)),
            "kl": own - spread,
            **spread_of(torch.cat(said.cls_VBD[:GLOBALS])),
        }

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """Move the average of the student, and the centre of a teacher's head."""
        follow(self.kept, self.student, min(at.momentum, (1 + at.step) / (EARLY_STEPS + at.step)))
        for name, statistic in self.kept.named_buffers():  # of batch norm: the average sees no pictures itself
            statistic.copy_(self.student.get_buffer(name))
        assert self._sum is not None, "after_step follows answers"
        keep = self.settings.centre_momentum
        move_centre(self.centre_1K, *self._sum, keep)
        self._sum = None


def distillation_loss(student_VBK: Sequence[Tensor], teacher_GBK: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean cross-entropy of each of the student's views with each large view of the teacher's.

    Other than in self-distillation a view is compared with itself, too: the teacher is another network, and what it
    says of the very same crop is what it knows best.

    Args:
        student_VBK: scores of each view, large views first.
        teacher_GBK: probabilities of each large view.
        temperature: of the student.
    """
    target_BK = torch.stack(list(teacher_GBK)).mean(dim=0)
    log_VBK = torch.stack([F.log_softmax(view_BK.float() / temperature, dim=-1) for view_BK in student_VBK])
    return -(target_BK * log_VBK).sum(dim=-1).mean()


def patch_loss(student_GBPF: Sequence[Tensor], teacher_GBPF: Sequence[Tensor]) -> Tensor:
    """Return 1 less the mean cosine of the student's and the teacher's features of each patch."""
    student, teacher = torch.cat(list(student_GBPF)).float(), torch.cat(list(teacher_GBPF))
    return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()


def _crops(pixels: Pixels, places: Sequence[int], side: int) -> Tensor:
    """Return the central squares of some pictures, uint8 (B, Y, X, 3); unreadable ones are left out."""
    crops = []
    for place in places:
        try:
            crops.append(central(pixels.read(place, at_least=round(side * RESIZE)), side))
        except UnreadablePicture:
            continue  # the run names it when it is to be learnt from
    return torch.from_numpy(np.stack(crops)) if crops else torch.zeros(0, side, side, 3, dtype=torch.uint8)
