from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinoviz.query import Known, Query, answer
from dinoviz.table import PictureTable, Words
from engine.marks import Marks

ROWS = [
    # id, path, size, mtime_ns, height, width, label, split, problem
    (3, "a/one.jpg", 10, 5, 20, 30, "a", "train", None),
    (1, "b/Two.jpg", 30, 4, 10, 10, "b", None, None),
    (7, "b/broken.jpg", 1, 9, None, None, "b", None, "is cut off"),
    (2, "three.jpg", 20, 6, 40, 40, None, None, None),
]
TABLE = PictureTable.of_rows(Path("/pictures"), ROWS)


def test_rows_are_found_by_id() -> None:
    assert TABLE.path(1) == "b/Two.jpg"
    assert TABLE.file(2) == Path("/pictures/three.jpg")
    assert TABLE.name(7) == "broken.jpg"
    assert TABLE.places_of(np.array([7, 99, -1, 3])).tolist() == [2, -1, -1, 0]
    assert not TABLE.contains(4)
    with pytest.raises(KeyError):
        TABLE.row_of(4)


def test_an_empty_table_has_no_pictures() -> None:
    empty = PictureTable()
    assert len(empty) == 0
    assert not empty.contains(0)
    assert empty.places_of(np.array([0, 1])).tolist() == [-1, -1]
    assert answer(Query(text="x"), empty, Marks()).tolist() == []


def test_folders_are_those_of_the_paths() -> None:
    assert TABLE.sub_folder.words == ("", "a", "b")


def test_names_that_are_no_text_are_kept_byte_for_byte() -> None:
    table = PictureTable.of_rows(Path("/p"), [(1, b"caf\xe9.jpg", 1, 1, 1, 1, None, None, None)])
    assert table.path(1).encode(errors="surrogateescape") == b"caf\xe9.jpg"


def test_a_corrected_label_wins_and_none_goes_back_to_that_of_the_folder() -> None:
    corrected = TABLE.with_labels({3: "zebra", 2: "b"})
    assert [corrected.label_of(i) for i in (3, 1, 7, 2)] == ["zebra", "b", "b", "b"]
    back = corrected.with_labels({3: None, 2: None})
    assert [back.label_of(i) for i in (3, 1, 7, 2)] == ["a", "b", "b", None]


@given(
    st.lists(st.text(alphabet="aAbB/.x", min_size=1, max_size=6), min_size=1, max_size=12, unique=True),
    st.text(alphabet="aAbB/.x", max_size=3),
)
def test_text_is_found_within_one_path_only_in_upper_or_lower_case(paths: list[str], text: str) -> None:
    rows = [(i, path, 1, 1, 1, 1, None, None, None) for i, path in enumerate(sorted(paths))]
    table = PictureTable.of_rows(Path("/p"), rows)
    if text:
        assert table.is_named(text).tolist() == [text.lower() in path.lower() for path in sorted(paths)]


@pytest.mark.parametrize("text", ["äpfel", "ÄPFEL", "a\u0308pfel", "Äpfel/ç"])
def test_letters_beyond_ascii_are_found_in_upper_or_lower_case(text: str) -> None:
    paths = ["x/pfel.jpg", "x/ÄPFEL/Ç1.jpg", "x/äpfel/ç2.jpg", "x/a\u0308pfel/ç3.jpg", b"x/\xff.jpg"]
    table = PictureTable.of_rows(Path("/p"), [(i, path, 1, 1, 1, 1, None, None, None) for i, path in enumerate(paths)])
    assert table.is_named(text).tolist() == [False, True, True, True, False]
    assert not PictureTable().is_named(text).any()


@pytest.mark.parametrize(("descending", "expected"), [(False, [2, 3, 1]), (True, [3, 2, 1])])
def test_pictures_without_features_come_last_whichever_way_likeness_is_sorted(
    descending: bool, expected: list[int]
) -> None:
    known = Known(likeness_N=np.array([0.1, np.nan, np.nan, 0.9], np.float32))
    query = Query(sort="similarity", like=2, descending=descending)
    assert answer(query, TABLE, Marks(), known).tolist() == expected


def test_only_readable_pictures_are_shown_unless_others_are_asked_for() -> None:
    assert answer(Query(), TABLE, Marks()).tolist() == [3, 1, 2]
    assert answer(Query(problem="unreadable"), TABLE, Marks()).tolist() == [7]
    assert answer(Query(problem="all"), TABLE, Marks()).tolist() == [3, 1, 7, 2]


def test_filters_hold_together() -> None:
    marks = Marks(ratings={1: 4, 2: 5}, tags={"x": frozenset({1, 3})}, hidden=frozenset({2}))
    assert answer(Query(labels=("b",)), TABLE, marks).tolist() == [1]
    assert answer(Query(rating=4), TABLE, marks).tolist() == [1]
    assert answer(Query(is_hidden=True), TABLE, marks).tolist() == [2]
    assert answer(Query(tags=("x",), folders=("a",)), TABLE, marks).tolist() == [3]
    assert answer(Query(labels=("",)), TABLE, Marks()).tolist() == [2]
    assert answer(Query(among=(2, 3, 50)), TABLE, Marks()).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("name", [3, 1, 2]), ("date", [1, 3, 2]), ("size", [3, 2, 1]), ("pixels", [1, 3, 2])],
)
def test_pictures_are_sorted_both_ways(sort: str, expected: list[int]) -> None:
    assert answer(Query(sort=sort), TABLE, Marks()).tolist() == expected
    assert answer(Query(sort=sort, descending=True), TABLE, Marks()).tolist() == expected[::-1]


def test_words_count_themselves() -> None:
    assert Words.of(["b", None, "a", "b"]).counts() == {"a": 1, "b": 2}
