"""Selections that follow from others: the group of a picture, its likes, grown and shrunk by neighbours."""

from collections.abc import Callable
from pathlib import Path

from dinoviz.desk import Desk
from dinoviz.table import Ids
from dinoviz.views.map import neighbourhoods
from dinoviz.views.map.mixing import mixed
from dinoviz.widgets.scatter.colouring import Colouring
from dinoviz.words import tr


class MapSelecting:
    """Changes the selection of a session; what it reads it reads in the background."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._session = desk, desk.session

    def group(self, colouring: Colouring | None) -> None:
        """Select all pictures that are of the group of the current one."""
        table, current = self._session.state.table, self._session.state.current
        if current is None or colouring is None or colouring.groups_N is None or len(colouring.groups_N) != len(table):
            self._session.notify("info", tr("Colour the map by a label or a cluster first."))
            return
        is_alike_N = colouring.groups_N == colouring.groups_N[table.row_of(current)]
        self._session.select_with_tool(table.ids_N[is_alike_N], "replace", tr("Select a group"))

    def alike(self) -> None:
        """Select the pictures most similar to the current one."""
        if (current := self._session.state.current) is not None:
            self._change(lambda folder, _selected: neighbourhoods.alike(folder, current), tr("Select similar"))

    def grow(self) -> None:
        """Add the most similar pictures of each selected one."""
        self._change(neighbourhoods.grown, tr("Grow"))

    def shrink(self) -> None:
        """Keep only pictures most of whose similar ones are selected."""
        self._change(neighbourhoods.shrunk, tr("Shrink"))

    def mixed(self, names: tuple[str, ...]) -> None:
        """Select the pictures by which a class mixes with others, or a pair of classes with each other."""
        table = self._session.state.table
        text = tr("Select what mixes: {names}", names=" ↔ ".join(names))
        self._change(lambda folder, _selected: mixed(folder, table, names), text)

    def _change(self, change: Callable[[Path, Ids], Ids | None], text: str) -> None:
        project, row, selected = self._session.state.project, self._session.state.set_row, self._session.state.selected
        if row is None:
            return

        def take(found: Ids | None) -> None:
            if self._session.state.project != project:
                return
            if found is None:
                hint = tr("It comes with a t-SNE or UMAP map, or with Find.")
                self._session.notify("info", tr("There is no table of neighbours yet."), hint)
            else:
                self._session.select_with_tool(found, "replace", text)

        self._desk.background.run("map.reselect", lambda: change(row.folder, selected), take)
