"""Find as a person works with it: real pictures, the real services, mouse and keys."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QProgressBar, QPushButton, QWidget

from dinoviz.asked import Asked, Found
from dinoviz.choices import FindChoices
from dinoviz.desk import Desk
from dinoviz.engine_process import MOST_CRASHES
from dinoviz.jobs import Job
from dinoviz.query import Query
from dinoviz.session import State
from dinoviz.views.find.missing import Missing
from dinoviz.views.find.view import FindView
from engine.finding.parts import make_part_index
from engine.project import Project
from engine.protocol import Progress, Refused
from engine.questions import Describe, Similar, Vectors
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
        picture.save(photos / "test" / "hat" / "again.jpg", quality=70)
    shutil.copy(shoe, photos / "train" / "pants" / "shoe.jpg")
    common = ["--device", "cpu", "--quiet"]
    assert run(["embed", str(photos), "--model", "bundled", "--patches", "--side", "96", *common]) == 0
    assert run(["embed", str(photos), "--model", "bundled", *common]) == 0
    project = folder / "photos.dinoviz"
    for verb in (["duplicates", "--threshold", "0.25"], ["oddities"]):
        assert run([verb[0], str(project), "--set", "2", *verb[1:], "--quiet"]) == 0
    with Project.at(project) as opened:
        make_part_index(opened.features("1"), lambda _message: None)
    return project


@pytest.fixture(scope="module")
def desk(qapp, kept) -> Iterator[Desk]:
    """One desk for all tests, whose services stay; on a project that every test leaves as it was."""
    with made_desk(SimpleNamespace(addWidget=lambda _widget: None)) as desk:
        desk.session.open(kept)
        desk.session.go("find")
        desk.actions.bind("picture.look", lambda: desk.session.go("look"))
        yield desk


class Finder:
    """The view, and what a person does with it."""

    def __init__(self, qtbot, desk: Desk) -> None:
        self.qtbot, self.desk, self.session = qtbot, desk, desk.session

    def show(self, part: str, number: int) -> "Finder":
        """Bring a part to the front, on one of the sets."""
        self.until(lambda: len(self.state.shown) > 0)
        self.session.use_set(number)
        self.session.choose(find=FindChoices(part=part))
        self.view = FindView(self.desk)
        self.qtbot.addWidget(self.view)
        self.view.resize(*SIZE)
        self.view.show()
        self.search = self.view._search
        if part in self.view._work:
            self.panel = self.view._work[part]
            self.until(lambda: len(self.panel.work) > 0)
        return self

    @property
    def state(self) -> State:
        return self.session.state

    def until(self, is_so: Callable[[], object]) -> None:
        self.qtbot.waitUntil(lambda: bool(is_so()), timeout=WAIT_MS)

    def named(self, end: str) -> int:
        table = self.state.table
        return next(int(i) for i in table.ids_N if table.path(int(i)).endswith(end))

    def found(self, asked: Asked) -> Found:
        """Ask, and wait for the answer."""
        self.search._area.ask(asked)
        self.until(lambda: self.search.found.asked == asked and len(self.search.found.ids) > 0)
        return self.search.found

    def press(self, keys: str) -> None:
        """Do what a key does, as the window's shortcuts would."""
        (row,) = [row for row in self.desk.actions.rows() if row.place == "find" and row.keys == keys]
        self.desk.actions.trigger(row.id)

    def button(self, text: str) -> QPushButton:
        """Wait for a button, and return it."""
        self.until(lambda: any(b.text() == text and b.isVisible() for b in self.view.findChildren(QPushButton)))
        return next(b for b in self.view.findChildren(QPushButton) if b.text() == text and b.isVisible())

    @contextmanager
    def elsewhere(self, folder: Path) -> Iterator[None]:
        """Another project of two pictures is open; then the one before again."""
        kept = self.state.project
        self.session.open(folder)
        self.until(lambda: len(self.state.table) == 2)
        try:
            yield
        finally:
            self.session.open(kept)
            self.session.go("find")
            self.until(lambda: len(self.state.shown) > 2)

    def undo_all(self) -> None:
        while self.state.undo_text:
            self.session.undo()
        self.session.set_query(Query())


@pytest.fixture
def finder(qtbot, desk):
    finder = Finder(qtbot, desk)
    yield finder
    finder.undo_all()
    finder.view.close()
    finder.desk.background.finish()  # what it still asked for is not answered when it is gone


def test_a_picture_leads_to_others_and_back(finder):
    here = finder.show("search", 2)
    first = here.named("again.jpg")
    here.session.set_current(first)
    here.desk.actions.trigger("find.use_current")
    here.until(lambda: len(here.search.found.ids) > 0)
    found = here.search.found
    assert first not in found.ids
    assert found.likeness[int(found.ids[0])] > 0.8
    assert here.state.table.label_of(int(found.ids[0])) == "hat"
    assert sorted(found.likeness.values(), reverse=True) == [found.likeness[int(i)] for i in found.ids]
    here.session.set_current(int(found.ids[2]))
    here.press("M")
    here.until(lambda: here.search.found.asked.pictures == (int(found.ids[2]),))
    here.desk.actions.trigger("find.back")
    here.until(lambda: here.search.found.asked.pictures == (first,))
    assert here.search.found.ids.tolist() == found.ids.tolist()
    assert here.desk.actions.can("find.forward")


def test_results_follow_what_is_left_out_and_the_filter(finder):
    here = finder.show("search", 2)
    found = here.found(Asked(pictures=(here.named("again.jpg"),)))
    gone = int(found.ids[0])
    here.session.hide([gone])
    here.until(lambda: gone not in here.search.found.ids)
    here.session.set_query(replace(here.state.query, labels=("pants",)))
    here.until(here.search._area._among.isEnabled)
    here.search._area._among.click()
    here.until(lambda: {here.state.table.label_of(int(i)) for i in here.search.found.ids} == {"pants"})


def test_a_box_drawn_by_the_mouse_finds_the_part(finder):
    here = finder.show("search", 1)
    again = here.named("again.jpg")
    here.found(Asked(pictures=(again,)))
    canvas = here.search._area._canvas
    here.until(lambda: canvas.picture is not None)
    target = canvas.target()
    begin = QPoint(int(target.left() + 0.25 * target.width()), int(target.top() + 0.25 * target.height()))
    end = QPoint(int(target.left() + 0.75 * target.width()), int(target.top() + 0.75 * target.height()))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=begin)
    QTest.mouseMove(canvas, (begin + end) / 2)
    QTest.mouseMove(canvas, end)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=end)
    here.until(lambda: here.search.found.asked.is_part and len(here.search.found.ids) > 0)
    found = here.search.found
    original = here.state.table.name(int(found.ids[0]))
    assert original == sorted((PHOTOS / "hat").iterdir())[0].name
    box = found.boxes[int(found.ids[0])]
    assert np.allclose(box, (0.25, 0.25, 0.75, 0.75), atol=0.12)
    here.desk.actions.trigger("find.whole")
    here.until(lambda: not here.search.found.asked.is_part)


def test_a_set_without_patches_says_so_and_offers_the_other(finder):
    here = finder.show("search", 2)
    here.search._area.ask(Asked(pictures=(here.named("again.jpg"),), box=(10, 10, 60, 60)))
    here.button("Use set 1").click()
    here.until(lambda: len(here.search.found.boxes) > 0)
    assert here.state.set == 1


def test_an_answer_to_an_older_question_does_not_become_one_to_the_newer(finder, monkeypatch):
    here = finder.show("search", 2)
    asked = []
    for service in (here.desk.vision, here.desk.search):
        monkeypatch.setattr(service, "ask", lambda question, slot, then, _refused=None: asked.append((question, then)))
    here.search._area.ask(Asked(pictures=(str(here.state.table.file(here.named("shoe.jpg"))),)))
    here.until(lambda: [type(question) for question, _ in asked] == [Describe])
    here.search._area.ask(Asked(pictures=(here.named("again.jpg"),)))
    here.until(lambda: [type(question) for question, _ in asked] == [Describe, Similar])
    _question, then = asked[0]
    then(Vectors(path="vectors.npy"))
    assert len(asked) == 2
    assert asked[1][0].vectors is None


def test_a_service_that_failed_is_started_again_by_a_button(finder, monkeypatch):
    here = finder.show("search", 2)
    service = here.desk.search
    with monkeypatch.context() as failing:
        failing.setattr(service, "state", "failed")
        failing.setattr(service, "ask", lambda *asked: asked[-1](Refused(id=None, message="It ended.")))
        here.search._area.ask(Asked(pictures=(here.named("again.jpg"),)))
        again = here.button("Try again")
    service.state = "failed"
    service._crashes = MOST_CRASHES
    again.click()
    here.until(lambda: len(here.search.found.ids) > 0)


def test_features_without_an_index_are_told_by_what_kind_of_refusal_it_is(finder):
    here = finder.show("search", 2)
    here.search._refused(Refused(id=1, message="Kein Index.", hint="…", problem="NotMade"))
    here.button("Prepare the search")


def preparing(here: Finder, *argv: str, **about: object) -> Job:
    """A job of the project that is open, as far as the session knows."""
    job = Job(id=900, title="Compute features of parts", argv=(argv[0], str(here.state.project), *argv[1:]), **about)
    here.session.set_job(job)
    return job


def said(missing: Missing) -> str:
    return " ".join(part.text() for part in missing.findChildren(QLabel) if part.isVisibleTo(missing))


@pytest.mark.parametrize("argv", [("embed", "--patches"), ("index",)])
def test_while_parts_are_prepared_that_is_said_with_how_far_it_is(finder, argv):
    here = finder.show("search", 2)
    missing = Missing(here.desk, lambda: None, lambda: True)
    here.qtbot.addWidget(missing)
    missing.patches()
    assert "being prepared" not in said(missing)
    told = Progress(what="patches", done=30, total=120, unit="pictures", rate=10.0, eta_s=9.0)
    job = preparing(here, *argv, state="running", progress=told)
    here.until(lambda: "Parts are being prepared" in said(missing))
    assert "30/120" in said(missing)
    (bar,) = [bar for bar in missing.findChildren(QProgressBar) if bar.isVisibleTo(missing)]
    assert bar.value() / bar.maximum() == 0.25
    here.session.set_job(replace(job, progress=replace(told, done=60)))
    here.until(lambda: "60/120" in said(missing))
    assert bar.isVisibleTo(missing)
    here.session.set_job(replace(job, state="failed"))
    here.until(lambda: "being prepared" not in said(missing))
    here.session.drop_job(job.id)


def test_nothing_can_be_done_with_results_where_there_are_none(finder):
    here = finder.show("search", 2)
    names = ("find.more_like", "find.add_current", "find.select_found", "find.show_on_map", "find.tag")
    here.found(Asked(pictures=(here.named("again.jpg"),)))
    here.session.set_current(int(here.search.found.ids[0]))
    here.until(lambda: all(here.desk.actions.can(name) for name in names))
    here.search._area.ask(Asked())
    here.until(lambda: not len(here.search.found.ids))
    assert not any(here.desk.actions.can(name) for name in names)
    assert all(not made.isEnabled() and "no results" in made.toolTip() for made in here.search._of_results.values())


def test_lists_of_a_project_that_was_closed_are_put_away(finder, tmp_path):
    here = finder.show("duplicates", 2)
    here.until(lambda: len(here.view._work["labels"].work) > 0)
    with here.elsewhere(scanned(tmp_path, 2)):
        here.session.choose(find=FindChoices(part="duplicates"))
        here.until(here.view._empty.isVisible)
        assert [len(panel.work) for panel in here.view._work.values()] == [0, 0, 0]
        assert not here.view._typical._rows
    here.session.use_set(2)
    here.until(lambda: len(here.panel.work) > 0)


def test_what_was_begun_in_a_project_that_was_closed_changes_nothing_in_the_next(finder, tmp_path, monkeypatch):
    here = finder.show("search", 2)
    chained = []
    monkeypatch.setattr(type(here.desk.jobs), "chain", lambda _self, steps, then: chained.append(then))
    searched = []
    missing = Missing(here.desk, lambda: searched.append(True), lambda: True)
    missing._index()
    here.search._area._take_image(QImage(32, 32, QImage.Format.Format_RGB32))
    with here.elsewhere(scanned(tmp_path, 2)):
        chained[0](Job(id=1, title="Index", argv=("index",), state="done"))
        here.qtbot.wait(100)
        assert not searched
        assert not here.state.choices.find.trail


def test_why_is_shown_for_the_result_under_the_mouse(finder):
    here = finder.show("search", 2)
    found = here.found(Asked(pictures=(here.named("again.jpg"),)))
    grid = here.search._grid
    here.until(lambda: grid.rect_of(int(found.ids[1])) is not None)
    here.session.hover(int(found.ids[1]))
    here.search._explain(int(found.ids[1]))
    why = here.search._why
    here.until(lambda: why._one.look is not None and why._one.look.heat is not None)
    assert why._other.look.picture == int(found.ids[1])
    assert why.isVisible()
    cell = grid.rect_of(int(found.ids[1]))
    cell.moveTo(grid.viewport().mapTo(why.parentWidget(), cell.topLeft()))
    assert not why.geometry().intersects(cell)
    here.session.hover(None)
    here.until(lambda: not why.isVisible())
    here.session.set_current(int(found.ids[2]))
    here.press("W")
    assert why.isVisible()
    here.press("W")
    assert not why.isVisible()


def test_pictures_from_elsewhere_are_looked_for_by_paste(finder, tmp_path):
    here = finder.show("search", 2)
    path = here.state.table.file(here.named("shoe.jpg"))
    QGuiApplication.clipboard().setImage(QImage(str(path)).scaledToWidth(150))
    here.desk.actions.trigger("find.paste")
    here.until(lambda: len(here.search.found.ids) > 0)
    (pasted,) = here.search.found.asked.files
    assert Path(pasted).is_relative_to(here.state.project)
    best = [here.state.table.name(int(i)) for i in here.search.found.ids[:2]]
    assert "shoe.jpg" in best


def test_an_unreadable_question_is_said_in_words(finder, tmp_path):
    here = finder.show("search", 2)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    here.search._area.ask(Asked(pictures=(str(tmp_path / "broken.jpg"),)))
    here.until(lambda: any("cannot be read" in said.text() for said in here.search._missing.findChildren(QLabel)))


def test_copies_are_worked_through_with_keys_and_undone(finder):
    here = finder.show("duplicates", 2)
    panel = here.panel
    table = here.state.table
    rows = {frozenset(table.name(p) for p in row.pictures): row for row in panel.work.rows}
    (leak,) = [row for names, row in rows.items() if "again.jpg" in names]
    assert leak.splits(table) == ("test", "train")
    first = panel.in_hand
    here.press("2")
    assert here.state.marks.hidden == set(first.pictures) - {first.pictures[1]}
    assert panel.work.n_done == 1
    assert panel.in_hand != first
    second = panel.in_hand
    here.press("K")
    assert len(here.state.marks.verdicts) == 1
    assert panel.work.n_done == 2
    here.session.undo()
    here.until(lambda: panel.work.n_done == 1)
    assert panel.in_hand == second
    here.press("Return")
    assert second.pictures[0] not in here.state.marks.hidden
    assert set(second.pictures[1:]) <= here.state.marks.hidden


def test_the_likeness_slider_regroups_at_once(finder):
    here = finder.show("duplicates", 2)
    n = len(here.panel.work)
    here.panel._choose_likeness(1.0)
    here.until(lambda: 0 < len(here.panel.work) < n)
    assert all(row.group.likeness == 1 for row in here.panel.work.rows)
    here.panel._choose_likeness(0.1)
    here.until(lambda: len(here.panel.work) == n)


@pytest.mark.qt_log_ignore("This plugin does not support")  # the list of labels that comes up while one types
def test_labels_are_confirmed_corrected_and_typed(finder):
    here = finder.show("labels", 2)
    panel = here.panel
    doubt = panel.in_hand.suspect
    assert {doubt.label, doubt.likely} == {"shoes", "pants"}
    assert doubt.copy is not None
    here.press("Return")
    assert here.state.marks.labels == {doubt.picture: doubt.likely}
    here.session.undo()
    here.until(lambda: panel.work.n_done == 0 and panel.in_hand.suspect == doubt)
    here.press("L")
    QTest.keyClicks(panel._field, "ha")
    QTest.keyClick(panel._field, Qt.Key.Key_Return)
    assert here.state.marks.labels == {doubt.picture: "hat"}
    assert panel.in_hand.suspect != doubt
    here.press("K")
    assert len(here.state.marks.verdicts) == 1


def test_outliers_show_their_neighbours(finder):
    here = finder.show("outliers", 2)
    panel = here.panel
    here.until(lambda: panel._tiles[0].isVisible() and panel._tiles[0].look is not None)
    assert isinstance(panel._tiles[0].look.picture, int)
    assert here.state.current == panel.in_hand.pictures[0]
    here.press("H")
    assert len(here.state.marks.hidden) == 1


def test_typical_pictures_are_shown_by_class(finder):
    here = finder.show("outliers", 2)
    here.session.choose(find=replace(here.state.choices.find, part="typical"))
    typical = here.view._typical
    here.until(typical.isVisible)
    assert [row.label for row in typical._rows] == ["hat", "pants", "shoes"]
    QTest.mouseClick(typical.viewport(), Qt.MouseButton.LeftButton, pos=typical._place(1, 0).center())
    assert here.state.current == typical._rows[1].pictures[0]
    QTest.keyClick(typical, Qt.Key.Key_Right)
    assert here.state.current == typical._rows[1].pictures[1]


def test_what_was_not_looked_for_yet_is_looked_for_by_one_button(finder, desk, kept):
    here = finder.show("labels", 2)
    for name in ("duplicates.json", "oddities.json"):
        (kept / "sets" / "0002" / name).unlink()
    here.session.refresh()
    here.button("Look for them").click()
    assert here.state.jobs[-1].argv[:1] == ("oddities",)
    here.until(lambda: here.state.jobs[-1].is_over and len(here.panel.work) > 0)
    here.session.choose(find=FindChoices(part="duplicates"))
    assert here.state.jobs[-1].state == "done"
    here.until(here.view._work["duplicates"].isVisible)


def test_a_project_without_features_offers_to_compute_them(qtbot, tmp_path):
    folder = scanned(tmp_path, 4)
    with made_desk(qtbot) as desk:
        desk.session.open(folder)
        desk.session.go("find")
        finder = Finder(qtbot, desk)
        finder.view = FindView(desk)
        qtbot.addWidget(finder.view)
        finder.view.show()
        finder.button("Compute features").click()
        assert desk.session.state.jobs[0].argv[:2] == ("embed", str(folder))
        desk.jobs.stop(desk.session.state.jobs[0].id)
        finder.until(lambda: desk.session.state.jobs[0].state != "waiting")


def test_every_control_that_takes_the_focus_has_a_name(finder):
    here = finder.show("labels", 2)
    nameless = [
        widget
        for widget in here.view.findChildren(QWidget)
        if widget.focusPolicy() != Qt.FocusPolicy.NoFocus and widget.isVisible() and not widget.accessibleName()
    ]
    assert [type(widget).__name__ for widget in nameless] == []
