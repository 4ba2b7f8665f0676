"""The Map on real projects: what is seen follows the session, what is done goes to it, maps are made by the engine."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from dinoviz.jobs import Job
from dinoviz.query import Query
from dinoviz.views.map.selecting import MapSelecting
from dinoviz.views.map.view import MapView
from engine.finding.index import make_index
from engine.finding.map_files import MapAbout, MapPlan, keep_map, so_far_path
from engine.project import Project
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned, with_features

LEFT, NONE = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
N = 36
WAIT_MS = 20_000


@pytest.fixture
def project(tmp_path):
    return scanned(tmp_path, N, ("cat", "dog", "dog"))


def lay_out(folder, method="tsne"):
    """Keep a map on which pictures lie on a lattice."""
    with Project.at(folder) as project:
        features = project.features(None)
    positions = np.array([(i % 6, i // 6) for i in range(len(features))], np.float32)
    about = MapAbout(made_from=features.key, plan=MapPlan(method=method, seed=0, steps=10), step=10)
    keep_map(features, about, positions)
    return features


@pytest.fixture
def desk(qtbot):
    with made_desk(qtbot) as made:
        yield made


def opened(qtbot, desk, folder):
    view = MapView(desk)
    view.canvas.is_animated = view.class_canvas.is_animated = False
    qtbot.addWidget(view)
    view.resize(1000, 700)
    view.show()
    desk.session.open(folder)
    qtbot.waitUntil(lambda: len(desk.session.state.table) > 0 and view._is_read)
    return view


def with_map(qtbot, desk, folder):
    with_features(folder)
    lay_out(folder)
    view = opened(qtbot, desk, folder)
    choose(desk, thumbnails="never")
    qtbot.waitUntil(lambda: view.drawing.colouring is not None and view.canvas.isVisible())
    view.grab()  # lays out what was hidden
    return view


def choose(desk, **fields):
    desk.session.choose(map=replace(desk.session.state.choices.map, **fields))


def lasso(qtbot, view, numbers, modifiers=NONE):
    places = [view.canvas.where(number) for number in numbers]
    low = QPoint(int(min(p.x() for p in places)) - 12, int(min(p.y() for p in places)) - 12)
    high = QPoint(int(max(p.x() for p in places)) + 12, int(max(p.y() for p in places)) + 12)
    QTest.mousePress(view.canvas, LEFT, modifiers, low)
    for corner in (QPoint(high.x(), low.y()), high, QPoint(low.x(), high.y()), low):
        QTest.mouseMove(view.canvas, corner)
    QTest.mouseRelease(view.canvas, LEFT, modifiers, low)


def test_without_features_there_is_one_thing_to_do(qtbot, desk, project):
    view = opened(qtbot, desk, project)
    assert view.empty.isVisible()
    assert view.empty.button.isVisible()
    assert not view.panel.isVisible()
    assert "features" in view.empty.button.text()


def test_features_without_a_map_offer_the_map(qtbot, desk, project):
    with_features(project)
    view = opened(qtbot, desk, project)
    qtbot.waitUntil(lambda: view.empty.button.text() == "Make the map")
    assert "t-SNE" in view.empty._title.text()


def test_a_map_is_shown_with_its_legend(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    assert [group.text for group in view.drawing.colouring.groups] == ["dog", "cat"]
    assert "36 pictures" in view._status.text()
    assert view.canvas.number_at(view.canvas.where(7)) == 7


def test_a_lasso_selects_for_all_and_is_undone(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    session, ids = desk.session, desk.session.state.table.ids_N
    choose(desk, tool="lasso")
    qtbot.waitUntil(lambda: view.canvas.tool == "lasso")
    lasso(qtbot, view, [0, 7])
    assert session.state.selected.tolist() == sorted(ids[[0, 1, 6, 7]].tolist())
    lasso(qtbot, view, [7], Qt.KeyboardModifier.AltModifier)
    assert session.state.selected.tolist() == sorted(ids[[0, 1, 6]].tolist())
    qtbot.waitUntil(lambda: "3 of 36 pictures selected" in view._status.text())
    session.undo()
    session.undo()
    assert len(session.state.selected) == 0


def test_a_click_makes_a_picture_current_and_a_double_click_looks_at_it(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    at = view.canvas.where(8).toPoint()
    QTest.mouseClick(view.canvas, LEFT, NONE, at)
    assert desk.session.state.current == desk.session.state.table.ids_N[8]
    QTest.mouseDClick(view.canvas, LEFT, NONE, at)
    assert desk.session.state.place == "look"


def test_the_card_says_which_picture_is_under_the_mouse(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    QTest.mouseMove(view.canvas, view.canvas.where(8).toPoint())
    table = desk.session.state.table
    assert desk.session.state.hovered == table.ids_N[8]
    assert view._card.isVisible()
    assert view._card._lines[:2] == (table.name(int(table.ids_N[8])), table.label.word(8))
    QTest.mouseMove(view.canvas, QPoint(2, 2))
    assert not view._card.isVisible()


def test_the_legend_filters_every_place(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    legend = view.panel.legend._list
    click = legend.visualRect(legend.model().index(1, 0)).center()
    QTest.mouseClick(legend.viewport(), LEFT, NONE, click)
    assert desk.session.state.query.labels == ("cat",)
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == N // 3)
    dog = int(np.flatnonzero(view.drawing.colouring.codes_N == 0)[0])
    qtbot.waitUntil(lambda: view.canvas.number_at(view.canvas.where(dog)) == -1)
    other = legend.visualRect(legend.model().index(0, 0)).center()
    QTest.mouseClick(legend.viewport(), LEFT, Qt.KeyboardModifier.ControlModifier, other)
    assert set(desk.session.state.query.labels) == {"cat", "dog"}
    desk.session.set_query(Query())
    qtbot.waitUntil(lambda: view.canvas.number_at(view.canvas.where(dog)) == dog)


def test_new_pictures_and_old_maps_are_told_quietly(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    assert not view._note.isVisible()
    with Project.at(project) as opened_project:
        features = opened_project.features(None)
    about = MapAbout(made_from="another", plan=MapPlan(method="tsne", seed=0, steps=10), step=10)
    positions = np.array(np.load(features.folder / "map-tsne.npy"))
    positions[:4] = np.nan
    keep_map(features, about, positions)
    desk.session.refresh()
    qtbot.waitUntil(lambda: view._note.isVisible())
    assert "4 pictures" in view._note.text()
    assert view._update_button.text() == "Add them"


def test_the_running_map_is_followed(qtbot, desk, project):
    with_features(project)
    view = opened(qtbot, desk, project)
    folder = desk.session.state.set_row.folder
    desk.session.set_job(Job(id=99, title="Make the t-SNE map", argv=("map", str(project)), state="running"))
    qtbot.waitUntil(view._look_again.isActive)
    np.save(so_far_path(folder), np.random.default_rng(0).random((N, 2)).astype(np.float32))
    qtbot.waitUntil(lambda: view.canvas.isVisible() and view._is_so_far)
    lay_out(project)
    so_far_path(folder).unlink()
    desk.session.set_job(replace(desk.session.state.jobs[0], state="done"))
    qtbot.waitUntil(lambda: not view._is_so_far and view.drawing.data.about is not None)


def test_groups_likes_and_neighbours_are_selected(qtbot, desk, project):
    with_features(project)
    with Project.at(project) as opened_project:
        make_index(opened_project.features(None), lambda _message: None, k=12)
    lay_out(project)
    view = opened(qtbot, desk, project)
    qtbot.waitUntil(lambda: view.drawing.colouring is not None)
    session, table = desk.session, desk.session.state.table
    cat = int(table.ids_N[np.flatnonzero(table.label.is_one_of(["cat"]))[0]])
    session.set_current(cat)
    desk.actions.trigger("map.cluster")
    assert len(session.state.selected) == N // 3
    desk.actions.trigger("map.like")
    qtbot.waitUntil(lambda: len(session.state.selected) == 13)
    desk.actions.trigger("map.grow")
    qtbot.waitUntil(lambda: len(session.state.selected) > 13)
    grown = len(session.state.selected)
    desk.actions.trigger("map.shrink")
    qtbot.waitUntil(lambda: len(session.state.selected) < grown)
    desk.session.undo()
    assert len(session.state.selected) == grown


def test_a_map_is_saved_as_picture_and_as_drawing_and_copied(qtbot, desk, project, tmp_path, monkeypatch):
    with_map(qtbot, desk, project)
    for ending in ("png", "svg"):
        path = tmp_path / f"out.{ending}"
        monkeypatch.setattr(
            "dinoviz.views.map.view.QFileDialog.getSaveFileName", lambda *_args, path=path: (str(path), "")
        )
        desk.actions.trigger(f"map.save_{ending}")
        qtbot.waitUntil(path.exists, timeout=WAIT_MS)
    assert QImage(str(tmp_path / "out.png")).width() > 2000
    text = (tmp_path / "out.svg").read_text()
    assert text.count("<title>") == N
    assert desk.session.state.table.path(int(desk.session.state.table.ids_N[0])) in text
    assert ">dog</text>" in text
    desk.actions.trigger("map.copy")
    qtbot.waitUntil(lambda: not QGuiApplication.clipboard().image().isNull(), timeout=WAIT_MS)


@pytest.mark.parametrize("method", ["pca", "classes"])
def test_a_map_is_made_by_the_engine_and_shown(qtbot, desk, tmp_path, method):
    project = scanned(tmp_path, 24, ("ant", "bee", "cat", "dog"))
    with_features(project)
    choose(desk, method=method)
    view = opened(qtbot, desk, project)
    choose(desk, method=method)
    qtbot.waitUntil(lambda: view.empty.button.isVisible() and view._is_read)
    QTest.mouseClick(view.empty.button, LEFT)
    qtbot.waitUntil(lambda: not view.empty.isVisible(), timeout=WAIT_MS)
    assert desk.session.state.jobs[-1].argv[0] == "map"
    if method == "classes":
        ids = desk.session.state.table.ids_N
        QTest.mouseClick(view.class_canvas, LEFT, NONE, view.class_canvas.where(1).toPoint())
        assert desk.session.state.table.label_of(int(desk.session.state.selected[0])) == "bee"
        assert len(desk.session.state.selected) == len(ids) // 4
        see_what_mixes(qtbot, desk, view)


def see_what_mixes(qtbot, desk, view):
    """On the map of classes there is a legend, and what mixes once neighbours are known; a click selects it."""
    panel = view.class_panel
    assert panel.isVisible() and not view.panel.isVisible()
    legend = panel.legend._list.model()
    assert [legend.index(i, 0).data() for i in range(legend.rowCount())] == ["ant", "bee", "cat", "dog"]
    assert not view.bar._density.isEnabled() and "classes" in view.bar._density.toolTip()
    QTest.mouseClick(panel._missing, LEFT)
    qtbot.waitUntil(lambda: view._mixing is not None and panel.classes.isVisible(), timeout=WAIT_MS)
    desk.session.select([])
    QTest.mouseClick(panel.pairs.viewport(), LEFT, NONE, QPoint(20, 5))
    names = view._mixing.pairs[0].names
    qtbot.waitUntil(lambda: len(desk.session.state.selected) > 0)
    assert {desk.session.state.table.label_of(int(i)) for i in desk.session.state.selected} == set(names)
    assert "Select what mixes" in desk.session.state.undo_text


def test_without_a_map_its_tools_are_out_of_reach_and_say_why(qtbot, desk, project):
    view = opened(qtbot, desk, project)
    assert all(not part.isEnabled() and "no map yet" in part.toolTip() for part in view.bar._of_map)
    assert view.bar.methods.isEnabled()
    with_features(project)
    lay_out(project)
    desk.session.refresh()
    qtbot.waitUntil(lambda: view.bar._of_map[0].isEnabled())
    assert not any("no map yet" in part.toolTip() for part in view.bar._of_map)


def test_every_control_has_a_name(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    nameless = [
        part
        for part in view.findChildren(QWidget)
        if part.focusPolicy() & Qt.FocusPolicy.TabFocus and part.isVisibleTo(view) and not part.accessibleName()
    ]
    assert [f"{type(part).__name__} {part.objectName()}" for part in nameless] == []


def test_the_map_of_a_set_is_read_once(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    before = view.drawing.data
    desk.session.refresh()
    desk.session.label([int(desk.session.state.table.ids_N[0])], "new")
    qtbot.waitUntil(lambda: any(group.text == "new" for group in view.drawing.colouring.groups))
    assert view.drawing.data is before


def test_what_was_seen_is_seen_again_when_the_project_is_opened_again(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    view.canvas.zoom(3)
    view.canvas.pan(40, 30)
    seen = view.canvas.camera.seen()
    qtbot.waitUntil(lambda: len(desk.session.state.choices.map.view) == 3)
    memory = json.loads(json.dumps(desk.session.memory()))
    with made_desk(qtbot) as other:
        again = MapView(other)
        again.canvas.is_animated = False
        qtbot.addWidget(again)
        again.resize(1000, 700)
        again.show()
        other.session.open(project, memory)
        qtbot.waitUntil(lambda: again.drawing.data is not None and again.canvas.isVisible())
        assert again.canvas.camera.seen() == pytest.approx(seen, rel=1e-4)


def test_the_places_of_groups_outside_the_filter_are_not_named(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    assert {place.text for place in view.canvas._places} == {"cat", "dog"}
    desk.session.set_query(Query(labels=("cat",)))
    qtbot.waitUntil(lambda: {place.text for place in view.canvas._places} == {"cat"})
    choose(desk, has_names=False)
    qtbot.waitUntil(lambda: not view.canvas._places)


def test_clusters_are_found_by_the_engine_and_colour_the_map(qtbot, desk, project):
    view = with_map(qtbot, desk, project)
    choose(desk, by="cluster")
    qtbot.waitUntil(view.panel._clusters.isVisible)
    QTest.mouseClick(view.panel._clusters, LEFT)
    qtbot.waitUntil(lambda: len(view.drawing.colouring.groups) > 1, timeout=WAIT_MS)
    assert view.drawing.colouring.by == "cluster"
    assert not view.panel._clusters.isVisible()


def test_another_project_is_seen_as_a_whole(qtbot, desk, project, tmp_path):
    view = with_map(qtbot, desk, project)
    view.canvas.zoom(5)
    other = scanned(tmp_path / "other", 8, ("owl", "yak"))
    with_features(other)
    lay_out(other)
    desk.session.open(other)
    qtbot.waitUntil(lambda: view.drawing.data is not None and len(view.drawing.data.cloud) == 8)
    assert view.canvas.camera.seen() is None
    qtbot.waitUntil(lambda: view.drawing.colouring is not None)
    assert {group.text for group in view.drawing.colouring.groups} == {"owl", "yak"}


def test_what_is_alike_in_a_project_that_was_closed_is_not_selected_in_the_next(qtbot, desk, project, tmp_path):
    with_features(project)
    other = scanned(tmp_path / "other", 4)
    desk.session.open(project)
    qtbot.waitUntil(lambda: desk.session.state.set_row is not None)
    is_free, has_ended = threading.Event(), []

    def slow(_folder, _selected):
        is_free.wait(10)
        has_ended.append(True)
        return np.array([1, 2])

    MapSelecting(desk)._change(slow, "Grow")
    desk.session.open(other)
    qtbot.waitUntil(lambda: len(desk.session.state.table) == 4)
    is_free.set()
    qtbot.waitUntil(lambda: bool(has_ended))
    qtbot.wait(20)
    assert len(desk.session.state.selected) == 0
