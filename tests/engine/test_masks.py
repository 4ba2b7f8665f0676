from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from engine.errors import BadRecipe
from engine.seeing.masks import ROUNDING, area, attention_mask, contours, without_specks

PARITY = Path(__file__).parents[1] / "data" / "parity" / "attention_threshold.safetensors"
attentions = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 50)), elements=st.floats(0, 1, width=32))
keeps = st.floats(0.01, 0.99)


@pytest.mark.parametrize("keep", [0.4, 0.6, 0.8])
def test_masks_equal_the_reference(keep):
    stored = load_file(PARITY)
    np.testing.assert_array_equal(attention_mask(stored["attn"], keep), stored[f"mask_{keep}"] == 1)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_masks_equal_the_reference_formula_on_attention_of_a_large_grid(keep):
    torch.manual_seed(0)
    attention_HP = (3 * torch.randn(6, 3600)).softmax(dim=-1)
    values, order = torch.sort(attention_HP.double())
    values /= values.sum(dim=1, keepdim=True)
    expected = torch.gather(values.cumsum(dim=1) > 1 - keep, 1, order.argsort())
    np.testing.assert_array_equal(attention_mask(attention_HP.numpy(), keep), expected.numpy())


@given(attentions, keeps)
def test_mask_holds_what_is_asked_with_the_fewest_patches(attention_HP, keep):
    for values_P, mask_P in zip(attention_HP.astype(float), attention_mask(attention_HP, keep), strict=True):
        shares_P = values_P / values_P.sum() if values_P.sum() else np.full(len(values_P), 1 / len(values_P))
        held = shares_P[mask_P].sum()
        assert held >= keep - 2 * ROUNDING
        assert held - shares_P[mask_P].min() < keep
        assert shares_P[mask_P].min() >= shares_P[~mask_P].max(initial=0)


@given(attentions, keeps)
def test_more_attention_never_loses_a_patch(attention_HP, keep):
    assert (attention_mask(attention_HP, keep / 2) <= attention_mask(attention_HP, keep)).all()


@given(attentions)
def test_keeping_everything_takes_every_patch(attention_HP):
    assert attention_mask(attention_HP, 1).all()


def test_equal_patches_are_taken_in_reading_order():
    expected = np.zeros((1, 2, 5), dtype=bool)
    expected.reshape(-1)[:6] = True
    np.testing.assert_array_equal(attention_mask(np.full((1, 2, 5), 0.1, np.float32), 0.6), expected)


def test_earlier_of_two_equal_patches_is_taken():
    assert attention_mask(np.array([[0.1, 0.3, 0.3, 0.3]]), 0.6).tolist() == [[False, True, True, False]]


def test_attention_to_nothing_counts_as_equal():
    assert attention_mask(np.zeros((1, 10), np.float32), 0.5).sum() == 5


def test_single_patch_is_kept():
    assert attention_mask(np.array([[0.2]]), 0.01).all()


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, float("nan")])
def test_share_out_of_range_is_refused(keep):
    with pytest.raises(BadRecipe, match="cannot keep"):
        attention_mask(np.ones((1, 4)), keep)


def test_specks_are_removed_and_corners_connect():
    mask_RC = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    cleaned_RC = without_specks(mask_RC, 2)
    assert mask_RC[0, 4]
    assert not cleaned_RC[0, 4]
    assert cleaned_RC.sum() == 4


def test_no_speck_is_smaller_than_one_patch():
    mask_RC = np.random.default_rng(0).random((9, 9)) > 0.5
    np.testing.assert_array_equal(without_specks(mask_RC, 1), mask_RC)


def test_contours_are_x_then_y_and_show_holes():
    mask_YX = np.zeros((20, 30), dtype=bool)
    mask_YX[5:15, 10:25] = True
    mask_YX[8:11, 14:18] = False
    lines = contours(mask_YX)
    assert len(lines) == 2
    outer = max(lines, key=np.ptp)
    assert outer.min(axis=0).tolist() == [10, 5]
    assert outer.max(axis=0).tolist() == [24, 14]


def test_empty_mask_has_no_contour_and_no_area():
    mask_YX = np.zeros((4, 5), dtype=bool)
    assert contours(mask_YX) == []
    assert area(mask_YX) == (0, 0.0)


def test_area_counts_pixels_and_their_share():
    mask_YX = np.zeros((4, 5), dtype=bool)
    mask_YX[:2] = True
    assert area(mask_YX) == (10, 0.5)
