"""A part of a picture, shown to a backbone several times so that it can be found at other sizes and mirrored.

Letters after a name are its axes:
    Y X pixels · R C rows and columns of patches · W width of the backbone · 3 colours, RGB
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import BadRecipe
from engine.seeing.embed import Embedder
from engine.seeing.grid import Box, Grid, box_in_patches, box_in_pixels
from engine.seeing.views import shown
from engine.templates import Template, Templates

SCALES = (1.0, 0.84, 0.7)
"""Sizes at which a part is shown, in sizes of the set's pictures. A picture is shown by its shorter side, so a part of
one that was cut out of another comes too large; these are steps of a fifth, between which features hardly change."""


def show_part(
    embedder: Embedder, picture_YX3: NDArray[np.uint8], box: Box, part_YX: NDArray[np.bool_] | None = None
) -> Templates:
    """Return the patches of a part of a picture, at several sizes, as it is and mirrored.

    Args:
        embedder: of a set of whole pictures.
        picture_YX3: uint8 RGB.
        box: around the part.
        part_YX: the pixels of the part, where it is not all that is in the box.

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
    if part_YX is None:
        part_YX = np.ones((height, width), np.bool_)
    straight = _Part(picture_YX3, part_YX, box, is_mirrored=False)
    mirrored_box = (top, width - right, bottom, width - left)
    mirrored = _Part(np.ascontiguousarray(picture_YX3[:, ::-1]), part_YX[:, ::-1], mirrored_box, is_mirrored=True)
    sides = [(scale, side) for scale in SCALES if (side := round(embedder.plan.side * scale)) >= embedder.plan.patch]
    return Templates(tuple(_template(embedder, of, *at) for at in sides for of in (straight, mirrored)))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    picture_YX3: NDArray[np.uint8]
    part_YX: NDArray[np.bool_]
    box: Box
    is_mirrored: bool


def _template(embedder: Embedder, part: _Part, scale: float, side: int) -> Template:
    size = part.picture_YX3.shape[:2]
    patches_RCW = patches_of(embedder, part.picture_YX3, side)
    grid = Grid.of(size, patch=embedder.plan.patch, side=side)
    edges = box_in_patches(part.box, grid, size)
    first_row, last_row = _covered(edges[0], edges[2], grid.rows)
    first_col, last_col = _covered(edges[1], edges[3], grid.cols)
    places = np.mgrid[first_row:last_row, first_col:last_col] + 0.5
    y_RC, x_RC = (
        np.minimum(axis * grid.patch * n // resized, n - 1).astype(np.intp)
        for axis, n, resized in zip(places, size, grid.resized, strict=True)
    )
    is_part_RC = part.part_YX[y_RC, x_RC]
    return Template(
        patches_RCW=patches_RCW[first_row:last_row, first_col:last_col],
        is_part_RC=is_part_RC if is_part_RC.any() else np.ones_like(is_part_RC),
        edges=(edges[0] - first_row, edges[1] - first_col, edges[2] - first_row, edges[3] - first_col),
        scale=scale,
        is_mirrored=part.is_mirrored,
    )


def _covered(begin: float, end: float, n: int) -> tuple[int, int]:
    """Return the patches of which at least half lies between two edges, at least one."""
    first = min(round(begin), n - 1)
    return first, min(max(round(end), first + 1), n)


def part_of_patches(
    patches: Sequence[tuple[int, int]], grid: Grid, size: tuple[int, int]
) -> tuple[Box, NDArray[np.bool_]]:
    """Return the pixels that some patches cover, and the box around them.

    Args:
        patches: rows and columns, at least one.
        grid: of the picture.
        size: height and width of the picture.

    Raises:
        BadRecipe: the picture has no such patch.
    """
    is_part_RC = np.zeros((grid.rows, grid.cols), np.bool_)
    for row, col in patches:
        grid.check_patch(row, col)
        is_part_RC[row, col] = True
    rows, cols = np.flatnonzero(is_part_RC.any(axis=1)), np.flatnonzero(is_part_RC.any(axis=0))
    box = box_in_pixels((rows[0], cols[0], rows[-1] + 1, cols[-1] + 1), grid, size)
    return box, grid.spread(is_part_RC, size)


def patches_of(embedder: Embedder, picture_YX3: NDArray[np.uint8], side: int | None = None) -> NDArray[np.float32]:
    """Return the features of the patches of a whole picture, (R, C, W), seen at the side of the set or another."""
    pixels = shown(picture_YX3, "whole", side or embedder.plan.side, embedder.plan.patch)
    _, _, features = embedder.see(torch.from_numpy(pixels)[None])
    # By way of float16, as the set keeps them.
    patches_PW = features.patches_BPD[0].half().float().cpu().numpy()
    return np.asarray(patches_PW.reshape(features.rows, features.cols, -1))
