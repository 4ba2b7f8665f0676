"""The application object: its names, style and fonts."""

from collections.abc import Sequence

from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from dinoviz import theme


class Application(QApplication):
    """Qt's application as dinoviz wants it."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(list(argv))
        self.setApplicationName("dinoviz")
        self.setApplicationDisplayName("dinoviz")
        self.setDesktopFileName("dinoviz")
        self.setWindowIcon(QIcon(str(theme.RESOURCES / "icons" / "dinoviz.svg")))
        theme.install(self)
