"""A list of recipes becomes a table: checked before, run as trainings of their own, gone on with after a stop."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine import scoring
from engine.errors import BadInput, BadRecipe, DiskFull, Stopped
from engine.project import Picture
from engine.protocol import Failed, Finished, Made, Measured, Noticed, encode
from engine.recipes import Recipe, settle
from engine.run_files import EVENTS
from engine.scoring import Scores, divided, frozen_features, score
from engine.settings import Facts
from engine.sweeps import conduct, curves
from engine.sweeps.children import Ended, flags_of
from engine.sweeps.conduct import Conductor, Job, Place
from engine.sweeps.curves import Curve, curve_of, figure_of
from engine.sweeps.ledger import Ledger, key_of, labels_key
from engine.sweeps.lists import BUILT_IN, built_in, checked, read_list
from engine.sweeps.marks import NO, YES, cell
from engine.sweeps.tables import RunResult, cells_of, drawn, header_of, lines_of, markdown, result_of
from engine.terminal import run
from tests.killing import TINY
from tests.makers import tiny_backbone, write_photos

FACTS = Facts(n_pictures=1653, median_side=100)
ENGINE = [sys.executable, "-m", "engine"]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def tiny_list(path: Path, runs: str, **changed: str) -> Path:
    fields = {
        name.replace("-", "_"): value
        for name, value in (TINY | {k.replace("_", "-"): v for k, v in changed.items()}).items()
    }
    lines = [f"{name} = {value if value.replace('.', '').isdigit() else repr(value)}" for name, value in fields.items()]
    return written(path, "\n".join(lines) + "\n" + runs)


# What a list is


def test_fields_of_a_run_win_over_flags_and_flags_over_what_all_share(tmp_path):
    path = written(
        tmp_path / "l.toml",
        "epochs = 3\nkoleo = 0.3\n[crops]\nlocal_crops = 2\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\nkoleo = 0.0\n",
    )
    sweep = read_list(path)
    flags = Recipe.of({"koleo": 0.1, "epochs": 5})
    first, second = (sweep.recipe_of(row, flags, 7).asked for row in sweep.rows)
    assert first == {"epochs": 5, "koleo": 0.1, "local_crops": 2, "seed": 7}
    assert second == {"epochs": 5, "koleo": 0.0, "local_crops": 2, "seed": 7}
    assert sweep.columns == ("koleo",)


def test_what_all_share_is_left_out_where_the_objective_does_not_heed_it(tmp_path):
    path = written(tmp_path / "l.toml", "koleo = 0.3\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\nobjective = 'byol'\n")
    sweep = read_list(path)
    flags = Recipe.of({"teacher_temperature": 0.05, "epochs": 5})
    first, second = (sweep.recipe_of(row, flags, 0).asked for row in sweep.rows)
    assert "koleo" in first
    assert "teacher_temperature" in first
    assert second == {"objective": "byol", "epochs": 5, "seed": 0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs = 3", "has no runs"),
        ("run = 3", "has no runs"),
        ("[[run]]\nepochs = 3", "Run 1 of the list has no name"),
        ("[[run]]\nname = 'a'\nepoch = 3", "Run 'a': There is no setting 'epoch'.*'epochs'"),
        ("[[run]]\nname = 'a'\nlocal_crops = 99", "Run 'a': '99' is no value for local_crops"),
        ("epoch = 3\n[[run]]\nname = 'a'", "What all runs share: There is no setting 'epoch'"),
        ("[[run]]\nname = 'a'\n[[run]]\nname = 'a'", "Two runs .* have the name 'a'"),
        ("[[run]]\nname = 'a'\npaper = { knn = 'high' }", "Run 'a': paper"),
        ("columns = 3\n[[run]]\nname = 'a'", "no column '3'"),
        ("columns = ['Mom']\n[[run]]\nname = 'a'", "no column 'Mom'"),
        ("[[run]\n", "is no TOML file"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_the_name_of_the_run(tmp_path, text, told):
    with pytest.raises(BadRecipe) as problem:
        read_list(written(tmp_path / "l.toml", text))
    assert re.search(told, str(problem.value))


def test_a_list_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="Cannot read the list"):
        read_list(tmp_path / "none.toml")


@pytest.mark.parametrize("table", BUILT_IN)
def test_every_run_of_the_papers_lists_can_be_settled(table):
    sweep = read_list(built_in(table))
    for row in sweep.rows:
        plan = checked(lambda row=row: settle(sweep.recipe_of(row, Recipe(), 0), FACTS), row.name)
        assert all(cell(column, plan.values()) for column in sweep.columns)


def marks_of(table: str) -> dict[str, list[str]]:
    sweep = read_list(built_in(table))
    plans = {row.name: settle(sweep.recipe_of(row, Recipe(), 0), FACTS) for row in sweep.rows}
    return {name: [cell(column, plan.values()) for column in sweep.columns] for name, plan in plans.items()}


def test_table_7_has_the_marks_and_figures_of_the_paper():
    """DINO tab. 7: Mom., SK, MC, Loss, Pred., k-NN, Lin."""
    published = [
        [YES, NO, YES, "CE", NO, 72.8, 76.1],
        [NO, NO, YES, "CE", NO, 0.1, 0.1],
        [YES, YES, YES, "CE", NO, 72.2, 76.0],
        [YES, NO, NO, "CE", NO, 67.9, 72.5],
        [YES, NO, YES, "MSE", NO, 52.6, 62.4],
        [YES, NO, YES, "CE", YES, 71.8, 75.6],
        [YES, NO, NO, "MSE", YES, 66.6, 71.4],
        [YES, NO, NO, "INCE", NO, 62.0, 71.6],
        [NO, YES, YES, "CE", NO, 64.7, 71.8],
    ]
    rows = read_list(built_in("7")).rows
    ours = [
        [*marks, row.paper["knn"], row.paper["linear"]] for marks, row in zip(marks_of("7").values(), rows, strict=True)
    ]
    assert ours == published


def test_table_15_and_figure_6_vary_what_the_paper_varies():
    assert list(marks_of("15").values()) == [
        [momentum, operation]
        for momentum in (YES, NO)
        for operation in ("centring", "softmax (batch)", "Sinkhorn-Knopp")
    ]
    assert [marks[0] for marks in marks_of("fig6").values()] == [
        "student copy",
        "previous iteration",
        "previous epoch",
        "momentum",
    ]


@given(
    st.dictionaries(
        st.sampled_from(["epochs", "local_crops", "koleo", "predictor", "centring", "head_norm"]), st.none(), min_size=1
    ),
    st.data(),
)
def test_flags_ask_for_what_the_recipe_asks_for(names, data):
    choices = {
        "epochs": st.integers(1, 900),
        "local_crops": st.integers(0, 20),
        "koleo": st.floats(0, 1),
        "predictor": st.booleans(),
        "centring": st.sampled_from(["ema", "none"]),
        "head_norm": st.sampled_from(["none", "batch"]),
    }
    recipe = Recipe.of({name: data.draw(choices[name]) for name in names})
    given_ = dict(flag.removeprefix("--").split("=") for flag in flags_of(recipe.asked))
    assert Recipe.of({name.replace("-", "_"): value for name, value in given_.items()}) == recipe


# What was done


def test_a_ledger_is_read_as_it_was_written_and_tells_other_recipes_and_pictures_apart(tmp_path):
    recipe, other = Recipe.of({"epochs": 3}), Recipe.of({"epochs": 4})
    key = key_of(recipe, "aa")
    assert len({key, key_of(other, "aa"), key_of(recipe, "bb")}) == 3
    assert key == key_of(Recipe.of({"epochs": 3}), "aa")
    ledger = Ledger(tmp_path)
    scores = Scores(knn=0.5, linear=0.6, rate=0.1, blocks=4, pool=True, by_class={"a": 1.0}, known=9, asked=3, side=48)
    kept = ledger.change(ledger.entry("a", 0, key), state="measured", run="runs/0001", scores=scores)
    assert Ledger(tmp_path).entry("a", 0, key) == kept
    assert Ledger(tmp_path).entry("a", 1, key).run == ""


def test_a_ledger_that_was_damaged_is_not_written_over(tmp_path):
    written(tmp_path / "sweep.json", "{")
    with pytest.raises(BadInput, match="cannot be read"):
        Ledger(tmp_path)


# Who is asked about


def pictures(*rows: tuple[str, str | None], n: int = 1) -> list[Picture]:
    return [
        Picture(path=f"{label}/{split}/{i}.jpg", size_bytes=1, mtime_ns=1, hash="h", label=label, split=split)
        for label, split in rows
        for i in range(n)
    ]


def test_test_pictures_are_asked_about_and_validation_pictures_choose():
    division = divided(pictures(("a", "train"), ("b", "train"), ("a", "val"), ("a", "test")))
    assert [len(part) for part in (division.known, division.validation, division.asked)] == [2, 1, 1]
    without = divided(pictures(("a", "train"), ("b", "train"), ("a", "val")))
    assert [p.split for p in without.asked] == ["val"]
    assert without.validation == []


def test_without_splits_every_tenth_is_asked_about_and_nobody_twice():
    division = divided(pictures(("a", None), ("b", None), n=25))
    assert len(division.asked) == 5
    assert {p.path for p in division.asked}.isdisjoint(p.path for p in division.known)
    assert len(division.known) == 45


@pytest.mark.parametrize("rows", [[], [("a", None)], [("a", "train"), ("a", "test")], [(None, None), (None, "test")]])
def test_without_two_labels_nothing_is_measured(rows):
    assert divided(pictures(*rows, n=20)) is None


def test_other_labels_are_measured_anew():
    before, after = pictures(("a", "train"), n=3), pictures(("b", "train"), n=3)
    assert labels_key(before) != labels_key(after)
    assert labels_key(before) == labels_key([*before, *pictures((None, None))])


def test_pictures_that_cannot_be_read_are_left_out_of_the_scores(tmp_path):
    write_photos(tmp_path, 12, labels=("a", "b", "c"))
    rows = [
        Picture(path=f"{label}/p{i:02d}.jpg", size_bytes=1, mtime_ns=1, label=label, split="train" if i < 9 else "test")
        for i, label in enumerate("abc" * 4)
    ]
    for i in (2, 5, 8):
        (tmp_path / f"c/p{i:02d}.jpg").write_bytes(b"")
    scores = score(tiny_backbone(), 32, tmp_path, divided(rows))
    assert (scores.known, scores.asked, scores.side) == (6, 3, 32)
    assert sorted(scores.by_class) == ["a", "b"]
    assert scores.linear <= 2 / 3, "a class nobody knows is never right"


def test_scores_are_those_of_the_features_of_each_picture_alone(tmp_path, monkeypatch):
    """However many pictures are seen together."""
    write_photos(tmp_path, 20, labels=("a", "b"))
    rows = [
        Picture(path=f"{label}/p{i:02d}.jpg", size_bytes=1, mtime_ns=1, label=label)
        for i, label in enumerate("ab" * 10)
    ]
    together, read = frozen_features(tiny_backbone(), 32, tmp_path, rows, "cpu")
    monkeypatch.setattr(scoring, "MOST_OF_A_BATCH", 3)
    apart, read_apart = frozen_features(tiny_backbone(), 32, tmp_path, rows, "cpu")
    assert read == read_apart == rows
    torch.testing.assert_close(together.cls_NLD, apart.cls_NLD)
    torch.testing.assert_close(together.pooled_ND, apart.pooled_ND)


def test_a_folder_without_a_readable_picture_is_refused(tmp_path):
    with pytest.raises(BadInput, match="None of the 4 labelled pictures"):
        frozen_features(tiny_backbone(), 32, tmp_path, pictures(("a", None), ("b", None), n=2), "cpu")


# What becomes of a run, whatever it says


class Scripted:
    """A child that says what it is told to and ends."""

    says: ClassVar[dict[str, list]] = {}
    started: ClassVar[list[list[str]]] = []

    def __init__(self, argv, log, inbox: SimpleQueue, environment):
        self.started.append([*argv, *environment.values()])
        for message in self.says[argv[1] if argv[0] == "resume" else argv[-1]]:
            inbox.put((self, message))

    def stop(self):
        pass


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """A conductor whose children are scripted by the seed they are asked for."""
    monkeypatch.setattr(conduct, "Child", Scripted)
    monkeypatch.setattr(Scripted, "started", [])
    folder = tmp_path / "p.dinoviz/sweeps/s"
    folder.mkdir(parents=True)
    told = []
    place = Place(
        project=tmp_path / "p.dinoviz", pictures=tmp_path, ledger=Ledger(folder), division=None, measured_on=""
    )

    def conductor(says, *, parallel=1, should_stop=lambda: False):
        Scripted.says = {f"--seed={seed}": messages for seed, messages in says.items()}
        return Conductor(place, parallel, lambda slot: {"PLACE": str(slot)}, told.append, should_stop), told

    return conductor


def job(seed: int = 0, **asked) -> Job:
    recipe = Recipe.of({"seed": seed, **asked})
    return Job(name="a", seed=seed, recipe=recipe, plan=settle(recipe, FACTS), key=key_of(recipe, "x"))


def made_run(project: Path, number: int, values: dict[str, float] | None = None) -> Made:
    folder = project / f"runs/{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"plan": settle(Recipe(), FACTS).model_dump()}
    (folder / "plan.json").write_text(json.dumps(plan))
    if values:
        lines = [encode(Measured(step=step, values=values)) for step in (1, 5000)]
        (folder / EVENTS).write_text("\n".join(lines) + "\n")
    return Made(what="run", path=str(folder))


def test_a_run_that_diverges_or_fails_is_a_row_and_the_others_go_on(scripted, tmp_path):
    project = tmp_path / "p.dinoviz"
    runs = [made_run(project, number, {"loss": 2.0}) for number in (1, 2, 3)]
    conductor, told = scripted(
        {
            0: [runs[0], Failed(message="The loss is not finite.", hint="Lower it.", exit_code=7), Ended(7)],
            1: [runs[1], Failed(message="No memory.", hint="", exit_code=5), Ended(5)],
            2: [
                runs[2],
                Noticed(level="warning", text="hot"),
                Finished(outcome={"replaced": {"a.jpg": "x"}}),
                Ended(4),
            ],
        }
    )
    jobs = [job(seed) for seed in range(3)]
    entries = conductor.run(jobs)
    assert [entry.state for entry in entries] == ["diverged", "failed", "trained"]
    assert entries[0].problem == "The loss is not finite. Lower it."
    assert entries[2].left_out == 1
    assert any(isinstance(m, Noticed) and m.text == "a, seed 2: hot" for m in told)
    results = [result_of(one, entry, project, []) for one, entry in zip(jobs, entries, strict=True)]
    assert [result.health for result in results] == ["diverged", "failed", "well"]


def test_what_is_done_is_not_run_again_and_what_is_not_is_resumed(scripted, tmp_path):
    project = tmp_path / "p.dinoviz"
    runs = {seed: made_run(project, seed + 1) for seed in range(3)}
    jobs = [job(seed) for seed in range(3)]
    conductor, _ = scripted({0: [runs[0], Ended(0)], 1: [runs[1], Ended(-9)], 2: [runs[2], Ended(7)]})
    conductor.run(jobs)
    again, _ = scripted({})
    Scripted.says = {str(project / "runs/0002"): [Ended(0)]}
    Scripted.started.clear()
    assert [entry.state for entry in again.run(jobs)] == ["trained", "trained", "diverged"]
    assert Scripted.started == [["resume", str(project / "runs/0002"), "0"]]


def test_a_run_whose_folder_was_deleted_is_started_anew(scripted, tmp_path):
    project = tmp_path / "p.dinoviz"
    conductor, _ = scripted({0: [made_run(project, 1), Ended(0)]})
    conductor.run([job()])
    (project / "runs/0001/plan.json").unlink()
    assert not conductor.is_done(job())
    assert conductor.command(job())[0] == "train"


def test_runs_side_by_side_have_places_of_their_own(scripted):
    conductor, _ = scripted({seed: [Ended(0)] for seed in range(4)}, parallel=2)
    conductor.run([job(seed) for seed in range(4)])
    assert [started[-1] for started in Scripted.started[:2]] == ["0", "1"]
    assert {started[-1] for started in Scripted.started} == {"0", "1"}


def test_a_full_disk_ends_the_sweep(scripted):
    conductor, _ = scripted({0: [Failed(message="No room left.", hint="", exit_code=6), Ended(6)], 1: [Ended(0)]})
    with pytest.raises(DiskFull, match="No room left"):
        conductor.run([job(0), job(1)])
    assert len(Scripted.started) == 1


def test_a_stop_keeps_the_run_for_the_next_time(scripted, tmp_path):
    made = made_run(tmp_path / "p.dinoviz", 1)
    conductor, _ = scripted({0: [made, Ended(130)]}, should_stop=lambda: True)
    with pytest.raises(Stopped):
        conductor.run([job(0), job(1)])
    assert len(Scripted.started) == 1
    assert conductor.entry(job(0)).state == "started"
    assert conductor.command(job(0)) == ["resume", str(tmp_path / "p.dinoviz/runs/0001")]


# The table


def result(name: str, seed: int = 0, **figures) -> RunResult:
    defaults = {
        "state": "measured",
        "run": "runs/0001",
        "columns": {"Mom.": YES},
        "knn": 0.5,
        "linear": None,
        "loss": 1.0,
        "teacher_entropy": 2.0,
        "ln_k": 5.5,
        "kl": 0.1,
        "health": "well",
        "said": [],
        "seconds": 60.0,
        "problem": "",
    }
    return RunResult(name=name, seed=seed, **(defaults | figures))


@pytest.fixture
def small(tmp_path):
    path = written(
        tmp_path / "l.toml",
        "columns = ['Mom.']\n[[run]]\nname = 'a|b'\npaper = { knn = 72.8 }\n[[run]]\nname = 'c'\n",
    )
    return read_list(path)


def test_a_line_has_the_mean_and_the_deviation_over_seeds_and_the_published_figures(small):
    results = [result("a|b", 0, knn=0.5), result("a|b", 1, knn=0.6, health="uniform collapse"), result("c", knn=None)]
    lines = lines_of(small, results)
    cells = dict(zip(header_of(small), cells_of(small, lines[0]), strict=True))
    assert cells["k-NN"] == "55.0 ± 7.1"
    assert cells["Lin."] == "-"
    assert cells["paper (k-NN / Lin.)"] == "72.8 / -"
    assert cells["health"] == "1 well; 1 uniform collapse"
    assert cells["time"] == "2 min 00 s"
    assert cells_of(small, lines[1])[2] == "-"


def test_the_table_is_markdown_and_text_with_a_line_a_run(small):
    lines = lines_of(small, [result("a|b"), result("c")])
    rows = [row for row in markdown(small, lines, ["a note"]).splitlines() if row.startswith("|")]
    assert len(rows) == 4
    assert "a\\|b" in rows[2]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert "50.0" in drawn(small, lines, 160)


def test_a_collapse_at_the_end_is_named_by_what_health_says(tmp_path):
    project = tmp_path / "p.dinoviz"
    one = job()
    ln_k = math.log(one.plan.prototypes)
    made_run(project, 1, {"loss": ln_k, "teacher_entropy": ln_k, "marginal_entropy": ln_k, "kl": 0.0})
    entry = Ledger(tmp_path).change(Ledger(tmp_path).entry("a", 0, one.key), state="trained", run="runs/0001")
    found = result_of(one, entry, project, ["Mom."])
    assert found.health == "uniform collapse"
    assert found.ln_k == pytest.approx(ln_k)


# The figure


def test_curves_are_drawn_at_the_height_of_their_values(tmp_path):
    project = tmp_path / "p.dinoviz"
    made_run(project, 1, {"teacher_entropy": 3.0, "kl": 0.5})
    curve = curve_of("low", project / "runs/0001")
    steps = settle(Recipe(), FACTS).steps_per_epoch
    assert curve.points["teacher_entropy"] == [(1 / steps, 3.0), (5000 / steps, 3.0)]
    flat = {"teacher_entropy": [(0.0, 2.0), (9.0, 2.0)], "kl": [(0.0, 0.0), (9.0, 0.0)]}
    high = {"teacher_entropy": [(0.0, 4.0), (9.0, 4.0)], "kl": [(0.0, 1.0), (9.0, 1.0)]}
    picture = figure_of([Curve("a", flat), Curve("b", high)], "Title", ln_k=5.0)
    low_row, high_row = (_row_of(picture, colour) for colour in ((0, 114, 178), (230, 159, 0)))
    assert low_row - high_row == pytest.approx(400 * 2 / (5.0 * 1.05), abs=2)


@given(st.floats(1e-4, 1e6))
def test_axes_have_round_ticks_over_most_of_their_length(most):
    ticks = curves._ticks(most)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == 0
    assert most / 2 < ticks[-1] <= most
    assert f"{ticks[1]:e}"[0] in "125"


def _row_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Height of the line of a colour in the left panel."""
    left = picture[: -4 * 24 - 40, : picture.shape[1] // 2]
    return float(np.flatnonzero((left == colour).all(axis=2).sum(axis=1) > 100).mean())


# For real


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    for split, n in (("train", 12), ("test", 6)):
        write_photos(folder / split, n, labels=("a", "b"))
    return folder


@pytest.fixture(scope="module")
def command(photos):
    """A sweep of two tiny runs, as it is typed."""
    runs = "[[run]]\nname = 'one'\npaper = { knn = 72.8 }\n[[run]]\nname = 'two'\nlocal_crops = 0\nepochs = 2\n"
    path = tiny_list(photos.with_name("tiny.toml"), runs, epochs="20", probes="0", checkpoint_seconds="9")
    return ["sweep", str(path), "--folder", str(photos), "--project", str(photos.with_name("p.dinoviz"))]


@pytest.fixture(scope="module")
def stopped(command, photos):
    """What the sweep said, and its exit code, as Ctrl-C came in its first training."""
    process = subprocess.Popen([*ENGINE, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events = photos.with_name("p.dinoviz") / "runs/0001" / EVENTS
    while not (events.exists() and '"loss"' in events.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, messages = process.communicate(timeout=120)
    return process.returncode, messages, sorted(path.name for path in events.parent.glob("checkpoints/step-*"))


@pytest.fixture(scope="module")
def finished(stopped, command, photos):
    """The folder of the same sweep after it went on to its end."""
    assert run([*command, "--quiet", "--parallel", "2"]) == 0
    return photos.with_name("p.dinoviz") / "sweeps/tiny"


def test_a_dry_run_lists_what_would_run_and_leaves_nothing(command, photos, tmp_path, capsys):
    argv = [*command[:-1], str(tmp_path / "p.dinoviz")]
    assert run([*argv, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["state"]) for row in planned["runs"]] == [("one", "waiting"), ("two", "waiting")]
    assert "--local-crops=0" in planned["runs"][1]["command"]
    assert planned["seconds"] == pytest.approx(sum(row["seconds"] for row in planned["runs"]))
    assert not (tmp_path / "p.dinoviz/sweeps").exists()


def test_ctrl_c_stops_the_training_with_a_checkpoint_and_says_how_to_go_on(stopped):
    exit_code, messages, checkpoints = stopped
    assert exit_code == 130, messages
    assert "Traceback" not in messages
    assert "Go on with the same command" in messages
    assert checkpoints


def test_the_same_command_goes_on_with_the_same_run_and_measures_all(finished):
    assert sorted(path.name for path in (finished.parents[1] / "runs").iterdir()) == ["0001", "0002"]
    rows = json.loads((finished / "table.json").read_bytes())["rows"]
    assert [row["runs"][0]["state"] for row in rows] == ["measured", "measured"]
    assert [row["runs"][0]["run"] for row in rows] == ["runs/0001", "runs/0002"]
    assert all(0 <= row[figure] <= 1 for row in rows for figure in ("knn", "linear"))


def test_the_table_is_written_in_three_forms_with_the_curves(finished):
    with Image.open(finished / "curves.png") as picture, (finished / "table.csv").open(encoding="utf-8") as table:
        assert picture.width > 1000
        assert [row["method"] for row in csv.DictReader(table)] == ["one", "two"]
    assert "| one | 2 | 20 |" in (finished / "table.md").read_text(encoding="utf-8")


def test_a_sweep_that_is_done_prints_its_table_and_trains_nothing(finished, command, capsys):
    before = (finished / "sweep.json").read_bytes()
    assert run([*command, "--quiet"]) == 0
    assert "72.8 / -" in capsys.readouterr().out
    assert (finished / "sweep.json").read_bytes() == before


def test_other_labels_are_measured_without_training(finished, command, photos, capsys):
    """Test pictures that go away change what accuracies are of, and nothing that is learnt from."""
    (photos / "test/a/p00.jpg").unlink()
    assert run([*command, "--quiet", "--json"]) == 0
    after = json.loads((finished / "sweep.json").read_bytes())["entries"]
    assert [entry["scores"]["asked"] for entry in after] == [5, 5]
    assert len(list((finished.parents[1] / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ([], ": one of them"),
        (["--table", "7", "--seeds", "x"], "no list of whole numbers"),
        (["--table", "7", "--seed", "1"], "Seeds are those of the whole sweep"),
        (["--table", "7", "--name", "a/b"], "cannot be named"),
        (["--table", "7", "--parallel", "0"], "--parallel 0"),
    ],
)
def test_a_command_that_cannot_be_run_says_why_with_exit_2(photos, tmp_path, capsys, extra, told):
    argv = ["sweep", "--folder", str(photos), "--project", str(tmp_path / "p.dinoviz"), *extra]
    assert run(argv) == 2
    assert told in capsys.readouterr().err


def test_a_run_that_cannot_be_settled_is_named_before_anything_starts(photos, tmp_path, capsys):
    path = tiny_list(tmp_path / "tiny.toml", "[[run]]\nname = 'one'\n[[run]]\nname = 'odd'\nglobal_side = 17\n")
    assert run(["sweep", str(path), "--folder", str(photos), "--project", str(tmp_path / "p.dinoviz")]) == 2
    assert "Run 'odd': global_side 17 is no multiple" in capsys.readouterr().err
    assert not (tmp_path / "p.dinoviz/runs").exists()
