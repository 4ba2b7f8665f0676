from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt

from dinoviz.views.train.film import read_film
from dinoviz.views.train.log import RunLog
from dinoviz.views.train.probes import PLACES, ProbesStrip
from tests.dinoviz.projects import scanned
from tests.dinoviz.runs import STEPS_A_LOOK, made_run, write_looks

NAMES = ["cat/p00.jpg", "dog/p01.jpg", "cat/gone.jpg"]


@pytest.fixture
def run(tmp_path) -> Path:
    made = made_run(scanned(tmp_path, 4))
    write_looks(made, NAMES)
    return made


@pytest.fixture
def strip(qtbot, run, tmp_path) -> ProbesStrip:
    chosen: list[object] = []
    made = ProbesStrip(chosen.append, chosen.append)
    made.chosen = chosen
    qtbot.addWidget(made)
    made.resize(800, 600)
    made.show()
    made.show_films([read_film(run, 1, tmp_path / "photos")], {1: RunLog(run, 1).read_all()})
    return made


def pixels(strip: ProbesStrip) -> bytes:
    return bytes(strip._sheets[1].grab().toImage().constBits())


def test_a_film_has_all_steps_and_the_pictures_that_are_there(run, tmp_path):
    film = read_film(run, 1, tmp_path / "photos")
    assert film.steps == list(STEPS_A_LOOK)
    assert film.names == NAMES
    assert set(film.pictures) == set(NAMES[:2])
    assert [film.step_at(share) for share in (0.0, 0.4, 1.0)] == [0, 1, 16]
    again = read_film(run, 1, tmp_path / "photos", film)
    assert again.looks[4] is film.looks[4]


def test_a_damaged_look_is_passed_over(run, tmp_path):
    (run / "probes" / "step-00000004.npz").write_bytes(b"no file of numpy")
    assert read_film(run, 1, tmp_path / "photos").steps == [0, 1, 16]


def test_a_run_without_probes_says_so(qtbot, tmp_path):
    made = ProbesStrip(lambda _kind: None, lambda _wants: None)
    qtbot.addWidget(made)
    made.show()
    assert made._nothing.isVisible()
    assert not made.slider.isEnabled()


def test_scrubbing_shows_other_steps(qtbot, strip):
    last = pixels(strip)
    assert "step 16 of 48" in strip._when.text()
    strip.slider.setValue(0)
    assert "step 0 of 48" in strip._when.text()
    assert pixels(strip) != last
    strip.step(1)
    assert "step 1 of" in strip._when.text()
    qtbot.keyClick(strip.slider, Qt.Key.Key_End)
    assert pixels(strip) == last


@pytest.mark.parametrize("kind", ["mask", "colours"])
def test_each_kind_looks_different(strip, kind):
    before = pixels(strip)
    strip.set_kind(kind)
    assert pixels(strip) != before


def test_the_divider_is_drawn_by_the_mouse(qtbot, strip):
    qtbot.mouseClick(strip.divide, Qt.MouseButton.LeftButton)
    assert strip.chosen == [True]
    strip.set_before_after(True)
    sheet = strip._sheets[1]
    qtbot.mousePress(sheet, Qt.MouseButton.LeftButton, pos=QPoint(20, 40))
    assert strip._divider < 0.2
    without_divider = pixels(strip)
    qtbot.mouseRelease(sheet, Qt.MouseButton.LeftButton)
    strip.set_before_after(False)
    assert pixels(strip) != without_divider


def test_playing_goes_to_the_end_and_holds(qtbot, strip):
    qtbot.mouseClick(strip.play, Qt.MouseButton.LeftButton)
    assert strip.slider.value() == 0
    qtbot.waitUntil(lambda: strip.slider.value() == PLACES, timeout=5000)
    qtbot.waitUntil(lambda: not strip.play.isChecked(), timeout=2000)


def test_runs_stand_side_by_side(strip, run, tmp_path):
    first = read_film(run, 1, tmp_path / "photos")
    second = read_film(run, 2, tmp_path / "photos")
    strip.show_films([first, second], {})
    left, right = strip._sheets[1], strip._sheets[2]
    strip.layout().activate()
    assert left is not right
    assert {sheet.accessibleName() for sheet in (left, right)} == {"Probe pictures of Run 1", "Probe pictures of Run 2"}
