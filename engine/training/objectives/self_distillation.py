"""A student that learns to answer as its own moving average does: DINO, DINOv2 and iBOT.

One objective with three terms, each of which can be switched off: the answers for whole pictures from different
crops (DINO), the answers for patches that are hidden from the student (iBOT), and the distance of a picture's features
from the nearest other (KoLeo).

Letters after a name are its axes:
    V views · G large views · B pictures · P patches · M masked patches · C Y X channels and pixels · D width ·
    K prototypes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.models.backbones import feature_width
from engine.models.heads import ProjectionHead
from engine.models.vit import Features, keep_variance
from engine.recipes import Plan
from engine.settings import DinoSettings
from engine.training.crops import GLOBALS
from engine.training.losses import (
    batch_softmax,
    dino_loss,
    effective_rank,
    entropy,
    ibot_loss,
    koleo_loss,
    normalised_mse_loss,
    sinkhorn_knopp,
    teacher_answer,
)
from engine.training.objectives.objective import Loss, Objective, Part, follow, new_backbone, runs_of_one_size
from engine.training.schedules import Moment


class Seen(NamedTuple):
    """What a network says of some views: scores of each view, its [CLS], and scores of the masked patches."""

    logits_VBK: list[Tensor]
    cls_VBD: list[Tensor]
    patches_MK: Tensor | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the teacher says of the large views of a part.

    ``answers_GBK``: probabilities; ``raw_GBK``: centred scores, for the squared error; ``cls_GBD``: its features;
    ``patches_MK``: probabilities of the masked patches, which it sees.
    """

    answers_GBK: list[Tensor]
    raw_GBK: list[Tensor]
    cls_GBD: list[Tensor]
    patches_MK: Tensor | None


class Network(nn.Module):
    """A backbone and its projection heads, over views of several sizes.

    ``patch_head`` is None where patches go through the head of whole pictures.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, patch_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.patch_head = patch_head

    def forward(
        self, views_VBCYX: Sequence[Tensor], masks_GBP: Tensor | None = None, masked_M: Tensor | None = None
    ) -> Seen:
        """Return what is said of each view.

        Args:
            views_VBCYX: large ones first; views of one size go through the backbone together (main_dino.py
                MultiCropWrapper).
            masks_GBP: True where a patch of a large view is hidden; None hides none.
            masked_M: places of patches among all of the large views whose scores are wanted; None for none.
        """
        runs = list(runs_of_one_size(views_VBCYX))
        pictures = [torch.cat(same_size) if len(same_size) > 1 else same_size[0] for same_size in runs]
        masks = [None if masks_GBP is None else masks_GBP.flatten(0, 1), *[None] * (len(runs) - 1)]
        found: list[Features] = self.backbone.forward_views(pictures, masks)  # type: ignore[operator]
        cls_ = [view for same, features in zip(runs, found, strict=True) for view in features.cls_BD.chunk(len(same))]
        logits = self.head(torch.cat(cls_))
        patches_MK = None
        if masked_M is not None:
            masked_MD = found[0].patches_BPD.flatten(0, 1).index_select(0, masked_M)
            # Two [CLS] go along: batch norm needs rows also where nothing is hidden.
            rows_MD = masked_MD if len(masked_M) > 1 else torch.cat([masked_MD, *(view[:1] for view in cls_[:2])])
            patches_MK = (self.patch_head or self.head)(rows_MD)[: len(masked_M)]
        return Seen(list(logits.split([len(view) for view in cls_])), cls_, patches_MK)


class SelfDistillation(Objective):
    """Self-distillation with no labels.

    Source: Caron et al. 2021, alg. 1; main_dino.py. Oquab et al. 2023 §4; dinov2 train/ssl_meta_arch.py.
    """

    centre_1K: Tensor
    patch_centre_1K: Tensor
    student: Network

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.settings = plan.dino
        self.has_patches = "ibot" in plan.heeded and plan.ibot.ibot_weight > 0
        self.student = network(plan, drop_path=plan.model.drop_path, is_student=True)
        self.teacher = network(plan, drop_path=0.0, is_student=False)
        follow(self.teacher, self.student, 0.0)
        self.teacher.requires_grad_(False)
        if not plan.dino.dino_weight and self.student.patch_head is not None:
            self.student.head.requires_grad_(False)  # nothing reaches it, and processes wait for what learns
        self.register_buffer("centre_1K", torch.zeros(1, plan.dino.prototypes))
        if self.has_patches:
            k = plan.ibot.ibot_prototypes if plan.ibot.separate_heads else plan.dino.prototypes
            self.register_buffer("patch_centre_1K", torch.zeros(1, k))
        self._sums: dict[str, tuple[Tensor, int]] = {}

    @property
    def backbone(self) -> nn.Module:
        """The teacher's (DINO §3.1: it is the better one throughout)."""
        return self.teacher.backbone

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Student and teacher."""
        return (self.student, self.teacher)

    @torch.no_grad()
    def answers(self, parts: Sequence[Part], at: Moment) -> list[Answer]:
        """Return the teacher's answers, centred and sharpened over all parts of the batch and all processes.

        The centre moves in `after_step`, by the mean over the whole batch. The teacher sees every patch.
        """
        seen = [self.teacher(part.views_VBCYX[:GLOBALS], None, self._masked(part)) for part in parts]
        logits_NK = torch.cat([view.float() for of_part in seen for view in of_part.logits_VBK])
        self._remember("centre_1K", logits_NK)
        answers_NK = sharpened(logits_NK, self.centre_1K, at.teacher_temperature, self.settings)
        answers = iter(answers_NK.split([len(view) for of_part in seen for view in of_part.logits_VBK]))
        patches = self._patch_answers(seen, at)
        return [
            Answer([next(answers) for _ in one.logits_VBK], self._raw(one), one.cls_VBD, patch)
            for one, patch in zip(seen, patches, strict=True)
        ]

    def _raw(self, seen: Seen) -> list[Tensor]:
        """Return the centred scores of each view, where the squared error is what is learnt by."""
        if self.settings.dino_loss != "mse":
            return []
        centre_1K = self.centre_1K if self.settings.centring == "ema" else torch.zeros_like(self.centre_1K)
        return [view.float() - centre_1K for view in seen.logits_VBK]

    def _patch_answers(self, seen: Sequence[Seen], at: Moment) -> Sequence[Tensor | None]:
        if not self.has_patches:
            return [None] * len(seen)
        of_parts = [cast("Tensor", one.patches_MK).float() for one in seen]
        logits_MK = torch.cat(of_parts)
        self._remember("patch_centre_1K", logits_MK)
        answers_MK = sharpened(logits_MK, self.patch_centre_1K, at.teacher_temperature, self.settings)
        return answers_MK.split([len(one) for one in of_parts])

    def _masked(self, part: Part) -> Tensor | None:
        return part.masked_M if self.has_patches else None

    def loss(self, part: Part, answer: Answer, at: Moment, *, watch: bool = False) -> Loss:
        """Return the loss of one part of a batch; batch norm and KoLeo see that part."""
        settings = self.settings
        masks_GBP = part.masks_GBP if self.has_patches else None
        seen: Seen = self.learner(part.views_VBCYX, masks_GBP, self._masked(part))
        parts: dict[str, Tensor] = {}
        if settings.dino_weight:
            parts["dino"] = settings.dino_weight * self._between_pictures(seen, answer)
        if self.has_patches:
            assert part.weights_M is not None and answer.patches_MK is not None
            n_crops = sum(len(view) for view in part.views_VBCYX[:GLOBALS])
            parts["ibot"] = self.plan.ibot.ibot_weight * ibot_loss(
                cast("Tensor", seen.patches_MK),
                answer.patches_MK,
                part.weights_M,
                n_crops,
                settings.student_temperature,
            )
        if settings.koleo:
            spread = [koleo_loss(view) for view in seen.cls_VBD[:GLOBALS]]
            parts["koleo"] = settings.koleo * torch.stack(spread).sum()
        total = torch.stack(list(parts.values())).sum()
        watched = self._watch(answer, seen) if watch else {}
        return Loss(total, {name: value.detach() for name, value in parts.items()}, watched)

    def _between_pictures(self, seen: Seen, answer: Answer) -> Tensor:
        if self.settings.dino_loss == "mse":
            return normalised_mse_loss(seen.logits_VBK, answer.raw_GBK)
        return dino_loss(seen.logits_VBK, answer.answers_GBK, self.settings.student_temperature)

    @torch.no_grad()
    def _watch(self, answer: Answer, seen: Seen) -> dict[str, Tensor]:
        spread = entropy(torch.cat(answer.answers_GBK))
        # The pairs the loss compares: each large view's answer with the other one's.
        across = dino_loss(seen.logits_VBK[:GLOBALS], answer.answers_GBK, self.settings.student_temperature)
        watched = {
            "teacher_entropy": spread,
            "marginal_entropy": entropy(torch.cat(answer.answers_GBK).mean(dim=0, keepdim=True)),
            "kl": across - spread,
            "centre_norm": self.centre_1K.norm(),
            **spread_of(torch.cat(answer.cls_GBD)),
        }
        if answer.patches_MK is not None:
            watched["patch_entropy"] = entropy(answer.patches_MK)
        return watched

    def _remember(self, centre: str, logits_NK: Tensor) -> None:
        self._sums[centre] = (logits_NK.sum(dim=0, keepdim=True), len(logits_NK))

    def before_step(self, at: Moment) -> None:
        """Keep the prototypes where they are in the first epochs, and a teacher of a step ago what the student is."""
        if at.epoch_of_phase < self.plan.optimiser.freeze_last_layer and self.plan.run.objective == "dino":
            for head in (self.student.head, self.student.patch_head):
                if head is not None:
                    for parameter in cast("ProjectionHead", head).last_layer.parameters():
                        parameter.grad = None
        if self.settings.teacher_follows == "previous_iteration":
            follow(self.teacher, self.student, 0.0)

    @torch.no_grad()
    def after_step(self, at: Moment) -> None:
        """Move the teacher and the centres."""
        match self.settings.teacher_follows:
            case "average":
                follow(self.teacher, self.student, at.momentum)
            case "copy":
                follow(self.teacher, self.student, 0.0)
            case "previous_epoch" if at.is_last_of_epoch:
                follow(self.teacher, self.student, 0.0)
        assert self._sums, "after_step follows answers"
        keep = self.settings.centre_momentum
        for name, (sum_1K, n_rows) in self._sums.items():
            move_centre(cast("Tensor", getattr(self, name)), sum_1K, n_rows, keep)
        self._sums = {}


def sharpened(logits_NK: Tensor, centre_1K: Tensor, temperature: float, settings: DinoSettings) -> Tensor:
    """Return a teacher's probabilities, kept from one prototype for everything as the settings say, (N, K)."""
    match settings.centring:
        case "ema":
            return teacher_answer(logits_NK, centre_1K, temperature)
        case "sinkhorn":
            return sinkhorn_knopp(logits_NK, temperature, settings.sinkhorn_iterations)
        case "batch_softmax":
            return batch_softmax(logits_NK, temperature)
        case "none":
            return teacher_answer(logits_NK, torch.zeros_like(centre_1K), temperature)


def spread_of(cls_BD: Tensor) -> dict[str, Tensor]:
    """Return how different the features of different pictures are: what `health` reads.

    ``feature_std`` is 1 for directions spread evenly, 0 when all are one: the std of each axis times sqrt(D).
    """
    features_BD = nn.functional.normalize(cls_BD.float(), dim=-1)
    return {
        "feature_std": features_BD.std(dim=0).mean() * features_BD.shape[1] ** 0.5,
        "effective_rank": effective_rank(features_BD),
    }


@torch.no_grad()
def move_centre(centre_1K: Tensor, sum_1K: Tensor, n_rows: int, keep: float) -> None:
    """Move a centre towards the mean of the rows of all processes, told as their sum and number.

    Where there are none, as no patch was hidden, it stays where it is.
    """
    rows = sum_1K.new_tensor([float(n_rows)])
    if dist.is_initialized():
        dist.all_reduce(sum_1K)
        dist.all_reduce(rows)
    moved_1K = centre_1K.mul(keep).add_(sum_1K / rows, alpha=1 - keep)
    centre_1K.copy_(torch.where(rows > 0, moved_1K, centre_1K))


def network(plan: Plan, *, drop_path: float, is_student: bool) -> Network:
    """Return the network of a plan with new weights.

    The teacher's prototypes have unit length and no gradient, whatever the student's do; a learnt length reaches it by
    the moving average (main_dino.py: DINOHead of the teacher has the default).
    """
    backbone = new_backbone(plan, drop_path=drop_path)
    dino = plan.dino
    norm_last_layer = dino.norm_last_layer if is_student else True
    has_predictor = dino.predictor and is_student
    head = projection_head(plan, dino.prototypes, dino.bottleneck, norm_last_layer, has_predictor=has_predictor)
    has_own = "ibot" in plan.heeded and plan.ibot.separate_heads and plan.ibot.ibot_weight > 0
    patch_head = None
    if has_own:
        patch_head = projection_head(plan, plan.ibot.ibot_prototypes, plan.ibot.ibot_bottleneck, norm_last_layer)
    return Network(backbone, head, patch_head)


def projection_head(
    plan: Plan, prototypes: int, bottleneck: int, norm_last_layer: bool, *, has_predictor: bool = False
) -> ProjectionHead:
    """Return a new head of a plan's width and depth."""
    dino: DinoSettings = plan.dino
    head = ProjectionHead(
        feature_width(plan.shape),
        prototypes,
        layers=dino.head_layers,
        hidden=dino.head_width,
        bottleneck=bottleneck,
        norm=dino.head_norm,
        norm_last_layer=norm_last_layer,
        has_predictor=has_predictor,
    )
    if plan.model.start == "contrasting":
        keep_variance(head.mlp)
    return head
