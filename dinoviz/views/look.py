"""Look: one picture, large, and what a network sees in it.

The view asks the vision service only for what is new: another picture, layer, side or query. Heads, masks, thresholds
and colours are made here from the arrays it sent. The pictures before and after the current one are read and asked for
ahead, so that stepping shows them at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PySide6.QtCore import QEvent, QPointF, Qt, QTimer
from PySide6.QtGui import QImage, QKeyEvent, QKeySequence, QShowEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QMenu, QSplitter, QStackedLayout, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.controls import EmptyState, IconButton, Line, Segmented, button, label
from dinoviz.desk import Desk
from dinoviz.large_pictures import LargePictures
from dinoviz.look_export import LookExport
from dinoviz.look_layers import (
    MaskSeen,
    attention_layers,
    chosen_heads,
    colour_layers,
    head_colour,
    head_images,
    likeness_layers,
    mask_layers,
    mask_seen,
    matches_layers,
    small_images,
)
from dinoviz.look_panel import ABOUT_HEADS, Facts, LookPanel
from dinoviz.looking import (
    AttentionSeen,
    Looks,
    MatchesSeen,
    Patch,
    PatchesSeen,
    Seen,
    question_of,
    side_of,
)
from dinoviz.mask_edits import Strokes
from dinoviz.match_lines import MatchLines, still_pair
from dinoviz.model_names import kept_models, known_models, model_text
from dinoviz.overlays import mask_pixels
from dinoviz.picture_canvas import Layer, PictureCanvas, Pyramid, Zoom, still
from dinoviz.saving import copy_image, save_image
from dinoviz.tile_strip import Tile, TileStrip
from dinoviz.watching import follow, watch
from dinoviz.words import tr
from engine import questions as q
from engine.exporting.edited import Edits, path_of
from engine.protocol import Refused

AHEAD_MS = 150
"""Rest after an answer, before the neighbours are asked for: not while keys are held down."""
HOVER_MS = 15
"""Between two questions about the patch under the mouse; answers take about as long."""
MOST_GALLERY = 24
"""Pictures below that are not selected but lie next to the current one."""
PREVIEW_PX = 512
GALLERY_PX = 192
SHOWS = ("attention", "mask", "colours", "likeness", "matches", "picture")


class LookView(QWidget):
    """The place where one looks.

    Args:
        desk: what every view works with.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk, self._session = desk, desk.session
        self._stamps: dict[Path, object] = {}
        self._looks = Looks(desk.vision, lambda path: self._stamps.get(path))
        self._large = LargePictures(desk.background)
        self._model: q.Model | None = None
        self._asked_model = ""
        self._wanted: q.OfPicture | None = None
        self._seen: Seen | None = None
        self._seen_of: tuple[int | None, str] = (None, "")
        self._other_seen: AttentionSeen | PatchesSeen | None = None
        self._mask: MaskSeen | None = None
        self._shown_picture: int | None = None
        self._pinned: Patch | None = None
        self._hovered: Patch | None = None
        self._partner: int | None = None
        self._strokes: Strokes | None = None
        self._is_brushing = self._is_erasing = False
        self._problem = ""
        self._is_stale = True
        self._kept_models: tuple[str, ...] = ()
        self._layers: list[Layer] = []
        self._other_layers: list[Layer] = []
        self._tiles_key: object = None
        self._gallery_key: object = None
        self._gallery_ids: list[int] = []
        self._build()
        self._bind()
        self._ahead = QTimer(self, singleShot=True, interval=AHEAD_MS)
        self._ahead.timeout.connect(self._look_ahead)
        self._hover = QTimer(self, singleShot=True, interval=HOVER_MS)
        self._hover.timeout.connect(self._refresh)
        fields = ("project", "current", "selected", "shown", "table", "model", "runs", "choices.look")
        watch(self, self._session, fields, self._refresh)
        desk.vision.changed.connect(self._service_changed)
        desk.thumbnails.arrived.connect(self._thumbnail_arrived)
        follow(self, theme.changed, self._theme_changed)
        self._refresh()

    @property
    def _choices(self) -> LookChoices:
        return self._session.state.choices.look

    def _choose(self, **fields: object) -> None:
        self._session.choose(look=replace(self._choices, **fields))  # type: ignore[arg-type]

    # Building

    def _build(self) -> None:
        self._zoom = Zoom(self)
        self._canvas = PictureCanvas(self._zoom)
        self._other = PictureCanvas(self._zoom)
        self._other.setAccessibleName(tr("Second picture"))
        self._connect_canvases()
        self._panel = LookPanel(self._choose, self._press, self._session.use_model)
        self._export = LookExport(self._desk, lambda: self._pinned, self._side)
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
        row = QHBoxLayout(content)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addWidget(self._top_bar())
        column.addWidget(Line())
        column.addWidget(self._canvases(), 1)
        column.addWidget(self._build_problem_bar())
        column.addWidget(self._status_bar())
        column.addWidget(Line())
        column.addWidget(self._strip)
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
        self._shows = Segmented(
            list(zip(SHOWS, texts, strict=True)), lambda value: self._choose(shows=value), tr("What is shown")
        )
        for value, text in _ABOUT.items():
            self._shows.set_tip(value, f"<qt>{tr(text)}</qt>")
        row.addWidget(self._shows)
        row.addStretch()
        self._percent = label("", "small")
        self._percent.setMinimumWidth(44)
        self._percent.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._percent)
        row.addWidget(IconButton("frame-corners", tr("Show all of it  0"), self._zoom.fit))
        row.addWidget(
            IconButton("magnifying-glass-plus", tr("A pixel for a pixel  1"), lambda: self._canvas.show_actual_size())
        )
        row.addWidget(Line(is_upright=True))
        self._beside = IconButton(
            "split-horizontal", tr("Compare with a second network, side by side"), self._toggle_beside, checkable=True
        )
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
        row.setContentsMargins(theme.SPACE, 2, theme.SPACE, 2)
        self._about = label("", "small")
        self._value = label("", "small")
        row.addWidget(self._about)
        row.addStretch()
        row.addWidget(self._value)
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
        row.addWidget(button(tr("Try again"), self._try_again))
        self._problem_bar.hide()
        return self._problem_bar

    def _connect_canvases(self) -> None:
        for canvas in (self._canvas, self._other):
            canvas.patch_hovered.connect(self._patch_hovered)
            canvas.patch_clicked.connect(self._patch_clicked)
            canvas.left.connect(self._patch_left)
        self._canvas.shown.connect(self._show_percent)
        self._canvas.stroke_began.connect(self._stroke_began)
        self._canvas.brushed.connect(self._brushed)
        self._canvas.stroke_ended.connect(self._stroke_ended)

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
        bind("look.save_picture", self._save_picture, self._has_picture)
        bind("look.save_mask", self._save_mask, lambda: self._mask_now() is not None)
        bind("look.copy_seen", self._copy_seen, self._has_picture)
        bind("look.copy_overlay", self._copy_overlay, self._has_picture)
        bind("export.masks", self._export.open, self._has_picture)

    def _side(self) -> int:
        return side_of(self._choices, self._model) if self._model else self._choices.side

    def _has_picture(self) -> bool:
        return self._canvas.picture is not None

    # Showing

    def showEvent(self, event: QShowEvent) -> None:
        self._desk.background("look-models", kept_models, self._take_models)
        if self._is_stale:
            self._refresh()

    def _refresh(self) -> None:
        """Show what the session says; ask for what is missing."""
        state = self._session.state
        if not self.isVisible():
            self._is_stale = True
            return
        self._is_stale = False
        has_picture = state.project is not None and state.current is not None and state.table.contains(state.current)
        if self._stack.currentIndex() != int(has_picture):
            self._stack.setCurrentIndex(int(has_picture))
            self._canvas.setFocus()  # arrows and zoom keys work at once
        if not has_picture:
            return
        assert state.current is not None
        if state.current != self._shown_picture:
            self._change_picture(state.current)
        self._show_picture(self._canvas, "look-picture", state.current)
        self._ask()
        self._draw()

    def _take_models(self, names: tuple[str, ...]) -> None:
        if names != self._kept_models:
            self._kept_models = names
            self._refresh()

    def _change_picture(self, picture: int) -> None:
        self._shown_picture = picture
        self._pinned = self._hovered = None
        self._strokes = None
        self._problem = ""
        if self._partner == picture:
            self._partner = None
        self._read_edits(picture)

    def _path(self, picture: int) -> Path:
        """Return the path of a picture as questions name it, and note the state of its file."""
        table = self._session.state.table
        path = Path(table.path(picture))
        row = table.row_of(picture)
        self._stamps[path] = (int(table.mtimes_N[row]), int(table.sizes_N[row]))
        return path

    def _show_picture(self, canvas: PictureCanvas, slot: str, picture: int) -> None:
        """Show a picture: its thumbnail at once, itself when it is read."""
        table = self._session.state.table
        row, path = table.row_of(picture), self._path(picture)
        key = (picture, self._stamps[path])
        if canvas.property("picture_key") == key:
            return
        canvas.setProperty("picture_key", key)
        size = (int(table.heights_N[row]), int(table.widths_N[row]))

        def fail(problem: str) -> None:
            canvas.set_picture(
                None, tr("'{name}' cannot be read: {problem}", name=table.name(picture), problem=problem)
            )

        if not self._large.get(slot, table.file(picture), self._stamps[path], canvas.set_picture, fail):
            preview = self._desk.thumbnails.image(picture, PREVIEW_PX) if min(size) > 0 else None
            canvas.set_picture(Pyramid.of(preview, size) if preview is not None else None)
        canvas.setAccessibleDescription(table.name(picture))

    # Asking

    def _gallery(self) -> list[int]:
        """Return the pictures below, the current one first: those selected, or those next to it."""
        state = self._session.state
        key = (state.current, id(state.shown), id(state.selected))
        if key != self._gallery_key:  # to find the current one among a million takes a millisecond
            self._gallery_key, self._gallery_ids = key, self._found_gallery()
        return self._gallery_ids

    def _found_gallery(self) -> list[int]:
        state = self._session.state
        current = state.current
        assert current is not None
        if len(state.selected) > 1 or (len(state.selected) == 1 and int(state.selected[0]) != current):
            others = [int(picture) for picture in state.selected[: q.MOST_PICTURES] if int(picture) != current]
        else:
            place = np.flatnonzero(state.shown == current)
            first = int(place[0]) + 1 if len(place) else 0
            others = [int(picture) for picture in state.shown[first : first + MOST_GALLERY] if int(picture) != current]
        return [current, *others][: q.MOST_PICTURES]

    def _partner_now(self) -> int | None:
        """Return the picture to be matched with the current one."""
        gallery = self._gallery()
        if self._partner in gallery[1:]:
            return self._partner
        return gallery[1] if len(gallery) > 1 else None

    def _patch_that_looks(self) -> Patch | None:
        return self._pinned or self._hovered

    def _question(self, model: q.Model, picture: int, patch: Patch | None) -> q.OfPicture | None:
        choices = self._choices
        others: Sequence[int] = ()
        if choices.shows == "matches":
            partner = self._partner_now()
            others = [] if partner is None else [partner]
        elif choices.is_together and choices.shows in ("colours", "likeness"):
            others = self._gallery()[1:]
        paths = tuple(self._path(other) for other in others)
        return question_of(choices, model, self._path(picture), patch=patch, others=paths)

    def _ask(self) -> None:
        name = self._session.state.model
        if name != self._asked_model:
            self._asked_model, self._problem = name, ""
            if self._desk.vision.state == "failed":  # it may have failed because of the network before
                self._desk.vision.restart()
        if name not in self._looks.models:
            self._canvas.set_waiting()
        self._looks.with_model(name, self._ask_model, self._refused)

    def _ask_model(self, model: q.Model) -> None:
        current = self._session.state.current
        if model.model != self._session.state.model or current is None:
            return
        self._model = model
        patch = self._patch_that_looks()
        question = None if self._lacks_attention(model) else self._question(model, current, patch)
        if question == self._wanted and self._seen is not None:
            self._ask_other()
            return
        self._wanted = question
        if question is None:
            self._seen = None
            self._draw()
            return
        if self._looks.kept(question) is None:
            self._canvas.set_waiting()
        slot = "look-query" if patch is not None and self._pinned is None else "look"
        self._looks.ask(question, slot, partial(self._answered, question), self._refused)

    def _lacks_attention(self, model: q.Model) -> bool:
        """Tell whether attention is asked of a network without any, and say so."""
        lacks = model.heads == 0 and self._choices.shows in ("attention", "mask")
        name = model_text(model.model, self._session.state.runs)
        said = tr("'{name}' has no attention, as it is no transformer. Colours, likeness and matches work.", name=name)
        self._problem = said if lacks else "" if self._problem == said else self._problem
        return lacks

    def _answered(self, question: q.OfPicture, seen: Seen) -> None:
        if question != self._wanted:
            return
        self._seen, self._problem = seen, ""
        self._seen_of = (self._shown_picture, self._choices.shows)
        self._draw()
        self._ask_other()
        if not (self._hovered and not self._pinned):
            self._ahead.start()

    def _refused(self, refused: Refused) -> None:
        """Say why nothing is shown."""
        self._seen = None
        self._problem = f"{refused.message} {refused.hint}".strip()
        self._draw()

    def _try_again(self) -> None:
        self._problem = ""
        self._wanted = None
        if self._desk.vision.state == "failed":
            self._desk.vision.restart()
        self._refresh()

    def _ask_other(self) -> None:
        """Ask the second network about the same picture."""
        if not self._has_second_network():
            return

        def ask(model: q.Model) -> None:
            current = self._session.state.current
            if current is None or not self._has_second_network():
                return
            patch = self._patch_for(model)
            question = question_of(self._choices, model, self._path(current), patch=patch)
            if question is None:
                self._other_answered(question, None)
                return
            if self._looks.kept(question) is None:
                self._other.set_waiting()
            self._looks.ask(question, "look-other", partial(self._other_answered, question), self._other_refused)

        self._looks.with_model(self._choices.other_model, ask, self._other_refused)

    def _patch_for(self, model: q.Model) -> Patch | None:
        """Return the patch of another network's lattice at the place of the chosen one."""
        patch = self._patch_that_looks()
        if patch is None or self._model is None or not isinstance(self._seen, AttentionSeen | PatchesSeen):
            return patch
        lattice = self._seen.lattice if isinstance(self._seen, AttentionSeen) else self._seen.lattices[0]
        sides = side_of(self._choices, self._model) / self._model.patch, side_of(self._choices, model) / model.patch
        scale = sides[1] / sides[0]
        row, col = (int((place + 0.5) * scale) for place in patch)
        return min(row, int(lattice.rows * scale) - 1), min(col, int(lattice.cols * scale) - 1)

    def _has_second_network(self) -> bool:
        return bool(self._choices.other_model) and self._choices.shows != "matches"

    def _other_answered(self, question: q.OfPicture | None, seen: Seen | None) -> None:
        if self._has_second_network():
            self._other_seen = seen if isinstance(seen, AttentionSeen | PatchesSeen) else None
            self._draw_other()

    def _other_refused(self, refused: Refused) -> None:
        self._other_seen = None
        self._captions[1].setText(f"{refused.message} {refused.hint}")
        self._other.set_layers([])

    def _look_ahead(self) -> None:
        """Read the pictures before and after the current one, and ask about them."""
        state = self._session.state
        place = np.flatnonzero(state.shown == state.current) if state.current is not None else np.zeros(0, np.intp)
        if not len(place) or self._model is None or not self.isVisible():
            return
        for name, at in (("next", int(place[0]) + 1), ("previous", int(place[0]) - 1)):
            if not 0 <= at < len(state.shown):
                continue
            picture = int(state.shown[at])
            path = self._path(picture)
            self._large.ahead(f"look-{name}", state.table.file(picture), self._stamps[path])
            if self._choices.shows in ("attention", "mask", "colours") and not self._choices.is_together:
                question = question_of(self._choices, self._model, path)
                if question is not None:
                    self._looks.ask(question, f"look-{name}", lambda _seen: None)

    def _service_changed(self) -> None:
        if self._desk.vision.state in ("off", "starting"):
            self._looks.forget_models()
        self._show_status()

    # Drawing

    def _draw(self) -> None:
        """Make the layers from what was answered and what is chosen, and show all that goes with them."""
        choices, seen = self._choices, self._seen
        is_of_this = self._seen_of == (self._shown_picture, choices.shows)
        self._mask = None
        if seen is not None and not is_of_this and choices.shows in ("attention", "mask"):
            is_of_this = isinstance(seen, AttentionSeen) and self._seen_of[0] == self._shown_picture
        if seen is not None and is_of_this:
            self._layers = self._layers_of(seen)
            self._canvas.set_lattice(_lattice_of(seen))
            self._canvas.set_layers(self._layers)
        elif self._wanted is None or self._problem or (self._seen_of[0] != self._shown_picture):
            self._layers = []
            self._canvas.set_layers([])
        if not isinstance(seen, MatchesSeen) or choices.shows != "matches":
            self._lines.set_lines(())
        self._canvas.set_tool(self._tool())
        self._canvas.set_erasing(self._is_erasing)
        self._canvas.set_pinned(self._pinned if self._tool() == "pointer" else None)
        self._draw_other()
        self._draw_strip()
        self._show_controls()
        self._show_status()

    def _layers_of(self, seen: Seen) -> list[Layer]:
        choices, patch = self._choices, self._patch_that_looks()
        match seen:
            case AttentionSeen() if choices.shows == "mask":
                edits = self._strokes.edits if self._strokes else None
                self._mask = mask_seen(seen, choices, edits)
                return mask_layers(self._mask, choices)
            case AttentionSeen():
                return attention_layers(seen, choices)
            case PatchesSeen() if seen.arrays[0].ndim == 3:
                return colour_layers(seen, choices)
            case PatchesSeen() if patch is not None:
                return likeness_layers(seen, choices, patch)
            case MatchesSeen():
                first, self._other_layers, lines = matches_layers(seen)
                self._other.set_layers(self._other_layers)
                self._lines.set_lines(lines)
                return first
        return []

    def _tool(self) -> str:
        choices = self._choices
        if choices.shows == "mask" and self._is_brushing:
            return "brush"
        if choices.shows == "likeness" or (choices.shows in ("attention", "mask") and choices.query == "patch"):
            return "pointer"
        return "none"

    def _draw_other(self) -> None:
        """Show the second canvas: another network on this picture, or the picture to match."""
        choices, state = self._choices, self._session.state
        partner = self._partner_now() if choices.shows == "matches" and state.current is not None else None
        is_seen = self._has_second_network() or partner is not None
        self._split.widget(1).setVisible(is_seen)
        for caption in self._captions:
            caption.setVisible(is_seen)
        if not is_seen:
            return
        picture = partner if partner is not None else state.current
        assert picture is not None
        self._show_picture(self._other, "look-other", picture)
        self._other.set_tool("pointer" if partner is None and self._tool() == "pointer" else "none")
        if partner is not None:
            self._captions[0].setText(state.table.name(state.current) if state.current is not None else "")
            self._captions[1].setText(state.table.name(partner))
            return
        self._captions[0].setText(model_text(state.model, state.runs))
        self._captions[1].setText(model_text(choices.other_model, state.runs))
        seen = self._other_seen
        if isinstance(seen, AttentionSeen) and choices.shows in ("attention", "mask"):
            is_mask = choices.shows == "mask"
            layers = (
                mask_layers(mask_seen(seen, choices, None), choices) if is_mask else attention_layers(seen, choices)
            )
            self._other_layers = layers
            self._other.set_lattice(seen.lattice)
        elif isinstance(seen, PatchesSeen) and choices.shows in ("colours", "likeness"):
            patch = self._patch_for(self._looks.models[choices.other_model]) or (0, 0)
            is_colour = seen.arrays[0].ndim == 3
            self._other_layers = colour_layers(seen, choices) if is_colour else likeness_layers(seen, choices, patch)
            self._other.set_lattice(seen.lattices[0])
        else:
            self._other_layers = []
        self._other.set_layers(self._other_layers)

    def _draw_strip(self) -> None:
        choices = self._choices
        if choices.shows in ("attention", "mask"):
            self._strip.setAccessibleName(tr("Heads"))
            if isinstance(self._seen, AttentionSeen):
                choices_key = (choices.colours, choices.is_smooth, choices.heads)
                if (key := (id(self._seen), *choices_key)) != self._tiles_key:
                    self._strip.set_tiles(self._head_tiles(self._seen))
                    self._tiles_key = key
                heads = chosen_heads(choices, len(self._seen.maps_HRC))
                self._strip.set_picked([*heads] if heads else ["mean"])
            self._strip.setVisible(True)
        elif choices.shows == "picture":
            self._strip.setVisible(False)
        else:
            self._tiles_key = None
            self._strip.setAccessibleName(tr("Pictures"))
            self._strip.set_tiles(self._gallery_tiles())
            partner = self._partner_now() if choices.shows == "matches" else None
            self._strip.set_picked([partner] if partner is not None else [self._shown_picture])
            self._strip.setVisible(True)

    def _head_tiles(self, seen: AttentionSeen) -> list[Tile]:
        images = head_images(seen, self._choices)
        height, width = seen.lattice.picture
        heads = chosen_heads(self._choices, len(seen.maps_HRC))
        keys: list[int | str] = ["mean", *range(len(seen.maps_HRC))] if len(seen.maps_HRC) > 1 else ["mean"]
        tiles = []
        for key, (image, reach) in zip(keys, images, strict=True):
            is_single = len(seen.maps_HRC) == 1
            title = tr("Rollout") if is_single else tr("Mean") if key == "mean" else tr("Head {n}", n=int(key) + 1)
            tiles.append(
                Tile(
                    key=key,
                    title=title,
                    aspect=width / height,
                    over=image,
                    reach=reach,
                    dot=head_colour(int(key)) if len(heads) > 1 and key in heads else None,
                    tip=f"<qt>{tr(ABOUT_HEADS)}</qt>",
                    is_smooth=self._choices.is_smooth,
                )
            )
        return tiles

    def _gallery_tiles(self) -> list[Tile]:
        table = self._session.state.table
        gallery = self._gallery()
        over: Sequence[tuple[QImage, tuple[float, float]]] = ()
        is_now = self._seen_of == (self._shown_picture, self._choices.shows)
        if isinstance(self._seen, PatchesSeen) and is_now:
            over = small_images(self._seen, self._choices, self._patch_that_looks())
        tiles = []
        for number, picture in enumerate(gallery):
            row = table.row_of(picture)
            image, reach = over[number] if number < len(over) else (None, (1.0, 1.0))
            tiles.append(
                Tile(
                    key=picture,
                    title=table.name(picture),
                    aspect=max(1, int(table.widths_N[row])) / max(1, int(table.heights_N[row])),
                    base=self._desk.thumbnails.image(picture, GALLERY_PX),
                    over=image,
                    reach=reach,
                    tip=table.path(picture),
                    is_smooth=self._choices.is_smooth,
                )
            )
        return tiles

    def _thumbnail_arrived(self, picture: int) -> None:
        if self.isVisible() and any(tile.key == picture for tile in self._strip.tiles):
            self._strip.set_tiles(self._gallery_tiles())

    def _theme_changed(self) -> None:
        if self.isVisible():
            self._draw()

    def _show_controls(self) -> None:
        state, choices, strokes = self._session.state, self._choices, self._strokes
        self._shows.set_value(choices.shows)
        self._beside.setChecked(bool(choices.other_model))
        facts = Facts(
            model=self._model,
            patch=self._patch_that_looks(),
            is_pinned=self._pinned is not None,
            area=(self._mask.pixels, self._mask.share) if self._mask else None,
            n_gallery=len(self._gallery()),
            can_undo=bool(strokes and strokes.can_undo),
            can_redo=bool(strokes and strokes.can_redo),
            has_edits=bool(strokes and not strokes.edits.is_empty),
            is_brushing=self._is_brushing,
            is_erasing=self._is_erasing,
            models=known_models(state, self._kept_models),
            chosen_model=state.model,
        )
        self._panel.show_choices(choices, facts)
        self._export.show_choices(choices, has_attention=self._model is None or self._model.heads > 0)

    def _show_status(self) -> None:
        state = self._session.state
        if state.current is None or not state.table.contains(state.current):
            return
        row = state.table.row_of(state.current)
        parts = [
            state.table.name(state.current),
            tr("{width} by {height} px", width=int(state.table.widths_N[row]), height=int(state.table.heights_N[row])),
        ]
        lattice = _lattice_of(self._seen)
        if lattice is not None:
            parts.append(tr("seen as {cols} by {rows} patches", rows=lattice.rows, cols=lattice.cols))
        self._about.setText("  ·  ".join(parts))
        problem = self._desk.vision.problem if self._desk.vision.state == "failed" else self._problem
        self._problem_text.setText(problem)
        self._problem_bar.setVisible(bool(problem))
        self._value.setText("" if problem else self._value_text())
        self._show_percent()

    def _value_text(self) -> str:
        """Return what is to be said of what is seen."""
        if self._desk.vision.state == "starting":
            return tr("The network is being loaded…")
        if self._wanted is not None and self._looks.kept(self._wanted) is None:
            return tr("Looking…")
        if self._choices.shows == "likeness" and self._patch_that_looks() is None:
            return tr("Point at a place in the picture.")
        match self._seen:
            case MatchesSeen(table_M5=table, mutual=mutual):
                return tr("{n} of {mutual} mutual best matches", n=len(table), mutual=mutual)
            case PatchesSeen(rule="none"):
                return tr("No subject was told from the ground: everything is coloured.")
        return ""

    def _show_percent(self) -> None:
        self._percent.setText(f"{self._canvas.percent():.0f} %" if self._canvas.picture else "")

    # What the person does

    def event(self, event: QEvent) -> bool:
        # While the brush is in hand, undo means its last stroke.
        if event.type() == QEvent.Type.ShortcutOverride and isinstance(event, QKeyEvent) and self._stroke_key(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if what := self._stroke_key(event):
            self._press(what)
        elif event.key() == Qt.Key.Key_Escape and self._is_brushing:
            self._press("erase" if self._is_erasing else "brush")
        elif event.key() == Qt.Key.Key_Escape and self._pinned is not None:
            self._press("unpin")
        else:
            super().keyPressEvent(event)

    def _stroke_key(self, event: QKeyEvent) -> str:
        if not (self._is_brushing and self._choices.shows == "mask"):
            return ""
        if event.matches(QKeySequence.StandardKey.Undo):
            return "undo"
        return "redo" if event.matches(QKeySequence.StandardKey.Redo) else ""

    def _patch_hovered(self, row: int, col: int) -> None:
        if self.sender() is self._other:
            return
        if self._pinned is None and (row, col) != self._hovered:
            self._hovered = (row, col)
            if not self._hover.isActive():
                self._hover.start()

    def _patch_left(self) -> None:
        """Keep what was seen last; a patch that is gone from under the mouse still has its answer on the screen."""

    def _patch_clicked(self, row: int, col: int) -> None:
        if self.sender() is self._other:
            return
        self._pinned = None if self._pinned == (row, col) else (row, col)
        self._hovered = (row, col)
        self._refresh()

    def _tile_chosen(self, key: object, adds: bool) -> None:
        choices = self._choices
        if choices.shows in ("attention", "mask"):
            if key == "mean":
                self._choose(heads=())
            elif adds and isinstance(key, int):
                heads = set(choices.heads) ^ {key}
                self._choose(heads=tuple(sorted(heads)))
            elif isinstance(key, int):
                self._choose(heads=(key,))
        elif isinstance(key, int):
            if choices.shows == "matches":
                self._partner = key if key != self._shown_picture else None
                self._refresh()
            else:
                self._session.set_current(key)

    def _toggle_beside(self) -> None:
        if self._choices.other_model:
            self._choose(other_model="")
            return
        state = self._session.state
        others = [value for value, _text in known_models(state, self._kept_models) if value != state.model]
        if not others:
            self._session.notify("info", tr("There is no second network yet."), tr("Train one, or get one in Models."))
            self._show_controls()
            return
        menu = QMenu(self)
        for value, text in known_models(state, self._kept_models):
            if value != state.model:
                menu.addAction(text, partial(self._choose, other_model=value))
        menu.aboutToHide.connect(self._show_controls)
        menu.popup(self._beside.mapToGlobal(self._beside.rect().bottomLeft()))

    def _step_layer(self, by: int) -> None:
        depth = self._model.depth if self._model else 0
        if depth > 1:
            now = depth - 1 if not 0 <= self._choices.layer < depth else self._choices.layer
            to = min(max(now + by, 0), depth - 1)
            self._choose(layer=-1 if to == depth - 1 else to, is_rollout=False)

    def _press(self, what: str) -> None:
        match what:
            case "brush" | "erase":
                is_same = self._is_brushing and self._is_erasing == (what == "erase")
                self._is_brushing, self._is_erasing = not is_same, what == "erase"
            case "unpin":
                self._pinned = self._hovered = None
            case "undo" if self._strokes:
                self._strokes.undo()
                self._write_edits()
            case "redo" if self._strokes:
                self._strokes.redo()
                self._write_edits()
            case "clear" if self._strokes:
                self._strokes.clear()
                self._write_edits()
        self._refresh()

    # The brush

    def _read_edits(self, picture: int) -> None:
        project = self._session.state.project
        if project is None:
            return
        path = path_of(project, picture)

        def take(edits: Edits | None) -> None:
            if edits is not None and self._shown_picture == picture and self._strokes is None:
                self._strokes = Strokes(edits)
                self._draw()

        self._desk.background(
            "look-edits", lambda: Edits.read(path), take, lambda problem: self._session.notify("warning", str(problem))
        )

    def _stroke_began(self) -> None:
        if not isinstance(self._seen, AttentionSeen):
            return
        if self._strokes is None:
            self._strokes = Strokes(Edits.none(self._seen.lattice))
        self._strokes.edits = self._strokes.edits.on(self._seen.lattice)
        self._strokes.begin()

    def _brushed(self, begin: QPointF, end: QPointF, radius: float, is_adding: bool) -> None:
        if self._strokes and isinstance(self._seen, AttentionSeen):
            self._strokes.brush(begin, end, radius, is_adding=is_adding)
            self._layers = self._layers_of(self._seen)
            self._canvas.set_layers(self._layers)

    def _stroke_ended(self) -> None:
        self._write_edits()
        self._draw()

    def _write_edits(self) -> None:
        project, picture, strokes = self._session.state.project, self._shown_picture, self._strokes
        if project is None or picture is None or strokes is None:
            return
        path, edits = path_of(project, picture), strokes.edits

        def work() -> None:
            if edits.is_empty:
                path.unlink(missing_ok=True)
            else:
                edits.write(path)

        self._desk.background("", work, lambda _: None, lambda problem: self._session.notify("warning", str(problem)))

    # Saving what is seen

    def _stem(self) -> str:
        assert self._shown_picture is not None
        return Path(self._session.state.table.name(self._shown_picture)).stem

    def _ask_where(self, title: str, name: str) -> Path | None:
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
        if other is None or self._other.isHidden() or self._split.widget(1).isHidden():
            return lambda: still(picture, layers)
        return lambda: still_pair(still(picture, layers), still(other, other_layers), lines)

    def _save_picture(self) -> None:
        path = self._ask_where(tr("Save the picture as it is seen"), f"{self._stem()}-{self._choices.shows}.png")
        if path and self._has_picture():
            save_image(self._desk, path, self._as_seen())

    def _mask_now(self) -> MaskSeen | None:
        return self._mask if self._choices.shows == "mask" else None

    def _save_mask(self) -> None:
        mask = self._mask_now()
        path = self._ask_where(tr("Save the mask"), f"{self._stem()}-mask.png") if mask else None
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


def _lattice_of(seen: Seen | None) -> q.Lattice | None:
    match seen:
        case AttentionSeen(lattice=lattice) | MatchesSeen(lattice=lattice):
            return lattice
        case PatchesSeen(lattices=lattices):
            return lattices[0]
    return None


def _mask_image(mask: MaskSeen) -> QImage:
    """Return a mask at the size of the picture, 0 and 255, as ``engine export masks --format png`` writes it."""
    pixels_YX = np.ascontiguousarray(mask_pixels(mask.cells_YX, mask.lattice).astype(np.uint8) * 255)
    height, width = pixels_YX.shape
    return QImage(pixels_YX.data, width, height, width, QImage.Format.Format_Grayscale8).copy()
