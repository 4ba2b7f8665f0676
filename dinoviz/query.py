"""Which pictures are shown, and in which order: a value, and the function that answers it.

Letters after a name are its axes: N pictures of the project.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dinoviz.choices import restored
from dinoviz.table import Ids, PictureTable, are_ids
from engine.marks import Marks

Sort = Literal["name", "date", "size", "pixels", "label", "rating", "folder", "similarity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A filter and an order; the default is every picture that can be used, by name.

    Args:
        text: in the path.
        folders: of these; ``Words`` says which there are.
        labels: of these; an empty word stands for no label.
        splits: the same for splits.
        tags: with all of these.
        rating: of at least so many stars.
        clusters: of these numbers, in the clusters of the set in use.
        among: one of these ids.
        problem: readable ones, unreadable ones, or all.
        is_hidden: those that were left out of the project, instead of the others.
        sort: by what; similarity is to ``like``.
        like: picture that the others are compared with.
        descending: largest first.
    """

    text: str = ""
    folders: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    rating: int = 0
    clusters: tuple[int, ...] = ()
    among: tuple[int, ...] | None = None
    problem: Literal["readable", "unreadable", "all"] = "readable"
    is_hidden: bool = False
    sort: Sort = "name"
    like: int | None = None
    descending: bool = False

    @property
    def is_filter(self) -> bool:
        """It leaves some out beside those that cannot be used."""
        plain = Query(sort=self.sort, like=self.like, descending=self.descending)
        return self != plain


def remembered(kept: object) -> Query:
    """Return a query from what JSON kept of it; what makes no sense is left out."""
    made = restored(Query, kept)
    parts: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
    words: dict[str, Any] = {
        name: tuple(word for word in getattr(made, name) if isinstance(word, str))
        for name in ("folders", "labels", "splits", "tags")
    }
    return replace(
        made,
        **words,
        clusters=made.clusters if are_ids(list(made.clusters)) else (),
        among=tuple(parts["among"]) if are_ids(parts.get("among")) else None,
        like=parts["like"] if are_ids([parts.get("like")]) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What a query looks at beside the table: cluster of every row, -1 for none, and its likeness to a picture."""

    clusters_N: NDArray[np.int32] | None = None
    likeness_N: NDArray[np.float32] | None = None


def answer(query: Query, table: PictureTable, marks: Marks, known: Known | None = None) -> Ids:
    """Return the ids of the pictures that a query means, in its order."""
    known = known or Known()
    rows = np.flatnonzero(_is_meant(query, table, marks, known))
    order = _order(query, table, marks, known)
    if order is not None:
        keys = order[rows]
        rows = rows[np.argsort(-keys if query.descending else keys, kind="stable")]
    elif query.descending:
        rows = rows[::-1]
    return table.ids_N[rows]


def _is_meant(query: Query, table: PictureTable, marks: Marks, known: Known) -> NDArray[np.bool_]:
    is_in_N: NDArray[np.bool_] = _are(table, np.fromiter(marks.hidden, np.int64, len(marks.hidden))) == query.is_hidden
    if query.problem != "all":
        is_in_N &= (table.problem.codes_N >= 0) == (query.problem == "unreadable")
    if query.text:
        is_in_N &= table.is_named(query.text)
    for words, column in (
        (query.folders, table.sub_folder),
        (query.labels, table.label),
        (query.splits, table.split),
    ):
        if words:
            is_in_N &= column.is_one_of(words)
    for tag in query.tags:
        ids = marks.tags.get(tag, frozenset())
        is_in_N &= _are(table, np.fromiter(ids, np.int64, len(ids)))
    if query.rating:
        is_in_N &= ratings(table, marks) >= query.rating
    if query.clusters and known.clusters_N is not None:
        is_in_N &= np.isin(known.clusters_N, query.clusters)
    if query.among is not None:
        is_in_N &= _are(table, np.array(query.among, np.int64))
    return is_in_N


def _are(table: PictureTable, ids: Ids) -> NDArray[np.bool_]:
    is_one_N = np.zeros(len(table), np.bool_)
    is_one_N[table.rows_of(ids)] = True
    return is_one_N


def ratings(table: PictureTable, marks: Marks) -> NDArray[np.int32]:
    """Return the stars of every row."""
    stars_N = np.zeros(len(table), np.int32)
    places = table.places_of(np.fromiter(marks.ratings, np.int64, len(marks.ratings)))
    stars = np.fromiter(marks.ratings.values(), np.int32, len(marks.ratings))
    stars_N[places[places >= 0]] = stars[places >= 0]
    return stars_N


_ORDERS: Mapping[str, Callable[[PictureTable], NDArray[Any]]] = {
    "date": lambda table: table.mtimes_N,
    "size": lambda table: table.sizes_N,
    "pixels": lambda table: table.heights_N.astype(np.int64) * table.widths_N,
    "label": lambda table: table.label.codes_N,
    "folder": lambda table: table.sub_folder.codes_N,
}


def _order(query: Query, table: PictureTable, marks: Marks, known: Known) -> NDArray[Any] | None:
    """Return what to sort by, smallest first; None for the order of the table, which is that of the names.

    What is NaN comes last, in either direction.
    """
    if query.sort == "rating":
        return ratings(table, marks)
    if query.sort == "similarity":
        # The likest first is what everybody means; pictures without features come last in either direction.
        return None if known.likeness_N is None else -known.likeness_N
    return _ORDERS[query.sort](table) if query.sort in _ORDERS else None
