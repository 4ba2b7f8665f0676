"""Taking something away: what, in which format, where to; the command that does it is shown, and is what runs."""

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint, IconButton, button, label
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.model_names import model_text
from dinoviz.session import State
from dinoviz.words import tr
from dinoviz.written import tell_written
from engine.catalogue import MAP_METHODS, formats_of

SIZE_PX = (620, 480)
LIST_PX = 212


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One thing to take away: how it is called, and what its command asks for beside a format and a place."""

    title: str
    about: str
    needs_set: bool = False
    needs_model: bool = False
    needs_map: bool = False


KINDS: dict[str, Kind] = {
    "embeddings": Kind(
        title="Export features", about="The vector of every picture, with its path and label.", needs_set=True
    ),
    "patches": Kind(
        title="Export patch features", about="The features of all patches of all pictures.", needs_set=True
    ),
    "map": Kind(title="Export the map", about="Where every picture lies on the map.", needs_set=True, needs_map=True),
    "labels": Kind(title="Export labels", about="The label of every picture, corrected ones as corrected."),
    "backbone": Kind(title="Export the backbone", about="The weights, for other programs.", needs_model=True),
}


def command(
    what: str, state: State, file_format: str, out: str, *, overwrite: bool, number: int | None = None, extra: str = ""
) -> list[str]:
    """Return what stands after ``engine`` to take something away.

    Args:
        what: a name of ``KINDS``.
        state: says which project, backbone and pictures are meant.
        file_format: as ``catalogue.EXPORTS`` names it.
        out: file or folder to write.
        overwrite: replace one that is there.
        number: of the set of features.
        extra: method of the map.
    """
    kind = KINDS[what]
    argv = ["export", what]
    if not kind.needs_model:
        argv.append(str(state.project))
    if kind.needs_model:
        argv += ["--model", state.model]
    if kind.needs_set and number is not None:
        argv += ["--set", str(number)]
    if kind.needs_map and extra:
        argv += ["--method", extra]
    argv += ["--format", file_format, "--out", out]
    return [*argv, "--overwrite"] if overwrite else argv


class ExportDialog(QDialog):
    """The dialog.

    Args:
        desk: of the window.
        what: a name of ``KINDS``.
        parent: the window.
    """

    def __init__(self, desk: Desk, what: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._desk, self._what, self._kind = desk, what, KINDS[what]
        self._formats = formats_of(what)
        self.setWindowTitle(tr(self._kind.title))
        self.resize(*SIZE_PX)
        self._list = QListWidget()
        self._list.setFixedHeight(LIST_PX)
        self._list.setAccessibleName(tr("Format"))
        for name, row in self._formats.items():
            item = QListWidgetItem(f"{name}  —  {row.about}")
            item.setData(Qt.ItemDataRole.UserRole, name)
            item.setSizeHint(QSize(0, theme.ROW_PX))
            self._list.addItem(item)
        self._list.setCurrentRow(0)
        self._list.currentRowChanged.connect(lambda _row: self._format_changed())
        self._out = QLineEdit(str(self._suggested()))
        self._out.setAccessibleName(tr("Write to"))
        self._out.textChanged.connect(lambda _text: self._draw())
        self._overwrite = QCheckBox(tr("Replace what is there"))
        self._overwrite.toggled.connect(lambda _on: self._draw())
        self._sets = QComboBox()
        self._sets.setAccessibleName(tr("Features"))
        for row in desk.session.state.sets:
            self._sets.addItem(tr("Set {number}: {about}", number=row.number, about=row.about), row.number)
        self._sets.setCurrentIndex(self._sets.findData(desk.session.state.set))
        self._sets.currentIndexChanged.connect(lambda _i: self._draw())
        self._method = QComboBox()
        self._method.setAccessibleName(tr("Map"))
        for name, method in MAP_METHODS.items():
            self._method.addItem(method.title, name)
        self._method.currentIndexChanged.connect(lambda _i: self._draw())
        self._said = label("", "danger", wraps=True)
        self._shown = label("", "small", wraps=True)
        self._shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._start = button(tr("Export"), self._begin, kind="primary")
        self._lay_out()
        self._draw()

    def _lay_out(self) -> None:
        where = QHBoxLayout()
        where.addWidget(self._out, 1)
        where.addWidget(IconButton("folder-open", tr("Choose where to"), self._choose))
        form = QFormLayout()
        form.setSpacing(theme.SPACE)
        if self._kind.needs_set:
            form.addRow(tr("Features"), self._sets)
        if self._kind.needs_map:
            form.addRow(tr("Map"), self._method)
        form.addRow(tr("Write to"), where)
        form.addRow("", self._overwrite)
        buttons = QHBoxLayout()
        buttons.addWidget(button(tr("Copy as command"), self._copy, icon="copy"))
        buttons.addStretch()
        buttons.addWidget(button(tr("Cancel"), self.reject))
        buttons.addWidget(self._start)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE_L)
        column.setSpacing(theme.SPACE)
        column.addWidget(Hint(f"{tr(self._kind.about)} {self._of()}".strip()))
        column.addWidget(self._list)
        column.addLayout(form)
        column.addWidget(self._said)
        column.addStretch()
        column.addWidget(self._shown)
        column.addLayout(buttons)

    def _of(self) -> str:
        """Return what it is taken from, in words."""
        state = self._desk.session.state
        return tr("Of {model}.", model=model_text(state.model, state.runs)) if self._kind.needs_model else ""

    def _format(self) -> str:
        return str(self._list.currentItem().data(Qt.ItemDataRole.UserRole))

    def _suggested(self) -> Path:
        state = self._desk.session.state
        folder = state.pictures_folder.parent if state.pictures_folder else Path.home()
        stem = state.pictures_folder.name if state.pictures_folder else "dinoviz"
        return folder / f"{stem}-{self._what}{next(iter(self._formats.values())).ending}"

    def _format_changed(self) -> None:
        """Keep the name, with the ending of the format."""
        path = Path(self._out.text())
        endings = {row.ending for row in self._formats.values() if row.ending}
        stem = path.with_suffix("") if path.suffix in endings else path
        self._out.setText(f"{stem}{self._formats[self._format()].ending}")

    def _choose(self) -> None:
        ending = self._formats[self._format()].ending
        if ending:
            chosen, _ = QFileDialog.getSaveFileName(self, self.windowTitle(), self._out.text(), f"*{ending}")
        else:
            chosen = QFileDialog.getExistingDirectory(self, self.windowTitle(), str(Path(self._out.text()).parent))
            chosen = str(Path(chosen) / Path(self._out.text()).name) if chosen else ""
        if chosen:
            self._out.setText(chosen)

    def _command(self) -> list[str]:
        return command(
            self._what,
            self._desk.session.state,
            self._format(),
            self._out.text(),
            overwrite=self._overwrite.isChecked(),
            number=self._sets.currentData(),
            extra=str(self._method.currentData()),
        )

    def _draw(self) -> None:
        problem = self._problem()
        self._said.setText(problem)
        self._said.setVisible(bool(problem))
        self._start.setEnabled(not problem)
        self._shown.setText(Job(id=0, title="", argv=tuple(self._command())).command)

    def _problem(self) -> str:
        out = Path(self._out.text())
        if self._kind.needs_set and self._desk.session.state.set is None:
            return tr("There are no features yet. Make them in the Map.")
        if not self._out.text().strip() or not out.parent.is_dir():
            return tr("There is no folder {folder}.", folder=str(out.parent))
        if out.exists() and not self._overwrite.isChecked():
            return tr("There is something of this name already.")
        return ""

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(Job(id=0, title="", argv=tuple(self._command())).command)

    def _begin(self) -> None:
        desk, out = self._desk, Path(self._out.text())

        def told(job: Job) -> None:
            if job.did_it:
                tell_written(desk, out)

        self._desk.jobs.start(self._command(), tr(self._kind.title), told)
        self.accept()
