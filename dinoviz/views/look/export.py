"""Export from Look: masks or attention of the chosen pictures, with the settings that are on the screen, as a job."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.controls import Hint, IconButton, Section, Segmented, button
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.looking import Patch
from dinoviz.table import Ids
from dinoviz.words import counted, tr
from dinoviz.written import tell_written
from engine.catalogue import formats_of
from engine.exporting.edited import FOLDER
from engine.store import write_atomically

LISTS = Path("cache") / "lists"
"""Where the names of exported pictures are put for the engine, in the project; may be deleted at any time."""


def export_arguments(
    what: str,
    form: str,
    out: Path,
    project: Path,
    names: Path | None,
    *,
    model: str,
    side: int,
    choices: LookChoices,
    patch: Patch | None,
    has_edits: bool,
) -> list[str]:
    """Return what stands after ``engine`` to export what is on the screen for many pictures.

    Args:
        what: masks or attention.
        form: of ``catalogue.EXPORTS``.
        out: folder to make.
        project: whose pictures.
        names: file with their paths, one a line; all pictures where absent.
        model: backbone.
        side: shorter side, px.
        choices: of Look.
        patch: that looks, where one is chosen.
        has_edits: the project holds masks that were brushed.
    """
    argv = ["export", what, str(project), "--model", model, "--format", form, "--out", str(out), "--side", str(side)]
    argv += ["--list", str(names)] if names else []
    argv += ["--layer", str(choices.layer)] if choices.layer != -1 else []
    argv += ["--query", f"{patch[0]},{patch[1]}"] if choices.query == "patch" and patch else []
    if what == "attention":
        argv += ["--heads", ",".join(map(str, choices.heads))] if choices.heads else []
        return [*argv, "--smooth"] if choices.is_smooth and form == "overlay" else argv
    head = str(choices.heads[0]) if len(choices.heads) == 1 else "union" if choices.is_union else "mean"
    argv += ["--keep", f"{choices.keep:g}", "--head", head]
    argv += ["--smallest", str(choices.smallest)] if choices.smallest > 1 else []
    return [*argv, "--edited"] if has_edits else argv


class LookExport(QWidget):
    """A small form at the end of the controls.

    Args:
        desk: what every view works with.
        patch: returns the patch that looks.
        side: returns the side pictures are seen at.
    """

    def __init__(self, desk: Desk, patch: Callable[[], Patch | None], side: Callable[[], int]) -> None:
        super().__init__()
        self._desk, self._patch, self._side = desk, patch, side
        self._what = "masks"
        self._choices = LookChoices()
        self._has_attention = True
        self._section = Section(tr("Export many"), is_open=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._section)
        self._kind = Segmented([("masks", tr("Masks")), ("attention", tr("Attention"))], self._set_what, tr("What"))
        self._format = QComboBox()
        self._format.setAccessibleName(tr("Format"))
        self._format.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._format.currentIndexChanged.connect(lambda _place: self._describe())
        self._about = Hint("")
        self._folder = QLineEdit()
        self._folder.setAccessibleName(tr("Folder to make"))
        self._folder.setPlaceholderText(tr("Folder to make"))
        self._folder.textChanged.connect(lambda _text: self._describe())
        browse = IconButton("folder-open", tr("Choose a folder"), self._browse)
        self._go = button("", self._start, kind="primary")
        self._copy = IconButton("command", tr("Copy as command"), self._copy_command)
        self._note = Hint("")
        where = QHBoxLayout()
        where.addWidget(self._folder, 1)
        where.addWidget(browse)
        press = QHBoxLayout()
        press.setSpacing(theme.SPACE_S)
        press.addWidget(self._go, 1)
        press.addWidget(self._copy)
        body = self._section.body
        for part in (self._kind, self._format, self._about):
            body.addWidget(part)
        body.addLayout(where)
        body.addWidget(self._note)
        body.addLayout(press)
        self._set_what("masks")

    def open(self, what: str) -> None:
        """Unfold the form for masks or attention, and bring it into sight."""
        self._set_what(what)
        self._section.set_open(True)
        self._folder.setFocus()
        QTimer.singleShot(0, self, self._scroll_to)

    def _scroll_to(self) -> None:
        above = self.parentWidget()
        while above is not None and not isinstance(above, QScrollArea):
            above = above.parentWidget()
        if isinstance(above, QScrollArea):
            above.ensureWidgetVisible(self._go)

    def show_choices(self, choices: LookChoices, *, has_attention: bool) -> None:
        """Say what would be exported now."""
        self._choices, self._has_attention = choices, has_attention
        self._go.setEnabled(has_attention and not choices.is_rollout)
        self._describe()

    def _set_what(self, what: str) -> None:
        self._what = what
        self._kind.set_value(what)
        self._format.clear()
        for name, row in formats_of(what).items():
            self._format.addItem(name, name)
            self._format.setItemData(self._format.count() - 1, row.about, _TIP)
        self._describe()

    def _pictures(self) -> Ids:
        state = self._desk.session.state
        return state.selected if len(state.selected) else state.shown

    def _describe(self) -> None:
        if self._format.count() == 0:
            return
        self._about.setText(str(self._format.currentData(_TIP)))
        n = len(self._pictures())
        state = self._desk.session.state
        which = tr("selected") if len(state.selected) else tr("shown")
        if state.project is not None:
            self._folder.setPlaceholderText(self._default_out().name)
            self._folder.setToolTip(tr("Folder to make; without a name: {folder}", folder=self._default_out()))
        self._go.setText(tr("Export {pictures}", pictures=counted(n, "picture")))
        self._note.setText(self._note_text(n, which))

    def _note_text(self, n: int, which: str) -> str:
        choices = self._choices
        if choices.is_rollout:
            return tr("Rollout cannot be exported: choose a layer.")
        if not self._has_attention:
            return tr("This network has no attention to export.")
        if self._what == "masks" and len(choices.heads) > 1:
            how = tr("the union of all heads") if choices.is_union else tr("the mean of all heads")
            return tr("The {n} {which} pictures, by {how}: several heads cannot be chosen.", n=n, which=which, how=how)
        return tr("The {n} {which} pictures, with the settings above.", n=n, which=which)

    def _browse(self) -> None:
        begin = self._folder.text() or self._desk.session.state.choices.look.export_folder or str(Path.home())
        folder = QFileDialog.getExistingDirectory(self, tr("Folder in which the export is made"), begin)
        if folder:
            self._folder.setText(str(Path(folder) / self._default_name()))

    def _default_name(self) -> str:
        return f"{self._what}-{self._format.currentData()}"

    def _out(self) -> Path:
        """Return the folder to make: as typed, or beside the project."""
        text = self._folder.text().strip()
        return Path(text).expanduser() if text else self._default_out()

    def _default_out(self) -> Path:
        project = self._desk.session.state.project
        assert project is not None
        return project.parent / f"{project.stem}-{self._default_name()}"

    def _arguments(self, names: Path | None) -> list[str]:
        state = self._desk.session.state
        assert state.project is not None
        return export_arguments(
            self._what,
            str(self._format.currentData()),
            self._out(),
            state.project,
            names,
            model=state.model,
            side=self._side(),
            choices=state.choices.look,
            patch=self._patch(),
            has_edits=self._what == "masks" and (state.project / FOLDER).is_dir(),
        )

    def _with_names(self, then: Callable[[list[str]], object]) -> None:
        """Write which pictures are meant, then go on with the arguments; all pictures need no list."""
        state, ids = self._desk.session.state, self._pictures()
        assert state.project is not None
        if len(ids) == len(state.table):
            then(self._arguments(None))
            return
        path = state.project / LISTS / f"{time.strftime('%Y%m%d-%H%M%S')}.txt"
        table, argv = state.table, self._arguments(path)  # of now: another project may be open when it is written

        def work() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{table.path(int(picture))}\n" for picture in ids)
            write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))

        def failed(problem: Exception) -> None:
            self._desk.session.notify("error", tr("The export could not be started: {problem}", problem=problem))

        self._desk.background("", work, lambda _: then(argv), failed)

    def _start(self) -> None:
        out = self._out()
        if out.exists():
            self._note.setText(tr("'{out}' is there already. Choose another name.", out=out))
            return
        title = tr("Export masks") if self._what == "masks" else tr("Export attention")
        desk = self._desk

        def told(job: Job) -> None:
            if job.did_it:
                tell_written(desk, out)

        self._with_names(lambda argv: desk.jobs.start(argv, title, told))

    def _copy_command(self) -> None:
        self._with_names(self._put_command)

    def _put_command(self, argv: Sequence[str]) -> None:
        QGuiApplication.clipboard().setText(shlex.join(["engine", *argv]))
        self._desk.session.notify("info", tr("Copied the command."))


_TIP = 0x0100 + 1
"""Role of a format's description: Qt.UserRole + 1."""
