"""Compare, neighbours: which pictures moved most between two networks, and what is near one of them by each."""

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSplitter, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import clear, label
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.views.compare.agreement import Accuracy, Neighbourhood, Overlap, knn_accuracy, overlap, read_neighbourhood
from dinoviz.views.compare.networks import WORK, Network
from dinoviz.watching import watch
from dinoviz.widgets.picture.grid import PictureGrid
from dinoviz.widgets.picture.tile import INSET_PX, PictureTile, TileLook
from dinoviz.words import tr

SLOT = "compare neighbours"
TILE_PX, LEAST_TILE_PX, QUERY_PX, GRID_PX = 112, 48, 132, 96
LIST_PX = 300
Read = dict[str, tuple[Neighbourhood | None, Accuracy | None]]


class NeighboursPage(QWidget):
    """A list of pictures, those whose neighbours changed most first; for the current one a strip of each network.

    Signals:
        read: neighbours and accuracies are known now.
    """

    read = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._networks: tuple[Network, ...] = ()
        self._read: Read = {}
        self._overlap: Overlap | None = None
        self._build()
        watch(self, desk.session, ("current", "choices.look"), self._show_strips)
        watch(self, desk.session, ("sets", "table"), self._read_again)
        desk.jobs.ended.connect(self._job_ended)

    def _build(self) -> None:
        self._said = label("", "heading", wraps=True)
        self._hint = label("", "small", wraps=True)
        self.grid = PictureGrid(self._desk, "compare")
        self.grid.set_side(GRID_PX)
        self.grid.setAccessibleName(tr("Pictures, those whose neighbours changed most first"))
        self.grid.set_captions(self._caption)
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(theme.SPACE_L, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addWidget(self._said)
        column.addWidget(self._hint)
        column.addWidget(self.grid, 1)
        right = QWidget()
        self._strips = QVBoxLayout(right)
        self._strips.setContentsMargins(theme.SPACE_L, 0, theme.SPACE_L, theme.SPACE_L)
        self._strips.setSpacing(theme.SPACE)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.setChildrenCollapsible(False)
        split.addWidget(left)
        split.addWidget(right)
        split.setSizes([LIST_PX, 3 * LIST_PX])
        split.setStretchFactor(1, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(split)

    def accuracy(self, network: Network) -> Accuracy | None:
        """Return the k-NN accuracy of a network, None where it is not known."""
        return self._read.get(network.key, (None, None))[1]

    def has_neighbours(self, network: Network) -> bool:
        """Tell whether who is near whom is known of a network."""
        return self._read.get(network.key, (None, None))[0] is not None

    def show_networks(self, networks: Sequence[Network]) -> None:
        """Compare other networks."""
        if tuple(networks) != self._networks:
            self._networks = tuple(networks)
            self._read_again()

    def _job_ended(self, job: Job) -> None:
        if job.argv[0] in WORK:
            self._read_again()

    def _read_again(self) -> None:
        """Read the tables of neighbours and count, off the thread that paints."""
        networks, table = self._networks, self._session.state.table

        def work() -> tuple[Read, Overlap | None]:
            read: Read = {}
            for network in networks:
                near = read_neighbourhood(network.set.folder) if network.set else None
                read[network.key] = (near, knn_accuracy(near, table) if near else None)
            near = [one for one, _ in read.values() if one is not None]
            return read, overlap(near[0], near[1]) if len(near) > 1 else None

        self._desk.background.run(SLOT, work, self._take)

    def _take(self, found: tuple[Read, Overlap | None]) -> None:
        self._read, self._overlap = found
        changed = self._overlap
        if changed is None:
            self._said.setText(tr("Neighbours of two networks are needed."))
            self._hint.setText(tr("Compute features by each network: the buttons are above."))
            self.grid.set_ids(np.zeros(0, np.int64))
        else:
            mean, pair = f"{changed.mean:.1f}", [one.name for one in self._networks if self.has_neighbours(one)][:2]
            self._said.setText(tr("Of {k} neighbours {mean} are the same, on average.", k=changed.k, mean=mean))
            self._said.setToolTip(tr("By {one} and {other}.", one=pair[0], other=pair[1]))
            self._hint.setText(tr("Pictures whose neighbours changed most come first."))
            self.grid.set_ids(changed.most_changed())
            self.grid.set_captions(self._caption)
        self._show_strips()
        self.read.emit()

    def _caption(self, picture: int) -> str | None:
        same = self._overlap.of(picture) if self._overlap else None
        return None if same is None or self._overlap is None else tr("{same} of {k} same", same=same, k=self._overlap.k)

    def _show_strips(self) -> None:
        """Show what is near the current picture by each network."""
        clear(self._strips)
        current = self._session.state.current
        if current is None or not self._session.state.table.contains(current):
            self._strips.addWidget(label(tr("Choose a picture on the left."), "muted"))
            self._strips.addStretch()
            return
        self._strips.addLayout(self._query(current))
        near = {network.key: self._nearest(network, current) for network in self._networks}
        counts: dict[int, int] = {}
        for ids in near.values():
            for picture in ids:
                counts[picture] = counts.get(picture, 0) + 1
        for network in self._networks:
            self._strips.addWidget(self._strip(network, near[network.key], counts))
        self._strips.addStretch()

    def _query(self, current: int) -> QHBoxLayout:
        table = self._session.state.table
        tile = PictureTile(self._desk, QUERY_PX, 0, can_be_pressed=False)
        tile.set_look(TileLook(picture=current, name=table.name(current)))
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE_S)
        words.addStretch()
        words.addWidget(label(table.name(current), "strong", wraps=True))
        if table.label.words:
            words.addWidget(label(self._label(current), "muted"))
        same = self._overlap.of(current) if self._overlap else None
        if same is not None and self._overlap is not None:
            said = tr("{same} of its {k} nearest are the same by both.", same=same, k=self._overlap.k)
            words.addWidget(label(said, "muted", wraps=True))
        words.addStretch()
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE)
        row.addWidget(tile)
        row.addLayout(words, 1)
        return row

    def _label(self, picture: int) -> str:
        table = self._session.state.table
        return table.label.word(table.row_of(picture)) or tr("no label")

    def _nearest(self, network: Network, picture: int) -> list[int]:
        near = self._read.get(network.key, (None, None))[0]
        return near.of(picture).tolist() if near else []

    def _strip(self, network: Network, ids: Sequence[int], counts: dict[int, int]) -> QWidget:
        """Return the nearest by one network; what another network has too is said, and whose label differs."""
        made = QFrame()
        made.setProperty("kind", "card")
        column = QVBoxLayout(made)
        column.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE)
        column.setSpacing(0)
        column.addWidget(label(tr("Nearest by {network}", network=network.name), "strong"))
        if not ids:
            column.addWidget(label(tr("Not known: there are no features of this picture yet."), "muted"))
            return made
        row = _Row()
        for picture in ids:
            row.add(self._tile(picture, counts[picture]))
        column.addWidget(row)
        return made

    def _tile(self, picture: int, times: int) -> PictureTile:
        state = self._session.state
        table, current = state.table, state.current
        tile = PictureTile(self._desk, TILE_PX, 2)
        if not table.contains(picture):
            return tile
        text = self._label(picture)
        is_other = current is not None and text != self._label(current)
        both = tr("in both") if len(self._networks) == 2 else tr("in {n} of them", n=times)
        said = (both, "muted") if times > 1 else (tr("only here"), "accent")
        lines = ((text, "danger" if is_other else "text"), said)
        tile.set_look(TileLook(picture=picture, lines=lines, name=table.name(picture), tip=table.path(picture)))
        tile.pressed.connect(lambda _second: self._session.set_current(picture))
        return tile


class _Row(QWidget):
    """Tiles from left to right, as many as there is room for."""

    def __init__(self) -> None:
        super().__init__()
        self._tiles: list[PictureTile] = []

    def add(self, tile: PictureTile) -> None:
        tile.setParent(self)
        self._tiles.append(tile)
        self.setFixedHeight(tile.sizeHint().height())
        tile.show()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        side = min(TILE_PX, max(LEAST_TILE_PX, self.width() // max(1, len(self._tiles)) - 2 * INSET_PX))
        left = 0
        for tile in self._tiles:
            tile.set_side(side)
            tile.move(left, 0)
            left += tile.width()
            tile.setVisible(left <= self.width())
        if self._tiles:
            self.setFixedHeight(self._tiles[0].height())
