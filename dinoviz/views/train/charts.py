"""A small chart that is painted here: curves over steps, lines that mean something, a cross-hair with values.

Charts beside each other share one `Lens`: what is seen of the horizontal axis and where the cross-hair stands. What
does not move is painted once into a pixmap, so that moving the mouse over a dozen charts costs a few copies. A curve is
thinned to the pixels it has before it is drawn (`run_log.thinned`), so a hundred thousand measurements cost as much as
a thousand.

Letters after a name are its axes: N points of a curve.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal
from PySide6.QtCore import QEvent, QLineF, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from dinoviz import theme
from dinoviz.views.train.log import thinned
from dinoviz.watching import follow

TICKS = 4
"""Of an axis, about."""
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
ZOOM_STEP = 1.25
LEAST_SHARE = 1e-3
"""Of the whole axis that can be seen at least."""
AIR = 0.06
"""Share of the height left above and below the curves."""
CURVE_PX, RAW_PX = 1.6, 1.0
RAW_OPACITY = 0.28
POINTS_A_PIXEL = 2
DOT_PX = 3.0
FEW_POINTS = 24
"""Up to so many measurements are dots as well as a line."""
PAGE = 0.02
"""Share of what is seen that the cross-hair moves by a key."""
USUAL = (2, 98)
"""Percentiles of what was measured that are seen in any case, behind a smoothed curve."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One curve: ``x_N`` does not fall, ``y_N`` may hold gaps (nan).

    ``is_raw`` is what another curve was smoothed from, ``is_plan`` what is planned; neither has a value to tell.
    """

    name: str
    colour: QColor
    x_N: Floats
    y_N: Floats
    is_raw: bool = False
    is_plan: bool = False

    @property
    def has_value(self) -> bool:
        """Its values are told under the cross-hair."""
        return not self.is_raw and not self.is_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A horizontal line with a meaning."""

    value: float
    text: str
    is_bad: bool = False


class Lens:
    """What charts beside each other share: the part of the horizontal axis that is seen, and the cross-hair."""

    moved = Signal()
    pointed = Signal()

    def __init__(self) -> None:
        self.whole = (0.0, 1.0)
        self.seen = (0.0, 1.0)
        self.place: float | None = None
        self._is_all = True

    def set_whole(self, low: float, high: float) -> None:
        """Say how far the axis reaches; what was zoomed into stays."""
        high = max(high, low + 1e-9)
        self.whole = (low, high)
        self.seen = self.whole if self._is_all else self._inside(*self.seen)
        self.moved.emit()

    def show_all(self) -> None:
        """Zoom out."""
        self._is_all, self.seen = True, self.whole
        self.moved.emit()

    def zoom(self, place: float, factor: float) -> None:
        """Show ``factor`` times less around a place that stays where it is."""
        low, high = self.seen
        width = min(self.whole[1] - self.whole[0], (high - low) / factor)
        width = max(width, (self.whole[1] - self.whole[0]) * LEAST_SHARE)
        share = (place - low) / (high - low)
        self._see(place - share * width, place - share * width + width)

    def pan(self, by: float) -> None:
        """Move what is seen."""
        self._see(self.seen[0] + by, self.seen[1] + by)

    def _see(self, low: float, high: float) -> None:
        self.seen = self._inside(low, high)
        self._is_all = self.seen == self.whole
        self.moved.emit()

    def _inside(self, low: float, high: float) -> tuple[float, float]:
        width = min(high - low, self.whole[1] - self.whole[0])
        low = min(max(low, self.whole[0]), self.whole[1] - width)
        return low, low + width

    def point(self, place: float | None) -> None:
        """Put the cross-hair somewhere, or take it away."""
        if place is not None:
            place = min(max(place, self.whole[0]), self.whole[1])
        if place != self.place:
            self.place = place
            self.pointed.emit()


class Chart(QWidget):
    """One chart.

    Args:
        title: what it shows.
        tip: what that means.
        lens: shared with the charts beside it.
        number: writes a value for people.
    """

    TOP_PX, LEFT_PX, BOTTOM_PX, RIGHT_PX = 34, 56, 22, 10
    HEIGHT_PX, HEAD_PX = 172, 22

    def __init__(self, title: str, tip: str, lens: Lens, number: Callable[[float], str]) -> None:
        super().__init__()
        self._title, self._lens, self._number = title, lens, number
        self._source: Callable[[], Sequence[Curve]] = tuple
        self._curves: tuple[Curve, ...] = ()
        self._marks: tuple[Mark, ...] = ()
        self._span = (0.0, 1.0)
        self._still: QPixmap | None = None
        self._dragged_from: QPointF | None = None
        self.setToolTip(tip)
        self.setAccessibleName(title)
        self.setMinimumSize(240, self.HEIGHT_PX)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        follow(self, lens.moved, self._redraw)
        follow(self, lens.pointed, self.update)
        follow(self, theme.changed, self._redraw)

    def show_curves(
        self, source: Callable[[], Sequence[Curve]], marks: Sequence[Mark] = (), newest: Sequence[float] = ()
    ) -> None:
        """Show some curves, and lines that mean something.

        Args:
            source: gives the curves; asked when the chart is painted, so that one out of sight costs nothing.
            marks: the lines.
            newest: last value of each curve, for those who hear the window.
        """
        self._source, self._marks = source, tuple(marks)
        self.setAccessibleDescription(", ".join(map(self._number, newest)))
        self._redraw()

    def _redraw(self) -> None:
        self._still = None
        self.update()

    # Where things are.

    def _field(self) -> QRectF:
        return QRectF(self.rect()).adjusted(self.LEFT_PX, self.TOP_PX, -self.RIGHT_PX, -self.BOTTOM_PX)

    def _x_px(self, x: Floats | float) -> Floats | float:
        field, (low, high) = self._field(), self._lens.seen
        return field.left() + (x - low) / (high - low) * field.width()

    def _y_px(self, y: Floats | float) -> Floats | float:
        field, (low, high) = self._field(), self._span
        return field.bottom() - (y - low) / (high - low) * field.height()

    def _place_at(self, x_px: float) -> float:
        field, (low, high) = self._field(), self._lens.seen
        return low + (x_px - field.left()) / max(1.0, field.width()) * (high - low)

    # Painting.

    def paintEvent(self, event: QPaintEvent) -> None:
        """Copy what stands still, and draw the cross-hair over it."""
        if self._still is None:
            self._curves = tuple(self._source())
            self._still = QPixmap(self.size() * self.devicePixelRatioF())
            self._still.setDevicePixelRatio(self.devicePixelRatioF())
            self._still.fill(Qt.GlobalColor.transparent)
            self._paint_still()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._still)
        self._paint_values(painter)
        if self.hasFocus():
            painter.setPen(QPen(theme.colours().accent, 1))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)

    def _paint_still(self) -> None:
        assert self._still is not None
        colours, field = theme.colours(), self._field()
        low, high = self._lens.seen
        points = max(16, int(field.width()) * POINTS_A_PIXEL)
        drawn = [(curve, *thinned(curve.x_N, curve.y_N, low, high, points)) for curve in self._curves]
        seen = [_usual(y) if curve.is_raw else y for curve, _, y in drawn]
        self._span = _span(seen, [mark.value for mark in self._marks])
        painter = QPainter(self._still)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours.raised)
        painter.drawRoundedRect(QRectF(self.rect()), theme.RADIUS, theme.RADIUS)
        painter.setFont(theme.font("strong"))
        painter.setPen(colours.text)
        title = QRect(theme.SPACE + 2, 4, self.width(), self.HEAD_PX)
        painter.drawText(title, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, self._title)
        self._paint_axes(painter, field)
        painter.setClipRect(field.adjusted(-1, -2, 1, 2))
        self._paint_marks(painter, field)
        for curve, x, y in drawn:
            self._paint_curve(painter, curve, x, y)
        painter.end()

    def _paint_axes(self, painter: QPainter, field: QRectF) -> None:
        colours = theme.colours()
        painter.setFont(theme.font("small"))
        for value in ticks(*self._span, TICKS):
            y = round(float(self._y_px(value))) + 0.5
            painter.setPen(QPen(colours.line, 1))
            painter.drawLine(QPointF(field.left(), y), QPointF(field.right(), y))
            painter.setPen(colours.muted)
            box = QRectF(0, y - 8, self.LEFT_PX - 6, 16)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self._number(value))
        for value in ticks(*self._lens.seen, max(2, int(field.width() // 60))):
            x = float(self._x_px(value))
            painter.setPen(colours.muted)
            box = QRectF(x - 40, field.bottom() + 4, 80, 16)
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, short(value))

    def _paint_marks(self, painter: QPainter, field: QRectF) -> None:
        colours = theme.colours()
        metrics = QFontMetricsF(theme.font("small"))
        for mark in self._marks:
            colour = colours.danger if mark.is_bad else colours.muted
            y = float(self._y_px(mark.value))
            painter.setPen(QPen(colour, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(field.left(), y), QPointF(field.right(), y))
            above = y - 4 if y - metrics.height() > field.top() else y + metrics.ascent() + 2
            painter.setPen(colour)
            painter.drawText(QPointF(field.right() - metrics.horizontalAdvance(mark.text) - 4, above), mark.text)

    def _paint_curve(self, painter: QPainter, curve: Curve, x: Floats, y: Floats) -> None:
        colour = QColor(curve.colour)
        if curve.is_raw:
            colour.setAlphaF(RAW_OPACITY)
        pen = QPen(colour, RAW_PX if curve.is_raw or curve.is_plan else CURVE_PX)
        pen.setCapStyle(Qt.PenCapStyle.RoundCap if len(x) < FEW_POINTS else Qt.PenCapStyle.FlatCap)
        if curve.is_plan:
            pen.setStyle(Qt.PenStyle.DotLine)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        x_px, y_px = np.asarray(self._x_px(x)), np.asarray(self._y_px(y))
        for part in _unbroken(y):
            painter.drawLines(_lines(x_px[part], y_px[part]))
        if curve.has_value and len(x) <= FEW_POINTS:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            for at in np.flatnonzero(~np.isnan(y)):
                painter.drawEllipse(QPointF(x_px[at], y_px[at]), DOT_PX - 1, DOT_PX - 1)

    def _paint_values(self, painter: QPainter) -> None:
        """Write the values under the cross-hair at the top right, or the newest ones."""
        colours, field, place = theme.colours(), self._field(), self._lens.place
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(theme.font("number"))
        metrics = QFontMetricsF(painter.font())
        right = self.width() - theme.SPACE - 2.0
        title_px = QFontMetricsF(theme.font("strong")).horizontalAdvance(self._title) + 2 * theme.SPACE + 8
        if place is not None and self._lens.seen[0] <= place <= self._lens.seen[1]:
            x = float(self._x_px(place))
            painter.setPen(QPen(colours.faint, 1))
            painter.drawLine(QPointF(x, field.top()), QPointF(x, field.bottom()))
        told = [curve for curve in self._curves if curve.has_value and len(curve.x_N)]
        for curve in reversed(told):
            at = len(curve.x_N) - 1 if place is None else _nearest(curve.x_N, place)
            value = float(curve.y_N[at])
            if math.isnan(value):
                continue
            text = self._number(value)
            right -= metrics.horizontalAdvance(text)
            if right < title_px:
                break
            painter.setPen(colours.text if len(told) == 1 else curve.colour)
            painter.drawText(QPointF(right, 4 + (self.HEAD_PX + metrics.capHeight()) / 2), text)
            right -= theme.SPACE
            if place is not None:
                painter.setPen(QPen(colours.raised, 1))
                painter.setBrush(curve.colour)
                point = QPointF(float(self._x_px(float(curve.x_N[at]))), float(self._y_px(value)))
                if field.contains(point):
                    painter.drawEllipse(point, DOT_PX, DOT_PX)

    # Mouse and keys.

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Paint anew."""
        self._redraw()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom with Ctrl; without, the charts scroll."""
        if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
            return
        turns = event.angleDelta().y() / 120
        self._lens.zoom(self._place_at(event.position().x()), ZOOM_STEP**turns)
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to pan."""
        self._dragged_from = event.position()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End panning."""
        self._dragged_from = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show everything."""
        self._lens.show_all()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move the cross-hair, or what is seen."""
        if self._dragged_from is not None:
            by = self._place_at(self._dragged_from.x()) - self._place_at(event.position().x())
            self._dragged_from = event.position()
            self._lens.pan(by)
            return
        is_inside = self._field().adjusted(-4, -4, 4, 4).contains(event.position())
        self._lens.point(self._place_at(event.position().x()) if is_inside else None)

    def leaveEvent(self, event: QEvent) -> None:
        """Take the cross-hair away."""
        self._lens.point(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the cross-hair by the arrow keys, zoom by + and -, show all by 0."""
        low, high = self._lens.seen
        place = (low + high) / 2 if self._lens.place is None else self._lens.place
        match event.key():
            case Qt.Key.Key_Left | Qt.Key.Key_Right:
                sign = 1 if event.key() == Qt.Key.Key_Right else -1
                self._lens.point(place + sign * PAGE * (high - low))
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self._lens.zoom(place, ZOOM_STEP)
            case Qt.Key.Key_Minus:
                self._lens.zoom(place, 1 / ZOOM_STEP)
            case Qt.Key.Key_0:
                self._lens.show_all()
            case _:
                super().keyPressEvent(event)


def _span(curves: Sequence[Floats], marks: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest value to show, with some air; lines far away do not press curves flat."""
    values = np.concatenate([y[~np.isnan(y)] for y in curves]) if curves else np.zeros(0)
    everything = np.concatenate([values, np.array(marks, np.float64)])
    if not len(everything):
        return 0.0, 1.0
    low, high = float(everything.min()), float(everything.max())
    if high - low < 1e-12 + 1e-6 * abs(high):
        pad = abs(high) * 0.1 or 1.0
        return low - pad, high + pad
    pad = AIR * (high - low)
    return low - pad, high + pad


def _usual(y_N: Floats) -> Floats:
    """Return the least and the greatest value but for outliers."""
    known = y_N[~np.isnan(y_N)]
    return np.percentile(known, USUAL) if len(known) else known


def ticks(low: float, high: float, n: int) -> list[float]:
    """Return about ``n`` round numbers between two."""
    rough = (high - low) / max(1, n)
    scale = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(scale * nice for nice in NICE if scale * nice >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """Return a number in few characters: 0.25, 12, 3.4k, 1.2M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.4g}{letter}"
    return f"{value:.4g}"


def _nearest(x_N: Floats, place: float) -> int:
    at = int(np.searchsorted(x_N, place))
    if at == len(x_N) or (at and place - x_N[at - 1] < x_N[at] - place):
        at -= 1
    return at


def _unbroken(y: Floats) -> list[slice]:
    """Return the pieces between gaps."""
    gaps = np.flatnonzero(np.isnan(y))
    edges = [-1, *gaps.tolist(), len(y)]
    return [slice(a + 1, b) for a, b in pairwise(edges) if b - a > 1]


def _lines(x: Floats, y: Floats) -> list[QLineF]:
    """Return the pieces of a curve: Qt draws them forty times as fast as one long line, and the joints do not show."""
    points = zip(x[:-1].tolist(), y[:-1].tolist(), x[1:].tolist(), y[1:].tolist(), strict=True)
    return [QLineF(*ends) for ends in points]
