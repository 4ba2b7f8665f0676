"""Maps of a set: where every picture lies in the plane, kept beside the features.

    sets/0001/
      map-tsne.npy         (N, 2) float32, one row a picture; NaN where it was not seen
      map-tsne.rows.npy    which picture of what contents each row was when the map was made
      map-tsne.json        how it was made; taken away first and written last, without it the others do not count
      map-tsne.part.npy    while it is being made: the positions so far, for those who watch
      map-tsne.state.npz   all that the next step depends on; kept when stopped, so that it can be gone on with

A map turns and shifts to lie on the one before it. Needs the table of neighbours (``engine.finding.index``) but for
principal components.

Letters after a name are its axes:
    N rows of the set · S rows that were seen · Q rows to be placed · k neighbours · K components · 2 the plane
"""

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engine.catalogue import MAP_METHODS
from engine.errors import BadInput, BadRecipe, Stopped
from engine.finding.faithfulness import Faithfulness, faithfulness
from engine.finding.neighbours import NeighbourTable
from engine.finding.projections import (
    NEIGHBOURS_PER_PERPLEXITY,
    PLACE_PERPLEXITY,
    Tsne,
    TsneState,
    affinities,
    chord,
    lay_out_umap,
    nearest_among,
    place_among,
    principal_components,
    projected,
    start_of_tsne,
)
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet
from engine.store import write_atomically
from engine.timing import Pace

if TYPE_CHECKING:
    import scipy.sparse

Method = Literal["tsne", "umap", "pca"]

PERPLEXITY = 30.0  # openTSNE's default
EARLY, STEPS = 250, 750  # openTSNE's defaults: exaggerated steps, and all of them
MANY, EARLY_OF_MANY, STEPS_OF_MANY = 200_000, 125, 375
"""Pictures above which half the steps are made: the learning rate grows with their number (Belkina et al. 2019)."""
BLOCK = 25  # steps between two looks at Stop
SAVE_EVERY_S = 1.0  # least time between two savings of the state: what a kill costs, or one block where that is longer
UMAP_NEIGHBOURS = 15  # umap-learn's default, the picture itself counted
EPOCHS, EPOCHS_OF_MANY, FEW_FOR_UMAP = 500, 200, 10_000  # umap-learn's rule in ``simplicial_set_embedding``
LEAST = 4  # pictures or classes that can be laid out by their neighbours
LEAST_COMMON = 3  # pictures by which one map can be laid on another
SAME = 1e-5  # share of its radius within which a map counts as the one before

MAP_ROW = np.dtype([("id", "<i8"), ("hash", "<u8", (2,))])


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPlan:
    """What determines a map of given features.

    Args:
        method: a row of ``catalogue.MAP_METHODS``.
        seed: of all that is drawn.
        steps: of t-SNE, or epochs of UMAP; 0 for principal components.
        early: steps with exaggeration.
        perplexity: of t-SNE, 0 elsewhere.
        neighbours: of each picture that count.
    """

    method: Method
    seed: int
    steps: int = 0
    early: int = 0
    perplexity: float = 0.0
    neighbours: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MapAbout:
    """How a map was made.

    Args:
        made_from: key of the set.
        plan: what was asked.
        step: the one it was stopped at, or the last.
        divergence: Kullback-Leibler, of t-SNE.
        shares: of the variance along the two axes, of principal components.
        measures: what it keeps of the features' neighbourhoods; None where there are too few pictures.
        aligned_to: set whose map it was turned to, empty for none.
        n_placed: pictures placed after it was made.
    """

    made_from: str
    plan: MapPlan
    step: int
    divergence: float | None = None
    shares: tuple[float, float] | None = None
    measures: Faithfulness | None = None
    aligned_to: str = ""
    n_placed: int = 0

    @property
    def is_stopped(self) -> bool:
        """It was stopped before the last step."""
        return self.step < self.plan.steps


@dataclass(frozen=True, slots=True, eq=False)
class PictureMap:
    """A map as it is kept; ``rows`` of ``MAP_ROW`` say which picture each position is of."""

    about: MapAbout
    positions_N2: NDArray[np.float32]
    rows: NDArray[np.void]

    @property
    def is_on_N(self) -> NDArray[np.bool_]:
        """True where a picture lies on the map."""
        return ~np.isnan(self.positions_N2[:, 0])


def read_map(features: FeatureSet, method: Method) -> PictureMap:
    """Open the map of a set.

    Raises:
        BadInput: there is none, or it is of other features than the set holds now.
    """
    found = _kept(features.folder, method)
    remake = f"engine map PROJECT --method {method}"
    if found is None:
        raise BadInput(
            f"The set '{features.folder.name}' has no {MAP_METHODS[method].title} map.", f"Make it: {remake}"
        )
    if found.about.made_from != features.key:
        raise BadInput(
            f"The {MAP_METHODS[method].title} map of the set '{features.folder.name}' is out of date: "
            "pictures came, changed or went.",
            f"Make it again: {remake}; or add the new ones to it: {remake} --place",
        )
    return found


def read_any_map(features: FeatureSet, method: Method) -> PictureMap:
    """Open the map of a set even if it is out of date.

    Raises:
        BadInput: there is none.
    """
    found = _kept(features.folder, method)
    if found is None:
        read_map(features, method)
    assert found is not None, "read_map raises"
    return found


def _kept(folder: Path, method: str) -> PictureMap | None:
    """Return the map in a folder, None where there is none or not all of it."""
    try:
        about = TypeAdapter(MapAbout).validate_json((folder / f"map-{method}.json").read_bytes())
        positions_N2 = np.load(folder / f"map-{method}.npy", allow_pickle=False)
        rows = np.load(folder / f"map-{method}.rows.npy", allow_pickle=False)
    except (OSError, ValidationError, ValueError):
        return None
    return PictureMap(about, positions_N2, rows) if len(positions_N2) == len(rows) else None


def _keep(features: FeatureSet, about: MapAbout, positions_N2: NDArray[np.float32]) -> PictureMap:
    name = f"map-{about.plan.method}"
    rows = np.empty(len(features), MAP_ROW)
    rows["id"], rows["hash"] = features.rows["id"], features.rows["hash"]
    (features.folder / f"{name}.json").unlink(missing_ok=True)
    write_array(features.folder / f"{name}.npy", positions_N2)
    write_array(features.folder / f"{name}.rows.npy", rows)
    write_json(features.folder / f"{name}.json", TypeAdapter(MapAbout).dump_json(about, indent=1))
    return PictureMap(about, positions_N2, rows)


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an .npy file, whole or not at all."""
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))


def write_json(path: Path, written: bytes) -> None:
    """Write what pydantic made of a dataclass, whole or not at all."""
    write_atomically(path, lambda file: file.write(written))


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


def current_map(features: FeatureSet, plan: MapPlan) -> PictureMap | None:
    """Return the finished map of these features by this plan, None where it is not there."""
    found = _kept(features.folder, plan.method)
    if found is None or found.about.made_from != features.key or found.about.plan != plan or found.about.is_stopped:
        return None
    return found


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
        DiskFull: there is no room.
        Stopped: UMAP was asked to stop, which keeps nothing of it.
    """
    rows_S = np.flatnonzero(features.is_seen_N)
    if again and plan.method == "tsne":
        _state_path(features).unlink(missing_ok=True)
    work = _Work(features, rows_S, table, plan, tell, should_stop, threads, onto[1] if onto else None)
    components = principal_components(features.vectors_ND, rows_S, 2)
    scores_S2 = _two_columns(projected(features.vectors_ND, rows_S, components))
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
    labels_S = None if labels_N is None else labels_N[rows_S]
    about = replace(about, measures=faithfulness(features.vectors_ND, rows_S, positions_S2, labels_S, seed=plan.seed))
    made = _keep(features, about, _spread(features, rows_S, positions_S2))
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


def _two_columns(scores_SK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return two columns also where the features have one."""
    return np.pad(scores_SK, ((0, 0), (0, 2 - scores_SK.shape[1])))


def _spread(features: FeatureSet, rows_S: NDArray[np.intp], positions_S2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one row a picture of the set, NaN where it was not seen."""
    positions_N2 = np.full((len(features), 2), np.nan, np.float32)
    positions_N2[rows_S] = positions_S2
    return positions_N2


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
    while tsne.step < plan.steps:
        divergence = tsne.advance(_next_stop(tsne.step, plan))
        is_over = work.should_stop() or tsne.step == plan.steps
        if is_over or time.monotonic() - saved_at >= SAVE_EVERY_S:
            _save_state(features, tsne.state, divergence, key)
            so_far_S2 = work.turned(tsne.state.positions_S2)
            write_array(features.folder / "map-tsne.part.npy", _spread(features, work.rows_S, so_far_S2))
            saved_at = time.monotonic()
        pace.reached(tsne.step, f"divergence {divergence:.3f}")
        if is_over:
            break
    return work.turned(tsne.state.positions_S2), tsne.step, divergence


def _graph(work: _Work) -> "scipy.sparse.csr_matrix":
    near_Sk, likeness_Sk = work.neighbours()
    return affinities(near_Sk, chord(likeness_Sk), work.plan.perplexity, work.threads)


def _next_stop(step: int, plan: MapPlan) -> int:
    """Return the step to go on to: the end of a block, of the early part, or of all."""
    end = plan.early if step < plan.early else plan.steps
    return min((step // BLOCK + 1) * BLOCK, end)


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
    with contextlib.suppress(OSError, ValueError, KeyError), np.load(_state_path(features), allow_pickle=False) as kept:
        if str(kept["key"]) == key:
            state = TsneState(int(kept["step"]), kept["positions"], kept["update"], kept["gains"])
            return state, float(kept["divergence"])
    return None


def _clear(features: FeatureSet, plan: MapPlan, *, is_stopped: bool) -> None:
    """Take away what was for the making; the state stays where there is more to do."""
    if plan.method == "tsne":
        (features.folder / "map-tsne.part.npy").unlink(missing_ok=True)
        if not is_stopped:
            _state_path(features).unlink(missing_ok=True)


def laid_onto(
    reference: PictureMap, ids_S: NDArray[np.int64], positions_S2: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Turn, mirror and shift positions to lie on an earlier map as nearly as can be; their scale stays.

    A map that is the earlier one but for that becomes it exactly, so that repeating a map gives the same numbers.
    """
    ours, theirs = _common(ids_S, reference)
    return lay_onto(positions_S2, ours, reference.positions_N2[theirs])


def lay_onto(
    positions_S2: NDArray[np.floating], ours: NDArray[np.intp], targets: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Turn, mirror and shift positions so that those numbered ``ours`` lie as near to targets as can be.

    Source: orthogonal Procrustes, Schoenemann 1966.
    """
    if len(ours) < LEAST_COMMON:
        return positions_S2.astype(np.float32)
    target_2, target = _centred(targets)
    mean_2, centred = _centred(positions_S2[ours])
    laid_S2 = ((positions_S2 - mean_2) @ _turn(centred, target) + target_2).astype(np.float32)
    is_repeated = len(ours) == len(laid_S2) and np.allclose(
        laid_S2[ours], targets, rtol=0, atol=SAME * float(np.abs(target).max())
    )
    if is_repeated:
        laid_S2[ours] = targets
    return laid_S2


def _common(ids_S: NDArray[np.int64], reference: PictureMap) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the pictures that are on both stand among ``ids_S`` and among the rows of the reference."""
    on = np.flatnonzero(reference.is_on_N)
    _, ours, theirs = np.intersect1d(ids_S, reference.rows["id"][on], assume_unique=True, return_indices=True)
    return ours, on[theirs]


def _centred(positions: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    exact = positions.astype(np.float64)
    mean_2 = exact.mean(axis=0)
    return mean_2, exact - mean_2


def _turn(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotation, with a mirror if need be, that brings centred points nearest to others."""
    left, _, right = np.linalg.svd(ours.astype(np.float64).T @ theirs)
    return np.asarray(left @ right)


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """How far each picture that is on two maps moved, in shares of the radius of the second; largest first."""

    ids: NDArray[np.int64]
    shares: NDArray[np.float64]


def compare_maps(before: PictureMap, after: PictureMap) -> Movement:
    """Lay one map on another and return how far each picture then lies from where it lay.

    Raises:
        BadInput: the maps have too few pictures in common.
    """
    on = np.flatnonzero(after.is_on_N)
    ids_S, positions_S2 = after.rows["id"][on], after.positions_N2[on]
    ours, theirs = _common(ids_S, before)
    if len(ours) < LEAST_COMMON:
        raise BadInput(f"The two maps have only {len(ours)} pictures in common.", "Compare maps of the same project.")
    laid_S2 = laid_onto(before, ids_S, positions_S2)
    _, centred = _centred(laid_S2)
    radius = max(float(np.sqrt((centred**2).sum(axis=1).mean())), float(np.finfo(np.float32).tiny))
    shares = np.linalg.norm(laid_S2[ours] - before.positions_N2[theirs], axis=1).astype(np.float64) / radius
    order = np.argsort(-shares, kind="stable")
    return Movement(ids_S[ours][order], shares[order])


def place(
    features: FeatureSet, method: Method, *, threads: int = 1, labels_N: NDArray[np.int32] | None = None
) -> tuple[PictureMap, int]:
    """Add the pictures that came or changed since a map was made; the others stay exactly where they are.

    Pictures that went leave the map.

    Returns:
        The map of the set as it is now, and how many pictures were placed.

    Raises:
        BadInput: there is no map, or none of its pictures is left.
    """
    old = read_any_map(features, method)
    stay_S, come_Q, positions_S2 = _sorted_out(features, old)
    if not len(stay_S):
        raise BadInput(
            f"None of the pictures on the {MAP_METHODS[method].title} map is left.",
            f"Make it again: engine map PROJECT --method {method}",
        )
    positions_N2 = _spread(features, stay_S, positions_S2)
    if len(come_Q):
        positions_N2[come_Q] = _placed(features, method, stay_S, come_Q, positions_S2, threads)
    rows_S = np.flatnonzero(features.is_seen_N)
    measures = faithfulness(
        features.vectors_ND, rows_S, positions_N2[rows_S], None if labels_N is None else labels_N[rows_S]
    )
    about = replace(old.about, made_from=features.key, measures=measures, n_placed=old.about.n_placed + len(come_Q))
    return _keep(features, about, positions_N2), len(come_Q)


def _sorted_out(
    features: FeatureSet, old: PictureMap
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows of pictures that stay, those of pictures that come, and the positions of the former."""
    ours, theirs = _common(features.ids_N, old)
    is_same = (features.rows["hash"][ours] == old.rows["hash"][theirs]).all(axis=1) & features.is_seen_N[ours]
    stay = np.zeros(len(features), np.bool_)
    stay[ours[is_same]] = True
    return (
        np.flatnonzero(stay),
        np.flatnonzero(features.is_seen_N & ~stay),
        old.positions_N2[theirs[is_same]],
    )


def _placed(
    features: FeatureSet,
    method: Method,
    stay_S: NDArray[np.intp],
    come_Q: NDArray[np.intp],
    positions_S2: NDArray[np.float32],
    threads: int,
) -> NDArray[np.float32]:
    if method == "pca":
        components = principal_components(features.vectors_ND, stay_S, 2)
        mean_2, target = _centred(positions_S2)
        scores_S2 = _two_columns(projected(features.vectors_ND, stay_S, components))
        offset_2, centred = _centred(scores_S2)
        scores_Q2 = _two_columns(projected(features.vectors_ND, come_Q, components))
        return ((scores_Q2 - offset_2) @ _turn(centred, target) + mean_2).astype(np.float32)
    k = int(NEIGHBOURS_PER_PERPLEXITY * PLACE_PERPLEXITY)
    near_Qk, likeness_Qk = nearest_among(features.vectors_ND, come_Q, stay_S, k)
    return place_among(positions_S2, near_Qk, likeness_Qk, is_tsne=method == "tsne", threads=threads)
