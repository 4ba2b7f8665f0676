"""Selections made by who is whose neighbour. Reads a set's table of neighbours; not on the thread that paints.

Letters after a name are its axes: S rows of the set · k neighbours
"""

from pathlib import Path

import numpy as np

from dinoviz.table import Ids, no_ids
from engine.errors import UserError
from engine.finding.neighbours import NeighbourTable, read_neighbours
from engine.sets import FeatureSet

GROWN_BY = 5  # most similar pictures of each that are added
JUDGED_BY = 10  # most similar pictures of each, of which most must be selected
ALIKE = 50  # most similar pictures of one
BLOCK = 65_536  # rows read at once


def _opened(set_folder: Path) -> tuple[FeatureSet, NeighbourTable] | None:
    try:
        features = FeatureSet(set_folder)
        return features, read_neighbours(features)
    except UserError:
        return None


def alike(set_folder: Path, picture: int, n: int = ALIKE) -> Ids | None:
    """Return the ids most similar to a picture, itself first; None where there is no table of neighbours."""
    opened = _opened(set_folder)
    if opened is None:
        return None
    features, table = opened
    row = int(np.searchsorted(features.ids_N, picture))
    if row == len(features) or features.ids_N[row] != picture:
        return no_ids()
    near = np.asarray(table.rows_Nk[row, :n])
    return np.concatenate([[picture], features.ids_N[near[near >= 0]]])


def grown(set_folder: Path, selected: Ids) -> Ids | None:
    """Return a selection with the most similar pictures of each; None where there is no table of neighbours."""
    opened = _opened(set_folder)
    if opened is None:
        return None
    features, table = opened
    rows = np.flatnonzero(np.isin(features.ids_N, selected))
    near = [np.unique(table.rows_Nk[rows[i : i + BLOCK], :GROWN_BY]) for i in range(0, len(rows), BLOCK)]
    found = np.unique(np.concatenate([*near, rows.astype(np.int32)]))
    return np.union1d(selected, features.ids_N[found[found >= 0]])


def shrunk(set_folder: Path, selected: Ids) -> Ids | None:
    """Return those of a selection most of whose similar pictures are in it; None without a table of neighbours."""
    opened = _opened(set_folder)
    if opened is None:
        return None
    features, table = opened
    is_in_S = np.append(np.isin(features.ids_N, selected), False)  # the last is for -1, no neighbour
    rows = np.flatnonzero(is_in_S)
    kept = [
        rows[i : i + BLOCK][is_in_S[table.rows_Nk[rows[i : i + BLOCK], :JUDGED_BY]].mean(axis=1) > 1 / 2]
        for i in range(0, len(rows), BLOCK)
    ]
    return features.ids_N[np.concatenate(kept)] if kept else no_ids()
