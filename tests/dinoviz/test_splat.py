import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dinoviz.widgets.scatter.splat import (
    CHOSEN,
    FAINT,
    PLAIN,
    Cloud,
    Layer,
    Looks,
    Scene,
    View,
    blended,
    count_in_view,
    densest_places,
    density,
    draw,
    in_unit_square,
    inside,
    nearest,
    slices_in,
    standing_for,
)

GROUND, INK, RIM = 0xFF000000, 0xFFFFFFFF, 0xFFFF0000


def cloud_of(n, seed=0):
    return Cloud.of(np.random.default_rng(seed).random((n, 2)).astype(np.float32))


def scene_of(cloud, *, faint=None, chosen=None):
    table = np.full((4, 256), GROUND, np.uint32)
    table[FAINT], table[PLAIN], table[CHOSEN] = 0xFF202020, INK, 0xFF00FF00
    is_faint = np.zeros(len(cloud), bool) if faint is None else faint
    return Scene(
        Layer(cloud, is_faint) if faint is not None else None,
        Layer(cloud, ~is_faint),
        None if chosen is None else Layer(cloud, chosen),
        Looks(np.zeros(len(cloud), np.uint8), table, RIM),
    )


def drawn(scene, view, size=(200, 160), diameter=3.0, **how):
    pixels, pad = draw(scene, view, size, diameter, **how)
    return pixels[pad : pad + size[1], pad : pad + size[0]]


def test_a_map_lies_in_the_unit_square_in_its_proportions_with_up_on_top():
    unit = in_unit_square(np.array([[0, 0], [10, 0], [0, 5], [np.nan, np.nan]]))
    assert unit[:3].tolist() == [[0.0, 0.75], [1.0, 0.75], [0.0, 0.25]]
    assert np.isnan(unit[3]).all()


def test_pictures_that_are_not_on_the_map_are_no_points():
    positions = np.array([[0.1, 0.1], [np.nan, np.nan], [0.9, 0.9]], np.float32)
    cloud = Cloud.of(positions)
    assert (cloud.n, len(cloud), sorted(cloud.numbers_S)) == (3, 2, [0, 2])


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.4, 1.2), st.floats(-0.4, 1.2), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 3000))
def test_slices_hold_every_point_of_a_rectangle(left, top, width, height, n):
    cloud = cloud_of(n)
    rectangle = (left, top, left + width, top + height)
    held = np.concatenate([np.arange(n)[part] for part in slices_in(cloud.curve_S, rectangle)] or [np.empty(0, int)])
    x, y = cloud.x_S, cloud.y_S
    is_in = (x >= left) & (x <= left + width) & (y >= top) & (y <= top + height)
    assert set(np.flatnonzero(is_in)) <= set(held)
    assert len(held) == len(set(held))


def test_from_far_off_each_cell_has_one_point_and_nearer_ones_only_join():
    layer = Layer(cloud_of(20_000))
    levels = [layer.level(number) for number in (3, 5, 7, 16)]
    assert len(levels[0]) == 64
    assert len(levels[-1]) == 20_000
    for far, near in pairwise(levels):
        assert set(far.places_P) <= set(near.places_P)
    assert levels[0].counts_P.sum() == 20_000


@pytest.mark.parametrize("diameter", [1, 2, 3, 4, 5, 6, 9])
@pytest.mark.parametrize("is_fine", [True, False])
def test_a_point_is_a_disc_of_its_diameter_where_it_lies(diameter, is_fine, monkeypatch):
    if not is_fine:
        monkeypatch.setattr("dinoviz.widgets.scatter.splat.SMOOTH_WRITES", 0)
    cloud = Cloud.of(np.array([[0.5, 0.5]], np.float32))
    pixels = drawn(scene_of(cloud), View(0.5, 0.5, 100), diameter=diameter, is_fine=is_fine)
    light = (pixels & 0xFF) / 255
    assert light.sum() == pytest.approx(math.pi * diameter**2 / 4, rel=0.35, abs=0.8)
    rows, cols = np.nonzero(light > 0.4)
    assert (rows.mean(), cols.mean()) == pytest.approx((79.75, 99.75), abs=0.9)


def test_points_outside_the_view_leave_it_empty():
    pixels = drawn(scene_of(cloud_of(500)), View(5.0, 5.0, 100))
    assert (pixels == GROUND).all()


@pytest.mark.parametrize("is_fine", [True, False])
def test_chosen_points_lie_on_top_with_a_rim_and_faint_ones_below(is_fine, monkeypatch):
    if not is_fine:
        monkeypatch.setattr("dinoviz.widgets.scatter.splat.SMOOTH_WRITES", 0)
    cloud = Cloud.of(np.array([[0.3, 0.5], [0.5, 0.5], [0.7, 0.5]], np.float32))
    faint, chosen = cloud.numbers_S == 0, cloud.numbers_S == 2
    pixels = drawn(scene_of(cloud, faint=faint, chosen=chosen), View(0.5, 0.5, 100), diameter=7, is_fine=is_fine)
    row = pixels[80]
    assert (row[80], row[100], row[120]) == (0xFF202020, INK, 0xFF00FF00)
    assert ((pixels >> 16 & 0xFF) > (pixels & 0xFF)).any()  # the rim is red


def test_many_points_and_few_give_the_same_picture_but_for_edges():
    cloud = cloud_of(300)
    smooth = drawn(scene_of(cloud), View(0.5, 0.5, 140), diameter=5)
    quick = drawn(scene_of(cloud), View(0.5, 0.5, 140), diameter=5, is_fine=False)
    assert ((smooth & 0xFF) > 127).mean() == pytest.approx(((quick & 0xFF) > 127).mean(), rel=0.15)


def test_colours_are_mixed_exactly_at_both_ends_and_in_the_middle():
    below, above = np.array([0xFF102030] * 3, np.uint32), np.array([0xFFF0C0A0] * 3, np.uint32)
    mixed = blended(below, above, np.array([0, 128, 255], np.uint32))
    assert [hex(colour) for colour in mixed[[0, 2]]] == ["0xff102030", "0xfff0c0a0"]
    assert [mixed[1] >> shift & 0xFF for shift in (16, 8, 0)] == pytest.approx([0x80, 0x70, 0x68], abs=2)


def test_density_counts_every_point_in_view():
    layer = Layer(cloud_of(5000))
    counts = density(layer, View(0.5, 0.5, 100), (300, 300), 4, 6.0)
    assert counts.shape == (75, 75)
    assert counts.sum() == pytest.approx(5000, rel=0.01)
    assert counts[:5].max() < 0.01 * counts.max()


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.1, 1.1), st.floats(-0.1, 1.1), st.floats(0.001, 0.3), st.integers(1, 2000))
def test_the_nearest_point_is_that_of_all(x, y, reach, n):
    cloud = cloud_of(n, seed=3)
    off = np.hypot(cloud.x_S - np.float32(x), cloud.y_S - np.float32(y))
    found = nearest(Layer(cloud), x, y, reach)
    if off.min() < reach * 0.999:
        assert off[found] == pytest.approx(off.min(), abs=1e-6)
    elif off.min() > reach * 1.001:
        assert found == -1


def test_points_inside_a_mask_are_found():
    cloud = cloud_of(4000)
    mask = np.zeros((100, 50), bool)
    mask[20:60, 10:30] = True
    places = inside(Layer(cloud), mask, (0.2, 0.1, 0.7, 0.9))
    x, y = (cloud.x_S - 0.2) / 0.5 * 50, (cloud.y_S - 0.1) / 0.8 * 100
    expected = np.flatnonzero((x >= 10) & (x < 30) & (y >= 20) & (y < 60))
    assert len(set(places) ^ set(expected)) <= 2  # on the very edge


def test_no_more_points_stand_for_others_than_asked_and_panning_keeps_them():
    cloud = cloud_of(8000)
    layer, view = Layer(cloud), View(0.5, 0.5, 400)
    found = standing_for(layer, view, (400, 400), 40, 70)
    assert 40 <= len(found) <= 70
    moved = standing_for(layer, View(0.51, 0.5, 400), (400, 400), 40, 70)
    assert len(set(found) & set(moved)) >= 0.9 * len(found)
    assert count_in_view(layer, view, (400, 400)) == 8000


def test_a_group_is_named_where_most_of_it_is():
    near = np.random.default_rng(0).normal((0.2, 0.3), 0.01, (90, 2))
    far = np.random.default_rng(1).normal((0.9, 0.9), 0.01, (10, 2))
    cloud = Cloud.of(np.concatenate([near, far]).astype(np.float32))
    middles, counts = densest_places(cloud, np.zeros(100, int), 2)
    assert middles[0].tolist() == pytest.approx([0.2, 0.3], abs=0.02)
    assert counts.tolist() == [100, 0]
