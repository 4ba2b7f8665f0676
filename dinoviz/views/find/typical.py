"""What a class looks like: its most typical pictures in a row, the most central one first."""

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QPointF, QRect, QRectF, Qt, QTimer
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame

from dinoviz import theme
from dinoviz.desk import Desk
from dinoviz.watching import follow, watch
from dinoviz.words import counted, tr
from engine.finding.oddity_files import Prototypes

LEAST_PX, MOST_PX = 96, 184
"""Of the side of a picture: they fill the width."""
GAP_PX = 8
NAME_PX = 150
MARGIN_PX = 24
SHARPER = 1.5
"""A thumbnail that fills a square is asked for so many times larger: pictures of 3 : 2 are then sharp."""


class TypicalRows(QAbstractScrollArea):
    """A line a class, of which only what is seen is drawn.

    A press makes a picture the current one; Enter or a double click looks at it.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._rows: Sequence[Prototypes] = ()
        self._at = (0, 0)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(tr("Typical pictures of every class"))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._wanting = QTimer(self, singleShot=True, interval=15)
        self._wanting.timeout.connect(self._want)
        desk.thumbnails.arrived.connect(self._arrived)
        watch(self, self._session, ("current",), self.viewport().update)
        follow(self, theme.changed, self.viewport().update)

    def _arrived(self, _picture: int) -> None:
        self.viewport().update()

    def set_rows(self, rows: Sequence[Prototypes]) -> None:
        """Show these classes; pictures that are in the project no more are left out."""
        table = self._session.state.table
        self._rows = [row for row in rows if any(table.contains(picture) for picture in row.pictures)]
        self._at = (0, 0)
        self._lay_out()

    @property
    def _side(self) -> int:
        most = max((len(row.pictures) for row in self._rows), default=1)
        room = self.viewport().width() - NAME_PX - 2 * MARGIN_PX
        return min(MOST_PX, max(LEAST_PX, room // most - GAP_PX))

    @property
    def _line(self) -> int:
        """Height of the line of a class."""
        return self._side + 2 * GAP_PX

    def _lay_out(self) -> None:
        self.verticalScrollBar().setSingleStep(self._line // 3)
        beyond = len(self._rows) * self._line + 2 * MARGIN_PX - self.viewport().height()
        self.verticalScrollBar().setRange(0, max(0, beyond))
        self.verticalScrollBar().setPageStep(self.viewport().height())
        self._wanting.start()
        self.viewport().update()

    def _seen(self) -> range:
        top = self.verticalScrollBar().value() - MARGIN_PX
        first = max(0, top // self._line)
        return range(first, min(len(self._rows), (top + self.viewport().height()) // self._line + 1))

    def _want(self) -> None:
        if self.isVisible():
            pictures = [picture for row in self._seen() for picture in self._rows[row].pictures]
            self._desk.thumbnails.want("find.typical", pictures, round(SHARPER * self._side * self.devicePixelRatioF()))

    def _place(self, row: int, number: int) -> QRect:
        top = MARGIN_PX + row * self._line - self.verticalScrollBar().value() + GAP_PX
        return QRect(MARGIN_PX + NAME_PX + number * (self._side + GAP_PX), top, self._side, self._side)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the lines that are seen."""
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.viewport().rect(), theme.colours().canvas)
        for row in self._seen():
            self._draw_row(painter, row)
        painter.end()

    def _draw_row(self, painter: QPainter, row: int) -> None:
        colours, prototypes = theme.colours(), self._rows[row]
        first = self._place(row, 0)
        name = QRect(MARGIN_PX, first.center().y() - 22, NAME_PX - GAP_PX, 22)
        painter.setPen(colours.text)
        painter.setFont(theme.font("heading"))
        text = prototypes.label or tr("All pictures")
        painter.drawText(
            name,
            Qt.AlignmentFlag.AlignLeft,
            painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, name.width()),
        )
        painter.setPen(colours.muted)
        painter.setFont(theme.font("small"))
        painter.drawText(
            name.translated(0, 22), Qt.AlignmentFlag.AlignLeft, counted(prototypes.n_pictures, tr("picture"))
        )
        for number, picture in enumerate(prototypes.pictures):
            self._draw_picture(painter, self._place(row, number), picture, has_focus=(row, number) == self._at)

    def _draw_picture(self, painter: QPainter, where: QRect, picture: int, *, has_focus: bool) -> None:
        colours = theme.colours()
        image = self._desk.thumbnails.in_memory(picture, round(SHARPER * self._side * self.devicePixelRatioF()))
        if image is None:
            painter.fillRect(where, colours.line)
        else:
            side = min(image.width(), image.height())
            cut = QRectF(0, 0, side, side)
            cut.moveCenter(QRectF(image.rect()).center())
            painter.drawImage(QRectF(where), image, cut)
        is_ringed = picture == self._session.state.current
        if is_ringed or (has_focus and self.hasFocus()):
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(colours.accent if is_ringed else colours.faint, 2.5))
            painter.drawRoundedRect(QRectF(where).adjusted(-3, -3, 3, 3), 4, 4)

    def _under(self, point: QPointF) -> tuple[int, int] | None:
        for row in self._seen():
            for number in range(len(self._rows[row].pictures)):
                if self._place(row, number).contains(QPoint(int(point.x()), int(point.y()))):
                    return row, number
        return None

    def _choose(self, row: int, number: int) -> None:
        picture = self._rows[row].pictures[number]
        if not self._session.state.table.contains(picture):
            return
        self._at = (row, number)
        self._session.set_current(picture)
        words = (self._rows[row].label, self._session.state.table.name(picture))
        self.setAccessibleName(tr("Typical pictures: {what}", what=", ".join(filter(None, words))))
        place = self._place(row, number)
        bar = self.verticalScrollBar()
        if place.top() < GAP_PX:
            bar.setValue(bar.value() + place.top() - MARGIN_PX)
        elif place.bottom() > self.viewport().height() - GAP_PX:
            bar.setValue(bar.value() + place.bottom() - self.viewport().height() + MARGIN_PX)
        self.viewport().update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Make the picture under the mouse the current one."""
        under = self._under(event.position())
        if under is not None:
            self._choose(*under)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Look at the picture under the mouse."""
        if self._under(event.position()) is not None:
            self._desk.actions.trigger("picture.look")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go from picture to picture."""
        steps = {
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
        }
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self._desk.actions.trigger("picture.look")
        elif event.key() in steps and self._rows:
            down, right = steps[Qt.Key(event.key())]
            row = min(max(0, self._at[0] + down), len(self._rows) - 1)
            number = min(max(0, self._at[1] + right), len(self._rows[row].pictures) - 1)
            self._choose(row, number)
        else:
            super().keyPressEvent(event)

    def scrollContentsBy(self, _dx: int, _dy: int) -> None:
        """Draw anew, and want what is seen now."""
        self._wanting.start()
        self.viewport().update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Work out anew how far one can scroll."""
        super().resizeEvent(event)
        self._lay_out()
