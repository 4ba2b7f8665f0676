"""The bundled sample: whole, small, and current by the engine's own rules wherever it is unpacked."""

import os
import sqlite3
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from dinoviz import sample
from dinoviz.sample import ARCHIVE, PHOTOS, unpack_sample
from engine.errors import BadInput
from engine.finding.duplicate_files import read_duplicates
from engine.finding.labels import key_with_labels
from engine.finding.map_files import read_map
from engine.finding.neighbours import read_neighbours
from engine.finding.oddity_files import read_oddities
from engine.images import find_pictures
from engine.project import Project
from engine.run_files import plan_of

LARGEST_BYTES = 10_000_000  # what a sample may add to the repository


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return unpack_sample(tmp_path_factory.mktemp("data") / "sample")


@pytest.fixture
def fresh(tmp_path):
    return unpack_sample(tmp_path / "sample")


def test_it_is_small_and_holds_no_picture_twice():
    assert ARCHIVE.stat().st_size <= LARGEST_BYTES
    with zipfile.ZipFile(ARCHIVE) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".jpg", ".png"))]


def test_it_is_there_within_a_second(tmp_path):
    begun = time.perf_counter()
    unpack_sample(tmp_path / "sample")
    assert time.perf_counter() - begun < 3  # 0.3 s where nothing else runs


def test_its_pictures_are_those_of_its_table_so_that_a_scan_finds_nothing_new(unpacked):
    with Project.at(unpacked) as project:
        assert project.pictures_folder == unpacked.with_name(PHOTOS.name)
        known = {p.path: (p.size_bytes, p.mtime_ns, p.label, p.split, p.problem) for p in project.pictures()}
        found = find_pictures(project.pictures_folder).pictures
    assert known == {f.path: (f.size_bytes, f.mtime_ns, f.label, f.split, None) for f in found}


@pytest.mark.parametrize("number", ["1", "2"])
def test_everything_made_from_its_features_is_current(unpacked, number):
    with Project.at(unpacked) as project:
        features = project.features(number)
        pictures, labels = project.pictures(), project.labels()
    assert features.is_seen_N.all()
    assert all(features.is_of(features.row_of(p.id), p.hash) for p in pictures)
    assert read_neighbours(features).rows_Nk.shape == (59, 58)
    for method in ("tsne", "umap", "pca"):
        made = read_map(features, method)
        assert made.is_on_N.all() and not made.about.is_stopped
    assert read_duplicates(features).made_from == features.key
    assert read_oddities(features, labels).outliers
    assert features.key in (features.folder / "clusters-kmeans.json").read_text()
    assert key_with_labels(features, labels) in (features.folder / "map-classes.json").read_text()


def test_the_bundled_backbone_is_the_set_that_is_meant_where_none_is_named(unpacked):
    with Project.at(unpacked) as project:
        plan = project.features().plan
    assert plan.model == "bundled" and plan.has_patches


def test_its_run_is_finished_and_is_that_of_its_second_set_wherever_it_lies(unpacked):
    with Project.at(unpacked) as project:
        run = project.features("2").plan.model
    assert run == str(unpacked / "runs/0001")
    assert plan_of(unpacked / "runs/0001").model.init == "bundled"
    assert (unpacked / "runs/0001/backbone.safetensors").is_file()
    assert len(list((unpacked / "runs/0001/probes").glob("*.npz"))) > 20
    lines = (unpacked / "runs/0001/events.jsonl").read_text().splitlines()
    assert sum('"loss"' in line for line in lines) > 30


@pytest.mark.slow
def test_its_backbones_are_those_that_its_features_were_made_with(unpacked):
    from engine.models.weights import load_backbone

    with Project.at(unpacked) as project:
        for number in ("1", "2"):
            plan = project.features(number).plan
            assert load_backbone(plan.model).sha256 == plan.model_sha256


def test_parts_can_be_searched_without_a_stored_index(unpacked):
    from engine.finding.parts import PartSearcher, current_parts
    from engine.templates import Template, Templates

    with Project.at(unpacked) as project:
        features = project.features()
    assert current_parts(features) is not None and not (features.folder / "parts.faiss").exists()
    patches = np.asarray(features.patches_of(3)[2:6, 2:6], np.float32)
    template = Template(
        patches_RCW=patches, is_part_RC=np.ones((4, 4), bool), scale=1.0, is_mirrored=False, edges=(0, 0, 4, 4)
    )
    found = PartSearcher(features).search(Templates((template,)), 3)
    assert found[0].row == 3 and np.allclose(found[0].box, (2, 2, 6, 6), atol=0.5)


def test_nothing_in_it_says_where_it_was_made():
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not [place for place in ("tmp", "home", "work") if f"/{place}/".encode() in content], name


def test_a_second_time_it_stays_as_the_person_left_it(fresh):
    with Project.at(fresh) as project:
        first = project.pictures()[0]
        project.record([replace(first, label="mine")])
    (fresh / "sets/0001/note.txt").write_text("kept")
    assert unpack_sample(fresh.parent) == fresh
    with Project.at(fresh) as project:
        assert project.pictures()[0].label == "mine"
    assert (fresh / "sets/0001/note.txt").read_text() == "kept"


def test_a_photo_that_is_missing_cut_off_or_touched_is_put_back(fresh):
    photos = sorted(fresh.with_name(PHOTOS.name).rglob("*.jpg"))
    photos[0].unlink()
    photos[1].write_bytes(b"")
    os.utime(photos[2])
    unpack_sample(fresh.parent)
    for path in photos[:3]:
        assert path.stat().st_mtime_ns == sample.MTIME_NS
        assert path.read_bytes() == (PHOTOS.parent / path.relative_to(fresh.parent)).read_bytes()


def test_a_file_of_the_project_that_is_missing_is_put_back_and_the_rest_stays(fresh):
    (fresh / "sets/0001/map-umap.json").unlink()
    (fresh / "sets/0001/note.txt").write_text("kept")
    unpack_sample(fresh.parent)
    with Project.at(fresh) as project:
        assert read_map(project.features("1"), "umap")
    assert (fresh / "sets/0001/note.txt").exists()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_a_damaged_catalogue_is_replaced(fresh, content):
    for path in fresh.glob("project.sqlite*"):
        path.unlink()
    (fresh / "project.sqlite").write_bytes(content)
    unpack_sample(fresh.parent)
    with Project.at(fresh) as project:
        assert len(project.pictures()) == 59


def test_it_can_be_moved(fresh, tmp_path):
    moved = fresh.parent.rename(tmp_path / "elsewhere") / fresh.name
    with Project.at(moved) as project:
        assert project.pictures_folder == tmp_path / "elsewhere" / PHOTOS.name
        assert project.features("2").plan.model == str(moved / "runs/0001")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        unpack_sample(tmp_path / "file")


def test_the_catalogue_is_whole():
    with zipfile.ZipFile(ARCHIVE) as archive:
        data = archive.read("project.sqlite")
    database = sqlite3.connect(":memory:")
    database.deserialize(data)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_without_the_archive_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "ARCHIVE", tmp_path / "no.zip")
    with pytest.raises(BadInput, match="sample"):
        unpack_sample(tmp_path / "sample")
