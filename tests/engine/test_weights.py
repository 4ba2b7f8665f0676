import argparse
import io
import json
import pickle
import struct
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.catalogue import WEIGHTS, ResNetShape, VitShape
from engine.errors import BadInput, BadRecipe, BadWeights, DiskFull, DownloadFailed, UnsafeFile, UserError
from engine.models import build_backbone, downloads, layouts, unpickle
from engine.models.tensor_files import open_tensors, read_contents, write_tensors
from engine.models.vit import attention
from engine.models.weights import (
    check_file,
    describe,
    fetch,
    import_file,
    load_backbone,
    read_backbone,
    write_backbone,
)

DATA = Path(__file__).parent.parent / "data"
TOLERANCE = 1e-5
TINY = VitShape(width=64, depth=2, heads=1, patch=8, native_side=32)
TINY_V2 = replace(TINY, layer_scale=1.0, has_mask_token=True)
TINY_REG = replace(TINY_V2, registers=4, positions="sized-antialiased")
SHAPES = {
    "v1": TINY,
    "v2": TINY_V2,
    "v2-reg": TINY_REG,
    "v2-swiglu": replace(TINY_V2, feed_forward="swiglu"),
    "v2-reg-swiglu": replace(TINY_REG, feed_forward="swiglu"),
    "narrow-mlp": replace(TINY, mlp_ratio=2.5),
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DINOVIZ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def made(shape, seed=0):
    torch.manual_seed(seed)
    model = build_backbone(shape).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def assert_same_tensors(ours, theirs):
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


# Features of other libraries' files


def golden_file(tmp_path, name, prefix, config):
    tensors = load_file(DATA / "golden" / f"{name}.safetensors")
    path = tmp_path / "model.safetensors"
    save_file({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}, path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    return path, {key: value for key, value in tensors.items() if key[0].isdigit()}


def all_tokens(features):
    return torch.cat([features.cls_BD.unsqueeze(1), features.registers_BRD, features.patches_BPD], dim=1)


@pytest.mark.parametrize(
    ("name", "layout", "eps"),
    [
        ("hf_dinov2", "hf-dinov2", 1e-6),
        ("hf_dinov2_reg", "hf-dinov2", 1e-6),
        ("hf_dinov2_swiglu", "hf-dinov2", 1e-6),
        ("hf_vit_dino_v1", "hf-vit", 1e-12),
        ("hf_vit_pool_mask", "hf-vit", 1e-6),
    ],
)
def test_hugging_face_features_equal_transformers(tmp_path, name, layout, eps):
    path, t = golden_file(tmp_path, name, "saved.", {"num_attention_heads": 3, "layer_norm_eps": eps})
    backbone = read_backbone(path)
    assert backbone.layout == layout
    with torch.inference_mode():
        for case in {key.partition(".")[0] for key in t}:
            images = t[f"{case}.pixel_values"]
            assert (all_tokens(backbone.model(images)) - t[f"{case}.last_hidden_state"]).abs().max() <= TOLERANCE
            assert (attention(backbone.model, images) - t[f"{case}.attention_last"]).abs().max() <= TOLERANCE
            if f"{case}.masked.last_hidden_state" in t:
                masked = backbone.model(images, t[f"{case}.bool_masked_pos"].bool())
                assert (all_tokens(masked) - t[f"{case}.masked.last_hidden_state"]).abs().max() <= TOLERANCE
    assert ("Left out: pooler." in backbone.notices) == (name == "hf_vit_pool_mask")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("timm_dino_v1", "original."),
        ("timm_dinov2", "original."),
        ("timm_dinov2_reg", "timm."),
        ("timm_dinov2_swiglu", "timm."),
    ],
)
def test_timm_features_equal_timm(tmp_path, name, prefix):
    path, t = golden_file(tmp_path, name, prefix, {"architecture": "vit"})
    backbone = read_backbone(path, heads=3)
    assert backbone.layout == "timm"
    with torch.inference_mode():
        for case in {key.partition(".")[0] for key in t}:
            images = t[f"{case}.input"]
            assert (all_tokens(backbone.model(images)) - t[f"{case}.forward_features"]).abs().max() <= TOLERANCE
            for i, features in enumerate(backbone.model.layers(images, [-2, -1])):
                assert (features.patches_BPD - t[f"{case}.inter{i}.patch"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("name", ["timm_dinov2_reg", "timm_dinov2_swiglu"])
def test_written_timm_tensors_equal_timms_own_conversion(tmp_path, name):
    tensors = load_file(DATA / "golden" / f"{name}.safetensors")
    original = {key.removeprefix("original."): value for key, value in tensors.items() if key.startswith("original.")}
    save_file(original, tmp_path / "original.safetensors")
    backbone = read_backbone(tmp_path / "original.safetensors", heads=3)
    write_backbone(tmp_path / "timm", backbone.model, backbone.shape, about={}, layout="timm")
    written = load_file(tmp_path / "timm" / "model.safetensors")
    expected = {key.removeprefix("timm."): value for key, value in tensors.items() if key.startswith("timm.")}
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)


# Round trips


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_native_files_come_back_exactly(tmp_path, shape):
    model = made(shape)
    path = tmp_path / "backbone.safetensors"
    about = {"recipe": {"epochs": 3}, "note": "é"}
    write_backbone(path, model, shape, about=about, mean=(0.1, 0.2, 0.3))
    backbone = read_backbone(path)
    assert_same_tensors(backbone.model.state_dict(), model.state_dict())
    assert (backbone.shape, backbone.layout, backbone.mean) == (shape, "native", (0.1, 0.2, 0.3))
    assert (backbone.recipe, backbone.about) == ({"epochs": 3}, {"note": "é"})
    assert not backbone.model.training
    assert len(backbone.sha256) == 64


@pytest.mark.parametrize(
    "shape",
    [replace(TINY, stem="conv"), replace(TINY, heads=4, norm_eps=1e-5), ResNetShape(blocks=(1, 2, 1, 1), width=64)],
)
def test_native_files_hold_what_cannot_be_inferred(tmp_path, shape):
    write_backbone(tmp_path / "a.safetensors", made(shape), shape, about={})
    assert read_backbone(tmp_path / "a.safetensors").shape == shape


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_hugging_face_files_come_back_exactly(tmp_path, shape):
    model = made(shape)
    write_backbone(tmp_path / "hf", model, shape, about={}, layout="hf", std=(0.3, 0.2, 0.1))
    backbone = load_backbone(str(tmp_path / "hf"))
    assert_same_tensors(backbone.model.state_dict(), model.state_dict())
    assert backbone.std == (0.3, 0.2, 0.1)
    assert replace(backbone.shape, positions=shape.positions) == shape


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_timm_files_give_the_same_features(tmp_path, shape):
    model = made(shape)
    write_backbone(tmp_path / "timm", model, shape, about={}, layout="timm")
    backbone = load_backbone(str(tmp_path / "timm"))
    assert backbone.layout == "timm"
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(backbone.model(images).patches_BPD, model(images).patches_BPD)
    again = layouts.to_timm(backbone.model.state_dict(), backbone.shape)
    assert_same_tensors(dict(sorted(again.items())), load_file(tmp_path / "timm" / "model.safetensors"))


def test_half_precision_is_stored_and_read_back_as_float32(tmp_path):
    model = made(TINY)
    write_backbone(tmp_path / "half.safetensors", model, TINY, about={}, dtype=torch.float16)
    write_backbone(tmp_path / "full.safetensors", model, TINY, about={})
    assert (tmp_path / "half.safetensors").stat().st_size < 0.55 * (tmp_path / "full.safetensors").stat().st_size
    weight = read_backbone(tmp_path / "half.safetensors").model.blocks[0].attn.qkv.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.blocks[0].attn.qkv.weight.half().float())


def test_values_beyond_the_range_are_not_written(tmp_path):
    model = made(TINY)
    model.norm.bias.data[0] = 1e6
    with pytest.raises(BadWeights, match=r"norm\.bias"):
        write_backbone(tmp_path / "a.safetensors", model, TINY, about={}, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_is_written_for_hugging_face_is_what_transformers_writes(tmp_path, index):
    expected = json.loads((DATA / "golden" / "hf_saved_layout.json").read_text())[index]
    config = expected["config_json"]
    shape = VitShape(
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        patch=config["patch_size"],
        native_side=config["image_size"],
        mlp_ratio=config.get("mlp_ratio", config.get("intermediate_size", 0) / config["hidden_size"]),
        registers=config.get("num_register_tokens", 0),
        layer_scale=config.get("layerscale_value"),
        has_mask_token=config["model_type"] != "vit",
        norm_eps=config["layer_norm_eps"],
    )
    write_backbone(tmp_path, build_backbone(shape), shape, about={}, layout="hf")
    assert list(load_file(tmp_path / expected["file"])) == expected["keys"]
    assert read_contents(tmp_path / expected["file"]).metadata == expected["metadata"]
    written = json.loads((tmp_path / "config.json").read_text())
    defaults = {"transformers_version", "out_features", "out_indices", "reshape_hidden_states", "stage_names"}
    defaults |= {"encoder_stride", "pooler_act", "pooler_output_size"}
    assert written == {key: value for key, value in config.items() if key not in defaults}


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (replace(TINY, registers=4), "hf"),
        (replace(TINY, stem="conv"), "hf"),
        (replace(TINY, stem="conv"), "timm"),
        (ResNetShape(blocks=(1, 1, 1, 1), width=64), "hf"),
    ],
)
def test_shapes_that_a_library_lacks_are_refused(tmp_path, shape, layout):
    with pytest.raises(BadRecipe):
        write_backbone(tmp_path / "out", made(shape), shape, about={}, layout=layout)
    assert not (tmp_path / "out").exists()


# Released files


@cache
def released_names():
    return json.loads((DATA / "parity" / "state_dict_keys.json").read_text())


RELEASED = [name for name in released_names() if name in WEIGHTS] if (DATA / "parity").exists() else []


@pytest.mark.parametrize("name", RELEASED)
def test_released_names_and_shapes_are_recognised(name):
    keys = released_names()[name]["keys"]
    tensors = {key: torch.empty(size, device="meta") for key, size in keys.items()}
    part = layouts.find_part(list(tensors), "teacher")
    layout = layouts.recognise(tensors, {})
    assert layout == ("dinov2" if "v2" in name else "dino")
    assert part.names == {key: key for key in keys}
    assert layouts.infer_shape(tensors, layout, None, {}) == WEIGHTS[name].shape
    with torch.device("meta"):
        wanted = build_backbone(WEIGHTS[name].shape).state_dict()
    assert {key: list(tensor.shape) for key, tensor in wanted.items()} == keys


def test_a_released_file_is_found_by_name_once_it_is_fetched(cache_folder):
    name = "dinov2_vits14_reg"
    with pytest.raises(BadInput, match=f"engine models get {name}"):
        load_backbone(name)
    cache_folder.mkdir(parents=True, exist_ok=True)
    keys = released_names()[name]["keys"]
    torch.save({key: torch.rand(size) for key, size in keys.items()}, cache_folder / f"{name}.pth")
    backbone = load_backbone(name)
    assert (backbone.source, backbone.shape) == (name, WEIGHTS[name].shape)
    assert not (cache_folder / f"{name}.pth").exists()
    assert_same_tensors(load_backbone(name).model.state_dict(), backbone.model.state_dict())


def test_another_architecture_under_a_released_name_is_refused(cache_folder):
    cache_folder.mkdir(parents=True, exist_ok=True)
    torch.save(made(TINY).state_dict(), cache_folder / "dino_vits16.pth")
    with pytest.raises(BadWeights, match="another architecture than 'dino_vits16'"):
        load_backbone("dino_vits16")


def checkpoint(path):
    student, teacher = made(TINY, 1), made(TINY, 2)
    head = {"mlp.0.weight": torch.rand(4, 64), "last_layer.weight_g": torch.ones(9, 1)}
    content = {
        "student": {f"module.backbone.{k}": v for k, v in student.state_dict().items()}
        | {f"module.head.{k}": v for k, v in head.items()},
        "teacher": {f"backbone.{k}": v for k, v in teacher.state_dict().items()}
        | {f"head.{k}": v for k, v in head.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", epochs=100, lr=5e-4),
        "dino_loss": {"center": torch.zeros(1, 9)},
    }
    torch.save(content, path)
    return {"student": student, "teacher": teacher}


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_full_dino_checkpoints_give_either_role(tmp_path, role):
    models = checkpoint(tmp_path / "checkpoint.pth")
    assert unpickle.convert(tmp_path / "checkpoint.pth", tmp_path / "checkpoint.safetensors") == 0
    backbone = read_backbone(tmp_path / "checkpoint.safetensors", role=role)
    assert_same_tensors(backbone.model.state_dict(), models[role].state_dict())
    assert backbone.recipe == {"arch": "vit_small", "epochs": 100, "lr": 5e-4}
    assert backbone.notices == ("Left out: head.",)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"model.teacher.backbone._fsdp_wrapped_module.{name}",
        lambda name: f"state_dict.teacher_embedding_model.wrapped_model._model.{name}",
        lambda name: "_orig_mod.module." + name.replace("blocks.", "blocks.0."),
        lambda name: "encoder." + name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."),
        lambda name: f"model_ema.module.{name}",
    ],
)
def test_wrapped_names_are_unwrapped(tmp_path, wrap):
    model = made(TINY_V2)
    save_file({wrap(name): tensor for name, tensor in model.state_dict().items()}, tmp_path / "a.safetensors")
    assert_same_tensors(read_backbone(tmp_path / "a.safetensors").model.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("shape", "prefix"), [(TINY, "vit."), (TINY_V2, "dinov2."), (TINY_REG, "dinov2_with_registers.")]
)
def test_hugging_face_classifiers_give_their_backbone(tmp_path, shape, prefix):
    model = made(shape)
    tensors = {prefix + name: t for name, t in layouts.to_hf(dict(model.state_dict()), shape).items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors | {"classifier.weight": torch.rand(5, 64)}, tmp_path / "model.safetensors")
    backbone = read_backbone(tmp_path / "model.safetensors")
    assert {name: t.tolist() for name, t in backbone.model.state_dict().items()} == {
        name: t.tolist() for name, t in model.state_dict().items()
    }
    assert "Left out: classifier." in backbone.notices


def test_a_file_without_the_role_says_so(tmp_path):
    save_file({f"teacher.{name}": t for name, t in made(TINY).state_dict().items()}, tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match="holds no student, only: teacher"):
        read_backbone(tmp_path / "a.safetensors", role="student")


def test_a_resnet_file_is_read_without_its_classifier(tmp_path):
    shape = ResNetShape(blocks=(1, 2, 1, 1), width=64)
    model = made(shape)
    save_file(dict(model.state_dict()) | {"fc.weight": torch.rand(10, 64)}, tmp_path / "resnet.safetensors")
    backbone = read_backbone(tmp_path / "resnet.safetensors")
    assert backbone.shape == shape
    assert_same_tensors(backbone.model.state_dict(), model.state_dict())


def test_a_run_gives_its_backbone_or_its_newest_checkpoint(tmp_path):
    older, newer, exported, student = (made(shape := replace(TINY, norm_eps=1e-5), seed) for seed in range(4))
    for step, model in [(5, older), (10, newer)]:
        folder = tmp_path / "checkpoints" / f"step-{step:08}"
        folder.mkdir(parents=True)
        write_backbone(folder / "model.safetensors", model, shape, about={})
        roles = {"student": student, "teacher": model}
        tensors = {f"objective.{role}.backbone.{k}": v for role in roles for k, v in roles[role].state_dict().items()}
        save_file(tensors | {"optimiser.0.exp_avg": torch.zeros(3)}, folder / "train.safetensors")
    for unfinished in (".step-00000020.part-7", "step-00000020.part-7"):
        (tmp_path / "checkpoints" / unfinished).mkdir()
        (tmp_path / "checkpoints" / unfinished / "model.safetensors").write_bytes(b"half")
    assert_same_tensors(load_backbone(str(tmp_path)).model.state_dict(), newer.state_dict())
    write_backbone(tmp_path / "backbone.safetensors", exported, shape, about={})
    assert_same_tensors(load_backbone(str(tmp_path)).model.state_dict(), exported.state_dict())
    learner = load_backbone(str(tmp_path), role="student")
    assert_same_tensors(learner.model.state_dict(), student.state_dict())
    assert learner.shape == shape


def test_imported_files_are_found_by_name(tmp_path, cache_folder):
    models = checkpoint(tmp_path / "mine.pth")
    path = import_file(tmp_path / "mine.pth", name="birds")
    assert path == cache_folder / "birds.safetensors"
    backbone = load_backbone("birds")
    assert_same_tensors(backbone.model.state_dict(), models["teacher"].state_dict())
    assert backbone.about["imported_from"] == "mine.pth"
    assert backbone.recipe["epochs"] == 100
    write_backbone(tmp_path / "other.safetensors", models["student"], TINY, about={})
    assert import_file(tmp_path / "other.safetensors", name="birds") == path
    assert_same_tensors(load_backbone("birds").model.state_dict(), models["student"].state_dict())


@pytest.mark.parametrize("name", ["dino_vits16", "../outside", "a/b", ".hidden"])
def test_names_that_are_taken_or_no_names_are_refused(tmp_path, name):
    with pytest.raises(BadInput, match="Choose another name"):
        import_file(tmp_path / "a.pth", name=name)


def test_an_unknown_model_says_what_is_near():
    with pytest.raises(BadInput, match="Did you mean 'dino_vits16'"):
        load_backbone("dino_vit16")


# Files that do not fit


def tensors_file(tmp_path, change):
    tensors = dict(made(TINY_V2).state_dict())
    change(tensors)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("blocks.1.mlp.fc1.bias"), r"1 missing: blocks\.1\.mlp\.fc1\.bias"),
        (lambda t: t.update({"blocks.0.attn.rope": torch.zeros(3)}), r"1 unexpected: blocks\.0\.attn\.rope"),
        (
            lambda t: t.update({"norm.weights": t.pop("norm.weight")}),
            r"missing: norm\.weight; 1 unexpected: norm\.weights",
        ),
        (lambda t: t.update({"norm.bias": torch.zeros(65)}), r"norm\.bias \(65,\) instead of \(64,\)"),
        (lambda t: t.update({"pos_embed": torch.zeros(1, 19, 64)}), r"pos_embed \(1, 19, 64\) instead of"),
        (lambda t: t.pop("pos_embed"), "no tensor 'pos_embed'"),
        (lambda t: t.pop("cls_token"), "no backbone that we know"),
        (lambda t: t.update({"cls_token": torch.zeros(64)}), r"'cls_token' has shape \(64,\)"),
        (lambda t: t.update({"blocks.99999999.norm1.bias": torch.zeros(64)}), "No model has this shape"),
        (lambda t: t.update({"norm.bias": torch.full((64,), torch.nan)}), r"'norm\.bias' holds values that are not"),
        (lambda t: t.clear(), "it holds 0 tensors"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_the_names_that_differ(tmp_path, change, reason):
    with pytest.raises(BadWeights, match=reason):
        read_backbone(tensors_file(tmp_path, change))


@pytest.mark.parametrize("third", layouts.HF_QKV)
def test_a_missing_third_of_the_attention_is_not_made_up(tmp_path, third):
    tensors = layouts.to_hf(dict(made(TINY_V2).state_dict()), TINY_V2)
    del tensors[f"encoder.layer.1.{third}.bias"]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match=r"1 missing: blocks\.1\.attn\.qkv\.bias; 2 unexpected"):
        read_backbone(tmp_path / "a.safetensors")


@pytest.mark.parametrize("layout", ["hf", "timm"])
@pytest.mark.parametrize("shape", [TINY_REG, SHAPES["v2-reg-swiglu"]])
def test_no_tensor_of_another_library_is_made_up_or_lost(tmp_path, layout, shape):
    convert = {"hf": layouts.to_hf, "timm": layouts.to_timm}[layout]
    tensors = {name: t.contiguous() for name, t in convert(dict(made(shape).state_dict()), shape).items()}
    optional = {"embeddings.mask_token", "embeddings.register_tokens"}  # the second: see the next test
    for name in tensors.keys() - optional:
        with pytest.raises(BadWeights):
            read_shapes({other: tensor for other, tensor in tensors.items() if other != name})
    for name in ("norm.weight", "blocks.0.mlp.w3.bias", "register_tokens"):
        if name not in tensors:
            with pytest.raises(BadWeights):
                read_shapes(tensors | {name: torch.zeros(64)})


@pytest.mark.parametrize("layout", ["hf", "timm"])
@pytest.mark.parametrize("lost", ["register_tokens", "blocks.1."])
def test_parts_that_config_json_knows_of_are_missed(tmp_path, layout, lost):
    write_backbone(tmp_path, made(TINY_REG), TINY_REG, about={}, layout=layout)
    theirs = {"register_tokens": ("register_tokens", "reg_token"), "blocks.1.": ("encoder.layer.1.", "blocks.1.")}[lost]
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not any(word in name for word in theirs)}
    assert len(kept) < len(tensors)
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(BadWeights, match=r"config\.json says|missing|no tensor"):
        load_backbone(str(tmp_path))


def read_shapes(tensors):
    found = layouts.recognise(tensors, {})
    native = layouts.to_native(found, tensors)
    shape = layouts.infer_shape(native, found, None, {})
    with torch.device("meta"):
        wanted = build_backbone(shape).state_dict()
    if {name: t.shape for name, t in native.items()} != {name: t.shape for name, t in wanted.items()}:
        raise BadWeights("differs")


def test_a_missing_mask_token_is_a_notice(tmp_path):
    shape = replace(TINY_V2, has_mask_token=True)
    tensors = dict(made(shape).state_dict())
    del tensors["mask_token"]
    with (tmp_path / "a.safetensors").open("wb") as file:
        write_tensors(file, tensors, describe(shape, about={}))
    backbone = read_backbone(tmp_path / "a.safetensors")
    assert not backbone.shape.has_mask_token
    assert "It has no mask token." in backbone.notices


def test_unknown_head_width_asks_for_the_number_of_heads(tmp_path):
    shape = replace(TINY, width=48, heads=3)
    path = tmp_path / "a.safetensors"
    save_file(made(shape).state_dict(), path)
    with pytest.raises(BadWeights, match="Give the number of heads"):
        read_backbone(path)
    assert read_backbone(path, heads=3).shape == shape
    with pytest.raises(BadWeights, match="No model has this shape"):
        read_backbone(path, heads=5)


def test_a_description_by_a_newer_version_is_refused(tmp_path):
    metadata = json.loads(describe(TINY, about={})["dinoviz"])
    metadata["shape"]["rotary"] = True
    save_file(made(TINY).state_dict(), tmp_path / "a.safetensors", metadata={"dinoviz": json.dumps(metadata)})
    with pytest.raises(BadWeights, match="newer version, which knows rotary"):
        read_backbone(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", '{"family": "vit"}', '{"family": [], "shape": 3}', "null", "[" * 100_000])
def test_a_damaged_description_is_refused(tmp_path, text):
    save_file(made(TINY).state_dict(), tmp_path / "a.safetensors", metadata={"dinoviz": text})
    with pytest.raises(BadWeights, match="description is damaged"):
        read_backbone(tmp_path / "a.safetensors")


def test_quantised_weights_are_refused(tmp_path):
    with pytest.raises(BadWeights, match=r"'norm\.bias' holds torch\.int8"):
        read_backbone(tensors_file(tmp_path, lambda t: t.update({"norm.bias": torch.zeros(64, dtype=torch.int8)})))


def test_check_file_reports_without_loading(tmp_path):
    report = check_file(tensors_file(tmp_path, lambda t: t.pop("norm.bias")))
    assert not report.is_loadable
    assert report.difference.missing == ("norm.bias",)
    assert (report.layout, report.n_matched) == ("dinov2", len(made(TINY_V2).state_dict()) - 1)
    assert report.shape == TINY_V2
    assert report.n_parameters == sum(p.numel() for p in made(TINY_V2).parameters())


@pytest.mark.parametrize("suffix", [".onnx", ".h5", ".npz", ".pt2", ".gguf", ".zip", ""])
def test_other_kinds_of_files_are_refused_by_name(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BadWeights, match="not a kind of weights file"):
        read_backbone(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"no file .*gone\.pth"):
        read_backbone(tmp_path / "gone.pth")


# safetensors, byte by byte


def test_our_writer_and_the_library_agree(tmp_path):
    tensors = {
        "half": torch.rand(3, 5).half(),
        "wide": torch.rand(2, 2, dtype=torch.float64),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
        "brain": torch.rand(3).bfloat16(),
    }
    path = tmp_path / "ours.safetensors"
    with path.open("wb") as file:
        write_tensors(file, tensors, {"a": "b"})
    theirs = load_file(path)
    with open_tensors(path) as opened:
        ours = opened.read(tensors)
    for name, tensor in tensors.items():
        for read in (ours[name], theirs[name]):
            assert read.dtype == tensor.dtype
            assert torch.equal(read, tensor)


def header_file(path, header, data=b"\0" * 8):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(), "b": entry()},
        {"a": entry(shape=(1,), offsets=(4, 8))},
        {"a": entry(shape=(1,), offsets=(0, 4))},
        {"a": entry(shape=(4,), offsets=(0, 16))},
        {"a": entry(shape=(-1, -2))},
        {"a": entry(shape=(True, 2))},
        {"a": entry(dtype="F8_E4M3")},
        {"a": entry(offsets=(8, 0))},
        {"a": {"dtype": "F32"}},
        {"a": 3},
        [],
        {"__metadata__": {"a": 1}, "a": entry()},
        {"__metadata__": [], "a": entry()},
        {f"t{i}": entry(shape=(0,), offsets=(0, 0)) for i in range(20_001)},
        b'{"a": 1, "a": 2}',
        b"[" * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_dishonest_headers_are_refused(tmp_path, header):
    with pytest.raises(BadWeights, match="damaged or no safetensors"):
        read_contents(header_file(tmp_path / "a.safetensors", header))


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 64, struct.pack("<Q", 9 * 2**20) + b" " * (9 * 2**20)])
def test_dishonest_header_lengths_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadWeights, match="damaged or no safetensors"):
        read_contents(path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_truncated_safetensors_are_refused(tmp_path, share):
    path = tmp_path / "a.safetensors"
    write_backbone(path, made(TINY), TINY, about={})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadWeights, match="damaged"):
        read_backbone(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.safetensors"
    shape = replace(TINY, width=8, heads=1, depth=1)
    write_backbone(path, made(shape), shape, about={})
    return path, path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_files_raise_nothing_but_user_errors(small_file, data):
    path, content = small_file
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 3500))
        mutated[place] = data.draw(st.integers(0, 255))
    path.write_bytes(mutated[: data.draw(st.sampled_from([len(content), len(content) - 1, 3000]))])
    with suppress(UserError):
        read_backbone(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_tensors_of_any_shape_under_known_names_raise_nothing_but_user_errors(data):
    layout = data.draw(st.sampled_from(["dino", "hf", "timm"]))
    shape = data.draw(st.sampled_from(list(SHAPES.values())))
    with torch.device("meta"):
        tensors = dict(build_backbone(shape).state_dict())
        tensors = {"hf": layouts.to_hf, "timm": layouts.to_timm}.get(layout, lambda t, _: t)(tensors, shape)
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in data.draw(st.lists(st.sampled_from(list(sizes)), min_size=1, max_size=3)):
        sizes[name] = tuple(data.draw(st.lists(st.integers(0, 9), max_size=4)))
    changed = {name: torch.zeros(size, device="meta") for name, size in sizes.items()}
    with suppress(UserError):
        found = layouts.recognise(changed, {})
        layouts.infer_shape(layouts.to_native(found, changed), found, None, {})


# Pickles


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nested_zip(payload):
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("archive/data.pkl", inner.getvalue())
        archive.writestr("archive/version", "3")
    return outer.getvalue()


def zipped(payload, name="archive/data.pkl"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def hostile(marker):
    import os
    import runpy

    shell = f"echo owned > {marker}"
    python = f"open({str(marker)!r}, 'w').write('owned')"
    system, evaluate = Evil(os.system, shell), Evil(eval, python)
    loader = Evil(exec, f"import marshal; {python}")
    return {
        "zip-system": saved({"model": system}),
        "zip-eval": saved({"cls_token": torch.zeros(1, 1, 8), "x": evaluate}),
        "zip-subprocess": saved(Evil(subprocess.getoutput, shell)),
        "zip-runpy": saved(Evil(runpy.run_path, str(marker))),
        "zip-exec": saved(loader),
        "plain-0": pickle.dumps(system, protocol=0),
        "plain-2": pickle.dumps(system, protocol=2),
        "plain-4": pickle.dumps(evaluate, protocol=4),
        "text": f"cposix\nsystem\n(S'{shell}'\ntR.".encode(),
        "hand-zip": zipped(pickle.dumps(system, protocol=2)),
        "case-mangled": zipped(pickle.dumps(system, protocol=2), "archive/DATA.PKL"),
        "nested": nested_zip(pickle.dumps(system, protocol=2)),
        "legacy": legacy(pickle.dumps(system, protocol=2)),
        "second-legacy-pickle": legacy(pickle.dumps({}, protocol=2) + pickle.dumps(system, protocol=2)),
    }


def legacy(payload):
    magic = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(magic) + payload


HOSTILE = list(hostile(Path("/nowhere")))


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path, kind):
    marker = tmp_path / "marker"
    path = tmp_path / "evil.pth"
    path.write_bytes(hostile(marker)[kind])
    assert unpickle.convert(path, tmp_path / "out.safetensors") in {8, 9}
    assert not marker.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("kind", ["zip-system", "plain-4"])
def test_hostile_files_are_refused_soon(tmp_path, kind):
    marker = tmp_path / "marker"
    path = tmp_path / "evil.pth"
    path.write_bytes(hostile(marker)[kind])
    started = time.monotonic()
    with pytest.raises(UnsafeFile, match=r"'evil\.pth' was refused"):
        read_backbone(path)
    assert time.monotonic() - started < 20  # 5 s on an idle machine, of which importing torch takes 2
    assert not marker.exists()


def test_damaged_pickles_are_called_damaged(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(saved(made(TINY).state_dict())[:50_000])
    with pytest.raises(BadWeights, match="cannot be read"):
        read_backbone(path)


@pytest.mark.parametrize("content", [b"", b"hello world" * 99, b"\x89PNG", b"\0" * 100, b"PK\x03\x04garbage"])
def test_garbage_is_called_unreadable(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    assert unpickle.convert(tmp_path / "a.bin", tmp_path / "out") == unpickle.UNREADABLE


def test_code_beside_the_file_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    torch.save(made(TINY).state_dict(), tmp_path / "a.pth")
    assert read_backbone(Path("a.pth")).shape == TINY


# Downloads


class Server(ThreadingHTTPServer):
    """Serves one content; ``cuts`` are the places where it hangs up, one for each connection."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.cuts, self.ranges, self.status = content, [], [], 200
        self.has_ranges = True

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/weights.safetensors"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        server.ranges.append(self.headers["Range"])
        if server.status != 200:
            return self.send_error(server.status)
        tag = f'"{hash(server.content)}"'
        if server.has_ranges and self.headers["Range"] and self.headers["If-Range"] in (None, tag):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(server.content)
        self.wfile.write(server.content[start : max(end, start)])
        return None

    def log_message(self, *_):
        pass


@contextmanager
def serving(content):
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def content():
    return bytes(range(256)) * 12_000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)


def ignore(done, total):
    pass


def test_a_download_is_whole_and_told(cache_folder, content):
    told = []
    with serving(content) as server:
        path = fetch("mine", lambda done, total: told.append((done, total)), address=server.address)
    assert path == cache_folder / "mine.safetensors"
    assert path.read_bytes() == content
    assert told[-1] == (len(content), len(content))
    assert sorted(file.name for file in cache_folder.iterdir()) == ["ledger.json", "mine.safetensors"]


def test_broken_connections_are_continued(cache_folder, content):
    with serving(content) as server:
        server.cuts = [1_000_000, 1_000_000, 2_500_000]
        assert fetch("mine", ignore, address=server.address).read_bytes() == content
        assert server.ranges == [None, "bytes=1000000-", "bytes=1000000-", "bytes=2500000-"]


def test_a_server_without_ranges_starts_again(content):
    with serving(content) as server:
        server.cuts, server.has_ranges = [1_000_000], False
        assert fetch("mine", ignore, address=server.address).read_bytes() == content


def test_a_stopped_download_is_continued_by_the_next(cache_folder, content):
    def stop(done, total):
        if done > 2_000_000:
            raise KeyboardInterrupt

    with serving(content) as server:
        with pytest.raises(KeyboardInterrupt):
            fetch("mine", stop, address=server.address)
        assert not (cache_folder / "mine.safetensors").exists()
        assert fetch("mine", ignore, address=server.address).read_bytes() == content
        assert server.ranges[1].startswith("bytes=2")


def test_a_killed_download_is_continued(tmp_path, cache_folder, content):
    script = """
import os, sys
from engine.models.weights import fetch
fetch("mine", lambda done, total: done > 2_000_000 and os._exit(9), address=sys.argv[1])
"""
    with serving(content) as server:
        killed = subprocess.run([sys.executable, "-c", script, server.address], check=False, timeout=60)
        assert killed.returncode == 9
        assert [file.name for file in cache_folder.glob("*.safetensors")] == []
        assert fetch("mine", ignore, address=server.address).read_bytes() == content
        assert server.ranges[1].startswith("bytes=2")


def test_a_file_that_changed_meanwhile_starts_again(content):
    with serving(content) as server:
        server.cuts = [1_000_000]

        def change(done, total):
            server.content = content[::-1]

        assert fetch("mine", change, address=server.address).read_bytes() == content[::-1]


def test_what_is_here_is_not_fetched_again(content):
    with serving(content) as server:
        fetch("mine", ignore, address=server.address)
        fetch("mine", ignore, address=server.address)
        assert len(server.ranges) == 1


def test_a_changed_file_in_the_cache_is_refused(content):
    with serving(content) as server:
        path = fetch("mine", ignore, address=server.address)
        path.write_bytes(content[:-1] + b"x")
        with pytest.raises(BadWeights, match="not the file that it was the first time"):
            fetch("mine", ignore, address=server.address)


def test_other_bytes_than_the_first_time_are_refused(cache_folder, content):
    with serving(content) as server:
        path = fetch("mine", ignore, address=server.address)
        path.unlink()
        server.content = content[:-1] + b"x"
        with pytest.raises(BadWeights, match="not the file that it was the first time"):
            fetch("mine", ignore, address=server.address)
        assert [file.name for file in cache_folder.iterdir()] == ["ledger.json"]
        server.content = content
        assert fetch("mine", ignore, address=server.address).read_bytes() == content


def test_a_server_that_never_answers_is_given_up(content):
    with serving(content) as server:
        server.cuts = [0] * 99
        with pytest.raises(DownloadFailed, match="continues where it broke off"):
            fetch("mine", ignore, address=server.address)
        assert len(server.ranges) == downloads.ATTEMPTS


@pytest.mark.parametrize(("status", "n_requests"), [(404, 1), (503, downloads.ATTEMPTS)])
def test_refusals_are_told_and_only_passing_ones_repeated(content, status, n_requests):
    with serving(content) as server:
        server.status = status
        with pytest.raises(DownloadFailed, match=str(status)):
            fetch("mine", ignore, address=server.address)
        assert len(server.ranges) == n_requests


def test_a_full_disk_is_told_before_it_is_filled(monkeypatch, content):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: argparse.Namespace(free=10))
    with serving(content) as server, pytest.raises(DiskFull, match="has no room"):
        fetch("mine", ignore, address=server.address)


@pytest.mark.parametrize("address", ["http://example.org/a.pth", "file:///etc/passwd", "ftp://example.org/a.pth"])
def test_other_addresses_than_https_are_refused(address):
    with pytest.raises(BadInput, match="only fetched over https"):
        fetch("mine", ignore, address=address)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_was_fetched_from_an_address_is_loaded_by_its_name(tmp_path, cache_folder, suffix):
    model = build_backbone(TINY)
    source = tmp_path / f"source{suffix}"
    if suffix == ".pt":
        torch.save(model.state_dict(), source)
    else:
        write_backbone(source, model, TINY, about={})
    with serving(source.read_bytes()) as server:
        address = server.address.replace(".safetensors", suffix)
        fetch("mine", ignore, address=address)
        for _ in range(2):
            assert load_backbone("mine").source == "mine"
        fetch("mine", ignore, address=address)
        assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("mine", "https://example.org/latest", "does not end as a file of weights"),
        ("bundled", "https://example.org/a.pth", "name of weights that dinoviz knows"),
    ],
)
def test_what_could_not_be_loaded_by_its_name_is_not_fetched(name, address, said):
    with pytest.raises(BadInput, match=said):
        fetch(name, ignore, address=address)


def test_an_unknown_name_is_not_fetched():
    with pytest.raises(BadInput, match="no released weights 'vit'"):
        fetch("vit", ignore)
