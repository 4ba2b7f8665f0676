"""How fast a piece of work goes: turns counts into progress messages with a rate and the time left."""

import time
from collections.abc import Callable

from engine.protocol import Progress, Tell

TELL_EVERY_S = 0.2  # often enough for a moving bar


class Pace:
    """Counts work and tells of it a few times a second.

    The rate is that of the last minute or so, so that the time left follows a machine that slows down.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        tell: Tell,
        *,
        start: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._unit, self._tell, self._clock = what, total, unit, tell, clock
        self._done = start
        self._marks = [(clock(), start)]
        self._told = -TELL_EVERY_S

    WINDOW_S = 60.0

    @property
    def done(self) -> int:
        """Units done so far."""
        return self._done

    def reached(self, done: int, note: str = "") -> None:
        """Say that ``done`` of the total is reached."""
        self._done = done
        now = self._clock()
        if now - self._told < TELL_EVERY_S and done < self._total:
            return
        self._told = now
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > self.WINDOW_S:
            del self._marks[0]
        rate = self.rate
        self._tell(
            Progress(
                what=self._what,
                done=done,
                total=self._total,
                unit=self._unit,
                rate=rate,
                eta_s=(self._total - done) / rate if rate else None,
                note=note,
            )
        )

    @property
    def rate(self) -> float | None:
        """Units per second over the last minute, None before anything was done."""
        (then, before), (now, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - then) if now > then and done > before else None
