"""What holds for every way to learn: resume, numbers that are not finite, collapse, odd pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import engine.training.train as loop
from engine.catalogue import OBJECTIVES as ABOUT
from engine.catalogue import heeded
from engine.errors import Diverged
from engine.settings import FIELDS
from engine.terminal import run
from engine.training.objectives import OBJECTIVES
from tests.killing import TINY, Killer, differences, state_of
from tests.makers import write_photos

SMALL = TINY | {
    "global-side": "32",
    "local-side": "16",
    "epochs": "3",
    "projector-width": "16",
    "projector-out": "8",
    "predictor-width": "16",
    "queue": "16",
    "swav-prototypes": "16",
    "teacher": "bundled",
    "teacher-side": "16",
    "separate-heads": "yes",
    "ibot-prototypes": "16",
    "ibot-bottleneck": "8",
}
"""A tiny run of any objective, which takes of these what it heeds."""


def train(objective: str, photos: Path, project: Path, **changed: str) -> list[str]:
    """Return the command that starts a tiny run of an objective."""
    flags = SMALL | {name.replace("_", "-"): value for name, value in changed.items()}
    sections = heeded(objective)
    flags = {name: value for name, value in flags.items() if FIELDS[name.replace("-", "_")][0] in sections}
    flags["objective"] = objective
    return ["train", str(photos), "--project", str(project), "--quiet", *(f"--{n}={v}" for n, v in flags.items())]


def scanned(folder: Path) -> tuple[Path, Path]:
    """Return a folder of pictures with a project that knows them: looking at them takes longer than a tiny run."""
    project = folder.with_suffix(".dinoviz")
    assert run(["scan", str(folder), "--quiet"]) in (0, 4)
    assert project.is_dir()
    return folder, project


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, 12, labels=("a", "b"))
    return scanned(folder)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alike") / "photos"
    for i in range(12):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40 + i, 40, 3), 128, np.uint8)).save(place / f"p{i:02d}.png")
    return scanned(folder)


@pytest.fixture(scope="module")
def odd(photos, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "photos"
    shutil.copytree(photos[0], folder)
    for path in sorted((data / "odd").rglob("*")):
        if path.is_file():
            shutil.copy(path, folder / "a" / f"odd-{path.name}")
    return scanned(folder)


@pytest.fixture
def project_of(tmp_path):
    """Copies the project of a scanned folder, for one test to train in."""

    def copied(of: tuple[Path, Path]) -> tuple[Path, Path]:
        folder, project = of
        return folder, Path(shutil.copytree(project, tmp_path / "p.dinoviz"))

    return copied


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def told_in(project: Path) -> list[dict]:
    return [json.loads(line) for line in (project / "runs/0001/events.jsonl").read_text().splitlines()]


def test_every_objective_of_the_catalogue_is_there():
    assert list(OBJECTIVES) == list(ABOUT)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(objective, photos, project_of):
    folder, project = project_of(photos)
    killer = Killer(3)
    assert killer.finish(train(objective, folder, project)) == 0
    assert killer.kill_inside_a_save(train(objective, folder, project), 25)
    assert killer.finish(["resume", str(project / "runs/0002"), "--quiet"]) == 0
    assert differences(state_of(project / "runs/0002"), state_of(project / "runs/0001")) == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_numbers_that_are_not_finite_end_the_run_and_leave_the_checkpoint_before(
    objective, photos, project_of, monkeypatch
):
    calls = [0]
    healthy = 5 if objective == "supervised" else 20  # crops of five steps: labels are learnt from one a picture
    normalise = loop.normalise

    def poisoned(pictures: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return normalise(pictures) * (float("nan") if calls[0] > healthy else 1.0)

    monkeypatch.setattr(loop, "normalise", poisoned)
    folder, project = project_of(photos)
    assert run(train(objective, folder, project)) == Diverged.exit_code
    newest = sorted((project / "runs/0001/checkpoints").glob("step-*"))[-1]
    tensors = load_file(newest / "train.safetensors").values()
    assert all(torch.isfinite(tensor).all() for tensor in tensors if tensor.is_floating_point())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_features_that_are_all_alike_are_named_with_a_remedy(objective, alike, project_of):
    folder, project = project_of(alike)
    epochs = "60" if objective == "supervised" else "40"  # of two steps, since it holds pictures out, or of three
    plain = {"jitter": "0", "grey": "0", "solarize": "0", "blur": "off", "erasing": "0"}
    command = train(objective, folder, project, epochs=epochs, measure_epochs="0", checkpoint_seconds="1000", **plain)
    assert run(command) == 0
    warnings = [told for told in told_in(project) if told.get("level") == "warning"]
    assert any("features alike" in told["text"] or "collapse" in told["text"] for told in warnings), warnings
    assert all(told["hint"] for told in warnings)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_odd_and_broken_files_beside_the_photos_do_not_stop_it(objective, odd, project_of):
    folder, project = project_of(odd)
    assert run(train(objective, folder, project, epochs="2")) in (0, 4)
    assert (project / "runs/0001/backbone.safetensors").exists()
