"""What can go wrong for a person, and how the program says it.

    UserError                 the world's or the user's fault: shown as a sentence, never a traceback
    ├── BadRecipe             a value asked for cannot be run                      exit 2
    ├── BadInput              a path is missing, empty or unreadable               exit 3
    │   ├── UnreadablePicture a file that is no picture we can decode              exit 3
    │   ├── NotMade           what one command makes from a set is not there, or old  exit 3
    │   └── NotLoaded         a question to a service about a model it does not hold  exit 3
    ├── BadWeights            a checkpoint that does not fit its architecture      exit 8
    ├── UnsafeFile            a file that would run code, refused                  exit 9
    ├── OutOfMemory           the device is too small for the batch                exit 5
    ├── DiskFull              no room left; what was saved before is intact        exit 6
    ├── Diverged              the loss or a gradient is not finite                 exit 7
    ├── DownloadFailed        a download that could not be completed               exit 10
    └── Busy                  another process writes this project                  exit 11
    Stopped                   not an error: asked to stop, work kept               exit 130 / 143

Anything else that escapes is our fault and is shown as a bug report. Exit codes follow the
table in README; 0 is success and 4 is success with some pictures left out.
"""

from typing import ClassVar

EXIT_BUG = 1
EXIT_PARTIAL = 4


class UserError(Exception):
    """A failure that a person can do something about.

    Args:
        message: what happened, naming the value.
        hint: what to do about it; one sentence, may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadRecipe(UserError):
    """A value asked for cannot be run."""

    exit_code = 2


class BadInput(UserError):
    """A path is missing, empty or unreadable."""

    exit_code = 3


class UnreadablePicture(BadInput):
    """A file that is no picture we can decode; ``message`` is the problem, without the path."""


class NotMade(BadInput):
    """What a command makes from a set of features is not there, or out of date; ``hint`` names the command."""


class NotLoaded(BadInput):
    """A service was asked to look through a model that it does not hold, as after it was started anew."""


class BadWeights(UserError):
    """A checkpoint whose tensors do not fit the architecture, or whose bytes changed."""

    exit_code = 8


class UnsafeFile(UserError):
    """A file that asks to run code while it is read."""

    exit_code = 9


class OutOfMemory(UserError):
    """The device has no room for the batch."""

    exit_code = 5


class DiskFull(UserError):
    """No room left on the disk; what was saved before is intact."""

    exit_code = 6


class Diverged(UserError):
    """The loss or a gradient stopped being finite; the weights were not moved."""

    exit_code = 7


class DownloadFailed(UserError):
    """A download that could not be completed."""

    exit_code = 10


class Busy(UserError):
    """Another process writes this project."""

    exit_code = 11


class Stopped(Exception):
    """The work was asked to stop and kept what it had.

    Args:
        signal_number: the signal that asked, decides the exit code (128 + number).
    """

    def __init__(self, signal_number: int = 2) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number
