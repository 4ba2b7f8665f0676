"""A run that was killed, stopped or cut off ends with the weights of one that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.killing import Killer, differences, state_of, tiny_train
from tests.makers import write_photos

ENGINE = [sys.executable, "-m", "engine"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}  # as the killed ones: sums of more threads round differently


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, 12, labels=("a", "b"))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    project = tmp_path_factory.mktemp("whole") / "p.dinoviz"
    assert Killer(0).finish(tiny_train(photos, project)) == 0
    return state_of(project / "runs/0001")


def test_kills_at_random_and_inside_saves_change_nothing(photos, uninterrupted, tmp_path):
    project = tmp_path / "p.dinoviz"
    killer = Killer(1)
    run = project / "runs/0001"
    assert killer.kill_inside_a_save(tiny_train(photos, project), 20)
    for attempt, call in enumerate((3, 12, None, 17, None)):
        command = ["resume", str(run), "--quiet", f"--workers={attempt % 2}"]
        if call:
            assert killer.kill_inside_a_save(command, call)
        else:
            killer.kill_at_random(command, 2.0)
    assert killer.finish(["resume", str(run), "--quiet"]) == 0
    assert differences(state_of(run), uninterrupted) == []
    assert not list(run.glob("checkpoints/.step-*"))


def test_ctrl_c_finishes_the_step_saves_and_exits_130(photos, uninterrupted, tmp_path):
    project = tmp_path / "p.dinoviz"
    command = [*ENGINE, *tiny_train(photos, project, checkpoint_seconds="1000", workers="1")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
    events = project / "runs/0001/events.jsonl"
    while not (events.exists() and '"loss"' in events.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "Traceback" not in messages
    steps = sorted((project / "runs/0001/checkpoints").glob("step-*"))
    assert len(steps) == 1
    done = subprocess.run(
        [*ENGINE, "resume", str(project / "runs/0001"), "--json"], capture_output=True, text=True, env=ONE_THREAD
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 18
    assert differences(state_of(project / "runs/0001"), uninterrupted) == []


def test_a_changed_recipe_or_folder_is_refused_with_the_difference(photos, tmp_path):
    folder = tmp_path / "photos"
    write_photos(folder, 12)
    project = tmp_path / "p.dinoviz"
    killer = Killer(2)
    assert killer.kill_inside_a_save(tiny_train(folder, project), 40)
    run = str(project / "runs/0001")
    refused = subprocess.run([*ENGINE, "resume", run, "--momentum", "0.5"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "momentum was" in refused.stderr
    (folder / "p00.jpg").unlink()
    refused = subprocess.run([*ENGINE, "resume", run], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "1 gone" in refused.stderr
    assert "--fork" in refused.stderr
    forked = subprocess.run(
        [*ENGINE, "resume", run, "--fork", "--epochs", "7", "--json"], capture_output=True, text=True
    )
    assert forked.returncode == 0, forked.stderr
    assert json.loads(forked.stdout)["run"].endswith("0002")


def test_something_that_is_no_run_is_refused(tmp_path):
    refused = subprocess.run([*ENGINE, "resume", str(tmp_path)], capture_output=True, text=True)
    assert refused.returncode == 3
    assert "no run" in refused.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names alone are wanted
