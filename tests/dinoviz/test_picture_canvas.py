"""The canvas as a person uses it: with the mouse, the wheel and keys."""

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainterPath, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from dinoviz.widgets.picture.canvas import PictureCanvas, Zoom
from dinoviz.widgets.picture.layers import ImageLayer, OutlineLayer, PointsLayer, Pyramid, still
from engine.questions import Lattice

LATTICE = Lattice(rows=6, cols=8, patch=8, resized=(50, 66), picture=(300, 400))


def picture(width=400, height=300):
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor("white"))
    return image


@pytest.fixture
def canvas(qtbot):
    made = PictureCanvas()
    qtbot.addWidget(made)
    made.resize(824, 624)
    made.set_picture(picture())
    made.set_lattice(LATTICE)
    made.show()
    return made


def wheel(canvas, at, notches, modifiers=Qt.KeyboardModifier.NoModifier):
    event = QWheelEvent(
        QPointF(at),
        canvas.mapToGlobal(QPointF(at)),
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def drag(canvas, begin, end, button=Qt.MouseButton.LeftButton):
    QTest.mousePress(canvas, button, pos=begin)
    for share in (0.3, 0.7, 1.0):
        QTest.mouseMove(canvas, begin + (end - begin) * share)
    QTest.mouseRelease(canvas, button, pos=end)


def test_picture_fits_at_first_and_lies_in_the_middle(canvas):
    assert canvas.scale() == pytest.approx(2.0)
    assert canvas.target() == QRectF(12, 12, 800, 600)


def test_wheel_zooms_about_the_place_under_the_mouse(canvas):
    at = QPoint(300, 200)
    before = canvas.to_picture(QPointF(at))
    wheel(canvas, at, 3)
    after = canvas.to_picture(QPointF(at))
    assert canvas.scale() == pytest.approx(2 * 1.2**3)
    assert (after.x(), after.y()) == (pytest.approx(before.x()), pytest.approx(before.y()))
    wheel(canvas, at, -30)
    assert canvas.scale() == pytest.approx(2.0), "never smaller than where it fits"


def test_double_click_goes_to_a_pixel_for_a_pixel_and_back(canvas):
    canvas.set_picture(picture(4000, 3000))
    QTest.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(412, 312))
    assert canvas.percent() == pytest.approx(100)
    QTest.mouseDClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(412, 312))
    assert canvas.view.times == 1


def test_keys_zoom_and_pan(canvas):
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    assert canvas.scale() == pytest.approx(3.0)
    left = canvas.target().left()
    QTest.keyClick(canvas, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert canvas.target().left() < left
    QTest.keyClick(canvas, Qt.Key.Key_Minus)
    QTest.keyClick(canvas, Qt.Key.Key_0)
    assert canvas.view.times == 1
    canvas.set_picture(picture(4000, 3000))
    QTest.keyClick(canvas, Qt.Key.Key_1)
    assert canvas.percent() == pytest.approx(100)


@pytest.mark.parametrize(
    ("button", "holds_space"), [("LeftButton", False), ("MiddleButton", False), ("LeftButton", True)]
)
def test_dragging_moves_a_picture_that_is_larger_than_its_canvas(canvas, button, holds_space):
    canvas.set_tool("box" if holds_space else "none")
    canvas.view.look(3, 0.5, 0.5)
    if holds_space:
        QTest.keyPress(canvas, Qt.Key.Key_Space)
    before = canvas.to_picture(QPointF(400, 300))
    drag(canvas, QPoint(400, 300), QPoint(460, 330), getattr(Qt.MouseButton, button))
    after = canvas.to_picture(QPointF(460, 330))
    assert (after.x(), after.y()) == (pytest.approx(before.x()), pytest.approx(before.y()))
    assert canvas.box.isNull()


def test_picture_cannot_be_dragged_out_of_sight(canvas):
    canvas.view.look(2, 0.5, 0.5)
    for _ in range(8):
        drag(canvas, QPoint(100, 100), QPoint(800, 600))
    assert canvas.target().topLeft() == QPointF(0, 0)
    drag(canvas, QPoint(800, 600), QPoint(700, 500))
    assert canvas.target().left() == pytest.approx(-100), "what went beyond the border has not to be dragged back"


def test_canvases_with_one_zoom_show_the_same_place_of_pictures_of_any_size(qtbot, canvas):
    other = PictureCanvas(canvas.view)
    qtbot.addWidget(other)
    other.resize(424, 324)
    other.set_picture(picture(4000, 3000))
    wheel(canvas, QPoint(200, 200), 6)
    middle, others = canvas.to_picture(QPointF(412, 312)), other.to_picture(QPointF(212, 162))
    assert (others.x() / 10, others.y() / 10) == (pytest.approx(middle.x()), pytest.approx(middle.y()))


def test_pointer_tells_the_patch_under_it_once_and_when_it_leaves(qtbot, canvas):
    canvas.set_tool("pointer")
    told = []
    canvas.patch_hovered.connect(lambda row, col: told.append((row, col)))
    for x in (20, 24, 30, 300):
        QTest.mouseMove(canvas, QPoint(x, 20))
    row, col = told[-1]
    assert told[0] == (0, 0)
    assert len(told) == 2
    assert (row, col) == (0, int(144 / (400 * 8 / 66)))
    with qtbot.waitSignal(canvas.left, timeout=500):
        QTest.mouseMove(canvas, QPoint(3, 3))


def test_click_chooses_a_patch_and_a_drag_does_not(qtbot, canvas):
    canvas.set_tool("pointer")
    with qtbot.waitSignal(canvas.patch_clicked, timeout=500) as told:
        QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(20, 20))
    assert told.args == [0, 0]
    with qtbot.assertNotEmitted(canvas.patch_clicked):
        drag(canvas, QPoint(100, 100), QPoint(200, 200))


def test_patches_are_reached_and_chosen_by_keys(qtbot, canvas):
    canvas.set_tool("pointer")
    with qtbot.waitSignal(canvas.patch_hovered, timeout=500) as told:
        QTest.keyClick(canvas, Qt.Key.Key_Left, Qt.KeyboardModifier.ControlModifier)
    assert told.args == [3, 3]
    with qtbot.waitSignal(canvas.patch_clicked, timeout=500) as told:
        QTest.keyClick(canvas, Qt.Key.Key_Return)
    assert told.args == [3, 3]


def test_patches_of_the_picture_before_are_not_pointed_at(qtbot, canvas):
    canvas.set_tool("pointer")
    canvas.set_picture(picture(500, 300))
    with qtbot.assertNotEmitted(canvas.patch_hovered):
        QTest.mouseMove(canvas, QPoint(200, 200))


def test_box_is_drawn_changed_moved_and_taken_away(qtbot, canvas):
    canvas.set_tool("box")
    with qtbot.waitSignal(canvas.box_drawn, timeout=500) as told:
        drag(canvas, QPoint(112, 112), QPoint(312, 212))
    assert told.args[0] == QRectF(50, 50, 100, 50)
    drag(canvas, QPoint(312, 212), QPoint(412, 312))
    assert canvas.box == QRectF(50, 50, 150, 100)
    drag(canvas, QPoint(200, 200), QPoint(180, 220))
    assert canvas.box == QRectF(40, 60, 150, 100)
    drag(canvas, QPoint(200, 240), QPoint(900, 240))
    assert canvas.box.right() == pytest.approx(400), "it stays inside the picture"
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert canvas.box.isNull()


def test_brush_tells_its_way_in_pixels_of_the_picture_and_whether_it_adds(canvas):
    canvas.set_tool("brush")
    strokes = []
    canvas.stroke_began.connect(lambda: strokes.append("begin"))
    canvas.brushed.connect(lambda begin, end, radius, adds: strokes.append((end.x(), end.y(), radius, adds)))
    canvas.stroke_ended.connect(lambda: strokes.append("end"))
    canvas.radius_px = 20
    drag(canvas, QPoint(112, 112), QPoint(212, 112))
    assert strokes[0] == "begin"
    assert strokes[1] == (50, 50, 10, True)
    assert strokes[-2][:2] == (100, 50)
    assert strokes[-1] == "end"
    strokes.clear()
    drag(canvas, QPoint(112, 112), QPoint(212, 112), Qt.MouseButton.RightButton)
    assert strokes[1][3] is False
    canvas.set_erasing(True)
    strokes.clear()
    drag(canvas, QPoint(112, 112), QPoint(212, 112))
    assert strokes[1][3] is False


def test_brush_grows_and_shrinks_by_keys_and_wheel(canvas):
    canvas.set_tool("brush")
    before = canvas.radius_px
    QTest.keyClick(canvas, Qt.Key.Key_BracketRight)
    assert canvas.radius_px > before
    QTest.keyClick(canvas, Qt.Key.Key_BracketLeft)
    assert canvas.radius_px == pytest.approx(before)
    wheel(canvas, QPoint(100, 100), 1, Qt.KeyboardModifier.ShiftModifier)
    assert canvas.radius_px > before
    assert canvas.view.times == 1


def test_layers_lie_exactly_over_their_part_of_the_picture(canvas):
    red = QImage(2, 1, QImage.Format.Format_ARGB32_Premultiplied)
    red.fill(QColor("red"))
    path = QPainterPath()
    path.addRect(1, 1, 2, 2)
    area = QRectF(200, 0, 100, 300)
    outline = OutlineLayer(path=path, area=QRectF(0, 0, 400, 300), cells=(4, 3), colour=QColor("blue"))
    canvas.set_layers([ImageLayer(image=red, area=area, is_smooth=False), outline])
    seen = canvas.grab().toImage()
    colours = [seen.pixelColor(x, 150).name() for x in (200, 411, 412, 611, 614)]
    assert colours == ["#ffffff", "#ffffff", "#ff0000", "#ff0000", "#ffffff"]
    assert seen.pixelColor(212, 300).blue() > 200 > seen.pixelColor(212, 300).red()


def test_what_is_out_of_date_fades_only_if_nothing_new_comes_at_once(qtbot, canvas):
    red = QImage(1, 1, QImage.Format.Format_ARGB32_Premultiplied)
    red.fill(QColor("red"))
    layer = ImageLayer(image=red, area=QRectF(0, 0, 400, 300))
    canvas.set_layers([layer])
    canvas.set_waiting()
    canvas.set_layers([layer])
    qtbot.wait(400)
    assert canvas.grab().toImage().pixelColor(400, 300).name() == "#ff0000"
    canvas.set_waiting()
    qtbot.waitUntil(lambda: canvas.grab().toImage().pixelColor(400, 300).green() > 100, timeout=2000)
    canvas.set_layers([layer])
    assert canvas.grab().toImage().pixelColor(400, 300).name() == "#ff0000"


def test_canvas_without_a_picture_says_why(canvas):
    canvas.set_picture(None, "It cannot be read.")
    blank = canvas.grab().toImage()
    canvas.set_picture(None, "")
    assert blank != canvas.grab().toImage()
    for key in (Qt.Key.Key_Plus, Qt.Key.Key_1, Qt.Key.Key_Return):
        QTest.keyClick(canvas, key)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(50, 50))


def test_pyramid_gives_the_smallest_copy_that_is_large_enough():
    made = Pyramid.of(picture(4000, 3000))
    assert [level.width() for level in made.levels] == [4000, 2000, 1000, 500]
    assert made.level(900).width() == 1000
    assert made.level(9000).width() == 4000
    assert made.size == (3000, 4000)


def test_saved_picture_has_the_size_of_the_original_and_its_layers():
    red = QImage(1, 1, QImage.Format.Format_ARGB32_Premultiplied)
    red.fill(QColor("red"))
    layers = [
        ImageLayer(image=red, area=QRectF(0, 0, 200, 300)),
        PointsLayer(points=[QPointF(300, 150)], colours=[QColor("blue")]),
    ]
    seen = still(Pyramid.of(picture(40, 30), (300, 400)), layers)
    assert (seen.width(), seen.height()) == (400, 300)
    assert seen.pixelColor(100, 150).name() == "#ff0000"
    assert seen.pixelColor(300, 150).name() == "#0000ff"
    assert seen.pixelColor(350, 50).name() == "#ffffff"
    clear = still(Pyramid.of(picture(40, 30), (300, 400)), layers, is_clear=True)
    assert clear.pixelColor(350, 50).alpha() == 0


def test_zoom_of_many_random_steps_keeps_the_picture_in_sight(canvas):
    random = np.random.default_rng(0)
    for _ in range(300):
        at = QPoint(*random.integers(0, 600, 2).tolist())
        if random.random() < 0.5:
            wheel(canvas, at, int(random.integers(-4, 5)))
        else:
            canvas.pan(QPointF(*random.normal(0, 300, 2)))
        target = canvas.target()
        assert target.width() >= 799.9
        assert target.left() <= 12.1
        assert target.right() >= 811.9


def test_zoom_tells_nothing_where_nothing_changes(qtbot):
    zoom = Zoom()
    with qtbot.assertNotEmitted(zoom.changed):
        zoom.look(0.5, 0.2, 0.2)
