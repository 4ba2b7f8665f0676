"""Learning from a frozen teacher: what it answers, of what it is kept, and that the student comes near it."""

import copy
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from engine.errors import BadInput, BadRecipe
from engine.models.weights import load_backbone, write_backbone
from engine.project import Picture
from engine.recipes import Recipe, settle
from engine.seeing.views import central, normalise
from engine.settings import Facts, TeacherFacts
from engine.terminal import run
from engine.training.losses import teacher_answer
from engine.training.named_teachers import keep_teacher, load_teacher
from engine.training.objectives.distillation import Distillation, distillation_loss, patch_loss
from engine.training.objectives.objective import Part
from engine.training.pictures import PictureList, Pixels
from engine.training.schedules import moment
from engine.training.teachers import kept_teacher
from engine.training.train import Run, advance
from tests.killing import tiny_train
from tests.makers import TINY, run_with, tiny_backbone, write_photos

N = 12
SMALL = {
    "objective": "distillation",
    "depth": 2,
    "global_side": 24,
    "local_side": 16,
    "local_crops": 2,
    "batch": 4,
    "epochs": 4,
    "precision": "fp32",
    "head_width": 16,
    "bottleneck": 8,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    write_photos(folder, N, labels=("a", "b"))
    return folder


@pytest.fixture(scope="module")
def teaching_run(photos, tmp_path_factory):
    """A finished run of DINO: a teacher with a head."""
    project = tmp_path_factory.mktemp("teacher") / "p.dinoviz"
    assert run(tiny_train(photos, project, epochs="2", checkpoint_seconds="1000")) == 0
    return project / "runs/0001"


@pytest.fixture
def bare(tmp_path):
    """A file of weights without a head, made for colours that are not ImageNet's."""
    backbone = tiny_backbone()
    path = tmp_path / "teacher.safetensors"
    write_backbone(path, backbone.model, TINY, about={}, mean=backbone.mean, std=backbone.std)
    return str(path)


def pixels_of(photos, folder) -> Pixels:
    files = sorted(photos.rglob("*.jpg"))
    listed = [
        Picture(path=str(path.relative_to(photos)), size_bytes=1, mtime_ns=0, rows=60, cols=80, id=i)
        for i, path in enumerate(files)
    ]
    return Pixels(PictureList.write(folder, listed), photos)


def run_of(teacher: str, photos, folder, *, is_new: bool = True, **asked) -> Run:
    facts = Facts(n_pictures=N, device="cpu", teacher=load_teacher(teacher).facts())
    plan = settle(Recipe.of(SMALL | {"teacher": teacher} | asked), facts)
    torch.manual_seed(0)
    objective = Distillation(plan)
    if not (folder / "teacher").is_dir():
        keep_teacher(folder, teacher)
    objective.begin(folder, pixels_of(photos, folder), torch.device("cpu"), is_new=is_new)
    return run_with(objective, folder)


def parts_of(n: int = 1, seed: int = 0) -> list[Part]:
    draw = torch.Generator().manual_seed(seed)
    pictures = torch.randn(4, 3, 3, 3, generator=draw)
    views = []
    for view in range(4):
        noisy = pictures + 0.1 * torch.randn(pictures.shape, generator=draw)
        views.append(F.interpolate(noisy, size=(24, 24) if view < 2 else (16, 16), mode="bilinear"))
    return [Part(list(of_part)) for of_part in zip(*(view.chunk(n) for view in views), strict=True)]


# The teacher


def test_a_teacher_sees_pictures_by_its_own_colours_and_at_its_own_side(bare):
    teacher = load_teacher(bare)
    backbone = load_backbone(bare)
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    seen = teacher(normalise(picture), 32)
    with torch.inference_mode():
        expected = backbone.model(normalise(picture, backbone.mean, backbone.std))
    assert torch.allclose(seen.cls_BD, expected.cls_BD, atol=1e-5)
    assert teacher(normalise(picture), 48).patches_BPD.shape == (2, 36, 32)


def test_a_teacher_is_frozen_and_stays_in_eval_mode(bare):
    teacher = load_teacher(bare).train()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())


def test_a_run_teaches_with_its_own_head_and_centre(teaching_run):
    teacher = load_teacher(str(teaching_run))
    newest = sorted((teaching_run / "checkpoints").glob("step-*"))[-1]
    kept = load_file(newest / "train.safetensors")
    assert teacher.heads is not None
    assert torch.equal(teacher.heads.centre_1K, kept["objective.centre_1K"])
    head = teacher.heads.head.state_dict()
    assert all(torch.equal(tensor, kept[f"objective.teacher.head.{name}"]) for name, tensor in head.items())
    assert teacher.facts().prototypes == 16


@pytest.mark.parametrize("kind", ["bare", "run"])
def test_a_kept_teacher_is_the_same_and_needs_its_source_no_more(kind, bare, teaching_run, tmp_path):
    name = bare if kind == "bare" else str(teaching_run)
    keep_teacher(tmp_path, name)
    one, other = load_teacher(name), kept_teacher(tmp_path)
    assert one.facts() == other.facts()
    other_state = other.state_dict()
    assert all(torch.equal(tensor, other_state[n]) for n, tensor in one.state_dict().items())
    assert (one.heads is None) == (other.heads is None) == (kind == "bare")
    if one.heads is not None:
        assert torch.equal(one.heads.centre_1K, other.heads.centre_1K)


@pytest.mark.skipif("timm" not in sys.modules and not __import__("importlib").util.find_spec("timm"), reason="no timm")
def test_a_teacher_of_timm_is_kept_with_the_run(tmp_path):
    backbone = tiny_backbone()
    write_backbone(tmp_path / "model", backbone.model, TINY, about={}, layout="timm", mean=(0.1, 0.2, 0.3))
    keep_teacher(tmp_path, f"timm:{tmp_path / 'model'}")
    picture = normalise(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    assert torch.allclose(
        load_teacher(f"timm:{tmp_path / 'model'}")(picture, 32).cls_BD, kept_teacher(tmp_path)(picture, 32).cls_BD
    )


def test_what_is_no_teacher_is_refused():
    with pytest.raises(BadInput, match="no model 'nobody'"):
        load_teacher("nobody")


# The plan


def settled_bottleneck(teacher: TeacherFacts) -> int:
    asked = {name: value for name, value in SMALL.items() if name != "bottleneck"}
    return settle(Recipe.of(asked | {"teacher": "x"}), Facts(n_pictures=N, teacher=teacher)).dino.bottleneck


def test_a_plan_takes_prototypes_temperature_and_side_from_the_teacher():
    facts = TeacherFacts(width=8, multiple=14, prototypes=48, temperature=0.05, centring="ema")
    plan = settle(Recipe.of(SMALL | {"teacher": "x"}), Facts(n_pictures=N, teacher=facts))
    assert (plan.dino.prototypes, plan.dino.teacher_temperature, plan.dino.centring) == (48, 0.05, "ema")
    assert settled_bottleneck(facts) == 8
    assert settled_bottleneck(TeacherFacts(width=96, multiple=14)) == 96
    assert plan.distillation.teacher_side == 28
    assert (plan.model.drop_path, plan.dino.koleo) == (0.0, 0.0)
    fixed = settle(
        Recipe.of(SMALL | {"teacher": "x"}),
        Facts(n_pictures=N, teacher=TeacherFacts(width=8, multiple=32, fixed_side=224)),
    )
    assert fixed.distillation.teacher_side == 224
    assert fixed.dino.prototypes == 16


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({}, "needs a teacher"),
        ({"teacher": "x", "predictor": True}, "predictor means nothing"),
        ({"teacher": "x", "teacher_follows": "copy"}, "teacher_follows means nothing"),
        ({"teacher": "x", "prototypes": 99}, "99"),
        ({"teacher": "x", "teacher_side": 30}, "30"),
    ],
)
def test_what_cannot_be_learnt_from_a_teacher_is_refused_in_words(asked, what):
    facts = TeacherFacts(width=8, multiple=14, prototypes=48, temperature=0.05, centring="ema")
    with pytest.raises(BadRecipe, match=what):
        settle(Recipe.of(SMALL | asked), Facts(n_pictures=N, teacher=facts))


# What is answered


def test_without_a_head_the_answer_is_how_like_a_crop_is_to_pictures(bare, photos, tmp_path):
    objective = run_of(bare, photos, tmp_path).objective
    teacher, (part,) = load_teacher(bare), parts_of()
    crops = [central(pixels_of(photos, tmp_path).read(i, at_least=27), 24) for i in range(N)]
    features = teacher(normalise(torch.from_numpy(np.stack(crops))), 24).cls_BD.double()
    mean = features.mean(dim=0, keepdim=True)
    prototypes = F.normalize(features - mean, dim=-1)
    at = moment(objective.plan, 0)
    (answer,) = objective.answers([part], at)
    for view, given in zip(part.views_VBCYX[:2], answer.answers_GBK, strict=True):
        likeness = F.normalize(teacher(view, 24).cls_BD.double() - mean, dim=-1) @ prototypes.T
        # The order of the prototypes is drawn; some stand for two.
        expected = torch.softmax(likeness[:, order_of(objective, prototypes)] / at.teacher_temperature, dim=-1)
        assert torch.allclose(given.double(), expected, atol=1e-4)


def order_of(objective: Distillation, prototypes: torch.Tensor) -> torch.Tensor:
    """Return which picture each prototype is the features of."""
    likeness_KN = objective.prototypes_KE.double() @ prototypes.T
    assert torch.allclose(likeness_KN.amax(dim=1), torch.ones(16, dtype=torch.float64), atol=1e-4)
    return likeness_KN.argmax(dim=1)


def test_with_a_head_the_answer_is_that_of_the_teachers_own_run(teaching_run, photos, tmp_path):
    objective = run_of(str(teaching_run), photos, tmp_path).objective
    teacher, (part,) = load_teacher(str(teaching_run)), parts_of()
    at = moment(objective.plan, 0)
    (answer,) = objective.answers([part], at)
    logits = teacher.heads.head(teacher(torch.cat(part.views_VBCYX[:2]), 24).cls_BD)
    expected = teacher_answer(logits, teacher.heads.centre_1K, at.teacher_temperature)
    assert torch.allclose(torch.cat(answer.answers_GBK), expected, atol=1e-5)
    objective.after_step(at)
    centre = 0.9 * teacher.heads.centre_1K + 0.1 * logits.mean(dim=0, keepdim=True)
    assert torch.allclose(objective.centre_1K, centre, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_all_pairs_of_views():
    draw = torch.Generator().manual_seed(0)
    student = [torch.randn(5, 7, generator=draw) for _ in range(4)]
    teacher = [torch.softmax(torch.randn(5, 7, generator=draw), dim=-1) for _ in range(2)]
    pairs = [
        -(answer.double() * torch.log_softmax(view.double() / 0.1, dim=-1)).sum(dim=-1).mean()
        for answer in teacher
        for view in student
    ]
    assert distillation_loss(student, teacher, 0.1).item() == pytest.approx(float(sum(pairs) / 8), rel=1e-6)


def test_patches_of_another_grid_are_brought_to_the_students(tmp_path, photos, bare):
    objective = run_of(bare, photos, tmp_path, teacher_side=48).objective
    (part,) = parts_of()
    (answer,) = objective.answers([part], moment(objective.plan, 0))
    assert [patches.shape for patches in answer.patches_GBPF] == [(4, 9, 32)] * 2
    own = [patches.clone() for patches in answer.patches_GBPF]
    assert patch_loss(own, answer.patches_GBPF).item() == pytest.approx(0, abs=1e-6)
    assert patch_loss([-patches for patches in own], answer.patches_GBPF).item() == pytest.approx(2, abs=1e-6)


# What is learnt


@pytest.mark.parametrize("kind", ["bare", "run"])
def test_the_student_comes_near_the_teacher_and_its_average_is_kept(kind, bare, teaching_run, photos, tmp_path):
    name = bare if kind == "bare" else str(teaching_run)
    run_ = run_of(name, photos, tmp_path, learning_rate=0.1, momentum=0.9)
    told = [advance(run_, parts_of(), step, moment(run_.plan, step), watch=True) for step in range(10)]
    assert told[-1]["kl"] < told[0]["kl"]
    assert told[-1]["patches"] < told[0]["patches"]
    student, kept = run_.objective.student, run_.objective.kept
    assert run_.objective.backbone is kept.backbone
    assert not torch.equal(student.backbone.cls_token, kept.backbone.cls_token)
    own = student.head.last_layer.weight_v
    assert (kind == "run") == (own.shape[1] == load_teacher(name).facts().width)
    if kind == "run":
        assert torch.equal(own, load_teacher(name).heads.head.last_layer.weight_v)
    assert all(buffer in run_.objective.state_dict() for buffer in ("centre_1K", "prototypes_KE", "mean_1E"))
    assert not any("teacher" in name for name in run_.objective.state_dict())


def test_the_average_soon_forgets_how_the_student_began(bare, photos, tmp_path):
    run_ = run_of(bare, photos, tmp_path, learning_rate=0.1, warmup_epochs=0, momentum=0.9)
    began = run_.objective.kept.head.last_layer.weight_v.clone()
    for step in range(2):
        before = run_.objective.kept.head.last_layer.weight_v.clone()
        advance(run_, parts_of(), step, moment(run_.plan, step))
        share = (1 + step) / (10 + step)
        expected = share * before + (1 - share) * run_.objective.student.head.last_layer.weight_v
        assert torch.allclose(run_.objective.kept.head.last_layer.weight_v, expected, atol=1e-6)
    assert not torch.equal(began, run_.objective.kept.head.last_layer.weight_v)


def test_a_head_as_wide_as_the_teacher_is_compared_with_the_teachers_own_prototypes(bare, photos, tmp_path):
    run_ = run_of(bare, photos, tmp_path, bottleneck=32, learning_rate=0.1)
    told = [advance(run_, parts_of(), step, moment(run_.plan, step), watch=True) for step in range(6)]
    assert told[-1]["kl"] < told[0]["kl"]
    for network in run_.objective.networks:
        last_layer = network.head.last_layer
        assert torch.equal(last_layer.weight_v, run_.objective.prototypes_KE)
        scores = network.head(torch.randn(3, network.head.mlp[0].in_features))
        assert scores.abs().max() <= 1 + 1e-5


def test_a_batch_in_two_parts_gets_the_answers_and_gradients_of_one(bare, photos, tmp_path):
    run_ = run_of(bare, photos, tmp_path, head_norm="none")
    at, gradients = moment(run_.plan, 0), []
    for n in (1, 2):
        run_.objective.zero_grad()
        parts = parts_of(n)
        for part, answer in zip(parts, run_.objective.answers(parts, at), strict=True):
            (run_.objective.loss(part, answer, at).total / n).backward()
        gradients.append(run_.objective.student.backbone.patch_embed.proj[0].weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-4 * gradients[0].abs().max())


def test_what_a_run_carries_lies_in_its_state_and_its_folder(bare, photos, tmp_path):
    one = run_of(bare, photos, tmp_path)
    for step in range(2):
        advance(one, parts_of(seed=step), step, moment(one.plan, step))
    other = run_of(bare, photos, tmp_path, is_new=False)
    other.objective.load_state_dict(one.objective.state_dict())
    other.optimiser.load_state_dict(copy.deepcopy(one.optimiser.state_dict()))
    for step in range(2, 4):
        for each in (one, other):
            advance(each, parts_of(seed=step), step, moment(one.plan, step))
    theirs = other.objective.state_dict()
    assert [n for n, tensor in one.objective.state_dict().items() if not torch.equal(tensor, theirs[n])] == []


# The command


def test_a_run_learns_from_a_run_and_a_fork_keeps_its_teacher(teaching_run, photos, tmp_path):
    project = tmp_path / "p.dinoviz"
    flags = {name: value for name, value in SMALL.items() if name != "precision"}
    flags |= {"teacher": teaching_run, "epochs": 2, "workers": 0, "probes": 1, "device": "cpu"}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    assert run(["train", str(photos), "--project", str(project), "--quiet", *given]) == 0
    run_ = project / "runs/0001"
    assert load_backbone(str(run_)).shape.depth == 2
    assert json.loads((run_ / "plan.json").read_text())["plan"]["dino"]["prototypes"] == 16
    again = project.rename(tmp_path / "moved.dinoviz") / "runs/0001"
    assert run(["resume", str(again), "--fork", "--epochs=3", "--quiet"]) == 0
    assert run(["resume", str(again), "--fork", "--epochs=3", "--teacher=bundled", "--quiet"]) == 2
