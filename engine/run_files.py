"""What a run leaves on the disk, read without torch: its plan, its events, how far it is, how fast it was.

    runs/0001/   plan.json  events.jsonl  pictures.*  checkpoints/step-…  probes/  backbone.safetensors

`training.train` writes all of it. ``events.jsonl`` holds what went over the pipe, one message a line; a run that is
being made grows it, so it is read on from where the last reading ended.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import BadInput, BadRecipe
from engine.estimates import Speed
from engine.protocol import Measured, Message, decode
from engine.recipes import Plan

EVENTS = "events.jsonl"
BACKBONE = "backbone.safetensors"
MOST_BYTES_READ = 4 << 20
"""Of the events at once, so that a reader of a long run is never away for long."""
TAIL_BYTES = 1 << 15
"""The end of the events that is enough to know how far a run is: some fifty measurements."""


def plan_of(run: Path) -> Plan:
    """Return the plan of a run.

    Raises:
        BadInput: there is none that can be read.
    """
    try:
        return Plan.model_validate(json.loads((run / "plan.json").read_bytes())["plan"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BadInput(
            f"The plan of the run '{run.name}' cannot be read.", "Its folder was changed by hand."
        ) from problem


@dataclass(slots=True)
class EventReader:
    """Reads the events of a run as far as they are, and later what came since."""

    run: Path
    _place: int = 0
    _rest: bytes = field(default=b"")
    _inode: int = 0

    def read(self) -> tuple[list[Message], bool]:
        """Return what is new, and whether it replaces all that was read before, as a resumed run forgets some."""
        path = self.run / EVENTS
        try:
            told = path.stat()
            is_new = told.st_ino != self._inode or told.st_size < self._place
            if is_new:
                self._place, self._rest, self._inode = 0, b"", told.st_ino
            with path.open("rb") as file:
                file.seek(self._place)
                data = file.read(MOST_BYTES_READ)
        except OSError:
            return [], False
        self._place += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return messages_in(lines), is_new


def messages_in(lines: list[bytes]) -> list[Message]:
    """Return the messages of some lines; what is none, such as a line that a kill cut off, is left out."""
    found = []
    for line in lines:
        try:
            message = decode(line.decode())
        except (ValueError, TypeError, BadRecipe):
            continue
        if message is not None:
            found.append(message)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How far a run is: steps taken, its newest numbers by name, and at which step each was measured."""

    step: int
    values: dict[str, float]
    steps: dict[str, int]


def state_of(run: Path) -> RunState:
    """Return how far a run is by the end of its events; step 0 where it has none."""
    try:
        with (run / EVENTS).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        lines = []
    values: dict[str, float] = {}
    steps: dict[str, int] = {}
    step = 0
    for message in messages_in(lines):
        if isinstance(message, Measured):
            step = message.step
            known = {name: value for name, value in message.values.items() if value is not None}
            values |= known
            steps |= dict.fromkeys(known, step)
    return RunState(step=step, values=values, steps=steps)


def has_checkpoint(run: Path) -> bool:
    """Tell whether there is something to go on from, or to look through."""
    return (run / BACKBONE).is_file() or any((run / "checkpoints").glob("step-[0-9]*"))


def newest_speed(runs: Path, plan: Plan) -> Speed | None:
    """Return the speed of the newest run with the device and precision of a plan, None where there is none."""
    for run in sorted(runs.glob("[0-9]*"), reverse=True):
        try:
            earlier = plan_of(run)
        except BadInput:
            continue
        rate = state_of(run).values.get("pictures_per_s", 0.0)
        if rate > 0 and (earlier.run.device, earlier.run.precision) == (plan.run.device, plan.run.precision):
            return Speed(plan=earlier, pictures_per_s=rate, of=f"run {int(run.name)}")
    return None
