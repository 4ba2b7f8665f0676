"""How the patches of a network lie on a picture, and how a map of patches returns to its pixels.

A picture is resized, cut to whole patches and normalised. All drawing and masking goes back
through the same ``Grid``, so that nothing is shifted, whatever the size of the picture.

Letters after a name are its axes:
    Y X pixels · R C rows and columns of patches · 3 colours, RGB
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRecipe

SIDE = 480
"""Shorter side, in pixels, at which attention is looked at; visualize_attention.py ``--image_size``."""
LONGEST = 4
"""The longer side is seen as at most this many times the shorter: a line scan must not fill the memory."""


Box = tuple[float, float, float, float]
"""Top, left, bottom and right from the top left of a picture, in pixels or in patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The patches of one picture as a network sees it.

    The picture is resized to ``resized`` pixels (height, width). Patches start at its top left
    corner; what remains at the right and at the bottom, less than a patch, is not seen
    (visualize_attention.py).
    """

    rows: int
    cols: int
    patch: int
    resized: tuple[int, int]

    @classmethod
    def of(cls, size: tuple[int, int], *, patch: int, side: int = SIDE, is_square: bool = False) -> "Grid":
        """Return the grid of a picture whose shorter side is seen as ``side`` pixels.

        Args:
            size: height and width of the picture.
            patch: side of a patch in pixels.
            side: shorter side in pixels; both sides where ``is_square``, as the reference does.
            is_square: give up the aspect of the picture.

        Raises:
            BadRecipe: ``side`` has no room for one patch.
        """
        if side < patch:
            raise BadRecipe(
                f"A side of {side} px has no room for a patch of {patch} px.", f"Choose {patch} px or more."
            )
        shorter = min(size)
        height, width = (side if is_square else min(side * length // shorter, LONGEST * side) for length in size)
        return cls(rows=height // patch, cols=width // patch, patch=patch, resized=(height, width))

    def patch_at(self, y: int, x: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return row and column of the patch that a pixel of a picture of this size belongs to."""
        row = _patch_of(np.array(y), size[0], self.resized[0], self.patch, self.rows)
        col = _patch_of(np.array(x), size[1], self.resized[1], self.patch, self.cols)
        return int(row), int(col)

    def check_patch(self, row: int, col: int) -> None:
        """Refuse a patch that the picture has not.

        Raises:
            BadRecipe: it has none there.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise BadRecipe(
                f"There is no patch at row {row}, column {col}.",
                f"This picture has {self.rows} rows and {self.cols} columns of patches, counted from 0.",
            )

    def spread(self, map_RC: NDArray, size: tuple[int, int]) -> NDArray:
        """Give every pixel of a picture the value of its patch.

        The strip that the network does not see takes the value of the nearest patch.

        Args:
            map_RC: any type; further axes, such as colours, are kept.
            size: height and width of the picture: the original or any resized copy of it.

        Returns:
            Same type, (height, width, ...).
        """
        rows_Y = _patch_of(np.arange(size[0]), size[0], self.resized[0], self.patch, self.rows)
        cols_X = _patch_of(np.arange(size[1]), size[1], self.resized[1], self.patch, self.cols)
        return map_RC[rows_Y[:, None], cols_X]

    def spread_smoothly(self, map_RC: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
        """Interpolate a map between the middles of its patches; never beyond its own range."""
        height, width = size
        seen_Y = max(1, round(height * self.rows * self.patch / self.resized[0]))
        seen_X = max(1, round(width * self.cols * self.patch / self.resized[1]))
        map_RC = map_RC.astype(np.float32)
        smooth_YX = cv2.resize(map_RC, (seen_X, seen_Y), interpolation=cv2.INTER_CUBIC)
        smooth_YX = np.pad(smooth_YX, ((0, height - seen_Y), (0, width - seen_X)), mode="edge")
        return smooth_YX.clip(map_RC.min(), map_RC.max())


def _patch_of(pixels: NDArray[np.intp], n_pixels: int, resized: int, patch: int, n_patches: int) -> NDArray[np.intp]:
    """Find the patches under the middles of pixels along one axis, in whole numbers so that none is rounded."""
    return np.clip((2 * pixels + 1) * resized // (2 * n_pixels * patch), 0, n_patches - 1)


def box_in_patches(box: Box, grid: Grid, size: tuple[int, int]) -> Box:
    """Return a box of pixels of a picture of some height and width in patches."""
    high, wide = (r / n / grid.patch for r, n in zip(grid.resized, size, strict=True))
    top, left, bottom, right = box
    return top * high, left * wide, bottom * high, right * wide


def box_in_pixels(box: Box, grid: Grid, size: tuple[int, int]) -> Box:
    """Return a box of patches in pixels of a picture of some height and width, cut to it."""
    high, wide = (n / r * grid.patch for r, n in zip(grid.resized, size, strict=True))
    top, left, bottom, right = box
    return max(0.0, top * high), max(0.0, left * wide), min(size[0], bottom * high), min(size[1], right * wide)
