"""The probe pictures of one or several runs over training time: what they are seen as, a scrubber, before and after."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSlider, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import EmptyState, IconButton, Segmented, clear, label
from dinoviz.views.train.film import Kind, ProbeFilm
from dinoviz.views.train.log import RunLog
from dinoviz.views.train.probe_sheet import ProbeSheet, kind_names
from dinoviz.words import run_name, tr

PLACES = 1000
"""Positions of the scrubber; more than any run has kept steps."""
FRAME_MS = 160
"""Between two steps while it plays."""

OnKind = Callable[[Kind], object]


class ProbesStrip(QWidget):
    """The probe pictures.

    Args:
        on_kind: called with what is to lie over the pictures.
        on_before_after: called with whether a divider is wanted.
    """

    def __init__(self, on_kind: OnKind, on_before_after: Callable[[bool], object]) -> None:
        super().__init__()
        self._films: tuple[ProbeFilm, ...] = ()
        self._logs: dict[int, RunLog] = {}
        self._kind: Kind = "attention"
        self._has_divider = False
        self._divider = 0.5
        self._sheets: dict[int, ProbeSheet] = {}
        self.kind = Segmented(kind_names(), on_kind, tr("What lies over the pictures"))
        self.kind.set_tip("attention", tr("Where the network's summary of the picture, [CLS], looks: bright is more."))
        self.kind.set_tip("mask", tr("The patches that hold 60 % of that attention; the rest is dimmed."))
        self.kind.set_tip("colours", tr("Patches in colours: alike in colour is alike to the network."))
        self.divide = IconButton(
            "split-horizontal",
            tr("Before and after: left of the divider is the first step"),
            lambda: on_before_after(not self._has_divider),
            checkable=True,
            text=tr("Before | after"),
        )
        self.play = IconButton("play", tr("Play over training"), self.toggle_play, checkable=True)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, PLACES)
        self.slider.setValue(PLACES)
        self.slider.setAccessibleName(tr("Step of training"))
        self.slider.setToolTip(tr("Drag through the training. Kept steps lie close together at the start."))
        self.slider.valueChanged.connect(self._scrubbed)
        self._when = label("", "muted")
        self._when.setFont(theme.font("number"))
        self._timer = QTimer(self)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self._next_frame)
        bar = QHBoxLayout()
        bar.setSpacing(theme.SPACE)
        for part in (self.kind, self.divide):
            bar.addWidget(part)
        bar.addStretch()
        bar.addWidget(self._when)
        scrubber = QHBoxLayout()
        scrubber.setSpacing(theme.SPACE)
        scrubber.addWidget(self.play)
        scrubber.addWidget(self.slider, 1)
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._columns = QHBoxLayout(inside)
        self._columns.setContentsMargins(0, 0, theme.SPACE, theme.SPACE)
        self._columns.setSpacing(theme.SPACE_L)
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setWidget(inside)
        self._nothing = EmptyState(
            "images",
            tr("No probe pictures yet"),
            tr(
                "A run looks at a few pictures again and again while it learns, and keeps what it saw: from the first "
                "step on, unless its setting Probe pictures is 0 or its backbone is no transformer."
            ),
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(bar)
        column.addLayout(scrubber)
        column.addWidget(self._area, 1)
        column.addWidget(self._nothing, 1)
        self.show_films((), {})

    def set_kind(self, kind: Kind) -> None:
        """Lay something else over the pictures."""
        self.kind.set_value(kind)
        if kind != self._kind:
            self._kind = kind
            self.draw()

    def set_before_after(self, has_divider: bool) -> None:
        """Show a divider, or not."""
        if self.divide.isChecked() != has_divider:
            self.divide.setChecked(has_divider)
        if has_divider != self._has_divider:
            self._has_divider = has_divider
            self.draw()

    def show_films(self, films: Sequence[ProbeFilm], logs: dict[int, RunLog]) -> None:
        """Show what some runs saw, side by side; ``logs`` say how good they were, by number."""
        films = [film for film in films if film.steps]
        if [film.number for film in films] != [film.number for film in self._films]:
            self._lay_out(films)
        self._films, self._logs = tuple(films), logs
        self._area.setVisible(bool(films))
        self._nothing.setVisible(not films)
        for part in (self.divide, self.play, self.slider):
            part.setEnabled(bool(films))
        self.draw()

    def _lay_out(self, films: Sequence[ProbeFilm]) -> None:
        clear(self._columns)
        self._sheets.clear()
        for film in films:
            name = run_name(film.number)
            column = QVBoxLayout()
            column.setSpacing(theme.SPACE)
            if len(films) > 1:
                column.addWidget(label(name, "heading"))
            sheet = ProbeSheet(tr("Probe pictures of {run}", run=name))
            sheet.divided.connect(self._divided)
            self._sheets[film.number] = sheet
            column.addWidget(sheet)
            column.addStretch()
            self._columns.addLayout(column, 1)

    @property
    def share(self) -> float:
        """Where the scrubber stands, 0 to 1."""
        return self.slider.value() / PLACES

    def draw(self) -> None:
        """Draw the pictures at the step of the scrubber."""
        divider = self._divider if self._has_divider else None
        for film in self._films:
            self._sheets[film.number].show_film(film, self._kind, film.step_at(self.share), divider)
        self._when.setText(self._in_words())

    def _in_words(self) -> str:
        if not self._films:
            return ""
        film = self._films[0]
        step = film.step_at(self.share)
        log = self._logs.get(film.number)
        said = tr("step {step}", step=step)
        if log is None:
            return said
        steps, scores = log.series("knn")
        seen = scores[steps <= step]
        knn = tr(" · k-NN {share} %", share=f"{100 * seen[-1]:.0f}") if len(seen) else ""
        told = tr("step {step} of {steps}{knn}", step=step, steps=log.plan.steps, knn=knn)
        return tr("left: step {first} · right: {told}", first=film.steps[0], told=told) if self._has_divider else told

    def _scrubbed(self, _value: int) -> None:
        self.draw()

    def step(self, by: int) -> None:
        """Go ``by`` kept steps further."""
        if self._films:
            n = max(1, len(self._films[0].steps) - 1)
            self.slider.setValue(round((round(self.share * n) + by) / n * PLACES))

    def toggle_play(self) -> None:
        """Play from the first step, or hold."""
        if self._timer.isActive():
            self._hold()
            return
        if self.slider.value() == PLACES:
            self.slider.setValue(0)
        self.play.setChecked(True)
        self._timer.start()

    def _hold(self) -> None:
        self._timer.stop()
        self.play.setChecked(False)

    def _next_frame(self) -> None:
        self.step(1)
        if self.slider.value() >= PLACES or not self.isVisible():
            self._hold()

    def _divided(self, share: float) -> None:
        self._divider = share
        self.draw()
