"""Makes maps of a set: where every picture lies in the plane.

Beside a map as `engine.finding.map_files` keeps it there are:

    sets/0001/
      map-tsne.state.npz   all that the next step depends on; kept when stopped, so that it can be gone on with

A map turns and shifts to lie on the one before it. Needs the table of neighbours (``engine.finding.index``) but for
principal components.

Letters after a name are its axes:
    N rows of the set · S rows that were seen · k neighbours · 2 the plane
"""

import contextlib
import hashlib
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import MAP_METHODS
from engine.errors import BadInput, BadRecipe, Stopped
from engine.finding.aligning import laid_onto
from engine.finding.faithfulness import faithfulness
from engine.finding.map_files import MapAbout, MapPlan, Method, PictureMap, check_finite, keep_map, so_far_path, spread
from engine.finding.neighbours import NeighbourTable
from engine.finding.projections import (
    NEIGHBOURS_PER_PERPLEXITY,
    Tsne,
    TsneState,
    affinities,
    chord,
    in_the_plane,
    lay_out_umap,
    principal_components,
    start_of_tsne,
)
from engine.protocol import Noticed, Tell
from engine.records import write_array
from engine.sets import FeatureSet
from engine.store import sole_writer, write_atomically
from engine.timing import Pace

if TYPE_CHECKING:
    import scipy.sparse


PERPLEXITY = 30.0  # openTSNE's default
EARLY, STEPS = 250, 750  # openTSNE's defaults: exaggerated steps, and all of them
MANY, EARLY_OF_MANY, STEPS_OF_MANY = 200_000, 125, 375
"""Pictures above which half the steps are made: the learning rate grows with their number (Belkina et al. 2019)."""
BLOCK = 25  # steps between two looks at Stop
SAVE_EVERY_S = 1.0  # least time between two savings of the state: what a kill costs, or one block where that is longer
UMAP_NEIGHBOURS = 15  # umap-learn's default, the picture itself counted
EPOCHS, EPOCHS_OF_MANY, FEW_FOR_UMAP = 500, 200, 10_000  # umap-learn's rule in ``simplicial_set_embedding``
LEAST = 4  # pictures or classes that can be laid out by their neighbours


def settle(
    method: Method,
    n_seen: int,
    table_k: int,
    *,
    seed: int = 0,
    perplexity: float | None = None,
    steps: int | None = None,
) -> tuple[MapPlan, list[Noticed]]:
    """Return what will be done for ``n_seen`` pictures with ``table_k`` neighbours of each, and what to say of it.

    Raises:
        BadInput: there are too few pictures.
        BadRecipe: a value is out of its range.
    """
    if steps is not None and steps < 1:
        raise BadRecipe(f"{steps} steps cannot be made.", "Choose 1 or more.")
    least = LEAST if MAP_METHODS[method].needs_neighbours else 2
    if n_seen < least:
        raise BadInput(
            f"{n_seen} pictures with features are too few for a map by {MAP_METHODS[method].title}.",
            f"It takes {least} or more.",
        )
    match method:
        case "pca":
            return MapPlan(method="pca", seed=seed), []
        case "umap":
            epochs = steps or (EPOCHS if n_seen <= FEW_FOR_UMAP else EPOCHS_OF_MANY)
            near = min(UMAP_NEIGHBOURS - 1, table_k, n_seen - 1)
            return MapPlan(method="umap", seed=seed, steps=epochs, neighbours=near), []
    perplexity, notices = clamped(perplexity, PERPLEXITY, min(table_k, n_seen - 1), "pictures", n_seen)
    is_many = n_seen > MANY
    early = EARLY_OF_MANY if is_many else EARLY
    if is_many and steps is None:
        text = f"{STEPS_OF_MANY} steps are made instead of {STEPS}: there are more than {MANY:,} pictures."
        notices.append(Noticed(level="info", text=text, hint="Choose otherwise with --steps."))
    steps = steps or (STEPS_OF_MANY if is_many else STEPS)
    plan = MapPlan(
        method="tsne",
        seed=seed,
        steps=steps,
        early=min(early, steps),
        perplexity=perplexity,
        neighbours=max(1, int(NEIGHBOURS_PER_PERPLEXITY * perplexity)),
    )
    return plan, notices


def clamped(asked: float | None, usual: float, k: int, of: str, n: int) -> tuple[float, list[Noticed]]:
    """Return the perplexity that ``k`` neighbours allow, and a notice where it is less than was wanted."""
    wanted = usual if asked is None else asked
    if not 1 <= wanted < float("inf"):
        raise BadRecipe(f"A perplexity of {wanted:g} cannot be had.", "Choose 1 or more.")
    most = max(1.0, k / NEIGHBOURS_PER_PERPLEXITY)
    if wanted <= most:
        return float(wanted), []
    why = f"there are only {n:,} {of}" if k == n - 1 else f"the table holds only {k} neighbours of each"
    more = "" if k == n - 1 else f"Keep more: engine index PROJECT --neighbours {round(wanted * 3)}."
    text = f"The perplexity is {most:.3g} instead of {wanted:g}: {why}, and three for each is needed."
    return most, [Noticed(level="info" if asked is None else "warning", text=text, hint=more)]


def make_map(
    features: FeatureSet,
    table: NeighbourTable | None,
    plan: MapPlan,
    tell: Tell,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    threads: int = 1,
    labels_N: NDArray[np.int32] | None = None,
    onto: tuple[str, PictureMap] | None = None,
    again: bool = False,
) -> PictureMap:
    """Make the map of a set, or go on with it where it was stopped or killed.

    A t-SNE that went on ends bit for bit as one that was never cut off, with the same number of threads.

    Args:
        features: the set.
        table: its neighbours; principal components need none.
        plan: what to do, from ``settle``.
        tell: is told of the progress.
        should_stop: asked after every block of steps; the map so far is then kept, its ``about`` says at which step.
        threads: to use, but for UMAP, which repeats exactly with one only.
        labels_N: numbers of classes to measure the map by, -1 for none.
        onto: name of a set and its map of the same method, which this one is turned to lie on.
        again: begin anew also where there is something to go on with.

    Raises:
        Busy: another process writes the set.
        DiskFull: there is no room; the map before is intact.
        Diverged: positions are not finite; the map before is intact.
        Stopped: UMAP was asked to stop, which keeps nothing of it.
    """
    with sole_writer(features.folder, "writes the set"):  # all the time, as the positions so far are written, too
        return _make_map(features, table, plan, tell, should_stop, threads, labels_N, onto, again=again)


def _make_map(
    features: FeatureSet,
    table: NeighbourTable | None,
    plan: MapPlan,
    tell: Tell,
    should_stop: Callable[[], bool],
    threads: int,
    labels_N: NDArray[np.int32] | None,
    onto: tuple[str, PictureMap] | None,
    *,
    again: bool,
) -> PictureMap:
    rows_S = np.flatnonzero(features.is_seen_N)
    if again and plan.method == "tsne":
        _state_path(features).unlink(missing_ok=True)
    work = _Work(features, rows_S, table, plan, tell, should_stop, threads, onto[1] if onto else None)
    components = principal_components(features.vectors_ND, rows_S, 2)
    scores_S2 = in_the_plane(features.vectors_ND, rows_S, components)
    about = MapAbout(made_from=features.key, plan=plan, step=plan.steps, aligned_to=onto[0] if onto else "")
    match plan.method:
        case "pca":
            positions_S2 = work.turned(scores_S2)
            first, second, *_ = (*(float(share) for share in components.shares_K), 0.0)
            about = replace(about, shares=(first, second))
        case "umap":
            positions_S2 = _umap(work, scores_S2)
        case "tsne":
            positions_S2, step, divergence = _tsne(work, scores_S2)
            about = replace(about, step=step, divergence=divergence)
    check_finite(positions_S2, plan.method)
    labels_S = None if labels_N is None else labels_N[rows_S]
    about = replace(about, measures=faithfulness(features.vectors_ND, rows_S, positions_S2, labels_S, seed=plan.seed))
    made = keep_map(features, about, spread(features, rows_S, positions_S2))
    _clear(features, plan, is_stopped=about.is_stopped)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """What the making of one map works with."""

    features: FeatureSet
    rows_S: NDArray[np.intp]
    table: NeighbourTable | None
    plan: MapPlan
    tell: Tell
    should_stop: Callable[[], bool]
    threads: int
    onto: PictureMap | None

    def turned(self, positions_S2: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return positions as they are kept: laid on the map before."""
        if self.onto is None:
            return positions_S2.astype(np.float32)
        return laid_onto(self.onto, self.features.ids_N[self.rows_S], positions_S2)

    def neighbours(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the neighbours of the rows that were seen, counted among these, -1 for none, and their likeness."""
        assert self.table is not None, "a table of neighbours"
        place_N = np.full(len(self.features) + 1, -1, np.int32)  # one more, for the -1 that stands for none
        place_N[self.rows_S] = np.arange(len(self.rows_S), dtype=np.int32)
        k = self.plan.neighbours
        return place_N[self.table.rows_Nk[self.rows_S, :k]], np.array(self.table.likeness_Nk[self.rows_S, :k])


def _umap(work: _Work, scores_S2: NDArray[np.float32]) -> NDArray[np.float32]:
    plan = work.plan
    pace = Pace("laying out by UMAP", plan.steps, "epochs", work.tell)

    def after_epoch(n: int) -> None:
        pace.reached(n)
        if work.should_stop() and n < plan.steps:
            raise Stopped

    near_Sk, likeness_Sk = work.neighbours()
    positions_S2 = lay_out_umap(
        near_Sk, 1 - likeness_Sk, scores_S2, epochs=plan.steps, seed=plan.seed, after_epoch=after_epoch
    )
    return work.turned(positions_S2)


def _tsne(work: _Work, scores_S2: NDArray[np.float32]) -> tuple[NDArray[np.float32], int, float | None]:
    """Return positions, the step reached and the divergence there."""
    features, plan = work.features, work.plan
    key = _key(work)
    state, divergence = _begun(features, key) or (None, None)
    tsne = Tsne(
        _graph(work),
        early=plan.early,
        threads=work.threads,
        learning_rate=None,
        start_S2=start_of_tsne(scores_S2, plan.seed),
        state=state,
    )
    if state:
        work.tell(Noticed(level="info", text=f"Going on at step {state.step:,} of {plan.steps:,}."))
    pace = Pace("laying out by t-SNE", plan.steps, "steps", work.tell, start=tsne.step)
    saved_at = time.monotonic()
    for divergence in tsne.blocks(plan.steps, BLOCK):
        is_over = work.should_stop() or tsne.step == plan.steps
        if is_over or time.monotonic() - saved_at >= SAVE_EVERY_S:
            _save_state(features, tsne.state, divergence, key)
            so_far_S2 = work.turned(tsne.state.positions_S2)
            write_array(so_far_path(features.folder), spread(features, work.rows_S, so_far_S2))
            saved_at = time.monotonic()
        pace.reached(tsne.step, f"divergence {divergence:.3f}")
        if is_over:
            break
    return work.turned(tsne.state.positions_S2), tsne.step, divergence


def _graph(work: _Work) -> "scipy.sparse.csr_matrix":
    near_Sk, likeness_Sk = work.neighbours()
    return affinities(near_Sk, chord(likeness_Sk), work.plan.perplexity, work.threads)


def _key(work: _Work) -> str:
    """A digest of all that decides the steps of a t-SNE but its number of threads."""
    assert work.table is not None, "a table of neighbours"
    deciding = (work.features.key, work.plan, work.table.about)
    return hashlib.blake2b(repr(deciding).encode(), digest_size=16).hexdigest()


def _state_path(features: FeatureSet) -> Path:
    return features.folder / "map-tsne.state.npz"


def _save_state(features: FeatureSet, state: TsneState, divergence: float, key: str) -> None:
    def write(file: BinaryIO) -> None:
        np.savez(
            file,
            key=np.array(key),
            step=np.array(state.step),
            divergence=np.array(divergence),
            positions=state.positions_S2,
            update=state.update_S2,
            gains=state.gains_S2,
        )

    write_atomically(_state_path(features), write)


def _begun(features: FeatureSet, key: str) -> tuple[TsneState, float] | None:
    """Return the state that an earlier process left, with its divergence, if it was of the very same map."""
    damaged = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
    with (
        contextlib.suppress(*damaged),
        _state_path(features).open("rb") as file,  # NumPy leaves it open where it is damaged
        np.load(file, allow_pickle=False) as kept,
    ):
        if str(kept["key"]) == key:
            state = TsneState(int(kept["step"]), kept["positions"], kept["update"], kept["gains"])
            return state, float(kept["divergence"])
    return None


def _clear(features: FeatureSet, plan: MapPlan, *, is_stopped: bool) -> None:
    """Take away what was for the making; the state stays where there is more to do."""
    if plan.method == "tsne":
        so_far_path(features.folder).unlink(missing_ok=True)
        if not is_stopped:
            _state_path(features).unlink(missing_ok=True)
