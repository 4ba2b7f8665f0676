"""Does a small student learn more from a better, frozen teacher than alone, in as many steps?

    python tests/bench/bench_distil.py PHOTOS [--teacher bundled] [--model vit-tiny/8] [--depth 3] [--epochs 20]
    python tests/bench/bench_distil.py PHOTOS --teacher photos.dinoviz/runs/0007 --model vit-tiny/8 --depth 12

Trains the same student twice on the same pictures and steps: by DINO, and by distillation. Prints the 20-NN accuracy of
both on the held-out split, before and after, and that of the teacher. Whatever else is given goes to both runs, such as
``--batch 64 --local-crops 0``. PHOTOS needs labels (sub-folders); they are used to measure only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ENGINE = [sys.executable, "-m", "engine"]


def main() -> None:
    """Train both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--teacher", default="bundled")
    parser.add_argument("--model", default="vit-tiny/8")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one by default")
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = (arguments.keep or Path(temporary)) / "bench.dinoviz"
        student = [f"--model={arguments.model}", f"--depth={arguments.depth}", f"--epochs={arguments.epochs}", *more]
        print(f"{'student':<12} {'steps':>7} {'minutes':>8} {'20-NN at start':>15} {'20-NN at end':>13}")
        for name, asked in (
            ("alone", ["--objective=dino"]),
            ("distilled", ["--objective=distillation", f"--teacher={arguments.teacher}"]),
        ):
            row = trained(arguments.photos, project, [*student, *asked])
            print(f"{name:<12} {row['steps']:>7,} {row['minutes']:>8.1f} {row['start']:>15.3f} {row['end']:>13.3f}")
        print(f"the teacher, {arguments.teacher}: {teachers_knn(arguments.photos, project, arguments.teacher):.3f}")


def trained(photos: Path, project: Path, flags: Sequence[str]) -> dict[str, float]:
    """Train a student and return its figures."""
    began = time.monotonic()
    outcome = told([*ENGINE, "train", str(photos), "--project", str(project), "--json", *flags])
    minutes = (time.monotonic() - began) / 60
    events = (Path(outcome["run"]) / "events.jsonl").read_text().splitlines()
    measured = [values["knn"] for line in events if "knn" in (values := json.loads(line).get("values", {}))]
    return {"steps": outcome["step"], "minutes": minutes, "start": measured[0], "end": measured[-1]}


def teachers_knn(photos: Path, project: Path, teacher: str) -> float:
    """Return the accuracy of the teacher's own features, by a run from its weights that is measured at its start."""
    if teacher.startswith("timm:"):
        return float("nan")  # measured by nothing but a backbone of ours
    flags = ["--objective=dino", f"--init={teacher}", "--epochs=1", "--learning-rate=1e-8", "--probes=0"]
    return trained(photos, project, flags)["start"]


def told(command: Sequence[str]) -> dict[str, object]:
    """Return what a command says at its end, as JSON."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 4):
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
