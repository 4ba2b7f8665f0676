"""The messages of engine processes, one JSON object a line: facts come up, questions and Stop go down.

A command reports through ``tell``; who listens decides what becomes of a message: the terminal draws
it, the window reads it from the pipe, a run keeps it in ``events.jsonl``. To add a message, add a class.
What can be asked is in ``questions``; the engine's end of the pipe is ``channel``.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from engine.errors import BadRecipe


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
    """The last word of a command that ended normally; ``stopped`` when it was asked to end early.

    ``outcome`` is what ``--json`` prints.
    """

    exit_code: int = 0
    stopped: bool = False
    outcome: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The last word of a command that could not do what was asked."""

    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to the question ``id``: one of the classes in ``questions.ANSWERS``."""

    id: int
    answer: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The question ``id`` has no answer, in two sentences; ``id`` is None where it could not be read.

    ``problem`` is the name of the class in ``errors`` that says what kind of failure it was.
    """

    id: int | None
    message: str
    hint: str = ""
    problem: str = "UserError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """The question ``id`` was not looked at, as a newer one took its place."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question to a service.

    ``id`` comes back with the answer; ids of one service grow. ``slot`` is the place that shows the answer: of two
    questions that wait in one slot, the older is ``Superseded``. Where absent, every kind of question is a slot.
    """

    id: int
    question: object
    slot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End at the next good place and keep the work; a closed pipe says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Go on when the pipe is closed: whoever started this leaves it to itself."""


Message = Progress | Measured | Noticed | Made | Finished | Failed | Answer | Refused | Superseded
Request = Ask | Stop | Stay
Tell = Callable[[Message], None]

KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind
    for kind in (Progress, Measured, Noticed, Made, Finished, Failed, Answer, Refused, Superseded)
}


def encode(message: Message | Request) -> str:
    """Return a message as one line of JSON in ASCII, without its newline; numbers that are not finite become null.

    In ASCII because file names may hold surrogates, which no encoding can write; ``decode`` gives them back.

    Raises:
        ValueError: an answer holds a number that is not finite.
    """
    fields = _tagged(message)
    match message:
        case Measured():
            fields["values"] = {
                name: value if abs(value) < float("inf") else None for name, value in message.values.items()
            }
        case Finished():
            # What a command says may hold what JSON has no number for; dumps alone would write NaN, which is no JSON.
            fields["outcome"] = json.loads(
                json.dumps(message.outcome, default=os.fspath), parse_constant=lambda _: None
            )
        case Answer():
            fields["answer"] = _tagged(message.answer)
        case Ask():
            fields["question"] = _tagged(message.question)
    return json.dumps(fields, allow_nan=False, default=os.fspath)


def _tagged(value: Any) -> dict[str, Any]:
    return {"kind": type(value).__name__.lower(), **asdict(value)}


def decode(line: str) -> Message | None:
    """Return the message of a line, or None when its kind is unknown to this version.

    Raises:
        BadRecipe: it is an answer that this version does not know.
        ValueError: the line is no message at all.
    """
    fields = json.loads(line)
    kind = KINDS.get(fields.pop("kind", ""))
    if kind is Answer:
        from engine.questions import answer_from

        fields["answer"] = answer_from(fields["answer"])
    return kind(**fields) if kind else None


def decode_request(line: bytes, kinds: Mapping[str, type]) -> Request | Refused:
    """Return what a line from above asks, or its refusal; never raises, as anything may come down a pipe.

    Args:
        line: without its newline.
        kinds: the questions that the service takes; see ``questions``.
    """
    try:
        fields = json.loads(line.decode())
    except (ValueError, RecursionError):
        return Refused(id=None, message="A line is not JSON.", problem="BadRecipe")
    match fields:
        case {"kind": "stop"}:
            return Stop()
        case {"kind": "stay"}:
            return Stay()
        case {"kind": "ask", "id": int(number)} if not isinstance(number, bool):
            return _ask(number, fields, kinds)
    return Refused(
        id=None,
        message="A line is neither a question with a whole number as its id, nor a stop or stay.",
        hint='Write {"kind": "ask", "id": 1, "question": {"kind": "ping"}} or {"kind": "stop"}.',
        problem="BadRecipe",
    )


def _ask(number: int, fields: dict[str, Any], kinds: Mapping[str, type]) -> Ask | Refused:
    from engine.questions import question_from

    slot = fields.get("slot", "")
    if not isinstance(slot, str) or set(fields) - {"kind", "id", "question", "slot"}:
        told = "Beside its kind and id, an ask has a question and a slot, which is text."
        return Refused(id=number, message=told, problem="BadRecipe")
    try:
        return Ask(id=number, question=question_from(fields.get("question"), kinds), slot=slot)
    except BadRecipe as problem:
        return Refused(id=number, message=problem.message, hint=problem.hint, problem="BadRecipe")
