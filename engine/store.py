"""store: files that are either the old ones or the new ones, never halves.

Relies on the file system's atomic rename; knows nothing about what is in the files.
"""

import errno
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from engine.errors import DiskFull

RENAME_ATTEMPTS = 10
RENAME_PAUSE_S = 0.05
"""On Windows a virus scanner may hold the old file for a moment; python/cpython#90549."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put what ``write`` writes at ``path``, whole and on the disk, or leave ``path`` as it was.

    Args:
        path: in an existing folder; a file there is replaced.
        write: is given a temporary file in the same folder, open for writing bytes.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No room left to write '{path}'.", "Free some space and try again.") from exc
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _replace(temporary: Path, path: Path) -> None:
    for attempt in range(RENAME_ATTEMPTS):
        try:
            temporary.replace(path)
        except PermissionError:
            if sys.platform != "win32" or attempt == RENAME_ATTEMPTS - 1:
                raise
            time.sleep(RENAME_PAUSE_S)
        else:
            return


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
