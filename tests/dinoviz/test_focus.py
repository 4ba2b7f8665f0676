"""Where the keyboard goes when what had it goes."""

import pytest
from PySide6.QtWidgets import QApplication, QHBoxLayout, QLineEdit, QMainWindow, QPushButton, QVBoxLayout, QWidget

from dinoviz.window.focus import FocusKeeper


class Place(QMainWindow):
    """A rail, and a place with a panel of three buttons, a field, and a button below."""

    def __init__(self) -> None:
        super().__init__()
        self.rail, self.below = QPushButton("rail"), QPushButton("below")
        self.place, self.panel, self.field = QWidget(), QWidget(), QLineEdit()
        self.buttons = [QPushButton(name) for name in "abc"]
        row = QHBoxLayout(self.panel)
        for made in (self.field, *self.buttons):
            row.addWidget(made)
        column = QVBoxLayout(self.place)
        column.addWidget(self.panel)
        column.addWidget(self.below)
        whole = QWidget()
        both = QHBoxLayout(whole)
        both.addWidget(self.place)
        both.addWidget(self.rail)
        self.setCentralWidget(whole)
        FocusKeeper(self, lambda: self.place)


@pytest.fixture
def window(qtbot):
    made = Place()
    qtbot.addWidget(made)
    made.show()
    made.activateWindow()
    qtbot.waitUntil(made.isActiveWindow)
    return made


def has_it(qtbot, widget) -> None:
    qtbot.wait(10)
    assert QApplication.focusWidget() is widget


def test_a_button_that_is_disabled_or_hidden_hands_on_to_the_next_of_its_panel(qtbot, window):
    first, second, third = window.buttons
    third.setFocus()
    third.setEnabled(False)
    has_it(qtbot, first)
    first.hide()
    has_it(qtbot, second)


def test_not_to_a_field_where_keys_would_be_typed_but_to_what_is_around_the_panel(qtbot, window):
    *others, last = window.buttons
    for other in others:
        other.hide()
    last.setFocus()
    last.setEnabled(False)
    has_it(qtbot, window.below)


def test_where_nothing_of_the_place_can_have_it_the_place_has_and_not_the_rail(qtbot, window):
    window.panel.hide()
    window.below.setFocus()
    window.below.hide()
    window.below.deleteLater()
    has_it(qtbot, window.place)


def test_all_of_a_panel_that_goes_at_once_is_one_going(qtbot, window):
    window.buttons[0].setFocus()
    for made in window.buttons:
        made.hide()
    has_it(qtbot, window.below)


def test_what_is_given_on_purpose_stays_there(qtbot, window):
    window.buttons[0].setFocus()
    window.buttons[0].hide()
    window.rail.setFocus()
    has_it(qtbot, window.rail)
    window.field.setFocus()
    has_it(qtbot, window.field)
