"""What the actions of the window do, its menus, and what it says when a job ends."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QMimeData, QUrl
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QMenuBar, QSystemTrayIcon, QWidget

from dinoviz.actions import Actions
from dinoviz.asked import Asked, asking
from dinoviz.jobs import Job
from dinoviz.revealing import reveal
from dinoviz.widgets.picture.overlays import image_of_rgb
from dinoviz.window.cheat_sheet import CheatSheet
from dinoviz.window.command_palette import CommandPalette
from dinoviz.window.export_dialog import KINDS, ExportDialog
from dinoviz.window.preferences_dialog import PreferencesDialog
from dinoviz.words import counted, tr

if TYPE_CHECKING:
    from dinoviz.window.window import Window

LONG_S = 20.0
"""Jobs that took longer are told of by a message of the system, where the person is elsewhere."""
MOST_COPIED = 1000

MENUS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "File",
        ("file.open", "file.open_project", "file.sample", "", "file.rescan", "", "file.close", "file.quit"),
    ),
    (
        "Edit",
        ("edit.undo", "edit.redo", "", "edit.select_all", "edit.select_none", "edit.select_inverse", "", "edit.filter",
         "edit.clear_filter", "", "view.preferences"),
    ),
    (
        "Picture",
        ("picture.look", "picture.similar", "", "picture.copy", "picture.copy_path", "picture.reveal", "",
         "picture.hide", "picture.restore"),
    ),
    (
        "Export",
        ("export.embeddings", "export.patches", "export.map", "export.labels", "", "export.masks", "export.attention",
         "", "export.backbone"),
    ),
    ("Go", ("go.library", "go.look", "go.find", "go.map", "go.train", "go.compare", "go.models", "", "go.welcome")),
    (
        "View",
        ("view.palette", "view.inspector", "view.jobs", "view.full", "", "view.light", "view.dark", "view.system", "",
         "view.keys"),
    ),
)  # fmt: skip
"""Menus by their heading; an empty name is a line."""


def menu_bar(actions: Actions, parent: QWidget) -> QMenuBar:
    """Return the menus, each enabled as things stand when it opens."""
    bar = QMenuBar(parent)
    for heading, names in MENUS:
        menu = bar.addMenu(tr(heading))
        for name in names:
            menu.addAction(actions.qaction(name)) if name else menu.addSeparator()
        menu.aboutToShow.connect(
            lambda names=names: [actions.qaction(n).setEnabled(actions.can(n)) for n in names if n]
        )
        menu.aboutToHide.connect(lambda names=names: [actions.qaction(n).setEnabled(True) for n in names if n])
    return bar


def bind_window_actions(window: "Window") -> None:
    """Bind everything that needs no view."""
    _bind_project(window)
    _bind_selection(window)
    _bind_pictures(window)
    _bind_window(window)


def _bind_project(window: "Window") -> None:
    desk, opening = window.desk, window.opening

    def has_project() -> bool:
        return desk.session.state.project is not None

    bind = desk.actions.bind
    bind("file.open", opening.choose_folder)
    bind("file.open_project", opening.choose_project)
    bind("file.sample", opening.open_sample)
    bind("file.rescan", opening.rescan, has_project)
    bind("file.close", lambda: (window.remember(), desk.session.close()), has_project)
    bind("file.quit", window.close)
    for place in ("library", "look", "find", "map", "train", "compare"):
        bind(f"go.{place}", lambda place=place: desk.session.go(place), has_project)
    bind("go.models", lambda: desk.session.go("models"))
    bind("go.welcome", lambda: desk.session.go("welcome"))


def _bind_selection(window: "Window") -> None:
    session, bind = window.desk.session, window.desk.actions.bind

    def invert() -> None:
        state = session.state
        session.select_with_tool(np.setdiff1d(state.shown, state.selected), "replace", tr("Invert the selection"))

    bind("edit.undo", session.undo, lambda: bool(session.state.undo_text))
    bind("edit.redo", session.redo, lambda: bool(session.state.redo_text))
    bind("edit.select_all", lambda: session.select_with_tool(session.state.shown, "replace", tr("Select all")))
    bind("edit.select_none", lambda: session.select_with_tool([], "replace", tr("Select nothing")))
    bind("edit.select_inverse", invert)


def _bind_pictures(window: "Window") -> None:
    desk = window.desk
    session, bind = desk.session, desk.actions.bind

    def has_meant() -> bool:
        return len(session.state.meant()) > 0

    def has_current() -> bool:
        return session.state.current is not None

    def similar() -> None:
        asked = Asked(pictures=tuple(int(i) for i in session.state.meant()[:8]))
        session.choose(find=asking(session.state.choices.find, asked))
        session.go("find")

    def copy_path() -> None:
        table = session.state.table
        paths = [str(table.file(int(i))) for i in session.state.meant()[:MOST_COPIED]]
        QGuiApplication.clipboard().setText("\n".join(paths))
        session.notify("info", tr("{n} copied.", n=counted(len(paths), tr("path"))))

    def show_file() -> None:
        assert session.state.current is not None
        reveal(session.state.table.file(session.state.current))

    bind("picture.look", lambda: session.go("look"), has_current)
    bind("picture.similar", similar, has_meant)
    bind("picture.copy", lambda: copy_image(window), has_current)
    bind("picture.copy_path", copy_path, has_meant)
    bind("picture.reveal", show_file, has_current)
    bind("picture.hide", lambda: _hide(window), has_meant)
    bind("picture.restore", lambda: session.restore(session.state.meant()), has_meant)
    for stars in range(6):
        bind(f"picture.rate_{stars}", lambda stars=stars: session.rate(session.state.meant(), stars), has_meant)


def _hide(window: "Window") -> None:
    session = window.desk.session
    ids = session.state.meant()
    session.hide(ids)
    text = tr("{n} left out of the project.", n=counted(len(ids), tr("picture")))
    session.notify("info", text, tr("The files stay where they are."), (tr("Undo"), "edit.undo"))


def copy_image(window: "Window") -> None:
    """Put the current picture on the clipboard, as pixels and as a file."""
    state = window.desk.session.state
    assert state.current is not None
    file = state.table.file(state.current)

    def work() -> QImage:
        from engine.images import open_rgb

        return image_of_rgb(open_rgb(file))

    def then(image: QImage) -> None:
        both = QMimeData()
        both.setImageData(image)
        both.setUrls([QUrl.fromLocalFile(str(file))])
        QGuiApplication.clipboard().setMimeData(both)
        window.desk.session.notify("info", tr("{name} copied.", name=file.name))

    def failed(problem: Exception) -> None:
        window.desk.session.notify("error", tr("It cannot be copied: {problem}", problem=str(problem)))

    window.desk.background.run("copy", work, then, failed)


def _bind_window(window: "Window") -> None:
    bind = window.desk.actions.bind
    palette = CommandPalette(window.desk, window)

    def has_project() -> bool:
        return window.desk.session.state.project is not None

    def show_keys() -> None:
        CheatSheet(window.desk.actions, window).open()

    def show_preferences() -> None:
        PreferencesDialog(window.preferences, window.desk.actions, window.set_preferences, window).open()

    bind("view.palette", palette.open)
    bind("view.keys", show_keys)
    bind("view.preferences", show_preferences)
    bind("view.inspector", window.toggle_inspector)
    bind("view.jobs", window.toggle_jobs)
    bind("view.full", lambda: window.showNormal() if window.isFullScreen() else window.showFullScreen())
    for mode in ("light", "dark", "system"):
        bind(f"view.{mode}", lambda mode=mode: window.set_preferences(replace(window.preferences, theme=mode)))
    for what in KINDS:
        bind(f"export.{what}", lambda what=what: ExportDialog(window.desk, what, window).open(), has_project)


def tell_end(window: "Window", job: Job) -> None:
    """Say that a job ended: failures always; long ones by the system where the person is elsewhere."""
    if job.state == "failed":
        window.desk.session.notify("error", f"{job.title}: {job.error}", job.hint, (tr("Show jobs"), "view.jobs"))
    took = job.ended - job.started if job.started else 0.0
    is_elsewhere = QApplication.activeWindow() is None
    if (
        took > LONG_S
        and is_elsewhere
        and window.preferences.tells_when_done
        and QSystemTrayIcon.isSystemTrayAvailable()
    ):
        _tray(window).showMessage("dinoviz", job.title)


def _tray(window: "Window") -> QSystemTrayIcon:
    """Return the window's icon in the tray of the system, made with the first message."""
    there = window.findChild(QSystemTrayIcon)
    if there is not None:
        return there
    tray = QSystemTrayIcon(window.windowIcon(), window)
    tray.messageClicked.connect(window.activateWindow)
    tray.show()
    return tray
