"""Lists to work through: which rows there are, which are done, and that undo brings them back. No Qt."""

from dataclasses import replace

import numpy as np
import pytest

from dinoviz.table import PictureTable
from dinoviz.views.find.lists import (
    FINE,
    KEPT,
    NOT_COPIES,
    RIGHT,
    CopiesRow,
    LabelRow,
    OutlierRow,
    Said,
    WorkList,
    copies_of,
    doubts_of,
    outliers_of,
    read_lists,
    stamp_of,
)
from engine.finding.duplicate_files import Duplicates, group_of, keep_duplicates
from engine.finding.oddity_files import Oddities, Outlier, Suspect, keep_oddities
from engine.marks import Marks
from engine.project import Project
from tests.dinoviz.projects import scanned, with_features

ROWS = [
    (1, "train/cat/a.jpg", 10, 0, 100, 100, "cat", "train", None),
    (2, "test/cat/b.jpg", 10, 0, 200, 100, "cat", "test", None),
    (3, "train/dog/c.jpg", 10, 0, 100, 100, "dog", "train", None),
    (4, "train/dog/d.jpg", 10, 0, 100, 100, "dog", "train", None),
]
TABLE = PictureTable.of_rows("/photos", ROWS)


def found_of(*links: tuple[int, int, float], threshold: float = 0.5, copies=None) -> Duplicates:
    ids = sorted({one for link in links for one in link[:2]})
    return Duplicates(
        made_from="key",
        n_pictures=4,
        threshold=threshold,
        suggested=threshold,
        reason="",
        whitening="none",
        groups=[group_of(ids, links, copies or {})],
    )


def suspect(picture: int, **changes) -> Suspect:
    return replace(Suspect(picture=picture, label="cat", likely="dog", confidence=0.9, own=0.1), **changes)


def test_copies_say_where_labels_and_splits_contradict():
    (row,) = copies_of(found_of((1, 2, 0.9), (1, 3, 0.8)), 0.5, TABLE)
    assert row.labels(TABLE) == ("cat", "dog")
    assert row.splits(TABLE) == ("test", "train")
    assert [row.likeness_of(picture) for picture in (1, 2, 3)] == [None, 0.9, 0.8]
    assert row.keep_of(3) == 1


def test_a_higher_likeness_leaves_smaller_groups_and_keeps_the_largest_picture():
    rows = copies_of(found_of((1, 2, 0.9), (1, 3, 0.8)), 0.85, TABLE)
    assert [row.pictures for row in rows] == [(2, 1)]
    assert copies_of(found_of((1, 2, 0.9)), 0.95, TABLE) == []


def test_groups_with_pictures_that_left_the_project_are_not_shown():
    assert copies_of(found_of((1, 99, 0.9)), 0.5, TABLE) == []


@pytest.mark.parametrize(
    ("marks", "is_done"),
    [
        (Marks(), False),
        (Marks(hidden=frozenset({2})), False),
        (Marks(hidden=frozenset({1})), True),
        (Marks(hidden=frozenset({1, 3})), True),
        (Marks(verdicts={(NOT_COPIES, "1,2,3"): KEPT}), True),
        (Marks(verdicts={(NOT_COPIES, "1,2,3,4"): KEPT}), True),
        (Marks(verdicts={(NOT_COPIES, "1,2"): KEPT}), False),
        (Marks(verdicts={(NOT_COPIES, "1,2"): KEPT}, hidden=frozenset({3})), True),
        (Marks(verdicts={(NOT_COPIES, "odd,,1"): KEPT}), False),
    ],
)
def test_copies_are_done_when_one_is_left_or_those_left_are_no_copies(marks, is_done):
    (row,) = copies_of(found_of((1, 2, 0.9), (1, 3, 0.8)), 0.5, TABLE)
    assert row.is_done(Said(marks)) == is_done


def test_a_chain_keeps_both_of_its_ends_and_is_done_without_what_links_them():
    (row,) = copies_of(found_of((1, 2, 0.9), (2, 3, 0.8)), 0.5, TABLE)
    assert row.proposed([1, 2, 3]) == [1, 3]
    assert row.proposed([2, 3]) == [2]
    assert row.is_done(Said(Marks(hidden=frozenset({2}))))
    assert not row.is_done(Said(Marks(hidden=frozenset({1}))))


def test_equal_files_are_copies_of_each_other_also_without_the_first():
    (row,) = copies_of(found_of((1, 2, 0.9), copies={1: [3, 4]}), 0.5, TABLE)
    assert row.proposed([1, 2, 3, 4]) == [1]
    assert row.proposed([3, 4, 2]) == [3]
    assert not row.is_done(Said(Marks(hidden=frozenset({1, 2}))))


@pytest.mark.parametrize(
    ("marks", "outlier", "label"),
    [
        (Marks(), False, False),
        (Marks(hidden=frozenset({2})), True, True),
        (Marks(labels={2: "dog"}), False, True),
        (Marks(verdicts={(FINE, "2"): KEPT}), True, False),
        (Marks(verdicts={(RIGHT, "2"): KEPT}), False, True),
    ],
)
def test_outliers_and_labels_are_done_when_something_was_said(marks, outlier, label):
    said = Said(marks)
    assert OutlierRow(Outlier(picture=2, isolation=1, score=4, stands_out=True)).is_done(said) == outlier
    assert LabelRow(suspect(2)).is_done(said) == label


def test_a_label_that_a_copy_contradicted_is_settled_when_the_copy_is():
    row = LabelRow(suspect(1, copy=2, copy_likeness=1.0))
    assert not row.is_done(Said(Marks(labels={2: "bird"})))
    assert row.is_done(Said(Marks(labels={2: "cat"})))
    assert row.is_done(Said(Marks(hidden=frozenset({2}))))


def test_the_next_row_is_the_next_one_that_is_not_done():
    rows = [LabelRow(suspect(picture)) for picture in (1, 2, 3, 4)]
    work = WorkList.of(rows, Marks(labels={2: "dog", 4: "dog"}))
    assert work.n_done == 2
    assert [work.next_open(after) for after in (-1, 0, 1, 2, 3)] == [0, 2, 2, 0, 0]
    assert WorkList.of(rows, Marks(labels=dict.fromkeys((1, 2, 3, 4), "dog"))).next_open(2) is None
    assert WorkList.of([], Marks()).next_open(-1) is None


def test_rows_of_pictures_that_left_the_project_are_not_listed():
    found = Oddities(
        made_from="",
        n_pictures=4,
        n_standing_out=0,
        outliers=[Outlier(picture=i, isolation=1, score=1, stands_out=False) for i in (99, 2)],
        n_judged=2,
        suspects=[suspect(1, copy=99, copy_likeness=1.0), suspect(2, copy=3, copy_likeness=1.0), suspect(98)],
        prototypes=[],
    )
    assert [row.pictures for row in outliers_of(found, TABLE)] == [(2,)]
    assert [row.pictures for row in doubts_of(found, TABLE)] == [(2, 3)]


def test_what_was_found_is_read_with_the_set_and_said_to_be_old_when_it_changed(tmp_path):
    folder = scanned(tmp_path)
    with_features(folder)
    with Project.at(folder) as project:
        features = project.features()
    before = stamp_of(features.folder)
    lists = read_lists(features.folder, TABLE)
    assert (lists.duplicates, lists.oddities, lists.neighbours, lists.is_old) == (None, None, None, frozenset())
    assert lists.near(int(features.ids_N[0]), 5) == []
    keep_duplicates(features, replace(found_of((1, 2, 0.9)), made_from="of another time"))
    keep_oddities(
        features,
        Oddities(made_from="", n_pictures=12, n_standing_out=0, outliers=[], n_judged=0, suspects=[], prototypes=[]),
    )
    assert stamp_of(features.folder) != before
    lists = read_lists(features.folder, TABLE)
    assert lists.duplicates is not None
    assert lists.oddities is not None
    assert lists.is_old == {"duplicates"}


def test_a_long_list_is_judged_in_no_time_to_speak_of():
    rows = [CopiesRow(group_of([i, i + 1], [(i, i + 1, 0.9)], {})) for i in range(1, 20_000, 2)]
    verdicts = {(NOT_COPIES, f"{i},{i + 1}"): KEPT for i in range(1, 10_000, 2)}
    work = WorkList.of(rows, Marks(verdicts=verdicts, hidden=frozenset(range(15_001, 20_000, 2))))
    assert work.n_done == 7_500
    assert np.flatnonzero(~work.is_done_R)[0] == 5_000
