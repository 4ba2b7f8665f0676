"""One picture, large: zoom, pan, what lies over it, and the tools that point at it.

The canvas knows no model and no project. It is given a picture and layers, and tells where the person points, draws a
box or brushes; places are pixels of the upright original, x to the right and y down. Several canvases with one ``Zoom``
show the same place at the same scale.

What a picture looks like at the present zoom is kept as pixels of the screen, so that a new layer under a moving slider
costs only that layer; zooming draws from the nearest of some halved copies, and only what can be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from PySide6.QtCore import (
    QEvent,
    QObject,
    QPointF,
    QRectF,
    QSize,
    Qt,
    QTimer,
    QVariantAnimation,
    Signal,
)
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QWidget

from dinoviz import theme
from dinoviz.watching import follow
from dinoviz.widgets.picture.layers import Frame, Layer, Pyramid, draw_layer, draw_part, patch_box, stroke_rect
from dinoviz.widgets.picture.overlays import patch_at
from dinoviz.words import tr
from engine.questions import Lattice

Tool = Literal["none", "pointer", "box", "brush"]

WHEEL_STEP = 1.2
"""One notch of the wheel; pictures in Lightroom and maps in browsers go by about as much."""
NOTCH = 120
"""Units of a notch; QWheelEvent.angleDelta."""
KEY_STEP = 1.5
PAN_STEP = 0.15
"""Share of the canvas that a key moves."""
MOST_SCALE = 48.0
"""Screen pixels a picture's pixel is shown at, at most."""
CRISP_SCALE = 3.0
"""Screen pixels a pixel, from which on pixels are squares instead of being blurred."""
MARGIN_PX = 12
"""Kept free around a picture that fits."""
GRIP_PX = 9
"""How near to a corner or an edge of a box the mouse takes hold of it."""
WAITING_MS = 140
"""Before a layer that is out of date fades: answers that come within it leave no trace."""
FADE_MS = 160
FADED = 0.35
LEAST_RADIUS_PX, MOST_RADIUS_PX = 2.0, 200.0
"""Of a brush, on the screen."""
RADIUS_STEP = 1.25


class Zoom(QObject):
    """Which part of a picture is seen: how many times larger than where it fits, about which place.

    ``x`` and ``y`` are the place in the middle, as shares of width and height, so that pictures of other sizes show the
    same part. Canvases that share one stay together.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.times, self.x, self.y = 1.0, 0.5, 0.5

    def look(self, times: float, x: float, y: float) -> None:
        """Show a place so many times larger than where the picture fits; never smaller than that."""
        times = max(1.0, times)
        if times == 1.0:
            x, y = 0.5, 0.5
        now = (times, min(1.0, max(0.0, x)), min(1.0, max(0.0, y)))
        if now != (self.times, self.x, self.y):
            self.times, self.x, self.y = now
            self.changed.emit()

    def fit(self) -> None:
        """Show the whole picture."""
        self.look(1.0, 0.5, 0.5)


@dataclass(slots=True)
class _Held:
    """What the mouse is doing between press and release. ``at`` is a place of the canvas."""

    what: Literal["pan", "click", "draw", "move", "brush"]
    at: QPointF
    last: QPointF
    edges: tuple[bool, bool, bool, bool] = (False, False, False, False)
    is_adding: bool = True
    box: QRectF = field(default_factory=QRectF)


class PictureCanvas(QWidget):
    """A picture with layers and tools.

    Signals:
        patch_hovered(row, col): another patch is under the mouse, or reached by Ctrl+arrows.
        patch_clicked(row, col): the person chose it.
        left(): the mouse left the picture.
        box_drawn(QRectF): a box was drawn or changed; empty where it was taken away.
        stroke_began(), brushed(QPointF, QPointF, radius, is_adding), stroke_ended(): of the brush, in picture pixels.
        shown(): what is seen of the picture has changed, as by zoom.
    """

    patch_hovered = Signal(int, int)
    patch_clicked = Signal(int, int)
    left = Signal()
    box_drawn = Signal(QRectF)
    stroke_began = Signal()
    brushed = Signal(QPointF, QPointF, float, bool)
    stroke_ended = Signal()
    shown = Signal()

    def __init__(self, view: Zoom | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.view = view or Zoom(self)
        self.view.changed.connect(self._moved)
        self.box = QRectF()
        self.radius_px = 18.0
        self._picture: Pyramid | None = None
        self._message = ""
        self._layers: Sequence[Layer] = ()
        self._lattice: Lattice | None = None
        self._tool: Tool = "none"
        self._is_erasing = False
        self._hovered: tuple[int, int] | None = None
        self._pinned: tuple[int, int] | None = None
        self._mouse: QPointF | None = None
        self._held: _Held | None = None
        self._is_space_down = False
        self._shows_focus = False
        self._base = QPixmap()
        self._base_key: object = None
        self._fade = 1.0
        self._waiting = QTimer(self, singleShot=True, interval=WAITING_MS)
        self._waiting.timeout.connect(self._begin_fading)
        self._fading = QVariantAnimation(self, duration=FADE_MS)
        self._fading.valueChanged.connect(self._set_fade)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName(tr("Picture"))
        follow(self, theme.changed, self._repaint_all)

    # What is shown

    def set_picture(self, picture: Pyramid | QImage | None, message: str = "") -> None:
        """Show a picture, or none and why. Layers stay until others are set."""
        self._picture = Pyramid.of(picture) if isinstance(picture, QImage) else picture
        self._message = message
        self._repaint_all()

    @property
    def picture(self) -> Pyramid | None:
        """What is shown."""
        return self._picture

    def set_layers(self, layers: Sequence[Layer]) -> None:
        """Show these over the picture, the last above; whatever faded is fresh again."""
        self._layers = tuple(layers)
        self._waiting.stop()
        self._fading.stop()
        self._fade = 1.0
        self.update()

    def set_waiting(self) -> None:
        """Say that the layers are of something else by now: they fade unless others come at once."""
        if self._layers and self._fade == 1.0 and not self._waiting.isActive():
            self._waiting.start()

    def set_lattice(self, lattice: Lattice | None) -> None:
        """Tell how patches lie on the picture, for the pointer."""
        if lattice != self._lattice:
            self._lattice = lattice
            self._hovered = None
            self.update()

    def set_pinned(self, patch: tuple[int, int] | None) -> None:
        """Frame the patch that was chosen."""
        if patch != self._pinned:
            self._pinned = patch
            self.update()

    def set_tool(self, tool: Tool) -> None:
        """Take a tool in hand."""
        if tool != self._tool:
            self._tool = tool
            self._held = None
            self._set_cursor()
            self.update()

    def set_erasing(self, is_erasing: bool) -> None:
        """Let the brush take away instead of add; Alt or the right button does the other."""
        self._is_erasing = is_erasing
        self.update()

    def set_box(self, box: QRectF) -> None:
        """Show a box of the box tool, in picture pixels; an empty one for none."""
        self.box = QRectF(box)
        self.update()

    # Where things are

    def fit_scale(self) -> float:
        """Return canvas pixels of a picture's pixel where the whole picture fits."""
        if self._picture is None:
            return 1.0
        height, width = self._picture.size
        margin = 0 if min(self.width(), self.height()) < 20 * MARGIN_PX else 2 * MARGIN_PX
        return max(1e-6, min((self.width() - margin) / width, (self.height() - margin) / height))

    def scale(self) -> float:
        """Return canvas pixels of a picture's pixel."""
        return min(self.fit_scale() * self.view.times, max(MOST_SCALE, self.fit_scale()))

    def percent(self) -> float:
        """Return the zoom as people say it: 100 is a pixel of the screen for each of the picture."""
        return 100 * self.scale() * self.devicePixelRatioF()

    def target(self) -> QRectF:
        """Return where the picture lies on the canvas; parts may be outside."""
        if self._picture is None:
            return QRectF()
        height, width = self._picture.size
        scale = self.scale()
        left = _placed(self.width(), width * scale, self.view.x)
        top = _placed(self.height(), height * scale, self.view.y)
        return QRectF(left, top, width * scale, height * scale)

    def frame(self) -> "Frame":
        """Return where the picture lies, for drawing."""
        return Frame(self.target(), self.scale(), self.rect())

    def to_picture(self, place: QPointF) -> QPointF:
        """Return a place of the canvas in picture pixels."""
        target, scale = self.target(), self.scale()
        return QPointF((place.x() - target.left()) / scale, (place.y() - target.top()) / scale)

    def to_canvas(self, place: QPointF) -> QPointF:
        """Return a place in picture pixels on the canvas."""
        return self.frame().place(place)

    def patch_rect(self, patch: tuple[int, int]) -> QRectF:
        """Return a patch on the canvas."""
        if self._lattice is None:
            return QRectF()
        return self.frame().rect(patch_box(self._lattice, patch))

    # Zoom

    def zoom_at(self, place: QPointF, factor: float) -> None:
        """Zoom so that what is at a place of the canvas stays there."""
        self._look(self.scale() * factor, place)

    def show_actual_size(self, place: QPointF | None = None) -> None:
        """Show one pixel of the picture as one of the screen."""
        self._look(1 / self.devicePixelRatioF(), place or QPointF(self.rect().center()))

    def _look(self, scale: float, place: QPointF) -> None:
        if self._picture is None:
            return
        height, width = self._picture.size
        fixed = self.to_picture(place)
        scale = min(max(scale, self.fit_scale()), max(MOST_SCALE, self.fit_scale()))
        x = fixed.x() + (self.width() / 2 - place.x()) / scale
        y = fixed.y() + (self.height() / 2 - place.y()) / scale
        self.view.look(scale / self.fit_scale(), x / width, y / height)

    def pan(self, by: QPointF) -> None:
        """Move the picture on the canvas."""
        if self._picture is None:
            return
        height, width = self._picture.size
        scale = self.scale()
        # From where it is, not from where it would be without its borders: else a pan out has to be panned back.
        middle = self.to_picture(QPointF(self.width() / 2, self.height() / 2))
        self.view.look(self.view.times, (middle.x() - by.x() / scale) / width, (middle.y() - by.y() / scale) / height)

    def _moved(self) -> None:
        self._hover_again()
        self.update()
        self.shown.emit()

    # Painting

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the picture, its layers and the tool in hand."""
        painter = QPainter(self)
        self._draw_base(painter)
        if self._picture is None:
            self._draw_message(painter)
        else:
            frame = self.frame()
            painter.setClipRect(frame.target.toAlignedRect() & frame.window)
            for layer in self._layers:
                painter.setOpacity(self._fade if layer.fades else 1.0)
                draw_layer(painter, layer, frame)
            painter.setOpacity(1.0)
            painter.setClipping(False)
            self._draw_tool(painter)
        if self._shows_focus:
            painter.setPen(QPen(theme.colours().accent, 1))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def _draw_base(self, painter: QPainter) -> None:
        """Draw the ground and the picture, from what was kept where nothing moved."""
        dpr = self.devicePixelRatioF()
        key = (self._picture, self.size(), dpr, self.target(), theme.is_dark())
        if key != self._base_key:
            if self._base.size() != self.size() * dpr:
                self._base = QPixmap(self.size() * dpr)
                self._base.setDevicePixelRatio(dpr)
            inside = QPainter(self._base)
            inside.fillRect(self.rect(), theme.colours().canvas)
            if self._picture is not None:
                self._draw_picture(inside)
            inside.end()
            self._base_key = key
        painter.drawPixmap(0, 0, self._base)

    def _draw_picture(self, painter: QPainter) -> None:
        assert self._picture is not None
        target, device = self.target(), self.scale() * self.devicePixelRatioF()
        image = self._picture.level(target.width() * self.devicePixelRatioF())
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, device < CRISP_SCALE)
        draw_part(painter, image, target, self.rect())

    def _draw_message(self, painter: QPainter) -> None:
        painter.setPen(theme.colours().muted)
        painter.setFont(theme.font("body"))
        space = self.rect().adjusted(theme.SPACE_XL, 0, -theme.SPACE_XL, 0)
        painter.drawText(space, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self._message)

    def _draw_tool(self, painter: QPainter) -> None:
        if self._pinned is not None:
            stroke_rect(painter, self.patch_rect(self._pinned), QColor("#FFFFFF"), 2)
        if self._tool == "pointer" and self._hovered is not None and self._hovered != self._pinned:
            stroke_rect(painter, self.patch_rect(self._hovered), QColor(255, 255, 255, 220), 1.2)
        if not self.box.isNull():
            self._draw_box(painter)
        if self._tool == "brush" and self._mouse is not None:
            self._draw_brush(painter)

    def _draw_box(self, painter: QPainter) -> None:
        box, accent = self.frame().rect(self.box), theme.colours().accent
        around = QPainterPath()
        around.addRect(self.target())
        inside = QPainterPath()
        inside.addRect(box)
        painter.fillPath(around - inside, QColor(0, 0, 0, 110))
        stroke_rect(painter, box, QColor("#FFFFFF"), 1.6)
        painter.setPen(QPen(QColor("#FFFFFF"), 1))
        painter.setBrush(accent)
        middle = box.center()
        for x in (box.left(), middle.x(), box.right()):
            for y in (box.top(), middle.y(), box.bottom()):
                if (x, y) != (middle.x(), middle.y()):
                    painter.drawRect(QRectF(x - 3.5, y - 3.5, 7, 7))

    def _draw_brush(self, painter: QPainter) -> None:
        assert self._mouse is not None
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        bright = QColor("#FF8A80") if self._is_erasing else QColor("#FFFFFF")
        for colour, width in ((QColor(0, 0, 0, 160), 3.0), (bright, 1.4)):
            painter.setPen(QPen(colour, width))
            painter.drawEllipse(self._mouse, self.radius_px, self.radius_px)
        sign = 4.0
        painter.drawLine(self._mouse - QPointF(sign, 0), self._mouse + QPointF(sign, 0))
        if not self._is_erasing:
            painter.drawLine(self._mouse - QPointF(0, sign), self._mouse + QPointF(0, sign))

    def _repaint_all(self) -> None:
        self._base_key = None
        self.update()

    def _begin_fading(self) -> None:
        self._fading.setStartValue(1.0)
        self._fading.setEndValue(FADED)
        self._fading.start()

    def _set_fade(self, share: float) -> None:
        self._fade = share
        self.update()

    # Mouse and keys

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin what the tool does, or a pan."""
        if self._picture is None:
            return
        at = event.position()
        wants_pan = event.button() == Qt.MouseButton.MiddleButton or (
            event.button() == Qt.MouseButton.LeftButton and self._is_space_down
        )
        if wants_pan:
            self._held = _Held("pan", at, at)
        elif self._tool == "brush" and event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton):
            self._begin_stroke(event)
        elif event.button() != Qt.MouseButton.LeftButton:
            return
        elif self._tool == "box":
            self._begin_box(at)
        else:
            self._held = _Held("click", at, at)
        self._set_cursor()

    def _begin_stroke(self, event: QMouseEvent) -> None:
        is_other = event.button() == Qt.MouseButton.RightButton or bool(
            event.modifiers() & Qt.KeyboardModifier.AltModifier
        )
        at = event.position()
        self._held = _Held("brush", at, at, is_adding=self._is_erasing == is_other)
        self.stroke_began.emit()
        self._brush(at, at)

    def _brush(self, begin: QPointF, end: QPointF) -> None:
        assert self._held is not None
        radius = self.radius_px / self.scale()
        self.brushed.emit(self.to_picture(begin), self.to_picture(end), radius, self._held.is_adding)

    def _begin_box(self, at: QPointF) -> None:
        edges = self._edges_at(at)
        if any(edges):
            self._held = _Held("draw", at, at, edges=edges, box=QRectF(self.box))
        elif self.frame().rect(self.box).contains(at):
            self._held = _Held("move", at, at, box=QRectF(self.box))
        else:
            corner = self._inside(self.to_picture(at))
            self._held = _Held("draw", at, at, edges=(False, False, True, True), box=QRectF(corner, corner))

    def _edges_at(self, at: QPointF) -> tuple[bool, bool, bool, bool]:
        """Return which edges of the box are under the mouse: left, top, right, bottom."""
        box = self.frame().rect(self.box)
        if self.box.isNull() or not box.adjusted(-GRIP_PX, -GRIP_PX, GRIP_PX, GRIP_PX).contains(at):
            return False, False, False, False
        near = [
            abs(at.x() - box.left()),
            abs(at.y() - box.top()),
            abs(at.x() - box.right()),
            abs(at.y() - box.bottom()),
        ]
        left, top, right, bottom = (away < GRIP_PX for away in near)
        return left, top, right and not left, bottom and not top

    def _inside(self, place: QPointF) -> QPointF:
        assert self._picture is not None
        height, width = self._picture.size
        return QPointF(min(max(place.x(), 0.0), float(width)), min(max(place.y(), 0.0), float(height)))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Go on with it, or tell the patch under the mouse."""
        at = event.position()
        self._mouse = at
        held = self._held
        if held is None:
            self._hover(at)
        elif held.what == "click" and (at - held.at).manhattanLength() > QApplication.startDragDistance():
            held.what = "pan"
            self._set_cursor()
        elif held.what == "brush":
            self._brush(held.last, at)
        elif held.what in ("draw", "move"):
            self._change_box(held, at)
        if held is not None and held.what == "pan":
            self.pan(at - held.last)
        if held is not None:
            held.last = at
        if self._tool in ("brush", "box"):
            self._set_cursor()
            self.update()

    def _change_box(self, held: _Held, at: QPointF) -> None:
        assert self._picture is not None
        height, width = self._picture.size
        by = (at - held.at) / self.scale()
        box = QRectF(held.box)
        if held.what == "move":
            dx = min(max(by.x(), -box.left()), width - box.right())
            dy = min(max(by.y(), -box.top()), height - box.bottom())
            self.box = box.translated(dx, dy)
        else:
            left, top, right, bottom = held.edges
            moved = box.adjusted(by.x() * left, by.y() * top, by.x() * right, by.y() * bottom).normalized()
            self.box = moved & QRectF(0, 0, width, height)
        self.update()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End it."""
        held, self._held = self._held, None
        if held is None:
            return
        match held.what:
            case "click":
                patch = self._patch_at(event.position())
                if self._tool == "pointer" and patch is not None:
                    self.patch_clicked.emit(*patch)
            case "brush":
                self.stroke_ended.emit()
            case "draw" | "move":
                if min(self.box.width(), self.box.height()) < 1:
                    self.box = QRectF()
                self.box_drawn.emit(QRectF(self.box))
        self._set_cursor()
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show a pixel for a pixel there, or all of the picture again."""
        if self._tool in ("brush", "box"):
            self.mousePressEvent(event)
        elif self.view.times > 1:
            self.view.fit()
        else:
            self.show_actual_size(event.position())

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom; with Shift change the size of the brush."""
        notches = event.angleDelta().y() / NOTCH or event.angleDelta().x() / NOTCH
        if self._tool == "brush" and event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._set_radius(self.radius_px * RADIUS_STEP**notches)
        else:
            self.zoom_at(event.position(), WHEEL_STEP**notches)
        event.accept()

    def _set_radius(self, radius_px: float) -> None:
        self.radius_px = min(max(radius_px, LEAST_RADIUS_PX), MOST_RADIUS_PX)
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Zoom, pan, go from patch to patch, change the brush."""
        middle = QPointF(self.rect().center())
        modifiers = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        step = _STEPS.get(Qt.Key(event.key()))
        match Qt.Key(event.key()):
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.zoom_at(middle, KEY_STEP)
            case Qt.Key.Key_Minus:
                self.zoom_at(middle, 1 / KEY_STEP)
            case Qt.Key.Key_0:
                self.view.fit()
            case Qt.Key.Key_1:
                self.show_actual_size()
            case Qt.Key.Key_BracketLeft if self._tool == "brush":
                self._set_radius(self.radius_px / RADIUS_STEP)
            case Qt.Key.Key_BracketRight if self._tool == "brush":
                self._set_radius(self.radius_px * RADIUS_STEP)
            case Qt.Key.Key_Space:
                self._is_space_down = True
                self._set_cursor()
            case Qt.Key.Key_Return | Qt.Key.Key_Enter if self._hovered is not None and self._tool == "pointer":
                self.patch_clicked.emit(*self._hovered)
            case Qt.Key.Key_Escape if not self.box.isNull():
                self.box = QRectF()
                self.box_drawn.emit(QRectF())
                self.update()
            case _ if step and modifiers == Qt.KeyboardModifier.ShiftModifier:
                self.pan(QPointF(-step[0] * PAN_STEP * self.width(), -step[1] * PAN_STEP * self.height()))
            case _ if step and modifiers == Qt.KeyboardModifier.ControlModifier:
                self._step_patch(*step)
            case _:
                super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """Let the picture go."""
        if event.key() == Qt.Key.Key_Space and not event.isAutoRepeat():
            self._is_space_down = False
            self._set_cursor()
        else:
            super().keyReleaseEvent(event)

    def _step_patch(self, across: int, down: int) -> None:
        """Go from patch to patch without a mouse."""
        if self._lattice is None or self._tool != "pointer":
            return
        row, col = self._hovered or self._pinned or (self._lattice.rows // 2, self._lattice.cols // 2)
        row = min(max(row + down, 0), self._lattice.rows - 1)
        col = min(max(col + across, 0), self._lattice.cols - 1)
        self._hovered = (row, col)
        self.patch_hovered.emit(row, col)
        self.update()

    def _patch_at(self, at: QPointF) -> tuple[int, int] | None:
        if self._lattice is None or self._picture is None:
            return None
        place = self.to_picture(at)
        height, width = self._picture.size
        if (height, width) != self._lattice.picture:  # layers of the picture before
            return None
        return patch_at(self._lattice, place.x(), place.y())

    def _hover(self, at: QPointF) -> None:
        patch = self._patch_at(at)
        if patch == self._hovered:
            return
        self._hovered = patch
        if self._tool == "pointer":
            if patch is None:
                self.left.emit()
            else:
                self.patch_hovered.emit(*patch)
        self.update()

    def _hover_again(self) -> None:
        if self._mouse is not None and self._held is None:
            self._hover(self._mouse)

    def _set_cursor(self) -> None:
        shape = Qt.CursorShape
        if self._held is not None and self._held.what == "pan":
            self.setCursor(shape.ClosedHandCursor)
        elif self._is_space_down or self._tool == "none":
            self.setCursor(shape.OpenHandCursor)
        elif self._tool == "brush":
            self.setCursor(shape.BlankCursor)
        elif self._tool == "box":
            self.setCursor(self._box_cursor())
        else:
            self.setCursor(shape.CrossCursor)

    def _box_cursor(self) -> Qt.CursorShape:
        shape = Qt.CursorShape
        if self._mouse is None:
            return shape.CrossCursor
        left, top, right, bottom = self._edges_at(self._mouse)
        if (left and top) or (right and bottom):
            return shape.SizeFDiagCursor
        if (left and bottom) or (right and top):
            return shape.SizeBDiagCursor
        if left or right:
            return shape.SizeHorCursor
        if top or bottom:
            return shape.SizeVerCursor
        return shape.SizeAllCursor if self.frame().rect(self.box).contains(self._mouse) else shape.CrossCursor

    def leaveEvent(self, event: QEvent) -> None:
        """Tell that the mouse is gone."""
        self._mouse = None
        if self._hovered is not None:
            self._hovered = None
            self.left.emit()
        self.update()

    def enterEvent(self, event: QEnterEvent) -> None:
        """Show the cursor of the tool."""
        self._set_cursor()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Tell that something else is seen."""
        self.shown.emit()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show the focus where keys brought it."""
        by_key = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason, Qt.FocusReason.ShortcutFocusReason)
        self._shows_focus = event.reason() in by_key
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Forget keys that were held."""
        self._is_space_down = self._shows_focus = False
        self.update()

    def sizeHint(self) -> QSize:
        """Return what is comfortable."""
        return QSize(800, 600)


_STEPS: dict[Qt.Key, tuple[int, int]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


def _placed(room: float, length: float, share: float) -> float:
    """Return where something begins of which a share is to be in the middle: nothing free on one side only."""
    if length <= room:
        return (room - length) / 2
    return min(0.0, max(room - length, room / 2 - share * length))
