"""What a session says of pictures, drawn on their map: colours, filter, selection, names of groups.

Letters after a name are its axes: N pictures, in the order of the project's table
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinoviz.choices import MapChoices
from dinoviz.desk import Desk
from dinoviz.session import State
from dinoviz.table import Ids, PictureTable
from dinoviz.views.map.legend import Legend
from dinoviz.widgets.scatter.canvas import ScatterCanvas
from dinoviz.widgets.scatter.colouring import NAMED, TITLES, By, Colouring, Group, is_in_filter, read_colouring
from dinoviz.widgets.scatter.paint import Place
from dinoviz.widgets.scatter.reading import PictureMapData, stamps
from dinoviz.widgets.scatter.splat import densest_places
from dinoviz.words import counted, tr

WITHOUT_NONE = ("clusters", "tags")  # facets of which a query cannot ask for pictures without one


class MapDrawing:
    """Keeps a canvas and its legend as the session says.

    Args:
        desk: what every view works with.
        canvas: of the map of pictures; its numbers are rows of the table.
        legend: of its colours.
        coloured: called after the colours changed their meaning.
    """

    def __init__(self, desk: Desk, canvas: ScatterCanvas, legend: Legend, coloured: Callable[[], object]) -> None:
        self._desk, self._session = desk, desk.session
        self._canvas, self._legend, self._coloured = canvas, legend, coloured
        self.data: PictureMapData | None = None
        self.colouring: Colouring | None = None
        self._places: list[Place] = []
        self._coloured_for: tuple[Any, ...] = ()
        self._mostly_for: tuple[Ids, Colouring | None, str] | None = None
        legend.picked.connect(self._picked)
        legend.pointed.connect(lambda group: canvas.set_emphasis(group.code if group else -1))

    @property
    def _state(self) -> State:
        return self._session.state

    @property
    def _choices(self) -> MapChoices:
        return self._state.choices.map

    @property
    def _folder(self) -> Path | None:
        row = self._state.set_row
        return row.folder if row else None

    @property
    def by(self) -> By:
        """What the colours are to mean: what was chosen, where there is such a thing."""
        by = self._choices.by if self._choices.by in TITLES else "label"
        if by == "label" and not self._state.table.label.words:
            return "none"
        return by  # type: ignore[return-value]

    def show(self, data: PictureMapData | None) -> None:
        """Draw another map, or none."""
        self.data = data
        self._canvas.set_cloud(data.cloud if data else None, data.layer if data else None)
        if data is None:
            self.colouring = None
        self.colour()
        self.show_filter()
        self.show_selected()
        self.show_current()

    def is_ready(self) -> bool:
        """Tell whether the map is of the pictures of now: numbers of the canvas are rows of the table."""
        return self.data is not None and self.data.cloud.n == len(self._state.table)

    def number_of(self, picture: int | None) -> int:
        """Return the number of a picture on the canvas, -1 for none."""
        table = self._state.table
        return table.row_of(picture) if picture is not None and table.contains(picture) else -1

    # Colours

    def colour(self) -> None:
        """Read what the colours mean, if that has changed."""
        if not self.is_ready():
            return
        state, data, by, folder = self._state, self.data, self.by, self._folder
        assert data is not None
        key = self._key()
        if _is_same(key, self._coloured_for):
            return
        table, marks, current = state.table, state.marks, state.current
        cloud = data.cloud

        def work() -> tuple[Colouring, list[Place]]:
            is_on_N = np.zeros(len(table), np.bool_)
            is_on_N[cloud.numbers_S] = True
            found = read_colouring(by, table, marks, folder, current, is_on_N)
            return found, named_places(data, found)

        self._desk.background.run("map.colours", work, partial(self._take_colours, key))

    def _key(self) -> tuple[Any, ...]:
        """Return what the colours depend on; kept, as another thing may come to lie where one was freed."""
        state, by = self._state, self.by
        marks = (state.marks.tags, state.marks.ratings) if by in ("tag", "rating") else ()
        current = (state.current,) if by == "similarity" else ()
        clusters = (stamps(self._folder, "clusters"),) if by == "cluster" and self._folder else ()
        return by, self._folder, state.table, self.data, *marks, *current, *clusters

    def _take_colours(self, key: tuple[Any, ...], read: tuple[Colouring, list[Place]]) -> None:
        if self.data is None or len(read[0].codes_N) != self.data.cloud.n:
            return
        self._coloured_for = key
        self.colouring, self._places = read
        self.tint()
        self.show_names()
        self._coloured()

    def tint(self) -> None:
        """Give what was read its colours in the theme of now."""
        if self.colouring is not None:
            self._legend.show_colouring(self.colouring, self._choices.colour_map)
            self._legend.show_query(self._state.query)
            self._canvas.set_colours(self.colouring.codes_N, self._legend.colours_K3)

    def show_names(self) -> None:
        """Write the names of the groups that the filter lets through."""
        colouring, query = self.colouring, self._state.query
        if not self._choices.has_names or colouring is None:
            self._canvas.set_places([])
            return
        out = {group.text for group in colouring.groups if not is_in_filter(group, colouring.facet, query)}
        self._canvas.set_places([place for place in self._places if place.text not in out])

    # The filter

    def show_query(self) -> None:
        """Draw the groups that the filter leaves out faintly in the legend."""
        self._legend.show_query(self._state.query)
        self.show_names()

    def _picked(self, group: Group, is_toggle: bool) -> None:
        """Filter by a group of the legend: by it alone, or by it too; by none where it was alone."""
        colouring, query = self.colouring, self._state.query
        if colouring is None or not colouring.facet:
            return
        facet = colouring.facet
        if facet == "rating":
            least = group.value or 0
            value: Any = 0 if query.rating == least else least
        elif group.value == "" and facet in WITHOUT_NONE:
            return
        else:
            now = getattr(query, facet)
            if is_toggle:
                value = tuple(one for one in now if one != group.value) if group.value in now else (*now, group.value)
            else:
                value = () if now == (group.value,) else (group.value,)
        self._session.set_query(replace(query, **{facet: value}))

    def show_filter(self) -> None:
        """Draw pictures outside the filter faintly, or not at all."""
        state = self._state
        if self.is_ready() and (len(state.shown) or state.query.is_filter):  # else it is not answered yet
            table, shown = state.table, state.shown
            self._desk.background.run("map.shown", lambda: _is_among(table, shown), self._take_shown)

    def _take_shown(self, is_shown_N: NDArray[np.bool_]) -> None:
        if self.data is not None and len(is_shown_N) == self.data.cloud.n:
            is_all = bool(is_shown_N[self.data.cloud.numbers_S].all())
            self._canvas.set_shown(None if is_all else is_shown_N, hides_others=self._choices.hides_others)

    # The selection, the current picture, the one under the mouse

    def show_selected(self) -> None:
        """Draw the selected pictures on top."""
        if not self.is_ready():
            return
        table, selected = self._state.table, self._state.selected
        if len(selected):
            self._desk.background.run("map.selected", lambda: _is_among(table, selected), self._take_selected)
        else:
            self._desk.background.forget("map.selected")
            self._canvas.set_chosen(None)

    def _take_selected(self, is_chosen_N: NDArray[np.bool_]) -> None:
        if self.data is not None and len(is_chosen_N) == self.data.cloud.n:
            self._canvas.set_chosen(is_chosen_N)

    def show_current(self) -> None:
        """Ring the current picture."""
        self._canvas.set_current(self.number_of(self._state.current))

    def show_hovered(self) -> None:
        """Ring the picture under the mouse, here or in another place."""
        self._canvas.set_hovered(self.number_of(self._state.hovered))

    # In words

    def words(self) -> str:
        """Return what is on the map, how many are selected, and which group most of these are of."""
        if self.data is None:
            return ""
        text = counted(len(self.data.cloud), "picture")
        n = len(self._state.selected)
        return tr("{n} of {all} selected", n=n, all=text) + self._mostly() if n else text

    def _mostly(self) -> str:
        selected, colouring = self._state.selected, self.colouring
        if self._mostly_for is None or self._mostly_for[0] is not selected or self._mostly_for[1] is not colouring:
            self._mostly_for = (selected, colouring, self._most_common(selected, colouring))
        return self._mostly_for[2]

    def _most_common(self, selected: Ids, colouring: Colouring | None) -> str:
        table = self._state.table
        if colouring is None or colouring.groups_N is None or len(colouring.groups_N) != len(table):
            return ""
        places = colouring.groups_N[table.rows_of(selected)]
        is_group = np.array([group.value not in ("", None) for group in colouring.groups], np.bool_)
        counts = np.bincount(places, minlength=len(is_group))[: len(is_group)] * is_group
        if not counts.any():
            return ""
        most = int(counts.argmax())
        return f" · {colouring.groups[most].text} {counts[most] / len(places):.0%}"

    def lines_of(self, picture: int) -> tuple[str, ...]:
        """Return what there is to say of a picture beside it: its name, label and group."""
        table, colouring = self._state.table, self.colouring
        row = table.row_of(picture)
        lines = [table.name(picture)]
        if text := table.label.word(row):
            lines.append(text)
        if colouring is None or colouring.groups_N is None or colouring.by == "label" or not colouring.groups:
            return tuple(lines)
        if len(colouring.groups_N) == len(table):
            place = min(int(colouring.groups_N[row]), len(colouring.groups) - 1)
            lines.append(colouring.groups[place].text)
        return tuple(lines)


def _is_same(key: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Tell whether two keys hold the same things; plain values are compared, large ones are not looked into."""
    plain = (str, int, tuple, Path)
    return len(key) == len(other) and all(
        a is b or (isinstance(a, plain) and a == b) for a, b in zip(key, other, strict=True)
    )


def _is_among(table: PictureTable, ids: Ids) -> NDArray[np.bool_]:
    """Return which pictures of a table are among some."""
    is_among_N = np.zeros(len(table), np.bool_)
    is_among_N[table.rows_of(ids)] = True
    return is_among_N


def named_places(data: PictureMapData, colouring: Colouring) -> list[Place]:
    """Return the names of the largest groups, where each is densest."""
    groups = [group for group in colouring.groups if group.value not in ("", None)][:NAMED]
    if colouring.groups_N is None or colouring.by == "rating" or len(groups) < 2:
        return []
    codes_S = colouring.groups_N[data.cloud.numbers_S]
    codes_S = np.where(codes_S < len(groups), codes_S, -1)
    middles, counts = densest_places(data.cloud, codes_S, len(groups))
    return [
        Place(group.text, float(middle[0]), float(middle[1]), int(count))
        for group, middle, count in zip(groups, middles, counts, strict=True)
        if count
    ]
