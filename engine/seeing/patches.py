"""Axes of patch features: principal components as red, green and blue, and the subject told from its ground.

A ``Basis`` fitted on some pictures colours any others alike; ``palette`` has all that colouring needs.
The signs of components are arbitrary (facebookresearch/dinov2#292); a rule fixes them.

Letters after a name are its axes:
    P patches · D width · K components · R C rows and columns of patches
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

COLOURS = 3
CHUNK = 1 << 14
"""Patches in float64 at a time."""
LEAST_SHARE = 0.02
"""Otsu's threshold must leave this share of the patches on either side, or it has cut off a few odd ones."""
Rule = Literal["otsu", "mean", "given", "off", "none"]
"""How the foreground was chosen: Otsu's threshold, the mean (0), a threshold given, not at all, or none was found."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Axes of feature space: ``mean_D`` and, largest variance first, unit ``components_KD``; float32."""

    mean_D: NDArray[np.float32]
    components_KD: NDArray[np.float32]

    @classmethod
    def fit(cls, features_PD: NDArray, n: int = COLOURS) -> Self:
        """Return the first ``n`` <= D principal components of some features; the largest entry of each is positive."""
        return cls.fit_blocks([features_PD], n)

    @classmethod
    def fit_blocks(cls, blocks: Sequence[NDArray], n: int = COLOURS) -> Self:
        """Return the first ``n`` <= D principal components of features that lie in several arrays, (P, D) each."""
        mean_D = _mean(blocks)
        components_KD = _principal(blocks, [mean_D] * len(blocks), n)
        return cls(mean_D.astype(np.float32), components_KD.astype(np.float32))

    def project(self, features: NDArray) -> NDArray[np.float32]:
        """Return the components of features (..., D): (..., K)."""
        return (features - self.mean_D) @ self.components_KD.T


def _mean(blocks: Sequence[NDArray]) -> NDArray[np.float64]:
    return np.sum([block_PD.sum(axis=0, dtype=np.float64) for block_PD in blocks], axis=0) / sum(map(len, blocks))


def _principal(blocks: Sequence[NDArray], centres: Sequence[NDArray], n: int) -> NDArray[np.float64]:
    """Return the unit axes of largest spread about the centre of each block, (n, D)."""
    width = blocks[0].shape[1]
    scatter_DD = np.zeros((width, width))
    for block_PD, centre_D in zip(blocks, centres, strict=True):
        for first in range(0, len(block_PD), CHUNK):
            centred_PD = block_PD[first : first + CHUNK] - np.asarray(centre_D, dtype=np.float64)
            scatter_DD += centred_PD.T @ centred_PD
    _, vectors_DK = eigh(scatter_DD, subset_by_index=[width - n, width - 1])  # a third of the time of all of them
    components_KD = np.ascontiguousarray(vectors_DK[:, ::-1].T)
    largest_K = components_KD[range(n), np.abs(components_KD).argmax(axis=1)]
    return components_KD * np.where(largest_K < 0, -1.0, 1.0)[:, None]


def fit_basis(pictures: Sequence[NDArray], n: int = COLOURS) -> Basis:
    """Return one basis for the patches of several pictures, each (rows, cols, D).

    The first component is negative on average at the borders of the pictures: what lies in the middle,
    mostly the subject, is positive.
    """
    basis = Basis.fit_blocks([flat(features_RCD) for features_RCD in pictures], n)
    if _mean_at_borders(pictures, [basis.mean_D] * len(pictures), basis.components_KD[0]) > 0:
        basis.components_KD[0] *= -1
    return basis


def flat(features_RCD: NDArray) -> NDArray:
    """Return features of patches in one row each, (P, D)."""
    return features_RCD.reshape(-1, features_RCD.shape[-1])


def _mean_at_borders(pictures: Sequence[NDArray], centres: Sequence[NDArray], axis_D: NDArray) -> float:
    scores = [
        ((features_RCD - centre_D) @ axis_D)[_border(*features_RCD.shape[:2])]
        for features_RCD, centre_D in zip(pictures, centres, strict=True)
    ]
    return float(np.concatenate(scores).mean(dtype=np.float64))


def _border(rows: int, cols: int) -> NDArray[np.bool_]:
    is_border_RC = np.ones((rows, cols), dtype=np.bool_)
    is_border_RC[1:-1, 1:-1] = False
    return is_border_RC


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Foreground:
    """Tells the subject of a picture from its ground: one axis and a threshold.

    ``axis_D`` is so long that scores have deviation 1 over the pictures it was fitted on, and mean 0.
    """

    mean_D: NDArray[np.float32]
    axis_D: NDArray[np.float32]
    threshold: float
    rule: Rule

    @classmethod
    def fit(cls, pictures: Sequence[NDArray], threshold: float | None = None, *, is_flipped: bool = False) -> Self:
        """Find the axis along which patches of one picture differ most, and where to cut it.

        Differences between pictures are left out: of three pictures, one dark, the first component of all
        patches together would take two for foreground. (On horses, three together: Jaccard .36, not .17.)
        The side that the borders of the pictures lie on is the ground.

        Args:
            pictures: features, (rows, cols, D) each.
            threshold: in standard deviations; 0 is the paper's. Otsu's where absent: the cut with the least
                variance within its two sides, or 0 where that leaves hardly anything on one side.
            is_flipped: the borders lie on the subject's side.

        Source: DINOv2 §7.5; Otsu 1979, "A threshold selection method from gray-level histograms".
        """
        blocks = [flat(features_RCD) for features_RCD in pictures]
        centres = [_mean([block_PD]) for block_PD in blocks]
        axis_D = _principal(blocks, centres, 1)[0]
        if (_mean_at_borders(pictures, centres, axis_D) > 0) != is_flipped:
            axis_D = -axis_D
        mean_D = _mean(blocks)
        scores_P = np.concatenate([(block_PD - mean_D.astype(np.float32)) @ axis_D for block_PD in blocks])
        axis_D = axis_D / (scores_P.std() or 1.0)
        cut, rule = _cut(scores_P / (scores_P.std() or 1.0)) if threshold is None else (threshold, "given")
        return cls(mean_D=mean_D.astype(np.float32), axis_D=axis_D.astype(np.float32), threshold=cut, rule=rule)

    def scores(self, features: NDArray) -> NDArray[np.float32]:
        """Return the first component of features (..., D) in standard deviations."""
        return (features - self.mean_D) @ self.axis_D

    def found(self, features_RCD: NDArray, *, is_filtered: bool = False, is_opened: bool = False) -> NDArray[np.bool_]:
        """Return where the subject is.

        Args:
            features_RCD: of one picture.
            is_filtered: take the median of the 3 x 3 scores around each patch.
            is_opened: drop what is thinner than a cross of 3 x 3 patches, then fill what is; what lies beyond
                the picture counts as nothing, so that a subject cut by the border stays whole.
        """
        scores_RC = np.ascontiguousarray(self.scores(features_RCD), dtype=np.float32)
        if is_filtered:
            scores_RC = cv2.medianBlur(scores_RC, 3)
        is_subject_RC = scores_RC > self.threshold
        if not is_opened:
            return is_subject_RC
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        opened_RC = cv2.morphologyEx(is_subject_RC.astype(np.uint8), cv2.MORPH_OPEN, cross)
        return cv2.morphologyEx(opened_RC, cv2.MORPH_CLOSE, cross).astype(np.bool_)


def _cut(scores_P: NDArray) -> tuple[float, Rule]:
    """Return Otsu's threshold of scores of mean 0, and that it is his; 0 where it parts off hardly anything."""
    sorted_P = np.sort(scores_P.astype(np.float64))
    n = len(sorted_P)
    if n < 2:
        return 0.0, "mean"
    n_below = np.arange(1, n)
    sum_below = sorted_P.cumsum()[:-1]
    means_apart = (sorted_P.sum() - sum_below) / (n - n_below) - sum_below / n_below
    best = int((n_below * (n - n_below) * means_apart**2).argmax())
    threshold = float((sorted_P[best] + sorted_P[best + 1]) / 2)
    share_above = float((scores_P > threshold).mean())
    if not LEAST_SHARE <= share_above <= 1 - LEAST_SHARE:
        return 0.0, "mean"
    return threshold, "otsu"


def as_colours(scores: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
    """Scale each of three components, (rows, cols, 3) a picture, to 0..255 over all pictures; grey if constant."""
    every_PK = np.concatenate([scores_RC3.reshape(-1, COLOURS) for scores_RC3 in scores])
    low_K, high_K = every_PK.min(axis=0), every_PK.max(axis=0)
    return [(levels(scores_RC3, low_K, high_K) * 255).round().astype(np.uint8) for scores_RC3 in scores]


def levels(scores_RC3: NDArray, low_K: NDArray, high_K: NDArray) -> NDArray[np.float32]:
    """Scale each component to 0..1 between two values; the middle where there is nothing between."""
    size = max(1.0, float(np.abs(low_K).max()), float(np.abs(high_K).max()))
    is_flat_K = high_K - low_K <= np.finfo(np.float32).eps * size
    span_K = np.where(is_flat_K, 1.0, high_K - low_K)
    return np.where(is_flat_K, 0.5, (scores_RC3 - low_K) / span_K).clip(0, 1).astype(np.float32)
