from shutil import copytree

import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from dinoviz.controls import EmptyState
from dinoviz.query import Query
from dinoviz.views.library.view import LibraryView
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned, with_features

pytestmark = pytest.mark.qt_log_ignore(r"This plugin does not support (raise\(\)|grabbing the keyboard)", extend=True)
BROKEN = 2


@pytest.fixture(scope="module")
def scanned_once(tmp_path_factory):
    folder = scanned(tmp_path_factory.mktemp("library"), 10, ("cat", "dog"), broken=BROKEN)
    with_features(folder)
    return folder


@pytest.fixture
def desk(qtbot):
    with made_desk(qtbot) as desk:
        yield desk


@pytest.fixture
def library(desk, qtbot, tmp_path, scanned_once):
    view = LibraryView(desk)
    qtbot.addWidget(view)
    view.resize(900, 600)
    view.show()
    desk.session.open(copytree(scanned_once, tmp_path / "p.dinoviz"))
    qtbot.waitUntil(lambda: len(view._grid.ids) == 10)
    return view


def empty_text(view):
    state = view.findChild(EmptyState)
    return state._title.text() if state is not None and state.isVisible() else ""


def press_empty_button(view):
    QTest.mouseClick(view.findChild(EmptyState).button, Qt.MouseButton.LeftButton)


def order(view, sort):
    next(action for action in view._sorts.actions() if action.data() == sort).trigger()


def test_without_a_project_it_offers_to_open_one(desk, qtbot):
    view = LibraryView(desk)
    qtbot.addWidget(view)
    view.show()
    asked = []
    desk.actions.bind("file.open", lambda: asked.append(True))
    assert empty_text(view) == "No project is open"
    press_empty_button(view)
    assert asked


def test_when_nothing_matches_the_filter_can_be_cleared(library, desk, qtbot):
    desk.session.set_query(Query(text="no such name"))
    qtbot.waitUntil(lambda: empty_text(library) == "No picture matches the filter")
    press_empty_button(library)
    qtbot.waitUntil(lambda: len(library._grid.ids) == 10)
    assert empty_text(library) == ""


def test_a_folder_without_pictures_says_so(desk, qtbot, tmp_path):
    (tmp_path / "empty" / "photos").mkdir(parents=True)
    view = LibraryView(desk)
    qtbot.addWidget(view)
    view.show()
    desk.session.open(scanned(tmp_path / "empty", 0))
    qtbot.waitUntil(lambda: empty_text(view) == "No pictures in this folder")


@pytest.mark.parametrize(
    ("sort", "key"), [("size", "sizes_N"), ("date", "mtimes_N"), ("label", None), ("rating", None), ("pixels", None)]
)
def test_pictures_are_put_in_the_order_that_was_chosen(library, desk, qtbot, sort, key):
    desk.session.rate([3, 7], 5)
    order(library, sort)
    qtbot.waitUntil(lambda: library._grid.ids is desk.session.state.shown and desk.session.state.query.sort == sort)
    qtbot.wait(20)
    state = desk.session.state
    if key:
        values = getattr(state.table, key)[state.table.rows_of(library._grid.ids)]
        assert (values[:-1] >= values[1:]).all()
    if sort == "rating":
        assert sorted(library._grid.ids[:2].tolist()) == [3, 7]
    first = library._grid.ids[0]
    QTest.mouseClick(library._turn, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: state.query.descending != desk.session.state.query.descending)
    if sort == "size":
        qtbot.waitUntil(lambda: library._grid.ids[-1] == first)


def test_ordered_by_similarity_the_picture_itself_comes_first_and_stays_when_one_goes_on(library, desk, qtbot):
    desk.session.set_current(6)
    order(library, "similarity")
    qtbot.waitUntil(lambda: library._grid.ids[0] == 6)
    before = library._grid.ids
    desk.session.set_current(int(before[3]))
    qtbot.wait(50)
    assert library._grid.ids is before


def test_the_slider_and_the_keys_zoom_and_the_size_is_remembered(library, desk, qtbot):
    library._slider.setValue(32)
    assert library._grid.side == 256
    assert desk.session.state.choices.library.side_px == 256
    desk.actions.trigger("library.smaller")
    assert desk.session.state.choices.library.side_px < 256
    qtbot.waitUntil(lambda: library._slider.value() == library._grid.side // 8)


def test_files_that_cannot_be_read_are_listed_with_their_reason(library, desk, qtbot):
    qtbot.waitUntil(lambda: library._bad.isVisible())
    assert library._bad.text() == "2 files cannot be read"
    QTest.mouseClick(library._bad, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: library._unreadable.isVisible())
    model = library._unreadable._model
    rows = [[model.index(row, column).data() for column in range(4)] for row in range(model.rowCount())]
    assert [row[0] for row in rows] == ["zz0.jpg", "zz1.jpg"]
    assert all(row[1] for row in rows)
    library._unreadable._table.selectRow(1)
    assert desk.session.state.table.name(desk.session.state.current) == "zz1.jpg"


def test_trying_again_finds_what_was_mended(library, desk, qtbot):
    desk.actions.trigger("library.unreadable")
    qtbot.waitUntil(lambda: library._unreadable.isVisible())
    Image.new("RGB", (40, 30), "red").save(desk.session.state.pictures_folder / "zz0.jpg")
    retry = next(b for b in library._unreadable.findChildren(QPushButton) if b.text() == "Try again")
    with qtbot.waitSignal(desk.jobs.ended, timeout=30_000):
        QTest.mouseClick(retry, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: library._unreadable._model.rowCount() == 1, timeout=5000)


def test_what_was_left_out_is_shown_when_asked_for_and_taken_back(library, desk, qtbot):
    desk.session.hide([2, 3])
    qtbot.waitUntil(lambda: len(library._grid.ids) == 8)
    desk.actions.trigger("library.left_out")
    qtbot.waitUntil(lambda: sorted(library._grid.ids.tolist()) == [2, 3])
    desk.session.restore([2, 3])
    qtbot.waitUntil(lambda: empty_text(library) == "Nothing was left out")


def test_selected_pictures_that_the_filter_hides_are_told(library, desk, qtbot):
    desk.session.select([1, 2, 3, 4])
    label = desk.session.state.table.label_of(1)
    desk.session.set_query(Query(labels=({"cat": "dog", "dog": "cat"}[label],)))
    qtbot.waitUntil(lambda: library._unseen.isVisible())
    n = sum(desk.session.state.table.label_of(i) == label for i in (1, 2, 3, 4))
    qtbot.waitUntil(lambda: library._unseen.text() == f"{n} selected outside the filter")


def test_the_menu_offers_only_what_can_be_done(library, desk):
    menu = library._menu()
    offered = {action.text(): action.isEnabled() for action in menu.actions() if action.text()}
    assert not offered["Tag…"]
    menu.aboutToHide.emit()
    assert all(action.isEnabled() for action in menu.actions())
    desk.session.select([1])
    assert {action.text(): action.isEnabled() for action in library._menu().actions()}["Tag…"]
