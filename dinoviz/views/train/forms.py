"""The form of a recipe: a row for every field that `engine.recipes` declares, under its section's heading.

It draws what it is shown and says what was typed; it changes nothing. A field that is declared later, or a new section,
appears here without a line of code. What is settled stands as the placeholder of its field with the reason beside it;
what was asked for is marked and can be given back to be settled; what cannot be is refused in words below its field.
"""

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QCompleter,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Choice, Elided, EmptyState, IconButton, Section, label
from dinoviz.views.train import run_plan
from dinoviz.views.train.run_plan import BASIC, START, Prepared, Texts
from dinoviz.words import tr
from engine.catalogue import heeded
from engine.settings import FIELDS, SECTIONS, choices_of, unit_of

NAME_PX, CONTROL_PX = 172, 132
REASON_PX = 60
"""Least width of the reasons; below it they make way."""
ROWS_AT_ONCE, BETWEEN_MS = 8, 15
"""Rows of folded sections made in one turn of the event loop, some 20 ms, and the pause after them."""

OnTyped = Callable[[str, str], object]


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
        self._unit = unit_of(info)
        self._reason = Elided(lines=2)
        self._reason.setMinimumWidth(REASON_PX)
        self._reason.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._back = IconButton(
            "arrow-counter-clockwise",
            tr("Choose {name} automatically again", name=run_plan.label_of(name).lower()),
            lambda: on_typed(name, ""),
        )
        self._problem = label("", "danger", wraps=True)
        self._problem.hide()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(theme.SPACE)
        grid.setVerticalSpacing(2)
        for column, part in enumerate((self._label, self.control, self._reason, self._back)):
            grid.addWidget(part, 0, column)
        grid.addWidget(self._problem, 1, 1, 1, 3)
        grid.setColumnStretch(2, 1)
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
        why = tr("your choice") if is_asked else reason
        self._reason.say(f"{self._unit} · {why}" if self._unit else why)
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
        self._on_typed = on_typed
        self._sections: list[tuple[Section, list[str]]] = []
        self._heeded: frozenset[str] = frozenset(SECTIONS)
        self._shown: tuple[Texts, Prepared] | None = None
        self._later = QTimer(self)
        self._later.setInterval(BETWEEN_MS)
        self._later.timeout.connect(self._make_next)
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
        self._add(tr("Basics"), basic, is_open=True)
        for section, settings in SECTIONS.items():
            rest = [name for name in settings.model_fields if name not in basic and name not in without]
            self._add(run_plan.heading_of(section), rest, is_open=False)
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

        self._make_next()

    def _add(self, title: str, names: Sequence[str], *, is_open: bool) -> None:
        section = Section(title, is_open=is_open)
        section.body.setSpacing(theme.SPACE_S)
        self._sections.append((section, list(names)))
        self._column.addWidget(section)

    def _make_next(self) -> None:
        """Make the rows of the next section: all at once would hold the window up."""
        for section, names in self._sections:
            missing = [name for name in names if name not in self.rows]
            if missing:
                for name in missing[:ROWS_AT_ONCE]:
                    self.rows[name] = FieldRow(name, self._on_typed, run_plan.suggestions_of(name))
                    section.body.addWidget(self.rows[name])
                    self._show_row(name)
                    self.rows[name].setVisible(self._is_found(name, self.search.text()))
                return
        self._later.stop()

    def showEvent(self, event: QShowEvent) -> None:
        """Make the folded sections ready, one after the other."""
        if len(self.rows) < sum(len(names) for _, names in self._sections):
            self._later.start()

    def _find(self, wanted: str) -> None:
        """Show the rows that are searched for, unfolded; with nothing to search, all as they were."""
        n_found = 0
        for section, names in self._sections:
            found = [name for name in names if self._is_found(name, wanted)]
            for name in names:
                if name in self.rows:
                    self.rows[name].setVisible(name in found)
            section.setVisible(bool(found))
            n_found += len(found)
            if wanted:
                section.set_open(True)
        if not wanted:
            for place, (section, _) in enumerate(self._sections):
                section.set_open(place == 0)
        self._nothing.setVisible(not n_found)

    def _is_found(self, name: str, wanted: str) -> bool:
        return FIELDS[name][0] in self._heeded and run_plan.matches(name, wanted)

    def show_prepared(self, texts: Texts, prepared: Prepared) -> None:
        """Show what was typed, by field, and what it comes to; only what the objective heeds."""
        self._shown = texts, prepared
        if frozenset(heeded(prepared.objective)) != self._heeded:
            self._heeded = frozenset(heeded(prepared.objective))
            self._find(self.search.text())
        for name in self.rows:
            self._show_row(name)

    def _show_row(self, name: str) -> None:
        if self._shown is None:
            return
        texts, prepared = self._shown
        plan = prepared.plan
        section = FIELDS[name][0]
        settled = run_plan.said(getattr(getattr(plan, section), name)) if plan else ""
        reason = plan.reasons.get(name, tr("the usual value")) if plan else ""
        self.rows[name].show_value(texts.get(name, ""), settled, reason, prepared.problems.get(name, ""))
