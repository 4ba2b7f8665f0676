"""Makes the table of nearest neighbours of a set, and opens a set for searching by any vector.

Up to `EXACT_UP_TO` pictures every picture is compared with every other. Above, a navigable graph (HNSW; Malkov and
Yashunin 2018) finds most of the neighbours in a fraction of the time; which share of them is measured against exact
neighbours of a sample, and kept with the table. All is by the cosine of the angle between two vectors.

A set's folder holds, in the order in which they come to be:

    neighbours.part.json   what the half-made files are of; there while the work is not done
    *.part.*               the half-made files, which grow in blocks
    index.faiss            the graph, where there is one
    neighbours.npy, likeness.npy
    neighbours.json        written last; without it the others do not count

Relies on faiss, which is loaded where it is used. The same features give the same bytes on the same machine, however
often the work was stopped or killed on the way.

Letters after a name are its axes:
    N rows of the set · S rows that were seen · B rows of a block · Q queries · D width of a vector · k neighbours
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engine.arrays import ArrayFile
from engine.errors import BadInput, BadRecipe, Stopped
from engine.finding.neighbours import LIKENESS, ROWS, TABLE, NeighbourTable, TableAbout, read_neighbours
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet
from engine.store import replace as put_in_place
from engine.store import sole_writer, sync_folder, write_atomically
from engine.timing import Pace

if TYPE_CHECKING:
    import faiss

Method = Literal["exact", "hnsw"]
Choice = Literal["auto", "exact", "hnsw"]
T = TypeVar("T")
Found = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Neighbours of a block of rows and their likeness, (B, k) each."""

GRAPH = "index.faiss"
PART = "neighbours.part.json"
PARTS = {ROWS: "neighbours.part.npy", LIKENESS: "likeness.part.npy", GRAPH: "index.part.faiss"}
"""Half-made files by what they become, in the order in which they do."""

EXACT_UP_TO = 200_000
"""Pictures that are compared one with each other: five minutes of one core at D = 384, and four times that for twice as
many; by the graph the time grows with the number."""
MANY, FEW = 90, 32
"""Neighbours kept up to `EXACT_UP_TO` pictures and above: t-SNE of perplexity 30 looks at 3 x 30; beyond, the table
would be large and maps are made of fewer."""
BLOCK = 1_024  # rows whose neighbours are found at once: 1.5 s of one core at `EXACT_UP_TO`

BREADTH_BUILDING = 80
"""efConstruction. Among 250,000 vectors in 1,000 clusters a graph of 40 finds no more than 96.5 % of the neighbours,
however widely it is searched up to 512; one of 80 takes 1.6 times as long to grow and finds 99.8 % at 64."""
LINKS = 32  # M of the graph; 48 finds no more of them
BREADTHS = (64, 128, 256, 512, 1_024)  # efSearch, tried in turn until the recall is enough
RECALL = 0.95  # that is enough
SAMPLE = 1_000  # pictures whose true neighbours are found to measure the recall: its standard error is below 0.003
SEED = 0  # of the sample and of the heights in the graph
TOLERANCE = 1e-6  # of likeness: two orders of the same sums differ by so much
GROW = 4_096  # pictures added to the graph at once; Stop is heard between
SAVE_EVERY = 200_000  # pictures added between two savings of the graph, at most what a kill costs

LEAST_LENGTH, MOST_LENGTH = 1e-15, 1e15  # of vectors whose squares float32 can add up


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What half-made files are of, and by which settings; ``recall`` is None until it is measured."""

    made_from: str
    method: Method
    k: int
    recall: float | None
    settings: tuple[int, ...] = (LINKS, BREADTH_BUILDING, GROW, SEED)

    def is_of(self, other: "_Work") -> bool:
        """Tell whether the other one's files can be gone on with."""
        return replace(self, recall=None) == replace(other, recall=None)


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


def normalised(vectors_BD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors brought to length 1, as a copy; those of zeros, or with a number that is not finite, are zero."""
    vectors_BD = np.array(vectors_BD, np.float32, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        length_B = np.sqrt(np.einsum("bd,bd->b", vectors_BD, vectors_BD))
    odd_B = np.flatnonzero(~((length_B > LEAST_LENGTH) & (length_B < MOST_LENGTH)))
    odd_BD = vectors_BD[odd_B].astype(np.float64)
    odd_BD[~np.isfinite(odd_BD).all(axis=1)] = 0
    odd_length_B = np.linalg.norm(odd_BD, axis=1, keepdims=True)
    length_B[odd_B] = 1
    vectors_BD[odd_B] = odd_BD / np.where(odd_length_B > 0, odd_length_B, 1)
    vectors_BD /= length_B[:, None]
    return vectors_BD


def open_searcher(features: FeatureSet) -> Searcher:
    """Open a set for searching: by its graph where it has one that is of these features, else exactly.

    Raises:
        BadInput: nothing was seen, or there are too many pictures to search without a graph and it is not there, out
            of date or damaged.
    """
    seen_S = _seen(features)
    about = current(features)
    if about is not None and about.method == "hnsw":
        return _graph_searcher(_load_graph(features.folder / GRAPH), seen_S)
    if about is None and len(seen_S) > EXACT_UP_TO:
        read_neighbours(features)  # says why
    return _exact_searcher(features, seen_S)


def current(features: FeatureSet) -> TableAbout | None:
    """Return how the table of a set was made, None where there is none of the features of now."""
    try:
        return read_neighbours(features).about
    except BadInput:
        return None


def make_index(
    features: FeatureSet,
    tell: Tell,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    method: Choice = "auto",
    k: int | None = None,
    again: bool = False,
) -> NeighbourTable:
    """Make the table of neighbours of a set, or go on with it where that was cut off; do nothing if it is there.

    Args:
        features: the set.
        tell: is told of the progress.
        should_stop: asked after every block.
        method: auto is exact up to `EXACT_UP_TO` pictures.
        k: neighbours of each picture; `MANY` or `FEW` by the number of pictures. Never more than there are others.
        again: make it from the beginning, also where it is there or begun.

    Raises:
        BadInput: no picture was seen.
        BadRecipe: ``k`` is below 1.
        Busy: another process writes the set.
        DiskFull: there is no room; the finished blocks are kept.
        Stopped: as asked; the finished blocks are kept.
    """
    seen_S = _seen(features)
    work = _settled(features, len(seen_S), method, k)
    if not again and is_done(features, method=method, k=k):
        return read_neighbours(features)
    with sole_writer(features.folder, "writes the set"):
        work = _begin(features, work, again=again)
        if not _is_whole(features.folder):
            work, searcher = _searcher(features, seen_S, work, tell, should_stop)
            _fill(features, searcher, work, tell, should_stop)
        _finish(features.folder, work)
    return read_neighbours(features)


def is_done(features: FeatureSet, *, method: Choice = "auto", k: int | None = None) -> bool:
    """Tell whether the table that is asked for is there.

    Raises:
        BadInput: no picture was seen.
        BadRecipe: ``k`` is below 1.
    """
    about = current(features)
    wanted = _settled(features, len(_seen(features)), method, k)
    return about is not None and (about.method, about.k) == (wanted.method, wanted.k)


def _seen(features: FeatureSet) -> NDArray[np.int32]:
    seen_S = np.flatnonzero(features.is_seen_N).astype(np.int32)
    if not len(seen_S):
        raise BadInput(
            f"The set '{features.folder.name}' holds no features of any picture.", "Fill it: engine embed PROJECT."
        )
    return seen_S


def _settled(features: FeatureSet, n_seen: int, method: Choice, k: int | None) -> _Work:
    if k is not None and k < 1:
        raise BadRecipe(f"{k} neighbours cannot be kept.", "Choose 1 or more.")
    is_small = n_seen <= EXACT_UP_TO
    wanted = k or (MANY if is_small else FEW)
    chosen: Method = method if method != "auto" else "exact" if is_small else "hnsw"
    recall = 1.0 if chosen == "exact" else None
    # One column also where a picture is alone, as an array file has no rows of nothing.
    return _Work(made_from=features.key, method=chosen, k=max(1, min(wanted, n_seen - 1)), recall=recall)


def _begin(features: FeatureSet, work: _Work, *, again: bool) -> _Work:
    """Return the work as far as it is known, with its half-made files there, made new where they are of another."""
    folder = features.folder
    for name in (*PARTS.values(), PART, TABLE):
        for temporary in folder.glob(f".{name}.*.tmp"):  # of a kill while it was written; a graph's is large
            temporary.unlink()
    if not again:
        with contextlib.suppress(OSError, ValidationError):
            begun = TypeAdapter(_Work).validate_json((folder / PART).read_bytes())
            if begun.is_of(work):
                return begun
    (folder / PART).unlink(missing_ok=True)
    sync_folder(folder)
    (folder / PARTS[GRAPH]).unlink(missing_ok=True)
    ArrayFile.create(folder / PARTS[ROWS], np.int32, (work.k,))
    ArrayFile.create(folder / PARTS[LIKENESS], np.float32, (work.k,))
    _keep(folder, work)
    return work


def _keep(folder: Path, work: _Work) -> None:
    written = TypeAdapter(_Work).dump_json(work, indent=1)
    write_atomically(folder / PART, lambda file: file.write(written))


def _is_whole(folder: Path) -> bool:
    """Tell whether a kill hit between the last block and the end, some half-made files having their names already."""
    return not (folder / PARTS[ROWS]).exists()  # which gets its name first


def _finish(folder: Path, work: _Work) -> None:
    """Give the files their names, the table's own last; done again after a kill, it does what is left."""
    (folder / TABLE).unlink(missing_ok=True)
    sync_folder(folder)
    for name, part in PARTS.items():
        if (folder / part).exists():
            put_in_place(folder / part, folder / name)
    if work.method == "exact":
        (folder / GRAPH).unlink(missing_ok=True)
    assert work.recall is not None, "known before the first block"
    about = TableAbout(made_from=work.made_from, method=work.method, k=work.k, recall=work.recall)
    written = TypeAdapter(TableAbout).dump_json(about, indent=1)
    write_atomically(folder / TABLE, lambda file: file.write(written))
    (folder / PART).unlink()


def _searcher(
    features: FeatureSet, seen_S: NDArray[np.int32], work: _Work, tell: Tell, should_stop: Callable[[], bool]
) -> tuple[_Work, Searcher]:
    """Return what finds the neighbours, and the work with what was found out about it."""
    if work.method == "exact":
        return work, _exact_searcher(features, seen_S)
    graph = _grow_graph(features, seen_S, tell, should_stop)
    searcher = _graph_searcher(graph, seen_S)
    if work.recall is None:
        work = replace(work, recall=_measured(features, seen_S, graph, work.k, tell, should_stop))
        _save_graph(graph, features.folder / PARTS[GRAPH])  # with the breadth
        _keep(features.folder, work)
    return work, searcher


def _fill(features: FeatureSet, searcher: Searcher, work: _Work, tell: Tell, should_stop: Callable[[], bool]) -> None:
    """Write the neighbours of the rows that are not written yet, block by block."""
    rows, likeness = (ArrayFile(features.folder / PARTS[name]) for name in (ROWS, LIKENESS))
    rows.cut(len(likeness))  # which is written last
    pace = Pace("finding neighbours", len(features), "pictures", tell, start=len(rows))
    firsts = range(len(rows), len(features), BLOCK)
    with _each_on_a_core(lambda first: _neighbours(features, searcher, first, work.k), firsts) as found:
        for rows_Bk, likeness_Bk in found:
            rows.append(rows_Bk)
            likeness.append(likeness_Bk)
            pace.reached(len(rows))
            if should_stop() and len(rows) < len(features):
                raise Stopped


@contextlib.contextmanager
def _each_on_a_core(find: Callable[[int], T], firsts: range) -> Iterator[Iterator[T]]:
    """Give what is found for each block, in order; blocks side by side, each by one thread.

    faiss's own threads wait for each other in a loop, which doubles the work where the machine has more to do, and
    their number decides how sums are ordered.
    """
    import faiss

    with ThreadPoolExecutor(faiss.omp_get_max_threads(), initializer=_use_one_thread) as pool:
        found = pool.map(find, firsts)
        try:
            yield found
        finally:
            pool.shutdown(cancel_futures=True)


def _use_one_thread() -> None:
    """Keep faiss to the thread that calls it; OpenMP keeps this apart for every thread."""
    import faiss

    faiss.omp_set_num_threads(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import faiss

    threads = faiss.omp_get_max_threads()
    _use_one_thread()
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _neighbours(features: FeatureSet, searcher: Searcher, first: int, k: int) -> Found:
    """Return the table of the block of rows from ``first`` on."""
    is_seen_B = features.is_seen_N[first : first + BLOCK]
    own_Q = first + np.flatnonzero(is_seen_B)
    rows_Bk = np.full((len(is_seen_B), k), -1, np.int32)
    likeness_Bk = np.zeros((len(is_seen_B), k), np.float32)
    if len(own_Q) and len(searcher) > 1:
        found = searcher.search(_vectors(features, own_Q), k + 1)
        likeness_Bk[is_seen_B], rows_Bk[is_seen_B] = without_self(*found, own_Q)
    return rows_Bk, likeness_Bk


def without_self(
    likeness_Qk: NDArray[np.float32], rows_Qk: NDArray[np.int64], own_Q: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what was found for pictures of the set less one column: themselves, or the last where equals hid them."""
    is_self_Qk = rows_Qk == own_Q[:, None]
    is_self_Qk[~is_self_Qk.any(axis=1), -1] = True
    shape = (len(rows_Qk), rows_Qk.shape[1] - 1)
    return likeness_Qk[~is_self_Qk].reshape(shape), rows_Qk[~is_self_Qk].reshape(shape)


def _vectors(features: FeatureSet, rows_B: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return some vectors through a map of their own, whose pages do not stay in this process's memory."""
    vectors_BD: NDArray[np.float32] = ArrayFile(features.folder / "vectors.npy").read()[rows_B]
    return vectors_BD


def _blocks(features: FeatureSet, seen_S: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors that were seen, of length 1."""
    for first in range(0, len(seen_S), GROW):
        yield normalised(_vectors(features, seen_S[first : first + GROW]))


def _exact_searcher(features: FeatureSet, seen_S: NDArray[np.int32]) -> Searcher:
    import faiss

    base_SD = np.empty((len(seen_S), features.plan.dimensions), np.float32)
    first = 0
    for block_BD in _blocks(features, seen_S):
        base_SD[first : first + len(block_BD)] = block_BD
        first += len(block_BD)
    return Searcher(seen_S, lambda queries_QD, k: faiss.knn(queries_QD, base_SD, k, metric=faiss.METRIC_INNER_PRODUCT))


def _graph_searcher(graph: "faiss.IndexHNSWFlat", seen_S: NDArray[np.int32]) -> Searcher:
    return Searcher(seen_S, graph.search)


def _grow_graph(
    features: FeatureSet, seen_S: NDArray[np.int32], tell: Tell, should_stop: Callable[[], bool]
) -> "faiss.IndexHNSWFlat":
    """Return the graph of all pictures that were seen, going on with a half-made one.

    One thread adds: with several, the graph would be another one each time.
    """
    import faiss

    path = features.folder / PARTS[GRAPH]
    graph = _load_graph(path) if path.exists() else _new_graph(features.plan.dimensions)
    pace = Pace("growing the graph", len(seen_S), "pictures", tell, start=graph.ntotal)
    saved = graph.ntotal
    for block_BD in _blocks(features, seen_S[graph.ntotal :]):
        graph.hnsw.rng = faiss.RandomGenerator(SEED + graph.ntotal)  # type: ignore[attr-defined]  # a file does not keep its state
        with _one_thread():
            graph.add(block_BD)
        pace.reached(graph.ntotal)
        is_stopped = should_stop() and graph.ntotal < len(seen_S)
        if is_stopped or graph.ntotal - saved >= SAVE_EVERY or graph.ntotal == len(seen_S):
            _save_graph(graph, path)
            saved = graph.ntotal
        if is_stopped:
            raise Stopped
    return graph


def _new_graph(dimensions: int) -> "faiss.IndexHNSWFlat":
    import faiss

    graph = faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BREADTH_BUILDING
    return graph


def _save_graph(graph: "faiss.IndexHNSWFlat", path: Path) -> None:
    import faiss

    # By Python's file and not by the path: faiss knows no path of other letters on Windows, nor a full disk as such.
    write_atomically(path, lambda file: faiss.write_index(graph, faiss.PyCallbackIOWriter(file.write)))  # type: ignore[attr-defined]


def _load_graph(path: Path) -> "faiss.IndexHNSWFlat":
    import faiss

    try:
        with path.open("rb") as file:
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined,return-value]
    except (OSError, RuntimeError) as problem:
        raise BadInput(f"'{path}' cannot be read: {problem}.", "Make it again: engine index PROJECT --again.") from (
            problem
        )


def _measured(
    features: FeatureSet,
    seen_S: NDArray[np.int32],
    graph: "faiss.IndexHNSWFlat",
    k: int,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> float:
    """Set the graph's breadth of search to the least of `BREADTHS` that gives `RECALL`, and return the recall."""
    sample_Q = np.sort(np.random.default_rng(SEED).permutation(len(seen_S))[:SAMPLE])
    own_Q = seen_S[sample_Q].astype(np.intp)
    queries_QD = _vectors(features, own_Q)
    least_Q = _likeness_of_the_last(features, seen_S, queries_QD, k, tell, should_stop)
    searcher = _graph_searcher(graph, seen_S)
    recall = 0.0
    for breadth in BREADTHS:
        graph.hnsw.efSearch = max(breadth, k + 1)
        likeness_Qk, rows_Qk = without_self(*searcher.search(queries_QD, k + 1), own_Q)
        is_true_Qk = (likeness_Qk >= least_Q[:, None] - TOLERANCE) & (rows_Qk >= 0)
        recall = float(is_true_Qk.mean()) if is_true_Qk.size else 1.0  # one picture has no neighbours to miss
        if recall >= RECALL:
            return recall
    text = f"The graph finds {recall:.1%} of the true neighbours, fewer than the {RECALL:.0%} that are wanted."
    tell(Noticed(level="warning", text=text, hint="Find all of them with --method exact, which takes longer."))
    return recall


def _likeness_of_the_last(
    features: FeatureSet,
    seen_S: NDArray[np.int32],
    queries_QD: NDArray[np.float32],
    k: int,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> NDArray[np.float32]:
    """Return how near the k-th true neighbour of pictures of the set is; they find themselves first."""
    import faiss

    queries_QD = normalised(queries_QD)

    def nearest_in_block(first: int) -> NDArray[np.float32]:
        block_BD = normalised(_vectors(features, seen_S[first : first + GROW]))
        return faiss.knn(queries_QD, block_BD, min(k + 1, len(block_BD)), metric=faiss.METRIC_INNER_PRODUCT)[0]

    nearest_Qk = np.full((len(queries_QD), k + 1), -np.inf, np.float32)
    pace = Pace("measuring the recall", len(seen_S), "pictures", tell)
    with _each_on_a_core(nearest_in_block, range(0, len(seen_S), GROW)) as found:
        for likeness_Qk in found:
            nearest_Qk = -np.sort(-np.hstack((nearest_Qk, likeness_Qk)), axis=1)[:, : k + 1]
            pace.reached(min(pace.done + GROW, len(seen_S)))
            if should_stop():
                raise Stopped
    return nearest_Qk[:, -1]
