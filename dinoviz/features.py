"""What the window reads of a set of features, memory-mapped; never on the thread that paints.

Letters after a name are its axes: N pictures of the project's table · S rows of the set · D numbers of a vector.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinoviz.table import PictureTable
from engine.errors import BadInput, UserError
from engine.finding.cluster_files import METHODS, read_clusters
from engine.project import Project
from engine.sets import FeatureSet

BLOCK = 65_536
"""Vectors compared at once: some 100 MB of float32 at 384 numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRow:
    """A set of features: its number, folder, backbone, how many pictures were seen, and how they were shown."""

    number: int
    folder: Path
    model: str
    count: int
    about: str
    has_patches: bool


def read_sets(project: Project) -> tuple[SetRow, ...]:
    """Return the sets of a project, the one used last first; one that cannot be read is left out."""
    rows = []
    for number, model in project.sets():
        folder = project.folder / "sets" / f"{number:04d}"
        try:
            features = FeatureSet(folder)
            count = int(features.is_seen_N.sum())
        except (OSError, ValueError, RuntimeError):  # being made, or deleted by hand
            continue
        if count:
            plan = features.plan
            rows.append(
                SetRow(
                    number=number,
                    folder=folder,
                    model=model,
                    count=count,
                    about=plan.in_words(),
                    has_patches=plan.has_patches,
                )
            )
    return tuple(rows)


def likeness_to(picture: int, set_folder: Path, table: PictureTable) -> NDArray[np.float32] | None:
    """Return the cosine of every picture's vector with that of one picture, float32 (N,); NaN where there is none.

    None where the picture itself has no vector.
    """
    features = _opened(set_folder)
    ids_S, is_seen_S = features.ids_N, features.is_seen_N
    place = np.flatnonzero((ids_S == picture) & is_seen_S)
    if not len(place):
        return None
    query_D = np.array(features.vectors_ND[place[0]], np.float32)
    cosine_S = np.full(len(ids_S), np.nan, np.float32)
    for first in range(0, len(ids_S), BLOCK):
        vectors = np.asarray(features.vectors_ND[first : first + BLOCK], np.float32)
        norms = np.sqrt(np.einsum("sd,sd->s", vectors, vectors)) * np.linalg.norm(query_D)
        cosine_S[first : first + BLOCK] = vectors @ query_D / np.maximum(norms, np.finfo(np.float32).tiny)
    cosine_S[~is_seen_S] = np.nan
    return at_table(ids_S, cosine_S, table)


def clusters_at(set_folder: Path, table: PictureTable) -> NDArray[np.int32] | None:
    """Return the cluster of every picture, int32 (N,), -1 for none; None where no clusters were made."""
    features = _opened(set_folder)
    for method in METHODS:
        with suppress(UserError):
            return at_table(features.ids_N, read_clusters(features, method).numbers_N, table)
    return None


def _opened(set_folder: Path) -> FeatureSet:
    """Open a set of features.

    Raises:
        BadInput: it cannot be read: it was deleted by hand, or is being made.
    """
    try:
        features = FeatureSet(set_folder)
        _ = features.vectors_ND  # mapped here, so that nothing is missing later
    except (OSError, ValueError, RuntimeError) as problem:
        raise BadInput(
            f"The features in '{set_folder}' cannot be read: {problem}.", "Compute them again in Models."
        ) from problem
    return features


def at_table(ids_S: NDArray[np.int64], values_S: NDArray[Any], table: PictureTable) -> NDArray[Any]:
    """Return values of a set's rows in the order of the table; NaN or -1 where the set has no such picture."""
    empty = np.nan if np.issubdtype(values_S.dtype, np.floating) else -1
    values_N = np.full(len(table), empty, values_S.dtype)
    places = table.places_of(ids_S)
    values_N[places[places >= 0]] = values_S[places >= 0]
    return values_N
