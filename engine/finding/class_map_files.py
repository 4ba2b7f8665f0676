"""The map of a set's classes as it is kept beside the features.

    sets/0001/
      map-classes.npy    (C, 2) float32
      map-classes.json   names, counts, exemplars and how it was made

Both are the old ones or the new ones: see `engine.records.write_together`. Nothing here loads what makes maps, so that
the window can read them.

Letters after a name are its axes: C classes · 2 the plane
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.finding.labels import key_with_labels
from engine.records import read_together, write_together
from engine.sets import FeatureSet

RECORD, POSITIONS = "map-classes.json", "map-classes.npy"
REMAKE = "engine map PROJECT --classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMapAbout:
    """How a map of classes was made.

    Args:
        made_from: key of the set and of the labels.
        names: of the classes, in the order of the positions.
        counts: pictures of each.
        nearest: id of the picture nearest to each class' mean.
        perplexity: of t-SNE.
        components: principal components of the means that count.
        steps: that were asked for.
        step: the one it was stopped at, or the last.
        seed: of the start.
        divergence: Kullback-Leibler.
    """

    made_from: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    nearest: tuple[int, ...]
    perplexity: float
    components: int
    steps: int
    step: int
    seed: int
    divergence: float


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """A map of classes: ``positions_C2`` float32, in the order of ``about.names``."""

    about: ClassMapAbout
    positions_C2: NDArray[np.float32]


def read_class_map(features: FeatureSet, labels: Mapping[int, str]) -> ClassMap:
    """Open the map of classes of a set.

    Raises:
        BadInput: there is none, or it is of other features or labels than now.
    """
    found = kept_class_map(features)
    if found is None:
        raise features.lacking("map of classes", REMAKE)
    if found.about.made_from != key_with_labels(features, labels):
        raise BadInput("The map of classes is out of date: pictures or labels changed.", f"Make it again: {REMAKE}")
    return found


def kept_class_map(features: FeatureSet) -> ClassMap | None:
    """Return the map of classes of a set even if it is out of date, None where there is none."""
    found = read_together(features.folder / RECORD, ClassMapAbout, [features.folder / POSITIONS])
    if found is None or len(found[1][0]) != len(found[0].names):
        return None
    return ClassMap(found[0], *found[1])


def keep_class_map(features: FeatureSet, about: ClassMapAbout, positions_C2: NDArray[np.float32]) -> ClassMap:
    """Write a map of classes into the folder of its set, whose lock is held, in the place of the one before.

    Raises:
        DiskFull: there is no room; the one before is intact.
    """
    write_together(features.folder / RECORD, about, {features.folder / POSITIONS: positions_C2})
    return ClassMap(about, positions_C2)
