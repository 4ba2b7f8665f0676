import os
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDragMoveEvent, QDropEvent, QImage
from PySide6.QtWidgets import QApplication, QMainWindow

from dinoviz.background import Background
from dinoviz.drops import MOST_NAMED, Here
from dinoviz.window.drop_overlay import DropOverlay, dropped_from
from tests.makers import write_photos


def mime_of(*paths: Path) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return mime


class Dragging:
    """A window with the overlay, and a mouse that drags over it."""

    def __init__(self, qtbot, here: Here) -> None:
        self.window = QMainWindow()
        self.window.resize(800, 500)
        qtbot.addWidget(self.window)
        self.background = Background()
        self.overlay = DropOverlay(self.window, self.background, lambda: here)
        self.dropped: list = []
        self.overlay.dropped.connect(self.dropped.append)
        self.window.show()

    def enter(self, mime: QMimeData) -> bool:
        event = QDragEnterEvent(QPoint(9, 9), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
        QApplication.sendEvent(self.window, event)
        is_taken = event.isAccepted()
        QApplication.sendEvent(self.window, QDragLeaveEvent())  # the overlay lies under the mouse now
        QApplication.sendEvent(self.overlay, event)
        return is_taken

    def move(self, mime: QMimeData) -> bool:
        event = QDragMoveEvent(QPoint(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
        QApplication.sendEvent(self.overlay, event)
        return event.isAccepted()

    def let_go(self, mime: QMimeData) -> None:
        event = QDropEvent(QPointF(50, 50), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
        QApplication.sendEvent(self.overlay, event)

    def leave(self) -> None:
        QApplication.sendEvent(self.overlay, QDragLeaveEvent())


@pytest.fixture
def dragging(qtbot, tmp_path):
    made = Dragging(qtbot, Here(place="find", project=tmp_path / "p.dinoviz", pictures_folder=tmp_path / "p"))
    yield made
    made.background.finish()


def test_it_covers_the_window_and_says_what_will_happen_before_letting_go(qtbot, dragging, tmp_path):
    write_photos(tmp_path / "holiday", 3)
    mime = mime_of(tmp_path / "holiday")
    assert dragging.enter(mime)
    assert dragging.overlay.isVisible() and dragging.overlay.geometry() == dragging.window.rect()
    qtbot.waitUntil(lambda: dragging.overlay.intent is not None)
    assert dragging.overlay.intent.sentence == "Open the folder holiday: 3 pictures"
    assert dragging.move(mime)
    assert not dragging.dropped
    dragging.let_go(mime)
    assert [intent.kind for intent in dragging.dropped] == ["open-folder"] and not dragging.overlay.isVisible()


def test_what_is_refused_is_not_taken(qtbot, dragging, tmp_path):
    (tmp_path / "a.txt").write_text("text")
    mime = mime_of(tmp_path / "a.txt")
    dragging.enter(mime)
    qtbot.waitUntil(lambda: dragging.overlay.intent is not None)
    assert not dragging.move(mime)
    dragging.let_go(mime)
    assert not dragging.dropped and not dragging.overlay.isVisible()


def test_letting_go_before_it_is_known_happens_as_soon_as_it_is(qtbot, dragging, tmp_path):
    write_photos(tmp_path / "holiday", 3)
    mime = mime_of(tmp_path / "holiday")
    dragging.enter(mime)
    dragging.let_go(mime)
    qtbot.waitUntil(lambda: len(dragging.dropped) == 1)
    assert dragging.dropped[0].kind == "open-folder"


def test_what_leaves_the_window_at_once_leaves_nothing_behind(qtbot, dragging, tmp_path):
    mime = mime_of(tmp_path)
    event = QDragEnterEvent(QPoint(9, 9), Qt.CopyAction, mime, Qt.LeftButton, Qt.NoModifier)
    QApplication.sendEvent(dragging.window, event)
    QApplication.sendEvent(dragging.window, QDragLeaveEvent())
    qtbot.waitUntil(lambda: not dragging.overlay.isVisible())


def test_leaving_shows_the_window_again(qtbot, dragging, tmp_path):
    mime = mime_of(tmp_path)
    dragging.enter(mime)
    dragging.leave()
    assert not dragging.overlay.isVisible()


def test_it_grows_with_the_window(dragging, tmp_path):
    mime = mime_of(tmp_path)
    dragging.enter(mime)
    dragging.window.resize(900, 600)
    QApplication.processEvents()
    assert dragging.overlay.size() == dragging.window.size()


def test_pixels_without_a_file_come_as_one(qtbot, dragging):
    image = QImage(20, 10, QImage.Format_RGB32)
    image.fill(Qt.red)
    mime = QMimeData()
    mime.setImageData(image)
    dragging.enter(mime)
    dragging.let_go(mime)
    qtbot.waitUntil(lambda: len(dragging.dropped) == 1)
    (intent,) = dragging.dropped
    assert intent.kind == "find-like"
    assert QImage(str(intent.paths[0])).size() == image.size()


@pytest.mark.parametrize("name", [b"plain.jpg", "caf\u00e9 \u2764.jpg".encode(), b"with space & #.jpg", b"a%20b.jpg"])
def test_names_come_through_as_they_are(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    assert dropped_from(mime_of(path)).paths == (path,)


def test_names_that_are_no_unicode_come_through(tmp_path):
    mime = QMimeData()
    mime.setData("text/uri-list", b"file:///tmp/caf%E9.jpg\r\n")
    assert dropped_from(mime).paths == (Path(os.fsdecode(b"/tmp/caf\xe9.jpg")),)


def test_addresses_of_the_web_are_no_files():
    mime = QMimeData()
    mime.setUrls([QUrl("https://example.org/a.jpg")])
    dropped = dropped_from(mime)
    assert not dropped.paths and dropped.addresses == ("https://example.org/a.jpg",)


def test_a_long_list_is_cut():
    mime = QMimeData()
    mime.setData("text/uri-list", b"\r\n".join(b"file:///a/%d.jpg" % i for i in range(MOST_NAMED + 5)))
    assert len(dropped_from(mime).paths) == MOST_NAMED
