"""Pictures that are saved or copied: made and written off the GUI thread, whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QBuffer, QIODevice
from PySide6.QtGui import QGuiApplication, QImage

from dinoviz.desk import Desk
from dinoviz.words import tr
from dinoviz.written import tell_written
from engine.errors import UserError
from engine.store import write_atomically


def png_bytes(image: QImage) -> bytes:
    """Return an image as PNG."""
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]  # the stub asks for bytes, which the call refuses
    return bytes(buffer.data().data())


def save_image(desk: Desk, path: Path, make: Callable[[], QImage]) -> None:
    """Make an image and write it as PNG; say so, or why not."""
    path = path if path.suffix else path.with_suffix(".png")

    def work() -> None:
        data = png_bytes(make())
        write_atomically(path, lambda file: file.write(data))

    def failed(problem: Exception) -> None:
        hint = problem.hint if isinstance(problem, UserError) else tr("Choose another folder.")
        desk.session.notify("error", tr("'{name}' was not saved: {problem}", name=path.name, problem=problem), hint)

    desk.background("", work, lambda _: tell_written(desk, path), failed)


def copy_image(desk: Desk, make: Callable[[], QImage]) -> None:
    """Make an image and put it on the clipboard."""

    def put(image: QImage) -> None:
        QGuiApplication.clipboard().setImage(image)
        desk.session.notify("info", tr("Copied."))

    desk.background("copy-image", make, put)
