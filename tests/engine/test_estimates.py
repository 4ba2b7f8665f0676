"""What a run is said to take is what runs were measured to take, within a factor of 2."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from engine.estimates import Speed, disk_bytes, estimate, memory_bytes, parameters
from engine.recipes import Plan, Recipe, settle
from engine.run_files import RunState, newest_speed, plan_of, state_of
from engine.settings import Facts
from tests.makers import write_photos


def plan_with(n_pictures=3068, facts=None, **asked):
    return settle(Recipe.of(asked), Facts(n_pictures=n_pictures, **(facts or {})))


def is_about(value, measured):
    return measured / 2 < value < measured * 2


def test_speed_of_the_run_in_the_readme_on_one_core_and_on_two():
    plan = plan_with(workers=0)
    assert is_about(estimate(plan, cores=1).pictures_per_s, 93)
    assert is_about(estimate(plan, cores=2).pictures_per_s, 135)


def test_speed_and_memory_of_a_published_step():
    asked = {"model": "vit-tiny/16", "depth": 12, "stem": "patch", "global_side": 224, "local_side": 96}
    for prototypes, measured_bytes in ((65_536, 2.3e9), (4096, 1.8e9)):
        plan = plan_with(
            **asked, local_crops=8, batch=16, prototypes=prototypes, head_width=2048, workers=0, measure_epochs=0
        )
        assert is_about(memory_bytes(plan), measured_bytes)
        assert is_about(estimate(plan, cores=2).pictures_per_s, 16.3)


def test_a_run_on_this_machine_replaces_the_general_speed():
    plan = plan_with(epochs=10)
    slow = Speed(plan=plan, pictures_per_s=7.0, of="run 3")
    took = estimate(plan, cores=2, earlier=slow)
    assert took.pictures_per_s == pytest.approx(7.0, rel=0.3)
    assert "run 3" in took.source
    other = plan_with(epochs=10, precision="fp32")
    assert "run 3" not in estimate(other, cores=2, earlier=slow).source


def test_twice_the_epochs_take_about_twice_the_time_and_a_larger_network_more_of_everything():
    few, many = plan_with(epochs=10), plan_with(epochs=20)
    assert estimate(many, cores=1).seconds == pytest.approx(2 * estimate(few, cores=1).seconds, rel=0.2)
    large = plan_with(epochs=10, model="vit-small/8")
    assert estimate(large, cores=1).seconds > estimate(few, cores=1).seconds
    assert memory_bytes(large) > memory_bytes(few)
    assert disk_bytes(large) > disk_bytes(few)
    assert parameters(plan_with(model="resnet-50")) > 23e6


def test_a_measured_run_on_this_machine(tmp_path):
    write_photos(tmp_path / "photos", 64)
    asked = ["--epochs", "12", "--device", "cpu", "--workers", "0", "--probes", "2", "--model", "vit-tiny/8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    command = [sys.executable, "-m", "engine", "train", str(tmp_path / "photos"), "--json", "--quiet", *asked]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    run = tmp_path / "photos.dinoviz/runs/0001"
    plan = plan_of(run)
    # How much of a core this process was given is not the estimate's matter, so its own rate is taken as the speed.
    took = estimate(plan, cores=1, earlier=newest_speed(run.parent, plan))
    assert is_about(took.seconds, seconds)
    assert is_about(took.memory_bytes, state_of(run).values["memory_bytes"])
    on_disk = sum(path.stat().st_size for path in (tmp_path / "photos.dinoviz").rglob("*") if path.is_file())
    assert on_disk < 2 * took.disk_bytes


def test_a_run_without_events_is_at_its_beginning(tmp_path):
    assert state_of(tmp_path) == RunState(step=0, values={}, steps={})
    assert newest_speed(tmp_path, plan_with()) is None


def test_the_dry_run_says_what_it_will_take(tmp_path):
    write_photos(tmp_path / "photos", 12)
    command = [sys.executable, "-m", "engine", "train", str(tmp_path / "photos"), "--dry-run", "--json", "--quiet"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    plan = Plan.model_validate(told["plan"])
    assert told["estimate"]["memory_bytes"] == pytest.approx(memory_bytes(plan))
    assert np.isfinite([v for v in told["estimate"].values() if not isinstance(v, str)]).all()
