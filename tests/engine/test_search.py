"""Search as a person does it: by pictures, by a part, and with the reason; through the real service."""

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import questions as q
from engine.errors import BadInput
from engine.finding.parts import make_part_index
from engine.project import Project
from engine.serve.search import Search
from engine.terminal import run

PHOTOS = Path(__file__).parents[2] / "resources" / "photos"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Some of the bundled photos with two sets: [CLS] of crops, and patches of whole pictures."""
    folder = tmp_path_factory.mktemp("search")
    for kind in ("hat", "shoes", "dress", "pants"):
        shutil.copytree(PHOTOS / kind, folder / "photos" / kind)
    common = [str(folder / "photos"), "--model", "bundled", "--device", "cpu", "--quiet"]
    assert run(["embed", *common]) == 0
    assert run(["embed", *common, "--patches", "--side", "128"]) == 0
    with Project.at(folder / "photos.dinoviz") as opened:
        make_part_index(opened.features("2"), lambda _: None)
    return folder / "photos.dinoviz"


def search(capsys, project: Path, *flags: str, code: int = 0) -> dict:
    assert run(["search", str(project), "--json", "--quiet", "--device", "cpu", *map(str, flags)]) == code
    return json.loads(capsys.readouterr().out)


def photos_of(project: Path) -> list[Path]:
    return sorted(project.with_name("photos").rglob("*.jpg"))


def test_neighbours_of_a_picture_are_those_of_its_vector(project, capsys):
    asked = photos_of(project)[3]
    hits = search(capsys, project, "--set", "1", "--image", asked, "-k", "5")["hits"]
    with Project.at(project) as opened:
        features, paths = opened.features("1"), opened.paths()
    vectors = features.vectors_ND / np.linalg.norm(features.vectors_ND, axis=1, keepdims=True)
    row = next(i for i, n in enumerate(features.ids_N) if asked.name in paths[int(n)])
    likeness = vectors @ vectors[row]
    best = [int(i) for i in np.argsort(-likeness) if i != row][:5]
    assert [hit["id"] for hit in hits] == [int(features.ids_N[i]) for i in best]
    assert [hit["likeness"] for hit in hits] == pytest.approx([float(likeness[i]) for i in best], abs=1e-5)


def test_a_copy_from_elsewhere_finds_its_original_first(project, capsys, tmp_path):
    original = photos_of(project)[7]
    with Image.open(original) as picture:
        picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / "copy.png")
    hits = search(capsys, project, "--set", "1", "--image", tmp_path / "copy.png", "-k", "3")["hits"]
    assert hits[0]["picture"] == str(original)


def test_several_pictures_are_looked_for_by_their_mean_or_each(project, capsys):
    one, other = photos_of(project)[0], photos_of(project)[-1]
    both = ["--set", "1", "--image", one, "--image", other]
    mean = search(capsys, project, *both, "-k", "20")["hits"]
    either = search(capsys, project, *both, "--any", "-k", "20")["hits"]
    assert {hit["picture"] for hit in mean} == {hit["picture"] for hit in either}
    assert not {str(one), str(other)} & {hit["picture"] for hit in mean}
    alone = [search(capsys, project, "--set", "1", "--image", path, "-k", "20")["hits"] for path in (one, other)]
    best = {
        hit["picture"]: max(h["likeness"] for a in alone for h in a if h["picture"] == hit["picture"]) for hit in either
    }
    assert [hit["likeness"] for hit in either] == pytest.approx([best[hit["picture"]] for hit in either], abs=1e-5)


def test_a_part_is_found_in_its_photo_and_drawn_with_the_reason(project, capsys, tmp_path):
    path = photos_of(project)[8]
    with Image.open(path) as picture:
        width, height = picture.size
        mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(tmp_path / "mirrored.png")
    box = (width * 0.5, height * 0.4, width * 0.3, height * 0.3)
    asked = ["--set", "2", "--image", tmp_path / "mirrored.png", "-k", "3", "--box", ",".join(map(str, box))]
    found = search(capsys, project, *asked, "--out", tmp_path / "all.png", "--why", tmp_path / "why")
    best = found["hits"][0]
    assert best["picture"] == str(path)
    assert best["is_mirrored"]
    left, top, wide, high = best["box"]
    assert left == pytest.approx(width - box[0] - box[2], abs=0.08 * width)
    assert top == pytest.approx(box[1], abs=0.08 * height)
    assert (wide, high) == pytest.approx(box[2:], rel=0.25)
    assert len(found["made"]) == 4
    assert all(Path(made).stat().st_size > 10_000 for made in found["made"])


def test_some_patches_are_found_where_they_are(project, capsys):
    path = photos_of(project)[12]
    patches = [("--patch", f"{row},{col}") for row, col in ((6, 5), (6, 6), (7, 6), (8, 6))]
    asked = ["--set", "2", "--image", path, "-k", "2", *(word for pair in patches for word in pair)]
    best = search(capsys, project, *asked)["hits"][0]
    assert best["picture"] == str(path)
    assert best["likeness"] > 0.98
    with Image.open(path) as picture:
        patch = min(picture.size) / 16  # 128 px are 16 patches
    assert best["box"] == pytest.approx([5 * patch, 6 * patch, 2 * patch, 3 * patch], abs=0.6 * patch)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--image", "nowhere.jpg"], 3, "nowhere.jpg"),
        (["--image", "{photo}", "--box", "1,2,3"], 2, "is no box"),
        (["--image", "{photo}", "--box", "0,0,9999,9"], 2, "not inside the picture"),
        (["--image", "{photo}", "--image", "{photo}2", "--box", "0,0,9,9"], 2, "of one picture"),
        (["--image", "{photo}", "--set", "1", "--box", "0,0,9,9"], 3, "no patches of whole pictures"),
        (["--image", "{photo}", "--set", "2", "--patch", "99,0"], 2, "no patch at row 99"),
        (["--image", "{photo}", "--set", "2", "--patch", "1"], 2, "row and a column"),
        (["--image", "{photo}", "-k", "0"], 2, "0 pictures"),
        (["--image", "{photo}", "--set", "9"], 3, "no set '9'"),
    ],
)
def test_what_cannot_be_searched_is_said(project, capsys, flags, code, words):
    photo = str(photos_of(project)[0])
    said = search(capsys, project, *[flag.replace("{photo}", photo) for flag in flags], code=code)
    assert words in said["error"]


@pytest.mark.parametrize("name", ["one.npz", "checkpoint.pth", "empty.npy", "cut.npz", "nan.npy", "large.npy"])
def test_what_holds_no_vectors_is_refused_by_the_service(project, tmp_path, name):
    with Project.at(project) as opened:
        width = opened.features("1").plan.dimensions
    path = tmp_path / name
    match name:
        case "one.npz":
            np.savez(path, vectors=np.ones((1, width)))
        case "checkpoint.pth":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("checkpoint/data.pkl", b"")
        case "empty.npy":
            path.write_bytes(b"")
        case "cut.npz":
            path.write_bytes(b"PK\x03\x04 cut")
        case "nan.npy":
            np.save(path, np.full((1, width), np.nan))
        case _:
            np.save(path, np.full((1, width), 1e300))
    with Project.at(project) as opened, pytest.raises(BadInput, match=name):
        Search(opened, "1").answer(q.Similar(pictures=(), vectors=path))


def test_what_is_gone_or_changed_since_is_said(project, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project.parent, copy)
    moved = copy / "photos.dinoviz"
    with sqlite3.connect(moved / "project.sqlite") as catalogue:
        catalogue.execute("UPDATE facts SET value = ? WHERE name = 'pictures'", (str(copy / "photos"),))
    catalogue.close()
    one, other, asked = photos_of(moved)[:3]
    one.unlink()
    Image.new("RGB", (300, 40), "red").save(other)
    (copy / "photos/hat/new.jpg").write_bytes(asked.read_bytes())
    assert run(["scan", str(moved), "--quiet"]) == 0
    capsys.readouterr()
    flags = ["--set", "2", "--image", copy / "photos/hat/new.jpg", "-k", "20", "--out", tmp_path / "all.png"]
    found = search(capsys, moved, *flags, "--why", tmp_path / "why", code=4)
    assert list(found["not_drawn"]) == [one.relative_to(copy / "photos").as_posix()]
    assert [hit["picture"] for hit in found["hits"] if hit["is_changed"]] == [str(other)]
    assert found["hits"][0]["picture"] == str(asked)
    assert len(found["made"]) == 1 + len(found["hits"]) - 1
