"""The terminal: which command is meant, how its messages look, and its last word.

Standard output carries the outcome alone; progress, notices and errors go to standard error. On a terminal
progress is a moving bar, elsewhere one line every ten seconds. NO_COLOR is honoured.
"""

import argparse
import contextlib
import errno
import importlib
import json
import os
import platform
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine import __version__
from engine.commands import COMMANDS, EXIT_CODES, Outcome
from engine.errors import EXIT_BUG, DiskFull, Stopped, UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from engine.protocol import Message, Progress

LINE_EVERY_S = 10.0
EXIT_INTERRUPTED = 130


def run(argv: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        _write(_help())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        _write(f"engine {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        return _failed(UserError(f"There is no command '{argv[0]}'.", "See engine --help."), is_json=False, exit_code=2)
    parser: argparse.ArgumentParser = importlib.import_module(f"engine.commands.{argv[0]}").parser()
    try:
        arguments = parser.parse_args(argv[1:])
    except SystemExit as ending:
        return int(ending.code or 0)
    with _surviving_a_closed_pipe():
        return _run(arguments)
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {about}" for name, about in COMMANDS.items())
    return f"""engine {__version__}: train DINO on a folder of pictures and see what it sees

usage: engine COMMAND …           engine COMMAND --help

commands:
{commands}

examples:
  engine scan photos/
  engine train photos/ --epochs 100
  engine look attention photos/a.jpg --model photos.dinoviz/runs/0001 --out seen/

{EXIT_CODES}"""


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


def _run(arguments: argparse.Namespace) -> int:
    try:
        with Terminal(is_quiet=arguments.quiet) as terminal:
            outcome: Outcome = arguments.run(arguments, terminal.tell)
    except UserError as problem:
        return _failed(problem, is_json=arguments.json)
    except Stopped as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    except Exception as problem:  # noqa: BLE001 - the engine's one place where our own faults end
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            full = DiskFull(f"The disk is full: {problem}.", "Make room and try again; what was complete is intact.")
            return _failed(full, is_json=arguments.json)
        return _bug(problem)
    _write(json.dumps(outcome.data, ensure_ascii=False) if arguments.json else outcome.text)
    return outcome.exit_code


def _failed(problem: UserError, *, is_json: bool, exit_code: int | None = None) -> int:
    code = exit_code or problem.exit_code
    if is_json:
        _write(json.dumps({"error": problem.message, "hint": problem.hint, "exit_code": code}, ensure_ascii=False))
    sys.stderr.write(f"error: {problem.message}\n" + (f"  {problem.hint}\n" if problem.hint else ""))
    return code


def _bug(problem: Exception) -> int:
    """Say that we are at fault and keep what is needed to mend it."""
    from platformdirs import user_log_dir

    report = "".join(traceback.format_exception(problem))
    path = Path(user_log_dir("dinoviz")) / f"engine-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    about = f"engine {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n{report}"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(about, encoding="utf-8")
    what = textwrap.shorten(f"{type(problem).__name__}: {problem}", 200)
    sys.stderr.write(f"error: this is a fault of the program: {what}\n  The details are in {path}.\n")
    return EXIT_BUG


@contextlib.contextmanager
def _surviving_a_closed_pipe() -> Iterator[None]:
    """End quietly when the reader of our output has gone, as in ``engine … | head``."""
    try:
        yield
        sys.stdout.flush()
    except OSError as problem:
        if problem.errno != errno.EPIPE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """Draws messages on standard error."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        from rich.console import Console

        self._is_quiet = is_quiet
        self._console: Console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._line_at: dict[str, float] = {}

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def tell(self, message: "Message") -> None:
        """Draw a message, if it is for people."""
        from engine.protocol import Made, Measured, Noticed, Progress

        match message:
            case Progress():
                if not self._is_quiet:
                    self._draw(message)
            case Noticed(level="warning"):
                self._say(f"warning: {message.text}", message.hint)
            case Noticed() | Made() if self._is_quiet:
                pass
            case Noticed():
                self._say(message.text, message.hint)
            case Made():
                self._say(f"wrote {message.what}: {message.path}")
            case Measured() if "knn" in message.values and not self._is_quiet:
                self._say(f"step {message.step:,}: 20-NN accuracy {message.values['knn']:.3f}")

    def _say(self, text: str, hint: str = "") -> None:
        self._console.print(text, markup=False)
        if hint:
            self._console.print(textwrap.indent(hint, "  "), markup=False)

    def _draw(self, message: "Progress") -> None:
        if not self._console.is_terminal:
            self._draw_line(message)
            return
        if self._bars is None:
            self._bars = _bars(self._console)
            self._bars.start()
        if message.what not in self._tasks:
            self._tasks[message.what] = self._bars.add_task(message.what, total=message.total, note="")
        self._bars.update(
            self._tasks[message.what], completed=message.done, total=message.total, note=_pace_in_words(message)
        )

    def _draw_line(self, message: "Progress") -> None:
        now = time.monotonic()
        is_due = now - self._line_at.get(message.what, now - LINE_EVERY_S) >= LINE_EVERY_S
        if is_due or message.done == message.total:
            self._line_at[message.what] = now
            share = message.done / message.total if message.total else 1.0
            self._say(f"{message.what}: {message.done:,}/{message.total:,} ({share:.0%}) {_pace_in_words(message)}")


def _bars(console: "Console") -> "Bars":
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


def _pace_in_words(message: "Progress") -> str:
    words = []
    if message.rate:
        words.append(
            f"{message.rate:,.0f} {message.unit}/s" if message.rate >= 10 else f"{message.rate:.2g} {message.unit}/s"
        )
    if message.eta_s is not None and message.done < message.total:
        words.append(f"{time_in_words(message.eta_s)} left")
    return " · ".join([*words, *([message.note] if message.note else [])])


def time_in_words(seconds: float) -> str:
    """Return seconds as people read them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
