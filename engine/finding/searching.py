"""Opens a set for searching by any vector: the pictures whose features are nearest, by the cosine of the angle.

Up to `EXACT_UP_TO` pictures every one is compared, above that the graph is asked that `engine.finding.index` grew.
Relies on faiss, which is loaded where it is used.

Letters after a name are its axes:
    S rows that were seen · B rows of a block · Q queries · D width of a vector · k neighbours
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.arrays import ArrayFile
from engine.errors import BadInput
from engine.finding.faiss_files import read_index
from engine.finding.neighbours import current_neighbours, read_neighbours
from engine.finding.vectors import normalised
from engine.sets import FeatureSet

if TYPE_CHECKING:
    import faiss

GRAPH = "index.faiss"
EXACT_UP_TO = 200_000
"""Pictures that are compared one with each other: five minutes of one core at D = 384, and four times that for twice as
many; by the graph the time grows with the number."""
ROWS_AT_ONCE = 4_096  # whose vectors are brought to length 1


class Searcher:
    """Finds the pictures of a set that are nearest to any vectors; only those that were seen can be found."""

    def __init__(
        self, seen_S: NDArray[np.int32], nearest: Callable[[NDArray[np.float32], int], tuple[Any, Any]]
    ) -> None:
        """``nearest`` takes normalised queries and k, and returns likeness and places among the seen, -1 for none."""
        self._seen_S = seen_S
        self._nearest = nearest

    def __len__(self) -> int:
        return len(self._seen_S)

    def search(self, queries_QD: NDArray[np.floating], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return likeness, -1 to 1, and rows of the set of the nearest pictures, nearest first.

        Of equally near ones the lower row comes first.

        Args:
            queries_QD: any length; a vector of zeros is as near to all.
            k: as many columns are returned, or as many as pictures were seen where they are fewer. A graph may miss
                some: -1 and likeness 0 then fill up.
        """
        likeness_Qk, place_Qk = self._nearest(normalised(queries_QD), min(k, len(self)))
        rows_Qk = np.where(place_Qk < 0, -1, self._seen_S[place_Qk]).astype(np.int64)
        likeness_Qk = np.where(place_Qk < 0, -np.inf, np.clip(likeness_Qk, -1, 1))
        order_Qk = np.lexsort((rows_Qk, -likeness_Qk))
        rows_Qk = np.take_along_axis(rows_Qk, order_Qk, 1)
        likeness_Qk = np.take_along_axis(likeness_Qk, order_Qk, 1)
        return np.where(rows_Qk < 0, 0, likeness_Qk).astype(np.float32), rows_Qk


def open_searcher(features: FeatureSet) -> Searcher:
    """Open a set for searching: by its graph where it has one that is of these features, else exactly.

    Raises:
        BadInput: nothing was seen, or there are too many pictures to search without a graph and it is not there, out
            of date or damaged.
    """
    seen_S = seen_rows(features)
    about = current_neighbours(features)
    if about is not None and about.method == "hnsw":
        return graph_searcher(read_index(features.folder / GRAPH), seen_S)
    if about is None and len(seen_S) > EXACT_UP_TO:
        read_neighbours(features)  # says why
    return exact_searcher(features, seen_S)


def exact_searcher(features: FeatureSet, seen_S: NDArray[np.int32]) -> Searcher:
    """Return what compares with every picture that was seen; their vectors are held in memory."""
    import faiss

    base_SD = np.empty((len(seen_S), features.plan.dimensions), np.float32)
    for first in range(0, len(seen_S), ROWS_AT_ONCE):
        block = slice(first, first + ROWS_AT_ONCE)
        base_SD[block] = normalised(vectors_of(features, seen_S[block]))
    return Searcher(seen_S, lambda queries_QD, k: faiss.knn(queries_QD, base_SD, k, metric=faiss.METRIC_INNER_PRODUCT))


def graph_searcher(graph: "faiss.Index", seen_S: NDArray[np.int32]) -> Searcher:
    """Return what asks a graph of the pictures that were seen."""
    return Searcher(seen_S, graph.search)


def seen_rows(features: FeatureSet) -> NDArray[np.int32]:
    """Return the rows that can be found.

    Raises:
        BadInput: there are none.
    """
    seen_S = np.flatnonzero(features.is_seen_N).astype(np.int32)
    if not len(seen_S):
        raise BadInput(
            f"The set '{features.folder.name}' holds no features of any picture.", "Fill it: engine embed PROJECT."
        )
    return seen_S


def vectors_of(features: FeatureSet, rows_B: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return some vectors through a map of their own, whose pages do not stay in this process's memory."""
    vectors_BD: NDArray[np.float32] = ArrayFile(features.folder / "vectors.npy").read()[rows_B]
    return vectors_BD
