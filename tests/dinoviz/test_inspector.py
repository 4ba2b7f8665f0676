from shutil import copytree

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from dinoviz.widgets.pills import Pill, Stars, TagField, WordField
from dinoviz.window.inspector import LABELS_SHOWN, Inspector, _Bars, _said
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned, with_features


@pytest.fixture(scope="module")
def scanned_once(tmp_path_factory):
    folder = scanned(tmp_path_factory.mktemp("inspector"), 12, ("cat", "dog"))
    with_features(folder)
    return folder


@pytest.fixture
def desk(qtbot, tmp_path, scanned_once):
    with made_desk(qtbot) as desk:
        desk.session.open(copytree(scanned_once, tmp_path / "p.dinoviz"))
        qtbot.waitUntil(lambda: len(desk.session.state.shown) == 12)
        yield desk


@pytest.fixture
def panel(desk, qtbot):
    panel = Inspector(desk)
    qtbot.addWidget(panel)
    panel.resize(300, 900)
    panel.show()
    return panel


def look_at(desk, panel, qtbot, picture):
    desk.session.set_current(picture)
    name = desk.session.state.table.name(picture)
    qtbot.waitUntil(lambda: panel._one._name.toolTip() == name)


def texts(panel):
    return [label.text() for label in panel._one.findChildren(QLabel) if label.isVisible()]


def star(stars, n):
    QTest.mouseClick(stars, Qt.MouseButton.LeftButton, pos=QPoint(24 * n - 10, 14))


def type_word(field, word):
    field.selectAll()
    QTest.keyClicks(field, word)
    QTest.keyClick(field, Qt.Key.Key_Return)


def test_without_a_picture_it_says_what_it_is_for(panel):
    assert panel._nothing.isVisible()
    assert not panel._one.isVisible()


def test_it_tells_what_is_known_of_the_current_picture(desk, panel, qtbot):
    look_at(desk, panel, qtbot, 3)
    found = texts(panel)
    assert "80 \N{MULTIPLICATION SIGN} 60" in found
    assert panel._one._folder.text() == "cat"
    assert panel._one.findChild(WordField).text() == "cat"


def test_it_tells_when_and_with_what_a_picture_was_taken(desk, panel, qtbot):
    exif = Image.Exif()
    exif[271], exif[272] = "Canon", "Canon EOS 5D"
    exif.get_ifd(0x8769)[36867] = "2024:05:17 14:03:11"
    Image.new("RGB", (80, 60)).save(desk.session.state.table.file(2), exif=exif)
    look_at(desk, panel, qtbot, 2)
    qtbot.waitUntil(lambda: "2024-05-17 14:03" in texts(panel))
    assert "Canon EOS 5D" in texts(panel)


def test_stars_are_given_by_click_and_taken_by_the_same_click(desk, panel, qtbot):
    look_at(desk, panel, qtbot, 3)
    stars = panel._one.findChild(Stars)
    star(stars, 4)
    assert desk.session.state.marks.ratings == {3: 4}
    qtbot.waitUntil(lambda: stars.accessibleName() == "Rating: 4 stars")
    star(stars, 4)
    assert desk.session.state.marks.ratings == {}
    QTest.keyClick(stars, Qt.Key.Key_2)
    assert desk.session.state.marks.ratings == {3: 2}


def test_a_label_is_corrected_and_the_folders_comes_back(desk, panel, qtbot):
    look_at(desk, panel, qtbot, 3)
    section = panel._one._marks
    assert not section._revert.isVisible()
    type_word(section._label, "tiger")
    assert desk.session.state.marks.labels == {3: "tiger"}
    qtbot.waitUntil(lambda: section._revert.isVisible())
    QTest.mouseClick(section._revert, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: section._label.text() == "cat" or section._label.hasFocus())
    qtbot.waitUntil(lambda: desk.session.state.table.label_of(3) == "cat")


def test_escape_leaves_the_label_as_it_was(desk, panel, qtbot):
    look_at(desk, panel, qtbot, 3)
    field = panel._one._marks._label
    QTest.keyClicks(field, "zzz")
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert field.text() == "cat"
    assert desk.session.state.marks.labels == {}


def test_tags_are_added_by_typing_and_taken_off_by_their_cross(desk, panel, qtbot):
    look_at(desk, panel, qtbot, 3)
    tags = panel._one.findChild(TagField)
    type_word(tags.field, "blurry")
    assert desk.session.state.marks.tags == {"blurry": frozenset({3})}
    qtbot.waitUntil(lambda: tags.findChild(Pill) is not None)
    pill = tags.findChild(Pill)
    cross = pill.layout().itemAt(2).widget()
    assert cross.accessibleName() == "Take off the tag blurry"
    QTest.mouseClick(cross, Qt.MouseButton.LeftButton)
    assert desk.session.state.marks.tags == {}


def test_of_several_it_tells_what_they_have_in_common_and_changes_all(desk, panel, qtbot):
    desk.session.rate([1, 2, 3], 3)
    desk.session.tag([1, 2], "blurry")
    desk.session.select([1, 2, 3])
    many = panel._many
    qtbot.waitUntil(lambda: many._title.text() == "3 selected" and many._bars.accessibleName() != "")
    assert many._marks._stars.accessibleName() == "Rating: 3 stars"
    assert many.findChild(Pill)._text.text() == "blurry  2"
    star(many._marks._stars, 5)
    assert desk.session.state.marks.ratings == {1: 5, 2: 5, 3: 5}
    type_word(many._marks._tags.field, "logo")
    assert desk.session.state.marks.tags["logo"] == frozenset({1, 2, 3})


def test_what_is_said_of_many_is_counted_right(desk):
    session = desk.session
    session.rate([1], 2)
    session.label([2], "fox")
    session.tag([1, 2, 5], "x")
    said = _said(np.array([1, 2, 3, 4]), session.state.table, session.state.marks)
    labels = [session.state.table.label_of(i) for i in (1, 2, 3, 4)]
    assert said.stars == -1
    assert said.tags == {"x": 2}
    assert (said.n_corrected, said.n_labels) == (1, len(set(labels)))
    assert dict(said.labels) == {label: labels.count(label) for label in labels}


def test_the_nearest_pictures_are_those_of_greatest_cosine(desk, panel, qtbot):
    from dinoviz.features import likeness_to

    state = desk.session.state
    look_at(desk, panel, qtbot, 4)
    alike = panel._one._alike
    qtbot.waitUntil(lambda: len(alike._grid.ids) > 0)
    likeness = likeness_to(4, state.set_row.folder, state.table)
    likeness[state.table.row_of(4)] = -np.inf
    best = state.table.ids_N[np.argsort(-likeness)][: len(alike._grid.ids)]
    assert alike._grid.ids.tolist() == best.tolist()
    cell = alike._grid._cells.rect(0, 0).center()
    QTest.mouseClick(alike._grid.viewport(), Qt.MouseButton.LeftButton, pos=cell)
    assert desk.session.state.current == best[0]


def test_without_features_it_says_where_they_are_made(qtbot, tmp_path):
    folder = scanned(tmp_path, 3)
    with made_desk(qtbot) as desk:
        desk.session.open(folder)
        panel = Inspector(desk)
        qtbot.addWidget(panel)
        panel.show()
        qtbot.waitUntil(lambda: len(desk.session.state.shown) == 3)
        look_at(desk, panel, qtbot, 1)
        assert "Find or Map" in panel._one._alike._hint.text()


def test_labels_beyond_the_most_frequent_are_counted_as_one_or_several(qtbot):
    bars = _Bars()
    qtbot.addWidget(bars)
    counts = tuple((f"label {i}", 9 - i) for i in range(LABELS_SHOWN + 2))
    bars.show_counts(counts[:-1])
    assert ", 1 other " in bars.accessibleName()
    bars.show_counts(counts)
    assert ", 2 others " in bars.accessibleName()
