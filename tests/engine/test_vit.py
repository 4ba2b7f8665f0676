from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from engine.catalogue import WEIGHTS, VitShape
from engine.errors import BadRecipe
from engine.models import build_backbone, feature_width
from engine.models.vit import (
    Block,
    DropPath,
    VisionTransformer,
    attention,
    attention_rows,
    resampling_matrix,
)

DATA = Path(__file__).parent.parent / "data"
CPU = torch.device("cpu")
V1 = VitShape(width=48, depth=3, heads=3, patch=8, native_side=32)
V2 = VitShape(width=48, depth=3, heads=3, patch=14, native_side=56, layer_scale=1.0, has_mask_token=True)
V2_REG = VitShape(
    width=48,
    depth=3,
    heads=3,
    patch=14,
    native_side=56,
    layer_scale=1.0,
    has_mask_token=True,
    registers=4,
    positions="sized-antialiased",
)
TOLERANCE = 1e-5


def golden(name, shape):
    tensors = load_file(DATA / "parity" / f"{name}.safetensors")
    vit = VisionTransformer(shape).eval()
    vit.load_state_dict({key[3:]: value for key, value in tensors.items() if key.startswith("sd.")})
    return vit, {key: value for key, value in tensors.items() if not key.startswith("sd.")}


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize("case", ["square32", "wide48x64", "small24"])
def test_dino_features_attention_and_layers_equal_the_reference(case):
    vit, t = golden("dino_v1_tiny", V1)
    images = t[f"{case}.x"]
    with torch.inference_mode():
        assert_close(vit(images).cls_BD, t[f"{case}.cls"])
        assert_close(attention(vit, images), t[f"{case}.attn"])
        for features, name in zip(vit.layers(images, [-2, -1]), ["inter_first", "inter_last"], strict=True):
            assert_close(torch.cat([features.cls_BD.unsqueeze(1), features.patches_BPD], 1), t[f"{case}.{name}"])


@pytest.mark.parametrize(("name", "shape"), [("dinov2_tiny", V2), ("dinov2_tiny_reg", V2_REG)])
@pytest.mark.parametrize("case", ["native56", "small28"])
def test_dinov2_features_attention_and_layers_equal_the_reference(name, shape, case):
    vit, t = golden(name, shape)
    images = t[f"{case}.x"]
    with torch.inference_mode():
        features = vit(images)
        assert_close(features.cls_BD, t[f"{case}.x_norm_clstoken"])
        assert_close(features.patches_BPD, t[f"{case}.x_norm_patchtokens"])
        if shape.registers:
            assert_close(features.registers_BRD, t[f"{case}.x_norm_regtokens"])
        assert_close(attention(vit, images), t[f"{case}.attn"])
        for i, layer in enumerate(vit.layers(images, [-2, -1])):
            assert_close(layer.cls_BD, t[f"{case}.inter{i}.cls"])
            assert_close(layer.patches_BPD, t[f"{case}.inter{i}.patch"])


@pytest.mark.parametrize(("name", "shape"), [("dinov2_tiny", V2), ("dinov2_tiny_reg", V2_REG)])
def test_masked_dinov2_features_equal_the_reference(name, shape):
    vit, t = golden(name, shape)
    with torch.inference_mode():
        features = vit(t["native56.x"], t["native56.masks"].bool())
    assert_close(features.cls_BD, t["native56.masked.x_norm_clstoken"])
    assert_close(features.patches_BPD, t["native56.masked.x_norm_patchtokens"])


@pytest.mark.parametrize(("name", "feed_forward"), [("blk_mlp", "mlp"), ("blk_swiglu", "swiglu")])
def test_a_block_equals_the_reference(name, feed_forward):
    t = load_file(DATA / "golden" / "dinov2_layers.safetensors")
    block = Block(VitShape(width=24, depth=1, heads=3, patch=14, layer_scale=1.0, feed_forward=feed_forward)).eval()
    prefix = f"{name}.sd."
    block.load_state_dict({key.removeprefix(prefix): value for key, value in t.items() if key.startswith(prefix)})
    with torch.inference_mode():
        for batch in "ab":
            assert_close(block(t[f"{name}.x{batch}"]), t[f"{name}.eval.y{batch}"])


@pytest.mark.parametrize("rule", ["scaled", "sized", "sized-antialiased"])
@pytest.mark.parametrize("side", [4, 14, 28, 37])
def test_resampling_matrices_equal_interpolate(rule, side):
    generator = torch.Generator().manual_seed(0)
    for rows in [1, 2, 3, 6, 7, 13, 14, 15, 27, 30, 37, 49, 64]:
        cols = rows + 5
        grid = 0.1 * torch.randn(1, 2, side, side, generator=generator)
        if rule == "scaled":
            expected = F.interpolate(grid, scale_factor=((rows + 0.1) / side, (cols + 0.1) / side), mode="bicubic")
        else:
            expected = F.interpolate(grid, size=(rows, cols), mode="bicubic", antialias=rule == "sized-antialiased")
        found = resampling_matrix(rows, side, rule, CPU) @ grid @ resampling_matrix(cols, side, rule, CPU).T
        assert (found - expected).abs().max() <= 1e-6


def test_a_matrix_made_during_inference_can_be_trained_through(tiny):
    images = torch.zeros(1, 3, 24, 40)
    resampling_matrix.cache_clear()
    with torch.inference_mode():
        tiny(images)
    tiny(images).cls_BD.sum().backward()
    assert tiny.pos_embed.grad is not None


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return VisionTransformer(VitShape(width=32, depth=2, heads=2, patch=8, native_side=32, registers=2)).eval()


def test_native_grid_is_not_resampled(tiny):
    assert tiny._positions(4, 4) is tiny.pos_embed


def test_attention_rows_sum_to_one_and_select_queries(tiny):
    images = torch.randn(2, 3, 32, 48)
    every = attention(tiny, images, layer=0)
    assert every.shape == (2, 2, 27, 27)
    assert torch.allclose(every.sum(-1), torch.ones(2, 2, 27), atol=1e-6)
    assert torch.allclose(attention(tiny, images, 0, slice(0, 1)), every[:, :, :1], atol=1e-7)
    assert torch.allclose(attention(tiny, images, 0, torch.tensor([5, 1])), every[:, :, [5, 1]], atol=1e-7)


def test_attention_of_several_layers_comes_in_the_order_asked(tiny):
    images = torch.randn(1, 3, 16, 16)
    last, first = attention_rows(tiny, images, [-1, 0])
    assert torch.equal(first, attention(tiny, images, 0))
    assert torch.equal(last, attention(tiny, images))


def test_layers_end_with_the_forward_pass(tiny):
    images = torch.randn(2, 3, 32, 32)
    last, first = tiny.layers(images, [-1, 0])
    assert torch.equal(last.patches_BPD, tiny(images).patches_BPD)
    assert not torch.equal(first.patches_BPD, last.patches_BPD)


def test_a_side_that_is_no_multiple_of_the_patch_is_refused(tiny):
    with pytest.raises(BadRecipe, match="30 x 32 px cannot be cut into patches of 8"):
        tiny(torch.zeros(1, 3, 30, 32))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(BadRecipe, match="cannot be divided"):
        VisionTransformer(VitShape(width=32, depth=1, heads=3, patch=8))


@pytest.mark.parametrize("patch", [4, 8, 16])
def test_convolutional_stem_makes_the_same_grid(patch):
    shape = VitShape(width=32, depth=1, heads=2, patch=patch, native_side=4 * patch, stem="conv")
    features = VisionTransformer(shape)(torch.randn(2, 3, 2 * patch, 3 * patch))
    assert (features.rows, features.cols, features.patches_BPD.shape) == (2, 3, (2, 6, 32))


def test_convolutional_stem_needs_a_power_of_two():
    with pytest.raises(BadRecipe, match="patches of 14 px"):
        VisionTransformer(VitShape(width=32, depth=1, heads=2, patch=14, stem="conv"))


def test_bfloat16_on_the_cpu_is_close_to_float32(tiny):
    images = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        exact = tiny(images).cls_BD
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = tiny(images).cls_BD
        assert (rough - exact).abs().max() < 0.05
        assert tiny.bfloat16()(images.bfloat16()).cls_BD.dtype == torch.bfloat16


def test_explicit_attention_equals_the_fused_one(tiny):
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        fused = tiny(images).patches_BPD
        torch.set_float32_matmul_precision("medium")
        try:
            explicit = tiny(images).patches_BPD
        finally:
            torch.set_float32_matmul_precision("highest")
    assert torch.allclose(fused, explicit, atol=1e-5)


def test_cls_is_no_view_of_the_tokens(tiny):
    features = tiny(torch.randn(1, 3, 32, 32))
    assert features.cls_BD.is_contiguous()
    assert features.cls_BD.untyped_storage().size() == 32 * 4


def test_drop_path_leaves_whole_pictures_out_and_keeps_the_mean():
    torch.manual_seed(0)
    kept = DropPath(0.25)(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (kept == kept[:, :1, :1]).all()
    assert kept.mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("is_uniform", "expected"), [(False, [0.0, 0.15, 0.3]), (True, [0.3, 0.3, 0.3])])
def test_drop_path_grows_or_is_uniform(is_uniform, expected):
    vit = VisionTransformer(V1, drop_path=0.3, drop_path_is_uniform=is_uniform)
    assert [block.drop_path.probability for block in vit.blocks] == pytest.approx(expected)


def test_starting_weights_follow_the_family():
    torch.manual_seed(0)
    first, second = VisionTransformer(V1), VisionTransformer(V2_REG)
    assert 0.01 < first.cls_token.std() < 0.03
    assert second.cls_token.std() < 1e-5
    assert second.register_tokens.std() < 1e-5
    assert not second.mask_token.any()
    assert second.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not second.blocks[0].attn.qkv.bias.any()


@pytest.mark.parametrize("name", WEIGHTS)
def test_released_shapes_have_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = build_backbone(WEIGHTS[name].shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == WEIGHTS[name].n_parameters
    assert feature_width(WEIGHTS[name].shape) in (384, 768, 1024, 1536, 2048)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_features_equal_the_cpu():
    vit, t = golden("dinov2_tiny_reg", V2_REG)
    with torch.inference_mode():
        features = vit.cuda()(t["small28.x"].cuda())
    assert (features.cls_BD.cpu() - t["small28.x_norm_clstoken"]).abs().max() <= 1e-4
