import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from dinoviz.desk import Desk
from dinoviz.preferences import Memory, Preferences
from dinoviz.session import Notice
from dinoviz.window.opening import Opening, remembered
from engine.project import Project, default_folder
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned
from tests.dinoviz.windows import opened, wait
from tests.makers import write_photos
from tests.unwritable import reachable_folder, unwritable


@pytest.fixture
def desk(qtbot: QtBot) -> Iterator[Desk]:
    with made_desk(qtbot) as desk:
        yield desk


@pytest.fixture
def said(desk: Desk) -> list[Notice]:
    said: list[Notice] = []
    desk.session.noticed.connect(said.append)
    return said


@pytest.fixture
def opening(desk: Desk, qtbot: QtBot) -> Opening:
    memory = Memory()

    def remember() -> None:
        nonlocal memory
        memory = remembered(memory, desk)

    preferences = Preferences(watches_folder=False)
    return Opening(desk, None, lambda: memory, lambda: preferences, remember)


def is_read(desk: Desk) -> bool:
    return desk.session.state.project is not None and not desk.session.state.is_reading


def test_a_folder_that_is_not_there_is_said_and_nothing_is_made(
    opening: Opening, desk: Desk, said: list[Notice], tmp_path: Path
) -> None:
    opening.open(tmp_path / "photso" / "2024")
    wait(lambda: said)
    assert "There is no folder" in said[0].text
    assert list(tmp_path.iterdir()) == []
    assert desk.session.state.project is None


def test_a_project_that_cannot_be_opened_gets_no_empty_twin(
    opening: Opening, desk: Desk, said: list[Notice], tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 2)
    with Project.at(default_folder(tmp_path / "photos"), pictures=tmp_path / "photos") as project:
        project._database.execute("PRAGMA user_version = 9000")
    opening.open(tmp_path / "photos")
    wait(lambda: said)
    assert "newer dinoviz" in said[0].text
    assert desk.session.state.project is None
    assert not list(Path(os.environ["XDG_DATA_HOME"]).rglob("*.sqlite"))


def test_a_project_of_other_pictures_is_left_alone_and_said_in_words_of_the_window(
    opening: Opening, desk: Desk, said: list[Notice], tmp_path: Path
) -> None:
    for name in ("old", "photos"):
        write_photos(tmp_path / name, 2)
    Project.at(default_folder(tmp_path / "photos"), pictures=tmp_path / "old").close()
    opening.open(tmp_path / "photos")
    wait(lambda: said)
    assert "belongs to the pictures in" in said[0].text
    assert "Move 'photos.dinoviz' away" in said[0].hint
    assert desk.session.state.project is None


def test_the_project_of_pictures_on_a_read_only_disk_is_kept_elsewhere(
    opening: Opening, desk: Desk, said: list[Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    with reachable_folder() as here:
        write_photos(here / "disk" / "photos", 2)
        (here / "data").mkdir()
        (here / "data").chmod(0o777)
        monkeypatch.setenv("XDG_DATA_HOME", str(here / "data"))
        with unwritable(here / "disk"):
            opening.open(here / "disk" / "photos")
            wait(lambda: is_read(desk))
            desk.jobs.close(0)
        assert desk.session.state.project.is_relative_to(here / "data")
        assert "Nothing can be written beside these pictures." in [notice.text for notice in said]


def test_a_path_from_where_the_program_was_started_is_remembered_as_a_whole(
    opening: Opening, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scanned(tmp_path)
    monkeypatch.chdir(tmp_path)
    opening.open(Path(folder.name))
    wait(lambda: is_read(desk))
    assert desk.session.state.project == folder
    assert remembered(Memory(), desk).open_folder == str(folder)


def test_what_was_done_just_before_another_project_is_opened_is_found_again(qtbot: QtBot, tmp_path: Path) -> None:
    first, second = scanned(tmp_path / "a"), scanned(tmp_path / "b")
    with opened(first) as window:
        session = window.desk.session
        session.select([2, 5])
        session.set_current(5)
        window.opening.open(second)
        wait(lambda: session.state.project == second and not session.state.is_reading)
        assert session.state.current is None
        window.opening.open(first)
        wait(lambda: session.state.project == first and not session.state.is_reading)
        assert (session.state.current, session.state.selected.tolist()) == (5, [2, 5])
