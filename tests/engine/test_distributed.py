"""Two processes train the network that one trains."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.killing import state_of, tiny_train
from tests.makers import write_photos

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "engine"]
ONE = [sys.executable, "-m", "engine"]
# Batch statistics are those of each process's share on the CPU, so the comparison goes without them.
COMPARABLE = {"precision": "fp32", "head_norm": "none", "drop_path": "0", "koleo": "0", "epochs": "2", "probes": "0"}


def losses_of(project: Path) -> list[float]:
    lines = (project / "runs/0001/events.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines if '"kind": "measured"' in line]
    return [event["values"]["loss"] for event in measured if "loss" in event["values"]]


def train(launcher: list[str], photos: Path, project: Path) -> None:
    done = subprocess.run(
        [*launcher, *tiny_train(photos, project, **COMPARABLE)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    train(ONE, photos, tmp_path / "one.dinoviz")
    train(TWO, photos, tmp_path / "two.dinoviz")
    assert losses_of(tmp_path / "two.dinoviz") == pytest.approx(losses_of(tmp_path / "one.dinoviz"), rel=1e-4)
    one, two = (state_of(tmp_path / f"{name}.dinoviz/runs/0001") for name in ("one", "two"))
    centre = "train.objective.centre_1K"
    assert two[centre].flatten().tolist() == pytest.approx(one[centre].flatten().tolist(), abs=1e-5)
    assert int(two["step"]) == int(one["step"]) == 6
    assert len(list((tmp_path / "two.dinoviz/runs").iterdir())) == 1
    alone = subprocess.run(
        [*ONE, "resume", str(tmp_path / "two.dinoviz/runs/0001")], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 2
    assert "processes were 2, now 1" in alone.stderr


@pytest.mark.slow
def test_processes_that_have_nothing_to_do_go_home(tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    command = [*TWO, *tiny_train(photos, tmp_path / "p.dinoviz", **COMPARABLE), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "Plan for 12 pictures" in done.stdout
