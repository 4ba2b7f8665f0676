"""New pictures added to a map, on which the others stay exactly where they are.

Letters after a name are its axes:
    N rows of the set · S rows that stay · Q rows to be placed · k neighbours · 2 the plane
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import MAP_METHODS
from engine.errors import BadInput
from engine.finding.aligning import centred, in_common, turn
from engine.finding.faithfulness import faithfulness
from engine.finding.map_files import Method, PictureMap, check_finite, keep_map, read_any_map, spread
from engine.finding.projections import (
    NEIGHBOURS_PER_PERPLEXITY,
    PLACE_PERPLEXITY,
    in_the_plane,
    nearest_among,
    place_among,
    principal_components,
)
from engine.sets import FeatureSet
from engine.store import sole_writer


def place(
    features: FeatureSet, method: Method, *, threads: int = 1, labels_N: NDArray[np.int32] | None = None
) -> tuple[PictureMap, int]:
    """Add the pictures that came or changed since a map was made; the others stay exactly where they are.

    Pictures that went leave the map.

    Returns:
        The map of the set as it is now, and how many pictures were placed.

    Raises:
        BadInput: there is no map, or none of its pictures is left.
        Busy: another process writes the set.
        DiskFull: there is no room; the map is intact.
        Diverged: positions are not finite; the map is intact.
    """
    with sole_writer(features.folder, "writes the set"):
        return _place(features, method, threads, labels_N)


def _place(
    features: FeatureSet, method: Method, threads: int, labels_N: NDArray[np.int32] | None
) -> tuple[PictureMap, int]:
    old = read_any_map(features, method)
    stay_S, come_Q, positions_S2 = _sorted_out(features, old)
    if not len(stay_S):
        raise BadInput(
            f"None of the pictures on the {MAP_METHODS[method].title} map is left.",
            f"Make it again: engine map PROJECT --method {method}",
        )
    positions_N2 = spread(features, stay_S, positions_S2)
    if len(come_Q):
        positions_N2[come_Q] = _placed(features, method, stay_S, come_Q, positions_S2, threads)
    rows_S = np.flatnonzero(features.is_seen_N)
    check_finite(positions_N2[rows_S], method)
    measures = faithfulness(
        features.vectors_ND, rows_S, positions_N2[rows_S], None if labels_N is None else labels_N[rows_S]
    )
    about = replace(old.about, made_from=features.key, measures=measures, n_placed=old.about.n_placed + len(come_Q))
    return keep_map(features, about, positions_N2), len(come_Q)


def _sorted_out(
    features: FeatureSet, old: PictureMap
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the rows of pictures that stay, those of pictures that come, and the positions of the former."""
    ours, theirs = in_common(features.ids_N, old)
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
        mean_2, target = centred(positions_S2)
        scores_S2 = in_the_plane(features.vectors_ND, stay_S, components)
        offset_2, here = centred(scores_S2)
        scores_Q2 = in_the_plane(features.vectors_ND, come_Q, components)
        return ((scores_Q2 - offset_2) @ turn(here, target) + mean_2).astype(np.float32)
    k = int(NEIGHBOURS_PER_PERPLEXITY * PLACE_PERPLEXITY)
    near_Qk, likeness_Qk = nearest_among(features.vectors_ND, come_Q, stay_S, k)
    return place_among(positions_S2, near_Qk, likeness_Qk, is_tsne=method == "tsne", threads=threads)
