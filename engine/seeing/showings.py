"""A part of a picture, shown to a backbone several times so that it can be found at other sizes and mirrored.

Letters after a name are its axes:
    Y X pixels · R C rows and columns of patches · W width of the backbone · 3 colours, RGB
"""

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import BadRecipe
from engine.seeing.embed import Embedder
from engine.seeing.grid import Box, Grid, box_in_patches
from engine.seeing.views import shown
from engine.templates import Template, Templates

SCALES = (1.0, 0.84, 0.7)
"""Sizes at which a part is shown, in sizes of the set's pictures. A picture is shown by its shorter side, so a part of
one that was cut out of another comes too large; these are steps of a fifth, between which features hardly change."""


def show_part(embedder: Embedder, picture_YX3: NDArray[np.uint8], box: Box) -> Templates:
    """Return the patches of a part of a picture, at several sizes, as it is and mirrored.

    Args:
        embedder: of a set of whole pictures.
        picture_YX3: uint8 RGB.
        box: the part.

    Raises:
        BadRecipe: the box is not inside the picture, or has no area.
    """
    height, width = picture_YX3.shape[:2]
    top, left, bottom, right = box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise BadRecipe(
            f"The box from {left:g}, {top:g} to {right:g}, {bottom:g} is not inside the picture.",
            f"The picture has {width:,} x {height:,} px; a box is its left, top, width and height.",
        )
    mirrored_YX3 = np.ascontiguousarray(picture_YX3[:, ::-1])
    sides = [(scale, side) for scale in SCALES if (side := round(embedder.plan.side * scale)) >= embedder.plan.patch]
    return Templates(
        tuple(
            _template(embedder, pixels_YX3, edges, scale, side, is_mirrored=is_mirrored)
            for scale, side in sides
            for is_mirrored, pixels_YX3, edges in (
                (False, picture_YX3, box),
                (True, mirrored_YX3, (top, width - right, bottom, width - left)),
            )
        )
    )


def _template(
    embedder: Embedder, picture_YX3: NDArray[np.uint8], box: Box, scale: float, side: int, *, is_mirrored: bool
) -> Template:
    patches_RCW, size = patches_of(embedder, picture_YX3, side), picture_YX3.shape[:2]
    edges = box_in_patches(box, Grid.of(size, patch=embedder.plan.patch, side=side), size)
    rows, cols = patches_RCW.shape[:2]
    first_row, last_row = _covered(edges[0], edges[2], rows)
    first_col, last_col = _covered(edges[1], edges[3], cols)
    return Template(
        patches_RCW=patches_RCW[first_row:last_row, first_col:last_col],
        edges=(edges[0] - first_row, edges[1] - first_col, edges[2] - first_row, edges[3] - first_col),
        scale=scale,
        is_mirrored=is_mirrored,
    )


def _covered(begin: float, end: float, n: int) -> tuple[int, int]:
    """Return the patches of which at least half lies between two edges, at least one."""
    first = min(round(begin), n - 1)
    return first, min(max(round(end), first + 1), n)


def patches_of(embedder: Embedder, picture_YX3: NDArray[np.uint8], side: int | None = None) -> NDArray[np.float32]:
    """Return the features of the patches of a whole picture, (R, C, W), seen at the side of the set or another."""
    pixels = shown(picture_YX3, "whole", side or embedder.plan.side, embedder.plan.patch)
    _, _, features = embedder.see(torch.from_numpy(pixels)[None])
    # By way of float16, as the set keeps them.
    patches_PW = features.patches_BPD[0].half().float().cpu().numpy()
    return np.asarray(patches_PW.reshape(features.rows, features.cols, -1))
