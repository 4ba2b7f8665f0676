from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from dinoviz.controls import Segmented, SliderRow


def shown(qtbot: QtBot, *parts: QWidget) -> QWidget:
    window = QWidget()
    qtbot.addWidget(window)
    row = QHBoxLayout(window)
    for part in parts:
        row.addWidget(part)
    window.show()
    window.activateWindow()
    qtbot.waitExposed(window)
    return window


def test_the_arrows_choose_the_next_one_and_skip_what_cannot_be_chosen(qtbot: QtBot) -> None:
    chosen: list[str] = []
    segmented = Segmented([("a", "One"), ("b", "Two"), ("c", "Three")], chosen.append, "Which")
    segmented.set_value("a")
    segmented.set_enabled("b", is_enabled=False)
    window = shown(qtbot, segmented)
    segmented._buttons["a"].setFocus()
    QTest.keyClick(segmented._buttons["a"], Qt.Key.Key_Right)
    assert chosen == ["c"]
    QTest.keyClick(segmented._buttons["c"], Qt.Key.Key_Right)
    assert chosen == ["c", "a"]
    assert window.isVisible()


def test_tab_reaches_the_one_that_holds(qtbot: QtBot) -> None:
    field, segmented = QLineEdit(), Segmented([("a", "One"), ("b", "Two")], lambda _value: None, "Which")
    window = shown(qtbot, field, segmented)
    segmented.set_value("b")
    field.setFocus()
    QTest.keyClick(field, Qt.Key.Key_Tab)
    assert window.focusWidget() is segmented._buttons["b"]


def test_no_word_of_a_choice_is_cut_where_there_is_little_room(qtbot: QtBot) -> None:
    segmented = Segmented([("a", "What they see"), ("b", "Neighbours")], lambda _value: None, "Which")
    window = shown(qtbot, segmented)
    window.resize(1, 1)
    for part in segmented._buttons.values():
        assert part.width() >= part.sizeHint().width()


def test_a_number_that_is_typed_moves_the_slider_and_nonsense_does_not(qtbot: QtBot) -> None:
    told: list[float] = []
    row = SliderRow("Keep", 0.0, 1.0, 0.01, "%", told.append, factor=100)
    window = shown(qtbot, row)
    row.set_value(0.6)
    for typed in ("30", "x", "900 %"):
        row._field.setText(typed)
        row._field.editingFinished.emit()
    assert told == [0.3, 1.0]
    assert row._slider.value() == 100
    assert window.isVisible()
