"""The real window in tests: opened on a project, driven, closed."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from dinoviz.window.window import Window

LONGEST_WAIT_S = 60.0
SIZE_PX = (1400, 880)


def turn(seconds: float = 0.0) -> None:
    """Let the event loop turn for some time."""
    limit = time.monotonic() + seconds
    while True:
        QApplication.processEvents()
        if time.monotonic() >= limit:
            return
        time.sleep(0.002)


def wait(is_so: Callable[[], object], seconds: float = LONGEST_WAIT_S) -> None:
    """Let the event loop turn until something is so.

    Raises:
        AssertionError: it is not in time.
    """
    limit = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < limit, "what was waited for did not come"
        turn(0.01)


@contextlib.contextmanager
def opened(project: Path | None = None) -> Iterator[Window]:
    """Open a window, on a project where one is named, and close it at the end."""
    window = Window([project] if project else [])
    window.resize(*SIZE_PX)
    window.show()
    wait(lambda: window.is_ready)
    if project:
        wait(lambda: len(window.desk.session.state.table) > 0 and not window.desk.session.state.is_reading)
    try:
        yield window
    finally:
        window.desk.jobs.close(0)
        window.close()
        window.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        turn()


def stand_in(folder: Path) -> Path:
    """Write a program that takes the place of Python, and return it.

    ``engine VERB /FILE`` puts the first line that it is sent into the file and ends; ``engine deaf`` hears nothing.
    """
    program = folder / "stand-in"
    program.write_text(
        '#!/bin/sh\n[ "$4" = deaf ] && exec sleep 30\nread -r line; case "$5" in /*) echo "$line" > "$5";; esac\n'
    )
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def pressing(*buttons: str) -> Iterator[list[str]]:
    """Press these buttons of the questions to come, Cancel where there is none; the list is of what they ask."""
    asked: list[str] = []
    waiting = list(buttons)

    def look() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(box.text())
            wanted = waiting.pop(0) if waiting else "Cancel"
            texts = {button.text().replace("&", ""): button for button in box.buttons()}
            texts.get(wanted, texts["Cancel"]).click()

    timer = QTimer(interval=20)
    timer.timeout.connect(look)
    timer.start()
    try:
        yield asked
    finally:
        timer.stop()
