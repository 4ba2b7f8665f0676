"""Strokes over a mask."""

import numpy as np
from PySide6.QtCore import QPointF

from dinoviz.views.look.strokes import Strokes
from engine.exporting.edited import FINER, Edits
from engine.questions import Lattice

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
