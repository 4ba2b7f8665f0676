"""Parts of a map as pixels: densities in colours, names with a halo, outlines filled.

Letters after a name are its axes: K colours · Y X pixels · 3 channels, RGB
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPainterPath, QPen, QPixmap

from dinoviz import theme
from dinoviz.widgets.scatter.splat import View

DENSITY_LEVELS = 9  # bands between contours
DENSITY_FLOOR = 0.35  # of the mean of where there is anything: less is not told from nothing
SOFT = 0.4  # of its colour that a density keeps below points
NAME_MARGIN_PX = 4
HALO_PX, HALO_OPACITY = 5.0, 0.88


@dataclass(frozen=True, slots=True)
class Place:
    """A name on the map: where, in the unit square, and how many points it is of."""

    text: str
    x: float
    y: float
    weight: int


def density_colours(counts_YX: NDArray[np.float32], *, has_contours: bool, is_soft: bool = False) -> NDArray[np.uint32]:
    """Return the colours of a density: from the ground over the accent to the colour of text, by its logarithm.

    Args:
        counts_YX: points a bin.
        has_contours: lines where it rises from one band to the next.
        is_soft: paler, so that points can be told over it.
    """
    c = theme.colours()
    top = float(counts_YX.max())
    is_any = counts_YX > top * 1e-4
    floor = float(counts_YX[is_any].mean()) * DENSITY_FLOOR if top > 0 else 1.0
    level_YX = np.log1p(counts_YX / floor) / math.log1p(max(top, floor) / floor)
    stops = [rgb(colour) for colour in (c.canvas, c.accent_soft, c.accent, c.text)]
    steps = np.linspace(0, 1, 256)
    ramp_K3 = np.stack([np.interp(steps, (0, 0.3, 0.75, 1.15), [s[i] for s in stops]) for i in range(3)], axis=1)
    index_YX = np.clip(level_YX * 255, 0, 255).astype(np.uint8)
    if is_soft:
        ramp_K3 = stops[0] + (ramp_K3 - stops[0]) * SOFT
    colours_YX = packed(ramp_K3)[index_YX]
    if has_contours:
        band_YX = (level_YX * DENSITY_LEVELS).astype(np.int8)
        is_line = np.zeros(band_YX.shape, np.bool_)
        is_line[1:] |= band_YX[1:] != band_YX[:-1]
        is_line[:, 1:] |= band_YX[:, 1:] != band_YX[:, :-1]
        line_K3 = ramp_K3 + (rgb(c.accent) - ramp_K3) * 0.35
        line_K3[170:] = ramp_K3[170:] + (rgb(c.canvas) - ramp_K3[170:]) * 0.25
        colours_YX[is_line] = packed(line_K3)[index_YX[is_line]]
    return np.asarray(colours_YX)


def laid_out_names(
    places: Sequence[Place], view: View, size: QSize, taken: Sequence[QRectF]
) -> list[tuple[Place, QRectF]]:
    """Return the names that are written in a window, and where: of two that would overlap the first.

    Args:
        places: those of more points first.
        view: what is seen.
        size: of the window.
        taken: boxes that no name may overlap.
    """
    window, boxes, found = QRectF(0, 0, size.width(), size.height()), list(taken), []
    metrics = QFontMetricsF(theme.font("strong"))
    for place in places:
        width, height = _name_size(metrics, place.text)
        x, y = view.to_screen(place.x, place.y, size.width(), size.height())
        box = QRectF(round(x - width / 2), round(y - height / 2), width, height)
        if window.contains(box) and not any(box.intersects(other) for other in boxes):
            boxes.append(box)
            found.append((place, box))
    return found


def _name_size(metrics: QFontMetricsF, text: str) -> tuple[float, float]:
    return metrics.horizontalAdvance(text) + 2 * NAME_MARGIN_PX, metrics.height() + 2 * NAME_MARGIN_PX


def paint_name(painter: QPainter, text: str, corner: QPointF) -> None:
    """Write a name with a halo in the colour of the ground, its box beginning at a corner."""
    c, font = theme.colours(), theme.font("strong")
    path = QPainterPath()
    path.addText(corner + QPointF(NAME_MARGIN_PX, NAME_MARGIN_PX + QFontMetricsF(font).ascent()), font, text)
    halo = QColor(c.canvas)
    halo.setAlphaF(HALO_OPACITY)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.strokePath(
        path, QPen(halo, HALO_PX, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
    )
    painter.fillPath(path, c.text)


def name_pixmap(text: str, ratio: float) -> QPixmap:
    """Return a name with a halo as pixels."""
    width, height = _name_size(QFontMetricsF(theme.font("strong")), text)
    made = QPixmap(math.ceil(width * ratio), math.ceil(height * ratio))
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    paint_name(painter, text, QPointF())
    painter.end()
    return made


def filled(path: QPainterPath, box: QRectF, scale: float) -> NDArray[np.bool_]:
    """Return a picture of a box that is True inside an outline."""
    width, height = max(1, math.ceil(box.width() * scale)), max(1, math.ceil(box.height() * scale))
    image = QImage(width, height, QImage.Format.Format_Grayscale8)
    image.fill(0)
    painter = QPainter(image)
    painter.scale(scale, scale)
    painter.translate(-box.topLeft())
    painter.fillPath(path, Qt.GlobalColor.white)
    painter.end()
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(height, image.bytesPerLine())
    return rows[:, :width] > 0


def image_of(pixels_YX: NDArray[np.uint32]) -> QImage:
    """Return 0xffRRGGBB as an image in the same memory, which whoever asks must keep."""
    assert pixels_YX.flags.c_contiguous, "rows of pixels one after the other"
    height, width = pixels_YX.shape
    return QImage(pixels_YX.data, width, height, 4 * width, QImage.Format.Format_RGB32)


def pixels_of(image: QImage) -> NDArray[np.uint32]:
    """Return a copy of the pixels of an image, 0xffRRGGBB."""
    rows = np.frombuffer(image.constBits(), np.uint32).reshape(image.height(), image.bytesPerLine() // 4)
    return rows[:, : image.width()].copy()


def rgb(colour: QColor) -> NDArray[np.float32]:
    """Return red, green and blue, 0 to 255."""
    return np.array([colour.red(), colour.green(), colour.blue()], np.float32)


def packed(colours_K3: NDArray[np.floating]) -> NDArray[np.uint32]:
    """Return RGB as 0xffRRGGBB."""
    rgb = np.clip(np.round(colours_K3), 0, 255).astype(np.uint32)
    return np.uint32(0xFF000000) | (rgb[..., 0] << np.uint32(16)) | (rgb[..., 1] << np.uint32(8)) | rgb[..., 2]
