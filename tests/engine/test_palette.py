import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from engine.errors import BadInput, BadRecipe
from engine.seeing.palette import STYLES, Palette, PatchStyle


def picture(seed=0, rows=10, cols=12, width=8):
    """Features of a subject with parts of its own in the middle of a ground."""
    random = np.random.default_rng(seed)
    features_RCD = random.normal(scale=0.2, size=(rows, cols, width))
    features_RCD[3:7, 3:9, 0] += 8
    features_RCD[3:7, 3:6, 1] += 3
    features_RCD[5:7, 3:9, 2] += 2
    return features_RCD.astype(np.float32)


def colours(palette, features_RCD):
    return palette.colour(features_RCD).colours_RC3


def test_ground_is_black_and_the_subject_spans_the_scale():
    coloured = Palette.fit([picture()]).colour(picture())
    inside_P3 = coloured.colours_RC3[coloured.is_foreground_RC]
    assert coloured.is_foreground_RC[3:7, 3:9].all()
    assert coloured.is_foreground_RC.sum() == 24
    assert not coloured.colours_RC3[~coloured.is_foreground_RC].any()
    assert inside_P3.min(axis=0).tolist() == [0, 0, 0]
    assert inside_P3.max(axis=0).tolist() == [255, 255, 255]


@given(st.integers(0, 50))
def test_colours_of_a_picture_depend_on_no_other(seed):
    palette = Palette.fit([picture(1), picture(2)])
    alone = colours(palette, picture(seed))
    colours(palette, 100 * picture(seed + 1))
    np.testing.assert_array_equal(colours(palette, picture(seed)), alone)


def test_components_are_fitted_on_the_foreground_alone():
    features_RCD = picture()
    palette = Palette.fit([features_RCD])
    inside_PD = features_RCD[palette.colour(features_RCD).is_foreground_RC]
    np.testing.assert_allclose(palette.basis.mean_D, inside_PD.mean(axis=0), atol=1e-5)
    _, _, axes_DD = np.linalg.svd(inside_PD - inside_PD.mean(axis=0))
    np.testing.assert_allclose(np.abs((palette.basis.components_KD * axes_DD[:3]).sum(axis=1)), 1, atol=1e-5)


def test_without_foreground_every_patch_is_coloured():
    coloured = Palette.fit([picture()], PatchStyle(foreground="off")).colour(picture())
    assert coloured.is_foreground_RC.all()
    assert np.isnan(coloured.subject_RC).all()


def test_threshold_that_leaves_nothing_colours_all_and_says_so():
    palette = Palette.fit([picture()], PatchStyle(foreground=50.0))
    assert palette.rule == "none"
    assert palette.colour(picture()).is_foreground_RC.all()


def test_whitened_style_is_the_sigmoid_of_twice_the_score_in_deviations():
    palette = Palette.fit([picture()], PatchStyle(name="dinov3", foreground="off"))
    scores_P3 = palette.colour(picture()).scores_RC3.reshape(-1, 3)
    expected_P3 = 255 / (1 + np.exp(-2 * scores_P3 / scores_P3.std(axis=0, ddof=1)))
    np.testing.assert_allclose(colours(palette, picture()).reshape(-1, 3), expected_P3, atol=0.51)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("foreground", ["auto", "off", 0.0])
def test_palette_is_read_as_it_was_written(name, foreground, tmp_path):
    about = {"model": "tiny", "model_sha256": "ab", "layer": 3, "side_px": 96}
    palette = Palette.fit([picture()], PatchStyle(name=name, foreground=foreground, is_opened=True), about)
    palette.write(tmp_path / "basis")
    again = Palette.read(tmp_path / "basis")
    np.testing.assert_array_equal(colours(again, picture(3)), colours(palette, picture(3)))
    assert (again.about, again.style, again.rule, again.is_opened) == (about, name, palette.rule, True)


def test_features_of_another_width_are_refused():
    with pytest.raises(BadRecipe, match="width 8; this model's have width 6"):
        Palette.fit([picture()]).colour(picture(width=6))
    with pytest.raises(BadRecipe, match="width 2"):
        Palette.fit([np.ones((4, 4, 2), np.float32)])


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 3, 8), (5, 5, 8)])
def test_features_without_differences_have_finite_colours(shape):
    coloured = Palette.fit([np.full(shape, 0.3, np.float32)]).colour(np.full(shape, 0.3, np.float32))
    assert np.isfinite(coloured.scores_RC3).all()


def damaged(tensors, words):
    """Files that hold no palette, by what is wrong with them."""
    broken = {name: tensor for name, tensor in tensors.items() if name != "low"}
    wide = tensors | {"components": np.ones((3, 4), np.float32)}
    odd = tensors | {"high": np.full(3, np.nan, np.float32)}
    metadata = {"palette": json.dumps(words)}
    return {
        "missing": (broken, metadata),
        "shape": (wide, metadata),
        "numbers": (odd, metadata),
        "words": (tensors, {"palette": "{"}),
        "list": (tensors, {"palette": "[1]"}),
        "style": (tensors, {"palette": json.dumps(words | {"style": "old"})}),
        "none": (tensors, {}),
    }


def test_file_without_a_palette_is_refused(tmp_path):
    Palette.fit([picture()]).write(tmp_path / "good")
    words = {"style": "dinov2", "rule": "otsu", "is_opened": False, "threshold": 0.0, "about": {}}
    for name, (tensors, metadata) in damaged(load_file(tmp_path / "good"), words).items():
        save_file(tensors, tmp_path / name, metadata=metadata)
    (tmp_path / "text").write_text("no tensors")
    for name in ("missing", "shape", "numbers", "words", "list", "style", "none", "text", "absent"):
        with pytest.raises(BadInput, match="holds no basis"):
            Palette.read(tmp_path / name)
    with pytest.raises(BadInput, match="holds no basis"):
        Palette.read(tmp_path)
