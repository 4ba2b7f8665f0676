"""Overlays are those of the engine: masks to the patch, pixels to the pixel, colours as near as their knots allow."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PySide6.QtGui import QColor, QImage, QPainter

from dinoviz.widgets.picture import overlays
from engine.exporting.edited import FINER, fine
from engine.questions import Lattice
from engine.seeing import drawing, masks
from engine.seeing.attention import AttentionMaps
from engine.seeing.grid import Grid
from engine.seeing.look import masks_of

COARSEST = 6
"""How far a colour between two knots may be from the published one."""
BOOLS = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def lattice_of(size, patch, side):
    grid = Grid.of(size, patch=patch, side=side)
    return grid, Lattice(rows=grid.rows, cols=grid.cols, patch=patch, resized=grid.resized, picture=size)


@settings(max_examples=150, deadline=None)
@given(
    attention=arrays(np.float32, (3, 6, 7), elements=st.floats(0, 1, width=32)),
    keep=st.floats(0.01, 1),
)
def test_masks_of_attention_are_those_of_the_engine(attention, keep):
    np.testing.assert_array_equal(overlays.attention_mask(attention, keep), masks.attention_mask(attention, keep))


@settings(max_examples=150, deadline=None)
@given(mask=BOOLS, smallest=st.integers(0, 9))
def test_specks_are_those_of_the_engine(mask, smallest):
    np.testing.assert_array_equal(overlays.without_specks(mask, smallest), masks.without_specks(mask, smallest))


@pytest.mark.parametrize("of", [0, 2, "mean", "union"])
@pytest.mark.parametrize("smallest", [1, 3])
def test_masks_of_heads_of_mean_and_of_union_are_those_that_look_writes(of, smallest):
    maps_HRC = np.random.default_rng(1).random((4, 20, 26)).astype(np.float32) ** 6
    seen = AttentionMaps(maps_HRC=maps_HRC, grid=Grid.of((200, 260), patch=10, side=200), layer=0, query="cls")
    wanted = masks_of(seen, 0.5, smallest)[of if isinstance(of, str) else f"head{of}"]
    np.testing.assert_array_equal(overlays.mask_of(maps_HRC, of, 0.5, smallest), wanted)


@settings(max_examples=100, deadline=None)
@given(mask=BOOLS)
def test_what_the_outline_encloses_is_the_mask(mask):
    image = QImage(mask.shape[1], mask.shape[0], QImage.Format.Format_Grayscale8)
    image.fill(0)
    painter = QPainter(image)
    painter.fillPath(overlays.outline(mask), QColor("white"))
    painter.end()
    filled = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    np.testing.assert_array_equal(filled[:, : mask.shape[1]] > 0, mask)


def test_outline_goes_round_corners_and_holes():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert sorted(map(len, overlays._rings(ring))) == [4, 4]
    diagonal = np.eye(2, dtype=bool)
    assert [len(line) for line in overlays._rings(diagonal)] == [8], "parts that touch at a corner are one part"
    assert overlays._rings(np.zeros((4, 4), bool)) == []


@pytest.mark.parametrize(("size", "patch", "side"), [((123, 151), 8, 61), ((40, 300), 14, 56), ((64, 64), 8, 64)])
def test_pixels_and_patches_belong_together_as_in_the_engine(size, patch, side):
    grid, lattice = lattice_of(size, patch, side)
    mask = np.random.default_rng(2).random((grid.rows, grid.cols)) > 0.5
    spread = grid.spread(mask, size)
    np.testing.assert_array_equal(overlays.mask_pixels(mask, lattice), spread)
    assert overlays.mask_area(mask, lattice) == spread.sum()
    for y, x in np.random.default_rng(3).integers(0, size, (50, 2)):
        assert overlays.patch_at(lattice, float(x), float(y)) == grid.patch_at(int(y), int(x), size)
    assert overlays.patch_at(lattice, -0.1, 5) is None
    assert overlays.patch_at(lattice, size[1], 5) is None


def test_what_reaches_the_edges_covers_the_picture_and_shifts_nothing():
    _, lattice = lattice_of((123, 151), 8, 61)
    values = np.arange(lattice.rows * lattice.cols, dtype=float).reshape(lattice.rows, lattice.cols)
    wide, area = overlays.reaching(values, lattice)
    assert area.width() >= 151
    assert area.height() >= 123
    np.testing.assert_array_equal(wide[: lattice.rows, : lattice.cols], values)
    assert area.width() / wide.shape[1] == pytest.approx(overlays.covered(lattice).width() / lattice.cols)


def test_a_mask_that_was_brushed_reaches_the_edges_too():
    _, lattice = lattice_of((123, 151), 8, 61)
    cells_YX = np.ones((lattice.rows * FINER, lattice.cols * FINER), bool)
    wide_YX, area = overlays.reaching(cells_YX, fine(lattice))
    assert wide_YX.all()
    assert area.width() > 150.99
    assert area.height() > 122.99
    assert area.width() / wide_YX.shape[1] == pytest.approx(overlays.covered(lattice).width() / cells_YX.shape[1])


@pytest.mark.parametrize("name", [name for name in overlays.COLOUR_MAPS if name not in ("grey", "cividis")])
def test_colours_are_those_of_the_published_map(name):
    steps = np.arange(256, dtype=np.uint8)[:, None]
    published = cv2.applyColorMap(steps, drawing.COLOUR_MAPS[name])[:, 0, ::-1].astype(int)
    assert np.abs(overlays.colour_table(name).astype(int) - published).max() <= COARSEST


def test_interpolation_is_that_of_the_engine():
    map_RC = np.random.default_rng(4).random((9, 13)).astype(np.float32)
    smooth = overlays.smoothed(map_RC, 13 * 8)
    cubic = cv2.resize(map_RC, (13 * 8, 9 * 8), interpolation=cv2.INTER_CUBIC).clip(map_RC.min(), map_RC.max())
    np.testing.assert_allclose(smooth, cubic, atol=1e-4)


def test_heat_is_premultiplied_and_as_opaque_as_asked():
    image = overlays.heat_image(np.array([[0.0, 1.0]]), colours="grey", opacity=0.5)
    assert image.pixelColor(0, 0).alpha() == image.pixelColor(1, 0).alpha() == 128
    assert image.pixel(1, 0) & 0xFF <= 128, "no colour is larger than its opacity"
    light = overlays.heat_image(np.array([[0.0, 1.0]]), colours="grey", opacity=0.5, is_veiled=False)
    assert light.pixelColor(0, 0).alpha() < light.pixelColor(1, 0).alpha() == 128


def test_few_patches_that_take_all_attention_leave_the_rest_to_be_seen():
    map_RC = np.linspace(0, 1, 1000).reshape(20, 50)
    map_RC[3, 4] = 500
    assert overlays.span_of(map_RC)[1] < 1.01
    assert overlays.span_of(np.zeros((3, 3))) == (0, 0)
    assert not overlays.between(np.full((2, 2), 7.0)).any()


def test_composite_shows_each_head_in_its_colour_where_it_looks():
    first, second = np.zeros((4, 4)), np.zeros((4, 4))
    first[0, 0] = second[3, 3] = 1
    image = overlays.composite_image([first, second], np.array([[255, 0, 0], [0, 0, 255]]))
    assert image.pixelColor(0, 0).red() > 200 > image.pixelColor(0, 0).blue()
    assert image.pixelColor(3, 3).blue() > 200
    assert image.pixelColor(1, 1).alpha() == 0
