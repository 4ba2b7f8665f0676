"""Arrays on the disk that grow by whole rows, and are read through a memory map.

Relies on NumPy's own format, which leaves room in a header for the number of rows to grow; knows nothing about what
the rows mean.
"""

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.store import PARSING, saying_full, write_atomically


class ArrayFile:
    """An .npy file that rows are appended to; anything that reads .npy reads it too.

    The header, which says how many rows there are, is written after them: what a killed append left behind it does
    not count, and the next append takes its place.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that `create` made.

        Raises:
            BadInput: it is not there, or is no such file.
        """
        self.path = path
        try:
            with PARSING, path.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, _, self.dtype = np.lib.format.read_array_header_1_0(file)
                self._begin = file.tell()
            self._n, self.row_shape = int(shape[0]), tuple(int(length) for length in shape[1:])
        except (OSError, ValueError, IndexError) as problem:
            raise BadInput(f"'{path}' cannot be read: {problem}.", "Delete it and make it again.") from problem

    @classmethod
    def create(cls, path: Path, dtype: np.dtype | type, row_shape: tuple[int, ...] = ()) -> Self:
        """Make an empty file, in the place of one that may be there."""
        write_atomically(path, lambda file: write_header(file, np.dtype(dtype), (0, *row_shape)))
        return cls(path)

    def __len__(self) -> int:
        return self._n

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.row_shape)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end; they count once they are on the disk.

        Raises:
            DiskFull: there is no room; the rows before are intact.
        """
        self._write_all([(self._n, rows)])
        self._count(self._n + len(rows))

    def put(self, places: NDArray[np.intp], rows: NDArray[Any]) -> None:
        """Put rows in the place of others, which are there already; ``places`` ascend."""
        assert not len(places) or int(places[-1]) < self._n, "beyond the end"
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        parts = zip(np.split(places, breaks), np.split(rows, breaks), strict=True)
        self._write_all((int(of[0]), part) for of, part in parts if len(of))

    def cut(self, n: int) -> None:
        """Forget the rows after the first ``n``."""
        if n < self._n:
            self._count(n)

    def read(self) -> NDArray[Any]:
        """Return the rows, mapped into memory, read-only."""
        if not self._n:
            return np.empty((0, *self.row_shape), self.dtype)
        return np.memmap(self.path, self.dtype, "r", self._begin, (self._n, *self.row_shape))

    def _write_all(self, parts: Iterable[tuple[int, NDArray[Any]]]) -> None:
        with saying_full(self.path), self.path.open("r+b") as file:
            for start, rows in parts:
                assert rows.shape[1:] == self.row_shape, "rows of another shape"
                file.seek(self._begin + start * self.row_bytes)
                file.write(np.ascontiguousarray(rows, self.dtype).data)
            file.flush()
            os.fsync(file.fileno())

    def _count(self, n: int) -> None:
        with saying_full(self.path), self.path.open("r+b") as file:
            header = io.BytesIO()
            write_header(header, self.dtype, (n, *self.row_shape))
            assert header.tell() == self._begin, "NumPy leaves room for the number of rows to grow"
            file.write(header.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self._n = n


def read_npy(path: str | Path) -> NDArray[Any]:
    """Return what is in an .npy file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or holds objects.
    """
    with PARSING:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def write_header(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Write what an .npy file begins with; the numbers follow, row by row."""
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": description, "fortran_order": False, "shape": shape})
