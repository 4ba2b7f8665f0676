"""A person at the real window: finds things by the names they can read, presses, drags, types, drops, and waits.

Every turn of the event loop is timed: the longest is how long the window once did not answer.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QLineEdit, QWidget

LONGEST_WAIT_S = 600.0
NO_BUTTON = Qt.MouseButton.NoButton


@dataclass(slots=True)
class Stalls:
    """How long single turns of the event loop took, by what the person did then."""

    doing: str = ""
    longest_ms: dict[str, float] = field(default_factory=dict)

    def turn(self) -> None:
        """Let the event loop turn once."""
        begun = time.perf_counter()
        QApplication.processEvents()
        took = 1000 * (time.perf_counter() - begun)
        self.longest_ms[self.doing] = max(took, self.longest_ms.get(self.doing, 0.0))

    @property
    def longest(self) -> tuple[float, str]:
        """The longest of all, ms, and what was done then."""
        return max(((ms, doing) for doing, ms in self.longest_ms.items()), default=(0.0, ""))


class Person:
    """Someone who knows the window only by what it shows.

    Args:
        window: the real one.
    """

    def __init__(self, window: QWidget) -> None:
        self.window = window
        self.stalls = Stalls()
        self.actions = 0

    def does(self, what: str) -> None:
        """Begin something: turns of the event loop are counted for it."""
        self.stalls.doing = what

    def pause(self, seconds: float = 0.1) -> None:
        """Wait."""
        limit = time.monotonic() + seconds
        while True:
            self.stalls.turn()
            if time.monotonic() >= limit:
                return
            time.sleep(0.002)

    def wait(self, is_so: Callable[[], object], what: str, seconds: float = LONGEST_WAIT_S) -> None:
        """Wait until something is so.

        Raises:
            AssertionError: it is not in time.
        """
        limit = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < limit, f"{what} did not come within {seconds:.0f} s"
            self.pause(0.02)

    def sees(self, name: str, kind: type[QWidget] = QWidget) -> QWidget | None:
        """Return what is shown under a name or text that begins so, None where nothing is."""
        places = [w for w in QApplication.topLevelWidgets() if w.isVisible()]
        places.sort(key=lambda w: w is self.window)  # dialogs first
        for place in places:
            for widget in [place, *place.findChildren(kind)]:
                if isinstance(widget, kind) and widget.isVisible() and _is_called(widget, name):
                    return widget
        return None

    def find(self, name: str, kind: type[QWidget] = QWidget, seconds: float = 30.0) -> QWidget:
        """Wait for what is shown under a name, and return it."""
        self.wait(lambda: self.sees(name, kind), f"'{name}'", seconds)
        found = self.sees(name, kind)
        assert found is not None
        return found

    def press(self, name: str, seconds: float = 30.0) -> QWidget:
        """Click a button that is called so, once it can be pressed."""
        self.wait(
            lambda: (found := self.sees(name, QAbstractButton)) is not None and found.isEnabled(), f"'{name}'", seconds
        )
        found = self.sees(name, QAbstractButton)
        assert found is not None
        self.actions += 1
        QTest.mouseClick(found, Qt.MouseButton.LeftButton)
        self.pause(0.05)
        return found

    def click(self, widget: QWidget, at: QPoint | None = None, *, keys: Qt.KeyboardModifier | None = None) -> None:
        """Click a place of a widget; its middle where none is said."""
        self.actions += 1
        place = at or widget.rect().center()
        QTest.mouseMove(widget, place)
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, keys or Qt.KeyboardModifier.NoModifier, place)
        self.pause(0.05)

    def hover(self, widget: QWidget, at: QPoint) -> None:
        """Move the mouse to a place of a widget."""
        QTest.mouseMove(widget, at)
        self.pause(0.02)

    def drag(self, widget: QWidget, along: Sequence[QPoint]) -> None:
        """Press, move along some places, let go."""
        self.actions += 1
        QTest.mousePress(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, along[0])
        for place in along[1:]:
            QTest.mouseMove(widget, place)
            self.pause(0.004)
        QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, along[-1])
        self.pause(0.05)

    def scroll(self, widget: QWidget, steps: int, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Turn the wheel over the middle of a widget."""
        middle = QPointF(widget.rect().center())
        event = QWheelEvent(
            middle, widget.mapToGlobal(middle), QPoint(), QPoint(0, 120 * steps), NO_BUTTON, keys,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, event)
        self.pause(0.02)

    def key(self, key: Qt.Key, keys: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        """Press a key, wherever the keyboard goes."""
        self.actions += 1
        QTest.keyClick(QApplication.focusWidget() or self.window, key, keys)
        self.pause(0.05)

    def write(self, name: str, text: str) -> None:
        """Put a text into a field, in the place of what it holds."""
        self.actions += 1
        widget = self.find(name, QLineEdit)
        assert isinstance(widget, QLineEdit)
        widget.setFocus()
        widget.selectAll()
        QTest.keyClicks(widget, text)
        QTest.keyClick(widget, Qt.Key.Key_Return)
        self.pause(0.05)

    def drop(self, paths: Sequence[Path]) -> str:
        """Drag files over the window, read what it says, let go, and return what it said."""
        self.actions += 1
        mime = QMimeData()
        mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        place = QPoint(self.window.width() // 2, self.window.height() // 2)
        action, buttons, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(self.window, QDragEnterEvent(place, action, mime, buttons, keys))
        overlay = self.find("What a drop will do")
        self.wait(lambda: overlay.intent is not None, "what a drop will do", 5)
        said = overlay.intent.sentence
        self.pause(0.2)
        QApplication.sendEvent(overlay, QDragMoveEvent(place, action, mime, buttons, keys))
        QApplication.sendEvent(overlay, QDropEvent(QPointF(place), action, mime, buttons, keys))
        self.pause(0.1)
        return said

    def shot(self, path: Path) -> None:
        """Draw the window into a file, as the screen shows it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.window.grab().save(str(path))


def circle(size: QSize, share: float, at: tuple[float, float] = (0.5, 0.5), n: int = 40) -> list[QPoint]:
    """Return places around a circle within a widget; ``share`` of its smaller side is the radius."""
    radius = share * min(size.width(), size.height())
    middle = (at[0] * size.width(), at[1] * size.height())
    turns = [2 * math.pi * i / n for i in range(n + 1)]
    return [QPoint(round(middle[0] + radius * math.cos(t)), round(middle[1] + radius * math.sin(t))) for t in turns]


def _is_called(widget: QWidget, name: str) -> bool:
    text = widget.text() if isinstance(widget, QAbstractButton) else ""
    return any(said.replace("&", "").startswith(name) for said in (widget.accessibleName(), text) if said)
