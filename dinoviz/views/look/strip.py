"""A row of small pictures with titles, of which some are chosen: the heads of a layer, the pictures of a selection."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPoint, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFontMetrics,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QToolTip

from dinoviz import theme
from dinoviz.watching import follow

PICTURE_PX = 84
"""Height of a small picture."""
TITLE_PX = 20
LEAST_WIDTH_PX, MOST_WIDTH_PX = 56, 150
DOT_PX = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tile:
    """One small picture.

    Args:
        key: what it stands for, told when it is chosen.
        title: below it.
        aspect: width by height.
        base: the picture, if it is to be seen.
        over: what lies over it, or alone.
        reach: width and height of ``over`` in those of the picture; what is beyond is cut off.
        dot: colour before the title, as of a head in a composite.
        tip: what it is, in a sentence.
        is_smooth: blur between the pixels of ``over``.
    """

    key: object
    title: str
    aspect: float = 1.0
    base: QImage | None = None
    over: QImage | None = None
    reach: tuple[float, float] = (1.0, 1.0)
    dot: QColor | None = None
    tip: str = ""
    is_smooth: bool = True


class TileStrip(QAbstractScrollArea):
    """Tiles from left to right.

    Signals:
        chosen(key, adds): a tile was clicked, or Return pressed on it; ``adds`` with Ctrl, Shift or Space.
        pointed(key or None): the mouse is over another tile.
    """

    chosen = Signal(object, bool)
    pointed = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._tiles: Sequence[Tile] = ()
        self._picked: frozenset[object] = frozenset()
        self._lefts: list[int] = [0]
        self._focused = 0
        self._under: int | None = None
        self.setAccessibleName(name)
        self.setFrameShape(QAbstractScrollArea.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self.setFixedHeight(PICTURE_PX + TITLE_PX + theme.SPACE + self.horizontalScrollBar().sizeHint().height())
        self.horizontalScrollBar().setSingleStep(PICTURE_PX // 2)
        follow(self, theme.changed, self._repaint)

    def set_tiles(self, tiles: Sequence[Tile]) -> None:
        """Show these, where they were scrolled to."""
        self._tiles = tuple(tiles)
        self._lefts = [theme.SPACE]
        for tile in self._tiles:
            self._lefts.append(self._lefts[-1] + self._width(tile) + theme.SPACE)
        self._focused = min(self._focused, max(0, len(self._tiles) - 1))
        self._set_range()
        self._describe()
        self._repaint()

    def set_picked(self, keys: Sequence[object]) -> None:
        """Frame the tiles of these keys."""
        picked = frozenset(keys)
        if picked != self._picked:
            self._picked = picked
            self._describe()
            self._repaint()

    @property
    def tiles(self) -> Sequence[Tile]:
        """What is shown."""
        return self._tiles

    def rect_of(self, number: int) -> QRect:
        """Return where a tile is, on the viewport."""
        left = self._lefts[number] - self.horizontalScrollBar().value()
        return QRect(left, theme.SPACE // 2, self._width(self._tiles[number]), PICTURE_PX + TITLE_PX)

    def _width(self, tile: Tile) -> int:
        return round(min(max(PICTURE_PX * tile.aspect, LEAST_WIDTH_PX), MOST_WIDTH_PX))

    def _set_range(self) -> None:
        bar = self.horizontalScrollBar()
        bar.setPageStep(self.viewport().width())
        bar.setRange(0, max(0, self._lefts[-1] - self.viewport().width()))

    def _repaint(self) -> None:
        self.viewport().update()

    def _describe(self) -> None:
        if self._tiles:
            tile = self._tiles[self._focused]
            self.setAccessibleDescription(tile.title)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the tiles in sight."""
        painter = QPainter(self.viewport())
        painter.fillRect(self.viewport().rect(), theme.colours().panel)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        painter.setFont(theme.font("small"))
        for number in range(len(self._tiles)):
            rect = self.rect_of(number)
            if rect.intersects(self.viewport().rect()):
                self._draw_tile(painter, number, rect)

    def _draw_tile(self, painter: QPainter, number: int, rect: QRect) -> None:
        tile, colours = self._tiles[number], theme.colours()
        picture = QRectF(rect.left(), rect.top(), rect.width(), PICTURE_PX)
        outline = QPainterPath()
        outline.addRoundedRect(picture, 4, 4)
        painter.save()
        painter.setClipPath(outline)
        painter.fillRect(picture, colours.raised)
        _draw_cut(painter, tile, picture)
        painter.restore()
        is_picked = tile.key in self._picked
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if is_picked or number == self._under:
            painter.setPen(QPen(colours.accent if is_picked else colours.faint, 2 if is_picked else 1))
            painter.drawRoundedRect(picture.adjusted(-1, -1, 1, 1), 5, 5)
        if self.hasFocus() and number == self._focused:
            painter.setPen(QPen(colours.accent, 1, Qt.PenStyle.DotLine))
            painter.drawRoundedRect(picture.adjusted(-3, -3, 3, 3), 6, 6)
        self._draw_title(painter, tile, rect, is_picked=is_picked)

    def _draw_title(self, painter: QPainter, tile: Tile, rect: QRect, *, is_picked: bool) -> None:
        colours = theme.colours()
        room = QRect(rect.left(), rect.top() + PICTURE_PX + 2, rect.width(), TITLE_PX - 2)
        if tile.dot is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(tile.dot)
            painter.drawEllipse(QRectF(room.left(), room.center().y() - DOT_PX / 2 + 0.5, DOT_PX, DOT_PX))
            room.setLeft(room.left() + DOT_PX + theme.SPACE_S)
        text = QFontMetrics(painter.font()).elidedText(tile.title, Qt.TextElideMode.ElideMiddle, room.width())
        painter.setPen(colours.text if is_picked else colours.muted)
        side = Qt.AlignmentFlag.AlignLeft if tile.dot is not None else Qt.AlignmentFlag.AlignHCenter
        painter.drawText(room, int(side | Qt.AlignmentFlag.AlignVCenter), text)

    def _number_at(self, at: QPoint) -> int | None:
        for number in range(len(self._tiles)):
            if self.rect_of(number).contains(at):
                return number
        return None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose a tile."""
        number = self._number_at(event.position().toPoint())
        if number is None or event.button() != Qt.MouseButton.LeftButton:
            return
        several = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
        self._focused = number
        self._describe()
        self.chosen.emit(self._tiles[number].key, bool(event.modifiers() & several))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Take it, as the press."""
        event.accept()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell the tile under the mouse."""
        self._point(self._number_at(event.position().toPoint()))

    def leaveEvent(self, event: QEvent) -> None:
        """Tell that there is none."""
        self._point(None)

    def _point(self, number: int | None) -> None:
        if number != self._under:
            self._under = number
            self.pointed.emit(None if number is None else self._tiles[number].key)
            self._repaint()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll."""
        bar = self.horizontalScrollBar()
        bar.setValue(bar.value() - (event.angleDelta().y() or event.angleDelta().x()))
        event.accept()

    def event(self, event: QEvent) -> bool:
        """Keep arrows, which are shortcuts for the next picture, for going from tile to tile while it has the focus."""
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and event.key() in _KEYS:
            event.accept()
            return True
        return super().event(event)

    def viewportEvent(self, event: QEvent) -> bool:
        """Show what a tile is."""
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            number = self._number_at(event.pos())
            QToolTip.showText(event.globalPos(), self._tiles[number].tip if number is not None else "", self)
            return True
        return super().viewportEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go from tile to tile, and choose."""
        if not self._tiles or event.key() not in _KEYS:
            super().keyPressEvent(event)
            return
        match Qt.Key(event.key()):
            case Qt.Key.Key_Left:
                self._focus(self._focused - 1)
            case Qt.Key.Key_Right:
                self._focus(self._focused + 1)
            case Qt.Key.Key_Home:
                self._focus(0)
            case Qt.Key.Key_End:
                self._focus(len(self._tiles) - 1)
            case Qt.Key.Key_Space:
                self.chosen.emit(self._tiles[self._focused].key, True)
            case _:
                self.chosen.emit(self._tiles[self._focused].key, False)

    def _focus(self, number: int) -> None:
        self._focused = min(max(number, 0), len(self._tiles) - 1)
        rect, bar = self.rect_of(self._focused), self.horizontalScrollBar()
        beyond = rect.left() + rect.width() + theme.SPACE - self.viewport().width()
        if rect.left() < theme.SPACE:
            bar.setValue(bar.value() + rect.left() - theme.SPACE)
        elif beyond > 0:
            bar.setValue(bar.value() + beyond)
        self._describe()
        self._repaint()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Scroll as far as is needed now."""
        self._set_range()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show where the keys are."""
        self._repaint()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Hide it."""
        self._repaint()

    def sizeHint(self) -> QSize:
        """Return room for a few tiles."""
        return QSize(6 * PICTURE_PX, self.height())


_KEYS = (
    Qt.Key.Key_Left,
    Qt.Key.Key_Right,
    Qt.Key.Key_Home,
    Qt.Key.Key_End,
    Qt.Key.Key_Space,
    Qt.Key.Key_Return,
    Qt.Key.Key_Enter,
)


def _draw_cut(painter: QPainter, tile: Tile, room: QRectF) -> None:
    """Draw a tile so that it fills its room, cut at two sides where the aspects differ."""
    width, height = max(room.width(), room.height() * tile.aspect), max(room.height(), room.width() / tile.aspect)
    whole = QRectF(room.center().x() - width / 2, room.center().y() - height / 2, width, height)
    if tile.base is not None and not tile.base.isNull():
        painter.drawImage(whole, tile.base)
    if tile.over is not None:
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, tile.is_smooth)
        area = QRectF(whole.left(), whole.top(), width * tile.reach[0], height * tile.reach[1])
        painter.drawImage(area, tile.over)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
