"""Where an export goes: a file or a folder that is either whole under its name or not there.

Nothing is replaced that was not asked to be, and a folder only if it is an export itself, so that no ``--out`` can
empty somebody's folder of pictures.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import BadInput
from engine.provenance import Provenance
from engine.store import replace, saying_full, sync_file, sync_folder, temporary_beside, write_atomically

ABOUT = "about.json"
"""Of a folder; beside a file that has no room for metadata it is ``NAME.about.json``."""
MANY_FILES = 100  # from here on one sync of everything is quicker: a file takes 1 to 15 ms


def write_file(
    out: Path,
    write: Callable[[BinaryIO], object],
    *,
    overwrite: bool,
    beside: Provenance | None = None,
) -> list[Path]:
    """Write an exported file, whole or not at all, and return what was written.

    Args:
        out: its path; folders above it are made.
        write: is given the file.
        overwrite: whether a file there may be replaced.
        beside: facts for a JSON file next to it, for formats that hold none themselves.

    Raises:
        BadInput: there is a file already, or a folder.
        DiskFull: there is no room.
    """
    check_file(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, write)
    if beside is None:
        return [out]
    about = out.with_name(f"{out.name}.{ABOUT}")
    write_atomically(about, lambda file: file.write(encoded(beside)))
    return [out, about]


def check_file(out: Path, *, overwrite: bool) -> None:
    """Refuse a name that cannot be written, before the work begins.

    Raises:
        BadInput: there is a folder, or a file that may not be replaced.
    """
    if out.is_dir() or not out.name:
        raise BadInput(f"'{out}' is a folder, and this format is one file.", "Name a file in it with --out.")
    if out.exists() and not overwrite:
        raise BadInput(f"'{out}' is there already.", "Add --overwrite to replace it, or choose another name.")


@contextlib.contextmanager
def whole_folder(out: Path, about: Provenance, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to fill; it takes its name, with its ``about.json``, when all went well.

    Raises:
        BadInput: there is a file of that name, or a folder that may not be replaced.
        DiskFull: there is no room.
    """
    check_folder(out, overwrite=overwrite)
    out = out.absolute()
    temporary = temporary_beside(out)
    try:
        with saying_full(out):
            temporary.mkdir(parents=True)
            yield temporary
            (temporary / ABOUT).write_bytes(encoded(about))
            _sync(temporary)
            _put(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a name that cannot be written, before the work begins.

    Raises:
        BadInput: there is a file, a folder that may not be replaced, or one that is no export.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"'{out}' is a file, and this format is a folder.", "Choose another name with --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise BadInput(
            f"The folder '{out}' is not empty.", "Add --overwrite to replace it, or choose another name with --out."
        )
    if not _is_export(out):
        raise BadInput(f"The folder '{out}' is not an export and is not replaced.", "Choose another name with --out.")


def encoded(about: Provenance) -> bytes:
    """Return facts as JSON."""
    return json.dumps(about, indent=1).encode()


def _is_export(folder: Path) -> bool:
    """Tell whether a folder holds an export of ours and no more than that."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return str(json.loads((folder / ABOUT).read_bytes()).get("program", "")).startswith("dinoviz")
    return False


def _sync(folder: Path) -> None:
    """Make a folder survive a power cut: file by file, or all that the system holds back where there are many."""
    paths = list(folder.rglob("*"))
    if len(paths) > MANY_FILES and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        sync_folder(path) if path.is_dir() else sync_file(path)
    sync_folder(folder)


def _put(temporary: Path, out: Path) -> None:
    """Rename a folder to its name; what was there is out of the way first and comes back if that fails."""
    if not out.exists():
        replace(temporary, out)
        return
    before = temporary_beside(out)
    replace(out, before)
    try:
        replace(temporary, out)
    except BaseException:
        replace(before, out)
        raise
    shutil.rmtree(before)
