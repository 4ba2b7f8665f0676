"""The engine's end of the pipe: questions and Stop come down, messages go up.

It takes the standard streams of the process for itself: from then on a stray print lands in the log, and workers that
the process starts neither inherit the pipe nor can lock it. A thread reads the private end with ``os.read``; a buffered
stdin object read in a thread would hang forked workers (bpo-6721; see ``multiprocessing.util._close_stdin``).

Latest question wins. Of the questions that wait in one slot, see ``Ask``, only the newest is kept, in the place of the
older one, which is answered ``Superseded``; so at most one a slot waits, and no slot is starved. What is being answered
is not interrupted. Questions that ask to change something (``changes_service``) are never superseded.

A closed pipe means Stop: whoever asked is gone, and what still waits is dropped; unless Stay came before, after which
the work goes on alone.
"""

import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from engine.protocol import Ask, Message, Refused, Request, Stay, Stop, Superseded, decode_request, encode

MOST_BYTES_OF_A_LINE = 1 << 20
"""A question with 64 paths of 4,096 bytes each, JSON-escaped, is about half of it."""
MOST_WAITING = 64
"""Slots, and requests, that wait at once; more are refused. A window has about ten places that ask."""
MOST_REPLIES = 4096
"""Refusals and such that wait to be sent; beyond, the pipe is not read until the loop has sent them."""
STDIN, STDOUT, STDERR = 0, 1, 2
CHUNK_BYTES = 1 << 16
"""What a pipe of Linux holds; pipe(7)."""


class Channel:
    """Questions of whoever started this process, newest first in each slot, and the way back.

    Args:
        source: descriptor that is read; stays open, as a thread may be waiting on it.
        sink: descriptor that is written; stays open.
        kinds: the questions that are taken, by name; none for a job that only wants to hear Stop.
        on_orphaned: called in the reading thread when the pipe was closed from above, after Stop was noted: a
            service with nothing to lose ends the process there, if it does not end by itself.
        on_stop: called in the reading thread when Stop came.
    """

    def __init__(
        self,
        source: int,
        sink: int,
        kinds: Mapping[str, type],
        *,
        on_orphaned: Callable[[], object] = lambda: None,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._kinds = kinds
        self._on_orphaned = on_orphaned
        self._on_stop = on_stop
        self._stays = False
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._waiting: dict[object, Ask] = {}
        self._replies: deque[Message] = deque()
        self._slot_in_work: object = None
        self._has_ended = False
        _close_in_forks(self)
        self._reader = threading.Thread(target=self._read, name="channel", daemon=True)
        self._reader.start()

    @classmethod
    def of_this_process(
        cls,
        kinds: Mapping[str, type],
        *,
        on_orphaned: Callable[[], object] = lambda: None,
        on_stop: Callable[[], object] = lambda: None,
    ) -> Self:
        """Take the standard input and output for the channel: input is empty from now on, output goes to the log."""
        if sys.stdout:
            sys.stdout.flush()
        # A stream that was closed when the process began becomes one that is empty and swallows what is written.
        while (nowhere := os.open(os.devnull, os.O_RDWR)) <= STDERR:
            pass
        source, sink = os.dup(STDIN), os.dup(STDOUT)
        os.dup2(nowhere, STDIN)
        os.dup2(STDERR, STDOUT)
        os.close(nowhere)
        return cls(source, sink, kinds, on_orphaned=on_orphaned, on_stop=on_stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.end()

    @property
    def has_ended(self) -> bool:
        """Whether Stop came, the pipe was closed from above, or ``end`` was called."""
        return self._has_ended

    def end(self) -> None:
        """Take no further questions; may be called from a signal handler."""
        with self._changed:  # reentrant: the handler may interrupt one of our own methods
            self._has_ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Ask]:
        """Give the questions as they come, until the end."""
        while (ask := self.next_question()) is not None:
            yield ask

    def next_question(self, timeout_s: float | None = None) -> Ask | None:
        """Return the next question, waiting for it; None where none came in time or the channel has ended."""
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                left = None if limit is None else max(0.0, limit - time.monotonic())
                self._changed.wait_for(lambda: self._has_ended or self._waiting or self._replies, left)
                replies = list(self._replies)
                self._replies.clear()
                self._changed.notify_all()
                ask = None if replies or self._has_ended or not self._waiting else self._pop()
            for reply in replies:
                self.send(reply)
            if not replies:
                return ask

    def _pop(self) -> Ask:
        self._slot_in_work = next(iter(self._waiting))
        return self._waiting.pop(self._slot_in_work)

    def is_outdated(self) -> bool:
        """Whether the answer to the question given last is for nobody: a newer one waits in its slot, or the end came.

        For questions that take long, to give up between two steps.
        """
        with self._changed:
            return self._has_ended or self._slot_in_work in self._waiting

    def send(self, message: Message) -> None:
        """Send a message up; where nobody listens any more, the channel ends.

        Raises:
            ValueError: an answer holds a number that is not finite.
        """
        line = encode(message).encode() + b"\n"
        with self._writing:
            try:
                while line:
                    line = line[os.write(self._sink, line) :]
            except OSError:
                self.end()

    def _read(self) -> None:
        for line in _lines(self._source):
            request = _too_long() if line is None else decode_request(line, self._kinds)
            self._take(request)
            if isinstance(request, Stop):
                self._on_stop()
                return
        if not self._stays:
            self.end()
            self._on_orphaned()

    def _take(self, request: Request | Refused) -> None:
        with self._changed:
            match request:
                case Stop():
                    self._has_ended = True
                case Stay():
                    self._stays = True
                case Refused():
                    self._replies.append(request)
                case Ask():
                    self._put(request)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._has_ended or len(self._replies) < MOST_REPLIES)

    def _put(self, ask: Ask) -> None:
        slot: object = ask.slot or type(ask.question)
        if getattr(ask.question, "changes_service", False):
            slot = (ask.id, len(self._waiting), object())
        older = self._waiting.get(slot)
        if older is not None:
            self._replies.append(Superseded(id=older.id))
        elif len(self._waiting) >= MOST_WAITING:
            self._replies.append(_too_many(ask))
            return
        self._waiting[slot] = ask

    def _leave(self) -> None:
        """In a forked child: let go of the pipe, whose end must be seen when this process ends."""
        for descriptor in (self._source, self._sink):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _close_in_forks(channel: Channel) -> None:
    """Workers that are started by fork get every descriptor; those started by spawn get none of ours."""
    if not hasattr(os, "register_at_fork"):
        return
    weak = weakref.ref(channel)

    def leave() -> None:
        alive = weak()
        if alive is not None:
            alive._leave()

    os.register_at_fork(after_in_child=leave)


def _lines(source: int) -> Iterator[bytes | None]:
    """Give the lines that are complete and not blank, without their newlines; None for one that is too long.

    Bytes are split before anything decodes them: a chunk may end within a letter.
    """
    kept = bytearray()
    is_too_long = False
    while chunk := _chunk(source):
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            kept += part
            if is_too_long or len(kept) > MOST_BYTES_OF_A_LINE:
                yield None
            elif kept.strip():
                yield bytes(kept)
            kept.clear()
            is_too_long = False
        kept += rest
        if len(kept) > MOST_BYTES_OF_A_LINE:
            is_too_long = True
            kept.clear()


def _chunk(source: int) -> bytes:
    try:
        return os.read(source, CHUNK_BYTES)
    except OSError:  # the end of a pipe on Windows, or a terminal that hung up
        return b""


def _too_long() -> Refused:
    return Refused(id=None, message=f"A line has more than {MOST_BYTES_OF_A_LINE:,} bytes.", problem="BadRecipe")


def _too_many(ask: Ask) -> Refused:
    return Refused(
        id=ask.id, message=f"{MOST_WAITING} questions wait already.", hint="Ask again later.", problem="Busy"
    )
