"""The map as a widget: points, density, thumbnails and names; zoom, pan, pick, lasso.

What it draws is made by `dinoviz.splat`. It knows pictures by their number, which is the place of their row in the
arrays it is given, and nothing of projects: who owns it says what the numbers are.

Letters after a name are its axes: N pictures · K colours · 2 the plane, x before y
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPoint, QPointF, QRectF, QSize, QSizeF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QNativeGestureEvent,
    QPainter,
    QPainterPath,
    QPainterPathStroker,
    QPaintEvent,
    QPen,
    QPixmap,
    QPolygonF,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QGestureEvent, QPinchGesture, QSizePolicy, QWidget

from dinoviz import theme
from dinoviz.watching import follow
from dinoviz.widgets.scatter.camera import Camera
from dinoviz.widgets.scatter.paint import (
    Place,
    density_colours,
    filled,
    image_of,
    laid_out_names,
    name_pixmap,
    packed,
    paint_name,
    pixels_of,
    rgb,
)
from dinoviz.widgets.scatter.splat import (
    CHOSEN,
    FAINT,
    PLAIN,
    Cloud,
    Layer,
    Looks,
    Scene,
    View,
    count_in_view,
    density,
    draw,
    inside,
    nearest,
)
from dinoviz.widgets.scatter.thumbnails import ThumbnailLayout, When
from dinoviz.words import tr

Tool = Literal["pan", "lasso", "rectangle", "brush"]
How = Literal["replace", "add", "subtract", "toggle"]
Picture = Callable[[int, int], QImage | None]
"""Gives the picture of a number with a longest side in device pixels, None while it is not there yet."""

WHEEL_ZOOM = 1.0018  # for an eighth of a degree, Qt's unit; a notch of the wheel is 120 of them: 1.24 times
KEY_ZOOM, KEY_PAN = 1.4, 0.15  # times nearer; share of the window
FRAME_MS = 16
EDGE_PX = 20  # of the window, in which a point is not taken to be in view
MORPH_MS = 450
MORPHED_MOST = 200_000  # points up to which a map turns into the next one before one's eyes
SLOW_MS = 14.0  # for a frame, above which fewer pixels are drawn while the view moves
REST_MS = 120  # without a movement before discs are drawn smooth
CLICK_PX = 4  # a press that moves less is a click
PICK_PX = 9  # from the middle of a point, where the mouse still means it
LASSO_SIDE = 2048  # pixels along the longer side of what is lassoed: finer than any screen shows it
LASSO_STEP_PX = 2.0
BRUSH_PX, BRUSH_RANGE_PX, BRUSH_STEP = 24.0, (4.0, 200.0), 1.15

BASE_PX, BASE_FADE, BASE_RANGE_PX = 15.0, 0.15, (1.8, 7.0)
"""Diameter of one point of n: ``BASE_PX / n**BASE_FADE``: 4.4 px of 3,781, 2.7 of 100,000, 1.9 of a million."""
GROWTH, LARGEST_PX = 0.3, 14.0  # a point's diameter grows with this power of the zoom, up to this


DENSITY_BIN_PX = 2
DENSITY_BLUR_PX, DENSITY_FADE, DENSITY_BLUR_RANGE_PX = 56.0, 1 / 6, (5.0, 18.0)
"""Smoothing of a density of n points in view: ``DENSITY_BLUR_PX / n**DENSITY_FADE``; the exponent is that of Scott 1992
for two dimensions."""
POINTS_OVER_DENSITY = 20_000  # in view, fewer of which are drawn over the density

FAINT_MIX, DIMMED_MIX = 0.18, 0.42
"""Share of grey in points outside the filter, and of the point's own colour where others are chosen; the rest is the
ground."""
RIM_MIX = 0.6  # of the colour of text in the rim of a chosen point


class ScatterCanvas(QWidget):
    """A map of up to some millions of points."""

    hovered = Signal(int)
    """The number under the mouse, -1 for none."""
    clicked = Signal(int, object)
    """A number that was clicked, -1 for empty ground, and ``How``."""
    activated = Signal(int)
    """A number that was double-clicked, or the current one when Enter was pressed."""
    selected = Signal(object, object)
    """Numbers that were lassoed, int64 ascending, and ``How``."""
    cleared = Signal()
    """Escape was pressed with nothing to cancel."""
    tool_changed = Signal(str)
    view_changed = Signal()

    def __init__(self, parent: QWidget | None = None, *, is_animated: bool = True) -> None:
        super().__init__(parent)
        self.picture: Picture = lambda _number, _side: None
        self.caption: Callable[[int], str] = lambda _number: ""
        """What is written below the picture of a number."""
        self.is_animated = is_animated
        self.frame_ms = 0.0
        """What the last picture of the points took to draw."""
        self._cloud: Cloud | None = None
        self._all: Layer | None = None
        self._unit_N2 = np.empty((0, 2), np.float32)
        self._codes_N: NDArray[np.uint8] | None = None
        self._colours_K3 = np.zeros((1, 3), np.uint8)
        self._is_shown_N: NDArray[np.bool_] | None = None
        self._is_chosen_N: NDArray[np.bool_] | None = None
        self._scene: Scene | None = None
        self._current = self._hovered = -1
        self._places: Sequence[Place] = ()
        self._hides_faint = False
        self._emphasis = -1
        self._has_focus_ring = False
        self._is_slow = False
        self._is_dense, self._has_contours = False, True
        self.thumbnails = ThumbnailLayout()
        self._size_factor = 1.0
        self.camera = Camera()
        self._tool: Tool = "pan"
        self._brush_px = BRUSH_PX
        self._pressed: QPointF | None = None
        self._last = QPointF()
        self._drawn: list[QPointF] = []
        self._is_panning = False
        self._mouse: QPointF | None = None
        self._picture_is_old = True
        self._image: QImage | None = None
        self._pixels: NDArray[np.uint32] | None = None  # the memory of the image
        self._image_part = QRectF()
        self._names: dict[str, QPixmap] = {}
        self._morph: tuple[NDArray[np.float32], NDArray[np.float32], float] | None = None
        self._frames = QTimer(self, interval=FRAME_MS)
        self._frames.timeout.connect(self._next_frame)
        self._rest = QTimer(self, interval=REST_MS, singleShot=True)
        self._rest.timeout.connect(self._draw_again)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.grabGesture(Qt.GestureType.PinchGesture)
        self.setAccessibleName(tr("Map"))
        follow(self, theme.changed, self._retint)

    def sizeHint(self) -> QSize:
        """As large as is pleasant."""
        return QSize(800, 600)

    def minimumSizeHint(self) -> QSize:
        """As small as makes sense."""
        return QSize(200, 160)

    # What is drawn

    def set_cloud(self, cloud: Cloud | None, layer: Layer | None = None) -> None:
        """Show the points of a map; they move there where they were shown before, if there are not too many.

        Args:
            cloud: the points; None for no map.
            layer: all of them, where it is prepared.
        """
        before_N2 = self._unit_N2
        self._cloud, self._all = cloud, None
        self._unit_N2 = np.empty((0, 2), np.float32)
        self._morph = None
        if cloud is not None:
            self._all = layer or Layer(cloud)
            self._unit_N2 = np.full((cloud.n, 2), np.nan, np.float32)
            self._unit_N2[cloud.numbers_S, 0], self._unit_N2[cloud.numbers_S, 1] = cloud.x_S, cloud.y_S
            self._forget_others(cloud.n)
            is_same = before_N2.shape == self._unit_N2.shape and np.array_equal(
                before_N2, self._unit_N2, equal_nan=True
            )
            if self.is_animated and before_N2.shape == self._unit_N2.shape and not is_same and cloud.n <= MORPHED_MOST:
                self._begin_morph(before_N2)
        self.camera.look_at((0.0, 0.0, 1.0, 1.0) if cloud is None else cloud.bounds)
        self._rebuild()

    def _forget_others(self, n: int) -> None:
        """Forget what was said of the pictures of another map."""
        if self._codes_N is not None and len(self._codes_N) != n:
            self._codes_N = None
        if self._is_shown_N is not None and len(self._is_shown_N) != n:
            self._is_shown_N = None
        if self._is_chosen_N is not None and len(self._is_chosen_N) != n:
            self._is_chosen_N = None
        self._current = self._current if self._current < n else -1
        self._hovered = self._hovered if self._hovered < n else -1

    def set_colours(self, codes_N: NDArray[np.uint8], colours_K3: NDArray[np.uint8]) -> None:
        """Colour the points: a number of a colour for each picture, and up to 256 colours, uint8 RGB."""
        self._codes_N, self._colours_K3 = codes_N, colours_K3
        if self._scene is not None and self._cloud is not None:
            self._scene.looks = self._looks(self._cloud)
        self._draw_again()

    def set_shown(self, is_shown_N: NDArray[np.bool_] | None, *, hides_others: bool = False) -> None:
        """Draw points where it is False faint, or not at all; None shows all."""
        self.thumbnails.forget_side()
        self._is_shown_N = None if is_shown_N is None or is_shown_N.all() else is_shown_N
        self._hides_faint = hides_others
        self._rebuild()

    def set_chosen(self, is_chosen_N: NDArray[np.bool_] | None) -> None:
        """Draw some points on top, with a rim; None for none."""
        self._is_chosen_N = is_chosen_N if is_chosen_N is not None and is_chosen_N.any() else None
        self._rebuild(only_chosen=True)

    def set_emphasis(self, code: int) -> None:
        """Let the points of one colour stand out; -1 for none."""
        if code != self._emphasis:
            self._emphasis = code
            self._retint()

    def set_current(self, number: int) -> None:
        """Ring a point; -1 for none."""
        if number != self._current:
            self._current = number
            self.update()

    def set_hovered(self, number: int) -> None:
        """Ring a point lightly; -1 for none."""
        if number != self._hovered:
            self._hovered = number
            self.update()

    def set_places(self, places: Sequence[Place]) -> None:
        """Write names on the map, those of more points first."""
        self._places = sorted(places, key=lambda place: -place.weight)
        self._names.clear()
        self.update()

    def set_density(self, is_dense: bool, *, has_contours: bool = True) -> None:
        """Draw how many points there are, in place of the points."""
        self._is_dense, self._has_contours = is_dense, has_contours
        self._draw_again()

    def set_thumbnails(self, when: When) -> None:
        """Draw pictures in place of points: where there is room for them, everywhere, or never."""
        self.thumbnails.when = when
        self.thumbnails.boxes = {}
        self.thumbnails.forget_side()
        self.update()

    def set_point_size(self, factor: float) -> None:
        """Draw points larger or smaller than is usual for their number."""
        self._size_factor = factor
        self._draw_again()

    def set_tool(self, tool: Tool) -> None:
        """Say what the left mouse button does."""
        if tool == self._tool:
            return
        self._tool = tool
        self._abandon()
        self._set_cursor()
        self.tool_changed.emit(tool)

    @property
    def tool(self) -> Tool:
        """What the left mouse button does."""
        return self._tool

    @property
    def mouse(self) -> QPoint:
        """Where the mouse is in the window."""
        return (self._mouse or QPointF()).toPoint()

    @property
    def view(self) -> View:
        """What is seen, in logical pixels."""
        return self.camera.view

    @property
    def diameter(self) -> float:
        """Of a point, in logical pixels."""
        n = len(self._all) if self._all else 1
        low, high = BASE_RANGE_PX
        base = min(high, max(low, BASE_PX / max(n, 1) ** BASE_FADE))
        zoom = max(1.0, self.view.scale / self.camera.fitting.scale)
        return float(min(LARGEST_PX, base * self._size_factor * zoom**GROWTH))

    def is_on_map(self, number: int) -> bool:
        """Tell whether a picture has a point."""
        return 0 <= number < len(self._unit_N2) and not math.isnan(self._unit_N2[number, 0])

    def where(self, number: int) -> QPointF:
        """Return where a point is in the window."""
        x, y = self._unit_N2[number].tolist()
        return QPointF(*self.view.to_screen(x, y, self.width(), self.height()))

    def number_at(self, at: QPointF, reach_px: float = PICK_PX) -> int:
        """Return the number of the point at a place in the window, -1 for none; only those that are shown."""
        if self._scene is None or self._morph is not None:
            return -1
        if (thumbnail := self.thumbnails.at(at)) >= 0:
            return thumbnail
        x, y = self.view.to_map(at.x(), at.y(), self.width(), self.height())
        reach = max(reach_px, self.diameter / 2 + 2) / self.view.scale
        place = nearest(self._scene.plain, x, y, reach)
        return -1 if place < 0 else int(self._scene.plain.cloud.numbers_S[place])

    def _rebuild(self, *, only_chosen: bool = False) -> None:
        """Sort the points into layers anew."""
        cloud, everything = self._cloud, self._all
        if cloud is None or everything is None:
            self._scene = None
        else:
            faint, plain = None, everything
            if only_chosen and self._scene is not None:
                faint, plain = self._scene.faint, self._scene.plain
            elif self._is_shown_N is not None:
                is_shown_S = self._is_shown_N[cloud.numbers_S]
                plain = Layer(cloud, is_shown_S)
                faint = None if self._hides_faint else Layer(cloud, ~is_shown_S)
            chosen = None if self._is_chosen_N is None else Layer(cloud, self._is_chosen_N[cloud.numbers_S])
            buffers = self._scene.buffers if self._scene else {}
            self._scene = Scene(faint, plain, chosen, self._looks(cloud), buffers)
        self._draw_again()

    def _looks(self, cloud: Cloud) -> Looks:
        codes = np.zeros(cloud.n, np.uint8) if self._codes_N is None else self._codes_N
        codes_S = codes[cloud.numbers_S]
        c = theme.colours()
        ground, grey = rgb(c.canvas), rgb(c.faint)
        own_K3 = self._colours_K3.astype(np.float32) if self._codes_N is not None else rgb(c.accent)[None]
        table_4K3 = np.empty((4, 256, 3), np.float32)
        table_4K3[:] = ground
        table_4K3[FAINT] = ground + (grey - ground) * FAINT_MIX
        table_4K3[PLAIN:, : len(own_K3)] = own_K3
        if self._emphasis >= 0:
            others = np.arange(256) != self._emphasis
            table_4K3[PLAIN:, others] = ground + (table_4K3[PLAIN:, others] - ground) * FAINT_MIX
        elif self._is_chosen_N is not None:
            table_4K3[PLAIN] = ground + (table_4K3[PLAIN] - ground) * DIMMED_MIX
        return Looks(codes_S, packed(table_4K3), int(packed((ground + (rgb(c.text) - ground) * RIM_MIX)[None])[0]))

    def _retint(self) -> None:
        self._names.clear()
        if self._scene is not None and self._cloud is not None:
            self._scene.looks = self._looks(self._cloud)
        self._draw_again()

    def _draw_again(self) -> None:
        self._picture_is_old = True
        self.update()

    # What is seen of it

    def fit(self) -> None:
        """Show the whole map."""
        self.camera.fit()
        self._go()

    def zoom(self, factor: float, at: QPointF | None = None) -> None:
        """Come nearer by a factor, towards a place in the window, which stays where it is."""
        at = at or QPointF(self.width() / 2, self.height() / 2)
        self.camera.zoom(factor, at.x(), at.y())
        self._go()

    def pan(self, dx: float, dy: float, *, at_once: bool = False) -> None:
        """Move what is seen by logical pixels."""
        self.camera.pan(dx, dy)
        self._go(at_once=at_once)

    def see(self, x: float, y: float, zoom: float) -> None:
        """Show a part of the map at once, as ``Camera.seen`` said it."""
        self.camera.see(x, y, zoom)
        self._go(at_once=True)

    def show_number(self, number: int) -> None:
        """Move so that a point is in the middle, if it is not in view."""
        inner = self.rect().adjusted(EDGE_PX, EDGE_PX, -EDGE_PX, -EDGE_PX)
        if self.is_on_map(number) and not inner.contains(self.where(number).toPoint()):
            x, y = self._unit_N2[number].tolist()
            self.camera.centre(x, y)
            self._go()

    def _go(self, *, at_once: bool = False) -> None:
        """Set out for where the camera is to be."""
        if at_once or not self.is_animated or not self.isVisible():
            self.camera.arrive()
        else:
            self.camera.begin(_now_ms())
            self._frames.start()
        self._moved()

    def _moved(self) -> None:
        self._rest.start()
        self._draw_again()
        self.view_changed.emit()

    def _next_frame(self) -> None:
        """Take the next step of a movement."""
        if self.camera.is_moving:
            self.camera.step(_now_ms())
            self._moved()
        if self._morph is not None:
            self._morph_on()
        if not self.camera.is_moving and self._morph is None:
            self._frames.stop()

    def _begin_morph(self, before_N2: NDArray[np.float32]) -> None:
        """Let points move from where they were; those that were nowhere appear where they belong."""
        start_N2 = np.where(np.isnan(before_N2), self._unit_N2, before_N2)
        self._morph = (start_N2, self._unit_N2, _now_ms())
        self._frames.start()

    def _morph_on(self) -> None:
        assert self._morph is not None
        if _now_ms() - self._morph[2] >= MORPH_MS:
            self._morph = None
            self._rest.start()
        self._draw_again()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show the same part of the map as before."""
        super().resizeEvent(event)
        self.camera.resize(self.width(), self.height())
        self._draw_again()

    # Drawing

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the points anew where something changed, and what lies over them."""
        if self._picture_is_old or self._image is None:
            begun = time.perf_counter()
            self._redraw()
            self.frame_ms = (time.perf_counter() - begun) * 1000
        painter = QPainter(self)
        try:
            self._paint(painter)
        finally:
            painter.end()  # a painter that is left open takes the process with it

    def _paint(self, painter: QPainter) -> None:
        if self._image is None:
            painter.fillRect(self.rect(), theme.colours().canvas)
        else:
            painter.drawImage(QRectF(self.rect()), self._image, self._image_part)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if self._scene is not None and self._morph is None:
            self._paint_thumbnails(painter)
            self._paint_names(painter)
        self._paint_rings(painter)
        self._paint_tool(painter)
        if self.hasFocus() and self._has_focus_ring:
            painter.setPen(QPen(theme.colours().accent, 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))

    def _redraw(self) -> None:
        """Draw the points anew, in device pixels."""
        self._picture_is_old = False
        if self._scene is None or self.width() < 1 or self.height() < 1:
            self._image = None
            return
        is_fine = not (self._rest.isActive() or self._frames.isActive() or self._is_panning)
        ratio = self._drawn_ratio(is_fine=is_fine)
        size = (math.ceil(self.width() * ratio), math.ceil(self.height() * ratio))
        view = View(self.view.x, self.view.y, self.view.scale * ratio)
        scene = self._scene if self._morph is None else self._morphing()
        ground_YX = None
        if self._is_dense and self._morph is None:
            ground_YX = self._density(scene, view, size, ratio)
            if count_in_view(scene.plain, view, size) > POINTS_OVER_DENSITY:
                nothing = Layer(scene.plain.cloud, np.zeros(len(scene.plain.cloud), np.bool_))
                scene = Scene(None, nothing, scene.chosen, scene.looks, scene.buffers)
        pixels, pad = draw(scene, view, size, self.diameter * ratio, is_fine=is_fine, ground_YX=ground_YX)
        self._pixels, self._image = pixels, image_of(pixels)
        self._image_part = QRectF(pad, pad, *size)

    def _morphing(self) -> Scene:
        """Return the points on their way."""
        assert self._morph is not None and self._scene is not None
        start_N2, end_N2, begun = self._morph
        share = np.float32(min(1.0, (_now_ms() - begun) / MORPH_MS))
        share = share * share * (3 - 2 * share)
        now_N2 = start_N2 + (end_N2 - start_N2) * share
        cloud = Cloud.of(now_N2)
        plain = faint = None
        if self._is_shown_N is not None:
            is_shown_S = self._is_shown_N[cloud.numbers_S]
            plain, faint = Layer(cloud, is_shown_S), None if self._hides_faint else Layer(cloud, ~is_shown_S)
        chosen = None if self._is_chosen_N is None else Layer(cloud, self._is_chosen_N[cloud.numbers_S])
        return Scene(faint, plain or Layer(cloud), chosen, self._looks(cloud), self._scene.buffers)

    def _drawn_ratio(self, *, is_fine: bool) -> float:
        """Return device pixels to a logical one: fewer while the view moves, where all of them take too long."""
        ratio = self.devicePixelRatioF()
        if is_fine:
            self._is_slow = False
        elif self.frame_ms > SLOW_MS and ratio > 1:
            self._is_slow = True
        return max(1.0, ratio / 2) if self._is_slow else ratio

    def _density(self, scene: Scene, view: View, size: tuple[int, int], ratio: float) -> NDArray[np.uint32]:
        bin_px = max(1, round(DENSITY_BIN_PX * ratio))
        n = max(1, count_in_view(scene.plain, view, size))
        low, high = DENSITY_BLUR_RANGE_PX
        blur_px = min(high, max(low, DENSITY_BLUR_PX / n**DENSITY_FADE)) * ratio
        counts = density(scene.plain, view, size, bin_px, blur_px)
        colours_YX = density_colours(counts, has_contours=self._has_contours, is_soft=n <= POINTS_OVER_DENSITY)
        small = image_of(colours_YX)
        large = QImage(*size, QImage.Format.Format_RGB32)
        painter = QPainter(large)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF(0, 0, small.width() * bin_px, small.height() * bin_px), small)
        painter.end()
        return pixels_of(large)

    def _paint_rings(self, painter: QPainter) -> None:
        c = theme.colours()
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for number, colour, width in ((self._hovered, c.text, 1.5), (self._current, c.accent, 2.5)):
            if not self.is_on_map(number) or self._morph is not None or number in self.thumbnails.boxes:
                continue
            at, radius = self.where(number), self.diameter / 2 + 3
            painter.setPen(QPen(c.canvas, width + 2))
            painter.drawEllipse(at, radius, radius)
            painter.setPen(QPen(colour, width))
            painter.drawEllipse(at, radius, radius)

    def _paint_tool(self, painter: QPainter) -> None:
        """Draw the lasso, the rectangle or the brush under the mouse."""
        c = theme.colours()
        fill = QColor(c.accent)
        fill.setAlphaF(0.14)
        painter.setPen(QPen(c.accent, 1.5))
        painter.setBrush(fill)
        if self._tool == "brush" and self._mouse is not None:
            if len(self._drawn) > 1:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.drawPath(self._brushed().simplified())
                painter.setPen(QPen(c.accent, 1.5))
            painter.drawEllipse(self._mouse, self._brush_px, self._brush_px)
        elif self._drawn:
            painter.drawPath(self._outline())

    def _paint_names(self, painter: QPainter) -> None:
        """Write the names of groups where they lie, none over another or over a picture."""
        taken = list(self.thumbnails.boxes.values())
        for place, box in laid_out_names(self._places, self.view, self.size(), taken):
            painter.drawPixmap(box.topLeft(), self._name(place.text))

    def _name(self, text: str) -> QPixmap:
        """Return a name with a halo, drawn once."""
        if text not in self._names:
            self._names[text] = name_pixmap(text, self.devicePixelRatioF())
        return self._names[text]

    # Thumbnails

    def _paint_thumbnails(self, painter: QPainter) -> None:
        assert self._scene is not None
        self.thumbnails.lay_out(self._scene.plain, self.view, (self.width(), self.height()))
        c, ratio = theme.colours(), self.devicePixelRatioF()
        for number, box in list(self.thumbnails.boxes.items()):
            image = self.picture(number, round(box.width() * ratio))
            if image is None or image.isNull():
                self.thumbnails.boxes.pop(number)
                continue
            size = QSizeF(image.size()).scaled(box.size(), Qt.AspectRatioMode.KeepAspectRatio)
            frame = QRectF(QPointF(), size)
            frame.moveCenter(box.center())
            is_chosen = self._is_chosen_N is not None and bool(self._is_chosen_N[number])
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(self._frame_colour(number))
            edge = 2.0
            if number == self._current or is_chosen:
                edge = 3.0
                painter.setBrush(c.accent if number == self._current else c.text)
            elif number == self._hovered:
                painter.setBrush(c.text)
            painter.drawRoundedRect(frame.adjusted(-edge, -edge, edge, edge), 3, 3)
            painter.drawImage(frame, image)
            if caption := self.caption(number):
                name = self._name(caption)
                width = name.width() / name.devicePixelRatio()
                painter.drawPixmap(QPointF(round(frame.center().x() - width / 2), round(frame.bottom())), name)

    def _frame_colour(self, number: int) -> QColor:
        """Return the colour of a picture's point."""
        if self._codes_N is None:
            return theme.colours().accent
        return QColor(*map(int, self._colours_K3[min(int(self._codes_N[number]), len(self._colours_K3) - 1)]))

    # Mouse, keys, gestures

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to move the map, or to draw around points."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        self._pressed = self._last = event.position()
        is_pan = self._tool == "pan" or event.button() == Qt.MouseButton.MiddleButton
        if event.button() not in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._pressed = None
            return
        self._is_panning = is_pan
        if not is_pan:
            self._drawn = [event.position()]
        self._set_cursor()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go on with it; else tell what is under the mouse."""
        at = event.position()
        self._mouse = at
        if self._pressed is None:
            self._hover(at)
            if self._tool == "brush":
                self.update()
            return
        if self._is_panning:
            if (at - self._pressed).manhattanLength() > CLICK_PX or self._last != self._pressed:
                delta = at - self._last
                self._last = at
                self.pan(delta.x(), delta.y(), at_once=True)
        elif (at - self._drawn[-1]).manhattanLength() >= LASSO_STEP_PX:
            self._drawn.append(at)
            self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Select what was drawn around; a press that did not move is a click."""
        if self._pressed is None:
            return
        at, pressed = event.position(), self._pressed
        moved = max((point - pressed).manhattanLength() for point in (at, *self._drawn)) > CLICK_PX
        was_panning, how = self._is_panning, how_of(event.modifiers())
        pressed_left = event.button() == Qt.MouseButton.LeftButton
        self._pressed, self._is_panning = None, False
        self._set_cursor()
        if not was_panning and (moved or self._tool == "brush") and self._drawn:
            if self._drawn[-1] != at:
                self._drawn.append(at)
            path = self._brushed() if self._tool == "brush" else self._outline()
            self._drawn = []
            self.selected.emit(self.numbers_in(path), how)
        elif not moved and pressed_left:
            self._drawn = []
            self.clicked.emit(self.number_at(at), how)
        self._drawn = []
        self._draw_again()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Open a picture, or come nearer."""
        if event.button() == Qt.MouseButton.LeftButton and (number := self.number_at(event.position())) >= 0:
            self.activated.emit(number)
        elif event.button() == Qt.MouseButton.LeftButton and self._tool == "pan":
            self.zoom(2, event.position())

    def leaveEvent(self, _event: QEvent) -> None:
        """Nothing is under the mouse."""
        self._mouse = None
        self.hovered.emit(-1)
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show where the keys go when one came here by keys."""
        super().focusInEvent(event)
        reasons = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason, Qt.FocusReason.ShortcutFocusReason)
        self._has_focus_ring = event.reason() in reasons
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Take the ring away."""
        super().focusOutEvent(event)
        self.update()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom, or set the size of the brush."""
        notch = event.angleDelta().y() or event.angleDelta().x()
        if self._tool == "brush" and not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._set_brush(self._brush_px * BRUSH_STEP ** (notch / 120))
        elif notch:
            self.zoom(WHEEL_ZOOM**notch, event.position())
        event.accept()

    def event(self, event: QEvent) -> bool:
        """Zoom by two fingers."""
        if isinstance(event, QNativeGestureEvent) and event.gestureType() == Qt.NativeGestureType.ZoomNativeGesture:
            self.zoom(1 + event.value(), event.position())
            return True
        if isinstance(event, QGestureEvent) and isinstance(
            pinch := event.gesture(Qt.GestureType.PinchGesture), QPinchGesture
        ):
            self.zoom(pinch.scaleFactor(), QPointF(self.mapFromGlobal(pinch.centerPoint().toPoint())))
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move, zoom, give up a lasso."""
        if not self._pressed_key(Qt.Key(event.key())):
            super().keyPressEvent(event)

    def _pressed_key(self, key: Qt.Key) -> bool:
        """Do what a key says; tell whether it says anything."""
        step_x, step_y = self.width() * KEY_PAN, self.height() * KEY_PAN
        moves = {
            Qt.Key.Key_Left: (step_x, 0.0),
            Qt.Key.Key_Right: (-step_x, 0.0),
            Qt.Key.Key_Up: (0.0, step_y),
            Qt.Key.Key_Down: (0.0, -step_y),
        }
        if key in moves:
            self.pan(*moves[key])
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(KEY_ZOOM)
        elif key == Qt.Key.Key_Minus:
            self.zoom(1 / KEY_ZOOM)
        elif key == Qt.Key.Key_0:
            self.fit()
        elif key in (Qt.Key.Key_BracketLeft, Qt.Key.Key_BracketRight):
            self._set_brush(self._brush_px * (BRUSH_STEP if key == Qt.Key.Key_BracketRight else 1 / BRUSH_STEP))
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._current >= 0:
            self.activated.emit(self._current)
        elif key == Qt.Key.Key_Escape:
            if not self._abandon():
                self.cleared.emit()
        else:
            return False
        return True

    def _abandon(self) -> bool:
        """Give up a lasso that is being drawn; tell whether there was one."""
        was_drawing = bool(self._drawn)
        self._drawn, self._pressed, self._is_panning = [], None, False
        self.update()
        return was_drawing

    def _set_brush(self, radius_px: float) -> None:
        self._brush_px = min(max(radius_px, BRUSH_RANGE_PX[0]), BRUSH_RANGE_PX[1])
        self.update()

    def _set_cursor(self) -> None:
        if self._is_panning:
            self.setCursor(Qt.CursorShape.ClosedHandCursor)
        elif self._tool == "pan":
            self.setCursor(Qt.CursorShape.ArrowCursor)
        else:
            self.setCursor(Qt.CursorShape.CrossCursor)

    def _hover(self, at: QPointF) -> None:
        number = self.number_at(at)
        if self._tool == "pan":
            self.setCursor(Qt.CursorShape.PointingHandCursor if number >= 0 else Qt.CursorShape.ArrowCursor)
        self.hovered.emit(number)

    def _outline(self) -> QPainterPath:
        """Return what the lasso or the rectangle encloses."""
        path = QPainterPath()
        path.setFillRule(Qt.FillRule.WindingFill)
        end = self._mouse or self._drawn[-1]
        if self._tool == "rectangle":
            path.addRect(QRectF(self._drawn[0], end).normalized())
        else:
            path.addPolygon(QPolygonF(self._drawn))
            path.closeSubpath()
        return path

    def _brushed(self) -> QPainterPath:
        """Return what the brush went over."""
        line = QPainterPath(self._drawn[0])
        for point in self._drawn[1:] or [self._drawn[0] + QPointF(0.01, 0)]:
            line.lineTo(point)
        stroker = QPainterPathStroker()
        stroker.setWidth(2 * self._brush_px)
        stroker.setCapStyle(Qt.PenCapStyle.RoundCap)
        stroker.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
        stroke = stroker.createStroke(line)
        stroke.setFillRule(Qt.FillRule.WindingFill)
        return stroke

    def numbers_in(self, path: QPainterPath) -> NDArray[np.int64]:
        """Return the numbers of the points that are shown in an outline of the window, ascending."""
        if self._scene is None:
            return np.empty(0, np.int64)
        box = path.boundingRect()
        if box.width() <= 0 or box.height() <= 0:
            return np.empty(0, np.int64)
        scale = LASSO_SIDE / max(box.width(), box.height())
        is_inside_YX = filled(path, box, scale)
        left, top = self.view.to_map(box.left(), box.top(), self.width(), self.height())
        shape = is_inside_YX.shape
        reach = 1 / scale / self.view.scale
        places = inside(self._scene.plain, is_inside_YX, (left, top, left + shape[1] * reach, top + shape[0] * reach))
        return np.sort(self._scene.plain.cloud.numbers_S[places]).astype(np.int64)

    def renderer(self, size: QSize, ratio: float = 1.0) -> Callable[[], QImage]:
        """Return what draws the map as it is seen now, in another size; it may be called in another thread.

        Args:
            size: in logical pixels.
            ratio: device pixels to a logical pixel.
        """
        growth = min(size.width() / self.width(), size.height() / self.height())
        view = replace(self.view, scale=self.view.scale * growth * ratio)
        diameter = min(self.diameter * growth, LARGEST_PX) * ratio
        scene = None if self._scene is None else replace(self._scene, buffers={})
        is_dense, places = self._is_dense, tuple(self._places)

        def drawn() -> QImage:
            image = QImage(size * ratio, QImage.Format.Format_RGB32)
            image.fill(theme.colours().canvas)
            if scene is not None:
                device = (image.width(), image.height())
                ground_YX = self._density(scene, view, device, ratio) if is_dense else None
                pixels, pad = draw(scene, view, device, diameter, ground_YX=ground_YX)
                painter = QPainter(image)
                painter.drawImage(QRectF(image.rect()), image_of(pixels), QRectF(pad, pad, *device))
                painter.scale(ratio, ratio)
                seen = replace(view, scale=view.scale / ratio)
                for place, box in laid_out_names(places, seen, size, []):
                    paint_name(painter, place.text, box.topLeft())
                painter.end()
            return image

        return drawn

    def names_in(self, size: QSize) -> list[tuple[str, QPointF]]:
        """Return the names that a drawing of another size has, and where their middles are."""
        growth = min(size.width() / self.width(), size.height() / self.height())
        view = replace(self.view, scale=self.view.scale * growth)
        return [(place.text, box.center()) for place, box in laid_out_names(self._places, view, size, [])]

    def points_in(
        self, size: QSize
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp], NDArray[np.uint32], float]:
        """Return the points that are seen, as a drawing of another size has them.

        Returns:
            x and y in pixels of that size, numbers, colours 0xffRRGGBB, and the diameter; points outside the filter
            first, chosen ones last.
        """
        scene = self._scene
        assert scene is not None, "points to draw"
        growth = min(size.width() / self.width(), size.height() / self.height())
        scale = self.view.scale * growth
        parts = []
        for layer, kind in ((scene.faint, FAINT), (scene.plain, PLAIN), (scene.chosen, CHOSEN)):
            if layer is not None:
                points = layer.all
                x = (points.x_P - np.float32(self.view.x)) * np.float32(scale) + np.float32(size.width() / 2)
                y = (points.y_P - np.float32(self.view.y)) * np.float32(scale) + np.float32(size.height() / 2)
                is_in = (x >= 0) & (y >= 0) & (x <= size.width()) & (y <= size.height())
                places = points.places_P[is_in]
                colours = scene.looks.table_4K[kind][scene.looks.codes_S[places]]
                parts.append((x[is_in], y[is_in], layer.cloud.numbers_S[places], colours))
        x, y, numbers, colours = (np.concatenate(column) for column in zip(*parts, strict=True))
        return x, y, numbers, colours, min(self.diameter * growth, LARGEST_PX)


def how_of(modifiers: Qt.KeyboardModifier) -> How:
    """Return what held keys make of a selection."""
    if modifiers & Qt.KeyboardModifier.AltModifier:
        return "subtract"
    if modifiers & Qt.KeyboardModifier.ControlModifier:
        return "toggle"
    return "add" if modifiers & Qt.KeyboardModifier.ShiftModifier else "replace"


def _now_ms() -> float:
    return time.monotonic() * 1000
