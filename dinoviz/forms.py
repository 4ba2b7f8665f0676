"""The form of a recipe: a row for every field that `engine.recipes` declares, under its section's heading.

It draws what it is shown and says what was typed: it keeps nothing. A field that is declared later, or a new section,
appears here without a line of code. What is settled stands as the placeholder of its field with the reason beside it;
what was asked for is marked and can be given back to be settled; what cannot be is refused in words below its field.
"""

from collections.abc import Callable, Mapping, Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QCompleter,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinoviz import run_plan, theme
from dinoviz.controls import EmptyState, IconButton, Section, label
from dinoviz.run_plan import BASIC, START, Prepared, Texts
from dinoviz.words import tr
from engine.recipes import FIELDS, SECTIONS, choices_of, unit_of

NAME_PX, CONTROL_PX, UNIT_PX = 188, 152, 56
REASON_PX = 120
"""Least width of the reasons; below it they make way."""

OnTyped = Callable[[str, str], object]


class Elided(QLabel):
    """A muted line that ends in an ellipsis where it has no room; its tooltip is the whole."""

    def minimumSizeHint(self) -> QSize:
        """Ask for no room."""
        return QSize(0, super().minimumSizeHint().height())

    def say(self, text: str) -> None:
        """Change what it says."""
        if text != self.text():
            self.setText(text)
            self.setToolTip(text)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw as much as there is room for."""
        painter = QPainter(self)
        painter.setPen(theme.colours().muted)
        painter.setFont(self.font())
        shown = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)


class Choice(QComboBox):
    """A few words to choose from; the first stands for what is settled. The wheel scrolls the form, not the choice."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to what is around."""
        event.ignore()


class FieldRow(QWidget):
    """One field: its name, a control, its unit, the reason of its value, and a way back to it."""

    def __init__(self, name: str, on_typed: OnTyped, suggestions: Sequence[str]) -> None:
        super().__init__()
        self.name = name
        info = FIELDS[name][1]
        self._on_typed = on_typed
        self._label = label(run_plan.label_of(name), tip=run_plan.help_of(name))
        self._label.setFixedWidth(NAME_PX)
        words = [run_plan.YES, run_plan.NO] if run_plan.kind_of(info) == "switch" else list(choices_of(info))
        self.control: QLineEdit | Choice = self._choice(words) if words else self._edit(suggestions)
        self.control.setFixedWidth(CONTROL_PX)
        self.control.setToolTip(run_plan.help_of(name))
        self.control.setAccessibleName(run_plan.label_of(name))
        self.control.setAccessibleDescription(info.description or "")
        unit = label(unit_of(info), "small")
        unit.setFixedWidth(UNIT_PX)
        self._reason = Elided()
        self._reason.setFont(theme.font("small"))
        self._reason.setMinimumWidth(REASON_PX)
        self._reason.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._back = IconButton(
            "arrow-counter-clockwise",
            tr("Let {name} be settled again", name=run_plan.label_of(name).lower()),
            lambda: on_typed(name, ""),
        )
        self._problem = label("", "danger", wraps=True)
        self._problem.hide()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(theme.SPACE)
        grid.setVerticalSpacing(2)
        for column, part in enumerate((self._label, self.control, unit, self._reason, self._back)):
            grid.addWidget(part, 0, column)
        grid.addWidget(self._problem, 1, 1, 1, 4)
        grid.setColumnStretch(3, 1)
        keep = self._back.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self._back.setSizePolicy(keep)

    def _edit(self, suggestions: Sequence[str]) -> QLineEdit:
        made = QLineEdit()
        if suggestions:
            completer = QCompleter(list(suggestions), made)
            completer.setFilterMode(Qt.MatchFlag.MatchContains)
            completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
            made.setCompleter(completer)
        made.textChanged.connect(self._typed)
        return made

    def _choice(self, words: Sequence[str]) -> Choice:
        made = Choice()
        made.addItem("", "")
        for word in words:
            made.addItem(word.replace("_", " "), word)
        made.activated.connect(lambda index: self._on_typed(self.name, str(made.itemData(index))))
        return made

    def _typed(self, text: str) -> None:
        if text != self._shown:
            self._shown = text
            self._on_typed(self.name, text)

    _shown = ""

    def show_value(self, text: str, settled: str, reason: str, problem: str) -> None:
        """Show what is asked for, what is settled and why, and what is wrong."""
        is_asked = bool(text.strip())
        if isinstance(self.control, QLineEdit):
            self._shown = text
            if self.control.text() != text:
                self.control.setText(text)
            if self.control.placeholderText() != settled:
                self.control.setPlaceholderText(settled)
        else:
            self.control.setItemText(0, tr("Auto: {value}", value=settled.replace("_", " ")))
            place = max(0, self.control.findData(text))
            if self.control.currentIndex() != place:
                self.control.setCurrentIndex(place)
        self._reason.say(tr("asked for") if is_asked else reason)
        self._back.setVisible(is_asked)
        _set(self._label, "kind", "strong" if is_asked else "body")
        _set(self.control, "wrong", bool(problem))
        if self._problem.text() != problem:
            self._problem.setText(problem)
            self._problem.setVisible(bool(problem))


def _set(widget: QWidget, name: str, value: object) -> None:
    """Set what the style looks at, and restyle only where it changed."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class RecipeForm(QWidget):
    """A search field, the basic fields, and the others folded by section.

    Args:
        on_typed: called with a field's name and its new text; an empty text leaves it to be settled.
        without: fields that another control asks for.
    """

    def __init__(self, on_typed: OnTyped, *, without: Sequence[str] = (START,)) -> None:
        super().__init__()
        self.rows: dict[str, FieldRow] = {}
        self._sections: list[tuple[Section, list[str]]] = []
        self.search = QLineEdit()
        self.search.setPlaceholderText(tr("Search the settings"))
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName(tr("Search the settings"))
        self.search.textChanged.connect(self._find)
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, theme.SPACE, 0)
        self._column.setSpacing(theme.SPACE_S)
        basic = [name for name in BASIC if name in FIELDS]
        self._add(tr("Basics"), basic, on_typed, is_open=True)
        for section, settings in SECTIONS.items():
            rest = [name for name in settings.model_fields if name not in basic and name not in without]
            self._add(run_plan.heading_of(section), rest, on_typed, is_open=False)
        self._nothing = EmptyState("magnifying-glass", tr("No such setting"), tr("Try another word, such as rate."))
        self._nothing.hide()
        self._column.addWidget(self._nothing)
        self._column.addStretch()
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(inside)
        top = QHBoxLayout()
        top.addWidget(self.search)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(top)
        column.addWidget(area)

    def _add(self, title: str, names: Sequence[str], on_typed: OnTyped, *, is_open: bool) -> None:
        section = Section(title, is_open=is_open)
        section.body.setSpacing(theme.SPACE_S)
        for name in names:
            self.rows[name] = FieldRow(name, on_typed, run_plan.suggestions_of(name))
            section.body.addWidget(self.rows[name])
        self._sections.append((section, list(names)))
        self._column.addWidget(section)

    def _find(self, wanted: str) -> None:
        """Show the rows that are searched for, unfolded; with nothing to search, all as they were."""
        n_found = 0
        for section, names in self._sections:
            found = [name for name in names if run_plan.matches(name, wanted)]
            for name in names:
                self.rows[name].setVisible(name in found)
            section.setVisible(bool(found))
            n_found += len(found)
            if wanted:
                section.set_open(True)
        if not wanted:
            for place, (section, _) in enumerate(self._sections):
                section.set_open(place == 0)
        self._nothing.setVisible(not n_found)

    def show_prepared(self, texts: Texts, prepared: Prepared) -> None:
        """Show what was typed, by field, and what it comes to."""
        plan = prepared.plan
        values = plan.values() if plan else {}
        reasons: Mapping[str, str] = plan.reasons if plan else {}
        for name, row in self.rows.items():
            value = run_plan.said(values[name]) if name in values else ""
            row.show_value(texts.get(name, ""), value, _reason(name, reasons), prepared.problems.get(name, ""))


def _reason(name: str, reasons: Mapping[str, str]) -> str:
    if name in reasons:
        return reasons[name]
    return tr("the usual value")
