"""The table of a project follows its folder, through disks that come and go."""

import shutil

import pytest

from engine.commands import scanning
from engine.commands.scanning import scan_into
from engine.errors import BadInput
from engine.project import GONE, Project, default_folder
from tests.makers import write_photos


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 4, labels=("cats", "dogs"))
    return tmp_path / "photos"


@pytest.fixture
def project(photos):
    with Project.at(default_folder(photos), pictures=photos) as project:
        scan_into(project, lambda _message: None)
        yield project


def scanned(project):
    return scan_into(project, lambda _message: None)


def test_an_empty_folder_of_pictures_is_no_reason_to_call_them_gone(project, photos):
    before = project.pictures()
    away = photos.rename(photos.with_name("away"))
    photos.mkdir()
    with pytest.raises(BadInput, match="no picture in"):
        scanned(project)
    assert project.pictures() == before
    photos.rmdir()
    away.rename(photos)
    assert scanned(project).n_gone == 0


def test_a_folder_that_never_had_a_picture_is_scanned(tmp_path):
    (tmp_path / "none").mkdir()
    with Project.at(tmp_path / "none.dinoviz", pictures=tmp_path / "none") as project:
        assert scanned(project).pictures == []


def test_pictures_that_come_back_as_they_were_are_not_read_again(project, photos, monkeypatch):
    before = project.pictures()
    shutil.move(photos / "cats", photos.with_name("cats"))
    assert scanned(project).n_gone == 2
    assert [row.problem for row in project.pictures()] == [GONE, GONE, None, None]
    shutil.move(photos.with_name("cats"), photos / "cats")
    read = []
    probe_many = scanning.probe_many
    monkeypatch.setattr(
        scanning, "probe_many", lambda paths, workers: probe_many([read.append(p) or p for p in paths], workers=workers)
    )
    assert scanned(project).n_new == 0
    assert project.pictures() == before
    assert read == []


def test_a_picture_that_comes_back_changed_is_read_again(project, photos):
    (old,) = (row for row in project.pictures() if row.path == "cats/p00.jpg")
    (photos / "cats/p00.jpg").unlink()
    scanned(project)
    shutil.copyfile(photos / "dogs/p01.jpg", photos / "cats/p00.jpg")
    assert scanned(project).n_new == 1
    (new,) = (row for row in project.pictures() if row.path == "cats/p00.jpg")
    assert (new.id, new.problem) == (old.id, None)
    assert new.hash != old.hash
