import numpy as np
import pytest

from dinoviz.palette import FROM_GROUND, distinct_colours, oklab


@pytest.mark.parametrize("on_dark", [False, True])
def test_many_colours_are_told_apart_from_each_other_and_from_the_ground(on_dark):
    colours = distinct_colours(40, on_dark=on_dark)
    lab = oklab(colours)
    off = np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.eye(40)
    assert off.min() > 0.06
    assert np.linalg.norm(lab - [FROM_GROUND[on_dark], 0, 0], axis=1).min() > 0.1


def test_the_first_colours_do_not_depend_on_how_many_there_are():
    assert distinct_colours(5, on_dark=False).tolist() == distinct_colours(200, on_dark=False)[:5].tolist()
    assert distinct_colours(0, on_dark=False).shape == (0, 3)
    assert len(np.unique(distinct_colours(254, on_dark=True), axis=0)) == 254


def test_white_and_black_lie_at_the_ends_of_lightness():
    assert oklab(np.array([[255, 255, 255], [0, 0, 0]], np.uint8))[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-3)
