"""One question after another, whatever becomes of each: the loop of every service.

A service is an object with ``answer``. What it raises becomes a refusal in two sentences, and the service goes on;
only where it says itself that it cannot, the process ends, to be started anew by whoever asks.
"""

import os
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable
from typing import Protocol

from engine.channel import Channel
from engine.errors import OutOfMemory, UserError
from engine.faults import fault_of_the_world
from engine.protocol import Answer, Ask, Refused, Superseded

GRACE_S = 0.5
"""How long a service may take to end by itself after its pipe was closed."""

Reply = Answer | Refused | Superseded


class Outdated(Exception):
    """Raised by a service that gave a question up, as ``Channel.is_outdated`` said that nobody waits for it."""


class Service(Protocol):
    """What answers questions of the kinds it was given a channel for."""

    def answer(self, question: object) -> object:
        """Return the answer, one of ``questions.ANSWERS``.

        Raises:
            UserError: there is none, and why.
            Outdated: it was given up.
        """

    def make_room(self) -> None:
        """Drop all that can be made again, as memory ran out."""

    def check(self) -> None:
        """Raise where, after a failure of our own, no further question can be answered."""


def serve(service: Service, channel: Channel) -> None:
    """Answer questions until Stop."""
    for ask in channel:
        _send(channel, ask, _reply(service, ask))


def _reply(service: Service, ask: Ask) -> Reply:
    try:
        return Answer(id=ask.id, answer=service.answer(ask.question))
    except Outdated:
        return Superseded(id=ask.id)
    except UserError as problem:
        return _refused(ask, problem)
    except Exception as problem:  # noqa: BLE001 - the engine's one place where a question may fail in any way
        known = fault_of_the_world(problem)
        if known is None:
            refused = _our_fault(ask, problem)
            service.check()
            return refused
    if isinstance(known, OutOfMemory):
        service.make_room()  # outside of the except, whose traceback holds on to what fills the memory
    return _refused(ask, known)


def _send(channel: Channel, ask: Ask, reply: Reply) -> None:
    try:
        channel.send(reply)
    except ValueError as problem:  # a number that is not finite
        channel.send(_our_fault(ask, problem))


def _refused(ask: Ask, problem: UserError) -> Refused:
    return Refused(id=ask.id, message=problem.message, hint=problem.hint, problem=type(problem).__name__)


def _our_fault(ask: Ask, problem: Exception) -> Refused:
    sys.stderr.write("".join(traceback.format_exception(problem)))
    what = textwrap.shorten(f"{type(problem).__name__}: {problem}", 200)
    return Refused(
        id=ask.id,
        message=f"This is a fault of the program: {what}",
        hint="The details are in the log of the service.",
        problem="Bug",
    )


def end_soon(clean_up: Callable[[], object]) -> None:
    """End the process from the thread that saw its pipe close, unless it ends by itself in time.

    A service has nothing to save: what is in work, be it minutes of it, is for nobody any more.
    """
    if _main_thread_ends(GRACE_S):
        return
    clean_up()
    os._exit(0)


def _main_thread_ends(within_s: float) -> bool:
    main = threading.main_thread()
    main.join(within_s)
    return not main.is_alive()
