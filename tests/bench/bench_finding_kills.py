"""Kills of embed, index and map at random moments: all must end as if nothing had happened.

Run ``python tests/bench/bench_finding_kills.py [kills of each]``. Each command is started in a process of its own,
killed with signal 9 at a random moment and started again, until it was killed as often as asked; then it is let
finish, and every array is compared bit for bit with those of a project that was left in peace. Blocks that were
finished before a kill are counted: none may be done again.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.makers import write_photos

PHOTOS = 700
COMMANDS = {
    "embed": ["--model", "bundled", "--patches", "--side", "64", "--device", "cpu", "--workers", "1"],
    "index": [],
    "map": ["--method", "tsne"],
}


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    draws = random.Random(0)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        write_photos(photos, PHOTOS)
        whole, cut = Path(folder) / "whole.dinoviz", Path(folder) / "cut.dinoviz"
        for command, flags in COMMANDS.items():
            begun = time.monotonic()
            finish(started(command, photos, whole, flags))
            lasts_s = time.monotonic() - begun
            n_killed = n_ended = 0
            while n_killed < kills:
                process = started(
                    command, photos, cut, [*flags, *(["--again"] if n_ended and command != "embed" else [])]
                )
                time.sleep(draws.uniform(0, 1.1 * lasts_s))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    n_killed += 1
                else:
                    n_ended += 1
                process.wait()
            finish(started(command, photos, cut, flags))
            different = differing(whole, cut)
            wrong += different
            print(f"{command}: {n_killed} kills, {n_ended} ended in between; {lasts_s:.1f} s a whole run; "
                  f"{'all arrays equal' if not different else f'DIFFERENT: {different}'}", flush=True)  # fmt: skip
    return 1 if wrong else 0


def started(command: str, photos: Path, project: Path, flags: list[str]) -> "subprocess.Popen[bytes]":
    where = [str(photos), "--project", str(project)] if command == "embed" else [str(project)]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "engine", command, *where, *flags, "--quiet"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()


def differing(whole: Path, cut: Path) -> list[str]:
    """Return the names of arrays that are not the same in both projects."""
    names = sorted(path.relative_to(whole).as_posix() for path in whole.glob("sets/*/*.npy"))
    assert names
    return [name for name in names if np.load(whole / name).tobytes() != np.load(cut / name).tobytes()]


if __name__ == "__main__":
    sys.exit(main())
