"""Look: one picture, large, and what a network sees in it.

The vision service is asked only for what is new: another picture, layer, side or query, see ``looker``. Heads, masks,
thresholds and colours are made here from the arrays it sent. The pictures before and after the current one are read and
asked for ahead, so that stepping shows them at once.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QHideEvent, QImage, QKeyEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QSplitter,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.controls import EmptyState, IconButton, Line, Segmented, button, label
from dinoviz.desk import Desk
from dinoviz.looking import AttentionSeen, MatchesSeen, PatchesSeen, Seen, side_of
from dinoviz.model_names import kept_models, known_models, model_text
from dinoviz.saving import copy_image, save_image
from dinoviz.views.look.brush import MaskBrush
from dinoviz.views.look.export import LookExport
from dinoviz.views.look.looker import Looker
from dinoviz.views.look.match_lines import MatchLines, still_pair
from dinoviz.views.look.panel import Facts, LookPanel
from dinoviz.views.look.strip import TileStrip
from dinoviz.views.look.tiles import gallery_tiles, head_tiles
from dinoviz.watching import follow, watch
from dinoviz.widgets.picture.canvas import PictureCanvas, Tool, Zoom
from dinoviz.widgets.picture.large import LargePictures
from dinoviz.widgets.picture.layers import Layer, Pyramid, still
from dinoviz.widgets.picture.looks import (
    MaskSeen,
    attention_layers,
    chosen_heads,
    colour_layers,
    likeness_layers,
    likeness_span,
    mask_layers,
    mask_of_patches,
    mask_seen,
    matches_layers,
)
from dinoviz.widgets.picture.overlays import largest_part, mask_pixels
from dinoviz.words import tr
from engine.exporting.edited import finer

PREVIEW_PX = 512
"""Longer side of the thumbnail that stands in until the picture is read."""
PERCENT_PX = 44
"""Room for the zoom in percent, so that nothing beside it moves."""
RGB_NDIM = 3
"""Axes of an array of colours: rows, columns, and these three."""
SHOWS = ("attention", "mask", "colours", "likeness", "matches", "picture")


class LookView(QWidget):
    """The place where one looks.

    Args:
        desk: what every view works with.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._large = LargePictures(desk.background)
        self._looker = Looker(desk, self._large, self)
        self._brush = MaskBrush(desk, self._draw)
        self._mask: MaskSeen | None = None
        self._layers: list[Layer] = []
        self._drawn_on: int | None = None
        self._other_layers: list[Layer] = []
        self._kept_models: tuple[str, ...] = ()
        self._tiles_key: object = None
        self._n_thumbnails = 0
        self._is_stale = True
        self._build()
        self._bind()
        self._looker.changed.connect(self._draw)
        self._looker.waits.connect(self._canvas.set_waiting)
        self._looker.other_waits.connect(self._other.set_waiting)
        fields = ("project", "current", "selected", "shown", "table", "model", "runs", "choices.look")
        watch(self, self._session, fields, self._refresh)
        desk.thumbnails.arrived.connect(self._thumbnail_arrived)
        follow(self, theme.changed, self._draw)

    @property
    def _choices(self) -> LookChoices:
        return self._session.state.choices.look

    def _choose(self, **fields: object) -> None:
        self._session.set_choices("look", **fields)

    # Building

    def _build(self) -> None:
        self._zoom = Zoom(self)
        self._canvas = PictureCanvas(self._zoom)
        self._other = PictureCanvas(self._zoom)
        self._other.setAccessibleName(tr("Second picture"))
        self._connect_canvas()
        self._panel = LookPanel(self._choose, self._press, self._session.use_model)
        self._export = LookExport(self._desk, lambda: self._looker.pinned_here, self._side)
        self._panel.add(self._export)
        self._strip = TileStrip(tr("Heads"))
        self._strip.chosen.connect(self._tile_chosen)
        self._empty = EmptyState(
            "eye",
            tr("No picture chosen"),
            tr("Here you see what a network looks at in a picture. Choose one in the Library, or take the first."),
            tr("Take the first picture"),
            lambda: self._session.step(1),
        )
        content = QWidget()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self._empty)
        self._stack.addWidget(content)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addWidget(self._top_bar())
        column.addWidget(Line())
        column.addWidget(self._canvases(), 1)
        column.addWidget(self._build_problem_bar())
        column.addWidget(self._status_bar())
        column.addWidget(Line())
        column.addWidget(self._strip)
        row = QHBoxLayout(content)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addLayout(column, 1)
        row.addWidget(Line(is_upright=True))
        row.addWidget(self._panel)

    def _top_bar(self) -> QWidget:
        bar = QWidget()
        bar.setProperty("kind", "panel")
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE, theme.SPACE_S + 2, theme.SPACE, theme.SPACE_S + 2)
        row.setSpacing(theme.SPACE_S)
        texts = (tr("Attention"), tr("Mask"), tr("Colours"), tr("Likeness"), tr("Matches"), tr("Picture"))
        options = list(zip(SHOWS, texts, strict=True))
        self._shows = Segmented(options, lambda value: self._choose(shows=value), tr("What is shown"))
        for value, text in _ABOUT.items():
            self._shows.set_tip(value, f"<qt>{tr(text)}</qt>")
        self._beside = IconButton(
            "split-horizontal", tr("Compare with a second network, side by side"), self._toggle_beside, checkable=True
        )
        row.addWidget(self._shows)
        row.addStretch()
        row.addWidget(self._beside)
        row.addWidget(self._save_button())
        return bar

    def _save_button(self) -> QWidget:
        menu = QMenu(self)
        for name in ("look.save_picture", "look.save_mask", "look.copy_seen", "look.copy_overlay"):
            menu.addAction(self._desk.actions.qaction(name))
        made = IconButton("export", tr("Save or copy what is seen"))
        made.setMenu(menu)
        made.setPopupMode(made.ToolButtonPopupMode.InstantPopup)
        return made

    def _canvases(self) -> QWidget:
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.setChildrenCollapsible(False)
        self._captions: list[QLabel] = []
        for canvas in (self._canvas, self._other):
            pane = QWidget()
            column = QVBoxLayout(pane)
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(0)
            caption = label("", "small")
            caption.setContentsMargins(theme.SPACE, theme.SPACE_S, theme.SPACE, theme.SPACE_S)
            self._captions.append(caption)
            column.addWidget(caption)
            column.addWidget(canvas, 1)
            self._split.addWidget(pane)
            self._second = pane
        over = QWidget()
        below = QVBoxLayout(over)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(self._split)
        self._lines = MatchLines(over, self._canvas, self._other)
        return over

    def _status_bar(self) -> QWidget:
        bar = QWidget()
        bar.setProperty("kind", "panel")
        row = QHBoxLayout(bar)
        row.setContentsMargins(theme.SPACE_S, 0, theme.SPACE_S, 0)
        row.setSpacing(theme.SPACE_S)
        self._about = label("", "small")
        self._value = label("", "small")
        for name in ("look.previous", "look.next"):
            row.addWidget(self._desk.actions.button(name))
        # A long name gives way; else it would decide how narrow the window can be.
        self._about.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row.addWidget(self._about, 1)
        row.addWidget(self._value)
        self._percent = label("", "small")
        self._percent.setMinimumWidth(PERCENT_PX)
        self._percent.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._percent)
        row.addWidget(IconButton("frame-corners", tr("Show all of it  0"), self._zoom.fit))
        actual = tr("A pixel for a pixel  1")
        row.addWidget(IconButton("magnifying-glass-plus", actual, lambda: self._canvas.show_actual_size()))
        return bar

    def _build_problem_bar(self) -> QWidget:
        """Make the bar that says why nothing is seen, and offers what to do."""
        self._problem_bar = QWidget()
        self._problem_bar.setProperty("kind", "panel")
        row = QHBoxLayout(self._problem_bar)
        row.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE, theme.SPACE)
        row.setSpacing(theme.SPACE)
        self._problem_text = label("", "warning", wraps=True)
        row.addWidget(self._problem_text, 1)
        row.addWidget(button(tr("Try again"), self._looker.look_again))
        self._problem_bar.hide()
        return self._problem_bar

    def _connect_canvas(self) -> None:
        canvas, looker = self._canvas, self._looker
        canvas.patch_hovered.connect(lambda row, col: looker.hover((row, col)))
        canvas.patch_clicked.connect(lambda row, col: looker.pin((row, col)))
        canvas.shown.connect(self._show_percent)
        canvas.stroke_began.connect(self._stroke_began)
        canvas.brushed.connect(self._brushed)
        canvas.stroke_ended.connect(self._stroke_ended)

    def _bind(self) -> None:
        bind = self._desk.actions.bind
        bind("look.next", lambda: self._session.step(1))
        bind("look.previous", lambda: self._session.step(-1))
        for shows in SHOWS:
            bind(f"look.{shows}", partial(self._choose, shows=shows))
        bind("look.query", lambda: self._choose(query="patch" if self._choices.query == "cls" else "cls"))
        bind("look.layer_up", partial(self._step_layer, 1))
        bind("look.layer_down", partial(self._step_layer, -1))
        bind("look.beside", self._toggle_beside)
        bind("look.brush", partial(self._press, "brush"), lambda: self._choices.shows == "mask")
        for name, what in (("look.invert", "invert"), ("look.largest", "largest")):
            bind(name, partial(self._press, what), lambda: self._choices.shows == "mask" and self._mask is not None)
        bind("look.save_picture", self._save_picture, self._has_picture)
        bind("look.save_mask", self._save_mask, lambda: self._mask is not None)
        bind("look.copy_seen", self._copy_seen, self._has_picture)
        bind("look.copy_overlay", self._copy_overlay, self._has_picture)
        for what in ("masks", "attention"):
            bind(f"export.{what}", partial(self._open_export, what), lambda: self._session.state.project is not None)

    def _side(self) -> int:
        model = self._looker.model
        return side_of(self._choices, model) if model else self._choices.side

    def _has_picture(self) -> bool:
        return self._canvas.picture is not None

    def _open_export(self, what: str) -> None:
        self._session.go("look")
        if self._session.state.current is None:
            self._session.step(1)
        self._export.open(what)

    # Showing

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with what happened while something else was in front."""
        self._desk.background("look-models", kept_models, self._take_models)
        if self._is_stale:
            self._refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Ask nothing more while nobody looks."""
        self._looker.rest()

    def _refresh(self) -> None:
        """Show what the session says; ask for what is missing."""
        self._is_stale = not self.isVisible()
        if self._is_stale:
            return
        state = self._session.state
        has_picture = state.project is not None and state.current is not None and state.table.contains(state.current)
        if self._stack.currentIndex() != int(has_picture):
            self._stack.setCurrentIndex(int(has_picture))
            self._canvas.setFocus()  # arrows and zoom keys work at once
        if has_picture and state.current is not None:
            if self._looker.look_at(state.current):
                self._brush.turn_to(state.current)
            self._show_picture(self._canvas, "look-picture", state.current)
            self._looker.look()

    def _take_models(self, names: tuple[str, ...]) -> None:
        if names != self._kept_models:
            self._kept_models = names
            self._draw()

    def _show_picture(self, canvas: PictureCanvas, slot: str, picture: int) -> None:
        """Show a picture: its thumbnail at once, itself when it is read."""
        table, stamp = self._session.state.table, self._looker.stamp(picture)
        key = (str(table.file(picture)), stamp)
        if canvas.property("picture") == key:
            return
        canvas.setProperty("picture", key)
        row = table.row_of(picture)
        size = (int(table.heights_N[row]), int(table.widths_N[row]))

        def fail(problem: str) -> None:
            name = table.name(picture)
            canvas.set_picture(None, tr("'{name}' cannot be read: {problem}", name=name, problem=problem))

        if not self._large.get(slot, table.file(picture), stamp, canvas.set_picture, fail):
            preview = self._desk.thumbnails.image(picture, PREVIEW_PX) if min(size) > 0 else None
            canvas.set_picture(Pyramid.of(preview, size) if preview is not None else None)
        canvas.setAccessibleDescription(table.name(picture))

    def _draw(self) -> None:
        """Make the layers from what was answered and what is chosen, and show all that goes with them."""
        picture = self._looker.picture
        if not self.isVisible() or picture is None or not self._looker.is_here:
            return
        looker, choices, seen = self._looker, self._choices, self._looker.seen
        self._mask = None
        self._canvas.set_lattice(looker.lattice())
        if seen is not None and looker.is_seen():
            self._layers = self._layers_of(seen)
            self._canvas.set_layers(self._layers)
            self._drawn_on = picture
        elif looker.wanted is None or looker.problem or self._drawn_on != picture:  # else they fade until it comes
            self._layers = []
            self._canvas.set_layers([])
        if choices.shows != "matches" or not isinstance(seen, MatchesSeen):
            self._lines.set_lines(())
        self._canvas.set_tool(self._tool())
        self._canvas.set_erasing(self._brush.is_erasing)
        self._canvas.set_pinned(looker.pinned_here if self._tool() == "pointer" else None)
        self._draw_other()
        self._draw_strip()
        self._show_controls()
        self._show_status()

    def _layers_of(self, seen: Seen) -> list[Layer]:
        choices, patch = self._choices, self._looker.patch
        match seen:
            case AttentionSeen() if choices.shows == "mask":
                self._mask = mask_seen(seen, choices, self._brush.edits)
                return mask_layers(self._mask, choices)
            case AttentionSeen():
                return attention_layers(seen, choices)
            case PatchesSeen() if seen.arrays[0].ndim == RGB_NDIM:
                return colour_layers(seen, choices)
            case PatchesSeen() if patch is not None:
                return likeness_layers(seen, choices, patch)
            case MatchesSeen():
                first, self._other_layers, lines = matches_layers(seen)
                self._lines.set_lines(lines)
                return first
        return []

    def _tool(self) -> Tool:
        choices = self._choices
        if choices.shows == "mask" and self._brush.is_in_hand:
            return "brush"
        if choices.shows == "likeness" or (choices.shows in ("attention", "mask") and choices.query == "patch"):
            return "pointer"
        return "none"

    def _draw_other(self) -> None:
        """Show the second canvas: another network on this picture, or the picture to match."""
        looker, state = self._looker, self._session.state
        partner = looker.partner
        is_seen = looker.has_second_network or partner is not None
        self._second.setVisible(is_seen)
        for caption in self._captions:
            caption.setVisible(is_seen)
        if not is_seen or looker.picture is None:
            return
        self._show_picture(self._other, "look-other", looker.picture if partner is None else partner)
        if partner is not None:
            texts = [state.table.name(looker.picture), state.table.name(partner)]
        else:
            texts = [model_text(state.model, state.runs), model_text(self._choices.other_model, state.runs)]
            self._other_layers = self._layers_of_other()
        for caption, text in zip(self._captions, texts, strict=True):
            caption.setText(text)
        if looker.other_problem and partner is None:
            self._captions[1].setText(looker.other_problem)
        self._other.set_layers(self._other_layers if partner is None or isinstance(looker.seen, MatchesSeen) else [])

    def _layers_of_other(self) -> list[Layer]:
        choices, seen = self._choices, self._looker.other_seen
        match seen:
            case AttentionSeen() if choices.shows == "mask":
                return mask_layers(mask_seen(seen, choices, None), choices)
            case AttentionSeen() if choices.shows == "attention":
                return attention_layers(seen, choices)
            case PatchesSeen() if seen.arrays[0].ndim == RGB_NDIM and choices.shows == "colours":
                return colour_layers(seen, choices)
            case PatchesSeen() if seen.arrays[0].ndim != RGB_NDIM and choices.shows == "likeness":
                return likeness_layers(seen, choices, self._looker.other_patch() or (0, 0))
        return []

    def _draw_strip(self) -> None:
        choices, looker, seen = self._choices, self._looker, self._looker.seen
        self._strip.setVisible(choices.shows != "picture")
        if choices.shows in ("attention", "mask"):
            self._strip.setAccessibleName(tr("Heads"))
            if isinstance(seen, AttentionSeen):
                key = (seen, choices.colours, choices.is_smooth, choices.heads)
                if key != self._tiles_key:
                    self._strip.set_tiles(head_tiles(seen, choices))
                    self._tiles_key = key
                self._strip.set_picked(chosen_heads(choices, len(seen.maps_HRC)) or ("mean",))
        elif choices.shows != "picture":
            self._strip.setAccessibleName(tr("Pictures"))
            project, gallery = self._session.state.project, tuple(looker.gallery())
            key = (project, seen, looker.is_seen(), looker.patch, gallery, choices, self._n_thumbnails)
            if key != self._tiles_key:
                self._show_gallery()
                self._tiles_key = key
            self._strip.set_picked([looker.picture if looker.partner is None else looker.partner])

    def _show_gallery(self) -> None:
        looker = self._looker
        seen = looker.seen if isinstance(looker.seen, PatchesSeen) and looker.is_seen() else None
        tiles = gallery_tiles(
            looker.gallery(), self._session.state.table, self._desk.thumbnails, self._choices, seen, looker.patch
        )
        self._strip.set_tiles(tiles)

    def _thumbnail_arrived(self, picture: int) -> None:
        if self.isVisible() and any(tile.key == picture for tile in self._strip.tiles):
            self._n_thumbnails += 1
            self._draw_strip()

    def _show_controls(self) -> None:
        state, looker, strokes = self._session.state, self._looker, self._brush.strokes
        self._shows.set_value(self._choices.shows)
        self._beside.setChecked(bool(self._choices.other_model))
        facts = Facts(
            model=looker.model,
            patch=looker.patch,
            is_pinned=looker.pinned is not None,
            area=(self._mask.pixels, self._mask.share) if self._mask else None,
            n_gallery=len(looker.gallery()),
            can_undo=bool(strokes and strokes.can_undo),
            can_redo=bool(strokes and strokes.can_redo),
            has_edits=bool(strokes and not strokes.edits.is_empty),
            is_brushing=self._brush.is_in_hand,
            is_erasing=self._brush.is_erasing,
            models=known_models(state, self._kept_models),
            chosen_model=state.model,
        )
        self._panel.show_choices(self._choices, facts)
        self._export.show_choices(self._choices, has_attention=looker.model is None or looker.model.heads > 0)

    def _show_status(self) -> None:
        looker, table = self._looker, self._session.state.table
        assert looker.picture is not None
        row = table.row_of(looker.picture)
        parts = [table.name(looker.picture)]
        if looker.place is not None:
            parts.insert(0, tr("{n} of {total}", n=looker.place + 1, total=len(self._session.state.shown)))
        if table.widths_N[row] > 0:
            size = {"width": int(table.widths_N[row]), "height": int(table.heights_N[row])}
            parts.append(tr("{width} by {height} px", **size))
        if (lattice := looker.lattice()) is not None:
            parts.append(tr("seen as {cols} by {rows} patches", rows=lattice.rows, cols=lattice.cols))
        self._about.setText("  ·  ".join(parts))
        self._about.setToolTip(table.path(looker.picture))
        problem = self._desk.vision.problem if self._desk.vision.state == "failed" else looker.problem
        self._problem_text.setText(problem)
        self._problem_bar.setVisible(bool(problem))
        self._value.setText("" if problem else self._value_text())
        self._show_percent()

    def _value_text(self) -> str:
        """Return what is to be said of what is seen."""
        looker = self._looker
        if self._desk.vision.state == "starting":
            return tr("The network is being loaded…")
        if looker.wanted is not None and looker.looks.kept(looker.wanted) is None:
            return tr("Looking…")
        if self._choices.shows == "likeness" and looker.patch is None:
            return tr("Point at a place in the picture.")
        match looker.seen:
            case MatchesSeen(table_M5=table, mutual=mutual):
                return tr("{n} of {mutual} mutual best matches", n=len(table), mutual=mutual)
            case PatchesSeen(rule="none"):
                return tr("No subject was told from the ground: everything is coloured.")
            case PatchesSeen() as seen if seen.arrays[0].ndim != RGB_NDIM and looker.patch is not None:
                low, high = likeness_span(seen, looker.patch)
                return tr("Likeness (cosine) from {low} to {high}", low=f"{low:.2f}", high=f"{high:.2f}")
        return ""

    def _show_percent(self) -> None:
        self._percent.setText(f"{self._canvas.percent():.0f} %" if self._canvas.picture else "")

    # What the person does

    def event(self, event: QEvent) -> bool:
        """Let undo mean the last stroke while the brush is in hand."""
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and self._stroke_key(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Undo strokes; let go of the brush or of the patch."""
        if what := self._stroke_key(event):
            self._press(what)
        elif event.key() == Qt.Key.Key_Escape and self._brush.is_in_hand:
            self._press("erase" if self._brush.is_erasing else "brush")
        elif event.key() == Qt.Key.Key_Escape and self._looker.pinned is not None:
            self._press("unpin")
        else:
            super().keyPressEvent(event)

    def _stroke_key(self, event: QKeyEvent) -> str:
        """Return what a key means for the mask: with the brush in hand, or while its edits are what was done last."""
        strokes, is_in_hand = self._brush.strokes, self._brush.is_in_hand
        if self._choices.shows != "mask" or strokes is None or not (is_in_hand or self._brush.is_latest):
            return ""
        if event.matches(QKeySequence.StandardKey.Undo) and (is_in_hand or strokes.can_undo):
            return "undo"
        return "redo" if event.matches(QKeySequence.StandardKey.Redo) and (is_in_hand or strokes.can_redo) else ""

    def _press(self, what: str) -> None:
        match what:
            case "brush" | "erase":
                self._brush.take(what)
            case "unpin":
                self._looker.pin(None)
            case "invert" | "largest":
                self._turn_mask(what)
            case _:
                self._brush.change(what)
        self._draw()

    def _turn_mask(self, what: str) -> None:
        """Turn the mask inside out, or keep its largest part; what was brushed before counts."""
        seen = self._looker.seen
        if not isinstance(seen, AttentionSeen) or not self._looker.is_seen():
            return
        mask_RC = mask_of_patches(seen, self._choices)
        edits = self._brush.edits
        now_YX = edits.on(seen.lattice).applied(mask_RC) if edits else finer(mask_RC)
        self._brush.turn(seen.lattice, mask_RC, ~now_YX if what == "invert" else largest_part(now_YX))

    def _tile_chosen(self, key: object, adds: bool) -> None:
        if self._choices.shows in ("attention", "mask"):
            if not isinstance(key, int):
                self._choose(heads=())
            else:
                self._choose(heads=tuple(sorted(set(self._choices.heads) ^ {key})) if adds else (key,))
        elif isinstance(key, int) and self._choices.shows != "matches":
            self._session.set_current(key)
        elif isinstance(key, int) and key != self._looker.picture:
            self._looker.match_with(key)

    def _toggle_beside(self) -> None:
        if self._choices.other_model:
            self._choose(other_model="")
            return
        state = self._session.state
        others = [row for row in known_models(state, self._kept_models) if row[0] != state.model]
        if not others:
            self._session.notify("info", tr("There is no second network yet."), tr("Train one, or get one in Models."))
            self._show_controls()
            return
        menu = QMenu(self)
        for value, text in others:
            menu.addAction(text, partial(self._choose, other_model=value))
        menu.aboutToHide.connect(self._show_controls)
        menu.popup(self._beside.mapToGlobal(self._beside.rect().bottomLeft()))

    def _step_layer(self, by: int) -> None:
        depth = self._looker.model.depth if self._looker.model else 0
        if depth > 1:
            now = self._choices.layer if 0 <= self._choices.layer < depth else depth - 1
            to = min(max(now + by, 0), depth - 1)
            self._choose(layer=-1 if to == depth - 1 else to, is_rollout=False)

    def _stroke_began(self) -> None:
        if isinstance(self._looker.seen, AttentionSeen):
            self._brush.begin(self._looker.seen.lattice)

    def _brushed(self, begin: QPointF, end: QPointF, radius: float, is_adding: bool) -> None:
        if isinstance(self._looker.seen, AttentionSeen):
            self._brush.go_on(begin, end, radius, is_adding=is_adding)
            self._layers = self._layers_of(self._looker.seen)
            self._canvas.set_layers(self._layers)

    def _stroke_ended(self) -> None:
        self._brush.write()
        self._draw()

    # Saving what is seen

    def _ask_where(self, title: str, what: str) -> Path | None:
        assert self._looker.picture is not None
        name = f"{Path(self._session.state.table.name(self._looker.picture)).stem}-{what}.png"
        folder = self._choices.export_folder or str(Path.home())
        path, _filter = QFileDialog.getSaveFileName(self, title, str(Path(folder) / name), tr("Pictures (*.png)"))
        if path:
            self._choose(export_folder=str(Path(path).parent))
        return Path(path) if path else None

    def _as_seen(self) -> Callable[[], QImage]:
        """Return what makes an image of what is seen, both pictures where there are two; it may run in any thread."""
        picture, layers = self._canvas.picture, tuple(self._layers)
        other, other_layers, lines = self._other.picture, tuple(self._other_layers), self._lines.lines
        assert picture is not None
        if other is None or self._second.isHidden():
            return lambda: still(picture, layers)
        return lambda: still_pair(still(picture, layers), still(other, other_layers), lines)

    def _save_picture(self) -> None:
        path = self._ask_where(tr("Save the picture as it is seen"), self._choices.shows)
        if path and self._has_picture():
            save_image(self._desk, path, self._as_seen())

    def _save_mask(self) -> None:
        mask = self._mask
        path = self._ask_where(tr("Save the mask"), "mask") if mask else None
        if path and mask:
            save_image(self._desk, path, lambda: _mask_image(mask))

    def _copy_seen(self) -> None:
        copy_image(self._desk, self._as_seen())

    def _copy_overlay(self) -> None:
        picture, layers = self._canvas.picture, tuple(self._layers)
        if picture:
            copy_image(self._desk, lambda: still(picture, layers, is_clear=True))


_ABOUT = {
    "attention": "What the network looks at: bright is looked at most.",
    "mask": "The part of the picture that holds most of the attention, with its area, to save or clean up.",
    "colours": "Parts that are alike for the network in the same colour.",
    "likeness": "Point at a place: everything like it lights up, here and in the pictures below.",
    "matches": "Which places of two pictures belong together.",
    "picture": "The picture alone.",
}


def _mask_image(mask: MaskSeen) -> QImage:
    """Return a mask at the size of the picture, 0 and 255, as ``engine export masks --format png`` writes it."""
    pixels_YX = np.ascontiguousarray(mask_pixels(mask.cells_YX, mask.lattice).astype(np.uint8) * 255)
    height, width = pixels_YX.shape
    return QImage(pixels_YX.data, width, height, width, QImage.Format.Format_Grayscale8).copy()
