"""BYOL, MoCo-v2 and SwAV on the seam: their state against the reference's, and steps of real networks."""

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import nn

from engine.catalogue import ResNetShape
from engine.errors import BadRecipe
from engine.recipes import Plan, Recipe, settle
from engine.settings import Facts
from engine.training.losses import dino_loss, info_nce_loss, sinkhorn_knopp
from engine.training.objectives import OBJECTIVES
from engine.training.objectives.objective import Objective, Part, follow
from engine.training.objectives.queue import Queue
from engine.training.schedules import Moment, moment
from engine.training.train import Run, advance
from tests.makers import run_with

AT = Moment(epoch=20, learning_rate=1e-3, weight_decay=0.0, momentum=0.9, teacher_temperature=0.04)
FACTS = Facts(n_pictures=64, device="cpu", device_memory_bytes=2**34, cores=8)
TINY_RESNET = ResNetShape(blocks=(1, 1, 1, 1), width=256)
SMALL = {
    "depth": 2,
    "heads": 3,
    "global_side": 32,
    "local_side": 16,
    "batch": 8,
    "projector_width": 24,
    "projector_out": 12,
    "precision": "fp32",
}
OWN = {
    "byol": {"predictor_width": 16},
    "moco": {"queue": 16},
    "swav": {"swav_prototypes": 16, "epsilon": 0.05},
}


def plan_of(objective: str, **asked) -> Plan:
    return settle(Recipe.of({"objective": objective} | SMALL | OWN[objective] | asked), FACTS)


def run_of(objective: str, tmp_path, **asked) -> Run:
    torch.manual_seed(0)
    plan = plan_of(objective, **asked)
    if plan.model.model == "resnet-50":
        plan = plan.model_copy(update={"shape": TINY_RESNET})
    network = OBJECTIVES[objective](plan)
    return run_with(network, tmp_path)


def parts_of(n: int, *, n_pictures: int = 8, small: int = 2, side: int = 32, seed: int = 0) -> list[Part]:
    """Return a batch of pictures of their own colours and stripes, in ``n`` parts."""
    draw = torch.Generator().manual_seed(seed)
    pictures = torch.randn(n_pictures, 3, 4, 4, generator=draw)
    views = []
    for view in range(2 + small):
        at = side if view < 2 else side // 2
        noisy = pictures + 0.1 * torch.randn(pictures.shape, generator=draw)
        views.append(nn.functional.interpolate(noisy, size=(at, at), mode="bilinear"))
    return [Part(list(of_part)) for of_part in zip(*(view.chunk(n) for view in views), strict=True)]


def gradients(objective: Objective, parts: list[Part]) -> dict[str, torch.Tensor]:
    objective.zero_grad()
    for part, answer in zip(parts, objective.answers(parts, AT), strict=True):
        (objective.loss(part, answer, AT).total / len(parts)).backward()
    return {name: p.grad.clone() for name, p in objective.student.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("objective", OWN)
@pytest.mark.parametrize("model", ["vit-tiny/8", "resnet-50"])
def test_the_loss_falls_and_everything_that_learns_has_a_gradient(objective, model, tmp_path):
    shape = {"model": model} if model == "vit-tiny/8" else {"model": model, "depth": 1, "heads": 1}
    side = 32 if model == "vit-tiny/8" else 64
    run = run_of(objective, tmp_path, **shape, global_side=side, local_side=32, optimiser="adamw", freeze_last_layer=0)
    parts = parts_of(1, side=side)
    told = [advance(run, parts, step, AT, watch=True) for step in range(5)]
    losses = [seen["loss"].item() for seen in told]
    assert losses[-1] < losses[1]
    assert all(seen["not_finite"] == 0 for seen in told)
    learning = [name for name, p in run.objective.student.named_parameters() if p.requires_grad]
    assert [n for n in learning if run.objective.student.get_parameter(n).grad is None] == []
    assert {"feature_std", "effective_rank"} <= told[0].keys()
    assert ("teacher_entropy" in told[0]) == (objective == "swav")


@pytest.mark.parametrize("objective", ["moco", "swav"])
def test_a_batch_in_two_parts_gives_the_gradients_of_one(objective, tmp_path):
    # One linear layer: batch normalisation sees a part.
    run = run_of(objective, tmp_path, projector_layers=1, drop_path=0.0)
    whole = gradients(run.objective, parts_of(1))
    in_parts = gradients(run.objective, parts_of(2))
    for name, gradient in whole.items():
        within = 1e-4 * float(gradient.abs().max()) + 1e-7
        torch.testing.assert_close(in_parts[name], gradient, atol=within, rtol=0, msg=name)


@pytest.mark.parametrize("objective", OWN)
def test_what_a_run_carries_lies_in_its_state(objective, tmp_path):
    run, other = (run_of(objective, tmp_path, **({"swav_queue": 16} if objective == "swav" else {})) for _ in range(2))
    for step in range(3):
        advance(run, parts_of(1, seed=step), step, AT)
    other.objective.load_state_dict(run.objective.state_dict())
    other.optimiser.load_state_dict(copy.deepcopy(run.optimiser.state_dict()))
    for step in range(3, 5):
        for one in (run, other):
            advance(one, parts_of(1, seed=step), step, AT)
    theirs = other.objective.state_dict()
    assert [name for name, tensor in run.objective.state_dict().items() if not torch.equal(tensor, theirs[name])] == []


def test_the_teacher_follows_as_the_references_does(data):
    stored = load_file(data / "golden/compared_byol.safetensors")
    teacher, student = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2))
    for network, prefix in ((teacher, "ema.start."), (student, "online.")):
        for name, parameter in network.named_parameters():
            parameter.data = stored[prefix + name]
    student(torch.randn(8, 4))
    for step, tau in enumerate(stored["taus"].tolist()):
        follow(teacher, student, tau)
        for name, parameter in teacher.named_parameters():
            torch.testing.assert_close(parameter.data, stored[f"ema.after{step}.{name}"], atol=1e-6, rtol=1e-6)
    assert torch.equal(teacher[1].running_mean, torch.zeros(3))


def test_byols_schedule_is_the_references(data):
    taus = load_file(data / "golden/compared_byol.safetensors")["tau_schedule_0.996_20"]
    plan = plan_of("byol", follower_momentum=0.996, epochs=5, batch=16)
    assert plan.steps == len(taus) - 1
    ours = [moment(plan, step).momentum for step in range(plan.steps + 1)]
    assert ours == pytest.approx(taus.tolist(), abs=1e-6)


def test_the_queue_equals_the_references_over_four_batches(data):
    stored = load_file(data / "golden/compared_moco.safetensors")
    queue = Queue(2, 18, 10)
    queue.rows_GQD.copy_(stored["queue"].mT)
    for batch in range(4):
        queue.put(stored[f"enqueue{batch}.keys"])
        torch.testing.assert_close(queue.rows_GQD.mT, stored[f"enqueue{batch}.queue"], atol=0, rtol=0)
        assert queue.n_put % 18 == stored[f"enqueue{batch}.ptr"]


@pytest.mark.parametrize("batch", [1, 3, 5, 7, 12])
def test_the_queue_holds_the_last_rows_whatever_the_batch(batch):
    rows = torch.arange(36.0).view(1, 36, 1)
    queue = Queue(1, 5, 1)
    for some in rows.split(batch, dim=1):
        queue.put(some)
    assert sorted(queue.rows_GQD.flatten().tolist()) == [31, 32, 33, 34, 35]


@pytest.mark.slow
def test_the_queue_of_two_processes_is_that_of_one(tmp_path):
    batches = [torch.randn(2, 6, 4) for _ in range(4)]
    start = Queue(2, 9, 4)
    mp.spawn(_put_share, (start.state_dict(), batches, str(tmp_path)), nprocs=2)
    for batch in batches:
        start.put(batch)
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt"), start.rows_GQD)


def _put_share(rank, start, batches, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    queue = Queue(2, 9, 4)
    queue.load_state_dict(start)
    for batch in batches:
        queue.put(batch.chunk(2, dim=1)[rank])
    torch.save(queue.rows_GQD, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_mocos_loss_meets_the_queue_before_the_batch_and_its_keys_enter_after(tmp_path):
    run = run_of("moco", tmp_path, drop_path=0.0)
    objective, (part,) = run.objective, parts_of(1, small=0)
    before = objective.queue.rows_GQD.clone()
    (keys,) = objective.answers([part], AT)
    loss = objective.loss(part, keys, AT).total
    queries = [nn.functional.normalize(view, dim=-1) for view in objective.student(part.views_VBCYX).outputs_VBD]
    both = [info_nce_loss(queries[1 - g], keys[g], before[g], 0.2) for g in range(2)]
    assert loss.item() == pytest.approx(torch.stack(both).mean().item(), rel=1e-5)
    assert torch.equal(objective.queue.rows_GQD, before)
    objective.after_step(AT)
    assert torch.equal(objective.queue.rows_GQD[:, :8], torch.stack(keys))
    assert torch.equal(objective.queue.rows_GQD[:, 8:], before[:, 8:])


def test_swavs_prototypes_stand_still_in_the_first_epoch_and_have_unit_length_after(tmp_path):
    run = run_of("swav", tmp_path, freeze_last_layer=1)
    before = run.objective.prototypes.last_layer.weight_v.detach().clone()
    advance(run, parts_of(1), 0, moment(run.plan, 0))
    assert torch.equal(run.objective.prototypes.last_layer.weight_v, before)
    advance(run, parts_of(1), 1, AT)
    assert not torch.equal(run.objective.prototypes.last_layer.weight_v, before)
    towards = run.objective.prototypes(run.objective.prototypes.last_layer.weight_v)
    torch.testing.assert_close(towards.diagonal(), torch.ones(16))


def test_swavs_queue_takes_part_once_it_is_full_and_its_epoch_has_come(tmp_path):
    run = run_of("swav", tmp_path, swav_queue=16, swav_queue_epoch=2, drop_path=0.0, projector_layers=1)
    objective, (part,) = run.objective, parts_of(1, small=0)
    early = Moment(epoch=1, learning_rate=0.0, weight_decay=0.0, momentum=0.0, teacher_temperature=0.04)
    logits = objective.student(part.views_VBCYX).outputs_VBD
    alone = [sinkhorn_knopp(view, 0.05) for view in logits]
    answers = []
    for at in (AT, early, AT):
        answers.append(objective.answers([part], at)[0])
        objective.after_step(at)
    with_queue = [
        sinkhorn_knopp(torch.cat([view, objective.prototypes(objective.queue.rows_GQD[g])]), 0.05)[:8]
        for g, view in enumerate(logits)
    ]
    for answer, expected in zip(answers, (alone, alone, with_queue), strict=True):
        for view, code in zip(answer, expected, strict=True):
            torch.testing.assert_close(view, code, atol=1e-5, rtol=1e-4)
    loss = objective.loss(part, answers[0], AT).total
    assert loss.item() == pytest.approx(dino_loss(logits, alone, 0.1).item(), rel=1e-5)


def test_two_large_crops_are_what_byol_and_moco_compare_and_more_can_be_asked_for():
    assert [plan_of(name).crops.local_crops for name in OWN] == [0, 0, 4]
    assert plan_of("byol", local_crops=3).crops.local_crops == 3


def test_a_setting_of_another_method_is_refused():
    for objective, other in itertools.permutations(OWN, 2):
        (name, value), *_ = OWN[other].items()
        with pytest.raises(BadRecipe, match=name):
            plan_of(objective, **{name: value})
