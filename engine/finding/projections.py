"""Features laid out in the plane: principal components, t-SNE, UMAP, and new pictures among those that lie there.

Arrays in, arrays out; nothing here knows of projects or files. t-SNE goes on from any state that it gave, bit for bit:
its steps depend on nothing but positions, last update, gains and the number of threads.

Letters after a name are its axes:
    N rows of the set · S rows that are laid out · Q rows to be placed · D width of a vector · K components ·
    k neighbours · 2 the plane
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.finding.vectors import BLOCK_BYTES, unit_blocks

if TYPE_CHECKING:
    import scipy.sparse

START_SPREAD = 1e-4
START_JITTER = 0.01
"""Standard deviation of the first axis of a start of t-SNE, and of the noise on it as a share of that; openTSNE's
``initialization.rescale`` and ``jitter``."""
EXAGGERATION = 12.0
MOMENTUM = 0.8
"""openTSNE's defaults, which follow Belkina et al. 2019, Nature Communications 10:5415."""
NEIGHBOURS_PER_PERPLEXITY = 3  # van der Maaten 2014, JMLR 15:3221, section 4.1
UMAP_SPREAD, UMAP_MIN_DISTANCE, UMAP_NEGATIVES, UMAP_START, UMAP_NOISE = 1.0, 0.1, 5, 10.0, 1e-4
"""umap-learn's defaults: how far and how near points lie, negative samples an edge, half the width of the start and the
standard deviation of the noise on it."""
GRID_FROM = 10_000  # points from which openTSNE's interpolation on a grid is quicker than its tree
PLACE_PERPLEXITY, PLACE_ITERATIONS, PLACE_RATE, PLACE_EXAGGERATION, PLACE_GRADIENT = 5.0, 250, 0.1, 1.5, 0.25
"""Defaults of openTSNE's ``TSNEEmbedding.transform``."""


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """Principal components: the mean of the unit vectors, the axes as rows, and each axis' share of the variance."""

    mean_D: NDArray[np.float64]
    axes_KD: NDArray[np.float64]
    shares_K: NDArray[np.float64]


def principal_components(vectors_ND: NDArray[np.float32], rows_S: NDArray[np.intp], n: int) -> Components:
    """Return the first ``n`` principal components of unit vectors.

    The covariance is summed in float64 over blocks. An axis points to where its largest loading is positive, so that
    the result does not depend on the solver.
    """
    width = vectors_ND.shape[1]
    sum_D, products_DD = np.zeros(width), np.zeros((width, width))
    for _, block_BD in unit_blocks(vectors_ND, rows_S):
        exact_BD = block_BD.astype(np.float64)
        sum_D += exact_BD.sum(axis=0)
        products_DD += exact_BD.T @ exact_BD
    mean_D = sum_D / len(rows_S)
    values_D, columns_DD = np.linalg.eigh(products_DD / len(rows_S) - np.outer(mean_D, mean_D))
    axes_KD = np.ascontiguousarray(columns_DD[:, ::-1][:, :n].T)
    largest_K = np.abs(axes_KD).argmax(axis=1)
    axes_KD *= np.where(np.take_along_axis(axes_KD, largest_K[:, None], axis=1) < 0, -1.0, 1.0)
    variance_D = np.maximum(values_D[::-1], 0)
    return Components(mean_D, axes_KD, variance_D[:n] / max(variance_D.sum(), np.finfo(np.float64).tiny))


def projected(vectors_ND: NDArray[np.float32], rows_S: NDArray[np.intp], components: Components) -> NDArray[np.float32]:
    """Return rows in the coordinates of principal components, (S, K) float32."""
    scores_SK = np.empty((len(rows_S), len(components.axes_KD)), np.float32)
    for place, block_BD in unit_blocks(vectors_ND, rows_S):
        scores_SK[place] = (block_BD - components.mean_D) @ components.axes_KD.T
    return scores_SK


def in_the_plane(
    vectors_ND: NDArray[np.float32], rows_S: NDArray[np.intp], components: Components
) -> NDArray[np.float32]:
    """Return rows by their first two principal components, (S, 2) float32, also where the features have one column."""
    scores_SK = projected(vectors_ND, rows_S, components)
    return np.pad(scores_SK, ((0, 0), (0, 2 - scores_SK.shape[1])))


def start_of_tsne(scores_S2: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return principal components as a start of t-SNE: small, and with noise, as equal points would never part."""
    start_S2 = scores_S2.astype(np.float64)
    start_S2 *= START_SPREAD / max(float(start_S2[:, 0].std()), np.finfo(np.float32).tiny)
    return start_S2 + np.random.default_rng(seed).normal(0, START_JITTER * START_SPREAD, start_S2.shape)


def affinities(
    neighbours_Sk: NDArray[np.int32], distances_Sk: NDArray[np.float32], perplexity: float, threads: int
) -> "scipy.sparse.csr_matrix":
    """Return the symmetric affinities of t-SNE from nearest neighbours.

    Args:
        neighbours_Sk: nearest first, -1 for none.
        distances_Sk: to each.
        perplexity: of each row's Gaussian; ``NEIGHBOURS_PER_PERPLEXITY`` times as many neighbours count.
        threads: to use.
    """
    from openTSNE.affinity import joint_probabilities_nn

    k = min(neighbours_Sk.shape[1], int(NEIGHBOURS_PER_PERPLEXITY * perplexity) or 1)
    near_Sk, far_Sk = _without_gaps(neighbours_Sk[:, :k], distances_Sk[:, :k])
    return joint_probabilities_nn(near_Sk, far_Sk, [perplexity], n_jobs=threads)


def _without_gaps(
    neighbours_Sk: NDArray[np.int32], distances_Sk: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Put the row itself, which neither draws nor pushes, very far away where a neighbour is missing."""
    is_gap_Sk = neighbours_Sk < 0
    if not is_gap_Sk.any():
        return neighbours_Sk, distances_Sk
    itself_S1 = np.arange(len(neighbours_Sk), dtype=np.int32)[:, None]
    very_far = np.float32(1e3) * max(float(distances_Sk.max()), 1.0)
    return np.where(is_gap_Sk, itself_S1, neighbours_Sk), np.where(is_gap_Sk, very_far, distances_Sk)


@dataclass(frozen=True, slots=True, eq=False)
class TsneState:
    """All that the next step depends on: how many were done, and three arrays of (S, 2), float64."""

    step: int
    positions_S2: NDArray[np.float64]
    update_S2: NDArray[np.float64]
    gains_S2: NDArray[np.float64]


class Tsne:
    """A t-SNE that is advanced by blocks of steps; the first ``early`` steps with exaggerated affinities.

    Source: van der Maaten and Hinton 2008, JMLR 9:2579; by openTSNE.
    """

    def __init__(
        self,
        affinities_SS: "scipy.sparse.csr_matrix",
        *,
        early: int,
        threads: int,
        learning_rate: float | None,
        start_S2: NDArray[np.float64] | None = None,
        state: TsneState | None = None,
    ) -> None:
        """Begin at ``start_S2``, or go on from ``state``. The learning rate is S / exaggeration where it is None."""
        from openTSNE import TSNEEmbedding

        self._affinities_SS = affinities_SS
        self._early, self._threads, self._rate = early, threads, learning_rate
        self.step = state.step if state else 0
        start = state.positions_S2 if state else start_S2
        assert start is not None, "a start or a state"
        self._map = TSNEEmbedding(start, _Known(affinities_SS))
        if state:
            self._map.optimizer.update, self._map.optimizer.gains = state.update_S2.copy(), state.gains_S2.copy()
        self._exaggerated: scipy.sparse.csr_matrix | None = None

    def advance(self, to_step: int) -> float:
        """Go on to a step and return the Kullback-Leibler divergence there; never across the end of the early part."""
        is_early = self.step < self._early
        assert self.step < to_step and (not is_early or to_step <= self._early), "across the end of the early part"
        exaggeration = EXAGGERATION if is_early else 1.0
        # Our own product: openTSNE multiplies in place and divides again, which rounds, so that a run that was cut
        # there would not end as one that was not.
        self._map.affinities = _Known(self._exaggerated_SS() if is_early else self._affinities_SS)
        self._map.optimize(
            to_step - self.step,
            inplace=True,
            momentum=MOMENTUM,
            learning_rate=self._rate or len(self._map) / exaggeration,
            n_jobs=self._threads,
        )
        self.step = to_step
        return float(self._map.kl_divergence) / exaggeration - float(np.log(exaggeration))

    def blocks(self, to_step: int, size: int) -> Iterator[float]:
        """Go on to a step and yield the divergence after each block, which ends at a multiple of ``size`` steps.

        One ends at the end of the early part, too.
        """
        while self.step < to_step:
            end = min(self._early, to_step) if self.step < self._early else to_step
            yield self.advance(min((self.step // size + 1) * size, end))

    def _exaggerated_SS(self) -> "scipy.sparse.csr_matrix":
        if self._exaggerated is None:
            self._exaggerated = self._affinities_SS * EXAGGERATION
        return self._exaggerated

    @property
    def state(self) -> TsneState:
        """All that the next step depends on; the arrays are those that it changes."""
        optimiser = self._map.optimizer
        return TsneState(self.step, np.asarray(self._map), optimiser.update, optimiser.gains)


@dataclass(slots=True)
class _Known:
    """Affinities as openTSNE wants to be given them."""

    P: Any


def lay_out_umap(
    neighbours_Sk: NDArray[np.int32],
    distances_Sk: NDArray[np.float32],
    scores_S2: NDArray[np.float32],
    *,
    epochs: int,
    seed: int,
    after_epoch: Callable[[int], None],
) -> NDArray[np.float32]:
    """Return a UMAP from nearest neighbours, begun at principal components.

    Compiled code is kept on the disk by numba, so that only the first process on a machine waits for the compiler.
    One process may call this often.

    Args:
        neighbours_Sk: without the row itself, nearest first, -1 for none.
        distances_Sk: to each.
        scores_S2: the first two principal components.
        epochs: passes over the edges.
        seed: of the samples; what comes out is the same for the same seed.
        after_epoch: is called with the number of epochs done; what it raises ends the work.

    Source: McInnes, Healy and Melville 2018, arXiv:1802.03426; umap-learn's ``UMAP.fit``, from the point where
    neighbours are known.
    """
    umap = _load_umap()
    random = np.random.RandomState(seed)  # the kind that umap-learn takes
    itself_S1 = np.arange(len(neighbours_Sk), dtype=np.int32)[:, None]
    near_Sk = np.concatenate([itself_S1, neighbours_Sk], axis=1)
    far_Sk = np.concatenate([np.zeros((len(near_Sk), 1), np.float32), distances_Sk], axis=1)
    graph, _, _ = umap.fuzzy_simplicial_set(scores_S2, near_Sk.shape[1], random, "cosine", {}, near_Sk, far_Sk)
    a, b = umap.find_ab_params(UMAP_SPREAD, UMAP_MIN_DISTANCE)
    if float(np.abs(scores_S2).max()) > np.finfo(np.float32).eps:
        start_S2 = umap.noisy_scale_coords(scores_S2, random, max_coord=UMAP_START)
    else:  # of unit vectors that differ by less than they are rounded
        start_S2 = random.normal(scale=UMAP_NOISE, size=scores_S2.shape).astype(np.float32)
    positions_S2, _ = umap.simplicial_set_embedding(
        scores_S2,
        graph,
        n_components=2,
        initial_alpha=1.0,
        a=a,
        b=b,
        gamma=1.0,
        negative_sample_rate=UMAP_NEGATIVES,
        n_epochs=epochs,
        init=start_S2,
        random_state=random,
        metric="cosine",
        metric_kwds={},
        densmap=False,
        densmap_kwds={},
        output_dens=False,
        tqdm_kwds={"disable": False, "bar_format": "{n}", "mininterval": 0, "file": _Counter(after_epoch)},
    )
    return np.asarray(positions_S2, np.float32)


def _load_umap() -> Any:
    """Load umap-learn and let numba keep what it compiles of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on Tensorflow, which is not used
        from umap import layouts, umap_

    compiled = (umap_.smooth_knn_dist, umap_.compute_membership_strengths)
    epoch: Any = getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None)
    for function in (*compiled, epoch):
        if hasattr(function, "enable_caching") and not function.stats.cache_path:
            with contextlib.suppress(RuntimeError):  # numba finds no folder that it may write to
                function.enable_caching()
    return umap_


class _Counter(io.StringIO):
    """What tqdm draws its bar on: each drawing is a number, which is passed on."""

    def __init__(self, after: Callable[[int], None]) -> None:
        super().__init__()
        self._after, self._last = after, 0

    def write(self, text: str) -> int:
        number = text.strip()
        if number.isdecimal() and int(number) > self._last:  # tqdm draws the first and the last twice
            self._last = int(number)
            self._after(self._last)
        return len(text)


def nearest_among(
    vectors_ND: NDArray[np.float32], rows_Q: NDArray[np.intp], among_S: NDArray[np.intp], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest of some rows to each of others, exactly: places in ``among_S`` and cosine likeness, (Q, k)."""
    k = min(k, len(among_S))
    best_Qk = np.full((len(rows_Q), k), -1, np.int32)
    likeness_Qk = np.full((len(rows_Q), k), -np.inf, np.float32)
    for place, block_BD in unit_blocks(vectors_ND, among_S):
        numbers_B = np.arange(place.start, place.stop, dtype=np.int32)
        # As many queries at a time as let the products take no more room than the block.
        for queries, query_bD in unit_blocks(vectors_ND, rows_Q):
            step = max(1, BLOCK_BYTES // (4 * len(block_BD)))
            for first in range(0, len(query_bD), step):
                part = slice(queries.start + first, queries.start + min(first + step, len(query_bD)))
                products_bB = query_bD[first : first + step] @ block_BD.T
                _keep_best(best_Qk[part], likeness_Qk[part], numbers_B, products_bB)
    order_Qk = np.argsort(-likeness_Qk, axis=1, kind="stable")
    return np.take_along_axis(best_Qk, order_Qk, 1), np.take_along_axis(likeness_Qk, order_Qk, 1)


def _keep_best(
    best_bk: NDArray[np.int32],
    likeness_bk: NDArray[np.float32],
    numbers_B: NDArray[np.int32],
    products_bB: NDArray[np.float32],
) -> None:
    """Put the best of what is kept and what is new in the place of what is kept."""
    k = best_bk.shape[1]
    all_likeness = np.concatenate([likeness_bk, products_bB], axis=1)
    all_numbers = np.concatenate([best_bk, np.broadcast_to(numbers_B, products_bB.shape)], axis=1)
    kept_bk = np.argpartition(-all_likeness, k - 1, axis=1)[:, :k]
    best_bk[:] = np.take_along_axis(all_numbers, kept_bk, 1)
    likeness_bk[:] = np.take_along_axis(all_likeness, kept_bk, 1)


def chord(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distance of unit vectors from the cosine of the angle between them."""
    return np.sqrt(np.maximum(2 - 2 * likeness, 0))


def place_among(
    positions_S2: NDArray[np.float32],
    neighbours_Qk: NDArray[np.int32],
    likeness_Qk: NDArray[np.float32],
    *,
    is_tsne: bool,
    threads: int,
) -> NDArray[np.float32]:
    """Return positions for new pictures among others, which stay where they are; new ones do not feel each other.

    Each begins at the mean of its neighbours' positions, weighted by a Gaussian of perplexity 5 over their distances.
    On a t-SNE map the t-SNE of each among the others is then minimised. On a UMAP that mean is the position.

    Args:
        positions_S2: of those that stay.
        neighbours_Qk: rows of ``positions_S2``, nearest first.
        likeness_Qk: cosine of the angle to each.
        is_tsne: the map is a t-SNE.
        threads: to use.

    Source: openTSNE's ``TSNEEmbedding.transform``; umap-learn's ``init_graph_transform`` for the mean.
    """
    import scipy.sparse
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import joint_probabilities_nn
    from openTSNE.tsne import PartialTSNEEmbedding

    k = min(neighbours_Qk.shape[1], int(NEIGHBOURS_PER_PERPLEXITY * PLACE_PERPLEXITY))
    weights_QS = joint_probabilities_nn(
        neighbours_Qk[:, :k],
        chord(likeness_Qk[:, :k]),
        [min(PLACE_PERPLEXITY, max(k / NEIGHBOURS_PER_PERPLEXITY, 1.0))],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(positions_S2),
        n_jobs=threads,
    )
    weights_QS = scipy.sparse.csr_matrix(weights_QS)
    start_Q2 = weights_QS @ positions_S2.astype(np.float64)
    if not is_tsne:
        return start_Q2.astype(np.float32)
    n = len(positions_S2)
    fixed = TSNEEmbedding(positions_S2, _Known(scipy.sparse.csr_matrix((n, n))))
    centre_2 = (fixed.max(axis=0) + fixed.min(axis=0)) / 2
    fixed -= centre_2  # openTSNE's grid of interpolation wants it there, and would move it itself
    placed = PartialTSNEEmbedding(
        start_Q2 - np.asarray(centre_2), fixed, weights_QS, negative_gradient_method="fft" if n >= GRID_FROM else "bh"
    )
    placed.optimize(
        PLACE_ITERATIONS,
        inplace=True,
        learning_rate=PLACE_RATE,
        exaggeration=PLACE_EXAGGERATION,
        momentum=MOMENTUM,
        max_grad_norm=PLACE_GRADIENT,
        n_jobs=threads,
    )
    return (np.asarray(placed) + np.asarray(centre_2)).astype(np.float32)
