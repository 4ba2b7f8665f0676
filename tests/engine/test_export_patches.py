import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from engine.catalogue import formats_of
from engine.exporting.patches import FOLDERS, boxes
from engine.provenance import KEY
from engine.seeing.views import shown
from engine.sets import Block, FeatureWriter
from engine.terminal import run
from tests.exports import PLAN, project_with_set


def export(project, how, out, *more):
    return run(["export", "patches", str(project.folder), "--format", how, "--out", str(out), "--quiet", *more])


def test_every_format_of_the_catalogue_has_a_writer():
    assert set(formats_of("patches")) == set(FOLDERS)


def test_each_picture_has_its_patches_and_their_boxes(tmp_path):
    project = project_with_set(tmp_path, n=4, unseen=(1,))
    assert export(project, "npz", tmp_path / "out") == 4
    features = project.features()
    index = [json.loads(line) for line in (tmp_path / "out" / "pictures.jsonl").read_text().splitlines()]
    assert len(index) == 3
    for line in index:
        with np.load(tmp_path / "out" / line["file"], allow_pickle=False) as data:
            row = features.row_of(int(line["file"].removesuffix(".npz")))
            assert np.array_equal(data["features"], features.patches_of(row))
            assert data["features"].dtype == np.float16
            assert data["boxes"].shape == (4, 5, 4)
            assert str(data["path"]) == line["path"] == project.pictures()[row].path
            assert json.loads(str(data["about"]))["model_sha256"] == PLAN.model_sha256


def test_zarr_reads_the_store(tmp_path):
    zarr = pytest.importorskip("zarr")
    project = project_with_set(tmp_path, n=2)
    assert export(project, "zarr", tmp_path / "out.zarr") == 0
    store = zarr.open_group(tmp_path / "out.zarr", mode="r")
    features = project.features()
    assert store.attrs[KEY]["model_sha256"] == PLAN.model_sha256
    for row, picture in enumerate(project.pictures()):
        group = store[f"{picture.id:08d}"]
        assert np.array_equal(group["features"][:], features.patches_of(row))
        assert group["features"].chunks == (4, 5, 6)
        assert group["boxes"].shape == (4, 5, 4)
        assert group.attrs["path"] == picture.path


def test_without_zarr_the_way_to_get_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "zarr", None)
    project = project_with_set(tmp_path, n=2)
    assert export(project, "zarr", tmp_path / "out.zarr") == 1
    assert "dinoviz[zarr]" in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("view", ["crop", "square", "whole"])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (256, 256), (120, 700), (61, 83)])
def test_a_box_is_where_the_network_saw_the_patch(view, size):
    """In a picture whose colours say where its pixels are, the mean colour of a patch is the middle of its box."""
    height, width = size
    ramp_YX3 = np.zeros((height, width, 3), np.float64)
    ramp_YX3[..., 0] = ((np.arange(height) + 0.5) / height)[:, None]
    ramp_YX3[..., 1] = (np.arange(width) + 0.5) / width
    seen = shown(np.round(255 * ramp_YX3).astype(np.uint8), view, 64, 8)
    rows, cols = seen.shape[0] // 8, seen.shape[1] // 8
    boxes_RC4 = boxes(replace(PLAN, view=view, side=64), (rows, cols), size)
    means_RC3 = seen.reshape(rows, 8, cols, 8, 3).mean(axis=(1, 3)) / 255
    tolerance = 0.01  # of the picture: 8 bits and the edges of resizing
    assert np.abs(means_RC3[..., 0] - (boxes_RC4[..., 1] + boxes_RC4[..., 3]) / 2 / height).max() < tolerance
    assert np.abs(means_RC3[..., 1] - (boxes_RC4[..., 0] + boxes_RC4[..., 2]) / 2 / width).max() < tolerance
    assert boxes_RC4.min() >= 0
    assert boxes_RC4[..., 2].max() <= width and boxes_RC4[..., 3].max() <= height


def test_a_set_without_patches_is_refused_with_the_command_that_makes_them(tmp_path, capsys):
    project = project_with_set(tmp_path, n=2)
    bare = replace(PLAN, has_patches=False)
    nothing = Block(np.ones((2, 6), np.float32), np.ones((2, 12), np.float16), np.ones(2, bool), np.zeros((2, 2), "u2"))
    FeatureWriter.at(project.set_folder(bare), bare).append(
        [1, 2], [picture.hash for picture in project.pictures()], nothing
    )
    assert export(project, "npz", tmp_path / "out", "--set", "2") == 3
    assert not (tmp_path / "out").exists()
    assert "engine embed PROJECT --patches" in capsys.readouterr().err
