"""The sample project that comes with the program, put where it can be written.

``resources/sample.zip`` holds the project without its pictures, which are ``resources/photos``;
``packaging/sample.py`` makes it. Unpacked, both lie side by side, and the project names the pictures relative to
itself. What a person did in it, tags or runs, stays; only what is missing or damaged is put back.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import zipfile
from pathlib import Path

RESOURCES = Path(__file__).resolve().parents[1] / "resources"
ARCHIVE = RESOURCES / "sample.zip"
PHOTOS = RESOURCES / "photos"
PROJECT = f"{PHOTOS.name}.dinoviz"
"""Name of the unpacked project, beside its folder of pictures as any other."""
MTIME_NS = 1_767_225_600 * 10**9
"""When every photo of the sample was last changed, as its table says: 1 January 2026, UTC. An even second, as file
systems of memory cards keep."""
CATALOGUE = "project.sqlite"


def sample_folder() -> Path:
    """Return where the sample is unpacked: in the user's folder for data of this program."""
    from platformdirs import user_data_dir

    return Path(user_data_dir("dinoviz")) / "sample"


def unpack_sample(to: Path) -> Path:
    """Put the sample into a folder, or what is missing of it, and return the project's folder.

    Args:
        to: need not be there; gets two folders, the pictures and the project.

    Raises:
        OSError: it cannot be written.
    """
    project = to / PROJECT
    to.mkdir(parents=True, exist_ok=True)
    if not _is_whole(project):
        _unpack_project(project)
    for source in sorted(path for path in PHOTOS.rglob("*") if path.is_file()):
        _copy_photo(source, to / source.relative_to(PHOTOS.parent))
    return project


def _is_whole(project: Path) -> bool:
    """Tell whether everything of the archive is there, and the catalogue can be read."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        if not all((project / name).is_file() for name in archive.namelist()):
            return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{project / CATALOGUE}?mode=ro", uri=True)) as database:
            return database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.Error:
        return False


def _unpack_project(project: Path) -> None:
    """Unpack the project whole or not at all, over what is there."""
    fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=project.parent))
    try:
        with zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(fresh)
        shutil.rmtree(project, ignore_errors=True)
        fresh.rename(project)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _copy_photo(source: Path, target: Path) -> None:
    """Copy one photo with the time of its last change as the table has it, unless it is there."""
    with contextlib.suppress(OSError):
        there, bundled = target.stat(), source.stat()
        if (there.st_size, there.st_mtime_ns) == (bundled.st_size, MTIME_NS):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, fresh)
    os.utime(fresh, ns=(MTIME_NS, MTIME_NS))
    fresh.replace(target)
