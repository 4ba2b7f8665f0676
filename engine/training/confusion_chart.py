"""A confusion matrix as a picture to look at and to print.

Arrays in, an array out: uint8 RGB, height before width, on white.

Letters after a name are its axes: K classes; true class first, then the answer
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.measuring.confusion import Confusion
from engine.seeing.drawing import INK, PALE_INK, Colour, Picture, printable, shortened, write_line

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER: Colour = (255, 255, 255)
RIGHT: Colour = (0, 114, 178)
WRONG: Colour = (213, 94, 0)
"""Blue and vermilion of Okabe and Ito 2008: told apart also by colour-blind people."""
PANEL_PX, LEAST_WIDTH_PX = 900, 720
LARGEST_CELL, SMALLEST_CELL = 64, 3
"""Cells fill the panel within limits; there is no room for a name or a number in small ones."""
READABLE_CELL = 14
NUMBERED_CELL = 26
MARGIN_PX, FIGURE_PX, HEAD_PX = 36, 110, 84
LONGEST_NAME_PX, NAME_GAP_PX = 170, 10
TITLE_PX, TEXT_PX = 26, 16
LINE: Colour = (226, 226, 230)
DARK_FROM = 0.55
"""Share of full colour from which white letters are read more easily than dark ones."""


def confusion_chart(found: Confusion, title: str) -> Picture:
    """Return the matrix: a row a true class, a column an answer, coloured by the share of the row's pictures.

    Right answers are blue, wrong ones red; beside each row stands the share that is right.
    """
    n = len(found.names)
    cell = int(np.clip(PANEL_PX // n, SMALLEST_CELL, LARGEST_CELL))
    has_names = cell >= READABLE_CELL
    font = ImageFont.load_default(min(TEXT_PX, cell - 2))
    names = [shortened(printable(name), font, LONGEST_NAME_PX) for name in found.names]
    room_px = round(max(map(font.getlength, names))) + NAME_GAP_PX if has_names else 0
    left, top = MARGIN_PX + room_px, MARGIN_PX + HEAD_PX + room_px
    width = left + n * cell + MARGIN_PX + FIGURE_PX * has_names
    page = Image.new("RGB", (max(width, LEAST_WIDTH_PX), top + n * cell + MARGIN_PX), PAPER)
    room = page.width - 2 * MARGIN_PX
    write_line(page, title, (MARGIN_PX, MARGIN_PX), TITLE_PX, INK, room)
    note = "rows: true class; columns: answer; colour: share of the row's pictures"
    write_line(page, note, (MARGIN_PX, MARGIN_PX + TITLE_PX + 12), TEXT_PX, PALE_INK, room)
    _draw_cells(page, found.counts_KK, cell, (left, top))
    if has_names:
        _write_names(page, names, cell, (left, top), room_px, font)
        _write_figures(page, found, cell, (left + n * cell + NAME_GAP_PX, top), font)
    return np.array(page)


def _draw_cells(page: Image.Image, counts_KK: NDArray[np.int64], cell: int, corner: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(page)
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    rim = LINE if cell >= READABLE_CELL else None
    font = ImageFont.load_default(min(TEXT_PX, cell // 2)) if cell >= NUMBERED_CELL else None
    for row in range(len(counts_KK)):
        for column in range(len(counts_KK)):
            share = float(shares_KK[row, column])
            x, y = corner[0] + column * cell, corner[1] + row * cell
            colour = _mixed(RIGHT if row == column else WRONG, share)
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill=colour, outline=rim)
            if font and counts_KK[row, column]:
                ink = PAPER if share > DARK_FROM else INK
                draw.text((x + cell / 2, y + cell / 2), f"{counts_KK[row, column]}", ink, font, anchor="mm")


def _mixed(colour: Colour, share: float) -> Colour:
    """Return a colour that is paper for 0 and full for 1; the root lets few mistakes be seen."""
    strength = share**0.5
    red, green, blue = (round(255 + (level - 255) * strength) for level in colour)
    return red, green, blue


def _write_names(
    page: Image.Image, names: Sequence[str], cell: int, corner: tuple[int, int], room_px: int, font: Font
) -> None:
    """Write the classes left of the rows and, turned, above the columns."""
    draw = ImageDraw.Draw(page)
    left, top = corner
    for i, name in enumerate(names):
        draw.text((left - NAME_GAP_PX, top + cell * (i + 0.5)), name, INK, font, anchor="rm")
        turned = Image.new("RGB", (room_px, cell), PAPER)
        ImageDraw.Draw(turned).text((NAME_GAP_PX, cell / 2), name, INK, font, anchor="lm")
        page.paste(turned.rotate(90, expand=True), (left + i * cell, top - room_px))


def _write_figures(page: Image.Image, found: Confusion, cell: int, corner: tuple[int, int], font: Font) -> None:
    """Write, right of each row, the share of its pictures that was found."""
    draw = ImageDraw.Draw(page)
    for i, figures in enumerate(found.classes()):
        if figures.pictures:
            right = f"{figures.recall:.0%} of {figures.pictures}"
            draw.text((corner[0], corner[1] + cell * (i + 0.5)), right, PALE_INK, font, anchor="lm")
