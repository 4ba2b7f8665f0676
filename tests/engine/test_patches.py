import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from engine.seeing.patches import Basis, Foreground, as_colours, fit_basis


def cosines(first_KD, second_KD):
    return (first_KD * second_KD).sum(1) / np.linalg.norm(first_KD, axis=1) / np.linalg.norm(second_KD, axis=1)


def subject_on_ground(rows=9, cols=11, width=16):
    """Features of a disc on a ground, noise on both."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:rows, :cols]
    is_subject_RC = (y - rows // 2) ** 2 + (x - cols // 2) ** 2 <= 6
    features_RCD = random.normal(scale=0.1, size=(rows, cols, width))
    features_RCD[is_subject_RC] -= random.normal(size=width)
    return features_RCD.astype(np.float32), is_subject_RC


@pytest.fixture
def released(shared):
    """Features of the released DINOv2 ViT-S/14: README there."""
    return shared.parent / "reference_features"


def test_components_of_released_features_equal_the_reference(released):
    stored = load_file(released / "dinov2_vits14_fg_pca.st")
    basis = Basis.fit(stored["fg_features"])
    assert np.abs(cosines(basis.components_KD, stored["components"])).min() >= 0.9999
    np.testing.assert_allclose(basis.mean_D, stored["mean"][0], atol=1e-5)


def test_foreground_of_released_features_is_the_subject(released):
    """A toy animal in the middle of a white ground, cut at no border."""
    features_RCD = load_file(released / "dinov2_vits14_dino_0_resize518.st")["output"].reshape(37, 37, -1)
    foreground = Foreground.fit([features_RCD])
    is_subject_RC = foreground.found(features_RCD, is_opened=True)
    assert foreground.rule == "otsu"
    assert is_subject_RC[6:17, 13:29].all()  # its head
    assert not is_subject_RC[:, [0, 1, 35, 36]].any()
    assert not is_subject_RC[[0, 1, 35, 36]].any()
    assert 0.4 < is_subject_RC.mean() < 0.55


def test_components_are_those_of_a_singular_value_decomposition():
    features_PD = np.random.default_rng(0).normal(size=(200, 12)) * np.arange(12, 0, -1)
    basis = Basis.fit(features_PD, n=4)
    _, _, rows_DD = np.linalg.svd(features_PD - features_PD.mean(axis=0))
    np.testing.assert_allclose(np.abs(cosines(basis.components_KD, rows_DD[:4])), 1, atol=1e-6)


def test_largest_entry_is_positive():
    features_PD = np.random.default_rng(0).normal(size=(50, 8))
    for features in (features_PD, -features_PD):
        components_KD = Basis.fit(features).components_KD
        assert (components_KD[range(3), np.abs(components_KD).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_middle_is_positive_on_the_first_component(sign):
    features_RCD, is_subject_RC = subject_on_ground()
    first_RC = fit_basis([sign * features_RCD]).project(sign * features_RCD)[..., 0]
    assert (first_RC[is_subject_RC] > 0).all()
    assert (first_RC[~is_subject_RC] < 0).all()


def test_axes_of_several_blocks_are_those_of_all_patches_together():
    features_PD = np.random.default_rng(1).normal(size=(60, 9)) * np.arange(9, 0, -1)
    together = Basis.fit(features_PD)
    apart = Basis.fit_blocks([features_PD[:7], features_PD[7:20], features_PD[20:]])
    np.testing.assert_allclose(apart.components_KD, together.components_KD, atol=1e-6)
    np.testing.assert_allclose(apart.mean_D, together.mean_D, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_foreground_is_what_the_borders_are_not(sign):
    features_RCD, is_subject_RC = subject_on_ground()
    foreground = Foreground.fit([sign * features_RCD])
    assert foreground.rule == "otsu"
    np.testing.assert_array_equal(foreground.found(sign * features_RCD), is_subject_RC)
    flipped = Foreground.fit([sign * features_RCD], is_flipped=True)
    np.testing.assert_array_equal(flipped.found(sign * features_RCD), ~is_subject_RC)


def test_difference_between_pictures_is_no_foreground():
    features_RCD, is_subject_RC = subject_on_ground()
    away_D = 10 * np.random.default_rng(5).normal(size=features_RCD.shape[-1])
    pictures = [features_RCD, features_RCD, (features_RCD + away_D).astype(np.float32)]
    axis_D = Foreground.fit(pictures).axis_D
    between = features_RCD[is_subject_RC].mean(axis=0) - features_RCD[~is_subject_RC].mean(axis=0)
    assert cosines(axis_D[None], between[None])[0] > 0.99


@given(st.floats(-2, 2), st.integers(0, 5))
def test_threshold_is_in_deviations_of_the_first_component(threshold, seed):
    features_RCD = np.random.default_rng(seed).normal(size=(6, 7, 5)).astype(np.float32)
    foreground = Foreground.fit([features_RCD], threshold)
    scores_RC = foreground.scores(features_RCD)
    assert foreground.rule == "given"
    assert abs(scores_RC.std() - 1) < 1e-4
    assert abs(scores_RC.mean()) < 1e-4
    np.testing.assert_array_equal(foreground.found(features_RCD), scores_RC > threshold)


def test_one_odd_patch_is_no_foreground_by_itself():
    features_RCD = np.random.default_rng(0).normal(size=(12, 12, 6)).astype(np.float32)
    features_RCD[5, 5] += 200
    foreground = Foreground.fit([features_RCD])
    assert (foreground.rule, foreground.threshold) == ("mean", 0.0)


def test_opening_drops_specks_and_fills_pinholes_but_keeps_what_the_border_cuts():
    axis_D = np.array([1.0, 0.0], np.float32)
    foreground = Foreground(mean_D=np.zeros(2, np.float32), axis_D=axis_D, threshold=0.5, rule="given")
    wanted_RC = np.zeros((9, 9), np.bool_)
    wanted_RC[4:, :6] = True
    drawn_RC = wanted_RC.copy()
    drawn_RC[1, 7] = True
    drawn_RC[6, 2] = False
    features_RCD = np.stack([drawn_RC, np.zeros_like(drawn_RC)], axis=-1).astype(np.float32)
    opened_RC = foreground.found(features_RCD, is_opened=True)
    assert not opened_RC[1, 7]
    assert opened_RC[8, 0]
    assert foreground.found(features_RCD, is_filtered=True)[6, 2]


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 5, 8), (3, 4, 8)])
def test_features_without_differences_have_a_foreground_and_colours(shape):
    features_RCD = np.full(shape, 0.1, np.float32)
    assert np.isfinite(Foreground.fit([features_RCD]).scores(features_RCD)).all()
    (colours_RC3,) = as_colours([fit_basis([features_RCD]).project(features_RCD)])
    assert (colours_RC3 == 128).all()


def test_colours_span_the_scale_over_all_pictures():
    pictures = [subject_on_ground()[0], 2 * subject_on_ground(6, 7)[0]]
    basis = fit_basis(pictures)
    colours = as_colours([basis.project(features_RCD) for features_RCD in pictures])
    every_P3 = np.concatenate([colours_RC3.reshape(-1, 3) for colours_RC3 in colours])
    assert every_P3.min(axis=0).tolist() == [0, 0, 0]
    assert every_P3.max(axis=0).tolist() == [255, 255, 255]
