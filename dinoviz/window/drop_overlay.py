"""What the whole window shows while something is dragged over it: what will happen on letting go, or why nothing can.

It lies over everything, so that it does not matter over which view the mouse is; the place in front decides what a drop
means (`drops`). The look at the files is off the thread that paints, as a dead network drive can hold it up; where the
person lets go before it is known, it happens as soon as it is.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import unquote_to_bytes, urlsplit

from PySide6.QtCore import QEvent, QMimeData, QObject, QRectF, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import (
    QDragEnterEvent,
    QDragLeaveEvent,
    QDragMoveEvent,
    QDropEvent,
    QImage,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.background import Background
from dinoviz.controls import label, pixmap
from dinoviz.drops import MOST_NAMED, OWN_IDS, Dropped, Here, Intent, Kind, intent_of
from dinoviz.watching import follow
from dinoviz.words import tr

SCRIM_ALPHA = 200  # of 255: what is below stays to be seen, and text above it to be read
EDGE_PX = 3
DASHES = (4.0, 3.0)
ICON_PX = 36
CARD_PX = 460
SLOT = "drop"
TAKE_OVER_MS = 50
"""In which Qt tells the overlay of a drag that left the window for it; it does so before it does anything else."""

_ICONS: dict[Kind, str] = {
    "open-folder": "folder-open",
    "open-project": "folder-open",
    "rescan": "arrow-clockwise",
    "import-weights": "cube",
    "use-run": "eye",
    "find-like": "magnifying-glass",
    "find-image": "magnifying-glass",
    "show-pictures": "selection",
    "refuse": "x-circle",
}


def dropped_from(mime: QMimeData) -> Dropped:
    """Return what mime data holds, at most ``MOST_NAMED`` files of it: the list is read as text, which is fast."""
    paths: list[Path] = []
    addresses: list[str] = []
    if mime.hasFormat("text/uri-list"):
        lines = bytes(mime.data("text/uri-list").data()).splitlines()
        for line in [line.strip() for line in lines if line.strip() and not line.startswith(b"#")][:MOST_NAMED]:
            _sort(line, paths, addresses)
    return Dropped(paths=tuple(paths), addresses=tuple(addresses), has_image=mime.hasImage())


def _sort(line: bytes, paths: list[Path], addresses: list[str]) -> None:
    """Take one line of a list of addresses as a file of this computer, or as an address of the web."""
    text = line.decode(errors="replace")
    if not line.lower().startswith(b"file:"):
        addresses.append(text)
    elif b"%" not in line and line.isascii():
        paths.append(Path(QUrl(text).toLocalFile()))
    else:  # a name in bytes that are no UTF-8 survives only here
        import os

        local = QUrl(text).toLocalFile() if os.name == "nt" else os.fsdecode(unquote_to_bytes(_path_of(line)))
        paths.append(Path(local))


def _path_of(line: bytes) -> bytes:
    """Return the path of a file address, still with its escapes."""
    return urlsplit(line).path if line.isascii() else line.partition(b"://")[2]


class DropOverlay(QWidget):
    """Covers a window while something is dragged over it.

    Args:
        window: that it covers, and whose drops it takes.
        background: runs the look at the files.
        here: says where it would be dropped.
    """

    dropped = Signal(object)
    """The ``Intent`` that the person let go of, never a refusal; pixels without a file are in one by then."""

    def __init__(self, window: QWidget, background: Background, here: Callable[[], Here]) -> None:
        super().__init__(window)
        self._background, self._here = background, here
        self._intent: Intent | None = None
        self._image = QImage()
        self._has_let_go = self._has_taken_over = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.setAcceptDrops(True)
        self.setAccessibleName(tr("What a drop will do"))
        self._build()
        self.hide()
        window.setAcceptDrops(True)
        window.installEventFilter(self)
        follow(self, theme.changed, self._draw)

    def _build(self) -> None:
        card = QFrame()
        card.setProperty("kind", "card")
        card.setFixedWidth(CARD_PX)
        self._icon = QLabel()
        self._sentence = label("", "heading", wraps=True)
        self._hint = label("", "muted", wraps=True)
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE_S)
        words.addWidget(self._sentence)
        words.addWidget(self._hint)
        row = QHBoxLayout(card)
        row.setContentsMargins(theme.SPACE_XL, theme.SPACE_L, theme.SPACE_XL, theme.SPACE_L)
        row.setSpacing(theme.SPACE_L)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addLayout(words, 1)
        column = QVBoxLayout(self)
        column.addWidget(card, 0, Qt.AlignmentFlag.AlignCenter)

    @property
    def intent(self) -> Intent | None:
        """What letting go would do; None while nothing is dragged or it is not known yet."""
        return self._intent

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Begin when a drag comes over the window, and stay as large as it."""
        if watched is self.parent() and self._heard_by_window(event):
            return True
        return super().eventFilter(watched, event)

    def _heard_by_window(self, event: QEvent) -> bool:
        """Take what the window hears before the overlay lies under the mouse; tell whether that was all of it."""
        match event.type():
            case QEvent.Type.DragEnter:
                self._begin_unless_own(cast(QDragEnterEvent, event))
            case QEvent.Type.DragMove:
                self.dragMoveEvent(cast(QDragMoveEvent, event))
            case QEvent.Type.Drop:
                self.dropEvent(cast(QDropEvent, event))
            case QEvent.Type.DragLeave:  # to the overlay, which hears of it at once, or out of the window
                QTimer.singleShot(TAKE_OVER_MS, self, self._hide_unless_taken_over)
            case QEvent.Type.Resize:
                self.setGeometry(self.parentWidget().rect())
                return False
            case _:
                return False
        return True

    def _hide_unless_taken_over(self) -> None:
        if not self._has_taken_over and not self._has_let_go:
            self.hide()

    def _begin_unless_own(self, event: QDragEnterEvent) -> None:
        """Let the window's own pictures pass, as they are dragged out of it; only Find takes them."""
        if event.mimeData().hasFormat(OWN_IDS) and self._here().place != "find":
            event.ignore()
        else:
            self._begin(event)

    def _begin(self, event: QDragEnterEvent) -> None:
        mime, here = event.mimeData(), self._here()
        dropped = dropped_from(mime)
        self._intent, self._has_let_go, self._has_taken_over = None, False, False
        self._draw()
        self.setGeometry(self.parentWidget().rect())
        self.raise_()
        self.show()
        self._background.run(SLOT, lambda: intent_of(dropped, here), self._take)
        _accept(event)

    def _take(self, intent: Intent) -> None:
        """Show what it means; do it where the person did not wait for that."""
        self._intent = intent
        self._draw()
        if self._has_let_go:
            self._finish()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take over from the window, which the overlay came to lie on."""
        if not self.isVisible():
            self._begin(event)
        self._has_taken_over = True
        _accept(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        """Let the mouse show whether letting go does something."""
        if self._intent is not None and not self._intent.is_accepted:
            event.ignore()
        else:
            _accept(event)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Be gone with the drag."""
        self._background.forget(SLOT)
        self.hide()
        event.accept()

    def dropEvent(self, event: QDropEvent) -> None:
        """Do what was said, or as soon as it is known."""
        self._image = QImage(event.mimeData().imageData()) if event.mimeData().hasImage() else QImage()
        self._has_let_go = True
        _accept(event)
        if self._intent is not None:
            self._finish()

    def _finish(self) -> None:
        intent, self._has_let_go = self._intent, False
        self.hide()
        if intent is None or not intent.is_accepted:
            return
        if intent.kind == "find-image":
            self._keep_image(intent)
        else:
            self.dropped.emit(intent)

    def _keep_image(self, intent: Intent) -> None:
        """Put pixels that came without a file into one, which lasts as long as the window."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="dinoviz-dropped-")
            folder = self._folder
            self.destroyed.connect(lambda: folder.cleanup())
        image, target = self._image, Path(tempfile.mkstemp(suffix=".png", dir=self._folder.name)[1])
        found = replace(intent, kind="find-like", paths=(target,))
        self._background.run("", lambda: image.save(str(target)), lambda _saved: self.dropped.emit(found))

    def _draw(self) -> None:
        intent = self._intent
        self._sentence.setText(intent.sentence if intent else tr("Looking at what this is …"))
        self._hint.setText(intent.hint if intent else "")
        self._hint.setVisible(bool(intent and intent.hint))
        is_refused = intent is not None and not intent.is_accepted
        icon = theme.icon(_ICONS[intent.kind] if intent else "question", "danger" if is_refused else "accent")
        self._icon.setPixmap(pixmap(icon, ICON_PX, self))
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Dim the window, and frame it in the colour of what will happen."""
        colours = theme.colours()
        is_refused = self._intent is not None and not self._intent.is_accepted
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        scrim = colours.window.toRgb()
        scrim.setAlpha(SCRIM_ALPHA)
        painter.fillRect(self.rect(), scrim)
        pen = QPen(colours.danger if is_refused else colours.accent, EDGE_PX)
        pen.setDashPattern(DASHES)
        painter.setPen(pen)
        inset = theme.SPACE + EDGE_PX / 2
        frame = QRectF(self.rect()).adjusted(inset, inset, -inset, -inset)
        painter.drawRoundedRect(frame, theme.RADIUS * 2, theme.RADIUS * 2)
        painter.end()


def _accept(event: QDropEvent) -> None:
    """Take a drag as a copy: what is dropped stays where it is."""
    event.setDropAction(Qt.DropAction.CopyAction)
    event.accept()
