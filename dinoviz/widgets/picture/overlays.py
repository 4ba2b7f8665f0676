"""What lies over a picture: maps in colours, masks of attention, their outlines and areas; arrays in, QImage out.

The arithmetic of masks is that of ``engine.seeing.masks``, in NumPy alone, so that a slider needs no question: the
service sends the attention of all heads once, and all that is made of them is made here. Nothing is drawn on a widget.

Letters after a name are its axes:
    H heads · P patches · R C rows and columns of patches · Y X pixels · L levels of a colour map · 3 colours, RGB
"""

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QImage, QPainterPath, QPolygonF

from engine.questions import Lattice

ColourMap = Literal["viridis", "cividis", "inferno", "magma", "plasma", "grey"]
COLOUR_MAPS: tuple[ColourMap, ...] = get_args(ColourMap)
Colour = tuple[int, int, int]

KNOTS: dict[str, str] = {
    "viridis": "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e"
    "21918c1f978b1f9f8821a68527ad8131b57b3dbc744cc26c5cc8636ece5881d34d95d840aadc32c0df25d5e21aeae51afde725",
    "cividis": "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f7073767676"
    "7d7c788381798b8778928d789a9376a29975aaa073b3a670bbad6dc3b369ccba64d4c15fddc858e6d051efd748f8df3cfee838",
    "inferno": "0000040403120b0724150b37210c4a2f0a5b3d09654a0c6b57106e64156e71196e7d1e6d8a226a972766a32c61b0315b"
    "bc3754c63d4dd04545da4e3ce35933eb6429f1711ff67e14f98c0afb9b06fcaa0ffbba1ff9c932f5d949f2e865f3f586fcffa4",
    "magma": "0000040303120a0822130d341d114729115a36106b440f7651127c5d177f6a1c81762181832681902a819c2e7faa337d"
    "b73779c23b75cf4070db476ae55064ee5b5ef4695cf9785dfb8761fd9668fea571feb47bfec287fed194fde0a1fceeb0fcfdbf",
    "plasma": "0d08872206903105973f049c4c02a15901a56600a77201a87e03a88a09a59511a1a01a9caa2395b32c8ebc3587c43e7f"
    "cc4778d24f71d9586adf6263e56b5deb7556f07f4ff48948f89441fb9f3afdab33feb72dfdc328fcd025f9dd25f5eb27f0f921",
    "grey": "000000ffffff",
}
"""Colours at even steps, as hex; between them lies a straight line. Of matplotlib's ``_cm_listed.py`` (CC0; van der
Walt and Smith 2015; cividis: Nuñez, Anderton and Renslow 2018), at 33 of 256 levels; no other is missed by more
than 6."""
ROUNDING = 1e-9
"""Slack of the sum, in float64; as ``engine.seeing.masks.ROUNDING``."""
HEAD_THRESHOLD = 0.2
HEAD_OPACITY = 0.5
"""Least attention shown in a composite of heads and opacity of the most; as ``engine.seeing.drawing``, whose source is
the author of DINO's fig. 3 in facebookresearch/dino#92."""
SMOOTH_PX = 384
"""Longest side of a map that is interpolated: the rest of the way to the screen is bilinear and cannot be told."""
CUBIC = -0.75
"""Sharpness of the cubic that interpolates; that of ``cv2.INTER_CUBIC``, which the engine's drawings use."""
CUT = 0.01
"""Share of the patches that may be brighter than the last colour: a few that take all the attention, as networks have
them (Darcet et al. 2023), would leave the rest of the map dark."""
SOFTEST = 0.4
"""Share of the opacity that the least of a map has, so that little of the picture is veiled where nothing is."""


@functools.cache
def colour_table(name: ColourMap) -> NDArray[np.uint8]:
    """Return the 256 colours of a map, uint8 (256, 3)."""
    knots = np.frombuffer(bytes.fromhex(KNOTS[name]), np.uint8).reshape(-1, 3)
    places = np.linspace(0, 255, len(knots)).round()
    columns = [np.interp(np.arange(256), places, knots[:, axis]) for axis in range(3)]
    return np.stack(columns, axis=1).round().astype(np.uint8)


def between(values: NDArray, span: tuple[float, float] | None = None) -> NDArray[np.float32]:
    """Scale to 0..1 between the values of ``span``, or the least and the greatest; all 0 where they are one."""
    low, high = span or (float(values.min()), float(values.max()))
    if high <= low:
        return np.zeros(values.shape, np.float32)
    return ((values.astype(np.float32) - np.float32(low)) / np.float32(high - low)).clip(0, 1)


def smoothed(map_RC: NDArray, longest_px: int = SMOOTH_PX) -> NDArray[np.float32]:
    """Interpolate a map between the middles of its patches, cubic, never beyond its own range.

    Further axes, such as colours, are kept. Its longer side becomes ``longest_px`` or a little less.
    """
    rows, cols = map_RC.shape[:2]
    times = max(1, longest_px // max(rows, cols))
    down_YR, across_XC = _cubic(rows, rows * times), _cubic(cols, cols * times)
    values = map_RC.astype(np.float32)
    smooth = np.tensordot(across_XC, np.tensordot(down_YR, values, axes=(1, 0)), axes=(1, 1)).swapaxes(0, 1)
    return np.ascontiguousarray(smooth.clip(values.min(), values.max()))


@functools.lru_cache(maxsize=32)
def _cubic(n: int, n_out: int) -> NDArray[np.float32]:
    """Return the weights of ``n`` values in each of ``n_out`` between their middles; the outermost go on for ever."""
    places = (np.arange(n_out) + 0.5) * n / n_out - 0.5
    first = np.floor(places).astype(np.intp)
    weights = np.zeros((n_out, n), np.float32)
    for step in (-1, 0, 1, 2):
        away = np.abs(places - (first + step))
        near = ((CUBIC + 2) * away - (CUBIC + 3)) * away * away + 1
        far = ((CUBIC * away - 5 * CUBIC) * away + 8 * CUBIC) * away - 4 * CUBIC
        np.add.at(weights, (np.arange(n_out), (first + step).clip(0, n - 1)), np.where(away <= 1, near, far))
    return weights


def heat_image(
    map_RC: NDArray,
    *,
    colours: ColourMap = "viridis",
    span: tuple[float, float] | None = None,
    opacity: float = 1.0,
    is_veiled: bool = True,
) -> QImage:
    """Return a map in colours, a pixel a value, premultiplied.

    Args:
        map_RC: one value a patch, or an interpolated map.
        colours: name of the colour map.
        span: values of the first and the last colour; the map's own where absent.
        opacity: of the greatest value, 0 to 1.
        is_veiled: all is as opaque; otherwise little values leave more of the picture to be seen.
    """
    levels_RC = (between(map_RC, span) * 255 + 0.5).astype(np.uint8)
    return _image_of_levels(levels_RC, _premultiplied_table(colours, round(opacity, 3), is_veiled))


@functools.lru_cache(maxsize=64)
def _premultiplied_table(colours: ColourMap, opacity: float, is_veiled: bool) -> NDArray[np.uint32]:
    """Return the 256 colours of a map as ARGB, premultiplied."""
    alpha_L = np.full(256, opacity) if is_veiled else opacity * (SOFTEST + (1 - SOFTEST) * np.linspace(0, 1, 256))
    return argb(colour_table(colours), alpha_L)


def argb(colours_3: NDArray, alpha: NDArray) -> NDArray[np.uint32]:
    """Return premultiplied ARGB of colours (..., 3), 0 to 255, and opacities (...), 0 to 1."""
    parts = (np.asarray(colours_3) * alpha[..., None] + 0.5).astype(np.uint32)
    opaque = (alpha * 255 + 0.5).astype(np.uint32)
    return opaque << 24 | parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]


def _image_of_levels(levels_RC: NDArray[np.uint8], table_L: NDArray[np.uint32]) -> QImage:
    return image_of_argb(table_L[levels_RC])


def image_of_argb(argb_RC: NDArray[np.uint32]) -> QImage:
    """Return premultiplied ARGB as an image of its own memory."""
    rows, cols = argb_RC.shape
    data = np.ascontiguousarray(argb_RC)
    return QImage(data.data, cols, rows, 4 * cols, QImage.Format.Format_ARGB32_Premultiplied).copy()


def image_of_rgb(colours_YX3: NDArray[np.uint8]) -> QImage:
    """Return opaque colours as an image of its own memory, of the format that is painted quickest."""
    rows, cols = colours_YX3.shape[:2]
    data = np.ascontiguousarray(colours_YX3)
    return QImage(data.data, cols, rows, 3 * cols, QImage.Format.Format_RGB888).convertToFormat(
        QImage.Format.Format_RGB32
    )


def rgb_image(colours_RC3: NDArray[np.uint8], *, opacity: float = 1.0, blank_is_clear: bool = True) -> QImage:
    """Return colours of patches, a pixel a patch, premultiplied; what is black, being no foreground, may be clear."""
    alpha_RC = np.full(colours_RC3.shape[:2], opacity)
    if blank_is_clear:
        alpha_RC = np.where(colours_RC3.any(axis=-1), alpha_RC, 0.0)
    return image_of_argb(argb(colours_RC3, alpha_RC))


def composite_image(maps_HRC: Sequence[NDArray], colours_H3: NDArray, *, opacity: float = 1.0) -> QImage:
    """Return what several heads look at, one colour a head, later ones above; premultiplied.

    Each is on its own scale of 0 to 1; what is below ``HEAD_THRESHOLD`` is clear. As ``engine look attention`` draws
    its composite, with ``opacity`` beside its own.
    """
    shape = maps_HRC[0].shape
    colour_RC3, clear_RC = np.zeros((*shape, 3)), np.ones(shape)
    for map_RC, colour_3 in zip(maps_HRC, colours_H3, strict=True):
        levels_RC = between(map_RC)
        alpha_RC = HEAD_OPACITY * np.sqrt(levels_RC) * (levels_RC > HEAD_THRESHOLD)
        alpha_RC = np.minimum(1, alpha_RC * 2 * opacity)
        colour_RC3 = colour_RC3 * (1 - alpha_RC)[..., None] + np.asarray(colour_3) * alpha_RC[..., None]
        clear_RC *= 1 - alpha_RC
    parts = (colour_RC3 + 0.5).astype(np.uint32)
    opaque = ((1 - clear_RC) * 255 + 0.5).astype(np.uint32)
    return image_of_argb(opaque << 24 | parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2])


def mask_image(mask_RC: NDArray[np.bool_], colour: Colour, opacity: float) -> QImage:
    """Return the inside of a mask in one colour, a pixel a patch, premultiplied; the rest is clear."""
    table = argb(np.array([[0, 0, 0], colour]), np.array([0.0, opacity]))
    return image_of_argb(table[mask_RC.astype(np.uint8)])


def shade_image(mask_RC: NDArray[np.bool_], opacity: float) -> QImage:
    """Return black where no mask is, so that what is masked stands out; premultiplied."""
    return mask_image(~mask_RC, (0, 0, 0), opacity)


def attention_mask(attention_HP: NDArray, keep: float) -> NDArray[np.bool_]:
    """Return, per head, the smallest set of most-attended patches holding ``keep`` of the attention.

    The same, to the patch, as ``engine.seeing.masks.attention_mask``, which has the source.

    Args:
        attention_HP: attention to patches, not negative. Patches may also lie on two axes, (H, rows, cols).
        keep: share of the attention, 0 < keep <= 1.
    """
    if keep >= 1:
        return np.ones(attention_HP.shape, np.bool_)
    shares_HP = _shares(attention_HP.reshape(len(attention_HP), -1))
    order_HP = np.argsort(-shares_HP, axis=1, kind="stable")
    sorted_HP = np.take_along_axis(shares_HP, order_HP, axis=1)
    held_before_HP = sorted_HP.cumsum(axis=1) - sorted_HP
    kept_HP = np.empty(shares_HP.shape, np.bool_)
    np.put_along_axis(kept_HP, order_HP, held_before_HP < keep - ROUNDING, axis=1)
    return kept_HP.reshape(attention_HP.shape)


def _shares(attention_HP: NDArray) -> NDArray[np.float64]:
    """Scale each head to sum to 1; a head that looks at no patch looks at all alike."""
    attention_HP = attention_HP.astype(np.float64)
    total_H1 = attention_HP.sum(axis=1, keepdims=True)
    even = 1 / attention_HP.shape[1]
    return np.divide(attention_HP, total_H1, out=np.full_like(attention_HP, even), where=total_H1 > 0)


def mask_of(
    maps_HRC: NDArray[np.float32], of: int | Literal["mean", "union"], keep: float, smallest: int
) -> NDArray[np.bool_]:
    """Return the mask of a head, of the mean of heads, or the union of the masks of all; as ``seeing.look.masks_of``.

    Args:
        maps_HRC: attention of the heads it is made of.
        of: which of them, or how they are put together.
        keep: share of the attention, 0 < keep <= 1.
        smallest: connected parts of fewer patches are left out.
    """
    if of == "union":
        masks_HRC = attention_mask(maps_HRC, keep)
        union_RC: NDArray[np.bool_] = np.stack([without_specks(one_RC, smallest) for one_RC in masks_HRC]).any(axis=0)
        return union_RC
    map_RC = maps_HRC.mean(axis=0) if of == "mean" else maps_HRC[of]
    return without_specks(attention_mask(map_RC[None], keep)[0], smallest)


def without_specks(mask_RC: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """Return the mask without its connected parts of fewer than ``smallest`` patches, corners connecting."""
    if smallest <= 1:
        return mask_RC
    parts_RC = connected_parts(mask_RC)
    return mask_RC & (np.bincount(parts_RC.ravel())[parts_RC] >= smallest)


def largest_part(mask_RC: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of a mask, corners connecting; of equals the upper one."""
    parts_RC = connected_parts(mask_RC)
    sizes = np.bincount(parts_RC.ravel())
    sizes[0] = 0  # outside
    return mask_RC & (parts_RC == sizes.argmax())


def connected_parts(mask_RC: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return a number for every connected part of a mask, corners connecting; 0 is outside.

    Every patch points to the least number among its neighbours, and from there to where that points, until nothing
    changes: some ten rounds, however the parts wind.
    """
    rows, cols = mask_RC.shape
    padded = np.zeros((rows + 2, cols + 2), np.intp)
    padded[1:-1, 1:-1] = np.where(mask_RC, np.arange(1, mask_RC.size + 1).reshape(mask_RC.shape), 0)
    points = np.arange(mask_RC.size + 1)
    far = mask_RC.size + 1
    while True:
        padded[1:-1, 1:-1] = points[padded[1:-1, 1:-1]]
        filled = np.where(padded > 0, padded, far)
        across = np.minimum(np.minimum(filled[:, :-2], filled[:, 1:-1]), filled[:, 2:])
        least_RC = np.minimum(np.minimum(across[:-2], across[1:-1]), across[2:])
        here_RC = padded[1:-1, 1:-1]
        is_lower = mask_RC & (least_RC < here_RC)
        if not is_lower.any():
            return here_RC.copy()
        np.minimum.at(points, here_RC[is_lower], least_RC[is_lower])
        while (points[points] != points).any():
            points = points[points]


def outline(mask_RC: NDArray[np.bool_]) -> QPainterPath:
    """Return the outline of a mask, holes included, as closed lines along the edges of patches.

    Its unit is a patch, x to the right and y down; parts that touch at a corner are one line, as they are one part.
    """
    path = QPainterPath()
    for line in _rings(mask_RC):
        path.addPolygon(QPolygonF([QPointF(x, y) for x, y in line]))
        path.closeSubpath()
    return path


EAST, SOUTH, WEST, NORTH = range(4)


def _rings(mask_RC: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Return the corners, (x, y), of each closed line around a mask; inside lies at the right hand."""
    has_edge_VD = _edges(mask_RC)
    cols = mask_RC.shape[1] + 1
    vertices, directions = np.nonzero(has_edge_VD)
    ends = vertices + np.array([1, cols, -1, -cols])[directions]
    turned = np.stack([(directions + turn) % 4 for turn in (3, 0, 1)])  # left first: corners connect
    can = has_edge_VD[ends, turned]
    onward = turned[np.argmax(can, axis=0), np.arange(len(ends))]
    numbers_VD = np.full(has_edge_VD.shape, -1)
    numbers_VD[vertices, directions] = np.arange(len(vertices))
    following = numbers_VD[ends, onward].tolist()
    is_corner = (onward != directions).tolist()
    ys, xs = (axis.tolist() for axis in np.divmod(ends, cols))
    is_walked = [False] * len(following)
    rings = []
    for begin in range(len(following)):
        ring, edge = [], begin
        while not is_walked[edge]:
            is_walked[edge] = True
            if is_corner[edge]:
                ring.append((xs[edge], ys[edge]))
            edge = following[edge]
        if ring:
            rings.append(ring)
    return rings


def _edges(mask_RC: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether an edge of the mask leaves each corner of patches, in reading order, to each of four sides."""
    rows, cols = mask_RC.shape
    padded = np.pad(mask_RC, 1)
    here, up, down = padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1]
    left, right = padded[1:-1, :-2], padded[1:-1, 2:]
    leaves = np.zeros((rows + 1, cols + 1, 4), np.bool_)
    leaves[:-1, :-1, EAST] = here & ~up
    leaves[:-1, 1:, SOUTH] = here & ~right
    leaves[1:, 1:, WEST] = here & ~down
    leaves[1:, :-1, NORTH] = here & ~left
    return leaves.reshape(-1, 4)


def covered(lattice: Lattice) -> QRectF:
    """Return what the patches of a picture cover of it, in its pixels: all but a strip at the right and the bottom."""
    (high, wide), (height, width) = lattice.resized, lattice.picture
    return QRectF(0, 0, lattice.cols * lattice.patch * width / wide, lattice.rows * lattice.patch * height / high)


def reaching(values: NDArray, lattice: Lattice) -> tuple[NDArray, QRectF]:
    """Return values and the area they lie over, so that they reach all of the picture.

    The strip at the right and the bottom that the network does not see takes the value of the nearest patch, as
    everywhere in the engine. Where the area goes beyond the picture, nothing is drawn.

    Args:
        values: some whole number of values a patch along each axis; further axes are kept.
        lattice: of the picture.
    """
    counts, area = (lattice.rows, lattice.cols), covered(lattice)
    # One patch reaches over the strip; of the finer cells of a mask that was brushed, as many as make up a patch.
    beyond = [-(-n // lattice.patch) - count for n, count in zip(lattice.resized, counts, strict=True)]
    more = [(0, n * (size // count)) for n, size, count in zip(beyond, values.shape, counts, strict=False)]
    wide = area.width() * (1 + beyond[1] / lattice.cols)
    high = area.height() * (1 + beyond[0] / lattice.rows)
    return np.pad(values, [*more, *[(0, 0)] * (values.ndim - 2)], mode="edge"), QRectF(0, 0, wide, high)


def span_of(map_RC: NDArray, cut: float = CUT) -> tuple[float, float]:
    """Return the values of the first and the last colour of a map: its least, and what all but a few lie below."""
    low, high = float(map_RC.min()), float(np.quantile(map_RC, 1 - cut))
    return (low, high) if high > low else (low, float(map_RC.max()))


def patch_at(lattice: Lattice, x: float, y: float) -> tuple[int, int] | None:
    """Return row and column of the patch under a place of the picture, in its pixels; None outside of it.

    The strip that the network does not see belongs to the nearest patch, as in ``engine.seeing.grid``.
    """
    height, width = lattice.picture
    if not (0 <= x < width and 0 <= y < height):
        return None
    rows_Y, cols_X = spread_axes(lattice)
    return int(rows_Y[int(y)]), int(cols_X[int(x)])


@functools.lru_cache(maxsize=16)
def spread_axes(lattice: Lattice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row of every row of pixels, and the column of every column; as ``Grid.spread`` of the engine."""
    axes = (
        np.clip((2 * np.arange(n) + 1) * resized // (2 * n * lattice.patch), 0, count - 1)
        for n, resized, count in zip(lattice.picture, lattice.resized, (lattice.rows, lattice.cols), strict=True)
    )
    rows_Y, cols_X = axes
    return rows_Y, cols_X


def mask_pixels(mask_RC: NDArray[np.bool_], lattice: Lattice) -> NDArray[np.bool_]:
    """Return a mask of the picture's size, as the engine's exports have it."""
    rows_Y, cols_X = spread_axes(lattice)
    return mask_RC[rows_Y[:, None], cols_X]


def mask_area(mask_RC: NDArray[np.bool_], lattice: Lattice) -> int:
    """Return how many pixels ``mask_pixels`` would have, without making them."""
    rows_Y, cols_X = spread_axes(lattice)
    high_R = np.bincount(rows_Y, minlength=lattice.rows)
    wide_C = np.bincount(cols_X, minlength=lattice.cols)
    return int(high_R @ mask_RC.astype(np.int64) @ wide_C)
