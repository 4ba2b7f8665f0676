"""Which classes mix, counted from the neighbours of a set."""

from dataclasses import dataclass

import numpy as np
import pytest

from dinoviz.table import PictureTable
from dinoviz.views.map import mixing as module
from dinoviz.views.map.mixing import mixed, mixing
from engine.finding.index import make_index
from engine.project import Project
from tests.dinoviz.projects import scanned, with_features

LABELS = ("ant", "bee", "cat", "cat")


@dataclass
class Set:
    folder: object
    table: PictureTable
    labels: dict[int, str | None]
    near: dict[int, list[int]]


@pytest.fixture
def made(tmp_path) -> Set:
    """A project of 48 pictures with made-up features, of which two have other labels by now."""
    project = scanned(tmp_path, 48, LABELS)
    with_features(project)
    with Project.at(project) as opened:
        features = opened.features(None)
        make_index(features, lambda _message: None)
        table = PictureTable.read(opened).with_labels({1: "cat", 2: "bee"})
    near_Sk = np.load(features.folder / "neighbours.npy")
    ids = features.ids_N
    near = {int(ids[row]): [int(ids[i]) for i in near_Sk[row, : module.NEAREST] if i >= 0] for row in range(len(ids))}
    return Set(features.folder, table, {int(i): table.label_of(int(i)) or None for i in ids}, near)


def links(made: Set, one: str | None = None) -> list[tuple[str, str]]:
    """Every neighbour with a label, of every picture with one, picture by picture."""
    return [
        (label, made.labels[other])
        for picture, label in made.labels.items()
        for other in made.near[picture]
        if label and made.labels[other] and (one is None or label == one)
    ]


def test_classes_and_pairs_are_counted_as_by_hand(made):
    found = mixing(made.folder, made.table)
    for one in found.classes:
        of_class = links(made, one.names[0])
        assert one.share == pytest.approx(np.mean([a != b for a, b in of_class]))
        assert one.count == sum(label == one.names[0] for label in made.labels.values())
    for pair in found.pairs:
        between = [link for link in links(made) if set(link) == set(pair.names)]
        assert pair.share == pytest.approx(len(between) / sum(len(links(made, name)) for name in pair.names))
    assert found.share == pytest.approx(np.mean([a != b for a, b in links(made)]))
    for rows in (found.classes, found.pairs):
        shares = [row.share for row in rows]
        assert shares == sorted(shares, reverse=True)
    assert len(found.classes) == 3 and len(found.pairs) == 3


def test_blocks_change_nothing(made, monkeypatch):
    whole, ids = mixing(made.folder, made.table), mixed(made.folder, made.table, ("cat",))
    monkeypatch.setattr(module, "BLOCK", 7)
    assert mixing(made.folder, made.table) == whole
    np.testing.assert_array_equal(mixed(made.folder, made.table, ("cat",)), ids)


def test_what_mixes_can_be_had(made):
    others = [
        picture
        for picture, label in made.labels.items()
        if label == "cat"
        and 2 * sum(made.labels[i] not in (None, "cat") for i in made.near[picture])
        >= sum(made.labels[i] is not None for i in made.near[picture])
    ]
    assert mixed(made.folder, made.table, ("cat",)).tolist() == sorted(others)
    other = {"ant": "bee", "bee": "ant"}
    pair = [
        picture
        for picture, label in made.labels.items()
        if label in other and any(made.labels[i] == other[label] for i in made.near[picture])
    ]
    assert mixed(made.folder, made.table, ("ant", "bee")).tolist() == sorted(pair)


def test_without_neighbours_nothing_is_known(tmp_path):
    project = scanned(tmp_path, 12, LABELS)
    with_features(project)
    with Project.at(project) as opened:
        folder, table = opened.features(None).folder, PictureTable.read(opened)
    assert mixing(folder, table) is None
    assert mixed(folder, table, ("cat",)) is None
