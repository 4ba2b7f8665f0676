"""Backbones of other families through timm: their features, sides and weights; left out where timm is not."""

import contextlib
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import BadInput, BadRecipe, BadWeights, UserError
from engine.models import foreign
from engine.models.foreign import is_foreign, load_foreign
from engine.models.weights import read_backbone, write_backbone
from tests.conftest import DATA
from tests.makers import TINY, tiny_backbone

with contextlib.suppress(ImportError):
    import timm

needs_timm = pytest.mark.skipif("timm" not in sys.modules, reason="timm is not installed")
SMALL = "resnet10t"
"""The smallest residual network of timm that is built in a moment."""


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Caches of nobody's: a test neither reads nor writes those of the person who runs it."""
    monkeypatch.setenv("DINOVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def made(name, tmp_path, **arguments):
    """A network of timm with random weights, and the file that holds them."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, **arguments).eval()
    path = tmp_path / f"{name}.safetensors"
    save_file(network.state_dict(), path)
    return network, path


def test_only_names_of_timm_are_foreign():
    assert is_foreign("timm:resnet18")
    assert not is_foreign("dino_vits8")
    assert not is_foreign("runs/0001")


def test_without_timm_the_command_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BadRecipe, match="not installed") as caught:
        load_foreign("timm:resnet18")
    assert 'pip install "dinoviz[timm]"' in caught.value.hint


def test_a_torchvision_for_another_torch_is_said_in_words(monkeypatch):
    def starts_badly(_name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(foreign.importlib, "import_module", starts_badly)
    with pytest.raises(BadRecipe, match="nms does not exist") as caught:
        load_foreign("timm:resnet18")
    assert "builds for each other" in caught.value.hint


@needs_timm
def test_a_local_model_gives_the_features_of_the_backbone_it_was_written_from(tmp_path):
    backbone = tiny_backbone()
    write_backbone(tmp_path / "model", backbone.model, TINY, about={}, layout="timm", mean=(0.1, 0.2, 0.3))
    teacher = load_foreign(f"timm:{tmp_path / 'model'}")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        ours, theirs = backbone.model(images), teacher.model(images)
    assert torch.allclose(ours.cls_BD, theirs.cls_BD, atol=1e-5)
    assert torch.allclose(ours.patches_BPD, theirs.patches_BPD, atol=1e-5)
    assert (theirs.rows, theirs.cols) == (4, 4)
    assert (teacher.width, teacher.patch_width, teacher.multiple, teacher.fixed_side) == (32, 32, 8, None)
    assert teacher.mean == (0.1, 0.2, 0.3)


@needs_timm
def test_registers_are_neither_cls_nor_patches(tmp_path):
    tensors = load_file(DATA / "golden" / "timm_dinov2_reg.safetensors")
    save_file(
        {name.removeprefix("original."): t for name, t in tensors.items() if name.startswith("original.")},
        tmp_path / "original.safetensors",
    )
    backbone = read_backbone(tmp_path / "original.safetensors", heads=3)
    write_backbone(tmp_path / "model", backbone.model, backbone.shape, about={}, layout="timm")
    teacher = load_foreign(f"timm:{tmp_path / 'model'}")
    for case in {name.partition(".")[0] for name in tensors if name.endswith(".input")}:
        features = teacher.model(tensors[f"{case}.input"])
        tokens = torch.cat([features.cls_BD[:, None], features.registers_BRD, features.patches_BPD], dim=1)
        assert (tokens - tensors[f"{case}.forward_features"]).abs().max() <= 1e-5
        assert features.registers_BRD.shape[1] == backbone.shape.registers


@needs_timm
@pytest.mark.parametrize(
    ("name", "multiple", "fixed_side", "has_cls"),
    [
        (SMALL, 32, None, False),
        ("vit_tiny_patch16_224", 16, None, True),
        ("xcit_nano_12_p16_224", 224, 224, True),
    ],
)
def test_every_family_says_its_sides_and_gives_a_grid(tmp_path, name, multiple, fixed_side, has_cls):
    network, path = made(name, tmp_path)
    teacher = load_foreign(f"timm:{name}={path}")
    assert (teacher.multiple, teacher.fixed_side) == (multiple, fixed_side)
    side = fixed_side or 3 * multiple
    images = torch.randn(2, 3, side, side)
    features = teacher.model(images)
    assert features.cls_BD.shape == (2, teacher.width)
    assert features.patches_BPD.shape == (2, features.rows * features.cols, teacher.patch_width)
    if not has_cls:
        assert torch.allclose(features.cls_BD, features.patches_BPD.mean(dim=1), atol=1e-5)
    if side == network.pretrained_cfg["input_size"][-1]:
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        assert torch.allclose(features.cls_BD, expected, atol=1e-5)


@needs_timm
def test_maps_with_channels_last_are_turned(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    network, path = made(name, tmp_path, depths=(1, 1, 1, 1), num_classes=0)
    config = network.pretrained_cfg
    teacher = foreign.ForeignBackbone(network)
    features = teacher(torch.randn(1, 3, 224, 224))
    assert features.patches_BPD.shape == (1, 49, network.num_features)
    assert foreign._sides(network, config) == (224, 224)
    assert path.is_file()


@needs_timm
def test_it_is_frozen_and_stays_in_eval_mode(tmp_path):
    _, path = made(SMALL, tmp_path)
    teacher = load_foreign(f"timm:{SMALL}={path}").model
    teacher.train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    answer = teacher(torch.randn(4, 3, 64, 64))
    assert not answer.cls_BD.requires_grad
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@needs_timm
def test_weights_that_were_fetched_are_found_by_name(tmp_path):
    network, path = made(SMALL, tmp_path)
    (tmp_path / "cache" / "models").mkdir(parents=True)
    path.rename(tmp_path / "cache" / "models" / f"{SMALL}.c3_in1k.safetensors")
    teacher = load_foreign(f"timm:{SMALL}.c3_in1k")
    assert torch.equal(teacher.model.network.conv1[0].weight, network.conv1[0].weight)
    assert (teacher.architecture, teacher.source) == (SMALL, f"timm:{SMALL}.c3_in1k")
    assert len(teacher.sha256) == 64


@needs_timm
def test_weights_that_timm_fetched_are_found(tmp_path):
    network, path = made(SMALL, tmp_path)
    repository = tmp_path / "hub" / f"models--timm--{SMALL}.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    path.rename(repository / "snapshots" / ("0" * 40) / "model.safetensors")
    teacher = load_foreign(f"timm:{SMALL}.c3_in1k")
    assert torch.equal(teacher.model.network.conv1[0].weight, network.conv1[0].weight)


@needs_timm
def test_weights_that_are_not_here_are_never_downloaded_and_the_command_is_said():
    with pytest.raises(BadInput, match="not on this computer") as caught:
        load_foreign("timm:vit_small_patch16_224.dino")
    assert "engine models get vit_small_patch16_224.dino --address https://" in caught.value.hint


@needs_timm
def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BadInput, match="resnet18x") as caught:
        load_foreign("timm:resnet18x")
    assert "timm:resnet18" in caught.value.hint


@needs_timm
@pytest.mark.parametrize("other", ["vit_tiny_patch16_224", "resnet18"])
def test_weights_of_another_model_are_refused(tmp_path, other):
    _, path = made(other, tmp_path)
    with pytest.raises(BadWeights):
        load_foreign(f"timm:{SMALL}={path}")


@needs_timm
def test_a_checkpoint_with_wrapped_names_is_read(tmp_path):
    network, _ = made(SMALL, tmp_path)
    wrapped = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "checkpoint.pth")
    teacher = load_foreign(f"timm:{SMALL}={tmp_path / 'checkpoint.pth'}")
    assert torch.equal(teacher.model.network.conv1[0].weight, network.conv1[0].weight)


@needs_timm
@pytest.mark.parametrize(
    "name", ["timm:", "timm:nowhere/at/all", f"timm:{SMALL}=missing.safetensors", "timm:hf-hub:a/b"]
)
def test_odd_names_are_refused_in_words(name):
    with pytest.raises(UserError):
        load_foreign(name)


@needs_timm
def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no model"):
        load_foreign(f"timm:{tmp_path}")
