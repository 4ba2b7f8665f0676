"""``?``: all keys on one page, by place, from the table of actions."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.actions import Action, Actions
from dinoviz.controls import label
from dinoviz.words import tr

COLUMNS = 3
SIZE_PX = (980, 640)

HEADINGS = {
    "file": "Project",
    "edit": "Edit",
    "go": "Go to",
    "view": "Window",
    "pictures": "Pictures",
    "export": "Export",
}


class CheatSheet(QDialog):
    """The page; any key closes it."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(tr("Keys"))
        self.resize(*SIZE_PX)
        inside = QWidget()
        inside.setProperty("kind", "plain")
        row = QHBoxLayout(inside)
        row.setSpacing(theme.SPACE_XL)
        columns = [QVBoxLayout() for _ in range(COLUMNS)]
        heights = [0] * COLUMNS
        for column in columns:
            row.addLayout(column, 1)
        for heading, rows in by_heading(actions).items():
            place = heights.index(min(heights))
            columns[place].addWidget(_group(heading, rows, actions))
            heights[place] += len(rows) + 2
        for column in columns:
            column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(inside)
        outer = QVBoxLayout(self)
        outer.addWidget(scroll)
        outer.addWidget(label(tr("Keys can be changed in Preferences."), "small"))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Close."""
        self.accept()
        event.accept()


def by_heading(actions: Actions) -> dict[str, list[Action]]:
    """Return the actions that have keys, by the heading they stand under."""
    groups: dict[str, list[Action]] = {}
    for row in actions.rows():
        if actions.keys(row.id):
            name = row.menu or row.place or row.id.partition(".")[0]
            groups.setdefault(tr(HEADINGS.get(name, name.capitalize())), []).append(row)
    return groups


def _group(heading: str, rows: list[Action], actions: Actions) -> QWidget:
    made = QWidget()
    grid = QGridLayout(made)
    grid.setContentsMargins(0, 0, 0, theme.SPACE_L)
    grid.setVerticalSpacing(theme.SPACE_S)
    grid.addWidget(label(heading, "heading"), 0, 0, 1, 2)
    for place, row in enumerate(rows, start=1):
        keys = QKeySequence(actions.keys(row.id)).toString(QKeySequence.SequenceFormat.NativeText)
        chip: QLabel = label(keys, "chip")
        grid.addWidget(label(tr(row.text), wraps=True), place, 0)
        grid.addWidget(chip, place, 1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
    grid.setColumnStretch(0, 1)
    return made
