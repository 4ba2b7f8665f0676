"""Pictures seen as those of a set were: vectors, parts and reasons, by the vision service in this process."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine import questions as q
from engine.errors import BadInput, BadRecipe, BadWeights
from engine.finding.explain import explain
from engine.finding.parts import PartSearcher, make_part_index
from engine.images import upright_size
from engine.project import Project
from engine.records import write_record
from engine.seeing.embed import Embedder
from engine.serve.answers import AnswerFiles
from engine.serve.vision import Vision
from engine.sets import FeatureSet
from engine.templates import Templates
from engine.terminal import run
from tests.makers import write_photos

PHOTOS = Path(__file__).parents[2] / "resources" / "photos"
BF16 = 2e-2
"""Of a vector by itself and in a batch with others, relative to its length, in bf16."""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Some of the bundled photos with two sets: [CLS] of crops, and patches of whole pictures."""
    folder = tmp_path_factory.mktemp("seeing")
    for kind in ("hat", "shoes"):
        shutil.copytree(PHOTOS / kind, folder / "photos" / kind)
    common = [str(folder / "photos"), "--model", "bundled", "--device", "cpu", "--quiet"]
    assert run(["embed", *common]) == 0
    assert run(["embed", *common, "--patches", "--side", "96"]) == 0
    return folder / "photos.dinoviz"


@pytest.fixture
def vision(project, tmp_path):
    before = torch.get_float32_matmul_precision()
    with AnswerFiles(tmp_path / "answers") as files:
        yield Vision("bundled", "cpu", files, pictures_folder=project.with_name("photos"))
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def seen(monkeypatch) -> list[tuple[int, ...]]:
    """The sizes of what went through a network."""
    taken = []
    see = Embedder.see
    monkeypatch.setattr(Embedder, "see", lambda self, pixels: (taken.append(tuple(pixels.shape)), see(self, pixels))[1])
    return taken


def of_set(project: Path, number: int) -> tuple[FeatureSet, dict[int, str]]:
    with Project.at(project) as opened:
        return opened.features(str(number)), opened.paths()


@pytest.mark.parametrize("number", [1, 2])
def test_vectors_are_those_that_the_set_holds(vision, project, number):
    features, paths = of_set(project, number)
    asked = tuple(paths[int(one)] for one in features.ids_N[[3, 0, 5]])
    vectors = np.load(vision.answer(q.Describe(features=features.folder, pictures=asked)).path)
    kept = features.vectors_ND[[3, 0, 5]]
    assert (vectors.dtype, vectors.shape) == (np.float32, kept.shape)
    away = np.linalg.norm(vectors - kept, axis=1) / np.linalg.norm(kept, axis=1)
    assert away.max() < BF16


def test_a_backbone_that_is_loaded_serves_the_set_too(vision, project, monkeypatch):
    features, paths = of_set(project, 1)
    monkeypatch.setattr("engine.serve.vision.backbone_of", lambda plan: pytest.fail("loaded a second time"))
    vision.answer(q.Describe(features=features.folder, pictures=(paths[1],)))


def test_another_backbone_than_that_of_the_set_is_refused(vision, project, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(project / "sets" / "0001", folder)
    features, paths = FeatureSet(folder), of_set(project, 1)[1]
    write_record(folder / "plan.json", replace(features.plan, model_sha256="0" * 64))
    with pytest.raises(BadWeights, match="not the backbone any more"):
        vision.answer(q.Describe(features=folder, pictures=(paths[1],)))


def test_a_part_that_was_shown_is_found_where_it_was(vision, project, tmp_path):
    make_part_index(of_set(project, 2)[0], lambda _: None)
    features, paths = of_set(project, 2)
    number = int(features.ids_N[2])
    height, width = upright_size(project.with_name("photos") / paths[number])
    box = (0.3 * height, 0.25 * width, 0.7 * height, 0.75 * width)
    shown = vision.answer(q.ShowPart(features=features.folder, picture=paths[number], box=box))
    found = PartSearcher(features).search(Templates.read(Path(shown.path)), 1)[0]
    assert shown.box == box
    assert (features.ids_N[found.row], found.is_mirrored) == (number, False)
    assert found.likeness > 0.98


def test_patches_are_a_part_with_the_box_around_them(vision, project):
    features, paths = of_set(project, 2)
    asked = q.ShowPart(features=features.folder, picture=paths[1], patches=((2, 3), (3, 3), (3, 4)))
    shown = vision.answer(asked)
    top, left, bottom, right = shown.box
    assert (bottom - top, right - left) == pytest.approx(((bottom - top), (bottom - top)), rel=0.1)
    template = Templates.read(Path(shown.path)).all[0]
    assert template.is_part_RC.tolist() == [[True, False], [True, True]]


def test_what_a_set_keeps_is_explained_without_seeing_it_again(vision, project, seen):
    features, paths = of_set(project, 2)
    one, other = (int(number) for number in features.ids_N[[0, 4]])
    asked = q.Explain(features=features.folder, picture=paths[one], other=paths[other], id=one, other_id=other)
    answer = vision.answer(asked)
    wanted = explain(features.patches_of(0), features.patches_of(4))
    np.testing.assert_array_equal(np.load(answer.path), wanted.one_RC)
    np.testing.assert_array_equal(np.load(answer.other_path), wanted.other_RC)
    assert not seen
    assert all(0.8 < share <= 1 for share in (*answer.covers, *answer.other_covers))


def test_pictures_from_elsewhere_are_seen_once_to_be_explained(vision, project, seen, tmp_path):
    write_photos(tmp_path / "elsewhere", 1)
    features, paths = of_set(project, 2)
    stranger = tmp_path / "elsewhere" / "p00.jpg"
    for number in features.ids_N[:3].tolist():
        vision.answer(q.Explain(features=features.folder, picture=stranger, other=paths[number], other_id=number))
    assert seen == [(1, 96, 128, 3)]


def test_a_file_that_is_another_one_by_now_is_seen_anew(vision, project, seen):
    features, paths = of_set(project, 2)
    one, other = (int(number) for number in features.ids_N[[1, 6]])
    path = project.with_name("photos") / paths[one]
    before = path.read_bytes()
    try:
        Image.new("RGB", (64, 64), "red").save(path)
        asked = q.Explain(features=features.folder, picture=paths[one], other=paths[other], id=one, other_id=other)
        found = np.load(vision.answer(asked).path)
    finally:
        path.write_bytes(before)
    assert found.shape == (12, 12)
    assert len(seen) == 1


def test_a_set_without_patches_explains_by_seeing_whole_pictures(vision, project, seen):
    features, paths = of_set(project, 1)
    one, other = (int(number) for number in features.ids_N[[0, 1]])
    asked = q.Explain(features=features.folder, picture=paths[one], other=paths[other], id=one, other_id=other)
    for _ in range(2):
        vision.answer(asked)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        (q.Describe(features=Path("/nowhere"), pictures=("a.jpg",)), BadInput, "no set of features"),
        (q.Describe(features=Path("2"), pictures=("nowhere.jpg",)), BadInput, "cannot be read"),
        (q.ShowPart(features=Path("2"), picture="nowhere.jpg", box=(0, 0, 9, 9)), BadInput, "cannot be read"),
        (q.ShowPart(features=Path("1"), picture="PHOTO", box=(0, 0, 9, 9)), BadInput, "no patches of whole pictures"),
        (q.ShowPart(features=Path("2"), picture="PHOTO"), BadRecipe, "a box or some patches"),
        (q.ShowPart(features=Path("2"), picture="PHOTO", box=(0, 0, 9999, 9)), BadRecipe, "not inside the picture"),
        (q.ShowPart(features=Path("2"), picture="PHOTO", patches=((99, 0),)), BadRecipe, "no patch at row 99"),
        (q.Explain(features=Path("2"), picture="nowhere.jpg", other="PHOTO"), BadInput, "cannot be opened"),
    ],
)
def test_what_cannot_be_asked_is_said(vision, project, question, error, words):
    photo = of_set(project, 1)[1][1]
    names = {"1": project / "sets" / "0001", "2": project / "sets" / "0002"}
    there = {field.name: photo for field in fields(question) if getattr(question, field.name) == "PHOTO"}
    folder = names.get(str(question.features), question.features)
    with pytest.raises(error, match=words):
        vision.answer(replace(question, features=folder, **there))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_upright_size_is_told_without_decoding(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert upright_size(tmp_path / "turned.jpg") == ((30, 20) if orientation in (6, 8) else (20, 30))
