"""Maps laid on each other: turned, mirrored and shifted, so that what moved can be told from what only turned.

Letters after a name are its axes:
    S rows that are on a map · 2 the plane
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.finding.map_files import PictureMap

LEAST_COMMON = 3  # pictures by which one map can be laid on another
SAME = 1e-5  # share of its radius within which a map counts as the one before


def laid_onto(
    reference: PictureMap, ids_S: NDArray[np.int64], positions_S2: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Turn, mirror and shift positions to lie on an earlier map as nearly as can be; their scale stays.

    A map that is the earlier one but for that becomes it exactly, so that repeating a map gives the same numbers.
    """
    ours, theirs = in_common(ids_S, reference)
    return lay_onto(positions_S2, ours, reference.positions_N2[theirs])


def lay_onto(
    positions_S2: NDArray[np.floating], ours: NDArray[np.intp], targets: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Turn, mirror and shift positions so that those numbered ``ours`` lie as near to targets as can be.

    Source: orthogonal Procrustes, Schoenemann 1966.
    """
    if len(ours) < LEAST_COMMON:
        return positions_S2.astype(np.float32)
    target_2, target = centred(targets)
    mean_2, here = centred(positions_S2[ours])
    laid_S2 = ((positions_S2 - mean_2) @ turn(here, target) + target_2).astype(np.float32)
    is_repeated = len(ours) == len(laid_S2) and np.allclose(
        laid_S2[ours], targets, rtol=0, atol=SAME * float(np.abs(target).max())
    )
    if is_repeated:
        laid_S2[ours] = targets
    return laid_S2


def in_common(ids_S: NDArray[np.int64], reference: PictureMap) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the pictures that are on both stand among ``ids_S`` and among the rows of the reference."""
    on = np.flatnonzero(reference.is_on_N)
    _, ours, theirs = np.intersect1d(ids_S, reference.rows["id"][on], assume_unique=True, return_indices=True)
    return ours, on[theirs]


def centred(positions: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of positions, (2,), and the positions less it, float64."""
    exact = positions.astype(np.float64)
    mean_2 = exact.mean(axis=0)
    return mean_2, exact - mean_2


def turn(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> NDArray[np.float64]:
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
    ours, theirs = in_common(ids_S, before)
    if len(ours) < LEAST_COMMON:
        raise BadInput(f"The two maps have only {len(ours)} pictures in common.", "Compare maps of the same project.")
    laid_S2 = laid_onto(before, ids_S, positions_S2)
    _, here = centred(laid_S2)
    radius = max(float(np.sqrt((here**2).sum(axis=1).mean())), float(np.finfo(np.float32).tiny))
    shares = np.linalg.norm(laid_S2[ours] - before.positions_N2[theirs], axis=1).astype(np.float64) / radius
    order = np.argsort(-shares, kind="stable")
    return Movement(ids_S[ours][order], shares[order])
