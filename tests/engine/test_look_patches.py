import json

import numpy as np
import pytest
from PIL import Image

from engine.catalogue import ResNetShape
from engine.commands import look
from engine.errors import BadInput, BadRecipe
from engine.models.backbones import build_backbone
from engine.protocol import Made, Noticed
from engine.seeing import look_patches as module
from engine.seeing.grid import Grid
from engine.seeing.look_matches import Choice, look_likeness, look_matches
from engine.seeing.look_patches import Reports, Share, look_patches, spread_colours
from engine.seeing.palette import Coloured, Palette, PatchStyle
from engine.seeing.patch_features import PatchGaze, patch_features
from tests.makers import backbone_of, photo, tiny_backbone

SOURCE = "/home/me/photos.dinoviz/runs/0001/tiny"
GAZE = PatchGaze(side=40)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone(source=SOURCE, registers=2)


@pytest.fixture
def pictures(tmp_path):
    """Three pictures and, second, a broken one; the last is turned upright by EXIF."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for i, exif in enumerate((None, None, turned)):
        Image.fromarray(photo(i, 50, 90)).save(folder / f"{i}.jpg", **({"exif": exif} if exif else {}))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return [folder / name for name in ("0.jpg", "broken.jpg", "1.jpg", "2.jpg")]


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image)


def arrays_of(path):
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def test_patches_writes_colours_arrays_and_a_list(backbone, pictures, tmp_path):
    out = tmp_path / "new" / "out"
    rows = look_patches(backbone, pictures, out, GAZE)
    assert [bool(row.problem) for row in rows] == [False, True, False, False]
    assert [row.size for row in rows if not row.problem] == [(50, 90), (50, 90), (90, 50)]
    arrays = arrays_of(out / "2-patches.npz")
    assert arrays["scores"].shape == (9, 5, 3)
    assert arrays["scores"].dtype == np.float16
    drawn_YX3 = opened(out / "2-patches.png")
    grid = Grid.of((90, 50), patch=8, side=40)
    np.testing.assert_array_equal(drawn_YX3, grid.spread(arrays["colours"], (90, 50)))
    np.testing.assert_array_equal(opened(out / "2-patches-grid.png"), arrays["colours"])
    assert not arrays["colours"][~arrays["foreground"]].any()
    listed = json.loads((out / "patches.json").read_text(encoding="utf-8"))
    assert [bool(row["problem"]) for row in listed["pictures"]] == [False, True, False, False]
    assert listed["pictures"][3]["foreground"] == rows[3].areas["foreground"]._asdict()
    assert (out / "patches-sheet.png").is_file()


def test_every_file_says_where_it_comes_from(backbone, pictures, tmp_path):
    out = tmp_path / "out"
    look_patches(backbone, pictures[:1], out, PatchGaze(side=40, layer=0))
    look_matches(backbone, (pictures[0], pictures[2]), out, GAZE)
    look_likeness(backbone, pictures[:1], out, GAZE, ("patch", 1, 2))
    abouts = [json.loads(path.read_text())["about"] for path in out.glob("*.json")]
    abouts += [json.loads(str(arrays_of(path)["about"])) for path in out.glob("*.npz")]
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            abouts.append(json.loads(image.text["dinoviz"]))
    assert len(abouts) == 12
    for about in abouts:
        assert about["model_sha256"] == "ab" * 32
        assert about["side_px"] == 40
        assert about["model"] == "0001/tiny"
        assert about["program"].startswith("dinoviz ")
    assert {about["layer"] for about in abouts} == {0, 1}


def test_pictures_together_share_one_palette(backbone, pictures, tmp_path):
    fitted = []
    reports = Reports(fitted=fitted.append)
    look_patches(backbone, pictures, tmp_path / "a", GAZE, share=Share(is_together=True), reports=reports)
    (palette,) = fitted
    assert palette.about["pictures"] == 3
    seen = patch_features(backbone, opened(pictures[2]), side=40)
    np.testing.assert_array_equal(
        arrays_of(tmp_path / "a" / "1-patches.npz")["colours"], palette.colour(seen.features_RCD).colours_RC3
    )


def test_kept_basis_gives_the_same_colours_again(backbone, pictures, tmp_path):
    reports = Reports(fitted=lambda palette: palette.write(tmp_path / "basis"))
    look_patches(backbone, pictures, tmp_path / "a", GAZE, share=Share(is_together=True), reports=reports)
    share = Share(palette=Palette.read(tmp_path / "basis"))
    look_patches(backbone, pictures[3:], tmp_path / "b", GAZE, share=share)
    for name in ("2-patches.png", "2-patches-grid.png"):
        np.testing.assert_array_equal(opened(tmp_path / "a" / name), opened(tmp_path / "b" / name))


def test_memory_bounds_what_is_fitted_on_and_the_seed_repeats_it(backbone, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIT_PATCHES", 50)
    said, fitted = [], []
    for name in ("a", "b"):
        share = Share(is_together=True, seed=3)
        reports = Reports(say=said.append, fitted=fitted.append)
        look_patches(backbone, pictures, tmp_path / name, GAZE, share=share, reports=reports)
    assert "fitted on 2 of 4 pictures" in said[0]
    np.testing.assert_array_equal(fitted[0].basis.components_KD, fitted[1].basis.components_KD)
    assert len(list((tmp_path / "a").glob("*.npz"))) == 3


def test_without_a_readable_picture_all_are_told(backbone, pictures, tmp_path):
    for is_together in (False, True):
        rows = look_patches(backbone, pictures[1:2], tmp_path / "o", GAZE, share=Share(is_together=is_together))
        assert [bool(row.problem) for row in rows] == [True]


def test_smooth_colours_keep_inside_the_foreground():
    is_foreground_RC = np.zeros((6, 6), np.bool_)
    is_foreground_RC[2:4, 2:5] = True
    colours_RC3 = np.full((6, 6, 3), (250, 120, 10), np.uint8) * is_foreground_RC[..., None]
    coloured = Coloured(colours_RC3, np.zeros((6, 6, 3), np.float32), is_foreground_RC, np.zeros((6, 6), np.float32))
    grid = Grid.of((60, 60), patch=8, side=48)
    drawn_YX3 = spread_colours(coloured, grid, (60, 60), is_smooth=True)
    inside_P3 = drawn_YX3[drawn_YX3.any(axis=-1)].astype(int)
    assert np.abs(inside_P3 - (250, 120, 10)).max() <= 30
    assert not drawn_YX3[:15].any()
    assert drawn_YX3[30, 35].any()


def test_patches_of_a_layer_are_normed_features_of_it(backbone, pictures):
    picture_YX3 = opened(pictures[0])
    first, last = (patch_features(backbone, picture_YX3, side=40, layer=layer).features_RCD for layer in (0, -1))
    np.testing.assert_array_equal(last, patch_features(backbone, picture_YX3, side=40, layer=1).features_RCD)
    assert np.abs(first - last).max() > 0.1
    with pytest.raises(BadRecipe, match="no layer 2"):
        patch_features(backbone, picture_YX3, side=40, layer=2)


def test_places_of_a_residual_network_are_coloured_too(pictures, tmp_path):
    shape = ResNetShape(blocks=(1, 1, 1, 1), width=256)
    model = build_backbone(shape).eval()
    rows = look_patches(backbone_of(model, shape, source=SOURCE), pictures[:1], tmp_path / "out", PatchGaze(side=128))
    assert not rows[0].problem


def test_likeness_marks_the_patch_and_finds_it_in_a_copy(backbone, pictures, tmp_path):
    copy = tmp_path / "pictures" / "copy.png"
    Image.fromarray(opened(pictures[0])).save(copy)
    out = tmp_path / "out"
    rows = look_likeness(backbone, [pictures[0], copy, *pictures[1:]], out, GAZE, ("pixel", 45, 25))
    assert [bool(row.problem) for row in rows] == [False, False, True, False, False]
    cosine_RC = arrays_of(out / "0-likeness.npz")["cosine"]
    row, col = Grid.of((50, 90), patch=8, side=40).patch_at(25, 45, (50, 90))
    assert cosine_RC[row, col] == 1
    listed = json.loads((out / "likeness.json").read_text())["pictures"]
    assert (listed[1]["best"]["row"], listed[1]["best"]["col"]) == (row, col)
    assert abs(listed[0]["best"]["y"] - 25) <= 5
    assert abs(listed[0]["best"]["x"] - 45) <= 5


@pytest.mark.parametrize(
    ("place", "said"),
    [(("patch", 5, 0), "no patch at row 5"), (("patch", 0, -1), "no patch"), (("pixel", 90, 0), "no pixel at x 90")],
)
def test_place_outside_the_picture_is_refused(backbone, pictures, tmp_path, place, said):
    with pytest.raises(BadRecipe, match=said):
        look_likeness(backbone, pictures[:1], tmp_path / "out", GAZE, place)


def test_picture_matches_itself_patch_by_patch(backbone, pictures, tmp_path):
    choice = Choice(is_foreground=False, most=12)
    matched = look_matches(backbone, (pictures[0], pictures[0]), tmp_path / "out", GAZE, choice)
    assert (matched.n_mutual, matched.n_drawn) == (45, 12)
    listed = json.loads((tmp_path / "out" / "matches.json").read_text())["matches"]
    assert all(match["first"] == match["second"] for match in listed)
    assert all(0 <= match["first"]["y"] <= 50 and 0 <= match["first"]["x"] <= 90 for match in listed)
    arrays = arrays_of(tmp_path / "out" / "matches.npz")
    rows_RC, cols_RC = np.indices((5, 9))
    np.testing.assert_array_equal(arrays["of_first"], np.stack([rows_RC, cols_RC], axis=-1))


def test_matches_stay_in_the_foreground_and_above_the_least_cosine(backbone, pictures, tmp_path):
    pair = (pictures[0], pictures[2])
    look_matches(backbone, pair, tmp_path / "out", GAZE, Choice(least=0.3))
    listed = json.loads((tmp_path / "out" / "matches.json").read_text())["matches"]
    arrays = arrays_of(tmp_path / "out" / "matches.npz")
    for match in listed:
        assert match["cosine"] >= 0.3
        assert arrays["foreground_of_first"][match["first"]["row"], match["first"]["col"]]
        assert arrays["foreground_of_second"][match["second"]["row"], match["second"]["col"]]
    assert look_matches(backbone, pair, tmp_path / "none", GAZE, Choice(least=1.0)).n_drawn == 0
    assert (tmp_path / "none" / "matches.png").is_file()


def test_bad_choices_and_broken_pictures_are_refused(backbone, pictures, tmp_path):
    for choice in (Choice(most=0), Choice(least=1.5), Choice(least=float("nan"))):
        with pytest.raises(BadRecipe):
            look_matches(backbone, (pictures[0], pictures[2]), tmp_path / "out", GAZE, choice)
    with pytest.raises(BadInput, match=r"broken\.jpg"):
        look_matches(backbone, (pictures[0], pictures[1]), tmp_path / "out", GAZE)
    for write in (look_patches, lambda *few: look_likeness(*few, ("patch", 0, 0))):
        with pytest.raises(BadInput, match="themselves lie"):
            write(backbone, pictures, pictures[0].parent, GAZE)


def run(*words):
    """Run ``engine look`` here; return its outcome and what it told."""
    told = []
    arguments = look.parser().parse_args([*map(str, words), "--model", "bundled"])
    return arguments.run(arguments, told.append), told


def test_basis_goes_from_one_command_to_the_next(pictures, tmp_path):
    basis = tmp_path / "kept" / "photos.basis"
    first, told = run(
        *("patches", *pictures, "--together", "--side", 48, "--save-basis", basis, "--out", tmp_path / "a")
    )
    assert first.exit_code == 4
    assert Made(what="basis", path=str(basis)) in told
    assert any("above" in message.text and "Otsu" in message.text for message in told if isinstance(message, Noticed))
    second, told = run("patches", pictures[0], "--basis", basis, "--out", tmp_path / "b")
    assert second.exit_code == 0
    assert not [message for message in told if isinstance(message, Noticed)]
    name = "0-patches-grid.png"
    np.testing.assert_array_equal(opened(tmp_path / "a" / name), opened(tmp_path / "b" / name))


def test_basis_of_other_weights_or_another_layer_is_noticed(backbone, pictures, tmp_path):
    seen = patch_features(backbone, opened(pictures[0]), side=40).features_RCD
    wide = Palette.fit(
        [np.tile(seen, 6)], PatchStyle(), {"model": "other", "model_sha256": "0", "layer": 2, "side_px": 40}
    )
    wide.write(tmp_path / "basis")
    flags = ("patches", pictures[0], "--basis", tmp_path / "basis", "--out", tmp_path / "out")
    _, told = run(*flags, "--layer", 3)
    texts = [message.text for message in told if isinstance(message, Noticed)]
    assert any("made with 'other'" in text for text in texts)
    assert any("layer 2, not 3" in text for text in texts)
    Palette.fit([seen], PatchStyle(), {"side": 40}).write(tmp_path / "basis")
    with pytest.raises(BadRecipe, match="width 32; this model's have width 192"):
        run(*flags)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["patches", "--foreground", "much"], "'much' is no foreground"),
        (["patches", "--foreground", "inf"], "'inf' is no foreground"),
        (["patches", "--save-basis", "b"], "which is to be kept"),
        (["patches", "--basis", "b", "--together"], "--together does not go with --basis"),
        (["likeness", "--at", "1"], "is no place"),
        (["likeness", "--patch", "a,b"], "no list of whole numbers"),
        (["matches"], "these are 4"),
    ],
)
def test_what_cannot_be_done_is_said(pictures, tmp_path, words, said):
    with pytest.raises(BadRecipe, match=said):
        run(words[0], *pictures, *words[1:], "--out", tmp_path / "out", "--side", 48)


def test_likeness_and_matches_run_from_the_command_line(pictures, tmp_path):
    outcome, _ = run("likeness", *pictures, "--at", "20,20", "--side", 48, "--out", tmp_path / "l")
    assert outcome.exit_code == 4
    assert "3 pictures" in outcome.text
    outcome, _ = run(
        *("matches", pictures[0], pictures[2], "--foreground", "off", "--side", 48, "--out", tmp_path / "m")
    )
    assert outcome.data["drawn"] == min(30, outcome.data["mutual"])
    assert outcome.data["drawn"] > 0
