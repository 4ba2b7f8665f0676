"""The messages an engine process sends up, one JSON object a line.

A command reports through ``tell``; who listens decides what becomes of a message: the terminal draws
it, the window reads it from the pipe, a run keeps it in ``events.jsonl``. To add a message, add a class.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a piece of work is. ``rate`` is units per second, ``eta_s`` the seconds left, None while unknown."""

    what: str
    done: int
    total: int
    unit: str = ""
    rate: float | None = None
    eta_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Numbers of one training step, or of a measurement made at that step."""

    step: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """A sentence for the person: something was chosen, skipped or looks wrong, and what to do about it."""

    level: Literal["info", "warning"]
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file or folder that is complete on the disk."""

    what: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last word of a command that ended normally; ``stopped`` when it was asked to end early."""

    exit_code: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The last word of a command that could not do what was asked."""

    message: str
    hint: str
    exit_code: int


Message = Progress | Measured | Noticed | Made | Finished | Failed
Tell = Callable[[Message], None]

KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Progress, Measured, Noticed, Made, Finished, Failed)
}


def encode(message: Message) -> str:
    """Return a message as one line of JSON in ASCII, without its newline; numbers that are not finite become null.

    In ASCII because file names may hold surrogates, which no encoding can write; ``decode`` gives them back.
    """
    fields = {"kind": type(message).__name__.lower(), **asdict(message)}
    if isinstance(message, Measured):
        fields["values"] = {
            name: value if abs(value) < float("inf") else None for name, value in message.values.items()
        }
    return json.dumps(fields, allow_nan=False)


def decode(line: str) -> Message | None:
    """Return the message of a line, or None when its kind is unknown to this version.

    Raises:
        ValueError: the line is no message at all.
    """
    fields = json.loads(line)
    kind = KINDS.get(fields.pop("kind", ""))
    return kind(**fields) if kind else None
