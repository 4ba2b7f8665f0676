"""The crops DINO trains on: what is drawn for each, and two ways to render them.

``draw_views`` decides everything that is random and touches no pixel; ``render`` touches pixels and
draws nothing. The exact renderer repeats the reference's Pillow operations bit for bit and is the
oracle of the fast one, which runs the same operations in OpenCV, close to Pillow's. Decoding belongs to
``engine.images``, batching to the loader; a loader's workers call ``cv2.setNumThreads(0)`` and run
with ``OMP_NUM_THREADS=1``, since the crops of one picture are too small to share between threads.

Letters after a name are its axes: V views · B crops of one side · Y X pixels · C colours, RGB.

Source: facebookresearch/dino main_dino.py ``DataAugmentationDINO``; facebookresearch/dinov2
``data/augmentations.py``; torchvision ``RandomResizedCrop``, ``ColorJitter`` and its PIL backend.
"""

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from engine.settings import CropSettings
from engine.training.draws import uniforms

Operation = Literal["brightness", "contrast", "saturation", "hue"]
BlurKind = Literal["pillow", "nine taps"]
Pixels = NDArray[np.uint8]

ORDERS: tuple[tuple[Operation, ...], ...] = tuple(
    itertools.permutations(("brightness", "contrast", "saturation", "hue"))
)
ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop; torchvision ``RandomResizedCrop``."""
LOG_ASPECT = (math.log(ASPECT[0]), math.log(ASPECT[1]))
TRIES = 10
"""Boxes tried before the largest central one is taken; the same."""
COLOUR_DRAWS = 11
"""Uniform numbers that decide all but the box of a view."""
DRAWS = COLOUR_DRAWS + 2 + 2 * TRIES
"""Uniform numbers a view has: also two for the box's place and two for each try at its shape."""
GLOBALS = 2
BLUR_SHARES = {"paper": (1.0, 0.1, 0.5), "as_released": (0.0, 0.9, 0.5), "off": (0.0, 0.0, 0.0)}
"""Share of first large, second large and small crops that are blurred.

Source: main_dino.py; DINOv2's ``GaussianBlur`` hands 1 - p to ``RandomApply`` (facebookresearch/dinov3#286).
"""
BLUR_RADII = (0.1, 2.0)
"""Pillow's radius, or the sigma of the nine taps; both references."""
TAPS = 9
"""Kernel of DINOv2's blur; data/transforms.py."""
TAIL = 2.5
"""Sigmas at which the fast renderer cuts its Gaussian; wider is slower and no closer to Pillow."""
SOLARIZE_THRESHOLD = 128
"""main_dino.py ``Solarization``, Pillow's default."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey; ITU-R 601, Pillow's ``convert("L")``."""
SUPERSAMPLE_FROM, HALVE_FROM = 1.1, 2.5
"""Pixels of a box for one of the crop from which the fast renderer averages after, and before, it resizes.

Measured on photos: where each way comes closer to Pillow.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourJitter:
    """Factors of the four colour operations and the order they run in; one switched off is not in it."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[Operation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that was drawn for one crop, in pixels of the upright picture of (rows, cols)."""

    rows: int
    cols: int
    top: int
    left: int
    height: int
    width: int
    side: int
    flip: bool = False
    jitter: ColourJitter | None = None
    grey: bool = False
    blur_radius: float = 0.0
    blur_kind: BlurKind = "pillow"
    solarize: bool = False


class Box(NamedTuple):
    """A rectangle of a picture, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def draw_views(settings: CropSettings, rows: int, cols: int, *, seed: int, epoch: int, sample: int) -> list[View]:
    """Draw the views of one picture: two large ones, then the small ones.

    Each view depends on its index and the arguments only, never on what was drawn before; its
    colours do not depend on the picture's size.

    Args:
        settings: which views, and how strong.
        rows: height of the upright, full picture, at least 1.
        cols: its width, at least 1.
        seed: the run's seed.
        epoch: counts the passes over the pictures.
        sample: the picture's place in the set.
    """
    table = uniforms(GLOBALS + settings.local_crops, DRAWS, seed=seed, epoch=epoch, sample=sample)
    return [_draw_view(settings, index, rows, cols, draws) for index, draws in enumerate(table.tolist())]


def _draw_view(settings: CropSettings, index: int, rows: int, cols: int, draws: list[float]) -> View:
    flip, jitter, *colours, grey, blur, radius, solarize = draws[:COLOUR_DRAWS]
    is_global = index < GLOBALS
    scale = (settings.scale_split, 1.0) if is_global else (settings.scale_min, settings.scale_split)
    top, left, height, width = _draw_box(rows, cols, scale, draws[COLOUR_DRAWS:])
    return View(
        rows=rows,
        cols=cols,
        top=top,
        left=left,
        height=height,
        width=width,
        side=settings.global_side if is_global else settings.local_side,
        flip=flip < settings.flip,
        jitter=_draw_jitter(settings, *colours) if jitter < settings.jitter else None,
        grey=grey < settings.grey,
        blur_radius=_between(BLUR_RADII, radius) if blur < BLUR_SHARES[settings.blur][min(index, GLOBALS)] else 0.0,
        blur_kind="nine taps" if settings.blur == "as_released" else "pillow",
        solarize=index == 1 and solarize < settings.solarize,
    )


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def _draw_jitter(
    settings: CropSettings, order: float, brightness: float, contrast: float, saturation: float, hue: float
) -> ColourJitter:
    """Draw as torchvision's ``ColorJitter``, where an operation of no strength does not run."""
    return ColourJitter(
        brightness=1 + settings.brightness * (2 * brightness - 1),
        contrast=1 + settings.contrast * (2 * contrast - 1),
        saturation=1 + settings.saturation * (2 * saturation - 1),
        hue=settings.hue * (2 * hue - 1),
        order=tuple(name for name in ORDERS[int(order * len(ORDERS))] if getattr(settings, name)),
    )


def _draw_box(rows: int, cols: int, scale: tuple[float, float], draws: list[float]) -> Box:
    """Draw as torchvision's ``RandomResizedCrop.get_params``: uniform in area and in the logarithm of the aspect."""
    down, right, *tries = draws
    for area, aspect in zip(tries[::2], tries[1::2], strict=True):
        pixels = rows * cols * _between(scale, area)
        ratio = math.exp(_between(LOG_ASPECT, aspect))
        width, height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < width <= cols and 0 < height <= rows:
            return Box(int(down * (rows - height + 1)), int(right * (cols - width + 1)), height, width)
    return _central_box(rows, cols)


def _central_box(rows: int, cols: int) -> Box:
    """Return the largest central box whose aspect is allowed; torchvision's fallback."""
    height = min(rows, round(cols / ASPECT[0]))
    width = min(cols, round(rows * ASPECT[1]))
    return Box((rows - height) // 2, (cols - width) // 2, height, width)


def decode_side(views: Sequence[View]) -> int:
    """Return the shorter side, in px, that the decoded picture needs at least.

    Decoded so small, no box has fewer pixels than its crop, unless it had in the full picture already.
    Only for the fast renderer: the exact one wants the full picture.
    """
    shrinking = min(min(view.height, view.width) / view.side for view in views)
    return math.ceil(min(views[0].rows, views[0].cols) / max(1.0, shrinking))


def render_views(picture_YXC: Pixels, views: Sequence[View], settings: CropSettings) -> tuple[Pixels, Pixels]:
    """Render all views of a picture.

    Args:
        picture_YXC: uint8 RGB, upright; the picture the views were drawn for, or a smaller decoding of it.
        views: of ``draw_views``; large ones may be left out where fewer are learnt from.
        settings: the same it was given; names the renderer.

    Returns:
        The large crops (2 or fewer, side, side, 3) and the small ones (n, side, side, 3), uint8.
    """
    exact = settings.renderer == "exact"
    n_large = len(views) - settings.local_crops
    globals_VYXC = np.empty((n_large, settings.global_side, settings.global_side, 3), np.uint8)
    locals_VYXC = np.empty((settings.local_crops, settings.local_side, settings.local_side, 3), np.uint8)
    for crop_YXC, view in zip(itertools.chain(globals_VYXC, locals_VYXC), views, strict=True):
        crop_YXC[:] = render(picture_YXC, view, exact=exact)
    return globals_VYXC, locals_VYXC


def render(picture_YXC: Pixels, view: View, *, exact: bool) -> Pixels:
    """Return one crop, (side, side, 3) uint8 RGB.

    Args:
        picture_YXC: uint8 RGB, upright; the picture the view was drawn for, or a smaller decoding of it.
        view: what was drawn.
        exact: repeat the reference's Pillow operations instead of approaching them with OpenCV.
    """
    top, left, height, width = _box_in(view, *picture_YXC.shape[:2])
    box_YXC = picture_YXC[top : top + height, left : left + width]
    return _render_exact(box_YXC, view) if exact else _render_fast(box_YXC, view)


def _box_in(view: View, rows: int, cols: int) -> Box:
    """Return the view's box in a decoding of (rows, cols), rounded to whole pixels and never empty."""
    top, height = _scaled(view.top, view.height, view.rows, rows)
    left, width = _scaled(view.left, view.width, view.cols, cols)
    return Box(top, left, height, width)


def _scaled(start: int, length: int, full: int, decoded: int) -> tuple[int, int]:
    first = min(round(start * decoded / full), decoded - 1)
    end = max(round((start + length) * decoded / full), first + 1)
    return first, end - first


def _render_exact(box_YXC: Pixels, view: View) -> Pixels:
    crop = Image.fromarray(box_YXC).resize((view.side, view.side), Image.Resampling.BICUBIC)
    if view.flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.jitter:
        for operation in view.jitter.order:
            crop = _adjust_exact(crop, operation, getattr(view.jitter, operation))
    if view.grey:
        crop = crop.convert("L").convert("RGB")
    if view.blur_radius:
        crop = _blur_exact(crop, view.blur_radius, view.blur_kind)
    if view.solarize:
        crop = ImageOps.solarize(crop, SOLARIZE_THRESHOLD)
    return np.asarray(crop)


def _adjust_exact(crop: Image.Image, operation: Operation, factor: float) -> Image.Image:
    match operation:
        case "brightness":
            return ImageEnhance.Brightness(crop).enhance(factor)
        case "contrast":
            return ImageEnhance.Contrast(crop).enhance(factor)
        case "saturation":
            return ImageEnhance.Color(crop).enhance(factor)
        case "hue":
            hue, saturation, value = crop.convert("HSV").split()
            turned = Image.fromarray(np.asarray(hue) + _hue_steps(factor))
            return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _hue_steps(factor: float) -> np.uint8:
    """Return the turn of the colour wheel in steps of 8 bits, which wrap; torchvision ``adjust_hue``."""
    return np.uint8(int(factor * 255) % 256)


def _blur_exact(crop: Image.Image, radius: float, kind: BlurKind) -> Image.Image:
    if kind == "pillow":
        return crop.filter(ImageFilter.GaussianBlur(radius))
    kernel = torch.from_numpy(_gaussian(TAPS, radius))
    kernels_CYX = torch.outer(kernel, kernel).expand(3, 1, TAPS, TAPS)
    crop_CYX = torch.from_numpy(np.array(crop, np.float32)).permute(2, 0, 1)
    framed_CYX = F.pad(crop_CYX, [TAPS // 2] * 4, mode="reflect")
    blurred_YXC = F.conv2d(framed_CYX, kernels_CYX, groups=3).permute(1, 2, 0)
    return Image.fromarray(blurred_YXC.round().byte().numpy())


def _gaussian(taps: int, sigma: float) -> NDArray[np.float32]:
    """Return the kernel, computed in single precision as torchvision does."""
    offsets = np.arange(taps, dtype=np.float32) - taps // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _render_fast(box_YXC: Pixels, view: View) -> Pixels:
    crop_YXC = _resize_fast(box_YXC, view.side)
    if view.flip:
        crop_YXC = cv2.flip(crop_YXC, 1)
    if view.jitter:
        for operation in view.jitter.order:
            crop_YXC = _adjust_fast(crop_YXC, operation, getattr(view.jitter, operation))
    if view.grey:
        crop_YXC = cv2.cvtColor(cv2.cvtColor(crop_YXC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if view.blur_radius:
        crop_YXC = _blur_fast(crop_YXC, view.blur_radius, view.blur_kind)
    if view.solarize:
        # Inverting from half of 255 on leaves the darker of a value and its inverse.
        crop_YXC = cv2.min(crop_YXC, cv2.bitwise_not(crop_YXC))
    return crop_YXC


def _resize_fast(box_YXC: Pixels, side: int) -> Pixels:
    """Resize close to Pillow's antialiased bicubic, in a fifth of its time.

    OpenCV's bicubic is not antialiased: it takes four pixels each way, however much it shrinks. So it is asked
    for more pixels than the crop has, which are then averaged; that comes closer to Pillow than ``INTER_AREA``.
    """
    while min(box_YXC.shape[:2]) >= HALVE_FROM * side:
        box_YXC = _halved(box_YXC)
    if max(box_YXC.shape[:2]) <= SUPERSAMPLE_FROM * side:
        return cv2.resize(box_YXC, (side, side), interpolation=cv2.INTER_CUBIC)
    dense_YXC = cv2.resize(box_YXC, (2 * side, 2 * side), interpolation=cv2.INTER_CUBIC)
    return _halved(dense_YXC)


def _halved(picture_YXC: Pixels) -> Pixels:
    rows, cols = picture_YXC.shape[0] // 2, picture_YXC.shape[1] // 2
    # An even number of pixels keeps INTER_AREA on its quick path.
    return cv2.resize(picture_YXC[: 2 * rows, : 2 * cols], (cols, rows), interpolation=cv2.INTER_AREA)


def _adjust_fast(crop_YXC: Pixels, operation: Operation, factor: float) -> Pixels:
    """Blend with what Pillow's enhancers blend with: black, the mean grey or the grey picture."""
    match operation:
        case "brightness":
            return cv2.transform(crop_YXC, _blend(factor))
        case "contrast":
            mean_grey = round(sum(map(operator.mul, GREY, cv2.mean(crop_YXC))))
            return cv2.transform(crop_YXC, _blend(factor, offset=(1 - factor) * mean_grey))
        case "saturation":
            return cv2.transform(crop_YXC, _blend(factor, grey=1 - factor))
        case "hue":
            return _turn_hue(crop_YXC, factor)


def _blend(own: float, *, grey: float = 0.0, offset: float = 0.0) -> NDArray[np.float32]:
    """Return the 3 x 4 matrix that gives ``own`` times each colour, ``grey`` times the grey, and an offset."""
    red, green, blue = (grey * weight for weight in GREY)
    # Pillow cuts fractions off where OpenCV rounds.
    cut = offset - 0.5
    return np.array(
        ((own + red, green, blue, cut), (red, own + green, blue, cut), (red, green, own + blue, cut)), np.float32
    )


def _turn_hue(crop_YXC: Pixels, factor: float) -> Pixels:
    hsv_YXC = cv2.cvtColor(crop_YXC, cv2.COLOR_RGB2HSV_FULL)
    hsv_YXC[..., 0] += _hue_steps(factor)
    return cv2.cvtColor(hsv_YXC, cv2.COLOR_HSV2RGB_FULL)


def _blur_fast(crop_YXC: Pixels, radius: float, kind: BlurKind) -> Pixels:
    """Convolve with a Gaussian; Pillow's three box blurs of the same radius approach it too."""
    if kind == "pillow":
        kernel, border = _gaussian(2 * math.ceil(TAIL * radius) + 1, radius), cv2.BORDER_REPLICATE
    else:
        kernel, border = _gaussian(TAPS, radius), cv2.BORDER_REFLECT_101
    # Twice as quick as GaussianBlur, whose 8-bit path is integer.
    return cv2.sepFilter2D(crop_YXC, -1, kernel, kernel, borderType=border)
