"""Sets whose descriptors and vectors are given, with the exact table of their neighbours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from engine.arrays import ArrayFile
from engine.finding.neighbours import LIKENESS, ROWS, TABLE, NeighbourTable, TableAbout, read_neighbours
from engine.sets import Block, FeatureSet, FeatureWriter
from tests.makers import set_plan


def write_set(
    folder: Path,
    copies_ND: np.ndarray,
    *,
    vectors_ND: np.ndarray | None = None,
    ids: Sequence[int] | None = None,
    hashes: Sequence[int] | None = None,
    unseen: Sequence[int] = (),
) -> FeatureSet:
    """Write a set; ids and hashes count from 1, and vectors are the descriptors, unless they are given."""
    n, width = copies_ND.shape
    vectors_ND = copies_ND if vectors_ND is None else vectors_ND
    plan = set_plan(width=width // 2, dimensions=vectors_ND.shape[1])
    is_seen_N = np.ones(n, bool)
    is_seen_N[list(unseen)] = False
    block = Block(
        (vectors_ND * is_seen_N[:, None]).astype(np.float32),
        (copies_ND * is_seen_N[:, None]).astype(np.float16),
        is_seen_N,
        np.zeros((n, 2), np.uint16),
    )
    numbers = range(1, n + 1)
    FeatureWriter.at(folder, plan).append(
        list(ids or numbers), [f"{number:032x}" for number in hashes or numbers], block
    )
    return FeatureSet(folder)


def write_table(features: FeatureSet, k: int = 30) -> NeighbourTable:
    """Write the exact neighbours of a set, the lower row first of equal ones."""
    n, seen = len(features), features.is_seen_N
    vectors_ND = np.asarray(features.vectors_ND, np.float64)
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = vectors_ND / np.where(lengths_N1 > 0, lengths_N1, 1)
    likeness_NN = unit_ND @ unit_ND.T
    likeness_NN[:, ~seen] = likeness_NN[~seen] = -np.inf
    np.fill_diagonal(likeness_NN, -np.inf)
    k = max(1, min(k, n - 1))
    rows_Nk = np.argsort(-likeness_NN, axis=1, kind="stable")[:, :k]
    likeness_Nk = np.take_along_axis(likeness_NN, rows_Nk, axis=1)
    is_there_Nk = np.isfinite(likeness_Nk)
    for name, dtype, values in (
        (ROWS, np.int32, np.where(is_there_Nk, rows_Nk, -1)),
        (
            LIKENESS,
            np.float32,
            np.where(is_there_Nk, likeness_Nk, 0),
        ),
    ):
        ArrayFile.create(features.folder / name, dtype, (k,)).append(values.astype(dtype))
    about = TableAbout(made_from=features.key, method="exact", k=k, recall=1.0)
    (features.folder / TABLE).write_bytes(TypeAdapter(TableAbout).dump_json(about))
    return read_neighbours(features)
