"""Compare, side by side: one column a network, one row for what is seen of the picture; all zoom and move together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.controls import SliderRow, clear, label
from dinoviz.desk import Desk
from dinoviz.looking import AttentionSeen, Looks, PatchesSeen, Seen, question_of
from dinoviz.views.compare.networks import Network
from dinoviz.watching import watch
from dinoviz.widgets.picture.canvas import Layer, PictureCanvas, Pyramid, Zoom
from dinoviz.widgets.picture.large import LargePictures
from dinoviz.widgets.picture.looks import attention_layers, colour_layers, mask_layers, mask_seen
from dinoviz.words import tr
from engine import questions as q
from engine.catalogue import WEIGHTS
from engine.errors import BadInput
from engine.protocol import Refused

KINDS: tuple[tuple[str, str, str], ...] = (
    ("attention", "Attention", "Where the whole picture's token looks: the mean of the heads of the last layer."),
    ("mask", "Mask", "The smallest part of the picture that holds the chosen share of the attention."),
    ("colours", "Colours", "The three main directions in which patches differ, as red, green and blue."),
)
"""What can be seen of a picture: name, text, meaning."""
PREVIEW_PX = 512
ROW_NAME_PX = 136
LEAST_KEPT = 0.05


class LooksPage(QWidget):
    """A grid of canvases with one zoom."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._stamps: dict[Path, object] = {}
        self._looks = Looks(desk.vision, self._stamps.get)
        self._large = LargePictures(desk.background)
        self._zoom = Zoom(self)
        self._networks: tuple[Network, ...] = ()
        self._kinds: tuple[str, ...] = ()
        self._canvases: dict[tuple[str, str], PictureCanvas] = {}
        self._problems: dict[str, QLabel] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(theme.SPACE_L, 0, theme.SPACE_L, theme.SPACE_L)
        self._grid.setSpacing(theme.SPACE)
        watch(self, desk.session, ("current", "table", "choices.look"), self.refresh)
        desk.vision.changed.connect(self._service_changed)

    def show_networks(
        self, networks: Sequence[Network], kinds: Sequence[str], heads: Callable[[Network], QWidget]
    ) -> None:
        """Show other columns or rows; ``heads`` makes what stands above a column."""
        kinds = tuple(kind for kind, *_ in KINDS if kind in kinds)
        if (tuple(networks), kinds) == (self._networks, self._kinds):
            return
        self._networks, self._kinds = tuple(networks), kinds
        clear(self._grid)
        self._canvases.clear()
        self._problems.clear()
        for column, network in enumerate(networks, start=1):
            self._grid.addWidget(heads(network), 0, column)
            self._problems[network.key] = problem = label("", "warning", wraps=True)
            problem.hide()
            self._grid.addWidget(problem, 1, column)
            self._grid.setColumnStretch(column, 1)
        for column in range(len(networks) + 1, self._grid.columnCount()):
            self._grid.setColumnStretch(column, 0)
        for row, kind in enumerate(kinds, start=2):
            self._add_row(row, kind)
        for row in range(len(kinds) + 2, self._grid.rowCount()):
            self._grid.setRowStretch(row, 0)
        self.refresh()

    def _add_row(self, row: int, kind: str) -> None:
        _, text, tip = next(one for one in KINDS if one[0] == kind)
        self._grid.addWidget(self._row_name(kind, tr(text), tr(tip)), row, 0)
        self._grid.setRowStretch(row, 1)
        for column, network in enumerate(self._networks, start=1):
            canvas = PictureCanvas(self._zoom)
            canvas.setAccessibleName(tr("{what} of {network}", what=tr(text), network=network.name))
            canvas.setMinimumSize(1, 1)
            self._canvases[network.key, kind] = canvas
            self._grid.addWidget(canvas, row, column)

    def _row_name(self, kind: str, text: str, tip: str) -> QWidget:
        """Return what stands before a row: its name, what it shows and, for masks, how much they hold."""
        made = QWidget()
        made.setFixedWidth(ROW_NAME_PX)
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE_S)
        column.addWidget(label(text, "strong", tip=tip))
        column.addWidget(label(tip, "small", wraps=True))
        if kind == "mask":
            self._keep = SliderRow(tr("Kept"), LEAST_KEPT, 1.0, 0.01, "%", self._set_keep, tip, factor=100)
            self._keep.set_value(self._session.state.choices.look.keep)
            column.addSpacing(theme.SPACE)
            column.addWidget(self._keep)
        column.addStretch()
        return made

    def _set_keep(self, keep: float) -> None:
        self._session.choose(look=replace(self._session.state.choices.look, keep=keep))

    def refresh(self) -> None:
        """Show the current picture, and ask what is seen of it."""
        current = self._session.state.current
        if not self.isVisible() or current is None or not self._session.state.table.contains(current):
            return
        for key in self._canvases:
            self._show_picture(key, current)
        of_model: dict[str, list[Network]] = {}
        for network in self._networks:  # several sets of one network are one question
            of_model.setdefault(network.model, []).append(network)
        for model, networks in of_model.items():
            refused = partial(self._refused, networks)
            self._looks.with_model(model, partial(self._ask_model, networks, current), refused)

    def showEvent(self, event: object) -> None:
        """Catch up with what changed while it was not seen."""
        super().showEvent(event)  # type: ignore[arg-type]
        self.refresh()

    def fit(self) -> None:
        """Show the whole picture everywhere."""
        self._zoom.fit()

    def _path(self, picture: int) -> Path:
        table = self._session.state.table
        path, row = Path(table.path(picture)), table.row_of(picture)
        self._stamps[path] = (int(table.mtimes_N[row]), int(table.sizes_N[row]))
        return path

    def _show_picture(self, key: tuple[str, str], picture: int) -> None:
        """Show a picture: its thumbnail at once, itself when it is read."""
        table, canvas = self._session.state.table, self._canvases[key]
        row, stamp = table.row_of(picture), self._stamps.get(self._path(picture))
        if canvas.property("picture_key") == (picture, stamp):
            return
        canvas.setProperty("picture_key", (picture, stamp))
        canvas.setAccessibleDescription(table.name(picture))
        canvas.set_waiting()
        size = (int(table.heights_N[row]), int(table.widths_N[row]))

        def take(read: Pyramid | None, message: str = "") -> None:
            if key in self._canvases:  # columns may have changed meanwhile
                self._canvases[key].set_picture(read, message)

        def fail(problem: str) -> None:
            take(None, tr("'{name}' cannot be read: {problem}", name=table.name(picture), problem=problem))

        if not self._large.get(f"compare {key}", table.file(picture), stamp, take, fail):
            preview = self._desk.thumbnails.image(picture, PREVIEW_PX) if min(size) > 0 else None
            take(Pyramid.of(preview, size) if preview is not None else None)

    def _choices_for(self, kind: str) -> LookChoices:
        """Return what Look was set to, for one row here: last layer, all heads, every part, so that they compare."""
        choices = self._session.state.choices.look
        same = {"heads": (), "layer": -1, "is_rollout": False, "query": "cls", "is_together": False, "smallest": 1}
        return replace(choices, shows=kind, **same)  # type: ignore[arg-type]

    def _ask_model(self, networks: Sequence[Network], picture: int, model: q.Model) -> None:
        """Ask what the rows need; attention and mask are one question."""
        if picture != self._session.state.current:
            return
        path = self._path(picture)
        wanted: dict[q.OfPicture, list[str]] = {}
        for kind in self._kinds:
            if kind in ("attention", "mask") and model.heads == 0:
                continue
            question = question_of(self._choices_for(kind), model, path)
            if question is not None:
                wanted.setdefault(question, []).append(kind)
        no_attention = model.heads == 0 and {"attention", "mask"} & set(self._kinds)
        self._say(networks, tr("This network has no attention, as it is no transformer.") if no_attention else "")
        for question, kinds in wanted.items():
            slot = f"compare {model.model} {type(question).__name__}"
            take, refused = partial(self._take, networks, kinds), partial(self._refused, networks)
            self._looks.ask(question, slot, take, refused)

    def _take(self, networks: Sequence[Network], kinds: Sequence[str], seen: Seen) -> None:
        for kind in kinds:
            layers = self._layers(kind, seen)
            for network in networks:
                canvas = self._canvases.get((network.key, kind))
                if canvas is not None:
                    canvas.set_layers(layers)

    def _layers(self, kind: str, seen: Seen) -> list[Layer]:
        choices = self._choices_for(kind)
        if isinstance(seen, AttentionSeen):
            if kind == "mask":
                return mask_layers(mask_seen(seen, choices, None), choices)
            return attention_layers(seen, choices)
        return colour_layers(seen, choices) if isinstance(seen, PatchesSeen) else []

    def _refused(self, networks: Sequence[Network], refused: Refused) -> None:
        is_missing = networks[0].model in WEIGHTS and refused.problem == BadInput.__name__
        missing = tr("Its weights are not on this computer: download them in Models.")
        self._say(networks, missing if is_missing else f"{refused.message} {refused.hint}".strip())

    def _say(self, networks: Sequence[Network], text: str) -> None:
        for network in networks:
            if problem := self._problems.get(network.key):
                problem.setText(text)
                problem.setVisible(bool(text))

    def _service_changed(self) -> None:
        if self._desk.vision.state in ("off", "starting"):
            self._looks.forget_models()
