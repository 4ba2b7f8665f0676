"""Masks against the reference's, with its own random draws, and ours as a function of seed and step."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine.training.masking import Masking, batch_masks, block_mask, crop_masks, masked_patches

MASKING = Masking(rows=8, cols=10)


def uniforms(draws):
    """Yield the reference's draws as uniform numbers; whole numbers as the middle of their share."""
    for kind, *drawn in draws:
        if kind == "u":
            yield drawn[0]
        elif kind == "i":
            lowest, highest, value = drawn
            yield (value - lowest + 0.5) / (highest - lowest + 1)


def test_thirty_masks_equal_the_references_draw_by_draw(data):
    stored = load_file(data / "golden/dinov2_masking.safetensors")
    examples = json.loads((data / "golden/dinov2_masking.json").read_text())["examples"]
    for example in examples:
        draws = uniforms(example["draws"])
        mask = block_mask(*example["grid"], example["target"], draws)
        np.testing.assert_array_equal(mask, stored[example["key"]].numpy().astype(bool))
        assert next(draws, None) is None
    assert len(examples) == 30


@pytest.mark.parametrize("case", [0, 1, 2])
def test_a_batchs_masks_indices_and_weights_equal_the_references(data, case):
    stored = load_file(data / "golden/dinov2_collate.safetensors")
    told = json.loads((data / "golden/dinov2_collate.json").read_text())[case]
    draws = uniforms(told["draws"])
    rows, cols = told["grid"]
    masking = Masking(rows=rows, cols=cols, share=told["mask_probability"], ratios=tuple(told["mask_ratio_min_max"]))
    order = np.array(told["draws"][-1][1])
    masks = torch.from_numpy(crop_masks(masking, order, lambda _: draws, np.ones(len(order), bool)))
    assert next(draws, None) is None
    assert torch.equal(masks, stored[f"c{case}.collated_masks"].bool())
    indices, weights = masked_patches(masks)
    assert torch.equal(indices, stored[f"c{case}.mask_indices_list"])
    assert torch.equal(weights, stored[f"c{case}.masks_weight"])


@pytest.mark.parametrize(("rows", "target"), [(16, 25), (16, 76), (16, 128), (7, 4), (7, 14), (7, 24)])
def test_masks_are_as_large_and_where_the_references_are(data, rows, target):
    statistics = json.loads((data / "golden/dinov2_masking.json").read_text())["statistics"]
    told = next(entry for entry in statistics if entry["grid"] == [rows, rows] and entry["target"] == target)
    draws = iter(np.random.default_rng(0).random(1_000_000).tolist())
    n = 2000
    masks = np.stack([block_mask(rows, rows, target, draws) for _ in range(n)])
    counts = masks.sum(axis=(1, 2))
    # Five standard errors of the difference of two samples, ours of 2000 and theirs of 4000.
    error = 5 * np.sqrt(1 / n + 1 / told["n"])
    assert abs(counts.mean() - told["count_mean"]) < error * told["count_std"]
    frequency = np.array(told["position_freq"])
    assert (abs(masks.mean(axis=0) - frequency) < error * np.sqrt(frequency * (1 - frequency))).all()


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
def test_a_mask_never_has_more_patches_than_asked_for(rows, cols, share, seed):
    n_masked = int(share * rows * cols)
    mask = block_mask(rows, cols, n_masked, iter(np.random.default_rng(seed).random(100_000).tolist()))
    assert mask.shape == (rows, cols)
    assert mask.sum() <= n_masked


def test_half_of_the_crops_are_masked_with_ratios_from_a_tenth_to_a_half():
    shares = np.sort(batch_masks(Masking(rows=16, cols=16), 2, 50, seed=3, step=0).mean(axis=2).ravel())
    assert (shares[:50] == 0).all()
    # Each step of the ladder has one mask; a few fall short by a patch or two.
    ladder = np.linspace(0.1, 0.5, 51)
    assert (shares[50:] > ladder[:-1] - 0.03).all()
    assert (shares[50:] < ladder[1:]).all()


def test_masks_are_the_same_for_any_number_of_processes():
    whole = batch_masks(MASKING, 2, 12, seed=5, step=7)
    for n in (1, 2, 4):
        shares = [
            batch_masks(MASKING, 2, 12, seed=5, step=7, mine=slice(rank * 12 // n, (rank + 1) * 12 // n))
            for rank in range(n)
        ]
        np.testing.assert_array_equal(np.concatenate(shares, axis=1), whole)


def test_masks_depend_on_seed_and_step_alone():
    np.testing.assert_array_equal(
        batch_masks(MASKING, 2, 8, seed=1, step=2), batch_masks(MASKING, 2, 8, seed=1, step=2)
    )
    assert (batch_masks(MASKING, 2, 8, seed=1, step=2) != batch_masks(MASKING, 2, 8, seed=1, step=3)).any()
    assert (batch_masks(MASKING, 2, 8, seed=1, step=2) != batch_masks(MASKING, 2, 8, seed=2, step=2)).any()


def test_a_crops_weights_sum_to_one_and_where_nothing_is_masked_there_are_none():
    masks = torch.from_numpy(batch_masks(MASKING, 2, 6, seed=1, step=0))
    indices, weights = masked_patches(masks)
    assert masks.flatten()[indices].all()
    sums = torch.zeros(12).index_add(0, indices // 80, weights)
    torch.testing.assert_close(sums, masks.flatten(0, 1).any(dim=1).float())
    indices, weights = masked_patches(torch.zeros(2, 3, 80, dtype=torch.bool))
    assert len(indices) == len(weights) == 0
