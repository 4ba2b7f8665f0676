"""Look with the real vision service and the bundled network, driven by mouse and keys."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog

from dinoviz.views.look.view import LookView
from dinoviz.widgets.picture.overlays import largest_part
from engine.catalogue import BUNDLED, ResNetShape
from engine.exporting.edited import path_of
from engine.facts import BUNDLED_FILE
from engine.models.resnet import ResNet
from engine.models.weights import write_backbone
from tests.dinoviz.desks import made_desk
from tests.dinoviz.projects import scanned

PATIENCE_MS = 60_000
"""The service loads torch, beside whatever else this machine does."""


@pytest.fixture
def desk(qtbot):
    with made_desk(qtbot) as made:
        yield made


@pytest.fixture
def look(qtbot, desk, tmp_path, monkeypatch):
    def arguments():  # as the window starts it: with the bundled network, whichever is chosen
        project = desk.session.state.project
        return None if project is None else ["--model", BUNDLED, "--project", str(project)]

    monkeypatch.setattr(desk.vision, "_arguments", arguments)
    view = LookView(desk)
    qtbot.addWidget(view)
    view.resize(1200, 800)
    view.show()
    desk.session.open(scanned(tmp_path, 6, ()))
    qtbot.waitUntil(lambda: len(desk.session.state.shown) == 6, timeout=PATIENCE_MS)
    yield view
    view.close()


def choose(desk, **fields):
    desk.session.choose(look=replace(desk.session.state.choices.look, **fields))


def wait(qtbot, check):
    qtbot.waitUntil(check, timeout=PATIENCE_MS)


def current_is_seen(look, desk):
    return (
        look._looker.seen is not None and look._looker.picture == desk.session.state.current and look._looker.is_seen()
    )


def test_first_picture_is_looked_at_and_the_next_one_is_there_before_it_is_asked_for(qtbot, look, desk):
    QTest.mouseClick(look._empty.button, Qt.MouseButton.LeftButton)
    wait(qtbot, lambda: current_is_seen(look, desk))
    assert desk.session.state.current == desk.session.state.shown[0]
    assert len(look._canvas._layers) == 1
    assert [tile.title for tile in look._strip.tiles] == ["Mean", "Head 1", "Head 2", "Head 3"]
    wait(qtbot, lambda: len(look._looker.looks._kept) == 2)
    desk.actions.trigger("look.next")
    wait(qtbot, lambda: look._looker.picture == desk.session.state.shown[1])
    assert current_is_seen(look, desk), "without a question"

    QTest.mouseClick(look._strip.viewport(), Qt.MouseButton.LeftButton, pos=look._strip.rect_of(2).center())
    assert look._choices.heads == (1,)
    desk.actions.trigger("look.mask")
    wait(qtbot, lambda: look._mask is not None)
    small = look._mask.share
    choose(desk, keep=0.95)
    wait(qtbot, lambda: look._mask.share > small)
    assert f"{100 * look._mask.share:.1f} %" in look._panel._area.text()


def test_mask_is_brushed_undone_kept_and_saved(qtbot, look, desk, tmp_path, monkeypatch):
    desk.session.step(1)
    choose(desk, shows="mask", keep=0.3)
    wait(qtbot, lambda: look._mask is not None and look._canvas.picture is not None)
    before = look._mask.pixels
    desk.actions.trigger("look.brush")
    canvas = look._canvas
    middle = canvas.rect().center()
    for offset in (QPoint(0, 0), QPoint(80, 60)):
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle + offset)
        QTest.mouseMove(canvas, middle + offset + QPoint(60, 0))
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + offset + QPoint(60, 0))
    both = look._mask.pixels
    assert both > before
    picture = desk.session.state.current
    file = path_of(desk.session.state.project, picture)
    wait(qtbot, file.is_file)
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    wait(qtbot, lambda: before < look._mask.pixels < both)
    pixels = look._mask.pixels

    out = tmp_path / "mask.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(out), ""))
    desk.actions.trigger("look.save_mask")
    wait(qtbot, out.is_file)
    saved = np.asarray(Image.open(out))
    assert saved.shape == (60, 80)
    assert (saved == 255).sum() == pixels
    assert set(np.unique(saved)) <= {0, 255}

    desk.session.step(1)
    wait(qtbot, lambda: look._looker.picture != picture and look._mask is not None)
    desk.session.step(-1)
    wait(qtbot, lambda: look._looker.picture == picture and look._brush.strokes is not None)
    wait(qtbot, lambda: look._mask is not None and look._mask.pixels == pixels)

    done = []
    look._export._folder.setText(str(tmp_path / "masks"))
    desk.jobs.ended.connect(done.append)
    QTest.mouseClick(look._export._go, Qt.MouseButton.LeftButton)
    wait(qtbot, lambda: bool(done))
    assert done[0].state == "done", done[0].error
    rows = [json.loads(line) for line in (tmp_path / "masks" / "pictures.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows if row.get("is_edited")] == [picture]
    (exported,) = (tmp_path / "masks").rglob(f"{desk.session.state.table.name(picture).removesuffix('.jpg')}*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(exported)), saved)


def test_patch_under_the_mouse_looks_and_is_kept_by_a_click(qtbot, look, desk):
    desk.session.step(1)
    choose(desk, query="patch")
    wait(qtbot, lambda: current_is_seen(look, desk))
    canvas = look._canvas
    at = canvas.rect().center()
    QTest.mouseMove(canvas, at)
    wait(qtbot, lambda: look._looker.hovered is not None and look._looker.wanted.query == look._looker.hovered)
    wait(qtbot, lambda: look._looker.looks.kept(look._looker.wanted) is look._looker.seen)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    pinned = look._looker.pinned
    assert pinned == look._looker.hovered
    QTest.mouseMove(canvas, at + QPoint(120, 90))
    qtbot.wait(60)
    assert look._looker.wanted.query == pinned
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert look._looker.pinned is None

    desk.actions.trigger("look.likeness")
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)
    choose(desk, is_together=True)
    wait(qtbot, lambda: look._looker.seen is not None and len(getattr(look._looker.seen, "arrays", ())) == 6)
    assert look._looker.seen.arrays[0][look._looker.pinned] == pytest.approx(1, abs=1e-4)
    wait(qtbot, lambda: all(tile.over is not None for tile in look._strip.tiles))

    first, patch = desk.session.state.current, look._looker.pinned
    desk.session.select(desk.session.state.shown)
    wait(qtbot, lambda: set(look._looker.gallery()) == set(desk.session.state.shown.tolist()))
    second = look._looker.gallery()[3]
    there = look._looker.seen.arrays[3]
    QTest.mouseClick(look._strip.viewport(), Qt.MouseButton.LeftButton, pos=look._strip.rect_of(3).center())
    wait(qtbot, lambda: look._looker.picture == second and look._looker.is_seen())
    np.testing.assert_array_equal(look._looker.seen.arrays[0], there)
    back = look._looker.gallery().index(first)
    assert look._looker.seen.source == back
    assert look._looker.seen.arrays[back][patch] == pytest.approx(1, abs=1e-4)
    desk.session.set_current(first)
    wait(qtbot, lambda: look._looker.picture == first and look._looker.is_seen())
    assert look._looker.pinned_here == patch
    desk.session.set_current(second)
    choose(desk, shows="attention")
    wait(qtbot, lambda: current_is_seen(look, desk) and look._looker.wanted.query == "cls")


def test_matches_join_the_current_picture_with_one_that_is_chosen_below(qtbot, look, desk):
    desk.session.step(1)
    choose(desk, shows="matches", least=0.0)
    wait(qtbot, lambda: current_is_seen(look, desk) and len(look._lines.lines) > 0)
    assert look._other.isVisible()
    QTest.mouseClick(look._strip.viewport(), Qt.MouseButton.LeftButton, pos=look._strip.rect_of(3).center())
    wait(qtbot, lambda: look._looker.wanted.other.name == "p03.jpg")
    wait(qtbot, lambda: look._looker.looks.kept(look._looker.wanted) is look._looker.seen)
    desk.actions.trigger("look.copy_seen")
    wait(qtbot, lambda: QGuiApplication.clipboard().image().width() > 160)
    assert QGuiApplication.clipboard().image().height() == 60
    choose(desk, shows="attention")
    wait(qtbot, lambda: look._lines.isHidden() and not look._other.isVisible())


def test_second_network_stands_beside_and_one_that_is_not_there_is_told_in_words(qtbot, look, desk, tmp_path):
    desk.session.step(1)
    other = tmp_path / "other.safetensors"
    other.write_bytes(BUNDLED_FILE.read_bytes())
    choose(desk, other_model=str(other))
    wait(qtbot, lambda: look._looker.other_seen is not None)
    np.testing.assert_allclose(look._looker.other_seen.maps_HRC, look._looker.seen.maps_HRC, atol=1e-6)
    assert look._other.view is look._canvas.view
    choose(desk, other_model="")
    desk.session.use_model(str(tmp_path / "nowhere.safetensors"))
    wait(qtbot, look._problem_bar.isVisible)
    assert "nowhere.safetensors" in look._problem_text.text()
    desk.session.use_model("bundled")
    wait(qtbot, lambda: current_is_seen(look, desk) and not look._problem_bar.isVisible())


def test_network_without_attention_says_so_and_shows_likeness(qtbot, look, desk, tmp_path):
    shape = ResNetShape(width=64, blocks=(1, 1, 1, 1))
    network = tmp_path / "resnet.safetensors"
    write_backbone(network, ResNet(shape), shape, about={})
    desk.session.step(1)
    desk.session.use_model(str(network))
    wait(qtbot, look._problem_bar.isVisible)
    assert "no attention" in look._problem_text.text()
    assert not look._export._go.isEnabled()
    choose(desk, shows="likeness")
    wait(qtbot, lambda: not look._problem_bar.isVisible())
    QTest.mouseClick(look._canvas, Qt.MouseButton.LeftButton, pos=look._canvas.rect().center())
    wait(qtbot, lambda: current_is_seen(look, desk))
    assert look._looker.seen.lattices[0] == look._looker.lattice()


def test_a_mask_is_inverted_and_kept_to_its_largest_part_as_edits_that_are_undone(qtbot, look, desk):
    desk.session.step(1)
    choose(desk, shows="mask", keep=0.3)
    wait(qtbot, lambda: look._mask is not None and look._canvas.picture is not None)
    wait(qtbot, lambda: look._brush._key in look._brush._read)
    before = look._mask
    height, width = before.lattice.picture
    QTest.mouseClick(look._panel._invert, Qt.MouseButton.LeftButton)
    assert look._mask.pixels == height * width - before.pixels
    file = path_of(desk.session.state.project, desk.session.state.current)
    wait(qtbot, file.is_file)
    inverted = look._mask.cells_YX
    QTest.mouseClick(look._panel._largest, Qt.MouseButton.LeftButton)
    np.testing.assert_array_equal(look._mask.cells_YX, largest_part(inverted))
    for pixels in (int(inverted.sum()), None):
        QTest.keyClick(look._canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        wait(qtbot, lambda pixels=pixels: pixels is None or look._mask.cells_YX.sum() == pixels)
    assert look._mask.pixels == before.pixels
    wait(qtbot, lambda: not file.exists())
    assert not look._panel._other_head.isHidden()


def test_undo_means_the_session_again_after_something_else_was_done(qtbot, look, desk):
    desk.session.step(1)
    choose(desk, shows="mask", keep=0.3)
    wait(qtbot, lambda: look._mask is not None and look._brush._key in look._brush._read)
    desk.actions.trigger("look.invert")
    assert look._brush.is_latest
    desk.session.rate([desk.session.state.current], 3)
    assert not look._brush.is_latest
