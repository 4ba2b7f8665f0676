"""Mixed pictures, smoothed labels and erased boxes, against their formulas in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.training.mixing import (
    ERASED_AREA,
    UNMIXED,
    Box,
    Mix,
    draw_erasings,
    draw_mix,
    erased,
    mixed,
    soft_cross_entropy,
    targets,
)

SIDE = {"rows": 40, "cols": 56}


def pictures(n=5, rows=40, cols=56):
    return torch.randn(n, 3, rows, cols, generator=torch.Generator().manual_seed(0))


def shares(mixup, cutmix, steps=2000):
    return [draw_mix(mixup, cutmix, **SIDE, seed=3, step=step) for step in range(steps)]


def test_blended_pictures_are_the_formula_of_mixup():
    before = pictures()
    after = mixed(before, Mix(0.3))
    for i in range(5):
        expected = 0.3 * before[i].double() + 0.7 * before[4 - i].double()
        assert torch.allclose(after[i].double(), expected, atol=1e-6)


def test_a_pasted_box_holds_the_partner_and_the_rest_stays():
    before = pictures()
    box = Box(top=4, left=10, height=20, width=7)
    after = mixed(before, Mix(0.9, box))
    inside = torch.zeros(40, 56, dtype=torch.bool)
    inside[4:24, 10:17] = True
    assert torch.equal(after[:, :, inside], before.flip(0)[:, :, inside])
    assert torch.equal(after[:, :, ~inside], before[:, :, ~inside])


@given(
    n=st.integers(1, 9),
    n_classes=st.integers(2, 12),
    smoothing=st.floats(0, 0.9),
    kept=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_targets_are_probabilities_that_hold_both_labels(n, n_classes, smoothing, kept, seed):
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, n_classes, n))
    answer = targets(labels, n_classes, smoothing=smoothing, mix=Mix(kept))
    expected = np.full((n, n_classes), smoothing / n_classes)
    for i in range(n):
        expected[i, labels[i]] += (1 - smoothing) * kept
        expected[i, labels[n - 1 - i]] += (1 - smoothing) * (1 - kept)
    assert np.allclose(answer.numpy(), expected, atol=1e-6)
    assert torch.allclose(answer.sum(dim=1), torch.ones(n), atol=1e-5)


def test_the_loss_of_unmixed_smoothed_labels_is_torchs_own():
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    ours = soft_cross_entropy(logits, targets(labels, 5, smoothing=0.1))
    theirs = F.cross_entropy(logits, labels, label_smoothing=0.1)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(ours, logits)
    assert torch.allclose(gradient, torch.autograd.grad(theirs, logits)[0], atol=1e-7)


def test_the_share_kept_by_blending_follows_the_beta_distribution():
    kept = [mix.kept for mix in shares(0.8, 0.0)]
    assert stats.kstest(kept, stats.beta(0.8, 0.8).cdf).pvalue > 0.01


def test_half_of_the_steps_paste_where_both_kinds_are_on():
    pasted = sum(mix.box is not None for mix in shares(0.8, 1.0))
    assert abs(pasted - 1000) < 4 * (2000 * 0.25) ** 0.5


@pytest.mark.parametrize(("mixup", "cutmix", "pastes"), [(0.8, 0.0, False), (0.0, 1.0, True)])
def test_a_kind_that_is_off_is_never_drawn(mixup, cutmix, pastes):
    assert {mix.box is not None for mix in shares(mixup, cutmix, 200)} == {pastes}


def test_nothing_is_mixed_where_both_kinds_are_off():
    mix = draw_mix(0.0, 0.0, **SIDE, seed=0, step=0)
    before = pictures()
    assert mix == UNMIXED
    assert mixed(before, mix) is before


@given(step=st.integers(0, 10**6), rows=st.integers(1, 70), cols=st.integers(1, 70), seed=st.integers(0, 2**31 - 1))
def test_the_labels_follow_the_pixels_that_are_really_pasted(step, rows, cols, seed):
    mix = draw_mix(0.0, 1.0, rows=rows, cols=cols, seed=seed, step=step)
    assert mix.box is not None
    before = torch.stack([torch.zeros(1, rows, cols), torch.ones(1, rows, cols)])
    after = mixed(before, mix)
    assert after[0].mean().item() == pytest.approx(1 - mix.kept, abs=1e-5)


def test_the_draws_depend_on_seed_step_and_place_only():
    assert draw_mix(0.8, 1.0, **SIDE, seed=5, step=9) == draw_mix(0.8, 1.0, **SIDE, seed=5, step=9)
    assert draw_mix(0.8, 1.0, **SIDE, seed=5, step=9) != draw_mix(0.8, 1.0, **SIDE, seed=6, step=9)
    whole = draw_erasings(0.5, 12, **SIDE, seed=5, step=9)
    parts = [draw_erasings(0.5, 4, **SIDE, seed=5, step=9, first=first) for first in (0, 4, 8)]
    assert whole == [box for part in parts for box in part]
    assert len(set(whole)) > 4


def test_a_batch_in_parts_gets_the_same_noise():
    before = pictures(8)
    boxes = draw_erasings(0.8, 8, **SIDE, seed=1, step=2)
    whole = erased(before, boxes, seed=1, step=2)
    parts = [erased(before[i : i + 4], boxes[i : i + 4], seed=1, step=2, first=i) for i in (0, 4)]
    assert torch.equal(whole, torch.cat(parts))


def test_only_the_boxes_change_and_they_hold_normal_noise():
    before = torch.zeros(64, 3, 40, 56)
    boxes = draw_erasings(0.5, 64, **SIDE, seed=1, step=0)
    after = erased(before, boxes, seed=1, step=0)
    noise = []
    for i, box in enumerate(boxes):
        inside = torch.zeros(40, 56, dtype=torch.bool)
        if box is not None:
            inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
            noise.append(after[i][:, inside].flatten())
        assert (after[i][:, ~inside] == 0).all()
        assert (after[i][:, inside] != 0).all()
    assert stats.kstest(torch.cat(noise).numpy()[:20_000], "norm").pvalue > 0.01
    assert (before == 0).all()


def test_as_many_pictures_lose_a_box_as_asked_and_boxes_have_the_published_sizes():
    boxes = draw_erasings(0.25, 4000, rows=224, cols=224, seed=0, step=0)
    lost = [box for box in boxes if box is not None]
    assert abs(len(lost) - 1000) < 4 * (4000 * 0.1875) ** 0.5
    areas = np.array([box.area / 224**2 for box in lost])
    assert areas.min() > ERASED_AREA[0] * 0.95
    assert areas.max() < ERASED_AREA[1] * 1.05
    aspects = np.array([box.height / box.width for box in lost])
    assert aspects.min() > 0.28
    assert aspects.max() < 3.6


@settings(deadline=None)
@given(rows=st.integers(1, 60), cols=st.integers(1, 60), seed=st.integers(0, 999))
def test_boxes_lie_within_pictures_of_any_size(rows, cols, seed):
    for box in draw_erasings(1.0, 6, rows=rows, cols=cols, seed=seed, step=1):
        if box is not None:
            assert box.top >= 0
            assert box.left >= 0
            assert box.top + box.height <= rows
            assert box.left + box.width <= cols


def test_without_a_share_no_picture_is_touched():
    before = pictures()
    boxes = draw_erasings(0.0, 5, **SIDE, seed=0, step=0)
    assert boxes == [None] * 5
    assert erased(before, boxes, seed=0, step=0) is before
