"""How much of the features' neighbourhoods a map keeps, measured on a sample.

Letters after a name are its axes:
    S rows that are on the map · Q rows of the sample · k neighbours · D width of a vector · 2 the plane
"""

import numpy as np
from numpy.typing import NDArray

from engine.finding.map_files import Faithfulness, K
from engine.finding.projections import nearest_among
from engine.finding.vectors import unit_blocks, without_self

SAMPLE, SAMPLE_OF_MANY, MANY = 1000, 300, 200_000
LABEL_SAMPLE = 5000
"""Pictures measured, fewer of many pictures as each is compared to all; and for labels."""
TOLERANCE = 1e-6  # of likeness: two orders of the same sums differ by so much


def faithfulness(
    vectors_ND: NDArray[np.float32],
    rows_S: NDArray[np.intp],
    positions_S2: NDArray[np.float32],
    labels_S: NDArray[np.int32] | None,
    *,
    seed: int = 0,
) -> Faithfulness | None:
    """Measure a map; None where there are too few pictures for it to mean anything."""
    from scipy.spatial import KDTree

    n = len(rows_S)
    if n < 2 * K:
        return None
    random = np.random.default_rng(seed)
    sample_Q = np.sort(random.choice(n, min(n, SAMPLE if n <= MANY else SAMPLE_OF_MANY), replace=False))
    tree = KDTree(positions_S2)
    distance_Qk, found_Qk = tree.query(positions_S2[sample_Q], K + 1)
    _, on_map_Qk = without_self(distance_Qk, found_Qk, sample_Q)
    found_Qk, likeness_Qk = nearest_among(vectors_ND, rows_S[sample_Q], rows_S, K + 1)
    _, near_Qk = without_self(likeness_Qk, found_Qk, sample_Q)
    kept = (on_map_Qk[:, :, None] == near_Qk[:, None, :]).any(axis=2).mean()
    ranks_Qk = _ranks(vectors_ND, rows_S, sample_Q, on_map_Qk)
    strangeness = np.maximum(ranks_Qk - K, 0).sum() / len(sample_Q)
    return Faithfulness(
        neighbours_kept=float(kept),
        trustworthiness=float(1 - strangeness * 2 / (K * (2 * n - 3 * K - 1))),
        label_agreement=None if labels_S is None else _agreement(positions_S2, labels_S, random),
        n=len(sample_Q),
    )


def _ranks(
    vectors_ND: NDArray[np.float32], rows_S: NDArray[np.intp], sample_Q: NDArray[np.intp], others_Qk: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the place of each of the others in the order of likeness to the sample's row, 1 for the nearest."""
    sample_QD = np.concatenate([block for _, block in unit_blocks(vectors_ND, rows_S[sample_Q])])
    likeness_Qk = np.empty(others_Qk.shape, np.float32)
    for i in range(others_Qk.shape[1]):
        for place, block_BD in unit_blocks(vectors_ND, rows_S[others_Qk[:, i]]):
            likeness_Qk[place, i] = np.einsum("qd,qd->q", block_BD, sample_QD[place])
    nearer_Qk = np.zeros(others_Qk.shape, np.intp)
    for place, block_BD in unit_blocks(vectors_ND, rows_S):
        products_QB = sample_QD @ block_BD.T
        of_block = (sample_Q >= place.start) & (sample_Q < place.stop)
        products_QB[of_block, sample_Q[of_block] - place.start] = -np.inf
        for i in range(others_Qk.shape[1]):
            nearer_Qk[:, i] += (products_QB > likeness_Qk[:, i : i + 1] + TOLERANCE).sum(axis=1)
    return nearer_Qk + 1


def _agreement(
    positions_S2: NDArray[np.float32], labels_S: NDArray[np.int32], random: np.random.Generator
) -> float | None:
    """Return the share of labelled rows, of a sample, that have the label of most of their labelled neighbours."""
    from scipy.spatial import KDTree

    labelled = np.flatnonzero(labels_S >= 0)
    if len(labelled) <= K or len(np.unique(labels_S[labelled])) < 2:
        return None
    sample_Q = random.choice(len(labelled), min(len(labelled), LABEL_SAMPLE), replace=False)
    tree = KDTree(positions_S2[labelled])
    distance_Qk, found_Qk = tree.query(positions_S2[labelled[sample_Q]], K + 1)
    _, near_Qk = without_self(distance_Qk, found_Qk, sample_Q)
    votes_QL = np.zeros((len(sample_Q), int(labels_S.max()) + 1), np.int16)
    for i in range(K):
        np.add.at(votes_QL, (np.arange(len(sample_Q)), labels_S[labelled[near_Qk[:, i]]]), 1)
    return float((votes_QL.argmax(axis=1) == labels_S[labelled[sample_Q]]).mean())
