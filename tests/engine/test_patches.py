from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.errors import BadInput
from engine.seeing.patches import Basis, fit_basis, patch_colours

REFERENCE = Path(__file__).parents[3] / "shared" / "reference_features"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="released features are not in the repository")


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


@needs_reference
def test_components_of_released_features_equal_the_reference():
    stored = load_file(REFERENCE / "dinov2_vits14_fg_pca.st")
    basis = Basis.fit(stored["fg_features"])
    np.testing.assert_allclose(np.abs(cosines(basis.components_KD, stored["components"])), 1, atol=1e-4)
    np.testing.assert_allclose(basis.mean_D, stored["mean"][0], atol=1e-5)


@needs_reference
def test_two_preparations_of_a_picture_get_like_colours():
    names = ("dinov2_vits14_dino_0_resize518.st", "dinov2_vits14_dino_0_lanczos520crop518.st")
    first, second = (load_file(REFERENCE / name)["output"].reshape(37, 37, -1) for name in names)
    colours = patch_colours([first, second], fit_basis([first]))
    difference = np.abs(colours[0].astype(int) - colours[1]).mean()
    assert difference < 10


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


def test_colours_span_the_scale_over_all_pictures():
    pictures = [subject_on_ground()[0], 2 * subject_on_ground(6, 7)[0]]
    colours = patch_colours(pictures)
    assert [colours_RC3.shape for colours_RC3 in colours] == [(9, 11, 3), (6, 7, 3)]
    every_P3 = np.concatenate([colours_RC3.reshape(-1, 3) for colours_RC3 in colours])
    assert every_P3.dtype == np.uint8
    assert every_P3.min(axis=0).tolist() == [0, 0, 0]
    assert every_P3.max(axis=0).tolist() == [255, 255, 255]


def test_same_features_get_the_same_colours_in_two_pictures():
    features_RCD, _ = subject_on_ground()
    first, second = patch_colours([features_RCD, features_RCD[::-1]])
    np.testing.assert_array_equal(first, second[::-1])


def test_features_without_differences_are_grey():
    (colours_RC3,) = patch_colours([np.full((3, 4, 8), 0.1, np.float32)])
    assert (colours_RC3 == 128).all()


def test_single_patch_has_a_colour():
    assert patch_colours([np.ones((1, 1, 8), np.float32)])[0].shape == (1, 1, 3)


def test_basis_is_read_as_it_was_written(tmp_path):
    basis = Basis.fit(np.random.default_rng(0).normal(size=(20, 6)))
    basis.write(tmp_path / "basis.safetensors")
    again = Basis.read(tmp_path / "basis.safetensors")
    np.testing.assert_array_equal(again.mean_D, basis.mean_D)
    np.testing.assert_array_equal(again.components_KD, basis.components_KD)


def test_file_without_a_basis_is_refused(tmp_path):
    (tmp_path / "text").write_text("no tensors")
    save_file({"other": np.zeros(2)}, tmp_path / "other")
    for name in ("text", "other", "absent"):
        with pytest.raises(BadInput, match="holds no basis"):
            Basis.read(tmp_path / name)
