"""Kills of the window and of its children, and what they cost: ``python tests/bench/bench_window_kills.py [N]``."""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.dinoviz.projects import scanned
from tests.window_kills import kill_once


def main() -> None:
    """Kill N times in one project, and say what did not hold."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    draw = random.Random(0)
    wrong: list[str] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        project, home = scanned(Path(folder), 24), Path(folder) / "home"
        home.mkdir()
        victims: Counter[str] = Counter()
        for seed in range(n):
            victim = draw.choice(["window", "window", "vision", "train"])
            victims[victim] += 1
            found = kill_once(project, home, draw.uniform(0.0, 5.0), victim, seed)
            wrong += [f"{seed} {victim}: {what}" for what in found]
    print(f"{n} kills in {time.monotonic() - begun:.0f} s: {dict(victims)}; {len(wrong)} faults")
    print("\n".join(wrong))


if __name__ == "__main__":
    main()
