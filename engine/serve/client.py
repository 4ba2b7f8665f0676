"""The other end of a service's pipe: starts it, asks, and ends it; for commands that need a second native stack."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

from engine import errors
from engine.errors import BadInput, UserError
from engine.protocol import Answer, Ask, Failed, Refused, decode, encode


class ServiceProcess:
    """A service in a process of its own. Use it as a context; it ends with it.

    Args:
        arguments: what stands after ``engine serve``.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._ids = count(1)
        # -P: not a folder 'engine' of the user's own.
        command = [sys.executable, "-P", "-m", "engine", "serve", *arguments, "--quiet"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._process.communicate()  # closes its pipe, which ends it

    def ask(self, question: object) -> object:
        """Return the answer to a question.

        Raises:
            UserError: it was refused, or the service has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        number = next(self._ids)
        try:
            self._process.stdin.write(encode(Ask(id=number, question=question)).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as problem:
            raise UserError("The service has ended.", "The reason stands above.") from problem
        for line in self._process.stdout:
            match decode(line.decode()):
                case Answer(id=answered, answer=answer) if answered == number:
                    return answer
                case Refused(message=message, hint=hint, problem=problem):
                    raise getattr(errors, problem, UserError)(message, hint)
                case Failed(message=message, hint=hint):
                    raise BadInput(message, hint)
        raise UserError("The service ended without an answer.", "The reason stands above.")
