import json

import numpy as np
import pytest
from PIL import Image

from engine import questions as q
from engine.models.weights import write_backbone
from engine.provenance import KEY, of_model
from engine.seeing.drawing import png_text, write_png
from engine.seeing.look import Gaze, look_attention, look_masks
from engine.seeing.look_matches import look_likeness, look_matches
from engine.seeing.look_patches import Reports, Share, look_patches
from engine.seeing.palette import Palette
from engine.seeing.patch_features import PatchGaze
from engine.serve.answers import AnswerFiles
from engine.serve.vision import Vision
from tests.makers import photo, tiny_backbone

SIDE = 40


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "somebody" / "pictures"
    for i, name in enumerate(("a/horse.png", "b/horse.png")):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(photo(i, 50, 90)).save(folder / name)
    return [folder / "a" / "horse.png", folder / "b" / "horse.png"]


def words_of(path):
    """All that a file says in words, compressed or not."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return " ".join(str(array) for array in arrays.values() if array.dtype.kind == "U")
    if path.suffix == ".png":
        with Image.open(path) as image:
            return " ".join(image.text.values())
    return path.read_bytes().decode(errors="replace")


def everything_looked_at(backbone, pictures, out):
    gaze = PatchGaze(side=SIDE)
    look_attention(backbone, pictures, out, Gaze(side=SIDE))
    look_masks(backbone, pictures, out, Gaze(side=SIDE))
    keep = Reports(fitted=lambda palette: palette.write(out / "palette.safetensors"))
    look_patches(backbone, pictures, out, gaze, share=Share(is_together=True), reports=keep)
    look_matches(backbone, (pictures[0], pictures[1]), out, gaze)
    look_likeness(backbone, pictures, out, gaze, ("patch", 1, 2))


def test_no_file_holds_a_path_of_this_computer_and_every_one_says_where_it_comes_from(pictures, tmp_path):
    source = tmp_path / "somebody" / "photos.dinoviz" / "runs" / "0001"
    out = tmp_path / "out"
    everything_looked_at(tiny_backbone(source=str(source)), pictures, out)
    files = sorted(out.iterdir())
    assert {path.suffix for path in files} == {".png", ".npz", ".json", ".safetensors"}
    for path in files:
        words = words_of(path)
        assert "somebody" not in words, path.name
        assert str(tmp_path) not in words, path.name
        assert "ab" * 32 in words, path.name
        assert "runs/0001" in words, path.name


def test_lists_name_pictures_from_the_folder_they_have_in_common(pictures, tmp_path):
    everything_looked_at(tiny_backbone(), pictures, tmp_path / "out")
    for name in ("masks", "patches", "likeness", "matches"):
        listed = json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8"))
        assert [row["picture"] for row in listed["pictures"]] == ["a/horse.png", "b/horse.png"]


def test_palette_of_the_service_holds_no_path_of_this_computer(pictures, tmp_path):
    weights = tmp_path / "somebody" / "runs" / "tiny.safetensors"
    weights.parent.mkdir(parents=True)
    backbone = tiny_backbone()
    write_backbone(weights, backbone.model, backbone.shape, about={})
    kept = tmp_path / "kept.palette"
    with AnswerFiles(tmp_path / "answers") as files:
        Vision(str(weights), "cpu", files).answer(
            q.Colours(picture=pictures[0], side=SIDE, layer=0, foreground="off", save=kept)
        )
    about = Palette.read(kept).about
    assert about["model"] == "runs/tiny.safetensors"
    assert (about["side_px"], about["layer"], len(about["model_sha256"])) == (SIDE, 0, 64)
    assert "somebody" not in words_of(kept)


def test_of_a_path_only_the_end_is_told():
    for source in ("/home/me/photos.dinoviz/runs/0001/", r"C:\Users\me\photos.dinoviz\runs\0001"):
        assert of_model(source, "ab", "vit-tiny/8")["model"] == "runs/0001"
    assert of_model("dino_vits16", "ab", "vit-small/16", layer=3)["layer"] == 3


def test_facts_of_a_png_are_under_one_key(tmp_path):
    about = of_model("bundled", "ab", "vit-tiny/8", name="ü")
    write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8), about)
    Image.new("L", (4, 4)).save(tmp_path / "b.png", pnginfo=png_text(about))
    for name in ("a.png", "b.png"):
        with Image.open(tmp_path / name) as image:
            assert json.loads(image.text[KEY]) == about
