"""How a picture is shown to a network: the central square, all of it as a square, or all of it in its own aspect.

What a network sees is uint8 until it is on its device, so that little is carried there.

Letters after a name are its axes:
    B pictures · C channels · Y X pixels · 3 colours, RGB
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.catalogue import IMAGENET_MEAN, IMAGENET_STD
from engine.seeing.grid import Grid
from engine.sets import View

RESIZE = 256 / 224
"""The shorter side before the central crop, in sides of the crop; eval_knn.py."""


def shown(picture_YX3: NDArray[np.uint8], view: View, side: int, patch: int) -> NDArray[np.uint8]:
    """Return a picture as a network is to see it; both sides are whole patches.

    Args:
        picture_YX3: uint8 RGB.
        view: the central square, all of it squeezed to a square, or all of it in its own aspect (at most four to one).
        side: shorter side, px.
        patch: side of a patch, px.
    """
    if view == "crop":
        return central(picture_YX3, side // patch * patch)
    grid = Grid.of(picture_YX3.shape[:2], patch=patch, side=side, is_square=view == "square")
    whole = _resized(picture_YX3, grid.resized)
    return np.ascontiguousarray(whole[: grid.rows * patch, : grid.cols * patch])


def side_to_decode(view: View, side: int) -> int:
    """Return the shorter side that a picture must be decoded at, at least."""
    return round(side * RESIZE) if view == "crop" else side


def central(picture_YX3: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the central square of a picture brought to ``side`` * 256 / 224 on its shorter side, (side, side, 3)."""
    wanted = round(side * RESIZE)
    rows, cols = picture_YX3.shape[:2]
    share = wanted / min(rows, cols)
    small = _resized(picture_YX3, (max(wanted, round(rows * share)), max(wanted, round(cols * share))))
    rows, cols = small.shape[:2]
    top, left = (rows - side) // 2, (cols - side) // 2
    return small[top : top + side, left : left + side]


def shrunk(picture_YX3: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a picture with its shorter side brought down to ``side``; smaller pictures stay as they are."""
    rows, cols = picture_YX3.shape[:2]
    share = side / min(rows, cols)
    if share >= 1:
        return picture_YX3
    return _resized(picture_YX3, (max(1, round(rows * share)), max(1, round(cols * share))))


def _resized(picture_YX3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (rows, cols): means of areas where it gets smaller, cubic where it gets larger."""
    if picture_YX3.shape[:2] == size:
        return picture_YX3
    gets_smaller = size[0] * size[1] < picture_YX3.shape[0] * picture_YX3.shape[1]
    how = cv2.INTER_AREA if gets_smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture_YX3, size[::-1], interpolation=how), np.uint8)


def normalise(
    pictures_BYXC: Tensor,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Return pictures as a backbone wants them: float32 (B, C, Y, X), mean and deviation taken out.

    Args:
        pictures_BYXC: uint8 RGB, on any device; the answer is on the same.
        mean: of each colour on a scale of 0 to 1; ImageNet's.
        std: the same.
    """
    mean_C11, std_C11 = (pictures_BYXC.new_tensor(colour, dtype=torch.float32).view(3, 1, 1) for colour in (mean, std))
    pictures_BCYX = pictures_BYXC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pictures_BCYX.div_(255).sub_(mean_C11).div_(std_C11)


def prepare(picture_YX3: NDArray[np.uint8], grid: Grid, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return a picture as a network takes it: float32 (1, 3, rows * patch, cols * patch).

    Args:
        picture_YX3: uint8 RGB.
        grid: made for this picture's size.
        mean: of each colour on a scale of 0 to 1.
        std: of each colour on the same scale.

    Source: visualize_attention.py: resize, normalise, crop to whole patches at the top left; bicubic
    with antialiasing as in DINOv2's evaluation.
    """
    height, width = grid.resized
    resized = Image.fromarray(picture_YX3).resize((width, height), Image.Resampling.BICUBIC)
    seen_YX3 = np.array(resized, dtype=np.float32)[: grid.rows * grid.patch, : grid.cols * grid.patch]
    normal_YX3 = (seen_YX3 / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(np.ascontiguousarray(normal_YX3.transpose(2, 0, 1)))[None]
