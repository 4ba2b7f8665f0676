"""The runs of a project as cards: how each is, how far, how good; one is looked at, others compared with it."""

import time
from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import Elided, IconButton, label
from dinoviz.run_states import state_in_words
from dinoviz.views.train.infos import RunInfo
from dinoviz.words import run_name, time_roughly, tr

PER_MILLE = 1000
STATE_KIND = {"running": "good", "finished": "small", "stopped": "small", "failed": "danger", "interrupted": "warning"}


def progress_in_words(info: RunInfo) -> str:
    """Return how far a run is and how long it will still take."""
    parts = [tr("step {step} of {steps}", step=info.step, steps=info.steps)] if info.steps else []
    if info.state == "running" and info.seconds_left is not None:
        parts.append(tr("about {time} left", time=time_roughly(info.seconds_left)))
    if info.knn is not None:
        parts.append(knn_in_words(info))
    return " · ".join(parts)


def knn_in_words(info: RunInfo) -> str:
    """Return how good a run was when that was last measured, and at which step where it has gone on since."""
    assert info.knn is not None
    share = f"{100 * info.knn:.1f}"
    if info.knn_step == info.step:
        return tr("k-NN {share} %", share=share)
    return tr("k-NN {share} % at step {step}", share=share, step=info.knn_step)


def started_in_words(started: float, now: float | None = None) -> str:
    """Return when a run was started: 14:05 today, else the day."""
    then, today = time.localtime(started), time.localtime(now)
    is_today = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if is_today else "%d %b %Y", then)


class RunCard(QFrame):
    """One run.

    Signals:
        chosen(): it was clicked, or Return or Space pressed on it.
        moved(by): the arrow keys.
    """

    chosen = Signal()
    moved = Signal(int)

    def __init__(self, number: int, on_compare: Callable[[int], object]) -> None:
        super().__init__()
        self.number = number
        self._is_shown = False
        self.setProperty("kind", "card")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._name = label(run_name(number), "strong")
        self._state = label("", "small")
        self._about = Elided()
        self._bar = QProgressBar()
        self._bar.setRange(0, PER_MILLE)
        self._bar.setTextVisible(False)
        self._far = Elided()
        self.compare = IconButton(
            "chart-line", tr("Compare: draw its curves over those of the run you look at"),
            lambda: on_compare(number), checkable=True,
        )  # fmt: skip
        keep = self.compare.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.compare.setSizePolicy(keep)
        top = QHBoxLayout()
        top.addWidget(self._name)
        top.addWidget(self._state)
        top.addStretch()
        top.addWidget(self.compare)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE + 2, theme.SPACE_S, theme.SPACE_S, theme.SPACE)
        column.setSpacing(2)
        column.addLayout(top)
        for part in (self._about, self._far, self._bar):
            column.addWidget(part)

    def show_info(self, info: RunInfo, *, is_shown: bool, is_compared: bool) -> None:
        """Show how a run is."""
        self._about.say(tr("{about} · {when}", about=info.about, when=started_in_words(info.started)))
        _say(self._state, state_in_words(info.state))
        if self._state.property("kind") != STATE_KIND[info.state]:
            self._state.setProperty("kind", STATE_KIND[info.state])
            self._state.style().polish(self._state)
        self._far.say(progress_in_words(info))
        self._bar.setVisible(info.state != "finished")
        self._bar.setValue(round(PER_MILLE * info.share))
        self.compare.setVisible(not is_shown)
        if self.compare.isChecked() != is_compared:
            self.compare.setChecked(is_compared)
        if is_shown != self._is_shown:
            self._is_shown = is_shown
            self.setProperty("hot", "true" if is_shown else "false")
            self.style().unpolish(self)
            self.style().polish(self)
        told = f"{run_name(self.number)}, {state_in_words(info.state)}, {progress_in_words(info)}"
        self.setAccessibleName(told)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Look at it."""
        self.chosen.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Look at it, or go to the next."""
        match event.key():
            case Qt.Key.Key_Return | Qt.Key.Key_Enter | Qt.Key.Key_Space:
                self.chosen.emit()
            case Qt.Key.Key_Down:
                self.moved.emit(1)
            case Qt.Key.Key_Up:
                self.moved.emit(-1)
            case _:
                super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the ring of the focus over the card."""
        super().paintEvent(event)
        if self.hasFocus():
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(theme.colours().accent, 1.5))
            painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), 8, 8)


def _say(widget: QLabel, text: str) -> None:
    if widget.text() != text:
        widget.setText(text)


class RunsList(QScrollArea):
    """All runs, the newest first.

    Args:
        on_choose: called with the number of the run to look at.
        on_compare: called with the number of a run to compare, or not any more.
    """

    def __init__(self, on_choose: Callable[[int], object], on_compare: Callable[[int], object]) -> None:
        super().__init__()
        self._on_choose, self._on_compare = on_choose, on_compare
        self.cards: dict[int, RunCard] = {}
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(tr("Runs"))
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, theme.SPACE_S, 0)
        self._column.setSpacing(theme.SPACE)
        self._column.addStretch()
        self.setWidget(inside)

    def show_infos(self, infos: Sequence[RunInfo], shown: int, compared: Sequence[int]) -> None:
        """Show the runs, which of them is looked at, and which are compared with it."""
        wanted = [info.number for info in infos]
        for number in set(self.cards) - set(wanted):
            card = self.cards.pop(number)
            self._column.removeWidget(card)
            card.deleteLater()
        for place, info in enumerate(infos):
            card = self.cards.get(info.number) or self._new_card(info.number)
            if self._column.indexOf(card) != place:
                self._column.removeWidget(card)
                self._column.insertWidget(place, card)
            card.show_info(info, is_shown=info.number == shown, is_compared=info.number in compared)

    def _new_card(self, number: int) -> RunCard:
        card = RunCard(number, self._on_compare)
        card.chosen.connect(lambda: self._on_choose(number))
        card.moved.connect(lambda by: self._step(number, by))
        self.cards[number] = card
        return card

    def _step(self, number: int, by: int) -> None:
        order = sorted(self.cards, reverse=True)
        to = order[min(max(0, order.index(number) + by), len(order) - 1)]
        self.cards[to].setFocus()
        self.ensureWidgetVisible(self.cards[to])
        self._on_choose(to)
