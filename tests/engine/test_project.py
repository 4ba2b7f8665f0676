"""The project folder: rows survive, names of any bytes survive, a second writer is told."""

import os
import sqlite3
from pathlib import Path

import pytest

from engine.errors import BadInput, Busy, DiskFull, UserError
from engine.project import Picture, Project, default_folder, glance_at
from engine.sets import model_at_home
from tests.makers import write_photos
from tests.unwritable import reachable_folder, unwritable


def picture(path: str, **more) -> Picture:
    return Picture(path=path, size_bytes=10, mtime_ns=1, **more)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def test_the_project_of_a_folder_lies_beside_it(folder):
    assert default_folder(folder) == folder.with_name("photos.dinoviz")


def test_the_root_of_a_disk_has_no_project_beside_it():
    with pytest.raises(BadInput, match="root of a disk") as refused:
        default_folder(Path("/"))
    assert "--project" in refused.value.hint


def test_rows_come_back_as_they_were_recorded(folder):
    rows = [
        picture("a/1.jpg", rows=3, cols=4, label="a", split="train", hash="00"),
        picture("b/2.jpg", problem="truncated"),
        picture(os.fsdecode(b"b/\xff\xfe.jpg"), rows=1, cols=1),
        picture("b/雪 🌸.jpg", rows=1, cols=1),
    ]
    with Project.at(default_folder(folder), pictures=folder) as project:
        project.record(rows)
    with Project.at(default_folder(folder)) as project:
        assert project.pictures_folder == folder
        again = project.pictures()
        assert [(p.path, p.rows, p.cols, p.label, p.split, p.problem, p.hash) for p in again] == [
            (p.path, p.rows, p.cols, p.label, p.split, p.problem, p.hash) for p in rows
        ]
        assert [p.path for p in project.pictures(readable=False)] == ["b/2.jpg"]


def test_the_id_of_a_path_is_found_whatever_its_bytes(folder):
    names = ["a.jpg", os.fsdecode(b"b/\xff.jpg"), "b/雪.jpg"]
    with Project.at(default_folder(folder), pictures=folder) as project:
        project.record(map(picture, names))
        assert [project.id_of(name) for name in names] == [row.id for row in project.pictures()]
        assert project.id_of("A.jpg") is None


def test_recording_a_path_again_keeps_its_id(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        project.record([picture("a.jpg"), picture("b.jpg")])
        before = {p.path: p.id for p in project.pictures()}
        project.record([picture("b.jpg", rows=9, cols=9)])
        assert {p.path: p.id for p in project.pictures()} == before
        assert project.pictures()[1].rows == 9


def test_a_project_of_another_folder_is_refused(folder, tmp_path):
    (tmp_path / "others").mkdir()
    Project.at(tmp_path / "p.dinoviz", pictures=folder).close()
    with pytest.raises(BadInput, match="belongs to the pictures in"):
        Project.at(tmp_path / "p.dinoviz", pictures=tmp_path / "others")


def test_a_project_of_a_newer_version_is_refused_with_a_sentence(folder):
    place = default_folder(folder)
    Project.at(place, pictures=folder).close()
    database = sqlite3.connect(place / "project.sqlite")
    database.execute("PRAGMA user_version = 2000")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="newer dinoviz"):
        Project.at(place)


def test_a_file_that_is_no_catalogue_is_refused(tmp_path):
    (tmp_path / "x.dinoviz").mkdir()
    (tmp_path / "x.dinoviz/project.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(BadInput, match="cannot be opened"):
        Project.at(tmp_path / "x.dinoviz")


def test_a_catalogue_that_is_damaged_where_it_is_written_is_said_in_words(folder):
    with Project.at(default_folder(folder), pictures=folder) as project, pytest.raises(BadInput, match="written"):
        project._database.execute("PRAGMA writable_schema = 1")
        project._database.execute("UPDATE sqlite_master SET rootpage = 999 WHERE name = 'images'")
        project._database.execute("PRAGMA writable_schema = RESET")
        project.record([picture("a.jpg")])


def test_a_catalogue_that_names_no_pictures_is_said_in_words(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        project._database.execute("DELETE FROM facts")
        with pytest.raises(BadInput, match="where its pictures are"):
            _ = project.pictures_folder


@pytest.mark.parametrize("is_in_use", [False, True])
def test_a_project_on_a_disk_that_is_read_only_is_read_and_refuses_to_be_written(is_in_use):
    with reachable_folder() as here:
        (here / "photos").mkdir()
        place = default_folder(here / "photos")
        writer = Project.at(place, pictures=here / "photos")
        writer.record([picture("a.jpg")])
        if not is_in_use:
            writer.close()
        with unwritable(place, *place.iterdir()), Project.at(place, pictures=here / "photos") as project:
            assert [row.path for row in project.pictures()] == ["a.jpg"]
            with pytest.raises(BadInput, match="cannot be written"):
                project.record([picture("b.jpg")])
            assert len(project.pictures()) == 1
        writer.close()


def test_a_second_writer_is_told_that_the_project_is_busy(folder, monkeypatch):
    place = default_folder(folder)
    with Project.at(place, pictures=folder) as first, Project.at(place) as second:
        second._database.execute("PRAGMA busy_timeout = 10")
        with first._writing(), pytest.raises(Busy):
            second.record([picture("a.jpg")])


def test_runs_are_numbered_and_keep_their_state(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        first, second = project.new_run("one"), project.new_run("two")
        assert [first.name, second.name] == ["0001", "0002"]
        assert second.is_dir()
        project.set_run_state(second, "finished")
        states = project._database.execute("SELECT id, state FROM runs").fetchall()
    assert states == [(1, "started"), (2, "finished")]


def test_a_run_folder_that_a_kill_left_is_passed_by(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        (project.folder / "runs/0001").mkdir(parents=True)
        assert project.new_run("one").name == "0002"
        assert project.new_run("two").name == "0003"


def test_a_full_disk_is_not_called_busy(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        (pages,) = project._database.execute("PRAGMA page_count").fetchone()
        project._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFull):
            project.record(picture(f"{i:0500}.jpg") for i in range(1000))
        assert project.pictures() == []


def test_a_project_that_may_only_be_read_is_not_called_busy(folder):
    with Project.at(default_folder(folder), pictures=folder) as project:
        project._database.execute("PRAGMA query_only = 1")
        with pytest.raises(BadInput, match="cannot be written: attempt to write a readonly database"):
            project.record([picture("a.jpg")])


def test_a_project_that_keeps_its_pictures_beside_it_can_be_moved_with_them(tmp_path):
    write_photos(tmp_path / "here/photos", 2)
    with Project.at(tmp_path / "here/photos.dinoviz", pictures=tmp_path / "here/photos") as project:
        project.move_with_pictures()
    (tmp_path / "here").rename(tmp_path / "there")
    with Project.at(tmp_path / "there/photos.dinoviz", pictures=tmp_path / "there/photos") as project:
        assert project.pictures_folder == tmp_path / "there/photos"


def test_a_project_that_moves_with_its_pictures_still_refuses_another_folder(tmp_path):
    write_photos(tmp_path / "photos", 2)
    write_photos(tmp_path / "other", 2)
    with Project.at(tmp_path / "photos.dinoviz", pictures=tmp_path / "photos") as project:
        project.move_with_pictures()
    with pytest.raises(BadInput, match="belongs to the pictures"):
        Project.at(tmp_path / "photos.dinoviz", pictures=tmp_path / "other")


def test_a_run_of_a_moved_project_is_found_where_it_is_now(tmp_path):
    (tmp_path / "photos.dinoviz/runs/0003").mkdir(parents=True)
    run = str(tmp_path / "photos.dinoviz/runs/0003")
    project = tmp_path / "photos.dinoviz"
    assert model_at_home("/nowhere/photos.dinoviz/runs/0003", project) == run
    assert model_at_home("runs/0003", project) == run
    assert model_at_home("/nowhere/photos.dinoviz/runs/0004", project) == "/nowhere/photos.dinoviz/runs/0004"
    assert model_at_home("dino_vits8", project) == "dino_vits8"


def test_a_run_of_another_project_that_is_there_stays_its_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.dinoviz/runs/0001").mkdir(parents=True)
    other = str(tmp_path / "b.dinoviz/runs/0001")
    assert model_at_home(other, tmp_path / "a.dinoviz") == other


def test_a_glance_tells_what_is_in_a_project_and_writes_nothing(tmp_path):
    write_photos(tmp_path / "photos", 2)
    folder = tmp_path / "photos.dinoviz"
    with Project.at(folder, pictures=tmp_path / "photos") as project:
        project.record([picture(f"{i}.jpg") for i in range(9)] + [picture("z.jpg", problem="cut off")])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    glance = glance_at(folder, 3)
    assert glance.n_pictures == 9 and glance.pictures_folder == tmp_path / "photos"
    assert glance.some == ("0.jpg", "3.jpg", "6.jpg")
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
def test_a_glance_at_no_project_tells_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "project.sqlite").write_bytes(content)
    assert glance_at(tmp_path, 3) is None


def test_a_glance_at_an_empty_project_names_no_picture(tmp_path, folder):
    with Project.at(tmp_path / "photos.dinoviz", pictures=folder):
        pass
    assert glance_at(tmp_path / "photos.dinoviz", 4).some == ()
