"""The losses against the reference's stored values and against float64."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engine.training.losses import dino_loss, effective_rank, entropy, koleo_loss, teacher_answer


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


@pytest.mark.parametrize("case", ["a", "b", "two", "duplicate"])
def test_koleo_equals_the_reference(data, case):
    stored = load_file(data / "golden/dinov2_koleo_loss.safetensors")
    features = stored[f"{case}.x"].requires_grad_()
    loss = koleo_loss(features)
    loss.backward()
    assert loss.item() == pytest.approx(stored[f"{case}.loss"].item(), rel=1e-5)
    gradient = stored[f"{case}.grad"]
    torch.testing.assert_close(features.grad, gradient, atol=1e-4 * float(gradient.abs().max()), rtol=0)


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
