"""What one pass of a picture through a network leaves: after it, all that can be asked of the picture is a slice.

Kept are the tokens that enter each block and the features that leave the last one. The attention of any token in any
layer is then one row of products, computed by the same lines as without keeping, so that the numbers are the same.
Queries and keys of all layers would be twice as large and save a few milliseconds.

Letters after a name are its axes:
    N tokens = 1 + registers + patches · P patches · D width · R C rows and columns of patches · Y X pixels
    3 colours, RGB
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import BadWeights
from engine.models import patch_of
from engine.models.vit import Features, VisionTransformer
from engine.models.weights import Backbone
from engine.seeing.attention import (
    AttentionMaps,
    Query,
    layer_number,
    looking,
    maps_of_entered,
    rollout_of_entered,
    vit_of,
)
from engine.seeing.grid import SIDE, Grid
from engine.seeing.views import prepare


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SeenPicture:
    """A picture that has been through a backbone.

    ``entered_1ND`` are the tokens that enter each block, on the device of the backbone; none for a residual network.
    ``patches_RCD`` are the features of the patches after the final norm. ``size`` is height and width of the picture.
    """

    backbone: Backbone
    size: tuple[int, int]
    grid: Grid
    entered_1ND: tuple[Tensor, ...]
    patches_RCD: NDArray[np.float32]

    @property
    def n_bytes(self) -> int:
        """The memory that it takes."""
        return sum(tokens_1ND.nbytes for tokens_1ND in self.entered_1ND) + self.patches_RCD.nbytes

    def attention(self, layer: int = -1, query: Query = "cls") -> AttentionMaps:
        """Return what a token looks at in a layer; as ``attention.attention_maps``, which sees the picture anew."""
        return maps_of_entered(vit_of(self.backbone), self.entered_1ND, self.grid, layer, query)

    def rollout(self, query: Query = "cls") -> AttentionMaps:
        """Return where the content of a token comes from; as ``attention.rollout``. Not a slice: all layers' rows."""
        return rollout_of_entered(vit_of(self.backbone), self.entered_1ND, self.grid, query)

    def patches(self, layer: int = -1) -> NDArray[np.float32]:
        """Return the features of the patches after a layer, (rows, cols, D); as ``patch_features.patch_features``.

        Raises:
            BadRecipe: no such layer.
        """
        vit = self.backbone.model
        layer = layer_number(vit, layer)
        if not isinstance(vit, VisionTransformer) or layer == vit.shape.depth - 1:
            return self.patches_RCD
        with looking(vit):
            tokens_ND = vit.norm(self.entered_1ND[layer + 1])[0]
        return _laid_out(tokens_ND[1 + vit.shape.registers :], self.grid)

    def moved(self, device: str | torch.device) -> Self:
        """Return the same on another device, to which the backbone was moved."""
        return replace(self, entered_1ND=tuple(tokens_1ND.to(device) for tokens_1ND in self.entered_1ND))


def see(
    backbone: Backbone, picture_YX3: NDArray[np.uint8], *, side: int = SIDE, is_square: bool = False
) -> SeenPicture:
    """Take a picture through a backbone once; arguments as ``attention.attention_maps``.

    Raises:
        BadRecipe: ``side`` has no room for one patch.
        BadWeights: the features are not finite.
    """
    size = picture_YX3.shape[:2]
    grid = Grid.of(size, patch=patch_of(backbone.shape), side=side, is_square=is_square)
    image_1CYX = prepare(picture_YX3, grid, backbone.mean, backbone.std)
    first = next(backbone.model.parameters())
    with looking(backbone.model):
        image_1CYX = image_1CYX.to(first.device, first.dtype)
        entered_1ND, features = _passed(backbone, image_1CYX)
    return SeenPicture(
        backbone=backbone,
        size=(size[0], size[1]),
        grid=grid,
        entered_1ND=tuple(entered_1ND),
        patches_RCD=_laid_out(features.patches_BPD[0], grid),
    )


def _laid_out(patches_PD: Tensor, grid: Grid) -> NDArray[np.float32]:
    laid_out_RCD = patches_PD.float().cpu().numpy().reshape(grid.rows, grid.cols, -1)
    if not np.isfinite(laid_out_RCD).all():
        raise BadWeights("The features of this network are not numbers.", "Its weights are damaged; choose other ones.")
    return laid_out_RCD


def _passed(backbone: Backbone, image_1CYX: Tensor) -> tuple[list[Tensor], Features]:
    if isinstance(backbone.model, VisionTransformer):
        return backbone.model.entered(image_1CYX)
    features: Features = backbone.model(image_1CYX)
    return [], features


def pass_bytes(backbone: Backbone, grid: Grid) -> int:
    """Return about how much memory a pass on the CPU takes at its peak, beside the weights.

    The tokens that are kept; and in one block the scores of all tokens by all in every head, twice while softmax
    reads one and writes the other.
    """
    if not isinstance(backbone.model, VisionTransformer):
        return 0
    shape = backbone.model.shape
    n_tokens = 1 + shape.registers + grid.rows * grid.cols
    kept = shape.depth * n_tokens * shape.width
    widest = n_tokens * max(3 * shape.width, 2 * shape.hidden)
    scores = 2 * shape.heads * n_tokens**2
    return torch.float32.itemsize * (kept + max(widest, scores))
