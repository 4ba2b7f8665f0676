import time
from datetime import datetime

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QPushButton

from dinoviz.preferences import Memory, Recent, write_memory
from dinoviz.views.welcome.cards import day_in_words, name_of
from dinoviz.views.welcome.view import WelcomeView
from engine.project import Picture, Project
from tests.dinoviz.desks import made_desk
from tests.dinoviz.windows import opened, wait
from tests.makers import write_photos

NOON = datetime(2026, 11, 20, 12).timestamp()
DAY = 86400


@pytest.fixture
def view(qtbot):
    with made_desk(qtbot) as desk:
        made = WelcomeView(desk)
        qtbot.addWidget(made)
        made.resize(1000, 700)
        made.show()
        made.activateWindow()
        qtbot.waitUntil(made.isActiveWindow)
        yield made


@pytest.fixture
def project(tmp_path):
    write_photos(tmp_path / "holiday", 5)
    folder = tmp_path / "holiday.dinoviz"
    with Project.at(folder, pictures=tmp_path / "holiday") as opened:
        opened.record(Picture(path=f"p{i:02d}.jpg", size_bytes=1, mtime_ns=1, rows=60, cols=80) for i in range(5))
    return folder


def recent(folder, **more) -> Recent:
    return Recent(folder=str(folder), opened=time.time() - 60, pictures=7, **more)


def cards(view):
    return view._cards


def names(view):
    return [name_of(card.recent.folder) for card in cards(view)]


def said(card):
    return card.accessibleName()


def test_without_projects_it_says_what_there_is(view):
    assert view._places.isVisible() and not view._heading.isVisible()


def test_its_buttons_are_the_actions_of_the_window(view):
    done = []
    for name in ("file.open", "file.sample", "file.open_project"):
        view._desk.actions.bind(name, lambda name=name: done.append(name))
    for button in view.findChildren(QPushButton):
        button.click()
    assert done == ["file.open", "file.sample", "file.open_project"]


def test_a_project_shows_how_many_pictures_it_has_now_and_some_of_them(qtbot, view, project):
    view.set_recent([recent(project)])
    (card,) = cards(view)
    qtbot.waitUntil(lambda: "5 pictures" in said(card))
    qtbot.waitUntil(lambda: all(image is not None for image in card._mosaic._images))
    shown = card._mosaic.grab().toImage()
    assert len({QColor(shown.pixel(x, 40)).name() for x in range(0, shown.width(), 7)}) > 5


def test_a_project_that_is_gone_is_said_to_be_and_can_be_located(qtbot, view, tmp_path, monkeypatch):
    view.set_recent([recent(tmp_path / "gone.dinoviz")])
    (card,) = cards(view)
    qtbot.waitUntil(lambda: card.is_missing)
    assert "not there any more" in said(card)
    monkeypatch.setattr("dinoviz.views.welcome.view.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path))
    with qtbot.waitSignal(view.moved) as moved, qtbot.assertNotEmitted(view.open_wanted):
        qtbot.mouseClick(card, Qt.LeftButton)
    assert moved.args == [str(tmp_path / "gone.dinoviz"), tmp_path]


def test_a_project_whose_pictures_are_away_says_so(qtbot, view, project, tmp_path):
    (tmp_path / "holiday").rename(tmp_path / "elsewhere")
    view.set_recent([recent(project)])
    qtbot.waitUntil(lambda: "cannot be reached" in said(cards(view)[0]))
    assert not cards(view)[0].is_missing


def test_a_click_opens(qtbot, view, project):
    view.set_recent([recent(project)])
    with qtbot.waitSignal(view.open_wanted) as opened:
        qtbot.mouseClick(cards(view)[0], Qt.LeftButton)
    assert opened.args == [project]


def test_keys_open_pin_forget_and_walk(qtbot, view, project, tmp_path):
    view.set_recent([recent(project), recent(tmp_path / "other.dinoviz")])
    first, second = cards(view)
    first.setFocus()
    with qtbot.waitSignal(view.open_wanted):
        qtbot.keyClick(first, Qt.Key_Return)
    with qtbot.waitSignal(view.pin_wanted) as pinned:
        qtbot.keyClick(first, Qt.Key_P)
    assert pinned.args == [first.recent.folder, True]
    qtbot.keyClick(first, Qt.Key_Right)
    assert second.hasFocus()
    with qtbot.waitSignal(view.remove_wanted) as removed:
        qtbot.keyClick(second, Qt.Key_Delete)
    assert removed.args == [second.recent.folder]


def test_pinned_projects_come_first_then_the_newest(view):
    rows = [
        Recent(folder="/a.dinoviz", opened=3.0),
        Recent(folder="/b.dinoviz", opened=1.0, is_pinned=True),
        Recent(folder="/c.dinoviz", opened=5.0),
    ]
    view.set_recent(rows)
    assert names(view) == ["b", "c", "a"]


def test_a_changed_list_keeps_the_focus(view, project, tmp_path):
    rows = [recent(project), recent(tmp_path / "other.dinoviz")]
    view.set_recent(rows)
    cards(view)[1].setFocus()
    view.set_recent(rows[1:])
    assert cards(view)[0].hasFocus()


def test_a_narrow_window_puts_cards_below_each_other(qtbot, view):
    view.set_recent([Recent(folder=f"/{i}.dinoviz", opened=1.0) for i in range(4)])
    view.resize(400, 700)
    qtbot.waitUntil(lambda: len({card.x() for card in cards(view)}) == 1)


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (0, "today 12:00"),
        (DAY, "yesterday"),
        (3 * DAY, "Tuesday"),
        (30 * DAY, "21 October"),
        (400 * DAY, "16 October 2025"),
    ],
)
def test_days_are_said_as_people_do(ago, said):
    assert day_in_words(NOON - ago, NOON) == said


def test_everything_that_takes_the_focus_has_a_name(view, project):
    view.set_recent([recent(project)])
    for widget in view.findChildren(type(view).__mro__[1]):
        if widget.focusPolicy() != Qt.NoFocus and widget.isVisibleTo(view):
            assert widget.accessibleName(), widget


def test_the_window_remembers_what_is_pinned_and_forgotten(qtbot, project, tmp_path):
    rows = (recent(project), recent(tmp_path / "other.dinoviz"))
    write_memory(Memory(recent=rows))
    with opened() as window:
        wait(lambda: "welcome" in window._views and window._views["welcome"]._cards)
        view = window._views["welcome"]
        view.pin_wanted.emit(str(project), True)
        assert view._cards[0].recent.is_pinned
        view.remove_wanted.emit(str(tmp_path / "other.dinoviz"))
        assert [row.folder for row in window.memory.recent] == [str(project)]
        view.open_wanted.emit(project)
        wait(lambda: len(window.desk.session.state.table) == 5)


def test_a_project_that_was_moved_is_opened_as_it_was_left(qtbot, project, tmp_path):
    write_memory(Memory(recent=(recent(tmp_path / "old.dinoviz", memory={"place": "map"}),)))
    with opened() as window:
        wait(lambda: "welcome" in window._views and window._views["welcome"]._cards)
        window._views["welcome"].moved.emit(str(tmp_path / "old.dinoviz"), project)
        wait(lambda: len(window.desk.session.state.table) == 5)
        assert window.desk.session.state.place == "map"
