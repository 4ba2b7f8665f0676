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

from engine.errors import BadInput

RESOURCES = Path(__file__).resolve().parents[1] / "resources"
ARCHIVE = RESOURCES / "sample.zip"
PHOTOS = RESOURCES / "photos"
PROJECT = f"{PHOTOS.name}.dinoviz"
"""Name of the unpacked project, beside its folder of pictures as any other."""
MTIME_NS = 1_767_225_600 * 10**9
"""When every photo of the sample was last changed, as its table says: 1 January 2026, UTC. An even second, as file
systems of memory cards keep."""
CATALOGUE = "project.sqlite"
FOLDER_MODE = 0o755
"""Of the project's folder; a temporary one is the owner's alone."""


def sample_folder() -> Path:
    """Return where the sample is unpacked: in the user's folder for data of this program."""
    from platformdirs import user_data_dir

    return Path(user_data_dir("dinoviz")) / "sample"


def unpack_sample(to: Path) -> Path:
    """Put the sample into a folder, or what is missing of it, and return the project's folder.

    Args:
        to: need not be there; gets two folders, the pictures and the project.

    Raises:
        BadInput: it did not come with the program.
        OSError: it cannot be written.
    """
    project = to / PROJECT
    to.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(ARCHIVE) as archive:
            if _is_readable(project / CATALOGUE):
                _put_back(archive, project)
            else:
                _unpack(archive, project)
    except (FileNotFoundError, zipfile.BadZipFile) as problem:
        raise BadInput("The sample project did not come with this copy of dinoviz.", "Install it again.") from problem
    for source in sorted(path for path in PHOTOS.rglob("*") if path.is_file()):
        _copy_photo(source, to / source.relative_to(PHOTOS.parent))
    return project


def _is_readable(catalogue: Path) -> bool:
    """Tell whether there is a catalogue that holds pictures."""
    try:
        with contextlib.closing(sqlite3.connect(f"{catalogue.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute("SELECT count(*) FROM images").fetchone()[0])
    except sqlite3.Error:
        return False


def _unpack(archive: zipfile.ZipFile, project: Path) -> None:
    """Unpack the project whole or not at all, in the place of what is there."""
    fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=project.parent))
    try:
        archive.extractall(fresh)
        fresh.chmod(FOLDER_MODE)
        shutil.rmtree(project, ignore_errors=True)
        fresh.rename(project)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_back(archive: zipfile.ZipFile, project: Path) -> None:
    """Unpack the files that are missing, each whole or not at all."""
    for name in archive.namelist():
        target = project / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            part.write_bytes(archive.read(name))
            part.replace(target)


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
