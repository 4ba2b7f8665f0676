"""``engine map`` and ``engine clusters`` as a person and as a script meet them, on real files."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.finding.charts import REST, Points, _apart, distinct_colours, on_grid, point_chart
from engine.terminal import run
from tests.blobs import append_to, blobs, make_project
from tests.makers import write_photos

N, GROUPS = 60, 5


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", N)
    labels = [f"kind {i % GROUPS}" for i in range(N)]
    return make_project(tmp_path / "p.dinoviz", tmp_path / "photos", blobs(N, GROUPS), labels)


def outcome_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert run([*map(str, arguments), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_is_made_and_drawn_as_points_and_as_thumbnails(
    project: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    found = outcome_of(capsys, "map", project, "--method", method, "--threads", 1)
    assert found["pictures"] == N
    assert np.load(found["map"]).shape == (N, 2)
    points, thumbnails = (np.array(Image.open(path)) for path in found["drawings"])
    assert points.shape[1] > 1400
    assert len(np.unique(points.reshape(-1, 3), axis=0)) > GROUPS
    assert thumbnails.ndim == 3
    assert found["about"]["measures"]["label_agreement"] > 0.5


def test_the_missing_table_of_neighbours_is_found_first_and_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["map", str(project), "--threads", "1", "--no-thumbnails"]) == 0
    said = capsys.readouterr()
    assert "They are found first" in said.err
    assert "instead of 30: there are only 60 pictures" in said.err
    assert (project / "sets/0001/neighbours.json").exists()
    assert "map-tsne.png" in said.out


def test_a_map_that_is_there_is_drawn_again_and_not_made_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = outcome_of(capsys, "map", project, "--method", "pca")
    made_at = Path(first["map"]).stat().st_mtime_ns
    Path(first["drawings"][0]).unlink()
    assert run(["map", str(project), "--method", "pca"]) == 0
    assert "up to date; drawn again" in capsys.readouterr().out
    assert Path(first["map"]).stat().st_mtime_ns == made_at
    assert Path(first["drawings"][0]).exists()


def test_a_map_made_again_is_the_same_to_the_bit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("map", project, "--steps", 60, "--threads", 1, "--no-thumbnails")
    first = np.load(outcome_of(capsys, *command)["map"])
    again = np.load(outcome_of(capsys, *command, "--again")["map"])
    assert np.array_equal(first, again)


def test_new_pictures_are_placed_and_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = np.load(outcome_of(capsys, "map", project, "--steps", 60, "--threads", 1)["map"])
    append_to(project / "sets/0001", blobs(3, 3, seed=7), first=N + 1)
    assert run(["map", str(project), "--place", "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "3 pictures were placed" in said.out
    assert "3 pictures could not be read and are grey" in said.err
    after = np.load(project / "sets/0001/map-tsne.npy")
    assert np.array_equal(after[:N], before)
    assert np.isfinite(after).all()


def test_two_sets_are_compared_by_laying_one_map_on_the_other(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from engine.project import Project
    from engine.sets import Block, FeatureWriter
    from tests.blobs import PLAN

    plan = replace(PLAN, side=64)
    with Project.at(project) as opened:
        writer = FeatureWriter.at(opened.set_folder(plan), plan)
    block = Block(blobs(N, GROUPS, seed=3), np.zeros((N, 4), np.float16), np.ones(N, bool), np.zeros((N, 2), np.uint16))
    writer.append(list(range(1, N + 1)), [f"{i:032x}" for i in range(1, N + 1)], block)
    outcome_of(capsys, "map", project, "--set", 1, "--method", "pca")
    found = outcome_of(capsys, "map", project, "--set", 2, "--method", "pca", "--align-to", 1)
    assert found["about"]["aligned_to"] == "0001"
    assert len(found["moved_most"]) == 10
    assert found["moved_most"][0]["path"].endswith(".jpg")
    assert run(["map", str(project), "--method", "tsne", "--align-to", "1", "--quiet"]) == 3


def test_classes_are_drawn_with_their_pictures(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome_of(capsys, "map", project, "--classes", "--steps", 300)
    assert found["about"]["names"] == [f"kind {i}" for i in range(GROUPS)]
    assert np.load(found["map"]).shape == (GROUPS, 2)
    assert np.array(Image.open(found["drawings"][0])).std() > 5


def test_clusters_are_found_drawn_and_give_the_map_its_colours(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = outcome_of(capsys, "clusters", project, "--number", GROUPS)
    assert [cluster["size"] for cluster in found["about"]["clusters"]] == [N // GROUPS] * GROUPS
    assert all(label.startswith("100% kind") for label in found["most_common_labels"])
    assert Path(found["drawing"]).exists()
    outcome_of(capsys, "map", project, "--method", "pca", "--colour", "kmeans")


def test_a_picture_that_cannot_be_read_is_named_and_grey(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (project.parent / "photos").iterdir():
        path.write_bytes(b"")
    assert run(["map", str(project), "--method", "pca"]) == 0
    assert "could not be read and are grey on the drawing: p" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--perplexity", "0"], 2, "perplexity of 0"),
        (["--perplexity", "nan"], 2, "perplexity of nan"),
        (["--perplexity", "5", "--method", "pca"], 2, "not of PCA"),
        (["--steps", "0"], 2, "0 steps"),
        (["--threads", "0"], 2, "0 threads"),
        (["--seed", "-1"], 2, "seed -1"),
        (["--place", "--again"], 2, "--place"),
        (["--place"], 3, "has no t-SNE map"),
        (["--set", "7"], 3, "no set '7'"),
        (["--align-to", "7"], 3, "no set '7'"),
        (["--colour", "kmeans", "--method", "pca"], 3, "no clustering by kmeans"),
        (["--classes", "--steps", "-1"], 2, "-1 steps"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run(["map", str(project), "--quiet", *arguments]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--number", "many"], "'many'"),
        (["--number", "1"], "1 clusters"),
        (["--number", "4", "--method", "hdbscan"], "HDBSCAN itself"),
        (["--smallest", "4"], "is of HDBSCAN"),
        (["--seed", "-1"], "seed -1"),
    ],
)
def test_clusters_that_cannot_be_had_are_refused_in_words(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["clusters", str(project), "--quiet", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_labels_that_are_not_there_cannot_be_colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "photos", 20)
    project = make_project(tmp_path / "p.dinoviz", tmp_path / "photos", blobs(20, 2), [None] * 20)
    assert run(["map", str(project), "--method", "pca", "--colour", "label"]) == 3
    assert "have no labels" in capsys.readouterr().err
    assert run(["map", str(project), "--method", "pca"]) == 0
    assert run(["map", str(project), "--classes"]) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_keeps_the_map_so_far_and_the_next_run_goes_on(project: Path) -> None:
    command = [sys.executable, "-m", "engine", "map", str(project), "--steps", "200000", "--threads", "1"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    folder = project / "sets/0001"
    while not (folder / "map-tsne.state.npz").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Run the same command again to go on" in said
    about = json.loads((folder / "map-tsne.json").read_text())
    assert 0 < about["step"] < 200_000
    assert (folder / "map-tsne.state.npz").exists()
    assert np.isfinite(np.load(folder / "map-tsne.npy")).all()


def test_one_thumbnail_a_cell_the_nearest_to_its_middle() -> None:
    at = np.array([[5.0, 5.0], [4.0, 4.0], [15.0, 5.0], [19.0, 9.0], [35.0, 35.0]])
    shown, corners = on_grid(at, 10)
    assert sorted(shown.tolist()) == [0, 2, 4]
    assert len({tuple(corner) for corner in corners.tolist()}) == 3
    assert (np.abs(at[shown] - corners - 5) <= 5).all()


def test_colours_differ_from_each_other_and_from_the_paper() -> None:
    colours = np.array([*distinct_colours(40), (255, 255, 255), REST], np.int32)
    off = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    np.fill_diagonal(off, 999)
    assert off.min() > 25


@pytest.mark.parametrize("n", [1, 2, 500, 30_000])
def test_points_are_drawn_in_the_colours_of_their_groups(n: int) -> None:
    positions = np.random.default_rng(0).normal(size=(n, 2))
    groups = np.arange(n) % 2
    chart = point_chart(Points(positions, groups, ["a", "b"]), "title")
    for colour in distinct_colours(min(n, 2)):
        assert (np.abs(chart.astype(int) - colour).sum(axis=2) < 12).any()


def test_names_of_any_letters_and_any_number_of_groups_are_drawn() -> None:
    positions = np.random.default_rng(0).normal(size=(300, 2))
    names = [f"{'名' * 40}{i}" for i in range(100)]
    chart = point_chart(Points(positions, np.arange(300) % 100, names), "名" * 400, ["x" * 1000])
    assert chart.shape[2] == 3


def test_boxes_of_many_classes_are_pushed_apart_in_little_memory():
    columns, rows = np.meshgrid(np.arange(80), np.arange(60))
    random = np.random.default_rng(0)
    at = np.stack([columns.ravel(), rows.ravel()], axis=1) * [46.0, 60.0] + 2 * random.random((4800, 2))
    tracemalloc.start()
    try:
        apart = _apart(at, np.array([46.0, 60.0]))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 50e6  # every pair would be 2 GB
    near = np.abs(apart[:-1] - apart[1:])
    overlap = np.minimum(46 - near[:, 0], 60 - near[:, 1])
    before = np.minimum(46 - np.abs(at[:-1] - at[1:])[:, 0], 60 - np.abs(at[:-1] - at[1:])[:, 1])
    assert before.max() > 1.5
    assert overlap.max() < 0.5


def test_boxes_on_one_spot_come_apart_in_the_order_of_their_numbers():
    apart = _apart(np.zeros((3, 2)), np.array([10.0, 20.0]))
    assert apart[0, 0] < apart[1, 0] < apart[2, 0]
    assert np.diff(apart[:, 0]).min() > 9.9
    assert not apart[:, 1].any()
