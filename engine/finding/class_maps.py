"""Makes the map of a set's classes, one position a class, as in appendix H of DINO's paper.

`engine.finding.class_map_files` keeps it.

Letters after a name are its axes:
    N rows of the set · L rows with a label · B rows of a block · C classes · D width of a vector · K components ·
    k neighbours · 2 the plane
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe
from engine.finding.aligning import lay_onto
from engine.finding.class_map_files import ClassMap, ClassMapAbout, keep_class_map, kept_class_map
from engine.finding.labels import key_with_labels, label_codes
from engine.finding.maps import clamped
from engine.finding.projections import NEIGHBOURS_PER_PERPLEXITY, Tsne, affinities, start_of_tsne
from engine.finding.vectors import BLOCK_BYTES
from engine.protocol import Tell
from engine.sets import FeatureSet
from engine.store import sole_writer
from engine.timing import Pace

COMPONENTS, PERPLEXITY, RATE, STEPS = 30, 20.0, 200.0, 5000
"""DINO, Caron et al. 2021, appendix H. The learning rate is as openTSNE counts it."""
EARLY = 250  # exaggerated steps among them; openTSNE's default
BLOCK = 250  # steps between two looks at Stop
LEAST = 4  # classes that can be laid out by their neighbours


def make_class_map(
    features: FeatureSet,
    labels: Mapping[int, str],
    tell: Tell,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    seed: int = 0,
    perplexity: float | None = None,
    steps: int | None = None,
) -> ClassMap:
    """Lay out the classes by the means of their features: principal components, then t-SNE.

    It is turned to lie on the one before it, by the names of the classes.

    Args:
        features: the set.
        labels: class of each picture by its id; pictures without one do not count.
        tell: is told of the progress, and that the perplexity was lowered where there are few classes.
        should_stop: asked every `BLOCK` steps; the map so far is then kept.
        seed: of the start.
        perplexity: `PERPLEXITY` where absent.
        steps: `STEPS` where absent.

    Raises:
        BadInput: there are fewer than `LEAST` classes.
        BadRecipe: a value is out of its range.
        Busy: another process writes the set.
        DiskFull: there is no room; the map before is intact.

    Source: DINO, Caron et al. 2021, appendix H.
    """
    if steps is not None and steps < 1:
        raise BadRecipe(f"{steps} steps cannot be made.", "Choose 1 or more.")
    steps = steps or STEPS
    names, codes_N = label_codes(features, labels)
    if len(names) < LEAST:
        raise BadInput(
            f"The pictures have {len(names)} different labels; a map of classes takes {LEAST} or more.",
            "Labels are the names of sub-folders; see engine scan --help.",
        )
    perplexity, notices = clamped(perplexity, PERPLEXITY, len(names) - 1, "classes", len(names))
    for notice in notices:
        tell(notice)
    with sole_writer(features.folder, "writes the set"):
        means_CD, counts_C = _class_means(features, codes_N, len(names))
        reduced_CK = _reduced(means_CD)
        positions_C2, step, divergence = _laid_out(reduced_CK, perplexity, steps, seed, tell, should_stop)
        about = ClassMapAbout(
            made_from=key_with_labels(features, labels),
            names=tuple(names),
            counts=tuple(int(count) for count in counts_C),
            nearest=tuple(int(features.ids_N[row]) for row in _nearest_to(means_CD, features, codes_N)),
            perplexity=perplexity,
            components=reduced_CK.shape[1],
            steps=steps,
            step=step,
            seed=seed,
            divergence=divergence,
        )
        return keep_class_map(features, about, _onto_the_last(features, names, positions_C2))


def _onto_the_last(features: FeatureSet, names: list[str], positions_C2: NDArray[np.float64]) -> NDArray[np.float32]:
    """Turn the map to lie on the one that is there, by the classes that both have."""
    before = kept_class_map(features)
    places = {name: place for place, name in enumerate(before.about.names)} if before else {}
    ours = np.array([place for place, name in enumerate(names) if name in places], np.intp)
    theirs = np.array([places[name] for name in names if name in places], np.intp)
    return lay_onto(positions_C2, ours, before.positions_C2[theirs] if before else np.empty((0, 2)))


def _class_means(
    features: FeatureSet, codes_N: NDArray[np.int32], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean of the features of each class and how many pictures it is of."""
    import scipy.sparse

    labelled_L = np.flatnonzero(codes_N >= 0)
    sums_CD = np.zeros((n_classes, features.vectors_ND.shape[1]))
    step = max(1, BLOCK_BYTES // (8 * features.vectors_ND.shape[1]))
    for first in range(0, len(labelled_L), step):
        rows_B = labelled_L[first : first + step]
        which = (codes_N[rows_B], np.arange(len(rows_B)))
        picked_CB = scipy.sparse.csr_matrix((np.ones(len(rows_B)), which), shape=(n_classes, len(rows_B)))
        sums_CD += picked_CB @ features.vectors_ND[rows_B].astype(np.float64)
    counts_C = np.bincount(codes_N[labelled_L], minlength=n_classes)
    return sums_CD / counts_C[:, None], counts_C


def _nearest_to(means_CD: NDArray[np.float64], features: FeatureSet, codes_N: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the row of each class that is nearest to its mean; the first of equals."""
    labelled_L = np.flatnonzero(codes_N >= 0)
    distances_L = np.empty(len(labelled_L))
    step = max(1, BLOCK_BYTES // (8 * means_CD.shape[1]))
    for first in range(0, len(labelled_L), step):
        rows_B = labelled_L[first : first + step]
        distances_L[first : first + step] = np.linalg.norm(
            features.vectors_ND[rows_B] - means_CD[codes_N[rows_B]], axis=1
        )
    order = np.lexsort((labelled_L, distances_L, codes_N[labelled_L]))
    firsts = np.unique(codes_N[labelled_L][order], return_index=True)[1]
    return labelled_L[order][firsts]


def _reduced(means_CD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal components of the means; each axis' largest loading is positive."""
    n = min(COMPONENTS, len(means_CD) - 1, means_CD.shape[1])
    left_CC, lengths_C, axes_CD = np.linalg.svd(means_CD - means_CD.mean(axis=0), full_matrices=False)
    largest = axes_CD[np.arange(len(axes_CD)), np.abs(axes_CD).argmax(axis=1)]
    return np.asarray((left_CC * lengths_C * np.where(largest < 0, -1.0, 1.0))[:, :n])


def _laid_out(
    reduced_CK: NDArray[np.float64],
    perplexity: float,
    steps: int,
    seed: int,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> tuple[NDArray[np.float64], int, float]:
    """Return positions, the step reached and the divergence there."""
    from scipy.spatial import KDTree

    k = min(len(reduced_CK) - 1, int(NEIGHBOURS_PER_PERPLEXITY * perplexity))
    far_Ck, near_Ck = KDTree(reduced_CK).query(reduced_CK, k + 1)
    near_Ck, far_Ck = near_Ck[:, 1:].astype(np.int32), far_Ck[:, 1:].astype(np.float32)
    start_C2 = np.pad(reduced_CK, ((0, 0), (0, 1)))[:, :2].astype(np.float32)
    tsne = Tsne(
        affinities(near_Ck, far_Ck, perplexity, 1),
        early=min(EARLY, steps),
        threads=1,
        learning_rate=RATE,
        start_S2=start_of_tsne(start_C2, seed),
    )
    pace = Pace("laying out classes by t-SNE", steps, "steps", tell)
    divergence = float("nan")
    for divergence in tsne.blocks(steps, BLOCK):
        pace.reached(tsne.step, f"divergence {divergence:.3f}")
        if should_stop():
            break
    return tsne.state.positions_S2.copy(), tsne.step, divergence
