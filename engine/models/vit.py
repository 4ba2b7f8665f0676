"""The Vision Transformer of DINO and DINOv2, built from a ``VitShape``.

Names and shapes of the tensors are those of the released files, so that these load without
renaming (facebookresearch/dino ``vision_transformer.py``, facebookresearch/dinov2
``models/vision_transformer.py``). Reads no files and knows no training.

Letters after a name are its axes:
    B images · C channels · Y X pixels · N tokens = 1 + R + P · R registers · P patches = rows * cols
    D width · H heads · Q tokens that look · d width of one head · S = B * H · T tokens of a sequence
Tokens are ordered [CLS, registers, patches], patches row by row. Where a block says only ``tokens``, they are those
of pictures of one size, (B, N, D), or of several in a sequence, (T, D); see ``packing``.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.catalogue import PositionRule, Start, VitShape
from engine.errors import BadRecipe
from engine.models.packing import (
    Drawn,
    Kept,
    Packing,
    attend_apart,
    draw_kept,
    keep_packed,
    keep_pictures,
    pack,
    packing_of,
    unpack,
)

INIT_STD = 0.02
"""Standard deviation of the starting weights; both references."""
TINY_INIT_STD = 1e-6
"""Standard deviation of DINOv2's CLS token and registers at the start."""
SCALE_OFFSET = 0.1
"""Added to the number of patches before the scale factor is made; both references."""
CUBIC = -0.75
"""Coefficient of the bicubic kernel of ``F.interpolate`` without antialiasing."""
CUBIC_ANTIALIASED = -0.5
"""Coefficient of the bicubic kernel of ``F.interpolate`` with antialiasing, which is Pillow's."""
SINE_BASE = 10_000.0
"""Ratio of the longest to the shortest wave; Vaswani et al. 2017."""
SINE_RANGE = 16.0
"""Phase, in radians, of the shortest wave over the whole picture."""
SINE_SCALE = 0.5
"""Size of the sine positions beside tokens of size 1; found on small folders, see README."""
LEAST_LEFT_OUT = 0.1
"""Up to this probability one batch of pictures drops paths by masking, whatever is asked; dinov2 block.py."""

DropPathBy = Literal["masking", "leaving_out"]


class Features(NamedTuple):
    """What a backbone says about a batch of pictures, after its final norm."""

    cls_BD: Tensor
    registers_BRD: Tensor
    patches_BPD: Tensor
    rows: int
    cols: int


class VisionTransformer(nn.Module):
    """A Vision Transformer that takes pictures of any size that is a multiple of its patch.

    Args:
        shape: determines every tensor.
        drop_path: probability, for the last block, of leaving a picture out of a residual branch.
        drop_path_is_uniform: the same probability in every block (DINOv2) instead of one that
            grows linearly from 0 in the first block (DINO).
        drop_path_by: 'masking' computes every branch and sets those of the pictures left out to 0, each picture by
            its own draw (DINO); 'leaving_out' computes a fixed share of the pictures (DINOv2 §5 "Efficient
            stochastic depth"), drawn by ``draw``.
        packing: views of several sizes go through the blocks as one sequence (DINOv2 §5 "Sequence packing").
        checkpointing: keep only what enters each block, and compute the block again for the gradient.
        start: how the weights begin; see ``catalogue.Start``.

    Attributes:
        draw: gives a permutation of the numbers below the one it is called with, int64 on the CPU.

    Raises:
        BadRecipe: the width cannot be divided among the heads, or the stem cannot make the patch.
    """

    def __init__(
        self,
        shape: VitShape,
        *,
        drop_path: float = 0.0,
        drop_path_is_uniform: bool = False,
        drop_path_by: DropPathBy = "masking",
        packing: bool = False,
        checkpointing: bool = False,
        start: Start = "published",
    ) -> None:
        super().__init__()
        if shape.width % shape.heads:
            raise BadRecipe(f"A width of {shape.width} cannot be divided among {shape.heads} heads.")
        self.shape = shape
        self.drop_path_by = drop_path_by
        self.packing = packing
        self.checkpointing = checkpointing
        self.draw: Callable[[int], Tensor] = torch.randperm
        width = shape.width
        self.patch_embed = PatchEmbedding(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.native_grid**2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, shape.registers, width)) if shape.registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, width)) if shape.has_mask_token else None
        growth = [1.0 if drop_path_is_uniform else i / max(shape.depth - 1, 1) for i in range(shape.depth)]
        self.blocks = nn.ModuleList(Block(shape, drop_path * share) for share in growth)
        self.norm = nn.LayerNorm(width, eps=shape.norm_eps)
        self._init_weights()
        if start == "contrasting":
            self._make_contrasting()

    def forward(self, images_BCYX: Tensor, mask_BP: Tensor | None = None) -> Features:
        """Return the features of a batch of normalised pictures.

        Args:
            images_BCYX: sides are multiples of the patch.
            mask_BP: bool; True where the mask token takes the place of a patch.
        """
        tokens_BND = self.embed(images_BCYX, mask_BP)
        drawn = self._drawn([len(tokens_BND)], above=LEAST_LEFT_OUT)
        tokens_BND = self._through_blocks(tokens_BND, _of_group(0, len(tokens_BND), drawn))
        return self._features(tokens_BND, images_BCYX)

    def forward_views(
        self, views_BCYX: Sequence[Tensor], masks_BP: Sequence[Tensor | None] | None = None
    ) -> list[Features]:
        """Return the features of several batches of normalised pictures, each of its own size.

        With ``packing`` they are the same as without, but for rounding and, where paths are dropped by masking, for
        the draws.

        Args:
            views_BCYX: sides are multiples of the patch.
            masks_BP: for each batch bool, True where the mask token takes the place of a patch, or None.
        """
        masks = [None] * len(views_BCYX) if masks_BP is None else masks_BP
        if self.drop_path_by == "masking" and not self.packing:
            return [self(view, mask) for view, mask in zip(views_BCYX, masks, strict=True)]
        groups_BND = [self.embed(view, mask) for view, mask in zip(views_BCYX, masks, strict=True)]
        # Lists of batches leave pictures out at any probability (dinov2 block.py NestedTensorBlock).
        drawn = self._drawn([len(tokens_BND) for tokens_BND in groups_BND], above=0.0)
        is_packed = self.packing and len(groups_BND) > 1
        groups_BND = self._packed(groups_BND, drawn) if is_packed else self._apart(groups_BND, drawn)
        return [self._features(tokens_BND, view) for tokens_BND, view in zip(groups_BND, views_BCYX, strict=True)]

    def _packed(self, groups_BND: list[Tensor], drawn: Sequence[Drawn | None]) -> list[Tensor]:
        packing = packing_of([(len(group), group.shape[1]) for group in groups_BND], groups_BND[0].device)
        kept = [pair and (keep_packed(pair[0], packing), keep_packed(pair[1], packing)) for pair in drawn]
        return unpack(self._through_blocks(pack(groups_BND), kept, packing), packing)

    def _apart(self, groups_BND: list[Tensor], drawn: Sequence[Drawn | None]) -> list[Tensor]:
        return [self._through_blocks(tokens, _of_group(i, len(tokens), drawn)) for i, tokens in enumerate(groups_BND)]

    def _drawn(self, n_pictures: Sequence[int], above: float) -> list[Drawn | None]:
        """Return, for each block, the pictures that its branches are computed for; None where they are all."""
        is_leaving_out = self.training and self.drop_path_by == "leaving_out"
        shares = [cast("Block", block).drop_path.probability for block in self.blocks]
        shares = [share if is_leaving_out and share > above else 0.0 for share in shares]
        return draw_kept(shares, n_pictures, self.draw, self.cls_token.device)

    def _through_blocks(
        self, tokens: Tensor, kept_of_blocks: Sequence[tuple[Kept, Kept] | None], packing: Packing | None = None
    ) -> Tensor:
        is_forgetting = self.checkpointing and torch.is_grad_enabled()
        for block, kept in zip(self.blocks, kept_of_blocks, strict=True):
            if is_forgetting:
                is_random = kept is None and cast("Block", block).drop_path.probability > 0  # it draws as it computes
                tokens = checkpoint(block, tokens, packing, kept, use_reentrant=False, preserve_rng_state=is_random)
            else:
                tokens = block(tokens, packing, kept)
        return tokens

    def layers(self, images_BCYX: Tensor, which: Sequence[int]) -> list[Features]:
        """Return the normed outputs of the chosen blocks, in the order asked; -1 is the last block."""
        wanted = [range(self.shape.depth)[i] for i in which]
        tokens_BND = self.embed(images_BCYX)
        outputs = {}
        for i, block in enumerate(self.blocks[: max(wanted) + 1]):
            tokens_BND = block(tokens_BND)
            if i in wanted:
                outputs[i] = self._features(tokens_BND, images_BCYX)
        return [outputs[i] for i in wanted]

    def entered(self, images_BCYX: Tensor) -> tuple[list[Tensor], Features]:
        """Return the tokens that enter each block, (B, N, D), and the features after the last, from one pass."""
        tokens_BND = self.embed(images_BCYX)
        entered_BND = []
        for block in self.blocks:
            entered_BND.append(tokens_BND)
            tokens_BND = block(tokens_BND)
        return entered_BND, self._features(tokens_BND, images_BCYX)

    def embed(self, images_BCYX: Tensor, mask_BP: Tensor | None = None) -> Tensor:
        """Return the tokens that enter the first block.

        Raises:
            BadRecipe: a side of the pictures is no multiple of the patch.
        """
        rows, cols = self._grid(images_BCYX)
        tokens_BND = self.patch_embed(images_BCYX)
        if mask_BP is not None:
            assert self.mask_token is not None, "this shape has no mask token"
            tokens_BND = torch.where(mask_BP.unsqueeze(-1), self.mask_token.to(tokens_BND.dtype), tokens_BND)
        # In the dtype of the patches, so that under autocast the whole residual stream is in 16 bits, as DINOv2's is.
        cls_B1D = self.cls_token.to(tokens_BND.dtype).expand(tokens_BND.shape[0], -1, -1)
        tokens_BND = torch.cat([cls_B1D, tokens_BND], dim=1)
        tokens_BND = tokens_BND + self._positions(rows, cols).to(tokens_BND.dtype)
        if self.register_tokens is None:
            return tokens_BND
        registers_BRD = self.register_tokens.to(tokens_BND.dtype).expand(tokens_BND.shape[0], -1, -1)
        return torch.cat([tokens_BND[:, :1], registers_BRD, tokens_BND[:, 1:]], dim=1)

    def _grid(self, images_BCYX: Tensor) -> tuple[int, int]:
        height, width = images_BCYX.shape[-2:]
        patch = self.shape.patch
        if height % patch or width % patch:
            raise BadRecipe(
                f"A picture of {height} x {width} px cannot be cut into patches of {patch} px.",
                f"Choose sides that are multiples of {patch}.",
            )
        return height // patch, width // patch

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Return the position embedding for a grid, CLS first, resampled unless the grid is the native one."""
        side = self.shape.native_grid
        if rows == cols == side:
            return self.pos_embed
        positions = self.pos_embed
        # In float32 whatever the compute dtype, as the references do: positions are small differences.
        with torch.autocast(positions.device.type, enabled=False):
            to_rows = resampling_matrix(rows, side, self.shape.positions, positions.device)
            to_cols = resampling_matrix(cols, side, self.shape.positions, positions.device)
            grid_YXD = positions[0, 1:].float().view(side, side, -1)
            grid_YXD = to_cols @ (to_rows @ grid_YXD.flatten(1)).view(rows, side, -1)
        return torch.cat([positions[:, :1].float(), grid_YXD.reshape(1, rows * cols, -1)], dim=1)

    def _features(self, tokens_BND: Tensor, images_BCYX: Tensor) -> Features:
        rows, cols = self._grid(images_BCYX)
        tokens_BND = self.norm(tokens_BND)
        n_special = 1 + self.shape.registers
        # A copy, not a view: DDP and the queues of past outputs must not hold on to all tokens.
        cls_BD = tokens_BND[:, 0].clone(memory_format=torch.contiguous_format)
        return Features(cls_BD, tokens_BND[:, 1:n_special], tokens_BND[:, n_special:], rows, cols)

    def _init_weights(self) -> None:
        is_v2 = self.shape.layer_scale is not None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=INIT_STD)
        if is_v2:
            nn.init.normal_(self.cls_token, std=TINY_INIT_STD)
        else:
            nn.init.trunc_normal_(self.cls_token, std=INIT_STD)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=TINY_INIT_STD)

    def _make_contrasting(self) -> None:
        """Let each layer keep the variance of its input, and positions tell places apart from the first step.

        Queries and keys begin as published: attention starts even, and does not settle on single patches.
        """
        keep_variance(self.blocks)
        for block in self.blocks:
            attention_ = cast("Block", block).attn
            nn.init.trunc_normal_(attention_.qkv.weight[: 2 * self.shape.width], std=INIT_STD)
        grid = self.shape.native_grid
        with torch.no_grad():
            self.pos_embed[0, 1:] = SINE_SCALE * sine_positions(grid, self.shape.width)


def _of_group(i: int, n_pictures: int, drawn: Sequence[Drawn | None]) -> list[tuple[Kept, Kept] | None]:
    return [pair and (keep_pictures(pair[0][i], n_pictures), keep_pictures(pair[1][i], n_pictures)) for pair in drawn]


def keep_variance(module: nn.Module) -> None:
    """Start every linear layer in a module with a standard deviation of 1 / sqrt(inputs)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)


def sine_positions(grid: int, width: int) -> Tensor:
    """Return sines and cosines of the row and of the column of each patch: (grid * grid, width).

    Source: Vaswani et al. 2017 §3.5, for two axes as in Chen et al. 2021 (MoCo v3); the phases cover the same
    range for every grid.
    """
    rates = SINE_BASE ** -(torch.arange(width // 4) / (width // 4))
    places = torch.arange(grid) * (SINE_RANGE / grid)
    rows, cols = (axis.reshape(-1, 1) * rates for axis in torch.meshgrid(places, places, indexing="ij"))
    waves = torch.cat([rows.sin(), rows.cos(), cols.sin(), cols.cos()], dim=1)
    return F.pad(waves, (0, width - waves.shape[1]))


class PatchEmbedding(nn.Module):
    """Pictures to one token per patch, in one step or through a stack of small convolutions."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        if shape.stem == "patch":
            self.proj: nn.Module = nn.Conv2d(3, shape.width, kernel_size=shape.patch, stride=shape.patch)
        else:
            self.proj = _convolutional_stem(shape)

    def forward(self, images_BCYX: Tensor) -> Tensor:
        """Return one token per patch, row by row: (B, P, D)."""
        return self.proj(images_BCYX).flatten(2).transpose(1, 2)


def _convolutional_stem(shape: VitShape) -> nn.Sequential:
    """Return 3x3 convolutions that halve the sides and double the channels, then 1x1.

    Source: Xiao et al. 2021, "Early convolutions help transformers see better", app. A; GroupNorm with one
    group in place of BatchNorm, so that crops of two sizes and small batches see the same function.
    """
    n_halvings = shape.patch.bit_length() - 1
    if shape.patch != 2**n_halvings or n_halvings == 0:
        raise BadRecipe(
            f"The convolutional stem cannot make patches of {shape.patch} px.",
            "Choose a power of two, or the plain stem.",
        )
    layers: list[nn.Module] = []
    channels = 3
    for i in range(n_halvings):
        wider = max(shape.width >> (n_halvings - 1 - i), 1)
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, wider), nn.ReLU()]
        channels = wider
    return nn.Sequential(*layers, nn.Conv2d(channels, shape.width, kernel_size=1))


class Block(nn.Module):
    """Attention and a feed-forward layer, each on a residual branch."""

    def __init__(self, shape: VitShape, drop_path: float = 0.0) -> None:
        super().__init__()
        width = shape.width
        self.norm1 = nn.LayerNorm(width, eps=shape.norm_eps)
        self.attn = Attention(width, shape.heads)
        self.ls1 = nn.Identity() if shape.layer_scale is None else LayerScale(width, shape.layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=shape.norm_eps)
        self.mlp = SwiGlu(width, shape.hidden) if shape.feed_forward == "swiglu" else Mlp(width, shape.hidden)
        self.ls2 = nn.Identity() if shape.layer_scale is None else LayerScale(width, shape.layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, packing: Packing | None = None, kept: tuple[Kept, Kept] | None = None) -> Tensor:
        """Return the tokens after both branches, same shape.

        Args:
            tokens: (B, N, D), or (T, D) with a ``packing``.
            packing: where the pictures lie in a sequence.
            kept: what attention and the feed-forward layer are computed for; None drops paths by masking.
        """
        if kept is None:
            tokens = tokens + self.drop_path(self._attended(tokens, packing), packing)
            return tokens + self.drop_path(self._fed(tokens), packing)
        attended, fed = kept
        tokens = attended.add(tokens, self._attended(attended.select(tokens), attended.packing))
        return fed.add(tokens, self._fed(fed.select(tokens)))

    def _attended(self, tokens: Tensor, packing: Packing | None) -> Tensor:
        return self.ls1(self.attn(self.norm1(tokens), packing))

    def _fed(self, tokens: Tensor) -> Tensor:
        return self.ls2(self.mlp(self.norm2(tokens)))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, packing: Packing | None = None) -> Tensor:
        """Return what each token gathers from all of its picture, same shape."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        if packing is not None:
            return self.proj(attend_apart(qkv, packing, _attend).flatten(1))
        q_BHNd, k_BHNd, v_BHNd = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_BHNd = _attend(q_BHNd, k_BHNd, v_BHNd)
        return self.proj(mixed_BHNd.transpose(1, 2).flatten(2))

    def weights(self, tokens_BND: Tensor, queries: Tensor | slice) -> Tensor:
        """Return softmax(q k^T / sqrt(d)) in float32 for the tokens ``queries``: (B, H, Q, N)."""
        n_images, n_tokens, width = tokens_BND.shape
        rows = slice(0, 2 * width)  # queries and keys; the values are not needed
        qk = F.linear(tokens_BND, self.qkv.weight[rows], self.qkv.bias[rows])
        qk = qk.view(n_images, n_tokens, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q_BHQd, k_BHNd = qk[0][:, :, queries].float(), qk[1].float()
        with torch.autocast(tokens_BND.device.type, enabled=False):
            return ((q_BHQd @ k_BHNd.transpose(-2, -1)) * q_BHQd.shape[-1] ** -0.5).softmax(dim=-1)


def _attend(q_BHNd: Tensor, k_BHNd: Tensor, v_BHNd: Tensor) -> Tensor:
    if _fused_is_slower(q_BHNd):
        return _attend_explicitly(q_BHNd, k_BHNd, v_BHNd)
    return F.scaled_dot_product_attention(q_BHNd, k_BHNd, v_BHNd)


def _attend_explicitly(q_BHNd: Tensor, k_BHNd: Tensor, v_BHNd: Tensor) -> Tensor:
    """Attend by two batched products; the first scales its result, which saves a pass over the queries."""
    q_SNd, k_SNd, v_SNd = (heads.flatten(0, 1) for heads in (q_BHNd, k_BHNd, v_BHNd))
    nothing_111 = q_SNd.new_zeros(1, 1, 1)
    scores_SNN = torch.baddbmm(nothing_111, q_SNd, k_SNd.transpose(1, 2), beta=0, alpha=q_SNd.shape[-1] ** -0.5)
    return torch.bmm(scores_SNN.softmax(dim=-1), v_SNd).view(q_BHNd.shape)


def _fused_is_slower(q_BHNd: Tensor) -> bool:
    """On a CPU the fused kernel uses neither bf16 dot products nor the 'medium' float32 kernels.

    Measured with torch 2.13 on an AVX-512 CPU, ViT-S/16: explicit products are 2.2 times faster
    forward and 3.3 times forward and backward in bf16.
    """
    if q_BHNd.device.type != "cpu":
        return False
    return q_BHNd.dtype == torch.bfloat16 or torch.get_float32_matmul_precision() == "medium"


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return the branch, same shape."""
        return self.fc2(F.gelu(self.fc1(tokens_BND)))


class SwiGlu(nn.Module):
    """A gated feed-forward layer: half of the hidden layer, through SiLU, multiplies the other half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Return the branch, same shape."""
        gate, value = self.w12(tokens_BND).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class LayerScale(nn.Module):
    """A learnt factor per channel on a residual branch."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), start))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scaled branch, same shape."""
        # In the dtype of the branch: under autocast float32 would spread from here over the residual stream.
        return tokens * self.gamma.to(tokens.dtype)


class DropPath(nn.Module):
    """Leave a residual branch out, picture by picture, and scale up those that keep it."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor, packing: Packing | None = None) -> Tensor:
        """Return the branch, zero for the pictures left out."""
        if self.probability == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.probability
        if packing is None:
            return branch * branch.new_empty(len(branch), 1, 1).bernoulli_(keep).div_(keep)
        shares = [branch.new_empty(n, 1).bernoulli_(keep).div_(keep).expand(n, N) for n, N in packing.sizes]
        return branch * torch.cat([share_BN.flatten() for share_BN in shares]).unsqueeze(-1)


def attention(
    vit: VisionTransformer, images_BCYX: Tensor, layer: int = -1, queries: Tensor | slice | None = None
) -> Tensor:
    """Return the attention of one block, float32, rows sum to 1: (B, H, Q, N).

    Args:
        vit: the backbone, in eval mode.
        images_BCYX: normalised pictures.
        layer: the block; -1 is the last.
        queries: tokens whose rows are wanted, ``slice(0, 1)`` for CLS; ``None`` for all. Memory
            grows with B * H * Q * N only.

    Source: DINO ``get_last_selfattention``.
    """
    return attention_rows(vit, images_BCYX, [layer], queries)[0]


def attention_rows(
    vit: VisionTransformer, images_BCYX: Tensor, which: Sequence[int], queries: Tensor | slice | None = None
) -> list[Tensor]:
    """Return the attention of several blocks, in the order asked, from one pass; see ``attention``."""
    wanted = [range(vit.shape.depth)[i] for i in which]
    rows = slice(None) if queries is None else queries
    tokens_BND = vit.embed(images_BCYX)
    weights = {}
    for i, block in enumerate(vit.blocks[: max(wanted) + 1]):
        assert isinstance(block, Block)
        if i in wanted:
            weights[i] = block.attn.weights(block.norm1(tokens_BND), rows)
        if i < max(wanted):
            tokens_BND = block(tokens_BND)
    return [weights[i] for i in wanted]


@lru_cache(maxsize=256)
def resampling_matrix(n_out: int, n_in: int, rule: PositionRule, device: torch.device) -> Tensor:
    """Return the (n_out, n_in) float32 matrix that resamples a line as ``F.interpolate`` does, bicubic.

    A product with a constant matrix has a deterministic backward on CUDA and can be exported,
    which ``F.interpolate`` with antialiasing has not and cannot.
    """
    # A matrix first made during inference must still be usable in training.
    with torch.inference_mode(False), torch.no_grad():
        if rule == "sized-antialiased":
            matrix = _antialiased_matrix(n_out, n_in)
        else:
            scale = n_in / (n_out + SCALE_OFFSET) if rule == "scaled" else n_in / n_out
            matrix = _interpolating_matrix(n_out, n_in, scale)
        return matrix.to(device)


def _interpolating_matrix(n_out: int, n_in: int, scale: float) -> Tensor:
    """Four neighbours per place, those beyond the edge folded onto it."""
    step = torch.tensor(scale, dtype=torch.float32, device="cpu").double()
    # Rounded once, to float32, as the fused multiply-add of torch's kernel does.
    places = (step * (_indices(n_out).double() + 0.5) - 0.5).float()
    first = places.floor()
    offsets = _indices(4) - 1
    weights = _cubic((places - first).unsqueeze(1) - offsets, CUBIC)
    columns = (first.long().unsqueeze(1) + offsets).clamp(0, n_in - 1)
    return torch.zeros(n_out, n_in, device="cpu").scatter_add_(1, columns, weights)


def _antialiased_matrix(n_out: int, n_in: int) -> Tensor:
    """The kernel is widened by the scale when shrinking, cut at the edges and made to sum to 1."""
    scale = torch.tensor(n_in / n_out, dtype=torch.float32, device="cpu")
    widening = scale.clamp(min=1.0)
    support = 2 * widening
    centres = (scale * (_indices(n_out) + 0.5)).unsqueeze(1)
    columns = _indices(n_in)
    first = (centres - support + 0.5).trunc().clamp(min=0)
    last = (centres + support + 0.5).trunc().clamp(max=n_in)
    weights = _cubic((columns - centres + 0.5) / widening, CUBIC_ANTIALIASED)
    weights = weights * ((columns >= first) & (columns < last))
    return weights / weights.sum(dim=1, keepdim=True)


def _indices(n: int) -> Tensor:
    return torch.arange(n, device="cpu")


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Return the cubic convolution kernel (Keys 1981)."""
    x = distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
