import errno
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.errors import DiskFull
from engine.seeing.drawing import (
    CAPTION_PX,
    HEAD_COLOURS,
    PAPER,
    Tile,
    composite,
    heatmap,
    mask_overlay,
    overlay,
    sheet,
    within,
    write_png,
)
from engine.seeing.grid import Grid

SIZE = (40, 60)
GRID = Grid.of(SIZE, patch=10, side=40)
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
MAP = RANDOM.random((4, 6)).astype(np.float32)


def test_heatmap_goes_from_the_first_colour_to_the_last():
    drawn_YX3 = heatmap(MAP, GRID, SIZE, colours="viridis")
    table_3 = cv2.applyColorMap(np.array([[0, 255]], np.uint8), cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
    low, high = (np.unravel_index(i, MAP.shape) for i in (MAP.argmin(), MAP.argmax()))
    assert drawn_YX3.shape == (*SIZE, 3)
    assert drawn_YX3[low[0] * 10 + 5, low[1] * 10 + 5].tolist() == table_3[0].tolist()
    assert drawn_YX3[high[0] * 10 + 5, high[1] * 10 + 5].tolist() == table_3[1].tolist()


def test_heatmap_shows_patches_as_squares():
    drawn_YX3 = heatmap(MAP, GRID, SIZE, colours="grey")
    levels_RC = ((MAP - MAP.min()) / (MAP.max() - MAP.min()) * 255).round()
    np.testing.assert_array_equal(drawn_YX3[..., 0], np.kron(levels_RC, np.ones((10, 10))))


def test_shared_span_makes_two_heatmaps_comparable():
    first = heatmap(MAP, GRID, SIZE, colours="grey", span=(0, 2))
    second = heatmap(2 * MAP, GRID, SIZE, colours="grey", span=(0, 2))
    np.testing.assert_allclose(second.astype(int), 2 * first.astype(int), atol=1)


def test_smooth_heatmap_has_the_size_of_the_picture():
    drawn_YX3 = heatmap(MAP, GRID, (400, 600), is_smooth=True)
    assert drawn_YX3.shape == (400, 600, 3)
    assert len(np.unique(drawn_YX3.reshape(-1, 3), axis=0)) > MAP.size


def test_even_map_is_one_colour():
    assert len(np.unique(heatmap(np.full((4, 6), 0.1), GRID, SIZE).reshape(-1, 3), axis=0)) == 1


def test_overlay_mixes_by_opacity():
    drawn_YX3 = RANDOM.integers(0, 256, PICTURE.shape, dtype=np.uint8)
    np.testing.assert_array_equal(overlay(PICTURE, drawn_YX3, 0), PICTURE)
    np.testing.assert_array_equal(overlay(PICTURE, drawn_YX3, 1), drawn_YX3)


def test_mask_overlay_changes_the_mask_only():
    mask_YX = np.zeros(SIZE, dtype=bool)
    mask_YX[10:20, 30:50] = True
    drawn_YX3 = mask_overlay(PICTURE, mask_YX, colour=(255, 0, 0), opacity=0.5, has_contour=False)
    np.testing.assert_array_equal(drawn_YX3[~mask_YX], PICTURE[~mask_YX])
    np.testing.assert_allclose(drawn_YX3[mask_YX], (PICTURE[mask_YX] + np.array([255.0, 0, 0])) / 2, atol=0.5)


def test_contour_is_drawn_in_its_colour():
    mask_YX = np.zeros(SIZE, dtype=bool)
    mask_YX[10:20, 30:50] = True
    drawn_YX3 = mask_overlay(PICTURE, mask_YX, colour=(255, 0, 0))
    assert drawn_YX3[10, 40].tolist() == [255, 0, 0]


def released_formula(image, mask, colour, alpha=0.5, threshold=0.2):
    """One head of DINO fig. 3, written out as facts.md gives it."""
    mask = (mask - mask.min()) / (mask.max() - mask.min())
    strength = (alpha * np.sqrt(mask) * (mask > threshold))[..., None]
    return image * (1 - strength) + strength * (np.array(colour) / 255) * 255


@pytest.mark.parametrize("heads", [None, (2, 0)])
def test_composite_follows_the_formula_of_the_paper(heads):
    maps_HRC = RANDOM.random((8, 4, 6)).astype(np.float32)
    expected = PICTURE.astype(float)
    for colour, head in zip(HEAD_COLOURS, heads or range(6), strict=False):
        expected = released_formula(expected, np.kron(maps_HRC[head], np.ones((10, 10))), colour)
    np.testing.assert_allclose(composite(PICTURE, maps_HRC, GRID, heads), expected, atol=0.51)


def test_composite_of_even_attention_is_the_picture():
    np.testing.assert_array_equal(composite(PICTURE, np.full((3, 4, 6), 0.1), GRID), PICTURE)


def test_drawing_is_shrunk_but_never_enlarged():
    assert within(PICTURE, 30).shape == (20, 30, 3)
    assert within(PICTURE, 60) is PICTURE
    assert within(np.zeros((1, 5000, 3), np.uint8), 100).shape == (1, 100, 3)


def test_sheet_holds_every_tile_on_paper():
    tiles = [Tile(np.full((20, 40, 3), level, np.uint8), f"tile {level}") for level in (10, 60, 110)]
    page_YX3 = sheet(tiles, title="horse", subtitle="layer 11", columns=2, side_px=80)
    assert page_YX3[0, 0].tolist() == list(PAPER)
    for level in (10, 60, 110):
        assert ((page_YX3 == level).all(axis=2)).sum() >= 40 * 80


def test_sheet_grows_by_whole_rows():
    tiles = [Tile(PICTURE, "a")] * 5
    two, three = (sheet(tiles, title="t", columns=columns, side_px=60).shape[0] for columns in (4, 2))
    assert three - two >= 40 + CAPTION_PX


def test_rows_of_a_sheet_are_as_high_as_their_pictures():
    tall, wide = Tile(np.zeros((80, 60, 3), np.uint8), "tall"), Tile(np.zeros((60, 80, 3), np.uint8), "wide")
    uneven, even = (sheet([tall, tile], title="t", columns=1, side_px=80).shape[0] for tile in (wide, tall))
    assert even - uneven == 80 - 45


def test_sheet_takes_any_words_and_shapes():
    tiles = [
        Tile(PICTURE, "馬 \n🐎 " * 40, (1, 2, 3)),
        Tile(np.zeros((500, 3, 3), np.uint8), ""),
        Tile(PICTURE[:1], "x"),
    ]
    assert sheet(tiles, title="\udcff" * 300, subtitle="").ndim == 3


@pytest.mark.parametrize("picture", [PICTURE, PICTURE[..., 0]])
def test_png_holds_the_array(tmp_path, picture):
    write_png(tmp_path / "drawn.png", picture)
    with Image.open(tmp_path / "drawn.png") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    assert len(list(tmp_path.iterdir())) == 1


def test_full_disk_leaves_the_old_png(tmp_path, monkeypatch):
    path = tmp_path / "drawn.png"
    write_png(path, PICTURE)
    before = path.read_bytes()

    def no_room(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(DiskFull):
        write_png(path, PICTURE[::-1])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
