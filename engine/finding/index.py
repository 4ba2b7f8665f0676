"""Makes the table of nearest neighbours of a set, and the graph by which many pictures are searched.

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
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from engine.arrays import ArrayFile
from engine.errors import BadRecipe, Stopped
from engine.finding.faiss_files import one_thread, read_index, use_one_thread, write_index
from engine.finding.neighbours import (
    LIKENESS,
    ROWS,
    TABLE,
    NeighbourTable,
    TableAbout,
    current_neighbours,
    read_neighbours,
)
from engine.finding.searching import (
    EXACT_UP_TO,
    GRAPH,
    Searcher,
    exact_searcher,
    graph_searcher,
    seen_rows,
    vectors_of,
)
from engine.finding.vectors import normalised, without_self
from engine.protocol import Noticed, Tell
from engine.records import read_record, write_record
from engine.sets import FeatureSet
from engine.store import clear_temporaries, sole_writer, sync_folder
from engine.store import replace as put_in_place
from engine.timing import Pace

if TYPE_CHECKING:
    import faiss

Method = Literal["exact", "hnsw"]
Choice = Literal["auto", "exact", "hnsw"]
T = TypeVar("T")
Found = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Neighbours of a block of rows and their likeness, (B, k) each."""

PART = "neighbours.part.json"
PARTS = {ROWS: "neighbours.part.npy", LIKENESS: "likeness.part.npy", GRAPH: "index.part.faiss"}
"""Half-made files by what they become, in the order in which they do."""

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
    seen_S = seen_rows(features)
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
    about = current_neighbours(features)
    wanted = _settled(features, len(seen_rows(features)), method, k)
    return about is not None and (about.method, about.k) == (wanted.method, wanted.k)


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
        clear_temporaries(folder / name)  # of a graph they are large
    if not again:
        begun = read_record(folder / PART, _Work)
        if begun is not None and begun.is_of(work):
            return begun
    (folder / PART).unlink(missing_ok=True)
    sync_folder(folder)
    (folder / PARTS[GRAPH]).unlink(missing_ok=True)
    ArrayFile.create(folder / PARTS[ROWS], np.int32, (work.k,))
    ArrayFile.create(folder / PARTS[LIKENESS], np.float32, (work.k,))
    write_record(folder / PART, work)
    return work


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
    write_record(folder / TABLE, about)
    (folder / PART).unlink()


def _searcher(
    features: FeatureSet, seen_S: NDArray[np.int32], work: _Work, tell: Tell, should_stop: Callable[[], bool]
) -> tuple[_Work, Searcher]:
    """Return what finds the neighbours, and the work with what was found out about it."""
    if work.method == "exact":
        return work, exact_searcher(features, seen_S)
    graph = _grow_graph(features, seen_S, tell, should_stop)
    searcher = graph_searcher(graph, seen_S)
    if work.recall is None:
        work = replace(work, recall=_measured(features, seen_S, graph, work.k, tell, should_stop))
        write_index(features.folder / PARTS[GRAPH], graph)  # with the breadth
        write_record(features.folder / PART, work)
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

    with ThreadPoolExecutor(faiss.omp_get_max_threads(), initializer=use_one_thread) as pool:
        found = pool.map(find, firsts)
        try:
            yield found
        finally:
            pool.shutdown(cancel_futures=True)


def _neighbours(features: FeatureSet, searcher: Searcher, first: int, k: int) -> Found:
    """Return the table of the block of rows from ``first`` on."""
    is_seen_B = features.is_seen_N[first : first + BLOCK]
    own_Q = first + np.flatnonzero(is_seen_B)
    rows_Bk = np.full((len(is_seen_B), k), -1, np.int32)
    likeness_Bk = np.zeros((len(is_seen_B), k), np.float32)
    if len(own_Q) and len(searcher) > 1:
        found = searcher.search(vectors_of(features, own_Q), k + 1)
        likeness_Bk[is_seen_B], rows_Bk[is_seen_B] = without_self(*found, own_Q)
    return rows_Bk, likeness_Bk


def _grow_graph(
    features: FeatureSet, seen_S: NDArray[np.int32], tell: Tell, should_stop: Callable[[], bool]
) -> "faiss.IndexHNSWFlat":
    """Return the graph of all pictures that were seen, going on with a half-made one.

    One thread adds: with several, the graph would be another one each time.
    """
    import faiss

    path = features.folder / PARTS[GRAPH]
    graph = cast("faiss.IndexHNSWFlat", read_index(path)) if path.exists() else _new_graph(features.plan.dimensions)
    pace = Pace("growing the graph", len(seen_S), "pictures", tell, start=graph.ntotal)
    saved = graph.ntotal
    for first in range(graph.ntotal, len(seen_S), GROW):
        block_BD = normalised(vectors_of(features, seen_S[first : first + GROW]))
        graph.hnsw.rng = faiss.RandomGenerator(SEED + graph.ntotal)  # type: ignore[attr-defined]  # a file does not keep its state
        with one_thread():
            graph.add(block_BD)
        pace.reached(graph.ntotal)
        is_stopped = should_stop() and graph.ntotal < len(seen_S)
        if is_stopped or graph.ntotal - saved >= SAVE_EVERY or graph.ntotal == len(seen_S):
            write_index(path, graph)
            saved = graph.ntotal
        if is_stopped:
            raise Stopped
    return graph


def _new_graph(dimensions: int) -> "faiss.IndexHNSWFlat":
    import faiss

    graph = faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BREADTH_BUILDING
    return graph


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
    queries_QD = vectors_of(features, own_Q)
    least_Q = _likeness_of_the_last(features, seen_S, queries_QD, k, tell, should_stop)
    searcher = graph_searcher(graph, seen_S)
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
        block_BD = normalised(vectors_of(features, seen_S[first : first + GROW]))
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
