"""The table of neighbours, seconds, against scikit-learn's: the same pictures, cosine, all compared with all.

Run ``python tests/bench/bench_neighbours.py [pictures] [rounds]``. The two take turns; seconds are medians of wall
time and of processor time, which other work on the machine disturbs less. Ours includes reading the features from
the disk and writing the table there.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from engine.finding.index import MANY, make_index
from engine.sets import Block, FeatureSet, FeatureWriter, SetPlan

PICTURES, DIMENSIONS, CLUSTERS = 20_000, 384, 1_000
SPREAD = 1.2  # of a cluster, in the distance of its centre from the origin
ROUNDS = 3
AT_ONCE = 50_000  # vectors made at once


def write_features(folder: Path, pictures: int) -> FeatureSet:
    """Write features in clusters that overlap in every single dimension."""
    plan = SetPlan(
        model="bench", model_sha256="0" * 64, architecture="vit-small/16", kind="cls", view="crop", side=224, patch=16,
        width=4, dimensions=DIMENSIONS, has_patches=False, precision="fp32",
    )  # fmt: skip
    random, writer = np.random.default_rng(0), FeatureWriter.at(folder, plan)
    centres_CD = random.standard_normal((CLUSTERS, DIMENSIONS), np.float32)
    for first in range(0, pictures, AT_ONCE):
        n = min(AT_ONCE, pictures - first)
        noise_ND = np.float32(SPREAD) * random.standard_normal((n, DIMENSIONS), np.float32)
        block = Block(
            vectors_ND=centres_CD[random.integers(CLUSTERS, size=n)] + noise_ND,
            copies_ND=np.zeros((n, 2 * plan.width), np.float16),
            is_seen_N=np.ones(n, np.bool_),
            grids_N2=np.zeros((n, 2), np.uint16),
        )
        writer.append(range(first, first + n), [f"{number:032x}" for number in range(first, first + n)], block)
    return FeatureSet(folder)


def theirs(features: FeatureSet) -> NDArray[np.integer]:
    neighbours = NearestNeighbors(n_neighbors=MANY, metric="cosine", algorithm="brute").fit(features.vectors_ND)
    return neighbours.kneighbors(return_distance=True)[1]


def ours(features: FeatureSet) -> NDArray[np.integer]:
    return make_index(features, lambda _message: None, method="exact", k=MANY, again=True).rows_Nk


def seconds(way: Callable[[FeatureSet], NDArray[np.integer]], features: FeatureSet) -> tuple[float, float]:
    start = time.perf_counter(), time.process_time()
    way(features)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    asked = [int(word) for word in sys.argv[1:]]
    pictures, rounds = (*asked, *(PICTURES, ROUNDS)[len(asked) :])
    with tempfile.TemporaryDirectory() as temporary:
        features = write_features(Path(temporary, "set"), pictures)
        took = [(seconds(theirs, features), seconds(ours, features)) for _ in range(rounds)]
        is_same = (np.sort(theirs(features)) == np.sort(ours(features))).mean()
    print(f"{pictures:,} x {DIMENSIONS}, {MANY} neighbours; {is_same:.3%} of them the same")
    for place, what in enumerate(("wall", "processor")):
        sklearn_s, ours_s = (statistics.median(turn[way][place] for turn in took) for way in (0, 1))
        print(f"  {what:9}  scikit-learn {sklearn_s:7.2f} s   ours {ours_s:7.2f} s   {sklearn_s / ours_s:5.2f} x")


if __name__ == "__main__":
    main()
