"""What a token of a Vision Transformer looks at: per head and layer, or through all layers.

Maps hold the attention paid to patches only; the share that goes to CLS and to registers is
left out. No square of tokens by tokens is kept: rows are computed for the asked token alone, and
rollout goes through blocks of rows.

Letters after a name are its axes:
    N tokens = 1 + registers + patches · H heads · Q tokens that look · D width · d width of a head
    Y X pixels · R C rows and columns of patches · 3 colours, RGB
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import BadRecipe, BadWeights
from engine.models.vit import Block, VisionTransformer, attention_rows
from engine.models.weights import Backbone
from engine.seeing.grid import SIDE, Grid
from engine.seeing.views import prepare

Query = Literal["cls"] | tuple[int, int]
"""The token that looks: CLS, or the patch at (row, column)."""

ROWS_BYTES = 128 * 2**20
"""Size of a block of attention rows in rollout; about three of them live at a time."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AttentionMaps:
    """What one token looks at in one picture.

    ``maps_HRC`` is float32; each head sums to at most 1, the rest being the attention paid to CLS
    and registers. ``layer`` counts from 0; maps of a rollout have one head.
    """

    maps_HRC: NDArray[np.float32]
    grid: Grid
    layer: int | Literal["rollout"]
    query: Query

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean over the heads."""
        return self.maps_HRC.mean(axis=0)


def attention_maps(
    backbone: Backbone,
    picture_YX3: NDArray[np.uint8],
    *,
    side: int = SIDE,
    layer: int = -1,
    query: Query = "cls",
    is_square: bool = False,
) -> AttentionMaps:
    """Return what a token looks at in one layer, all heads in one pass.

    Args:
        backbone: a Vision Transformer with its normalisation.
        picture_YX3: uint8 RGB.
        side: shorter side, in pixels, at which the picture is seen.
        layer: -1 is the last.
        query: the token that looks.
        is_square: resize to ``side`` x ``side``, as the reference does.

    Raises:
        BadRecipe: no such layer or patch, or a backbone without attention.
        BadWeights: the attention is not finite.

    Source: DINO fig. 1; visualize_attention.py.
    """
    vit, image_1CYX, grid = _seen(backbone, picture_YX3, side, is_square)
    return maps_of_layers(vit, image_1CYX, grid, [layer], query)[0]


def every_layer(
    backbone: Backbone,
    picture_YX3: NDArray[np.uint8],
    *,
    side: int = SIDE,
    query: Query = "cls",
    is_square: bool = False,
) -> list[AttentionMaps]:
    """Return what a token looks at in each layer, first to last, from one pass; see ``attention_maps``."""
    vit, image_1CYX, grid = _seen(backbone, picture_YX3, side, is_square)
    return maps_of_layers(vit, image_1CYX, grid, range(vit.shape.depth), query)


def rollout(
    backbone: Backbone,
    picture_YX3: NDArray[np.uint8],
    *,
    side: int = SIDE,
    query: Query = "cls",
    is_square: bool = False,
) -> AttentionMaps:
    """Return where the content of a token comes from through all layers; see ``attention_maps``.

    Source: Abnar & Zuidema 2020, "Quantifying attention flow in transformers", §3: the product over
    the layers of (A + I) / 2, A the mean over the heads. Row sums stay 1 by themselves.
    """
    vit, image_1CYX, grid = _seen(backbone, picture_YX3, side, is_square)
    token_of(query, grid, vit.shape.registers)  # before the pass, which is for nothing where there is no such token
    with looking(vit):
        entered_1ND, _ = vit.entered(_to(vit, image_1CYX))
    return rollout_of_entered(vit, entered_1ND, grid, query)


def maps_of_entered(
    vit: VisionTransformer, entered_1ND: Sequence[Tensor], grid: Grid, layer: int = -1, query: Query = "cls"
) -> AttentionMaps:
    """Return what a token looks at in a layer, from the tokens that entered each block; as ``attention_maps``."""
    number = layer_number(vit, layer)
    token = token_of(query, grid, vit.shape.registers)
    block = vit.blocks[number]
    assert isinstance(block, Block)
    with looking(vit):
        row_HN = _row(block, entered_1ND[number], token)
    return AttentionMaps(maps_HRC=_patches_only(row_HN, grid), grid=grid, layer=number, query=query)


def _row(block: Block, tokens_1ND: Tensor, token: int) -> Tensor:
    """Return what one token looks at in a block, (H, N); as ``Attention.weights``, by a hundredth of the products.

    No keys are made. Of a key W x + b, the product with a query q is (q W) x + q b, and q b, being the same for all
    tokens x, is lost in the softmax.
    """
    tokens_ND = block.norm1(tokens_1ND)[0].float()
    width, heads = tokens_ND.shape[1], block.attn.heads
    to_queries_DD, to_keys_DD = block.attn.qkv.weight[: 2 * width].float().split(width)
    query_H1d = F.linear(tokens_ND[token], to_queries_DD, block.attn.qkv.bias[:width].float()).view(heads, 1, -1)
    looks_for_HD = (query_H1d @ to_keys_DD.view(heads, -1, width))[:, 0]
    return (looks_for_HD @ tokens_ND.T * query_H1d.shape[-1] ** -0.5).softmax(dim=-1)


def rollout_of_entered(
    vit: VisionTransformer, entered_1ND: Sequence[Tensor], grid: Grid, query: Query = "cls"
) -> AttentionMaps:
    """Return where the content of a token comes from, from the tokens that entered each block; as ``rollout``."""
    with looking(vit):
        shares_N = _rollout(vit, entered_1ND, token_of(query, grid, vit.shape.registers))
    maps_1RC = _patches_only(shares_N[None], grid)
    return AttentionMaps(maps_HRC=maps_1RC, grid=grid, layer="rollout", query=query)


def _seen(
    backbone: Backbone, picture_YX3: NDArray[np.uint8], side: int, is_square: bool
) -> tuple[VisionTransformer, Tensor, Grid]:
    vit = vit_of(backbone)
    grid = Grid.of(picture_YX3.shape[:2], patch=vit.shape.patch, side=side, is_square=is_square)
    return vit, prepare(picture_YX3, grid, backbone.mean, backbone.std), grid


def vit_of(backbone: Backbone) -> VisionTransformer:
    """Return the network of a backbone that has attention.

    Raises:
        BadRecipe: it has none.
    """
    if not isinstance(backbone.model, VisionTransformer):
        raise BadRecipe("A residual network has no attention.", "Choose a Vision Transformer.")
    return backbone.model


def token_of(query: Query, grid: Grid, n_registers: int) -> int:
    """Return the place of a token in the order [CLS, registers, patches].

    Raises:
        BadRecipe: the grid has no such patch.
    """
    if query == "cls":
        return 0
    row, col = query
    grid.check_patch(row, col)
    return 1 + n_registers + row * grid.cols + col


def layer_number(model: nn.Module, layer: int) -> int:
    """Return a layer counted from 0; a residual network has one.

    Raises:
        BadRecipe: there is none of that number.
    """
    depth = model.shape.depth if isinstance(model, VisionTransformer) else 1
    if not -depth <= layer < depth:
        raise BadRecipe(f"There is no layer {layer}.", f"This network has layers 0 to {depth - 1}; -1 is the last.")
    return layer % depth


def check_head(head: int, n_heads: int) -> None:
    """Refuse a head that maps have not.

    Raises:
        BadRecipe: there is none of that number.
    """
    if not 0 <= head < n_heads:
        raise BadRecipe(f"There is no head {head}.", f"There are heads 0 to {n_heads - 1}.")


def maps_of_layers(
    vit: VisionTransformer, image_1CYX: Tensor, grid: Grid, layers: Sequence[int], query: Query = "cls"
) -> list[AttentionMaps]:
    """Return what a token of a prepared picture looks at in some layers, in the order asked."""
    numbers = [layer_number(vit, layer) for layer in layers]
    token = token_of(query, grid, vit.shape.registers)
    with looking(vit):
        rows = attention_rows(vit, _to(vit, image_1CYX), numbers, slice(token, token + 1))
    return [
        AttentionMaps(maps_HRC=_patches_only(row_1H1N[0, :, 0], grid), grid=grid, layer=number, query=query)
        for row_1H1N, number in zip(rows, numbers, strict=True)
    ]


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Look without dropped paths and gradients; a network in training returns to it."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(next(model.parameters()).device.type, enabled=False):
            yield
    finally:
        model.train(was_training)


def _to(vit: VisionTransformer, image_1CYX: Tensor) -> Tensor:
    return image_1CYX.to(vit.cls_token.device, vit.cls_token.dtype)


def _patches_only(rows_HN: Tensor, grid: Grid) -> NDArray[np.float32]:
    """Drop CLS and registers, which come first, and lay the patches out."""
    patches_HP = rows_HN[:, -grid.rows * grid.cols :].float().cpu().numpy()
    if not np.isfinite(patches_HP).all():
        raise BadWeights(
            "The attention of this network is not a number.", "Its weights are damaged; choose other ones."
        )
    return patches_HP.reshape(-1, grid.rows, grid.cols)


def _rollout(vit: VisionTransformer, entered_1ND: Sequence[Tensor], token: int) -> Tensor:
    """Go from the last layer to the first: one row times a matrix each, never a matrix times a matrix."""
    shares_N = torch.zeros(entered_1ND[0].shape[1], device=entered_1ND[0].device)
    shares_N[token] = 1.0
    for block, tokens_1ND in zip(reversed(vit.blocks), reversed(entered_1ND), strict=True):
        assert isinstance(block, Block)
        shares_N = (shares_N + _looked_at(block, tokens_1ND, shares_N)) / 2
    return shares_N


def _looked_at(block: Block, tokens_1ND: Tensor, shares_N: Tensor) -> Tensor:
    """Return the shares times the attention matrix of a block, mean over its heads, a few rows at a time."""
    tokens_1ND = block.norm1(tokens_1ND)
    row_bytes = 4 * block.attn.heads * len(shares_N)
    looked_at_N = torch.zeros_like(shares_N)
    for queries_Q in shares_N.nonzero()[:, 0].split(max(1, ROWS_BYTES // row_bytes)):
        rows_HQN = block.attn.weights(tokens_1ND, queries_Q)[0]
        looked_at_N += shares_N[queries_Q] @ rows_HQN.mean(dim=0)
    return looked_at_N
