import math
from pathlib import Path

import numpy as np
import pytest

from dinoviz.views.train.log import RunLog, condensed, smoothed, thinned
from engine.protocol import Noticed
from engine.recipes import Recipe, settle
from engine.settings import Facts
from tests.dinoviz.runs import measured, tell, write_plan


@pytest.fixture
def run(tmp_path) -> Path:
    write_plan(tmp_path / "0001", settle(Recipe.of({"batch": 4, "epochs": 16}), Facts(n_pictures=12)))
    return tmp_path / "0001"


def test_a_run_is_read_on_as_it_grows(run):
    log = RunLog(run, 1)
    assert log.read_all().step == 0
    tell(run, measured(1, loss=5.0), measured(2, loss=math.nan))
    with (run / "events.jsonl").open("a") as file:
        file.write('{"kind": "measured", "st')  # cut in the middle of a line
    assert log.read_on() == 2
    with (run / "events.jsonl").open("a") as file:
        file.write('ep": 3, "values": {"loss": 4.0}}\n')
    assert log.read_on() == 1
    steps, losses = log.series("loss")
    assert steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(losses, [5.0, np.nan, 4.0])
    assert log.best("loss") == 5.0


def test_what_a_resumed_run_forgot_is_forgotten(run):
    tell(run, measured(1), measured(2))
    log = RunLog(run, 1).read_all()
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "new").write_text(lines[0])
    (run / "new").replace(run / "events.jsonl")
    assert log.read_all().series("loss")[0].tolist() == [1]


def test_lines_that_are_none_are_left_out(run):
    (run / "events.jsonl").write_text('no json\n{"kind": "later"}\n\n{"kind": "measured", "nonsense": 1}\n')
    tell(run, measured(5))
    assert RunLog(run, 1).read_all().step == 5


def test_axes_are_steps_pictures_and_minutes(run):
    tell(run, measured(10, pictures_per_s=4.0), measured(20, pictures_per_s=2.0))
    log = RunLog(run, 1).read_all()
    assert log.series("loss", "pictures")[0].tolist() == [40, 80]
    np.testing.assert_allclose(log.series("loss", "time")[0], [10 / 60, 30 / 60])


def test_a_collapse_is_told_in_words_with_what_to_do(run):
    tell(run, measured(150, ln_k_share=1.0), Noticed(level="warning", text="uniform", hint="do"))
    log = RunLog(run, 1).read_all()
    ((text, hint),) = log.diagnosis()
    assert "uniform" in text
    assert "head_norm" in hint
    tell(run, measured(160))
    assert log.read_all().diagnosis() == []
    assert log.lines == ["uniform do"]


def test_a_spike_survives_thinning():
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[54_321] = 7.0
    thin_x, thin_y = thinned(x, y, 0, 1e5, 800)
    assert len(thin_x) < 1700
    assert thin_y.max() == 7.0
    assert (np.diff(thin_x) >= 0).all()
    near_x, near_y = thinned(x, y, 54_300, 54_340, 800)
    assert len(near_x) == len(near_y) < 50


def test_smoothing_keeps_constants_gaps_and_ends():
    values = np.full(50, 3.0)
    values[10] = np.nan
    mean = smoothed(values, 9)
    assert np.isnan(mean[10])
    np.testing.assert_allclose(np.delete(mean, 10), 3.0)
    ramp = np.arange(20.0)
    np.testing.assert_allclose(smoothed(ramp, 7), ramp)
    assert smoothed(ramp, 1) is ramp


def test_condensing_takes_means_of_neighbours():
    x, y = np.arange(10.0), np.arange(10.0)
    y[3] = np.nan
    few_x, few_y, each = condensed(x, y, 4)
    assert each == 3
    assert few_x.tolist() == [1, 4, 7]
    assert few_y.tolist() == [1, 4.5, 7]
    assert condensed(x, y, 10)[2] == 1
