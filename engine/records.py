"""Dataclasses kept as JSON and arrays kept as .npy: each file is whole or not there.

Relies on pydantic to check what is read against the type; knows nothing about what is kept.
"""

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engine.store import write_atomically

T = TypeVar("T")


def write_record(path: Path, value: object) -> None:
    """Write a dataclass, in the place of what is there.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    written = TypeAdapter(type(value)).dump_json(value, indent=1)
    write_atomically(path, lambda file: file.write(written))


def read_record(path: Path, kind: type[T]) -> T | None:
    """Return what ``write_record`` wrote, None where it is not there, damaged or of another kind."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError):
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
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, EOFError, ValueError):  # EOFError is of an empty file
        return None
