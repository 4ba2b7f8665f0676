"""Copies of the same picture under other names: resized, recompressed, cropped, or byte for byte.

What tells copies from look-alikes is CLS beside GeM of the patches, whitened on the set itself, as in DINO's copy
detection (facebookresearch/dino, eval_copy_detection.py). Candidates are the neighbours of the shared table; they are
compared again by the whitened descriptor. Pairs above a threshold are joined into groups, and each group says which
pictures are worth keeping. Files that are equal in every byte are copies whatever the features say. Nothing is ever
deleted.

Letters after a name are its axes:
    N pictures, rows of the set · B rows of a block · D width of the descriptor · k neighbours · M pairs
    S pictures that were seen · E links between pictures
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe
from engine.finding.duplicate_files import Duplicates, Group, group_of, in_order
from engine.finding.neighbours import NeighbourTable
from engine.finding.vectors import normalised
from engine.protocol import Tell
from engine.sets import FeatureSet
from engine.timing import Pace

EIGENVALUE_FLOOR = 1e-5  # of the largest; eval_copy_detection.py
LEARNT_AT_MOST = 100_000  # rows the whitening is learnt on; the reference takes 20,000
ROWS_PER_DIMENSION = 4
"""Pictures per dimension below which the reference's whitening is all noise. Measured on 384 dimensions of clothing
photos: with 1,000 pictures it ranks copies as well as the shrunk one, with 400 worse, with 100 at random."""
SHRUNK_FROM = 10
"""Pictures below which there is no whitening. Of 12 photos, the shrunk one tells copies from others without a fault."""
CANDIDATES = 30
"""Neighbours compared again. Of 210 planted copies all but one flipped one were among the first 20."""
ROWS_AT_ONCE = 8192
PAIRS_AT_ONCE = 65_536

SURELY_COPIES = 0.9
"""Likeness that only copies reach: unlike pictures of clothing, hands, horses and frames of films stay below 0.72."""
EXPECTED_STRANGERS = 0.1  # pairs of unlike pictures that the suggested threshold would let through, on average
LOWEST, HIGHEST = 0.4, 0.95
"""Range of a suggested threshold. Below, resemblance is no copy; above, a JPEG of quality 50 (0.97) would be lost."""
THRESHOLD_OF_FEW = 0.8
"""By plain cosine, of pictures too few to say what unlike ones reach: 1 of 2,000 pairs of clothing photos does, but of
hands on one background 1 of 60."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """A change of axes after which all directions of a set vary alike, so that what is common to all does not count.

    ``how`` is ``reference`` (as DINO), ``shrunk`` (few pictures: the spread is drawn towards equality, Ledoit and
    Wolf 2004) or ``none`` (very few: plain cosine). ``axes_DD`` are columns, float64.
    """

    how: Literal["reference", "shrunk", "none"]
    mean_D: NDArray[np.float64]
    axes_DD: NDArray[np.float64] | None

    def applied(self, copies_BD: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return descriptors of length 1, whitened: (B, D); zero where there is nothing to tell by."""
        rows_BD = copies_BD.astype(np.float64) - self.mean_D
        if self.axes_DD is not None:
            rows_BD = rows_BD @ self.axes_DD
        return normalised(rows_BD)


def find_duplicates(
    features: FeatureSet,
    table: NeighbourTable,
    pixels: Mapping[int, int],
    tell: Tell,
    *,
    threshold: float | None = None,
    left_out: Collection[int] = (),
) -> Duplicates:
    """Find the groups of copies of a set.

    Args:
        features: the set.
        table: its neighbours.
        pixels: size of each picture by its id; the largest of a group is worth keeping.
        tell: is told the progress.
        threshold: likeness from which pictures are copies, in (0, 1]; the suggested one where absent.
        left_out: ids of pictures that are not compared, as their files cannot be used any more.

    Raises:
        BadRecipe: the threshold is outside its range.
        BadInput: features are not finite.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise BadRecipe(f"The threshold {threshold:g} is not a likeness.", "Name one above 0 and up to 1, such as 0.8.")
    is_compared_N = features.is_seen_N & ~np.isin(features.ids_N, list(left_out))
    first_N = first_of_equal_files(features, is_compared_N)
    whitening = learn_whitening(features, tell)
    firsts_M, seconds_M = _candidate_pairs(is_compared_N, table, first_N)
    likeness_M = _compared(features, whitening, firsts_M, seconds_M, tell)
    n_pictures = int((is_compared_N & (first_N == np.arange(len(features)))).sum())
    suggested, reason = suggest_threshold(likeness_M, n_pictures, whitening.how)
    chosen = suggested if threshold is None else threshold
    is_link_M = likeness_M >= chosen
    links = _Links(firsts_M[is_link_M], seconds_M[is_link_M], likeness_M[is_link_M])
    return Duplicates(
        made_from=features.key,
        n_pictures=int(is_compared_N.sum()),
        threshold=chosen,
        suggested=suggested,
        reason=reason,
        whitening=whitening.how,
        groups=_groups(features.ids_N, first_N, links, pixels),
    )


def first_of_equal_files(features: FeatureSet, is_compared_N: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return, for each row, the first row whose file has the same bytes: (N,); itself where it is the only one.

    Rows that are not compared are neither the first nor a copy of another.
    """
    hashes_N2 = np.ascontiguousarray(features.rows["hash"])
    first_N = np.arange(len(features))
    rows_S = np.flatnonzero(is_compared_N & hashes_N2.any(axis=1))
    _, firsts, which_S = np.unique(hashes_N2[rows_S], axis=0, return_index=True, return_inverse=True)
    first_N[rows_S] = rows_S[firsts[which_S.reshape(-1)]]
    return first_N


def learn_whitening(features: FeatureSet, tell: Tell) -> Whitening:
    """Learn the whitening on the pictures of a set, evenly taken where there are very many.

    Raises:
        BadInput: features are not finite.
    """
    seen_S = np.flatnonzero(features.is_seen_N)
    rows_S = seen_S[:: -(-len(seen_S) // LEARNT_AT_MOST) or 1]
    width = features.copies_ND.shape[1]
    total_D, moment_DD = np.zeros(width), np.zeros((width, width))
    pace = Pace("whitening", len(rows_S), "pictures", tell)
    for start in range(0, len(rows_S), ROWS_AT_ONCE):
        block_BD = features.copies_ND[rows_S[start : start + ROWS_AT_ONCE]].astype(np.float64)
        total_D += block_BD.sum(axis=0)
        moment_DD += block_BD.T @ block_BD
        pace.reached(start + len(block_BD))
    if not np.isfinite(moment_DD).all():
        raise BadInput("The features of this set are not all finite numbers.", "Embed again with --precision fp32.")
    n = max(len(rows_S), 1)
    if n >= ROWS_PER_DIMENSION * width:
        return whitening_of(total_D / n, moment_DD / n)
    if n >= SHRUNK_FROM:
        return _shrunk_whitening(features.copies_ND[rows_S].astype(np.float64))
    return Whitening("none", np.zeros(width), None)


def whitening_of(mean_D: NDArray[np.float64], moment_DD: NDArray[np.float64]) -> Whitening:
    """Return the reference's whitening: from the second moment about zero, though the mean is taken off afterwards.

    Source: facebookresearch/dino, utils.py PCA and eval_copy_detection.py.
    """
    values_D, axes_DD = np.linalg.eigh(moment_DD)
    floor = EIGENVALUE_FLOOR * values_D[-1]
    return Whitening("reference", mean_D, axes_DD / np.sqrt(np.maximum(values_D, floor)))


def _shrunk_whitening(copies_SD: NDArray[np.float64]) -> Whitening:
    """Return a whitening for few pictures; their covariance is mixed with a multiple of the identity.

    Source: Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.
    """
    n, width = copies_SD.shape
    mean_D = copies_SD.mean(axis=0)
    centred_SD = copies_SD - mean_D
    spread_DD = centred_SD.T @ centred_SD / n
    even = np.trace(spread_DD) / width
    unevenness = (spread_DD**2).sum() - width * even**2
    if not unevenness > 0:  # all pictures are one and the same to the backbone
        return Whitening("shrunk", mean_D, np.eye(width))
    error = (((centred_SD**2).sum(axis=1) ** 2).mean() - (spread_DD**2).sum()) / n
    share = min(1.0, error / unevenness)
    values_D, axes_DD = np.linalg.eigh(spread_DD)
    return Whitening("shrunk", mean_D, axes_DD / np.sqrt((1 - share) * values_D.clip(0) + share * even))


def _candidate_pairs(
    is_compared_N: NDArray[np.bool_], table: NeighbourTable, first_N: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs worth comparing, lower row first, each once; of equal files only the first takes part."""
    n = len(first_N)
    keys = [np.empty(0, np.int64)]
    for start in range(0, n, ROWS_AT_ONCE):
        near_Bk = np.asarray(table.rows_Nk[start : start + ROWS_AT_ONCE, :CANDIDATES])
        own_Bk = np.broadcast_to(first_N[start : start + len(near_Bk), None], near_Bk.shape)
        is_there_Bk = (near_Bk >= 0) & is_compared_N[near_Bk] & is_compared_N[start : start + len(near_Bk), None]
        own, near = own_Bk[is_there_Bk], first_N[near_Bk[is_there_Bk]]
        keys.append(np.unique((np.minimum(own, near) * n + np.maximum(own, near))[own != near]))
    key_M = np.unique(np.concatenate(keys))
    return key_M // max(n, 1), key_M % max(n, 1)


def _compared(
    features: FeatureSet,
    whitening: Whitening,
    firsts_M: NDArray[np.int64],
    seconds_M: NDArray[np.int64],
    tell: Tell,
) -> NDArray[np.float32]:
    """Return the likeness of pairs of rows, float32 (M,)."""
    n = len(features)
    whitened_ND = np.zeros(features.copies_ND.shape, np.float16)  # 1.5 GB for a million pictures of ViT-S
    pace = Pace("describing", n, "pictures", tell)
    for start in range(0, n, ROWS_AT_ONCE):
        block = slice(start, min(start + ROWS_AT_ONCE, n))
        whitened_ND[block] = whitening.applied(features.copies_ND[block]) * features.is_seen_N[block, None]
        pace.reached(block.stop)
    likeness_M = np.empty(len(firsts_M), np.float32)
    pace = Pace("comparing", len(firsts_M), "pairs", tell)
    for start in range(0, len(firsts_M), PAIRS_AT_ONCE):
        block = slice(start, start + PAIRS_AT_ONCE)
        ones, others = whitened_ND[firsts_M[block]], whitened_ND[seconds_M[block]]
        likeness_M[block] = np.einsum("md,md->m", ones.astype(np.float32), others.astype(np.float32))
        pace.reached(start + len(ones))
    return likeness_M


def suggest_threshold(likeness_M: NDArray[np.floating], n_pictures: int, whitening: str) -> tuple[float, str]:
    """Suggest from which likeness on pairs are copies, and say why.

    The number of pairs of unlike pictures above a likeness falls off exponentially in its inverse hyperbolic tangent.
    How fast is read where there are far more pairs than copies can make, from half a pair to two pairs a picture;
    carried on from there, the threshold is where ``EXPECTED_STRANGERS`` pairs are left.

    Args:
        likeness_M: of the candidate pairs of all pictures, each pair once.
        n_pictures: that were compared.
        whitening: as ``Whitening.how``.
    """
    if whitening == "none":
        return THRESHOLD_OF_FEW, "a fixed one, as the pictures are few"
    sorted_M = np.sort(likeness_M)[::-1]
    n_copies = int(np.searchsorted(-sorted_M, -SURELY_COPIES, side="right"))
    first = max(n_pictures // 2, 2 * n_copies)
    last = min(4 * first, len(sorted_M))
    if last < 2 * first:
        return SURELY_COPIES, "a fixed one, as nearly all pictures have copies"
    at_first, at_last = np.arctanh(sorted_M[[first - 1, last - 1]].clip(-0.999999, 0.999999).astype(np.float64))
    if not at_first > at_last:
        return HIGHEST, "the highest, as the features tell these pictures hardly apart"
    fall = np.log(last / first) / (at_first - at_last)
    reached = float(np.tanh(at_first + np.log(first / EXPECTED_STRANGERS) / fall))
    return round(min(max(reached, LOWEST), HIGHEST), 3), "pictures of this set that are no copies hardly reach it"


@dataclass(frozen=True, slots=True, eq=False)
class _Links:
    """Pairs above the threshold: two rows of the set, lower first, and their likeness, all (E,)."""

    firsts_E: NDArray[np.int64]
    seconds_E: NDArray[np.int64]
    likeness_E: NDArray[np.float32]


def _groups(
    ids_N: NDArray[np.int64], first_N: NDArray[np.intp], links: _Links, pixels: Mapping[int, int]
) -> list[Group]:
    """Return the groups in order."""
    copies = _rows_by_first(first_N)
    copies_by_id = {int(ids_N[row]): ids_N[same].tolist() for row, same in copies.items()}
    groups = []
    for rows, pairs in _components(links, copies):
        worth = sorted(ids_N[rows].tolist(), key=lambda number: (-pixels.get(number, 0), number))
        by_ids = [(int(ids_N[first]), int(ids_N[second]), likeness) for first, second, likeness in pairs]
        groups.append(group_of(worth, by_ids, copies_by_id))
    return in_order(groups)


def _rows_by_first(first_N: NDArray[np.intp]) -> dict[int, list[int]]:
    """Return the other rows of equal files by the first one of each; those that have any."""
    copies: dict[int, list[int]] = {}
    for row in np.flatnonzero(first_N != np.arange(len(first_N))):
        copies.setdefault(int(first_N[row]), []).append(int(row))
    return copies


def _components(
    links: _Links, copies: Mapping[int, list[int]]
) -> Iterator[tuple[list[int], list[tuple[int, int, float]]]]:
    """Yield the rows that hang together, one for equal files, with the links between them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.unique(np.concatenate([links.firsts_E, links.seconds_E, np.fromiter(copies, np.int64, len(copies))]))
    if not len(rows):
        return
    firsts_E, seconds_E = np.searchsorted(rows, links.firsts_E), np.searchsorted(rows, links.seconds_E)
    graph = coo_array((np.ones(len(firsts_E), bool), (firsts_E, seconds_E)), shape=(len(rows), len(rows)))
    n_groups, which = connected_components(graph, directed=False)
    order_of_links = np.argsort(which[firsts_E], kind="stable")
    ends_of_links = np.searchsorted(which[firsts_E][order_of_links], np.arange(n_groups), side="right")
    order_of_rows = np.argsort(which, kind="stable")
    ends_of_rows = np.cumsum(np.bincount(which, minlength=n_groups))
    for group in range(n_groups):
        mine = order_of_links[ends_of_links[group - 1] if group else 0 : ends_of_links[group]]
        members = order_of_rows[ends_of_rows[group - 1] if group else 0 : ends_of_rows[group]]
        pairs = zip(
            links.firsts_E[mine].tolist(), links.seconds_E[mine].tolist(), links.likeness_E[mine].tolist(), strict=True
        )
        yield rows[members].tolist(), list(pairs)
