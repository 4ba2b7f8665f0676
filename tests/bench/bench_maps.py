"""t-SNE of 5,000 vectors of 50 dimensions: ours, from the table of neighbours, against scikit-learn's, in one run.

Run ``python tests/bench/bench_maps.py [pictures]``. The vectors are twenty groups, each on a subspace of its own. Both
get perplexity 30 and start at principal components; ours makes 750 steps, as openTSNE does, scikit-learn's its own
1,000. What ours takes includes finding the neighbours. Each runs in a process of its own with all cores. Kept is the
share of each vector's ten nearest that are among its ten nearest on the map, of 1,000 vectors. The seconds of the
processor, over all its cores, are told beside those of the clock, as they suffer less from what else runs.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

GROUPS, DIMENSIONS, RANK = 20, 50, 8
PERPLEXITY = 30


def vectors(n: int) -> np.ndarray:
    """Return unit vectors, so that cosine and distance put neighbours in the same order."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(GROUPS, DIMENSIONS))
    axes = random.normal(size=(GROUPS, RANK, DIMENSIONS)) / 3
    groups = random.integers(0, GROUPS, n)
    drawn = centres[groups] + np.einsum("nr,nrd->nd", random.normal(size=(n, RANK)), axes[groups])
    drawn += 0.1 * random.normal(size=drawn.shape)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def ours(of: np.ndarray) -> np.ndarray:
    from engine.finding.index import make_index
    from engine.finding.maps import make_map, settle
    from engine.machine import usable_cores
    from engine.sets import Block, FeatureSet, FeatureWriter, SetPlan

    n = len(of)
    plan = SetPlan(
        model="made-up", model_sha256="", architecture="none", kind="cls", view="crop", side=1, patch=1, width=1,
        dimensions=DIMENSIONS, has_patches=False, precision="fp32",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        nothing = np.zeros((n, 2))
        block = Block(of, nothing.astype(np.float16), np.ones(n, bool), nothing.astype(np.uint16))
        FeatureWriter.at(Path(folder), plan).append(range(1, n + 1), ["0"] * n, block)
        features = FeatureSet(Path(folder))
        table = make_index(features, lambda _message: None)
        map_plan, _ = settle("tsne", n, table.about.k, perplexity=PERPLEXITY)
        made = make_map(features, table, map_plan, lambda _message: None, threads=usable_cores())
        return np.array(made.positions_N2)


def scikit_learn(of: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(perplexity=PERPLEXITY, init="pca", random_state=0, n_jobs=-1).fit_transform(of)


def timed(method: Callable[[np.ndarray], np.ndarray], n: int, out: str) -> None:
    of = vectors(n)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    positions = method(of)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    np.savez(out, positions=positions, seconds=seconds, cpu=cpu)


def main() -> None:
    from engine.finding.faithfulness import faithfulness

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    of, seconds, cpu = vectors(n), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for method in (ours, scikit_learn):
            out = f"{folder}/{method.__name__}.npz"
            process = multiprocessing.get_context("spawn").Process(target=timed, args=(method, n, out))
            process.start()
            process.join()
            kept = np.load(out)
            seconds[method.__name__], cpu[method.__name__] = float(kept["seconds"]), float(kept["cpu"])
            found = faithfulness(of, np.arange(n), kept["positions"].astype(np.float32), None)
            assert found is not None
            print(
                f"{method.__name__:>13}: {seconds[method.__name__]:6.1f} s, {cpu[method.__name__]:6.1f} s of the "
                f"processor, {found.neighbours_kept:.1%} of neighbours "
                f"kept, trustworthiness {found.trustworthiness:.4f}",
                flush=True,
            )
    ratios = [of_method["scikit_learn"] / of_method["ours"] for of_method in (seconds, cpu)]
    print(f"        ratio: {ratios[0]:6.2f} by the clock, {ratios[1]:.2f} by the processor")


if __name__ == "__main__":
    main()
