"""The commands of the engine, one module each, listed once here.

Nothing heavy is imported until a command runs, so that ``engine --help`` is there at once.
"""

import argparse
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from engine.protocol import Tell

COMMANDS: dict[str, str] = {
    "scan": "Find the pictures in a folder and check that each can be read.",
    "train": "Train a backbone on a folder of pictures.",
    "resume": "Go on with a run that was stopped, killed or cut off.",
    "look": "Write attention maps or masks of pictures.",
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
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples) + "\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_shared(parser)
    return parser


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Add what every command understands."""
    shared = parser.add_argument_group("output")
    shared.add_argument("--json", action="store_true", help="write the outcome as one JSON object to standard output")
    shared.add_argument("--quiet", action="store_true", help="no progress; warnings and the outcome only")


class StopSignal:
    """Ctrl-C and the system's request to end: the first asks, the second aborts."""

    def __init__(self) -> None:
        self.number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number

    def is_set(self) -> bool:
        """Tell whether the work should end at the next good place."""
        return self.number is not None
