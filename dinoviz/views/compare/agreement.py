"""Two sets of features compared by their tables of neighbours: what moved, and how well labels are told by neighbours.

Counted off the thread that paints: a second for a million pictures.

Letters after a name are its axes: S rows of a set · N of these, seen pictures, ascending by id · k neighbours, nearest
first · C classes · Q pictures asked about · B pictures that both sets have, or some of them
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinoviz.table import Ids, PictureTable
from engine.errors import UserError
from engine.finding.neighbours import read_neighbours
from engine.sets import FeatureSet

COMPARED = 10
"""Neighbours of a picture that are compared: what a person sees in one row."""
NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Neighbours that vote and the sharpness of their votes, as ``engine.measuring.knn``, which has the source."""
MOST_ASKED = 10_000
"""Pictures whose neighbours are counted, as ``engine embed`` does: the standard error is then below 0.005."""
SURE = 2.0
"""Standard errors from which on a difference is told as one: chance alone makes one in twenty so large."""
BLOCK = 20_000
"""Pictures compared at once: two million pairs of neighbours."""
NONE = -1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Neighbourhood:
    """Who is near whom in one set of features; its tables stay on the disk, mapped into memory.

    Args:
        ids_N: pictures that were seen.
        places_N: their rows in the tables.
        all_ids: id of every row, and ``NONE`` at the end.
        rows_Sk: rows of the nearest of each row, -1 for none.
        likeness_Sk: cosines with these.
    """

    ids_N: Ids
    places_N: NDArray[np.intp]
    all_ids: Ids
    rows_Sk: NDArray[np.int32]
    likeness_Sk: NDArray[np.float32]

    @property
    def k(self) -> int:
        """Neighbours that are known of each."""
        return int(self.rows_Sk.shape[1])

    def near(self, which_B: NDArray[np.intp], k: int) -> tuple[Ids, NDArray[np.float32]]:
        """Return the ids of the ``k`` nearest of some pictures, by their places in ``ids_N``, and their cosines."""
        places_B = self.places_N[which_B]
        return self.all_ids[self.rows_Sk[places_B, :k]], np.asarray(self.likeness_Sk[places_B, :k])

    def of(self, picture: int, k: int = COMPARED) -> Ids:
        """Return the nearest of a picture; nothing where the set does not have it."""
        place = int(np.searchsorted(self.ids_N, picture))
        if place == len(self.ids_N) or self.ids_N[place] != picture:
            return np.zeros(0, np.int64)
        near_k = self.near(np.array([place]), k)[0][0]
        return near_k[near_k != NONE]


def read_neighbourhood(set_folder: Path) -> Neighbourhood | None:
    """Return who is near whom in a set, None where it has no table of neighbours of the features of now."""
    try:
        features = FeatureSet(set_folder)
        table = read_neighbours(features)
        rows_Sk, likeness_Sk = table.rows_Nk, table.likeness_Nk
    except UserError:
        return None
    seen = np.flatnonzero(features.is_seen_N)
    return Neighbourhood(
        ids_N=features.ids_N[seen],
        places_N=seen,
        all_ids=np.append(features.ids_N, NONE),
        rows_Sk=rows_Sk,
        likeness_Sk=likeness_Sk,
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Overlap:
    """How many of the nearest are the same in two sets.

    Args:
        ids_B: pictures that both have.
        same_B: of ``k`` nearest, how many are the same.
        k: neighbours compared.
    """

    ids_B: Ids
    same_B: NDArray[np.int32]
    k: int

    @property
    def mean(self) -> float:
        """Neighbours that are the same, on average."""
        return float(self.same_B.mean()) if len(self.same_B) else 0.0

    def most_changed(self) -> Ids:
        """Return the pictures, those with the fewest common neighbours first."""
        return self.ids_B[np.argsort(self.same_B, kind="stable")]

    def of(self, picture: int) -> int | None:
        """Return how many of a picture's neighbours are the same, None where not both sets have it."""
        place = int(np.searchsorted(self.ids_B, picture))
        return int(self.same_B[place]) if place < len(self.ids_B) and self.ids_B[place] == picture else None


def overlap(one: Neighbourhood, other: Neighbourhood, k: int = COMPARED) -> Overlap:
    """Return, for every picture of both sets, how many of its ``k`` nearest are the same in both."""
    ids_B, ours, theirs = np.intersect1d(one.ids_N, other.ids_N, assume_unique=True, return_indices=True)
    k = min(k, one.k, other.k)
    same_B = np.zeros(len(ids_B), np.int32)
    for first in range(0, len(ids_B), BLOCK):
        block = slice(first, first + BLOCK)
        mine_Bk, yours_Bk = one.near(ours[block], k)[0], other.near(theirs[block], k)[0]
        is_same_Bkk = (mine_Bk[:, :, None] == yours_Bk[:, None, :]) & (mine_Bk[:, :, None] != NONE)
        same_B[block] = is_same_Bkk.any(axis=2).sum(axis=1)
    return Overlap(ids_B=ids_B, same_B=same_B, k=k)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Accuracy:
    """Pictures whose neighbours vote for their own label.

    Args:
        ids_Q: those asked about, ascending.
        is_right_Q: which are.
        split: that they are of; '' for all.
    """

    ids_Q: Ids
    is_right_Q: NDArray[np.bool_]
    split: str

    @property
    def share(self) -> float:
        """Those that are right."""
        return float(self.is_right_Q.mean())

    @property
    def asked(self) -> int:
        """How many were asked about."""
        return len(self.ids_Q)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much one accuracy is above another on the same pictures.

    Args:
        share: the difference.
        error: its standard error, of the differences picture by picture.
        n: pictures.
    """

    share: float
    error: float
    n: int

    @property
    def is_larger_than_chance(self) -> bool:
        """Whether another choice of as many pictures would hardly turn it round."""
        return abs(self.share) > SURE * self.error


def gain(one: Accuracy, other: Accuracy) -> Gain | None:
    """Return by how much one is above another; None where no two pictures were asked of both."""
    _ids, ours, theirs = np.intersect1d(one.ids_Q, other.ids_Q, assume_unique=True, return_indices=True)
    if len(ours) < 2:
        return None
    difference_Q = one.is_right_Q[ours].astype(np.float64) - other.is_right_Q[theirs]
    error = float(difference_Q.std(ddof=1) / np.sqrt(len(difference_Q)))
    return Gain(share=float(difference_Q.mean()), error=error, n=len(difference_Q))


def knn_accuracy(near: Neighbourhood, table: PictureTable) -> Accuracy | None:
    """Return the weighted 20-NN accuracy, by the protocol of ``engine embed``; None without labels.

    Pictures of the test split, else of val, are asked against those of train and of no split; without splits, each
    against all others. Where fewer than 20 of those that may vote are in the table, they alone do.
    """
    rows_N = table.places_of(near.ids_N)
    label_N = np.where(rows_N >= 0, table.label.codes_N[rows_N], NONE)
    split_N = _splits(table, rows_N)
    if len(np.unique(label_N[label_N != NONE])) < 2:
        return None
    can_vote_N = (label_N != NONE) & np.isin(split_N, ("train", ""))
    split = next((name for name in ("test", "val") if (can_vote_N.any() and _asked(label_N, split_N, name).any())), "")
    if not split:
        can_vote_N = label_N != NONE
    asked_Q = np.flatnonzero(_asked(label_N, split_N, split) if split else label_N != NONE)
    asked_Q = np.sort(np.random.default_rng(0).permutation(asked_Q)[:MOST_ASKED])
    right = _voted(near, asked_Q, label_N, can_vote_N) == label_N[asked_Q]
    return Accuracy(ids_Q=near.ids_N[asked_Q], is_right_Q=right, split=split)


def _asked(label_N: NDArray[np.int32], split_N: NDArray[np.str_], split: str) -> NDArray[np.bool_]:
    return (label_N != NONE) & (split_N == split)


def _splits(table: PictureTable, rows_N: NDArray[np.intp]) -> NDArray[np.str_]:
    words = np.array([*table.split.words, ""])
    return words[np.where(rows_N >= 0, table.split.codes_N[rows_N], NONE)]


def _voted(
    near: Neighbourhood, asked_Q: NDArray[np.intp], label_N: NDArray[np.int32], can_vote_N: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return the label that the nearest of each asked picture vote for; ``NONE`` where nobody votes."""
    near_Qk, likeness_Qk = near.near(asked_Q, near.k)
    places_Qk = np.minimum(np.searchsorted(near.ids_N, near_Qk), len(near.ids_N) - 1)
    votes_Qk = can_vote_N[places_Qk] & (near.ids_N[places_Qk] == near_Qk)
    votes_Qk &= np.cumsum(votes_Qk, axis=1) <= NEIGHBOURS
    weight_Qk = np.where(votes_Qk, np.exp(likeness_Qk / TEMPERATURE), 0)
    n_classes = int(label_N.max()) + 1
    votes_QC = np.zeros((len(asked_Q), n_classes))
    np.add.at(votes_QC, (np.arange(len(asked_Q))[:, None], np.maximum(label_N[places_Qk], 0)), weight_Qk)
    return np.where(votes_QC.any(axis=1), votes_QC.argmax(axis=1), NONE)
