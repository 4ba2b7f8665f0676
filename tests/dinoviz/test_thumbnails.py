import os
import sqlite3
import threading

import numpy as np
import pytest
from PIL import Image

from dinoviz import thumbnails
from dinoviz.session import Session
from dinoviz.thumbnails import Thumbnails, _Memory, _Requests
from tests.dinoviz.projects import scanned

RED = (200, 30, 30)


@pytest.fixture
def session(tmp_path):
    session = Session()
    session.open(scanned(tmp_path, 6))
    return session


@pytest.fixture
def made(session, qtbot):
    made = Thumbnails(session)
    yield made
    made.close()


def arrive(qtbot, made, picture, side):
    with qtbot.waitSignal(made.arrived, timeout=5000):
        assert made.image(picture, side) is None
    return made.image(picture, side)


def paint(file, colour=RED, size=(80, 60)):
    """Write another picture into a file, as of the same time."""
    before = file.stat()
    Image.new("RGB", size, colour).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def colour_of(image):
    middle = image.pixelColor(image.rect().center())
    return middle.red(), middle.green(), middle.blue()


def is_near(colour, wanted):
    return all(abs(a - b) < 6 for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize("side", [40, 80, 200])
def test_a_thumbnail_has_just_the_side_asked_for_and_the_aspect_of_its_picture(session, made, qtbot, side):
    image = arrive(qtbot, made, 1, side)
    assert (image.width(), image.height()) == (side, side * 3 // 4)


def test_a_thumbnail_shows_the_colours_of_its_picture(session, made, qtbot):
    paint(session.state.table.file(2))
    assert is_near(colour_of(arrive(qtbot, made, 2, 64)), RED)


def test_pictures_that_lie_on_their_side_are_upright(session, made, qtbot):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (80, 40), RED).save(session.state.table.file(3), exif=exif)
    image = arrive(qtbot, made, 3, 64)
    assert (image.width(), image.height()) == (32, 64)


def test_another_size_stands_in_until_the_right_one_comes(session, made, qtbot):
    small = arrive(qtbot, made, 1, 32)
    with qtbot.waitSignal(made.arrived, timeout=5000):
        assert made.image(1, 96) is small
    assert made.image(1, 96).width() == 96
    assert made.in_memory(1, 32) is small


def test_looking_into_the_memory_asks_for_nothing(session, made, qtbot):
    with qtbot.assertNotEmitted(made.arrived, wait=100):
        assert made.in_memory(1, 32) is None


def test_all_that_a_view_wants_arrives(session, made, qtbot):
    arrived = []
    made.arrived.connect(arrived.append)
    made.want("grid", [4, 2, 6], 48)
    qtbot.waitUntil(lambda: len(arrived) == 3, timeout=5000)
    assert sorted(arrived) == [2, 4, 6]
    assert all(made.in_memory(picture, 48) is not None for picture in arrived)


def test_what_a_view_wants_replaces_what_it_wanted_before():
    requests = _Requests()
    requests.want("grid", thumbnails.deque([(1, 10), (2, 10), (3, 10)]))
    requests.want("grid", thumbnails.deque([(9, 10), (8, 10)]))
    assert [requests.next()[0] for _ in range(2)] == [(9, 10), (8, 10)]
    assert requests._pop() is None


def test_the_view_that_spoke_last_comes_first_and_single_requests_come_last_the_newest_first():
    requests = _Requests()
    requests.ask((5, 10))
    requests.ask((6, 10))
    requests.want("map", thumbnails.deque([(1, 10)]))
    requests.want("grid", thumbnails.deque([(2, 10)]))
    assert [requests.next()[0][0] for _ in range(4)] == [2, 1, 6, 5]


def test_old_single_requests_are_dropped():
    requests = _Requests()
    for picture in range(thumbnails.ASKED_AT_MOST + 3):
        requests.ask((picture, 10))
    got = []
    while (key := requests._pop()) is not None:
        got.append(key[0])
    assert len(got) == thumbnails.ASKED_AT_MOST
    assert min(got) == 3


def test_the_memory_forgets_what_was_used_longest_ago():
    image = thumbnails.QImage(10, 10, thumbnails.QImage.Format.Format_RGB32)
    memory = _Memory(3 * image.sizeInBytes())
    for picture in (1, 2, 3):
        memory.put((picture, 10), thumbnails.QImage(image))
    assert memory.nearest(1, 10)[1]
    memory.put((4, 10), thumbnails.QImage(image))
    assert [(picture, 10) in memory for picture in (1, 2, 3, 4)] == [True, False, True, True]
    assert memory.size_bytes == 3 * image.sizeInBytes()


def test_a_file_that_cannot_be_decoded_gives_a_placeholder_and_its_reason(session, made, qtbot):
    session.state.table.file(4).write_bytes(b"")
    with qtbot.waitSignal(made.arrived, timeout=5000):
        made.image(4, 64)
    assert made.problem(4) == "empty file"
    assert made.image(4, 64).width() == 64


def test_what_a_scan_could_not_read_is_not_tried(tmp_path, qtbot):
    session = Session()
    session.open(scanned(tmp_path, 4, broken=1))
    made = Thumbnails(session)
    table = session.state.table
    broken = int(table.ids_N[table.problem.codes_N >= 0][0])
    made.want("grid", [broken], 64)
    with qtbot.assertNotEmitted(made.arrived, wait=100):
        assert made.image(broken, 64) is not None
    assert made.problem(broken)
    made.close()


def test_files_outside_the_project_have_thumbnails_too(made, tmp_path, qtbot):
    file = tmp_path / "dropped.png"
    Image.new("RGB", (30, 90), RED).save(file)
    with qtbot.waitSignal(made.file_arrived, timeout=5000) as told:
        assert made.image_of_file(file, 60) is None
    assert told.args == [str(file)]
    assert (made.image_of_file(file, 60).width(), made.image_of_file(file, 60).height()) == (20, 60)


def kept_on_disk(session, qtbot, monkeypatch):
    """Decode picture 1 so that it is kept on the disk; return where."""
    monkeypatch.setattr(thumbnails, "SLOW_S", 0.0)
    first = Thumbnails(session)
    arrive(qtbot, first, 1, 64)
    first.close()
    return session.state.project / "cache" / "thumbnails.sqlite"


def test_slow_pictures_are_read_from_the_disk_at_the_next_start(session, qtbot, monkeypatch):
    cache = kept_on_disk(session, qtbot, monkeypatch)
    paint(session.state.table.file(1))
    second = Thumbnails(session)
    image = arrive(qtbot, second, 1, 64)
    second.close()
    assert cache.exists()
    assert not is_near(colour_of(image), RED)


def test_a_picture_that_changed_is_not_taken_from_the_disk(session, qtbot, monkeypatch):
    kept_on_disk(session, qtbot, monkeypatch)
    file = session.state.table.file(1)
    Image.new("RGB", (80, 60), RED).save(file)
    table = session.state.table
    table.mtimes_N[table.row_of(1)] = file.stat().st_mtime_ns + 1
    second = Thumbnails(session)
    image = arrive(qtbot, second, 1, 64)
    second.close()
    assert is_near(colour_of(image), RED)


def test_a_damaged_disk_cache_does_no_harm_and_is_begun_anew(session, qtbot, monkeypatch):
    cache = kept_on_disk(session, qtbot, monkeypatch)
    for leftover in cache.parent.iterdir():
        leftover.unlink()
    cache.write_bytes(b"no database at all" * 100)
    second = Thumbnails(session)
    assert arrive(qtbot, second, 1, 64).width() == 64
    second.close()
    with sqlite3.connect(cache) as database:
        assert database.execute("SELECT count(*) FROM thumbnails").fetchone() == (1,)
    database.close()


def test_a_cache_that_cannot_be_written_does_no_harm(session, qtbot, monkeypatch):
    (session.state.project / "cache").write_bytes(b"a file in the place of the folder")
    monkeypatch.setattr(thumbnails, "SLOW_S", 0.0)
    made = Thumbnails(session)
    assert arrive(qtbot, made, 1, 64).width() == 64
    made.close()


def test_a_scan_that_finds_a_file_changed_makes_its_thumbnail_anew(session, made, qtbot):
    old = arrive(qtbot, made, 1, 64)
    kept = arrive(qtbot, made, 2, 64)
    table = session.state.table
    mtimes = table.mtimes_N.copy()
    mtimes[table.row_of(1)] += 1
    paint(table.file(1))
    session._set(table=thumbnails_table(table, mtimes))
    assert made.in_memory(1, 64) is None
    assert made.in_memory(2, 64) is kept
    assert is_near(colour_of(arrive(qtbot, made, 1, 64)), RED)
    assert not is_near(colour_of(old), RED)


def thumbnails_table(table, mtimes):
    from dataclasses import replace

    return replace(table, mtimes_N=mtimes)


def test_another_project_has_other_pictures_under_the_same_ids(session, made, qtbot, tmp_path):
    arrive(qtbot, made, 1, 64)
    other = tmp_path / "other"
    other.mkdir()
    session.open(scanned(other, 3))
    assert made.in_memory(1, 64) is None
    paint(session.state.table.file(1))
    assert is_near(colour_of(arrive(qtbot, made, 1, 64)), RED)


def test_the_placeholder_is_seen_on_light_and_on_dark():
    image = thumbnails.draw_placeholder(100)
    alphas = np.array([image.pixelColor(x, y).alpha() for x in range(0, 100, 5) for y in range(0, 75, 5)])
    assert alphas.min() < 100 < alphas.max()


def test_a_project_that_is_named_from_the_working_folder_has_thumbnails(session, qtbot, monkeypatch):
    kept_on_disk(session, qtbot, monkeypatch)
    project = session.state.project
    monkeypatch.chdir(project.parent)
    session.open(project.relative_to(project.parent))
    made = Thumbnails(session)
    assert arrive(qtbot, made, 1, 64).width() == 64
    made.close()


def test_a_fault_with_one_picture_is_said_and_the_others_come(session, made, qtbot, monkeypatch):
    decoded = thumbnails._decoded

    def faulty(file, side):
        if file == session.state.table.file(1):
            raise ZeroDivisionError("no such thing")
        return decoded(file, side)

    monkeypatch.setattr(thumbnails, "_decoded", faulty)
    for side in (40, 50, 60):  # more than there are threads
        with qtbot.waitSignal(made.arrived, timeout=5000):
            made.want("grid", [1], side)
        assert "no such thing" in made.problem(1)
        made._problems.clear()
    assert arrive(qtbot, made, 2, 64).width() == 64


def test_a_picture_decoded_while_another_project_opens_stays_with_its_own(session, made, qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "SLOW_S", 0.0)
    decoded, go_on = thumbnails._decoded, threading.Event()
    first, slow = session.state.project, session.state.table.file(1)
    monkeypatch.setattr(
        thumbnails, "_decoded", lambda file, side: (file == slow and go_on.wait(10), decoded(file, side))[1]
    )
    made.image(1, 64)
    qtbot.waitUntil(lambda: bool(made._requests._in_hand), timeout=5000)
    (tmp_path / "other").mkdir()
    session.open(scanned(tmp_path / "other", 3))
    paint(session.state.table.file(1))
    assert is_near(colour_of(arrive(qtbot, made, 1, 64)), RED)
    go_on.set()
    made.close()
    for project in (first, session.state.project):
        database = sqlite3.connect(project / "cache" / "thumbnails.sqlite")
        assert database.execute("SELECT count(*) FROM thumbnails").fetchone() == (1,)
        database.close()
