"""The arrays of answers: files in a folder of their own that does not grow, as old ones make room for new ones."""

import contextlib
import os
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import psutil
from numpy.typing import NDArray
from platformdirs import user_cache_path

from engine.errors import BadInput
from engine.store import saying_full

MOST_FILES = 256
"""Files kept: the last 64 answers or more, unless answers are about several pictures."""
MOST_BYTES = 256 << 20
"""Bytes kept, which are some 8,000 attention maps of a ViT-S/16 at 480 px."""
FOLDER = re.compile(r"(?P<process>\d+)-[0-9a-f]{8}\Z")
"""Folders are named after their process, so that those of dead ones can be told and removed."""


class AnswerFiles:
    """A folder for the arrays of one service. Use it as a context: it is removed at the end.

    A file is complete when its name is told and is not changed afterwards; the oldest are removed as new ones come, the
    newest never. So who reads an answer a hundred answers late finds no file rather than another array.

    Args:
        place: folder in which to make it; in the user's cache where absent.
        most_files: kept at once.
        most_bytes: kept at once.

    Raises:
        BadInput: on entering, where ``place`` cannot be written.
    """

    def __init__(
        self, place: Path | None = None, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES
    ) -> None:
        self._place = place or user_cache_path("dinoviz") / "answers"
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._kept: deque[tuple[Path, int]] = deque()
        self._kept_bytes = 0
        self._count = 0
        self.folder = self._place / f"{os.getpid()}-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True)
            _remove_those_of_the_dead(self._place)
        except OSError as problem:
            told = f"Answers cannot be written in '{self._place}': {problem}."
            raise BadInput(told, "Choose another place with --cache.") from problem
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder and all that is in it, as far as that can be done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, array: NDArray) -> str:
        """Write an array as .npy and return its path.

        Not synced to the disk: an answer needs not survive a power cut, and a sync takes longer than most answers.

        Raises:
            DiskFull: there is no room.
        """
        return self.made(".npy", lambda path: _save(path, array))

    def made(self, ending: str, write: Callable[[Path], object]) -> str:
        """Have a file written at a path with an ending, and return that.

        Raises:
            DiskFull: there is no room.
        """
        self._count += 1
        path = self.folder / f"{self._count:06d}{ending}"
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with saying_full(path):
                self.folder.mkdir(parents=True, exist_ok=True)  # a cache may be deleted at any time
                write(temporary)
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._keep(path)
        return str(path)

    def _keep(self, path: Path) -> None:
        size = path.stat().st_size
        self._kept.append((path, size))
        self._kept_bytes += size
        while len(self._kept) > 1 and (len(self._kept) > self._most_files or self._kept_bytes > self._most_bytes):
            old, old_size = self._kept.popleft()
            self._kept_bytes -= old_size
            with contextlib.suppress(OSError):  # Windows does not remove what somebody has open; the folder's end will
                old.unlink()


def _save(path: Path, array: NDArray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _remove_those_of_the_dead(place: Path) -> None:
    """Remove the folders of services that were killed."""
    for folder in place.iterdir():
        named = FOLDER.match(folder.name)
        if named and not psutil.pid_exists(int(named["process"])):
            shutil.rmtree(folder, ignore_errors=True)
