"""A map to take away: as a picture, or as a drawing in which every point can be picked up; with title and legend.

Letters after a name are its axes: P points
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter

from dinoviz import theme
from dinoviz.saving import png_bytes
from dinoviz.words import tr

MAP_SIZE = QSize(1280, 960)
RATIO = 2.0  # device pixels of a saved picture to a pixel of the screen
HEAD_PX, LEGEND_PX, MARGIN_PX, ROW_PX, SWATCH_PX = 56, 260, 24, 24, 12
MOST_ROWS = 36  # of the legend
MOST_CIRCLES = 100_000
"""Points up to which a drawing holds each; of more it holds a picture of them, as programs hardly open it then."""


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the legend: colour, name, and how many pictures."""

    colour: tuple[int, int, int]
    text: str
    count: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What is written around a map."""

    title: str
    note: str
    keys: Sequence[Key]

    @property
    def size(self) -> QSize:
        """Width and height of all of it, in logical pixels."""
        return QSize(MAP_SIZE.width() + LEGEND_PX, MAP_SIZE.height() + HEAD_PX)

    def rows(self) -> list[Key]:
        """Return the rows that have room."""
        rows = list(self.keys[:MOST_ROWS])
        if len(self.keys) > MOST_ROWS:
            grey = theme.colours().faint
            n = len(self.keys) - MOST_ROWS
            rows.append(Key((grey.red(), grey.green(), grey.blue()), tr("{n} more", n=n)))
        return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Circles:
    """Points of a drawing: middles in logical pixels of the map, colours 0xffRRGGBB, what each is, and the diameter.

    ``groups`` are names on the map and their middles.
    """

    x_P: NDArray[np.floating]
    y_P: NDArray[np.floating]
    colours_P: NDArray[np.uint32]
    names: Sequence[str]
    diameter: float
    groups: Sequence[tuple[str, QPointF]] = ()


def picture(sheet: Sheet, map_image: QImage) -> QImage:
    """Return a map with its title and legend."""
    image = QImage(sheet.size * RATIO, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(RATIO)
    c = theme.colours()
    image.fill(c.canvas)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.drawImage(QRectF(0, HEAD_PX, MAP_SIZE.width(), MAP_SIZE.height()), map_image)
    painter.setPen(c.text)
    painter.setFont(theme.font("title"))
    painter.drawText(QRectF(MARGIN_PX, 0, image.width(), HEAD_PX), Qt.AlignmentFlag.AlignVCenter, sheet.title)
    left = MARGIN_PX + QFontMetricsF(painter.font()).horizontalAdvance(sheet.title) + MARGIN_PX
    painter.setFont(theme.font("small"))
    painter.setPen(c.muted)
    painter.drawText(QRectF(left, 0, image.width(), HEAD_PX), Qt.AlignmentFlag.AlignVCenter, sheet.note)
    for i, key in enumerate(sheet.rows()):
        _draw_key(painter, key, QRectF(MAP_SIZE.width(), HEAD_PX + i * ROW_PX, LEGEND_PX - MARGIN_PX, ROW_PX))
    painter.end()
    return image


def _draw_key(painter: QPainter, key: Key, box: QRectF) -> None:
    c = theme.colours()
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(*key.colour))
    painter.drawEllipse(QRectF(box.left(), box.center().y() - SWATCH_PX / 2, SWATCH_PX, SWATCH_PX))
    painter.setFont(theme.font("number"))
    painter.setPen(c.muted)
    painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, key.count)
    width = QFontMetricsF(painter.font()).horizontalAdvance(key.count)
    painter.setFont(theme.font("body"))
    painter.setPen(c.text)
    room = box.adjusted(SWATCH_PX + theme.SPACE, 0, -width - theme.SPACE, 0)
    text = QFontMetricsF(painter.font()).elidedText(key.text, Qt.TextElideMode.ElideRight, room.width())
    painter.drawText(room, Qt.AlignmentFlag.AlignVCenter, text)


def drawing(sheet: Sheet, circles: Circles, draw_map: Callable[[], QImage]) -> str:
    """Return a map as SVG; each point is a circle that says which picture it is, if there are not too many."""
    c, size = theme.colours(), sheet.size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size.width()}" height="{size.height()}" '
        f'viewBox="0 0 {size.width()} {size.height()}" font-family="Inter, Helvetica, Arial, sans-serif">',
        f'<rect width="{size.width()}" height="{size.height()}" fill="{c.canvas.name()}"/>',
        f'<text x="{MARGIN_PX}" y="30" font-size="20" font-weight="600" fill="{c.text.name()}">'
        f"{_text(sheet.title)}</text>",
        f'<text x="{MARGIN_PX}" y="50" font-size="12" fill="{c.muted.name()}">{_text(sheet.note)}</text>',
        f'<g transform="translate(0 {HEAD_PX})">',
        *(_circles(circles) if len(circles.x_P) <= MOST_CIRCLES else [_embedded(draw_map())]),
        *(_group(name, at) for name, at in circles.groups if len(circles.x_P) <= MOST_CIRCLES),
        "</g>",
    ]
    for i, key in enumerate(sheet.rows()):
        x, y = MAP_SIZE.width(), HEAD_PX + (i + 0.5) * ROW_PX
        lines += [
            f'<circle cx="{x + SWATCH_PX / 2}" cy="{y}" r="{SWATCH_PX / 2}" fill="{QColor(*key.colour).name()}"/>',
            f'<text x="{x + SWATCH_PX + theme.SPACE}" y="{y + 4}" font-size="13" fill="{c.text.name()}">'
            f"{_text(key.text)}</text>",
            f'<text x="{size.width() - MARGIN_PX}" y="{y + 4}" font-size="12" text-anchor="end" '
            f'fill="{c.muted.name()}">{_text(key.count)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _text(text: str) -> str:
    """Return text as XML may hold it; file names may hold what no encoding can write."""
    return escape(text.encode(errors="replace").decode())


def _circles(circles: Circles) -> list[str]:
    radius = f"{circles.diameter / 2:.2f}"
    return [
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius}" fill="#{colour & 0xFFFFFF:06x}"><title>{_text(name)}</title>'
        "</circle>"
        for x, y, colour, name in zip(
            circles.x_P.tolist(), circles.y_P.tolist(), circles.colours_P.tolist(), circles.names, strict=True
        )
    ]


def _group(name: str, at: QPointF) -> str:
    """Return the name of a group over its halo; not by ``paint-order``, which many programs do not know."""
    c, text = theme.colours(), _text(name)
    head = f'<text x="{at.x():.1f}" y="{at.y() + 4:.1f}" font-size="13" font-weight="500" text-anchor="middle" '
    halo = f'{head}fill="none" stroke="{c.canvas.name()}" stroke-width="4" stroke-linejoin="round">{text}</text>'
    return f'{halo}{head}fill="{c.text.name()}">{text}</text>'


def _embedded(image: QImage) -> str:
    data = base64.b64encode(png_bytes(image)).decode()
    size = f'width="{MAP_SIZE.width()}" height="{MAP_SIZE.height()}"'
    return f'<image {size} href="data:image/png;base64,{data}"/>'
