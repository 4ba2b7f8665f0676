"""Maps and masks as pictures: heat maps, overlays, the composite of heads, contact sheets.

Arrays in, arrays out: uint8 RGB, height before width. ``write_png`` is the only one that
touches a file.

Letters after a name are its axes:
    Y X pixels · R C rows and columns of patches · H heads · 3 colours, RGB
"""

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from engine.provenance import KEY
from engine.seeing.grid import Box, Grid
from engine.seeing.masks import contours
from engine.store import write_atomically

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
ColourMap = Literal["viridis", "inferno", "magma", "plasma", "turbo", "grey"]

COLOUR_MAPS: dict[ColourMap, int | None] = {
    "viridis": cv2.COLORMAP_VIRIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "plasma": cv2.COLORMAP_PLASMA,
    "turbo": cv2.COLORMAP_TURBO,
    "grey": None,
}
HEAD_COLOURS: tuple[Colour, ...] = (
    (0, 160, 215),
    (220, 55, 60),
    (245, 180, 0),
    (10, 120, 190),
    (40, 150, 100),
    (135, 75, 145),
)
"""Colours of the heads in DINO fig. 3; its author in facebookresearch/dino#92."""
BOX_COLOUR: Colour = (255, 214, 10)
INK: Colour = (38, 38, 42)
HEAD_THRESHOLD = 0.2
HEAD_OPACITY = 0.5
"""Least attention shown, on each head's own scale of 0 to 1, and opacity of the most; the same source."""
SUBPIXEL_BITS = 4
"""cv2 draws at sixteenths of a pixel."""


def heatmap(
    map_RC: NDArray,
    grid: Grid,
    size: tuple[int, int],
    *,
    colours: ColourMap = "viridis",
    span: tuple[float, float] | None = None,
    is_smooth: bool = False,
) -> Picture:
    """Return a map in colours, of a picture's size.

    Args:
        map_RC: one value a patch.
        grid: where the patches lie.
        size: height and width of the result: the picture's, or any copy's of it.
        colours: name of the colour map.
        span: values of the first and the last colour, to compare maps; the map's own where absent.
        is_smooth: interpolate between the patches instead of showing them as squares.
    """
    low, high = span or (float(map_RC.min()), float(map_RC.max()))
    levels_RC = _between(map_RC, low, high)
    levels_YX = grid.spread_smoothly(levels_RC, size) if is_smooth else grid.spread(levels_RC, size)
    grey_YX = (levels_YX * 255).round().astype(np.uint8)
    table = COLOUR_MAPS[colours]
    if table is None:
        return np.repeat(grey_YX[..., None], 3, axis=2)
    return cv2.cvtColor(cv2.applyColorMap(grey_YX, table), cv2.COLOR_BGR2RGB)


def _between(values: NDArray, low: float, high: float) -> NDArray[np.float32]:
    """Scale to 0..1; all 0 where there is nothing between."""
    if high <= low:
        return np.zeros(values.shape, dtype=np.float32)
    return ((values.astype(np.float32) - low) / (high - low)).clip(0, 1)


def overlay(picture_YX3: Picture, drawn_YX3: Picture, opacity: float = 0.6) -> Picture:
    """Lay a drawing of the same size over a picture."""
    return cv2.addWeighted(picture_YX3, 1 - opacity, drawn_YX3, opacity, 0)


def mask_overlay(
    picture_YX3: Picture,
    mask_YX: NDArray[np.bool_],
    *,
    colour: Colour = HEAD_COLOURS[0],
    opacity: float = HEAD_OPACITY,
    has_contour: bool = True,
) -> Picture:
    """Tint the pixels of a mask and draw its outline, as thick as the picture's size asks for."""
    drawn_YX3 = picture_YX3.copy()
    drawn_YX3[mask_YX] = (picture_YX3[mask_YX] * (1 - opacity) + np.array(colour) * opacity).round()
    if has_contour:
        thickness = max(1, round(max(mask_YX.shape) / 400))
        cv2.drawContours(drawn_YX3, contours(mask_YX), -1, colour, thickness)
    return drawn_YX3


def boxed(picture_YX3: Picture, box: Box, *, colour: Colour = BOX_COLOUR) -> Picture:
    """Outline a box, in pixels of this picture, with a dark line around the bright one so that it is seen anywhere."""
    drawn_YX3 = picture_YX3.copy()
    top, left, bottom, right = (round(edge) for edge in box)
    thickness = max(2, round(max(picture_YX3.shape[:2]) / 200))
    for line, width in ((INK, thickness + 2), (colour, thickness)):
        cv2.rectangle(drawn_YX3, (left, top), (right, bottom), line, width, cv2.LINE_AA)
    return drawn_YX3


def composite(picture_YX3: Picture, maps_HRC: NDArray, grid: Grid, heads: Sequence[int] | None = None) -> Picture:
    """Return a picture tinted by what its heads look at, one colour a head.

    Args:
        picture_YX3: uint8 RGB.
        maps_HRC: attention of all heads.
        grid: where the patches lie.
        heads: heads to show, in the order of ``HEAD_COLOURS``; the first six where absent.

    Source: DINO fig. 3 and its author in facebookresearch/dino#92.
    """
    drawn_YX3 = picture_YX3.astype(np.float32)
    shown = range(min(len(maps_HRC), len(HEAD_COLOURS))) if heads is None else heads
    for i, head in enumerate(shown):
        levels_RC = _between(maps_HRC[head], float(maps_HRC[head].min()), float(maps_HRC[head].max()))
        opacity_RC = HEAD_OPACITY * np.sqrt(levels_RC) * (levels_RC > HEAD_THRESHOLD)
        opacity_YX1 = grid.spread(opacity_RC, picture_YX3.shape[:2])[..., None]
        colour_3 = np.float32(HEAD_COLOURS[i % len(HEAD_COLOURS)])
        drawn_YX3 += opacity_YX1 * (colour_3 - drawn_YX3)
    return drawn_YX3.round().astype(np.uint8)


def within(picture_YX3: Picture, longest: int) -> Picture:
    """Return the picture with its longer side at most ``longest`` pixels; never enlarged."""
    height, width = picture_YX3.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture_YX3
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture_YX3, size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture of a sheet with the words under it; ``swatch`` puts a dot of its colour before them."""

    picture_YX3: Picture
    caption: str
    swatch: Colour | None = None


PAPER: Colour = (250, 250, 249)
PALE_INK: Colour = (120, 120, 126)
MARGIN_PX = 28
GAP_PX = 16
CAPTION_PX = 30
HEADING_PX = 60
TITLE_PX = 20
TEXT_PX = 14
PAGE_ASPECT = 1.6
"""Look of a sheet: colours, sizes, and width over height where the number of columns is free."""


def sheet(
    tiles: Sequence[Tile],
    *,
    title: str,
    subtitle: str = "",
    columns: int | None = None,
    side_px: int = 260,
    is_square: bool = False,
) -> Picture:
    """Return tiles side by side on one page, with captions and a heading.

    Args:
        tiles: in reading order; each is fitted into a cell, and a row is as high as needed.
        title: first line.
        subtitle: second line.
        columns: tiles in a row; as square a page as possible where absent.
        side_px: longer side of a cell.
        is_square: cells are square; they have the shape of the first picture otherwise.
    """
    cell = (side_px, side_px) if is_square else fitted(tiles[0].picture_YX3, side_px, side_px).shape[:2]
    under_Y, step_X = CAPTION_PX + GAP_PX, cell[1] + GAP_PX
    columns = min(columns or round(math.sqrt(len(tiles) * PAGE_ASPECT * (cell[0] + under_Y) / step_X)), len(tiles)) or 1
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    heights = [max(fitted(tile.picture_YX3, *cell).shape[0] for tile in row) for row in rows]
    height = MARGIN_PX + HEADING_PX + sum(heights) + len(rows) * under_Y
    page = Image.new("RGB", (2 * MARGIN_PX + columns * step_X - GAP_PX, height), PAPER)
    room = page.width - 2 * MARGIN_PX
    write_line(page, title, (MARGIN_PX, MARGIN_PX), TITLE_PX, INK, room)
    write_line(page, subtitle, (MARGIN_PX, MARGIN_PX + TITLE_PX + 8), TEXT_PX, PALE_INK, room)
    top = MARGIN_PX + HEADING_PX
    for row, row_height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _place(page, tile, (MARGIN_PX + column * step_X, top), (row_height, cell[1]))
        top += row_height + under_Y
    return np.array(page)


def fitted(picture_YX3: Picture, height: int, width: int) -> Picture:
    """Return a picture as large as fits into height and width, its aspect kept; at least a pixel either way."""
    scale = min(height / picture_YX3.shape[0], width / picture_YX3.shape[1])
    size = (max(1, round(picture_YX3.shape[1] * scale)), max(1, round(picture_YX3.shape[0] * scale)))
    return cv2.resize(picture_YX3, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def square(picture_YX3: Picture, side: int) -> Picture:
    """Return the central square of a picture in another size."""
    height, width = picture_YX3.shape[:2]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    cut_YX3 = np.ascontiguousarray(picture_YX3[top : top + shorter, left : left + shorter])
    return cv2.resize(cut_YX3, (side, side), interpolation=cv2.INTER_AREA if shorter > side else cv2.INTER_CUBIC)


def _place(page: Image.Image, tile: Tile, corner: tuple[int, int], cell: tuple[int, int]) -> None:
    """Put a tile in the middle of its cell, whose top left is at ``corner`` (x, y), and its caption below."""
    picture = Image.fromarray(fitted(tile.picture_YX3, *cell))
    left, top = corner
    page.paste(picture, (left + (cell[1] - picture.width) // 2, top + (cell[0] - picture.height) // 2))
    baseline = top + cell[0] + 8
    indent = 0
    if tile.swatch:
        indent = TEXT_PX + 4
        middle = baseline + TEXT_PX // 2 + 1
        ImageDraw.Draw(page).ellipse((left, middle - 5, left + 10, middle + 5), fill=tile.swatch)
    write_line(page, tile.caption, (left + indent, baseline), TEXT_PX, INK, cell[1] - indent)


def write_line(
    page: Image.Image, line: str, corner: tuple[int, int], size_px: int, colour: Colour, room_px: float
) -> None:
    """Write one line, cut to the room with an ellipsis."""
    font = ImageFont.load_default(size_px)
    ImageDraw.Draw(page).text(corner, shortened(printable(line), font, room_px), colour, font)


def shortened(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: float) -> str:
    """Return a line cut to the room with an ellipsis."""
    shown = line
    while shown and font.getlength(shown) > room_px:
        line = line[:-1]
        shown = f"{line}…" if line else ""
    return shown


def printable(line: str) -> str:
    """Take accents off and put dots for other letters: Pillow's own font has little but ASCII."""
    plain = (letter for letter in unicodedata.normalize("NFKD", line) if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() and letter.isprintable() else "·" for letter in plain)


def write_png(path: Path, picture: NDArray[np.uint8], about: Mapping[str, object] | None = None) -> None:
    """Write a PNG, whole or not at all: RGB from (height, width, 3), grey from (height, width).

    Args:
        path: in an existing folder.
        picture: uint8.
        about: where it comes from; kept in the file as JSON, in a text named ``provenance.KEY``.

    Raises:
        DiskFull: there is no room.
    """
    image = Image.fromarray(picture)
    text = png_text(about) if about else None
    write_atomically(path, lambda file: image.save(file, format="PNG", pnginfo=text))


def png_text(about: Mapping[str, object]) -> PngInfo:
    """Return the text of a PNG that says where it comes from."""
    text = PngInfo()
    text.add_itxt(KEY, json.dumps(about))
    return text
