"""The terminal: which command is meant, how its messages look, and its last word.

Standard output carries the outcome alone; progress, notices and errors go to standard error. On a terminal
progress is a moving bar, elsewhere one line every ten seconds. NO_COLOR is honoured.
"""

import _thread
import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import platform
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine import __version__
from engine.commands import COMMANDS, EXIT_CODES, Outcome
from engine.errors import EXIT_BUG, Stopped, UserError
from engine.faults import fault_of_the_world
from engine.protocol import Failed, Finished, Made, Measured, Message, Noticed, Progress
from engine.quantities import time_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from engine.channel import Channel

LINE_EVERY_S = 10.0
EXIT_INTERRUPTED = 130


def run(argv: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    _write_names_of_any_bytes()
    if not argv or argv[0] in ("-h", "--help", "help"):
        _write(_help())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        _write(f"engine {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        return LastWord().failed(UserError(f"There is no command '{argv[0]}'.", "See engine --help."), exit_code=2)
    with _surviving_a_closed_pipe():
        return _run(argv[0], argv[1:])
    return 0


def _write_names_of_any_bytes() -> None:
    """Let file names that are no UTF-8 be written as escapes, where they would stop the program otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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


def _write_json(data: Mapping[str, object]) -> None:
    _write(json.dumps(data))


def _run(command: str, argv: Sequence[str]) -> int:
    is_piped = "--pipe" in argv and command != "serve"  # a service speaks over the pipe in its own way
    last = LastWord(is_json="--json" in argv)
    try:
        last.channel = channel = _pipe() if is_piped else None
        arguments = _parser(command).parse_args(argv)
        with Terminal(is_quiet=arguments.quiet, channel=channel) as terminal:
            outcome: Outcome = arguments.run(arguments, terminal.tell)
    except SystemExit as ending:  # argparse has said what is wrong, or shown the help
        return last.usage(int(ending.code or 0))
    except Stopped as stop:
        return last.stopped(stop.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return last.stopped(EXIT_INTERRUPTED)
    except Exception as problem:  # noqa: BLE001 - the engine's one place where our own faults end
        known = problem if isinstance(problem, UserError) else fault_of_the_world(problem)
        return last.failed(known) if known else last.failed(_bug(problem), exit_code=EXIT_BUG)
    return last.finished(outcome)


def _pipe() -> "Channel":
    """Take the standard streams for messages; Stop is as Ctrl-C, and so is the end of whoever started this."""
    import threading

    from engine.channel import Channel

    main = threading.main_thread().ident

    def interrupt() -> None:
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, signal.SIGINT)  # wakes the main thread where it waits
        else:
            _thread.interrupt_main()

    return Channel.of_this_process({}, on_orphaned=interrupt, on_stop=interrupt)


def _parser(command: str) -> argparse.ArgumentParser:
    """Load a command and return its parser.

    Raises:
        UserError: a package that it needs is missing or broken.
    """
    try:
        module = importlib.import_module(f"engine.commands.{command}")
    except (ImportError, OSError) as problem:
        raise UserError(
            f"A part of the program could not be loaded: {problem}.",
            "Install it again; python3 packaging/start.py engine doctor does so where something is missing.",
        ) from problem
    parser: argparse.ArgumentParser = module.parser()
    return parser


class LastWord:
    """What a command says at its end, and its exit code: as text, as one JSON object, or up the pipe."""

    def __init__(self, *, is_json: bool = False) -> None:
        self._is_json = is_json
        self.channel: Channel | None = None

    def finished(self, outcome: Outcome) -> int:
        """Say what was done."""
        if self.channel:
            self.channel.send(Finished(exit_code=outcome.exit_code, outcome=dict(outcome.data)))
        elif self._is_json:
            _write_json(outcome.data)
        else:
            _write(outcome.text)
        return outcome.exit_code

    def stopped(self, exit_code: int) -> int:
        """Say that it was asked to end early, and did."""
        if self.channel:
            self.channel.send(Finished(exit_code=exit_code, stopped=True))
        elif self._is_json:
            _write_json({"stopped": True, "exit_code": exit_code})
        return exit_code

    def failed(self, problem: UserError, exit_code: int | None = None) -> int:
        """Say what could not be done."""
        code = exit_code or problem.exit_code
        if self.channel:
            self.channel.send(Failed(message=problem.message, hint=problem.hint, exit_code=code))
        elif self._is_json:
            _write_json({"error": problem.message, "hint": problem.hint, "exit_code": code})
        sys.stderr.write(f"error: {problem.message}\n" + (f"  {problem.hint}\n" if problem.hint else ""))
        return code

    def usage(self, exit_code: int) -> int:
        """Say that the command line was wrong, where only a program hears."""
        if self.channel and exit_code:
            told = "The command was not understood."
            self.channel.send(Failed(message=told, hint="See its log.", exit_code=exit_code))
        return exit_code


def _bug(problem: Exception) -> UserError:
    """Return that we are at fault, and keep what is needed to mend it."""
    from platformdirs import user_log_dir

    report = "".join(traceback.format_exception(problem))
    path = Path(user_log_dir("dinoviz")) / f"engine-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    about = f"engine {__version__}, Python {platform.python_version()}, {platform.platform()}\n{sys.argv}\n\n{report}"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(about, encoding="utf-8", errors="backslashreplace")
    what = textwrap.shorten(f"{type(problem).__name__}: {problem}", 200)
    return UserError(f"this is a fault of the program: {what}", f"The details are in {path}.")


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
    """Draws messages on standard error, which is the log where a program listens at the pipe."""

    def __init__(self, *, is_quiet: bool = False, channel: "Channel | None" = None) -> None:
        from rich.console import Console

        self._is_quiet = is_quiet
        self._channel = channel
        self._console: Console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._line_at: dict[str, float] = {}

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def tell(self, message: Message) -> None:
        """Draw a message, if it is for people."""
        if self._channel and not isinstance(message, Finished | Failed):  # the last word is ``LastWord``'s
            self._channel.send(message)
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
            case Measured() if self._is_quiet:
                pass
            case Measured(values={"guard_score": score, "neighbours_of_start": share}):
                accuracy = message.values.get("knn")
                measured = f"20-NN accuracy {accuracy:.3f}, " if accuracy is not None else ""
                self._say(
                    f"step {message.step:,}: {measured}guard {score:.3f}, {100 * share:.0f} % of the start's neighbours"
                )
            case Measured(values={"accuracy": right, "knn": accuracy}):
                self._say(f"step {message.step:,}: {right:.3f} of held-out pictures named right, 20-NN {accuracy:.3f}")
            case Measured(values={"knn": accuracy}):
                self._say(f"step {message.step:,}: 20-NN accuracy {accuracy:.3f}")
            case Measured(values={"neighbours_kept": share}):
                self._say(f"step {message.step:,}: {100 * share:.0f} % of neighbours kept")

    def _say(self, text: str, hint: str = "") -> None:
        self._console.print(text, markup=False)
        if hint:
            self._console.print(textwrap.indent(hint, "  "), markup=False)

    def _draw(self, message: Progress) -> None:
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

    def _draw_line(self, message: Progress) -> None:
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


def _pace_in_words(message: Progress) -> str:
    words = []
    if message.rate:
        words.append(
            f"{message.rate:,.0f} {message.unit}/s" if message.rate >= 10 else f"{message.rate:.2g} {message.unit}/s"
        )
    if message.eta_s is not None and message.done < message.total:
        words.append(f"{time_in_words(message.eta_s)} left")
    return " · ".join([*words, *([message.note] if message.note else [])])
