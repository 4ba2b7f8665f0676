"""The pictures of an export: read ahead while the last one is worked on, and kept account of.

What becomes of each picture is one line of ``pictures.jsonl``. There may be any number of them, so nothing of a
picture stays in memory when its files are written.

Letters after a name are its axes:
    Y X pixels · 3 colours, RGB
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnreadablePicture
from engine.images import exif_orientation, open_rgb
from engine.seeing.files import file_stems

READ_AHEAD = 2
"""Pictures decoded before they are needed; each may have 360 MB."""
PICTURES = "pictures.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One picture to export from.

    Args:
        path: where it is.
        name: its path below the folder that was named, '/' between parts.
        id: its id in the project; its place in the order, from 1, where there is no project.
        split: train, val or test, where the folders say so.
        problem: why it cannot be read, where that is known already.
    """

    path: Path
    name: str
    id: int
    split: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A picture that was read: upright, RGB, uint8 (height, width, 3).

    ``orientation`` is how its file is stored, by EXIF: 1 is upright already. ``stem`` is the name that its files have.
    """

    source: Source
    stem: str
    picture_YX3: NDArray[np.uint8]
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.picture_YX3.shape[0], self.picture_YX3.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A picture that is left out, and why."""

    source: Source
    problem: str


def opened(sources: Sequence[Source]) -> Generator[Opened | Unread, None, None]:
    """Read pictures in their order, a few ahead of the one that is given."""
    waiting: deque[Future[Opened | Unread]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="reading ahead") as reader:
        try:
            for source, stem in zip(sources, file_stems(source.path for source in sources), strict=True):
                waiting.append(reader.submit(_open, source, stem))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            reader.shutdown(wait=True, cancel_futures=True)


def _open(source: Source, stem: str) -> Opened | Unread:
    if source.problem is not None:
        return Unread(source=source, problem=source.problem)
    try:
        picture_YX3 = open_rgb(source.path)
        return Opened(source=source, stem=stem, picture_YX3=picture_YX3, orientation=exif_orientation(source.path))
    except UnreadablePicture as problem:
        return Unread(source=source, problem=problem.message)


@dataclass(slots=True, kw_only=True)
class Account:
    """What an export did: counts, the pictures left out, and whether it was stopped before the end.

    ``n_turned`` pictures are not upright in their files.
    """

    n_pictures: int = 0
    n_files: int = 0
    n_turned: int = 0
    left_out: list[Unread] = field(default_factory=list)
    is_stopped: bool = False


Handle = Callable[[Opened], tuple[Sequence[Path], Mapping[str, Any]]]
"""Writes the files of one picture and returns them, with what to note about it."""


def export_each(
    sources: Sequence[Source],
    out: Path,
    handle: Handle,
    *,
    after_each: Callable[[], object] | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> Account:
    """Export from one picture after the other, and write ``pictures.jsonl``: a line about each.

    A picture that cannot be read is noted and the others go on; so is one that ``handle`` refuses as unreadable.

    Args:
        sources: the pictures.
        out: an existing folder.
        handle: does the work of one picture.
        after_each: is called after each.
        is_stopped: is asked before each; what is done by then is kept.
    """
    account = Account()
    with contextlib.closing(opened(sources)) as reading, (out / PICTURES).open("wb") as ledger:
        for row in reading:
            if is_stopped and is_stopped():
                account.is_stopped = True
                break
            ledger.write(json_line(_settled(row, out, handle, account)))
            if after_each:
                after_each()
    return account


def json_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as one line of JSON, in ASCII, as names of files may be no UTF-8."""
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _settled(row: Opened | Unread, out: Path, handle: Handle, account: Account) -> dict[str, Any]:
    """Do the work of one picture; return what is noted about it."""
    if isinstance(row, Opened):
        try:
            return _done(row, out, account, *handle(row))
        except UnreadablePicture as problem:
            row = Unread(source=row.source, problem=problem.message)
    account.left_out.append(row)
    return {"id": row.source.id, "picture": row.source.name, "problem": row.problem}


def _done(row: Opened, out: Path, account: Account, files: Sequence[Path], about: Mapping[str, Any]) -> dict[str, Any]:
    """Count a picture that is done; return what is noted about it."""
    account.n_pictures += 1
    account.n_files += len(files)
    account.n_turned += row.orientation != 1
    height, width = row.size
    turned = {"exif_orientation": row.orientation} if row.orientation != 1 else {}
    names = [file.relative_to(out).as_posix() for file in files]
    size = {"width": width, "height": height}
    return {"id": row.source.id, "picture": row.source.name, **size, **turned, "files": names, **about}
