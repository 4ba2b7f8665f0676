"""Teacher entropy and KL between teacher and student over a sweep's runs, as one picture: DINO fig. 7.

Letters after a name are its axes: Y X pixels · 3 colours, RGB
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.finding.charts import distinct_colours
from engine.protocol import Measured
from engine.run_files import EventReader, plan_of
from engine.seeing.drawing import (
    INK,
    MARGIN_PX,
    PALE_INK,
    PAPER,
    SUBPIXEL_BITS,
    TEXT_PX,
    TITLE_PX,
    Colour,
    Picture,
    printable,
    write_line,
)

PANEL_PX = (560, 400)
"""Width and height of the area that curves are drawn in."""
AXIS_PX, UNDER_PX, LEGEND_ROW_PX = 64, 44, 24
MOST_TICKS = 7
LINE_PX = 2
GRID: Colour = (226, 226, 224)
FIGURES = (("teacher_entropy", "Entropy of the teacher's answers"), ("kl", "KL of teacher and student"))
"""The left and the right panel of the figure."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: its name, and (epoch, value) of each figure that it has."""

    name: str
    points: dict[str, list[tuple[float, float]]]


def curve_of(name: str, run: Path) -> Curve:
    """Return the curves of a run, from its events; without points where its objective has none of the figures."""
    points: dict[str, list[tuple[float, float]]] = {figure: [] for figure, _ in FIGURES}
    reader, steps = EventReader(run), plan_of(run).steps_per_epoch
    while messages := reader.read()[0]:
        for message in messages:
            if isinstance(message, Measured):
                for figure, row in points.items():
                    value = message.values.get(figure)
                    if value is not None:
                        row.append((message.step / steps, value))
    return Curve(name, points)


def figure_of(curves: Sequence[Curve], title: str, ln_k: float) -> Picture:
    """Return the picture: two panels side by side, a legend below.

    Args:
        curves: of the runs, at least one with points.
        title: first line.
        ln_k: entropy of a uniform answer, drawn as a line of its own.
    """
    width, height = PANEL_PX
    top = MARGIN_PX + TITLE_PX + 24 + TEXT_PX + 12
    legend = math.ceil(len(curves) / 2) * LEGEND_ROW_PX
    size = (2 * MARGIN_PX + 2 * (AXIS_PX + width), top + height + UNDER_PX + legend + MARGIN_PX)
    page = Image.new("RGB", size, PAPER)
    write_line(page, title, (MARGIN_PX, MARGIN_PX), TITLE_PX, INK, size[0] - 2 * MARGIN_PX)
    colours = distinct_colours(max(1, len(curves)))
    for number, (figure, heading) in enumerate(FIGURES):
        left = MARGIN_PX + AXIS_PX + number * (width + AXIS_PX)
        write_line(page, heading, (left, top - TEXT_PX - 10), TEXT_PX, INK, width)
        marked = ln_k if figure == "teacher_entropy" else None
        page = _with_panel(page, (left, top), [curve.points[figure] for curve in curves], colours, marked)
    draw = ImageDraw.Draw(page)
    for number, curve in enumerate(curves):
        left = MARGIN_PX + AXIS_PX + number % 2 * (width + AXIS_PX)
        middle = top + height + UNDER_PX + number // 2 * LEGEND_ROW_PX + LEGEND_ROW_PX // 2
        draw.line((left, middle, left + 24, middle), fill=colours[number], width=LINE_PX + 1)
        write_line(page, curve.name, (left + 34, middle - TEXT_PX // 2 - 1), TEXT_PX, INK, width - 34)
    return np.array(page)


def _with_panel(
    page: Image.Image,
    corner: tuple[int, int],
    rows: Sequence[Sequence[tuple[float, float]]],
    colours: Sequence[Colour],
    marked: float | None,
) -> Image.Image:
    """Draw axes and curves with the top left of the area at ``corner`` (x, y); ``marked`` is named ln K."""
    width, height = PANEL_PX
    every = [point for row in rows for point in row]
    last = max([1.0, *(epoch for epoch, _ in every)])
    most = max([1e-3, *(value for _, value in every), *([marked] if marked else [])]) * 1.05
    _draw_axes(page, corner, last, most, marked)
    canvas_YX3 = np.array(page)
    for row, colour in zip(rows, colours, strict=False):
        at = [(corner[0] + epoch / last * width, corner[1] + height * (1 - value / most)) for epoch, value in row]
        fine = np.round(np.array(at).reshape(-1, 1, 2) * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(canvas_YX3, [fine], False, colour, LINE_PX, cv2.LINE_AA, SUBPIXEL_BITS)
    return Image.fromarray(canvas_YX3)


def _draw_axes(page: Image.Image, corner: tuple[int, int], last: float, most: float, marked: float | None) -> None:
    (left, top), (width, height) = corner, PANEL_PX
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TEXT_PX - 1)
    for value in _ticks(most):
        y = top + height * (1 - value / most)
        draw.line((left, y, left + width, y), fill=GRID)
        draw.text((left - 8, y), f"{value:g}", PALE_INK, font, anchor="rm")
    for epoch in _ticks(last):
        draw.text((left + epoch / last * width, top + height + 8), f"{epoch:g}", PALE_INK, font, anchor="mt")
    draw.text((left + width / 2, top + height + 24), printable("epochs"), PALE_INK, font, anchor="mt")
    draw.line((left, top, left, top + height, left + width, top + height), fill=INK)
    if marked:
        y = top + height * (1 - marked / most)
        for x in range(left, left + width, 10):
            draw.line((x, y, x + 4, y), fill=PALE_INK)
        draw.text((left + width - 4, y - 3), "ln K", PALE_INK, font, anchor="rb")


def _ticks(most: float) -> list[float]:
    """Return round numbers from 0 to ``most``, ``MOST_TICKS`` at most: steps of 1, 2 or 5 of some power of ten."""
    power = 10.0 ** math.floor(math.log10(most / MOST_TICKS))
    step = next(power * digit for digit in (1, 2, 5, 10) if most / (power * digit) < MOST_TICKS)
    return [step * number for number in range(MOST_TICKS) if step * number <= most]
