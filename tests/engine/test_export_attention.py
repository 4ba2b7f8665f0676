"""Attention as arrays and as drawings, of pictures that need not have the same size."""

import json
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from engine.catalogue import formats_of
from engine.commands.export_looks import sources_of
from engine.errors import BadRecipe
from engine.exporting.attention import AttentionFormat, AttentionPlan, export_attention
from engine.provenance import KEY
from engine.seeing.attention import attention_maps
from engine.seeing.look import Gaze
from tests.makers import photo, tiny_backbone

GAZE = Gaze(side=40)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(sha256="cd" * 32, registers=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in {"a/horse.png": (50, 90), "b/Horse.png": (90, 50)}.items():
        (folder / name).parent.mkdir()
        Image.fromarray(photo(1, *size)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"")
    return sources_of([folder])


def test_arrays_are_the_attention_and_lead_back_to_pixels(backbone, sources, tmp_path):
    account, about = export_attention(backbone, sources, tmp_path / "out", "npz", gaze=Gaze(side=40, layer=0))
    assert (account.n_pictures, len(account.left_out)) == (2, 1)
    for stem, source in (("horse", sources[0]), ("Horse-2", sources[1])):
        with Image.open(source.path) as image:
            picture = np.asarray(image)
        maps = attention_maps(backbone, picture, side=40, layer=0)
        with np.load(tmp_path / "out" / f"{stem}.npz", allow_pickle=False) as stored:
            assert stored["attention"].dtype == np.float16
            np.testing.assert_allclose(stored["attention"], maps.maps_HRC, rtol=1e-3, atol=1e-7)
            assert stored["heads"].tolist() == ["head0", "head1"]
            assert stored["picture"].tolist() == list(picture.shape[:2])
            assert stored["resized"].tolist() == list(maps.grid.resized)
            assert stored["patch"] == 8
            assert json.loads(str(stored["about"]))["layer"] == 0
    assert json.loads((tmp_path / "out" / "about.json").read_text()) == json.loads(json.dumps(about))


def test_pictures_are_listed_with_their_grids(backbone, sources, tmp_path):
    export_attention(backbone, sources, tmp_path / "out", "npz", gaze=GAZE)
    rows = [json.loads(line) for line in (tmp_path / "out" / "pictures.jsonl").read_text().splitlines()]
    assert [row.get("files") for row in rows] == [["horse.npz"], ["Horse-2.npz"], None]
    assert [(row["rows"], row["cols"]) for row in rows[:2]] == [(5, 9), (9, 5)]
    assert rows[2]["problem"] == "empty file"


@pytest.mark.parametrize(
    ("heads", "names"),
    [("mean", ["horse.png"]), ("all", ["horse-head0.png", "horse-head1.png"]), ((1,), ["horse.png"])],
)
def test_overlay_is_drawn_in_the_size_of_the_picture(backbone, sources, tmp_path, heads, names):
    export_attention(backbone, sources[:1], tmp_path / "out", "overlay", AttentionPlan(heads=heads), GAZE)
    drawn = sorted((tmp_path / "out").glob("*.png"))
    assert [path.name for path in drawn] == names
    for path in drawn:
        with Image.open(path) as image:
            assert image.size == (90, 50)
            assert json.loads(image.text[KEY])["model_sha256"] == "cd" * 32


def test_chosen_heads_come_in_their_order(backbone, sources, tmp_path):
    for name, heads in {"all": "all", "chosen": (1, 0), "mean": "mean"}.items():
        export_attention(backbone, sources[:1], tmp_path / name, "npz", AttentionPlan(heads=heads), GAZE)
    stored = {name: np.load(tmp_path / name / "horse.npz")["attention"] for name in ("all", "chosen", "mean")}
    np.testing.assert_array_equal(stored["chosen"], stored["all"][::-1])
    np.testing.assert_allclose(stored["mean"][0], stored["all"].mean(axis=0, dtype=np.float64), rtol=2e-3)


def test_missing_head_is_refused(backbone, sources, tmp_path):
    with pytest.raises(BadRecipe, match="no head 2"):
        export_attention(backbone, sources, tmp_path / "out", "npz", AttentionPlan(heads=(0, 2)), GAZE)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_those_of_the_catalogue():
    assert tuple(formats_of("attention")) == get_args(AttentionFormat)
