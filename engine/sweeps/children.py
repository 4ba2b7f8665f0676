"""Trainings as child processes: the command a person would type, its messages up a pipe, Stop down another.

As the window starts its jobs, without Qt. A child is in a process group of its own, so that Ctrl-C on the terminal
reaches the sweep alone, which passes it on once: a child that hears it twice would not keep its work. When the sweep
ends, however it ends, the pipes close, and each child stops with a checkpoint.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from engine.errors import BadRecipe
from engine.protocol import Message, Stop, decode, encode


@dataclass(frozen=True, slots=True)
class Ended:
    """A child is gone, with its exit code, below 0 where a signal ended it."""

    exit_code: int


Inbox = SimpleQueue[tuple["Child", Message | Ended]]


class Child:
    """One process of the engine.

    Args:
        argv: what stands after ``engine``; ``--pipe`` is added.
        log: file that its standard error is added to.
        inbox: gets its messages, and its end as the last of them.
        environment: set for it beside what this process has.
    """

    def __init__(self, argv: Sequence[str], log: Path, inbox: Inbox, environment: Mapping[str, str]) -> None:
        self._inbox = inbox
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "engine", *argv, "--pipe"],  # -P: not a folder 'engine' of the user's own
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **environment},
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                start_new_session=sys.platform != "win32",
            )
        threading.Thread(target=self._listen, name="child", daemon=True).start()

    def stop(self) -> None:
        """Ask it to end and keep its work."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended by itself
            self._process.stdin.write(encode(Stop()).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it without asking, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = decode(line.decode())
            except (ValueError, TypeError, BadRecipe):  # cut off by a kill
                continue
            if message is not None:
                self._inbox.put((self, message))
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was never told is of no use any more
                pipe.close()
        self._inbox.put((self, Ended(code)))


def flags_of(asked: Mapping[str, str | int | float | bool]) -> list[str]:
    """Return fields of a recipe as the flags that ask for them."""
    return [f"--{name.replace('_', '-')}={_written(value)}" for name, value in asked.items()]


def _written(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
