"""Lines between two canvases that lie side by side, over both; the mouse goes through to what is below."""

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, QPointF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from dinoviz.picture_canvas import PictureCanvas

FAINT, STRONG = 0.75, 1.0


class MatchLines(QWidget):
    """Joins places of one canvas with places of another.

    Args:
        over: the widget that holds both canvases.
        first: places of it are where lines begin.
        second: places of it are where lines end.
    """

    def __init__(self, over: QWidget, first: PictureCanvas, second: PictureCanvas) -> None:
        super().__init__(over)
        self._first, self._second = first, second
        self._ends: Sequence[tuple[QPointF, QPointF, QColor]] = ()
        self._strong: int | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        for canvas in (first, second):
            canvas.shown.connect(self.update)
        over.installEventFilter(self)
        self.hide()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize:
            self.resize(self.parentWidget().size())
        return False

    def set_lines(self, first: Sequence[QPointF], second: Sequence[QPointF], colours: Sequence[QColor]) -> None:
        """Show lines between places in picture pixels; none hides them."""
        self._ends = tuple(zip(first, second, colours, strict=True))
        self._strong = None
        self.setVisible(bool(self._ends))
        self.resize(self.parentWidget().size())
        self.raise_()
        self.update()

    def set_strong(self, number: int | None) -> None:
        """Let one line stand out."""
        if number != self._strong:
            self._strong = number
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for number, (first, second, colour) in enumerate(self._ends):
            begin = self._first.mapTo(self.parentWidget(), self._first.to_canvas(first))
            end = self._second.mapTo(self.parentWidget(), self._second.to_canvas(second))
            is_strong = number == self._strong
            painter.setOpacity(STRONG if is_strong else FAINT if self._strong is None else FAINT / 3)
            for ink, width in ((QColor(0, 0, 0, 140), 3.0), (colour, 1.4)):
                painter.setPen(QPen(ink, width + is_strong))
                painter.drawLine(begin, end)
