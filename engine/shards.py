"""Tar shards, as webdataset and tar write them: listed once, then read at random by the offset of every member.

A picture in a shard has a path like any other, ``…/train-0001.tar/KEY.jpg``, and ``opened`` opens it. So whatever reads
pictures reads those in shards too, in any order, without a copy of them.

The list of a shard is kept in the user's cache, by the shard's place, size and time of last change; where nothing can
be kept there, every process makes its own. It knows tar and webdataset's names, and no picture.

Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format";
webdataset, documentation of the format: members that share all up to the first dot of their file name are one sample.
"""

import errno
import hashlib
import io
import json
import os
import re
import tarfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from engine.errors import DiskFull
from engine.store import PARSING, write_atomically

SUFFIX = ".tar"
NAMES = ("utf-8", "surrogateescape")
"""How names of members are text; bytes outside UTF-8 as in paths."""
BLOCK = 512
"""Bytes of a header, and what members are padded to."""
SEARCHED_BYTES = 64 << 20
"""How far the next whole header is looked for behind a damaged one."""
READ_AHEAD_BYTES = 4096
"""A header and, of most labels, the content behind it."""
KEPT_OPEN = 256
"""Lists that a process holds, memory-mapped."""
LABELS_IN = ("cls", "json", "txt")
"""Members of a sample that may hold its label; the first one that does, counts."""
LABEL_FILE_BYTES, LABEL_BYTES = 1 << 16, 120
LABEL_WORDS = 4
"""A .txt of more words is a caption and no class."""
_VERSION = b"1"
_PROBLEM = -1
_RECORDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
MOST_RECORD_BYTES = 1 << 20
"""Of a record that says more of a member than its header does: its name, mostly."""


def shard_of(path: Path) -> tuple[Path, str] | None:
    """Return the shard that a path leads into and the name of the member, None for a path in folders only."""
    parts = path.parts
    for number, part in enumerate(parts[:-1], start=1):
        if part.lower().endswith(SUFFIX) and (shard := Path(*parts[:number])).is_file():
            return shard, "/".join(parts[number:])
    return None


def is_there(path: Path) -> bool:
    """Tell whether there is a file, or a member of a shard.

    Raises:
        OSError: it may not be looked for.
    """
    if shard_of(path) is None:
        return path.is_file()
    with suppress(FileNotFoundError):
        opened(path).close()
        return True
    return False


def opened(path: Path) -> BinaryIO:
    """Open a file, or a member of a shard, for reading.

    Raises:
        FileNotFoundError: there is no such file, shard or member; other errors of the system as it gives them.
    """
    inside = shard_of(path)
    if inside is None:
        return path.open("rb")
    shard, name = inside
    row = find(shard, name)
    with shard.open("rb") as file:
        file.seek(row["offset"])
        return io.BytesIO(file.read(row["size"]))


def find(shard: Path, name: str) -> np.void:
    """Return the row of a member: ``offset`` and ``size`` in bytes.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    rows = index(shard)
    names, wanted = rows["name"], name.encode(*NAMES)
    for place in range(bisect_left(names, wanted), len(names)):
        if names[place] != wanted:
            break
        if rows[place]["offset"] != _PROBLEM:
            found: np.void = rows[place]
            return found
    raise FileNotFoundError(errno.ENOENT, f"no longer in the shard {shard.name}", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A regular file in a shard; ``text`` is the label that it holds, where it is one of ``LABELS_IN``."""

    name: str
    offset: int
    size_bytes: int
    text: str

    @property
    def folder_and_name(self) -> tuple[str, str]:
        """Its folder within the shard and its file name."""
        folder, _, name = self.name.rpartition("/")
        return folder, name

    @property
    def key(self) -> str:
        """What it shares with the other members of its sample: all before the first dot of its file name."""
        folder, name = self.folder_and_name
        return f"{folder}/{name.partition('.')[0]}"

    @property
    def field(self) -> str:
        """What it is of its sample: all behind that dot, in small letters."""
        return self.folder_and_name[1].partition(".")[2].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The members of a shard, by name, and what of it cannot be read, with the reason."""

    members: tuple[Member, ...]
    problems: tuple[tuple[str, str], ...]


def listing(shard: Path) -> Listing:
    """Return what is in a shard.

    Raises:
        OSError: it cannot be opened.
    """
    rows = index(shard)
    members, problems = [], []
    for name, offset, size, text in rows.tolist():
        if offset == _PROBLEM:
            problems.append((name.decode(*NAMES), text.decode()))
        else:
            members.append(Member(name=name.decode(*NAMES), offset=offset, size_bytes=size, text=text.decode()))
    return Listing(members=tuple(members), problems=tuple(problems))


def label_of(sample: list[Member]) -> str | None:
    """Return the label that the members of a sample hold, None where they hold none."""
    told = {member.field: member.text for member in sample if member.text}
    return next((told[field] for field in LABELS_IN if field in told), None)


def index(shard: Path) -> NDArray[np.void]:
    """Return the rows of a shard (name, offset, size, text), in order of the bytes of the name.

    Raises:
        OSError: it cannot be opened.
    """
    info = shard.stat()
    return _index(shard.absolute(), info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=KEPT_OPEN)
def _index(shard: Path, size: int, mtime_ns: int) -> NDArray[np.void]:
    about = b"\0".join((_VERSION, os.fsencode(shard), str(size).encode(), str(mtime_ns).encode()))
    kept = _cache() / f"{hashlib.blake2b(about, digest_size=16).hexdigest()}.npy"
    with suppress(OSError, ValueError), PARSING:
        return np.load(kept, mmap_mode="r", allow_pickle=False)
    rows = _rows(shard, size)
    with suppress(OSError, DiskFull):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lambda file: np.save(file, rows, allow_pickle=False))
    return rows


def _cache() -> Path:
    return Path(os.environ.get("DINOVIZ_CACHE") or user_cache_dir("dinoviz")) / "shards"


def _rows(shard: Path, size: int) -> NDArray[np.void]:
    """List a shard; of members of the same name the last counts, as for tar."""
    with shard.open("rb", buffering=READ_AHEAD_BYTES) as file:
        met = list(_Walk(file, size).rows())
    found = {row.name: row for row in met if row.offset != _PROBLEM}
    rows = sorted([*found.values(), *(row for row in met if row.offset == _PROBLEM)])
    widest = max((len(row.name) for row in rows), default=0)
    longest = max((len(row.text) for row in rows), default=0)
    kind = [("name", f"S{max(1, widest)}"), ("offset", "<i8"), ("size", "<i8"), ("text", f"S{max(1, longest)}")]
    return np.array([tuple(row) for row in rows], dtype=kind)


class _Row(NamedTuple):
    """A member, or with ``_PROBLEM`` as offset why what has this name is none, in ``text``."""

    name: bytes
    offset: int
    size: int
    text: bytes = b""

    @classmethod
    def problem(cls, name: bytes, reason: str) -> "_Row":
        return cls(name, _PROBLEM, 0, reason.encode())


class _Walk:
    """One pass over the headers of an archive; content is skipped, but for names and labels."""

    def __init__(self, file: BinaryIO, total: int) -> None:
        self._file = file
        self._total = total
        self._place = 0
        self._extended: dict[bytes, bytes] = {}  # what records before a member say of it

    def rows(self) -> Iterator[_Row]:
        """Yield members and problems in order; never raises for what is in the archive."""
        has_end = False
        while self._place + BLOCK <= self._total:
            block = self._read(self._place, BLOCK)
            has_end = not any(block)
            if has_end:  # the end of an archive; another may follow
                self._place += BLOCK
                continue
            header = _header(block)
            if header is None:
                yield self._find_next_header()
            else:
                yield from self._member(header)
        if not has_end and self._place <= self._total:
            yield _Row.problem(b"", "has no end: members may be missing")

    def _read(self, place: int, size: int) -> bytes:
        self._file.seek(place)
        return self._file.read(size)

    def _find_next_header(self) -> _Row:
        """Move to the next whole header, or to the end where the first is broken or none is near."""
        damaged, self._extended = self._place, {}
        self._place = self._total
        if damaged == 0:
            return _Row.problem(b"", "no tar archive")
        for place in range(damaged + BLOCK, min(damaged + SEARCHED_BYTES, self._total - BLOCK + 1), BLOCK):
            if _header(self._read(place, BLOCK)):
                self._place = place
                return _Row.problem(b"", f"damaged from byte {damaged:,} to {place:,}")
        return _Row.problem(b"", f"damaged from byte {damaged:,}, nothing was found behind it")

    def _member(self, header: tarfile.TarInfo) -> Iterator[_Row]:
        start, size = self._place + BLOCK, header.size
        if header.type in _RECORDS:
            self._note(header.type, self._read(start, min(size, MOST_RECORD_BYTES)))
            self._place = start + _padded(size)
            return
        extended, self._extended = self._extended, {}
        name = _cleaned(extended.get(b"path", header.name.encode(*NAMES)))
        size = int(extended.get(b"size", size))
        # Links, folders and devices say a size at times, and have no content.
        has_content = header.isreg() or header.type not in tarfile.SUPPORTED_TYPES
        self._place = start + _padded(size) * has_content
        if header.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            yield _Row.problem(name, "a link within an archive")
        elif header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith(b"GNU.sparse") for key in extended):
            yield _Row.problem(name, "a sparse file within an archive")
        elif b".." in name.split(b"/"):
            yield _Row.problem(name, "a name that leads out of the archive")
        elif header.isreg() and name and start + size > self._total:
            yield _Row.problem(name, "cut off: the archive ends before it does")
        elif header.isreg() and name:
            yield self._labelled(name, start, size)

    def _note(self, kind: bytes, content: bytes) -> None:
        """Keep what a record says of the member behind it."""
        if kind == tarfile.XHDTYPE:
            self._extended |= _records(content)
        elif kind == tarfile.GNUTYPE_LONGNAME:
            self._extended[b"path"] = content.rstrip(b"\0")

    def _labelled(self, name: bytes, start: int, size: int) -> _Row:
        field = name.rpartition(b"/")[2].partition(b".")[2].lower().decode(errors="replace")
        if field not in LABELS_IN or size > LABEL_FILE_BYTES:
            return _Row(name, start, size)
        try:
            label = _label(field, self._read(start, size))
        except (ValueError, RecursionError):
            return _Row.problem(name, "no JSON")
        return _Row(name, start, size, label.encode(errors="replace")[:LABEL_BYTES].decode(errors="ignore").encode())


def _header(block: bytes) -> tarfile.TarInfo | None:
    """Return what a header says, None where it is none."""
    try:
        header = tarfile.TarInfo.frombuf(block, *NAMES)
    except tarfile.HeaderError:
        return None
    return header if header.size >= 0 else None


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header, each ``LENGTH KEY=VALUE`` and a line feed; as far as they are well formed."""
    records = {}
    while match := re.match(rb"(\d{1,9}) ([^=]+)=", content):
        length = int(match[1])
        value, end = content[match.end() : length - 1], content[length - 1 : length]
        if end != b"\n" or (match[2] == b"size" and not value.isdigit()):
            break
        records[match[2]] = value
        content = content[length:]
    return records


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _cleaned(name: bytes) -> bytes:
    """Return a member's name as a path below the archive: './a', '/a' and 'a' are the same."""
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))


def _label(field: str, content: bytes) -> str:
    """Return the label that a member holds, empty where it holds none.

    Raises:
        ValueError: it should be JSON and is not.
    """
    if field == "json":
        told = json.loads(content)
        label = told.get("label") if isinstance(told, dict) else None
        return str(label) if isinstance(label, str | int) and not isinstance(label, bool) else ""
    text = content.decode(errors="backslashreplace").strip()
    is_caption = field == "txt" and (len(text.split()) > LABEL_WORDS or "\n" in text)
    return "" if is_caption else text
