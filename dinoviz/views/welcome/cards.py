"""Projects that were opened before, as cards: a few of their pictures, a name, how many, when.

Whether a project is still there is looked up in a thread of its own, as a network drive that does not answer would hold
up everything else.
"""

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QContextMenuEvent,
    QEnterEvent,
    QFocusEvent,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMenu, QSizePolicy, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton, button
from dinoviz.preferences import Recent
from dinoviz.sample import PROJECT, sample_folder
from dinoviz.thumbnails import Thumbnails
from dinoviz.watching import follow
from dinoviz.words import counted, tr
from engine.project import SUFFIX, Glance, glance_at

CARD_WIDTH_PX = 272
MOSAIC_PX = 96
"""Height of the pictures of a card."""
PICTURES = 3
"""That a card shows."""
GAP_PX = 2
DAYS_OF_WEEK = 6
"""Days ago that are named by their day of the week."""


def name_of(folder: str) -> str:
    """Return what a project is called: its folder's name, without the ending."""
    if Path(folder) == sample_folder() / PROJECT:
        return tr("Sample")
    return Path(folder).name.removesuffix(SUFFIX) or folder


def day_in_words(at: float, now: float) -> str:
    """Return when something was, as people say it: today 14:05, yesterday, Monday, 3 May, 3 May 2024."""
    then, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    days = (today.date() - then.date()).days
    if days <= 0:
        return tr("today {time}", time=f"{then:%H:%M}")
    if days == 1:
        return tr("yesterday")
    if days <= DAYS_OF_WEEK:
        return f"{then:%A}"
    return f"{then.day} {then:%B}" if then.year == today.year else f"{then.day} {then:%B %Y}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at a project found; ``glance`` is None where there is no project any more."""

    folder: str
    glance: Glance | None
    has_pictures: bool


class Glances(QObject):
    """Looks at projects one after the other, in a thread that ends when it has seen all."""

    found = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._thread: threading.Thread | None = None

    def ask(self, folders: Sequence[str]) -> None:
        """Look at some projects, and tell of each."""
        with self._lock:
            self._waiting.extend(folder for folder in folders if folder not in self._waiting)
            if self._thread is None and self._waiting:
                self._thread = threading.Thread(target=self._work, name="glances", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                folder = self._waiting.popleft()
            found = look_at(folder)
            with suppress(RuntimeError):  # the window closed meanwhile
                self.found.emit(found)


def look_at(folder: str) -> Found:
    """Return what is at a place where a project was."""
    glance = glance_at(Path(folder), PICTURES)
    return Found(folder=folder, glance=glance, has_pictures=glance is not None and glance.pictures_folder.is_dir())


class _Elided(QLabel):
    """One line of text, with an ellipsis where it is longer than its place."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.setProperty("kind", kind)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw what there is room for."""
        painter = QPainter(self)
        shown = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        self.style().drawItemText(
            painter, self.rect(), int(self.alignment()), self.palette(), self.isEnabled(), shown, self.foregroundRole()
        )
        painter.end()


class Mosaic(QWidget):
    """A few pictures side by side, each cut to its share of the width."""

    def __init__(self) -> None:
        super().__init__()
        self._images: list[QImage | None] = []
        self._is_grey = False
        self.setFixedHeight(MOSAIC_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_images(self, images: Sequence[QImage | None], *, is_grey: bool) -> None:
        """Show other pictures; None is one that is not there yet."""
        self._images, self._is_grey = list(images), is_grey
        self.update()

    def sizeHint(self) -> QSize:
        """A card wide."""
        return QSize(CARD_WIDTH_PX, MOSAIC_PX)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the pictures, or an empty strip."""
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        outline = QPainterPath()
        outline.addRoundedRect(QRectF(self.rect()).adjusted(0, 0, 0, theme.RADIUS * 2), theme.RADIUS, theme.RADIUS)
        painter.setClipPath(outline)
        painter.fillRect(self.rect(), theme.colours().canvas)
        count = max(1, len(self._images))
        width = (self.width() - GAP_PX * (count - 1)) / count
        for place, image in enumerate(self._images):
            if image is not None and not image.isNull():
                target = QRectF(place * (width + GAP_PX), 0, width, self.height())
                painter.drawImage(target, image, _middle(image, target))
        if self._is_grey:
            veil = theme.colours().raised.toRgb()
            veil.setAlphaF(0.7)
            painter.fillRect(self.rect(), veil)
        painter.end()


def _middle(image: QImage, target: QRectF) -> QRectF:
    """Return the largest part in the middle of a picture that has the shape of its place."""
    scale = min(image.width() / target.width(), image.height() / target.height())
    width, height = target.width() * scale, target.height() * scale
    return QRectF((image.width() - width) / 2, (image.height() - height) / 2, width, height)


class RecentCard(QFrame):
    """One project: Return or a click opens it.

    Signals:
        opened(folder): it is wanted.
        located(folder): a person wants to say where it is now.
        pinned(folder, is_pinned): it is to stay at the top, or no more.
        removed(folder): it is to be forgotten; its files stay.
        revealed(folder): it is to be shown in the file manager.
        stepped(key): an arrow key was pressed: the card in that direction is wanted.
    """

    opened = Signal(str)
    located = Signal(str)
    pinned = Signal(str, bool)
    removed = Signal(str)
    revealed = Signal(str)
    stepped = Signal(Qt.Key)

    def __init__(self, recent: Recent, thumbnails: Thumbnails, now: float) -> None:
        super().__init__()
        self.recent = recent
        self._thumbnails = thumbnails
        self._files: tuple[Path, ...] = ()
        self._found: Found | None = None
        self.setProperty("kind", "card")
        self.setFixedWidth(CARD_WIDTH_PX)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._build(now)
        thumbnails.file_arrived.connect(self._arrived)
        follow(self, theme.changed, self.update)

    def _build(self, now: float) -> None:
        name = name_of(self.recent.folder)
        self._mosaic = Mosaic()
        self._name = _Elided(name, "strong")
        self._about = _Elided(self._in_words(now), "small")
        self._pin = IconButton("push-pin", tr("Keep at the top"), self._toggle_pin, checkable=True)
        self._pin.setChecked(self.recent.is_pinned)
        self._more = IconButton("dots-three", tr("More about {name}", name=name), self._show_menu)
        self._locate = button(tr("Locate…"), lambda: self.located.emit(self.recent.folder))
        self._locate.setToolTip(tr("Say where the project is now"))
        self._locate.hide()
        over = QVBoxLayout(self._mosaic)
        over.addWidget(self._locate, 0, Qt.AlignmentFlag.AlignCenter)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(self._name)
        words.addWidget(self._about)
        row = QHBoxLayout()
        row.setContentsMargins(theme.SPACE + theme.SPACE_S, theme.SPACE, theme.SPACE_S, theme.SPACE)
        row.setSpacing(0)
        row.addLayout(words, 1)
        row.addWidget(self._pin)
        row.addWidget(self._more)
        column = QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 0)
        column.setSpacing(0)
        column.addWidget(self._mosaic)
        column.addLayout(row)
        self.setToolTip(self.recent.folder)
        self.setAccessibleName(tr("Project {name}, {about}", name=name, about=self._about.text()))
        self._mosaic.show_images([None] * PICTURES, is_grey=False)

    def _in_words(self, now: float) -> str:
        parts = [counted(self.recent.pictures, tr("picture"), tr("pictures"))] if self.recent.pictures else []
        parts += [day_in_words(self.recent.opened, now)] if self.recent.opened else []
        return " · ".join(parts)

    @property
    def is_missing(self) -> bool:
        """The project is not where it was."""
        return self._found is not None and self._found.glance is None

    def show_found(self, found: Found, now: float) -> None:
        """Show what is at its place: its pictures, or that it is gone."""
        self._found = found
        glance = found.glance
        if glance is not None:
            self._files = tuple(glance.pictures_folder / path for path in glance.some)
        self._locate.setVisible(glance is None)
        self._name.setEnabled(glance is not None)
        parts = [counted(glance.n_pictures, tr("picture"), tr("pictures"))] if glance else [tr("not there any more")]
        if glance is not None and not found.has_pictures:
            parts = [tr("its pictures cannot be reached")]
        parts += [day_in_words(self.recent.opened, now)] if self.recent.opened else []
        self._about.setText(" · ".join(parts))
        self.setAccessibleName(
            tr("Project {name}, {about}", name=name_of(self.recent.folder), about=self._about.text())
        )
        self._show_images()

    def _show_images(self) -> None:
        side = round(2 * MOSAIC_PX * self.devicePixelRatioF())
        has_pictures = self._found is not None and self._found.has_pictures
        images = [self._thumbnails.image_of_file(path, side) for path in self._files] if has_pictures else []
        self._mosaic.show_images(images or [None] * PICTURES, is_grey=self.is_missing)

    def _arrived(self, path: str) -> None:
        if any(str(file) == path for file in self._files):
            self._show_images()

    def _toggle_pin(self) -> None:
        self.pinned.emit(self.recent.folder, not self.recent.is_pinned)

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        if self.is_missing:
            menu.addAction(tr("Locate…"), lambda: self.located.emit(self.recent.folder))
        else:
            menu.addAction(tr("Open"), self._open)
            menu.addAction(tr("Reveal in the file manager"), lambda: self.revealed.emit(self.recent.folder))
        pin = tr("Do not keep at the top") if self.recent.is_pinned else tr("Keep at the top")
        menu.addAction(pin, self._toggle_pin)
        menu.addSeparator()
        menu.addAction(tr("Remove from this list"), lambda: self.removed.emit(self.recent.folder))
        return menu

    def _show_menu(self) -> None:
        self._menu().popup(self._more.mapToGlobal(self._more.rect().bottomLeft()))

    def _open(self) -> None:
        if self.is_missing:
            self.located.emit(self.recent.folder)
        else:
            self.opened.emit(self.recent.folder)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Show what can be done with it."""
        self._menu().popup(event.globalPos())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Open it where it was clicked."""
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self._open()
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take the focus; a click is over when the button is up."""
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Open with Return or Space, forget with Delete, pin with P, and go to the neighbours with the arrows."""
        match event.key():
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Space:
                self._open()
            case Qt.Key.Key_Delete:
                self.removed.emit(self.recent.folder)
            case Qt.Key.Key_P:
                self._toggle_pin()
            case Qt.Key.Key_Left | Qt.Key.Key_Right | Qt.Key.Key_Up | Qt.Key.Key_Down:
                self.stepped.emit(Qt.Key(event.key()))
            case _:
                super().keyPressEvent(event)

    def _set_hot(self, is_hot: bool) -> None:
        if bool(self.property("hot")) != is_hot:
            self.setProperty("hot", is_hot)
            self.style().unpolish(self)
            self.style().polish(self)

    def enterEvent(self, event: QEnterEvent) -> None:
        """Stand out under the mouse."""
        self._set_hot(True)
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        """Stand back, unless it has the focus."""
        self._set_hot(self.hasFocus())
        super().leaveEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Stand out while it has the focus."""
        self._set_hot(True)
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Stand back, unless it is under the mouse."""
        self._set_hot(self.underMouse())
        super().focusOutEvent(event)
