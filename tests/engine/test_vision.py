"""The vision service in this process: what it answers, what it keeps, what it refuses."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from engine import questions as q
from engine.catalogue import ResNetShape, VitShape
from engine.errors import BadInput, BadRecipe, OutOfMemory
from engine.images import open_rgb
from engine.models.resnet import ResNet
from engine.models.vit import VisionTransformer
from engine.models.weights import load_backbone, write_backbone
from engine.seeing.attention import attention_maps, rollout
from engine.seeing.look import masks_of
from engine.seeing.look_matches import Choice, look_matches
from engine.seeing.palette import Palette, PatchStyle
from engine.seeing.patch_features import PatchGaze, patch_features
from engine.seeing.tokens import see
from engine.serve import vision as module
from engine.serve.answers import AnswerFiles
from engine.serve.loop import Outdated
from engine.serve.vision import Vision
from engine.training.crops import draw_views, render_views
from tests.makers import PUBLISHED_CROPS, write_photos

SIDE = 64
SHAPE = VitShape(width=48, depth=3, heads=3, patch=8, native_side=32, registers=2)
TOLERANCE = 1e-5
"""Of float32 sums in another order: numbers are made by the same lines, from one pass instead of several."""


def write_vit(path, seed, shape=SHAPE):
    torch.manual_seed(seed)
    vit = VisionTransformer(shape)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    write_backbone(path, vit, shape, about={})


@pytest.fixture(autouse=True)
def _arithmetic_as_before():
    """A service makes its process fast, and this is one that goes on."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_vit(path, 0)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    write_photos(tmp_path / "photos", 4)
    return tmp_path / "photos"


@pytest.fixture
def files(tmp_path):
    with AnswerFiles(tmp_path / "answers") as files:
        yield files


@pytest.fixture
def vision(model, folder, files):
    return Vision(model, "cpu", files, pictures_folder=folder)


@pytest.fixture
def passes(monkeypatch):
    """The pictures that went through a network."""
    taken = []
    monkeypatch.setattr(module, "see", lambda *args, **named: (taken.append(args), see(*args, **named))[1])
    return taken


@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("query", ["cls", (0, 0), (7, 9)])
@pytest.mark.parametrize("is_square", [False, True])
def test_attention_is_that_of_the_direct_function(vision, model, folder, layer, query, is_square):
    if is_square and query != "cls":
        query = (7, 7)
    answer = vision.answer(q.Attention(picture="p00.jpg", side=SIDE, layer=layer, query=query, is_square=is_square))
    direct = attention_maps(
        load_backbone(model), open_rgb(folder / "p00.jpg"), side=SIDE, layer=layer, query=query, is_square=is_square
    )
    np.testing.assert_allclose(np.load(answer.path), direct.maps_HRC, rtol=TOLERANCE, atol=1e-9)
    assert (answer.layer, answer.heads) == (direct.layer, (0, 1, 2))
    assert (answer.lattice.rows, answer.lattice.cols) == (direct.grid.rows, direct.grid.cols)
    assert (answer.lattice.resized, answer.lattice.picture) == (direct.grid.resized, (60, 80))


def test_crops_are_those_that_training_draws(vision, folder):
    settings = PUBLISHED_CROPS.model_copy(update={"global_side": 48, "local_side": 16, "local_crops": 3})
    answer = vision.answer(q.Crops(picture="p01.jpg", settings=settings.model_dump(), seed=4, epoch=2, sample=1))
    picture = open_rgb(folder / "p01.jpg")
    views = draw_views(settings, *picture.shape[:2], seed=4, epoch=2, sample=1)
    large, small = render_views(picture, views, settings)
    np.testing.assert_array_equal(np.load(answer.large), large)
    np.testing.assert_array_equal(np.load(answer.small), small)
    assert [(d.top, d.left, d.height, d.width) for d in answer.drawn] == [
        (v.top, v.left, v.height, v.width) for v in views
    ]
    assert [d.is_large for d in answer.drawn] == [True, True, False, False, False]
    assert answer.size == picture.shape[:2]


def test_crops_of_impossible_settings_are_refused_in_words(vision):
    settings = PUBLISHED_CROPS.model_dump() | {"flip": 3.0}
    with pytest.raises(BadRecipe, match="flip"):
        vision.answer(q.Crops(picture="p01.jpg", settings=settings))


def test_heads_come_in_the_order_asked(vision):
    every = np.load(vision.answer(q.Attention(picture="p00.jpg", side=SIDE)).path)
    some = vision.answer(q.Attention(picture="p00.jpg", side=SIDE, heads=(2, 0)))
    assert some.heads == (2, 0)
    np.testing.assert_array_equal(np.load(some.path), every[[2, 0]])


def test_rollout_is_that_of_the_direct_function(vision, model, folder):
    answer = vision.answer(q.Attention(picture="p01.jpg", side=SIDE, layer="rollout", query=(1, 2)))
    direct = rollout(load_backbone(model), open_rgb(folder / "p01.jpg"), side=SIDE, query=(1, 2))
    np.testing.assert_allclose(np.load(answer.path), direct.maps_HRC, rtol=TOLERANCE, atol=1e-9)


@pytest.mark.parametrize("of", [0, 2, "mean", "union"])
def test_masks_are_those_that_look_writes(vision, model, folder, of):
    answer = vision.answer(q.Mask(picture="p00.jpg", side=SIDE, of=of, keep=0.4, smallest=2))
    maps = attention_maps(load_backbone(model), open_rgb(folder / "p00.jpg"), side=SIDE)
    wanted = masks_of(maps, 0.4, 2)[f"head{of}" if isinstance(of, int) else of]
    mask = np.load(answer.path)
    np.testing.assert_array_equal(mask, wanted)
    assert (answer.patches, answer.share) == (mask.sum(), pytest.approx(mask.mean()))


@pytest.mark.parametrize("layer", [-1, 0])
@pytest.mark.parametrize("style", ["dinov2", "dinov3"])
def test_colours_are_those_of_the_palette_of_all_pictures_together(vision, model, folder, style, layer):
    question = q.Colours(
        picture="p00.jpg", together=("p02.jpg", "p03.jpg"), side=SIDE, style=style, foreground="off", layer=layer
    )
    answer = vision.answer(question)
    features = [
        patch_features(load_backbone(model), open_rgb(folder / name), side=SIDE, layer=layer).features_RCD
        for name in ("p00.jpg", "p02.jpg", "p03.jpg")
    ]
    palette = Palette.fit(features, PatchStyle(name=style, foreground="off"))
    assert [one.picture for one in answer.pictures] == ["p00.jpg", "p02.jpg", "p03.jpg"]
    assert (answer.rule, answer.threshold) == ("off", None)
    for one, features_RCD in zip(answer.pictures, features, strict=True):
        made = np.load(one.path).astype(int)
        assert made.shape == (8, 10, 3)
        assert np.abs(made - palette.colour(features_RCD).colours_RC3).max() <= 1


def test_a_saved_palette_colours_alike(vision, tmp_path):
    saved = tmp_path / "a.palette"
    first = vision.answer(q.Colours(picture="p00.jpg", side=SIDE, save=saved))
    again = vision.answer(q.Colours(picture="p00.jpg", side=SIDE, palette=saved))
    np.testing.assert_array_equal(np.load(first.pictures[0].path), np.load(again.pictures[0].path))
    assert first.threshold == pytest.approx(again.threshold)


def test_likeness_is_the_cosine_to_the_patch(vision, model, folder):
    answer = vision.answer(q.Likeness(picture="p00.jpg", side=SIDE, patch=(3, 4), others=("p01.jpg",)))
    features = [
        patch_features(load_backbone(model), open_rgb(folder / name), side=SIDE).features_RCD
        for name in ("p00.jpg", "p01.jpg")
    ]
    vector_D = features[0][3, 4] / np.linalg.norm(features[0][3, 4])
    for one, features_RCD in zip(answer.pictures, features, strict=True):
        unit_RCD = features_RCD / np.linalg.norm(features_RCD, axis=-1, keepdims=True)
        np.testing.assert_allclose(np.load(one.path), unit_RCD @ vector_D, atol=1e-5)
    assert np.load(answer.pictures[0].path)[3, 4] == pytest.approx(1, abs=1e-6)


def test_a_pixel_is_found_in_its_patch(vision):
    place = vision.answer(q.Where(picture="p00.jpg", side=SIDE, y=59, x=79))
    assert (place.row, place.col) == (place.lattice.rows - 1, place.lattice.cols - 1)
    with pytest.raises(BadRecipe, match="no pixel"):
        vision.answer(q.Where(picture="p00.jpg", side=SIDE, y=60, x=0))


def test_after_the_first_answer_nothing_goes_through_the_network(vision, passes):
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    for question in (
        q.Attention(picture="p00.jpg", side=SIDE, layer=0, query=(3, 3)),
        q.Attention(picture="p00.jpg", side=SIDE, layer="rollout"),
        q.Mask(picture="p00.jpg", side=SIDE, keep=0.9),
        q.Colours(picture="p00.jpg", side=SIDE, layer=1),
        q.Likeness(picture="p00.jpg", side=SIDE, patch=(0, 0)),
        q.Where(picture="p00.jpg", side=SIDE, y=0, x=0),
    ):
        vision.answer(question)
    assert len(passes) == 1
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE + 8))
    assert len(passes) == 2


def test_pictures_asked_about_least_recently_make_room(model, folder, files, passes):
    one = see(load_backbone(model), open_rgb(folder / "p00.jpg"), side=SIDE).n_bytes
    vision = Vision(model, "cpu", files, pictures_folder=folder, room_bytes=2 * one)
    for name in ("p00.jpg", "p01.jpg", "p00.jpg", "p02.jpg", "p00.jpg"):
        vision.answer(q.Attention(picture=name, side=SIDE))
    state = vision.answer(q.Status())
    assert (state.pictures, state.kept_bytes, state.room_bytes) == (2, 2 * one, 2 * one)
    assert len(passes) == 3
    vision.answer(q.Attention(picture="p01.jpg", side=SIDE))
    assert len(passes) == 4


def test_a_picture_larger_than_all_room_is_answered_all_the_same(model, folder, files):
    vision = Vision(model, "cpu", files, pictures_folder=folder, room_bytes=1)
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    assert vision.answer(q.Status()).pictures == 1


def test_a_picture_that_changed_on_the_disk_is_seen_anew(vision, folder, passes):
    before = np.load(vision.answer(q.Attention(picture="p00.jpg", side=SIDE)).path)
    Image.fromarray(np.flipud(open_rgb(folder / "p01.jpg"))).save(folder / "p00.jpg", quality=80)
    after = np.load(vision.answer(q.Attention(picture="p00.jpg", side=SIDE)).path)
    assert len(passes) == 2
    assert np.abs(before - after).max() > 1e-3


def test_a_picture_replaced_while_it_is_read_is_read_again(vision, folder, monkeypatch, model):
    reads = []

    def read(path):
        picture = open_rgb(path)
        if not reads:
            (folder / "p01.jpg").replace(path)
        reads.append(path)
        return picture

    wanted = attention_maps(load_backbone(model), open_rgb(folder / "p01.jpg"), side=SIDE).maps_HRC
    os.utime(folder / "p01.jpg", ns=(1, 1))
    monkeypatch.setattr(module, "open_rgb", read)
    answer = vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    np.testing.assert_allclose(np.load(answer.path), wanted, rtol=TOLERANCE, atol=1e-9)
    assert len(reads) == 2


def test_backbones_are_loaded_and_forgotten(vision, tmp_path):
    other = tmp_path / "other.safetensors"
    write_vit(other, 1, replace(SHAPE, patch=16))
    with pytest.raises(BadInput, match="not loaded"):
        vision.answer(q.Attention(picture="p00.jpg", model=str(other), side=SIDE))
    about = vision.answer(q.Load(model=str(other)))
    assert (about.patch, about.depth, about.heads, about.registers) == (16, 3, 3, 2)
    assert vision.answer(q.Attention(picture="p00.jpg", model=str(other), side=SIDE)).lattice.patch == 16
    assert len(vision.answer(q.Status()).models) == 2
    vision.answer(q.Forget(model=str(other)))
    state = vision.answer(q.Status())
    assert (len(state.models), state.pictures) == (1, 0)
    with pytest.raises(BadInput, match="not loaded"):
        vision.answer(q.Forget(model=str(other)))
    with pytest.raises(BadRecipe, match="stays"):
        vision.answer(q.Forget(model=state.models[0].model))


def test_a_backbone_that_changed_on_the_disk_is_used_once_it_is_loaded_again(vision, tmp_path):
    other = tmp_path / "other.safetensors"
    question = q.Attention(picture="p00.jpg", model=str(other), side=SIDE)
    maps = []
    for seed in (1, 1, 2):
        write_vit(other, seed)
        vision.answer(q.Load(model=str(other)))
        maps.append(np.load(vision.answer(question).path))
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[1] - maps[2]).max() > 1e-3


def test_a_residual_network_has_colours_and_no_attention(vision, tmp_path):
    shape = ResNetShape(width=64, blocks=(1, 1, 1, 1))
    write_backbone(tmp_path / "resnet.safetensors", ResNet(shape), shape, about={})
    name = str(tmp_path / "resnet.safetensors")
    about = vision.answer(q.Load(model=name))
    assert (about.width, about.heads) == (64, 0)
    colours = vision.answer(q.Colours(picture="p00.jpg", model=name, side=128, foreground="off"))
    assert np.load(colours.pictures[0].path).shape == (4, 5, 3)
    for question in (
        q.Attention(picture="p00.jpg", model=name, side=128),
        q.Attention(picture="p00.jpg", model=name, side=128, layer="rollout"),
    ):
        with pytest.raises(BadRecipe, match="no attention"):
            vision.answer(question)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (q.Attention(picture="p00.jpg", side=SIDE, layer=3), "no layer 3"),
        (q.Attention(picture="p00.jpg", side=SIDE, layer=-4), "no layer -4"),
        (q.Attention(picture="p00.jpg", side=SIDE, query=(8, 0)), "no patch"),
        (q.Attention(picture="p00.jpg", side=SIDE, heads=(3,)), "no head 3"),
        (q.Attention(picture="p00.jpg", side=7), "no room for a patch"),
        (q.Mask(picture="p00.jpg", side=SIDE, of=3), "no head 3"),
        (q.Colours(picture="p00.jpg", side=SIDE, layer=3), "no layer 3"),
        (q.Colours(picture="p00.jpg", side=SIDE, palette="p00.jpg"), "no basis"),
        (q.Likeness(picture="p00.jpg", side=SIDE, patch=(0, 10)), "no patch"),
        (q.Likeness(picture="p00.jpg", side=SIDE, patch=(0, 0), others=("gone.jpg",)), "gone.jpg"),
        (q.Attention(picture="gone.jpg"), "gone.jpg"),
        (q.Attention(picture="."), "not a regular file"),
        (q.Attention(picture="x" * 5000), "cannot be opened"),
        (q.Load(model="gone"), "no model 'gone'"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(vision, question, said):
    with pytest.raises((BadRecipe, BadInput), match=said):
        vision.answer(question)


def test_a_picture_that_cannot_be_read_is_named(vision, folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(BadInput, match=r"broken\.jpg"):
        vision.answer(q.Attention(picture="broken.jpg"))


def test_a_pass_that_would_not_fit_is_refused_and_nothing_is_dropped(vision, monkeypatch):
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    with pytest.raises(OutOfMemory, match="patches"):
        vision.answer(q.Attention(picture="p00.jpg", side=q.LARGEST_SIDE))
    assert vision.answer(q.Status()).pictures == 1


def test_a_question_about_many_pictures_is_given_up_when_a_newer_one_waits(model, folder, files, passes):
    asked = iter([False, False, True])
    vision = Vision(model, "cpu", files, pictures_folder=folder, is_outdated=lambda: next(asked))
    with pytest.raises(Outdated):
        vision.answer(q.Colours(picture="p00.jpg", together=("p01.jpg", "p02.jpg", "p03.jpg"), side=SIDE))
    assert len(passes) == 2


def test_room_is_made(vision):
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    vision.make_room()
    assert vision.answer(q.Status()).kept_bytes == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_gpu_is_released_and_reclaimed(model, folder, files):
    vision = Vision(model, "cuda", files, pictures_folder=folder)
    question = q.Attention(picture="p00.jpg", side=SIDE)
    on_gpu = np.load(vision.answer(question).path)
    vision.answer(q.Release())
    assert vision.answer(q.Status()).device == "cpu"
    assert torch.cuda.memory_allocated() == 0
    np.testing.assert_allclose(np.load(vision.answer(question).path), on_gpu, rtol=1e-3, atol=1e-6)
    vision.answer(q.Reclaim())
    assert vision.answer(q.Status()).device == "cuda"


def test_release_and_reclaim_on_a_cpu_change_nothing(vision, passes):
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    vision.answer(q.Release())
    vision.answer(q.Reclaim())
    vision.answer(q.Attention(picture="p00.jpg", side=SIDE))
    assert len(passes) == 1


@pytest.mark.parametrize("is_foreground", [False, True])
def test_matches_are_those_that_look_writes(vision, model, folder, tmp_path, is_foreground):
    question = q.Matches(
        picture="p00.jpg", other="p01.jpg", side=SIDE, most=12, least=-0.5, is_foreground=is_foreground
    )
    answer = vision.answer(question)
    out = tmp_path / "out"
    choice = Choice(most=12, least=-0.5, is_foreground=is_foreground)
    look_matches(load_backbone(model), (folder / "p00.jpg", folder / "p01.jpg"), out, PatchGaze(side=SIDE), choice)
    told = json.loads((out / "matches.json").read_text())
    wanted = [
        (*(m[end][axis] for end in ("first", "second") for axis in ("row", "col")), m["cosine"])
        for m in told["matches"]
    ]
    np.testing.assert_allclose(np.load(answer.path), np.reshape(wanted, (-1, 5)), atol=1e-4)
    assert (answer.mutual, answer.fit) == (told["mutual"], told["fit"])
    assert answer.other.picture == (60, 80)


def test_picture_matches_itself_in_every_patch(vision):
    answer = vision.answer(
        q.Matches(picture="p00.jpg", other="p00.jpg", side=SIDE, most=300, is_foreground=False, least=0.99)
    )
    table = np.load(answer.path)
    assert len(table) == answer.fit == answer.lattice.rows * answer.lattice.cols
    np.testing.assert_array_equal(table[:, :2], table[:, 2:4])
