"""Processes that train together learn what one learns, whatever each holds, and go on when one of them dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from engine import distributed
from engine.catalogue import VitShape
from engine.commands.restarts import run_of_job
from engine.commands.runs import new_run, on_these_processes
from engine.errors import BadRecipe
from engine.images import find_pictures
from engine.machine import find_device
from engine.project import Picture, Project
from engine.recipes import Plan, Recipe, settle
from engine.scaling import Head, Learning, memory
from engine.settings import Facts
from engine.terminal import run
from engine.training import checkpoint
from engine.training.objectives import OBJECTIVES
from engine.training.pictures import PictureList, Pixels
from engine.training.train import train
from tests.killing import tiny_train
from tests.makers import write_photos
from tests.together import run_together

N_PICTURES, BATCH, STEPS, CUT_AT = 16, 8, 4, 2
TINY = {
    "model": "vit-tiny/8",
    "depth": 2,
    "stem": "patch",
    "global_side": 16,
    "local_side": 8,
    "local_crops": 2,
    "batch": BATCH,
    "epochs": 2,
    "prototypes": 16,
    "head_width": 16,
    "bottleneck": 8,
    "drop_path": 0.2,
    "clip": 0.5,
    "koleo": 0.1,
    "workers": 0,
    "prepare": False,
    "measure_epochs": 0,
    "probes": 1,
    "precision": "fp32",
    "checkpoint_seconds": 0.0,
}
CASES = {
    "dino": {"objective": "dino", "head_norm": "batch"},
    "dinov2": {
        "objective": "dinov2",
        "global_side": 32,
        "local_side": 16,
        "centring": "sinkhorn",
        "separate_heads": True,
        "ibot_prototypes": 24,
        "head_norm": "none",
        "drop_path_by": "leaving_out",
        "clip_by": "network",
        "checkpointing": True,
        "packing": True,
    },
}
"""Both compute as many parts of a batch with one, two and four processes, so that batch norm and KoLeo see the same."""
RUNS = {
    1: [("dino", "none"), ("dinov2", "none")],
    2: [("dino", "fsdp"), ("dinov2", "none")],
    4: [("dino", "none"), ("dinov2", "fsdp")],
}


def plan_for(case: str, n: int, sharding: str = "none", **changes) -> Plan:
    asked = TINY | CASES[case] | {"accumulation": 4 // n, "sharding": sharding} | changes
    return settle(Recipe.of(asked), Facts(n_pictures=N_PICTURES, processes=n))


@dataclass(frozen=True)
class Place:
    """Where the runs of this file lie."""

    base: Path

    def folder(self, *words: object) -> Path:
        return self.base / "-".join(map(str, words))

    def pixels(self, folder: Path) -> Pixels:
        found = find_pictures(self.base / "photos").pictures
        rows = [Picture(path=f.path, size_bytes=f.size_bytes, mtime_ns=0, rows=60, cols=80) for f in found]
        if distributed.world()[0] == 0:
            folder.mkdir(exist_ok=True)
            PictureList.write(folder, rows)
        distributed.shared(None)
        return Pixels(PictureList(folder), self.base / "photos")

    def learn(self, folder: Path, plan: Plan) -> None:
        """Train from the newest checkpoint of a folder, or from the beginning, in every process that there is."""
        distributed.join("cpu")
        pixels = self.pixels(folder)
        start = checkpoint.newest(folder / "checkpoints")
        train(folder, plan, pixels, lambda _message: None, start=start)

    def cut(self, source: Path, target: Path) -> None:
        """Make a run that was killed after some steps out of one that came to its end."""
        target.mkdir()
        name = f"checkpoints/{checkpoint.part_name(CUT_AT)}"
        shutil.copytree(source / name, target / name)


def train_together(place: Place, n: int) -> None:
    for case, sharding in RUNS[n]:
        place.learn(place.folder(case, n, sharding), plan_for(case, n, sharding))


def in_four(place: Place) -> None:
    train_together(place, 4)
    place.learn(place.folder("dino", "from 1 to 4"), plan_for("dino", 4, "fsdp"))
    plan = plan_for("dinov2", 4, "fsdp")
    objective = OBJECTIVES["dinov2"](plan)
    whole = sum(parameter.numel() for parameter in objective.student.parameters())
    for network in objective.networks:
        distributed.shard(network, torch.device("cpu"), None, learns=network is objective.student)
    held = sum(distributed.share(parameter).numel() for parameter in objective.student.parameters())
    told = distributed.gathered(held)
    if told:
        (place.base / "shares.json").write_text(json.dumps({"whole": whole, "held": told}))


def in_two(place: Place) -> None:
    train_together(place, 2)
    place.learn(place.folder("dinov2", "from 4 to 2"), plan_for("dinov2", 2, "fsdp"))


def in_one_again(place: Place) -> None:
    place.learn(place.folder("dinov2", "from 4 to 1"), plan_for("dinov2", 1, "fsdp"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    place = Place(tmp_path_factory.mktemp("together"))
    write_photos(place.base / "photos", N_PICTURES)
    run_together(1, lambda: train_together(place, 1))
    place.cut(place.folder("dino", 1, "none"), place.folder("dino", "from 1 to 4"))
    run_together(4, lambda: in_four(place))
    for n in (1, 2):
        place.cut(place.folder("dinov2", 4, "fsdp"), place.folder("dinov2", f"from 4 to {n}"))
    run_together(2, lambda: in_two(place))
    run_together(1, lambda: in_one_again(place))
    return place


def measured(folder: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return {line["step"]: line["values"] for line in lines if "loss" in line.get("values", {})}


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    assert newest.step == STEPS
    return newest.tensors()


def assert_same_told(ours: Path, theirs: Path) -> None:
    """Check that the same was measured."""
    ours_told, theirs_told = measured(ours), measured(theirs)
    assert ours_told.keys() == theirs_told.keys() == {1, STEPS}
    for step, told in ours_told.items():
        for name in ("loss", "gradient_norm", "learning_rate"):
            assert told[name] == pytest.approx(theirs_told[step][name], rel=1e-4), (step, name)


def assert_same_weights(ours: Path, theirs: Path) -> None:
    """Check that the same was learnt.

    Not by biases, of which some have no gradient but that of rounding: AdamW makes whole steps of it.
    """
    one, other = state_of(ours), state_of(theirs)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if tensor.ndim > 1 and "exp_avg" not in name:
            torch.testing.assert_close(tensor, other[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "case", "sharding"), [(n, *words) for n in (2, 4) for words in RUNS[n]])
def test_several_processes_learn_what_one_learns(place, case, n, sharding):
    folder, alone = place.folder(case, n, sharding), place.folder(case, 1, "none")
    assert_same_told(folder, alone)
    assert_same_weights(folder, alone)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["dino-from 1 to 4", "dinov2-from 4 to 2", "dinov2-from 4 to 1"])
def test_any_number_of_processes_goes_on_with_what_another_number_left(place, folder):
    assert measured(place.base / folder).keys() == {STEPS}
    assert_same_weights(place.base / folder, place.folder(folder.split("-")[0], 1, "none"))


@pytest.mark.slow
def test_a_split_run_leaves_a_whole_backbone_and_files_that_run_no_code(place):
    folder = place.folder("dinov2", 4, "fsdp")
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    assert sorted(path.name.partition("-model")[0] for path in (newest.folder / "train").iterdir()) == [
        f"shard-0000{i}" for i in (1, 2, 3, 4)
    ]
    assert {path.suffix for path in newest.folder.rglob("*") if path.is_file()} == {".safetensors", ".json"}
    from engine.models.weights import read_backbone

    backbone = read_backbone(folder / "backbone.safetensors").model.state_dict()
    state = newest.tensors()
    for name, tensor in backbone.items():
        assert torch.equal(tensor, state[f"objective.teacher.backbone.{name}"])


@pytest.mark.slow
def test_a_share_that_changed_on_the_disk_makes_the_checkpoint_none(place, tmp_path):
    folder = place.folder("dinov2", 4, "fsdp")
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    newest = checkpoint.newest(tmp_path / "checkpoints")
    assert newest is not None
    file = next((newest.folder / "train").glob("shard-00003-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = checkpoint.newest(tmp_path / "checkpoints")
    assert before is not None
    assert before.step == STEPS - 1


@pytest.mark.slow
def test_a_share_is_a_quarter_as_the_model_of_memory_says(place):
    told = json.loads((place.base / "shares.json").read_text())
    assert sum(told["held"]) == told["whole"]
    shape = plan_for("dinov2", 4).shape
    assert isinstance(shape, VitShape)
    learning = Learning(shape=shape, head=Head(16, 8, 16), patch_head=Head(24, 256, 16))
    said = memory(learning, gpus=4, sharding="fsdp", pictures=1).weights / 4
    assert said == pytest.approx(told["whole"] / 4, rel=0.02)
    assert max(told["held"]) < 1.05 * said  # tensors of fewer rows than processes are nobody's in equal parts


def test_a_network_is_split_where_its_state_does_not_fit():
    asked = {"model": "vit-giant/14", "objective": "dinov2"}
    facts = {"n_pictures": 10**6, "device": "cuda", "cores": 96}
    small = settle(Recipe.of(asked), Facts(**facts, device_memory_bytes=40 * 2**30, processes=64))
    large = settle(Recipe.of(asked), Facts(**facts, device_memory_bytes=141 * 2**30, processes=64))
    alone = settle(Recipe.of(asked), Facts(**facts, device_memory_bytes=40 * 2**30))
    assert (small.run.sharding, large.run.sharding, alone.run.sharding) == ("fsdp", "none", "none")
    assert "GB of weights" in small.reasons["sharding"]


@pytest.mark.parametrize(
    "asked", [{"objective": "byol"}, {"model": "resnet-50"}, {"optimiser": "lars"}, {"precision": "fp16"}]
)
def test_what_nobody_tried_to_split_is_refused(asked):
    with pytest.raises(BadRecipe, match="cannot be split"):
        settle(Recipe.of({"sharding": "fsdp", **asked}), Facts(n_pictures=1000, processes=2))


@pytest.mark.parametrize(("before", "now", "accumulation"), [(4, 2, 2), (4, 1, 4), (2, 4, 1), (1, 8, 1), (4, 4, 1)])
def test_a_batch_is_cut_into_the_same_parts_by_any_number_of_processes(monkeypatch, before, now, accumulation):
    plan = plan_for("dino", min(before, 4), accumulation=4 // before)
    monkeypatch.setenv("WORLD_SIZE", str(now))
    told = []
    changed = on_these_processes(plan, told.append)
    assert bool(told) == (now == 8)  # eight have one picture each where a part was two
    assert (changed.processes, changed.run.accumulation) == (now, accumulation)


def test_processes_that_cannot_share_a_batch_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BadRecipe, match="does not split into 3"):
        on_these_processes(plan_for("dino", 2))


def test_a_job_goes_on_with_its_own_run_and_no_other(tmp_path, monkeypatch):
    write_photos(tmp_path / "photos", 2)
    plan, recipe = plan_for("dino", 1), Recipe.of({"prototypes": 16})
    pictures = [Picture(path="p00.jpg", size_bytes=1, mtime_ns=0, rows=60, cols=80)]
    with Project.at(tmp_path / "p.dinoviz", pictures=tmp_path / "photos") as project:
        assert run_of_job(project, recipe) is None  # no torchrun
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "birds")
        assert run_of_job(project, recipe) is None
        begun = new_run(project, plan, pictures)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "fish")
        new_run(project, plan, pictures)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "birds")
        assert run_of_job(project, recipe) == begun
        assert run_of_job(project, Recipe.of({"prototypes": 32})) is None
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        assert run_of_job(project, Recipe.of({"prototypes": 32})) == begun


def test_processes_meet_under_a_name_of_their_own_whatever_dead_ones_left():
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=20))
    names = set()
    for n in (2, 3, 3):
        with ThreadPoolExecutor(n) as threads:
            met = list(threads.map(lambda rank, n=n: distributed.meeting(store, rank, n), range(n)))
        assert len(set(met)) == 1
        names |= set(met)
    assert len(names) == 3


def test_nobody_meets_the_dead():
    store = dist.HashStore()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda rank: distributed.meeting(store, rank, 3), range(3)))
        first, second = (threads.submit(distributed.meeting, store, rank, 3) for rank in (0, 1))
        time.sleep(0.3)
        assert not first.done()  # the third is one of the dead
        third = distributed.meeting(store, 2, 3)
        assert first.result(20) == second.result(20) == third


def test_a_torchrun_without_a_name_is_told_from_every_other_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    ours = distributed.job()
    assert str(os.getppid()) in ours
    assert distributed.job() == ours


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def processes_of(torchrun: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """Return the processes that torchrun started, by rank."""
    children = psutil.Process(torchrun.pid).children()
    return {child.environ()["RANK"]: child for child in children if "RANK" in child.environ()}


@pytest.mark.slow
def test_a_killed_process_costs_no_more_than_what_came_after_the_last_checkpoint(tmp_path):
    write_photos(tmp_path / "photos", 12)
    asked = {"epochs": "8", "sharding": "fsdp", "measure_epochs": "0", "precision": "fp32", "prepare": "no"}
    command = [word for word in tiny_train(tmp_path / "photos", tmp_path / "p.dinoviz", **asked) if word != "--quiet"]
    torchrun = subprocess.Popen(
        [*TORCHRUN, "--max-restarts", "3", "-m", "engine", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    folder = tmp_path / "p.dinoviz/runs/0001"
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/step-0000000[4-9]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    processes_of(torchrun)["1"].send_signal(signal.SIGKILL)
    told, _ = torchrun.communicate(timeout=200)
    assert torchrun.returncode == 0, told
    assert "Goes on with" in told
    assert [path.name for path in (tmp_path / "p.dinoviz/runs").iterdir()] == ["0001"]
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    assert newest.step == 24
    assert (folder / "backbone.safetensors").exists()
    assert list(measured(folder)) == [1, 11, 21, 24]  # each once, and in order


@pytest.mark.slow
def test_processes_that_have_nothing_to_do_go_home(tmp_path, capfd):
    photos = tmp_path / "photos"
    write_photos(photos, 12)
    command = [*tiny_train(photos, tmp_path / "p.dinoviz"), "--dry-run"]
    find_device("cpu")  # what it imports is then shared
    run_together(2, lambda: run(command))
    assert capfd.readouterr().out.count("Plan for 12 pictures") == 1


@pytest.mark.parametrize(("processes", "here", "machines"), [("1", None, 1), ("8", "8", 1), ("32", "8", 4)])
def test_machines_are_counted_by_their_processes(monkeypatch, processes, here, machines):
    monkeypatch.setenv("WORLD_SIZE", processes)
    if here:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert distributed.machines() == machines
