import json

import numpy as np
import pytest
from PIL import Image

from engine.catalogue import name_of
from engine.errors import BadInput, BadRecipe, Stopped
from engine.seeing.attention import attention_maps
from engine.seeing.files import file_stems, names_of
from engine.seeing.look import Gaze, Style, look_attention, look_masks
from engine.seeing.masks import attention_mask
from tests.makers import tiny_backbone

GAZE = Gaze(side=40)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(registers=2)


@pytest.fixture
def pictures(tmp_path):
    """A wide picture, a broken one, and one of the same name that EXIF turns upright."""
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    wide = Image.fromarray(random.integers(0, 256, (50, 90, 3), dtype=np.uint8))
    wide.save(folder / "a" / "horse.png")
    (folder / "a" / "broken.jpg").write_bytes(b"no picture")
    turned = Image.Exif()
    turned[0x0112] = 6
    wide.save(folder / "b" / "Horse.jpg", exif=turned)
    return [folder / "a" / "horse.png", folder / "a" / "broken.jpg", folder / "b" / "Horse.jpg"]


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_attention_writes_a_picture_of_everything(backbone, pictures, tmp_path):
    out = tmp_path / "new" / "out"
    rows = look_attention(backbone, pictures[:1], out, GAZE, Style(has_layers=True))
    names = {path.name.removeprefix("horse-") for path in rows[0].files}
    drawings = {f"{name}.png" for name in ("head0", "head1", "mean", "rollout", "composite", "overlay")}
    assert names == drawings | {"sheet.png", "layers.png", "attention.npz"}
    assert {path.name for path in out.iterdir()} == {path.name for path in rows[0].files}
    assert rows[0].size == (50, 90)
    for name in drawings:
        assert opened(out / f"horse-{name}").shape == (50, 90, 3)


def test_attention_array_tells_what_it_is(backbone, pictures, tmp_path):
    look_attention(
        backbone, pictures[:1], tmp_path / "out", Gaze(side=40, layer=0, query=(1, 2)), Style(has_layers=True)
    )
    expected = attention_maps(backbone, opened(pictures[0]), side=40, layer=0, query=(1, 2)).maps_HRC
    with np.load(tmp_path / "out" / "horse-attention.npz", allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        assert arrays["attention"].dtype == np.float16
        np.testing.assert_allclose(arrays["attention"], expected, rtol=1e-3, atol=1e-7)
        np.testing.assert_array_equal(arrays["layers"][0], arrays["attention"])
        assert arrays["layers"].shape == (2, *expected.shape)
    assert about.pop("program").startswith("dinoviz ")
    assert about.pop("made")
    assert about == {
        "model": "tiny",
        "model_sha256": "ab" * 32,
        "architecture": name_of(backbone.shape),
        "side_px": 40,
        "layer": 0,
        "query": [1, 2],
        "is_square": False,
        "picture": [50, 90],
        "resized": [40, 72],
    }


def test_broken_picture_is_a_row_and_the_others_go_on(backbone, pictures, tmp_path):
    told = []
    rows = look_attention(backbone, pictures, tmp_path / "out", GAZE, after_each=told.append)
    assert [row.path for row in rows] == pictures
    assert [bool(row.problem) for row in rows] == [False, True, False]
    assert rows[1].files == ()
    assert told == rows


def test_rotated_picture_is_drawn_upright(backbone, pictures, tmp_path):
    rows = look_masks(backbone, pictures[2:], tmp_path / "out", GAZE)
    assert rows[0].size == (90, 50)
    assert opened(tmp_path / "out" / "Horse-mask-mean.png").shape == (90, 50)


def test_masks_have_the_size_of_the_picture_and_two_values(backbone, pictures, tmp_path):
    rows = look_masks(backbone, pictures[:1], tmp_path / "out", GAZE, keep=0.5)
    maps = attention_maps(backbone, opened(pictures[0]), side=40)
    masks_HRC = attention_mask(maps.maps_HRC, 0.5)
    for name, mask_RC in {"head0": masks_HRC[0], "head1": masks_HRC[1], "union": masks_HRC.any(axis=0)}.items():
        drawn_YX = opened(tmp_path / "out" / f"horse-mask-{name}.png")
        np.testing.assert_array_equal(drawn_YX, 255 * maps.grid.spread(mask_RC, (50, 90)))
        assert rows[0].areas[name].pixels == (drawn_YX == 255).sum()
    assert opened(tmp_path / "out" / "horse-contours.png").shape == (50, 90, 3)


def test_keeping_everything_covers_the_whole_picture(backbone, pictures, tmp_path):
    rows = look_masks(backbone, pictures[:1], tmp_path / "out", Gaze(side=45), keep=1)
    assert {name: found.share for name, found in rows[0].areas.items()} == dict.fromkeys(rows[0].areas, 1.0)


def test_areas_are_listed_with_problems(backbone, pictures, tmp_path):
    rows = look_masks(backbone, pictures, tmp_path / "out", GAZE, keep=0.7, smallest=3)
    listed = json.loads((tmp_path / "out" / "masks.json").read_text(encoding="utf-8"))
    assert listed["about"]["layer"] == 1
    assert listed["about"]["keep"] == 0.7
    assert listed["about"]["smallest"] == 3
    assert [bool(row["problem"]) for row in listed["pictures"]] == [False, True, False]
    assert listed["pictures"][0]["masks"]["mean"]["pixels"] == rows[0].areas["mean"].pixels


def test_stopping_keeps_what_was_done(backbone, pictures, tmp_path):
    def stop(row):
        raise Stopped

    with pytest.raises(Stopped):
        look_masks(backbone, pictures, tmp_path / "out", GAZE, after_each=stop)
    assert len(json.loads((tmp_path / "out" / "masks.json").read_text(encoding="utf-8"))["pictures"]) == 1


def test_folder_of_the_pictures_is_refused(backbone, pictures):
    for look in (look_attention, look_masks):
        before = sorted(pictures[0].parent.iterdir())
        with pytest.raises(BadInput, match="themselves lie"):
            look(backbone, pictures, pictures[0].parent, GAZE)
        assert sorted(pictures[0].parent.iterdir()) == before


def test_missing_head_is_refused(backbone, pictures, tmp_path):
    with pytest.raises(BadRecipe, match="no head 2"):
        look_attention(backbone, pictures[:1], tmp_path / "out", GAZE, Style(heads=(0, 2)))


def test_stems_are_unique(tmp_path):
    paths = [
        tmp_path / name
        for name in ("1/a.jpg", "2/a.png", "3/a-2.png", "4/A.jpg", f"{'ü' * 250}.png", f"{'x' * 120}.png")
    ]
    names = list(file_stems(paths))
    assert names[:4] == ["a", "a-2", "a-2-2", "A-3"]
    assert len(names[4].encode()) == 200
    assert names[5] == "x" * 120


def test_pictures_are_named_from_the_folder_they_have_in_common(tmp_path):
    assert names_of([tmp_path / "1" / "a.jpg", tmp_path / "2" / "3" / "a.jpg"]) == ["1/a.jpg", "2/3/a.jpg"]
    assert names_of([tmp_path / "a.jpg"]) == ["a.jpg"]


def test_long_name_is_written(backbone, pictures, tmp_path):
    path = pictures[0].rename(pictures[0].with_name("ü" * 120 + ".png"))
    rows = look_masks(backbone, [path], tmp_path / "out", GAZE)
    assert all(file.is_file() for file in rows[0].files)
