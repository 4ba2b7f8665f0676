"""Drawings of which patches are alike: places marked on a picture, lines between two pictures, a scale of colours.

Arrays in, arrays out: uint8 RGB, height before width.

Letters after a name are its axes:
    Y X pixels · M matches · 3 colours, RGB
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.seeing.drawing import (
    COLOUR_MAPS,
    GAP_PX,
    INK,
    MARGIN_PX,
    PAPER,
    SUBPIXEL_BITS,
    TEXT_PX,
    Colour,
    ColourMap,
    Picture,
    fitted,
)

PANEL_PX = (620, 900)
"""Height and width that each of two pictures side by side is fitted into."""
OUTLINE: Colour = (20, 20, 24)
LINE_PX = 2
DOT_PX = 5
CALM = 0.85
"""Share of its brightness that a picture under lines keeps."""
HUE_STEP = 0.381966
"""Golden ratio: hues one after another differ most; the colours of any number of lines do."""
BAR_PX = (14, 260)
"""Height and width of a scale."""


def pair(first_YX3: Picture, second_YX3: Picture) -> tuple[Picture, list[tuple[int, int, int]]]:
    """Return two pictures side by side, and where each lies: left, top, width in pixels."""
    height, width = PANEL_PX
    panels = [fitted(picture_YX3, height, width) for picture_YX3 in (first_YX3, second_YX3)]
    rows = max(len(picture_YX3) for picture_YX3 in panels)
    cols = sum(picture_YX3.shape[1] for picture_YX3 in panels) + GAP_PX
    canvas_YX3 = np.full((rows, cols, 3), PAPER, dtype=np.uint8)
    places = []
    left = 0
    for picture_YX3 in panels:
        top = (rows - len(picture_YX3)) // 2
        canvas_YX3[top : top + len(picture_YX3), left : left + picture_YX3.shape[1]] = picture_YX3
        places.append((left, top, picture_YX3.shape[1]))
        left += picture_YX3.shape[1] + GAP_PX
    return canvas_YX3, places


def calm(picture_YX3: Picture) -> Picture:
    """Return a picture darker and paler, so that what is drawn on it is seen."""
    return cv2.addWeighted(picture_YX3, CALM * 0.6, grey(picture_YX3), CALM * 0.4, 0)


def grey(picture_YX3: Picture) -> Picture:
    """Return a picture in grey, so that colours drawn over it mean what they do on their scale."""
    return cv2.cvtColor(cv2.cvtColor(picture_YX3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def line_colours(n: int) -> list[Colour]:
    """Return bright colours, each far from the one before."""
    hues = [(i * HUE_STEP) % 1.0 for i in range(n)]
    shades = [colorsys.hls_to_rgb(hue, 0.62, 0.9) for hue in hues]
    return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in shades]


def draw_links(canvas_YX3: Picture, starts_M2: NDArray, ends_M2: NDArray, colours: Sequence[Colour]) -> Picture:
    """Draw lines with a dark outline and a dot at either end; the last lie on top.

    Args:
        canvas_YX3: uint8 RGB; stays as it is.
        starts_M2: y and x in pixels, fractions of them too.
        ends_M2: the same.
        colours: one a line.
    """
    drawn_YX3 = canvas_YX3.copy()
    for start_2, end_2, colour in zip(starts_M2, ends_M2, colours, strict=True):
        for shade, wider in ((OUTLINE, 2), (colour, 0)):
            cv2.line(drawn_YX3, _point(start_2), _point(end_2), shade, LINE_PX + wider, cv2.LINE_AA, SUBPIXEL_BITS)
    for place_2, colour in zip([*starts_M2, *ends_M2], [*colours, *colours], strict=True):
        for shade, radius in ((OUTLINE, DOT_PX + 2), ((255, 255, 255), DOT_PX + 1), (colour, DOT_PX - 1)):
            circle = radius << SUBPIXEL_BITS
            cv2.circle(drawn_YX3, _point(place_2), circle, shade, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    return drawn_YX3


def _point(place_2: NDArray) -> tuple[int, int]:
    y, x = (round(float(length) * (1 << SUBPIXEL_BITS)) for length in place_2)
    return x, y


def mark_place(picture_YX3: Picture, box: tuple[int, int, int, int], colour: Colour) -> Picture:
    """Draw a frame around a patch and four ticks that point at it; stays seen on any ground.

    Args:
        picture_YX3: uint8 RGB; stays as it is.
        box: top, left, bottom, right in pixels, the last two outside it.
        colour: of the frame.
    """
    drawn_YX3 = picture_YX3.copy()
    top, left, bottom, right = box
    thick = max(1, round(max(picture_YX3.shape[:2]) / 350))
    tick = 4 * thick
    middle = ((left + right) // 2, (top + bottom) // 2)
    lines = [
        ((middle[0], top - 2 * thick), (middle[0], top - tick - 2 * thick)),
        ((middle[0], bottom + 2 * thick), (middle[0], bottom + tick + 2 * thick)),
        ((left - 2 * thick, middle[1]), (left - tick - 2 * thick, middle[1])),
        ((right + 2 * thick, middle[1]), (right + tick + 2 * thick, middle[1])),
    ]
    for shade, wider in ((OUTLINE, 2 * max(1, thick // 2)), (colour, 0)):
        cv2.rectangle(drawn_YX3, (left, top), (right - 1, bottom - 1), shade, thick + wider, cv2.LINE_AA)
        for start, end in lines:
            cv2.line(drawn_YX3, start, end, shade, thick + wider, cv2.LINE_AA)
    return drawn_YX3


def add_scale(page_YX3: Picture, colours: ColourMap, low: float, high: float, name: str) -> Picture:
    """Return a page with a scale of colours in its right upper corner: the least value, the bar, the greatest."""
    height, width = BAR_PX
    table = COLOUR_MAPS[colours]
    ramp_YX = np.tile(np.linspace(0, 255, width).round().astype(np.uint8), (height, 1))
    bar_YX3 = np.repeat(ramp_YX[..., None], 3, axis=2) if table is None else _painted(ramp_YX, table)
    page, font = Image.fromarray(page_YX3), ImageFont.load_default(TEXT_PX)
    draw = ImageDraw.Draw(page)
    first, last = f"{name} {low:.2f}", f"{high:.2f}"
    right = page.width - MARGIN_PX - round(font.getlength(last))
    left = right - 8 - width
    draw.text((right, MARGIN_PX + 4), last, INK, font)
    page.paste(Image.fromarray(bar_YX3), (left, MARGIN_PX + 4))
    draw.text((left - 8 - round(font.getlength(first)), MARGIN_PX + 4), first, INK, font)
    return np.array(page)


def _painted(ramp_YX: NDArray[np.uint8], table: int) -> Picture:
    return cv2.cvtColor(cv2.applyColorMap(ramp_YX, table), cv2.COLOR_BGR2RGB)
