"""Pictures worth a second look: those apart from all others, those whose label is in doubt, those typical of a class.

All from the shared table of neighbours and the features of a set. Labels are in doubt where the neighbours vote for
another class, and above all where a copy of the picture has another label. Nothing is changed: these are lists.

Letters after a name are its axes:
    N pictures, rows of the set · B rows of a block · S pictures of one class, or a sample of it · C classes
    D width of a vector · k neighbours
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.finding.duplicate_files import Duplicates
from engine.finding.labels import key_with_labels, label_codes
from engine.finding.neighbours import NeighbourTable
from engine.finding.oddity_files import STANDS_OUT, Oddities, Outlier, Prototypes, Suspect
from engine.finding.vectors import normalised, unit_blocks
from engine.protocol import Tell
from engine.sets import FeatureSet
from engine.timing import Pace

APART_FROM = 20
"""A picture is as isolated as its 20th neighbour is far: up to 20 strangers of one kind do not hide each other. Of
strangers planted into clothing photos it found more than nearer or further neighbours, their mean, or the local
outlier factor (Breunig et al. 2000)."""
MAD_TO_SIGMA = 1.4826  # of a normal distribution
OUTLIERS_LISTED = 100
VOTERS = 50
"""Neighbours that vote on a label. Of 3 % of labels made wrong at random, 50 found more than 20 did."""
FEWEST_VOTERS = 5  # with a label, for a judgement
TEMPERATURE = 0.07  # of the votes; eval_knn.py, as in the accuracy that embedding prints
PROTOTYPES = 6  # of a class, the most central one first
SAMPLED = 2000  # pictures of a class among which prototypes are sought: every pair of them is compared
ROWS_AT_ONCE = 8192
SHARES_AT_ONCE = 1 << 22  # numbers, rows by classes, some copies of which are held: 32 MB each


def find_oddities(
    features: FeatureSet, table: NeighbourTable, labels: Mapping[int, str], copies: Duplicates, tell: Tell
) -> Oddities:
    """Find what is odd and what is typical in a set.

    Args:
        features: the set.
        table: its neighbours.
        labels: by id of the picture, of those that have one.
        copies: the duplicates of the set.
        tell: is told the progress.
    """
    classes = _Classes(*label_codes(features, labels))
    outliers, n_standing_out = find_outliers(features, table)
    votes = _judged(features, table, classes, tell)
    return Oddities(
        made_from=key_with_labels(features, labels),
        n_pictures=int(features.is_seen_N.sum()),
        n_standing_out=n_standing_out,
        outliers=outliers,
        n_judged=int((votes.likely_N >= 0).sum()),
        suspects=_suspects(features, classes, votes, copies),
        prototypes=find_prototypes(features, classes, tell),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Classes:
    """The labels of a set as numbers: ``names`` in order, ``of_N``, -1 for rows unseen or without a label."""

    names: list[str]
    of_N: NDArray[np.int32]


def find_outliers(features: FeatureSet, table: NeighbourTable) -> tuple[list[Outlier], int]:
    """Return the most isolated pictures, the most isolated first, and how many stand out."""
    column = min(APART_FROM, table.rows_Nk.shape[1]) - 1
    rows_S = np.flatnonzero(features.is_seen_N & (table.rows_Nk[:, column] >= 0))
    if not len(rows_S):
        return [], 0
    isolation_S = 1 - table.likeness_Nk[rows_S, column].astype(np.float64)
    middle = float(np.median(isolation_S))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(isolation_S - middle)))
    score_S = (isolation_S - middle) / sigma if sigma > 0 else np.zeros(len(rows_S))
    order = np.argsort(-isolation_S, kind="stable")[:OUTLIERS_LISTED]
    outliers = [
        Outlier(
            picture=int(features.ids_N[rows_S[i]]),
            isolation=round(float(isolation_S[i]), 4),
            score=round(float(score_S[i]), 2),
            stands_out=bool(score_S[i] >= STANDS_OUT),
        )
        for i in order
    ]
    return outliers, int((score_S >= STANDS_OUT).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """What the neighbours say of each row: the likeliest other class (-1: no judgement), its share and the own one."""

    likely_N: NDArray[np.int64]
    confidence_N: NDArray[np.float64]
    own_N: NDArray[np.float64]


def _judged(features: FeatureSet, table: NeighbourTable, classes: _Classes, tell: Tell) -> _Votes:
    n = len(features)
    votes = _Votes(np.full(n, -1, np.int64), np.zeros(n), np.zeros(n))
    if len(classes.names) < 2:
        return votes
    pace = Pace("judging labels", n, "pictures", tell)
    step = min(ROWS_AT_ONCE, max(1, SHARES_AT_ONCE // len(classes.names)))
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        share_BC, n_voters_B = _shares(table, classes, block)
        own_B = classes.of_N[block]
        is_judged_B = (own_B >= 0) & (n_voters_B >= FEWEST_VOTERS)
        rows_B = np.arange(len(own_B))
        votes.own_N[block] = share_BC[rows_B, own_B]
        share_BC[rows_B, own_B] = -1
        likely_B = share_BC.argmax(axis=1)
        votes.confidence_N[block] = share_BC[rows_B, likely_B]
        votes.likely_N[block] = np.where(is_judged_B, likely_B, -1)
        pace.reached(block.stop)
    return votes


def _shares(table: NeighbourTable, classes: _Classes, block: slice) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the share of each class in the votes of the neighbours of some rows, and how many voted."""
    rows_Bk = np.asarray(table.rows_Nk[block, :VOTERS])
    class_Bk = np.where(rows_Bk >= 0, classes.of_N[rows_Bk], -1)
    votes_Bk = np.exp(table.likeness_Nk[block, :VOTERS].astype(np.float64) / TEMPERATURE) * (class_Bk >= 0)
    n_classes = len(classes.names)
    places_Bk = np.arange(len(rows_Bk))[:, None] * n_classes + class_Bk.clip(0)
    counted = np.bincount(places_Bk.ravel(), votes_Bk.ravel(), minlength=len(rows_Bk) * n_classes)
    share_BC = counted.reshape(len(rows_Bk), n_classes)
    total_B1 = share_BC.sum(axis=1, keepdims=True)
    return share_BC / np.where(total_B1 > 0, total_B1, 1), (class_Bk >= 0).sum(axis=1)


def _suspects(features: FeatureSet, classes: _Classes, votes: _Votes, copies: Duplicates) -> list[Suspect]:
    """Return the pictures whose label is in doubt, the most doubtful first.

    Beside those with a copy of another label, they are the ones whose neighbours are as sure of another class as those
    of its own pictures are on average, in the manner of confident learning (Northcutt et al. 2021).
    """
    if len(classes.names) < 2:
        return []
    of_copies = _contradicted(features, classes, copies)
    usual_C = _usual_shares(classes, votes)
    is_sure_N = (votes.likely_N >= 0) & (votes.confidence_N >= usual_C[votes.likely_N])
    is_doubtful_N = is_sure_N & (votes.confidence_N > votes.own_N)
    is_doubtful_N[list(of_copies)] = True
    rows = np.flatnonzero(is_doubtful_N).tolist()
    margin_N = votes.confidence_N - votes.own_N
    rows.sort(key=lambda row: (-of_copies[row][0] if row in of_copies else 0.0, -margin_N[row], row))
    return [_suspect(features, classes, votes, row, of_copies.get(row)) for row in rows]


def _usual_shares(classes: _Classes, votes: _Votes) -> NDArray[np.float64]:
    """Return, for each class, the mean share of votes that its own pictures get for it; 1 where none was judged."""
    is_judged_N = votes.likely_N >= 0
    of = classes.of_N[is_judged_N]
    n_C = np.bincount(of, minlength=len(classes.names))
    sum_C = np.bincount(of, votes.own_N[is_judged_N], minlength=len(classes.names))
    return np.where(n_C > 0, sum_C / np.maximum(n_C, 1), 1.0)


def _contradicted(features: FeatureSet, classes: _Classes, copies: Duplicates) -> dict[int, tuple[float, int]]:
    """Return, for rows with a copy of another label, its likeness and the row of the likeliest such copy.

    Pairs that only a threshold below the suggested one made copies do not count.
    """
    found: dict[int, tuple[float, int]] = {}
    for pair in (pair for group in copies.groups for pair in group.pairs):
        first, second = features.row_of(pair.first), features.row_of(pair.second)
        if pair.likeness < copies.suggested or min(classes.of_N[first], classes.of_N[second]) < 0:
            continue
        if classes.of_N[first] == classes.of_N[second]:
            continue
        for row, other in ((first, second), (second, first)):
            if row not in found or pair.likeness > found[row][0]:
                found[row] = (pair.likeness, other)
    return found


def _suspect(
    features: FeatureSet, classes: _Classes, votes: _Votes, row: int, contradicted: tuple[float, int] | None
) -> Suspect:
    likely = int(votes.likely_N[row]) if contradicted is None else int(classes.of_N[contradicted[1]])
    is_the_voted = likely == votes.likely_N[row]
    return Suspect(
        picture=int(features.ids_N[row]),
        label=classes.names[classes.of_N[row]],
        likely=classes.names[likely],
        confidence=round(float(votes.confidence_N[row]), 4) if is_the_voted else 0.0,
        own=round(float(votes.own_N[row]), 4),
        copy=int(features.ids_N[contradicted[1]]) if contradicted else None,
        copy_likeness=contradicted[0] if contradicted else None,
    )


def find_prototypes(features: FeatureSet, classes: _Classes, tell: Tell) -> list[Prototypes]:
    """Return the typical pictures of every class, by name; of all pictures where there are no labels."""
    if not classes.names:
        rows_S = np.flatnonzero(features.is_seen_N)
        return [_prototypes(features, None, rows_S)] if len(rows_S) else []
    order_N = np.argsort(classes.of_N, kind="stable")
    ends = np.searchsorted(classes.of_N[order_N], np.arange(-1, len(classes.names)), side="right")
    pace = Pace("finding typical pictures", len(classes.names), "classes", tell)
    found = []
    for number, name in enumerate(classes.names):
        found.append(_prototypes(features, name, order_N[ends[number] : ends[number + 1]]))
        pace.reached(number + 1)
    return found


def _prototypes(features: FeatureSet, label: str | None, rows_S: NDArray[np.intp]) -> Prototypes:
    """Return the medoid of some rows by cosine, which is the nearest to their mean, then those that cover the rest.

    The rest is covered greedily: each next one adds the most to the likeness of every picture to its nearest
    prototype (facility location; Nemhauser et al. 1978).
    """
    mean_D = np.zeros(features.plan.dimensions)
    for _, unit_BD in unit_blocks(features.vectors_ND, rows_S):
        mean_D += unit_BD.sum(axis=0, dtype=np.float64)
    central = [unit_BD @ mean_D for _, unit_BD in unit_blocks(features.vectors_ND, rows_S)]
    medoid = rows_S[int(np.concatenate(central).argmax())]
    rest_S = rows_S[rows_S != medoid]
    sample_S = np.concatenate([[medoid], rest_S[:: -(-len(rest_S) // SAMPLED) or 1]])
    chosen = _covering(normalised(features.vectors_ND[sample_S]))
    pictures = features.ids_N[sample_S[chosen]].tolist()
    return Prototypes(label=label, n_pictures=len(rows_S), pictures=pictures)


def _covering(unit_SD: NDArray[np.float32]) -> list[int]:
    """Return the places of up to ``PROTOTYPES`` rows that cover all, beginning with the first."""
    likeness_SS = unit_SD @ unit_SD.T
    covered_S = likeness_SS[0].copy()
    chosen = [0]
    while len(chosen) < min(PROTOTYPES, len(unit_SD)):
        gain_S = np.maximum(likeness_SS - covered_S, 0).sum(axis=1)
        gain_S[chosen] = -1
        chosen.append(int(gain_S.argmax()))
        covered_S = np.maximum(covered_S, likeness_SS[chosen[-1]])
    return chosen
