"""The curves of runs: a dozen charts beside each other, runs over each other, with the lines at which a run collapses.

What is drawn is read from the events of the runs (`run_log`); a run that is being made is read on twice a second.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QSlider, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import Segmented, clear, label
from dinoviz.views.train.charts import Chart, Curve, Lens, Mark, short
from dinoviz.views.train.log import Axis, RunLog, condensed, smoothed
from dinoviz.watching import follow
from dinoviz.words import run_name, tr
from engine.quantities import size_in_words
from engine.training.guard import NEIGHBOURS_FLOOR
from engine.training.health import NARROW
from engine.training.schedules import moment

COLUMN_PX = 300
"""Least width of a chart; the window has as many columns as fit."""
PLAN_POINTS = 160
MOST_SMOOTHED = 100
MOST_SMOOTHED_POINTS = 8192
"""Beyond, neighbouring measurements become their mean before they are smoothed: more than any screen has columns."""
SCHEDULES = ("learning_rate", "weight_decay", "momentum", "teacher_temperature")
GUARDED = ("guard_score", "neighbours_of_start", "gauge_rank")
EXACT = (*SCHEDULES, "knn", "neighbours_kept", *GUARDED, "memory_bytes")
"""Not smoothed: known to the step, or measured seldom."""
NOT_DRAWN = {"epoch", "centre_norm"}
"""Measured, but said by the axis or of no use to look at."""
SLIDER_PX = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: the number it shows, and what a person should know of it."""

    name: str
    title: str
    tip: str
    marks: Callable[[float], tuple[Mark, ...]] = lambda _ln_k: ()
    number: Callable[[float], str] = short


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def panels() -> tuple[Panel, ...]:
    """Return the charts, in the order they are looked at."""
    return (
        Panel(
            name="loss",
            title=tr("Loss"),
            tip=tr(
                "How badly the student guesses what the teacher answers. It falls and rises as the teacher moves; at "
                "ln K nothing is learnt, as all answers are uniform."
            ),
            marks=lambda ln_k: (Mark(value=ln_k, text=tr("ln K: nothing learnt"), is_bad=True),) if ln_k else (),
        ),
        Panel(
            name="dino",
            title=tr("Term: whole pictures (DINO)"),
            tip=tr("The part of the loss that compares the answers for whole crops, [CLS] with [CLS]."),
        ),
        Panel(
            name="ibot",
            title=tr("Term: hidden patches (iBOT)"),
            tip=tr("The part of the loss for guessing the teacher's answer to patches that the student does not see."),
        ),
        Panel(
            name="koleo",
            title=tr("Term: spread (KoLeo)"),
            tip=tr("The part of the loss that pushes pictures apart; it may be below 0."),
        ),
        Panel(
            name="knn",
            title=tr("k-NN accuracy"),
            tip=tr(
                "Share of held-out pictures whose nearest neighbours carry their label. Labels are for measuring only; "
                "nothing learns from them."
            ),
            number=_percent,
        ),
        Panel(
            name="neighbours_kept",
            title=tr("Neighbours kept"),
            tip=tr(
                "Share of each picture's neighbours that it had at the last measurement too. It rises to 100 % as the "
                "features settle."
            ),
            number=_percent,
        ),
        Panel(
            name="guard_score",
            title=tr("Features beside those of the start"),
            tip=tr(
                "1 is as good as the weights the run started from, by labels where there are some and by the spread of "
                "features where not. Where it falls, the run goes back to its best and halves the learning rate; the "
                "last point is what is kept."
            ),
            marks=lambda _ln_k: (Mark(value=1.0, text=tr("1: as at the start")),),
            number=lambda value: f"{value:.3f}",
        ),
        Panel(
            name="neighbours_of_start",
            title=tr("Neighbours of the start"),
            tip=tr(
                "Share of each picture's neighbours that it had at the start too, beyond chance. Below 30 % most of "
                "what the weights knew is overwritten."
            ),
            marks=lambda _ln_k: (Mark(value=NEIGHBOURS_FLOOR, text=tr("30 %"), is_bad=True),),
            number=_percent,
        ),
        Panel(
            name="gauge_rank",
            title=tr("Directions in use, all measured pictures"),
            tip=tr("How many directions the features of the measured pictures vary along; fewer say less."),
        ),
        Panel(
            name="teacher_entropy",
            title=tr("Teacher entropy"),
            tip=tr(
                "How unsure the teacher is of each single picture. At ln K every answer is uniform, at 0 each picture "
                "has one prototype; well between, or low with many prototypes in use, is healthy."
            ),
            marks=lambda ln_k: (
                Mark(value=ln_k, text=tr("ln K: uniform"), is_bad=True),
                Mark(value=0.0, text=tr("0: one prototype a picture")),
            ),
        ),
        Panel(
            name="patch_entropy",
            title=tr("Teacher entropy, patches"),
            tip=tr("How unsure the teacher is of each single patch; read as that of whole pictures."),
            marks=lambda ln_k: (Mark(value=ln_k, text=tr("ln K: uniform"), is_bad=True),) if ln_k else (),
        ),
        Panel(
            name="marginal_entropy",
            title=tr("Entropy of all answers"),
            tip=tr(
                "How many prototypes are in use over all pictures together. Near 0 all pictures get the same one: "
                "a collapse."
            ),
            marks=lambda ln_k: (
                Mark(value=ln_k, text=tr("ln K: all in use")),
                Mark(value=NARROW * ln_k, text=tr("one for all"), is_bad=True),
            ),
        ),
        Panel(
            name="kl",
            title=tr("KL teacher to student"),
            tip=tr("How far the student's answers are from the teacher's. At 0 there is nothing left to learn from."),
            marks=lambda _ln_k: (Mark(value=0.0, text=tr("0: no difference")),),
        ),
        Panel(
            name="feature_std",
            title=tr("Spread of features"),
            tip=tr("1 where features of different pictures point evenly in all directions, 0 where all point one way."),
            marks=lambda _ln_k: (
                Mark(value=1.0, text=tr("1: even")),
                Mark(value=0.0, text=tr("0: all alike"), is_bad=True),
            ),
        ),
        Panel(
            name="effective_rank",
            title=tr("Directions in use"),
            tip=tr("How many directions the features of a batch vary along. Below 2 they lie on a line: a collapse."),
        ),
        Panel(
            name="gradient_norm",
            title=tr("Gradient norm"),
            tip=tr("Length of all gradients together, each tensor clipped. Sudden peaks say: a lower learning rate."),
        ),
        Panel(
            name="learning_rate",
            title=tr("Learning rate"),
            tip=tr("Size of a step; dotted as it is planned."),
        ),
        Panel(
            name="momentum",
            title=tr("Teacher momentum"),
            tip=tr("How slowly the teacher follows the student; 1 is not at all. Dotted as it is planned."),
            number=lambda value: f"{value:.5g}",
        ),
        Panel(
            name="teacher_temperature",
            title=tr("Teacher temperature τ"),
            tip=tr("Sharpness of the teacher's answers; lower is sharper. Dotted as it is planned."),
        ),
        Panel(
            name="weight_decay",
            title=tr("Weight decay"),
            tip=tr("Pull of the weights towards 0; dotted as it is planned."),
        ),
        Panel(
            name="pictures_per_s",
            title=tr("Pictures a second"),
            tip=tr("Speed over the last minute."),
        ),
        Panel(
            name="memory_bytes",
            title=tr("Memory"),
            tip=tr("Held by the process that trains; on a GPU, of the GPU."),
            number=size_in_words,
        ),
    )


def run_colour(place: int) -> QColor:
    """Return the colour of a run among those that are shown together; the first has the accent's."""
    if place == 0:
        return theme.colours().accent
    red, green, blue = theme.category_colours(place + 1)[place].tolist()
    return QColor(red, green, blue)


class CurvesPanel(QWidget):
    """The charts of one or several runs; ``bar`` has the axis to choose and a slider for smoothing, to be put anywhere.

    Args:
        on_axis: called with the axis that was chosen.
        on_smoothing: called with the number of measurements to take the mean of.
    """

    def __init__(self, on_axis: Callable[[Axis], object], on_smoothing: Callable[[int], object]) -> None:
        super().__init__()
        self._logs: tuple[RunLog, ...] = ()
        self._axis: Axis = "step"
        self._over = 1
        self._shown: list[tuple[Path, int]] = []
        self._n_columns = 0
        self.lens = Lens()
        self.axis = Segmented(
            [("step", tr("Steps")), ("pictures", tr("Pictures")), ("time", tr("Minutes"))], on_axis, tr("Axis")
        )
        self.smoothing = QSlider(Qt.Orientation.Horizontal)
        self.smoothing.setRange(1, MOST_SMOOTHED)
        self.smoothing.setFixedWidth(SLIDER_PX)
        self.smoothing.setAccessibleName(tr("Smoothing"))
        self.smoothing.setToolTip(
            tr("Mean over so many measurements; what was measured stays behind it, faint. k-NN is left as measured.")
        )
        self.smoothing.valueChanged.connect(lambda over: None if over == self._over else on_smoothing(over))
        self._legend = QHBoxLayout()
        self._legend.setSpacing(theme.SPACE_L)
        self.bar = QWidget()
        bar = QHBoxLayout(self.bar)
        bar.setContentsMargins(0, 0, 0, 0)
        bar.addWidget(self.axis)
        bar.addSpacing(theme.SPACE_L)
        bar.addWidget(label(tr("Smoothing"), "small"))
        bar.addWidget(self.smoothing)
        self.charts = {
            panel.name: (panel, Chart(panel.title, panel.tip, self.lens, panel.number)) for panel in panels()
        }
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._grid = QGridLayout(inside)
        self._grid.setContentsMargins(0, 0, theme.SPACE, theme.SPACE)
        self._grid.setSpacing(theme.SPACE)
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setWidget(inside)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(self._legend)
        column.addWidget(self._area)
        follow(self, theme.changed, self.draw)

    def set_axis(self, axis: Axis) -> None:
        """Draw over steps, pictures or minutes."""
        self.axis.set_value(axis)
        if axis != self._axis:
            self._axis = axis
            self.lens.show_all()
            self.draw()

    def set_smoothing(self, over: int) -> None:
        """Draw means over so many measurements."""
        if over != self._over:
            self._over = over
            self.smoothing.setValue(over)
            self.draw()

    def show_runs(self, logs: Sequence[RunLog]) -> None:
        """Show some runs over each other, the first in the accent colour."""
        is_other = [log.number for log in logs] != [log.number for log in self._logs]
        shown = [(log.run, log.version) for log in logs]
        self._logs = tuple(logs)
        if is_other:
            self._write_legend()
            self.lens.show_all()
        if shown != self._shown:
            self._shown = shown
            self.draw()

    def _write_legend(self) -> None:
        clear(self._legend)
        if len(self._logs) < 2:
            return
        for place, log in enumerate(self._logs):
            dot = QLabel("●")
            palette = dot.palette()
            palette.setColor(dot.foregroundRole(), run_colour(place))
            dot.setPalette(palette)
            pair = QHBoxLayout()
            pair.setSpacing(theme.SPACE_S)
            pair.addWidget(dot)
            pair.addWidget(label(run_name(log.number), "small"))
            self._legend.addLayout(pair)
        self._legend.addStretch()

    def draw(self) -> None:
        """Draw what the runs told so far."""
        measured = {name for log in self._logs for name in log.names} - NOT_DRAWN
        for name in sorted(measured - self.charts.keys()):  # of an objective that has numbers of its own
            panel = Panel(name=name, title=name.replace("_", " ").capitalize(), tip=tr("Told by the objective."))
            self.charts[name] = panel, Chart(panel.title, panel.tip, self.lens, panel.number)
        shown = [name for name in self.charts if name in measured]
        self._lay_out(shown)
        ends = [
            float(log.places(np.array([float(max(log.step, log.plan.steps))]), self._axis)[0]) for log in self._logs
        ]
        self.lens.set_whole(0.0, max(ends, default=1.0))
        for name in shown:
            panel, chart = self.charts[name]
            ln_k = max((log.ln_k for log in self._logs), default=math.log(2))
            newest = [value for log in self._logs if (value := log.last(name)) is not None]
            chart.show_curves(partial(self._curves_of, name), panel.marks(ln_k), newest)

    def _curves_of(self, name: str) -> list[Curve]:
        curves = []
        for place, log in enumerate(self._logs):
            colour = run_colour(place)
            if name in SCHEDULES:
                curves.append(self._planned(name, log, colour))
            x, y = log.series(name, self._axis)
            title = run_name(log.number)
            if self._over == 1 or name in EXACT:
                curves.append(Curve(name=title, colour=colour, x_N=x, y_N=y))
                continue
            curves.append(Curve(name=title, colour=colour, x_N=x, y_N=y, is_raw=True))
            x, y, each = condensed(x, y, MOST_SMOOTHED_POINTS)
            mean = smoothed(y, max(1, self._over // each))
            curves.append(Curve(name=title, colour=colour, x_N=x, y_N=mean))
        return curves

    def _planned(self, name: str, log: RunLog, colour: QColor) -> Curve:
        """Return a schedule as the plan has it, from the first step to the last."""
        steps = np.unique(np.linspace(0, log.plan.steps - 1, PLAN_POINTS).round())
        values = np.array([getattr(moment(log.plan, int(step)), name) for step in steps])
        return Curve(name="", colour=colour, x_N=log.places(steps, self._axis), y_N=values, is_plan=True)

    def _lay_out(self, shown: Sequence[str]) -> None:
        """Put the charts that have something to show into as many columns as there is room for."""
        n_columns = max(1, (self._area.viewport().width() - theme.SPACE) // COLUMN_PX)
        placed = [chart for _, chart in self.charts.values() if self._grid.indexOf(chart) >= 0]
        wanted = [self.charts[name][1] for name in shown]
        if placed == wanted and n_columns == self._n_columns:
            return
        self._n_columns = n_columns
        for chart in placed:
            self._grid.removeWidget(chart)
            chart.setVisible(chart in wanted)
        for i, chart in enumerate(wanted):
            self._grid.addWidget(chart, i // n_columns, i % n_columns)
            chart.show()
        for column in range(self._grid.columnCount()):
            self._grid.setColumnStretch(column, 1 if column < n_columns else 0)

    def resizeEvent(self, event: object) -> None:
        """Use the room there is."""
        shown = [name for name, (_, chart) in self.charts.items() if self._grid.indexOf(chart) >= 0]
        self._lay_out(shown)
