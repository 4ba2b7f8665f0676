from dataclasses import replace

import numpy as np
import pytest

from dinoviz.features import read_sets
from dinoviz.jobs import Job
from dinoviz.query import Query
from dinoviz.table import PictureTable
from dinoviz.views.map.neighbourhoods import alike, grown, shrunk
from dinoviz.views.map.work import is_tsne, working
from dinoviz.widgets.scatter.colouring import NONE, REST, TITLES, is_in_filter, read_colouring
from engine.finding.index import make_index
from engine.marks import Marks
from engine.project import Project
from engine.sets import FeatureSet
from tests.dinoviz.projects import scanned, with_features


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = scanned(tmp_path_factory.mktemp("colours"), 14, ("cat", "dog", "dog"))
    with_features(folder)
    with Project.at(folder) as opened:
        table, sets = PictureTable.read(opened), read_sets(opened)
        make_index(opened.features(None), lambda _message: None, k=8)
    return table, sets[0].folder


def coloured(project, by, *, marks=None, current=None):
    table, folder = project
    return read_colouring(by, table, marks or Marks(), folder, current, np.ones(len(table), bool))


def test_the_largest_group_comes_first_and_codes_say_its_colour(project):
    found = coloured(project, "label")
    assert [(group.text, group.code) for group in found.groups] == [("dog", 0), ("cat", 1)]
    table = project[0]
    assert {table.label.word(row) for row in np.flatnonzero(found.codes_N == 0)} == {"dog"}
    assert sum(group.count for group in found.groups) == len(table)
    assert found.facet == "labels"


def test_more_groups_than_colours_share_one(project):
    table, folder = project
    n = 400
    many = replace(
        table,
        ids_N=np.arange(1, n + 1),
        label=type(table.label)(np.arange(n, dtype=np.int32) % 300, tuple(f"{i:03d}" for i in range(300))),
    )
    found = read_colouring("label", many, Marks(), folder, None, np.ones(n, bool))
    assert len(found.groups) == 300
    assert [group.code for group in found.groups[253:256]] == [253, REST, REST]
    assert (found.codes_N[found.groups_N >= 254] == REST).all()


def test_the_first_of_several_tags_colours_a_picture_and_none_is_grey(project):
    table = project[0]
    first, second, third = table.ids_N[:3].tolist()
    marks = Marks(tags={"b": frozenset({first, second}), "a": frozenset({first})})
    found = coloured(project, "tag", marks=marks)
    names = {group.code: group.text for group in found.groups}
    codes = {picture: int(found.codes_N[table.row_of(picture)]) for picture in (first, second, third)}
    assert (names[codes[first]], names[codes[second]], codes[third]) == ("a", "b", NONE)


def test_stars_are_in_their_order_and_filter_by_at_least(project):
    table = project[0]
    found = coloured(project, "rating", marks=Marks(ratings={int(table.ids_N[0]): 5, int(table.ids_N[1]): 2}))
    assert [group.value for group in found.groups] == [5, 4, 3, 2, 1, None]
    assert [group.count for group in found.groups][:4] == [1, 0, 0, 1]
    assert [is_in_filter(group, "rating", Query(rating=3)) for group in found.groups] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("by", ["date", "size", "pixels", "width", "height", "shape", "crowding"])
def test_numbers_run_from_the_first_colour_to_the_last(project, by):
    found = coloured(project, by)
    assert found.scale is not None
    assert (found.codes_N != NONE).all()
    assert found.colours("cividis").shape == (256, 3)


def test_similarity_is_highest_for_the_picture_itself(project):
    table = project[0]
    found = coloured(project, "similarity", current=int(table.ids_N[4]))
    assert int(found.codes_N.argmax()) == 4
    assert coloured(project, "similarity").missing


def test_every_meaning_has_a_colouring_or_says_what_is_missing(project):
    for by in TITLES:
        found = coloured(project, by)
        assert len(found.codes_N) == len(project[0])
        assert found.groups or found.scale or found.missing or by == "none"


def test_selections_grow_to_neighbours_and_shrink_to_their_core(project):
    table, folder = project
    features = FeatureSet(folder)
    picture = int(table.ids_N[2])
    like = alike(folder, picture, 3)
    unit = features.vectors_ND / np.linalg.norm(features.vectors_ND, axis=1, keepdims=True)
    row = features.row_of(picture)
    assert like.tolist()[0] == picture
    assert set(like[1:]) == set(features.ids_N[np.argsort(-(unit @ unit[row]))[1:4]])
    more = grown(folder, np.array([picture]))
    assert picture in more
    assert 1 < len(more) <= 6
    assert shrunk(folder, features.ids_N).tolist() == features.ids_N.tolist()
    assert shrunk(folder, np.array([picture])).tolist() == []
    assert grown(folder.parent, np.array([picture])) is None


def test_the_job_that_works_on_the_map_is_the_running_one_of_this_project(tmp_path):
    jobs = (
        Job(id=1, title="", argv=("map", "/other"), state="running"),
        Job(id=2, title="", argv=("embed", str(tmp_path)), state="waiting"),
        Job(id=3, title="", argv=("map", str(tmp_path), "--method", "tsne"), state="running"),
        Job(id=4, title="", argv=("index", str(tmp_path)), state="done"),
    )
    found = working(jobs, tmp_path)
    assert found is not None
    assert found.id == 3
    assert is_tsne(found)
    assert not is_tsne(replace(found, argv=(*found.argv, "--classes")))
    assert working(jobs[3:], tmp_path) is None
