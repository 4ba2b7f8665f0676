"""Sequences of pictures of several sizes, and branches computed for some pictures, against the reference."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.catalogue import VitShape
from engine.models.packing import (
    Packing,
    _starts,
    attend_apart,
    draw_kept,
    keep_packed,
    keep_pictures,
    n_kept,
    pack,
    packing_of,
    unpack,
)
from engine.models.vit import Block, VisionTransformer

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
CPU = torch.device("cpu")
TOLERANCE = 1e-5
SHAPE = VitShape(width=32, depth=3, heads=2, patch=8, native_side=32, layer_scale=0.5, has_mask_token=True)
GIANT = VitShape(
    width=32,
    depth=2,
    heads=2,
    patch=14,
    native_side=518,
    layer_scale=0.5,
    registers=4,
    feed_forward="swiglu",
    positions="sized-antialiased",
    has_mask_token=True,
)
"""Everything a ViT-g with registers has, but its size."""
CONVOLUTIONS = VitShape(width=32, depth=2, heads=2, patch=8, native_side=32, stem="conv", has_mask_token=True)


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "dinov2_layers.safetensors")


def golden_block(golden, name):
    ratio = 0.08 if name == "blk_small" else 0.35
    feed_forward = "swiglu" if name == "blk_swiglu" else "mlp"
    shape = VitShape(width=24, depth=1, heads=3, patch=14, layer_scale=1.0, feed_forward=feed_forward)
    block = Block(shape, ratio).train()
    prefix = f"{name}.sd."
    block.load_state_dict({key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)})
    return block, ratio


def replay(*orders):
    """A source of permutations that gives these, one after the other."""
    rest = iter(orders)

    def draw(n):
        order = next(rest)
        assert len(order) == n
        return order

    return draw


def assert_close(ours, theirs, tolerance=TOLERANCE):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item())


# --- branches computed for some of the pictures ---


def test_numbers_of_kept_pictures_equal_the_reference():
    for case in json.loads((GOLDEN / "dinov2_drop_counts.json").read_text()):
        assert n_kept(case["b"], case["ratio"]) == case["keep"]


def test_a_residual_of_some_pictures_equals_the_reference(golden):
    tokens = golden["plain.x"]
    kept = keep_pictures(golden["plain.perm"][: n_kept(len(tokens), 0.4)], len(tokens))
    branch = torch.tanh(kept.select(tokens) @ golden["plain.W"].T)
    assert_close(kept.add(tokens, branch), golden["plain.y"])


@pytest.mark.parametrize("case", ["list", "list_scaled"])
def test_residuals_of_several_sizes_equal_the_reference(golden, case):
    groups = [golden[f"{case}.x0"], golden[f"{case}.x1"]]
    packing = packing_of([group.shape[:2] for group in groups], CPU)
    orders = [golden[f"{case}.perm{i}"] for i in range(2)]
    kept = keep_packed([order[: n_kept(len(order), 0.4)] for order in orders], packing)
    branch = torch.tanh(kept.select(pack(groups)) @ golden["plain.W"].T)
    if case == "list_scaled":
        branch = branch * golden["gamma"]
    for ours, name in zip(unpack(kept.add(pack(groups), branch), packing), ["y0", "y1"], strict=True):
        assert_close(ours, golden[f"{case}.{name}"])


@pytest.mark.parametrize("name", ["blk_mlp", "blk_swiglu"])
def test_a_block_of_some_pictures_equals_the_reference(golden, name):
    block, ratio = golden_block(golden, name)
    tokens = golden[f"{name}.xa"].clone().requires_grad_()
    draw = replay(*(golden[f"{name}.train_plain.perm{i}"] for i in range(2)))
    [(attended, fed)] = draw_kept([ratio], [len(tokens)], draw, CPU)
    out = block(tokens, None, (keep_pictures(attended[0], len(tokens)), keep_pictures(fed[0], len(tokens))))
    assert_close(out, golden[f"{name}.train_plain.y"])
    (out * out.detach().sign()).sum().backward()
    assert_close(tokens.grad, golden[f"{name}.train_plain.grad_x"], 1e-4)


def test_a_block_of_a_small_share_masks_as_the_reference(golden, monkeypatch):
    block, _ = golden_block(golden, "blk_small")
    factors = iter([golden["blk_small.train_plain.bernoulli0"], golden["blk_small.train_plain.bernoulli1"]])
    monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda drawn, _keep: drawn.copy_(next(factors).view(drawn.shape)))
    assert_close(block(golden["blk_small.xa"]), golden["blk_small.train_plain.y"])


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("name", ["blk_mlp", "blk_swiglu", "blk_small"])
def test_a_block_of_two_sizes_equals_the_reference(golden, name, is_packed):
    block, ratio = golden_block(golden, name)
    groups = [golden[f"{name}.xa"], golden[f"{name}.xb"]]
    draw = replay(*(golden[f"{name}.train_nested.perm{i}"] for i in range(4)))
    [drawn] = draw_kept([ratio], [len(group) for group in groups], draw, CPU)
    if is_packed:
        packing = packing_of([group.shape[:2] for group in groups], CPU)
        kept = keep_packed(drawn[0], packing), keep_packed(drawn[1], packing)
        outs = unpack(block(pack(groups), packing, kept), packing)
    else:
        outs = [
            block(group, None, tuple(keep_pictures(branch[i], len(group)) for branch in drawn))
            for i, group in enumerate(groups)
        ]
    assert_close(outs[0], golden[f"{name}.train_nested.ya"])
    assert_close(outs[1], golden[f"{name}.train_nested.yb"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4),
    st.floats(0.01, 0.95),
    st.integers(0, 2**31),
)
def test_what_is_kept_keeps_the_sum_and_touches_nothing_else(sizes, share, seed):
    generator = torch.Generator().manual_seed(seed)
    packing = packing_of(sizes, CPU)
    counts = [n for n, _ in sizes]
    [drawn] = draw_kept([share], counts, lambda n: torch.randperm(n, generator=generator), CPU)
    tokens = torch.randn(sum(packing.counts), 3, generator=generator)
    kept = keep_packed(drawn[0], packing)
    added = kept.add(tokens, torch.ones(len(kept.rows_R), 3)) - tokens
    for group_BND, pictures_K in zip(unpack(added, packing), drawn[0], strict=True):
        n_pictures = len(group_BND)
        expected = torch.zeros(n_pictures).index_fill(0, pictures_K, n_pictures / n_kept(n_pictures, share))
        assert torch.allclose(group_BND, expected.view(-1, 1, 1).expand_as(group_BND), atol=1e-5)
        assert group_BND[:, 0, 0].mean().item() == pytest.approx(1.0, abs=1e-5)


def test_blocks_draw_in_the_order_of_the_reference():
    asked = []

    def draw(n):
        asked.append(n)
        return torch.arange(n)

    drawn = draw_kept([0.3, 0.0, 0.5], [4, 6], draw, CPU)
    assert asked == [4, 6, 4, 6] * 2  # nothing for the block that leaves nothing out
    assert drawn[1] is None
    assert [[len(pictures) for pictures in branch] for branch in drawn[2]] == [[2, 3], [2, 3]]


# --- a sequence of pictures ---


def views_of(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sides = [(4, 2), (2, 6), (3, 3)]
    patch = shape.patch
    return [
        torch.randn(n, 3, patch * rows, patch * cols, generator=generator)
        for n, (rows, cols) in zip([4, 6, 3], sides, strict=True)
    ]


def masks_of(views, shape):
    generator = torch.Generator().manual_seed(1)
    first, *others = views
    n_patches = (first.shape[-2] // shape.patch) * (first.shape[-1] // shape.patch)
    return [torch.rand(len(first), n_patches, generator=generator) < 0.4, *[None] * len(others)]


def network(shape=SHAPE, **options):
    torch.manual_seed(0)
    vit = VisionTransformer(shape, **options)
    for name, parameter in vit.named_parameters():
        if parameter.ndim > 1 or "mask" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return vit.train()


def loss_and_gradients(vit, views, masks=None, seed=7):
    torch.manual_seed(seed)
    loss = torch.zeros(())
    for i, features in enumerate(vit.forward_views(views, masks)):
        loss = loss + (i + 1) * (features.cls_BD.sin().sum() + features.patches_BPD.square().mean())
        loss = loss + features.registers_BRD.cos().sum()
    vit.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in vit.named_parameters() if p.grad is not None}


def assert_same_step(first, second):
    assert_close(first[0], second[0])
    assert first[1].keys() == second[1].keys()
    for name, gradient in first[1].items():
        largest = second[1][name].abs().max().item()
        assert (gradient - second[1][name]).abs().max() <= 1e-5 * max(1.0, largest), name


@pytest.mark.parametrize("precision", ["highest", "medium"])  # on a CPU the fused kernel and explicit products
@pytest.mark.parametrize("drop_path", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("shape", [SHAPE, GIANT, CONVOLUTIONS], ids=["small", "giant", "convolutions"])
def test_packed_views_learn_as_views_apart(shape, drop_path, precision):
    options = {"drop_path": drop_path, "drop_path_is_uniform": True, "drop_path_by": "leaving_out"}
    apart, packed = (network(shape, packing=packing, **options) for packing in (False, True))
    views = views_of(shape)
    torch.set_float32_matmul_precision(precision)
    try:
        steps = [loss_and_gradients(vit, views, masks_of(views, shape)) for vit in (packed, apart)]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert_same_step(*steps)
    assert steps[0][1]["mask_token"].any()


def test_packed_views_are_what_each_would_be_alone():
    vit = network(packing=True).eval()
    views = views_of(SHAPE)
    with torch.inference_mode():
        for features, view in zip(vit.forward_views(views), views, strict=True):
            alone = vit(view)
            assert (features.rows, features.cols) == (alone.rows, alone.cols)
            assert_close(features.cls_BD, alone.cls_BD)
            assert_close(features.patches_BPD, alone.patches_BPD)


def test_views_apart_mask_paths_as_one_forward_pass_after_the_other():
    vit = network(drop_path=0.4)
    views = views_of(SHAPE)
    torch.manual_seed(3)
    together = vit.forward_views(views)
    torch.manual_seed(3)
    for features, view in zip(together, views, strict=True):
        assert torch.equal(features.cls_BD, vit(view).cls_BD)


@pytest.mark.parametrize("drop_path_by", ["masking", "leaving_out"])
def test_views_of_one_size_are_a_forward_pass(drop_path_by):
    vit = network(drop_path=0.4, drop_path_by=drop_path_by, drop_path_is_uniform=True)
    [view, *_] = views_of(SHAPE)
    torch.manual_seed(3)
    [features] = vit.forward_views([view])
    torch.manual_seed(3)
    assert torch.equal(features.cls_BD, vit(view).cls_BD)


def test_masked_paths_leave_whole_pictures_of_a_sequence_out():
    torch.manual_seed(0)
    vit = network(drop_path=0.5, packing=True)
    packing = Packing(((300, 2), (500, 3)))
    branch = vit.blocks[-1].drop_path(torch.ones(sum(packing.counts), 4), packing)
    for group_BND in unpack(branch, packing):
        assert (group_BND == group_BND[:, :1, :1]).all()
        assert group_BND.unique().tolist() == [0.0, 2.0]
        assert group_BND.mean().item() == pytest.approx(1.0, abs=0.15)


def test_small_shares_are_left_out_of_several_views_but_masked_in_one():
    vit = network(drop_path=0.05, drop_path_is_uniform=True, drop_path_by="leaving_out")
    asked = []
    vit.draw = lambda n: asked.append(n) or torch.arange(n)
    views = views_of(SHAPE)
    vit(views[0])
    assert asked == []
    vit.forward_views(views)
    assert asked == [4, 6, 3] * 2 * SHAPE.depth


def test_nothing_is_left_out_when_not_learning():
    vit = network(drop_path=0.4, drop_path_is_uniform=True, drop_path_by="leaving_out").eval()
    view = views_of(SHAPE)[0]
    without = network().eval()
    assert torch.equal(vit(view).cls_BD, without(view).cls_BD)


def test_the_pictures_left_out_follow_the_seed():
    vit = network(drop_path=0.4, drop_path_is_uniform=True, drop_path_by="leaving_out")
    views = views_of(SHAPE)
    losses = [loss_and_gradients(vit, views, seed=seed)[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_a_copy_of_a_network_draws_for_itself():
    vit = network(drop_path=0.4, drop_path_is_uniform=True, drop_path_by="leaving_out")
    other = copy.deepcopy(vit)
    vit.draw = torch.arange
    views = views_of(SHAPE)
    assert loss_and_gradients(vit, views, seed=1)[0] == loss_and_gradients(vit, views, seed=2)[0]
    assert loss_and_gradients(other, views, seed=1)[0] != loss_and_gradients(other, views, seed=2)[0]


# --- blocks computed twice ---


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("drop_path_by", ["masking", "leaving_out"])
def test_checkpointing_changes_no_bit(drop_path_by, packing):
    options = {"drop_path": 0.4, "drop_path_is_uniform": True, "drop_path_by": drop_path_by, "packing": packing}
    views = views_of(SHAPE)
    masks = masks_of(views, SHAPE)
    plain = loss_and_gradients(network(**options), views, masks)
    frugal = loss_and_gradients(network(checkpointing=True, **options), views, masks)
    assert torch.equal(plain[0], frugal[0])
    for name, gradient in plain[1].items():
        assert torch.equal(gradient, frugal[1][name]), name


@pytest.mark.parametrize("packing", [False, True])
def test_checkpointing_keeps_less(packing):
    views = views_of(SHAPE)
    kept = []
    for checkpointing in (False, True):
        vit, n_bytes = network(packing=packing, checkpointing=checkpointing), 0

        def keep(tensor):
            nonlocal n_bytes
            n_bytes += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            vit.forward_views(views)
        kept.append(n_bytes)
    assert kept[1] < kept[0] / 4


# --- kernels and compilers ---


def by_starts(q_THd, k_THd, v_THd, starts, starts_of_keys, longest, longest_key):
    """What the kernel for several lengths computes, picture by picture."""
    assert torch.equal(starts, starts_of_keys)
    assert longest == longest_key == starts.diff().max()
    pictures = zip(*(t.split(starts.diff().tolist()) for t in (q_THd, k_THd, v_THd)), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in one)).transpose(0, 1) for one in pictures]
    )


def half_sequence():
    sizes = ((3, 4), (2, 7), (5, 1))
    packing = Packing(sizes, _starts(sizes, CPU))
    torch.manual_seed(0)
    return torch.randn(sum(packing.counts), 3, 2, 16, dtype=torch.bfloat16), packing


def test_the_kernel_of_several_lengths_is_told_where_pictures_begin(monkeypatch):
    qkv, packing = half_sequence()
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_starts)
    by_group = attend_apart(qkv, Packing(packing.sizes), F.scaled_dot_product_attention)
    assert_close(attend_apart(qkv, packing, None).float(), by_group.float(), 1e-2)


def test_the_kernel_of_several_lengths_takes_what_it_is_given():
    qkv, packing = half_sequence()
    with FakeTensorMode() as fake:
        gathered = attend_apart(fake.from_tensor(qkv), packing._replace(starts=fake.from_tensor(packing.starts)), None)
    assert gathered.shape == (len(qkv), 2, 16)


def test_float32_and_odd_heads_go_group_by_group():
    qkv, packing = half_sequence()
    for odd in (qkv.float(), qkv[..., :12]):
        assert attend_apart(odd, packing, F.scaled_dot_product_attention).shape == odd[:, 0].shape


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_a_compiled_block_takes_a_sequence_and_some_pictures():
    options = {"drop_path": 0.4, "drop_path_is_uniform": True, "drop_path_by": "leaving_out", "packing": True}
    views = views_of(SHAPE)[:2]
    plain, compiled = (network(replace(SHAPE, depth=1), **options) for _ in range(2))
    torch.compiler.reset()
    compiled.blocks[0].compile(dynamic=False, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        losses = [loss_and_gradients(vit, views)[0].item() for vit in (compiled, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_halves_of_a_scaled_branch_stay_halves():
    vit = network(packing=True, drop_path=0.4, drop_path_is_uniform=True, drop_path_by="leaving_out")
    seen = []
    for block in vit.blocks:
        block.register_forward_hook(lambda _block, _inputs, tokens: seen.append(tokens.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        vit.forward_views(views_of(SHAPE))
    assert seen == [torch.bfloat16] * SHAPE.depth


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_from_a_sequence_as_from_views_apart():
    options = {"drop_path": 0.4, "drop_path_is_uniform": True, "drop_path_by": "leaving_out"}
    views = [view.cuda() for view in views_of(SHAPE)]
    apart, packed = (network(packing=packing, **options).cuda() for packing in (False, True))
    assert_same_step(loss_and_gradients(packed, views), loss_and_gradients(apart, views))
    with torch.autocast("cuda", torch.bfloat16):
        rough = loss_and_gradients(packed, views)[0], loss_and_gradients(apart, views)[0]
    assert rough[0].item() == pytest.approx(rough[1].item(), rel=2e-2)
