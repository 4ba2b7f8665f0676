"""Strokes over a mask, and which picture they are on."""

import numpy as np
from PySide6.QtCore import QPointF

from dinoviz.views.look.brush import MaskBrush
from dinoviz.views.look.looker import Looker
from dinoviz.views.look.strokes import Strokes
from dinoviz.widgets.picture.large import LargePictures
from dinoviz.widgets.picture.overlays import largest_part
from engine.exporting.edited import FINER, Edits, path_of
from engine.questions import Lattice, Model
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned

MODEL = Model(model="bundled", sha256="0", width=192, depth=6, heads=3, registers=0, patch=8)
LATTICE = Lattice(rows=6, cols=8, patch=8, resized=(48, 64), picture=(480, 640))
OTHER = Lattice(rows=12, cols=16, patch=8, resized=(96, 128), picture=(480, 640))


def brush(strokes, begin, end, *, adds, radius=30):
    strokes.begin()
    strokes.brush(QPointF(*begin), QPointF(*end), radius, is_adding=adds)


def test_strokes_are_undone_and_done_again_one_by_one():
    strokes = Strokes(Edits.none(LATTICE))
    states = [strokes.edits]
    for y in (100, 200, 300):
        brush(strokes, (0, y), (640, y), adds=True)
        states.append(strokes.edits)
    for state in reversed(states[:-1]):
        strokes.undo()
        assert strokes.edits is state
    assert not strokes.can_undo
    strokes.undo()
    for state in states[1:]:
        strokes.redo()
        assert strokes.edits is state
    strokes.undo()
    brush(strokes, (0, 0), (9, 9), adds=False)
    assert not strokes.can_redo, "a new stroke ends what could be done again"


def test_what_was_brushed_last_holds_and_the_threshold_moves_below():
    strokes = Strokes(Edits.none(LATTICE))
    brush(strokes, (0, 100), (640, 100), adds=True)
    brush(strokes, (300, 100), (300, 100), adds=False)
    nothing, everything = np.zeros((6, 8), bool), np.ones((6, 8), bool)
    row = int(100 / 480 * 6 * FINER)
    col = int(300 / 640 * 8 * FINER)
    for below in (nothing, everything):
        cells = strokes.edits.applied(below)
        assert cells[row, 0]
        assert not cells[row, col]
    assert not (strokes.edits.added_YX & strokes.edits.removed_YX).any()


def test_clearing_is_undone_too():
    strokes = Strokes(Edits.none(LATTICE))
    brush(strokes, (100, 100), (200, 200), adds=True)
    strokes.clear()
    assert strokes.edits.is_empty
    strokes.undo()
    assert not strokes.edits.is_empty


def test_smallest_brush_takes_the_cell_under_it():
    edits = Edits.none(LATTICE).brushed((333, 222), (333, 222), 0.01, is_adding=True)
    assert edits.added_YX.sum() == 1
    assert Edits.none(LATTICE).brushed((-50, 222), (-50, 222), 5, is_adding=True).is_empty


def test_edits_stay_where_they_are_when_patches_lie_otherwise():
    edits = Edits.none(LATTICE).brushed((100, 100), (400, 300), 40, is_adding=True)
    moved = edits.on(OTHER)
    assert moved.added_YX.shape == (12 * FINER, 16 * FINER)
    assert moved.added_YX.mean() == edits.added_YX.mean()
    np.testing.assert_array_equal(moved.on(LATTICE).added_YX, edits.added_YX)


def test_edits_that_cannot_be_read_are_not_written_over(qtbot, tmp_path):
    project = scanned(tmp_path, 2)
    path = path_of(project, 1)
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    with made_desk(qtbot) as desk:
        desk.session.open(project)
        told = []
        desk.session.noticed.connect(told.append)
        brush = MaskBrush(desk, lambda: None)
        brush.turn_to(1)
        qtbot.waitUntil(lambda: len(told) == 1)
        brush.begin(LATTICE)
        brush.go_on(QPointF(100, 100), QPointF(200, 200), 30, is_adding=True)
        brush.write()
        desk.background.finish()
        assert len(told) == 2, "it is said again why nothing is brushed"
    assert path.read_bytes() == b"damaged"


def test_the_same_picture_number_in_another_project_is_another_picture(qtbot, tmp_path):
    first, second = scanned(tmp_path / "first", 2), scanned(tmp_path / "second", 2)
    with made_desk(qtbot) as desk:
        looker = Looker(desk, LargePictures(desk.background), desk.vision)
        desk.session.open(first)
        qtbot.waitUntil(lambda: len(desk.session.state.table) == 2)
        assert looker.look_at(1)
        looker.pinned = (2, 2)
        looker.looks.models["bundled"] = MODEL
        desk.session.open(second)
        looker.look()
        assert looker.wanted is None, "nothing is asked about a picture of a project that was closed"
        qtbot.waitUntil(lambda: len(desk.session.state.table) == 2)
        assert not looker.is_here
        assert looker.look_at(1)
        assert looker.pinned is None


def test_edits_turn_a_mask_into_any_other():
    random = np.random.default_rng(0)
    mask = random.random((6, 8)) > 0.5
    wanted = random.random((6 * FINER, 8 * FINER)) > 0.5
    edits = Edits.none(LATTICE).turning(mask, wanted)
    np.testing.assert_array_equal(edits.applied(mask), wanted)
    assert not (edits.added_YX & edits.removed_YX).any()


def test_of_a_mask_the_largest_part_stays_corners_connecting():
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[2, 1] = True
    mask[4:6, 6] = True
    largest = largest_part(mask)
    assert np.argwhere(largest).tolist() == [[0, 0], [1, 1], [2, 1]]
    assert not largest_part(np.zeros((3, 3), bool)).any()
    assert largest_part(np.ones((3, 3), bool)).all()
