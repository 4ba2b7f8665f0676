"""One run: how far it is, what is wrong with it, curves, probe pictures, settings and log, and what to do with it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QStackedWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import IconButton, Segmented, button, label
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.run_states import state_in_words
from dinoviz.views.train import run_plan
from dinoviz.views.train.curves import CurvesPanel
from dinoviz.views.train.film import ProbeFilm
from dinoviz.views.train.infos import RunInfo
from dinoviz.views.train.log import RunLog
from dinoviz.views.train.probes import ProbesStrip
from dinoviz.views.train.runs import PER_MILLE, STATE_KIND, knn_in_words, progress_in_words
from dinoviz.widgets.flow import Flow
from dinoviz.words import run_name, time_roughly, tr
from engine.settings import SECTIONS
from engine.training.health import FIRST_STEP

TABS = ("curves", "pictures", "settings", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doings:
    """What a run's page asks its view to do."""

    stop: Callable[[], object]
    resume: Callable[[], object]
    stay: Callable[[], object]
    use: Callable[[], object]
    embed: Callable[[], object]
    again: Callable[[], object]
    reveal: Callable[[], object]
    trash: Callable[[], object]
    rename: Callable[[str], object]
    copy_command: Callable[[], object]


class RunPage(QWidget):
    """The page of a run.

    Args:
        desk: of the window.
        do: what its buttons do.
    """

    def __init__(self, desk: Desk, do: Doings) -> None:
        super().__init__()
        self._desk = desk
        self._do = do
        self._settings_of: Path | None = None
        self._failure: list[tuple[str, str]] = []
        self.curves = CurvesPanel(
            lambda axis: self._choose(axis=axis), lambda smoothing: self._choose(smoothing=smoothing)
        )
        self.probes = ProbesStrip(
            lambda kind: self._choose(probe_kind=kind), lambda is_divided: self._choose(is_before_after=is_divided)
        )
        self.settings = QTreeWidget()
        self.settings.setColumnCount(3)
        self.settings.setHeaderLabels([tr("Setting"), tr("Value"), tr("Why")])
        self.settings.setAccessibleName(tr("Settings of the run"))
        self.settings.setRootIsDecorated(False)
        self.settings.setUniformRowHeights(True)
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setAccessibleName(tr("Log of the run"))
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.tabs = Segmented(
            [
                ("curves", tr("Curves")),
                ("pictures", tr("Probe pictures")),
                ("settings", tr("Settings")),
                ("log", tr("Log")),
            ],
            lambda tab: self._choose(tab=tab),
            tr("Parts of the page"),
        )
        self._healthy = label(tr("No sign of collapse"), "good")
        self._healthy.setMinimumHeight(self.tabs.sizeHint().height())
        self._healthy.setToolTip(
            tr(
                "The teacher tells pictures apart, uses many prototypes, and features point in many directions. "
                "Whether they are useful is for k-NN and your eyes."
            )
        )
        self._stack = QStackedWidget()
        for part in (self.curves, self.probes, self.settings, self.log):
            self._stack.addWidget(part)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(self._head())
        column.addLayout(self._progress())
        column.addWidget(self._diagnosis())
        column.addSpacing(theme.SPACE_S)
        bars = QWidget()
        row = Flow(bars, theme.SPACE_L)
        for part in (self.tabs, self.curves.bar, self._healthy):
            row.addWidget(part)
        column.addWidget(bars)
        column.addWidget(self._stack, 1)

    def _choose(self, **changes: object) -> None:
        self._desk.session.set_choices("train", **changes)

    def _head(self) -> QHBoxLayout:
        self._title = label("", "title")
        self._about = QLineEdit()
        self._about.setAccessibleName(tr("Name of the run"))
        self._about.setToolTip(tr("Click to call it something else"))
        self._about.setMaximumWidth(320)
        self._about.setMinimumWidth(96)
        self._about.editingFinished.connect(self._renamed)
        self._state = label("", "small")
        self.stop = button(tr("Stop"), self._do.stop, icon="stop", tip=tr("Ends with a checkpoint; go on any time"))
        self.resume = button(tr("Resume"), self._do.resume, kind="primary", tip=tr("Goes on where it ended"))
        self.use = button(
            tr("Use this backbone"), self._do.use, tip=tr("Look, find and compare through what it has learnt so far")
        )
        self.embed = button(
            tr("Features and map"), self._do.embed, tip=tr("Compute the features of all pictures with it, then a map")
        )
        self._more = IconButton("dots-three", tr("More"), self._open_menu)
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE)
        row.addWidget(self._title)
        row.addWidget(self._about)
        row.addWidget(self._state)
        row.addStretch()
        for part in (self.stop, self.resume, self.use, self.embed, self._more):
            row.addWidget(part)
        return row

    def _open_menu(self) -> None:
        menu = QMenu(self)
        menu.addAction(theme.icon("copy-simple"), tr("New run with these settings"), self._do.again)
        menu.addAction(theme.icon("command"), tr("Copy as command"), self._do.copy_command)
        menu.addAction(theme.icon("folder"), tr("Reveal in the file manager"), self._do.reveal)
        menu.addSeparator()
        trash = menu.addAction(theme.icon("trash"), tr("Move to the trash…"), self._do.trash)
        trash.setEnabled(not self.stop.isVisible())
        menu.popup(self._more.mapToGlobal(self._more.rect().bottomLeft()))

    def _progress(self) -> QVBoxLayout:
        self._bar = QProgressBar()
        self._bar.setRange(0, PER_MILLE)
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName(tr("Progress of the run"))
        self._far = label("", "muted")
        self._far.setFont(theme.font("number"))
        self.stay: QPushButton = button(
            tr("Keep it running when I close the window"), self._do.stay, kind="link",
            tip=tr("Otherwise closing the window stops it with a checkpoint"),
        )  # fmt: skip
        self._stays = label(tr("Goes on when the window closes"), "small")
        row = QHBoxLayout()
        row.addWidget(self._far)
        row.addStretch()
        row.addWidget(self.stay)
        row.addWidget(self._stays)
        column = QVBoxLayout()
        column.setSpacing(theme.SPACE_S)
        column.addWidget(self._bar)
        column.addLayout(row)
        return column

    def _diagnosis(self) -> QFrame:
        card = QFrame()
        card.setProperty("kind", "card")
        row = QHBoxLayout(card)
        row.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE_L, theme.SPACE)
        row.setSpacing(theme.SPACE)
        self._ailment_icon = QLabel()
        self._ailment = label("", "strong", wraps=True)
        self._remedy = label("", "muted", wraps=True)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self._ailment)
        words.addWidget(self._remedy)
        again = button(
            tr("Try other settings"), self._do.again, kind="link", tip=tr("Prepare a new run that begins with these")
        )
        words.addWidget(again, 0, Qt.AlignmentFlag.AlignLeft)
        row.addWidget(self._ailment_icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        self._card = card
        card.hide()
        return card

    # Drawing.

    def show_run(self, info: RunInfo, job: Job | None, failure: Job | None, *, is_used: bool) -> None:
        """Show how a run is.

        Args:
            info: the run.
            job: of this window that trains it, None where another process does, or nobody.
            failure: the newest job of this window that could not go on with it.
            is_used: the window looks through its backbone.
        """
        self._title.setText(run_name(info.number))
        if not self._about.hasFocus() and self._about.text() != info.about:
            self._about.setText(info.about)
            self._about.setCursorPosition(0)
        self._state.setText(state_in_words(info.state))
        if self._state.property("kind") != STATE_KIND[info.state]:
            self._state.setProperty("kind", STATE_KIND[info.state])
            self._state.style().polish(self._state)
        is_stopping = job is not None and job.state == "stopping"
        self.stop.setVisible(info.state == "running")
        self.stop.setEnabled(not is_stopping)
        self.stop.setText(tr("Stopping…") if is_stopping else tr("Stop"))
        self.resume.setVisible(info.can_resume)
        self.use.setEnabled(info.has_weights and not is_used)
        self.use.setText(tr("In use") if is_used else tr("Use this backbone"))
        self.embed.setEnabled(info.has_weights)
        is_told = failure is not None and info.state == "failed"
        self._failure = [(failure.error, failure.hint)] if failure is not None and is_told else []
        self._bar.setValue(round(PER_MILLE * info.share))
        self._bar.setVisible(info.state != "finished")
        self._far.setText(_far_in_words(info, job))
        is_own = job is not None and info.state == "running"
        self.stay.setVisible(is_own and job is not None and not job.stays)
        self._stays.setVisible(info.state == "running" and (job is None or job.stays))

    def show_logs(self, logs: Sequence[RunLog]) -> None:
        """Show what runs told: the first is the one of the page, the others are compared with it."""
        train = self._desk.session.state.choices.train
        self.curves.set_axis(train.axis)  # type: ignore[arg-type]
        self.curves.set_smoothing(train.smoothing)
        self.curves.show_runs(logs)
        if not logs:
            return
        self._show_diagnosis(logs[0])
        self._show_log(logs[0])
        if self._settings_of != logs[0].run:
            self._settings_of = logs[0].run
            self._show_settings(logs[0])

    def show_films(self, films: Sequence[ProbeFilm], logs: Mapping[int, RunLog]) -> None:
        """Show what runs saw in their probe pictures."""
        train = self._desk.session.state.choices.train
        self.probes.set_kind(train.probe_kind)  # type: ignore[arg-type]
        self.probes.set_before_after(train.is_before_after)
        self.probes.show_films(films, dict(logs))

    def show_tab(self, tab: str) -> None:
        """Bring a part of the page to the front."""
        self.tabs.set_value(tab)
        self._stack.setCurrentIndex(TABS.index(tab) if tab in TABS else 0)
        self.curves.bar.setVisible(self._stack.currentWidget() is self.curves)

    def _show_diagnosis(self, log: RunLog) -> None:
        found = [*self._failure, *log.diagnosis()]
        self._card.setVisible(bool(found))
        self._healthy.setVisible(not found and log.step >= FIRST_STEP)
        if found:
            self._ailment_icon.setPixmap(theme.icon("warning", "warning").pixmap(theme.ICON_PX, theme.ICON_PX))
            self._ailment.setText("\n".join(text[:1].upper() + text[1:] for text, _ in found))
            hints = dict.fromkeys(run_plan.as_the_form_says(hint) for _, hint in found)
            self._remedy.setText("\n".join(hints))

    def _show_settings(self, log: RunLog) -> None:
        self.settings.clear()
        values, asked = log.plan.values(), run_plan.asked_of(log.plan).asked
        for section, settings in SECTIONS.items():
            if section not in log.plan.heeded:
                continue
            head = QTreeWidgetItem([run_plan.heading_of(section)])
            head.setFont(0, theme.font("strong"))
            self.settings.addTopLevelItem(head)
            for name in settings.model_fields:
                why = tr("your choice") if name in asked else log.plan.reasons.get(name, tr("the usual value"))
                row = QTreeWidgetItem([run_plan.label_of(name), run_plan.said(values[name]) or tr("none"), why])
                row.setToolTip(0, run_plan.help_of(name))
                head.addChild(row)
            head.setExpanded(True)
        for column, width in enumerate((240, 160)):
            self.settings.setColumnWidth(column, width)

    def _show_log(self, log: RunLog) -> None:
        text = "\n".join(log.lines)
        if text != self.log.toPlainText():
            self.log.setPlainText(text)

    def _renamed(self) -> None:
        if self._about.isModified() and self._about.text().strip():
            self._about.setModified(False)
            self._do.rename(self._about.text().strip())


def _far_in_words(info: RunInfo, job: Job | None) -> str:
    """Return how far a run is; of one of this window, as it told last."""
    progress = job.progress if job and not job.is_over else None
    if progress is None or progress.unit != "pictures" or progress.what != "training":
        if progress is not None and info.step == 0:
            return tr("{what}: {done} of {total}", what=progress.what, done=progress.done, total=progress.total)
        return progress_in_words(info)
    parts = [tr("step {step} of {steps}", step=progress.done // info.batch, steps=info.steps)]
    if progress.rate:
        parts.append(tr("{rate} pictures/s", rate=f"{progress.rate:,.0f}"))
    if progress.eta_s is not None:
        parts.append(tr("about {time} left", time=time_roughly(progress.eta_s)))
    if progress.note:
        parts.append(progress.note)
    if info.knn is not None:
        parts.append(knn_in_words(info))
    return " · ".join(parts)
