import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtGui import QImage, QPainterPath, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from dinoviz import theme
from dinoviz.widgets.scatter.canvas import ScatterCanvas
from dinoviz.widgets.scatter.paint import Place
from dinoviz.widgets.scatter.splat import Cloud, View, between, in_unit_square
from dinoviz.widgets.scatter.thumbnails import MOST_THUMBNAILS, apart

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def canvas(qtbot):
    made = ScatterCanvas(is_animated=False)
    qtbot.addWidget(made)
    made.resize(600, 500)
    made.show()
    return made


def grid(n=10):
    """Positions on a lattice of n by n: number i is in column i % n, row i // n from below."""
    return np.array([(i % n, i // n) for i in range(n * n)], float)


def show(canvas, positions, codes=None):
    canvas.set_cloud(Cloud.of(in_unit_square(positions)))
    codes = np.zeros(len(positions), np.uint8) if codes is None else codes
    canvas.set_colours(codes, theme.category_colours(8))
    canvas.set_thumbnails("never")


def drag(canvas, points, modifiers=NONE):
    QTest.mousePress(canvas, LEFT, modifiers, points[0])
    for point in points[1:]:
        QTest.mouseMove(canvas, point)
    QTest.mouseRelease(canvas, LEFT, modifiers, points[-1])


def around(canvas, numbers, margin=12):
    corners = [canvas.where(number) for number in numbers]
    x, y = [c.x() for c in corners], [c.y() for c in corners]
    low, high = QPoint(int(min(x) - margin), int(min(y) - margin)), QPoint(int(max(x) + margin), int(max(y) + margin))
    return [low, QPoint(high.x(), low.y()), high, QPoint(low.x(), high.y())]


def test_a_point_is_picked_where_it_is_drawn(canvas):
    show(canvas, grid())
    for number in (0, 9, 55, 99):
        assert canvas.number_at(canvas.where(number) + QPointF(3, -2)) == number
    assert canvas.number_at(QPointF(1, 1)) == -1
    assert canvas.where(0).y() > canvas.where(99).y()


def test_a_click_tells_the_number_and_what_the_keys_make_of_it(qtbot, canvas):
    show(canvas, grid())
    for modifiers, how in (
        (NONE, "replace"),
        (Qt.KeyboardModifier.ShiftModifier, "add"),
        (Qt.KeyboardModifier.AltModifier, "subtract"),
        (Qt.KeyboardModifier.ControlModifier, "toggle"),
    ):
        with qtbot.waitSignal(canvas.clicked) as told:
            QTest.mouseClick(canvas, LEFT, modifiers, canvas.where(42).toPoint())
        assert told.args == [42, how]


def test_points_outside_the_filter_are_neither_picked_nor_lassoed(canvas):
    show(canvas, grid())
    canvas.set_shown(np.arange(100) % 2 == 0)
    assert canvas.number_at(canvas.where(41)) == -1
    path = QPainterPath()
    path.addRect(canvas.rect())
    assert canvas.numbers_in(path).tolist() == list(range(0, 100, 2))


@pytest.mark.parametrize("tool", ["lasso", "rectangle", "brush"])
def test_tools_select_what_they_enclose(qtbot, canvas, tool):
    show(canvas, grid())
    canvas.set_tool(tool)
    corners = around(canvas, [33, 44])
    points = [corners[0], corners[2]] if tool == "rectangle" else [*corners, corners[0]]
    if tool == "brush":
        points = [canvas.where(33).toPoint(), canvas.where(34).toPoint()]
    with qtbot.waitSignal(canvas.selected) as told:
        drag(canvas, points, Qt.KeyboardModifier.ShiftModifier)
    numbers, how = told.args
    assert numbers.tolist() == ([33, 34] if tool == "brush" else [33, 34, 43, 44])
    assert how == "add"


def test_a_lasso_finds_what_its_polygon_holds_among_many(canvas):
    positions = np.random.default_rng(0).random((30_000, 2))
    show(canvas, positions)
    middle, radius = QPointF(300, 250), 120.0
    path = QPainterPath()
    path.addEllipse(middle, radius, radius)
    found = set(canvas.numbers_in(path).tolist())
    off = np.array([np.hypot(p.x() - 300, p.y() - 250) for p in map(canvas.where, range(0, 30_000, 10))])
    for number, distance in zip(range(0, 30_000, 10), off, strict=True):
        if abs(distance - radius) > 1:
            assert (number in found) == (distance < radius)


def test_the_wheel_zooms_where_the_mouse_is(canvas):
    show(canvas, grid())
    at = canvas.where(22)
    event = QWheelEvent(
        at, canvas.mapToGlobal(at), QPoint(), QPoint(0, 240), Qt.MouseButton.NoButton, NONE,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    before = canvas.view.scale
    QApplication.sendEvent(canvas, event)
    assert canvas.view.scale > 1.3 * before
    assert (canvas.where(22) - at).manhattanLength() < 0.5


def test_dragging_moves_the_map_and_keys_bring_it_back(qtbot, canvas):
    show(canvas, grid())
    at = canvas.where(50)
    with qtbot.assertNotEmitted(canvas.clicked):
        drag(canvas, [QPoint(300, 250), QPoint(330, 270), QPoint(360, 300)])
    assert canvas.where(50).x() == pytest.approx(at.x() + 60, abs=0.5)
    assert canvas.where(50).y() == pytest.approx(at.y() + 50, abs=0.5)
    QTest.keyClick(canvas, Qt.Key.Key_Left)
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    QTest.keyClick(canvas, Qt.Key.Key_0)
    assert (canvas.where(50) - at).manhattanLength() < 0.5


def test_escape_gives_up_a_lasso_and_then_asks_to_clear(qtbot, canvas):
    show(canvas, grid())
    canvas.set_tool("lasso")
    QTest.mousePress(canvas, LEFT, NONE, QPoint(100, 100))
    QTest.mouseMove(canvas, QPoint(150, 160))
    with qtbot.assertNotEmitted(canvas.cleared):
        QTest.keyClick(canvas, Qt.Key.Key_Escape)
    with qtbot.assertNotEmitted(canvas.selected):
        QTest.mouseRelease(canvas, LEFT, NONE, QPoint(200, 200))
    with qtbot.waitSignal(canvas.cleared):
        QTest.keyClick(canvas, Qt.Key.Key_Escape)


def test_what_is_under_the_mouse_is_told(qtbot, canvas):
    show(canvas, grid())
    with qtbot.waitSignal(canvas.hovered, check_params_cb=lambda number: number == 71):
        QTest.mouseMove(canvas, canvas.where(71).toPoint())


def test_brackets_set_the_size_of_the_brush(qtbot, canvas):
    show(canvas, grid())
    canvas.set_tool("brush")
    for _ in range(8):
        QTest.keyClick(canvas, Qt.Key.Key_BracketRight)
    with qtbot.waitSignal(canvas.selected) as told:
        QTest.mouseClick(canvas, LEFT, NONE, canvas.where(44).toPoint())
    assert {34, 43, 44, 45, 54} <= set(told.args[0].tolist())


def test_thumbnails_take_the_place_of_points_where_there_is_room(canvas):
    show(canvas, np.random.default_rng(0).random((4000, 2)))
    canvas.set_thumbnails("near")
    image = QImage(40, 30, QImage.Format.Format_RGB32)
    image.fill(0xFF00FF00)
    asked = []
    canvas.picture = lambda number, side: asked.append((number, side)) or image
    canvas.grab()
    assert not canvas.thumbnails.boxes
    canvas.zoom(12)
    pixels = canvas.grab().toImage()
    shown = list(canvas.thumbnails.boxes)
    assert 5 < len(shown) <= MOST_THUMBNAILS
    assert {number for number, _ in asked} == set(shown)
    assert pixels.pixelColor(canvas.where(shown[0]).toPoint()).name() == "#00ff00"
    assert canvas.number_at(canvas.where(shown[0]) + QPointF(12, 0)) == shown[0]


def test_thumbnails_do_not_cover_each_other():
    random = np.random.default_rng(0)
    xs, ys = random.uniform(0, 500, 400), random.uniform(0, 500, 400)
    kept = apart(xs, ys, 40)
    across, down = abs(xs[kept][:, None] - xs[kept]), abs(ys[kept][:, None] - ys[kept])
    assert ((across >= 40) | (down >= 40) | np.eye(len(kept), dtype=bool)).all()
    assert len(kept) > 50


def test_density_names_rings_and_both_themes_draw_without_a_warning(qapp, canvas):
    show(canvas, np.random.default_rng(0).normal(size=(3000, 2)), (np.arange(3000) % 5).astype(np.uint8))
    canvas.set_places([Place("cats", 0.5, 0.5, 10), Place("dogs", 0.5, 0.5, 5)])
    canvas.set_current(3)
    canvas.set_hovered(4)
    canvas.set_chosen(np.arange(3000) < 50)
    points = canvas.grab().toImage()
    canvas.set_density(True)
    assert canvas.grab().toImage() != points
    theme.use("dark")
    assert canvas.grab().toImage().pixelColor(2, 2) == theme.colours().canvas
    theme.use("light")
    assert canvas.grab().toImage().pixelColor(2, 2) == theme.colours().canvas


def test_an_emphasised_colour_stands_out(canvas):
    show(canvas, grid(), (np.arange(100) % 2).astype(np.uint8))
    canvas.set_emphasis(1)
    image = canvas.grab().toImage()
    assert image.pixelColor(canvas.where(51).toPoint()).getRgb()[:3] == tuple(theme.category_colours(2)[1].tolist())
    assert image.pixelColor(canvas.where(50).toPoint()).getRgb()[:3] != tuple(theme.category_colours(2)[0].tolist())


def test_a_map_turns_into_the_next_one_and_ends_exactly_there(qtbot):
    canvas = ScatterCanvas()
    qtbot.addWidget(canvas)
    canvas.resize(300, 300)
    canvas.show()
    show(canvas, grid())
    canvas.set_cloud(Cloud.of(in_unit_square(grid()[::-1].copy())))
    canvas.grab()
    assert canvas.number_at(canvas.where(0)) == -1  # on its way
    qtbot.waitUntil(lambda: canvas.number_at(canvas.where(0)) == 0, timeout=3000)


def test_no_map_at_all_is_drawn_as_ground(canvas):
    canvas.set_cloud(None)
    assert canvas.grab().toImage().pixelColor(100, 100) == theme.colours().canvas
    canvas.fit()
    canvas.zoom(2)
    assert canvas.number_at(QPointF(10, 10)) == -1


def test_zooming_keeps_a_place_still_all_the_way():
    start, end = View(0.5, 0.5, 100), View(0.5 + 0.1 * (1 - 100 / 400), 0.5, 400)
    for share in (0.0, 0.3, 0.7, 1.0):
        view = between(start, end, share)
        assert view.to_screen(0.6, 0.5, 200, 200)[0] == pytest.approx(110)


def test_a_saved_picture_and_a_drawing_show_what_is_seen(canvas):
    show(canvas, grid())
    image = canvas.renderer(QSize(300, 250), 2.0)()
    assert image.size() == QSize(600, 500)
    at = canvas.where(0)
    assert image.pixelColor(at.toPoint()).name() != theme.colours().canvas.name()
    x, y, numbers, _colours, _diameter = canvas.points_in(QSize(300, 250))
    place = numbers.tolist().index(0)
    assert (x[place], y[place]) == pytest.approx((at.x() / 2, at.y() / 2), abs=0.01)


@pytest.mark.parametrize(
    "positions",
    [
        np.zeros((0, 2)),
        np.zeros((1, 2)),
        np.zeros((9, 2)),
        np.stack([np.arange(9.0), np.zeros(9)], axis=1),
        np.full((9, 2), np.nan),
        np.random.default_rng(0).normal(size=(9, 2)) * 1e30,
    ],
)
def test_maps_of_any_shape_are_drawn_at_any_size(canvas, positions):
    show(canvas, positions)
    for size in (QSize(1, 1), QSize(5, 300), QSize(600, 500)):
        canvas.resize(size)
        for is_dense in (True, False):
            canvas.set_density(is_dense)
            canvas.grab()
        canvas.zoom(1000)
        assert not canvas.renderer(QSize(200, 150))().isNull()


def test_a_map_of_other_pictures_forgets_what_was_said_of_those_before(canvas):
    show(canvas, grid())
    canvas.set_shown(np.arange(100) < 50)
    canvas.set_chosen(np.arange(100) < 10)
    canvas.set_current(90)
    canvas.set_cloud(Cloud.of(in_unit_square(grid(4))))
    canvas.grab()
    assert canvas.number_at(canvas.where(15)) == 15
