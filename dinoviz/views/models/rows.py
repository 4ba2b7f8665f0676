"""One backbone as a row of the list of models, and the card that says what a file of weights is before its import."""

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QFocusEvent, QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Elided, IconButton, button, label, pixmap
from dinoviz.jobs import Job
from dinoviz.views.models.entries import ModelEntry, parameters_in_words
from dinoviz.watching import follow
from dinoviz.words import time_roughly, tr
from engine.catalogue import ResNetShape, VitShape, name_of
from engine.quantities import size_in_words

ICON_PX = 20
ACTION_PX = 132
"""Room for what can be done with a model, at the right of its row."""
MORE_PX = 28
BORDER_PX = 1
"""Of a card; see ``theme``."""
PROGRESS_STEPS = 1000
NOTHING = "\N{EN DASH}"
"""Where there is no figure."""

COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("Size", "How many numbers it has learnt, and how large its file is.", 132),
    ("Memory", "About what looking at a picture takes: the program, the weights, what they work with.", 72),
    ("k-NN", "Published: of 100 pictures of ImageNet, how many its features name rightly by their neighbours.", 52),
    ("Licence", "Under which it was published.", 88),
)
"""What is said of every model beside its name: heading, meaning, width in pixels."""
_ICONS = {"run": "graduation-cap", "bundled": "cube", "dino": "cube", "dinov2": "cube", "imported": "upload-simple"}


def header(title: str) -> QWidget:
    """Return the title of a group and the headings of the columns, placed as a row places what they are of."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, theme.SPACE + BORDER_PX, 0)
    row.setSpacing(theme.SPACE)
    row.addWidget(label(title, "heading"), 1)
    for text, tip, width in COLUMNS:
        heading = label(tr(text), "small", tip=tr(tip))
        heading.setFixedWidth(width)
        row.addWidget(heading)
    for width in (ACTION_PX, MORE_PX):
        room = QWidget()
        room.setFixedWidth(width)
        row.addWidget(room)
    return made


class ModelRow(QFrame):
    """A backbone: what it is, what can be done with it, and how a download of it goes.

    Signals:
        asked(verb, model): use, get, stop, delete, reveal, check, copy or try is wanted.
        stepped(by): an arrow key asks for the row above or below.
    """

    asked = Signal(str, str)
    stepped = Signal(int)

    def __init__(self, entry: ModelEntry) -> None:
        super().__init__()
        self.entry = entry
        self._is_used = False
        self._job: Job | None = None
        self.setProperty("kind", "card")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._build()
        self._name_it()
        self._draw_icon()
        follow(self, theme.changed, self._draw_icon)

    def _build(self) -> None:
        self._icon = QLabel()
        self._icon.setFixedWidth(ICON_PX)
        self._action = QWidget()
        self._action.setFixedWidth(ACTION_PX)
        self._action_at = QHBoxLayout(self._action)
        self._action_at.setContentsMargins(0, 0, 0, 0)
        self._more = IconButton("dots-three", tr("More about {name}", name=self.entry.name), self._show_menu)
        self._more.setFixedWidth(MORE_PX)
        top = QHBoxLayout()
        top.setSpacing(theme.SPACE)
        top.addWidget(self._icon)
        top.addSpacing(theme.SPACE)
        top.addLayout(self._names(), 1)
        for text, (_, _, width) in zip(self._facts(), COLUMNS, strict=True):
            fact = label(text, "small")
            fact.setFixedWidth(width)
            top.addWidget(fact)
        top.addWidget(self._action)
        top.addWidget(self._more)
        self._below = QWidget()
        self._below_at = QHBoxLayout(self._below)
        self._below_at.setContentsMargins(ICON_PX + 2 * theme.SPACE, 0, 0, 0)
        self._below.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE)
        column.setSpacing(theme.SPACE)
        column.addLayout(top)
        column.addWidget(self._below)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
        self._show_action()

    def _names(self) -> QVBoxLayout:
        first = QHBoxLayout()
        first.setSpacing(theme.SPACE)
        first.addWidget(label(self.entry.name, "strong"))
        if self.entry.architecture:
            first.addWidget(label(self.entry.architecture, "small", tip=_shape_tip(self.entry)))
        first.addStretch()
        about = Elided()
        about.setProperty("kind", "small")
        about.say(self.entry.about)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addLayout(first)
        column.addWidget(about)
        return column

    def _facts(self) -> tuple[str, ...]:
        entry = self.entry
        learnt = parameters_in_words(entry.parameters) if entry.parameters else NOTHING
        return (
            f"{learnt} · {size_in_words(entry.size_bytes)}",
            size_in_words(entry.memory_bytes) if entry.memory_bytes else NOTHING,
            f"{entry.knn:.1f} %" if entry.knn is not None else NOTHING,
            entry.licence or NOTHING,
        )

    def _draw_icon(self) -> None:
        colour = "accent" if self._is_used else "muted" if self.entry.is_here else "faint"
        self._icon.setPixmap(pixmap(theme.icon(_ICONS[self.entry.family], colour), ICON_PX, self))

    def _name_it(self) -> None:
        states = {
            "here": tr("on this computer"),
            "remote": tr("can be downloaded"),
            "partial": tr("download broken off"),
            "broken": tr("damaged"),
        }
        state = tr("in use") if self._is_used else states[self.entry.presence]
        self.setAccessibleName(f"{self.entry.name}, {self.entry.about}, {state}")

    def set_used(self, *, is_used: bool) -> None:
        """Say whether all places look through it."""
        if is_used != self._is_used:
            self._is_used = is_used
            self._show_action()
            self._draw_icon()
            self._name_it()

    def show_job(self, job: Job | None) -> None:
        """Show how a download of it goes, or why it ended."""
        before, self._job = self._job, job
        if job is not None and not job.is_over and before is not None and before.id == job.id and not before.is_over:
            self._tell_progress(job)
            return
        self._show_action()
        if job is not None and job.state == "failed":
            self._say_below(job.error, job.hint, tr("Try again"), "try")
        elif before is not None and before.state == "failed":
            self._below.hide()

    @property
    def is_downloading(self) -> bool:
        """A job fetches it."""
        return self._job is not None and not self._job.is_over

    def _show_action(self) -> None:
        """Show the one thing to do with it."""
        _empty(self._action_at)
        entry = self.entry
        if self.is_downloading:
            self._show_progress()
        elif self._is_used:
            self._action_at.addWidget(label(tr("In use"), "good", tip=tr("All places look through this network.")))
        elif entry.is_here:
            tip = tr("Look through this network in all places")
            self._action_at.addWidget(self._button(tr("Use"), "use", tip))
        elif entry.presence == "partial":
            rest = size_in_words(max(0, entry.size_bytes - entry.here_bytes))
            tip = tr("The download goes on where it broke off")
            self._action_at.addWidget(self._button(tr("Go on, {size}", size=rest), "get", tip))
        else:
            text = tr("Get again") if entry.presence == "broken" else tr("Download")
            tip = tr("Fetches {size} from {source}", size=size_in_words(entry.size_bytes), source=entry.source)
            self._action_at.addWidget(self._button(text, "get", tip))
        if entry.presence == "broken" and not self.is_downloading:
            self._say_below(tr("Its file is not as long as it was."), tr("It was changed or cut off."), "", "")

    def _button(self, text: str, verb: str, tip: str) -> QPushButton:
        made = button(text, lambda: self.asked.emit(verb, self.entry.model), tip=tip)
        made.setAccessibleName(f"{text}: {self.entry.name}")
        return made

    def _show_progress(self) -> None:
        self._progress = QProgressBar()
        self._progress.setRange(0, PROGRESS_STEPS)
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName(tr("Download of {name}", name=self.entry.name))
        self._told = label("", "small")
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE_S)
        words.addWidget(self._told)
        words.addWidget(self._progress)
        self._action_at.addLayout(words, 1)
        stop = IconButton("x", tr("Stop; what is here is kept"), lambda: self.asked.emit("stop", self.entry.model))
        self._action_at.addWidget(stop)
        assert self._job is not None
        self._tell_progress(self._job)

    def _tell_progress(self, job: Job) -> None:
        told = job.progress
        share = job.share
        self._progress.setRange(0, PROGRESS_STEPS if share is not None else 0)
        if share is not None:
            self._progress.setValue(round(PROGRESS_STEPS * share))
        if told is None:
            self._told.setText(tr("Connecting …") if job.state == "running" else tr("Waiting …"))
        elif told.eta_s is not None and share is not None:
            self._told.setText(
                tr("{share} %, about {left} left", share=round(100 * share), left=time_roughly(told.eta_s))
            )
        else:
            self._told.setText(size_in_words(told.done))

    def ask_to_delete(self, consequence: str) -> None:
        """Ask below the row whether it is to go to the trash, and say what depends on it."""
        self._say_below(
            tr("Move {name} to the trash?", name=self.entry.name),
            consequence,
            tr("Move to trash"),
            "trash",
            can_keep=True,
        )

    def say(self, text: str, hint: str = "") -> None:
        """Say something below the row."""
        self._say_below(text, hint, "", "")

    def _say_below(self, text: str, hint: str, action: str, verb: str, *, can_keep: bool = False) -> None:
        _empty(self._below_at)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(text, "strong", wraps=True))
        if hint:
            words.addWidget(label(hint, "small", wraps=True))
        self._below_at.addLayout(words, 1)
        if action:
            kind = "danger" if verb == "trash" else ""
            press = button(action, lambda: self.asked.emit(verb, self.entry.model), kind=kind)
            press.setAccessibleName(f"{action}: {self.entry.name}")
            self._below_at.addWidget(press)
        if can_keep:
            keep = button(tr("Keep"), self._below.hide)
            self._below_at.addWidget(keep)
            keep.setFocus()
        self._below.show()

    def _menu(self) -> QMenu:
        menu, entry = QMenu(self), self.entry

        def add(text: str, verb: str) -> None:
            menu.addAction(text, lambda: self.asked.emit(verb, entry.model))

        if entry.is_here and not self._is_used:
            add(tr("Use"), "use")
        if entry.path is not None:
            add(tr("Reveal in the file manager"), "reveal")
        if entry.is_here:
            add(tr("Check the file"), "check")
        if entry.source.startswith("http"):
            add(tr("Copy its address"), "copy")
        if entry.can_be_deleted:
            menu.addSeparator()
            add(tr("Delete…"), "delete")
        return menu

    def _show_menu(self) -> None:
        self._menu().popup(self._more.mapToGlobal(self._more.rect().bottomLeft()))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Show what can be done with it."""
        self._menu().popup(event.globalPos())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go up and down with the arrows; Return uses or fetches it, Delete deletes it."""
        entry = self.entry
        match event.key():
            case Qt.Key.Key_Up | Qt.Key.Key_Down:
                self.stepped.emit(-1 if event.key() == Qt.Key.Key_Up else 1)
            case Qt.Key.Key_Return | Qt.Key.Key_Enter if not self.is_downloading:
                self.asked.emit("use" if entry.is_here else "get", entry.model)
            case Qt.Key.Key_Delete if entry.can_be_deleted:
                self.asked.emit("delete", entry.model)
            case _:
                super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Stand out while it has the focus."""
        _set_hot(self, is_hot=True)
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Stand back."""
        _set_hot(self, is_hot=False)
        super().focusOutEvent(event)


def _set_hot(frame: QFrame, *, is_hot: bool) -> None:
    frame.setProperty("hot", is_hot)
    frame.style().unpolish(frame)
    frame.style().polish(frame)


def _empty(layout: QHBoxLayout) -> None:
    """Take everything out of a row at once, so that it does not show through what comes."""
    while (item := layout.takeAt(0)) is not None:
        inner = item.layout()
        while inner is not None and (part := inner.takeAt(0)) is not None:
            if widget := part.widget():
                widget.hide()
                widget.deleteLater()
        if widget := item.widget():
            widget.hide()
            widget.deleteLater()


def _shape_tip(entry: ModelEntry) -> str:
    match entry.shape:
        case VitShape() as shape:
            return tr(
                "A vision transformer: {depth} blocks, {heads} heads that attend, vectors of {width} numbers, patches "
                "of {patch} px. Smaller patches show finer detail and take longer.",
                depth=shape.depth,
                heads=shape.heads,
                width=shape.width,
                patch=shape.patch,
            )
        case ResNetShape():
            return tr("A residual network: it has features, but no attention to look at.")
    return ""


class ImportCard(QFrame):
    """Says what a file of weights is, once it was checked, and imports it under a name.

    Signals:
        wanted(name): it is to be imported under this name.
        closed: nothing is to be done with it.
    """

    wanted = Signal(str)
    closed = Signal()

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.setProperty("kind", "card")
        self._title = label(tr("Checking {name} …", name=file.name), "heading", wraps=True)
        self._about = label(
            tr("It is opened in a process of its own, which can do nothing but read it."), "muted", wraps=True
        )
        self._name = QLineEdit(file.stem if file.stem not in ("model", "backbone") else file.parent.name)
        self._name.setAccessibleName(tr("Name"))
        self._name.setFixedWidth(2 * ACTION_PX)
        self._name.returnPressed.connect(self._import)
        self._import_button = button(tr("Import"), self._import, kind="primary")
        self._naming = QWidget()
        naming = QHBoxLayout(self._naming)
        naming.setContentsMargins(0, 0, 0, 0)
        naming.setSpacing(theme.SPACE)
        naming.addWidget(label(tr("Name")))
        naming.addWidget(self._name)
        naming.addWidget(self._import_button)
        naming.addStretch()
        self._naming.hide()
        head = QHBoxLayout()
        head.addWidget(self._title, 1)
        head.addWidget(IconButton("x", tr("Close"), self.closed.emit), 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE_L)
        column.setSpacing(theme.SPACE)
        for part in (head, self._about, self._naming):
            column.addLayout(part) if isinstance(part, QHBoxLayout) else column.addWidget(part)

    def show_checked(self, job: Job) -> None:
        """Say what the check found."""
        told = job.outcome
        name = self.file.name
        if job.state == "failed":
            self._title.setText(tr("{name} cannot be used", name=name))
            self._about.setText(f"{job.error}\n{job.hint}".strip())
            return
        if not told.get("loadable"):
            self._title.setText(tr("{name} does not fit the network it looks like", name=name))
            self._about.setText(tr("{difference}.", difference=str(told.get("difference", ""))))
            return
        self._title.setText(tr("{name} is {what}", name=name, what=_what_it_is(told)))
        facts = [
            tr("{n} numbers, all {tensors} tensors fit.", n=int(told["parameters"]), tensors=int(told["matched"])),
            *map(str, told.get("notices", [])),
        ]
        self._about.setText(" ".join(facts))
        self._naming.show()
        self._name.setFocus()
        self._name.selectAll()

    def show_failed(self, job: Job) -> None:
        """Say why it could not be imported; another name can be tried."""
        self._about.setText(f"{job.error}\n{job.hint}".strip())
        self._import_button.setEnabled(True)

    def _import(self) -> None:
        if self._name.text().strip():
            self._import_button.setEnabled(False)
            self.wanted.emit(self._name.text().strip())


_LAYOUTS = {
    "native": "dinoviz",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "hf-vit": "Hugging Face",
    "hf-dinov2": "Hugging Face",
    "timm": "timm",
    "torchvision": "torchvision",
}


def _what_it_is(told: dict) -> str:
    """Return what a checked file holds: a vision transformer of width 384, 12 blocks, …, as DINOv2 writes it."""
    shape = told["shape"]
    layout = _LAYOUTS.get(str(told["layout"]), str(told["layout"]))
    if "heads" not in shape:
        return tr("a residual network, as {layout} writes it", layout=layout)
    vit = VitShape(**shape)
    return tr(
        "a vision transformer {name}: {depth} blocks, {heads} heads, patches of {patch} px, as {layout} writes it",
        name=name_of(vit),
        depth=vit.depth,
        heads=vit.heads,
        patch=vit.patch,
        layout=layout,
    )
