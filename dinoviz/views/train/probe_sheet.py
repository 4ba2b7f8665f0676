"""The probe pictures of a run at one step, in one widget; a divider can be drawn across to see before and after."""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from dinoviz import theme
from dinoviz.views.train.film import Kind, ProbeFilm
from dinoviz.watching import follow
from dinoviz.words import tr

TILE_PX = 168
"""Least width of a tile."""
GRIP_PX = 22


class ProbeSheet(QWidget):
    """Tiles in as many columns as there is room for.

    Signals:
        divided(share): the divider was drawn to a share of the width.
    """

    divided = Signal(float)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._film: ProbeFilm | None = None
        self._kind: Kind = "attention"
        self._step = self._first = 0
        self._share: float | None = None
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        follow(self, theme.changed, self.update)

    def show_film(self, film: ProbeFilm, kind: Kind, step: int, share: float | None) -> None:
        """Show the probes of a film at a step.

        Args:
            film: of a run.
            kind: what lies over the pictures.
            step: one of the film's.
            share: where the divider stands, left of it the first step is seen; None for no divider.
        """
        is_other = self._film is None or self._film.names != film.names
        self._film, self._kind, self._step, self._share = film, kind, step, share
        self._first = film.steps[0] if film.steps else 0
        self.setCursor(Qt.CursorShape.SplitHCursor if share is not None else Qt.CursorShape.ArrowCursor)
        if is_other:
            self.setFixedHeight(self.heightForWidth(self.width()))
        self.update()

    def _n_columns(self, width: int) -> int:
        return max(1, (width + theme.SPACE) // (TILE_PX + theme.SPACE))

    def _tile(self, width: int) -> float:
        n_columns = self._n_columns(width)
        return (width - (n_columns - 1) * theme.SPACE) / n_columns

    def hasHeightForWidth(self) -> bool:
        """The narrower it is, the more rows it has."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height of all rows."""
        n = len(self._film.names) if self._film else 0
        n_rows = -(-n // self._n_columns(width))
        return max(1, round(n_rows * (self._tile(width) + theme.SPACE) - theme.SPACE))

    def sizeHint(self) -> QSize:
        """Ask for four tiles side by side."""
        width = 4 * (TILE_PX + theme.SPACE)
        return QSize(width, self.heightForWidth(width))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Take the height that the width asks for."""
        self.setFixedHeight(self.heightForWidth(self.width()))

    def _place(self, i: int) -> QRectF:
        n_columns, side = self._n_columns(self.width()), self._tile(self.width())
        row, column = divmod(i, n_columns)
        return QRectF(column * (side + theme.SPACE), row * (side + theme.SPACE), side, side)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the tiles that can be seen."""
        if self._film is None or not self._film.steps:
            return
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        for i, name in enumerate(self._film.names):
            room = self._place(i)
            if room.intersects(QRectF(event.rect())):
                self._paint_tile(painter, i, self._film.pictures.get(name), room)

    def _paint_tile(self, painter: QPainter, i: int, picture: QImage | None, room: QRectF) -> None:
        assert self._film is not None
        colours = theme.colours()
        corner = QPainterPath()
        corner.addRoundedRect(room, theme.RADIUS, theme.RADIUS)
        painter.save()
        painter.setClipPath(corner)
        painter.fillRect(room, colours.canvas)
        if self._share is None:
            self._paint_look(painter, i, picture, room, self._step)
        else:
            x = room.left() + self._share * room.width()
            for step, part in (
                (self._first, QRectF(room.left(), room.top(), x - room.left(), room.height())),
                (self._step, QRectF(x, room.top(), room.right() - x, room.height())),
            ):
                painter.save()
                painter.setClipRect(part, Qt.ClipOperation.IntersectClip)
                self._paint_look(painter, i, picture, room, step)
                painter.restore()
            self._paint_divider(painter, room, x)
        painter.restore()

    def _paint_look(self, painter: QPainter, i: int, picture: QImage | None, room: QRectF, step: int) -> None:
        """Paint a picture so that it fills its tile, and what the network saw in it."""
        assert self._film is not None
        look = self._film.looks[step][i]
        aspect = look.resized[1] / look.resized[0]
        width, height = max(room.width(), room.height() * aspect), max(room.height(), room.width() / aspect)
        whole = QRectF(room.center().x() - width / 2, room.center().y() - height / 2, width, height)
        if picture is not None:
            painter.drawImage(whole, picture)
        high, wide = look.seen
        area = QRectF(whole.left(), whole.top(), width * wide, height * high)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, self._kind != "mask")
        painter.drawImage(area, self._film.overlay(self._kind, step, i))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)

    def _paint_divider(self, painter: QPainter, room: QRectF, x: float) -> None:
        colours = theme.colours()
        painter.setPen(QPen(Qt.GlobalColor.white, 2))
        painter.drawLine(QPointF(x, room.top()), QPointF(x, room.bottom()))
        painter.setPen(QPen(colours.line, 1))
        painter.setBrush(colours.raised)
        grip = QRectF(x - GRIP_PX / 2, room.center().y() - GRIP_PX / 2, GRIP_PX, GRIP_PX)
        painter.drawEllipse(grip)
        theme.icon("caret-left", "muted").paint(painter, grip.adjusted(1, 6, -11, -6).toRect())
        theme.icon("caret-right", "muted").paint(painter, grip.adjusted(11, 6, -1, -6).toRect())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Draw the divider to where the mouse is."""
        self._divide(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Name the picture under the mouse, or draw the divider."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._divide(event)
            return
        names = self._film.names if self._film else []
        under = next((name for i, name in enumerate(names) if self._place(i).contains(event.position())), "")
        self.setToolTip(under)

    def _divide(self, event: QMouseEvent) -> None:
        if self._share is None or self._film is None:
            return
        side = self._tile(self.width()) + theme.SPACE
        within = (event.position().x() % side) / (side - theme.SPACE)
        self.divided.emit(min(1.0, max(0.0, within)))


def kind_names() -> list[tuple[Kind, str]]:
    """Return what can lie over the pictures, with its name."""
    return [("attention", tr("Attention")), ("mask", tr("Mask")), ("colours", tr("Colours"))]
