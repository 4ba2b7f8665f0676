"""Preferences: a control for every field of ``Preferences``, and the keys of every action."""

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from typing import get_args

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QHBoxLayout,
    QKeySequenceEdit,
    QLineEdit,
    QScrollArea,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.actions import Action, Actions
from dinoviz.controls import Hint, IconButton, Segmented, button, label
from dinoviz.preferences import Preferences, preferences_file
from dinoviz.theme import Mode
from dinoviz.words import tr

SIZE_PX = (640, 560)
KEYS_PX = 150

Take = Callable[[Preferences], object]


class PreferencesDialog(QDialog):
    """The dialog; what is changed holds at once.

    Args:
        preferences: as they are.
        actions: whose keys.
        take: called with every change.
        parent: the window.
    """

    def __init__(self, preferences: Preferences, actions: Actions, take: Take, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(tr("Preferences"))
        self.resize(*SIZE_PX)
        self._preferences, self._actions, self._take = preferences, actions, take
        tabs = QTabWidget()
        tabs.setDocumentMode(True)
        tabs.addTab(self._general(), tr("General"))
        tabs.addTab(self._keys(), tr("Keys"))
        column = QVBoxLayout(self)
        column.addWidget(tabs)
        row = QHBoxLayout()
        row.addWidget(label(tr("Kept in {path}", path=str(preferences_file())), "small"))
        row.addStretch()
        row.addWidget(button(tr("Close"), self.accept, kind="primary"))
        column.addLayout(row)

    def _change(self, **moved: object) -> None:
        self._preferences = replace(self._preferences, **moved)  # type: ignore[arg-type]
        self._take(self._preferences)

    def _general(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setSpacing(theme.SPACE)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE_L)
        for part in fields(Preferences):
            if part.name != "keys":
                column.addWidget(self._control(part.name, tr(part.metadata["text"])))
                column.addWidget(Hint(tr(part.metadata["says"])))
                column.addSpacing(theme.SPACE)
        column.addStretch()
        column.addWidget(button(tr("Back to the defaults"), self._reset), 0, Qt.AlignmentFlag.AlignLeft)
        return page

    def _control(self, name: str, text: str) -> QWidget:
        value = getattr(self._preferences, name)
        if isinstance(value, bool):
            box = QCheckBox(text)
            box.setChecked(value)
            box.toggled.connect(lambda is_on: self._change(**{name: is_on}))
            return box
        words = {"system": tr("System"), "light": tr("Light"), "dark": tr("Dark")}
        options = [(choice, words[choice]) for choice in get_args(Mode)]
        choice = Segmented(options, lambda chosen: self._change(**{name: chosen}), text)
        choice.set_value(value)
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(label(text))
        line.addStretch()
        line.addWidget(choice)
        return row

    def _reset(self) -> None:
        defaults = {
            part.name: part.default
            for part in fields(Preferences)
            if part.default is not MISSING and part.name != "keys"
        }
        self._change(**defaults)
        self.accept()

    def _keys(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        search = QLineEdit()
        search.setPlaceholderText(tr("Search commands"))
        search.setAccessibleName(tr("Search commands"))
        column.addWidget(search)
        inside = QWidget()
        inside.setProperty("kind", "plain")
        rows = QVBoxLayout(inside)
        made = [KeyRow(row, self._actions, self._set_keys) for row in self._actions.rows()]
        for part in made:
            rows.addWidget(part)
        rows.addStretch()
        search.textChanged.connect(lambda text: [part.setVisible(part.is_found_by(text)) for part in made])
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(inside)
        column.addWidget(scroll)
        return page

    def _set_keys(self, name: str, keys: str | None) -> None:
        others = {other: said for other, said in self._preferences.keys.items() if other != name}
        self._change(keys=others if keys is None else {**others, name: keys})


class KeyRow(QWidget):
    """One action and its keys; keys that another action has are refused, and it says whose they are."""

    def __init__(self, row: Action, actions: Actions, take: Callable[[str, str | None], object]) -> None:
        super().__init__()
        self._row, self._actions, self._take = row, actions, take
        self._edit = QKeySequenceEdit(QKeySequence(actions.keys(row.id)))
        self._edit.setFixedWidth(KEYS_PX)
        self._edit.setClearButtonEnabled(True)
        self._edit.setMaximumSequenceLength(1)
        self._edit.setAccessibleName(tr("Keys of {text}", text=tr(row.text)))
        self._edit.editingFinished.connect(self._edited)
        self._said = label("", "danger")
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(label(tr(row.text)))
        line.addWidget(label(row.place, "small"))
        line.addStretch()
        line.addWidget(self._said)
        line.addWidget(self._edit)
        line.addWidget(IconButton("arrow-counter-clockwise", tr("Back to the default"), self._reset))

    def is_found_by(self, text: str) -> bool:
        """Tell whether some letters mean it."""
        return text.lower() in f"{self._row.text} {self._row.words} {self._row.place}".lower()

    def _edited(self) -> None:
        keys = self._edit.keySequence().toString(QKeySequence.SequenceFormat.PortableText)
        if keys == self._actions.keys(self._row.id):
            return
        other = self._actions.conflict(self._row.id, keys)
        self._said.setText(tr("is “{text}”", text=tr(self._actions.row(other).text)) if other else "")
        if other:
            self._edit.setKeySequence(QKeySequence(self._actions.keys(self._row.id)))
        else:
            self._take(self._row.id, keys)

    def _reset(self) -> None:
        self._edit.setKeySequence(QKeySequence(self._row.keys))
        self._said.setText("")
        self._take(self._row.id, None)
