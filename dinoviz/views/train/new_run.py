"""A run that is being prepared: what it learns from and starts from, its form, what it takes, what it will be shown."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Choice, IconButton, Segmented, button, label
from dinoviz.desk import Desk
from dinoviz.engine_process import SCANS
from dinoviz.jobs import Job
from dinoviz.model_names import weights_folder
from dinoviz.table import Ids, no_ids
from dinoviz.views.train import run_plan
from dinoviz.views.train.crop_preview import PICTURES, CropPreview
from dinoviz.views.train.forms import RecipeForm
from dinoviz.views.train.infos import RunInfo
from dinoviz.views.train.machine_facts import MachineFacts, Machines
from dinoviz.views.train.run_plan import START, Ground, Prepared
from dinoviz.watching import watch
from dinoviz.words import counted, time_roughly, tr
from engine.catalogue import BUNDLED, OBJECTIVES, Shape, VitShape
from engine.errors import UserError
from engine.estimates import Speed, parameters
from engine.facts import TRAIN, free_bytes, start_shape
from engine.presets import PRESETS
from engine.quantities import size_in_words
from engine.recipes import Plan, Recipe
from engine.run_files import newest_speed
from engine.sets import RUNS
from engine.store import write_atomically

FILE = "file…"
"""Entry of the starts that asks for a file."""
MEMORY_SHARE, DISK_SHARE = 0.85, 0.9
"""Shares of what the machine has, from which on a plan is warned of."""
NARROW_PX = 780
SCOPES = ("folder", "selection", "shown")


class NewRunPage(QWidget):
    """The page of a run that is being prepared."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._machines: Machines = ()
        self._infos: tuple[RunInfo, ...] = ()
        self._kept: list[str] = []
        self._shapes: dict[str, Shape | None] = {}
        self._speeds: dict[tuple[str, str], Speed | None] = {}
        self._sides: tuple[tuple[object, ...], np.ndarray] = ((None, None, None), np.zeros(0, np.int32))
        self._classes: tuple[str, ...] = ()
        self._sorted: tuple[Ids, Ids] = (no_ids(), no_ids())
        self.prepared: Prepared | None = None
        self.form = RecipeForm(self._typed)
        self.preview = CropPreview(desk)
        self._build()
        fields = ("project", "table", "marks", "selected", "shown", "query", "jobs", "choices.train")
        watch(self, desk.session, fields, self.draw)
        self._facts: MachineFacts | None = None

    # What it is made of.

    def _build(self) -> None:
        self.scope = Segmented([(scope, scope) for scope in SCOPES], self._choose_scope, tr("Learn from"))
        self.start_from = Choice()
        self.start_from.setAccessibleName(tr("Start from"))
        self.start_from.setToolTip(run_plan.help_of(START))
        self.start_from.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.start_from.setMinimumContentsLength(18)
        self.start_from.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.start_from.activated.connect(self._choose_start)
        self._start_problem = label("", "danger", wraps=True)
        self._start_problem.hide()
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, theme.SPACE, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(_named(tr("Learn from"), self.scope))
        column.addLayout(_named(tr("Start from"), self.start_from))
        column.addWidget(self._start_problem)
        column.addSpacing(theme.SPACE_S)
        column.addWidget(self.form, 1)
        right = QWidget()
        right.setProperty("kind", "plain")
        column = QVBoxLayout(right)
        column.setContentsMargins(theme.SPACE, 0, theme.SPACE, 0)
        column.setSpacing(theme.SPACE_L)
        column.addWidget(self._summary())
        column.addWidget(self.preview)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(right)
        self._split = split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(left)
        split.addWidget(area)
        split.setStretchFactor(0, 1)
        split.setStretchFactor(1, 1)
        split.setSizes([640, 500])
        split.setChildrenCollapsible(False)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(theme.SPACE_L)
        outer.addLayout(self._head())
        outer.addWidget(split, 1)

    def _head(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE)
        row.addWidget(label(tr("New run"), "title"))
        row.addStretch()
        row.addWidget(self._presets())
        for icon, tip, press in (
            ("upload-simple", tr("Read a run file…"), self.read_file),
            ("download-simple", tr("Save as a run file…"), self.save_file),
            ("command", tr("Copy as command"), self.copy_command),
        ):
            row.addWidget(IconButton(icon, tip, press))
        self._all_auto = button(
            tr("All automatic"), self._clear, kind="quiet",
            tip=tr("Forgets what you typed: every setting is chosen by your pictures and this computer again"),
        )  # fmt: skip
        row.addWidget(self._all_auto)
        self.start_button = button(tr("Start training"), self.start, kind="primary")
        row.addWidget(self.start_button)
        return row

    def _presets(self) -> QPushButton:
        tip = tr("Takes over all settings of DINO's or DINOv2's own trainings; they were made for a million pictures")
        self.presets = QMenu(self)
        self.presets.setToolTipsVisible(True)
        for name, preset in PRESETS.items():
            action = self.presets.addAction(preset.says, partial(self.take_preset, name))
            action.setToolTip(preset.source)
        made = QPushButton(tr("Published recipes"))
        made.setProperty("kind", "quiet")
        made.setToolTip(tip)
        made.setAccessibleName(made.text())
        made.setMenu(self.presets)
        return made

    def _summary(self) -> QFrame:
        card = QFrame()
        card.setProperty("kind", "card")
        card.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        column = QVBoxLayout(card)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE_L, theme.SPACE_L, theme.SPACE_L)
        column.setSpacing(theme.SPACE_S)
        self._plan_line = label("", "heading", wraps=True)
        self._lines = [label("", "muted", wraps=True) for _ in range(4)]
        self._warning = label("", "warning", wraps=True)
        self._wrong = label("", "danger", wraps=True)
        for part in (self._plan_line, *self._lines, self._warning, self._wrong):
            column.addWidget(part)
        return card

    def resizeEvent(self, event: object) -> None:
        """Put the summary below the form where there is no room beside it."""
        wanted = Qt.Orientation.Vertical if self.width() < NARROW_PX else Qt.Orientation.Horizontal
        if self._split.orientation() != wanted:
            self._split.setOrientation(wanted)
            self._split.setSizes([640, 500] if wanted == Qt.Orientation.Horizontal else [300, 220])

    # What is known.

    def showEvent(self, event: object) -> None:
        """Ask what the machine is when it is first needed."""
        if self._facts is None:
            self._facts = MachineFacts(self._desk.jobs, self._take_machines)
        self._kept = sorted(path.stem for path in weights_folder().glob("*.safetensors"))
        self.draw()

    def _take_machines(self, machines: Machines) -> None:
        self._machines = machines
        self.draw()

    def show_infos(self, infos: Sequence[RunInfo]) -> None:
        """Take over which runs there are, to start from them."""
        if [info.folder for info in infos] != [info.folder for info in self._infos]:
            self._speeds.clear()
            self._shapes.clear()
        self._infos = tuple(infos)
        self.draw()

    def _only(self) -> Ids | None:
        """Return the pictures that were chosen to learn from; None for the folder."""
        state = self._desk.session.state
        match state.choices.train.scope:
            case "selection":
                return state.selected
            case "shown":
                if state.shown is not self._sorted[0]:
                    self._sorted = state.shown, np.sort(state.shown)
                return self._sorted[1]
        return None

    def _ground(self) -> Ground | None:
        state = self._desk.session.state
        if not self._machines or state.project is None:
            return None
        only = self._only()
        key = (state.table, state.marks, only)  # values that are replaced, never changed
        if any(new is not old for new, old in zip(key, self._sides[0], strict=True)):
            self._sides = key, run_plan.sides_to_learn_from(state.table, state.marks.hidden, only)
            self._classes = run_plan.classes_to_learn(state.table, state.marks.hidden, only)
        return Ground(
            shorter_sides=self._sides[1],
            classes=self._classes,
            machines=self._machines,
            project=state.project,
            shape_of=self._shape_of,
            speed_of=self._speed_of,
        )

    def _shape_of(self, model: str) -> Shape | None:
        if model not in self._shapes:
            self._shapes[model] = start_shape(model, weights_folder())
        return self._shapes[model]

    def _speed_of(self, plan: Plan) -> Speed | None:
        key = plan.run.device, plan.run.precision
        project = self._desk.session.state.project
        if key not in self._speeds and project is not None:
            self._speeds[key] = newest_speed(project / "runs", plan)
        return self._speeds.get(key)

    # Drawing.

    def draw(self) -> None:
        """Draw what was typed and what it comes to."""
        if not self.isVisible():
            return
        state = self._desk.session.state
        texts = dict(state.choices.train.texts)
        self._draw_scope()
        self._draw_starts(texts.get(START, ""))
        ground = self._ground()
        if ground is None:
            self._plan_line.setText(tr("Checking this computer…"))
            self.start_button.setEnabled(False)
            return
        self.prepared = run_plan.prepared(texts, ground)
        self.form.show_prepared(texts, self.prepared)
        self._draw_summary(self.prepared)
        wrong_start = self.prepared.problems.get(START, "")
        self._start_problem.setText(wrong_start)
        self._start_problem.setVisible(bool(wrong_start))
        self.preview.show_plan(self.prepared.plan, self._preview_pictures())

    def _draw_scope(self) -> None:
        state = self._desk.session.state
        n_all = int((state.table.problem.codes_N < 0).sum()) - len(state.marks.hidden)
        names = {
            "folder": tr("Whole folder · {n}", n=max(0, n_all)),
            "selection": tr("Selection · {n}", n=len(state.selected)),
            "shown": tr("What is shown · {n}", n=len(state.shown)),
        }
        tips = {
            "folder": tr("All readable pictures; where there is a train split, only that."),
            "selection": tr("The pictures selected in the library, on the map or in a list."),
            "shown": tr("The pictures that pass the filter."),
        }
        for scope, name in names.items():
            self.scope.set_text(scope, name)
            self.scope.set_tip(scope, tips[scope])
        self.scope.set_enabled("selection", len(state.selected) > 0)
        self.scope.set_enabled("shown", len(state.shown) > 0)
        self.scope.set_value(state.choices.train.scope)

    def _starts(self) -> list[tuple[str, str]]:
        """Return what a run can start from: value and text."""
        runs = [
            (str(info.folder), tr("Run {number}: {about}", number=info.number, about=info.about))
            for info in self._infos
            if info.has_weights
        ]
        return [
            ("", tr("From scratch: it learns from these pictures alone")),
            (BUNDLED, tr("The bundled backbone, trained on photos of clothes")),
            *runs,
            *((name, name) for name in self._kept),
            (FILE, tr("A file of weights…")),
        ]

    def _draw_starts(self, wanted: str) -> None:
        starts = self._starts()
        if wanted not in [value for value, _ in starts]:
            starts.insert(-1, (wanted, Path(wanted).name))
        shown = [(self.start_from.itemData(i), self.start_from.itemText(i)) for i in range(self.start_from.count())]
        if shown != starts:
            self.start_from.clear()
            for value, text in starts:
                self.start_from.addItem(text, value)
        place = self.start_from.findData(wanted)
        if self.start_from.currentIndex() != place:
            self.start_from.setCurrentIndex(place)

    def _draw_summary(self, prepared: Prepared) -> None:
        plan, took = prepared.plan, prepared.took
        self.start_button.setText(tr("Add to queue") if self._is_busy else tr("Start training"))
        self.start_button.setEnabled(prepared.can_start)
        self._all_auto.setVisible(bool(prepared.recipe.asked or prepared.problems))
        if plan is None or took is None:
            self._plan_line.setText(tr("Nothing to start yet"))
            for line in self._lines:
                line.clear()
        else:
            self._plan_line.setText(tr("About {time}", time=time_roughly(took.seconds)))
            self._lines[0].setText(
                tr(
                    "{pictures}, {epochs}: {steps} steps of {batch}",
                    pictures=self._pictures_in_words(plan.pictures),
                    epochs=counted(plan.run.epochs, "epoch"),
                    steps=plan.steps,
                    batch=plan.run.batch,
                )
            )
            self._lines[1].setText(_network_in_words(plan))
            self._lines[3].setText(f"{plan.run.objective}: {OBJECTIVES[plan.run.objective].says}")
            self._lines[2].setText(
                tr(
                    "About {rate} pictures/s ({source}); {memory} of memory, {disk} of disk",
                    rate=f"{took.pictures_per_s:,.0f}",
                    source=took.source,
                    memory=size_in_words(took.memory_bytes),
                    disk=size_in_words(took.disk_bytes),
                )
            )
        self._say(self._warning, self._risk(prepared))
        wrong = [run_plan.label_of(name) for name in prepared.problems]
        told = tr("Cannot start: see {fields}.", fields=", ".join(wrong)) if wrong else prepared.problem
        self._say(self._wrong, told)
        self.start_button.setToolTip(told)

    @property
    def _is_busy(self) -> bool:
        """Whether a run would wait for the jobs before it."""
        return any(not job.is_over and job.argv[0] not in SCANS for job in self._desk.session.state.jobs)

    def _pictures_in_words(self, n: int) -> str:
        """Return how many pictures are learnt from, and why not all where a split is kept apart."""
        pictures = counted(n, "picture")
        is_split = self._only() is None and TRAIN in self._desk.session.state.table.split.words
        return tr("{pictures} of the train split", pictures=pictures) if is_split else pictures

    def _risk(self, prepared: Prepared) -> str:
        """Return what may not fit this machine."""
        plan, took = prepared.plan, prepared.took
        if plan is None or took is None:
            return ""
        machine = next((m for m in self._machines if m.device == plan.run.device), self._machines[0])
        if took.memory_bytes > MEMORY_SHARE * machine.device_memory_bytes:
            return tr(
                "It may not fit the memory of {has}: take fewer pictures a step, or compute them in more parts.",
                has=size_in_words(machine.device_memory_bytes),
            )
        project = self._desk.session.state.project
        assert project is not None
        free = free_bytes(project)
        if took.disk_bytes > DISK_SHARE * free:
            return tr("Only {free} are free on the disk of the project.", free=size_in_words(free))
        return ""

    def _say(self, where: QLabel, text: str) -> None:
        where.setText(text)
        where.setVisible(bool(text))

    def _preview_pictures(self) -> list[tuple[Path, int]]:
        """Return a few of the pictures that would be learnt from, spread over all of them."""
        table, only = self._desk.session.state.table, self._only()
        usable = table.ids_N[table.problem.codes_N < 0] if only is None else table.known(only)
        if not len(usable):
            return []
        places = np.linspace(0, len(usable) - 1, PICTURES + 2).round().astype(int)[1:-1]
        return [(table.file(int(usable[place])), int(place)) for place in dict.fromkeys(places.tolist())]

    # What a person does.

    def _set_texts(self, texts: dict[str, str]) -> None:
        train = self._desk.session.state.choices.train
        self._desk.session.choose(train=replace(train, texts=tuple(sorted(texts.items()))))

    def _typed(self, name: str, text: str) -> None:
        texts = dict(self._desk.session.state.choices.train.texts)
        self._set_texts(run_plan.with_text(texts, name, text))

    def _clear(self) -> None:
        self._set_texts({})

    def _choose_scope(self, scope: str) -> None:
        self._desk.session.set_choices("train", scope=scope)

    def _choose_start(self, place: int) -> None:
        value = str(self.start_from.itemData(place))
        if value == FILE:
            value, _ = QFileDialog.getOpenFileName(self, tr("Weights to start from"), "", tr("Weights (*.safetensors)"))
            if not value:
                self.draw()
                return
        self._typed(START, value)

    def take_preset(self, name: str) -> None:
        """Take the settings of a published recipe over, in place of what was typed."""
        self._set_texts(run_plan.asked_texts(Recipe.preset(name)))

    def read_file(self) -> None:
        """Take the settings of a run file over."""
        name, _ = QFileDialog.getOpenFileName(self, tr("Read a run file"), "", tr("Run files (*.toml)"))
        if name:
            self.take_file(Path(name))

    def take_file(self, path: Path) -> None:
        """Take the settings of a run file over, in place of what was typed."""
        try:
            recipe = Recipe.read(path)
        except UserError as problem:
            self._desk.session.notify("error", problem.message, problem.hint)
            return
        self._set_texts(run_plan.asked_texts(recipe))

    def save_file(self) -> None:
        """Save what was asked for as a run file."""
        if self.prepared is None:
            return
        name, _ = QFileDialog.getSaveFileName(self, tr("Save as a run file"), "run.toml", tr("Run files (*.toml)"))
        if name:
            self.write_file(Path(name))

    def write_file(self, path: Path) -> None:
        """Write what was asked for as a run file."""
        assert self.prepared is not None
        content = run_plan.run_file(self.prepared.recipe).encode()
        try:
            write_atomically(path, lambda file: file.write(content))
        except (OSError, UserError) as problem:
            self._desk.session.notify("error", tr("Cannot write '{name}': {why}", name=path.name, why=problem))

    def arguments(self) -> list[str]:
        """Return what stands after ``engine`` to start this run; the list of its pictures is written first."""
        state = self._desk.session.state
        assert self.prepared is not None
        assert state.project is not None
        only = self._only()
        path = None if only is None else _write_list(state.project, only)
        return run_plan.train_arguments(state.project, self.prepared.recipe, path)

    def copy_command(self) -> None:
        """Put the command that does the same into the clipboard."""
        if self.prepared is not None:
            QApplication.clipboard().setText(run_plan.as_command(self.arguments()))
            self._desk.session.notify("info", tr("The command is in the clipboard."))

    def can_start(self) -> bool:
        """Tell whether nothing stands in the way."""
        return self.prepared is not None and self.prepared.can_start

    def start(self) -> None:
        """Start the run, or put it into the queue."""
        if not self.can_start():
            return
        assert self.prepared is not None
        assert self.prepared.plan is not None
        plan = self.prepared.plan
        title = tr("Train {model}, {epochs}", model=plan.model.model, epochs=counted(plan.run.epochs, "epoch"))
        waits = self._is_busy
        self._desk.jobs.start(self.arguments(), title, self._ended)
        told = tr("It starts after the jobs before it.") if waits else tr("The engine starts; the run appears soon.")
        self._desk.session.notify("info", told)

    def _ended(self, _job: Job) -> None:
        self._speeds.clear()


def _named(text: str, control: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(theme.SPACE)
    name = label(text)
    name.setFixedWidth(104)
    name.setBuddy(control)
    row.addWidget(name)
    row.addWidget(control)
    if control.sizePolicy().horizontalPolicy() != QSizePolicy.Policy.Expanding:
        row.addStretch()
    return row


def _network_in_words(plan: Plan) -> str:
    shape = plan.shape
    blocks = tr("{n} blocks, {heads} heads, ", n=shape.depth, heads=shape.heads) if isinstance(shape, VitShape) else ""
    start = tr("from {start}", start=_start_in_words(plan.model.init)) if plan.model.init else tr("from scratch")
    return tr(
        "{model}: {blocks}{millions} million parameters with the head, {start}, on {device}",
        model=plan.model.model,
        blocks=blocks,
        millions=f"{parameters(plan) / 1e6:.1f}",
        start=start,
        device=plan.run.device,
    )


def _start_in_words(init: str) -> str:
    """Return what a run starts from: the name of a model or file, or the number of a run."""
    path = Path(init)
    if path.parent.name == RUNS and path.name.isdecimal():
        return tr("run {number}", number=int(path.name))
    return path.name


def _write_list(project: Path, only: Ids) -> Path:
    """Write the ids of the chosen pictures as ``engine train --only`` reads them; the same pictures, the same file."""
    content = "\n".join(map(str, only.tolist())).encode()
    folder = project / "cache" / "selections"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.blake2b(content, digest_size=8).hexdigest()}.txt"
    write_atomically(path, lambda file: file.write(content))
    return path
