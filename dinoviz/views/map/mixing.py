"""Which classes mix: whose pictures have pictures of other labels for neighbours. Not on the thread that paints.

Letters after a name are its axes: S rows of the set · L rows with a label · B some of these · k neighbours ·
C classes · P pairs of classes
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinoviz.table import Ids, PictureTable, no_ids
from engine.errors import UserError
from engine.finding.neighbours import read_neighbours
from engine.sets import FeatureSet

NEAREST = 10
"""Neighbours of a picture that count: what a person would look at."""
MOST_PAIRS = 50
BLOCK = 65_536
"""Rows of the table of neighbours that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """One class, or a pair of them, and how much it mixes.

    Args:
        names: of the class or classes.
        share: of its neighbours with another label; of a pair, of the neighbours of both that are of the other one.
        count: pictures with this label, or one of these.
    """

    names: tuple[str, ...]
    share: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How the classes of a set mix, the worst first.

    Args:
        share: of all neighbours with another label.
        by_chance: the same where pictures would lie anywhere.
        classes: each of them.
        pairs: those that mix most.
    """

    share: float
    by_chance: float
    classes: tuple[Mix, ...]
    pairs: tuple[Mix, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """Rows of a set with a label of the table, the codes of all rows (-1 for none, also at the end), neighbours."""

    ids_S: Ids
    rows_L: NDArray[np.intp]
    codes_S: NDArray[np.int32]
    near_Sk: NDArray[np.int32]

    def near(self, which_B: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the label codes of the neighbours of some rows, -1 for none."""
        return self.codes_S[self.near_Sk[which_B, :NEAREST]]


def _labelled(set_folder: Path, table: PictureTable) -> _Labelled | None:
    try:
        features = FeatureSet(set_folder)
        near_Sk = read_neighbours(features).rows_Nk
    except UserError:
        return None
    places_S = table.places_of(features.ids_N)
    codes_S = np.where((places_S >= 0) & features.is_seen_N, table.label.codes_N[places_S], -1).astype(np.int32)
    return _Labelled(features.ids_N, np.flatnonzero(codes_S >= 0), np.append(codes_S, np.int32(-1)), near_Sk)


def mixing(set_folder: Path, table: PictureTable) -> Mixing | None:
    """Return how the classes of a set mix; None where it has no table of neighbours, or less than two classes."""
    found = _labelled(set_folder, table)
    words = table.label.words
    if found is None or len(np.unique(found.codes_S[found.rows_L])) < 2:
        return None
    from_P, to_P, links_P = _links(found, len(words))
    counts_C = np.bincount(found.codes_S[found.rows_L], minlength=len(words))
    all_C = np.bincount(from_P, links_P, len(words)).astype(np.float64)
    is_other_P = from_P != to_P
    others_C = np.bincount(from_P[is_other_P], links_P[is_other_P], len(words))
    share_C = others_C / np.maximum(all_C, 1)
    classes = [
        Mix(names=(words[code],), share=float(share_C[code]), count=int(counts_C[code]))
        for code in np.argsort(-share_C, kind="stable").tolist()
        if counts_C[code]
    ]
    part_C = counts_C / counts_C.sum()
    return Mixing(
        share=float(others_C.sum() / max(1, all_C.sum())),
        by_chance=float(1 - (part_C**2).sum()),
        classes=tuple(classes),
        pairs=_pairs(from_P, to_P, links_P, all_C, counts_C, words),
    )


def _links(found: _Labelled, n_classes: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Return from which class neighbours are of which: the two codes and how many, for the pairs that there are."""
    keys, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(found.rows_L), BLOCK):
        rows_B = found.rows_L[first : first + BLOCK]
        near_Bk = found.near(rows_B)
        key_Bk = found.codes_S[rows_B].astype(np.int64)[:, None] * n_classes + near_Bk
        key, count = np.unique(key_Bk[near_Bk >= 0], return_counts=True)
        keys.append(key)
        counts.append(count)
    key_P, places = np.unique(np.concatenate(keys), return_inverse=True)
    links_P = np.bincount(places, np.concatenate(counts), len(key_P)).astype(np.int64)
    return key_P // n_classes, key_P % n_classes, links_P


def _pairs(
    from_P: NDArray[np.intp],
    to_P: NDArray[np.intp],
    links_P: NDArray[np.int64],
    all_C: NDArray[np.float64],
    counts_C: NDArray[np.intp],
    words: tuple[str, ...],
) -> tuple[Mix, ...]:
    """Return the pairs of classes that mix most, whichever of them is whose neighbour."""
    is_other_P = from_P != to_P
    low_P = np.minimum(from_P, to_P)[is_other_P]
    high_P = np.maximum(from_P, to_P)[is_other_P]
    key, places = np.unique(low_P.astype(np.int64) * len(words) + high_P, return_inverse=True)
    links = np.bincount(places, links_P[is_other_P], len(key))
    low, high = key // len(words), key % len(words)
    share = links / np.maximum(all_C[low] + all_C[high], 1)
    return tuple(
        Mix(
            names=(words[low[i]], words[high[i]]),
            share=float(share[i]),
            count=int(counts_C[low[i]] + counts_C[high[i]]),
        )
        for i in np.argsort(-share, kind="stable")[:MOST_PAIRS].tolist()
    )


def mixed(set_folder: Path, table: PictureTable, names: tuple[str, ...]) -> Ids | None:
    """Return the pictures by which a class mixes, or a pair; None where there is no table of neighbours.

    Of a class, those at least half of whose neighbours have another label; of a pair, those of either with a neighbour
    of the other.
    """
    found = _labelled(set_folder, table)
    if found is None:
        return None
    codes = [table.label.words.index(name) for name in names if name in table.label.words]
    picked = [no_ids()]
    for code in codes:
        rows = np.flatnonzero(found.codes_S[:-1] == code)
        others = np.array([other for other in codes if other != code])
        for first in range(0, len(rows), BLOCK):
            near_Bk = found.near(rows[first : first + BLOCK])
            if len(names) > 1:
                is_mixed_B = np.isin(near_Bk, others).any(axis=1)
            else:
                n_labelled_B = (near_Bk >= 0).sum(axis=1)
                is_mixed_B = (n_labelled_B > 0) & (2 * ((near_Bk >= 0) & (near_Bk != code)).sum(axis=1) >= n_labelled_B)
            picked.append(found.ids_S[rows[first : first + BLOCK][is_mixed_B]])
    return np.unique(np.concatenate(picked))
