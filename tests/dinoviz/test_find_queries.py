"""What is asked of Find and what is shown of the answer: values."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dinoviz.asked import (
    MOST_STEPS,
    Asked,
    asked_of,
    asking,
    found_of,
    name_of,
    of_files,
    patches_bytes,
    step_of,
    stepping,
    wanted,
)
from dinoviz.choices import FindChoices, restored
from dinoviz.table import PictureTable
from engine.questions import MOST_HITS, Hit, Hits, PartHit, PartHits

FOLDER = Path("/photos")


def table_of(n: int) -> PictureTable:
    rows = [(i, f"cat/p{i}.jpg", 1000, 0, 100, 200, "cat", None, None) for i in range(1, n + 1)]
    return PictureTable.of_rows(FOLDER, rows)


def test_what_is_asked_is_remembered_as_json_and_read_again():
    asked = Asked(pictures=(3, "/elsewhere/a.jpg"), how="any")
    part = Asked(pictures=(4,), box=(1.0, 2.5, 30.0, 40.0))
    choices = asking(asking(FindChoices(), asked), part)
    again = restored(FindChoices, json.loads(json.dumps(asdict(choices))))
    assert again == choices
    assert asked_of(again) == part
    assert asked_of(stepping(again, -1)) == asked


@pytest.mark.parametrize("kept", [None, 7, (), ((1,),), ((1, None, True), (1, 2), "odd"), ("abc", (), "mean")])
def test_what_is_no_question_is_read_as_one_that_asks_little(kept):
    asked = step_of(kept)
    assert asked.box is None
    assert all(isinstance(one, int | str) and one is not True for one in asked.pictures)


def test_more_like_this_is_a_new_step_and_a_box_another_wording():
    choices = asking(FindChoices(), Asked(pictures=(1,)))
    choices = asking(choices, Asked(pictures=(1,), box=(0, 0, 9, 9)))
    choices = asking(choices, Asked(pictures=(1, 2)))
    assert len(choices.trail) == 1
    choices = asking(choices, Asked(pictures=(5,)))
    assert (len(choices.trail), choices.step) == (2, 1)
    assert asked_of(stepping(choices, -1)).pictures == (1, 2)


def test_a_question_after_going_back_takes_the_place_of_what_came_after():
    choices = FindChoices()
    for picture in (1, 2, 3):
        choices = asking(choices, Asked(pictures=(picture,)))
    choices = asking(stepping(choices, -1), Asked(pictures=(9,)))
    assert [step_of(step).pictures for step in choices.trail] == [(1,), (2,), (9,)]
    assert asked_of(stepping(choices, 5)).pictures == (9,)


def test_looking_for_nothing_goes_back_to_what_came_before():
    choices = asking(asking(FindChoices(), Asked(pictures=(1,))), Asked(pictures=(2,)))
    choices = asking(choices, Asked())
    assert asked_of(choices).pictures == (1,)
    assert asked_of(asking(choices, Asked())).pictures == ()


def test_the_trail_does_not_grow_for_ever():
    choices = FindChoices()
    for picture in range(1, 3 * MOST_STEPS):
        choices = asking(choices, Asked(pictures=(picture,)))
    assert len(choices.trail) == MOST_STEPS
    assert asked_of(choices).pictures == (3 * MOST_STEPS - 1,)


def test_a_box_is_of_the_first_picture_alone():
    part = Asked(pictures=(1,), box=(0, 0, 9, 9))
    assert part.with_pictures([2]).box is None
    assert part.with_pictures([1]) == part
    assert Asked(pictures=(1, 2)).without(1) == Asked(pictures=(2,))
    assert not part.without(1).is_part


def test_pictures_that_left_the_project_are_asked_for_no_more():
    asked = Asked(pictures=(1, 99, "/a.jpg"), box=(0, 0, 1, 1))
    assert asked.known(table_of(3)) == Asked(pictures=(1, "/a.jpg"))


def test_results_leave_out_the_question_what_is_hidden_and_what_the_filter_does_not_show():
    table = table_of(8)
    answer = Hits(hits=tuple(Hit(id=i, picture="", likeness=1 - i / 10, is_changed=i == 6) for i in range(1, 10)))
    asked = Asked(pictures=(1,))
    found = found_of(answer, asked, table, 3, hidden=frozenset({2}), among=None)
    assert found.ids.tolist() == [3, 4, 5]
    among = found_of(answer, asked, table, 3, hidden=frozenset({2}), among=np.array([1, 2, 6, 8]))
    assert among.ids.tolist() == [6, 8]
    assert among.changed == {6}
    assert among.likeness[8] == pytest.approx(0.2)


def test_boxes_are_shares_of_the_picture_and_left_out_where_it_changed():
    hits = tuple(
        PartHit(id=i, picture="", likeness=0.5, box=(10, 50, 60, 150), is_mirrored=i == 2, is_changed=i == 3)
        for i in (1, 2, 3)
    )
    asked = Asked(pictures=("/a.jpg",), box=(0, 0, 5, 5))
    found = found_of(PartHits(hits=hits), asked, table_of(3), 10, hidden=frozenset(), among=None)
    assert found.boxes == {1: (0.1, 0.25, 0.6, 0.75), 2: (0.1, 0.25, 0.6, 0.75)}
    assert found.mirrored == {2}


def test_enough_is_asked_for_to_leave_some_out():
    assert wanted(50, 7, is_filtered=False) == 58
    assert wanted(50, 7, is_filtered=True) == MOST_HITS
    assert wanted(1000, 10**6, is_filtered=False) == MOST_HITS


def test_files_of_the_project_are_known_by_their_ids():
    files = [FOLDER / "cat" / "p12.jpg", FOLDER / "p1.jpg", Path("/elsewhere/cat/p1.jpg")]
    assert of_files(files, table_of(12)) == (12, str(files[1]), str(files[2]))
    assert name_of(12, table_of(12)) == "p12.jpg"
    assert name_of("C:\\pictures\\a.jpg", table_of(1)) == "a.jpg"


def test_the_room_of_patches_is_that_of_their_numbers():
    assert patches_bytes([(100, 200), (300, 150)], side=64, patch=16, width=10) == (4 * 8 + 8 * 4) * 10 * 2
    assert patches_bytes([], side=64, patch=16, width=10) == 0
