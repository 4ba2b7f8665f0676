"""Files that are either the old ones or the new ones, never halves.

Relies on the file system's atomic rename; knows nothing about what is in the files.
"""

import contextlib
import errno
import glob
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

import psutil

from engine.errors import Busy, DiskFull

RENAME_ATTEMPTS = 10
RENAME_PAUSE_S = 0.05
"""On Windows a virus scanner may hold the old file for a moment; python/cpython#90549."""
FULL = (errno.ENOSPC, errno.EDQUOT)
WINDOWS_FULL = (39, 112) if sys.platform == "win32" else ()
"""ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL of winerror.h, which Rust does not turn into errno."""
PARSING = threading.RLock()
"""Held by a thread while NumPy parses the header of an array: CPython 3.11 miscounts where two threads parse at once
(python/cpython#106905)."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put what ``write`` writes at ``path``, whole and on the disk, or leave ``path`` as it was.

    Args:
        path: in an existing folder; a file there is replaced.
        write: is given a temporary file in the same folder, open for writing bytes.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    temporary = temporary_beside(path)
    try:
        with saying_full(path):
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Return a name that no other process takes, in the folder of ``path``, for what will become it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def clear_temporaries(path: Path) -> None:
    """Take away what processes that were killed while they wrote ``path`` left; nobody may be writing it."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def saying_full(path: Path) -> Iterator[None]:
    """Say of what ``path`` is when the disk has no room for it.

    Raises:
        DiskFull: what is done inside failed as `is_full` tells.
    """
    try:
        yield
    except Exception as problem:
        if is_full(problem):
            raise DiskFull(f"No room left to write '{path}'.", "Free some space and try again.") from problem
        raise


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder onto ``target``, again for a moment where Windows says that it is in use.

    A file there is replaced; a folder must not be there, or be empty, which Windows does not take either.
    """
    for attempt in range(RENAME_ATTEMPTS):
        try:
            source.replace(target)
        except PermissionError:
            if sys.platform != "win32" or attempt == RENAME_ATTEMPTS - 1:
                raise
            time.sleep(RENAME_PAUSE_S)
        else:
            return


def is_full(problem: BaseException) -> bool:
    """Tell whether a failure says that the disk or the quota is full; safetensors says it in words alone."""
    if isinstance(problem, OSError):
        return problem.errno in FULL
    told = re.search(r"\bos error (\d+)", str(problem))
    return told is not None and int(told[1]) in (*FULL, *WINDOWS_FULL)


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power cut."""
    with path.open("rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LOCK, _WRITER = ".lock", ".writer"


@contextlib.contextmanager
def sole_writer(folder: Path, work: str) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when the process ends, however it ends.

    Args:
        folder: a run's or a set's.
        work: what a holder of the lock does, to be told to others: "trains the run".

    Raises:
        Busy: another process holds it.
    """
    with (folder / _LOCK).open("w") as file:
        try:
            _lock(file)
        except OSError as problem:
            raise Busy(f"Another process {work} '{folder}'.", "Wait for it to end, or stop it.") from problem
        # Beside the lock, as Windows lets nobody read a locked file. In place, as only who holds the lock writes it,
        # and half a number names no process that holds it.
        with saying_full(folder / _WRITER):
            (folder / _WRITER).write_text(str(os.getpid()))
        yield


def writer_of(folder: Path) -> int | None:
    """Return the process that holds the lock of a folder, None where nobody does."""
    try:
        process = int((folder / _WRITER).read_bytes())
    except (OSError, ValueError):
        return None
    # Only where it lives is the lock tried, so that no process that is about to take it finds it taken.
    if not psutil.pid_exists(process):
        return None
    try:
        with (folder / _LOCK).open("r+") as file:
            _lock(file)
    except FileNotFoundError:
        return None
    except OSError:
        return process
    return None


def _lock(file: TextIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
