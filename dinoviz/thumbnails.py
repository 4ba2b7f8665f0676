"""Small pictures of pictures: decoded off the GUI thread, the latest request first, kept in memory and on the disk.

``image`` answers at once with what is in memory, and asks for the rest; ``arrived`` tells when it is there. Sides are
in device pixels: a cell of 160 on a screen of scale 2 asks for 320, and what comes is drawn pixel for pixel.

Two threads decode. They take what the views said they want now, the view that spoke last first; what has scrolled away
was replaced in that list and is never decoded. Pictures that are slow to decode are kept as JPEG in
``cache/thumbnails.sqlite`` of the project, which may be deleted at any time and does no harm where it fails.
"""

import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QBuffer, QByteArray, QObject, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QImage, QImageWriter, QPainter, QPen, QPolygonF

from engine.errors import UnreadablePicture

if TYPE_CHECKING:
    from dinoviz.session import Session
    from dinoviz.table import PictureTable

THREADS = (
    2  # more gain little, as a thread holds Python's lock for a third of a small picture, and take from the engine
)
MEMORY_BYTES = 256 << 20
ASKED_AT_MOST = 512
"""Single requests that wait; older ones are dropped. More than a screen shows of the smallest cells in one view."""
SLOW_S = 0.005
"""Pictures that take longer to decode go to the disk cache; reading them from there takes 1 ms."""
DISK_SIDES = (256, 512)
"""Longer sides kept on the disk, px. A request takes the next larger one; what is larger still is decoded anew."""
DISK_BYTES = 2 << 30  # some 100,000 pictures of both sides
JPEG_QUALITY = 88
BATCH = 64  # pictures written to the disk at once
BATCH_WAIT_S = 1.0

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS thumbnails(id INTEGER, side INTEGER, mtime_ns INTEGER NOT NULL, jpeg BLOB NOT NULL, "
    "PRIMARY KEY(id, side)) WITHOUT ROWID"
)

Source = int | str
"""A picture: the id of one of the project, the path of any other file."""
Key = tuple[Source, int]
"""A picture, and the longer side it is wanted at, in device pixels."""


@dataclass(frozen=True, slots=True)
class _Landed:
    """What became of a request: an image, or the reason why there is none."""

    key: Key
    project: Path | None
    image: QImage | None
    problem: str = ""


class Thumbnails(QObject):
    """Thumbnails of the open project, and of files outside it. Used in the GUI thread only.

    Signals:
        arrived: id of a picture of which an image, or the news that there is none, came in.
        file_arrived: the same for the path of a file outside the project.
    """

    arrived = Signal(int)
    file_arrived = Signal(str)
    _landing = Signal()

    def __init__(self, session: "Session", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._memory = _Memory(MEMORY_BYTES)
        self._problems: dict[Source, str] = {}
        self._placeholders: dict[int, QImage] = {}
        self._requests = _Requests()
        self._landed: list[_Landed] = []
        self._landed_lock = threading.Lock()
        self._landing.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._project: Path | None = session.state.project
        self._table: PictureTable = session.state.table
        self._disk = _Disk()
        self._threads = [
            threading.Thread(target=self._work, name=f"thumbnails {i}", daemon=True) for i in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()
        session.changed.connect(self._follow)
        self._use_table()

    def image(self, picture: int, side_px: int) -> QImage | None:
        """Return a picture that fits in a square of ``side_px`` device pixels, None where it is not in memory yet.

        What is not there at this size is asked for; until it comes, another size of the same picture is returned where
        there is one, so draw it into a rectangle. Of an unreadable picture it is a drawn placeholder.
        """
        return self._image(picture, side_px)

    def in_memory(self, picture: int, side_px: int) -> QImage | None:
        """Return the same without asking for anything: for views that say what they ``want``."""
        image = self._memory.nearest(picture, side_px)[0]
        return self._placeholder(side_px) if image is None and self._problem(picture) else image

    def image_of_file(self, path: Path, side_px: int) -> QImage | None:
        """Return the same for a file that need not be in the project; ``file_arrived`` tells when it comes."""
        return self._image(str(path), side_px)

    def problem(self, source: int | Path) -> str:
        """Return why there is no image of a picture, or ''; a scan told it, or it shows when it is first decoded."""
        return self._problem(source if isinstance(source, int) else str(source))

    def want(self, owner: str, pictures: Iterable[int], side_px: int) -> None:
        """Say what a view needs now, the most urgent first; this replaces what it wanted before."""
        keys = ((picture, side_px) for picture in map(int, pictures))
        self._requests.want(owner, deque(key for key in keys if key not in self._memory and not self._problem(key[0])))

    def close(self) -> None:
        """End the threads, and write what the disk cache still has to."""
        self._requests.close()
        for thread in self._threads:
            thread.join()
        self._disk.close()

    def _image(self, source: Source, side_px: int) -> QImage | None:
        image, is_exact = self._memory.nearest(source, side_px)
        if is_exact:
            return image
        if self._problem(source):
            return self._placeholder(side_px)
        self._requests.ask((source, side_px))
        return image

    def _problem(self, source: Source) -> str:
        if source in self._problems or isinstance(source, str) or not self._table.contains(source):
            return self._problems.get(source, "")
        return self._table.problem.word(self._table.row_of(source)) or ""

    def _placeholder(self, side_px: int) -> QImage:
        if side_px not in self._placeholders:
            self._placeholders[side_px] = draw_placeholder(side_px)
        return self._placeholders[side_px]

    def _follow(self, names: frozenset[str]) -> None:
        if names & {"project", "table"}:
            self._use_table()

    def _use_table(self) -> None:
        """Turn to another project, or to what a scan found anew; forget what is not as it was."""
        state = self._session.state
        if state.project != self._project:
            self._memory.clear()
            self._requests.clear()
        else:
            self._memory.forget(_changed(self._memory.pictures(), self._table, state.table))
        self._problems.clear()
        self._project, self._table = state.project, state.table
        self._requests.use(state.project, state.table)

    def _work(self) -> None:
        """Decode until closed; runs in each thread."""
        reader = _DiskReader()
        while (request := self._requests.next()) is not None:
            key, project, table = request
            try:
                landed = _decode(key, project, table, self._disk, reader)
            except Exception as problem:  # noqa: BLE001 - one picture is not shown, and says why; the thread goes on
                landed = _Landed(key, project, None, f"{type(problem).__name__}: {problem}")
            self._requests.done(key, project)
            with self._landed_lock:
                self._landed.append(landed)
                is_first = len(self._landed) == 1
            if is_first:
                with suppress(RuntimeError):  # the object went while this picture was decoded
                    self._landing.emit()
        reader.close()

    def _deliver(self) -> None:
        """Take in what the threads made, and tell of each picture once."""
        with self._landed_lock:
            landed, self._landed = self._landed, []
        sources: dict[Source, None] = {}
        for one in landed:
            if isinstance(one.key[0], int) and one.project != self._project:
                continue
            if one.image is None:
                self._problems[one.key[0]] = one.problem
            else:
                self._memory.put(one.key, one.image)
            sources[one.key[0]] = None
        for source in sources:
            if isinstance(source, int):
                self.arrived.emit(source)
            else:
                self.file_arrived.emit(source)


def _changed(pictures: set[int], before: "PictureTable", after: "PictureTable") -> set[int]:
    """Return which of some pictures are gone, or have a file that changed."""

    def mtime(table: "PictureTable", picture: int) -> int | None:
        return int(table.mtimes_N[table.row_of(picture)]) if table.contains(picture) else None

    return {picture for picture in pictures if mtime(before, picture) != mtime(after, picture)}


class _Memory:
    """Images by picture and side, the least recently used forgotten first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._images: OrderedDict[Key, QImage] = OrderedDict()
        self._sides: dict[Source, list[int]] = {}
        self.size_bytes = 0

    def __contains__(self, key: Key) -> bool:
        return key in self._images

    def nearest(self, source: Source, side: int) -> tuple[QImage | None, bool]:
        """Return the image of this side, or of the best other one there is; and whether it is of this side."""
        image = self._images.get((source, side))
        if image is not None:
            self._images.move_to_end((source, side))
            return image, True
        sides = self._sides.get(source)
        if not sides:
            return None, False
        larger = [other for other in sides if other > side]
        return self._images[source, min(larger) if larger else max(sides)], False

    def put(self, key: Key, image: QImage) -> None:
        if key in self._images:
            return
        self._images[key] = image
        self._sides.setdefault(key[0], []).append(key[1])
        self.size_bytes += image.sizeInBytes()
        while self.size_bytes > self._limit_bytes and len(self._images) > 1:
            self._drop(next(iter(self._images)))

    def forget(self, sources: set[int]) -> None:
        for key in [key for key in self._images if key[0] in sources]:
            self._drop(key)

    def pictures(self) -> set[int]:
        return {source for source in self._sides if isinstance(source, int)}

    def clear(self) -> None:
        self._images.clear()
        self._sides.clear()
        self.size_bytes = 0

    def _drop(self, key: Key) -> None:
        self.size_bytes -= self._images.pop(key).sizeInBytes()
        sides = self._sides[key[0]]
        sides.remove(key[1])
        if not sides:
            del self._sides[key[0]]


class _Requests:
    """What is to be decoded: the lists of the views, then single requests, the latest first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._wanted: dict[str, deque[Key]] = {}
        self._asked: OrderedDict[Key, None] = OrderedDict()
        self._in_hand: set[tuple[Path | None, Key]] = set()
        self._project: Path | None = None
        self._table: PictureTable | None = None
        self._is_closed = False

    def want(self, owner: str, keys: deque[Key]) -> None:
        with self._condition:
            self._wanted.pop(owner, None)
            if keys:
                self._wanted[owner] = keys
                self._condition.notify_all()

    def ask(self, key: Key) -> None:
        with self._condition:
            if (self._project, key) in self._in_hand:
                return
            self._asked[key] = None
            self._asked.move_to_end(key)
            if len(self._asked) > ASKED_AT_MOST:
                self._asked.popitem(last=False)
            self._condition.notify()

    def use(self, project: Path | None, table: "PictureTable") -> None:
        with self._condition:
            self._project, self._table = project, table

    def clear(self) -> None:
        with self._condition:
            self._wanted.clear()
            self._asked.clear()

    def next(self) -> "tuple[Key, Path | None, PictureTable | None] | None":
        """Wait for the most urgent request and take it; None when closed."""
        with self._condition:
            while not self._is_closed:
                key = self._pop()
                if key is not None:
                    self._in_hand.add((self._project, key))
                    return key, self._project, self._table
                self._condition.wait()
        return None

    def done(self, key: Key, project: Path | None) -> None:
        with self._condition:
            self._in_hand.discard((project, key))

    def close(self) -> None:
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _pop(self) -> Key | None:
        while self._wanted:
            owner = next(reversed(self._wanted))
            keys = self._wanted[owner]
            while keys:
                key = keys.popleft()
                self._asked.pop(key, None)
                if (self._project, key) not in self._in_hand:
                    return key
            del self._wanted[owner]
        return self._asked.popitem()[0] if self._asked else None


def _decode(
    key: Key, project: Path | None, table: "PictureTable | None", disk: "_Disk", reader: "_DiskReader"
) -> _Landed:
    """Read a picture from the disk cache or its file, at just this side."""
    source, side = key
    try:
        if isinstance(source, str) or table is None:
            return _Landed(key, project, _fitted(_image_of(_decoded(Path(str(source)), side)), side))
        mtime_ns = int(table.mtimes_N[table.row_of(source)])
        kept_side = next((kept for kept in DISK_SIDES if kept >= side), None)
        cache = None if project is None or kept_side is None else project.absolute() / "cache" / "thumbnails.sqlite"
        kept = reader.read(cache, source, kept_side, mtime_ns) if cache and kept_side else None
        if kept is not None:
            return _Landed(key, project, _fitted(kept, side))
        started = time.perf_counter()
        decoded = _image_of(_decoded(table.file(source), kept_side or side))
        if cache and kept_side and time.perf_counter() - started > SLOW_S:
            decoded = _fitted(decoded, kept_side)
            disk.keep(cache, source, kept_side, mtime_ns, decoded)
        return _Landed(key, project, _fitted(decoded, side))
    except UnreadablePicture as problem:
        return _Landed(key, project, None, str(problem))
    except (KeyError, IndexError):
        return _Landed(key, project, None, "not in the project any more")


def _decoded(file: Path, side: int) -> NDArray[np.uint8]:
    from engine.images import open_rgb  # not before the window is painted

    return open_rgb(file, at_least=side)


def _image_of(pixels_YXC: NDArray[np.uint8]) -> QImage:
    """Return (rows, cols, 3) as an image of the format that is painted quickest; it owns its pixels."""
    rows, cols, _ = pixels_YXC.shape
    image = QImage(pixels_YXC.data, cols, rows, 3 * cols, QImage.Format.Format_RGB888)
    return image.convertToFormat(QImage.Format.Format_RGB32)


def _fitted(image: QImage, side: int) -> QImage:
    """Return an image whose longer side is just ``side``.

    Qt averages the pixels that become one: several times quicker than Pillow's Lanczos, and it looks the same.
    """
    if max(image.width(), image.height()) == side:
        return image
    scaled = image.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
    return scaled.convertToFormat(QImage.Format.Format_RGB32)


def draw_placeholder(side_px: int) -> QImage:
    """Draw what stands for a picture that cannot be read: a picture frame with a crack, on neither light nor dark."""
    image = QImage(side_px, round(side_px * 0.75), QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(QColor(128, 128, 128, 40))
    glyph = side_px * 0.3
    with QPainter(image) as painter:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(128, 128, 128, 200), max(1.0, side_px / 80)))
        painter.translate(side_px / 2, image.height() / 2)
        painter.drawRoundedRect(QRectF(-glyph / 2, -glyph * 0.4, glyph, glyph * 0.8), glyph * 0.08, glyph * 0.08)
        crack = ((0.1, -0.4), (-0.06, -0.12), (0.08, 0.06), (-0.1, 0.4))
        painter.drawPolyline(QPolygonF([QPointF(x * glyph, y * glyph) for x, y in crack]))
    return image


class _Disk:
    """Writes JPEGs into the caches of projects, in batches and in a thread of its own; silent where it fails."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._batch: list[tuple[Path, int, int, int, QImage]] = []
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def keep(self, file: Path, picture: int, side: int, mtime_ns: int, image: QImage) -> None:
        with self._condition:
            self._batch.append((file, picture, side, mtime_ns, image))
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._write, name="thumbnails to disk", daemon=True)
                self._thread.start()
            if len(self._batch) >= BATCH:
                self._condition.notify()

    def close(self) -> None:
        with self._condition:
            self._is_closed = True
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        is_closed = False
        while not is_closed:
            with self._condition:
                self._condition.wait_for(lambda: self._is_closed or len(self._batch) >= BATCH, BATCH_WAIT_S)
                batch, self._batch = self._batch, []
                is_closed = self._is_closed
            for file in dict.fromkeys(row[0] for row in batch):
                with suppress(sqlite3.Error, OSError):
                    _write_batch(file, [row[1:] for row in batch if row[0] == file])


def _write_batch(file: Path, batch: list[tuple[int, int, int, QImage]]) -> None:
    """Insert pictures; a cache that is damaged, or has grown too large, is begun anew."""
    if not file.parent.parent.is_dir():
        return  # the project was moved away
    file.parent.mkdir(exist_ok=True)
    if file.exists() and file.stat().st_size > DISK_BYTES:
        _remove(file)
    rows = [(picture, side, mtime_ns, _jpeg(image)) for picture, side, mtime_ns, image in batch]
    try:
        _insert(file, rows)
    except sqlite3.DatabaseError as problem:
        if problem.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            _remove(file)
            _insert(file, rows)


def _remove(file: Path) -> None:
    """Remove a database with what SQLite keeps beside it, which would spoil the next one of this name."""
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _insert(file: Path, rows: list[tuple[int, int, int, bytes]]) -> None:
    database = sqlite3.connect(file, isolation_level=None, timeout=1)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # what is lost is made again
        database.execute("BEGIN")
        database.execute(_SCHEMA)
        database.executemany("INSERT OR REPLACE INTO thumbnails(id, side, mtime_ns, jpeg) VALUES(?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    finally:
        database.close()


def _jpeg(image: QImage) -> bytes:
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    writer = QImageWriter(buffer, QByteArray(b"jpeg"))
    writer.setQuality(JPEG_QUALITY)
    writer.write(image)
    return bytes(buffer.data().data())


class _DiskReader:
    """One thread's reading end of the disk cache."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._database: sqlite3.Connection | None = None

    def read(self, file: Path, picture: int, side: int, mtime_ns: int) -> QImage | None:
        """Return the image that ``file`` keeps of a picture as its own file is now, None where there is none."""
        with suppress(sqlite3.Error, OSError):
            database = self._open(file)
            if database is not None:
                row = database.execute(
                    "SELECT jpeg FROM thumbnails WHERE id = ? AND side = ? AND mtime_ns = ?", (picture, side, mtime_ns)
                ).fetchone()
                image = QImage.fromData(row[0]) if row else QImage()
                return None if image.isNull() else image
        return None

    def _open(self, file: Path) -> sqlite3.Connection | None:
        if file != self._file or not file.exists():
            self.close()
        if self._database is None and file.exists():
            self._database = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0.1)
            self._file = file
        return self._database

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database, self._file = None, None
