"""Groups of pictures that are alike as they are kept beside the features.

    sets/0001/
      clusters-kmeans.npy    (N,) int32, number of each picture's cluster, -1 for none
      clusters-kmeans.json   sizes, exemplars and how they were made

Both are the old ones or the new ones: see `engine.records.write_together`. Nothing here loads what finds clusters, so
that the window can read them.

Letters after a name are its axes: N rows of the set
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.records import read_together, write_together
from engine.sets import FeatureSet

Method = Literal["kmeans", "hdbscan"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster: how many pictures, ids of the nearest to its centre and of some spread over it."""

    size: int
    nearest: tuple[int, ...]
    spread: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClustersAbout:
    """How clusters were made.

    Args:
        made_from: key of the set.
        method: kmeans or hdbscan.
        seed: of all that is drawn.
        asked: number of clusters that was asked for, 0 where it was left open.
        smallest: pictures that make a cluster, of HDBSCAN.
        scores: silhouette of each number of clusters that was tried, of k-means.
        n_left_out: pictures in no cluster.
        n_sample: pictures by which the clusters were found; the others went to the nearest.
        clusters: from the largest on.
    """

    made_from: str
    method: Method
    seed: int
    asked: int
    smallest: int = 0
    scores: tuple[tuple[int, float], ...] = ()
    n_left_out: int = 0
    n_sample: int = 0
    clusters: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Clusters as they are kept; ``numbers_N`` int32, -1 for none."""

    about: ClustersAbout
    numbers_N: NDArray[np.int32]


def read_clusters(features: FeatureSet, method: Method) -> Clusters:
    """Open the clusters of a set.

    Raises:
        BadInput: there are none, or they are of other features than the set holds now.
    """
    what, remake = f"clustering by {method}", f"engine clusters PROJECT --method {method}"
    features.made(f"clusters-{method}.json", ClustersAbout, what, remake)
    name = f"clusters-{method}"
    found = read_together(features.folder / f"{name}.json", ClustersAbout, [features.folder / f"{name}.npy"])
    if found is None or len(found[1][0]) != len(features):
        raise features.lacking(what, remake)
    return Clusters(found[0], *found[1])


def keep_clusters(features: FeatureSet, about: ClustersAbout, numbers_N: NDArray[np.int32]) -> Clusters:
    """Write clusters into the folder of their set, whose lock is held, in the place of those before.

    Raises:
        DiskFull: there is no room; the clusters before are intact.
    """
    name = f"clusters-{about.method}"
    write_together(features.folder / f"{name}.json", about, {features.folder / f"{name}.npy": numbers_N})
    return Clusters(about, numbers_N)
