"""The application object: its names, style and fonts."""

import sys
from collections.abc import Sequence

from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from dinoviz import theme

SWITCH_S = 0.001
"""After which a thread of Python lets another one go on."""


class Application(QApplication):
    """Qt's application as dinoviz wants it."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(list(argv))
        self.setApplicationName("dinoviz")
        self.setApplicationDisplayName("dinoviz")
        self.setDesktopFileName("dinoviz")
        self.setWindowIcon(QIcon(str(theme.RESOURCES / "icons" / "dinoviz.svg")))
        theme.install(self)
        # While thumbnails are decoded, the longest wait of the thread that paints is 28 ms at Python's 5 ms, 10 ms so.
        sys.setswitchinterval(SWITCH_S)
