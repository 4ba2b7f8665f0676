from itertools import pairwise
from shutil import copytree

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit, QListView

from dinoviz.facets import FACETS
from dinoviz.query import Query
from dinoviz.widgets.pills import WordPopup
from dinoviz.window.filter_bar import FilterBar
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned

pytestmark = pytest.mark.qt_log_ignore(r"This plugin does not support (raise\(\)|grabbing the keyboard)", extend=True)
FACET = {facet.name: facet for facet in FACETS}


@pytest.fixture(scope="module")
def scanned_once(tmp_path_factory):
    return scanned(tmp_path_factory.mktemp("filter"), 12, ("cat", "dog", "fox"), broken=1)


@pytest.fixture
def desk(qtbot, tmp_path, scanned_once):
    with made_desk(qtbot) as desk:
        desk.session.open(copytree(scanned_once, tmp_path / "p.dinoviz"))
        qtbot.waitUntil(lambda: len(desk.session.state.shown) == 12)
        yield desk


@pytest.fixture
def bar(desk, qtbot):
    bar = FilterBar(desk)
    qtbot.addWidget(bar)
    bar.resize(1000, 44)
    bar.show()
    qtbot.waitUntil(lambda: bar._count.text() == "12 of 13")
    return bar


def popup_of(bar, qtbot, name):
    bar._open(FACET[name], bar._add)
    popup = bar._popup
    view = popup.findChild(QListView)
    qtbot.waitUntil(lambda: view.isVisible() or popup._none.text() != "Counting…")
    return popup, view


def click_row(view, row):
    place = view.visualRect(view.model().index(row, 0)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)


def chips(bar):
    return [chip._text.accessibleName() for chip in bar._chips.chips.values()]


def test_typing_searches_after_a_pause_and_once(bar, desk, qtbot):
    asked = []
    desk.session.changed.connect(lambda names: "query" in names and asked.append(desk.session.state.query.text))
    QTest.keyClicks(bar.findChild(QLineEdit), "p0")
    qtbot.waitUntil(lambda: desk.session.state.query.text == "p0")
    assert asked == ["p0"]
    qtbot.waitUntil(lambda: bar._count.text() == "10 of 13")


def test_the_values_of_a_facet_have_their_counts_and_are_ticked_by_click(bar, desk, qtbot):
    popup, view = popup_of(bar, qtbot, "labels")
    texts = [view.model().index(i, 0).data(Qt.ItemDataRole.AccessibleTextRole) for i in range(3)]
    assert texts[0] == "cat, 4 pictures, not ticked"
    click_row(view, 0)
    click_row(view, 2)
    assert desk.session.state.query.labels == ("cat", "fox")
    assert popup.isVisible()
    qtbot.waitUntil(lambda: chips(bar) == ["Label: cat, fox"])
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == 8)
    click_row(view, 0)
    assert desk.session.state.query.labels == ("fox",)
    popup.close()


def test_values_are_ticked_by_keys_too(bar, desk, qtbot):
    popup, view = popup_of(bar, qtbot, "labels")
    QTest.keyClick(view, Qt.Key.Key_Down)
    QTest.keyClick(view, Qt.Key.Key_Space)
    assert desk.session.state.query.labels == ("dog",)
    popup.close()


def test_a_long_list_can_be_searched(bar, desk, qtbot):
    for i in range(12):
        desk.session.tag([i + 1], f"tag {i}")
    popup, view = popup_of(bar, qtbot, "tags")
    qtbot.waitUntil(lambda: popup._search.isVisible())
    QTest.keyClicks(popup._search, "11")
    assert view.model().rowCount() == 1
    QTest.keyClick(popup._search, Qt.Key.Key_Return)
    assert desk.session.state.query.tags == ("tag 11",)
    popup.close()


def test_one_of_several_closes_the_list(bar, desk, qtbot):
    _popup, view = popup_of(bar, qtbot, "problem")
    click_row(view, 0)
    assert desk.session.state.query.problem == "unreadable"
    assert bar._popup is None
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == 1)


def test_what_there_is_nothing_of_says_how_it_is_made(bar, desk, qtbot):
    popup, view = popup_of(bar, qtbot, "among")
    assert not view.isVisible()
    assert desk.actions.keys("selection.keep") in popup._none.text()
    popup.close()


def test_a_chip_is_removed_by_its_cross_and_clear_removes_all(bar, desk, qtbot):
    desk.session.set_query(Query(labels=("cat",), rating=2, text="p"))
    qtbot.waitUntil(lambda: len(chips(bar)) == 2)
    QTest.mouseClick(bar._chips.chips["labels"]._cross, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: chips(bar) == ["Rating: ★★ and more"])
    QTest.mouseClick(bar._clear_button, Qt.MouseButton.LeftButton)
    assert desk.session.state.query == Query()
    qtbot.waitUntil(lambda: not chips(bar) and not bar._clear_button.isVisible())


def test_many_chips_share_the_room_there_is(bar, desk, qtbot):
    desk.session.set_query(
        Query(labels=("cat", "dog"), tags=("a long tag", "another"), rating=3, folders=("cat", "dog"), problem="all")
    )
    qtbot.waitUntil(lambda: len(chips(bar)) == 5)
    rects = [chip.geometry() for chip in bar._chips.chips.values()]
    assert all(a.right() < b.left() for a, b in pairwise(rects))
    assert rects[-1].right() <= bar._chips.width()


def test_only_selected_shows_what_is_selected_now_until_it_is_released(bar, desk, qtbot):
    assert not bar._only.isEnabled()
    desk.session.select([2, 5])
    qtbot.waitUntil(lambda: bar._only.isEnabled())
    QTest.mouseClick(bar._only, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: sorted(desk.session.state.shown.tolist()) == [2, 5])
    qtbot.waitUntil(lambda: bar._only.isChecked())
    QTest.mouseClick(bar._only, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == 12)


def test_a_selection_is_kept_under_a_name_and_shown_again(bar, desk, qtbot):
    desk.session.select([1, 4, 6])
    desk.actions.trigger("selection.keep")
    popup = bar.findChild(WordPopup)
    QTest.keyClicks(popup._field, "good ones")
    QTest.keyClick(popup._field, Qt.Key.Key_Return)
    assert desk.session.state.marks.selections == {"good ones": (1, 4, 6)}
    qtbot.wait(50)  # until the window has the focus again
    _popup, view = popup_of(bar, qtbot, "among")
    click_row(view, 0)
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == 3)
    qtbot.waitUntil(lambda: chips(bar) == ["Kept selection: good ones"])


def test_a_kept_selection_is_forgotten_by_delete_and_comes_back_by_undo(bar, desk, qtbot):
    desk.session.select([1, 4])
    desk.session.save_selection("good ones")
    popup, view = popup_of(bar, qtbot, "among")
    QTest.keyClick(view, Qt.Key.Key_Delete)
    assert desk.session.state.marks.selections == {}
    qtbot.waitUntil(lambda: not view.isVisible())
    desk.session.undo()
    assert desk.session.state.marks.selections == {"good ones": (1, 4)}
    popup.close()


def test_the_field_follows_the_session_but_not_while_one_types(bar, desk, qtbot):
    field = bar.findChild(QLineEdit)
    desk.session.set_query(Query(text="dog"))
    qtbot.waitUntil(lambda: field.text() == "dog")
    QTest.keyClicks(field, "gy")
    desk.session.tag([1], "x")
    qtbot.wait(30)
    assert field.text() == "doggy"
