"""Models: the backbones there are, with what is to be known before one is fetched; use, download, import, delete."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtWidgets import QFileDialog, QFrame, QHBoxLayout, QLineEdit, QScrollArea, QVBoxLayout, QWidget
from send2trash import send2trash

from dinoviz import theme
from dinoviz.choices import ModelsChoices
from dinoviz.controls import EmptyState, Hint, Segmented, button, clear, label
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.revealing import reveal
from dinoviz.views.models.entries import ModelEntry, depending, read_models
from dinoviz.views.models.rows import ImportCard, ModelRow, header
from dinoviz.watching import watch
from dinoviz.words import counted, tr
from engine.catalogue import WEIGHT_SUFFIXES
from engine.weight_files import forget, recorded_sha256

SEARCH_PX = 240
SLOT = "models"
FAMILIES = (("all", "All"), ("here", "On this computer"), ("dino", "DINO"), ("dinov2", "DINOv2"))


class ModelsView(QWidget):
    """The list of backbones: those here first, then those that can be downloaded."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._entries: tuple[ModelEntry, ...] = ()
        self._rows: dict[str, ModelRow] = {}
        self._import: ImportCard | None = None
        self._build()
        session = desk.session
        watch(self, session, ("runs", "project"), self._read)
        watch(self, session, ("model",), self._show_used)
        watch(self, session, ("jobs",), self._show_jobs)
        watch(self, session, ("choices.models",), self._show_choices)
        self._bind()
        self._show_choices()

    def _build(self) -> None:
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._list = QVBoxLayout(inside)
        self._list.setContentsMargins(theme.SPACE_XL, 0, theme.SPACE_XL, theme.SPACE_XL)
        self._list.setSpacing(theme.SPACE)
        scrolled = QScrollArea()
        scrolled.setWidgetResizable(True)
        scrolled.setFrameShape(QFrame.Shape.NoFrame)
        scrolled.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scrolled.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scrolled.setWidget(inside)
        self._scrolled = scrolled
        self._import_at = QVBoxLayout()
        self._import_at.setContentsMargins(theme.SPACE_XL, 0, theme.SPACE_XL, theme.SPACE)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(theme.SPACE)
        whole.addLayout(self._bar())
        whole.addLayout(self._import_at)
        whole.addWidget(scrolled, 1)

    def _bar(self) -> QVBoxLayout:
        self._search = QLineEdit()
        self._search.setPlaceholderText(tr("Search models"))
        self._search.setAccessibleName(tr("Search models"))
        self._search.setClearButtonEnabled(True)
        self._search.setFixedWidth(SEARCH_PX)
        self._search.textChanged.connect(lambda text: self._choose(text=text))
        families = [(value, tr(text)) for value, text in FAMILIES]
        self._family = Segmented(families, lambda value: self._choose(family=value), tr("Which models"))
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE)
        row.addWidget(label(tr("Models"), "title"))
        row.addSpacing(theme.SPACE_L)
        row.addWidget(self._family)
        row.addWidget(self._search)
        row.addStretch()
        importing = button(
            tr("Import a file…"),
            lambda: self._desk.actions.trigger("models.import"),
            icon="upload-simple",
            tip=tr("Weights of DINO, DINOv2, Hugging Face or timm; a file dropped on the window does the same"),
        )
        row.addWidget(importing)
        column = QVBoxLayout()
        column.setContentsMargins(theme.SPACE_XL, theme.SPACE_L, theme.SPACE_XL, 0)
        column.setSpacing(theme.SPACE_S)
        column.addLayout(row)
        column.addWidget(
            Hint(
                tr(
                    "A network turns every patch of a picture into numbers; all places look through the one in use. "
                    "Everything works offline: only a download that you start needs the internet."
                )
            )
        )
        return column

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        bind("models.import", self._choose_file)
        bind("models.search", self._search.setFocus)
        bind("models.refresh", self._read)

    @property
    def _choices(self) -> ModelsChoices:
        return self._desk.session.state.choices.models

    def _choose(self, **changes: object) -> None:
        self._desk.session.set_choices("models", **changes)

    def showEvent(self, event: QShowEvent) -> None:
        """Look again what is on the disk."""
        super().showEvent(event)
        self._read()

    def _read(self) -> None:
        runs = self._desk.session.state.runs
        self._desk.background.run(SLOT, lambda: read_models(runs), self._take)

    def _take(self, entries: tuple[ModelEntry, ...]) -> None:
        if entries != self._entries:
            self._entries = entries
            self._show_list()

    def _show_choices(self) -> None:
        choices = self._choices
        self._family.set_value(choices.family)
        if self._search.text() != choices.text:
            self._search.setText(choices.text)
        self._show_list()
        if choices.offered and (self._import is None or str(self._import.file) != choices.offered):
            self._offer(Path(choices.offered))

    def _wanted(self) -> list[ModelEntry]:
        choices = self._choices
        kept = {
            "here": lambda entry: entry.presence != "remote",
            "dino": lambda entry: entry.family == "dino",
            "dinov2": lambda entry: entry.family == "dinov2",
        }.get(choices.family, lambda entry: True)
        return [entry for entry in self._entries if kept(entry) and entry.matches(choices.text)]

    def _show_list(self) -> None:
        """Make the rows that are wanted, in two groups; a row that stays as it was is kept."""
        wanted = self._wanted()
        kept = {model: row for model, row in self._rows.items() if row.entry in wanted}
        for model, row in self._rows.items():
            if model not in kept:
                row.hide()
                row.deleteLater()
        for row in kept.values():
            self._list.removeWidget(row)
        clear(self._list)
        self._rows = {entry.model: kept.get(entry.model) or self._made(entry) for entry in wanted}
        here = [row for row in self._rows.values() if row.entry.presence != "remote"]
        remote = [row for row in self._rows.values() if row.entry.presence == "remote"]
        self._add_group(tr("On this computer"), here)
        self._add_group(tr("Can be downloaded"), remote)
        if not wanted and self._entries:
            self._list.addWidget(self._nothing())
        self._list.addStretch()
        self._show_used()
        self._show_jobs()

    def _nothing(self) -> QWidget:
        return EmptyState(
            "magnifying-glass",
            tr("No model is called that"),
            tr("Search for a size, as small, for a patch, as /8, or for DINOv2."),
            tr("Show all"),
            lambda: self._choose(text="", family="all"),
        )

    def _add_group(self, title: str, rows: list[ModelRow]) -> None:
        if rows:
            self._list.addWidget(header(f"{title} · {len(rows)}"))
            for row in rows:
                self._list.addWidget(row)
            self._list.addSpacing(theme.SPACE)

    def _made(self, entry: ModelEntry) -> ModelRow:
        row = ModelRow(entry)
        row.asked.connect(self._do)
        row.stepped.connect(lambda by: self._step(row, by))
        return row

    def _step(self, row: ModelRow, by: int) -> None:
        rows = list(self._rows.values())
        to = rows.index(row) + by
        if 0 <= to < len(rows):
            rows[to].setFocus(Qt.FocusReason.TabFocusReason)
            self._scrolled.ensureWidgetVisible(rows[to])

    def _show_used(self) -> None:
        for model, row in self._rows.items():
            row.set_used(is_used=model == self._desk.session.state.model)

    def _show_jobs(self) -> None:
        """Show in every row how its newest download goes."""
        newest = {job.argv[2]: job for job in self._desk.session.state.jobs if job.argv[:2] == ("models", "get")}
        for model, row in self._rows.items():
            row.show_job(newest.get(model))

    def _do(self, verb: str, model: str) -> None:
        """Do what a row asks for."""
        entry = self._rows[model].entry
        session = self._desk.session
        does: dict[str, Callable[[], object]] = {
            "use": lambda: session.use_model(model),
            "get": lambda: self._get(entry),
            "try": lambda: self._get(entry),
            "stop": lambda: self._stop(model),
            "reveal": lambda: reveal(entry.path) if entry.path else None,
            "copy": lambda: QGuiApplication.clipboard().setText(entry.source),
            "check": lambda: self._check(entry),
            "delete": lambda: self._rows[model].ask_to_delete(depending(entry, session.state.sets)),
            "trash": lambda: self._delete(entry),
        }
        does[verb]()

    def _get(self, entry: ModelEntry) -> None:
        if entry.presence == "broken":
            self._delete(entry, lambda: self._fetch(entry))
        else:
            self._fetch(entry)

    def _fetch(self, entry: ModelEntry) -> None:
        title = tr("Download {name}", name=entry.name)
        self._desk.jobs.start(["models", "get", entry.model], title, lambda _job: self._read())

    def _stop(self, model: str) -> None:
        for job in self._desk.session.state.jobs:
            if job.argv[:3] == ("models", "get", model) and not job.is_over:
                self._desk.jobs.stop(job.id)

    def _check(self, entry: ModelEntry) -> None:
        if entry.path is None:
            return
        path, row = entry.path, self._rows[entry.model]
        row.say(tr("Checking the file …"))

        def tell(job: Job) -> None:
            if self._rows.get(entry.model) is row:
                self._tell_checked(row, job, recorded_sha256(path))

        self._desk.jobs.start(["models", "check", str(path)], tr("Check {name}", name=entry.name), tell)

    def _tell_checked(self, row: ModelRow, job: Job, recorded: str) -> None:
        digest = str(job.outcome.get("sha256", ""))
        if job.state == "failed":
            row.say(job.error, job.hint)
        elif recorded and digest != recorded:
            row.say(tr("The file was changed since it came."), tr("Delete it and get it again."))
        elif job.outcome.get("loadable"):
            fits = counted(int(job.outcome.get("matched", 0)), tr("tensor fits"), tr("tensors fit"))
            row.say(tr("The file is whole: {fits}.", fits=fits), f"sha256 {digest}")
        else:
            row.say(tr("The file does not fit."), str(job.outcome.get("difference", "")))

    def _delete(self, entry: ModelEntry, then: Callable[[], object] | None = None) -> None:
        """Move the file of a model to the trash, and what was noted of it with it."""
        path = entry.path
        if path is None:
            return
        session = self._desk.session
        if session.state.model == entry.model:
            session.use_model("bundled")

        def work() -> None:
            send2trash(str(path))
            path.with_name(path.name + ".json").unlink(missing_ok=True)  # of a download that was broken off
            forget(path)

        def done(_none: None) -> None:
            self._read()
            if then:
                then()
            else:
                session.notify("info", tr("{name} is in the trash.", name=entry.name))

        def failed(problem: Exception) -> None:
            if not isinstance(problem, OSError):
                raise problem
            session.notify("error", tr("{name} could not be moved to the trash.", name=entry.name), str(problem))

        self._desk.background.run("", work, done, failed)  # a second one waits, and drops no other

    def _choose_file(self) -> None:
        kinds = " ".join(f"*{suffix}" for suffix in WEIGHT_SUFFIXES)
        found, _ = QFileDialog.getOpenFileName(self, tr("Import weights"), "", tr("Weights") + f" ({kinds})")
        if found:
            self._choose(offered=found)

    def _offer(self, file: Path) -> None:
        """Check a file, and say what it is before it is imported."""
        self._close_import()
        card = self._import = ImportCard(file)
        card.wanted.connect(lambda name: self._import_as(card, name))
        card.closed.connect(self._forget_offer)
        self._import_at.addWidget(card)

        def tell(job: Job) -> None:
            if self._import is card:
                card.show_checked(job)

        self._desk.jobs.start(["models", "check", str(file)], tr("Check {name}", name=file.name), tell)

    def _import_as(self, card: ImportCard, name: str) -> None:
        def done(job: Job) -> None:
            self._read()
            if self._import is not card:
                return
            if job.state == "done":
                self._forget_offer()
                self._desk.session.notify(
                    "info", tr("{name} is imported.", name=name), tr("Choose Use to look through it.")
                )
            else:
                card.show_failed(job)

        argv = ["models", "import", str(card.file), "--name", name]
        self._desk.jobs.start(argv, tr("Import {name}", name=name), done)

    def _forget_offer(self) -> None:
        self._close_import()
        self._choose(offered="")

    def _close_import(self) -> None:
        if self._import is not None:
            self._import.hide()
            self._import.deleteLater()
            self._import = None
