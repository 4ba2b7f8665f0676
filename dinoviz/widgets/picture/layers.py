"""What lies over a picture, and how it is drawn: on a canvas at any zoom, or as an image to save, in any thread.

Places are pixels of the upright original, x to the right and y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from PySide6.QtCore import QLineF, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPainterPath, QPen, QTransform

from dinoviz.widgets.picture.overlays import covered
from engine.questions import Lattice

LEAST_PX = 600
"""Shorter side below which no further halved copy of a picture is made."""
STILL_PX = 1200
"""Longer side from which on lines are drawn thicker in a picture that is saved, as it will be looked at as a whole."""
POINT_PX, STRONG_POINT_PX = 4.5, 7.0
"""Radius of a point, and of the one under the mouse."""
_MITRE = Qt.PenJoinStyle.MiterJoin


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """A picture and halved copies of it, largest first. ``size`` is height and width of the upright original.

    The first copy may be smaller than the original, as where a thumbnail stands in until the picture is read.
    """

    levels: tuple[QImage, ...]
    size: tuple[int, int]

    @classmethod
    def of(cls, image: QImage, size: tuple[int, int] | None = None) -> Self:
        """Make the copies; 50 ms at 12 megapixels, so that large ones are made beside the window's thread."""
        levels = [image.convertToFormat(QImage.Format.Format_RGB32)]
        while min(levels[-1].width(), levels[-1].height()) > LEAST_PX:
            half = QSize(levels[-1].width() // 2, levels[-1].height() // 2)
            smooth = Qt.TransformationMode.SmoothTransformation
            levels.append(levels[-1].scaled(half, Qt.AspectRatioMode.IgnoreAspectRatio, smooth))
        return cls(tuple(levels), size or (image.height(), image.width()))

    def level(self, width_px: float) -> QImage:
        """Return the smallest copy that is no narrower than what it is drawn as."""
        fitting = [level for level in self.levels if level.width() >= width_px]
        return fitting[-1] if fitting else self.levels[0]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ImageLayer:
    """An image over a part of the picture, ``area``, in its pixels; blurred between its pixels, or in squares."""

    image: QImage
    area: QRectF
    is_smooth: bool = True
    fades: bool = True


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OutlineLayer:
    """Closed lines over a part of the picture: ``cells`` of the path's units, width and height, fill ``area``."""

    path: QPainterPath
    area: QRectF
    cells: tuple[int, int]
    colour: QColor
    width_px: float = 1.6
    fades: bool = True


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PointsLayer:
    """Places in the picture's pixels, each with its colour; ``strong`` is the one under the mouse."""

    points: Sequence[QPointF]
    colours: Sequence[QColor]
    strong: int | None = None
    fades: bool = True


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BoxesLayer:
    """Boxes in the picture's pixels."""

    boxes: Sequence[QRectF]
    colour: QColor
    fades: bool = False


Layer = ImageLayer | OutlineLayer | PointsLayer | BoxesLayer


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a picture lies on what is drawn on: ``target`` is all of it, ``window`` the part that can be seen.

    ``pen`` is how many times thicker lines are than on a screen.
    """

    target: QRectF
    scale: float
    window: QRect
    pen: float = 1.0

    def place(self, place: QPointF) -> QPointF:
        """Return where a place in picture pixels lies."""
        return QPointF(self.target.left() + place.x() * self.scale, self.target.top() + place.y() * self.scale)

    def rect(self, area: QRectF) -> QRectF:
        """Return where an area in picture pixels lies."""
        corner = self.place(area.topLeft())
        return QRectF(corner.x(), corner.y(), area.width() * self.scale, area.height() * self.scale)


def draw_layer(painter: QPainter, layer: Layer, frame: Frame) -> None:
    """Draw a layer over a picture that lies in a frame."""
    match layer:
        case ImageLayer(image=image, area=area, is_smooth=is_smooth):
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, is_smooth)
            draw_part(painter, image, frame.rect(area), frame.window)
        case OutlineLayer():
            _draw_outline(painter, layer, frame)
        case PointsLayer(points=points, colours=colours, strong=strong):
            for number, (point, colour) in enumerate(zip(points, colours, strict=True)):
                _draw_point(painter, frame.place(point), colour, frame.pen, is_strong=number == strong)
        case BoxesLayer(boxes=boxes, colour=colour):
            for box in boxes:
                stroke_rect(painter, frame.rect(box), colour, 2 * frame.pen)


def _draw_outline(painter: QPainter, layer: OutlineLayer, frame: Frame) -> None:
    """Draw lines of one width at any zoom: a dark one under a bright one is seen on any ground."""
    area, (wide, high) = frame.rect(layer.area), layer.cells
    to_frame = QTransform(area.width() / wide, 0, 0, area.height() / high, area.left(), area.top())
    # Line by line: Qt takes seven times as long for the same lines as one path.
    rings = ([ring.at(i) for i in range(ring.size())] for ring in layer.path.toSubpathPolygons(to_frame))
    lines = [QLineF(begin, end) for ring in rings for begin, end in pairwise(ring)]
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for colour, width in ((QColor(0, 0, 0, 150), layer.width_px + 1.6), (layer.colour, layer.width_px)):
        painter.setPen(QPen(colour, width * frame.pen, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, _MITRE))
        painter.drawLines(lines)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)


def still(picture: Pyramid, layers: Sequence[Layer], *, is_clear: bool = False) -> QImage:
    """Return a picture with its layers at the size of the original; may be called in any thread.

    Args:
        picture: what lies below.
        layers: over it, the last above.
        is_clear: leave the picture itself out: the layers on clear ground.
    """
    height, width = picture.size
    made = QImage(width, height, QImage.Format.Format_ARGB32_Premultiplied)
    made.fill(Qt.GlobalColor.transparent)
    frame = Frame(QRectF(0, 0, width, height), 1.0, QRect(0, 0, width, height), max(1.0, max(width, height) / STILL_PX))
    painter = QPainter(made)
    if not is_clear:
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        draw_part(painter, picture.levels[0], frame.target, frame.window)
    for layer in layers:
        draw_layer(painter, layer, frame)
    painter.end()
    return made


def patch_box(lattice: Lattice, patch: tuple[int, int]) -> QRectF:
    """Return a patch, row and column, in picture pixels."""
    area = covered(lattice)
    high, wide = area.height() / lattice.rows, area.width() / lattice.cols
    return QRectF(patch[1] * wide, patch[0] * high, wide, high)


def draw_part(painter: QPainter, image: QImage, target: QRectF, window: QRect) -> None:
    """Draw what a window shows of an image that lies over ``target``, a little more so that blurring has its rims."""
    if target.isEmpty() or image.isNull():
        return
    seen = target & QRectF(window)
    across, down = image.width() / target.width(), image.height() / target.height()
    source = QRectF(
        (seen.left() - target.left()) * across,
        (seen.top() - target.top()) * down,
        seen.width() * across,
        seen.height() * down,
    )
    whole = source.adjusted(-2, -2, 2, 2).toAlignedRect() & image.rect()
    drawn = QRectF(
        target.left() + whole.left() / across,
        target.top() + whole.top() / down,
        whole.width() / across,
        whole.height() / down,
    )
    painter.drawImage(drawn, image, QRectF(whole))


def stroke_rect(painter: QPainter, rect: QRectF, colour: QColor, width: float) -> None:
    """Draw a frame that is seen on bright and on dark ground."""
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(0, 0, 0, 170), width + 1.6, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, _MITRE))
    painter.drawRect(rect)
    painter.setPen(QPen(colour, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.SquareCap, _MITRE))
    painter.drawRect(rect)


def _draw_point(painter: QPainter, at: QPointF, colour: QColor, pen: float, *, is_strong: bool) -> None:
    radius = pen * (STRONG_POINT_PX if is_strong else POINT_PX)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(255, 255, 255), 1.4 * pen))
    painter.setBrush(colour)
    painter.drawEllipse(at, radius, radius)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
