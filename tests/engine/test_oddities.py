"""Outliers, doubtful labels and prototypes, on sets whose answers are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from engine.commands.scanning import scan_into
from engine.errors import BadInput
from engine.finding import oddities
from engine.finding.duplicates import find_duplicates
from engine.finding.oddities import OUTLIERS_LISTED, PROTOTYPES, find_oddities
from engine.finding.oddity_files import STANDS_OUT, Oddities, keep_oddities, read_oddities
from engine.project import Project
from engine.sets import Block, FeatureWriter
from engine.store import sole_writer
from engine.terminal import run
from tests.descriptors import write_set, write_table
from tests.makers import set_plan, write_photos

WIDTH = 16
KINDS = "ant", "bee", "cat"


def quiet(_message: object) -> None:
    pass


def kinds(n: int, *, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, dict[int, str]]:
    """Pictures of three kinds by turns, far apart where ``spread`` is small, and their right labels."""
    random = np.random.default_rng(seed)
    pictures = np.eye(3, WIDTH)[np.arange(n) % 3] + spread * random.standard_normal((n, WIDTH)) / 4
    return pictures, {i + 1: KINDS[i % 3] for i in range(n)}


def found_in(folder: Path, pictures: np.ndarray, labels: dict[int, str], **set_of) -> Oddities:
    features = write_set(folder, pictures, **set_of)
    table = write_table(features, k=60)
    return find_oddities(features, table, labels, find_duplicates(features, table, {}, quiet), quiet)


def test_a_stranger_stands_out(tmp_path):
    pictures, labels = kinds(200)
    pictures[17] = -np.ones(WIDTH)
    found = found_in(tmp_path, pictures, labels)
    assert found.n_standing_out == 1
    assert found.outliers[0].picture == 18
    assert found.outliers[0].score > STANDS_OUT
    assert not any(outlier.stands_out for outlier in found.outliers[1:])


def test_a_few_strangers_of_one_kind_do_not_hide_each_other(tmp_path):
    pictures, labels = kinds(300)
    pictures[:10] = -np.ones(WIDTH) + 0.05 * np.random.default_rng(1).standard_normal((10, WIDTH))
    found = found_in(tmp_path, pictures, labels)
    assert {outlier.picture for outlier in found.outliers[:10]} == set(range(1, 11))
    assert found.n_standing_out == 10


def test_at_most_a_hundred_outliers_are_listed_the_most_isolated_first(tmp_path):
    found = found_in(tmp_path, *kinds(150))
    isolation = [outlier.isolation for outlier in found.outliers]
    assert len(isolation) == OUTLIERS_LISTED
    assert isolation == sorted(isolation, reverse=True)


def test_planted_label_errors_come_first_with_the_right_label(tmp_path):
    pictures, labels = kinds(300)
    wrong = {4: "bee", 100: "cat", 201: "bee"}
    right = {number: labels[number] for number in wrong}
    found = found_in(tmp_path, pictures, {**labels, **wrong})
    first = {suspect.picture: suspect for suspect in found.suspects[:3]}
    assert {number: suspect.likely for number, suspect in first.items()} == right
    assert all(suspect.confidence > 0.9 and suspect.own < 0.1 for suspect in first.values())
    assert len(found.suspects) == 3
    assert found.n_judged == 300


@pytest.mark.parametrize("seed", range(3))
def test_most_of_three_per_cent_wrong_labels_among_kinds_that_overlap_are_found(tmp_path, seed):
    pictures, labels = kinds(600, spread=1, seed=seed)
    random = np.random.default_rng(seed)
    wrong = {
        int(i) + 1: KINDS[(KINDS.index(labels[int(i) + 1]) + 1) % 3] for i in random.choice(600, 18, replace=False)
    }
    found = found_in(tmp_path, pictures, {**labels, **wrong})
    named = [suspect.picture in wrong for suspect in found.suspects]
    assert sum(named[:18]) >= 12
    assert len(found.suspects) < 100


def test_right_labels_of_separate_kinds_are_not_in_doubt(tmp_path):
    assert found_in(tmp_path, *kinds(120)).suspects == []


def test_a_copy_with_another_label_comes_before_all(tmp_path):
    pictures, labels = kinds(300)
    pictures[30:60] += np.random.default_rng(2).standard_normal((30, WIDTH))
    pictures[250] = pictures[40]
    wrong = {251: "no kind", 4: "bee"}
    found = found_in(tmp_path, pictures, {**labels, **wrong})
    assert [(suspect.picture, suspect.copy) for suspect in found.suspects[:2]] in (
        [(41, 251), (251, 41)],
        [(251, 41), (41, 251)],
    )
    assert {suspect.picture: suspect.likely for suspect in found.suspects}[251] == labels[41]


def test_without_labels_there_are_no_doubts_and_one_list_of_prototypes(tmp_path):
    found = found_in(tmp_path, kinds(60)[0], {})
    assert (found.suspects, found.n_judged) == ([], 0)
    assert [(one.label, one.n_pictures) for one in found.prototypes] == [(None, 60)]


def test_pictures_without_a_label_neither_vote_nor_are_judged(tmp_path):
    pictures, labels = kinds(300)
    some = {number: label for number, label in labels.items() if number % 2}
    found = found_in(tmp_path, pictures, {**some, 5: "ant"})
    assert found.n_judged == 150
    assert [(suspect.picture, suspect.likely) for suspect in found.suspects] == [(5, "bee")]


def test_unseen_pictures_are_in_no_list(tmp_path):
    pictures, labels = kinds(90)
    unseen = [3, 4, 5]
    found = found_in(tmp_path, pictures, {**labels, 5: "ant"}, unseen=unseen)
    listed = {outlier.picture for outlier in found.outliers}
    listed |= {number for one in found.prototypes for number in one.pictures}
    assert not listed & {4, 5, 6}
    assert found.suspects == []
    assert found.n_pictures == 87


def test_the_first_prototype_is_the_medoid_and_the_others_cover_the_rest(tmp_path):
    random = np.random.default_rng(0)
    corners = np.eye(4, WIDTH)
    sizes = 40, 20, 15, 10
    pictures = np.concatenate(
        [corner + 0.05 * random.standard_normal((size, WIDTH)) for corner, size in zip(corners, sizes, strict=True)]
    )
    found = found_in(tmp_path, pictures, {i + 1: "all" for i in range(85)})
    unit = pictures.astype(np.float32) / np.linalg.norm(pictures, axis=1, keepdims=True)
    (one,) = found.prototypes
    assert one.pictures[0] == int((unit @ unit.T).sum(axis=1).argmax()) + 1
    corner_of = np.repeat(range(4), sizes)
    assert {int(corner_of[number - 1]) for number in one.pictures[:4]} == {0, 1, 2, 3}
    assert len(set(one.pictures)) == PROTOTYPES


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_sets_end_well(tmp_path, n):
    found = found_in(tmp_path, *kinds(n))
    assert found.n_standing_out == 0
    assert found.suspects == []
    assert [one.n_pictures for one in found.prototypes] == [1] * n


def test_pictures_that_are_all_one_do_not_stand_out(tmp_path):
    found = found_in(tmp_path, np.ones((50, WIDTH)), {})
    assert found.n_standing_out == 0


def test_kept_oddities_are_read_again_until_the_set_changes(tmp_path):
    pictures, labels = kinds(60)
    features = write_set(tmp_path, pictures)
    with pytest.raises(BadInput, match="has no list of oddities"):
        read_oddities(features, labels)
    table = write_table(features)
    found = [
        find_oddities(features, table, labels, find_duplicates(features, table, {}, quiet), quiet) for _ in range(2)
    ]
    assert found[0] == found[1]
    keep_oddities(features, found[0])
    assert read_oddities(features, labels) == found[0]
    with pytest.raises(BadInput, match="labels changed"):
        read_oddities(features, labels | {3: "dog"})
    more = Block(
        np.ones((1, WIDTH), np.float32), np.ones((1, WIDTH), np.float16), np.ones(1, bool), np.zeros((1, 2), np.uint16)
    )
    FeatureWriter.at(tmp_path, features.plan).append([99], ["ff"], more)
    with pytest.raises(BadInput, match="out of date"):
        read_oddities(type(features)(tmp_path), labels)


def test_many_classes_are_judged_in_smaller_blocks_with_the_same_result(tmp_path, monkeypatch):
    pictures, labels = kinds(200)
    labels |= {4: "bee", 100: "cat"}
    whole = found_in(tmp_path / "whole", pictures, labels)
    sizes = []
    shares = oddities._shares

    def measured(*arguments):
        share_BC, n_voters_B = shares(*arguments)
        sizes.append(share_BC.size)
        return share_BC, n_voters_B

    monkeypatch.setattr(oddities, "_shares", measured)
    monkeypatch.setattr(oddities, "SHARES_AT_ONCE", 100)
    assert found_in(tmp_path / "cut", pictures, labels).suspects == whole.suspects
    assert whole.suspects
    assert max(sizes) <= 100


def test_the_command_lists_and_draws(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_photos(photos, 30, labels=KINDS)
    plan = set_plan(width=WIDTH // 2, dimensions=WIDTH)
    with Project.at(tmp_path / "photos.dinoviz", pictures=photos) as project:
        scan_into(project, quiet)
        readable = project.pictures(readable=True)
        random = np.random.default_rng(0)
        of = np.array([KINDS.index(picture.label or "") for picture in readable])
        of[5] = (of[5] + 1) % 3
        pictures = np.eye(3, WIDTH)[of] + 0.05 * random.standard_normal((30, WIDTH))
        block = Block(
            pictures.astype(np.float32), pictures.astype(np.float16), np.ones(30, bool), np.zeros((30, 2), np.uint16)
        )
        writer = FeatureWriter.at(project.set_folder(plan), plan)
        writer.append([picture.id for picture in readable], [picture.hash or "" for picture in readable], block)
        write_table(project.features())
        odd = readable[5]

    assert run(["oddities", str(project.folder), "--write", str(out), "--json", "--quiet"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert [(row["picture"], row["label"], row["likely"]) for row in data["suspects"]] == [
        (odd.id, odd.label, KINDS[(KINDS.index(odd.label or "") + 1) % 3])
    ]
    assert data["paths"][str(odd.id)] == odd.path
    with (out / "labels.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [odd.path]
    assert {page.name for page in out.glob("*.png")} == {"labels-1.png", "outliers-1.png", "prototypes-1.png"}


def test_copies_asked_for_from_a_high_likeness_do_not_hide_contradicting_labels(tmp_path, capsys):
    photos = tmp_path / "photos"
    write_photos(photos, 30, labels=KINDS)
    plan = set_plan(width=WIDTH // 2, dimensions=WIDTH)
    with Project.at(tmp_path / "photos.dinoviz", pictures=photos) as project:
        scan_into(project, quiet)
        readable = project.pictures(readable=True)
        pictures = np.random.default_rng(0).standard_normal((30, WIDTH))
        one, other = 0, next(i for i in range(30) if readable[i].label != readable[0].label)
        pictures[other] = pictures[one] + 0.01
        block = Block(
            pictures.astype(np.float32), pictures.astype(np.float16), np.ones(30, bool), np.zeros((30, 2), np.uint16)
        )
        writer = FeatureWriter.at(project.set_folder(plan), plan)
        writer.append([picture.id for picture in readable], [picture.hash or "" for picture in readable], block)
        write_table(project.features())
        kept = project.features().folder / "duplicates.json"

    def contradicted() -> set[int]:
        assert run(["oddities", str(project.folder), "--json", "--quiet"]) == 0
        return {row["picture"] for row in json.loads(capsys.readouterr().out)["suspects"] if row["copy"]}

    both = {readable[one].id, readable[other].id}
    assert contradicted() == both
    assert run(["duplicates", str(project.folder), "--threshold", "1", "--quiet"]) == 0
    capsys.readouterr()
    asked_for = kept.read_bytes()
    assert contradicted() == both
    assert kept.read_bytes() == asked_for


@pytest.mark.parametrize("command", ["duplicates", "oddities"])
def test_two_processes_do_not_write_one_list(tmp_path, capsys, command):
    with Project.at(tmp_path / "photos.dinoviz", pictures=tmp_path) as project:
        plan = set_plan(width=WIDTH // 2, dimensions=WIDTH)
        folder = project.set_folder(plan)
        features = write_set(folder, kinds(30)[0])
        write_table(features)
    with sole_writer(folder, "writes the set"):
        assert run([command, str(project.folder), "--quiet"]) == 11
    assert "writes the set" in capsys.readouterr().err
