"""The tools above a map: which map, what the mouse does, what is selected further, how it is drawn, where it goes."""

from collections.abc import Callable
from functools import partial

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget, QWidgetAction

from dinoviz import theme
from dinoviz.choices import MapChoices
from dinoviz.controls import IconButton, Segmented, SliderRow
from dinoviz.desk import Desk
from dinoviz.watching import watch
from dinoviz.words import tr

METHODS = (
    ("tsne", "t-SNE", "Keeps pictures that are alike together; distances between groups mean little."),
    ("umap", "UMAP", "Denser groups, and more of how they lie to each other."),
    ("pca", "PCA", "At once: the two directions in which the pictures differ most."),
    (
        "classes",
        "Classes",
        "One place for each label, by the mean of its pictures; as in DINO's appendix.",
    ),
)
"""Value, name and explanation of each map."""
TOOLS = (("pan", "hand"), ("lasso", "lasso"), ("rectangle", "selection"), ("brush", "paint-brush"))
"""Value, which is also the name of its action, and icon."""
SELECTIONS = ("map.cluster", "map.like", "map.grow", "map.shrink", "", "edit.select_inverse", "edit.select_none")
TAKEN_AWAY = ("map.copy", "map.save_png", "map.save_svg", "", "map.update", "map.again", "map.clusters")
"""Actions of the two menus; an empty one is a line."""
SIZE_RANGE, SIZE_STEP = (0.4, 3.0), 0.1
POPUP_PX = 220


class MapBar(QFrame):
    """The row of tools.

    Args:
        desk: what every view works with.
        choose: called with fields of ``MapChoices`` that the person changed.
    """

    def __init__(self, desk: Desk, choose: Callable[..., object]) -> None:
        super().__init__()
        self.setProperty("kind", "bar")
        self.setAccessibleName(tr("Tools of the map"))
        self._desk, self._choose = desk, choose
        self.methods = Segmented(
            [(value, tr(name)) for value, name, _ in METHODS], lambda value: choose(method=value), tr("Which map")
        )
        for value, _, tip in METHODS:
            self.methods.set_tip(value, tr(tip))
        self._tools = Segmented(
            [(value, self._tip(f"map.{value}"), icon) for value, icon in TOOLS],
            lambda value: choose(tool=value),
            tr("What the mouse does"),
        )
        self._density = self._toggle("map.density", "gradient")
        self._thumbnails = self._toggle("map.thumbnails", "images")
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.SPACE_L - 4, theme.SPACE - 2, theme.SPACE_L - 4, theme.SPACE - 2)
        row.setSpacing(theme.SPACE_S)
        row.addWidget(self.methods)
        row.addSpacing(theme.SPACE)
        row.addWidget(self._tools)
        row.addSpacing(theme.SPACE_S)
        select = self._menu_button("selection-plus", tr("Select more, or less"), SELECTIONS)
        row.addWidget(select)
        row.addStretch()
        settings, fit = self._settings_button(), self._button("map.fit")
        away = self._menu_button("export", tr("Save, copy, make again"), TAKEN_AWAY)
        for part in (self._density, self._thumbnails, settings, fit, away):
            row.addWidget(part)
        self._legend = IconButton(
            "palette",
            tr("Colours and legend\nShow or hide the panel on the right."),
            lambda: choose(has_legend=not self._choices.has_legend),
            checkable=True,
        )
        row.addWidget(self._legend)
        self._of_map = (self._tools, select, self._density, self._thumbnails, settings, fit, away, self._legend)
        self._tips = {part: part.toolTip() for part in self._of_map}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        watch(self, desk.session, ("choices.map",), self._show)
        desk.actions.changed.connect(self._tell_tips)
        self._show()

    @property
    def _choices(self) -> MapChoices:
        return self._desk.session.state.choices.map

    def _tip(self, name: str) -> str:
        """Return what an action does, with its shortcut."""
        row, keys = self._desk.actions.row(name), self._desk.actions.keys(name)
        head = f"{tr(row.text)} ({keys})" if keys else tr(row.text)
        return f"{head}\n{tr(row.tip)}" if row.tip else head

    def _tell_tips(self) -> None:
        for value, _ in TOOLS:
            self._tools.set_tip(value, self._tip(f"map.{value}"))

    def show_map(self, *, is_there: bool, of_pictures: bool = True) -> None:
        """Let a map be worked with that is there; say of each tool why it cannot be used now.

        Args:
            is_there: there is a map in front.
            of_pictures: it is one of pictures; that of classes has neither density nor points.
        """
        for part in self._of_map:
            is_usable = is_there and (of_pictures or part not in (self._density, self._thumbnails))
            part.setEnabled(is_usable)
            why = tr("There is no map yet.") if not is_there else tr("Not on a map of classes.")
            part.setToolTip(self._tips[part] if is_usable else f"{self._tips[part]}\n{why}".strip())

    def _toggle(self, name: str, icon: str) -> IconButton:
        made = IconButton(icon, self._tip(name), lambda: self._desk.actions.trigger(name), checkable=True)
        made.setAccessibleName(tr(self._desk.actions.row(name).text))
        return made

    def _button(self, name: str) -> QToolButton:
        return self._desk.actions.button(name)

    def _menu_button(self, icon: str, tip: str, names: tuple[str, ...]) -> IconButton:
        made = IconButton(icon, tip)
        menu = QMenu(made)
        menu.setToolTipsVisible(True)
        for name in names:
            if name:
                menu.addAction(self._desk.actions.qaction(name))
            else:
                menu.addSeparator()
        menu.aboutToShow.connect(partial(self._enable, menu, names))
        made.setMenu(menu)
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        return made

    def _enable(self, menu: QMenu, names: tuple[str, ...]) -> None:
        for action, name in zip(menu.actions(), names, strict=True):
            if name:
                action.setEnabled(self._desk.actions.can(name))

    def _settings_button(self) -> IconButton:
        made = IconButton("sliders-horizontal", tr("How it is drawn"))
        menu = QMenu(made)
        popup = QWidget()
        column = QVBoxLayout(popup)
        column.setContentsMargins(theme.SPACE, theme.SPACE, theme.SPACE, theme.SPACE_S)
        popup.setMinimumWidth(POPUP_PX)
        self._size = SliderRow(
            tr("Size of points"),
            *SIZE_RANGE,
            SIZE_STEP,
            "times",
            lambda value: self._choose(point_size=round(value, 2)),
            tr("1 suits the number of pictures; points grow as you come nearer."),
        )
        column.addWidget(self._size)
        holder = QWidgetAction(menu)
        holder.setDefaultWidget(popup)
        menu.addAction(holder)
        menu.addSeparator()
        self._switches: dict[str, QAction] = {}
        for field, text in (
            ("has_names", tr("Names of groups on the map")),
            ("hides_others", tr("Hide pictures outside the filter")),
            ("has_contours", tr("Contour lines of the density")),
        ):
            switch = menu.addAction(text)
            switch.setCheckable(True)
            switch.triggered.connect(lambda is_on, field=field: self._choose(**{field: is_on}))
            self._switches[field] = switch
        menu.addSeparator()
        never = menu.addAction(tr("Never thumbnails in place of points"))
        never.setCheckable(True)
        never.triggered.connect(lambda is_on: self._choose(thumbnails="never" if is_on else "near"))
        self._never = never
        cividis = menu.addAction(tr("Numbers in cividis instead of viridis"))
        cividis.setCheckable(True)
        cividis.triggered.connect(lambda is_on: self._choose(colour_map="cividis" if is_on else "viridis"))
        self._cividis = cividis
        made.setMenu(menu)
        made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        return made

    def _show(self) -> None:
        choices = self._choices
        self.methods.set_value(choices.method)
        self._tools.set_value(choices.tool)
        self._density.setChecked(choices.is_dense)
        self._thumbnails.setChecked(choices.thumbnails == "always")
        self._legend.setChecked(choices.has_legend)
        self._size.set_value(choices.point_size)
        for field, switch in self._switches.items():
            switch.setChecked(getattr(choices, field))
        self._never.setChecked(choices.thumbnails == "never")
        self._cividis.setChecked(choices.colour_map == "cividis")
