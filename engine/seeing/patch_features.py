"""The features of each patch of a picture, after any block of a backbone.

Letters after a name are its axes:
    R C rows and columns of patches · D width · Y X pixels · 3 colours, RGB
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import BadWeights
from engine.models import patch_of
from engine.models.vit import Features, VisionTransformer
from engine.models.weights import Backbone
from engine.seeing.attention import layer_number, looking
from engine.seeing.grid import SIDE, Grid
from engine.seeing.views import prepare


class PatchFeatures(NamedTuple):
    """Features of the patches of one picture, float32, after the final norm, and where the patches lie."""

    features_RCD: NDArray[np.float32]
    grid: Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchGaze:
    """How pictures are seen: the shorter side in px, the block, whether they are squeezed to a square."""

    side: int = SIDE
    layer: int = -1
    is_square: bool = False

    def see(self, backbone: Backbone, picture_YX3: NDArray[np.uint8]) -> PatchFeatures:
        """Return the features of all patches of a picture; see ``patch_features``."""
        return patch_features(backbone, picture_YX3, side=self.side, layer=self.layer, is_square=self.is_square)

    def facts(self, backbone: Backbone) -> dict[str, Any]:
        """Return how pictures were seen, for those who are given what was made of it.

        Raises:
            BadRecipe: there is no such layer.
        """
        layer = layer_number(backbone.model, self.layer)
        return {"side_px": self.side, "layer": layer, "is_square": self.is_square}


def patch_features(
    backbone: Backbone, picture_YX3: NDArray[np.uint8], *, side: int, layer: int = -1, is_square: bool = False
) -> PatchFeatures:
    """Return the features of all patches of a picture; of a residual network, of the places of its last map.

    Args:
        backbone: with its normalisation, on any device.
        picture_YX3: uint8 RGB.
        side: shorter side, in pixels, at which the picture is seen.
        layer: block whose output is normed and returned, counted from 0; -1 is the last.
        is_square: resize to ``side`` x ``side``.

    Raises:
        BadRecipe: no such layer, or ``side`` has no room for one patch.
        BadWeights: the features are not finite.

    Source: DINOv2 get_intermediate_layers(..., norm=True).
    """
    number = layer_number(backbone.model, layer)
    grid = Grid.of(picture_YX3.shape[:2], patch=patch_of(backbone.shape), side=side, is_square=is_square)
    first = next(backbone.model.parameters())
    image_1CYX = prepare(picture_YX3, grid, backbone.mean, backbone.std).to(first.device, first.dtype)
    features = _features(backbone, image_1CYX, number)
    features_PD = features.patches_BPD[0].float().cpu().numpy()
    if not np.isfinite(features_PD).all():
        raise BadWeights("The features of this network are not numbers.", "Its weights are damaged; choose other ones.")
    return PatchFeatures(features_PD.reshape(grid.rows, grid.cols, -1), grid)


def _features(backbone: Backbone, image_1CYX: Tensor, layer: int) -> Features:
    if isinstance(backbone.model, VisionTransformer):
        with looking(backbone.model):
            return backbone.model.layers(image_1CYX, [layer])[0]
    with torch.inference_mode():
        features: Features = backbone.model(image_1CYX)
        return features
