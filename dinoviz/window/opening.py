"""Opening: a folder of pictures, a project, the sample, or whatever was dropped on the window."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from platformdirs import user_data_dir
from PySide6.QtWidgets import QFileDialog, QWidget

from dinoviz import sample
from dinoviz.asked import Asked, asking, of_files
from dinoviz.desk import Desk
from dinoviz.drops import Intent
from dinoviz.jobs import Job
from dinoviz.preferences import Memory, Preferences
from dinoviz.words import counted, tr
from engine.errors import BadInput, UserError
from engine.project import SUFFIX, Project, default_folder, is_project

HAS_EFFECTIVE_IDS = os.access in os.supports_effective_ids


class Opening:
    """What can be opened, and how.

    Args:
        desk: of the window.
        window: parent of file dialogs.
        memory: returns how projects were left.
        preferences: returns what the person prefers.
        remember: keeps how the project that is open is left, before another is opened.
    """

    def __init__(
        self,
        desk: Desk,
        window: QWidget,
        memory: Callable[[], Memory],
        preferences: Callable[[], Preferences],
        remember: Callable[[], object],
    ) -> None:
        self._desk, self._window, self._memory, self._preferences = desk, window, memory, preferences
        self._remember = remember

    def choose_folder(self) -> None:
        """Let the person choose a folder of pictures."""
        chosen = QFileDialog.getExistingDirectory(self._window, tr("Open a folder of pictures"))
        if chosen:
            self.open(Path(chosen))

    def choose_project(self) -> None:
        """Let the person choose a project, which is a folder too."""
        chosen = QFileDialog.getExistingDirectory(self._window, tr("Open a project (a folder that ends in .dinoviz)"))
        if chosen:
            self.open(Path(chosen))

    def open_sample(self) -> None:
        """Unpack the sample, and open it."""
        self._run(lambda: sample.unpack_sample(sample.sample_folder()), self._open_project)

    def open(self, path: Path) -> None:
        """Open a project, or make one for a folder of pictures and look what is in it."""
        path = path.absolute()  # it is remembered, and named to processes that may run elsewhere
        if path.suffix == SUFFIX:
            self._open_project(path)
            if self._preferences().watches_folder:
                self._desk.jobs.start(["scan", str(path)], tr("Look for pictures"))
        else:
            self._run(lambda: _project_for(path), self._open_and_scan)

    def rescan(self) -> None:
        """Look for pictures that are new, changed or gone."""
        project = self._desk.session.state.project
        if project is not None:
            self._desk.jobs.start(["scan", str(project)], tr("Look for pictures"), self._scanned)

    def take(self, intent: Intent) -> None:
        """Do what a drop means."""
        session = self._desk.session
        match intent.kind:
            case "open-folder" | "open-project":
                self.open(intent.paths[0])
            case "rescan":
                self.rescan()
            case "import-weights":
                self._import(intent.paths)
            case "use-run":
                session.use_model(str(intent.paths[0]))
                session.go("look")
            case "find-like" | "find-image":
                asked = Asked(pictures=of_files(intent.paths, session.state.table))
                session.choose(find=asking(session.state.choices.find, asked))
                session.go("find")
            case "show-pictures":
                ids = [one for one in of_files(intent.paths, session.state.table) if isinstance(one, int)]
                if ids:
                    session.select(ids)
                    session.set_current(ids[0])
                    session.go("library")

    def _import(self, paths: Sequence[Path]) -> None:
        session = self._desk.session
        session.set_choices("models", offered=str(paths[0]))
        session.go("models")

    def _open_project(self, folder: Path) -> None:
        if self._desk.session.state.project is not None:
            self._remember()
        self._desk.session.open(folder, self._memory().of(folder))

    def _open_and_scan(self, made: tuple[Path, bool]) -> None:
        folder, is_elsewhere = made
        self._open_project(folder)
        self.rescan()
        if is_elsewhere:
            self._desk.session.notify(
                "info",
                tr("Nothing can be written beside these pictures."),
                tr("The project is kept in {folder}.", folder=str(folder)),
            )

    def _scanned(self, job: Job) -> None:
        outcome = job.outcome
        unreadable = len(outcome.get("unreadable", []))
        if job.did_it and outcome.get("checked"):
            text = tr("{n} read.", n=counted(outcome["checked"] - unreadable, tr("picture")))
            hint = (
                tr("{n} could not be read; the Library lists them with the reason.", n=unreadable) if unreadable else ""
            )
            self._desk.session.notify("warning" if unreadable else "info", text, hint)

    def _run(self, work: Callable[[], object], then: Callable[..., object]) -> None:
        def failed(problem: Exception) -> None:
            if isinstance(problem, UserError):
                self._desk.session.notify("error", problem.message, problem.hint)
            elif isinstance(problem, OSError):
                self._desk.session.notify("error", tr("It cannot be opened: {problem}.", problem=str(problem)))
            else:
                raise problem

        self._desk.background.run("open", work, then, failed)


def _project_for(pictures: Path) -> tuple[Path, bool]:
    """Make the project of a folder of pictures, or find it; return it, and whether it lies elsewhere than beside it.

    Raises:
        UserError: there is no such folder, its project cannot be opened, or nothing can be written anywhere.
    """
    if not pictures.is_dir():
        raise BadInput(f"There is no folder '{pictures}'.", "Open a folder of pictures, or a project.")
    folder = default_folder(pictures)
    try:
        Project.at(folder, pictures=pictures).close()
    except UserError as problem:
        # A project that cannot be opened is not made a second time elsewhere: it would be empty.
        if is_project(folder) or os.access(folder.parent, os.W_OK, effective_ids=HAS_EFFECTIVE_IDS):
            if isinstance(problem, BadInput):  # which tells those who type commands what to do
                hint = tr("Move '{name}' away and open the folder again to begin anew.", name=folder.name)
                raise BadInput(problem.message, hint) from problem
            raise
        digest = hashlib.sha256(str(pictures.resolve()).encode(errors="surrogateescape")).hexdigest()[:8]
        folder = Path(user_data_dir("dinoviz")) / "projects" / f"{pictures.name}-{digest}{SUFFIX}"
        Project.at(folder, pictures=pictures).close()
        return folder, True
    return folder, False


def remembered(memory: Memory, desk: Desk) -> Memory:
    """Return the memory with what is open now as it is now."""
    state = desk.session.state
    if state.project is None:
        return replace(memory, open_folder="")
    if state.is_reading:  # not as it was left yet
        return replace(memory, open_folder=str(state.project))
    return memory.opened(state.project, len(state.table), desk.session.memory())
