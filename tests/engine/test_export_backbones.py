import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engine.catalogue import ResNetShape, VitShape, formats_of
from engine.errors import BadInput, BadRecipe
from engine.exporting.backbones import Format, export_backbone
from engine.exporting.onnx import OnnxOptions, write_onnx
from engine.models import build_backbone
from engine.models.vit import attention
from engine.models.weights import Backbone, read_backbone
from engine.provenance import KEY
from engine.terminal import run

TINY = VitShape(width=64, depth=2, heads=2, patch=8, native_side=64)
V2 = replace(TINY, layer_scale=1.0, has_mask_token=True)
REG = replace(V2, registers=4, positions="sized-antialiased")
SHAPES = {"v1": TINY, "v2": V2, "reg": REG, "swiglu": replace(V2, feed_forward="swiglu")}
PHOTOS = Path(__file__).parents[2] / "resources" / "photos"
TOLERANCE = 1e-5


def backbone_of(shape, seed=0):
    torch.manual_seed(seed)
    model = build_backbone(shape).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "running" not in name:
            torch.nn.init.normal_(tensor, std=0.08)
    return Backbone(
        model=model,
        shape=shape,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        source="/home/somebody/photos.dinoviz/runs/0001",
        sha256="cd" * 32,
        layout="native",
        recipe={"epochs": 3},
        about={},
        notices=(),
    )


def photos(height, width, n=2):
    """Real photos, RGB from 0 to 1, (n, 3, height, width)."""
    paths = sorted(PHOTOS.rglob("*.jpg"))[:n]
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(np.asarray(picture.convert("RGB").resize((width, height)), np.float32) / 255)
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


def normal(backbone, images_BCYX):
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in (backbone.mean, backbone.std))
    return (images_BCYX - mean) / std


def tokens(backbone, images_BCYX):
    with torch.inference_mode():
        features = backbone.model(images_BCYX)
    return torch.cat([features.cls_BD[:, None], features.registers_BRD, features.patches_BPD], dim=1)


def exported(backbone, how, out, **options):
    return export_backbone(backbone, how, out, backbone.provenance(), **options)


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_sees_in_photos_what_we_see(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    backbone = backbone_of(SHAPES[name])
    exported(backbone, "hf", tmp_path / "hf")
    classes = {"v1": "ViTModel", "reg": "Dinov2WithRegistersModel"}
    kind = getattr(transformers, classes.get(name, "Dinov2Model"))
    # It warns of itself in many ways, and its logger tells of the missing pooler.
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = kind.from_pretrained(tmp_path / "hf", **({"add_pooling_layer": False} if name == "v1" else {})).eval()
    images_BCYX = normal(backbone, photos(64, 64))
    with torch.inference_mode():
        seen = theirs(pixel_values=images_BCYX).last_hidden_state
    assert (seen - tokens(backbone, images_BCYX)).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (replace(TINY, stem="conv"), OnnxOptions(has_attention=True)),
        (replace(REG, feed_forward="swiglu"), OnnxOptions(normalise="outside", has_attention=True)),
    ],
    ids=["conv, scaled", "registers, antialiased, swiglu"],
)
def test_onnx_sees_what_we_see_in_any_number_and_size_of_photos(tmp_path, shape, options):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone = backbone_of(shape)
    exported(backbone, "onnx", tmp_path / "a.onnx", options=options)
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for height, width, n in ((64, 64, 2), (40, 56, 1), (8, 8, 1), (120, 24, 3), (200, 264, 1)):
        pictures = photos(height, width, n)
        images_BCYX = normal(backbone, pictures)
        given = pictures if options.normalise == "inside" else images_BCYX
        seen = session.run(None, {"images": given.numpy()})
        ours = tokens(backbone, images_BCYX).numpy()
        special = 1 + shape.registers
        assert np.abs(seen[0] - ours[:, 0]).max() <= TOLERANCE
        assert np.abs(seen[1] - ours[:, special:]).max() <= TOLERANCE
        if options.has_attention:
            with torch.inference_mode():
                looks = attention(backbone.model, images_BCYX, queries=slice(0, 1))[:, :, 0, special:]
            assert np.abs(seen[2] - looks.numpy()).max() <= TOLERANCE
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts[KEY])["model_sha256"] == "cd" * 32
    assert json.loads(facts["normalise"]) == options.normalise
    written = (tmp_path / "a.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in written  # no folder of this computer
    assert b"somebody" not in written


@pytest.mark.slow
def test_onnx_of_a_residual_network_sees_what_we_see(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone = backbone_of(ResNetShape(blocks=(1, 1, 1, 1), width=64))
    exported(backbone, "onnx", tmp_path / "a.onnx")
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    pictures = photos(64, 160, 1)
    seen = session.run(None, {"images": pictures.numpy()})
    with torch.inference_mode():
        features = backbone.model(normal(backbone, pictures))
    assert np.abs(seen[0] - features.cls_BD.numpy()).max() <= TOLERANCE
    assert np.abs(seen[1] - features.patches_BPD.numpy()).max() <= TOLERANCE
    with pytest.raises(BadRecipe, match="no attention"):
        exported(backbone, "onnx", tmp_path / "b.onnx", options=OnnxOptions(has_attention=True))


def test_weights_beyond_two_gigabytes_lie_beside_the_graph(tmp_path):
    """With another limit; and the third way to resample positions."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone = backbone_of(replace(V2, positions="sized"))
    write_onnx(tmp_path, "a.onnx", backbone, backbone.provenance(), OnnxOptions(), largest=1000)
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.onnx.data"}
    assert (tmp_path / "a.onnx.data").stat().st_size > 300_000  # 4 bytes a weight
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((64, 64), (48, 104)):
        pictures = photos(height, width, 1)
        ours = tokens(backbone, normal(backbone, pictures))
        assert np.abs(session.run(None, {"images": pictures.numpy()})[0] - ours[:, 0].numpy()).max() <= TOLERANCE


def test_our_own_file_is_read_back_exactly_with_what_it_was_trained_with(tmp_path):
    backbone = backbone_of(REG)
    files = exported(backbone, "safetensors", tmp_path / "a.safetensors").files
    again = read_backbone(tmp_path / "a.safetensors")
    assert again.shape == REG and again.recipe == {"epochs": 3} and again.mean == backbone.mean
    assert torch.equal(tokens(again, photos(64, 64)), tokens(backbone, photos(64, 64)))
    assert again.about["export"]["model_sha256"] == "cd" * 32
    assert [path.name for path in files] == ["a.safetensors", "a.safetensors.about.json"]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("how", ["hub", "timm", "hf"])
def test_every_layout_is_read_back_with_the_same_features(tmp_path, name, how):
    backbone = backbone_of(SHAPES[name])
    exported(backbone, how, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "about.json").read_text())["architecture"] == "vit-64/8"
    path = next((tmp_path / "out").glob("*.safetensors"))
    again = read_backbone(path, heads=2)
    images_BCYX = photos(64, 64)
    assert (tokens(again, images_BCYX) - tokens(backbone, images_BCYX)).abs().max() <= TOLERANCE


def test_the_hub_layout_has_the_names_of_the_original_and_says_how_to_load_it(tmp_path):
    exported(backbone_of(replace(V2, has_mask_token=False)), "hub", tmp_path / "v2")
    tensors = load_file(tmp_path / "v2" / "backbone.safetensors")
    assert not tensors["mask_token"].any()
    assert {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.1.ls1.gamma", "norm.bias"} <= set(tensors)
    told = (tmp_path / "v2" / "README.txt").read_text()
    assert "DinoVisionTransformer(img_size=64, patch_size=8, embed_dim=64, depth=2, num_heads=2" in told
    assert "interpolate_offset=0.1" in told
    exported(backbone_of(TINY), "hub", tmp_path / "v1")
    assert "qkv_bias=True" in (tmp_path / "v1" / "README.txt").read_text()
    assert read_backbone(tmp_path / "v1" / "backbone.safetensors").shape == TINY


@pytest.mark.parametrize("how", ["hf", "timm", "hub"])
def test_a_convolutional_stem_is_refused_before_anything_is_written(tmp_path, how, capsys):
    command = ["export", "backbone", "--model", "bundled", "--format", how, "--out", str(tmp_path / "out")]
    assert run(command) == 2
    told = capsys.readouterr().err
    assert "onvolutional stem" in told and "safetensors or onnx" in told
    assert not list(tmp_path.iterdir())


def test_a_library_that_resamples_positions_differently_is_warned_of(tmp_path):
    assert "64 px" in exported(backbone_of(TINY), "hf", tmp_path / "a").notices[0]
    assert not exported(backbone_of(replace(V2, positions="sized")), "hf", tmp_path / "b").notices
    assert not exported(backbone_of(REG), "timm", tmp_path / "c").notices
    assert not exported(backbone_of(TINY), "hub", tmp_path / "d").notices


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path):
    backbone = backbone_of(TINY)
    for how, out in (("safetensors", tmp_path / "a.safetensors"), ("hub", tmp_path / "hub")):
        exported(backbone, how, out)
        with pytest.raises(BadInput, match=r"--overwrite|already|not empty"):
            exported(backbone, how, out)
        exported(backbone_of(TINY, seed=1), how, out, overwrite=True)
        path = out / "backbone.safetensors" if out.is_dir() else out
        assert not torch.equal(tokens(read_backbone(path), photos(64, 64)), tokens(backbone, photos(64, 64)))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_formats_are_those_of_the_catalogue():
    assert set(get_args(Format)) == set(formats_of("backbone"))


def test_options_of_onnx_are_refused_elsewhere(tmp_path, capsys):
    command = ["export", "backbone", "--model", "bundled", "--format", "safetensors", "--attention"]
    assert run([*command, "--out", str(tmp_path / "a")]) == 2
    assert "--format onnx" in capsys.readouterr().err
