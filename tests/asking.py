"""A resident service as the window starts it, and somebody who asks it questions."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hypothesis import strategies as st

from engine.protocol import Answer, Finished, Message, Refused, decode
from engine.questions import VISION

QUICK_S = 60.0
"""How long an answer may take on a machine that does other things beside."""

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""What JSON can hold."""
NAMES = ["kind", "picture", "side", "layer", "query", "heads", "of", "keep", "patch", "others", "y", "x", "model"]
QUESTIONS = st.builds(
    lambda kind, fields: {**fields, "kind": kind},
    st.sampled_from(list(VISION)),
    st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=5),
)
"""Objects that are questions, or nearly."""


class Asker:
    """A child process that runs ``engine serve …``, and its two pipes."""

    def __init__(self, *arguments: str, log: Path | None = None) -> None:
        self._log = log.open("wb") if log else None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log or subprocess.DEVNULL,
        )
        self._id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe:
                pipe.close()

    def write(self, line: bytes) -> None:
        """Send bytes as they are."""
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def ask(self, kind: str, slot: str = "", **fields: Any) -> int:
        """Send a question and return its id."""
        self._id += 1
        question = {"kind": kind, **fields}
        ask = {"kind": "ask", "id": self._id, "slot": slot, "question": question}
        self.write(json.dumps(ask, default=str).encode() + b"\n")
        return self._id

    def hear(self) -> Message | None:
        """Return the next message, None at the end of the pipe."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        return decode(line.decode()) if line else None

    def told(self, kind: str, **fields: Any) -> Answer | Refused:
        """Ask, and return the answer or the refusal; nothing else may come before."""
        number = self.ask(kind, **fields)
        message = self.hear()
        assert isinstance(message, Answer | Refused), message
        assert message.id == number
        return message

    def answer(self, kind: str, **fields: Any) -> Any:
        """Ask, and return what is answered."""
        told = self.told(kind, **fields)
        assert isinstance(told, Answer), told
        return told.answer

    def stop(self) -> int:
        """Ask the service to end, and return its exit code."""
        self.write(b'{"kind": "stop"}\n')
        while (message := self.hear()) is not None:
            last = message
        assert isinstance(last, Finished)
        return self.process.wait(QUICK_S)

    def seconds_to_end(self) -> float:
        """Close the pipe, and return how long the process takes to end."""
        assert self.process.stdin
        begun = time.perf_counter()
        self.process.stdin.close()
        self.process.wait(QUICK_S)
        return time.perf_counter() - begun
