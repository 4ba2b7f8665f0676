import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dinoviz.table import PictureTable
from dinoviz.views.train import run_plan
from dinoviz.views.train.run_plan import Ground, prepared
from engine.facts import Machine, start_shape
from engine.project import Project
from engine.recipes import Recipe
from engine.settings import FIELDS
from tests.dinoviz.projects import scanned

ENGINE = [sys.executable, "-m", "engine"]
CPU = Machine(
    device="cpu", device_name="x", device_memory_bytes=16 << 30, has_bf16=True, cores=2, memory_bytes=16 << 30
)
GPU = Machine(
    device="cuda", device_name="y", device_memory_bytes=24 << 30, has_bf16=True, cores=2, memory_bytes=1 << 34
)


def ground(n: int = 3000, **changes) -> Ground:
    facts = {
        "shorter_sides": np.full(n, 224, np.int32),
        "machines": (CPU,),
        "project": Path.cwd(),
        "shape_of": lambda model: start_shape(model, Path("nowhere")),
    }
    return Ground(**(facts | changes))


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_name_a_control_and_a_sentence(name):
    info = FIELDS[name][1]
    assert run_plan.label_of(name)
    assert "_" not in run_plan.label_of(name)
    assert run_plan.kind_of(info) in ("choice", "switch", "whole", "number", "text")
    assert info.description in run_plan.help_of(name)
    assert run_plan.matches(name, run_plan.label_of(name)[:4])


def test_what_is_left_open_is_settled_with_a_reason():
    made = prepared({}, ground())
    assert made.can_start
    assert made.plan.model.model == "vit-tiny/8"
    assert made.plan.reasons["model"]
    assert made.took.seconds > 0


def test_what_cannot_be_is_told_at_its_field_and_the_rest_is_still_settled():
    made = prepared({"batch": "abc", "epochs": "7", "local_side": "20", "grey": "3", "prepare": "perhaps"}, ground())
    assert set(made.problems) == {"batch", "local_side", "grey", "prepare"}
    assert "whole number" in made.problems["batch"]
    assert "0 to 1" in made.problems["grey"]
    assert "'Side of small crops' 20" in made.problems["local_side"]
    assert made.plan.run.epochs == 7
    assert not made.can_start


def test_labels_can_be_learnt_where_there_are_two_classes():
    assert prepared({"objective": "supervised"}, ground(classes=("a", "b"))).can_start
    assert "2 classes" in prepared({"objective": "supervised"}, ground(classes=("a",))).problem


def test_an_unknown_architecture_is_told_at_the_model():
    assert "vit-huge" in prepared({"model": "vit-huge/16"}, ground()).problems["model"]


def test_sentences_of_the_engine_name_fields_as_the_form_does():
    told = run_plan.as_the_form_says("Switch on head_norm batch or --init; not --later or some_thing.")
    assert told == "Switch on 'Head norm' batch or 'Start from'; not --later or some_thing."


def test_too_few_pictures_are_nobodys_field():
    made = prepared({}, ground(1))
    assert made.plan is None
    assert "1 readable" in made.problem
    assert not made.can_start


def test_the_device_that_is_asked_for_gives_the_facts():
    both = ground(machines=(GPU, CPU))
    assert prepared({}, both).plan.model.model == "vit-small/16"
    assert prepared({"device": "cpu"}, both).plan.model.model == "vit-tiny/8"


def test_a_start_gives_its_shape_and_an_unknown_one_is_refused():
    made = prepared({"init": "bundled"}, ground())
    assert made.plan.model.depth == 6
    assert "that of the weights" in made.plan.reasons["model"]
    assert "Models" in prepared({"init": "/nowhere/x.pth"}, ground()).problems["init"]


def test_a_key_costs_little():
    texts = {name: "1" for name in FIELDS if run_plan.kind_of(FIELDS[name][1]) == "whole"}
    here = ground(100_000)
    prepared(texts, here)
    begun = time.perf_counter()
    for _ in range(5):
        prepared(texts, here)
    assert (time.perf_counter() - begun) / 5 < 0.03


def test_a_run_file_is_read_back_as_it_was(tmp_path):
    recipe = Recipe.of(
        {"epochs": "30", "blur": "off", "koleo": "0.1", "prepare": "no", "init": 'a "b" \\ ü.safetensors'}
    )
    path = tmp_path / "run.toml"
    path.write_text(run_plan.run_file(recipe), encoding="utf-8")
    assert Recipe.read(path).asked == recipe.asked
    texts = run_plan.asked_texts(recipe)
    assert Recipe.of(texts).asked == recipe.asked


def test_what_a_plan_was_asked_for_is_known_from_it():
    made = prepared({"epochs": "30", "clip": "3", "koleo": "0.1"}, ground())
    assert run_plan.asked_of(made.plan).asked == {"epochs": 30, "koleo": 0.1}  # 3 is the usual clip


@pytest.fixture
def split_project(tmp_path) -> Path:
    scanned(tmp_path, 12, ("train/cat", "train/dog", "test/cat"), broken=1)
    return tmp_path / "photos.dinoviz"


def test_the_pictures_are_those_that_the_engine_learns_from(split_project):
    with Project.at(split_project) as project:
        table = PictureTable.read(project)
    assert len(run_plan.sides_to_learn_from(table, (), None)) == 8
    chosen = table.ids_N[:3]
    assert len(run_plan.sides_to_learn_from(table, (int(chosen[0]),), chosen)) == 2


def test_the_classes_are_those_of_the_pictures_to_learn_from(split_project):
    with Project.at(split_project) as project:
        table = PictureTable.read(project)
    assert run_plan.classes_to_learn(table, (), None) == ("cat", "dog")
    dogs = [number for number in table.ids_N.tolist() if table.label_of(number) == "dog"]
    assert run_plan.classes_to_learn(table, dogs, None) == ("cat",)


def test_the_plan_of_the_window_is_that_of_the_dry_run(split_project):
    doctor = json.loads(subprocess.run([*ENGINE, "doctor", "--json"], capture_output=True, check=True).stdout)
    with Project.at(split_project) as project:
        table = PictureTable.read(project)
    texts = {"epochs": "30", "init": "bundled", "device": "cpu"}
    here = ground(
        shorter_sides=run_plan.sides_to_learn_from(table, (), None),
        machines=tuple(Machine(**device) for device in doctor["devices"]),
        project=split_project,
    )
    made = prepared(texts, here)
    arguments = run_plan.train_arguments(split_project, made.recipe)
    done = subprocess.run([*ENGINE, *arguments, "--dry-run", "--json", "--quiet"], capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert json.loads(made.plan.model_dump_json()) == told["plan"]
    assert told["estimate"]["seconds"] == pytest.approx(made.took.seconds)
