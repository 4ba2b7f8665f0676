"""Lines between two canvases that lie side by side, over both; the mouse goes through to what is below."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from dinoviz.widgets.picture.canvas import PictureCanvas

OPACITY = 0.75
LINE_PX = 800
"""Height from which on lines of a saved picture are drawn thicker."""
MOST_STILL_PX = 4096
"""Height of two pictures that are saved side by side, at most."""

Lines = Sequence[tuple[QPointF, QPointF, QColor]]
"""Where lines begin in the first picture and end in the second, in pixels of each, and their colours."""


class MatchLines(QWidget):
    """Joins places of one canvas with places of another.

    Args:
        over: the widget that holds both canvases.
        first: places of it are where lines begin.
        second: places of it are where lines end.
    """

    def __init__(self, over: QWidget, first: PictureCanvas, second: PictureCanvas) -> None:
        super().__init__(over)
        self._over, self._first, self._second = over, first, second
        self._ends: Lines = ()
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        for canvas in (first, second):
            canvas.shown.connect(self.update)
        over.installEventFilter(self)
        self.hide()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep the size of what is below."""
        if event.type() == QEvent.Type.Resize:
            self.resize(self._over.size())
        return False

    @property
    def lines(self) -> Lines:
        """What is shown."""
        return self._ends

    def set_lines(self, lines: Lines) -> None:
        """Show lines; none hides them."""
        self._ends = tuple(lines)
        self.setVisible(bool(self._ends))
        self.resize(self._over.size())
        self.raise_()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the lines."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setOpacity(OPACITY)
        for first, second, colour in self._ends:
            begin = self._first.mapTo(self._over, self._first.to_canvas(first))
            end = self._second.mapTo(self._over, self._second.to_canvas(second))
            _draw_line(painter, QPointF(begin), QPointF(end), colour, 1.0)


def _draw_line(painter: QPainter, begin: QPointF, end: QPointF, colour: QColor, width: float) -> None:
    """Draw a line that is seen on bright and on dark ground."""
    for ink, times in ((QColor(0, 0, 0, 140), 3.0), (colour, 1.4)):
        painter.setPen(QPen(ink, times * width))
        painter.drawLine(begin, end)


def still_pair(first: QImage, second: QImage, lines: Lines) -> QImage:
    """Return two pictures side by side at one height, with lines between them; may be called in any thread."""
    height = min(max(first.height(), second.height()), MOST_STILL_PX)
    widths = [max(1, round(image.width() * height / image.height())) for image in (first, second)]
    gap = max(2, height // 100)
    made = QImage(sum(widths) + gap, height, QImage.Format.Format_ARGB32_Premultiplied)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHints(QPainter.RenderHint.SmoothPixmapTransform | QPainter.RenderHint.Antialiasing)
    lefts = (0, widths[0] + gap)
    for image, left, width in zip((first, second), lefts, widths, strict=True):
        painter.drawImage(QRectF(left, 0, width, height), image)
    for begin, end, colour in lines:
        ends = [
            QPointF(left + place.x() * width / image.width(), place.y() * height / image.height())
            for place, image, left, width in zip((begin, end), (first, second), lefts, widths, strict=True)
        ]
        _draw_line(painter, ends[0], ends[1], colour, max(1.0, height / LINE_PX))
    painter.end()
    return made
