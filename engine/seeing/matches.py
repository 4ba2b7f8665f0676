"""Which patches are alike: one patch against all others, and the mutual best matches of two pictures.

Letters after a name are its axes:
    P Q patches of the first and of the second picture · D width · R C rows and columns of patches · M matches
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 64 * 2**20
"""Cosines in memory at a time: two pictures of 65,000 patches have 17 GB of them."""
APART = 0.7
"""Distance kept between matches at first, in units of what an even spread over the picture would give."""


def unit(features: NDArray) -> NDArray[np.float32]:
    """Return features (..., D) at length 1; zeros stay zero."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def likeness_maps(query_D: NDArray, pictures: Sequence[NDArray]) -> list[NDArray[np.float32]]:
    """Return how alike every patch is to one: cosine, -1 to 1, (rows, cols) a picture; 0 where one of them is zero.

    Args:
        query_D: features of the patch; the mean of those of several.
        pictures: features, (rows, cols, D) each, of the same backbone, layer and side.
    """
    query_D = unit(query_D)
    return [(unit(features_RCD) @ query_D).clip(-1, 1) for features_RCD in pictures]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Correspondence:
    """The best match of every patch in the other picture: its place in reading order, and the cosine."""

    of_first_P: NDArray[np.int64]
    cosine_of_first_P: NDArray[np.float32]
    of_second_Q: NDArray[np.int64]
    cosine_of_second_Q: NDArray[np.float32]

    @property
    def is_mutual_P(self) -> NDArray[np.bool_]:
        """Whether the best match of a patch of the first picture has that patch for its own."""
        return self.of_second_Q[self.of_first_P] == np.arange(len(self.of_first_P))


def correspondence(first_PD: NDArray, second_QD: NDArray) -> Correspondence:
    """Return the best match, by cosine, of each patch of two pictures; of equal ones the first in reading order."""
    first_PD, second_QD = unit(first_PD), unit(second_QD)
    n_first, n_second = len(first_PD), len(second_QD)
    of_first_P, cosine_of_first_P = np.empty(n_first, np.int64), np.empty(n_first, np.float32)
    of_second_Q, cosine_of_second_Q = np.zeros(n_second, np.int64), np.full(n_second, -np.inf, np.float32)
    step = max(1, BLOCK_BYTES // (4 * n_second))
    for start in range(0, n_first, step):
        cosines_bQ = first_PD[start : start + step] @ second_QD.T
        of_first_P[start : start + step] = cosines_bQ.argmax(axis=1)
        cosine_of_first_P[start : start + step] = cosines_bQ.max(axis=1)
        best_Q = cosines_bQ.max(axis=0)
        is_better_Q = best_Q > cosine_of_second_Q
        of_second_Q[is_better_Q] = start + cosines_bQ.argmax(axis=0)[is_better_Q]
        cosine_of_second_Q[is_better_Q] = best_Q[is_better_Q]
    return Correspondence(
        of_first_P=of_first_P,
        cosine_of_first_P=cosine_of_first_P.clip(-1, 1),
        of_second_Q=of_second_Q,
        cosine_of_second_Q=cosine_of_second_Q.clip(-1, 1),
    )


class Matches(NamedTuple):
    """Patches of two pictures that are each other's best: row and column in both, cosine, most alike first."""

    first_M2: NDArray[np.int64]
    second_M2: NDArray[np.int64]
    cosine_M: NDArray[np.float32]

    def chosen(self, which: NDArray) -> "Matches":
        """Return some of them, by number or by truth."""
        return Matches(self.first_M2[which], self.second_M2[which], self.cosine_M[which])


def mutual_matches(found: Correspondence, first_cols: int, second_cols: int) -> Matches:
    """Return the patches that are each other's best match, most alike first; then in reading order."""
    first_M = np.flatnonzero(found.is_mutual_P)
    order_M = np.argsort(-found.cosine_of_first_P[first_M], kind="stable")
    first_M = first_M[order_M]
    return Matches(
        np.stack(np.divmod(first_M, first_cols), axis=1),
        np.stack(np.divmod(found.of_first_P[first_M], second_cols), axis=1),
        found.cosine_of_first_P[first_M],
    )


def spread_out(matches: Matches, most: int) -> Matches:
    """Return at most so many matches that do not crowd, most alike first.

    Good ones are taken first, none near one already taken in either picture; where that leaves room, at half
    the distance, and so on.
    """
    taken = np.zeros(len(matches.cosine_M), dtype=np.bool_)
    if not len(taken):
        return matches
    places_M4 = np.hstack([matches.first_M2, matches.second_M2]).astype(np.float64)
    apart = APART * np.sqrt(min(_extent(matches.first_M2), _extent(matches.second_M2)) / max(1, most))
    while taken.sum() < min(most, len(taken)):
        for i in np.flatnonzero(~taken):
            if taken.sum() == most:
                break
            taken[i] = _is_apart(places_M4[i], places_M4[taken], apart)
        apart = apart / 2 if apart >= 1 else 0.0
    return matches.chosen(taken)


def _extent(places_M2: NDArray) -> float:
    """Return the area of the box around places, in patches."""
    return float((places_M2.max(axis=0) - places_M2.min(axis=0) + 1).prod())


def _is_apart(place_4: NDArray, taken_M4: NDArray, apart: float) -> bool:
    between_M4 = (taken_M4 - place_4) ** 2
    return bool(
        np.minimum(between_M4[:, :2].sum(axis=1), between_M4[:, 2:].sum(axis=1)).min(initial=np.inf) >= apart**2
    )
