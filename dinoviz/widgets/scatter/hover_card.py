"""The card beside the mouse that says which picture a point is."""

from PySide6.QtCore import QPoint, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QImage, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from dinoviz import theme

PICTURE_PX = 144
OFFSET_PX = 18  # from the mouse
TEXT_PX = 176


class HoverCard(QWidget):
    """A thumbnail over some lines of text, on top of its parent; the mouse goes through it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._image: QImage | None = None
        self._lines: tuple[str, ...] = ()
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()

    def show_picture(self, at: QPoint, image: QImage | None, lines: tuple[str, ...]) -> None:
        """Show a picture beside a place of the parent.

        Args:
            at: in the parent.
            image: None while it is not there yet.
            lines: the first is its name.
        """
        self._image, self._lines = image, lines
        self.resize(self.sizeHint())
        self.move(self._beside(at))
        self.update()
        self.show()
        self.raise_()

    def set_image(self, image: QImage | None) -> None:
        """Show the picture now that it is there."""
        self._image = image
        self.update()

    def sizeHint(self) -> QSize:
        """It is as large as the picture and the lines."""
        body = QFontMetrics(theme.font("body")).height()
        small = QFontMetrics(theme.font("small")).height()
        text = body + (len(self._lines) - 1) * small if self._lines else 0
        return QSize(TEXT_PX + 2 * theme.SPACE, PICTURE_PX + text + 3 * theme.SPACE)

    def _beside(self, at: QPoint) -> QPoint:
        """Return where it has room: to the right and below where it can."""
        parent = self.parentWidget()
        assert parent is not None
        x, y = at.x() + OFFSET_PX, at.y() + OFFSET_PX
        if x + self.width() > parent.width():
            x = at.x() - OFFSET_PX - self.width()
        if y + self.height() > parent.height():
            y = max(0, min(at.y() - OFFSET_PX - self.height(), parent.height() - self.height()))
        return QPoint(max(0, x), max(0, y))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the card."""
        c = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(QPen(c.line, 1))
        painter.setBrush(c.raised)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)
        room = QRectF(theme.SPACE, theme.SPACE, TEXT_PX, PICTURE_PX)
        if self._image is not None and not self._image.isNull():
            size = self._image.size().scaled(room.size().toSize(), Qt.AspectRatioMode.KeepAspectRatio)
            frame = QRectF(0, 0, size.width(), size.height())
            frame.moveCenter(room.center())
            clip = QPainterPath()
            clip.addRoundedRect(frame, 3, 3)
            painter.setClipPath(clip)
            painter.drawImage(frame, self._image)
            painter.setClipping(False)
        y = theme.SPACE * 2 + PICTURE_PX
        for i, line in enumerate(self._lines):
            painter.setFont(theme.font("body" if i == 0 else "small"))
            painter.setPen(c.text if i == 0 else c.muted)
            metrics = QFontMetrics(painter.font())
            text = metrics.elidedText(line, Qt.TextElideMode.ElideMiddle, TEXT_PX)
            painter.drawText(theme.SPACE, y + metrics.ascent(), text)
            y += metrics.height()
        painter.end()
