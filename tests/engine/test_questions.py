"""The values of questions, in what other modules have to agree with them."""

from pathlib import Path

import pytest

from engine.errors import BadRecipe
from engine.questions import VISION, Change, Mask, question_from
from engine.seeing import grid, masks


def test_what_is_left_open_is_what_the_commands_take():
    mask = Mask(picture=Path("horse.jpg"))
    assert (mask.side, mask.keep) == (grid.SIDE, masks.KEEP)


def test_those_that_change_the_service_are_told_from_those_that_ask():
    assert {name for name, kind in VISION.items() if kind.changes_service} == {"load", "forget", "release", "reclaim"}
    assert issubclass(VISION["load"], Change)


@pytest.mark.parametrize("kind", ["ping", "status", "release"])
def test_questions_without_fields_take_none(kind):
    with pytest.raises(BadRecipe, match="more"):
        question_from({"kind": kind, "more": 1}, VISION)
