import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.errors import BadRecipe
from engine.seeing.grid import LONGEST, Grid
from engine.seeing.views import prepare

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def test_shorter_side_is_the_side_and_the_aspect_is_kept():
    assert Grid.of((300, 450), patch=16, side=96) == Grid(rows=6, cols=9, patch=16, resized=(96, 144))


def test_square_grid_gives_up_the_aspect():
    assert Grid.of((300, 450), patch=8, side=480, is_square=True).resized == (480, 480)


def test_leftover_pixels_are_cut_off():
    grid = Grid.of((100, 130), patch=16, side=100)
    assert (grid.rows, grid.cols) == (6, 8)


def test_very_long_picture_is_squeezed():
    assert Grid.of((2, 5000), patch=8, side=64).resized == (64, 64 * LONGEST)


def test_side_below_a_patch_is_refused():
    with pytest.raises(BadRecipe, match="no room for a patch"):
        Grid.of((100, 100), patch=16, side=15)


@given(sizes, st.sampled_from([4, 7, 16]), st.integers(16, 120))
def test_every_patch_is_spread_to_its_own_place(size, patch, side):
    grid = Grid.of(size, patch=patch, side=side)
    numbers_RC = np.arange(grid.rows * grid.cols).reshape(grid.rows, grid.cols)
    numbers_YX = grid.spread(numbers_RC, size)
    assert numbers_YX.shape == size
    y, x = size[0] // 2, size[1] // 2
    assert numbers_YX[y, x] == numbers_RC[grid.patch_at(y, x, size)]
    assert (np.diff(numbers_YX, axis=0) >= 0).all()
    assert (np.diff(numbers_YX, axis=1) >= 0).all()


def test_patch_is_spread_to_its_rectangle_in_a_picture_that_is_not_square():
    size = (200, 340)
    grid = Grid.of(size, patch=16, side=100)  # seen at half size: 6 x 10 patches of 32 px, 8 and 20 px left over
    one_RC = np.zeros((grid.rows, grid.cols), dtype=bool)
    one_RC[2, 7] = True
    ys, xs = np.nonzero(grid.spread(one_RC, size))
    assert (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1) == (64, 96, 224, 256)
    assert len(ys) == 32 * 32


def test_unseen_strip_takes_the_value_of_the_nearest_patch():
    grid = Grid.of((200, 340), patch=16, side=100)
    numbers_RC = np.arange(60).reshape(6, 10)
    numbers_YX = grid.spread(numbers_RC, (200, 340))
    assert numbers_YX[199, 0] == 50
    assert numbers_YX[0, 339] == 9


@given(sizes)
def test_smooth_spread_keeps_size_and_range(size):
    grid = Grid.of(size, patch=8, side=30)
    map_RC = np.random.default_rng(0).random((grid.rows, grid.cols))
    smooth_YX = grid.spread_smoothly(map_RC, size)
    assert smooth_YX.shape == size
    assert smooth_YX.min() >= np.float32(map_RC.min())
    assert smooth_YX.max() <= np.float32(map_RC.max())


def test_smooth_spread_peaks_in_the_middle_of_the_patch():
    grid = Grid.of((200, 340), patch=16, side=100)
    map_RC = np.zeros((6, 10))
    map_RC[2, 7] = 1.0
    smooth_YX = grid.spread_smoothly(map_RC, (200, 340))
    assert np.unravel_index(smooth_YX.argmax(), smooth_YX.shape) in {(y, x) for y in (79, 80) for x in (239, 240)}


def test_picture_is_resized_normalised_and_cut():
    picture_YX3 = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    grid = Grid.of((50, 70), patch=8, side=36)
    image_1CYX = prepare(picture_YX3, grid, MEAN, STD)
    resized = np.asarray(Image.fromarray(picture_YX3).resize((50, 36), Image.Resampling.BICUBIC))
    expected = (torch.tensor(resized[:32, :48]) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert image_1CYX.dtype == torch.float32
    assert torch.allclose(image_1CYX[0], expected.permute(2, 0, 1), atol=1e-6)


def test_one_pixel_picture_is_one_patch():
    grid = Grid.of((1, 1), patch=16, side=16)
    assert (grid.rows, grid.cols) == (1, 1)
    assert prepare(np.zeros((1, 1, 3), np.uint8), grid, MEAN, STD).shape == (1, 3, 16, 16)
