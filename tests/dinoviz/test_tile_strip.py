"""The strip by mouse and keys."""

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtTest import QTest

from dinoviz.views.look.strip import Tile, TileStrip


@pytest.fixture
def strip(qtbot):
    made = TileStrip("Heads")
    qtbot.addWidget(made)
    made.resize(400, made.height())
    image = QImage(4, 4, QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(QColor("red"))
    made.set_tiles([Tile(key=i, title=f"Head {i + 1}", over=image, is_smooth=False) for i in range(12)])
    made.show()
    return made


def chosen(strip):
    told = []
    strip.chosen.connect(lambda key, adds: told.append((key, adds)))
    return told


def test_click_chooses_and_ctrl_click_adds(strip):
    told = chosen(strip)
    viewport = strip.viewport()
    QTest.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=strip.rect_of(1).center())
    control = Qt.KeyboardModifier.ControlModifier
    QTest.mouseClick(viewport, Qt.MouseButton.LeftButton, control, pos=strip.rect_of(2).center())
    QTest.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=strip.rect_of(0).topLeft() - QPoint(2, 0))
    assert told == [(1, False), (2, True)]


def test_arrows_go_from_tile_to_tile_and_scroll_there(strip):
    told = chosen(strip)
    strip.setFocus()
    QTest.keyClick(strip, Qt.Key.Key_Right)
    QTest.keyClick(strip, Qt.Key.Key_Return)
    QTest.keyClick(strip, Qt.Key.Key_End)
    QTest.keyClick(strip, Qt.Key.Key_Space)
    assert told == [(1, False), (11, True)]
    assert strip.horizontalScrollBar().value() == strip.horizontalScrollBar().maximum()
    assert strip.accessibleDescription() == "Head 12"
    QTest.keyClick(strip, Qt.Key.Key_Home)
    assert strip.horizontalScrollBar().value() == 0


def test_picked_tiles_are_framed_and_maps_fill_theirs(strip):
    plain = strip.grab().toImage()
    strip.set_picked([0])
    framed = strip.grab().toImage()
    assert plain != framed
    assert framed.pixelColor(strip.rect_of(0).center().x(), 40).name() == "#ff0000"


def test_fewer_tiles_than_before_leave_the_keys_on_one_of_them(strip):
    strip.setFocus()
    QTest.keyClick(strip, Qt.Key.Key_End)
    strip.set_tiles(strip.tiles[:2])
    told = chosen(strip)
    QTest.keyClick(strip, Qt.Key.Key_Return)
    assert told == [(1, False)]
    strip.set_tiles([])
    QTest.keyClick(strip, Qt.Key.Key_Return)
    assert told == [(1, False)]


def test_mouse_over_another_tile_is_told(strip):
    told = []
    strip.pointed.connect(told.append)
    for number in (0, 0, 1):
        QTest.mouseMove(strip.viewport(), strip.rect_of(number).center())
    assert told == [0, 1]
