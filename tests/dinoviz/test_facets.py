from dataclasses import replace

import numpy as np
import pytest

from dinoviz.facets import FACETS, chosen, cleared, in_words, is_in_use, toggled, values, without
from dinoviz.query import Known, Query, answer
from dinoviz.table import PictureTable, Words
from engine.marks import Marks

N = 60
FACET = {facet.name: facet for facet in FACETS}
MARKS = Marks(
    ratings={1: 5, 2: 3, 3: 3, 4: 1},
    tags={"blurry": frozenset({1, 2, 3, 10}), "logo": frozenset({3, 10, 20})},
    hidden=frozenset({7, 8}),
    selections={"good ones": (1, 5, 9)},
)
KNOWN = Known(clusters_N=np.arange(N, dtype=np.int32) % 3 - 1)


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    return PictureTable(
        ids_N=np.arange(1, N + 1),
        sizes_N=np.ones(N, np.int64),
        mtimes_N=np.ones(N, np.int64),
        heights_N=np.ones(N, np.int32),
        widths_N=np.ones(N, np.int32),
        label=Words(random.integers(-1, 3, N).astype(np.int32), ("cat", "dog", "fox")),
        split=Words(np.full(N, -1, np.int32), ()),
        sub_folder=Words(random.integers(0, 2, N).astype(np.int32), ("", "deep/er")),
        problem=Words(np.where(np.arange(N) % 20 == 19, 0, -1).astype(np.int32), ("truncated",)),
        names=b"x" * N,
        starts_N=np.arange(N + 1),
    )


@pytest.mark.parametrize("facet", FACETS, ids=lambda facet: facet.name)
@pytest.mark.parametrize("query", [Query(), Query(labels=("cat", "dog"), rating=1), Query(tags=("logo",))])
def test_the_count_of_a_value_is_what_one_gets_by_choosing_it_alone(table, facet, query):
    for value in values(facet, query, table, MARKS, KNOWN):
        if facet.name == "tags":
            asked = replace(query, tags=tuple({*query.tags, value.value}))
        else:
            asked = toggled(facet, without(facet, query), value.value)
        assert value.count == len(answer(asked, table, MARKS, KNOWN)), (facet.name, value)


@pytest.mark.parametrize("facet", FACETS, ids=lambda facet: facet.name)
def test_a_value_is_taken_in_and_out_again(table, facet):
    for value in values(facet, Query(), table, MARKS, KNOWN):
        asked = toggled(facet, Query(), value.value)
        assert is_in_use(facet, asked)
        assert value.value in chosen(facet, asked)
        assert in_words(facet, asked, MARKS)
        assert toggled(facet, asked, value.value) == Query()


def test_pictures_without_a_label_are_a_value_of_their_own(table):
    found = values(FACET["labels"], Query(), table, MARKS, KNOWN)
    assert [value.text for value in found] == ["cat", "dog", "fox", "No label"]


def test_a_kept_selection_is_named_by_its_name_and_another_one_by_its_size():
    assert in_words(FACET["among"], Query(among=(1, 5, 9)), MARKS) == "good ones"
    assert in_words(FACET["among"], Query(among=(1, 5)), MARKS) == "2 chosen"


def test_clearing_keeps_the_order():
    query = Query(text="x", labels=("cat",), sort="size", descending=True)
    assert cleared(query) == Query(sort="size", descending=True)
