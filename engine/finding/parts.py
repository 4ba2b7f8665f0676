"""Search by a part: in which pictures of a set, and where in them, a part of another picture is found.

`make_part_index` puts the patches of all pictures into an inverted file of product-quantised vectors (Jégou et al.
2011). A search asks it for the nearest patches of a few patches of the part, which name the pictures to look at; in
these the part is then laid on every place, with the features as they were kept, and the place where patch by patch the
cosine is largest on average is the answer. All cosines are between features less the mean of all patches, which they
share and which tells nothing apart.

A set's folder holds ``parts.faiss``, the index; ``parts-mean.npy``; and ``parts.json``, written last. Relies on faiss,
which is loaded where it is used.

Letters after a name are its axes:
    P patches · B patches of a block · Q patches asked about · N rows of the set · W width of the backbone
    k neighbours · R C rows and columns of patches of a picture · r c of a template
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from engine.errors import BadInput, Stopped
from engine.finding.faiss_files import read_index, write_index
from engine.finding.vectors import centred
from engine.protocol import Tell
from engine.records import read_record, write_array, write_record
from engine.sets import FeatureSet
from engine.store import clear_temporaries, replace, sole_writer, sync_folder
from engine.templates import Template, Templates
from engine.timing import Pace

if TYPE_CHECKING:
    import faiss

INDEX, MEAN, ABOUT = "parts.faiss", "parts-mean.npy", "parts.json"
PART_INDEX = "parts.part.faiss"
PART_ABOUT = "parts.part.json"

EXACT_UP_TO = 50_000
"""Patches that are compared with all others; an index needs some to learn from."""
LISTS_PER_ROOT = 4
MOST_LISTS = 1 << 14
"""Lists of the inverted file: four times the square root of the patches, as faiss advises; each needs 39 patches to
learn from (``faiss.ClusteringParameters.min_points_per_centroid``)."""
LEARN_FROM_EACH = 39
MOST_CODES = 64
CODE_WIDTH = 4
"""Bytes of a code, one for every four dimensions and at most 64: what the exact comparison afterwards needs to begin
with."""
MEAN_SAMPLE = 200_000  # patches whose mean is taken: its error is below a hundredth of their spread
BLOCK_PATCHES = 100_000
"""Patches that are added at once, by whole pictures: half a gigabyte where the backbone is 384 wide. A thousand
pictures of 42 x 63 patches would be 8."""
SAVE_EVERY = 4_000_000  # patches added between two savings, at most what a kill costs: about a minute
SEED = 0

LISTS_LOOKED_AT = 16
NEIGHBOURS = 256
"""Lists of up to `MOST_LISTS` that a search looks at, and patches that vote for their pictures, for each patch asked
about. On 3,781 photos: 95 % of the pictures a part came from are first after the exact comparison."""
MOST_ASKED = 32  # patches of a template that are asked about, spread over it
SHORTLIST = 60  # pictures in which the part is laid on every place, at least
"""On 3,781 photos: 98 % of the pictures a part came from are among 60, 93 % among 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsAbout:
    """How an index of patches was made."""

    made_from: str
    patches: int
    lists: int
    codes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFound:
    """Where a part was found.

    Args:
        row: of the set.
        likeness: mean cosine of its patches with those they lie on, -1 to 1.
        box: top, left, bottom and right, in patches of the picture from its top left; may end within a patch.
        is_mirrored: it was found with left and right changed.
    """

    row: int
    likeness: float
    box: tuple[float, float, float, float]
    is_mirrored: bool


def make_part_index(
    features: FeatureSet, tell: Tell, should_stop: Callable[[], bool] = lambda: False, *, again: bool = False
) -> PartsAbout:
    """Make the index of the patches of a set, or go on with it where that was cut off; do nothing if it is there.

    Raises:
        BadInput: the set holds no patches.
        DiskFull: there is no room.
        Stopped: as asked; the finished blocks are kept.
    """
    if not again and (there := current_parts(features)):
        return there
    folder, seen = features.folder, _seen(features)
    n_patches = int(_counts(features)[seen].sum())
    if not n_patches:
        raise BadInput("No patches of pictures were kept in this set.", "Keep some: engine embed PROJECT --patches.")
    about = _settled(features, n_patches)
    with sole_writer(folder, "writes the set"):
        _begin(folder, about, again=again)
        if not _is_whole(folder):
            mean_W = _mean(features, seen)
            write_array(folder / MEAN, mean_W)
            index = _half_made(folder)
            if index is None:
                index = _learnt(features, seen, mean_W, about)
                _keep(index, folder, about)
            _add_rest(index, features, seen, mean_W, about, tell, should_stop)
            _keep(index, folder, about)
            (folder / ABOUT).unlink(missing_ok=True)  # what it says is not of the file that comes now
            sync_folder(folder)
            replace(folder / PART_INDEX, folder / INDEX)
        write_record(folder / ABOUT, about)
        (folder / PART_ABOUT).unlink()
        sync_folder(folder)
    return about


def current_parts(features: FeatureSet) -> PartsAbout | None:
    """Return how the index of a set's patches was made, None where there is none of the features of now."""
    return features.current(ABOUT, PartsAbout)


def _seen(features: FeatureSet) -> NDArray[np.intp]:
    return np.flatnonzero(features.is_seen_N & (_counts(features) > 0))


def _counts(features: FeatureSet) -> NDArray[np.int64]:
    """Return how many patches each row has."""
    return features.rows["grid_rows"].astype(np.int64) * features.rows["grid_cols"]


def _settled(features: FeatureSet, n_patches: int) -> PartsAbout:
    """Choose the sizes of the index; no lists and no codes where every patch is compared."""
    if n_patches <= EXACT_UP_TO:
        return PartsAbout(made_from=features.key, patches=n_patches, lists=0, codes=0)
    lists = min(MOST_LISTS, 1 << round(np.log2(LISTS_PER_ROOT * n_patches**0.5)), n_patches // LEARN_FROM_EACH)
    width = features.plan.width
    codes = next(n for n in range(min(MOST_CODES, max(1, width // CODE_WIDTH)), 0, -1) if width % n == 0)
    return PartsAbout(made_from=features.key, patches=n_patches, lists=lists, codes=codes)


def _mean(features: FeatureSet, seen: NDArray[np.intp]) -> NDArray[np.float32]:
    return _sample(features, seen, MEAN_SAMPLE).mean(axis=0, dtype=np.float64).astype(np.float32)


def _sample(features: FeatureSet, seen: NDArray[np.intp], n: int) -> NDArray[np.float32]:
    """Return about ``n`` patches of all pictures, spread evenly among them."""
    counts = _counts(features)[seen]
    ends = np.cumsum(counts)
    chosen = np.unique(np.linspace(0, ends[-1] - 1, min(n, int(ends[-1]))).astype(np.int64))
    of_row = np.searchsorted(ends, chosen, side="right")
    places = features.rows["first_patch"][seen][of_row] + chosen - (ends - counts)[of_row]
    places.sort()
    sample_PW = np.empty((len(places), features.plan.width), np.float32)
    for first in range(0, len(places), BLOCK_PATCHES):
        block = slice(first, first + BLOCK_PATCHES)
        sample_PW[block] = features.patches_PW[places[block]]
    return sample_PW


def _begin(folder: Path, about: PartsAbout, *, again: bool) -> None:
    """Take away what is left of a half-made index of other patches or settings, and of files cut off in writing."""
    for name in (PART_INDEX, PART_ABOUT, MEAN, ABOUT):
        clear_temporaries(folder / name)
    if again or read_record(folder / PART_ABOUT, PartsAbout) != about:
        (folder / PART_ABOUT).unlink(missing_ok=True)
        sync_folder(folder)
        (folder / PART_INDEX).unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    """Tell whether a kill hit after the whole index had got its name and before the end."""
    there = [(folder / name).exists() for name in (PART_ABOUT, INDEX, PART_INDEX, ABOUT)]
    return there == [True, True, False, False]


def _half_made(folder: Path) -> "faiss.Index | None":
    """Return the index that a killed process left."""
    with contextlib.suppress(BadInput):  # it is not there, or damaged
        return read_index(folder / PART_INDEX)
    return None


def _learnt(
    features: FeatureSet, seen: NDArray[np.intp], mean_W: NDArray[np.float32], about: PartsAbout
) -> "faiss.Index":
    """Return an empty index that knows how patches lie."""
    import faiss

    if not about.lists:
        return faiss.index_factory(features.plan.width, "IDMap2,Flat", faiss.METRIC_INNER_PRODUCT)
    recipe = f"IVF{about.lists},PQ{about.codes}"
    index = faiss.index_factory(features.plan.width, recipe, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = SEED
    sample_PW = _sample(features, seen, max(LEARN_FROM_EACH * about.lists, EXACT_UP_TO))
    for first in range(0, len(sample_PW), BLOCK_PATCHES):
        block = slice(first, first + BLOCK_PATCHES)
        sample_PW[block] = centred(sample_PW[block], mean_W)
    index.train(sample_PW)
    return index


def _add_rest(
    index: "faiss.Index",
    features: FeatureSet,
    seen: NDArray[np.intp],
    mean_W: NDArray[np.float32],
    about: PartsAbout,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> None:
    """Add the patches that are not in the index yet, in the order of rows; save it now and then."""
    pace = Pace("indexing patches", about.patches, "patches", tell, start=index.ntotal)
    saved, passed = index.ntotal, 0
    for whole_B in _blocks(features, seen):
        places_B = whole_B[max(0, index.ntotal - passed) :]  # less what is there, by whatever blocks it was added
        passed += len(whole_B)
        if not len(places_B):
            continue
        index.add_with_ids(centred(features.patches_PW[places_B].astype(np.float32), mean_W), places_B)
        pace.reached(index.ntotal)
        is_last = index.ntotal == about.patches
        is_stopped = should_stop() and not is_last
        if is_stopped or (index.ntotal - saved >= SAVE_EVERY and not is_last):
            _keep(index, features.folder, about)
            saved = index.ntotal
        if is_stopped:
            raise Stopped


def _blocks(features: FeatureSet, seen: NDArray[np.intp]) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the patches of some pictures after the other; all that begin in the same `BLOCK_PATCHES`."""
    counts = _counts(features)[seen]
    block_of = (np.cumsum(counts) - counts) // BLOCK_PATCHES
    for of_block in np.split(np.arange(len(seen)), np.flatnonzero(np.diff(block_of)) + 1):
        starts = features.rows["first_patch"][seen[of_block]]
        yield np.concatenate([np.arange(start, start + n) for start, n in zip(starts, counts[of_block], strict=True)])


def _keep(index: "faiss.Index", folder: Path, about: PartsAbout) -> None:
    write_index(folder / PART_INDEX, index)
    write_record(folder / PART_ABOUT, about)


def _opened(features: FeatureSet, about: PartsAbout, mean_W: NDArray[np.float32]) -> "faiss.Index":
    """Return the index of a set; one that compares all patches holds nothing but them, and is made of them if absent.

    Raises:
        BadInput: it is not there, or damaged.
    """
    if about.lists or (features.folder / INDEX).exists():
        return read_index(features.folder / INDEX)
    seen = _seen(features)
    index = _learnt(features, seen, mean_W, about)
    for places_B in _blocks(features, seen):
        index.add_with_ids(centred(features.patches_PW[places_B].astype(np.float32), mean_W), places_B)
    return index


class PartSearcher:
    """An index of patches that is open for searching."""

    def __init__(self, features: FeatureSet) -> None:
        """Open the index of a set.

        Raises:
            BadInput: it has none, or one of other features than it holds now.
        """
        about = features.made(ABOUT, PartsAbout, "index of patches", "engine index PROJECT")
        import faiss

        self._features = features
        self._mean_W: NDArray[np.float32] = np.load(features.folder / MEAN, allow_pickle=False)
        self._index = _opened(features, about, self._mean_W)
        if isinstance(self._index, faiss.IndexIVF):
            self._index.nprobe = LISTS_LOOKED_AT
        seen = _seen(features)
        by_place = seen[np.argsort(features.rows["first_patch"][seen], kind="stable")]
        self._rows_by_place, self._first_by_place = by_place, features.rows["first_patch"][by_place]

    def search(self, templates: Templates, k: int) -> list[PartFound]:
        """Return where a part is found in the ``k`` pictures that hold it best, best first.

        Raises:
            BadInput: it was seen by a backbone of another width.
        """
        width = self._features.plan.width
        if templates.all[0].patches_RCW.shape[-1] != width:
            raise BadInput(
                f"This part has features of width {templates.all[0].patches_RCW.shape[-1]}, the set of {width}.",
                "See it with the backbone of the set.",
            )
        # Patches that are no part are zero: they have no likeness to anything, and are not counted.
        ready = [
            (template, centred(template.patches_RCW, self._mean_W) * template.is_part_RC[..., None])
            for template in templates.all
        ]
        found = [self._laid_on(int(row), ready) for row in self._shortlist(ready, max(SHORTLIST, k))]
        return sorted((part for part in found if part), key=lambda part: (-part.likeness, part.row))[:k]

    def _shortlist(self, ready: Sequence[tuple[Template, NDArray[np.float32]]], n: int) -> NDArray[np.intp]:
        """Return the rows of the pictures whose patches are nearest to those of the part, best first.

        Every patch asked about gives each picture what its best patch is above the last of all neighbours. The showings
        of a middle scale are asked about, as it is nearest to most sizes.
        """
        scales = sorted({template.scale for template, _ in ready})
        scores_N = np.zeros(len(self._features))
        for template, patches_rcW in ready:
            if template.scale != scales[len(scales) // 2]:
                continue
            patches_QW = patches_rcW[template.is_part_RC]
            chosen = np.unique(np.linspace(0, len(patches_QW) - 1, min(MOST_ASKED, len(patches_QW))).astype(int))
            np.maximum(scores_N, self._votes(patches_QW[chosen]), out=scores_N)
        best = np.argsort(-scores_N, kind="stable")[:n]
        return best[scores_N[best] > 0]

    def _votes(self, patches_QW: NDArray[np.float32]) -> NDArray[np.float64]:
        likeness_Qk, places_Qk = self._index.search(patches_QW, min(NEIGHBOURS, self._index.ntotal))
        is_there_Qk = places_Qk >= 0
        floor_Q1 = np.where(is_there_Qk, likeness_Qk, np.inf).min(axis=1, keepdims=True)
        above_Qk = np.where(is_there_Qk, likeness_Qk - floor_Q1 + np.finfo(np.float32).eps, 0)
        of_place_Qk = np.searchsorted(self._first_by_place, places_Qk, side="right") - 1
        rows_Qk = self._rows_by_place[np.maximum(of_place_Qk, 0)]
        votes_N = np.zeros(len(self._features))
        for rows_k, above_k in zip(rows_Qk, above_Qk, strict=True):
            rows, first = np.unique(rows_k, return_index=True)  # neighbours come nearest first
            votes_N[rows] += above_k[first]
        return votes_N

    def _laid_on(self, row: int, ready: Sequence[tuple[Template, NDArray[np.float32]]]) -> PartFound | None:
        """Return the best place of the part in a picture, over all its showings; None where it is larger than that."""
        patches_RCW = centred(self._features.patches_of(row).astype(np.float32), self._mean_W)
        best: PartFound | None = None
        for template, patches_rcW in ready:
            if any(here > there for here, there in zip(patches_rcW.shape[:2], patches_RCW.shape[:2], strict=True)):
                continue
            counted = int(template.is_part_RC.sum())
            likeness, (top, left) = _best_place(likeness_of_places(patches_RCW, patches_rcW, counted))
            if best is None or likeness > best.likeness:
                above, before, below, after = template.edges
                best = PartFound(
                    row=row,
                    likeness=likeness,
                    box=(top + above, left + before, top + below, left + after),
                    is_mirrored=template.is_mirrored,
                )
        return best


def likeness_of_places(
    patches_RCW: NDArray[np.float32], template_rcW: NDArray[np.float32], counted: int
) -> NDArray[np.float32]:
    """Return the mean cosine of a template with what it lies on, for each place of it in a picture.

    Args:
        patches_RCW: of the picture, of length 1.
        template_rcW: no larger, of length 1, or zero where they are not counted.
        counted: patches of the template that are.

    Returns:
        float32 (R - r + 1, C - c + 1).
    """
    rows, cols, width = patches_RCW.shape
    high, wide, _ = template_rcW.shape
    cosines = patches_RCW.reshape(-1, width) @ template_rcW.reshape(-1, width).T
    cosines_RCrc = cosines.reshape(rows, cols, high, wide)
    down, right, in_down, in_right = cosines_RCrc.strides
    # [y, x, r, c] of the view is the cosine of template patch (r, c) with picture patch (y + r, x + c).
    diagonals = as_strided(
        cosines_RCrc,
        (rows - high + 1, cols - wide + 1, high, wide),
        (down, right, down + in_down, right + in_right),
        writeable=False,
    )
    return np.asarray(diagonals.sum(axis=(2, 3), dtype=np.float32) / counted)


def _best_place(likeness_YX: NDArray[np.float32]) -> tuple[float, tuple[float, float]]:
    """Return the largest likeness and where it is, between places too: a parabola through it and its neighbours."""
    y, x = np.unravel_index(int(likeness_YX.argmax()), likeness_YX.shape)
    down = _summit(likeness_YX[:, x], int(y))
    across = _summit(likeness_YX[y], int(x))
    return float(likeness_YX[y, x]), (float(y + down), float(x + across))


def _summit(likeness: NDArray[np.float32], at: int) -> float:
    """Return how far from a largest value the summit of the parabola through it lies, -0.5 to 0.5."""
    if not 0 < at < len(likeness) - 1:
        return 0.0
    before, here, after = (float(value) for value in likeness[at - 1 : at + 2])
    bend = before - 2 * here + after
    return 0.0 if bend >= 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))
