"""The table of neighbours equals what NumPy finds by comparing all with all, however often it was cut off."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.errors import BadInput, BadRecipe, Busy, Stopped
from engine.finding import index, searching
from engine.finding.index import make_index
from engine.finding.neighbours import read_neighbours
from engine.finding.searching import open_searcher
from engine.finding.vectors import normalised
from engine.project import Project
from engine.protocol import Noticed
from engine.sets import Block, FeatureSet, FeatureWriter, SetPlan
from engine.store import sole_writer
from engine.terminal import run
from tests.makers import set_plan

SMALL = {"BLOCK": 16, "GROW": 32, "SAVE_EVERY": 64, "SAMPLE": 50}
"""Blocks of a set of a few hundred."""

CHILD = f"""
import os, signal, sys
from pathlib import Path
from engine.finding import index
from engine.sets import FeatureSet

folder, method, call = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
vars(index).update({SMALL})
left = call

def counted(operation):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return operation(*args, **kwargs)
    return wrapper

os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)
index.make_index(FeatureSet(folder), lambda message: None, method=method)
assert "torch" not in sys.modules
print(call - left)
"""
"""Makes the index in a process that kills itself before the given sync, renaming or deletion; prints their number."""


def plan(dimensions: int) -> SetPlan:
    return set_plan(width=4, dimensions=dimensions)


def write_set(folder: Path, vectors_ND: np.ndarray, is_seen_N: np.ndarray | None = None) -> FeatureSet:
    """Write a set, or add to the one that is there."""
    n, dimensions = vectors_ND.shape
    writer = FeatureWriter.at(folder, plan(dimensions))
    ids = range(len(writer) + 1, len(writer) + 1 + n)
    block = Block(
        vectors_ND=vectors_ND.astype(np.float32),
        copies_ND=np.zeros((n, 8), np.float16),
        is_seen_N=np.ones(n, np.bool_) if is_seen_N is None else is_seen_N,
        grids_N2=np.zeros((n, 2), np.uint16),
    )
    writer.append(ids, [f"{number:032x}" for number in ids], block)
    return FeatureSet(folder)


def clustered(n: int, dimensions: int = 24, seed: int = 0) -> np.ndarray:
    """Vectors around as many centres as make a dozen each, of any length."""
    random = np.random.default_rng(seed)
    centres_CD = random.normal(size=(max(1, n // 12), dimensions))
    vectors_ND = centres_CD[random.integers(len(centres_CD), size=n)] + 0.5 * random.normal(size=(n, dimensions))
    return vectors_ND * random.uniform(0.1, 10, (n, 1))


def likeness_of_all(vectors_ND: np.ndarray) -> np.ndarray:
    lengths_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    unit_ND = vectors_ND / np.where(lengths_N > 0, lengths_N, 1)[:, None]
    return unit_ND @ unit_ND.T


def check_exact(features: FeatureSet, k: int) -> None:
    """See that the table holds the most like ones of every row, in order, and nothing else."""
    table = read_neighbours(features)
    seen_S = np.flatnonzero(features.is_seen_N)
    true_NN = likeness_of_all(np.asarray(features.vectors_ND))
    n_found = min(k, len(seen_S) - 1)
    assert table.about.k == max(1, n_found)
    assert table.rows_Nk.shape == table.likeness_Nk.shape == (len(features), table.about.k)
    for row in range(len(features)):
        found, likeness = table.rows_Nk[row], table.likeness_Nk[row]
        n = n_found if row in seen_S else 0
        assert (found[n:] == -1).all()
        assert (likeness[n:] == 0).all()
        found, likeness = found[:n], likeness[:n]
        assert row not in found
        assert len(set(found)) == n
        assert set(found) <= set(seen_S)
        others_S = seen_S[seen_S != row]
        np.testing.assert_allclose(likeness, np.sort(true_NN[row, others_S])[::-1][:n], atol=1e-6)
        np.testing.assert_allclose(likeness, true_NN[row, found], atol=1e-6)
        assert list(zip(-likeness, found, strict=True)) == sorted(zip(-likeness, found, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    vectors_ND=st.tuples(st.integers(1, 30), st.integers(1, 4)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=st.integers(-2, 2))
    ),
    k=st.integers(1, 12),
    data=st.data(),
)
def test_exact_table_equals_comparing_all_with_all(vectors_ND, k, data):
    is_seen_N = data.draw(arrays(np.bool_, len(vectors_ND)).filter(np.any))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "BLOCK", 8)
        features = write_set(Path(folder, "set"), vectors_ND * is_seen_N[:, None], is_seen_N)
        make_index(features, lambda _message: None, k=k)
        check_exact(features, k)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_few_pictures_have_few_neighbours(tmp_path, n, method):
    features = write_set(tmp_path / "set", clustered(n))
    make_index(features, lambda _message: None, method=method)
    check_exact(features, 90)


def test_no_picture_seen_is_said(tmp_path):
    features = write_set(tmp_path / "set", np.zeros((3, 4)), np.zeros(3, np.bool_))
    with pytest.raises(BadInput, match="no features of any picture"):
        make_index(features, lambda _message: None)
    with pytest.raises(BadInput, match="no features of any picture"):
        open_searcher(features)


def test_no_neighbours_at_all_cannot_be_asked_for(tmp_path):
    with pytest.raises(BadRecipe, match="0 neighbours"):
        make_index(write_set(tmp_path / "set", clustered(5)), lambda _message: None, k=0)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_picture_is_never_its_own_neighbour_among_more_copies_than_neighbours(tmp_path, method):
    vectors_ND = np.repeat(clustered(4, seed=1), 30, axis=0)
    table = make_index(write_set(tmp_path / "set", vectors_ND), lambda _message: None, method=method, k=5)
    assert not (table.rows_Nk == np.arange(120)[:, None]).any()
    assert table.likeness_Nk.max() <= 1
    np.testing.assert_allclose(table.likeness_Nk, 1, atol=1e-6)


def test_normalised_takes_any_numbers():
    huge, tiny, nothing, broken = [3e30, 4e30], [3e-30, 4e-30], [0, 0], [np.nan, np.inf]
    unit_BD = normalised(np.array([huge, tiny, nothing, broken, [3, 4]], np.float32))
    np.testing.assert_allclose(unit_BD, [[0.6, 0.8], [0.6, 0.8], [0, 0], [0, 0], [0.6, 0.8]], rtol=1e-6)


def test_recall_of_the_graph_is_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SAMPLE", 1500)  # all
    monkeypatch.setattr(index, "GROW", 256)
    features = write_set(tmp_path / "set", clustered(1500))
    table = make_index(features, lambda _message: None, method="hnsw", k=10)
    true_NN = likeness_of_all(np.asarray(features.vectors_ND))
    np.fill_diagonal(true_NN, -2)
    true_Nk = np.argsort(-true_NN, axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(table.rows_Nk, true_Nk, strict=True)])
    assert table.about.recall == pytest.approx(recall, abs=0.001)
    assert recall >= 0.95
    found_NN = np.take_along_axis(true_NN, table.rows_Nk, 1)
    np.testing.assert_allclose(table.likeness_Nk, found_NN, atol=1e-6)


def test_graph_searches_wider_until_the_recall_is_enough_and_says_when_it_is_not(tmp_path, monkeypatch):
    features = write_set(tmp_path / "set", np.random.default_rng(0).normal(size=(1500, 64)))
    monkeypatch.setattr(index, "LINKS", 4)
    monkeypatch.setattr(index, "BREADTHS", (12, 400))
    told: list = []
    recalls = []
    for wanted in (0.1, 0.95, 1.1):
        monkeypatch.setattr(index, "RECALL", wanted)
        recalls.append(make_index(features, told.append, method="hnsw", k=10, again=True).about.recall)
    assert recalls[0] < recalls[1] == recalls[2]
    assert [message.level for message in told if isinstance(message, Noticed)] == ["warning"]


def in_child(folder: Path, method: str, call: int) -> subprocess.CompletedProcess:
    """Make the index in another process, killed before the given operation; 0 lets it end."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), method, str(call)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_killed_again_and_again_ends_with_the_bytes_of_the_uninterrupted(tmp_path, method):
    vectors_ND = clustered(150)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        write_set(folder, vectors_ND)
    ended = in_child(whole, method, 0)
    assert ended.returncode == 0, ended.stderr
    last = -int(ended.stdout)
    for call in (1, last // 4, last // 3, last // 3, 6, 4, 1):
        assert in_child(killed, method, abs(call)).returncode in (-signal.SIGKILL, 0)
    assert in_child(killed, method, 0).returncode == 0
    for name in ("neighbours.npy", "likeness.npy", "neighbours.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    left_over = {path.name for path in killed.iterdir()} - {path.name for path in whole.iterdir()}
    assert left_over <= {"neighbours.part.json"}  # where the last kill hit when all was done


@pytest.mark.parametrize("from_the_end", range(1, 7))
def test_kill_at_the_very_end_is_gone_on_with(tmp_path, monkeypatch, from_the_end):
    class Killed(BaseException):
        """Ends the process as far as this test goes."""

    features = write_set(tmp_path / "set", clustered(40))
    calls: list[str] = []
    stop_at = [0]

    def counted(operation):
        def wrapper(*args, **kwargs):
            calls.append("")
            if len(calls) == stop_at[0]:
                raise Killed
            return operation(*args, **kwargs)

        return wrapper

    rows_Nk = np.array(make_index(features, lambda _message: None, method="hnsw").rows_Nk)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(Path, "replace", counted(Path.replace))
        make_index(features, lambda _message: None, method="hnsw", again=True)
        stop_at[0], calls[:] = len(calls) + 1 - from_the_end, []
        with pytest.raises(Killed):
            make_index(features, lambda _message: None, method="hnsw", again=True)
    with monkeypatch.context() as patch:
        patch.setattr(index, "_grow_graph" if from_the_end < 6 else "_new_graph", None)  # which is behind it
        np.testing.assert_array_equal(make_index(features, lambda _message: None, method="hnsw").rows_Nk, rows_Nk)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_stop_keeps_the_finished_blocks(tmp_path, monkeypatch, method):
    for name, value in SMALL.items():
        monkeypatch.setattr(index, name, value)
    vectors_ND = clustered(150)
    features = write_set(tmp_path / "set", vectors_ND)
    whole = make_index(write_set(tmp_path / "whole", vectors_ND), lambda _message: None, method=method)
    for _ in range(4 if method == "hnsw" else 0):  # 32 pictures more in the graph each time
        with pytest.raises(Stopped):
            make_index(features, lambda _message: None, lambda: True, method=method)
    asked = iter([False] * (2 if method == "exact" else 8) + [True])  # 1 while the graph grows, 5 while it is measured
    with pytest.raises(Stopped):
        make_index(features, lambda _message: None, lambda: next(asked), method=method)
    with pytest.raises(BadInput, match="has no table of neighbours yet"):
        read_neighbours(features)
    told: list = []
    table = make_index(features, told.append, method=method)
    assert (told[0].what, told[0].done) == ("finding neighbours", 64)
    np.testing.assert_array_equal(table.rows_Nk, whole.rows_Nk)
    np.testing.assert_array_equal(table.likeness_Nk, whole.likeness_Nk)


def test_out_of_date_is_noticed_and_half_a_table_of_other_features_is_thrown_away(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "BLOCK", 16)
    features = write_set(tmp_path / "set", clustered(60))
    make_index(features, lambda _message: None)
    with pytest.raises(Stopped):
        make_index(features, lambda _message: None, lambda: True, again=True)
    read_neighbours(features)  # the old one counts until the new one is whole
    grown = write_set(tmp_path / "set", clustered(7, seed=3))
    with pytest.raises(BadInput, match="out of date"):
        read_neighbours(grown)
    make_index(grown, lambda _message: None)
    check_exact(grown, 90)


def test_nothing_is_done_where_the_table_is_there(tmp_path):
    features = write_set(tmp_path / "set", clustered(40))
    make_index(features, lambda _message: None, k=5)
    before = (tmp_path / "set/neighbours.npy").stat().st_mtime_ns
    told: list = []
    assert make_index(features, told.append, k=5).about.k == 5
    assert told == []
    assert (tmp_path / "set/neighbours.npy").stat().st_mtime_ns == before
    assert make_index(features, told.append, k=6).about.k == 6


def test_two_processes_do_not_write_one_table(tmp_path):
    features = write_set(tmp_path / "set", clustered(10))
    with sole_writer(features.folder, "writes the set"), pytest.raises(Busy, match="writes the set"):
        make_index(features, lambda _message: None)


@pytest.mark.parametrize("method", ["none", "exact", "hnsw"])
def test_searcher_finds_what_comparing_with_all_finds(tmp_path, method):
    is_seen_N = np.random.default_rng(5).random(400) < 0.8
    features = write_set(tmp_path / "set", clustered(400) * is_seen_N[:, None], is_seen_N)
    if method != "none":
        make_index(features, lambda _message: None, method=method)
    assert (features.folder / "index.faiss").exists() == (method == "hnsw")
    vectors_ND, queries_QD = np.asarray(features.vectors_ND), clustered(6, seed=9)
    true_QN = likeness_of_all(np.vstack((vectors_ND, queries_QD)))[400:, :400]
    true_QN[:, ~is_seen_N] = -2
    likeness_Qk, rows_Qk = open_searcher(features).search(queries_QD, 7)
    assert (likeness_Qk.dtype, rows_Qk.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(rows_Qk, np.argsort(-true_QN, axis=1)[:, :7])
    np.testing.assert_allclose(likeness_Qk, -np.sort(-true_QN, axis=1)[:, :7], atol=1e-6)


def test_searcher_gives_no_more_than_there_are(tmp_path):
    features = write_set(tmp_path / "set", clustered(3))
    likeness_Qk, rows_Qk = open_searcher(features).search(np.asarray(features.vectors_ND), 20)
    assert likeness_Qk.shape == rows_Qk.shape == (3, 3)
    np.testing.assert_array_equal(rows_Qk[:, 0], [0, 1, 2])


def test_many_pictures_are_not_searched_by_a_graph_that_is_missing_old_or_damaged(tmp_path, monkeypatch):
    for module in (index, searching):
        monkeypatch.setattr(module, "EXACT_UP_TO", 50)
    features = write_set(tmp_path / "set", clustered(60))
    with pytest.raises(BadInput, match="has no table of neighbours yet"):
        open_searcher(features)
    assert make_index(features, lambda _message: None).about.method == "hnsw"
    np.testing.assert_array_equal(open_searcher(features).search(features.vectors_ND, 1)[1][:, 0], np.arange(60))
    graph = features.folder / "index.faiss"
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="missing or damaged"):
        open_searcher(features)
    graph.write_bytes(whole)
    with pytest.raises(BadInput, match="out of date"):
        open_searcher(write_set(tmp_path / "set", clustered(1)))


@pytest.fixture
def project(tmp_path) -> Path:
    """A project with two sets; the second was used last."""
    (tmp_path / "photos").mkdir()
    folder = tmp_path / "p.dinoviz"
    with Project.at(folder, pictures=tmp_path / "photos") as project:
        for dimensions in (4, 24):
            write_set(project.set_folder(plan(dimensions)), clustered(40, dimensions))
    return folder


def test_command_takes_the_set_used_last_and_says_when_it_is_up_to_date(project, capsys):
    outcomes = []
    for flags in ([], [], ["--neighbours", "5"], ["--method", "hnsw", "--set", "1"], ["--again"]):
        assert run(["index", str(project), "--json", *flags]) == 0
        outcomes.append(json.loads(capsys.readouterr().out))
    assert [outcome["set"] for outcome in outcomes] == ["0002", "0002", "0002", "0001", "0002"]
    assert [outcome["was_there"] for outcome in outcomes] == [False, True, False, False, False]
    assert [outcome["k"] for outcome in outcomes] == [39, 39, 5, 39, 39]
    assert outcomes[3]["method"] == "hnsw"
    assert 0.9 < outcomes[3]["recall"] <= 1
    assert outcomes[0]["peak_memory_bytes"] > 1e6
    assert run(["index", str(project)]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "exit_code", "words"),
    [(["--neighbours", "0"], 2, "0 neighbours"), (["--set", "7"], 3, "no set '7'"), (["--method", "x"], 2, "choice")],
)
def test_command_names_what_is_wrong(project, capsys, flags, exit_code, words):
    assert run(["index", str(project), *flags]) == exit_code
    assert words in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done_and_exits_130(project, monkeypatch, capsys):
    monkeypatch.setattr(index, "BLOCK", 8)
    fill = index._fill

    def interrupted(features, searcher, work, tell, should_stop):
        os.kill(os.getpid(), signal.SIGINT)
        fill(features, searcher, work, tell, should_stop)

    with monkeypatch.context() as patch:
        patch.setattr(index, "_fill", interrupted)
        assert run(["index", str(project)]) == 130
    assert "what is done is kept" in capsys.readouterr().err
    assert run(["index", str(project)]) == 0
    assert "8/40" not in capsys.readouterr().err
