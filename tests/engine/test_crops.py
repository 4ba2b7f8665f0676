import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from engine.images import open_rgb
from engine.seeing.views import normalise
from engine.settings import CropSettings
from engine.training.crops import ColourJitter, View, decode_side, draw_views, render, render_views
from engine.training.draws import uniforms
from tests.makers import PUBLISHED_CROPS as CROPS

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
"""augment_ops: torchvision 0.28 and Pillow 13 on one photo; augment_stats: 4000 draws of torchvision each."""
SAMPLES = 2000
SIDES = st.integers(1, 3000)


def load_golden() -> tuple[dict[str, np.ndarray], dict]:
    with safe_open(GOLDEN / "augment_ops.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["args"])  # noqa: SIM118


ARRAYS, ARGS = load_golden()
STATS = json.loads((GOLDEN / "augment_stats.json").read_text())
PHOTO_YXC = ARRAYS["input"]


def golden_view(box: int, side: int, **drawn) -> View:
    place = {name: ARGS["boxes"][box][name] for name in ("top", "left", "height", "width")}
    return View(rows=PHOTO_YXC.shape[0], cols=PHOTO_YXC.shape[1], side=side, **place, **drawn)


def golden_jitter(factors: int, *order: str) -> ColourJitter:
    return ColourJitter(**ARGS["jitter_factors"][factors], order=order)


def golden_views() -> dict[str, View]:
    """Every stored crop, by its name; ``base`` is box 1 at 64 px, from which all single operations start."""
    views = {name: golden_view(int(name[4]), int(name[6:])) for name in ARRAYS if name.startswith("crop")}
    views |= {"base": golden_view(1, 64), "flip": golden_view(1, 64, flip=True), "gray": golden_view(1, 64, grey=True)}
    views["solarize.tv128"] = views["solarize.pil_default"] = golden_view(1, 64, solarize=True)
    for factors, values in enumerate(ARGS["jitter_factors"]):
        for name in values:
            views[f"jitter{factors}.only_{name}"] = golden_view(1, 64, jitter=golden_jitter(factors, name))
        for i, order in enumerate(ARGS["orders"]):
            views[f"jitter{factors}.order{i}"] = golden_view(1, 64, jitter=golden_jitter(factors, *order))
    still = ColourJitter(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=("hue",))
    views["hue_zero"] = golden_view(1, 64, jitter=still)
    for radius in ARGS["pil_blur_radii"]:
        views[f"pil_blur.{radius}"] = golden_view(1, 64, blur_radius=radius)
        views[f"tv_blur9.{radius}"] = golden_view(1, 64, blur_radius=radius, blur_kind="nine taps")
    # The arguments of the chains are not stored: found by trying all.
    first, last = golden_jitter(0, *ARGS["orders"][1]), golden_jitter(1, *ARGS["orders"][2])
    views["chain_v1.uint8"] = golden_view(1, 224, flip=True, jitter=first, blur_radius=1.1)
    views["chain_v1_local.uint8"] = golden_view(2, 96, flip=True, jitter=last, grey=True, solarize=True)
    return views


VIEWS = golden_views()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def many_views(crops: CropSettings, rows: int = 256, cols: int = 256, n: int = SAMPLES) -> list[list[View]]:
    """Draw for many samples, and return the views by their index."""
    return list(zip(*(draw_views(crops, rows, cols, seed=5, epoch=0, sample=i) for i in range(n)), strict=True))


@pytest.mark.parametrize("name", VIEWS)
def test_exact_renderer_equals_torchvision_bit_for_bit(name):
    np.testing.assert_array_equal(render(PHOTO_YXC, VIEWS[name], exact=True), ARRAYS[name])


@pytest.mark.parametrize("name", VIEWS)
def test_fast_renderer_is_close_to_torchvision(name):
    assert difference(render(PHOTO_YXC, VIEWS[name], exact=False), ARRAYS[name]) < 2


@pytest.mark.parametrize("name", [name for name in VIEWS if name.startswith("jitter")])
def test_fast_colours_are_as_pillows(name):
    picture_YXC = ARRAYS["base"]
    whole = dataclasses.replace(VIEWS[name], rows=64, cols=64, top=0, left=0, height=64, width=64)
    assert difference(render(picture_YXC, whole, exact=False), ARRAYS[name]) < 0.6


@pytest.mark.parametrize("blur", ["paper", "as_released"])
def test_fast_renderer_is_close_to_the_exact_one(blur):
    crops = CROPS.model_copy(update={"blur": blur})
    views = [view for i in range(8) for view in draw_views(crops, *PHOTO_YXC.shape[:2], seed=1, epoch=0, sample=i)]
    differences = [
        difference(render(PHOTO_YXC, view, exact=False), render(PHOTO_YXC, view, exact=True)) for view in views
    ]
    assert np.mean(differences) < 1
    assert max(differences) < 2.5


def test_draws_are_those_of_every_earlier_version():
    """A resumed run goes on with the crops it began with; these numbers must not change."""
    first, _, third, *_ = draw_views(CROPS, 375, 500, seed=7, epoch=3, sample=11)
    assert first == View(
        rows=375,
        cols=500,
        top=19,
        left=89,
        height=343,
        width=408,
        side=224,
        flip=True,
        jitter=ColourJitter(
            brightness=1.2679503805388377,
            contrast=1.1823483121416207,
            saturation=1.1881312040891594,
            hue=-0.021605504661412936,
            order=("brightness", "hue", "saturation", "contrast"),
        ),
        blur_radius=1.7852882106701038,
    )
    assert (third.top, third.left, third.height, third.width, third.grey) == (13, 286, 155, 191, True)


def test_views_do_not_depend_on_what_was_drawn_before():
    drawn = {i: draw_views(CROPS, 375, 500, seed=0, epoch=0, sample=i) for i in range(5)}
    assert {i: draw_views(CROPS, 375, 500, seed=0, epoch=0, sample=i) for i in reversed(range(5))} == drawn


def test_views_differ_by_seed_epoch_sample_and_index():
    keys = [{"seed": 0, "epoch": 0, "sample": 0}]
    keys += [keys[0] | {name: value} for name in keys[0] for value in (1, 2, 2**32, 2**63)]
    boxes = [(v.top, v.left, v.height, v.width) for key in keys for v in draw_views(CROPS, 3000, 3000, **key)]
    assert len(set(boxes)) == len(boxes)


def test_fewer_small_crops_leave_the_others_as_they_were():
    views = draw_views(CROPS, 375, 500, seed=0, epoch=0, sample=0)
    fewer = CROPS.model_copy(update={"local_crops": 3})
    assert draw_views(fewer, 375, 500, seed=0, epoch=0, sample=0) == views[:5]


def test_colours_do_not_depend_on_the_size_of_the_picture():
    small = draw_views(CROPS, 30, 2000, seed=0, epoch=0, sample=0)
    large = draw_views(CROPS, 1500, 1000, seed=0, epoch=0, sample=0)
    assert [(v.flip, v.jitter, v.blur_radius) for v in small] == [(v.flip, v.jitter, v.blur_radius) for v in large]


def test_uniforms_are_uniform_and_independent():
    draws = uniforms(400, 250, seed=1, epoch=2, sample=3)
    assert np.histogram(draws, 10, (0, 1))[0] == pytest.approx(10_000, abs=500)
    assert np.corrcoef(draws.T)[np.triu_indices(250, 1)].std() == pytest.approx(400**-0.5, rel=0.05)


@pytest.mark.parametrize("size", [(256, 256), (200, 350)])
@pytest.mark.parametrize("kind", ["v1_global", "v1_local", "v2_global", "v2_local"])
def test_boxes_are_distributed_as_torchvisions(kind, size):
    golden = STATS[f"{kind}.{size[0]}x{size[1]}"]
    split = golden["scale"][0] if "global" in kind else golden["scale"][1]
    by_index = many_views(CROPS.model_copy(update={"scale_split": split, "local_crops": 2}), *size)
    views = [*by_index[0], *by_index[1]] if "global" in kind else [*by_index[2], *by_index[3]]
    top, left, height, width = np.array([(v.top, v.left, v.height, v.width) for v in views]).T
    areas, aspects = height * width / math.prod(size), width / height
    # Four standard errors of a quantile in the middle, of two sets of 4000.
    for quantile, value in golden["area_quantiles"].items():
        assert np.quantile(areas, float(quantile)) == pytest.approx(value, abs=0.03)
    for quantile, value in golden["aspect_quantiles"].items():
        assert np.quantile(aspects, float(quantile)) == pytest.approx(value, abs=0.03)
    assert areas.mean() == pytest.approx(golden["area_mean"], abs=0.015)
    assert np.log(aspects).mean() == pytest.approx(golden["log_aspect_mean"], abs=0.015)
    centre = ((top + height / 2).mean() / size[0], (left + width / 2).mean() / size[1])
    assert sorted(centre) == pytest.approx(sorted(golden["center_mean"]), abs=0.015)


def test_colour_jitter_is_distributed_as_torchvisions():
    jitters = [view.jitter for views in many_views(CROPS) for view in views if view.jitter]
    assert len(jitters) / (10 * SAMPLES) == pytest.approx(0.8, abs=0.02)
    for name, (low, high) in STATS["color_jitter"]["ranges"].items():
        factors = [getattr(jitter, name) for jitter in jitters]
        assert (min(factors), max(factors)) == pytest.approx((low, high), abs=0.002)
        assert np.mean(factors) == pytest.approx((low + high) / 2, abs=0.01)
    orders = [jitter.order for jitter in jitters]
    assert len(set(orders)) == math.factorial(4)
    assert max(map(orders.count, set(orders))) / len(orders) == pytest.approx(1 / 24, abs=0.008)


@pytest.mark.parametrize(
    ("blur", "shares"),
    [("paper", (1.0, 0.1, 0.5)), ("as_released", (0.0, 0.9, 0.5)), ("off", (0.0, 0.0, 0.0))],
)
def test_blur_falls_on_the_views_it_should(blur, shares):
    by_index = many_views(CROPS.model_copy(update={"blur": blur, "local_crops": 1}))
    assert [np.mean([v.blur_radius > 0 for v in views]) for views in by_index] == pytest.approx(shares, abs=0.04)
    radii = [v.blur_radius for views in by_index for v in views if v.blur_radius]
    if radii:
        assert (min(radii), max(radii)) == pytest.approx((0.1, 2.0), abs=0.01)


def test_blur_shares_agree_with_the_measured_ones():
    for blur, golden in (("paper", "v1"), ("as_released", "dinov2")):
        by_index = many_views(CROPS.model_copy(update={"blur": blur, "local_crops": 1}))
        shares = [np.mean([v.blur_radius > 0 for v in views]) for views in by_index]
        assert list(STATS[f"{golden}_gaussian_blur_applied_fraction"].values()) == pytest.approx(shares, abs=0.15)


def test_flip_grey_and_solarize_fall_on_the_shares_asked_for():
    by_index = many_views(CROPS)
    assert np.mean([v.flip for views in by_index for v in views]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([v.grey for views in by_index for v in views]) == pytest.approx(0.2, abs=0.02)
    assert [np.mean([v.solarize for v in views]) for views in by_index] == pytest.approx([0, 0.2, *[0] * 8], abs=0.04)


def test_colour_operation_of_no_strength_does_not_run():
    views = draw_views(CROPS.model_copy(update={"hue": 0.0, "jitter": 1.0}), 64, 64, seed=0, epoch=0, sample=0)
    assert all(set(view.jitter.order) == {"brightness", "contrast", "saturation"} for view in views)


@settings(max_examples=150, deadline=None)
@given(rows=SIDES, cols=SIDES, sample=st.integers(0, 2**40))
def test_boxes_lie_inside_the_picture(rows, cols, sample):
    for view in draw_views(CROPS, rows, cols, seed=0, epoch=0, sample=sample):
        assert 0 <= view.top <= view.top + view.height - 1 < rows
        assert 0 <= view.left <= view.left + view.width - 1 < cols


@pytest.mark.parametrize(("rows", "cols", "box"), [(2000, 3, (998, 0, 4, 3)), (1, 90, (0, 44, 1, 1))])
def test_picture_too_long_for_any_box_gives_its_centre(rows, cols, box):
    views = draw_views(CROPS, rows, cols, seed=0, epoch=0, sample=0)
    assert (views[0].top, views[0].left, views[0].height, views[0].width) == box


@settings(max_examples=100, deadline=None)
@given(rows=SIDES, cols=SIDES, sample=st.integers(0, 2**40))
def test_scaled_decode_keeps_the_pixels_of_every_crop(rows, cols, sample):
    views = draw_views(CROPS, rows, cols, seed=0, epoch=0, sample=sample)
    scale = decode_side(views) / min(rows, cols)
    assert scale <= 1
    for view in views:
        side = min(view.height, view.width)
        assert side * scale >= min(side, view.side) - 1e-6


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 2000), (2000, 3), (1, 5), (97, 95)])
@pytest.mark.parametrize("renderer", ["exact", "fast"])
def test_small_and_narrow_pictures_render(renderer, size):
    picture_YXC = np.full((*size, 3), 77, np.uint8)
    for sample in range(3):
        views = draw_views(CROPS, *size, seed=0, epoch=0, sample=sample)
        crops = render_views(picture_YXC, views, CROPS.model_copy(update={"renderer": renderer}))
        assert [crop.shape for crop in crops] == [(2, 224, 224, 3), (8, 96, 96, 3)]
        plain = [view for view in views if view.jitter is None and not view.solarize]
        assert all(difference(render(picture_YXC, v, exact=renderer == "exact"), 77) <= 1 for v in plain)


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 300), cols=st.integers(1, 300), eighths=st.integers(1, 8), sample=st.integers(0, 1000))
def test_any_decoding_of_a_picture_renders(rows, cols, eighths, sample):
    decoded_YXC = np.zeros((math.ceil(rows * eighths / 8), math.ceil(cols * eighths / 8), 3), np.uint8)
    tiny = CROPS.model_copy(update={"global_side": 16, "local_side": 8, "local_crops": 2})
    for view in draw_views(tiny, rows, cols, seed=0, epoch=0, sample=sample):
        assert render(decoded_YXC, view, exact=False).shape == (view.side, view.side, 3)


def test_crops_of_a_scaled_decode_are_close_to_those_of_a_full_one(tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(PHOTO_YXC).resize((1344, 1794), Image.Resampling.BICUBIC).save(path, quality=95)
    full_YXC = open_rgb(path)
    differences = []
    for sample in range(4):
        views = draw_views(CROPS, 1794, 1344, seed=0, epoch=0, sample=sample)
        scaled_YXC = open_rgb(path, at_least=decode_side(views))
        assert min(scaled_YXC.shape[:2]) <= 1344 // 2
        differences += [
            difference(render(scaled_YXC, view, exact=False), render(full_YXC, view, exact=True)) for view in views
        ]
    assert np.mean(differences) < 1.5
    assert max(differences) < 4.5


def test_render_views_renders_each_view_with_the_renderer_asked_for():
    for renderer in ("exact", "fast"):
        crops = CROPS.model_copy(update={"renderer": renderer})
        views = draw_views(crops, *PHOTO_YXC.shape[:2], seed=0, epoch=0, sample=0)
        rendered = [crop for group in render_views(PHOTO_YXC, views, crops) for crop in group]
        for crop_YXC, view in zip(rendered, views, strict=True):
            np.testing.assert_array_equal(crop_YXC, render(PHOTO_YXC, view, exact=renderer == "exact"))


def test_without_multi_crop_there_are_no_small_crops():
    crops = CROPS.model_copy(update={"local_crops": 0})
    views = draw_views(crops, *PHOTO_YXC.shape[:2], seed=0, epoch=0, sample=0)
    globals_VYXC, locals_VYXC = render_views(PHOTO_YXC, views, crops)
    assert (len(globals_VYXC), len(locals_VYXC)) == (2, 0)


def test_rendering_leaves_the_picture_as_it_was():
    picture_YXC = PHOTO_YXC.copy()
    picture_YXC.flags.writeable = False
    whole = View(rows=299, cols=224, top=0, left=0, height=224, width=224, side=224, jitter=golden_jitter(0, "hue"))
    render(picture_YXC, whole, exact=False)
    np.testing.assert_array_equal(picture_YXC, PHOTO_YXC)


def test_normalise_equals_torchvision_bit_for_bit():
    for crop, normalised in (("base", "normalized"), ("chain_v1_local.uint8", "chain_v1_local.normalized")):
        crops_BCYX = normalise(torch.from_numpy(ARRAYS[crop])[None])
        assert crops_BCYX.is_contiguous()
        torch.testing.assert_close(crops_BCYX[0], torch.from_numpy(ARRAYS[normalised]), rtol=0, atol=0)
