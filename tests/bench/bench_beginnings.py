"""How long the beginnings take: the sample, drops, the list of models, recent projects; and comparing two sets.

    QT_QPA_PLATFORM=offscreen python tests/bench/bench_beginnings.py

Prints medians in milliseconds. Needs no project and no network; takes some ten seconds.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dinoviz.drops import Dropped, Here, intent_of
from dinoviz.sample import PHOTOS, unpack_sample
from dinoviz.views.compare.agreement import Neighbourhood, overlap
from dinoviz.views.models.entries import read_models
from dinoviz.views.welcome.cards import look_at

TIMES = 7
FILES = 100_000
PICTURES, NEIGHBOURS = 1_000_000, 32


def main() -> None:
    """Measure and print."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sample = root / "sample"

        def unpack() -> None:
            shutil.rmtree(sample, ignore_errors=True)
            unpack_sample(sample)

        told("sample unpacked", unpack)
        told("sample opened a second time", lambda: unpack_sample(sample))
        told("a recent project looked at", lambda: look_at(str(sample / "photos.dinoviz")))
        told("a dropped folder told, 59 pictures", lambda: intent_of(Dropped(paths=(PHOTOS,)), Here()))
        many = tuple(root / f"{i}.jpg" for i in range(FILES))
        told(f"{FILES:,} dropped files told", lambda: intent_of(Dropped(paths=many), Here()))
        told("list of models", lambda: read_models(()))
    random = np.random.default_rng(0)
    ids = np.arange(PICTURES)
    near = Neighbourhood(
        ids_N=ids,
        places_N=ids,
        all_ids=np.append(ids, -1),
        rows_Sk=random.integers(0, PICTURES, (PICTURES, NEIGHBOURS), dtype=np.int32),
        likeness_Sk=np.ones((PICTURES, NEIGHBOURS), np.float32),
    )
    told(f"neighbours of {PICTURES:,} pictures compared", lambda: overlap(near, near), times=3)


def told(what: str, work: Callable[[], object], times: int = TIMES) -> None:
    """Print the median time of some work."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - begun))
    print(f"{what:<45} {statistics.median(took):9.1f} ms   (most {max(took):.1f})")


if __name__ == "__main__":
    main()
