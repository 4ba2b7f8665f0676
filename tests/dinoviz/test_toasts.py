"""Notices: where they lie, what their buttons do, and when they go."""

import pytest
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPushButton, QWidget

from dinoviz.session import Session
from dinoviz.window.jobs_bar import BAR_PX
from dinoviz.window.toasts import Toasts, free_place
from tests.dinoviz.projects import scanned

ROOM = QRect(0, 0, 1000, 800)
SIZE = QSize(400, 100)


@pytest.fixture
def window(qtbot):
    made = QWidget()
    qtbot.addWidget(made)
    made.resize(1000, 832 + 16)
    made.show()
    QCursor.setPos(made.mapToGlobal(QPoint(5, 5)))
    return made


def said(toasts: Toasts) -> list[str]:
    return [part.text() for part in toasts.findChildren(QLabel) if part.isVisibleTo(toasts) and part.text()]


def test_where_nothing_is_taken_notices_lie_in_the_lower_right_corner():
    assert QRect(free_place(SIZE, ROOM, []), SIZE).bottomRight() == ROOM.bottomRight()


def test_notices_lie_as_near_to_the_corner_as_nothing_is_covered():
    taken = [QRect(700, 700, 100, 30), QRect(0, 760, 300, 40)]
    place = QRect(free_place(SIZE, ROOM, taken), SIZE)
    assert not any(place.intersects(rect) for rect in taken)
    assert place.right() == ROOM.right() and 570 < place.top() < 600


def test_where_everything_is_taken_the_least_is_covered():
    taken = [QRect(0, 0, 1000, 500), QRect(0, 500, 1000, 250)]
    place = QRect(free_place(SIZE, ROOM, taken), SIZE)
    assert place.bottom() == ROOM.bottom()


def test_notices_give_way_to_what_is_to_be_pressed(qtbot, window):
    session = Session()
    toasts = Toasts(session, lambda _name: None, window)
    session.notify("error", "It went wrong.", "Try again.")
    assert toasts.geometry().bottom() == window.height() - BAR_PX - 17
    button = QPushButton("Press", window)
    button.setGeometry(toasts.geometry().adjusted(50, 10, -50, -10))
    button.show()
    qtbot.waitUntil(lambda: not toasts.geometry().intersects(button.geometry()))


def test_a_notice_does_not_come_under_the_mouse(qtbot, window):
    corner = QPoint(900, 780)
    QCursor.setPos(window.mapToGlobal(corner))
    toasts = Toasts(Session(), lambda _name: None, window)
    toasts._session.notify("info", "Done.")
    assert toasts.isVisible() and not toasts.geometry().contains(corner)


def test_notices_of_a_project_go_with_it_and_those_of_the_next_stay(qtbot, window, tmp_path):
    session = Session()
    toasts = Toasts(session, lambda _name: None, window)
    session.notify("warning", "Before any project.")
    session.open(scanned(tmp_path / "one", 2))
    assert said(toasts) == ["Before any project."]
    session.notify("error", "Of the first.")
    session.open(scanned(tmp_path / "two", 2))
    session.notify("info", "Of the second.")
    assert said(toasts) == ["Of the second."]


def test_a_notice_has_buttons_that_do_and_close_it(qtbot, window):
    session, done = Session(), []
    toasts = Toasts(session, done.append, window)
    doings = [("Show", lambda: done.append("shown")), ("Move to trash", lambda: done.append("thrown away"))]
    for name in ("Undo", "Move to trash"):
        session.notify("info", "Written.", action=("Undo", "edit.undo"), doings=doings)
        session.notify("info", "Written.", action=("Undo", "edit.undo"), doings=doings)
        buttons = {b.text(): b for b in toasts.findChildren(QPushButton) if b.isVisibleTo(toasts)}
        assert list(buttons) == ["Undo", "Show", "Move to trash"], "the same notice is there once"
        QTest.mouseClick(buttons[name], Qt.MouseButton.LeftButton)
        assert not toasts.isVisible()
    assert done == ["edit.undo", "thrown away"]
