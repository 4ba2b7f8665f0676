"""The commands of the engine, one module each, listed once here.

Nothing heavy is imported until a command runs, so that ``engine --help`` is there at once.
"""

import argparse
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from engine.errors import Stopped
from engine.protocol import Tell

COMMANDS: dict[str, str] = {
    "scan": "Find the pictures in a folder and check that each can be read.",
    "train": "Train a backbone on a folder of pictures.",
    "resume": "Go on with a run that was stopped, killed or cut off.",
    "sweep": "Run a list of recipes on one data set, and print the papers' table of it.",
    "embed": "Compute the features of all pictures by one backbone.",
    "index": "Find the nearest neighbours of every picture by its features.",
    "duplicates": "Find copies of the same picture, and those in several splits or labels.",
    "oddities": "List pictures unlike all others, doubtful labels and typical pictures.",
    "map": "Lay all pictures, or the classes, out in the plane, and draw that.",
    "clusters": "Group pictures that are alike, without labels.",
    "search": "Find pictures that are like others, or that hold a part of one.",
    "look": "Write attention, masks, colours or matches of patches of pictures.",
    "export": "Write features, patches, maps, masks, attention or a backbone for other programs.",
    "serve": "Keep a backbone or an index in memory and answer questions about pictures.",
    "models": "List, get, import and check backbones.",
    "doctor": "Say what this machine is and what may be wrong with it.",
}

EXIT_CODES = """exit codes:
  0  done                              7  the training diverged
  1  failed                            8  weights that do not fit or were changed
  2  a setting or an argument is wrong 9  a file that would run code, refused
  3  input is missing or unreadable   10  a download failed
  4  done, but some pictures left out 11  another process writes the project
  5  out of memory                   130  stopped by Ctrl-C, work kept
  6  the disk is full                143  stopped by the system, work kept"""

STDERR = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has to say at its end: as data for programs, as text for people."""

    data: Mapping[str, object]
    text: str
    exit_code: int = 0


Run = Callable[[argparse.Namespace, Tell], Outcome]


def new_parser(name: str, about: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command, with its examples and what all commands share."""
    parser = argparse.ArgumentParser(
        prog=f"engine {name}",
        description=about,
        epilog=f"{_listed(examples)}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_shared(parser)
    return parser


def add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    *,
    brief: str,
    about: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """Add a verb to a command and return its parser, with its examples and what all commands share.

    Args:
        verbs: of the command.
        name: what is typed.
        brief: its line in the help of the command.
        about: first lines of its own help.
        examples: whole command lines.
    """
    parser = verbs.add_parser(
        name,
        help=brief,
        description=about,
        epilog=_listed(examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_shared(parser)
    return parser


def _listed(examples: Sequence[str]) -> str:
    return "examples:\n" + "\n".join(f"  {example}" for example in examples)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    shared = parser.add_argument_group("output")
    shared.add_argument("--json", action="store_true", help="write the outcome as one JSON object to standard output")
    shared.add_argument(
        "--pipe",
        action="store_true",
        help="for a program that starts this: messages as JSON lines on standard output, Stop on standard input",
    )
    shared.add_argument("--quiet", action="store_true", help="no progress; warnings and the outcome only")


class StopSignal:
    """Ctrl-C and the system's request to end, while it is entered: the first asks, the second aborts."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not installed from Python, which cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        with contextlib.suppress(OSError):
            # Past sys.stderr, which may be in the middle of writing and is not reentrant.
            os.write(STDERR, b"finishing this step; Ctrl-C again aborts\n")

    def is_set(self) -> bool:
        """Tell whether the work should end at the next good place."""
        return self.number is not None

    def stopped(self) -> Stopped:
        """Return what a command raises that ended for this; Ctrl-C where no signal came."""
        return Stopped(self.number or signal.SIGINT)
