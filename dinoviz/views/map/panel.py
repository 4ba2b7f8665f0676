"""The panel beside a map of pictures: what the colours mean, the legend, clusters, how far to trust the map."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QFormLayout, QFrame, QPushButton, QVBoxLayout

from dinoviz import theme
from dinoviz.controls import Section, button, label
from dinoviz.views.map.legend import Legend
from dinoviz.widgets.scatter.colouring import TIPS, TITLES, By, Colouring
from dinoviz.widgets.scatter.reading import PictureMapData
from dinoviz.words import counted, tr
from engine.finding.map_files import K, MapAbout

WIDTH_PX = 248
SEPARATED_AFTER: tuple[By, ...] = ("rating", "shape")
"""Meanings after which the list of them has a line: categories, numbers, none."""


class MapPanel(QFrame):
    """What the colours mean, and how the map was made.

    Args:
        choose: called with the meaning of colours that the person chose.
        find_clusters: starts the search for clusters.
    """

    def __init__(self, choose: Callable[[By], object], find_clusters: Callable[[], object]) -> None:
        super().__init__()
        self.setProperty("kind", "panel")
        self.setFixedWidth(WIDTH_PX)
        self._by = QComboBox()
        self._by.setAccessibleName(tr("Colour by"))
        for by, title in TITLES.items():
            self._by.addItem(tr(title), by)
            self._by.setItemData(self._by.count() - 1, tr(TIPS.get(by, "")), Qt.ItemDataRole.ToolTipRole)
            if by in SEPARATED_AFTER:
                self._by.insertSeparator(self._by.count())
        self._by.activated.connect(lambda place: choose(self._by.itemData(place)))
        self.legend = Legend()
        self._clusters: QPushButton = button(
            tr("Find clusters"),
            find_clusters,
            icon="circles-four",
            tip=tr("Group pictures that look alike, without labels. The number of groups is found out, too."),
        )
        self._about = Section(tr("About this map"), is_open=False)
        self._facts = FactsForm()
        self._about.body.addLayout(self._facts)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE_L - 4, theme.SPACE)
        column.setSpacing(theme.SPACE)
        column.addWidget(label(tr("Colour by"), "small"))
        column.addWidget(self._by)
        column.addSpacing(theme.SPACE_S)
        column.addWidget(self.legend, 1)
        column.addWidget(self._clusters)
        column.addWidget(self._about)

    def show_by(self, by: By, colouring: Colouring | None, *, is_searching: bool) -> None:
        """Show what is chosen; the button for clusters is there where there are none."""
        place = self._by.findData(by)
        if place != self._by.currentIndex():
            self._by.setCurrentIndex(place)
        self._by.setToolTip(tr(TIPS.get(by, "What the colours of the points mean.")))
        has_none = by == "cluster" and colouring is not None and colouring.by == "cluster" and not colouring.groups
        self._clusters.setVisible(has_none)
        self._clusters.setEnabled(not is_searching)
        self._clusters.setText(tr("Looking for clusters…") if is_searching else tr("Find clusters"))

    def show_picture_map(self, data: PictureMapData | None) -> None:
        """Say how a map was made and what it keeps of the features' neighbourhoods."""
        self._facts.clear()
        self._about.setVisible(data is not None and data.about is not None)
        if data is not None and data.about is not None:
            for name, value, tip in facts(data.about):
                self._facts.say(name, value, tip)
            self._facts.say(tr("Features"), data.plan.in_words())


class FactsForm(QFormLayout):
    """Names and values of what there is to know of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.setContentsMargins(0, 0, 0, 0)
        self.setVerticalSpacing(theme.SPACE_S)

    def say(self, name: str, value: str, tip: str = "") -> None:
        """Add one."""
        self.addRow(label(name, "small", tip=tip), label(value, "small", wraps=True, tip=tip))

    def clear(self) -> None:
        """Take all away."""
        while self.rowCount():
            self.removeRow(0)


def facts(about: MapAbout) -> list[tuple[str, str, str]]:
    """Return name, value and explanation of what there is to know of a map."""
    found: list[tuple[str, str, str]] = []
    if (measures := about.measures) is not None:
        tip = tr(
            "Of the {k} pictures that are most alike by their features, so many are also the {k} nearest on the map. A "
            "plane cannot keep all: trust groups, not single distances.",
            k=K,
        )
        found.append((tr("Neighbours kept"), f"{measures.neighbours_kept:.0%}", tip))
        tip = tr("1 where no picture has a stranger beside it. Below 0.9, look twice before reading much into a place.")
        found.append((tr("Trustworthiness"), f"{measures.trustworthiness:.2f}", tip))
        if measures.label_agreement is not None:
            tip = tr("Pictures whose label is that of most of their neighbours on the map.")
            found.append((tr("Label agreement"), f"{measures.label_agreement:.0%}", tip))
    plan = about.plan
    if plan.method == "tsne":
        tip = tr("About how many neighbours each picture pulls on.")
        found.append((tr("Perplexity"), f"{plan.perplexity:.3g}", tip))
        steps = f"{about.step:,}" if not about.is_stopped else f"{about.step:,} of {plan.steps:,}"
        found.append((tr("Steps"), steps, ""))
    if plan.method == "umap":
        found.append((tr("Neighbours"), f"{plan.neighbours + 1}", tr("That each picture pulls on.")))
        found.append((tr("Rounds"), f"{about.step:,}", ""))
    if about.shares:
        tip = tr("Of all differences between the pictures' features, so much lies along the two axes.")
        found.append((tr("Shown"), f"{sum(about.shares):.0%}", tip))
    if about.n_placed:
        tip = tr("Pictures that were added after the map was made; the others stayed where they were.")
        found.append((tr("Added later"), counted(about.n_placed, "picture"), tip))
    return found
