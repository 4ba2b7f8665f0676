"""What is left when the window ends badly, and found again at its next start.

While a window runs it keeps an open file that a fault of Qt or Python itself is written to, deleted at a normal end.
A fault of ours that Python can catch is written too, shown in words, and the window goes on.
"""

import faulthandler
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from platformdirs import user_log_dir

from engine import __version__

Tell = Callable[[str, str], object]
"""Takes a sentence and what to do. It is called in the thread of the fault, which need not be the one that paints."""
MOST_KEPT = 100
"""Reports and logs of a kind that are kept; whoever asks for help needs the last few."""


def folder() -> Path:
    """Return where reports are kept."""
    return Path(user_log_dir("dinoviz")) / "crashes"


class CrashLog:
    """The report of this process, in case it ends badly."""

    def __init__(self) -> None:
        self._path = folder() / f"running-{os.getpid()}.txt"
        self._file: IO[str] | None = None

    def open(self) -> None:
        """Begin; a disk that cannot be written only costs the report."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        except OSError:
            return
        faulthandler.enable(self._file)

    def close(self) -> None:
        """End normally: there is nothing to report."""
        if self._file:
            faulthandler.disable()
            self._file.close()
            self._path.unlink(missing_ok=True)


def left_behind() -> list[Path]:
    """Return the reports of windows that ended badly, and forget those that were only killed, which left none."""
    import psutil  # not before the window is painted

    found = []
    for path in sorted(folder().glob("running-*.txt")):
        number = path.stem.removeprefix("running-")
        if number.isdecimal() and psutil.pid_exists(int(number)):
            continue
        with suppress(OSError):  # another window that starts now took it first
            if path.stat().st_size == 0:
                path.unlink()
            else:
                found.append(path.replace(path.with_name(f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{number}.txt")))
    return found


def keep_newest(where: Path, most: int = MOST_KEPT) -> None:
    """Remove the older reports or logs of a folder, but for those of windows that run."""
    written: list[tuple[float, Path]] = []
    for path in where.glob("*.txt"):
        if not path.name.startswith("running-"):
            with suppress(OSError):
                written.append((path.stat().st_mtime, path))
    for _mtime, path in sorted(written)[: max(0, len(written) - most)]:
        with suppress(OSError):
            path.unlink()


def install(tell: Tell) -> None:
    """Take what nobody caught: write a report, say so in words, and go on."""

    def hook(kind: type[BaseException], problem: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, problem, trace)
            return
        report = write_report(problem)
        tell("Something in dinoviz went wrong. Your work is kept.", f"A report is in {report}.")

    sys.excepthook = hook
    threading.excepthook = lambda args: hook(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def write_report(problem: BaseException) -> Path:
    """Write what is needed to mend a fault of ours, and return where."""
    path = folder() / f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    trace = "".join(traceback.format_exception(problem))
    about = f"dinoviz {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n{trace}\n"
    sys.stderr.write(about)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(about)
    except OSError:
        pass
    return path
