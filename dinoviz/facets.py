"""What pictures can be filtered by: the values of each facet, how many pictures have them, what a query says of it.

Plain functions of values, without Qt. The bar that shows them is ``window.filter_bar``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dinoviz import query as queries
from dinoviz.query import Known, Query
from dinoviz.table import Ids, PictureTable, Words
from dinoviz.words import tr
from engine.marks import MOST_STARS, Marks

Problem = Literal["unreadable", "all"]
Name = Literal["folders", "labels", "splits", "tags", "rating", "clusters", "among", "problem", "is_hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a facet: what the query holds for it, how it reads, and how many pictures have it."""

    value: Any
    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A way to filter.

    Args:
        name: field of ``Query``.
        title: how it reads.
        icon: of ``resources/icons``.
        has_many: several values can be chosen together.
        tip: what it is.
    """

    name: Name
    title: str
    icon: str
    has_many: bool
    tip: str


FACETS = (
    Facet(
        name="labels", title="Label", icon="tag", has_many=True, tip="What a person or a folder says is in a picture."
    ),
    Facet(
        name="tags",
        title="Tag",
        icon="hash",
        has_many=True,
        tip="Your own marks. Pictures with all of the chosen ones.",
    ),
    Facet(name="rating", title="Rating", icon="star", has_many=False, tip="Pictures with at least so many stars."),
    Facet(name="folders", title="Folder", icon="folder", has_many=True, tip="The folder that the file is in."),
    Facet(name="splits", title="Split", icon="square-half", has_many=True, tip="Training, validation or test part."),
    Facet(
        name="clusters",
        title="Cluster",
        icon="circles-four",
        has_many=True,
        tip="Groups of pictures that look alike, found without labels.",
    ),
    Facet(
        name="among",
        title="Kept selection",
        icon="selection",
        has_many=False,
        tip="Selections that you gave a name. Delete forgets one.",
    ),
    Facet(
        name="problem",
        title="Readability",
        icon="warning",
        has_many=False,
        tip="Files that cannot be read take no part in anything, and are shown only when asked for.",
    ),
    Facet(
        name="is_hidden",
        title="Left out",
        icon="eye-slash",
        has_many=False,
        tip="Pictures that you left out of the project. Their files are where they were.",
    ),
)
EMPTY = Query()


def is_in_use(facet: Facet, query: Query) -> bool:
    """Tell whether a query filters by a facet."""
    return bool(getattr(query, facet.name) != getattr(EMPTY, facet.name))


def without(facet: Facet, query: Query) -> Query:
    """Return the query that does not filter by a facet."""
    return replace(query, **{facet.name: getattr(EMPTY, facet.name)})


def cleared(query: Query) -> Query:
    """Return the query that leaves nothing out, in the same order."""
    return Query(sort=query.sort, like=query.like, descending=query.descending)


def chosen(facet: Facet, query: Query) -> tuple[Any, ...]:
    """Return the values a query asks for."""
    value = getattr(query, facet.name)
    if facet.has_many:
        return tuple(value)
    return (value,) if is_in_use(facet, query) else ()


def toggled(facet: Facet, query: Query, value: Any) -> Query:
    """Return the query with a value taken in, or out where it is in already."""
    now = chosen(facet, query)
    if not facet.has_many:
        return without(facet, query) if value in now else replace(query, **{facet.name: value})
    after = tuple(one for one in now if one != value) if value in now else (*now, value)
    changes: dict[str, Any] = {facet.name: after}
    return replace(query, **changes)


def in_words(facet: Facet, query: Query, marks: Marks) -> str:
    """Return what a query says of a facet, for its chip."""
    match facet.name:
        case "rating":
            return tr("{stars} and more", stars="★" * query.rating) if query.rating < MOST_STARS else "★" * query.rating
        case "among":
            name = next((name for name, ids in marks.selections.items() if ids == query.among), None)
            return name or tr("{n} chosen", n=len(query.among or ()))
        case "problem":
            return tr("Unreadable") if query.problem == "unreadable" else tr("With unreadable ones")
        case "is_hidden":
            return tr("Left out")
        case "clusters":
            return ", ".join(str(number + 1) for number in query.clusters)
    return ", ".join(str(value) or nothing(facet) for value in chosen(facet, query))


def nothing(facet: Facet) -> str:
    """Return how it reads that a picture has no value of a facet."""
    return {
        "labels": tr("No label"),
        "splits": tr("No split"),
        "folders": tr("The folder itself"),
    }.get(facet.name, tr("None"))


def values(facet: Facet, query: Query, table: PictureTable, marks: Marks, known: Known) -> list[Value]:
    """Return the values there are, with the pictures of each among those that the rest of the query means.

    Takes as long as answering the query; not for the thread that paints.
    """
    rest = replace(without(facet, query), sort="name")
    if facet.name == "tags":
        rest = query  # pictures have to have all of them, so those chosen already count
    rows = table.rows_of(queries.answer(rest, table, marks, known))
    return _VALUES[facet.name](facet, rest, table, marks, known, rows)


def _of_words(column: Callable[[PictureTable], Words]) -> Callable[..., list[Value]]:
    def made(facet: Facet, _rest: Query, table: PictureTable, _marks: Marks, _known: Known, rows: Ids) -> list[Value]:
        words = column(table)
        counts = np.bincount(words.codes_N[rows] + 1, minlength=len(words.words) + 1).tolist()
        found = [
            Value(value=word, text=word or nothing(facet), count=count)
            for word, count in zip(("", *words.words), counts, strict=True)
            if count or word
        ]
        return [*found[1:], found[0]] if found and found[0].value == "" else found

    return made


def _tags(_facet: Facet, _rest: Query, table: PictureTable, marks: Marks, _known: Known, rows: Ids) -> list[Value]:
    is_in_N = np.zeros(len(table), np.bool_)
    is_in_N[rows] = True
    return [
        Value(value=tag, text=tag, count=int(is_in_N[table.rows_of(np.fromiter(ids, np.int64, len(ids)))].sum()))
        for tag, ids in sorted(marks.tags.items())
    ]


def _ratings(_facet: Facet, _rest: Query, table: PictureTable, marks: Marks, _known: Known, rows: Ids) -> list[Value]:
    stars = queries.ratings(table, marks)[rows]
    return [
        Value(
            value=least,
            text="★" * least if least == MOST_STARS else tr("{stars} and more", stars="★" * least),
            count=int((stars >= least).sum()),
        )
        for least in range(MOST_STARS, 0, -1)
    ]


def _clusters(_facet: Facet, _rest: Query, _table: PictureTable, _marks: Marks, known: Known, rows: Ids) -> list[Value]:
    if known.clusters_N is None:
        return []
    numbers = known.clusters_N[rows]
    counts = np.bincount(numbers[numbers >= 0], minlength=int(known.clusters_N.max(initial=-1)) + 1)
    return [Value(value=n, text=tr("Cluster {n}", n=n + 1), count=count) for n, count in enumerate(counts.tolist())]


def _kept(_facet: Facet, _rest: Query, table: PictureTable, marks: Marks, _known: Known, rows: Ids) -> list[Value]:
    is_in_N = np.zeros(len(table), np.bool_)
    is_in_N[rows] = True
    return [
        Value(value=ids, text=name, count=int(is_in_N[table.rows_of(np.array(ids, np.int64))].sum()))
        for name, ids in sorted(marks.selections.items())
    ]


def _problems(_facet: Facet, rest: Query, table: PictureTable, marks: Marks, known: Known, _rows: Ids) -> list[Value]:
    texts: dict[Problem, str] = {"unreadable": tr("Unreadable ones only"), "all": tr("Readable and unreadable")}
    return [
        Value(value=value, text=text, count=len(queries.answer(replace(rest, problem=value), table, marks, known)))
        for value, text in texts.items()
    ]


def _hidden(_facet: Facet, rest: Query, table: PictureTable, marks: Marks, known: Known, _rows: Ids) -> list[Value]:
    count = len(queries.answer(replace(rest, is_hidden=True), table, marks, known))
    return [Value(value=True, text=tr("Left out of the project"), count=count)]


_VALUES: Mapping[Name, Callable[..., list[Value]]] = {
    "labels": _of_words(lambda table: table.label),
    "splits": _of_words(lambda table: table.split),
    "folders": _of_words(lambda table: table.sub_folder),
    "tags": _tags,
    "rating": _ratings,
    "clusters": _clusters,
    "among": _kept,
    "problem": _problems,
    "is_hidden": _hidden,
}
