"""Find as a person works with it: real pictures, the real services, mouse and keys."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from dinoviz.find_queries import Asked
from dinoviz.session import State
from dinoviz.views.find import FindView
from engine.finding.parts import make_part_index
from engine.project import Project
from engine.terminal import run
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned

PHOTOS = Path(__file__).parents[2] / "resources" / "photos"
WAIT_MS = 20_000
SIZE = (1200, 760)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Bundled photos in two splits with copies among them; set 1 of crops with all lists, set 2 of whole pictures."""
    folder = tmp_path_factory.mktemp("find")
    photos = folder / "photos"
    for kind in ("hat", "shoes", "pants"):
        shutil.copytree(PHOTOS / kind, photos / "train" / kind)
    hat, shoe = sorted((photos / "train" / "hat").iterdir())[0], sorted((photos / "train" / "shoes").iterdir())[0]
    (photos / "test" / "hat").mkdir(parents=True)
    with Image.open(hat) as picture:
        picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(photos / "test" / "hat" / "small.png")
    shutil.copy(shoe, photos / "train" / "pants" / "shoe.jpg")
    common = ["--device", "cpu", "--quiet"]
    assert run(["embed", str(photos), "--model", "bundled", "--patches", "--side", "96", *common]) == 0
    assert run(["embed", str(photos), "--model", "bundled", *common]) == 0
    project = folder / "photos.dinoviz"
    for verb in (["duplicates", "--threshold", "0.5"], ["oddities"]):
        assert run([verb[0], str(project), "--set", "2", *verb[1:], "--quiet"]) == 0
    with Project.at(project) as opened:
        make_part_index(opened.features("1"), lambda _message: None)
    return project


@pytest.fixture
def project(kept, tmp_path) -> Path:
    """A copy of the project that a test may change."""
    shutil.copytree(kept, tmp_path / kept.name)
    return tmp_path / kept.name


class Finder:
    """The view on a desk of its own."""

    def __init__(self, qtbot, desk, project: Path, part: str, number: int | None = None) -> None:
        self.qtbot, self.desk, self.session = qtbot, desk, desk.session
        self.session.open(project)
        self.session.go("find")
        qtbot.waitUntil(lambda: len(self.state.shown) > 0, timeout=WAIT_MS)
        if number:
            self.session.use_set(number)
        self.session.choose(find=replace(self.state.choices.find, part=part))
        self.view = FindView(desk)
        qtbot.addWidget(self.view)
        self.view.resize(*SIZE)
        self.view.show()
        for name in ("picture.look",):
            desk.actions.bind(name, lambda: self.session.go("look"))
        self.search = self.view.findChild(type(self.view._search))
        if part != "search":
            self.panel = self.view._work[part]
            qtbot.waitUntil(lambda: len(self.panel.work) > 0, timeout=WAIT_MS)

    @property
    def state(self) -> State:
        return self.session.state

    def named(self, end: str) -> int:
        table = self.state.table
        return next(int(i) for i in table.ids_N if table.path(int(i)).endswith(end))

    def found(self, asked: Asked):
        """Ask, and wait for the answer."""
        self.search._area.ask(asked)
        self.qtbot.waitUntil(
            lambda: self.search.found.asked == asked and len(self.search.found.ids) > 0, timeout=WAIT_MS
        )
        return self.search.found

    def press(self, key: Qt.Key) -> None:
        """Do what a key does, as the window's shortcuts would."""
        names = [row.id for row in self.desk.actions.rows() if row.place == "find"]
        sequence = Qt.Key(key).name.removeprefix("Key_")
        (name,) = [name for name in names if self.desk.actions.keys(name) == sequence]
        self.desk.actions.trigger(name)
        self.qtbot.wait(10)


@pytest.fixture
def finder(qtbot, project):
    with made_desk(qtbot) as desk:
        yield lambda part, number=None: Finder(qtbot, desk, project, part, number)


def test_a_picture_leads_to_others_and_back(finder, qtbot):
    here = finder("search", 2)
    first = here.named("small.png")
    here.session.set_current(first)
    here.desk.actions.trigger("find.use_current")
    qtbot.waitUntil(lambda: len(here.search.found.ids) > 0, timeout=WAIT_MS)
    found = here.search.found
    assert first not in found.ids
    assert found.likeness[int(found.ids[0])] > 0.8
    assert here.state.table.label_of(int(found.ids[0])) == "hat"
    assert sorted(found.likeness.values(), reverse=True) == [found.likeness[int(i)] for i in found.ids]
    here.session.set_current(int(found.ids[2]))
    here.press(Qt.Key.Key_M)
    qtbot.waitUntil(lambda: here.search.found.asked.pictures == (int(found.ids[2]),), timeout=WAIT_MS)
    here.desk.actions.trigger("find.back")
    qtbot.waitUntil(lambda: here.search.found.asked.pictures == (first,), timeout=WAIT_MS)
    assert here.search.found.ids.tolist() == found.ids.tolist()
    assert here.desk.actions.can("find.forward")


def test_results_follow_what_is_left_out_and_the_filter(finder, qtbot):
    here = finder("search", 2)
    found = here.found(Asked(pictures=(here.named("small.png"),)))
    gone = int(found.ids[0])
    here.session.hide([gone])
    qtbot.waitUntil(lambda: gone not in here.search.found.ids, timeout=WAIT_MS)
    here.session.set_query(replace(here.state.query, labels=("pants",)))
    here.search._area._among.click()
    qtbot.waitUntil(
        lambda: {here.state.table.label_of(int(i)) for i in here.search.found.ids} == {"pants"}, timeout=WAIT_MS
    )


def test_a_box_drawn_by_the_mouse_finds_the_part(finder, qtbot):
    here = finder("search", 1)
    small = here.named("small.png")
    here.found(Asked(pictures=(small,)))
    canvas = here.search._area._canvas
    qtbot.waitUntil(lambda: canvas.picture is not None, timeout=WAIT_MS)
    target = canvas.target()
    begin = QPoint(int(target.left() + 0.25 * target.width()), int(target.top() + 0.25 * target.height()))
    end = QPoint(int(target.left() + 0.75 * target.width()), int(target.top() + 0.75 * target.height()))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=begin)
    QTest.mouseMove(canvas, (begin + end) / 2)
    QTest.mouseMove(canvas, end)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=end)
    qtbot.waitUntil(lambda: here.search.found.asked.is_part and len(here.search.found.ids) > 0, timeout=WAIT_MS)
    found = here.search.found
    original = here.state.table.name(int(found.ids[0]))
    assert original == sorted((PHOTOS / "hat").iterdir())[0].name
    box = found.boxes[int(found.ids[0])]
    assert np.allclose(box, (0.25, 0.25, 0.75, 0.75), atol=0.12)
    here.desk.actions.trigger("find.whole")
    qtbot.waitUntil(lambda: not here.search.found.asked.is_part, timeout=WAIT_MS)


def test_a_set_without_patches_says_so_and_offers_the_other(finder, qtbot):
    here = finder("search", 2)
    here.search._area.ask(Asked(pictures=(here.named("small.png"),), box=(10, 10, 60, 60)))
    qtbot.waitUntil(
        lambda: here.view.findChild(QPushButton, options=Qt.FindChildOption.FindChildrenRecursively) is not None
    )
    qtbot.waitUntil(lambda: any(b.text() == "Use set 1" for b in here.view.findChildren(QPushButton)), timeout=WAIT_MS)
    next(b for b in here.view.findChildren(QPushButton) if b.text() == "Use set 1").click()
    qtbot.waitUntil(lambda: len(here.search.found.boxes) > 0, timeout=WAIT_MS)
    assert here.state.set == 1


def test_why_is_shown_for_the_result_under_the_mouse(finder, qtbot):
    here = finder("search", 2)
    found = here.found(Asked(pictures=(here.named("small.png"),)))
    grid = here.search._grid
    qtbot.waitUntil(lambda: grid.rect_of(int(found.ids[1])) is not None, timeout=WAIT_MS)
    here.session.hover(int(found.ids[1]))
    here.search._explain()
    why = here.search._why
    qtbot.waitUntil(lambda: why._one.look is not None and why._one.look.heat is not None, timeout=WAIT_MS)
    assert why._other.look.picture == int(found.ids[1])
    assert why.isVisible()
    cell = grid.rect_of(int(found.ids[1]))
    cell.moveTo(grid.viewport().mapTo(why.parentWidget(), cell.topLeft()))
    assert not why.geometry().intersects(cell)
    here.session.hover(None)
    qtbot.waitUntil(lambda: not why.isVisible(), timeout=WAIT_MS)


def test_pictures_from_elsewhere_are_looked_for_by_paste(finder, qtbot, tmp_path):
    here = finder("search", 2)
    path = here.state.table.file(here.named("shoe.jpg"))
    QGuiApplication.clipboard().setImage(QImage(str(path)).scaledToWidth(150))
    here.desk.actions.trigger("find.paste")
    qtbot.waitUntil(lambda: len(here.search.found.ids) > 0, timeout=WAIT_MS)
    (pasted,) = here.search.found.asked.files
    assert Path(pasted).is_relative_to(here.state.project)
    best = [here.state.table.name(int(i)) for i in here.search.found.ids[:2]]
    assert "shoe.jpg" in best


def test_an_unreadable_question_is_said_in_words(finder, qtbot, tmp_path):
    here = finder("search", 2)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    here.search._area.ask(Asked(pictures=(str(tmp_path / "broken.jpg"),)))
    words = lambda: " ".join(label.text() for label in here.search._message.findChildren(type(here.search._said)))  # noqa: E731
    qtbot.waitUntil(lambda: "cannot be read" in words(), timeout=WAIT_MS)


def test_copies_are_worked_through_with_keys_and_undone(finder, qtbot):
    here = finder("duplicates", 2)
    panel = here.panel
    table = here.state.table
    rows = {frozenset(table.name(p) for p in row.pictures): row for row in panel.work.rows}
    (leak,) = [row for names, row in rows.items() if "small.png" in names]
    assert leak.splits(table) == ("test", "train")
    first = panel.in_hand
    here.press(Qt.Key.Key_2)
    assert here.state.marks.hidden == set(first.pictures) - {first.pictures[1]}
    assert panel.work.n_done == 1
    assert panel.in_hand != first
    second = panel.in_hand
    here.press(Qt.Key.Key_K)
    assert len(here.state.marks.verdicts) == 1
    assert panel.work.n_done == 2
    here.session.undo()
    qtbot.waitUntil(lambda: panel.work.n_done == 1, timeout=WAIT_MS)
    assert panel.in_hand == second
    here.press(Qt.Key.Key_Return)
    assert second.pictures[0] not in here.state.marks.hidden
    assert set(second.pictures[1:]) <= here.state.marks.hidden


def test_the_likeness_slider_regroups_at_once(finder, qtbot):
    here = finder("duplicates", 2)
    n = len(here.panel.work)
    here.panel._choose_likeness(1.0)
    qtbot.waitUntil(lambda: 0 < len(here.panel.work) < n, timeout=WAIT_MS)
    assert all(row.group.likeness == 1 for row in here.panel.work.rows)
    here.panel._choose_likeness(0.1)
    qtbot.waitUntil(lambda: len(here.panel.work) == n, timeout=WAIT_MS)


def test_labels_are_confirmed_corrected_and_typed(finder, qtbot):
    here = finder("labels", 2)
    panel = here.panel
    doubt = panel.in_hand.suspect
    assert {doubt.label, doubt.likely} == {"shoes", "pants"}
    assert doubt.copy is not None
    here.press(Qt.Key.Key_Return)
    assert here.state.marks.labels == {doubt.picture: doubt.likely}
    here.session.undo()
    qtbot.waitUntil(lambda: panel.work.n_done == 0 and panel.in_hand.suspect == doubt, timeout=WAIT_MS)
    here.press(Qt.Key.Key_L)
    QTest.keyClicks(panel._field, "ha")
    QTest.keyClick(panel._field, Qt.Key.Key_Return)
    assert here.state.marks.labels == {doubt.picture: "hat"}
    assert panel.in_hand.suspect != doubt
    here.press(Qt.Key.Key_K)
    assert len(here.state.marks.verdicts) == 1


def test_outliers_show_their_neighbours(finder, qtbot):
    here = finder("outliers", 2)
    panel = here.panel
    qtbot.waitUntil(lambda: panel._tiles[0].isVisible() and panel._tiles[0].look is not None, timeout=WAIT_MS)
    assert isinstance(panel._tiles[0].look.picture, int)
    assert here.state.current == panel.in_hand.pictures[0]
    here.press(Qt.Key.Key_H)
    assert len(here.state.marks.hidden) == 1


def test_typical_pictures_are_shown_by_class(finder, qtbot):
    here = finder("outliers", 2)
    here.session.choose(find=replace(here.state.choices.find, part="typical"))
    typical = here.view._typical
    qtbot.waitUntil(typical.isVisible, timeout=WAIT_MS)
    assert [row.label for row in typical._rows] == ["hat", "pants", "shoes"]
    QTest.mouseClick(typical.viewport(), Qt.MouseButton.LeftButton, pos=typical._place(1, 0).center())
    assert here.state.current == typical._rows[1].pictures[0]
    QTest.keyClick(typical, Qt.Key.Key_Right)
    assert here.state.current == typical._rows[1].pictures[1]


@pytest.mark.parametrize(("part", "verb"), [("duplicates", "duplicates"), ("labels", "oddities")])
def test_what_was_not_looked_for_yet_is_looked_for_by_one_button(qtbot, project, part, verb):
    for name in ("duplicates.json", "oddities.json"):
        (project / "sets" / "0002" / name).unlink()
    with made_desk(qtbot) as desk:
        desk.session.open(project)
        desk.session.go("find")
        qtbot.waitUntil(lambda: desk.session.state.set is not None, timeout=WAIT_MS)
        desk.session.use_set(2)
        desk.session.choose(find=replace(desk.session.state.choices.find, part=part))
        view = FindView(desk)
        qtbot.addWidget(view)
        view.show()
        qtbot.waitUntil(
            lambda: any(b.text() == "Look for them" for b in view.findChildren(QPushButton)), timeout=WAIT_MS
        )
        next(b for b in view.findChildren(QPushButton) if b.text() == "Look for them").click()
        assert desk.session.state.jobs[0].argv[:1] == (verb,)
        qtbot.waitUntil(lambda: len(view._work[part].work) > 0, timeout=WAIT_MS)


def test_a_project_without_features_offers_to_compute_them(qtbot, tmp_path):
    folder = scanned(tmp_path, 4)
    with made_desk(qtbot) as desk:
        desk.session.open(folder)
        desk.session.go("find")
        view = FindView(desk)
        qtbot.addWidget(view)
        view.show()
        qtbot.waitUntil(
            lambda: any(b.text() == "Compute features" for b in view.findChildren(QPushButton)), timeout=WAIT_MS
        )
        next(b for b in view.findChildren(QPushButton) if b.text() == "Compute features").click()
        job = desk.session.state.jobs[0]
        assert job.argv[:2] == ("embed", str(folder))
        desk.jobs.stop(job.id)


def test_every_control_that_takes_the_focus_has_a_name(finder, qtbot):
    here = finder("labels", 2)
    nameless = [
        widget
        for widget in here.view.findChildren(QPushButton.__mro__[2])
        if widget.focusPolicy() != Qt.FocusPolicy.NoFocus and widget.isVisible() and not widget.accessibleName()
    ]
    assert [type(widget).__name__ for widget in nameless] == []
