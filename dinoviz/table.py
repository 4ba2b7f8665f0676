"""The pictures of a project as columns: what the window knows of a million pictures without a row object for any.

Letters after a name are its axes: N pictures of the project, in the order of their paths.
"""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engine.project import Project

NONE = -1
"""Code of a picture that has no label, split or problem."""

READ_AT_ONCE = 1000
"""Rows that are made columns of at once: some ms."""
MOST_ASCII = 127
SEARCHED_AT_ONCE = 20_000
"""Paths that are searched for a text at once: 1 ms."""

MOST_ID = 2**63 - 1
"""Largest id that SQLite gives."""

Ids = NDArray[np.int64]
Codes = NDArray[np.int32]


def no_ids() -> Ids:
    """Return no pictures."""
    return np.zeros(0, np.int64)


def are_ids(kept: object) -> bool:
    """Tell whether something that JSON kept is a list of whole numbers that ids can have."""
    return isinstance(kept, list) and all(type(one) is int and 0 <= one <= MOST_ID for one in kept)


def _folded(text: str) -> str:
    """Return a text so that upper and lower case, and letters with marks as one sign or as two, are the same."""
    return unicodedata.normalize("NFC", text).lower()


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """A column of words: a code for every picture, and the word of each code, in order; ``NONE`` for no word."""

    codes_N: Codes
    words: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Self:
        """Return the column of some values."""
        words = tuple(sorted({value for value in values if value is not None}))
        code = {word: i for i, word in enumerate(words)}
        return cls(np.fromiter((NONE if v is None else code[v] for v in values), np.int32, len(values)), words)

    def word(self, row: int) -> str | None:
        """Return the word of a row."""
        code = self.codes_N[row]
        return None if code == NONE else self.words[code]

    def is_one_of(self, wanted: Iterable[str]) -> NDArray[np.bool_]:
        """Return which rows have one of some words; the empty word stands for none."""
        codes = [i for i, word in enumerate(self.words) if word in set(wanted)]
        codes += [NONE] if "" in set(wanted) else []
        return np.isin(self.codes_N, codes)

    def counts(self) -> dict[str, int]:
        """Return how many rows have each word."""
        found = np.bincount(self.codes_N[self.codes_N >= 0], minlength=len(self.words))
        return dict(zip(self.words, found.tolist(), strict=True))


class _WordsSoFar:
    """A column of words that grows; paths come as bytes."""

    def __init__(self) -> None:
        self._code: dict[str | bytes | None, int] = {None: NONE}
        self._codes: list[Codes] = []

    def add(self, values: Sequence[str | bytes | None]) -> None:
        code = self._code
        for value in dict.fromkeys(values):
            code.setdefault(value, len(code) - 1)
        self._codes.append(np.fromiter(map(code.__getitem__, values), np.int32, len(values)))

    def made(self) -> Words:
        found = [os.fsdecode(word) for word in self._code if word is not None]
        words = tuple(sorted(found))
        place = {word: i for i, word in enumerate(words)}
        moved = np.array([*(place[word] for word in found), NONE], np.int32)
        return Words(moved[np.concatenate(self._codes)], words)


def _no_words() -> Words:
    return Words(np.zeros(0, np.int32), ())


@dataclass(frozen=True, eq=False)
class PictureTable:
    """Columns of all pictures of a project, readable or not.

    Args:
        folder: of the pictures; paths are relative to it.
        ids_N: ids.
        sizes_N: bytes.
        mtimes_N: nanoseconds.
        heights_N: pixels, 0 where unreadable.
        widths_N: the same.
        label: what a person or a folder said; the corrected one where it was corrected.
        folder_label: what the folder said.
        split: train, val, test.
        sub_folder: folder the picture is in, relative to ``folder``.
        problem: why it cannot be used.
        names: all paths as bytes, one after the other.
        starts_N: where each begins; one more than there are pictures.
    """

    folder: Path = Path()
    ids_N: Ids = field(default_factory=no_ids)
    sizes_N: NDArray[np.int64] = field(default_factory=no_ids)
    mtimes_N: NDArray[np.int64] = field(default_factory=no_ids)
    heights_N: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    widths_N: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    label: Words = field(default_factory=_no_words)
    folder_label: Words = field(default_factory=_no_words)
    split: Words = field(default_factory=_no_words)
    sub_folder: Words = field(default_factory=_no_words)
    problem: Words = field(default_factory=_no_words)
    names: bytes = b""
    starts_N: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    @classmethod
    def read(cls, project: Project) -> Self:
        """Return the table of a project as it is now."""
        return cls.of_rows(project.pictures_folder, project.columns())

    @classmethod
    def of_rows(cls, folder: Path, rows: Iterable[tuple[Any, ...]]) -> Self:
        """Return the table of rows as ``Project.columns`` gives them.

        They are taken in blocks: of a million rows at once, Python stands still for seconds, with every thread.
        """
        numbers: list[NDArray[np.int64]] = []
        names: list[bytes] = []
        ends: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        label, split, sub_folder, problem = (_WordsSoFar() for _ in range(4))
        rows = iter(rows)
        while block := list(islice(rows, READ_AT_ONCE)):
            ids, stored, sizes, mtimes, heights, widths, labels, splits, problems = zip(*block, strict=True)
            sides = [[value or 0 for value in column] for column in (heights, widths)]
            numbers.append(np.array([ids, sizes, mtimes, *sides], np.int64))
            paths = [path if isinstance(path, bytes) else os.fsencode(path) for path in stored]
            names.append(b"".join(paths))
            ends.append(ends[-1][-1] + np.cumsum(np.fromiter(map(len, paths), np.int64, len(paths))))
            sub_folder.add([path.rpartition(b"/")[0] for path in paths])
            for column, values in ((label, labels), (split, splits), (problem, problems)):
                column.add(values)
        if not numbers:
            return cls(folder=folder)
        ids_N, sizes_N, mtimes_N, heights_N, widths_N = np.concatenate(numbers, axis=1)
        return cls(
            folder=folder,
            ids_N=ids_N,
            sizes_N=sizes_N,
            mtimes_N=mtimes_N,
            heights_N=heights_N.astype(np.int32),
            widths_N=widths_N.astype(np.int32),
            label=label.made(),
            folder_label=label.made(),
            split=split.made(),
            sub_folder=sub_folder.made(),
            problem=problem.made(),
            names=b"".join(names),
            starts_N=np.concatenate(ends),
        )

    def __len__(self) -> int:
        return len(self.ids_N)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """Row of each id, -1 where there is none; ids grow one by one, so that few places are empty."""
        rows = np.full(int(self.ids_N.max(initial=0)) + 1, -1, np.int64)  # at least one, for places_of
        rows[self.ids_N] = np.arange(len(self), dtype=np.int64)
        return rows

    def contains(self, picture: int) -> bool:
        """Tell whether there is a picture of this id."""
        return 0 <= picture < len(self._rows) and bool(self._rows[picture] >= 0)

    def row_of(self, picture: int) -> int:
        """Return the row of an id.

        Raises:
            KeyError: there is no such picture.
        """
        if not self.contains(picture):
            raise KeyError(picture)
        return int(self._rows[picture])

    def places_of(self, ids: Ids) -> NDArray[np.int64]:
        """Return the row of each id, -1 where the table has none."""
        ids = np.asarray(ids, np.int64)
        is_near = (ids >= 0) & (ids < len(self._rows))
        return np.where(is_near, self._rows[np.where(is_near, ids, 0)], -1)

    def rows_of(self, ids: Ids) -> NDArray[np.int64]:
        """Return the rows of those ids that are in the table, in their order."""
        rows = self.places_of(ids)
        return rows[rows >= 0]

    def known(self, ids: Ids) -> Ids:
        """Return those of some ids that are in the table, in their order."""
        return self.ids_N[self.rows_of(ids)]

    def flags(self, ids: Ids) -> NDArray[np.bool_]:
        """Return which ids are among some, by id: sets of a million pictures are joined in a few ms so.

        numpy's own unique and union1d take half a second for that.
        """
        places = self.places_of(ids)
        is_among = np.zeros(len(self._rows), np.bool_)
        is_among[np.asarray(ids, np.int64)[places >= 0]] = True
        return is_among

    def path(self, picture: int) -> str:
        """Return the path of a picture, relative to the folder."""
        row = self.row_of(picture)
        return os.fsdecode(self.names[self.starts_N[row] : self.starts_N[row + 1]])

    def file(self, picture: int) -> Path:
        """Return the file of a picture."""
        return self.folder / self.path(picture)

    def name(self, picture: int) -> str:
        """Return the file name of a picture."""
        return self.path(picture).rpartition("/")[2]

    def label_of(self, picture: int) -> str | None:
        """Return the label of a picture."""
        return self.label.word(self.row_of(picture))

    def with_labels(self, labels: Mapping[int, str | None]) -> "PictureTable":
        """Return the table with some labels corrected; None goes back to what the folder said."""
        words = sorted({*self.label.words, *self.folder_label.words, *(w for w in labels.values() if w is not None)})
        code = {word: i for i, word in enumerate(words)}
        moved = np.array([*(code[word] for word in self.label.words), NONE], np.int32)
        codes_N = moved[self.label.codes_N]
        places = self.places_of(np.fromiter(labels, np.int64, len(labels)))
        codes = np.fromiter((NONE if word is None else code[word] for word in labels.values()), np.int32, len(labels))
        rows, codes = places[places >= 0], codes[places >= 0]
        moved = np.array([*(code[word] for word in self.folder_label.words), NONE], np.int32)
        codes_N[rows] = np.where(codes == NONE, moved[self.folder_label.codes_N[rows]], codes)
        return replace(self, label=Words(codes_N, tuple(words)))

    def is_named(self, text: str) -> NDArray[np.bool_]:
        """Return which rows have a text in their path, in upper or lower case.

        In blocks, as Python lets no other thread run while it searches one text.
        """
        if len(self) and not text.isascii():
            return self._is_named_beyond_ascii(text)
        wanted = os.fsencode(text).lower()
        is_named_N = np.zeros(len(self), np.bool_)
        for first in range(0, len(self), SEARCHED_AT_ONCE):
            is_named_N[first : first + SEARCHED_AT_ONCE] = self._are_named(wanted, first)
        return is_named_N

    def _is_named_beyond_ascii(self, text: str) -> NDArray[np.bool_]:
        """Return the same for a text that bytes cannot find in upper and lower case: only other names can have it."""
        wanted = _folded(text)
        is_named_N = np.zeros(len(self), np.bool_)
        most_N = np.maximum.reduceat(np.frombuffer(self.names, np.uint8), self.starts_N[:-1])
        for row in np.flatnonzero(most_N > MOST_ASCII).tolist():
            path = self.names[self.starts_N[row] : self.starts_N[row + 1]]
            is_named_N[row] = wanted in _folded(os.fsdecode(path))
        return is_named_N

    def _are_named(self, wanted: bytes, first: int) -> NDArray[np.bool_]:
        """Return the same for one block of rows."""
        starts = self.starts_N[first : first + SEARCHED_AT_ONCE + 1]
        names = self.names[starts[0] : starts[-1]].lower()
        starts = starts - starts[0]
        is_named = np.zeros(len(starts) - 1, np.bool_)
        place = names.find(wanted)
        while place >= 0:
            row = int(np.searchsorted(starts, place, "right")) - 1
            end = int(starts[row + 1])
            if place + len(wanted) <= end:
                is_named[row] = True
                place = names.find(wanted, end)
            else:  # it lies over the border of two paths
                place = names.find(wanted, place + 1)
        return is_named
