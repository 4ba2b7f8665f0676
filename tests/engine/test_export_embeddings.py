import csv
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalogue import formats_of
from engine.exporting import table as tables
from engine.exporting.table import Table, harmless, readable
from engine.exporting.targets import whole_folder, write_file
from engine.exporting.writers import EMBEDDINGS
from engine.provenance import KEY
from engine.terminal import run
from tests.exports import project_with_set


@pytest.fixture
def project(tmp_path):
    return project_with_set(tmp_path)


def export(project, how, out, *more):
    return run(["export", "embeddings", str(project.folder), "--format", how, "--out", str(out), "--quiet", *more])


def test_every_format_of_the_catalogue_has_a_writer():
    assert set(formats_of("embeddings")) == set(EMBEDDINGS)


def test_npy_holds_vectors_ids_and_a_line_for_each_picture(project, tmp_path):
    assert export(project, "npy", tmp_path / "out") == 0
    features = project.features()
    assert np.array_equal(np.load(tmp_path / "out" / "vectors.npy", allow_pickle=False), features.vectors_ND)
    assert np.array_equal(np.load(tmp_path / "out" / "ids.npy", allow_pickle=False), features.ids_N)
    lines = [json.loads(line) for line in (tmp_path / "out" / "pictures.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [picture.path for picture in project.pictures()]
    assert {line["label"] for line in lines} == {"coat", "hat"}
    assert (lines[0]["width"], lines[0]["height"]) == (80, 60)


def test_provenance_names_the_model_by_its_digest_and_not_by_a_folder_of_this_computer(project, tmp_path):
    export(project, "npy", tmp_path / "out")
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert about["model_sha256"] == "ab" * 32
    assert about["model"] == "runs/0001"
    assert about["features"] == "cls" and about["view"] == "whole" and about["side_px"] == 32
    assert about["program"].startswith("dinoviz ")
    assert about["rows"] == 12


def test_npz_is_read_by_numpy_without_pickles(project, tmp_path):
    assert export(project, "npz", tmp_path / "out.npz") == 0
    with np.load(tmp_path / "out.npz", allow_pickle=False) as data:
        assert np.array_equal(data["vectors"], project.features().vectors_ND)
        assert data["paths"].tolist() == [picture.path for picture in project.pictures()]
        assert data["labels"].tolist() == [picture.label for picture in project.pictures()]
        assert data["sizes"].tolist() == [[80, 60]] * 12
        assert json.loads(str(data["about"]))["model_sha256"] == "ab" * 32


def test_parquet_is_read_back_bit_for_bit(project, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 5)  # several row groups, the last one shorter
    assert export(project, "parquet", tmp_path / "out.parquet") == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 6)
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 6)
    assert vectors.tobytes() == np.asarray(project.features().vectors_ND).tobytes()
    assert table["id"].to_pylist() == project.features().ids_N.tolist()
    assert table["split"].null_count == 12
    assert json.loads(table.schema.metadata[KEY.encode()])["set_key"] == project.features().key


def test_csv_gives_every_float_back(project, tmp_path):
    assert export(project, "csv", tmp_path / "out.csv") == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    vectors = np.array([[row[f"v{i}"] for i in range(6)] for row in rows], np.float32)
    assert np.array_equal(vectors, project.features().vectors_ND)
    assert [row["label"] for row in rows] == [picture.label for picture in project.pictures()]
    assert json.loads((tmp_path / "out.csv.about.json").read_text())["rows"] == 12


def test_rows_that_were_not_seen_are_left_out_and_named(tmp_path, capsys):
    project = project_with_set(tmp_path, unseen=(2, 7))
    assert export(project, "npz", tmp_path / "out.npz", "--json") == 4
    told = json.loads(capsys.readouterr().out)
    paths = [picture.path for picture in project.pictures()]
    assert told["left_out"] == [{"path": paths[i], "problem": "could not be read"} for i in (2, 7)]
    assert told["rows"] == 10
    with np.load(tmp_path / "out.npz", allow_pickle=False) as data:
        assert data["paths"].tolist() == [path for i, path in enumerate(paths) if i not in (2, 7)]
        assert (data["vectors"] != 0).all()


def test_pictures_that_came_after_the_embedding_are_named(project, tmp_path, capsys):
    new = replace(project.pictures()[0], path="coat/new.jpg", id=0)
    project.record([new])
    assert export(project, "npy", tmp_path / "out", "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == [{"path": "coat/new.jpg", "problem": "not embedded yet"}]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_of_any_bytes_can_be_exported(tmp_path):
    project = project_with_set(tmp_path, n=2)
    folder = tmp_path / "photos" / "=1+1"
    folder.mkdir()
    hostile = ["@SUM(A1).jpg", 'quote"comma,.jpg', "two\nlines\r.jpg", os.fsdecode(b"no\xffutf8.jpg"), "\u202etxt.jpg"]
    project.record(replace(project.pictures()[0], path=name, label="=1+1", id=0) for name in hostile)
    for picture in project.pictures():
        (tmp_path / "photos" / picture.path).write_bytes((tmp_path / "photos" / "coat" / "p00.jpg").read_bytes())
    names = [readable(picture.path) for picture in project.pictures()]
    project.close()
    (tmp_path / "photos.dinoviz" / "sets" / "0001" / "plan.json").unlink()
    project = project_with_set(tmp_path)
    for how, out in (("npz", "a.npz"), ("parquet", "a.parquet"), ("csv", "a.csv"), ("npy", "a"), ("projector", "p")):
        assert export(project, how, tmp_path / out) == 0
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:
        assert sorted(data["paths"].tolist()) == sorted(names)
    assert sorted(pq.read_table(tmp_path / "a.parquet")["path"].to_pylist()) == sorted(names)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(harmless(name) for name in names)
    assert {row["label"] for row in rows} >= {"coat"}
    assert len((tmp_path / "p" / "metadata.tsv").read_text(encoding="utf-8").splitlines()) == 1 + len(names)


@given(st.text(max_size=20))
def test_no_cell_begins_like_a_formula(text):
    assert not harmless(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert harmless(text).removeprefix("'") == text.removeprefix("'")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 100), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_sample_has_of_every_label_its_share(counts, n, seed):
    labels = np.repeat([f"label {i}" for i in range(len(counts))], counts)
    n = min(n, len(labels))
    chosen = tables._stratified(labels, n, np.random.default_rng(seed))
    assert len(chosen) == n == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    taken = [int((labels[chosen] == f"label {i}").sum()) for i in range(len(counts))]
    if n >= len(counts):
        assert min(taken) >= 1
        excess = [got - count * n / len(labels) for got, count in zip(taken, counts, strict=True)]
        assert max(excess) - min(excess) < 1 + len(counts)  # the rounding, and the first one of each label
    assert np.array_equal(chosen, tables._stratified(labels, n, np.random.default_rng(seed)))


def test_a_sample_is_of_the_wanted_size_and_says_so(project, tmp_path, capsys):
    assert export(project, "npy", tmp_path / "out", "--at-most", "5") == 0
    assert len(np.load(tmp_path / "out" / "ids.npy")) == 5
    assert json.loads((tmp_path / "out" / "about.json").read_text())["sample_of"] == 12
    assert export(project, "npy", tmp_path / "other", "--at-most", "0") == 2
    assert "--at-most 0" in capsys.readouterr().err


def test_what_is_there_is_kept_unless_told_otherwise(project, tmp_path, capsys):
    (tmp_path / "out.npz").write_text("mine")
    assert export(project, "npz", tmp_path / "out.npz") == 3
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.npz").read_text() == "mine"
    assert export(project, "npz", tmp_path / "out.npz", "--overwrite") == 0
    np.load(tmp_path / "out.npz").close()
    assert export(project, "npy", tmp_path / "out") == 0
    assert export(project, "npy", tmp_path / "out") == 3
    assert export(project, "npy", tmp_path / "out", "--overwrite", "--at-most", "3") == 0
    assert len(np.load(tmp_path / "out" / "ids.npy")) == 3


def test_a_folder_that_is_no_export_is_never_replaced(project, tmp_path, capsys):
    for out in (tmp_path / "photos", project.folder, tmp_path):
        assert export(project, "npy", out, "--overwrite") == 3
        assert "is not an export" in capsys.readouterr().err
    assert len(list((tmp_path / "photos").rglob("*.jpg"))) == 12
    assert export(project, "npz", tmp_path / "photos", "--overwrite") == 3


def test_an_export_that_is_cut_off_leaves_nothing_and_what_was_there(project, tmp_path, monkeypatch):
    export(project, "npy", tmp_path / "out", "--at-most", "3")
    export(project, "npz", tmp_path / "out.npz", "--at-most", "3")
    blocks = Table.blocks

    def interrupted(self):
        yield next(blocks(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "BLOCK", 5)
    monkeypatch.setattr(Table, "blocks", interrupted)
    before = sorted(tmp_path.iterdir())
    assert export(project, "npy", tmp_path / "out", "--overwrite") == 130
    assert export(project, "npz", tmp_path / "out.npz", "--overwrite") == 130
    assert export(project, "csv", tmp_path / "new.csv") == 130
    assert sorted(tmp_path.iterdir()) == before
    assert len(np.load(tmp_path / "out" / "ids.npy")) == 3
    with np.load(tmp_path / "out.npz") as data:
        assert len(data["ids"]) == 3


def test_a_folder_comes_back_when_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "out", {"program": "dinoviz 1"}, overwrite=False) as folder:
        (folder / "a").write_text("first")
    from engine.exporting import targets

    rename = targets.replace
    calls = []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "in use", str(target))
        rename(source, target)

    monkeypatch.setattr(targets, "replace", failing)
    with (
        pytest.raises(PermissionError),
        whole_folder(tmp_path / "out", {"program": "dinoviz 1"}, overwrite=True) as folder,
    ):
        (folder / "a").write_text("second")
    assert (tmp_path / "out" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_said_in_words(tmp_path):
    from engine.errors import DiskFull

    def full(_file):
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull):
        write_file(tmp_path / "a.npz", full, overwrite=False)
    with pytest.raises(DiskFull), whole_folder(tmp_path / "out", {}, overwrite=False):
        full(None)
    assert not list(tmp_path.iterdir())


def test_help_lists_the_formats(capsys):
    assert run(["export", "embeddings", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(row.about in told for row in formats_of("embeddings").values())
