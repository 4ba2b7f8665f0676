"""A run that starts from weights: new heads first, low rates, a guard that goes back, adapters that fold in."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import BadRecipe
from engine.machine import find_device
from engine.models.weights import load_backbone, read_backbone
from engine.protocol import Measured, Noticed, decode
from engine.recipes import Plan, Recipe, settle
from engine.settings import Facts
from engine.terminal import run as run_engine
from engine.training import checkpoint
from engine.training import train as training
from engine.training.schedules import moment
from tests.killing import Killer, differences, state_of, tiny_train
from tests.makers import TINY, write_photos
from tests.together import run_together

GUARDED = {"guard": "yes", "guard-every": "2", "heads-first-epochs": "2", "probes": "0"}
HARMFUL = {"learning-rate": "10", "momentum": "0", "momentum-end": "0", "warmup-epochs": "0"}
"""Each step moves every weight by up to 0.16, and the teacher follows at once: two lose what was known."""
WHO = ("student", "teacher")
GENTLE = {"learning-rate": "1e-8", "learning-rate-end": "0"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, 12)
    return folder


@pytest.fixture(scope="module")
def start(photos, tmp_path_factory):
    """A run whose backbone others start from."""
    project = tmp_path_factory.mktemp("start") / "p.dinoviz"
    assert Killer(0).finish(tiny_train(photos, project, epochs="1")) == 0
    return project / "runs/0001"


@pytest.fixture(scope="module")
def tuned(photos, start, tmp_path_factory):
    """Return a function that trains from the start's weights in a project of its own and returns the run."""

    def train(**changed: str) -> Path:
        project = tmp_path_factory.mktemp("tuned") / "p.dinoviz"
        flags = {"checkpoint-seconds": "1000", **changed}
        assert Killer(0).finish(tiny_train(photos, project, init=str(start), **flags)) == 0
        return project / "runs/0001"

    return train


@pytest.fixture(scope="module")
def harmed(tuned):
    return tuned(**GUARDED, **HARMFUL)


def _messages(run: Path, kind: type) -> list:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [message for message in map(decode, lines) if isinstance(message, kind)]


def _state(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Return what was learnt at a step, without what the guard knows."""
    tensors = checkpoint.of_step(run / "checkpoints", step).tensors()
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("guard.")}


def _backbone(run: Path) -> dict[str, torch.Tensor]:
    return read_backbone(run / "backbone.safetensors").model.state_dict()


def test_harm_is_undone_to_the_bit_and_the_start_is_kept(harmed, start):
    warnings = [notice.text for notice in _messages(harmed, Noticed) if notice.level == "warning"]
    assert [text.split(":")[0] for text in warnings if "oll" in text] == [f"Rollback {i}" for i in (1, 2, 3, 4)]
    assert differences(_backbone(harmed), _backbone(start)) == []
    best = json.loads((harmed / "checkpoints/BEST.json").read_text())
    newest = checkpoint.newest(harmed / "checkpoints")
    assert best == {"step": 6, "score": 1.0}  # the end of the epochs in which heads alone learnt
    assert newest is not None
    assert newest.step == 16  # the fifth look after step 6 ended the run
    assert differences(_state(harmed, newest.step), _state(harmed, best["step"])) == []
    last = _messages(harmed, Noticed)[-1].text
    assert "nothing was better than the weights it started from" in last
    assert "4 rollbacks, then ended" in last


def test_each_rollback_halves_the_learning_rate(harmed):
    rates = {m.step: m.values["learning_rate"] for m in _messages(harmed, Measured) if "learning_rate" in m.values}
    plan = Plan.model_validate(json.loads((harmed / "plan.json").read_text())["plan"])
    assert rates[1] == pytest.approx(moment(plan, 0).learning_rate)
    assert rates[11] == pytest.approx(moment(plan, 10).learning_rate / 4)


def test_a_run_that_ended_is_over_when_taken_up_again(harmed):
    before = state_of(harmed)
    assert Killer(0).finish(["resume", str(harmed), "--quiet"]) == 0
    assert differences(state_of(harmed), before) == []


def test_a_run_that_went_back_and_was_killed_ends_as_if_it_was_not(photos, start, harmed, tmp_path):
    killer = Killer(3)
    project = tmp_path / "p.dinoviz"
    run = project / "runs/0001"
    assert killer.kill_inside_a_save(tiny_train(photos, project, init=str(start), **GUARDED, **HARMFUL), 75)
    for call in (25, 15):
        assert killer.kill_inside_a_save(["resume", str(run), "--quiet"], call)
    assert killer.finish(["resume", str(run), "--quiet"]) == 0
    assert differences(state_of(run), state_of(harmed)) == []


def test_a_run_that_is_forked_is_guarded_from_where_it_begins(harmed):
    command = [
        "resume",
        str(harmed),
        "--fork",
        "--epochs=7",
        "--learning-rate=1e-8",
        "--learning-rate-end=0",
        "--quiet",
    ]
    assert Killer(0).finish(command) == 0
    looks = [m for m in _messages(harmed.parent / "0002", Measured) if "guard_score" in m.values]
    assert (looks[0].step, looks[0].values["guard_score"]) == (16, 1.0)
    assert looks[-1].step == 21
    assert checkpoint.best_step(harmed.parent / "0002/checkpoints") is not None


def test_a_guard_that_finds_no_harm_changes_nothing(tuned):
    guarded = tuned(**GUARDED, **GENTLE, epochs="4")
    unguarded = tuned(**GUARDED | {"guard": "no"}, **GENTLE, epochs="4")
    assert not [notice for notice in _messages(guarded, Noticed) if "Rollback" in notice.text]
    assert differences(_state(guarded, 12), _state(unguarded, 12)) == []
    assert "guard_score" in _messages(guarded, Measured)[0].values
    assert not any("guard_score" in measured.values for measured in _messages(unguarded, Measured))


def test_what_the_guard_says_is_measured_and_told_before_and_after(harmed):
    looks = [m for m in _messages(harmed, Measured) if "guard_score" in m.values]
    assert (looks[0].step, looks[0].values["guard_score"], looks[0].values["neighbours_of_start"]) == (0, 1.0, 1.0)
    assert min(look.values["guard_score"] for look in looks) < 0.9
    assert looks[-1].step == 16
    assert looks[-1].values["guard_score"] == 1.0  # of what is kept


def test_a_gradient_that_is_not_finite_is_undone_too(photos, start, tmp_path, monkeypatch):
    def poisoned(plan, step):
        at = moment(plan, step)
        return replace(at, teacher_temperature=math.nan) if step == 12 else at

    monkeypatch.setattr(training, "moment", poisoned)  # the children are forked
    project = tmp_path / "p.dinoviz"
    command = tiny_train(photos, project, init=str(start), **GUARDED | {"guard-every": "18"}, **GENTLE)
    assert Killer(0).finish(command) == 0
    run = project / "runs/0001"
    assert any("Rollback 1: the loss or a gradient stopped" in notice.text for notice in _messages(run, Noticed))
    assert all(tensor.isfinite().all() for tensor in _backbone(run).values())


def test_a_backbone_stands_still_while_heads_learn_and_moves_then(tuned, start):
    run = tuned(**GUARDED | {"guard": "no", "epochs": "3", "momentum": "0.5", "checkpoint-seconds": "0"})
    before = {f"objective.{who}.backbone.{name}": t for name, t in _backbone(start).items() for who in WHO}
    first, last = _state(run, 7), _state(run, 9)  # the first of three steps has no rate yet: they warm up
    assert differences({name: first[name] for name in before}, before) == []
    assert "objective.student.head.mlp.0.weight" in differences(first, _state(run, 9))
    moved = differences({name: last[name] for name in before}, before)
    assert {"objective.student.backbone.cls_token", "objective.teacher.backbone.cls_token"} <= set(moved)


def test_an_adapted_run_leaves_an_ordinary_backbone(tuned, start):
    run = tuned(**{"lora-rank": "2", "learning-rate": "0.1", "heads-first-epochs": "0", "guard": "no", "epochs": "2"})
    ours, theirs = _backbone(run), _backbone(start)
    assert ours.keys() == theirs.keys()
    assert sorted(differences(ours, theirs)) == ["blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]
    change = ours["blocks.1.attn.qkv.weight"] - theirs["blocks.1.attn.qkv.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-4) <= 2
    assert load_backbone(str(run)).shape == load_backbone(str(start)).shape


def test_an_adapted_run_goes_on_as_if_nothing_had_happened(photos, start, tmp_path):
    flags = {**GUARDED, "lora-rank": "2", "heads-first-epochs": "1", "learning-rate": "0.1", "epochs": "3"}
    killer, states = Killer(4), []
    for name, call in (("whole", None), ("cut", 40)):
        project = tmp_path / f"{name}.dinoviz"
        command = tiny_train(photos, project, init=str(start), **flags)
        if call:
            assert killer.kill_inside_a_save(command, call)
            command = ["resume", str(project / "runs/0001"), "--quiet"]
        assert killer.finish(command) == 0
        states.append(state_of(project / "runs/0001"))
    assert differences(*states) == []


FACTS = Facts(n_pictures=3000, median_side=200, start=TINY)


def _settled(facts: Facts = FACTS, **asked: object) -> Plan:
    return settle(Recipe.of(asked), facts)


def test_schedules_begin_anew_when_the_backbone_begins_to_learn():
    plan = _settled(epochs=20, heads_first_epochs=4, warmup_epochs=2)
    first, per_epoch = plan.heads_first_steps, plan.steps_per_epoch
    assert first == 4 * per_epoch
    heads, body = [moment(plan, step) for step in range(first)], [moment(plan, s) for s in range(first, plan.steps)]
    assert max(at.learning_rate for at in heads) == pytest.approx(plan.tuning.heads_rate * plan.run.batch / 256)
    assert heads[-1].learning_rate < 1e-4 * max(at.learning_rate for at in heads) + plan.optimiser.learning_rate_end
    assert body[0].learning_rate == 0.0
    assert max(at.learning_rate for at in body) == pytest.approx(plan.optimiser.learning_rate * plan.run.batch / 256)
    assert {at.momentum for at in heads} == {min(0.99, plan.dino.momentum)}
    assert (body[0].momentum, body[0].weight_decay) == pytest.approx((plan.dino.momentum, plan.optimiser.weight_decay))
    assert body[-1].momentum == pytest.approx(1.0, abs=1e-4)
    assert [heads[0].epoch_of_phase, heads[-1].epoch_of_phase, body[0].epoch_of_phase] == [0, 3, 0]
    assert body[0].epoch == 4


def test_from_noise_nothing_is_guarded_and_nothing_waits():
    plan = _settled(Facts(n_pictures=3000, median_side=200))
    assert (plan.tuning.heads_first_epochs, plan.tuning.guard, plan.tuning.lora_rank) == (0, False, 0)
    assert plan.optimiser.layer_decay == 1.0
    assert "noise" in plan.reasons["guard"]


def test_from_weights_rates_are_low_and_fall_towards_the_first_block():
    plan = _settled(epochs=60)
    assert plan.tuning.guard
    assert plan.tuning.heads_first_epochs == 11  # 1,000 steps of 93 an epoch
    assert (plan.optimiser.layer_decay, plan.optimiser.patch_embed_rate) == (0.9, 0.2)
    assert plan.dino.teacher_temperature == plan.dino.teacher_temperature_start == 0.04
    assert plan.optimiser.warmup_epochs == 5
    assert plan.dino.momentum > 0.998
    assert math.log(2) / (1 - plan.dino.momentum) == pytest.approx(49 * 93 / 10, rel=0.01)
    assert plan.tuning.heads_first_epochs * 93 + 20 * plan.tuning.guard_every >= plan.steps


@pytest.mark.parametrize(
    ("facts", "asked", "named"),
    [
        (Facts(n_pictures=3000), {"guard": True}, "guard"),
        (Facts(n_pictures=3000), {"heads_first_epochs": 1}, "heads_first_epochs"),
        (Facts(n_pictures=3000), {"lora_rank": 4}, "lora_rank"),
        (FACTS, {"epochs": 3, "heads_first_epochs": 3}, "heads_first_epochs"),
        (FACTS, {"lora_rank": 33}, "lora_rank"),
    ],
)
def test_what_cannot_be_taken_care_of_is_refused(facts, asked, named):
    with pytest.raises(BadRecipe, match=named):
        _settled(facts, **asked)


def test_labels_and_teachers_need_no_guard():
    facts = Facts(n_pictures=3000, median_side=200, start=TINY, classes=("a", "b"))
    plan = _settled(facts, objective="supervised")
    assert not plan.tuning.guard
    assert plan.tuning.heads_first_epochs == 0


@pytest.mark.slow
def test_two_processes_go_back_together(photos, start, tmp_path):
    project = tmp_path / "p.dinoviz"
    command = tiny_train(photos, project, init=str(start), **GUARDED, **HARMFUL)
    find_device("cpu")  # what it imports is then shared

    def train() -> None:
        assert run_engine(command) == 0

    run_together(2, train)
    assert [n.text[:10] for n in _messages(project / "runs/0001", Noticed) if n.text.startswith("Rollback")] == [
        f"Rollback {i}" for i in (1, 2, 3, 4)
    ]
    assert differences(_backbone(project / "runs/0001"), _backbone(start)) == []
