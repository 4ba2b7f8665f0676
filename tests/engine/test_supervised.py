"""Learning labels: which pictures, the loss in parts, figures, files, and what is said where it cannot work."""

import csv
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from engine.errors import BadInput, BadRecipe
from engine.estimates import flops_per_picture
from engine.images import open_rgb
from engine.measuring.confusion import confusion
from engine.models.weights import load_backbone
from engine.project import Picture
from engine.recipes import Plan, Recipe, settle
from engine.seeing.views import normalise
from engine.settings import Facts
from engine.terminal import run
from engine.training.classes import FEWEST_TO_HOLD_OUT, lesson
from engine.training.classification import read_classifier
from engine.training.confusion_chart import confusion_chart
from engine.training.health import ailments
from engine.training.objectives.objective import Part
from engine.training.objectives.supervised import Supervised
from engine.training.schedules import Moment, moment
from engine.training.train import Run, advance
from tests.makers import run_with, write_photos

CLASSES = ("cat", "dog", "hen")
FACTS = Facts(n_pictures=64, device="cpu", classes=CLASSES)
SMALL = {"objective": "supervised", "depth": 2, "global_side": 16, "batch": 8, "precision": "fp32", "epochs": 2}
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 40, 40)}


def plan_of(**asked) -> Plan:
    return settle(Recipe.of(SMALL | asked), FACTS)


def run_of(plan: Plan, tmp_path) -> Run:
    torch.manual_seed(0)
    objective = Supervised(plan)
    return run_with(objective, tmp_path)


def parts_of(n: int = 1, seed: int = 0) -> list[Part]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (8,), generator=draw)
    colours = torch.nn.functional.one_hot(labels, 3).view(8, 3, 1, 1)
    views = torch.randn(8, 3, 16, 16, generator=draw) * 0.3 + 2 * colours
    return [Part([v], labels_B=b) for v, b in zip(views.chunk(n), labels.chunk(n), strict=True)]


def at_step(plan: Plan, step: int) -> Moment:
    return moment(plan, step)


def pictures(**counts: int) -> list[Picture]:
    """Pictures by split and label: ``train_cat=3``; ``_`` stands for none."""
    found = []
    for name, count in counts.items():
        split, label = (None if word == "no" else word for word in name.split("_"))
        found += [
            Picture(path=f"{name}/{i}.jpg", size_bytes=1, mtime_ns=0, rows=9, cols=9, label=label, split=split)
            for i in range(count)
        ]
    return found


# Which pictures


def test_folders_named_train_val_and_test_are_heeded():
    chosen = lesson(pictures(train_a=8, train_b=9, val_a=2, test_a=3, test_b=1, no_a=5), seed=0)
    assert chosen.classes == ("a", "b")
    assert {picture.split for picture in chosen.learnt} == {"train"}
    assert {split: len(some) for split, some in chosen.held_out.items()} == {"val": 2, "test": 4}
    assert not chosen.is_ours


@given(counts=st.lists(st.integers(0, 40), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_without_such_folders_a_tenth_of_each_class_is_held_out(counts, seed):
    given_ = pictures(**{f"no_{'abcdef'[i]}": count for i, count in enumerate(counts)})
    enough = [count for count in counts if count]
    if len(enough) < 2 or max(counts) < FEWEST_TO_HOLD_OUT:
        with pytest.raises(BadInput):
            lesson(given_, seed)
        return
    chosen = lesson(given_, seed)
    learnt, out = chosen.learnt, chosen.held_out["val"]
    assert sorted(p.path for p in learnt + out) == sorted(p.path for p in given_)
    for i, count in enumerate(counts):
        n_out = sum(p.label == "abcdef"[i] for p in out)
        assert n_out == (max(1, round(count / 10)) if count >= FEWEST_TO_HOLD_OUT else 0)
    assert lesson(given_, seed).held_out == chosen.held_out


def test_pictures_without_labels_and_unknown_classes_are_left_out_and_counted():
    chosen = lesson(pictures(train_a=12, train_b=12, train_no=4, test_a=3, test_z=2), seed=0)
    said = " ".join(chosen.in_words())
    assert (chosen.n_unlabelled, chosen.n_unknown) == (4, 2)
    assert "4 pictures without a label are left out" in said
    assert "2 held-out pictures of classes that nothing is learnt of" in said


def test_classes_with_few_pictures_are_named():
    said = " ".join(lesson(pictures(train_a=12, train_rare=2, test_a=3), seed=0).in_words())
    assert "rare (2)" in said
    assert "a (" not in said


@pytest.mark.parametrize(("given_", "what"), [({"no_a": 9}, "'a'"), ({"no_no": 9}, "none has a label")])
def test_fewer_than_two_classes_are_refused_in_words(given_, what):
    with pytest.raises(BadInput, match=what) as caught:
        lesson(pictures(**given_), seed=0)
    assert "folder of its own" in caught.value.hint


def test_a_plan_without_classes_is_refused():
    with pytest.raises(BadRecipe, match="2 classes at least"):
        settle(Recipe.of(SMALL), Facts(n_pictures=64, classes=("one",)))


def test_a_sharded_classifier_is_refused():
    with pytest.raises(BadRecipe, match="sharding"):
        plan_of(sharding="fsdp")


# What is learnt


def test_deits_settings_are_settled_and_one_crop_is_enough():
    plan = plan_of()
    chosen = plan.supervised
    assert (chosen.mixup, chosen.cutmix, chosen.label_smoothing, chosen.erasing) == (0.8, 1.0, 0.1, 0.25)
    assert (plan.large_crops, plan.crops.local_crops) == (1, 0)
    assert (plan.optimiser.weight_decay, plan.optimiser.weight_decay_end) == (0.05, 0.05)
    assert (plan.crops.blur, plan.crops.grey) == ("off", 0.0)
    assert plan.classes == CLASSES


def test_one_crop_and_no_teacher_cost_less_than_self_distillation():
    own = settle(Recipe.of(SMALL | {"objective": "dino", "local_crops": 0}), FACTS)
    assert flops_per_picture(plan_of()) < 0.45 * flops_per_picture(own)


def test_from_weights_first_blocks_move_less():
    start = plan_of().shape
    plan = settle(Recipe.of(SMALL), Facts(n_pictures=64, classes=CLASSES, start=start))
    rates = {group.rate for group in Supervised(plan).groups() if group.network == "backbone"}
    assert rates == {1.0, 0.75, 0.75**2, 0.75**3}
    assert {group.rate for group in Supervised(plan).groups() if group.network == "head"} == {1.0}


@pytest.mark.parametrize("features", ["cls", "cls+mean"])
def test_the_loss_falls_and_backbone_and_head_both_learn(features, tmp_path):
    plan = plan_of(head_features=features, mixup=0.0, cutmix=0.0, erasing=0.0, learning_rate=0.03)
    run_ = run_of(plan, tmp_path)
    before = {name: p.clone() for name, p in run_.objective.student.named_parameters()}
    told = [advance(run_, parts_of(), step, at_step(plan, step), watch=True) for step in range(8)]
    assert told[-1]["loss"] < 0.85 * told[0]["loss"]
    assert told[-1]["train_accuracy"] > told[0]["train_accuracy"]
    moved = [name for name, p in run_.objective.student.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) == len(before)


def test_without_mixing_the_loss_is_torchs_own(tmp_path):
    plan = plan_of(mixup=0.0, cutmix=0.0, erasing=0.0)
    objective = run_of(plan, tmp_path).objective
    (part,) = parts_of()
    at = at_step(plan, 0)
    (answer,) = objective.answers([part], at)
    expected = torch.nn.functional.cross_entropy(
        objective.student(part.views_VBCYX[0]).logits_BK, part.labels_B, label_smoothing=0.1
    )
    assert objective.loss(part, answer, at).total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_batch_in_parts_is_erased_and_pasted_alike_and_mixed_by_one_share(tmp_path):
    plan = plan_of(mixup=0.0, cutmix=0.0, erasing=0.8)
    objective = run_of(plan, tmp_path).objective
    gradients = []
    for n in (1, 2, 4):
        objective.zero_grad()
        parts, at = parts_of(n), at_step(plan, 3)
        for part, answer in zip(parts, objective.answers(parts, at), strict=True):
            (objective.loss(part, answer, at).total / n).backward()
        gradients.append(objective.student.head.weight.grad.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)
    mixes = {answer.mix for answer in run_of(plan_of(), tmp_path).objective.answers(parts_of(4), at_step(plan, 3))}
    assert len(mixes) == 1


def test_who_judges_draws_nothing_and_keeps_the_mode(tmp_path):
    objective = run_of(plan_of(drop_path=0.5), tmp_path).objective
    pictures_ = parts_of()[0].views_VBCYX[0]
    assert torch.equal(objective.judge(pictures_), objective.judge(pictures_))
    assert objective.student.training


def test_frequencies_of_classes_are_carried_by_the_state(tmp_path):
    run_ = run_of(plan_of(), tmp_path)
    told = advance(run_, parts_of(), 0, at_step(run_.plan, 0), watch=True)
    counts = run_.objective.state_dict()["counts_K"]
    assert counts.tolist() == torch.bincount(parts_of()[0].labels_B, minlength=3).tolist()
    shares = (counts / counts.sum()).double() * 0.9 + 0.1 / 3
    assert told["knowing_nothing"].item() == pytest.approx(float(-(shares * shares.log()).sum()), rel=1e-5)


# Figures


@settings(deadline=None)
@given(seed=st.integers(0, 999), n_classes=st.integers(2, 9), n=st.integers(1, 60))
def test_figures_of_classes_equal_scikit_learns(seed, n_classes, n):
    random = np.random.default_rng(seed)
    scores, labels = random.normal(size=(n, n_classes)), random.integers(0, n_classes, n)
    found = confusion(torch.from_numpy(scores), torch.from_numpy(labels), tuple("abcdefghi"[:n_classes]))
    answers = scores.argmax(axis=1)
    theirs = precision_recall_fscore_support(labels, answers, labels=range(n_classes), zero_division=np.nan)
    for place, name in enumerate(("precision", "recall")):
        ours = np.array([getattr(figures, name) for figures in found.classes()])
        assert np.allclose(ours, theirs[place], equal_nan=True)
    assert found.accuracy == pytest.approx((answers == labels).mean())
    within = np.argsort(-scores, axis=1)[:, :5]
    assert found.scores().get("top5") == (
        pytest.approx((within == labels[:, None]).any(axis=1).mean()) if n_classes > 5 else None
    )
    assert sum(count for _, _, count in found.mistakes(100)) == (answers != labels).sum()


@pytest.mark.parametrize("n", [2, 10, 60, 400])
def test_a_matrix_of_any_size_is_drawn_with_right_answers_in_blue(n):
    names = tuple(f"class {i} {'long' * (i % 7)}" for i in range(n))
    found = confusion(torch.eye(n), torch.arange(n), names)
    drawn = confusion_chart(found, "all right")
    blue = (drawn == (0, 114, 178)).all(axis=2).sum()
    red = (drawn == (213, 94, 0)).all(axis=2).sum()
    assert red == 0
    assert blue >= n
    assert max(drawn.shape) < 1700


def test_health_names_a_classifier_that_learns_nothing_and_one_at_chance():
    nothing = {"cross_entropy": 2.0, "knowing_nothing": 2.01}
    assert [a.name for a in ailments(nothing, 0.0)] == ["nothing learnt"]
    assert ailments(nothing | {"cross_entropy": 1.5}, 0.0) == []
    assert [a.name for a in ailments({"accuracy": 0.2, "largest_class": 0.2}, 0.0)] == ["accuracy at chance"]
    assert ailments({"accuracy": 0.4, "largest_class": 0.2}, 0.0) == []


# The command


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Pictures whose label is their colour."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(12):
            noisy = np.clip(random.normal(colour, 25, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{i:02d}.png")
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(folder / "unlabelled.png")
    return folder


@pytest.fixture(scope="module")
def taught(coloured, tmp_path_factory):
    """A run that learnt the colours."""
    project = tmp_path_factory.mktemp("project") / "p.dinoviz"
    flags = {
        "objective": "supervised",
        "depth": 2,
        "global-side": 16,
        "batch": 8,
        "epochs": 12,
        "workers": 0,
        "probes": 1,
        "measure-epochs": 4,
        "hue": 0,
        "learning-rate": 0.03,
        "device": "cpu",
    }
    assert (
        run(["train", str(coloured), "--project", str(project), "--quiet", *(f"--{n}={v}" for n, v in flags.items())])
        == 0
    )
    return project / "runs/0001"


def test_a_run_leaves_figures_of_pictures_it_did_not_learn(taught):
    figures = json.loads((taught / "classification.json").read_text())
    assert (figures["asked"], figures["pictures"]) == ("validation", 3)
    assert figures["accuracy"] == 1.0
    assert [row["name"] for row in figures["classes"]] == list(COLOURS)
    assert np.array(figures["confusion"]).sum() == 3
    with (taught / "classification.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recall"] for row in rows] == ["1.0"] * 3
    with Image.open(taught / "confusion.png") as drawn:
        assert drawn.size[0] > 300
    measured = [json.loads(line) for line in (taught / "events.jsonl").read_text().splitlines()]
    accuracies = [told["values"]["accuracy"] for told in measured if "accuracy" in told.get("values", {})]
    assert len(accuracies) == 4
    assert accuracies[-1] == 1.0


def test_backbone_and_kept_classifier_together_name_a_picture(taught, coloured):
    weight, bias, about = read_classifier(taught / "classifier.safetensors")
    backbone = load_backbone(str(taught))
    picture = open_rgb(coloured / "green" / "03.png")[4:20, 4:20]
    with torch.inference_mode():
        cls_BD = backbone.model(normalise(torch.from_numpy(picture.copy())[None])).cls_BD
    assert about["classes"][(cls_BD @ weight.T + bias).argmax()] == "green"
    assert (about["features"], about["side"]) == ("cls", 16)


def test_labels_and_held_out_pictures_are_fixed_when_the_run_starts(taught):
    plan = json.loads((taught / "plan.json").read_text())["plan"]
    labels = np.load(taught / "pictures.labels.npy")
    assert plan["classes"] == list(COLOURS)
    assert np.bincount(labels).tolist() == [11, 11, 11]
    assert np.load(taught / "held-out/val/pictures.labels.npy").tolist() == [0, 1, 2]
    assert plan["pictures"] == 33


def test_a_run_of_unlabelled_pictures_ends_in_words(tmp_path, capsys):
    write_photos(tmp_path / "photos", 6)
    assert run(["train", str(tmp_path / "photos"), "--objective", "supervised", "--device", "cpu"]) == 3
    assert "none has a label" in capsys.readouterr().err
