"""From arrays and choices to what Look draws: layers, small maps, the mask and its area. No widgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QImage

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.looking import AttentionSeen, MatchesSeen, Patch, PatchesSeen
from dinoviz.widgets.picture.layers import ImageLayer, Layer, OutlineLayer, PointsLayer, patch_box
from dinoviz.widgets.picture.overlays import (
    COLOUR_MAPS,
    ColourMap,
    between,
    composite_image,
    heat_image,
    mask_area,
    mask_image,
    mask_of,
    outline,
    reaching,
    rgb_image,
    shade_image,
    smoothed,
    span_of,
)
from engine.exporting.edited import Cells, Edits, fine
from engine.questions import Lattice

OUTLINE = (255, 214, 10)
"""Of a mask: seen on skin, grass and cloth; as ``engine.seeing.drawing.BOX_COLOUR``."""
SPOTLIGHT = 0.85
"""Darkness outside of a mask, in parts of the chosen opacity."""
TILE_PX = 96
"""Longest side that a map is interpolated to for a small picture."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskSeen:
    """A mask and how much of the picture it is: in patches, or where it was brushed in cells, as ``lattice`` says."""

    cells_YX: Cells
    lattice: Lattice
    pixels: int
    share: float


def chosen_heads(choices: LookChoices, n_heads: int) -> tuple[int, ...]:
    """Return the chosen heads that a model has; none for the mean of all."""
    return tuple(head for head in choices.heads if head < n_heads)


def head_colour(head: int) -> QColor:
    """Return the colour of a head in a composite: always the same for the same number."""
    palette = theme.category_colours(head + 1)
    return QColor(*palette[head].tolist())


def colour_map(choices: LookChoices) -> ColourMap:
    """Return the chosen colour map."""
    return next((name for name in COLOUR_MAPS if name == choices.colours), COLOUR_MAPS[0])


def attention_layers(seen: AttentionSeen, choices: LookChoices) -> list[Layer]:
    """Return the attention of the mean or of one head as heat, of several heads in their colours."""
    heads = chosen_heads(choices, len(seen.maps_HRC))
    if len(heads) <= 1:
        map_RC = seen.maps_HRC[heads[0]] if heads else seen.maps_HRC.mean(axis=0)
        return [_heat(brought_out(map_RC), seen.lattice, choices, (0.0, 1.0))]
    maps, area = [], QRectF()
    for head in heads:
        map_RC = between(seen.maps_HRC[head], span_of(seen.maps_HRC[head]))
        values, area = reaching(smoothed(map_RC) if choices.is_smooth else map_RC, seen.lattice)
        maps.append(values)
    colours_H3 = theme.category_colours(len(seen.maps_HRC))[list(heads)]
    image = composite_image(maps, colours_H3, opacity=choices.opacity)
    return [ImageLayer(image=image, area=area, is_smooth=choices.is_smooth)]


def brought_out(map_RC: NDArray) -> NDArray[np.float32]:
    """Return attention on a scale of 0 to 1 on which weak attention is seen too: its square root.

    As in the composite of heads of DINO's author (facebookresearch/dino#92). Masks are made of the attention itself.
    """
    return np.sqrt(between(map_RC, span_of(map_RC)))


def _heat(map_RC: NDArray, lattice: Lattice, choices: LookChoices, span: tuple[float, float]) -> ImageLayer:
    values, area = reaching(smoothed(map_RC) if choices.is_smooth else map_RC, lattice)
    image = heat_image(values, colours=colour_map(choices), span=span, opacity=choices.opacity, is_veiled=False)
    return ImageLayer(image=image, area=area, is_smooth=choices.is_smooth)


def mask_of_patches(seen: AttentionSeen, choices: LookChoices) -> NDArray[np.bool_]:
    """Return the mask of the chosen heads as attention gives it."""
    heads = chosen_heads(choices, len(seen.maps_HRC))
    maps_HRC = seen.maps_HRC[list(heads)] if heads else seen.maps_HRC
    of: Literal["mean", "union"] = "union" if choices.is_union and len(maps_HRC) > 1 else "mean"
    return mask_of(maps_HRC, of, choices.keep, choices.smallest)


def mask_seen(seen: AttentionSeen, choices: LookChoices, edits: Edits | None) -> MaskSeen:
    """Return the mask of the chosen heads, with what the person brushed."""
    mask_RC = mask_of_patches(seen, choices)
    if edits is None or edits.is_empty:
        cells_YX, cells = mask_RC, seen.lattice
    else:
        cells_YX, cells = edits.on(seen.lattice).applied(mask_RC), fine(seen.lattice)
    pixels = mask_area(cells_YX, cells)
    return MaskSeen(cells_YX, cells, pixels, pixels / (cells.picture[0] * cells.picture[1]))


def mask_layers(mask: MaskSeen, choices: LookChoices) -> list[Layer]:
    """Return a mask as light on its inside or as a tint of it, with its outline."""
    cells_YX, area = reaching(mask.cells_YX, mask.lattice)
    if choices.is_spotlight:
        image = shade_image(cells_YX, SPOTLIGHT * choices.opacity)
    else:
        image = mask_image(cells_YX, OUTLINE, choices.opacity / 2)
    rows, cols = cells_YX.shape
    line = OutlineLayer(path=outline(cells_YX), area=area, cells=(cols, rows), colour=QColor(*OUTLINE))
    return [ImageLayer(image=image, area=area, is_smooth=False), line]


def colour_layers(seen: PatchesSeen, choices: LookChoices) -> list[Layer]:
    """Return the colours of the patches of the first picture."""
    return [_colours(seen.arrays[0], seen.lattices[0], choices)]


def _colours(colours_RC3: NDArray, lattice: Lattice, choices: LookChoices) -> ImageLayer:
    values, area = reaching(colours_RC3, lattice)
    image = rgb_image(values, opacity=choices.opacity)
    return ImageLayer(image=image, area=area, is_smooth=choices.is_smooth)


def likeness_span(seen: PatchesSeen, patch: Patch) -> tuple[float, float]:
    """Return the least and the greatest cosine of all pictures, but for that of the patch with itself."""
    arrays = list(seen.arrays)
    if seen.source is not None:
        arrays[seen.source] = arrays[seen.source].copy()
        arrays[seen.source][patch] = np.nan
    values = np.concatenate([array.ravel() for array in arrays])
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def likeness_layers(seen: PatchesSeen, choices: LookChoices, patch: Patch) -> list[Layer]:
    """Return how alike the patches of the first picture are to one of them."""
    return [_heat(seen.arrays[0], seen.lattices[0], choices, likeness_span(seen, patch))]


def matches_layers(seen: MatchesSeen) -> tuple[list[Layer], list[Layer], list[tuple[QPointF, QPointF, QColor]]]:
    """Return the points on the first and on the second picture, and the lines that join them."""
    order = np.lexsort((seen.table_M5[:, 1], seen.table_M5[:, 0]))
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order))
    # Hues go over the first picture from top to bottom, so that crossing lines can be told apart.
    colours = [QColor.fromHsvF(0.92 * rank / max(1, len(order)), 0.75, 1.0) for rank in ranks]
    first = [patch_box(seen.lattice, (int(row), int(col))).center() for row, col in seen.table_M5[:, :2]]
    second = [patch_box(seen.other, (int(row), int(col))).center() for row, col in seen.table_M5[:, 2:4]]
    lines = list(zip(first, second, colours, strict=True))
    return [PointsLayer(points=first, colours=colours)], [PointsLayer(points=second, colours=colours)], lines


def head_images(seen: AttentionSeen, choices: LookChoices) -> list[tuple[QImage, tuple[float, float]]]:
    """Return the small maps of the mean and of every head, and how far each reaches; see ``Tile.reach``."""
    maps = [seen.maps_HRC.mean(axis=0), *seen.maps_HRC] if len(seen.maps_HRC) > 1 else list(seen.maps_HRC)
    return [_small(brought_out(map_RC), seen.lattice, choices, (0.0, 1.0)) for map_RC in maps]


def _small(
    map_RC: NDArray, lattice: Lattice, choices: LookChoices, span: tuple[float, float], opacity: float = 1.0
) -> tuple[QImage, tuple[float, float]]:
    values, area = reaching(smoothed(map_RC, TILE_PX) if choices.is_smooth else map_RC, lattice)
    image = heat_image(values, colours=colour_map(choices), span=span, opacity=opacity, is_veiled=opacity == 1)
    return image, _reach(area, lattice)


def _reach(area: QRectF, lattice: Lattice) -> tuple[float, float]:
    return area.width() / lattice.picture[1], area.height() / lattice.picture[0]


def small_images(
    seen: PatchesSeen, choices: LookChoices, patch: Patch | None
) -> Sequence[tuple[QImage, tuple[float, float]]]:
    """Return what lies over each of several pictures, small: colours, or likeness to one patch on one scale."""
    if seen.arrays[0].ndim == 3:
        layers = (_colours(array, lattice, choices) for array, lattice in zip(seen.arrays, seen.lattices, strict=True))
        return [
            (layer.image, _reach(layer.area, lattice)) for layer, lattice in zip(layers, seen.lattices, strict=True)
        ]
    span = likeness_span(seen, patch or (0, 0))
    return [
        _small(array, lattice, choices, span, choices.opacity)
        for array, lattice in zip(seen.arrays, seen.lattices, strict=True)
    ]
