"""One project folder: where everything is kept, and the table of its pictures.

Pictures stay where they are and are never changed. `scan` fills the table; an unreadable file is a row
with its problem. The catalogue is SQLite in WAL mode; its ``user_version`` holds major * 1000 + minor,
and a newer major is refused with a sentence.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine import marks
from engine.errors import BadInput, Busy, DiskFull, UserError
from engine.marks import Change, Marks
from engine.sets import FeatureSet, SetPlan, model_at_home

SUFFIX = ".dinoviz"
GONE = "the file is gone"
"""Problem of a picture that was there at an earlier scan."""
_CATALOGUE = "project.sqlite"
_MAJOR, _MINOR = 1, 2
LEAST_ROOM_BYTES = 1 << 16  # what SQLite takes beside a catalogue that is only read: its shared memory

_SCHEMA = """
CREATE TABLE facts(name TEXT PRIMARY KEY, value);
CREATE TABLE images(
    id INTEGER PRIMARY KEY,
    path UNIQUE NOT NULL,     -- relative to the folder; bytes where the name is no UTF-8
    size INTEGER NOT NULL,    -- bytes
    mtime_ns INTEGER NOT NULL,
    hash TEXT,
    width INTEGER, height INTEGER,  -- pixels, upright; NULL where unreadable
    label TEXT, split TEXT,
    problem TEXT              -- why it cannot be used; NULL where it can
);
CREATE TABLE runs(id INTEGER PRIMARY KEY, started REAL NOT NULL, state TEXT NOT NULL, about TEXT NOT NULL);
"""
_SETS = "CREATE TABLE sets(id INTEGER PRIMARY KEY, used REAL NOT NULL, key TEXT UNIQUE NOT NULL, model TEXT NOT NULL)"
"""Since 1.1. ``key`` is that of the set's plan; ``used`` when it was last embedded into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One row of the table. ``path`` is relative to the project's folder of pictures."""

    path: str
    size_bytes: int
    mtime_ns: int
    hash: str | None = None
    rows: int | None = None
    cols: int | None = None
    label: str | None = None
    split: str | None = None
    problem: str | None = None
    id: int = 0


def default_folder(pictures: Path) -> Path:
    """Return where the project of a folder of pictures lives unless told otherwise: beside it.

    Raises:
        BadInput: nothing is beside it, as it is the root of a disk.
    """
    pictures = pictures.resolve()
    if not pictures.name:
        raise BadInput(
            f"A project cannot be beside '{pictures}', which is the root of a disk.",
            "Say where to keep it with --project.",
        )
    return pictures.with_name(pictures.name + SUFFIX)


class Project:
    """An open project. Use `at` to open or make one, and close it or use it as a context."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._database = database

    @classmethod
    def at(cls, folder: Path, *, pictures: Path | None = None, only: str = "") -> Self:
        """Open the project in ``folder``; with ``pictures``, make it for that folder if it does not exist.

        ``only`` is the pattern of the shards it is made for, empty where it is for the whole folder.

        Raises:
            BadInput: there is no project, it belongs to another folder, or it cannot be written.
            Busy: another process is writing it.
            DiskFull: there is no room for it.
            UserError: a newer version of dinoviz made it.
        """
        catalogue = folder / _CATALOGUE
        if pictures is None and not catalogue.exists():
            raise BadInput(f"There is no project in '{folder}'.", "Make one with: engine scan FOLDER.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            project = cls(folder, _connected(catalogue))
        except sqlite3.Error as problem:
            raise _in_words(problem, folder, "opened") from problem
        except OSError as problem:
            raise BadInput(
                f"The project in '{folder}' cannot be opened: {problem}.", "Choose another place with --project."
            ) from problem
        try:
            project._migrate()
            if pictures is not None:
                project._belong_to(pictures.resolve(), only)
        except sqlite3.Error as problem:
            project.close()
            raise _in_words(problem, folder, "opened") from problem
        except UserError:
            project.close()
            raise
        return project

    def _migrate(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version // 1000 > _MAJOR:
            raise UserError(
                f"The project in '{self.folder}' was made by a newer dinoviz (format {version // 1000}).",
                f"This version reads format {_MAJOR}: update dinoviz.",
            )
        if version >= _MAJOR * 1000 + _MINOR:
            return
        with self._writing():
            (version,) = self._database.execute("PRAGMA user_version").fetchone()  # another process may have done it
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._database.execute(statement)
            if version < _MAJOR * 1000 + 1:
                self._database.execute(_SETS)
            if version < _MAJOR * 1000 + 2:
                for statement in marks.SCHEMA.split(";\n"):
                    self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {max(version, _MAJOR * 1000 + _MINOR)}")

    def _belong_to(self, pictures: Path, only: str) -> None:
        row = self._database.execute("SELECT value FROM facts WHERE name = 'pictures'").fetchone()
        if row is None:
            with self._writing():
                self._database.execute("INSERT INTO facts VALUES('pictures', ?)", (_stored(str(pictures)),))
                if only:
                    self._database.execute("INSERT INTO facts VALUES('only', ?)", (_stored(only),))
        elif self.pictures_folder != pictures:
            raise BadInput(
                f"The project in '{self.folder}' belongs to the pictures in '{self.pictures_folder}'.",
                "Choose another place for this folder's project with --project.",
            )
        elif self.only != only:
            whose = f"the shards '{self.only}'" if self.only else "the whole folder"
            raise BadInput(
                f"The project in '{self.folder}' is for {whose}.",
                "Choose another place for these pictures' project with --project.",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalogue."""
        self._database.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep what is written inside as a whole, or nothing of it.

        Raises:
            BadInput: the project cannot be written.
            Busy: another process is writing it.
            DiskFull: there is no room.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error as problem:
            raise _in_words(problem, self.folder, "written") from problem
        finally:
            if self._database.in_transaction:  # SQLite itself rolls back after some errors
                self._database.execute("ROLLBACK")

    @property
    def pictures_folder(self) -> Path:
        """Folder the pictures are in; paths of the table are relative to it."""
        return pictures_folder_of(self.folder, self.kept_pictures_folder)

    @property
    def only(self) -> str:
        """Pattern of the shards that its pictures are in, empty where it has all of the folder."""
        row = self._database.execute("SELECT value FROM facts WHERE name = 'only'").fetchone()
        return _name(row[0]) if row else ""

    @property
    def kept_pictures_folder(self) -> str:
        """The same as it is written down: relative to the project's folder where both are moved together."""
        row = self._database.execute("SELECT value FROM facts WHERE name = 'pictures'").fetchone()
        if row is None:  # a kill came between the making of the catalogue and its first line
            raise BadInput(
                f"The project in '{self.folder}' does not say where its pictures are.",
                "Open the folder of the pictures instead.",
            )
        return _name(row[0])

    def move_with_pictures(self) -> None:
        """Keep the pictures' folder relative to the project's, so that both can be moved together."""
        kept = Path(os.path.relpath(self.pictures_folder, self.folder.resolve())).as_posix()
        with self._writing():
            self._database.execute("UPDATE facts SET value = ? WHERE name = 'pictures'", (_stored(kept),))

    def pictures(self, *, readable: bool | None = None) -> list[Picture]:
        """Return the rows in order of id: all, those that are used, or those with a problem only.

        Used are the readable ones but for those that were left out of the project by hand, see ``marks``.
        """
        where = {
            None: "",
            True: "WHERE problem IS NULL AND id NOT IN (SELECT id FROM left_out)",
            False: "WHERE problem IS NOT NULL",
        }[readable]
        return [_picture(row) for row in self._database.execute(f"{_SELECT} {where} ORDER BY id")]

    def pictures_of(self, ids: Iterable[int]) -> list[Picture]:
        """Return the rows of some ids, in the order of these.

        Raises:
            BadInput: there is no such picture.
        """
        rows = [self._database.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone() for number in ids]
        if None in rows:
            raise BadInput("A picture is not in the project any more.", "Bring its features up to date: engine embed.")
        return [_picture(row) for row in rows]

    def record(self, pictures: Iterable[Picture]) -> None:
        """Insert pictures, or replace the rows of the same path; ids stay."""
        with self._writing():
            self._database.executemany(
                "INSERT INTO images(path, size, mtime_ns, hash, height, width, label, split, problem) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(path) DO UPDATE SET size = excluded.size, "
                "mtime_ns = excluded.mtime_ns, hash = excluded.hash, height = excluded.height, "
                "width = excluded.width, label = excluded.label, split = excluded.split, problem = excluded.problem",
                (
                    (_stored(p.path), p.size_bytes, p.mtime_ns, p.hash, p.rows, p.cols, p.label, p.split, p.problem)
                    for p in pictures
                ),
            )

    def new_run(self, about: str) -> Path:
        """Make the folder of the next run, ``runs/0001`` and so on, and return it."""
        with self._writing():
            (last,) = self._database.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()
            number, folder = self._make_run_folder(last + 1)
            self._database.execute("INSERT INTO runs VALUES(?, ?, 'started', ?)", (number, time.time(), about))
        return folder

    def _make_run_folder(self, number: int) -> tuple[int, Path]:
        """Make the first folder from ``number`` on that is not there; a kill may have left one without its row."""
        while True:
            folder = self.folder / "runs" / f"{number:04d}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return number, folder

    def set_run_state(self, run: Path, state: str) -> None:
        """Record how a run ended: finished, stopped or failed; deleted keeps only its number taken."""
        with self._writing():
            self._database.execute("UPDATE runs SET state = ? WHERE id = ?", (state, int(run.name)))

    def name_run(self, run: Path, about: str) -> None:
        """Call a run something else."""
        with self._writing():
            self._database.execute("UPDATE runs SET about = ? WHERE id = ?", (about, int(run.name)))

    def paths(self) -> dict[int, str]:
        """Return the path of every picture by its id, relative to the folder of pictures."""
        return {number: _name(path) for number, path in self._database.execute("SELECT id, path FROM images")}

    def id_of(self, path: str) -> int | None:
        """Return the id of the picture with a path, relative to the folder of pictures; None where there is none."""
        row = self._database.execute("SELECT id FROM images WHERE path = ?", (_stored(path),)).fetchone()
        return None if row is None else int(row[0])

    def labels(self) -> dict[int, str]:
        """Return the label of every picture that has one, by its id; corrected ones as they were corrected."""
        labels = dict(self._database.execute("SELECT id, label FROM images WHERE label IS NOT NULL"))
        return labels | dict(self._database.execute("SELECT id, label FROM corrections"))

    def labels_before(self) -> dict[int, str | None]:
        """Return the label of the folder of every picture whose label was corrected, by its id."""
        return dict(
            self._database.execute("SELECT i.id, i.label FROM corrections c JOIN images i ON i.id = c.id ORDER BY i.id")
        )

    def marks(self) -> Marks:
        """Return what the person said of pictures."""
        return marks.read_marks(self._database)

    def write_marks(self, change: Change) -> None:
        """Keep what the person said, as a whole; raises as everything that writes."""
        with self._writing():
            marks.write_change(self._database, change)

    def columns(self) -> Iterator[tuple[Any, ...]]:
        """Yield (id, path, size, mtime_ns, height, width, label, split, problem) of all pictures, in order of path.

        The labels are those of the folders, without corrections.
        """
        return self._database.execute(
            "SELECT id, path, size, mtime_ns, height, width, label, split, problem FROM images ORDER BY path"
        )

    def count(self) -> int:
        """Return how many pictures the table holds, readable or not."""
        return int(self._database.execute("SELECT count(*) FROM images").fetchone()[0])

    def runs(self) -> list[tuple[int, float, str, str]]:
        """Return number, time of the start, state and subject of every run but those whose folders were deleted."""
        return self._database.execute(
            "SELECT id, started, state, about FROM runs WHERE state != 'deleted' ORDER BY id"
        ).fetchall()

    def run_folder(self, number: int) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / f"{number:04d}"

    def sets(self) -> list[tuple[int, str]]:
        """Return number and model of every set of features, the one used last first."""
        rows = self._database.execute("SELECT id, model FROM sets ORDER BY used DESC, id DESC").fetchall()
        return [(number, model_at_home(model, self.folder)) for number, model in rows]

    def set_folder(self, plan: SetPlan) -> Path:
        """Return the folder of the set with this plan, ``sets/0001`` and so on; a new number where there is none."""
        with self._writing():
            row = self._database.execute("SELECT id FROM sets WHERE key = ?", (plan.key,)).fetchone()
            if row:
                return self._set_folder(row[0])
            (number,) = self._database.execute("SELECT coalesce(max(id), 0) + 1 FROM sets").fetchone()
            while self._set_folder(number).exists():  # of a catalogue that was lost
                number += 1
            self._database.execute("INSERT INTO sets VALUES(?, 0, ?, ?)", (number, plan.key, plan.model))
        return self._set_folder(number)

    def use_set(self, plan: SetPlan) -> None:
        """Make the set with this plan the one that is meant where none is named."""
        with self._writing():
            self._database.execute(
                "UPDATE sets SET used = ?, model = ? WHERE key = ?", (time.time(), plan.model, plan.key)
            )

    def _set_folder(self, number: int) -> Path:
        return self.folder / "sets" / f"{number:04d}"

    def features(self, name: str | None = None) -> FeatureSet:
        """Open a set of features: the one embedded into last, or the one of a number or a model.

        Raises:
            BadInput: there is none, or none of that name.
        """
        return FeatureSet(self.folder_of_set(name))

    def folder_of_set(self, name: str | None = None) -> Path:
        """Return the folder of a set; raises as ``features``."""
        rows = self._database.execute("SELECT id, model FROM sets ORDER BY used DESC, id DESC").fetchall()
        if not rows:
            raise BadInput(
                f"The project '{self.folder}' has no features yet.",
                f"Make them: engine embed {self.folder} --model NAME.",
            )
        for number, model in rows:
            names = (model, model_at_home(model, self.folder))
            if name is None or name in names or (name.isdecimal() and int(name) == number):
                return self._set_folder(number)
        known = ", ".join(f"{number} ({model})" for number, model in sorted(rows))
        raise BadInput(f"The project has no set '{name}'.", f"There are: {known}.")


_SELECT = (
    "SELECT id, path, size, mtime_ns, hash, height, width, "
    "coalesce((SELECT c.label FROM corrections c WHERE c.id = images.id), label), split, problem FROM images"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a look at a project's catalogue tells: where its pictures are, how many are readable, and some of them."""

    pictures_folder: Path
    n_pictures: int
    some: tuple[str, ...]


def glance_at(folder: Path, n: int) -> Glance | None:
    """Return what is in a project, with ``n`` pictures spread over it; None where there is none that can be read.

    Nothing is written, so that a project of an older version stays as it is.
    """
    query = "SELECT path FROM images WHERE problem IS NULL AND id >= ? ORDER BY id LIMIT 1"
    catalogue = (folder / _CATALOGUE).absolute()
    try:
        if not catalogue.is_file():
            return None
        with contextlib.closing(sqlite3.connect(f"{catalogue.as_uri()}?mode=ro", uri=True)) as database:
            (kept,) = database.execute("SELECT value FROM facts WHERE name = 'pictures'").fetchone()
            count, last = database.execute("SELECT count(*), max(id) FROM images WHERE problem IS NULL").fetchone()
            places = [1 + part * (last or 0) // n for part in range(n)]
            found = [row[0] for place in places if (row := database.execute(query, (place,)).fetchone())]
    except (OSError, sqlite3.Error, TypeError):
        return None
    some = tuple(dict.fromkeys(map(_name, found)))
    return Glance(pictures_folder=pictures_folder_of(folder, _name(kept)), n_pictures=count, some=some)


def is_project(folder: Path) -> bool:
    """Tell whether there is a project in a folder, whatever state it is in."""
    return (folder / _CATALOGUE).is_file()


def _connected(catalogue: Path) -> sqlite3.Connection:
    """Open a catalogue; where nothing can be written beside it, as on a disk that is read-only, for reading alone.

    What another process wrote last may lie in a file of its own beside the catalogue, which is read where SQLite can.
    """
    ways = ("mode=rwc", "mode=ro", "mode=ro&immutable=1")
    for way in ways:
        database = sqlite3.connect(f"{catalogue.absolute().as_uri()}?{way}", uri=True, isolation_level=None, timeout=10)
        try:
            if way == "mode=rwc":
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as problem:
            database.close()
            is_refused = _code(problem) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
            if way == ways[-1] or not is_refused or not catalogue.is_file() or _is_full(catalogue.parent):
                raise
        else:
            return database
    raise AssertionError


def _picture(row: Sequence[Any]) -> Picture:
    return Picture(
        id=row[0],
        path=_name(row[1]),
        size_bytes=row[2],
        mtime_ns=row[3],
        hash=row[4],
        rows=row[5],
        cols=row[6],
        label=row[7],
        split=row[8],
        problem=row[9],
    )


def _in_words(problem: sqlite3.Error, folder: Path, what: str) -> UserError:
    """Return what SQLite's complaint means to a person."""
    match _code(problem):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Busy(f"Another process is writing the project in '{folder}'.", "Wait for it to end.")
        case sqlite3.SQLITE_FULL:
            return DiskFull(f"No room left to write the project in '{folder}'.", "Free some space and try again.")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN if _is_full(folder):  # it needs files of its own to read
            return DiskFull(f"No room left to open the project in '{folder}'.", "Free some space and try again.")
    return BadInput(f"The project in '{folder}' cannot be {what}: {problem}.", "Choose another place with --project.")


def _code(problem: sqlite3.Error) -> int:
    """Return SQLite's primary code, which is in the lowest byte."""
    code: int = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _is_full(folder: Path) -> bool:
    return folder.exists() and shutil.disk_usage(folder).free < LEAST_ROOM_BYTES


def pictures_folder_of(project: Path, kept: str) -> Path:
    """Return where the pictures of a project are; ``kept`` may be relative to the folder of the project."""
    return Path(kept) if Path(kept).is_absolute() else (project / kept).resolve()


def _stored(path: str) -> str | bytes:
    """Return a path as SQLite can hold it: text, or bytes where the name is no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _name(stored: str | bytes) -> str:
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored
