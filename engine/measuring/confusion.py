"""How well a classifier answers, class by class: counts of what was taken for what, and the figures made of them.

Letters after a name are its axes:
    N pictures · K classes; of two, the true class comes first, then the answer
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FEW_ANSWERS = 5
"""Answers a classifier may give for the figure called top 5; it says nothing of so few classes or fewer."""


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The figures of one class, each from 0 to 1: NaN where nothing is counted.

    ``precision``: share of those taken for it that are of it. ``recall``: share of those of it that were found.
    ``f1``: their harmonic mean.
    """

    name: str
    pictures: int
    answered: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """What was taken for what: ``counts_KK`` by true class and answer, and how many were among the first five."""

    names: tuple[str, ...]
    counts_KK: NDArray[np.int64]
    n_within_five: int

    @property
    def pictures(self) -> int:
        """How many were asked about."""
        return int(self.counts_KK.sum())

    @property
    def accuracy(self) -> float:
        """Share of the pictures whose first answer is right."""
        return float(np.trace(self.counts_KK)) / max(1, self.pictures)

    @property
    def largest_share(self) -> float:
        """Share of the pictures that are of the largest class: what always giving its name would reach."""
        return float(self.counts_KK.sum(axis=1).max()) / max(1, self.pictures)

    @property
    def mean_recall(self) -> float:
        """Accuracy as if every class had as many pictures; those without any do not count."""
        of_each_K = self.counts_KK.sum(axis=1)
        return float((np.diag(self.counts_KK)[of_each_K > 0] / of_each_K[of_each_K > 0]).mean())

    def scores(self) -> dict[str, float]:
        """Return the figures of all classes together; the first five answers where there are more classes."""
        scores = {"accuracy": self.accuracy, "largest_class": self.largest_share}
        if len(self.names) > FEW_ANSWERS:
            scores["top5"] = self.n_within_five / max(1, self.pictures)
        return scores

    def classes(self) -> list[ClassFigures]:
        """Return the figures of each class."""
        right_K = np.diag(self.counts_KK).astype(float)
        pictures_K, answered_K = self.counts_KK.sum(axis=1), self.counts_KK.sum(axis=0)
        with np.errstate(invalid="ignore"):
            precision_K, recall_K = right_K / answered_K, right_K / pictures_K
            f1_K = 2 * right_K / (answered_K + pictures_K)
        return [
            ClassFigures(name, int(pictures), int(answered), float(precision), float(recall), float(f1))
            for name, pictures, answered, precision, recall, f1 in zip(
                self.names, pictures_K, answered_K, precision_K, recall_K, f1_K, strict=True
            )
        ]

    def mistakes(self, most: int) -> list[tuple[str, str, int]]:
        """Return the commonest mistakes: true class, answer, pictures."""
        wrong_KK = self.counts_KK - np.diag(np.diag(self.counts_KK))
        order = np.argsort(-wrong_KK, axis=None, kind="stable")[:most]
        places = [np.unravel_index(place, wrong_KK.shape) for place in order]
        return [(self.names[i], self.names[j], int(wrong_KK[i, j])) for i, j in places if wrong_KK[i, j]]


def confusion(scores_NK: Tensor, labels_N: Tensor, names: tuple[str, ...]) -> Confusion:
    """Count what a classifier took for what.

    Args:
        scores_NK: its score of each class, on any scale.
        labels_N: true classes, int64.
        names: of the classes.
    """
    n_classes = len(names)
    best_Nk = scores_NK.topk(min(FEW_ANSWERS, n_classes), dim=1).indices
    counts_KK = torch.bincount(labels_N * n_classes + best_Nk[:, 0], minlength=n_classes**2).view(n_classes, n_classes)
    n_within = int((best_Nk == labels_N.unsqueeze(1)).any(dim=1).sum())
    return Confusion(names, counts_KK.numpy(), n_within)
