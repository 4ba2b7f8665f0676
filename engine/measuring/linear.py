"""Linear classifiers on frozen features, many at once, as DINOv2 measures with them (dinov2/eval/linear.py).

A head is a learning rate and a kind of features: the [CLS] of the last or of the last four blocks, alone or with the
mean patch beside it. All heads see the same batches; those of one kind are one matrix, so that a step of thirteen costs
two products. The best head is chosen on pictures that it did not learn from and that are not asked about.

The papers crop and flip the training pictures anew in every epoch. Here each picture is seen once, in its central
crop, and its features are kept, so that a step costs no pass of the backbone.

Letters after a name are its axes:
    N pictures with known labels · Q pictures asked about · B pictures of a batch · L last blocks · D width of the
    backbone · F length of what a head sees · H heads of one kind, one a learning rate · C classes · V both of these
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import BadInput, Diverged
from engine.models.vit import VisionTransformer

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
"""Learning rates for ``RATES_ARE_FOR`` pictures a step; dinov2/eval/linear.py."""
RATES_ARE_FOR = 256
LAST_BLOCKS = 4
BATCH, STEPS = 128, 12_500
"""Ten epochs of 1,250 steps, whatever the data set; dinov2/eval/linear.py."""
PASSES, LEAST_STEPS = 100, 1000
"""A folder smaller than ImageNet needs fewer steps: the passes of DINO's own protocol (eval_linear.py), and at least so
many steps; on 100 photos of clothes 80 steps gave 0.31, 300 0.38, 1,000 0.40, 2,000 0.40, logistic regression 0.35."""
MOMENTUM = 0.9
WEIGHT_STD = 0.01
"""Deviation of the weights at the start, whose biases are 0; the same source."""
FOLD = 10
"""One picture in so many chooses the head where there is no validation split; dinov2/eval/log_regression.py: 10 %."""
AT_ONCE = 4096
"""Pictures whose answers are computed together."""
LEAST_PICTURES = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """What a head sees of a picture: the [CLS] of the last ``blocks`` blocks, with the mean patch beside it or not."""

    blocks: int
    pool: bool


@dataclass(frozen=True, slots=True, eq=False)
class FrozenFeatures:
    """Features of pictures that every kind of head can be cut from.

    Attributes:
        cls_NLD: [CLS] of the last blocks after the final norm, the last block last; any float type.
        pooled_ND: mean patch of the last block; None where it says nothing that [CLS] does not.
    """

    cls_NLD: Tensor
    pooled_ND: Tensor | None = None

    def __len__(self) -> int:
        return len(self.cls_NLD)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the features of several batches as one."""
        pooled = [part.pooled_ND for part in parts if part.pooled_ND is not None]
        return cls(torch.cat([part.cls_NLD for part in parts]), torch.cat(pooled) if pooled else None)

    def __getitem__(self, places_N: Tensor) -> "FrozenFeatures":
        """Return those of some pictures, by a mask or by their places."""
        return FrozenFeatures(self.cls_NLD[places_N], None if self.pooled_ND is None else self.pooled_ND[places_N])

    def kinds(self) -> list[Kind]:
        """Return what heads can see, the plainest first: four kinds of a transformer of two blocks or more."""
        blocks = sorted({1, self.cls_NLD.shape[1]})
        pools = (False,) if self.pooled_ND is None else (False, True)
        return [Kind(n, pool) for n in blocks for pool in pools]

    def of_kind(self, kind: Kind) -> Tensor:
        """Return what a head of a kind sees, (N, F): [CLS] of the blocks, the oldest first, then the mean patch."""
        cls_NF = self.cls_NLD[:, -kind.blocks :].flatten(1)
        if not kind.pool:
            return cls_NF
        assert self.pooled_ND is not None
        return torch.cat([cls_NF, self.pooled_ND], dim=1)


@torch.inference_mode()
def linear_features(model: nn.Module, images_BCYX: Tensor) -> FrozenFeatures:
    """Return what linear heads see of some pictures, float32, on the device of the pictures.

    Args:
        model: a backbone in eval mode; of a transformer of fewer than four blocks all are taken, and a network
            without [CLS] tokens has one kind of features.
        images_BCYX: normalised.

    Source: dinov2/eval/linear.py ``create_linear_input``. DINO's own (eval_linear.py) has the same numbers in another
    order where it takes the mean patch, [CLS] and patch by turns, which matters to its released heads alone.
    """
    if not isinstance(model, VisionTransformer):
        return FrozenFeatures(model(images_BCYX).cls_BD.float().unsqueeze(1))
    layers = model.layers(images_BCYX, range(-min(LAST_BLOCKS, model.shape.depth), 0))
    cls_BLD = torch.stack([layer.cls_BD for layer in layers], dim=1).float()
    return FrozenFeatures(cls_BLD, layers[-1].patches_BPD.float().mean(dim=1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearResult:
    """How well the best head told the classes apart.

    Attributes:
        accuracy: share of the pictures asked about whose class was found.
        by_class_C: the same of each class; NaN for a class that was not asked about.
        predicted_Q: the class found for each picture.
        rate: learning rate of the head, for 256 pictures a step.
        blocks: whose [CLS] it sees.
        pool: whether it sees the mean patch too.
        validation_accuracy: what it was chosen for.
        heads: among how many.
        steps: that each learnt for.
    """

    accuracy: float
    by_class_C: Tensor
    predicted_Q: Tensor
    rate: float
    blocks: int
    pool: bool
    validation_accuracy: float
    heads: int
    steps: int


def linear_accuracy(
    known: FrozenFeatures,
    known_labels_N: Tensor,
    asked: FrozenFeatures,
    asked_labels_Q: Tensor,
    *,
    validation: tuple[FrozenFeatures, Tensor] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> LinearResult:
    """Teach all heads and return how the best one does on the pictures asked about.

    Args:
        known: features to learn from.
        known_labels_N: int64, 0 and up.
        asked: features of the same backbone.
        asked_labels_Q: int64; a class that nobody knows is never right.
        validation: features and labels to choose the head by; a tenth of the known ones, which are then not learnt
            from, where there are none.
        steps: that each head learns for; ``steps_for`` where absent.
        seed: of the weights, the order of pictures and the tenth that is held out.

    Raises:
        BadInput: fewer than two pictures with labels.
        Diverged: no head has finite answers: the features are not.
    """
    if validation is None:
        is_held_N = held_out(known_labels_N, seed)
        validation = known[is_held_N], known_labels_N[is_held_N]
        known, known_labels_N = known[~is_held_N], known_labels_N[~is_held_N]
    steps = steps or steps_for(len(known))
    classes = int(max(known_labels_N.max(), validation[1].max())) + 1
    heads_of = [
        (kind, Heads.taught(known.of_kind(kind), known_labels_N, classes, steps, seed)) for kind in known.kinds()
    ]
    chosen = _best(heads_of, *validation)
    predicted_Q = chosen.heads.answers(asked.of_kind(chosen.kind), chosen.head)
    is_right_Q = predicted_Q == asked_labels_Q
    return LinearResult(
        accuracy=is_right_Q.float().mean().item(),
        by_class_C=_by_class(is_right_Q, asked_labels_Q, classes),
        predicted_Q=predicted_Q,
        rate=RATES[chosen.head],
        blocks=chosen.kind.blocks,
        pool=chosen.kind.pool,
        validation_accuracy=chosen.accuracy,
        heads=len(heads_of) * len(RATES),
        steps=steps,
    )


def steps_for(n_pictures: int) -> int:
    """Return how many steps heads learn for: a hundred passes, within limits."""
    return min(STEPS, max(LEAST_STEPS, PASSES * n_pictures // BATCH))


def held_out(labels_N: Tensor, seed: int) -> Tensor:
    """Return which pictures choose the head, (N,) bool: a tenth of each class, one at least of all.

    Raises:
        BadInput: fewer than two pictures.
    """
    n = len(labels_N)
    if n < LEAST_PICTURES:
        raise BadInput(f"A linear classifier needs {LEAST_PICTURES} pictures with labels, and there are {n}.")
    order_N = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    by_class_N = order_N[labels_N.cpu()[order_N].argsort(stable=True)]
    is_held_N = torch.zeros(n, dtype=torch.bool)
    is_held_N[by_class_N[min(FOLD // 2, n - 1) :: FOLD]] = True
    return is_held_N.to(labels_N.device)


class Heads:
    """The linear classifiers of one kind of features, one for each of ``RATES``.

    Args:
        n_features: F.
        classes: C.
        seed: of the weights.
        device: where they learn.
    """

    def __init__(self, n_features: int, classes: int, seed: int, device: torch.device) -> None:
        size = (n_features, len(RATES) * classes)
        start_FV = torch.empty(size).normal_(std=WEIGHT_STD, generator=torch.Generator().manual_seed(seed))
        self._classes = classes
        self._weight_FV = start_FV.to(device)
        self._bias_V = torch.zeros(size[1], device=device)
        self._speeds = torch.zeros_like(self._weight_FV), torch.zeros_like(self._bias_V)

    @classmethod
    def taught(cls, features_NF: Tensor, labels_N: Tensor, classes: int, steps: int, seed: int) -> Self:
        """Return heads that learnt for some steps, their rates falling to 0 along a cosine."""
        heads = cls(features_NF.shape[1], classes, seed, features_NF.device)
        batch = min(BATCH, len(features_NF))
        rates_V = torch.tensor(RATES).repeat_interleave(classes).to(features_NF.device) * batch / RATES_ARE_FOR
        for step, places_B in enumerate(_batches(len(features_NF), batch, steps, seed)):
            falling = (1 + math.cos(math.pi * step / steps)) / 2
            heads.learn(features_NF[places_B].float(), labels_N[places_B], rates_V * falling)
        return heads

    def learn(self, features_BF: Tensor, labels_B: Tensor, rates_V: Tensor) -> None:
        """Take one step of SGD with momentum down the cross-entropy of every head.

        Args:
            features_BF: float32.
            labels_B: int64.
            rates_V: of each class of each head.
        """
        logits_BHC = self._logits(features_BF)
        # Of a softmax with cross-entropy the gradient is the answer without the truth.
        error_BHC = logits_BHC.softmax(dim=2) - F.one_hot(labels_B, self._classes).unsqueeze(1)
        error_BV = error_BHC.flatten(1) / len(labels_B)
        speed_FV, speed_V = self._speeds
        torch.addmm(speed_FV, features_BF.T, error_BV, beta=MOMENTUM, out=speed_FV)
        speed_V.mul_(MOMENTUM).add_(error_BV.sum(dim=0))
        self._weight_FV.addcmul_(speed_FV, rates_V, value=-1)
        self._bias_V.addcmul_(speed_V, rates_V, value=-1)

    def judged(self, features_NF: Tensor, labels_N: Tensor) -> list[tuple[float, float]]:
        """Return the accuracy of each head and its mean log-likelihood, by which equal accuracies are told apart."""
        n_right_H = torch.zeros(len(RATES), device=features_NF.device)
        likelihood_H = torch.zeros(len(RATES), device=features_NF.device)
        for part_NF, part_N in zip(features_NF.split(AT_ONCE), labels_N.split(AT_ONCE), strict=True):
            logits_NHC = self._logits(part_NF.float())
            n_right_H += (logits_NHC.argmax(dim=2) == part_N.unsqueeze(1)).sum(dim=0)
            truth_NH1 = part_N.view(-1, 1, 1).expand(-1, len(RATES), 1)
            likelihood_H += logits_NHC.log_softmax(dim=2).gather(2, truth_NH1).sum(dim=(0, 2))
        n = len(labels_N)
        return list(zip((n_right_H / n).tolist(), (likelihood_H / n).tolist(), strict=True))

    def answers(self, features_QF: Tensor, head: int) -> Tensor:
        """Return the class that one head finds for each picture, (Q,) int64."""
        return torch.cat([self._logits(part.float())[:, head].argmax(dim=1) for part in features_QF.split(AT_ONCE)])

    def _logits(self, features_BF: Tensor) -> Tensor:
        """Return the scores of all heads, (B, H, C)."""
        logits_BV = torch.addmm(self._bias_V, features_BF, self._weight_FV)
        return logits_BV.view(len(features_BF), len(RATES), self._classes)


class _Chosen(NamedTuple):
    """A head: which of some heads of one kind, and how it did on the pictures that chose it."""

    kind: Kind
    heads: Heads
    head: int
    accuracy: float


def _best(heads_of: Sequence[tuple[Kind, Heads]], features: FrozenFeatures, labels_N: Tensor) -> _Chosen:
    """Return the head that tells some pictures apart best, the plainest of equal ones.

    Raises:
        Diverged: no head has finite answers.
    """
    best, most = None, (-1.0, 0.0)
    for kind, heads in heads_of:
        for head, score in enumerate(heads.judged(features.of_kind(kind), labels_N)):
            if math.isfinite(score[1]) and (best is None or score > most):
                best, most = _Chosen(kind, heads, head, score[0]), score
    if best is None:
        raise Diverged("No linear classifier has finite answers.", "The features of this backbone are not finite.")
    return best


def _batches(n: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the places of the pictures of each step: all of them in a new order, again and again, without an end."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(n, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _by_class(is_right_Q: Tensor, labels_Q: Tensor, classes: int) -> Tensor:
    is_known_Q = labels_Q >= 0
    n_C = labels_Q[is_known_Q].bincount(minlength=classes)[:classes]
    n_right_C = labels_Q[is_known_Q & is_right_Q].bincount(minlength=classes)[:classes]
    return n_right_C / n_C
