"""The numbers of a run as columns: what it measured at which step, read from its events and kept for drawing.

Plain Python and NumPy. A run that goes on and one that ended long ago are read by the same lines.

Letters after a name are its axes: N measurements of one number.
"""

import math
import threading
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dinoviz.words import tr
from engine.protocol import Finished, Made, Measured, Message, Noticed
from engine.recipes import Plan
from engine.run_files import EventReader, plan_of
from engine.training.health import Health

Axis = Literal["step", "pictures", "time"]
Floats = NDArray[np.float64]

RATE = "pictures_per_s"
AT_ONCE = 200
"""Measurements taken over while who draws waits: about a millisecond."""


@dataclass(slots=True)
class _Column:
    steps: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


class RunLog:
    """What a run told so far; one thread may read on while another draws.

    ``version`` grows with every measurement that was read; ``lines`` is what it said, and how good it became, in words.

    Args:
        run: its folder.
        number: of the run in its project.
    """

    def __init__(self, run: Path, number: int) -> None:
        self.run = run
        self.number = number
        self.plan: Plan = plan_of(run)
        self.lines: list[str] = []
        self.step = 0
        self.version = 0
        self._columns: dict[str, _Column] = {}
        self._reader = EventReader(run)
        self._lock = threading.Lock()

    def read_on(self) -> int:
        """Read what came since, and return how many measurements; not in the thread that draws."""
        messages, is_new = self._reader.read()
        if is_new:
            with self._lock:
                self._columns.clear()
                self.lines.clear()
                self.step = 0
        self.lines += [line for message in messages if (line := _line(message))]
        measured = [message for message in messages if isinstance(message, Measured)]
        for first in range(0, len(measured), AT_ONCE):
            with self._lock:
                for message in measured[first : first + AT_ONCE]:
                    self._take(message)
        return len(measured)

    def read_all(self) -> "RunLog":
        """Read to the end of what there is."""
        while self.read_on():
            pass
        return self

    def _take(self, message: Measured) -> None:
        self.version += 1
        self.step = message.step
        for name, value in message.values.items():
            column = self._columns.setdefault(name, _Column())
            column.steps.append(message.step)
            column.values.append(math.nan if value is None else value)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that was measured."""
        with self._lock:
            return tuple(self._columns)

    def series(self, name: str, axis: Axis = "step") -> tuple[Floats, Floats]:
        """Return where on an axis a number was measured, and what it was: (N,) and (N,); empty where it never was."""
        steps_N, values_N = self._copied(name)
        return self.places(steps_N, axis), values_N

    def _copied(self, name: str) -> tuple[Floats, Floats]:
        with self._lock:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(0), np.zeros(0)
            return np.array(column.steps), np.array(column.values)

    def places(self, steps_N: Floats, axis: Axis) -> Floats:
        """Return where steps lie on an axis: steps, pictures seen, or minutes of training."""
        if axis == "step":
            return steps_N
        if axis == "pictures":
            return steps_N * self.plan.run.batch
        known, minutes = self._minutes()
        return np.interp(steps_N, known, minutes)

    def _minutes(self) -> tuple[Floats, Floats]:
        """Return minutes of training by step: what was seen between two measurements, at the rate that was told."""
        steps, per_s = self._copied(RATE)
        if not len(steps):
            return np.zeros(1), np.zeros(1)
        usual = np.nanmedian(per_s[per_s > 0]) if (per_s > 0).any() else 1.0
        taken = np.diff(steps, prepend=0.0).clip(0) * self.plan.run.batch / np.where(per_s > 0, per_s, usual)
        return np.concatenate([[0.0], steps]), np.concatenate([[0.0], np.cumsum(taken) / 60])

    def last(self, name: str) -> float | None:
        """Return the newest value of a number, None where it was never measured."""
        with self._lock:
            column = self._columns.get(name)
            return None if column is None or math.isnan(column.values[-1]) else column.values[-1]

    def best(self, name: str) -> float | None:
        """Return the highest value of a number so far."""
        _, values = self.series(name)
        return float(np.nanmax(values)) if len(values) and not np.isnan(values).all() else None

    @property
    def ln_k(self) -> float:
        """Entropy of an answer that is spread evenly over all prototypes."""
        return math.log(max(1, self.plan.prototypes))

    def diagnosis(self) -> list[tuple[str, str]]:
        """Return what is wrong now, in words, each with what to do; empty while nothing is."""
        values = {name: value for name in self.names if (value := self.last(name)) is not None}
        watched = {"teacher_entropy", "marginal_entropy", "feature_std", "effective_rank"}
        if not watched & values.keys():
            return []
        found = Health(self.plan.prototypes).look(self.step, values)
        return [(notice.text, notice.hint) for notice in found]


def _line(message: Message) -> str:
    """Return a message as a line of the log, empty where it is a number of a curve alone."""
    match message:
        case Noticed():
            return f"{message.text} {message.hint}".strip()
        case Measured(values={"knn": float(accuracy)}):
            return tr("step {step}: k-NN accuracy {share} %", step=message.step, share=f"{100 * accuracy:.1f}")
        case Made():
            return tr("made {what}: {path}", what=message.what, path=message.path)
        case Finished():
            return tr("stopped, with a checkpoint") if message.stopped else tr("finished")
    return ""


def condensed(x_N: Floats, y_N: Floats, most: int) -> tuple[Floats, Floats, int]:
    """Return means of neighbouring values so that there are at most ``most``, and how many became one each time."""
    each = -(-len(x_N) // most)
    if each <= 1:
        return x_N, y_N, 1
    whole = len(x_N) // each * each
    parts_Pk = y_N[:whole].reshape(-1, each)
    is_gap_Pk = np.isnan(parts_Pk)
    n_P = each - is_gap_Pk.sum(axis=1)
    sums_P = np.where(is_gap_Pk, 0.0, parts_Pk).sum(axis=1)
    means_P = np.where(n_P > 0, sums_P / np.maximum(n_P, 1), np.nan)
    return x_N[:whole].reshape(-1, each).mean(axis=1), means_P, each


def smoothed(values_N: Floats, over: int) -> Floats:
    """Return the mean of each value and those around it, ``over`` of them, fewer at both ends; gaps stay gaps."""
    if over <= 1 or len(values_N) < 2:
        return values_N
    is_gap = np.isnan(values_N)
    sums = np.concatenate([[0.0], np.cumsum(np.where(is_gap, 0.0, values_N))])
    counts = np.concatenate([[0], np.cumsum(~is_gap)])
    places = np.arange(len(values_N))
    # As many before as after, so that the ends are not drawn towards the middle.
    half = np.minimum(over // 2, np.minimum(places, len(values_N) - 1 - places))
    first, end = places - half, places + half + 1
    n = counts[end] - counts[first]
    means = (sums[end] - sums[first]) / np.maximum(n, 1)
    return np.where(is_gap | (n == 0), np.nan, means)


def thinned(x_N: Floats, y_N: Floats, low: float, high: float, most: int) -> tuple[Floats, Floats]:
    """Return a curve between two places with about ``most`` points, the least and the greatest of each piece.

    Nothing that stands out is lost: a spike of one step is drawn. ``x_N`` does not fall.
    """
    first = max(0, int(np.searchsorted(x_N, low)) - 1)
    end = min(len(x_N), int(np.searchsorted(x_N, high, "right")) + 1)
    x, y = x_N[first:end], y_N[first:end]
    pieces = max(1, most // 2)
    size = len(x) // pieces
    if size < 2:
        return x, y
    whole = len(x) // size * size
    parts = y[:whole].reshape(-1, size)
    starts = np.arange(len(parts)) * size
    with np.errstate(invalid="ignore"):
        filled = np.where(np.isnan(parts), np.inf, parts)
        least = starts + filled.argmin(axis=1)
        greatest = starts + np.where(np.isinf(filled), -np.inf, filled).argmax(axis=1)
    places = np.sort(np.stack([least, greatest], axis=1), axis=1).reshape(-1)
    places = np.concatenate([[0], places, np.arange(whole, len(x)), [len(x) - 1]])
    return x[places], y[places]
