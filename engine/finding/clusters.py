"""Finds groups of pictures that are alike, without labels; `engine.finding.cluster_files` keeps them.

K-means puts every picture into one of K clusters. HDBSCAN finds out itself how many there are and leaves out pictures
between them. Both see the features brought to length 1, in their first 50 principal components. Clusters are numbered
from the largest on.

Letters after a name are its axes:
    N rows of the set · S rows that were seen · Q rows of a sample · K clusters · D components
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe
from engine.finding.cluster_files import Cluster, Clusters, ClustersAbout, Method, keep_clusters
from engine.finding.faiss_files import one_thread
from engine.finding.projections import principal_components, projected
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet
from engine.store import sole_writer
from engine.timing import Pace

COMPONENTS = 50  # HDBSCAN finds nothing in many more; its documentation advises some 50 at most
CANDIDATES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 65, 80, 100)
SILHOUETTE_SAMPLE = 5000
"""Numbers of clusters that are tried, and pictures by which they are judged."""
ROUNDS = 50  # of k-means, which is settled by then
START_SAMPLE = 20_000  # pictures from which the first centres are drawn
POINTS_PER_CENTRE = 2000  # that train a centre; faiss takes 256 unless told otherwise
SMALL = 1_000_000  # numbers in all points, below which threads wait for each other longer than they work
MOST_FOR_HDBSCAN = 20_000  # pictures; its time grows with their square: half a minute for these on one core
SMALLEST_SHARE, SMALLEST = 0.005, 5  # of the pictures: what HDBSCAN counts as a cluster
EXEMPLARS = 12  # of each cluster: half of them nearest to the centre, half spread over it
SPREAD_AMONG = 2000  # pictures of a cluster from which spread ones are chosen


def make_clusters(
    features: FeatureSet,
    method: Method,
    tell: Tell,
    *,
    number: int | None = None,
    smallest: int | None = None,
    seed: int = 0,
) -> Clusters:
    """Find the clusters of a set and keep them.

    Args:
        features: the set.
        method: kmeans or hdbscan.
        tell: is told of the progress.
        number: of clusters, for k-means; chosen by the best silhouette among `CANDIDATES` where absent.
        smallest: pictures that make a cluster, for HDBSCAN.
        seed: of all that is drawn; the same seed gives the same clusters.

    Raises:
        BadInput: there are too few pictures.
        BadRecipe: a value is out of its range.
        Busy: another process writes the set.
        DiskFull: there is no room; the clusters before are intact.
    """
    rows_S = np.flatnonzero(features.is_seen_N)
    smallest = _settled(len(rows_S), number, smallest)
    with sole_writer(features.folder, "writes the set"):
        about, numbers_S = _made(features, rows_S, method, number, smallest, seed, tell)
        numbers_N = np.full(len(features), -1, np.int32)
        numbers_N[rows_S] = numbers_S
        return keep_clusters(features, about, numbers_N)


def _made(
    features: FeatureSet,
    rows_S: NDArray[np.intp],
    method: Method,
    number: int | None,
    smallest: int,
    seed: int,
    tell: Tell,
) -> tuple[ClustersAbout, NDArray[np.int32]]:
    """Return how clusters were made, and the cluster of each row that was seen."""
    components = principal_components(features.vectors_ND, rows_S, min(COMPONENTS, features.plan.dimensions))
    points_SD = projected(features.vectors_ND, rows_S, components)
    found = _kmeans(points_SD, number, seed, tell) if method == "kmeans" else _hdbscan(points_SD, smallest, seed, tell)
    numbers_S = _from_the_largest(found.numbers_S)
    n_left_out = int((numbers_S < 0).sum())
    if 2 * n_left_out > len(numbers_S):
        text = f"{n_left_out:,} of {len(numbers_S):,} pictures lie in no dense group."
        tell(Noticed(level="info", text=text, hint="k-means puts each into a cluster: --method kmeans."))
    about = ClustersAbout(
        made_from=features.key,
        method=method,
        seed=seed,
        asked=number or 0,
        smallest=smallest if method == "hdbscan" else 0,
        scores=found.scores,
        n_left_out=n_left_out,
        n_sample=found.n_sample,
        clusters=_described(points_SD, numbers_S, features.ids_N[rows_S], seed),
    )
    return about, numbers_S


def _settled(n: int, number: int | None, smallest: int | None) -> int:
    """Return how many of ``n`` pictures make a cluster of HDBSCAN; refuse what cannot be had."""
    if n < 2 * SMALLEST:
        raise BadInput(f"{n} pictures with features are too few.", f"It takes {2 * SMALLEST} or more.")
    if number is not None and not 2 <= number <= n // 2:
        raise BadRecipe(f"{number} clusters cannot be made.", f"Choose 2 to {n // 2:,}.")
    smallest = max(SMALLEST, round(SMALLEST_SHARE * n)) if smallest is None else smallest
    if not 2 <= smallest <= n // 2:
        raise BadRecipe(f"A cluster of {smallest} pictures or more cannot be had.", f"2 to {n // 2:,}.")
    return smallest


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The cluster of each point, -1 for none; by how many points they were found; silhouettes that were compared."""

    numbers_S: NDArray[np.int32]
    n_sample: int
    scores: tuple[tuple[int, float], ...] = ()


def _kmeans(points_SD: NDArray[np.float32], number: int | None, seed: int, tell: Tell) -> _Found:
    """Find clusters; their number is chosen by the silhouette where it is not given."""
    if number is not None:
        return _Found(_assigned(points_SD, number, seed), len(points_SD))
    candidates = [k for k in CANDIDATES if k <= len(points_SD) // 4]
    random = np.random.default_rng(seed)
    sample_Q = np.sort(random.choice(len(points_SD), min(len(points_SD), SILHOUETTE_SAMPLE), replace=False))
    pace = Pace("trying numbers of clusters", len(candidates), "numbers", tell)
    scores, best = [], (-np.inf, np.empty(0, np.int32))
    for done, k in enumerate(candidates, start=1):
        numbers_S = _assigned(points_SD, k, seed)
        score = _silhouette(points_SD[sample_Q], numbers_S[sample_Q])
        scores.append((k, score))
        if score > best[0]:
            best = (score, numbers_S)
        pace.reached(done, f"{k}: {score:.3f}")
    return _Found(best[1], len(points_SD), tuple(scores))


def _assigned(points_SD: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int32]:
    import faiss

    with one_thread() if points_SD.size < SMALL else contextlib.nullcontext():
        kmeans = faiss.Kmeans(
            points_SD.shape[1],
            k,
            niter=ROUNDS,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=POINTS_PER_CENTRE,
        )
        kmeans.train(points_SD, init_centroids=_first_centres(points_SD, k, seed))
        return np.asarray(kmeans.index.search(points_SD, 1)[1][:, 0].astype(np.int32))


def _first_centres(points_SD: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Draw points as first centres, each the likelier the farther it is from those before it; of some, the best.

    Source: greedy k-means++, Arthur and Vassilvitskii 2007, with scikit-learn's number of draws.
    """
    random = np.random.default_rng(seed)
    among_QD = points_SD[np.sort(random.choice(len(points_SD), min(len(points_SD), START_SAMPLE), replace=False))]
    chosen = [int(random.integers(len(among_QD)))]
    off_Q = _off(among_QD, chosen[0])
    while len(chosen) < k:
        shares_Q = np.cumsum(off_Q + np.finfo(np.float64).tiny)  # more than nothing also where all points are equal
        drawn = np.searchsorted(shares_Q, random.random(2 + int(np.log(k))) * shares_Q[-1])
        offs = [np.minimum(off_Q, _off(among_QD, int(place))) for place in np.minimum(drawn, len(among_QD) - 1)]
        best = int(np.argmin([off.sum() for off in offs]))
        chosen.append(min(int(drawn[best]), len(among_QD) - 1))
        off_Q = offs[best]
    return among_QD[chosen]


def _off(points_QD: NDArray[np.float32], place: int) -> NDArray[np.float64]:
    """Return the squared distance of each point from one of them."""
    return np.asarray(((points_QD - points_QD[place]) ** 2).sum(axis=1, dtype=np.float64))


def _silhouette(points_QD: NDArray[np.float32], numbers_Q: NDArray[np.int32]) -> float:
    """Return the mean silhouette, -1 where all are in one cluster; Rousseeuw 1987."""
    from sklearn.metrics import silhouette_score

    n = len(np.unique(numbers_Q))
    return float(silhouette_score(points_QD, numbers_Q)) if 1 < n < len(numbers_Q) else -1.0


def _hdbscan(points_SD: NDArray[np.float32], smallest: int, seed: int, tell: Tell) -> _Found:
    """Find clusters by some of the points; the rest go where their nearest went."""
    from sklearn.cluster import HDBSCAN

    n = len(points_SD)
    sample_Q = np.arange(n)
    if n > MOST_FOR_HDBSCAN:
        sample_Q = np.sort(np.random.default_rng(seed).choice(n, MOST_FOR_HDBSCAN, replace=False))
        text = f"The clusters are found by {MOST_FOR_HDBSCAN:,} pictures; the others go where their nearest went."
        tell(Noticed(level="info", text=text))
    least = max(2, round(smallest * len(sample_Q) / n))
    tell(Noticed(level="info", text=f"HDBSCAN of {len(sample_Q):,} pictures; it does not tell how far it is."))
    numbers_Q = HDBSCAN(min_cluster_size=least, min_samples=SMALLEST, copy=True).fit_predict(points_SD[sample_Q])
    numbers_S = np.full(n, -1, np.int32)
    numbers_S[sample_Q] = numbers_Q
    rest = np.setdiff1d(np.arange(n), sample_Q, assume_unique=True)
    if len(rest):
        import faiss

        _, nearest = faiss.knn(points_SD[rest], points_SD[sample_Q], 1)
        numbers_S[rest] = numbers_Q[nearest[:, 0]]
    return _Found(numbers_S, len(sample_Q))


def _from_the_largest(numbers_S: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number clusters anew by their size, leaving no number empty."""
    found, counts = np.unique(numbers_S[numbers_S >= 0], return_counts=True)
    renumbered = np.full(int(numbers_S.max(initial=-1)) + 2, -1, np.int32)  # the last stands for -1
    renumbered[found[np.argsort(-counts, kind="stable")]] = np.arange(len(found), dtype=np.int32)
    return renumbered[numbers_S]


def _described(
    points_SD: NDArray[np.float32], numbers_S: NDArray[np.int32], ids_S: NDArray[np.int64], seed: int
) -> tuple[Cluster, ...]:
    clusters = []
    for number in range(int(numbers_S.max(initial=-1)) + 1):
        inside = np.flatnonzero(numbers_S == number)
        off = np.linalg.norm(points_SD[inside] - points_SD[inside].mean(axis=0), axis=1)
        nearest = inside[np.argsort(off, kind="stable")[: EXEMPLARS // 2]]
        spread = _spread(points_SD, np.setdiff1d(inside, nearest), nearest[0], seed)
        clusters.append(
            Cluster(
                size=len(inside),
                nearest=tuple(int(number) for number in ids_S[nearest]),
                spread=tuple(int(number) for number in ids_S[spread]),
            )
        )
    return tuple(clusters)


def _spread(points_SD: NDArray[np.float32], among: NDArray[np.intp], first: np.intp, seed: int) -> NDArray[np.intp]:
    """Return some of ``among``, each the farthest from the ones before it and from ``first``."""
    if len(among) > SPREAD_AMONG:
        among = np.sort(np.random.default_rng(seed).choice(among, SPREAD_AMONG, replace=False))
    off = np.linalg.norm(points_SD[among] - points_SD[first], axis=1)
    chosen = []
    for _ in range(min(EXEMPLARS - EXEMPLARS // 2, len(among))):
        best = int(off.argmax())
        chosen.append(among[best])
        off = np.minimum(off, np.linalg.norm(points_SD[among] - points_SD[among[best]], axis=1))
    return np.array(chosen, np.intp)
