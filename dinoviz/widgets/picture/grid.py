"""A grid of any number of pictures: only what is seen is ever drawn, decoded or asked about.

It holds ids and nothing else of the pictures. What is selected, current and under the mouse is the session's, so every
other view follows; the thumbnails are those of ``thumbnails``, which this grid tells what is seen now and what comes
next. Where cells lie and how one is drawn is in ``cells``.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import (
    QEasingCurve,
    QEvent,
    QMimeData,
    QPoint,
    QPointF,
    QRect,
    QRectF,
    QSize,
    Qt,
    QTimer,
    QUrl,
    QVariantAnimation,
    Signal,
)
from PySide6.QtGui import (
    QAccessible,
    QAccessibleEvent,
    QColor,
    QContextMenuEvent,
    QDrag,
    QFocusEvent,
    QHelpEvent,
    QHideEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPixmap,
    QResizeEvent,
    QShowEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractScrollArea, QApplication, QFrame, QMenu, QToolTip, QWidget

from dinoviz import theme
from dinoviz.drops import OWN_IDS
from dinoviz.session import How
from dinoviz.watching import follow, watch
from dinoviz.widgets.picture.cells import (
    CAPTION_PX,
    MARGIN,
    STARS_FROM_PX,
    CellLook,
    CellPainter,
    Cells,
    picture_rect,
    tag_colours,
)
from dinoviz.words import counted, tr
from engine.quantities import size_in_words

if TYPE_CHECKING:
    from dinoviz.desk import Desk

SMALLEST_PX, LARGEST_PX = 48, 512
STEP_PX = 8
ZOOM_FACTOR = 1.18  # of one notch of the wheel: four of them double the side
SCROLL_MS = 130  # of one notch of the wheel; longer feels late
NOTCH = 120  # of angleDelta, by Qt's documentation
WHEEL_ROWS = 0.6
"""Rows of pictures that a notch scrolls by."""
PAGES_AHEAD = 1
"""Pages of pictures decoded below and above what is seen, after that."""
WANT_MS = 15
"""Wait after the last scroll step before the list of what is wanted is made anew."""
LONGEST_BAR = 1 << 30
"""Scroll bars count in 32 bits; a taller grid counts in steps of several px."""
EDGE_PX, EDGE_MS = 24, 16
"""A rubber band this near to the edge scrolls, once in so many ms."""
DRAGGED_AT_MOST = 1000
DRAG_PX = 96
_MOVES = {
    Qt.Key.Key_Left: "left",
    Qt.Key.Key_Right: "right",
    Qt.Key.Key_Up: "up",
    Qt.Key.Key_Down: "down",
    Qt.Key.Key_Home: "first",
    Qt.Key.Key_End: "last",
    Qt.Key.Key_PageUp: "page up",
    Qt.Key.Key_PageDown: "page down",
}
_OWN_KEYS = {*_MOVES, Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter}

Caption = Callable[[int], str | None]
Looks = Callable[[int, CellLook], CellLook]


class PictureGrid(QAbstractScrollArea):
    """A grid of pictures by id.

    Signals:
        current_changed: the person made a picture the current one here.
        activated: the person wants to see a picture large: double click or Enter.
        side_changed: the person zoomed; the side of a picture in px.
    """

    current_changed = Signal(int)
    activated = Signal(int)
    side_changed = Signal(int)

    def __init__(self, desk: "Desk", key: str = "library", *, is_strip: bool = False) -> None:
        """Make a grid.

        Args:
            desk: of the window.
            key: tells it from the other grids; what it wants decoded is noted under it.
            is_strip: a few pictures within a panel: on its ground, without margin and scroll bar.
        """
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._key = key
        self._is_strip = is_strip
        self._ids: NDArray[np.int64] = np.zeros(0, np.int64)
        self._side = 160
        self._caption: Caption | None = None
        self._looks: Looks | None = None
        self._menu: Callable[[], QMenu] | None = None
        self._empty: QWidget | None = None
        self._cells = self._cells_of(0, 0)
        self._unit = 1
        self._anchor: int | None = None
        self._pressed: tuple[int, QPoint] | None = None
        self._band: tuple[QPointF, QPointF] | None = None
        self._band_how: How = "replace"
        self._current: int | None = None
        self._current_position: int | None = None
        self._hovered: int | None = None
        self._seen: dict[int, int] = {}
        self._look_of: dict[int, CellLook] = {}
        self._tag_colours: dict[str, QColor] = {}
        self._build()
        self._connect()

    def _build(self) -> None:
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        policy = Qt.ScrollBarPolicy
        self.setVerticalScrollBarPolicy(policy.ScrollBarAlwaysOff if self._is_strip else policy.ScrollBarAlwaysOn)
        self.viewport().setMouseTracking(True)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._glide = QVariantAnimation(self)
        self._glide.setDuration(SCROLL_MS)
        self._glide.setEasingCurve(QEasingCurve.Type.OutCubic)
        self._glide.valueChanged.connect(lambda value: self.verticalScrollBar().setValue(round(value)))
        self._wanting = _timer(self, WANT_MS, self._want)
        self._edging = QTimer(self, interval=EDGE_MS)
        self._edging.timeout.connect(self._scroll_at_edge)
        self._naming = _timer(self, 0, self._name)

    def _connect(self) -> None:
        self._desk.thumbnails.arrived.connect(self._draw_arrived)
        watch(self, self._session, ("current",), self._show_current)
        watch(self, self._session, ("selected",), self._show_selected)
        watch(self, self._session, ("hovered",), self._show_hovered)
        watch(self, self._session, ("marks", "table"), self._show_marks)
        follow(self, theme.changed, self._show_marks)
        self._show_marks()
        self._show_current()

    # What is shown

    @property
    def ids(self) -> NDArray[np.int64]:
        """The pictures, in order."""
        return self._ids

    def set_ids(self, ids: NDArray[np.int64]) -> None:
        """Show these pictures, in this order.

        The current picture stays where it is if it was seen; otherwise the grid stays at its top, or where it was.
        """
        if ids is self._ids:
            return
        kept = self._current_position if self._current_position in self._seen_positions() else None
        offset = 0 if kept is None else self._cells.top_of(kept) - self._scrolled()
        scrolled = self._scrolled()
        self._ids = ids
        self._current_position = self._position_of(self._current)
        self._anchor = self._current_position
        self._lay_out()
        if scrolled and kept is not None and self._current_position is not None:
            scrolled = self._cells.top_of(self._current_position) - offset
        self._scroll_to(scrolled)
        self._refresh()

    def set_captions(self, caption: Caption | None) -> None:
        """Write a line under every picture; None for no lines."""
        self._caption = caption
        self._look_of.clear()
        self._lay_out()
        self._refresh()

    def set_marks(self, looks: Looks | None) -> None:
        """Change what is drawn on cells: called with an id and the usual look, returns the look to draw."""
        self._looks = looks
        self._look_of.clear()
        self._refresh()

    def set_menu(self, menu: Callable[[], QMenu] | None) -> None:
        """Open this menu by the right button and the menu key, for what ``State.meant`` says."""
        self._menu = menu

    def set_empty(self, widget: QWidget | None) -> None:
        """Show this widget while there are no pictures."""
        if self._empty is not None and self._empty is not widget:
            self._empty.deleteLater()
        self._empty = widget
        if widget is not None:
            widget.setParent(self.viewport())
        self._place_empty()

    @property
    def side(self) -> int:
        """Side of a picture, px."""
        return self._side

    def set_side(self, side: int, around: QPoint | None = None) -> None:
        """Zoom; what is at ``around`` in the viewport, or the current picture if it is seen, stays there."""
        side = min(LARGEST_PX, max(SMALLEST_PX, round(side / STEP_PX) * STEP_PX))
        if side == self._side:
            return
        position, offset = self._held(around)
        self._side = side
        self._lay_out()
        if position is not None:
            self._scroll_to(round(self._cells.top_of(position) + self._cells.pitch_y / 2 - offset))
        self._refresh()
        self.side_changed.emit(side)

    @property
    def columns(self) -> int:
        """Pictures side by side."""
        return self._cells.columns

    def height_of_rows(self, rows: int) -> int:
        """Return the height that shows so many rows whole."""
        return rows * self._cells.pitch_y + 2 * self._cells.margin

    def zoom(self, steps: float) -> None:
        """Zoom in by some steps, or out by negative ones."""
        self._zoom(steps, None)

    def rect_of(self, picture: int) -> QRect | None:
        """Return where the cell of a picture lies in the viewport; None where it is not seen."""
        position = self._seen.get(picture)
        return None if position is None else self._cells.rect(position, self._scrolled())

    def _lay_out(self) -> None:
        """Work out where cells lie, and how far one can scroll."""
        has_captions = self._caption is not None and self._side >= STARS_FROM_PX
        self._cells = self._cells_of(len(self._ids), CAPTION_PX if has_captions else 0)
        beyond = max(0, self._cells.height - self.viewport().height())
        self._unit = 1 + beyond // LONGEST_BAR
        bar = self.verticalScrollBar()
        bar.setRange(0, -(-beyond // self._unit))
        bar.setPageStep(max(1, self.viewport().height() // self._unit))
        bar.setSingleStep(max(1, self._cells.pitch_y // 4 // self._unit))
        self._place_empty()

    def _cells_of(self, count: int, caption_px: int) -> Cells:
        return Cells(count, self._side, self.viewport().width(), caption_px, 0 if self._is_strip else MARGIN)

    def _refresh(self) -> None:
        self._wanting.start()
        self._naming.start()
        self.viewport().update()

    def _place_empty(self) -> None:
        if self._empty is not None:
            self._empty.setGeometry(self.viewport().rect())
            self._empty.setVisible(not len(self._ids))

    def _scrolled(self) -> int:
        return self.verticalScrollBar().value() * self._unit

    def _scroll_to(self, top: int) -> None:
        self._glide.stop()
        self.verticalScrollBar().setValue(top // self._unit)

    def _position_of(self, picture: int | None) -> int | None:
        if picture is None:
            return None
        found = np.flatnonzero(self._ids == picture)
        return int(found[0]) if len(found) else None

    def _held(self, around: QPoint | None) -> tuple[int | None, float]:
        """Return the position that stays in its place when cells change size, and the height of its middle."""
        seen = self._seen_positions()
        if around is not None:
            position = self._cells.at(around.x(), around.y() + self._scrolled())
            if position is None and seen:
                position = min(seen[-1], max(seen[0], self._nearest(around)))
        elif self._current_position in seen:
            position = self._current_position
        else:
            position = seen[0] if seen else None
        if position is None:
            return None, 0.0
        return position, self._cells.top_of(position) - self._scrolled() + self._cells.pitch_y / 2

    def _nearest(self, point: QPoint) -> int:
        row = max(0, point.y() + self._scrolled()) // self._cells.pitch_y
        column = min(self._cells.columns - 1, int(max(0, point.x()) // self._cells.pitch_x))
        return row * self._cells.columns + column

    def _seen_positions(self) -> range:
        return self._cells.between(self._scrolled(), self._scrolled() + self.viewport().height())

    # What is decoded

    def _want(self) -> None:
        """Tell what is seen, then what is around it, the nearest first."""
        seen = self._seen_positions()
        self._seen = {int(self._ids[position]): position for position in seen}
        if not self.isVisible():
            return
        ahead = len(seen) * PAGES_AHEAD
        after = range(seen.stop, min(self._cells.count, seen.stop + ahead))
        before = range(max(0, seen.start - ahead), seen.start)
        positions = [*seen, *after, *reversed(before)]
        self._desk.thumbnails.want(self._key, self._ids[positions].tolist(), self._side_px())

    def _side_px(self) -> int:
        return round(self._side * self.devicePixelRatioF())

    def _draw_arrived(self, picture: int) -> None:
        position = self._seen.get(picture)
        if position is not None and position < self._cells.count:
            self.viewport().update(self._cells.rect(position, self._scrolled()))

    # What the session says

    def _show_current(self) -> None:
        if self._session.state.current == self._current:
            return
        self._update_cell(self._current_position)
        self._current = self._session.state.current
        if self._current_position is None or not self._is_at(self._current_position, self._current):
            self._current_position = self._position_of(self._current)
        self._update_cell(self._current_position)
        if self._current_position is not None:
            self._reveal(self._current_position)
        self._naming.start()

    def _is_at(self, position: int, picture: int | None) -> bool:
        return position < len(self._ids) and int(self._ids[position]) == picture

    def _show_selected(self) -> None:
        self.viewport().update()
        self._naming.start()

    def _show_hovered(self) -> None:
        hovered = self._session.state.hovered
        for picture in (self._hovered, hovered):
            self._update_cell(self._seen.get(-1 if picture is None else picture))
        self._hovered = hovered

    def _show_marks(self) -> None:
        self._tag_colours = tag_colours(self._session.state.marks.tags)
        self._look_of.clear()
        self.viewport().update()

    def _update_cell(self, position: int | None) -> None:
        if position is not None and position < self._cells.count:
            self.viewport().update(self._cells.rect(position, self._scrolled()))

    def _reveal(self, position: int) -> None:
        """Scroll no further than needed to see a cell whole."""
        top = self._cells.top_of(position)
        bottom = top + self._cells.pitch_y
        scrolled, height = self._scrolled(), self.viewport().height()
        if self._is_strip:
            return
        if top < scrolled or self._cells.pitch_y > height:
            self._scroll_to(top - theme.SPACE)
        elif bottom > scrolled + height:
            # In px rounded up, so that the last line is seen where the bar counts in larger steps.
            self._scroll_to(bottom - height + theme.SPACE + self._unit - 1)

    # Drawing

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the cells that the area to draw touches."""
        with QPainter(self.viewport()) as painter:
            painter.fillRect(event.rect(), theme.colours().panel if self._is_strip else theme.colours().canvas)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            if len(self._ids):
                self._paint_cells(painter, event.rect())
            if self._band is not None:
                CellPainter(painter, self._side, 1.0).band(self._band_box().translated(0, -self._scrolled()))

    def _paint_cells(self, painter: QPainter, area: QRect) -> None:
        scrolled = self._scrolled()
        positions = self._cells.between(area.top() + scrolled, area.bottom() + scrolled)
        if not positions:
            return
        ids = self._ids[positions.start : positions.stop]
        is_selected = self._is_selected(positions, ids)
        drawing = CellPainter(painter, self._side, self.devicePixelRatioF())
        for position, picture, selected in zip(positions, ids.tolist(), is_selected.tolist(), strict=True):
            cell = self._cells.rect(position, scrolled)
            if cell.intersects(area):
                self._paint_cell(drawing, cell, position, picture, is_selected=selected)

    def _paint_cell(self, drawing: CellPainter, cell: QRect, position: int, picture: int, *, is_selected: bool) -> None:
        drawing.ground(cell, is_selected=is_selected, is_hovered=picture == self._hovered)
        image = self._desk.thumbnails.in_memory(picture, self._side_px())
        where = drawing.picture(self._picture_rect(cell, picture), image)
        look = self._look_of.get(picture) or self._look(picture)
        if self._cells.caption_px and look.caption:
            drawing.caption(cell, look.caption, is_selected=is_selected)
        drawing.badges(where, look)
        if position == self._current_position:
            drawing.ring(cell, has_focus=self.hasFocus())

    def _picture_rect(self, cell: QRect, picture: int) -> QRect:
        """Return where a picture will lie, by its size in the table."""
        table = self._session.state.table
        aspect = 4 / 3
        if table.contains(picture):
            row = table.row_of(picture)
            height, width = int(table.heights_N[row]), int(table.widths_N[row])
            aspect = width / height if height > 0 and width > 0 else aspect
        return picture_rect(cell, self._side, aspect)

    def _is_selected(self, positions: range, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which pictures are selected, or will be when the rubber band is let go."""
        is_selected = _is_among(ids, self._session.state.selected)
        if self._band is None:
            return is_selected
        places = np.arange(positions.start, positions.stop)
        is_touched = np.isin(places, self._cells.touched(self._band_box()), assume_unique=True)
        match self._band_how:
            case "add":
                return is_selected | is_touched
            case "subtract":
                return is_selected & ~is_touched
            case "toggle":
                return is_selected ^ is_touched
        return is_touched

    def _look(self, picture: int) -> CellLook:
        state = self._session.state
        # A cell may be painted before the colour of a new tag is there; it is drawn again a turn later.
        colours = self._tag_colours
        look = CellLook(
            caption=(self._caption(picture) if self._caption else None) or "",
            stars=state.marks.ratings.get(picture, 0),
            tags=tuple(colours[tag] for tag in state.marks.tags_of(picture) if tag in colours) if colours else (),
            is_problem=bool(self._desk.thumbnails.problem(picture)),
            is_changed=picture in state.marks.labels,
        )
        look = self._looks(picture, look) if self._looks else look
        if not look.is_problem:  # which may turn out later
            self._look_of[picture] = look
        return look

    def scrollContentsBy(self, dx: int, dy: int) -> None:
        """Move what is drawn, and draw what came in at the edge only."""
        is_far = abs(dy) * self._unit >= self.viewport().height()  # Qt crashes where this overflows 32 bits
        if is_far or self._band is not None or (self._empty is not None and self._empty.isVisible()):
            self.viewport().update()
        else:
            self.viewport().scroll(dx, dy * self._unit)
        self._wanting.start()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lay out anew; the first row that is seen stays."""
        first = self._seen_positions().start
        into = self._scrolled() - self._cells.top_of(first)
        self._lay_out()
        self._scroll_to(self._cells.top_of(first) + into if self._scrolled() else 0)
        self._refresh()
        super().resizeEvent(event)

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for what is seen."""
        super().showEvent(event)
        self._wanting.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Want nothing any more."""
        super().hideEvent(event)
        self._desk.thumbnails.want(self._key, (), 1)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show by the ring that keys go here."""
        super().focusInEvent(event)
        self._update_cell(self._current_position)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Show by the ring that keys go elsewhere."""
        super().focusOutEvent(event)
        self._update_cell(self._current_position)

    def sizeHint(self) -> QSize:
        """Ask for room for a few pictures."""
        return QSize(3 * self._side, 3 * self._side)

    # The mouse

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll smoothly; zoom with Ctrl."""
        if self._is_strip:
            event.ignore()
            return
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self._zoom(event.angleDelta().y() / NOTCH, event.position().toPoint())
        elif not event.pixelDelta().isNull():
            self._scroll_to(self._scrolled() - event.pixelDelta().y())
        else:
            self._glide_by(-event.angleDelta().y() / NOTCH * WHEEL_ROWS * self._cells.pitch_y / self._unit)
        event.accept()

    def _zoom(self, steps: float, around: QPoint | None) -> None:
        side = self._side * ZOOM_FACTOR**steps
        # At least one step of the grid's, which is more than a notch for small pictures.
        step = math.copysign(STEP_PX, steps)
        self.set_side(round(side) if abs(side - self._side) >= STEP_PX else round(self._side + step), around)

    def _glide_by(self, distance: float) -> None:
        bar = self.verticalScrollBar()
        is_moving = self._glide.state() == QVariantAnimation.State.Running
        goal = (self._glide.endValue() if is_moving else float(bar.value())) + distance
        self._glide.stop()
        self._glide.setStartValue(float(bar.value()))
        self._glide.setEndValue(min(float(bar.maximum()), max(0.0, goal)))
        self._glide.start()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Select, or begin a rubber band on empty ground."""
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        position = self._position_at(event.position())
        if event.button() == Qt.MouseButton.RightButton:
            if position is not None and not _is_among(self._ids[[position]], self._session.state.selected)[0]:
                self._choose(position, Qt.KeyboardModifier.NoModifier)
            elif position is not None:
                self._make_current(position)
            return
        if event.button() != Qt.MouseButton.LeftButton:
            return
        is_on_picture = position is not None and self._is_on_picture(position, event.position())
        if is_on_picture:
            assert position is not None
            self._pressed = (position, event.position().toPoint())
            if not self._would_drag(position, event.modifiers()):
                self._choose(position, event.modifiers())
        else:
            start = QPointF(event.position().x(), event.position().y() + self._scrolled())
            self._band = (start, start)
            self._band_how = _how(event.modifiers())

    def _would_drag(self, position: int, modifiers: Qt.KeyboardModifier) -> bool:
        """Tell whether a press is on one of several that are selected: it may begin a drag of all of them."""
        selected = self._session.state.selected
        return not modifiers and len(selected) > 1 and bool(_is_among(self._ids[[position]], selected)[0])

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Follow the mouse: hover, drag out, or stretch the rubber band."""
        point = event.position()
        if self._band is not None:
            self._stretch_band(point)
        elif self._pressed is not None:
            if (point.toPoint() - self._pressed[1]).manhattanLength() >= QApplication.startDragDistance():
                self._pressed = None
                self._drag()
        else:
            self._hover(self._position_at(point))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Take what the rubber band touches; a click on one of several that are selected makes it current."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        if self._band is not None:
            self._let_band_go(event)
        elif self._pressed is not None and self._would_drag(self._pressed[0], event.modifiers()):
            self._make_current(self._pressed[0])
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """See a picture large."""
        position = self._position_at(event.position())
        if event.button() == Qt.MouseButton.LeftButton and position is not None:
            self._pressed = None
            self._make_current(position)
            self.activated.emit(int(self._ids[position]))

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the mouse."""
        super().leaveEvent(event)
        self._hover(None)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Open the menu of what can be done with the pictures."""
        if self._menu is None or not len(self._ids):
            return
        point = event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard and self._current_position is not None:
            point = self.viewport().mapToGlobal(self._cells.rect(self._current_position, self._scrolled()).center())
        menu = self._menu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.popup(point)

    def viewportEvent(self, event: QEvent) -> bool:
        """Show what a picture is when the mouse rests on it."""
        if event.type() == QEvent.Type.ToolTip:
            assert isinstance(event, QHelpEvent)
            position = self._position_at(QPointF(event.pos()))
            if position is None or not self._is_on_picture(position, QPointF(event.pos())):
                QToolTip.hideText()
            else:
                cell = self._cells.rect(position, self._scrolled())
                QToolTip.showText(event.globalPos(), self._tip(int(self._ids[position])), self.viewport(), cell)
            return True
        return super().viewportEvent(event)

    def _tip(self, picture: int) -> str:
        table, marks = self._session.state.table, self._session.state.marks
        if not table.contains(picture):
            return ""
        row = table.row_of(picture)
        lines = [table.name(picture)]
        if label := table.label_of(picture):
            lines.append(label)
        width, height = int(table.widths_N[row]), int(table.heights_N[row])
        size = size_in_words(int(table.sizes_N[row]))
        lines.append(
            tr("{width} \N{MULTIPLICATION SIGN} {height} px · {size}", width=width, height=height, size=size)
            if width
            else size
        )
        if tags := marks.tags_of(picture):
            lines.append(", ".join(tags))
        if problem := self._desk.thumbnails.problem(picture):
            lines.append(tr("Cannot be read: {problem}", problem=problem))
        return "\n".join(lines)

    def _position_at(self, point: QPointF) -> int | None:
        return self._cells.at(point.x(), point.y() + self._scrolled())

    def _is_on_picture(self, position: int, point: QPointF) -> bool:
        cell = self._cells.rect(position, self._scrolled())
        is_on_caption = self._cells.caption_px > 0 and point.y() > cell.bottom() - self._cells.caption_px
        return is_on_caption or self._picture_rect(cell, int(self._ids[position])).contains(point.toPoint())

    def _hover(self, position: int | None) -> None:
        hovered = None if position is None else int(self._ids[position])
        if hovered != self._session.state.hovered:
            self._session.hover(hovered)

    # The rubber band

    def _band_box(self) -> QRectF:
        assert self._band is not None
        return QRectF(*self._band).normalized()

    def _stretch_band(self, point: QPointF) -> None:
        assert self._band is not None
        self._band = (self._band[0], QPointF(point.x(), point.y() + self._scrolled()))
        is_at_edge = not EDGE_PX <= point.y() <= self.viewport().height() - EDGE_PX
        if is_at_edge and not self._edging.isActive():
            self._edging.start()
        elif not is_at_edge:
            self._edging.stop()
        self.viewport().update()

    def _scroll_at_edge(self) -> None:
        point = QPointF(self.viewport().mapFromGlobal(self.cursor().pos()))
        if self._band is None:
            self._edging.stop()
            return
        beyond = min(0.0, point.y() - EDGE_PX) + max(0.0, point.y() - self.viewport().height() + EDGE_PX)
        self._scroll_to(self._scrolled() + round(beyond * 0.8))
        self._band = (self._band[0], QPointF(point.x(), point.y() + self._scrolled()))
        self.viewport().update()

    def _let_band_go(self, event: QMouseEvent) -> None:
        self._edging.stop()
        box, self._band = self._band_box(), None
        self.viewport().update()
        is_click = max(box.width(), box.height()) < QApplication.startDragDistance()
        if is_click:
            position = self._position_at(event.position())
            if position is not None:
                self._choose(position, event.modifiers())
            elif not event.modifiers():
                self._select(self._ids[:0], "replace")
            return
        touched = self._cells.touched(box)
        self._select(self._ids[touched], self._band_how, counted(len(touched), tr("picture")))
        if len(touched):
            self._anchor = int(touched[0])
            self._make_current(int(touched[0]))

    # Selecting

    def _choose(self, position: int, modifiers: Qt.KeyboardModifier) -> None:
        """Do what a click on a picture does: select it, add or take it away, or select up to it."""
        if modifiers & Qt.KeyboardModifier.ShiftModifier and self._anchor is not None:
            self._select_range(position, is_added=bool(modifiers & Qt.KeyboardModifier.ControlModifier))
            self._make_current(position)
            return
        self._anchor = position
        self._select(self._ids[[position]], "toggle" if modifiers & Qt.KeyboardModifier.ControlModifier else "replace")
        self._make_current(position)

    def _select_range(self, position: int, *, is_added: bool) -> None:
        anchor = position if self._anchor is None else min(self._anchor, len(self._ids) - 1)
        first, last = sorted((anchor, position))
        self._select(self._ids[first : last + 1], "add" if is_added else "replace")

    def _select(self, ids: NDArray[np.int64], how: How, what: str = "") -> None:
        """Select; undoable where more than a click is needed to get back what was selected."""
        if how == "replace" and len(ids) <= 1 and len(self._session.state.selected) <= 1:
            self._session.select(ids, how)
        else:
            self._session.select_with_tool(ids, how, tr("Select {what}", what=what) if what else tr("Select"))

    def _make_current(self, position: int) -> None:
        picture = int(self._ids[position])
        self._current_position_hint(position)
        self._session.set_current(picture)
        self.current_changed.emit(picture)

    def _current_position_hint(self, position: int) -> None:
        """Remember where the picture that becomes current is, as looking for it takes time in a long list."""
        self._update_cell(self._current_position)
        self._current_position = position

    # The keyboard

    def event(self, event: QEvent) -> bool:
        """Keep the keys that move and select from being anybody's shortcuts while the grid has the focus."""
        if event.type() == QEvent.Type.ShortcutOverride:
            assert isinstance(event, QKeyEvent)
            is_alt = bool(event.modifiers() & (Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.MetaModifier))
            if (event.key() in _OWN_KEYS and not is_alt) or _is_select_all(event):
                event.accept()
                return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move, select and open by keys."""
        position = self._current_position
        if _is_select_all(event):
            self._select(self._ids, "replace", tr("all"))
        elif event.key() in _MOVES and len(self._ids):
            self._move(_MOVES[Qt.Key(event.key())], event.modifiers())
        elif event.key() == Qt.Key.Key_Space and position is not None:
            self._anchor = position
            self._select(self._ids[[position]], "toggle")
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and position is not None:
            self.activated.emit(int(self._ids[position]))
        elif event.key() == Qt.Key.Key_Escape and len(self._session.state.selected):
            self._select(self._ids[:0], "replace")
        else:
            event.ignore()

    def _move(self, to: str, modifiers: Qt.KeyboardModifier) -> None:
        """Go to another picture: select it, select up to it with Shift, or leave the selection alone with Ctrl."""
        position = self._moved(to)
        if modifiers & Qt.KeyboardModifier.ShiftModifier:
            self._anchor = self._current_position if self._anchor is None else self._anchor
            self._select_range(position, is_added=False)
        else:
            self._anchor = position
            if not modifiers & Qt.KeyboardModifier.ControlModifier:
                self._select(self._ids[[position]], "replace")
        self._make_current(position)

    def _moved(self, to: str) -> int:
        """Return the position that a key moves to from the current one, or from the first that is seen."""
        last = len(self._ids) - 1
        now = self._current_position
        if to in ("first", "last"):
            return 0 if to == "first" else last
        if now is None:
            return min(last, self._seen_positions().start)
        columns = self._cells.columns
        page = max(1, self.viewport().height() // self._cells.pitch_y) * columns
        by = {"left": -1, "right": 1, "up": -columns, "down": columns, "page up": -page, "page down": page}[to]
        if 0 <= now + by <= last:
            return now + by
        if abs(by) == 1:
            return now
        row = now // columns
        # Past an end, a page goes to the first or last row in the same column; a line stays, or to the last picture.
        if by < 0:
            return now % columns if by == -page else now
        return last if row < last // columns else now

    # Dragging out

    def _drag(self) -> None:
        """Drag the pictures as files, which other programs take, and as ids for this one."""
        ids = self._session.state.meant()
        table = self._session.state.table
        files = [QUrl.fromLocalFile(str(table.file(i))) for i in ids[:DRAGGED_AT_MOST].tolist() if table.contains(i)]
        if not files:
            return
        mime = QMimeData()
        mime.setUrls(files)
        mime.setData(OWN_IDS, " ".join(map(str, ids.tolist())).encode())
        drag = QDrag(self)
        drag.setMimeData(mime)
        drag.setPixmap(self._drag_pixmap(int(self._session.state.current or ids[0]), len(ids)))
        drag.exec(Qt.DropAction.CopyAction)

    def _drag_pixmap(self, picture: int, count: int) -> QPixmap:
        scale = self.devicePixelRatioF()
        image = self._desk.thumbnails.in_memory(picture, self._side_px()) or QImage()
        made = QPixmap(QSize(round(DRAG_PX * scale), round(DRAG_PX * scale)))
        made.setDevicePixelRatio(scale)
        made.fill(Qt.GlobalColor.transparent)
        with QPainter(made) as painter:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            if not image.isNull():
                place = QRect(-6, -6, 0, 0)
                painter.drawImage(picture_rect(place, DRAG_PX, image.width() / image.height()), image)
            if count > 1:
                drawing = CellPainter(painter, DRAG_PX, scale)
                drawing.badges(QRect(0, 0, DRAG_PX, DRAG_PX), CellLook(text=f"{count:,}"))
        return made

    # For screen readers

    def _name(self) -> None:
        """Say how many pictures there are, how many are selected and which one is current."""
        state = self._session.state
        parts = [counted(len(self._ids), tr("picture"))]
        if len(state.selected):
            parts.append(tr("{n} selected", n=len(state.selected)))
        if self._current is not None and self._current_position is not None and state.table.contains(self._current):
            name = state.table.name(self._current)
            label = state.table.label_of(self._current)
            parts.append(tr("current: {name}", name=", ".join(filter(None, (name, label)))))
            if _is_among(np.array([self._current]), state.selected)[0]:
                parts.append(tr("selected"))
        name = "; ".join(parts)
        if name != self.accessibleName():
            self.setAccessibleName(name)
            QAccessible.updateAccessibility(QAccessibleEvent(self, QAccessible.Event.NameChanged))


def _timer(owner: QWidget, wait_ms: int, callback: Callable[[], None]) -> QTimer:
    timer = QTimer(owner, singleShot=True, interval=wait_ms)
    timer.timeout.connect(callback)
    return timer


def _is_among(ids: NDArray[np.int64], sorted_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which ids are among sorted ones; the work is that of a few look-ups, however many those are."""
    if not len(sorted_ids):
        return np.zeros(len(ids), np.bool_)
    places = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.asarray(sorted_ids[places] == ids)


def _how(modifiers: Qt.KeyboardModifier) -> How:
    """Return what a selecting tool does with what it touches, by the keys that are held."""
    if modifiers & Qt.KeyboardModifier.ShiftModifier:
        return "add"
    if modifiers & Qt.KeyboardModifier.AltModifier:
        return "subtract"
    return "toggle" if modifiers & Qt.KeyboardModifier.ControlModifier else "replace"


def _is_select_all(event: QKeyEvent) -> bool:
    return event.key() == Qt.Key.Key_A and event.modifiers() == Qt.KeyboardModifier.ControlModifier


def with_text(text_of: Callable[[int], str]) -> Looks:
    """Return marks that write a few signs on every picture, as its similarity; for ``PictureGrid.set_marks``."""

    def look(picture: int, usual: CellLook) -> CellLook:
        return replace(usual, text=text_of(picture))

    return look
