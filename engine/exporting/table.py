"""The rows of an export: the pictures of a set that were seen, with what the project knows of each.

Letters after a name are its axes:
    N rows of the set · M rows of the export · B rows of a block · D width of a vector
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe
from engine.project import GONE as FILE_GONE
from engine.project import Picture, Project
from engine.sets import FAILED, GONE, SEEN, WAITING, FeatureSet, hash_words

BLOCK = 8192  # rows held at once: 12 MB at a width of 384
WHY = {WAITING: "not embedded yet", SEEN: "changed since it was embedded", FAILED: "could not be read", GONE: FILE_GONE}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell that a spreadsheet would run starts with; OWASP, "CSV injection"."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A picture that is not in an export, and why."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of an export, one after the other; all have the same length."""

    vectors_BD: NDArray[np.float32]
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of an export.

    Args:
        features: the set.
        root: folder of the pictures; paths are relative to it.
        rows_M: rows of the set, ascending, int64.
        pictures: of these rows.
        left_out: pictures of the project that are not among them.
    """

    features: FeatureSet
    root: Path
    rows_M: NDArray[np.intp]
    pictures: Sequence[Picture]
    left_out: Sequence[LeftOut]

    @classmethod
    def of(cls, project: Project, features: FeatureSet) -> Self:
        """Return the rows of a set that were seen.

        Raises:
            BadInput: none was.
        """
        known = project.pictures()
        ids_K = np.fromiter((picture.id for picture in known), np.int64, len(known))
        rows_M = np.flatnonzero(_is_unchanged(features, known))
        if not len(rows_M):
            raise BadInput(f"No picture of the set '{features.folder.name}' was seen.", "Run: engine embed PROJECT.")
        places_M = np.searchsorted(ids_K, features.ids_N[rows_M])
        is_out = np.ones(len(known), bool)
        is_out[places_M] = False
        states = (
            dict(zip(features.ids_N.tolist(), features.rows["state"].tolist(), strict=True)) if is_out.any() else {}
        )
        return cls(
            features=features,
            root=project.pictures_folder,
            rows_M=rows_M,
            pictures=[known[place] for place in places_M],
            left_out=[_left_out(known[place], states) for place in np.flatnonzero(is_out)],
        )

    def __len__(self) -> int:
        return len(self.rows_M)

    def blocks(self) -> Iterator[Rows]:
        """Give the rows in order, some at a time."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            yield Rows(np.asarray(self.features.vectors_ND[self.rows_M[part]]), self.pictures[part])

    def sample(self, at_most: int | None, seed: int = 0) -> "Table":
        """Return at most so many rows, of every label its share and at least one; the same ones for the same seed.

        Raises:
            BadRecipe: ``at_most`` is not positive.
        """
        if at_most is not None and at_most < 1:
            raise BadRecipe(f"--at-most {at_most} leaves nothing.", "Choose 1 or more.")
        if at_most is None or at_most >= len(self):
            return self
        labels_M = np.array([picture.label or "" for picture in self.pictures])
        chosen = _stratified(labels_M, at_most, np.random.default_rng(seed))
        return replace(self, rows_M=self.rows_M[chosen], pictures=[self.pictures[i] for i in chosen])


def _is_unchanged(features: FeatureSet, known: Sequence[Picture]) -> NDArray[np.bool_]:
    """Tell which rows are of the pictures of now: in a file that changed since, all places would be wrong."""
    hashes = {picture.id: hash_words(picture.hash) for picture in known}
    now_N2 = np.array([hashes.get(number, (0, 0)) for number in features.ids_N.tolist()], np.uint64).reshape(-1, 2)
    return np.asarray(features.is_seen_N & (features.rows["hash"] == now_N2).all(axis=1))


def readable(path: str) -> str:
    r"""Return a path as text that every format can hold; bytes that are no UTF-8 are written as ``\udcff``."""
    return path.encode("utf-8", "backslashreplace").decode()


def harmless(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _left_out(picture: Picture, states: dict[int, int]) -> LeftOut:
    return LeftOut(picture.path, picture.problem or WHY[states.get(picture.id, WAITING)])


def _stratified(labels_M: NDArray[np.str_], n: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Draw ``n`` places: of every label its share, and one of each first, those of many pictures before the others."""
    _, of_M, counts = np.unique(labels_M, return_inverse=True, return_counts=True)
    shuffled_M = np.lexsort((random.random(len(of_M)), of_M))
    begins = np.cumsum(counts) - counts
    ranks_M = np.arange(len(of_M)) - np.repeat(begins, counts)
    # Rows whose rank is below the same share of their label make a sample in which every label has its share.
    shares_M = (ranks_M + 0.5) / np.repeat(counts, counts) - (ranks_M == 0)
    return np.sort(shuffled_M[np.argsort(shares_M, kind="stable")[:n]])
