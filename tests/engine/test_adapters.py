"""Backbones that learn by small matrices beside their own."""

import copy

import pytest
import torch

from engine.catalogue import ResNetShape, VitShape
from engine.errors import BadRecipe
from engine.models.adapters import AdaptedLinear, adapt, merged
from engine.models.resnet import ResNet
from engine.models.vit import VisionTransformer, attention
from engine.models.weights import read_backbone, write_backbone

SHAPE = VitShape(width=32, depth=2, heads=2, patch=8, native_side=32, layer_scale=0.5, has_mask_token=True, registers=2)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    vit = VisionTransformer(SHAPE).eval()
    for block in vit.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.3)
    return vit


@pytest.fixture
def images():
    return torch.randn(3, 3, 24, 40, generator=torch.Generator().manual_seed(1))


def adapted(vit, rank=4, **options):
    """A copy whose adapters have learnt something."""
    other = copy.deepcopy(vit)
    adapt(other, rank, **options)
    for block in other.blocks:
        torch.nn.init.normal_(block.attn.qkv.up, std=0.2)
    return other


def test_new_adapters_change_nothing(plain, images):
    other = copy.deepcopy(plain)
    adapt(other, 4)
    assert torch.equal(other(images).patches_BPD, plain(images).patches_BPD)


def test_a_merged_backbone_computes_what_the_adapted_one_does(plain, images):
    other = adapted(plain, alpha=6.0)
    ordinary = VisionTransformer(SHAPE).eval()
    ordinary.load_state_dict(merged(other))
    with torch.inference_mode():
        theirs = other(images)
        for ours, expected in zip(ordinary(images)[:3], theirs[:3], strict=True):
            assert (ours - expected).abs().max() <= 1e-6 * max(1.0, expected.abs().max().item())
        assert (theirs.cls_BD - plain(images).cls_BD).abs().max() > 1e-2
        assert (attention(ordinary, images) - attention(other, images)).abs().max() <= 1e-6
        assert (attention(plain, images) - attention(other, images)).abs().max() > 1e-3


def test_merging_has_the_names_and_shapes_of_an_ordinary_backbone(plain):
    other = adapted(plain)
    folded = merged(other)
    assert {name: t.shape for name, t in folded.items()} == {name: t.shape for name, t in plain.state_dict().items()}
    assert not any(tensor.requires_grad for tensor in folded.values())
    qkv = other.blocks[1].attn.qkv
    expected = qkv.frozen.double() + qkv.up.double() @ qkv.down.double()
    assert (folded["blocks.1.attn.qkv.weight"] - expected).abs().max() <= 1e-6
    assert isinstance(qkv, AdaptedLinear)  # and the adapted one goes on learning


def test_merging_an_ordinary_backbone_is_its_state(plain):
    assert merged(plain).keys() == plain.state_dict().keys()


def test_a_written_backbone_has_its_adapters_folded_in(plain, images, tmp_path):
    other = adapted(plain)
    write_backbone(tmp_path / "b.safetensors", other, SHAPE, about={})
    read = read_backbone(tmp_path / "b.safetensors").model
    assert torch.allclose(read(images).cls_BD, other(images).cls_BD, atol=1e-5)


def test_alpha_over_rank_scales_what_is_learnt():
    linear = torch.nn.Linear(6, 9)
    layer = AdaptedLinear(linear, 3, alpha=12.0)
    torch.nn.init.normal_(layer.up)
    tokens = torch.randn(2, 5, 6)
    expected = linear(tokens) + 4.0 * tokens @ layer.down.T @ layer.up.T
    assert torch.allclose(layer(tokens), expected, atol=1e-5)


@pytest.mark.parametrize("has_learning_norms", [False, True])
def test_only_adapters_and_where_asked_norms_learn(plain, images, has_learning_norms):
    other = adapted(plain, has_learning_norms=has_learning_norms).train()
    before = {name: p.detach().clone() for name, p in other.named_parameters()}
    learning = [p for p in other.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=0.1)
    other(images).cls_BD.sin().sum().backward()
    optimiser.step()
    moved = {name for name, p in other.named_parameters() if not torch.equal(p, before[name])}
    adapters = {f"blocks.{i}.attn.qkv.{part}" for i in range(2) for part in ("down", "up")}
    norms = {name for name in before if "norm" in name}
    assert moved == (adapters | norms if has_learning_norms else adapters)


def test_adapters_work_in_sequences_and_half_precision(plain, images):
    other = adapted(plain)
    other.packing = True
    with torch.inference_mode():
        packed = other.forward_views([images, images[:, :, :16, :16]])[0].cls_BD
        assert torch.allclose(packed, other(images).cls_BD, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert (other(images).cls_BD - packed).abs().max() < 0.1


def test_adapters_follow_to_a_copy_by_its_state(plain, images):
    first, second = adapted(plain), adapted(plain)
    assert not torch.equal(first(images).cls_BD, second(images).cls_BD)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images).cls_BD, second(images).cls_BD)


@pytest.mark.parametrize("rank", [0, 33])
def test_ranks_beyond_the_width_are_refused(plain, rank):
    with pytest.raises(BadRecipe, match=f"rank {rank} do not fit a width of 32"):
        adapt(plain, rank)


def test_adapters_on_adapters_are_refused(plain):
    adapt(plain, 2)
    with pytest.raises(BadRecipe, match="adapters already"):
        adapt(plain, 2)


def test_residual_networks_are_refused():
    with pytest.raises(BadRecipe, match="no attention to adapt"):
        adapt(ResNet(ResNetShape(blocks=(1, 1, 1, 1), width=256)), 4)
