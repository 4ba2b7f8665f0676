"""One picture of some size with a few lines below it: copies side by side, neighbours of a picture, both sides of why.

Where ``PictureGrid`` shows very many, tiles show the few that a decision is about.
"""

from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from dinoviz import theme
from dinoviz.asked import Box, Picture
from dinoviz.desk import Desk
from dinoviz.watching import follow
from dinoviz.widgets.picture.cells import BADGE_GROUND, draw_box
from dinoviz.words import tr

LINE_PX = 18
INSET_PX = 8
NUMBER_PX = 22
LEAST_WIDTH_PX = 190
"""Of a tile that is no square: its lines need room, however narrow the picture is."""
OUT_OPACITY = 0.3
"""Of a picture that is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """A map over a picture: an image, and the share of height and width that it covers from the top left."""

    image: QImage
    covers: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class TileLook:
    """What a tile shows.

    Args:
        picture: of the project by its id, any other by its path.
        lines: below it, each with its colour, a field of ``theme.Colours``.
        number: key that chooses it, in its corner; empty for none.
        heat: over it.
        box: part of it, as shares: top, left, bottom, right.
        is_out: it is left out of the project.
        is_best: it is the one proposed.
        is_ringed: it is the one meant.
        name: for screen readers, where the lines do not say it.
    """

    picture: Picture
    lines: tuple[tuple[str, str], ...] = ()
    number: str = ""
    heat: Heat | None = None
    box: Box | None = None
    is_out: bool = False
    is_best: bool = False
    is_ringed: bool = False
    name: str = ""
    tip: str = field(default="", compare=False)


class PictureTile(QWidget):
    """A picture that can be pressed.

    Signals:
        pressed: by the mouse, Enter or the space bar; says whether Shift or Ctrl is held.
    """

    pressed = Signal(bool)

    def __init__(
        self, desk: Desk, side: int, n_lines: int, *, can_be_pressed: bool = True, is_square: bool = True
    ) -> None:
        """``is_square``: the picture has a square to itself; otherwise the tile is as wide and high as it."""
        super().__init__()
        self._session = desk.session
        self._thumbnails = desk.thumbnails
        self._is_square = is_square
        self._side = side
        self._n_lines = n_lines
        self._look: TileLook | None = None
        self._is_under_mouse = False
        self._can_be_pressed = can_be_pressed
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if can_be_pressed else Qt.FocusPolicy.NoFocus)
        if can_be_pressed:
            self.setCursor(Qt.CursorShape.PointingHandCursor)
        desk.thumbnails.arrived.connect(self._arrived)
        desk.thumbnails.file_arrived.connect(self._arrived)
        follow(self, theme.changed, self.update)
        self.set_look(None)

    @property
    def look(self) -> TileLook | None:
        """What is shown."""
        return self._look

    def set_look(self, look: TileLook | None) -> None:
        """Show this, or nothing."""
        self._look = look
        self.setFixedSize(self.sizeHint())
        words = [] if look is None else [look.name, *(text for text, _ in look.lines)]
        self.setAccessibleName(", ".join(filter(None, words)) or tr("No picture"))
        self.setToolTip(look.tip if look else "")
        self.update()

    def set_side(self, side: int) -> None:
        """Show it larger or smaller."""
        if side != self._side:
            self._side = side
            self.setFixedSize(self.sizeHint())
            self.update()

    def sizeHint(self) -> QSize:
        """Ask for the picture, its lines and the ring around."""
        lines = self._n_lines * LINE_PX + (theme.SPACE_S if self._n_lines else 0)
        room = self._room().size().toSize()
        return QSize(room.width() + 2 * INSET_PX, room.height() + 2 * INSET_PX + lines)

    def _room(self) -> QRectF:
        """Return where the picture has its place."""
        square = QRectF(INSET_PX, INSET_PX, self._side, self._side)
        table = self._session.state.table
        picture = None if self._look is None else self._look.picture
        if self._is_square or not isinstance(picture, int) or not table.contains(picture):
            return square
        row = table.row_of(picture)
        fitted = _fitted(square, max(1, int(table.widths_N[row])) / max(1, int(table.heights_N[row])))
        width = max(fitted.width(), min(self._side, LEAST_WIDTH_PX))  # for the lines below it
        return QRectF(INSET_PX, INSET_PX, round(width), round(fitted.height()))

    def _arrived(self, picture: Picture) -> None:
        if self._look is not None and self._look.picture == picture:
            self.update()

    def _image(self, look: TileLook) -> QImage | None:
        side = round(self._side * self.devicePixelRatioF())
        if isinstance(look.picture, str):
            return self._thumbnails.image_of_file(Path(look.picture), side)
        return self._thumbnails.image(look.picture, side)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the ground, the picture with what lies over it, the lines."""
        look = self._look
        if look is None:
            return
        colours = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        self._draw_ground(painter, look)
        room = self._room()
        image = self._image(look)
        where = room if image is None else _fitted(room, image.width() / max(1, image.height()))
        painter.setOpacity(OUT_OPACITY if look.is_out else 1.0)
        if image is None:
            painter.fillRect(where, colours.line)
        else:
            painter.drawImage(where, image)
        if look.heat is not None:
            high, wide = look.heat.covers
            painter.drawImage(
                QRectF(where.left(), where.top(), where.width() * wide, where.height() * high), look.heat.image
            )
        painter.setOpacity(1.0)
        if look.box is not None:
            draw_box(painter, where, look.box)
        self._draw_corners(painter, look, where)
        self._draw_lines(painter, look)
        painter.end()

    def _draw_ground(self, painter: QPainter, look: TileLook) -> None:
        colours = theme.colours()
        ground = colours.accent_soft if look.is_best and not look.is_out else colours.raised
        has_ground = look.is_best or (self._is_under_mouse and self._can_be_pressed)
        pen = QPen(colours.accent, 2) if look.is_ringed or self.hasFocus() else QPen(Qt.PenStyle.NoPen)
        painter.setPen(pen)
        painter.setBrush(ground if has_ground else Qt.BrushStyle.NoBrush)
        if has_ground or look.is_ringed or self.hasFocus():
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(1, 1, -1, -1), theme.RADIUS, theme.RADIUS)

    def _draw_corners(self, painter: QPainter, look: TileLook, where: QRectF) -> None:
        """Draw the key that chooses it, and whether it is left out."""
        if look.number:
            spot = QRectF(where.left() + 6, where.top() + 6, NUMBER_PX, NUMBER_PX)
            _draw_spot(painter, spot)
            painter.setPen(Qt.GlobalColor.white)
            painter.setFont(theme.font("strong"))
            painter.drawText(spot, Qt.AlignmentFlag.AlignCenter, look.number)
        if look.is_out:
            spot = QRectF(where.center().x() - 18, where.center().y() - 18, 36, 36)
            _draw_spot(painter, spot)
            theme.icon("eye-slash", "#FFFFFF").paint(painter, spot.toAlignedRect().adjusted(8, 8, -8, -8))

    def _draw_lines(self, painter: QPainter, look: TileLook) -> None:
        font = theme.font("small")
        painter.setFont(font)
        metrics = QFontMetrics(font)
        room = self._room()
        top = room.bottom() + theme.SPACE_S
        for number, (text, colour) in enumerate(look.lines[: self._n_lines]):
            line = QRectF(room.left(), top + number * LINE_PX, room.width(), LINE_PX)
            painter.setPen(getattr(theme.colours(), colour))
            shown = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, int(line.width()))
            side = Qt.AlignmentFlag.AlignHCenter if self._is_square else Qt.AlignmentFlag.AlignLeft
            painter.drawText(line, side | Qt.AlignmentFlag.AlignVCenter, shown)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Press it."""
        if self._can_be_pressed and event.button() == Qt.MouseButton.LeftButton:
            self.pressed.emit(_is_second(event.modifiers()))
        else:
            super().mousePressEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Press it."""
        if self._can_be_pressed and event.key() in _PRESS_KEYS:
            self.pressed.emit(_is_second(event.modifiers()))
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        """Keep Enter from being a shortcut while the tile has the focus."""
        is_key = event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent)
        if is_key and event.key() in _PRESS_KEYS:  # type: ignore[attr-defined]
            event.accept()
            return True
        return super().event(event)

    def enterEvent(self, event: QEvent) -> None:
        """Show that it can be pressed."""
        self._is_under_mouse = True
        self.update()
        super().enterEvent(event)  # type: ignore[arg-type]

    def leaveEvent(self, event: QEvent) -> None:
        """Show no more that it can be pressed."""
        self._is_under_mouse = False
        self.update()
        super().leaveEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show the ring."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Take the ring away."""
        super().focusOutEvent(event)
        self.update()


_PRESS_KEYS = (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space)


def _is_second(modifiers: Qt.KeyboardModifier) -> bool:
    return bool(modifiers & (Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.ControlModifier))


def _fitted(room: QRectF, aspect: float) -> QRectF:
    """Return the middle of a room that a picture of some width by height fills."""
    width = min(room.width(), room.height() * aspect)
    height = width / aspect
    return QRectF(room.center().x() - width / 2, room.center().y() - height / 2, width, height)


def _draw_spot(painter: QPainter, where: QRectF) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(BADGE_GROUND)
    painter.drawEllipse(where)
