"""The controls of Look: who looks, through which layer, what becomes a mask, colours, matches, how it is drawn.

It shows what the session remembers and says what the person chose; it decides nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QIcon, QPixmap
from PySide6.QtWidgets import QCheckBox, QComboBox, QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.choices import LookChoices
from dinoviz.controls import Hint, IconButton, Section, Segmented, SliderRow, label
from dinoviz.looking import SIDES, side_of
from dinoviz.widgets.picture.overlays import COLOUR_MAPS, ColourMap, colour_table, image_of_rgb
from dinoviz.words import counted, tr
from engine.questions import Model

WIDTH_PX = 288
NAME_PX = 64
"""Width of the names before choices, so that these are below each other."""
SWATCH = QSize(56, 12)
MOST_SMALLEST = 60
"""Patches of the largest part that can be left out; a twentieth of a usual picture."""

ABOUT_HEADS = (
    "Every layer has several heads. Each looks at the picture in a way of its own: one may follow the subject, another "
    "edges or the ground. Click one below the picture to see it alone; Ctrl+click several for their colours together."
)
ABOUT_LAYER = (
    "A network looks in layers, one after the other. The first see edges and colours, the last see things; the last is "
    "the usual one to look at."
)
ABOUT_ROLLOUT = (
    "Follows the attention through all layers at once, from the last back to the picture (Abnar and Zuidema 2020)."
)
ABOUT_CLS = (
    "The [CLS] token sums up the whole picture; what it looks at is what the network holds to be important. A patch is "
    "a small square of the picture: point at one to see what that place looks at. Click to keep it, click it again to "
    "let it go."
)
ABOUT_KEEP = "The mask is the smallest set of patches that holds this share of the attention. 60 % is usual."
ABOUT_SMALLEST = "Leaves out islands of fewer patches than this."
ABOUT_UNION = "A place is in the mask if any of the heads has it in its own; otherwise their mean decides."
ABOUT_INVERT = (
    "Invert: what is inside comes outside\nFor a network that looks at the ground. Undone like a stroke of the brush."
)
ABOUT_LARGEST = (
    "Largest part only: islands are left out\nThe largest connected part of the mask stays. Undone like a stroke."
)
ABOUT_COLOURS = (
    "Each patch is described by hundreds of numbers. Their three main directions become red, green and blue, so places "
    "that are alike for the network have the same colour. Black is what it takes for the ground."
)
ABOUT_TOGETHER = "One basis for all of them: the same part has the same colour in every picture."
ABOUT_LIKENESS = "Bright is like the patch under the mouse, for the network. Click a patch to keep it."
ABOUT_MATCHES = "Patches of two pictures that are each other's best match."
ABOUT_SIDE = (
    "The shorter side the picture is shown to the network at. More pixels mean smaller patches on the picture, finer "
    "maps and more work: four times for twice the side."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the panel has to know beside the choices.

    Args:
        model: backbone that looks, None until it is loaded.
        patch: the one that was chosen or is under the mouse.
        is_pinned: it was chosen.
        area: of the mask: pixels and share; None where there is none.
        n_gallery: pictures below.
        can_undo: there is a stroke of the brush to undo.
        can_redo: there is one to do again.
        has_edits: something was brushed.
        is_brushing: the brush is in hand.
        is_erasing: it takes away.
        models: backbones that can be chosen: value and text.
        chosen_model: value of the one that looks.
    """

    model: Model | None = None
    patch: tuple[int, int] | None = None
    is_pinned: bool = False
    area: tuple[int, float] | None = None
    n_gallery: int = 1
    can_undo: bool = False
    can_redo: bool = False
    has_edits: bool = False
    is_brushing: bool = False
    is_erasing: bool = False
    models: Sequence[tuple[str, str]] = ()
    chosen_model: str = ""


Choose = Callable[..., object]


class LookPanel(QScrollArea):
    """All controls in one column, of which those are seen that mean something now.

    Args:
        choose: called with fields of ``LookChoices`` that the person set.
        press: called with the name of what the person pressed: brush, erase, invert, largest, undo, redo, clear,
            unpin.
        use_model: called with the backbone that the person chose.
    """

    def __init__(self, choose: Choose, press: Callable[[str], object], use_model: Callable[[str], object]) -> None:
        super().__init__()
        self._choose, self._press = choose, press
        self._facts = Facts()
        self.setFixedWidth(WIDTH_PX)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        inside = QWidget()
        inside.setProperty("kind", "panel")
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(theme.SPACE_L, theme.SPACE, theme.SPACE_L, theme.SPACE_L)
        self.column.setSpacing(theme.SPACE)
        self._build_model(use_model)
        self._build_query()
        self._build_mask()
        self._build_brush()
        self._build_colours()
        self._build_likeness()
        self._build_matches()
        self._build_drawing()
        self.column.addStretch()
        self.setWidget(inside)

    def add(self, widget: QWidget) -> None:
        """Put another section at the end."""
        self.column.insertWidget(self.column.count() - 1, widget)

    # Building

    def _section(self, title: str, *, is_open: bool = True) -> Section:
        made = Section(title, is_open=is_open)
        self.column.addWidget(made)
        return made

    def _build_model(self, use_model: Callable[[str], object]) -> None:
        self._model_section = self._section(tr("Network"))
        self._model = _combo(tr("Backbone that looks"), use_model)
        self._layer = SliderRow(tr("Layer"), 1, 12, 1, "", self._set_layer, _tip(ABOUT_LAYER))
        self._rollout = _check(tr("All layers (rollout)"), tr(ABOUT_ROLLOUT), self._set_rollout)
        self._heads = Hint("")
        self._heads.setToolTip(_tip(ABOUT_HEADS))
        for part in (self._model, self._layer, self._rollout, self._heads):
            self._model_section.body.addWidget(part)

    def _build_query(self) -> None:
        self._query_section = self._section(tr("Who looks"))
        self._query = Segmented(
            [("cls", tr("[CLS]")), ("patch", tr("Patch under the mouse"))],
            lambda value: self._choose(query=value),
            tr("Who looks"),
        )
        for value in ("cls", "patch"):
            self._query.set_tip(value, _tip(ABOUT_CLS))
        self._query_hint = Hint("")
        self._unpin = IconButton("x", tr("Choose no patch"), lambda: self._press("unpin"))
        row = QHBoxLayout()
        row.addWidget(self._query_hint, 1)
        row.addWidget(self._unpin, 0, Qt.AlignmentFlag.AlignTop)
        self._query_section.body.addWidget(self._query)
        self._query_section.body.addLayout(row)

    def _build_mask(self) -> None:
        self._mask_section = self._section(tr("Mask"))
        self._keep = SliderRow(
            tr("Attention kept"),
            0.01,
            1.0,
            0.01,
            "%",
            lambda v: self._choose(keep=round(v, 4)),
            _tip(ABOUT_KEEP),
            factor=100,
        )
        self._area = label("", "heading")
        self._pixels = label("", "small")
        self._smallest = SliderRow(
            tr("Smallest part"), 1, MOST_SMALLEST, 1, "", lambda v: self._choose(smallest=int(v)), _tip(ABOUT_SMALLEST)
        )
        self._union = _check(tr("Union of the heads"), tr(ABOUT_UNION), lambda on: self._choose(is_union=on))
        self._spotlight = Segmented(
            [(True, tr("Spotlight")), (False, tr("Tint"))], lambda v: self._choose(is_spotlight=v), tr("Mask as")
        )
        area = QHBoxLayout()
        area.addWidget(self._area)
        area.addWidget(self._pixels, 1, Qt.AlignmentFlag.AlignBottom)
        self._mask_section.body.addWidget(self._keep)
        self._mask_section.body.addLayout(area)
        self._other_head = Hint(tr("Try the other heads below, too."))
        for part in (self._smallest, self._union, self._spotlight, self._other_head):
            self._mask_section.body.addWidget(part)

    def _build_brush(self) -> None:
        self._brush_section = self._section(tr("Clean up"))
        self._brush = IconButton(
            "paint-brush", tr("Brush: add to the mask"), lambda: self._press("brush"), checkable=True, text=tr("Add")
        )
        self._erase = IconButton(
            "minus", tr("Brush: take from the mask"), lambda: self._press("erase"), checkable=True, text=tr("Erase")
        )
        self._undo = IconButton("arrow-counter-clockwise", tr("Undo the last stroke"), lambda: self._press("undo"))
        self._redo = IconButton("arrow-clockwise", tr("Do the stroke again"), lambda: self._press("redo"))
        self._clear = IconButton("trash", tr("Take all strokes back"), lambda: self._press("clear"))
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE_S)
        for part in (self._brush, self._erase):
            row.addWidget(part)
        row.addStretch()
        for part in (self._undo, self._redo, self._clear):
            row.addWidget(part)
        self._brush_section.body.addLayout(row)
        self._invert = IconButton(
            "selection-inverse", tr(ABOUT_INVERT), lambda: self._press("invert"), text=tr("Invert")
        )
        self._largest = IconButton(
            "circle", tr(ABOUT_LARGEST), lambda: self._press("largest"), text=tr("Largest part only")
        )
        whole = QHBoxLayout()
        whole.setSpacing(theme.SPACE_S)
        whole.addWidget(self._invert)
        whole.addWidget(self._largest)
        whole.addStretch()
        self._brush_section.body.addLayout(whole)
        self._brush_hint = Hint(tr("[ and ] or Shift+wheel change its size; the right button does the other."))
        self._brush_section.body.addWidget(self._brush_hint)

    def _build_colours(self) -> None:
        self._colours_section = self._section(tr("Colours"))
        self._together = _check("", tr(ABOUT_TOGETHER), lambda on: self._choose(is_together=on))
        self._style = _combo(tr("As published"), lambda value: self._choose(style=value))
        for value, text in (
            ("dinov2", tr("As in DINOv2")),
            ("notebook", tr("As in its notebook")),
            ("dinov3", tr("As in DINOv3")),
        ):
            self._style.addItem(text, value)
        self._foreground = Segmented(
            [("auto", tr("Subject only")), ("off", tr("Everything"))],
            lambda value: self._choose(foreground=value),
            tr("What is coloured"),
        )
        self._flipped = _check(
            tr("Swap subject and ground"),
            tr("Where the network took the one for the other."),
            lambda on: self._choose(is_flipped=on),
        )
        hint = Hint(tr("The same colour means: alike for the network."))
        hint.setToolTip(_tip(ABOUT_COLOURS))
        for part in (self._together, self._foreground, self._flipped, self._style, hint):
            self._colours_section.body.addWidget(part)

    def _build_likeness(self) -> None:
        self._likeness_section = self._section(tr("Likeness"))
        self._across = _check(
            "", tr("Shows where the patch is found in each of them."), lambda on: self._choose(is_together=on)
        )
        self._likeness_hint = Hint(tr(ABOUT_LIKENESS))
        for part in (self._across, self._likeness_hint):
            self._likeness_section.body.addWidget(part)

    def _build_matches(self) -> None:
        self._matches_section = self._section(tr("Matches"))
        self._most = SliderRow(tr("Lines"), 1, 120, 1, "", lambda v: self._choose(most=int(v)), _tip(ABOUT_MATCHES))
        self._least = SliderRow(
            tr("Least likeness"),
            0,
            1,
            0.01,
            "",
            lambda v: self._choose(least=round(v, 4)),
            tr("Cosine, 1 for equal patches."),
        )
        self._matches_hint = Hint("")
        for part in (self._most, self._least, self._matches_hint):
            self._matches_section.body.addWidget(part)

    def _build_drawing(self) -> None:
        self._drawing_section = self._section(tr("Drawing"))
        self._opacity = SliderRow(
            tr("Opacity"), 0, 1, 0.01, "%", lambda v: self._choose(opacity=round(v, 4)), factor=100
        )
        self._colour_map = _combo(tr("Colour map"), lambda value: self._choose(colours=value))
        self._colour_map.setIconSize(SWATCH)
        for name in COLOUR_MAPS:
            self._colour_map.addItem(_swatch(name), tr(name.capitalize()), name)
        self._smooth = Segmented(
            [(True, tr("Smooth")), (False, tr("Patches"))],
            lambda v: self._choose(is_smooth=v),
            tr("Resolution of maps"),
        )
        self._smooth.set_tip(False, tr("Show the squares that the network sees, one value each."))
        self._side = _combo(tr("Detail"), lambda value: self._choose(side=value))
        self._side.setToolTip(_tip(ABOUT_SIDE))
        for side in (0, *SIDES):
            self._side.addItem(tr("{side} px", side=side) if side else tr("Fitting"), side)
        self._rows = {
            part: _row(text, part)
            for text, part in (
                (tr("Colours"), self._colour_map),
                (tr("Detail"), self._side),
                (tr("Map as"), self._smooth),
            )
        }
        for part in (self._opacity, *self._rows.values()):
            self._drawing_section.body.addWidget(part)

    def _set_layer(self, value: float) -> None:
        depth = self._facts.model.depth if self._facts.model else 0
        self._choose(layer=-1 if value >= depth else int(value) - 1, is_rollout=False)

    def _set_rollout(self, is_on: bool) -> None:
        self._choose(is_rollout=is_on)

    # Showing

    def show_choices(self, choices: LookChoices, facts: Facts) -> None:
        """Show what is chosen."""
        self._facts = facts
        shows = choices.shows
        is_attention = shows in ("attention", "mask")
        for section, is_seen in (
            (self._query_section, is_attention),
            (self._mask_section, shows == "mask"),
            (self._brush_section, shows == "mask"),
            (self._colours_section, shows == "colours"),
            (self._likeness_section, shows == "likeness"),
            (self._matches_section, shows == "matches"),
            (self._drawing_section, shows != "picture"),
        ):
            section.setVisible(is_seen)
        self._show_model(choices, facts, is_attention=is_attention)
        self._show_query(choices, facts)
        self._show_mask(choices, facts)
        self._show_patches(choices, facts)
        self._show_drawing(choices, facts)

    def _show_model(self, choices: LookChoices, facts: Facts, *, is_attention: bool) -> None:
        _fill(self._model, facts.models)
        _choose_data(self._model, facts.chosen_model)
        depth = facts.model.depth if facts.model else 0
        self._layer.setVisible(depth > 1)
        self._rollout.setVisible(is_attention and depth > 1)
        if depth > 1:
            self._layer.set_range(1, depth)
            self._layer.set_value(depth if not 0 <= choices.layer < depth else choices.layer + 1)
            self._layer.setEnabled(not (choices.is_rollout and is_attention))
            self._rollout.setChecked(choices.is_rollout)
        n_heads = facts.model.heads if facts.model else 0
        self._heads.setVisible(is_attention and n_heads > 0 and not choices.is_rollout)
        chosen = sorted(head for head in choices.heads if head < n_heads)
        numbers = ", ".join(str(head + 1) for head in chosen)
        if len(chosen) == 1:
            self._heads.setText(tr("Head {numbers} of {n}", numbers=numbers, n=n_heads))
        elif chosen:
            self._heads.setText(tr("Heads {numbers} of {n}", numbers=numbers, n=n_heads))
        else:
            self._heads.setText(tr("Mean of {heads}", heads=counted(n_heads, "head")))

    def _show_query(self, choices: LookChoices, facts: Facts) -> None:
        self._query.set_value(choices.query)
        self._unpin.setVisible(facts.is_pinned and choices.query == "patch")
        if choices.query == "cls":
            self._query_hint.setText(tr("The whole picture looks."))
        elif facts.patch is None:
            self._query_hint.setText(tr("Point at the picture. Until then [CLS] looks."))
        else:
            self._query_hint.setText(_patch_text(facts))

    def _show_mask(self, choices: LookChoices, facts: Facts) -> None:
        self._keep.set_value(choices.keep)
        self._smallest.set_value(choices.smallest)
        self._union.setChecked(choices.is_union)
        self._spotlight.set_value(choices.is_spotlight)
        pixels, share = facts.area or (0, 0.0)
        self._area.setText(tr("{percent} %", percent=f"{100 * share:.1f}") if facts.area else "")
        self._pixels.setText(tr("of the picture, {pixels} px", pixels=pixels) if facts.area else "")
        self._brush.setChecked(facts.is_brushing and not facts.is_erasing)
        self._erase.setChecked(facts.is_brushing and facts.is_erasing)
        for part in (self._invert, self._largest):
            part.setEnabled(facts.area is not None)
        self._other_head.setVisible(facts.model is not None and facts.model.heads > 1 and not choices.is_rollout)
        self._undo.setEnabled(facts.can_undo)
        self._redo.setEnabled(facts.can_redo)
        self._clear.setEnabled(facts.has_edits)

    def _show_patches(self, choices: LookChoices, facts: Facts) -> None:
        across = tr("Together with {pictures} below", pictures=counted(max(0, facts.n_gallery - 1), "picture"))
        for box in (self._together, self._across):
            box.setText(across)
            box.setChecked(choices.is_together)
            box.setEnabled(facts.n_gallery > 1)
        _choose_data(self._style, choices.style)
        self._foreground.set_value(choices.foreground)
        self._flipped.setChecked(choices.is_flipped)
        self._flipped.setVisible(choices.foreground != "off")
        self._likeness_hint.setText(_patch_text(facts) if facts.patch is not None else tr(ABOUT_LIKENESS))
        self._most.set_value(choices.most)
        self._least.set_value(max(0.0, choices.least))
        self._matches_hint.setText(tr("Choose the second picture below."))

    def _show_drawing(self, choices: LookChoices, facts: Facts) -> None:
        self._opacity.set_value(choices.opacity)
        _choose_data(self._colour_map, choices.colours)
        self._smooth.set_value(choices.is_smooth)
        self._rows[self._colour_map].setVisible(choices.shows in ("attention", "likeness"))
        self._rows[self._smooth].setVisible(choices.shows not in ("mask", "matches"))
        self._opacity.setVisible(choices.shows != "matches")
        if facts.model:
            fits = side_of(LookChoices(), facts.model)
            self._side.setItemText(0, tr("Fitting, {side} px", side=fits))
        _choose_data(self._side, choices.side)


def _patch_text(facts: Facts) -> str:
    assert facts.patch is not None
    row, col = facts.patch
    place = tr("Patch in row {row}, column {col}.", row=row + 1, col=col + 1)
    return f"{place} {tr('Click another, or this one to let it go.') if facts.is_pinned else tr('Click to keep it.')}"


def _tip(text: str) -> str:
    """Return a tooltip that wraps."""
    return f"<qt>{escape(tr(text))}</qt>"


def _row(text: str, part: QWidget) -> QWidget:
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    name = label(text)
    name.setMinimumWidth(NAME_PX)
    row.addWidget(name)
    row.addWidget(part, 1 if isinstance(part, QComboBox) else 0)
    if not isinstance(part, QComboBox):
        row.addStretch()
    return made


def _combo(name: str, choose: Callable[..., object]) -> QComboBox:
    made = QComboBox()
    made.setAccessibleName(name)
    made.setToolTip(name)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.activated.connect(lambda place: choose(made.itemData(place)))
    return made


def _fill(combo: QComboBox, rows: Sequence[tuple[str, str]]) -> None:
    there = [(combo.itemData(i), combo.itemText(i)) for i in range(combo.count())]
    if list(rows) != there:
        combo.clear()
        for value, text in rows:
            combo.addItem(text, value)


def _choose_data(combo: QComboBox, value: object) -> None:
    place = combo.findData(value)
    if place != combo.currentIndex():
        combo.setCurrentIndex(place)


def _check(text: str, tip: str, choose: Callable[[bool], object]) -> QCheckBox:
    made = QCheckBox(text)
    made.setToolTip(_tip(tip))
    made.setAccessibleDescription(tip)
    made.clicked.connect(choose)
    return made


def _swatch(name: ColourMap) -> QIcon:
    return QIcon(QPixmap.fromImage(image_of_rgb(colour_table(name)[None]).scaled(SWATCH)))
