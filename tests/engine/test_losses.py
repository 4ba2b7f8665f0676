"""The losses against the reference's stored values and against float64."""

import json
import math
import re

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from engine.training.losses import (
    batch_softmax,
    dino_loss,
    effective_rank,
    entropy,
    ibot_loss,
    info_nce_loss,
    koleo_loss,
    normalised_mse_loss,
    sinkhorn_knopp,
    teacher_answer,
)


def assert_gradient(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(mine, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


def assert_answer(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(mine, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


def test_dino_loss_and_centre_equal_the_references_over_five_calls(data):
    stored = load_file(data / "parity/dino_v1_loss.safetensors")
    with safe_open(data / "parity/dino_v1_loss.safetensors", "pt") as file:
        epochs_and_losses = json.loads(file.metadata()["epoch_and_loss"])
    centre = torch.zeros(1, 40)
    for call, (epoch, loss) in enumerate(epochs_and_losses):
        temperature = [*torch.linspace(0.04, 0.07, 5).tolist(), 0.07][min(epoch, 5)]
        teacher = stored[f"{call}.teacher"].chunk(2)
        answers = [teacher_answer(view, centre, temperature) for view in teacher]
        ours = dino_loss(stored[f"{call}.student"].chunk(6), answers, 0.1)
        assert ours.item() == pytest.approx(loss, rel=1e-5)
        centre = centre * 0.9 + torch.cat(teacher).mean(0, keepdim=True) * 0.1
        torch.testing.assert_close(centre, stored[f"{call}.center_after"], atol=1e-6, rtol=1e-5)


def test_dino_loss_and_gradient_equal_the_sum_over_pairs_in_float64():
    torch.manual_seed(0)
    student = [torch.randn(3, 12, requires_grad=True) for _ in range(5)]
    teacher = [torch.randn(3, 12) for _ in range(2)]
    centre = torch.randn(1, 12) / 10
    answers = [teacher_answer(view, centre, 0.05) for view in teacher]
    dino_loss(student, answers, 0.1).backward()
    ours = [view.grad for view in student]

    wide = [view.detach().double().requires_grad_() for view in student]
    pairs = []
    for i, t in enumerate(teacher):
        q = torch.softmax((t.double() - centre.double()) / 0.05, dim=-1)
        for j, s in enumerate(wide):
            if i != j:
                logits = s / 0.1
                pairs.append(-(q * (logits - torch.logsumexp(logits, -1, keepdim=True))).sum(-1).mean())
    total = torch.stack(pairs).mean()
    total.backward()
    assert dino_loss(student, answers, 0.1).item() == pytest.approx(total.item(), rel=1e-5)
    for mine, theirs in zip(ours, wide, strict=True):
        torch.testing.assert_close(mine.double(), theirs.grad, atol=1e-5 * float(theirs.grad.abs().max()), rtol=0)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_the_mean_over_pairs_is_dinov2s_scaled_local_and_global_loss(data, call):
    stored = load_file(data / "golden/dinov2_dino_loss.safetensors")
    student_global = stored[f"step{call}.student_global"].requires_grad_()
    student_local = stored[f"step{call}.student_local"].requires_grad_()
    # The reference hands over its teacher's rows second crop first.
    answers = teacher_answer(
        stored[f"step{call}.teacher_logits"], stored[f"step{call}.center_used"], [0.04, 0.055, 0.07][call]
    )
    assert_answer(answers, stored[f"step{call}.teacher_probs"])
    second, first = answers.chunk(2)
    loss = dino_loss([*student_global.chunk(2), *student_local.chunk(3)], [first, second], 0.1)
    loss.backward()
    theirs = stored[f"step{call}.loss_local_scaled"] + stored[f"step{call}.loss_global_scaled"]
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert_gradient(student_global.grad, stored[f"step{call}.grad_student_global"])
    assert_gradient(student_local.grad, stored[f"step{call}.grad_student_local"])


@pytest.mark.parametrize("file", ["dinov2_dino_loss", "dinov2_ibot_loss"])
def test_sinkhorn_knopp_equals_the_reference(data, file):
    stored = load_file(data / f"golden/{file}.safetensors")
    logits = stored["sk.teacher_logits" if file == "dinov2_dino_loss" else "sk.teacher_masked_logits"]
    cases = [name for name in stored if name.startswith("sk.iter")]
    for name in cases:
        iterations, temperature = re.fullmatch(r"sk\.iter(\d)\.temp(.*)\.probs", name).groups()
        assert_answer(sinkhorn_knopp(logits, float(temperature), int(iterations)), stored[name])
    assert len(cases) == {"dinov2_dino_loss": 6, "dinov2_ibot_loss": 2}[file]


def test_sinkhorn_knopp_uses_all_prototypes_alike_where_nearly_all_rows_prefer_one():
    logits = torch.randn(64, 8)
    logits[:, 0] += 3
    answer = sinkhorn_knopp(logits, 0.5, iterations=30)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(answer.sum(dim=0), torch.full((8,), 8.0), atol=0.05, rtol=0)


@given(st.floats(0, 1e4), st.floats(-1e4, 1e4), st.integers(1, 9), st.integers(2, 40))
def test_sinkhorn_knopp_is_finite_whatever_the_logits(scale, shift, n_rows, n_prototypes):
    logits = torch.randn(n_rows, n_prototypes) * scale + shift
    answer = sinkhorn_knopp(logits, 0.04)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(n_rows))


def test_sinkhorn_knopp_over_processes_is_that_of_all_their_rows(tmp_path):
    logits = torch.randn(24, 16)
    # A process may have no rows: none of its patches may be masked.
    mp.spawn(_answer_for_shares, (logits, [20, 24], str(tmp_path)), nprocs=2)
    for n_first in (20, 24):
        together = torch.cat([torch.load(tmp_path / f"{n_first} {rank}.pt") for rank in range(2)])
        torch.testing.assert_close(together, sinkhorn_knopp(logits, 0.07), atol=1e-6, rtol=1e-5)


def _answer_for_shares(rank, logits, splits, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for n_first in splits:
        torch.save(sinkhorn_knopp(logits.tensor_split([n_first])[rank], 0.07), f"{folder}/{n_first} {rank}.pt")
    dist.destroy_process_group()


def test_batch_softmax_is_the_papers_two_lines():
    logits = torch.randn(12, 30)
    papers = torch.softmax(logits.double() / 0.05, dim=0)
    papers /= papers.sum(dim=1, keepdim=True)
    assert_answer(batch_softmax(logits, 0.05).double(), papers)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_ibot_loss_and_gradient_equal_the_reference(data, call):
    stored = load_file(data / "golden/dinov2_ibot_loss.safetensors")
    student = stored[f"step{call}.student_masked_logits"].requires_grad_()
    answers = teacher_answer(
        stored[f"step{call}.teacher_masked_logits"],
        stored[f"step{call}.center_used"],
        [0.04, 0.055, 0.07][call],
    )
    assert_answer(answers, stored[f"step{call}.teacher_probs"])
    loss = ibot_loss(student, answers, stored["masks_weight"], len(stored["masks"]), 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(stored[f"step{call}.loss"].item(), rel=1e-5)
    assert_gradient(student.grad, stored[f"step{call}.grad_student"])


def test_ibot_loss_against_sinkhorn_knopp_equals_the_reference(data):
    stored = load_file(data / "golden/dinov2_ibot_loss.safetensors")
    student = stored["sk.student_masked_logits"].requires_grad_()
    answers = sinkhorn_knopp(stored["sk.teacher_masked_logits"], 0.07)
    loss = ibot_loss(student, answers, stored["masks_weight"], len(stored["masks"]), 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(stored["sk.loss"].item(), rel=1e-5)
    assert_gradient(student.grad, stored["sk.grad_student"])


def test_ibot_loss_of_no_masked_patch_is_zero_and_moves_nothing():
    student = torch.zeros(0, 8, requires_grad=True)
    loss = ibot_loss(student, torch.zeros(0, 8), torch.zeros(0), 4, 0.1)
    loss.backward()
    assert loss.item() == 0


def test_byols_loss_is_twice_the_mean_over_its_two_pairs(data):
    stored = load_file(data / "golden/compared_byol.safetensors")
    predictions = [stored[name].requires_grad_() for name in ("p1", "p2")]
    loss = 2 * normalised_mse_loss(predictions, [stored["z1"], stored["z2"]])
    loss.backward()
    assert loss.item() == pytest.approx(stored["sym.loss"].item(), rel=1e-5)
    for prediction, name in zip(predictions, ("sym.grad_p1", "sym.grad_p2"), strict=True):
        assert_gradient(prediction.grad, stored[name])


def test_normalised_mse_over_many_views_is_the_mean_over_pairs_in_float64():
    student = [torch.randn(3, 12) for _ in range(5)]
    teacher = [torch.randn(3, 12) for _ in range(2)]
    unit = torch.nn.functional.normalize
    pairs = [
        (unit(s.double(), dim=1) - unit(t.double(), dim=1)).square().sum(dim=1).mean()
        for i, t in enumerate(teacher)
        for j, s in enumerate(student)
        if i != j
    ]
    assert normalised_mse_loss(student, teacher).item() == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)


def test_info_nce_equals_the_reference(data):
    stored = load_file(data / "golden/compared_moco.safetensors")
    for temperature in ("0.07", "0.2"):
        query = stored["q1"].clone().requires_grad_()
        loss = info_nce_loss(query, stored["k2"], stored["queue"][1].T, float(temperature))
        loss.backward()
        assert loss.item() == pytest.approx(stored[f"one.T{temperature}.loss"].item(), rel=1e-5)
        assert_gradient(query.grad, stored[f"one.T{temperature}.grad_q1"])
    both = [info_nce_loss(stored[f"q{i}"], stored[f"k{3 - i}"], stored["queue"][2 - i].T, 0.2) for i in (1, 2)]
    assert torch.stack(both).mean().item() == pytest.approx(stored["sym.T0.2.loss"].item(), rel=1e-5)


def test_swavs_loss_is_dinos_against_the_codes_of_the_large_views(data):
    stored = load_file(data / "golden/compared_swav.safetensors")
    logits = [stored[f"logits{view}"].requires_grad_() for view in range(4)]
    codes = [sinkhorn_knopp(view, 0.05) for view in logits[:2]]
    for view in range(2):
        assert_answer(codes[view], stored[f"codes{view}"])
    loss = dino_loss(logits, codes, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(stored["loss"].item(), rel=1e-5)
    for view in range(4):
        assert_gradient(logits[view].grad, stored[f"grad{view}"])


def test_swavs_codes_with_a_queue_are_those_of_the_batchs_rows_among_all(data):
    stored = load_file(data / "golden/compared_swav.safetensors")
    logits = [stored[f"logits{view}"] for view in range(4)]
    with_queue = [torch.cat([logits[view], stored[f"queue_logits{view}"]]) for view in range(2)]
    codes = [sinkhorn_knopp(rows, 0.05)[: len(logits[0])] for rows in with_queue]
    for view in range(2):
        assert_answer(codes[view], stored[f"queue.codes{view}"])
    assert dino_loss(logits, codes, 0.1).item() == pytest.approx(stored["queue.loss"].item(), rel=1e-5)


@pytest.mark.parametrize("case", ["a", "b", "two", "duplicate"])
def test_koleo_equals_the_reference(data, case):
    stored = load_file(data / "golden/dinov2_koleo_loss.safetensors")
    features = stored[f"{case}.x"].requires_grad_()
    loss = koleo_loss(features)
    loss.backward()
    assert loss.item() == pytest.approx(stored[f"{case}.loss"].item(), rel=1e-5)
    gradient = stored[f"{case}.grad"]
    torch.testing.assert_close(features.grad, gradient, atol=1e-4 * float(gradient.abs().max()), rtol=0)


def test_koleo_of_both_global_crops_is_dinov2s_term(data):
    stored = load_file(data / "golden/dinov2_koleo_loss.safetensors")
    features = stored["meta.x"].requires_grad_()
    term = 0.1 * sum(koleo_loss(crop) for crop in features.chunk(2))
    term.backward()
    assert term.item() == pytest.approx(stored["meta.loss_total_term"].item(), rel=1e-5)
    assert_gradient(features.grad, stored["meta.grad"])


def test_koleo_of_three_equal_rows_is_finite_with_a_gradient_as_large_as_the_references(data):
    stored = load_file(data / "golden/dinov2_koleo_loss.safetensors")
    features = stored["triple.x"].requires_grad_()
    loss = koleo_loss(features)
    loss.backward()
    assert loss.item() == pytest.approx(stored["triple.loss"].item(), rel=1e-5)
    assert features.grad.isfinite().all()
    assert 0.1 < features.grad.abs().max() / stored["triple.grad_absmax"] < 10


def test_koleo_of_one_row_is_zero_and_moves_nothing():
    features = torch.randn(1, 8, requires_grad=True)
    koleo_loss(features).backward()
    assert koleo_loss(features).item() == 0
    assert features.grad.abs().max() == 0


def test_entropy_is_ln_k_when_uniform_and_zero_for_one_prototype():
    assert entropy(torch.full((3, 50), 1 / 50)).item() == pytest.approx(math.log(50))
    assert entropy(torch.eye(50)[:3]).item() == 0


def test_effective_rank_counts_the_directions_that_vary():
    basis = torch.linalg.qr(torch.randn(64, 64)).Q
    even = torch.cat([basis[:5], -basis[:5]])
    assert effective_rank(even).item() == pytest.approx(5, rel=1e-3)
