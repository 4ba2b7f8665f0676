"""Where the cells of a grid of pictures lie, and how one of them is drawn. The widget is in ``grid``.

Lengths are logical px. Rows and columns are counted from the top left; a position is the place in the list of ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QImage, QPainter, QPen, QPixmap

from dinoviz import theme

MARGIN = 12
GAP = 4
INSET = 6
"""Room around a picture within its cell, where a selected cell shows its colour."""
CAPTION_PX = 20
BADGE_PX = 18
BADGE_TEXT = QColor(255, 255, 255)
BADGE_GROUND = QColor(16, 18, 22, 190)  # dark on any picture, so that white is read on it
STARS_FROM_PX = 88  # smaller cells have no room for words and stars


@dataclass(frozen=True, slots=True)
class CellLook:
    """What is drawn on one cell beside its picture.

    Args:
        caption: a line under the picture.
        stars: rating, 0 for none.
        tags: colours of its tags.
        text: a few signs on the picture, as a similarity.
        is_problem: the picture cannot be read.
        is_changed: its label was corrected.
        is_old: the file is another one by now than what this is about.
        box: part of the picture that is meant, as shares: top, left, bottom, right.
    """

    caption: str = ""
    stars: int = 0
    tags: tuple[QColor, ...] = ()
    text: str = ""
    is_problem: bool = False
    is_changed: bool = False
    is_old: bool = False
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """The geometry of ``count`` square cells of ``side`` in a viewport of some width."""

    count: int
    side: int
    width: int
    caption_px: int
    margin: int = MARGIN
    columns: int = field(init=False)
    pitch_x: float = field(init=False)
    pitch_y: int = field(init=False)

    def __post_init__(self) -> None:
        cell = self.side + 2 * INSET
        room = max(cell, self.width - 2 * self.margin)
        columns = max(1, (room + GAP) // (cell + GAP))
        object.__setattr__(self, "columns", columns)
        # What is left over is spread between the columns, so that the grid ends where the window does.
        spread = min(cell * 0.5, (room - columns * cell) / (columns - 1)) if columns > 1 else 0.0
        object.__setattr__(self, "pitch_x", cell + spread)
        object.__setattr__(self, "pitch_y", cell + self.caption_px + GAP)

    @property
    def rows(self) -> int:
        """Rows of cells."""
        return -(-self.count // self.columns)

    @property
    def height(self) -> int:
        """Height of all rows with the margins."""
        return self.rows * self.pitch_y - GAP + 2 * self.margin if self.count else 0

    def top_of(self, position: int) -> int:
        """Return the distance from the top of the content to a cell."""
        return self.margin + position // self.columns * self.pitch_y

    def rect(self, position: int, scrolled: int) -> QRect:
        """Return where a cell is in a viewport that is scrolled down by some px."""
        left = self.margin + round(position % self.columns * self.pitch_x)
        cell = self.side + 2 * INSET
        return QRect(left, self.top_of(position) - scrolled, cell, cell + self.caption_px)

    def between(self, top: int, bottom: int) -> range:
        """Return the positions of the rows that reach into a stretch of the content."""
        first = max(0, (top - self.margin) // self.pitch_y)
        last = max(0, (bottom - self.margin) // self.pitch_y + 1)
        return range(min(self.count, first * self.columns), min(self.count, last * self.columns))

    def at(self, x: float, y: float) -> int | None:
        """Return the position at a point of the content; None beside the cells."""
        column, row = int((x - self.margin) // self.pitch_x), int((y - self.margin) // self.pitch_y)
        if not 0 <= column < self.columns or row < 0:
            return None
        position = row * self.columns + column
        cell = self.side + 2 * INSET
        is_in_gap = (
            x - self.margin - column * self.pitch_x > cell
            or y - self.margin - row * self.pitch_y > cell + self.caption_px
        )
        return None if position >= self.count or is_in_gap else position

    def touched(self, box: QRectF) -> NDArray[np.intp]:
        """Return the positions of the cells that a box of the content touches, ascending."""
        cell = self.side + 2 * INSET
        first_column = max(0, int(np.ceil((box.left() - self.margin - cell) / self.pitch_x)))
        last_column = min(self.columns - 1, int((box.right() - self.margin) // self.pitch_x))
        first_row = max(0, int(np.ceil((box.top() - self.margin - cell - self.caption_px) / self.pitch_y)))
        last_row = min(self.rows - 1, int((box.bottom() - self.margin) // self.pitch_y))
        rows = np.arange(first_row, last_row + 1)
        columns = np.arange(first_column, last_column + 1)
        positions = (rows[:, None] * self.columns + columns).ravel()
        return positions[positions < self.count]


def picture_rect(cell: QRect, side: int, aspect: float) -> QRect:
    """Return where the picture lies in its cell: fitted, in the middle. ``aspect`` is width by height."""
    width, height = (side, max(1, round(side / aspect))) if aspect >= 1 else (max(1, round(side * aspect)), side)
    return QRect(cell.left() + INSET + (side - width) // 2, cell.top() + INSET + (side - height) // 2, width, height)


class CellPainter:
    """Draws cells; made anew for every painting, so that it always has the colours and the scale of now."""

    def __init__(self, painter: QPainter, side: int, scale: float) -> None:
        self._painter = painter
        self._side = side
        self._scale = scale
        self._colours = theme.colours()
        self._font = theme.font("small")
        self._metrics = QFontMetrics(self._font)
        painter.setFont(self._font)

    def ground(self, cell: QRect, *, is_selected: bool, is_hovered: bool) -> None:
        """Draw what is behind a picture."""
        if not is_selected and not is_hovered:
            return
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(self._colours.selection if is_selected else self._colours.raised)
        self._painter.drawRoundedRect(cell, theme.RADIUS, theme.RADIUS)

    def picture(self, where: QRect, image: QImage | None) -> QRect:
        """Draw a picture pixel for pixel, or what stands for it until it comes; return the place it took."""
        painter, scale = self._painter, self._scale
        if image is None:
            painter.fillRect(where, self._colours.line)
            return where
        where = picture_rect(
            QRect(where.center().x() - self._side // 2 - INSET, where.center().y() - self._side // 2 - INSET, 0, 0),
            self._side,
            image.width() / image.height(),
        )
        left, top = round(where.left() * scale), round(where.top() * scale)
        if max(image.width(), image.height()) == round(self._side * scale):
            painter.save()
            painter.scale(1 / scale, 1 / scale)
            painter.drawImage(left, top, image)
            painter.restore()
        else:
            painter.drawImage(QRectF(where), image)
        return where

    def ring(self, cell: QRect, *, has_focus: bool) -> None:
        """Draw the ring of the current picture, on the cell's edge."""
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setBrush(Qt.BrushStyle.NoBrush)
        self._painter.setPen(QPen(self._colours.accent if has_focus else self._colours.faint, 2))
        self._painter.drawRoundedRect(QRectF(cell).adjusted(1, 1, -1, -1), theme.RADIUS, theme.RADIUS)

    def caption(self, cell: QRect, text: str, *, is_selected: bool) -> None:
        """Draw the line under a picture."""
        where = QRect(cell.left() + INSET, cell.bottom() - CAPTION_PX, cell.width() - 2 * INSET, CAPTION_PX)
        self._painter.setPen(self._colours.text if is_selected else self._colours.muted)
        shown = _elided(text, where.width(), self._metrics)
        self._painter.drawText(where, Qt.AlignmentFlag.AlignCenter, shown)

    def badges(self, picture: QRect, look: CellLook) -> None:
        """Draw what is said of a picture onto its corners, and the part of it that is meant."""
        if look.box is not None:
            draw_box(self._painter, QRectF(picture), look.box)
        if look.is_problem:
            self._icon_badge(QPointF(picture.left() + 4, picture.top() + 4), "warning", "#F2B84B")
        elif look.is_old:
            self._icon_badge(QPointF(picture.left() + 4, picture.top() + 4), "clock-counter-clockwise", "#F2B84B")
        elif look.is_changed:
            self._icon_badge(QPointF(picture.right() - BADGE_PX - 3, picture.top() + 4), "pencil-simple", "#FFFFFF")
        if look.tags:
            self._dots(picture, look.tags)
        if self._side < STARS_FROM_PX:
            return
        bottom = picture.bottom() - BADGE_PX - 3
        stars = _stars(look.stars, self._scale) if look.stars else None
        if stars is not None:
            self._painter.drawPixmap(QPointF(picture.left() + 4, bottom), stars)
        if look.text:
            width = self._metrics.horizontalAdvance(look.text) + 12
            is_crowded = stars is not None and stars.deviceIndependentSize().width() + width + 10 > picture.width()
            top = bottom - is_crowded * (BADGE_PX + 3)
            self._text_badge(QRectF(picture.right() - width - 3, top, width, BADGE_PX), look.text)

    def band(self, box: QRectF) -> None:
        """Draw a rubber band."""
        ground = QColor(self._colours.accent)
        ground.setAlpha(40)
        self._painter.setPen(QPen(self._colours.accent, 1))
        self._painter.setBrush(ground)
        self._painter.drawRect(box)

    def _dots(self, picture: QRect, colours: tuple[QColor, ...]) -> None:
        shown = colours[:5]
        side = 10
        left = picture.left() + 6
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for i, colour in enumerate(shown):
            self._painter.setPen(QPen(BADGE_TEXT, 1.5))
            self._painter.setBrush(colour)
            self._painter.drawEllipse(QRectF(left + i * (side - 2), picture.top() + 6, side, side))

    def _text_badge(self, box: QRectF, text: str) -> None:
        self._pill(box)
        self._painter.setPen(BADGE_TEXT)
        self._painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def _icon_badge(self, corner: QPointF, icon: str, colour: str) -> None:
        box = QRectF(corner.x(), corner.y(), BADGE_PX, BADGE_PX)
        self._pill(box)
        theme.icon(icon, colour).paint(self._painter, box.toAlignedRect().adjusted(2, 2, -2, -2))

    def _pill(self, box: QRectF) -> None:
        self._painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(BADGE_GROUND)
        self._painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)


def draw_box(painter: QPainter, where: QRectF, box: tuple[float, float, float, float]) -> None:
    """Outline a part of a picture that lies somewhere, bright on dark, so that it is seen on any ground.

    Args:
        painter: draws.
        where: the picture lies.
        box: the part, as shares of height and width: top, left, bottom, right.
    """
    top, left, bottom, right = box
    area = QRectF(
        where.left() + left * where.width(),
        where.top() + top * where.height(),
        (right - left) * where.width(),
        (bottom - top) * where.height(),
    )
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for colour, width in ((BADGE_GROUND, 4.0), (theme.DARK.accent, 2.0)):
        painter.setPen(QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, Qt.PenJoinStyle.MiterJoin))
        painter.drawRect(area)


_SHORTENED: dict[tuple[str, int], str] = {}
_SHORTENED_AT_MOST = 20_000


def _elided(text: str, width: int, metrics: QFontMetrics) -> str:
    """Return a text that fits; remembered, as measuring takes longer than all else in a cell."""
    known = _SHORTENED.get((text, width))
    if known is None:
        if len(_SHORTENED) >= _SHORTENED_AT_MOST:
            _SHORTENED.clear()
        known = _SHORTENED[text, width] = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, width)
    return known


@lru_cache(maxsize=32)
def _stars(count: int, scale: float) -> QPixmap:
    """Return a pill with stars, drawn once."""
    star, step = 12, 13
    width = count * step + 9
    made = QPixmap(QSize(round(width * scale), round(BADGE_PX * scale)))
    made.setDevicePixelRatio(scale)
    made.fill(Qt.GlobalColor.transparent)
    with QPainter(made) as painter:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(BADGE_GROUND)
        painter.drawRoundedRect(QRectF(0, 0, width, BADGE_PX), BADGE_PX / 2, BADGE_PX / 2)
        icon = theme.icon("star-fill", "#F2B84B")
        for i in range(count):
            icon.paint(painter, QRect(5 + i * step, (BADGE_PX - star) // 2, star, star))
    return made


def tag_colours(tags: Mapping[str, object]) -> dict[str, QColor]:
    """Return a colour for every tag of a project, by the order of their names."""
    colours = theme.category_colours(len(tags))
    return {tag: QColor(*map(int, colour)) for tag, colour in zip(sorted(tags), colours, strict=True)}
