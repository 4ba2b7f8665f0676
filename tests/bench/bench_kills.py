"""Forty kills, thirty at random moments, ten inside a save: every run must end bit for bit the same.

Run ``python tests/bench/bench_kills.py [random] [aimed]``. Each trial starts a tiny run with the real command, kills
it with signal 9, resumes it (with no or one loader process by turns) and compares every tensor of the last checkpoint
and of the backbone with those of a run that was not interrupted.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.killing import Killer, differences, state_of, tiny_train
from tests.makers import write_photos

RUN_S = 1.5  # how long a tiny run takes, about: kills fall within it
CALLS_OF_A_SAVE = 11  # syncs, renames and replacements that one checkpoint takes


def main() -> int:
    n_random, n_aimed = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 30), (2, 10)))
    killer = Killer(0)
    n_equal = n_killed = 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_photos(photos, 12, labels=("a", "b"))
        assert killer.finish(tiny_train(photos, Path(folder) / "whole.dinoviz")) == 0
        whole = state_of(Path(folder) / "whole.dinoviz/runs/0001")
        for trial in range(n_random + n_aimed):
            project = Path(folder) / f"{trial}.dinoviz"
            run = project / "runs/0001"
            if trial < n_random:
                n_killed += killer.kill_at_random(tiny_train(photos, project), RUN_S)
            else:
                call = 3 * CALLS_OF_A_SAVE + (trial - n_random) % CALLS_OF_A_SAVE
                n_killed += killer.kill_inside_a_save(tiny_train(photos, project), call)
            if not (run / "plan.json").exists():  # killed before there was a run: start it anew
                run = project / "runs" / f"{len(list((project / 'runs').glob('*'))) + 1:04d}"
                assert killer.finish(tiny_train(photos, project)) == 0
            else:
                assert killer.finish(["resume", str(run), "--quiet", f"--workers={trial % 2}"]) == 0
            wrong = differences(state_of(run), whole)
            n_equal += not wrong
            print(f"trial {trial + 1}: {'equal' if not wrong else f'differs in {wrong[:3]}'}", flush=True)
    total = n_random + n_aimed
    print(f"{n_equal}/{total} equal bit for bit, {n_killed}/{total} really killed, {time.monotonic() - begun:.0f} s")
    return 0 if n_equal == total else 1


if __name__ == "__main__":
    sys.exit(main())
