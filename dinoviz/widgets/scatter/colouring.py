"""What the colours of a map mean: a category or a number of every picture, as codes of colours. No Qt but colours.

Reading may take as long as reading a column of a million pictures; it is not for the thread that paints.

Letters after a name are its axes: N pictures, in the order of the project's table · S rows of a set · k neighbours ·
G groups · K colours
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dinoviz import theme
from dinoviz.features import at_table, clusters_at, likeness_to
from dinoviz.query import Query, ratings
from dinoviz.table import PictureTable, Words
from dinoviz.widgets.picture.overlays import colour_table
from dinoviz.words import tr
from engine.errors import UserError
from engine.finding.neighbours import read_neighbours
from engine.marks import MOST_STARS, Marks
from engine.quantities import size_in_words
from engine.sets import FeatureSet

By = Literal[
    "label", "cluster", "folder", "split", "tag", "rating",
    "similarity", "crowding", "date", "size", "pixels", "width", "height", "shape", "none",
]  # fmt: skip

MOST_COLOURS = 254
"""Groups with a colour of their own, the largest; codes are bytes, and two of them stand for the rest and for none."""
REST, NONE = 254, 255
"""Codes of groups without a colour of their own, and of pictures of no group or without the number."""
LEVELS = 254  # of a number
CLIPPED = (1.0, 99.0)  # percentiles: a few very large pictures must not make all others equal
CROWD = 10  # neighbours whose mean likeness says how crowded it is around a picture
LOW_ROWS = 65_536  # read at once from a table of neighbours
NAMED = 40  # groups that are named on the map itself, the largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One category: its value in a query, how it reads, pictures on the map, and the code of its colour."""

    value: Any
    text: str
    count: int
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the ends and the middle of a range of numbers are, in words."""

    low: str
    middle: str
    high: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Colouring:
    """A meaning of colours.

    Args:
        by: which.
        codes_N: uint8.
        groups: categories, the largest first; the one of pictures without any last.
        groups_N: place of each picture's category in ``groups``; for categories only.
        facet: field of ``Query`` that filters by these categories; empty where there is none.
        scale: of numbers.
        missing: what there is to say where there is nothing to colour by.
    """

    by: By
    codes_N: NDArray[np.uint8]
    groups: tuple[Group, ...] = ()
    groups_N: NDArray[np.int32] | None = None
    facet: str = ""
    scale: Scale | None = None
    missing: str = ""

    def colours(self, colour_map: str = "viridis") -> NDArray[np.uint8]:
        """Return the colour of each code, uint8 (256, 3), in the light or dark theme of now."""
        grey = theme.colours().faint
        table_K3 = np.full((256, 3), (grey.red(), grey.green(), grey.blue()), np.uint8)
        if self.scale:
            table_K3[: LEVELS + 1] = colour_table(colour_map)[: LEVELS + 1]
        elif self.by == "rating":
            steps = np.linspace(60, 250, MOST_STARS).astype(int)
            table_K3[:MOST_STARS] = colour_table(colour_map)[steps][::-1]
        elif self.groups:
            n = min(MOST_COLOURS, sum(group.code < REST for group in self.groups))
            table_K3[:n] = theme.category_colours(n)
        else:
            accent = theme.colours().accent
            table_K3[:] = (accent.red(), accent.green(), accent.blue())
        return table_K3


TITLES: Mapping[By, str] = {
    "label": "Label", "cluster": "Cluster", "folder": "Folder", "split": "Split", "tag": "Tag", "rating": "Rating",
    "similarity": "Similarity to current", "crowding": "Likeness of neighbours", "date": "Date",
    "size": "File size", "pixels": "Pixels", "width": "Width", "height": "Height", "shape": "Shape", "none": "Nothing",
}  # fmt: skip
TIPS: Mapping[By, str] = {
    "cluster": "Groups of pictures that look alike, found without labels.",
    "similarity": "Cosine of the angle between the features of each picture and of the current one: 1 is the same.",
    "crowding": "Mean cosine to the ten most similar pictures: high in dense groups, low for odd ones out.",
    "shape": "Width over height: below 1 is upright.",
}
FACETS: Mapping[By, str] = {
    "label": "labels",
    "cluster": "clusters",
    "folder": "folders",
    "split": "splits",
    "tag": "tags",
    "rating": "rating",
}


def read_colouring(
    by: By, table: PictureTable, marks: Marks, set_folder: Path | None, current: int | None, is_on_N: NDArray[np.bool_]
) -> Colouring:
    """Return the colours of every picture of a table.

    Args:
        by: what they mean.
        table: the pictures.
        marks: what the person said of them.
        set_folder: of the features in use.
        current: picture that similarity is to.
        is_on_N: pictures on the map, which are counted.
    """
    match by:
        case "label":
            return _of_words(by, table.label, is_on_N, tr("No label"), tr("The pictures have no labels yet."))
        case "folder":
            return _of_words(by, table.sub_folder, is_on_N, tr("No folder"), "")
        case "split":
            return _of_words(by, table.split, is_on_N, tr("No split"), tr("The pictures are not split into parts."))
        case "cluster":
            return _clusters(table, set_folder, is_on_N)
        case "tag":
            return _tags(table, marks, is_on_N)
        case "rating":
            return _ratings(table, marks, is_on_N)
        case "none":
            return Colouring(by=by, codes_N=np.zeros(len(table), np.uint8))
    return _numbers(by, table, set_folder, current, is_on_N)


def _of_words(by: By, words: Words, is_on_N: NDArray[np.bool_], none: str, missing: str) -> Colouring:
    values = [(word, word or tr("The folder itself")) for word in words.words]
    return _categories(by, words.codes_N, values, is_on_N, none, missing)


def _clusters(table: PictureTable, set_folder: Path | None, is_on_N: NDArray[np.bool_]) -> Colouring:
    numbers_N = clusters_at(set_folder, table) if set_folder else None
    missing = tr("Clusters are groups of pictures that look alike. None have been found yet.")
    if numbers_N is None:
        return Colouring(by="cluster", codes_N=np.full(len(table), NONE, np.uint8), missing=missing)
    values = [(number, tr("Cluster {n}", n=number + 1)) for number in range(int(numbers_N.max(initial=-1)) + 1)]
    return _categories("cluster", numbers_N, values, is_on_N, tr("In no cluster"), missing)


def _tags(table: PictureTable, marks: Marks, is_on_N: NDArray[np.bool_]) -> Colouring:
    tags = sorted(marks.tags)
    numbers_N = np.full(len(table), -1, np.int32)
    for number in range(len(tags) - 1, -1, -1):  # of several tags of a picture, the first colours it
        ids = marks.tags[tags[number]]
        numbers_N[table.rows_of(np.fromiter(ids, np.int64, len(ids)))] = number
    return _categories(
        "tag", numbers_N, [(tag, tag) for tag in tags], is_on_N, tr("No tag"), tr("There are no tags yet.")
    )


def _ratings(table: PictureTable, marks: Marks, is_on_N: NDArray[np.bool_]) -> Colouring:
    stars_N = ratings(table, marks)
    counts = np.bincount(stars_N[is_on_N], minlength=MOST_STARS + 1)
    groups = [
        Group(value=stars, text="★" * stars, count=int(counts[stars]), code=MOST_STARS - stars)
        for stars in range(MOST_STARS, 0, -1)
    ]
    groups.append(Group(value=None, text=tr("No stars"), count=int(counts[0]), code=NONE))
    codes_N = np.where(stars_N > 0, MOST_STARS - stars_N, NONE).astype(np.uint8)
    places_N = np.where(stars_N > 0, MOST_STARS - stars_N, MOST_STARS).astype(np.int32)
    missing = "" if counts[1:].any() else tr("No picture has stars yet.")
    return Colouring(
        by="rating", codes_N=codes_N, groups=tuple(groups), groups_N=places_N, facet="rating", missing=missing
    )


def _categories(
    by: By,
    numbers_N: NDArray[np.int32],
    values: list[tuple[Any, str]],
    is_on_N: NDArray[np.bool_],
    none: str,
    missing: str,
) -> Colouring:
    """Return groups from the largest on; the eight colours that are told apart best go to these."""
    counts = np.bincount(numbers_N[is_on_N] + 1, minlength=len(values) + 1)
    order = [int(number) for number in np.argsort(-counts[1:], kind="stable") if counts[number + 1]]
    groups = [
        Group(value=values[number][0], text=values[number][1], count=int(counts[number + 1]), code=min(place, REST))
        for place, number in enumerate(order)
    ]
    places = np.full(len(values) + 1, len(groups), np.int32)  # the last is for -1
    places[order] = np.arange(len(order), dtype=np.int32)
    groups_N = places[numbers_N]
    if counts[0] and groups:
        groups.append(Group(value="", text=none, count=int(counts[0]), code=NONE))
    codes = np.array([*(group.code for group in groups), NONE], np.uint8)
    return Colouring(
        by=by,
        codes_N=codes[np.minimum(groups_N, len(codes) - 1)],
        groups=tuple(groups),
        groups_N=groups_N,
        facet=FACETS[by],
        missing="" if groups else missing,
    )


def _numbers(
    by: By, table: PictureTable, set_folder: Path | None, current: int | None, is_on_N: NDArray[np.bool_]
) -> Colouring:
    values_N, missing, in_words, is_log = _NUMBERS[by](table, set_folder, current)
    codes_N = np.full(len(table), NONE, np.uint8)
    is_known_N = is_on_N & np.isfinite(values_N) if values_N is not None else np.zeros(len(table), np.bool_)
    if values_N is None or not is_known_N.any():
        return Colouring(by=by, codes_N=codes_N, missing=missing)
    shown_N = np.log(np.maximum(values_N, 1e-12)) if is_log else values_N
    low, high = np.percentile(shown_N[is_known_N], CLIPPED)
    span = max(float(high - low), 1e-12)
    is_known_N = np.isfinite(values_N)
    codes_N[is_known_N] = np.clip((shown_N[is_known_N] - low) / span * LEVELS, 0, LEVELS).astype(np.uint8)
    ends = [np.exp(end) if is_log else end for end in (low, (low + high) / 2, high)]
    return Colouring(
        by=by, codes_N=codes_N, scale=Scale(**dict(zip(("low", "middle", "high"), map(in_words, ends), strict=True)))
    )


_Numbers = tuple[NDArray[np.floating] | None, str, Callable[[float], str], bool]


def _similarity(table: PictureTable, set_folder: Path | None, current: int | None) -> _Numbers:
    missing = tr("Choose a picture: the others are coloured by how similar they are to it.")
    values_N = likeness_to(current, set_folder, table) if current is not None and set_folder else None
    return values_N, missing, lambda value: f"{value:.2f}", False


def _crowding(table: PictureTable, set_folder: Path | None, _current: int | None) -> _Numbers:
    missing = tr("The table of neighbours has not been made yet; it comes with a t-SNE or UMAP map.")
    values_N = None
    if set_folder:
        try:
            features = FeatureSet(set_folder)
            likeness_Sk = read_neighbours(features).likeness_Nk
        except UserError:
            return None, missing, str, False
        k = min(CROWD, likeness_Sk.shape[1])
        parts = [
            np.asarray(likeness_Sk[first : first + LOW_ROWS, :k], np.float32).mean(axis=1)
            for first in range(0, len(likeness_Sk), LOW_ROWS)
        ]
        values_S = np.where(features.is_seen_N, np.concatenate(parts)[: len(features)], np.nan).astype(np.float32)
        values_N = at_table(features.ids_N, values_S, table)
    return values_N, missing, lambda value: f"{value:.2f}", False


def _column(
    value: Callable[[PictureTable], NDArray[Any]], in_words: Callable[[float], str], *, is_log: bool = False
) -> Callable[[PictureTable, Path | None, int | None], _Numbers]:
    def made(table: PictureTable, _set_folder: Path | None, _current: int | None) -> _Numbers:
        values_N = value(table).astype(np.float64)
        return np.where(values_N > 0, values_N, np.nan), tr("It is not known of any picture."), in_words, is_log

    return made


def _day(nanoseconds: float) -> str:
    return time.strftime("%d %b %Y", time.localtime(nanoseconds / 1e9))


_NUMBERS: Mapping[By, Callable[[PictureTable, Path | None, int | None], _Numbers]] = {
    "similarity": _similarity,
    "crowding": _crowding,
    "date": _column(lambda table: table.mtimes_N, _day),
    "size": _column(lambda table: table.sizes_N, size_in_words, is_log=True),
    "pixels": _column(
        lambda table: table.widths_N.astype(np.int64) * table.heights_N, lambda n: f"{n / 1e6:.2g} MP", is_log=True
    ),
    "width": _column(lambda table: table.widths_N, lambda n: f"{n:,.0f} px"),
    "height": _column(lambda table: table.heights_N, lambda n: f"{n:,.0f} px"),
    "shape": _column(lambda table: table.widths_N / np.maximum(table.heights_N, 1), lambda n: f"{n:.2f}", is_log=True),
}


def is_in_filter(group: Group, facet: str, query: Query) -> bool:
    """Tell whether a query lets a group through, as far as this facet goes; all where there is none."""
    if not facet:
        return True
    value = getattr(query, facet)
    if facet == "rating":
        return bool(value == 0 or (group.value or 0) >= value)
    return bool(not value or group.value in value)
