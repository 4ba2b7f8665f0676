import json
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QPushButton, QWidget

from dinoviz.choices import CompareChoices
from dinoviz.jobs import Job
from dinoviz.sample import unpack_sample
from dinoviz.session import Session
from dinoviz.views.compare.networks import choosable, commands_for, compared, lacking_job, map_command, network_of
from dinoviz.views.compare.view import CompareView
from dinoviz.widgets.picture.tile import PictureTile
from tests.dinoviz.desks import made_desk


@pytest.fixture
def sample(tmp_path):
    return unpack_sample(tmp_path / "sample")


@pytest.fixture
def session(sample):
    made = Session()
    made.open(sample)
    return made


@pytest.fixture
def view(qtbot, sample):
    with made_desk(qtbot) as desk:
        desk.session.open(sample)
        qtbot.waitUntil(lambda: len(desk.session.state.sets) == 2)
        desk.session.go("compare")
        made = CompareView(desk)
        qtbot.addWidget(made)
        made.resize(1200, 800)
        made.show()
        yield made


def choose(view, **changes):
    session = view._session
    session.choose(compare=replace(session.state.choices.compare, **changes))


def state(view):
    return view._session.state


def run_of(sample):
    return str(sample / "runs/0001")


# What is compared


def test_at_first_the_network_in_use_is_compared_with_another_that_has_features(session, sample):
    networks = compared(session.state, CompareChoices())
    assert [(one.key, one.set.number) for one in networks] == [("bundled", 1), (run_of(sample), 2)]


def test_a_run_that_was_deleted_is_not_compared_any_more(session, sample):
    networks = compared(session.state, CompareChoices(models=("bundled", str(sample / "runs/0007"), "set 9")))
    assert [one.key for one in networks] == ["bundled"]


def test_two_sets_of_one_network_can_be_compared(session):
    several = replace(session.state, sets=(*session.state.sets, replace(session.state.sets[0], number=3)))
    keys = [key for key, _ in choosable(several, ())]
    assert {"set 1", "set 3"} <= set(keys) and "set 2" not in keys
    assert network_of("set 3", several).set.number == 3
    assert network_of("set 3", several).name == "Bundled network, set 3"


def test_what_a_network_lacks_is_made_by_the_commands_a_person_would_type(session, sample):
    there, missing = network_of("bundled", session.state), network_of("dino_vits16", session.state)
    assert commands_for(sample, there) == [["index", str(sample), "--set", "1"]]
    embed, index = commands_for(sample, missing)
    assert embed == ["embed", str(sample), "--model", "dino_vits16"]
    assert index == ["index", str(sample), "--set", "dino_vits16"]
    run = network_of(run_of(sample), session.state)
    assert map_command(sample, run, "umap", there)[-3:] == ["--align-to", "1", "--no-thumbnails"]
    assert "--align-to" not in map_command(sample, there, "umap", there)


def test_the_job_of_a_network_is_told_from_those_of_others(session, sample):
    def job(*argv):
        return Job(id=1, title="x", argv=tuple(map(str, argv)), state="running")

    bundled, run = (network_of(key, session.state) for key in ("bundled", run_of(sample)))
    aligned = job("map", sample, "--set", "2", "--align-to", "1")
    assert lacking_job([aligned], sample, bundled) is None
    assert lacking_job([aligned], sample, run) is aligned
    assert lacking_job([replace(aligned, state="done")], sample, run) is None
    assert lacking_job([job("embed", sample, "--model", "bundled")], sample, bundled)


# What they see


def test_both_networks_are_asked_and_zoom_together(view, qtbot, sample):
    choose(view, kinds=("attention", "mask", "colours"))
    canvases = view._looks._canvases
    qtbot.waitUntil(lambda: len(canvases) == 6 and all(one._layers for one in canvases.values()), timeout=60_000)
    first, second = canvases["bundled", "attention"], canvases[run_of(sample), "colours"]
    first.zoom_at(first.rect().center().toPointF(), 3.0)
    assert second.scale() == pytest.approx(first.scale())
    view._desk.actions.trigger("compare.fit")
    assert first.scale() == pytest.approx(first.fit_scale())


def test_stepping_goes_through_the_selection_where_there_is_one(view):
    ids = state(view).table.ids_N[:5]
    view._session.select(ids[[1, 3]])
    view._session.set_current(int(ids[1]))
    view._desk.actions.trigger("compare.next")
    assert state(view).current == ids[3]
    view._desk.actions.trigger("compare.next")
    assert state(view).current == ids[3]
    view._desk.actions.trigger("compare.previous")
    assert state(view).current == ids[1]


def test_a_row_stays_when_the_last_one_is_taken_away(view):
    choose(view, kinds=("mask",))
    view._kinds["mask"].click()
    assert state(view).choices.compare.kinds == ("mask",) and view._kinds["mask"].isChecked()


def test_the_heads_say_how_well_neighbours_tell_labels(view, qtbot):
    qtbot.waitUntil(lambda: all("20-NN" in head.accessibleName() for head in view._heads))
    assert "59 pictures" in view._heads[0].accessibleName()


def test_a_network_that_is_not_here_says_so_and_offers_nothing_that_would_fail(view, qtbot):
    choose(view, models=("bundled", "dino_vits16"))
    qtbot.waitUntil(lambda: any("not on this computer" in head.accessibleName() for head in view._heads))
    head = next(head for head in view._heads if head.network.key == "dino_vits16")
    assert not head._make.isVisibleTo(head)


def test_one_network_alone_asks_for_a_second(view):
    choose(view, models=("bundled",))
    view._refresh()
    assert view._pages.currentWidget() is view._nothing


# Neighbours


def test_pictures_whose_neighbours_changed_most_come_first(view, qtbot):
    choose(view, page="neighbours")
    page = view._neighbours
    qtbot.waitUntil(lambda: len(page.grid.ids) == 59)
    same = [page._overlap.of(int(picture)) for picture in page.grid.ids]
    assert same == sorted(same) and same[0] < 10
    assert page._caption(int(page.grid.ids[0])) == f"{same[0]} of 10 same"


def test_the_strips_show_what_is_near_by_each_and_a_click_goes_there(view, qtbot):
    choose(view, page="neighbours")
    qtbot.waitUntil(lambda: len(view._neighbours.grid.ids) == 59)
    view._session.set_current(int(view._neighbours.grid.ids[0]))

    def tiles():
        found = view._neighbours.findChildren(PictureTile)
        return [tile for tile in found if tile.look and tile.look.lines and tile.isVisible()]

    qtbot.waitUntil(lambda: len(tiles()) >= 20)
    said = [tile.look.lines[1][0] for tile in tiles()]
    assert {"in both", "only here"} == set(said)
    wanted = tiles()[0]
    picture = wanted.look.picture
    qtbot.mouseClick(wanted, Qt.LeftButton, pos=QPoint(20, 20))
    assert state(view).current == picture


# Maps


def test_maps_are_linked_by_hover_current_and_selection(view, qtbot, sample):
    choose(view, page="maps")
    qtbot.waitUntil(lambda: [bool(pane.data) for pane in view._maps._panes.values()] == [True, True])
    one, other = (view._maps._panes[key].canvas for key in ("bundled", run_of(sample)))
    one.hovered.emit(4)
    qtbot.waitUntil(lambda: other._hovered == 4)
    one.clicked.emit(7, "replace")
    qtbot.waitUntil(lambda: other._current == 7)
    other.selected.emit(np.array([1, 2, 3]), "replace")
    qtbot.waitUntil(lambda: one._is_chosen_N is not None and int(one._is_chosen_N.sum()) == 3)
    assert state(view).undo_text
    view._session.undo()
    qtbot.waitUntil(lambda: one._is_chosen_N is None or int(one._is_chosen_N.sum()) == 1)


def test_a_map_that_is_missing_can_be_made(view, qtbot, monkeypatch, sample):
    (sample / "sets/0002/map-pca.json").unlink()
    started = []
    monkeypatch.setattr(type(view._desk.jobs), "start", lambda _self, argv, title, then=None: started.append(argv))
    choose(view, page="maps", method="pca")
    qtbot.waitUntil(lambda: run_of(sample) in view._maps._panes)
    pane = view._maps._panes[run_of(sample)]
    qtbot.waitUntil(lambda: pane._stack.currentWidget() is pane._empty and pane._empty.isVisible())
    next(one for one in pane.findChildren(QPushButton) if one.text() == "Make it").click()
    assert started == [map_command(sample, network_of(run_of(sample), state(view)), "pca", view._networks[0])]


def test_lining_up_is_done_by_the_engine_and_shown(view, qtbot, sample):
    choose(view, page="maps", method="pca")
    qtbot.waitUntil(lambda: [bool(pane.data) for pane in view._maps._panes.values()] == [True, True])
    about = sample / "sets/0002/map-pca.json"
    kept = json.loads(about.read_text())
    view._line_up()
    qtbot.waitUntil(lambda: any(job.state == "done" for job in state(view).jobs), timeout=60_000)
    assert json.loads(about.read_text())["aligned_to"] == kept["aligned_to"] == "0001"


def test_work_that_failed_is_not_followed_by_what_needs_it(view, qtbot, monkeypatch):
    calls = []

    def start(_self, argv, title, then=None):
        calls.append(argv[0])
        then(Job(id=1, title=title, argv=tuple(argv), state="failed" if argv[0] == "embed" else "done"))

    monkeypatch.setattr(type(view._desk.jobs), "start", start)
    view._make(network_of("dino_vits16", state(view)))
    assert calls == ["embed"]
    view._make(network_of("bundled", state(view)))
    assert calls == ["embed", "index"]


def test_everything_that_takes_the_focus_has_a_name(view, qtbot):
    for page in ("looks", "neighbours", "maps"):
        choose(view, page=page)
        qtbot.wait(100)
        for widget in view.findChildren(QWidget):
            if widget.focusPolicy() != Qt.NoFocus and widget.isVisibleTo(view) and "qt_" not in widget.objectName():
                assert widget.accessibleName(), (page, widget)


def test_two_sets_of_one_network_see_the_same(view, qtbot):
    sets = state(view).sets
    view._session._set(sets=(*sets, replace(sets[0], number=3)))
    choose(view, models=("set 1", "set 3"), kinds=("colours",))
    qtbot.waitUntil(lambda: {key for key, _ in view._looks._canvases} == {"set 1", "set 3"})
    canvases = view._looks._canvases
    qtbot.waitUntil(lambda: all(one._layers for one in canvases.values()), timeout=60_000)


def test_a_run_of_another_project_has_the_name_of_that(session):
    assert network_of("/data/cells.dinoviz/runs/0003", session.state).name == "cells, run 0003"


def test_with_one_network_what_compares_is_out_of_reach_and_says_why(qtbot, view):
    qtbot.waitUntil(lambda: len(view._networks) == 2)
    assert all(part.isEnabled() for part in view._of_several)
    usual = view._next.toolTip()
    choose(view, models=("bundled",))
    qtbot.waitUntil(lambda: len(view._networks) == 1)
    for part in view._of_several:
        assert not part.isEnabled() and "add a second" in part.toolTip()
    assert view._add.isEnabled()
    choose(view, models=())
    qtbot.waitUntil(lambda: view._next.toolTip() == usual and view._next.isEnabled())


def test_a_verdict_stands_below_all_pages(qtbot, view):
    qtbot.waitUntil(lambda: view._verdict.isVisible() and "of 100 pictures rightly" in view._verdict.text())
