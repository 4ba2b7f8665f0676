from types import SimpleNamespace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QDrag, QHelpEvent, QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QToolTip

from dinoviz.drops import OWN_IDS
from dinoviz.session import Session
from dinoviz.table import PictureTable, Words
from dinoviz.widgets.picture import grid as picture_grid
from dinoviz.widgets.picture.cells import Cells
from dinoviz.widgets.picture.grid import PictureGrid

CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
ALT = Qt.KeyboardModifier.AltModifier


class Ready(QObject):
    """Thumbnails that are all there; it notes what is wanted."""

    arrived = Signal(int)

    def __init__(self):
        super().__init__()
        self.wanted = []

    def in_memory(self, picture, side):
        image = QImage(side, side * 3 // 4, QImage.Format.Format_RGB32)
        image.fill(0xFF000000 | picture * 40 % 255)
        return image

    def want(self, _owner, pictures, side):
        self.wanted = list(pictures)
        self.side = side

    def problem(self, _picture):
        return ""


def table_of(n):
    names = [b"p%d.jpg" % i for i in range(1, n + 1)]
    words = Words(np.full(n, -1, np.int32), ())
    return PictureTable(
        ids_N=np.arange(1, n + 1),
        sizes_N=np.full(n, 1000),
        mtimes_N=np.zeros(n, np.int64),
        heights_N=np.full(n, 300, np.int32),
        widths_N=np.full(n, 400, np.int32),
        label=words,
        split=words,
        sub_folder=words,
        problem=words,
        names=b"".join(names),
        starts_N=np.concatenate([[0], np.cumsum([len(name) for name in names])]),
    )


def grid_of(qtbot, n, *, side=96, size=(640, 400)):
    session = Session()
    session._set(table=table_of(n), shown=np.arange(1, n + 1))
    grid = PictureGrid(SimpleNamespace(session=session, thumbnails=Ready()))
    qtbot.addWidget(grid)
    grid.resize(*size)
    grid.set_side(side)
    grid.set_ids(session.state.shown)
    grid.show()
    grid.setFocus()
    QApplication.processEvents()
    return grid


@pytest.fixture
def grid(qtbot):
    return grid_of(qtbot, 200)


def state(grid):
    return grid._session.state


def centre(grid, picture):
    position = int(np.flatnonzero(grid.ids == picture)[0])
    return grid._cells.rect(position, grid._scrolled()).center()


def click(grid, picture, modifiers=Qt.KeyboardModifier.NoModifier):
    QTest.mouseClick(grid.viewport(), Qt.MouseButton.LeftButton, modifiers, centre(grid, picture))


def press(grid, key, modifiers=Qt.KeyboardModifier.NoModifier):
    QTest.keyClick(grid, key, modifiers)


def drag_band(grid, start, end, modifiers=Qt.KeyboardModifier.NoModifier):
    view = grid.viewport()
    QTest.mousePress(view, Qt.MouseButton.LeftButton, modifiers, start)
    QTest.mouseMove(view, (start + end) / 2)
    QTest.mouseMove(view, end)
    QTest.mouseRelease(view, Qt.MouseButton.LeftButton, modifiers, end)


@pytest.mark.parametrize("caption_px", [0, 20])
@pytest.mark.parametrize("width", [60, 333, 1200])
def test_every_cell_is_found_at_its_own_middle(width, caption_px):
    cells = Cells(count=97, side=64, width=width, caption_px=caption_px)
    for position in range(97):
        middle = cells.rect(position, 0).center()
        assert cells.at(middle.x(), middle.y()) == position
    assert cells.rect(96, 0).bottom() < cells.height


def test_a_band_touches_just_the_cells_that_it_meets():
    cells = Cells(count=50, side=40, width=400, caption_px=20)
    rng = np.random.default_rng(0)
    for _ in range(200):
        (x, y), (w, h) = rng.uniform(-50, 500, 2), rng.uniform(0, 300, 2)
        box = QRectF(x, y, w, h)
        met = [i for i in range(50) if QRectF(cells.rect(i, 0)).intersects(box)]
        found = cells.touched(box).tolist()
        assert set(met) <= set(found)
        assert all(QRectF(cells.rect(i, 0)).adjusted(-2, -2, 2, 2).intersects(box) for i in found)


def test_the_rows_of_a_stretch_are_those_that_reach_into_it():
    cells = Cells(count=1000, side=40, width=400, caption_px=0)
    assert cells.between(0, 30).start == 0
    seen = cells.between(500, 900)
    assert cells.rect(seen.start, 500).bottom() >= 0
    assert cells.rect(seen.stop - 1, 500).top() <= 400
    assert cells.between(10_000_000, 10_000_400) == range(1000, 1000)


def test_a_click_selects_a_picture_and_makes_it_current(grid, qtbot):
    with qtbot.waitSignal(grid.current_changed) as told:
        click(grid, 3)
    assert told.args == [3]
    assert (state(grid).current, state(grid).selected.tolist()) == (3, [3])


def test_ctrl_adds_and_takes_away_and_shift_selects_up_to(grid):
    click(grid, 2)
    click(grid, 5, CTRL)
    assert state(grid).selected.tolist() == [2, 5]
    click(grid, 2, CTRL)
    assert state(grid).selected.tolist() == [5]
    click(grid, 7)
    click(grid, 4, SHIFT)
    assert state(grid).selected.tolist() == [4, 5, 6, 7]
    click(grid, 9, SHIFT)
    assert state(grid).selected.tolist() == [7, 8, 9]


def test_a_selection_that_took_a_gesture_comes_back_by_undo(grid):
    click(grid, 2)
    click(grid, 6, SHIFT)
    click(grid, 9)
    assert state(grid).selected.tolist() == [9]
    grid._session.undo()
    assert state(grid).selected.tolist() == [2, 3, 4, 5, 6]


def test_a_click_on_one_of_several_makes_it_current_and_keeps_them(grid):
    click(grid, 2)
    click(grid, 6, SHIFT)
    click(grid, 4)
    assert state(grid).selected.tolist() == [2, 3, 4, 5, 6]
    assert state(grid).current == 4


def test_a_click_beside_the_pictures_selects_nothing(grid):
    click(grid, 2)
    QTest.mouseClick(grid.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(3, 3))
    assert not len(state(grid).selected)


def test_double_click_and_enter_want_to_see_a_picture_large(grid, qtbot):
    with qtbot.waitSignal(grid.activated) as told:
        QTest.mouseDClick(grid.viewport(), Qt.MouseButton.LeftButton, pos=centre(grid, 8))
    assert told.args == [8]
    with qtbot.waitSignal(grid.activated) as told:
        press(grid, Qt.Key.Key_Return)
    assert told.args == [8]


def test_arrows_go_from_picture_to_picture(grid):
    columns = grid.columns
    click(grid, 1)
    press(grid, Qt.Key.Key_Right)
    assert state(grid).current == 2
    press(grid, Qt.Key.Key_Down)
    assert state(grid).current == 2 + columns
    press(grid, Qt.Key.Key_Up)
    press(grid, Qt.Key.Key_Left)
    press(grid, Qt.Key.Key_Left)
    assert state(grid).current == 1
    assert state(grid).selected.tolist() == [1]


def test_end_and_home_and_pages_go_to_what_one_then_sees(grid, qtbot):
    click(grid, 1)
    press(grid, Qt.Key.Key_End)
    assert state(grid).current == 200
    qtbot.waitUntil(lambda: 199 in grid._seen_positions())
    assert grid.viewport().rect().contains(grid._cells.rect(199, grid._scrolled()))
    press(grid, Qt.Key.Key_PageUp)
    assert state(grid).current == 200 - grid.columns * (grid.viewport().height() // grid._cells.pitch_y)
    press(grid, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: grid._scrolled() == 0 or 0 in grid._seen_positions())
    assert state(grid).current == 1


def test_shift_and_arrows_stretch_the_selection_and_shrink_it_again(grid):
    click(grid, 3)
    press(grid, Qt.Key.Key_Right, SHIFT)
    press(grid, Qt.Key.Key_Right, SHIFT)
    assert state(grid).selected.tolist() == [3, 4, 5]
    press(grid, Qt.Key.Key_Left, SHIFT)
    assert state(grid).selected.tolist() == [3, 4]


def test_ctrl_and_arrows_leave_the_selection_and_space_adds_to_it(grid):
    click(grid, 3)
    press(grid, Qt.Key.Key_Right, CTRL)
    press(grid, Qt.Key.Key_Right, CTRL)
    assert (state(grid).current, state(grid).selected.tolist()) == (5, [3])
    press(grid, Qt.Key.Key_Space)
    assert state(grid).selected.tolist() == [3, 5]
    press(grid, Qt.Key.Key_Space)
    assert state(grid).selected.tolist() == [3]


def test_escape_selects_nothing_and_undo_brings_the_selection_back(grid):
    click(grid, 3)
    click(grid, 6, SHIFT)
    press(grid, Qt.Key.Key_Escape)
    assert not len(state(grid).selected)
    assert state(grid).current == 6
    grid._session.undo()
    assert state(grid).selected.tolist() == [3, 4, 5, 6]


def test_ctrl_a_selects_all_that_are_shown(grid):
    grid.set_ids(np.array([5, 9, 7]))
    press(grid, Qt.Key.Key_A, CTRL)
    assert state(grid).selected.tolist() == [5, 7, 9]


def test_a_rubber_band_selects_what_it_touches_and_the_keys_say_how(grid):
    columns = grid.columns
    end = centre(grid, columns + 2)
    drag_band(grid, QPoint(2, 2), end)
    wanted = [1, 2, columns + 1, columns + 2]
    assert state(grid).selected.tolist() == wanted
    drag_band(grid, QPoint(2, 2), centre(grid, 1), ALT)
    assert state(grid).selected.tolist() == wanted[1:]
    drag_band(grid, QPoint(2, 2), centre(grid, 1), SHIFT)
    assert state(grid).selected.tolist() == wanted
    assert state(grid).undo_text


def test_what_a_band_will_select_is_seen_before_it_is_let_go(grid):
    view = grid.viewport()
    QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(2, 2))
    QTest.mouseMove(view, QPoint(30, 30))
    QTest.mouseMove(view, centre(grid, 2))
    assert grid._is_selected(range(4), grid.ids[:4]).tolist() == [True, True, False, False]
    assert not len(state(grid).selected)
    QTest.mouseRelease(view, Qt.MouseButton.LeftButton, pos=centre(grid, 2))


def test_only_what_is_seen_and_its_neighbourhood_is_wanted_the_seen_first(qtbot):
    grid = grid_of(qtbot, 1_000_000)
    grid._scroll_to(grid._cells.height // 2)
    seen = [int(grid.ids[position]) for position in grid._seen_positions()]
    qtbot.waitUntil(lambda: grid._desk.thumbnails.wanted[: len(seen)] == seen)
    assert len(grid._desk.thumbnails.wanted) == 3 * len(seen)
    grid.hide()
    assert grid._desk.thumbnails.wanted == []


def test_the_last_of_ten_million_large_pictures_can_be_reached(qtbot):
    grid = grid_of(qtbot, 1000, side=512)
    grid._session._set(table=PictureTable())
    grid.set_ids(np.arange(1, 10_000_001))
    assert grid._cells.height > 1 << 31
    grid._reveal(9_999_999)
    assert grid._seen_positions()[-1] == 9_999_999
    assert grid._cells.rect(9_999_999, grid._scrolled()).top() < grid.viewport().height()


def test_ctrl_and_the_wheel_zoom_around_the_picture_under_the_mouse(grid):
    grid._scroll_to(700)
    point = centre(grid, int(grid.ids[grid._seen_positions()[grid.columns + 2]]))
    under = grid._position_at(QPointF(point))
    before = grid._cells.rect(under, grid._scrolled()).center().y()
    wheel(grid, point, CTRL)
    assert grid.side > 96
    assert abs(grid._cells.rect(under, grid._scrolled()).center().y() - before) <= grid._cells.pitch_y * 0.1


def wheel(grid, point, modifiers):
    place = QPointF(point)
    around = QPointF(grid.viewport().mapToGlobal(point))
    event = QWheelEvent(
        place, around, QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton, modifiers, Qt.ScrollPhase.NoScrollPhase, False
    )
    QApplication.sendEvent(grid.viewport(), event)


def test_the_wheel_scrolls_smoothly_to_where_it_was_turned(grid, qtbot):
    grid._scroll_to(1000)
    wheel(grid, QPoint(50, 50), Qt.KeyboardModifier.NoModifier)
    assert grid._scrolled() > 900
    goal = 1000 - round(picture_grid.WHEEL_ROWS * grid._cells.pitch_y)
    qtbot.waitUntil(lambda: abs(grid._scrolled() - goal) <= 1)


def test_zoom_stays_within_its_bounds_and_tells_of_each_step(grid, qtbot):
    with qtbot.waitSignal(grid.side_changed) as told:
        grid.zoom(1)
    assert told.args == [grid.side]
    for _ in range(40):
        grid.zoom(1)
    assert grid.side == picture_grid.LARGEST_PX
    for _ in range(60):
        grid.zoom(-1)
    assert grid.side == picture_grid.SMALLEST_PX


def test_a_picture_made_current_elsewhere_is_scrolled_to(grid, qtbot):
    grid._session.set_current(150)
    qtbot.waitUntil(lambda: 149 in grid._seen_positions())
    assert grid.viewport().rect().contains(grid._cells.rect(149, grid._scrolled()))


def test_the_current_picture_stays_where_it_is_when_others_are_shown(grid, qtbot):
    grid._session.set_current(150)
    qtbot.waitUntil(lambda: 149 in grid._seen_positions())
    before = grid._cells.rect(149, grid._scrolled()).top()
    grid.set_ids(np.arange(60, 201))
    assert abs(grid._cells.rect(90, grid._scrolled()).top() - before) <= grid._cells.pitch_y


def test_at_the_top_it_stays_at_the_top_when_the_order_changes(grid):
    click(grid, 2)
    grid.set_ids(grid.ids[::-1].copy())
    assert grid._scrolled() == 0


def test_the_picture_under_the_mouse_is_known_to_all_until_the_mouse_leaves(grid):
    QTest.mouseMove(grid.viewport(), centre(grid, 4))
    assert state(grid).hovered == 4
    QTest.mouseMove(grid.viewport(), QPoint(2, 2))
    assert state(grid).hovered is None


def test_pictures_are_dragged_out_as_files_and_as_ids(grid, monkeypatch):
    dragged = []
    monkeypatch.setattr(QDrag, "exec", lambda drag, *_: dragged.append(drag.mimeData()))
    click(grid, 2)
    click(grid, 3, CTRL)
    view = grid.viewport()
    QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=centre(grid, 2))
    QTest.mouseMove(view, centre(grid, 2) + QPoint(20, 20))
    assert [url.fileName() for url in dragged[0].urls()] == ["p2.jpg", "p3.jpg"]
    assert bytes(dragged[0].data(OWN_IDS).data()) == b"2 3"


def test_the_tooltip_says_what_a_picture_is(grid, monkeypatch):
    shown = []
    monkeypatch.setattr(QToolTip, "showText", lambda _place, text, *_: shown.append(text))
    point = centre(grid, 4)
    QApplication.sendEvent(grid.viewport(), QHelpEvent(QEvent.Type.ToolTip, point, grid.mapToGlobal(point)))
    assert shown == ["p4.jpg\n400 \N{MULTIPLICATION SIGN} 300 px · 1.0 kB"]


def test_its_accessible_name_says_how_many_and_which_one(grid, qtbot):
    click(grid, 3)
    click(grid, 5, CTRL)
    qtbot.waitUntil(lambda: "2 selected" in grid.accessibleName())
    assert grid.accessibleName() == "200 pictures; 2 selected; current: p5.jpg; selected"


def test_without_pictures_it_says_why(grid):
    empty = QLabel("nothing")
    grid.set_empty(empty)
    assert not empty.isVisible()
    grid.set_ids(np.zeros(0, np.int64))
    assert empty.isVisible()
    press(grid, Qt.Key.Key_Down)
    press(grid, Qt.Key.Key_A, CTRL)
    assert not len(state(grid).selected)


def test_selected_and_current_cells_look_different(grid, qtbot):
    plain = grid.grab().toImage()
    click(grid, 3)
    qtbot.waitUntil(lambda: grid._current_position == 2)
    QApplication.processEvents()
    rect = grid._cells.rect(2, 0).translated(grid.viewport().pos())
    assert grid.grab(rect).toImage() != plain.copy(rect)


def test_a_thumbnail_that_arrives_is_drawn_in_its_cell_only(grid, qtbot):
    qtbot.waitUntil(lambda: len(grid._seen) > 3)
    drawn = []
    grid._paint_cell = lambda _drawing, _cell, position, _picture, is_selected: drawn.append(position)
    grid._desk.thumbnails.arrived.emit(3)
    qtbot.waitUntil(lambda: bool(drawn))
    assert drawn == [2]


def test_tags_stars_and_a_problem_are_drawn_on_the_cells(grid, qtbot):
    from engine.marks import Marks

    plain = grid.grab().toImage()
    grid._session._set(marks=Marks(ratings={1: 4}, tags={"a": frozenset({2})}, labels={3: "x"}))
    QApplication.processEvents()
    marked = grid.grab().toImage()
    for position in range(4):
        rect = grid._cells.rect(position, 0).translated(grid.viewport().pos())
        assert (marked.copy(rect) == plain.copy(rect)) == (position == 3)
