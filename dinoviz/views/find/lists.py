"""Copies, outliers and doubtful labels as lists to work through: what was found, what of it is done. No Qt.

What the engine found lies beside the features (``duplicates.json``, ``oddities.json``). What a person decides is said
to the session: a picture that is left out, a label that is corrected, or a verdict that all is well. Whether a row is
done follows from that alone, so that undo brings it back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dinoviz.table import PictureTable
from engine.errors import UserError
from engine.finding import duplicate_files, oddity_files
from engine.finding.duplicate_files import Duplicates, Group, Member, regrouped
from engine.finding.neighbours import NeighbourTable, read_neighbours
from engine.finding.oddity_files import Oddities, Outlier, Suspect
from engine.marks import Marks
from engine.records import read_record
from engine.sets import ROWS, FeatureSet

NOT_COPIES = "duplicates"
"""Kind of the verdict that some pictures are no copies of each other; its subject are their ids, by commas."""
FINE = "outlier"
"""Kind of the verdict that a picture belongs here though it is unlike the others; its subject is the id."""
RIGHT = "label"
"""Kind of the verdict that the label of a picture is right; its subject is the id."""
KEPT = "kept"
"""Verdict of all three."""


@dataclass(frozen=True, eq=False)
class Lists:
    """What was found in a set of features.

    Args:
        folder: of the set.
        features: the set.
        duplicates: copies; None where they were not looked for.
        oddities: outliers, doubtful labels and typical pictures; None where they were not looked for.
        neighbours: of every picture; None where they were not looked for.
        is_old: names of those that pictures have changed since.
        outliers: rows of the pictures unlike the others.
        doubts: rows of the doubtful labels.
    """

    folder: Path
    features: FeatureSet
    duplicates: Duplicates | None = None
    oddities: Oddities | None = None
    neighbours: NeighbourTable | None = None
    is_old: frozenset[str] = frozenset()
    outliers: Sequence["OutlierRow"] = ()
    doubts: Sequence["LabelRow"] = ()

    def near(self, picture: int, most: int) -> list[tuple[int, float]]:
        """Return the neighbours of a picture and how alike they are, nearest first."""
        try:
            row = self.features.row_of(picture)
        except UserError:
            return []
        if self.neighbours is None:
            return []
        rows = self.neighbours.rows_Nk[row, :most].tolist()
        likeness = self.neighbours.likeness_Nk[row, :most].tolist()
        return [(int(self.features.ids_N[r]), like) for r, like in zip(rows, likeness, strict=True) if r >= 0]


def stamp_of(folder: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes when a list of a set was made anew."""
    stamps = []
    for name in (ROWS, duplicate_files.FILE, oddity_files.FILE, "neighbours.json"):
        try:
            told = (folder / name).stat()
            stamps.append((told.st_mtime_ns, told.st_size))
        except OSError:
            stamps.append((0, 0))
    return tuple(stamps)


def read_lists(folder: Path, table: PictureTable) -> Lists:
    """Read what was found in a set, as far as its pictures are in a table.

    Raises:
        BadInput: there is no such set.
    """
    features = FeatureSet(folder)
    duplicates = read_record(folder / duplicate_files.FILE, Duplicates)
    oddities = read_record(folder / oddity_files.FILE, Oddities)
    is_old = set()
    if duplicates and duplicates.made_from != features.key:
        is_old.add("duplicates")
    of_rows, _, of_oddities, _ = stamp_of(folder)
    if oddities and of_oddities < of_rows:  # their key is also of the labels, which change while one works through them
        is_old.add("oddities")
    try:
        neighbours: NeighbourTable | None = read_neighbours(features)
    except UserError:
        neighbours = None
    return Lists(
        folder=folder,
        features=features,
        duplicates=duplicates,
        oddities=oddities,
        neighbours=neighbours,
        is_old=frozenset(is_old),
        outliers=outliers_of(oddities, table) if oddities else (),
        doubts=doubts_of(oddities, table) if oddities else (),
    )


class Said:
    """What was decided, in a form that rows can ask."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._not_copies: dict[int, list[frozenset[int]]] = {}
        self._fine: dict[str, set[int]] = {FINE: set(), RIGHT: set()}
        for kind, subject in marks.verdicts:
            ids = frozenset(int(word) for word in subject.split(",") if word.isdecimal())
            if kind == NOT_COPIES:
                for one in ids:
                    self._not_copies.setdefault(one, []).append(ids)
            elif kind in self._fine:
                self._fine[kind] |= ids

    def are_no_copies(self, pictures: Iterable[int]) -> bool:
        """Tell whether it was said of some pictures, be it among others, that they are no copies of each other."""
        wanted = frozenset(pictures)
        return any(wanted <= ids for ids in self._not_copies.get(min(wanted, default=-1), ()))

    def is_hidden(self, picture: int) -> bool:
        """Tell whether a picture was left out."""
        return picture in self.marks.hidden

    def is_fine(self, kind: str, picture: int) -> bool:
        """Tell whether it was said of a picture that all is well."""
        return picture in self._fine[kind]


class Row(Protocol):
    """One thing to work through."""

    @property
    def pictures(self) -> tuple[int, ...]:
        """Pictures that it is about, the first one foremost."""

    def is_done(self, said: Said) -> bool:
        """Tell whether it was decided."""


@dataclass(frozen=True)
class CopiesRow:
    """A group of copies."""

    group: Group

    @property
    def pictures(self) -> tuple[int, ...]:
        """Its pictures, the one worth keeping first."""
        return tuple(member.picture for member in self.group.members)

    def is_done(self, said: Said) -> bool:
        """Tell whether no two of those that are left are copies of each other, or were said to be none."""
        left = [picture for picture in self.pictures if not said.is_hidden(picture)]
        return len(self.proposed(left)) == len(left) or said.are_no_copies(left)

    def proposed(self, left: Iterable[int]) -> list[int]:
        """Return which of some of its pictures to keep: the best, and every one that is like none kept before."""
        kept: list[int] = []
        for picture in left:
            if not any(self._are_alike(picture, other) for other in kept):
                kept.append(picture)
        return kept

    def _are_alike(self, one: int, other: int) -> bool:
        first, second = self._first.get(one, one), self._first.get(other, other)
        # Of a long chain not all pairs are kept: what is not known to differ is taken for alike.
        return first == second or second in self._near.get(first, ()) or self.group.n_pairs > len(self.group.pairs)

    @cached_property
    def _first(self) -> dict[int, int]:
        """The first of equal files, by the others."""
        return {pair.second: pair.first for pair in self.group.pairs if pair.is_exact}

    @cached_property
    def _near(self) -> dict[int, set[int]]:
        near: dict[int, set[int]] = {}
        for pair in self.group.pairs:
            near.setdefault(pair.first, set()).add(pair.second)
            near.setdefault(pair.second, set()).add(pair.first)
        return near

    def labels(self, table: PictureTable) -> tuple[str, ...]:
        """Return the labels of its pictures: more than one is a contradiction."""
        return _words(table.label_of(picture) for picture in self.pictures if table.contains(picture))

    def splits(self, table: PictureTable) -> tuple[str, ...]:
        """Return the splits its pictures are in: more than one is a leak."""
        rows = (table.row_of(picture) for picture in self.pictures if table.contains(picture))
        return _words(table.split.word(row) for row in rows)

    def likeness_of(self, picture: int) -> float | None:
        """Return how alike a picture is to the one to keep for it; None for that one itself."""
        member = self._member(picture)
        return None if member.keep == picture else member.likeness

    def keep_of(self, picture: int) -> int:
        """Return the picture to keep for a picture."""
        return self._member(picture).keep

    def _member(self, picture: int) -> Member:
        return next(member for member in self.group.members if member.picture == picture)


def _words(words: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({word for word in words if word}))


@dataclass(frozen=True)
class OutlierRow:
    """A picture unlike the others."""

    outlier: Outlier

    @property
    def pictures(self) -> tuple[int, ...]:
        """The picture."""
        return (self.outlier.picture,)

    def is_done(self, said: Said) -> bool:
        """Tell whether it was said to belong here, or left out."""
        return said.is_hidden(self.outlier.picture) or said.is_fine(FINE, self.outlier.picture)


@dataclass(frozen=True)
class LabelRow:
    """A picture whose label is in doubt."""

    suspect: Suspect

    @property
    def pictures(self) -> tuple[int, ...]:
        """The picture, and its copy of another label where there is one."""
        copy = self.suspect.copy
        return (self.suspect.picture,) if copy is None else (self.suspect.picture, copy)

    def is_done(self, said: Said) -> bool:
        """Tell whether the label was corrected or confirmed, the picture left out, or its copy came to agree."""
        picture, copy, labels = self.suspect.picture, self.suspect.copy, said.marks.labels
        if copy is not None and (said.is_hidden(copy) or labels.get(copy) == self.suspect.label):
            return True
        return said.is_hidden(picture) or picture in labels or said.is_fine(RIGHT, picture)


@dataclass(frozen=True, eq=False)
class WorkList:
    """Rows in order, and which of them are done."""

    rows: Sequence[Row]
    is_done_R: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[Row], marks: Marks) -> "WorkList":
        """Return the list as it stands after what was said."""
        said = Said(marks)
        return cls(rows, np.array([row.is_done(said) for row in rows], np.bool_))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_done(self) -> int:
        """How many were worked through."""
        return int(self.is_done_R.sum())

    def next_open(self, after: int) -> int | None:
        """Return the next row that is not done, from the top again at the end; None where all are."""
        open_rows = np.flatnonzero(~self.is_done_R)
        if not len(open_rows):
            return None
        later = open_rows[open_rows > after]
        return int(later[0] if len(later) else open_rows[0])


def copies_of(found: Duplicates, likeness: float, table: PictureTable) -> list[CopiesRow]:
    """Return the groups of copies from a likeness on; pictures that are in the project no more do not count."""
    members = {member.picture for group in found.groups for member in group.members}
    known = {picture for picture in members if table.contains(picture)}
    rows = {picture: table.row_of(picture) for picture in known}
    pixels = {picture: int(table.heights_N[row]) * int(table.widths_N[row]) for picture, row in rows.items()}
    groups = regrouped(found, likeness, pixels)
    return [CopiesRow(group) for group in groups if all(member.picture in known for member in group.members)]


def outliers_of(found: Oddities, table: PictureTable) -> list[OutlierRow]:
    """Return the pictures unlike the others, the most isolated first."""
    return [OutlierRow(outlier) for outlier in found.outliers if table.contains(outlier.picture)]


def doubts_of(found: Oddities, table: PictureTable) -> list[LabelRow]:
    """Return the pictures whose label is in doubt, the most doubtful first."""
    rows = [LabelRow(suspect) for suspect in found.suspects]
    return [row for row in rows if all(table.contains(picture) for picture in row.pictures)]
