"""The features of a project: of every picture once, in the order of ids, whatever happens meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.commands import embed
from engine.errors import Stopped
from engine.images import open_rgb
from engine.models.tensor_files import write_tensors
from engine.models.weights import describe, load_backbone
from engine.project import Project
from engine.seeing import embed as seeing_embed
from engine.seeing.embed import gem, vector_parts
from engine.seeing.views import normalise, shown
from engine.sets import FAILED, GONE, SEEN, FeatureSet
from engine.store import write_atomically
from engine.terminal import run
from tests.killing import Killer
from tests.makers import photo, write_photos


def embedded(capsys, project: Path, *flags: str, code: int = 0) -> dict:
    given = ["embed", str(project), "--model", "bundled", "--device", "cpu", "--json", "--quiet", *flags]
    assert run(given) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def photos(tmp_path) -> Path:
    write_photos(tmp_path / "photos", 12, labels=("a", "b"))
    return tmp_path / "photos"


def features_of(photos: Path, name: str | None = None) -> FeatureSet:
    with Project.at(photos.with_name("photos.dinoviz")) as project:
        return project.features(name)


def test_every_picture_has_the_cls_that_the_backbone_gives_it(photos, capsys):
    said = embedded(capsys, photos, "--precision", "fp32")
    features = features_of(photos)
    backbone = load_backbone("bundled")
    with Project.at(photos.with_name("photos.dinoviz")) as project, torch.inference_mode():
        paths = project.paths()
        for row, number in enumerate(features.ids_N):
            picture = shown(open_rgb(photos / paths[number]), "crop", 48, 8)
            cls = backbone.model(normalise(torch.from_numpy(picture)[None])).cls_BD[0]
            np.testing.assert_allclose(features.vectors_ND[row], cls.numpy(), atol=2e-5)
    assert (said["pictures"], said["seen"], said["embedded_now"]) == (12, 12, 12)
    assert list(features.ids_N) == sorted(features.ids_N)


def test_a_second_run_sees_only_what_is_new_or_changed(photos, capsys):
    embedded(capsys, photos)
    before = features_of(photos)
    vectors, key = np.array(before.vectors_ND), before.key
    assert embedded(capsys, photos)["embedded_now"] == 0
    assert features_of(photos).key == key
    (photos / "a/p00.jpg").write_bytes((photos / "b/p01.jpg").read_bytes())
    (photos / "a/p02.jpg").unlink()
    write_photos(photos, 1)
    said = embedded(capsys, photos)
    after = features_of(photos)
    assert (said["embedded_now"], said["seen"], len(after)) == (2, 12, 13)
    state = dict(zip(Project.at(photos.with_name("photos.dinoviz")).paths().values(), after.rows["state"], strict=True))
    assert state["a/p02.jpg"] == GONE
    same = [row for row in range(12) if after.rows["state"][row] == SEEN and row != 0]
    np.testing.assert_array_equal(after.vectors_ND[same], vectors[same])
    np.testing.assert_array_equal(after.vectors_ND[0], after.vectors_ND[6])  # a/p00 is a copy of b/p01 now
    assert after.key != key


def test_a_broken_picture_is_listed_and_its_row_stays_empty(photos, capsys):
    (photos / "a/p04.jpg").write_bytes(b"no picture")
    said = embedded(capsys, photos, code=4)
    features = features_of(photos)
    assert [row["path"] for row in said["left_out"]] == ["a/p04.jpg"]
    row = int(np.flatnonzero(features.rows["state"] == FAILED)[0])
    assert not features.vectors_ND[row].any()
    assert said["seen"] == 11
    (photos / "a/p04.jpg").write_bytes((photos / "a/p00.jpg").read_bytes())
    assert embedded(capsys, photos)["embedded_now"] == 1
    assert features_of(photos).vectors_ND[row].any()


def test_pictures_that_go_after_the_scan_are_listed(photos, capsys, monkeypatch):
    embedded(capsys, photos)
    monkeypatch.setattr(embed, "scan_into", lambda *_: None)
    (photos / "a/p00.jpg").unlink()
    said = embedded(capsys, photos, "--features", "mean", code=4)
    assert [row["path"] for row in said["left_out"]] == ["a/p00.jpg"]


def test_patches_lie_as_the_picture_does(photos, capsys):
    embedded(capsys, photos, "--patches", "--side", "48", "--precision", "fp32")
    features = features_of(photos)
    grid = features.patches_of(3)
    assert grid.shape == (6, 8, 192)  # photos are 60 by 80 px
    backbone = load_backbone("bundled")
    with Project.at(photos.with_name("photos.dinoviz")) as project, torch.inference_mode():
        picture = shown(open_rgb(photos / project.paths()[int(features.ids_N[3])]), "whole", 48, 8)
        seen = backbone.model(normalise(torch.from_numpy(picture)[None]))
    np.testing.assert_allclose(grid.reshape(48, -1), seen.patches_BPD[0].numpy(), atol=0.01)


def test_changed_pictures_get_new_patches(photos, capsys):
    embedded(capsys, photos, "--patches", "--side", "48")
    (photos / "a/p00.jpg").write_bytes((photos / "b/p01.jpg").read_bytes())
    embedded(capsys, photos, "--patches", "--side", "48")
    features = features_of(photos)
    np.testing.assert_array_equal(features.patches_of(0), features.patches_of(6))


@pytest.mark.parametrize(("kind", "width"), [("mean", 192), ("cls+mean", 384), ("gem", 384), ("cls4", 768)])
def test_each_kind_of_features_is_a_set_of_its_own(photos, capsys, kind, width):
    embedded(capsys, photos)
    embedded(capsys, photos, "--features", kind)
    assert features_of(photos).vectors_ND.shape == (12, width)
    assert features_of(photos, "1").vectors_ND.shape == (12, 192)


@pytest.mark.slow
def test_a_killed_embedding_goes_on_and_ends_as_if_nothing_had_happened(tmp_path):
    write_photos(tmp_path / "photos", 100)
    killer = Killer(seed=5)

    def command(project: str) -> list[str]:
        flags = ["--model", "bundled", "--patches", "--side", "64", "--device", "cpu", "--workers", "1", "--quiet"]
        return ["embed", str(tmp_path / "photos"), "--project", str(tmp_path / project), *flags]

    assert killer.finish(command("whole.dinoviz")) == 0
    begun = [killer.kill_inside_a_save(command("cut.dinoviz"), call) for call in (12, 9, 7, 5)]
    assert all(begun)
    assert killer.finish(command("cut.dinoviz")) == 0
    whole, cut = (Project.at(tmp_path / name).features() for name in ("whole.dinoviz", "cut.dinoviz"))
    np.testing.assert_array_equal(cut.rows, whole.rows)
    np.testing.assert_array_equal(cut.vectors_ND, whole.vectors_ND)
    np.testing.assert_array_equal(cut.copies_ND, whole.copies_ND)
    np.testing.assert_array_equal(cut.patches_PW, whole.patches_PW)


@pytest.mark.slow
def test_two_processes_embed_what_one_does(photos, tmp_path, capsys):
    embedded(capsys, photos, "--patches", "--precision", "fp32")
    one = features_of(photos)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "engine"]
    command += ["embed", str(photos), "--project", str(tmp_path / "two.dinoviz"), "--model", "bundled", "--patches"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--precision", "fp32", "--device", "cpu", "--quiet", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    two = Project.at(tmp_path / "two.dinoviz").features()
    np.testing.assert_allclose(two.vectors_ND, one.vectors_ND, atol=1e-4)
    np.testing.assert_allclose(two.patches_PW, one.patches_PW, atol=0.01)
    np.testing.assert_array_equal(two.rows["first_patch"], one.rows["first_patch"])


def exact_accuracy(vectors, labels, asked, known, leave_out):
    """The weighted 20-NN classifier in float64, one picture after the other."""
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    right = 0
    for row in asked:
        others = [other for other in known if not (leave_out and other == row)]
        likeness = units[others] @ units[row]
        nearest = np.argsort(-likeness)[:20]
        votes: dict[str, float] = {}
        for place in nearest:
            votes[labels[others[place]]] = votes.get(labels[others[place]], 0.0) + np.exp(likeness[place] / 0.07)
        right += max(votes, key=votes.__getitem__) == labels[row]
    return right / len(asked)


@pytest.mark.parametrize("has_splits", [True, False])
def test_the_accuracy_is_that_of_an_exact_computation(tmp_path, capsys, has_splits):
    folder = tmp_path / "photos"
    parts = ("train/a", "train/b", "train/c", "test/a", "test/b", "test/c") if has_splits else ("a", "b", "c")
    write_photos(folder, 60, labels=parts)
    said = embedded(capsys, folder)
    with Project.at(folder.with_name("photos.dinoviz")) as project:
        pictures, vectors = project.pictures(), np.array(project.features().vectors_ND)
    labels = [picture.label for picture in pictures]
    asked = [i for i, p in enumerate(pictures) if p.split == "test" or not has_splits]
    known = [i for i, p in enumerate(pictures) if p.split == "train" or not has_splits]
    assert said["knn_accuracy"] == pytest.approx(exact_accuracy(vectors, labels, asked, known, not has_splits))


def test_gem_is_its_formula():
    patches = torch.rand(2, 5, 3, dtype=torch.float64) - 0.2
    wanted = (patches.clamp(min=1e-6) ** 4).mean(dim=1) ** 0.25
    torch.testing.assert_close(gem(patches.float()).double(), wanted, rtol=1e-5, atol=1e-6)


def test_room_is_said_before_and_refused_when_there_is_none(photos, capsys, monkeypatch):
    planned = embedded(capsys, photos, "--patches", "--dry-run")
    assert planned["bytes"] > 12 * (18 * 24 * 192 * 2)
    monkeypatch.setattr(embed, "free_bytes", lambda _: 1000)
    refused = embedded(capsys, photos, "--patches", code=6)
    assert "1.0 kB left" in refused["error"]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [(("--side", "4"), 2, "no room for a patch"), (("--device", "tpu"), 2, ""), (("--features", "gm"), 2, "")],
)
def test_settings_that_cannot_be_are_refused(photos, capsys, flags, code, words):
    assert run(["embed", str(photos), "--model", "bundled", *flags]) == code
    assert words in capsys.readouterr().err


def test_vectors_join_what_they_say():
    from engine.models.vit import Features

    seen = Features(torch.ones(2, 3), torch.zeros(2, 0, 3), torch.full((2, 4, 3), 2.0), 2, 2)
    assert [part.mean().item() for part in vector_parts(seen, "cls+mean")] == [1.0, 2.0]
    assert [part.mean().item() for part in vector_parts(seen, "gem")] == pytest.approx([1.0, 2.0])


def test_views_are_whole_patches():
    for view, size in (("crop", (48, 48)), ("square", (48, 48)), ("whole", (48, 64))):
        assert shown(photo(1), view, 50, 8).shape[:2] == size
    assert shown(photo(1, rows=10, cols=4000), "whole", 16, 8).shape[:2] == (16, 64)


def test_teacher_and_student_of_one_file_are_two_sets(photos, tmp_path, capsys):
    backbone = load_backbone("bundled")
    tensors = {f"teacher.backbone.{name}": tensor for name, tensor in backbone.model.state_dict().items()}
    tensors |= {f"student.backbone.{name}": 0.5 * tensor for name, tensor in backbone.model.state_dict().items()}
    path = tmp_path / "both.safetensors"
    description = describe(backbone.shape, about={}, mean=backbone.mean, std=backbone.std)
    write_atomically(path, lambda file: write_tensors(file, tensors, description))
    given = ["embed", str(photos), "--model", str(path), "--device", "cpu", "--quiet"]
    assert run(given) == 0
    assert run([*given, "--role", "student"]) == 0
    teacher, student = (features_of(photos, number) for number in ("1", "2"))
    assert (teacher.plan.role, student.plan.role) == ("teacher", "student")
    assert not np.allclose(teacher.vectors_ND, student.vectors_ND)


def test_a_picture_that_went_before_it_was_embedded_is_gone_and_not_broken(photos, capsys):
    assert run(["scan", str(photos), "--quiet"]) == 0
    (photos / "a/p00.jpg").unlink()
    capsys.readouterr()
    assert embedded(capsys, photos)["left_out"] == []
    assert list(features_of(photos).rows["state"]).count(GONE) == 1


def test_a_set_refused_for_want_of_room_is_not_the_one_that_is_meant(photos, capsys, monkeypatch):
    embedded(capsys, photos)
    monkeypatch.setattr(embed, "free_bytes", lambda _: 1000)
    embedded(capsys, photos, "--patches", code=6)
    assert features_of(photos).folder.name == "0001"


def test_a_folder_of_another_set_is_not_written_into(photos, capsys):
    embedded(capsys, photos)
    project = photos.with_name("photos.dinoviz")
    (project / "project.sqlite").unlink()
    embedded(capsys, photos, "--side", "64")
    with Project.at(project) as opened:
        assert opened.features().folder.name == "0002"


def test_patches_of_a_picture_that_changed_take_the_place_of_the_old_ones(photos, capsys):
    embedded(capsys, photos, "--patches", "--side", "48")
    size = len(features_of(photos).patches_PW)
    for _ in range(3):
        (photos / "a/p00.jpg").write_bytes((photos / "b/p01.jpg").read_bytes())
        (photos / "b/p01.jpg").write_bytes((photos / "b/p03.jpg").read_bytes())
        (photos / "b/p03.jpg").write_bytes((photos / "a/p02.jpg").read_bytes())
        embedded(capsys, photos, "--patches", "--side", "48")
    features = features_of(photos)
    assert len(features.patches_PW) == size
    np.testing.assert_array_equal(features.patches_of(0), features.patches_of(7))


def test_stop_is_heard_between_batches_and_the_block_is_dropped(photos, capsys, monkeypatch):
    monkeypatch.setattr(seeing_embed, "TOKENS_OF_CPU", 4 * 36)  # four pictures a batch
    heard = iter([False, True])
    monkeypatch.setattr(embed.StopSignal, "is_set", lambda _: next(heard, True))
    monkeypatch.setattr(embed.StopSignal, "stopped", lambda _: Stopped(2))
    assert embedded(capsys, photos, code=130) == {"stopped": True, "exit_code": 130}
    assert len(features_of(photos)) == 0
