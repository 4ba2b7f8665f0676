"""Dataclasses kept as JSON and arrays kept as .npy: each file is whole or not there.

A record can be kept together with arrays (`write_together`): all are the old ones or all the new ones, however the
writing ends. The new arrays are first written beside the old ones, under names that end in ``.new.npy``. Then the
record, which holds a digest of each array, takes the place of the old one; from there on the new ones count. Last they
get their names. Where a kill came before that, whoever reads takes what has the digest, under either name, and gives it
its name unless the folder is just being written.

Relies on pydantic to check what is read against the type; knows nothing about what is kept.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from engine.errors import Busy
from engine.store import PARSING, clear_temporaries, replace, sole_writer, write_atomically

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


_adapters: dict[type, Any] = {}


def _adapter(kind: type[T]) -> "TypeAdapter[T]":
    """Return what checks values of a class; pydantic is loaded with the first, so that a window is painted before."""
    if kind not in _adapters:
        from pydantic import TypeAdapter

        _adapters[kind] = TypeAdapter(kind)
    return cast("TypeAdapter[T]", _adapters[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class _WithArrays:
    """What the JSON of a record holds beside its fields: a digest of each array, by the name of its file."""

    arrays: dict[str, str] = field(default_factory=dict)


def write_record(path: Path, value: object) -> None:
    """Write a dataclass, in the place of what is there.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    written = _adapter(type(value)).dump_json(value, indent=1)
    write_atomically(path, lambda file: file.write(written))


def read_record(path: Path, kind: type[T]) -> T | None:
    """Return what ``write_record`` wrote, None where it is not there, damaged or of another kind."""
    try:
        return _adapter(kind).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array, in the place of what is there.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    write_atomically(path, lambda file: np.save(file, array, allow_pickle=False))


def read_array(path: Path) -> NDArray[Any] | None:
    """Return what ``write_array`` wrote, None where it is not there or damaged."""
    try:
        with PARSING, path.open("rb") as file:  # np.load would open a ZIP file, too
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, ValueError):  # EOFError is of an empty file
        return None


def write_together(record: Path, value: object, arrays: Mapping[Path, NDArray[Any]]) -> None:
    """Write a dataclass and arrays, in the place of what is there: all of it, or nothing.

    Args:
        record: where the dataclass goes; the caller holds the lock of its folder.
        value: the dataclass.
        arrays: by the path of each, in the folder of ``record``.

    Raises:
        DiskFull: there is no room; what was there is intact.
    """
    _finish(record, arrays)
    written = json.loads(_adapter(type(value)).dump_json(value))
    written |= asdict(_WithArrays(arrays={path.name: _digest(array) for path, array in arrays.items()}))
    try:
        for path, array in arrays.items():
            write_array(_new(path), array)
        write_atomically(record, lambda file: file.write(json.dumps(written, indent=1).encode()))
    finally:
        _finish(record, arrays)


def read_together(record: Path, kind: type[T], arrays: Sequence[Path]) -> tuple[T, list[NDArray[Any]]] | None:
    """Return what ``write_together`` wrote, None where some of it is not there or damaged.

    Arrays that the record holds no digest of, as it is older than these, are taken as they are.
    """
    while True:
        digests, value = _digests(record), read_record(record, kind)
        found = [_read_of_digest(path, digests.get(path.name)) for path in arrays]
        if _digests(record) == digests:  # or else it was written anew meanwhile
            break
    whole = [array for array in found if array is not None]
    if value is None or len(whole) < len(arrays):
        return None
    if any(_new(path).exists() for path in arrays):
        with contextlib.suppress(OSError, Busy), sole_writer(record.parent, "writes the set"):
            _finish(record, arrays)
    return value, whole


def _finish(record: Path, arrays: Iterable[Path]) -> None:
    """Give the arrays of the record their names, and take away what a killed or failed writing left."""
    digests = _digests(record)
    for path in arrays:
        new = _new(path)
        if new.exists():
            array = read_array(new)
            if array is not None and _digest(array) == digests.get(path.name):
                replace(new, path)
            else:
                new.unlink()
        clear_temporaries(new)
    clear_temporaries(record)


def _new(path: Path) -> Path:
    """Return where an array is written before it gets its name."""
    return path.with_name(f"{path.stem}.new{path.suffix}")


def _digests(record: Path) -> dict[str, str]:
    """Return the digests in a record, by the names of files; none where it is not there or older than these."""
    found = read_record(record, _WithArrays)
    return found.arrays if found else {}


def _read_of_digest(path: Path, digest: str | None) -> NDArray[Any] | None:
    """Return the array that has the digest, from its file or the one that is to become it."""
    for place in (path, _new(path)):
        array = read_array(place)
        if digest is None or (array is not None and _digest(array) == digest):
            return array
    return None


def _digest(array: NDArray[Any]) -> str:
    """Return a digest of what an array is and holds."""
    digest = hashlib.blake2b(repr((array.dtype, array.shape)).encode(), digest_size=8)
    digest.update(array.tobytes())
    return digest.hexdigest()
