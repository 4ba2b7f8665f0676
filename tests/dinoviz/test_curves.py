from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent

from dinoviz import theme
from dinoviz.views.train.charts import Lens, short, ticks
from dinoviz.views.train.curves import CurvesPanel
from dinoviz.views.train.log import RunLog
from engine.recipes import Recipe, settle
from engine.settings import Facts
from tests.dinoviz.runs import measured, tell, write_plan


def made_log(folder: Path, number: int, n: int, **more: float) -> RunLog:
    run = folder / f"{number:04d}"
    write_plan(run, settle(Recipe.of({"batch": 4, "epochs": 16}), Facts(n_pictures=12)))
    tell(run, *(measured(step, loss=5 - step / 50, **more) for step in range(1, n + 1)))
    return RunLog(run, number).read_all()


@pytest.fixture
def panel(qtbot, tmp_path) -> CurvesPanel:
    chosen: list[object] = []
    made = CurvesPanel(chosen.append, chosen.append)
    made.chosen = chosen
    qtbot.addWidget(made)
    made.resize(1000, 700)
    made.show()
    made.show_runs([made_log(tmp_path, 1, 40), made_log(tmp_path, 2, 20, knn=0.3)])
    return made


def chart(panel: CurvesPanel, name: str):
    return panel.charts[name][1]


def test_only_what_was_measured_has_a_chart(panel):
    assert chart(panel, "loss").isVisible()
    assert chart(panel, "knn").isVisible()
    assert not chart(panel, "neighbours_kept").isVisible()
    panel.show_runs(panel._logs[:1])
    assert not chart(panel, "knn").isVisible()


def test_the_axis_reaches_to_the_end_of_the_plan(panel):
    assert panel.lens.whole == (0.0, 48.0)
    panel.set_axis("pictures")
    assert panel.lens.whole == (0.0, 192.0)


def test_the_cross_hair_is_shared_and_moves_by_mouse_and_keys(qtbot, panel):
    loss = chart(panel, "loss")
    qtbot.mouseMove(loss, QPoint(loss.width() // 2, loss.height() // 2))
    first = panel.lens.place
    assert first is not None
    qtbot.keyClick(loss, Qt.Key.Key_Right)
    assert panel.lens.place > first
    qtbot.mouseMove(loss, QPoint(2, 2))
    assert panel.lens.place is None


def test_the_wheel_zooms_with_ctrl_only_and_a_double_click_shows_all(qtbot, panel):
    loss = chart(panel, "loss")

    def wheel(modifier: Qt.KeyboardModifier) -> None:
        place = QPointF(loss.width() / 2, loss.height() / 2)
        event = QWheelEvent(
            place,
            loss.mapToGlobal(place),
            QPoint(),
            QPoint(0, 240),
            Qt.MouseButton.NoButton,
            modifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        loss.wheelEvent(event)

    wheel(Qt.KeyboardModifier.NoModifier)
    assert panel.lens.seen == panel.lens.whole
    wheel(Qt.KeyboardModifier.ControlModifier)
    low, high = panel.lens.seen
    assert high - low < 48
    qtbot.mouseDClick(loss, Qt.MouseButton.LeftButton, pos=QPoint(loss.width() // 2, 80))
    assert panel.lens.seen == panel.lens.whole


def test_a_choice_is_told_and_drawn_when_it_was_made(qtbot, panel):
    qtbot.mouseClick(panel.axis._buttons["time"], Qt.MouseButton.LeftButton)
    panel.smoothing.setValue(9)
    assert panel.chosen == ["time", 9]
    panel.set_axis("time")
    assert panel.lens.whole[1] < 1.0  # minutes


def test_dark_colours_repaint_the_charts(panel):
    before = panel.grab().toImage().pixelColor(500, 300)
    mode = theme.is_dark()
    theme.use("light" if mode else "dark")
    after = panel.grab().toImage().pixelColor(500, 300)
    theme.use("dark" if mode else "light")
    assert before != after


def test_panning_and_zooming_stay_inside():
    lens = Lens()
    lens.set_whole(0, 100)
    lens.zoom(10, 4)
    assert lens.seen[1] - lens.seen[0] == pytest.approx(25)
    lens.pan(-1000)
    assert lens.seen[0] == 0
    lens.pan(1000)
    assert lens.seen[1] == 100
    lens.zoom(50, 1e9)
    assert lens.seen[1] - lens.seen[0] == pytest.approx(0.1)
    lens.set_whole(0, 200)
    assert lens.seen[1] - lens.seen[0] == pytest.approx(0.2) or lens.seen[1] <= 200


def test_ticks_are_round_and_numbers_short():
    assert ticks(0, 1, 4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(-3, 7, 4) == [-2.5, 0.0, 2.5, 5.0]
    np.testing.assert_allclose(ticks(4.9e-4, 5.1e-4, 2), [4.9e-4, 5e-4, 5.1e-4])
    assert [short(v) for v in (0.25, 1234.0, 34_000.0, 1.2e6)] == ["0.25", "1234", "34k", "1.2M"]
