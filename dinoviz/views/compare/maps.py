"""Compare, maps: those of each network beside each other, turned to agree; the mouse and the selection are in all."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import EmptyState, clear
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.views.compare.networks import WORK, Network
from dinoviz.watching import follow, watch
from dinoviz.widgets.scatter.canvas import How, ScatterCanvas
from dinoviz.widgets.scatter.colouring import Colouring, read_colouring
from dinoviz.widgets.scatter.hover_card import PICTURE_PX as CARD_PX
from dinoviz.widgets.scatter.hover_card import HoverCard
from dinoviz.widgets.scatter.reading import PictureMapData, read_picture_map
from dinoviz.words import tr
from engine.catalogue import MAP_METHODS

ARRIVALS_MS = 30  # in which pictures that arrive are drawn together


class MapsPage(QWidget):
    """A map of every network, side by side.

    Signals:
        wanted(key): the map of a network is to be made.
    """

    wanted = Signal(str)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._networks: tuple[Network, ...] = ()
        self._method = "tsne"
        self._panes: dict[str, _Pane] = {}
        self._colouring: Colouring | None = None
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(theme.SPACE_L, 0, theme.SPACE_L, theme.SPACE_L)
        self._row.setSpacing(theme.SPACE)
        session = desk.session
        watch(self, session, ("table", "sets"), self._read)
        watch(self, session, ("current",), self._show_current)
        watch(self, session, ("hovered",), self._show_hovered)
        watch(self, session, ("selected",), self._show_selected)
        desk.jobs.ended.connect(self._job_ended)
        self._arrivals = QTimer(self, singleShot=True, interval=ARRIVALS_MS)
        self._arrivals.timeout.connect(self._draw_arrived)
        desk.thumbnails.arrived.connect(self._arrived)
        follow(self, theme.changed, self._colour)

    def show_networks(
        self, networks: Sequence[Network], method: str, tool: str, heads: Callable[[Network], QWidget]
    ) -> None:
        """Show the maps of other networks, by a method, with a tool in hand."""
        if tuple(networks) != self._networks:
            self._networks = tuple(networks)
            clear(self._row)
            self._panes = {network.key: self._pane(network, heads(network)) for network in networks}
            self._method = ""
        if method != self._method:
            self._method = method
            self._read()
        for pane in self._panes.values():
            pane.canvas.set_tool(tool)  # type: ignore[arg-type]

    def _pane(self, network: Network, head: QWidget) -> "_Pane":
        pane = _Pane(network, head, lambda: self.wanted.emit(network.key))
        pane.canvas.picture = self._picture
        pane.canvas.hovered.connect(self._hover)
        pane.canvas.clicked.connect(self._click)
        pane.canvas.activated.connect(self._activate)
        pane.canvas.selected.connect(self._select)
        pane.canvas.cleared.connect(lambda: self._session.select([]))
        self._row.addWidget(pane, 1)
        return pane

    def _arrived(self, _picture: int) -> None:
        self._arrivals.start()

    def _draw_arrived(self) -> None:
        """Draw pictures that came meanwhile: on the maps, and beside the mouse."""
        if self.isVisible():
            for pane in self._panes.values():
                pane.canvas.update()
            self._show_hovered()

    def _job_ended(self, job: Job) -> None:
        if job.argv[0] in WORK:
            self._read()

    def _read(self) -> None:
        """Read the maps and the labels, off the thread that paints."""
        if not self._networks or not self._method:
            return
        networks, method, table, marks = (
            self._networks,
            self._method,
            self._session.state.table,
            self._session.state.marks,
        )

        def work() -> tuple[dict[str, PictureMapData | None], Colouring]:
            maps = {
                one.key: read_picture_map(one.set.folder, method, table) if one.set else None  # type: ignore[arg-type]
                for one in networks
            }
            return maps, read_colouring("label", table, marks, None, None, np.ones(len(table), bool))

        self._desk.background.run("compare maps", work, self._take)

    def _take(self, read: tuple[dict[str, PictureMapData | None], Colouring]) -> None:
        maps, self._colouring = read
        for key, pane in self._panes.items():
            pane.show_map(maps.get(key), self._method)
        self._colour()
        self._show_current()
        self._show_selected()

    def _colour(self) -> None:
        if self._colouring is None:
            return
        colours_K3 = self._colouring.colours()
        for pane in self._panes.values():
            if pane.data is not None and pane.data.cloud.n == len(self._colouring.codes_N):
                pane.canvas.set_colours(self._colouring.codes_N, colours_K3)

    def _number_of(self, picture: int | None) -> int:
        table = self._session.state.table
        return table.row_of(picture) if picture is not None and table.contains(picture) else -1

    def _id_of(self, number: int) -> int | None:
        table = self._session.state.table
        return int(table.ids_N[number]) if 0 <= number < len(table) else None

    def _picture(self, number: int, side: int) -> QImage | None:
        picture = self._id_of(number)
        return None if picture is None else self._desk.thumbnails.image(picture, side)

    def _show_current(self) -> None:
        number = self._number_of(self._session.state.current)
        for pane in self._panes.values():
            pane.canvas.set_current(number)

    def _show_hovered(self) -> None:
        picture = self._session.state.hovered
        number, table = self._number_of(picture), self._session.state.table
        for pane in self._panes.values():
            pane.canvas.set_hovered(number)
            if number < 0 or picture is None or not pane.canvas.underMouse():
                pane.card.hide()
                continue
            lines = (table.name(picture), table.label_of(picture) or "")
            image = self._desk.thumbnails.image(picture, round(CARD_PX * self.devicePixelRatioF()))
            pane.card.show_picture(pane.canvas.mouse, image, tuple(filter(None, lines)))

    def _show_selected(self) -> None:
        table, selected = self._session.state.table, self._session.state.selected
        is_chosen_N = None
        if len(selected):
            is_chosen_N = np.zeros(len(table), np.bool_)
            is_chosen_N[table.rows_of(selected)] = True
        for pane in self._panes.values():
            if pane.data is not None and pane.data.cloud.n == len(table):
                pane.canvas.set_chosen(is_chosen_N)

    def _hover(self, number: int) -> None:
        self._session.hover(self._id_of(number))

    def _click(self, number: int, how: How) -> None:
        picture = self._id_of(number)
        if picture is None:
            self._session.select([])
        else:
            self._session.set_current(picture)
            self._session.select([picture], how)

    def _activate(self, number: int) -> None:
        self._session.set_current(self._id_of(number))
        self._session.go("look")

    def _select(self, numbers: NDArray[np.int64], how: How) -> None:
        self._session.select_with_tool(self._session.state.table.ids_N[numbers], how, tr("Select on a map"))


class _Pane(QWidget):
    """The map of one network, or what to do to have one."""

    def __init__(self, network: Network, head: QWidget, make: Callable[[], object]) -> None:
        super().__init__()
        self.data: PictureMapData | None = None
        self.canvas = ScatterCanvas()
        self.card = HoverCard(self.canvas)
        self.canvas.setAccessibleName(tr("Map by {network}", network=network.name))
        text = (
            tr("Pictures that this network finds alike will lie together.")
            if network.set
            else tr("The network has to look at all pictures first.")
        )
        self._empty = EmptyState("chart-scatter", tr("No map yet"), text, tr("Make it"), make)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.canvas)
        self._stack.addWidget(self._empty)
        self._stack.setCurrentWidget(self._empty)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addWidget(head)
        column.addWidget(self._stack, 1)

    def show_map(self, data: PictureMapData | None, method: str) -> None:
        """Show a map, or that there is none by this method."""
        self.data = data
        if data is not None:
            self.canvas.set_cloud(data.cloud, data.layer)
        else:
            title = MAP_METHODS[method].title if method in MAP_METHODS else method
            self._empty.say(tr("No {method} map yet", method=title), tr("Pictures that are alike will lie together."))
        self._stack.setCurrentWidget(self.canvas if data is not None else self._empty)
