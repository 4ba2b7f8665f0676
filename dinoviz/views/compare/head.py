"""What stands above a column of Compare: the network's name, how good it is, what it lacks."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout

from dinoviz import theme
from dinoviz.controls import Elided, IconButton, button, label
from dinoviz.views.compare.networks import Network
from dinoviz.words import tr

ACCURACY_TIP = (
    "Of 100 pictures, how many the twenty most similar ones name rightly, each vote weighted by how similar it is. "
    "It says how well the features tell the labels apart, without any training on these."
)


class Head(QFrame):
    """A name and what there is to say of a network.

    Signals:
        changed: another network is wanted in its place.
        removed: it is not to be compared any more.
        wanted: what it lacks is to be made.
    """

    changed = Signal()
    removed = Signal()
    wanted = Signal()

    def __init__(self, network: Network, *, can_go: bool) -> None:
        super().__init__()
        self.network = network
        self.setProperty("kind", "card")
        self._about = Elided()
        self._about.setProperty("kind", "small")
        self._make = button(tr("Compute features"), self.wanted.emit, tip=tr("Let this network see all pictures"))
        self._make.setAccessibleName(tr("Compute features by {network}", network=network.name))
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(label(network.name, "strong"))
        words.addWidget(self._about)
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.SPACE + theme.SPACE_S, theme.SPACE_S, theme.SPACE_S, theme.SPACE_S)
        row.setSpacing(theme.SPACE_S)
        row.addLayout(words, 1)
        row.addWidget(self._make)
        swap = IconButton("swap", tr("Another network here"), self.changed.emit)
        swap.setAccessibleName(tr("Another network in place of {network}", network=network.name))
        row.addWidget(swap)
        if can_go:
            remove = IconButton("x", tr("Do not compare"), self.removed.emit)
            remove.setAccessibleName(tr("Do not compare {network}", network=network.name))
            row.addWidget(remove)

    def say(self, text: str, *, can_make: bool, is_accuracy: bool = False) -> None:
        """Say what there is to say, and what an accuracy is; offer to make what is missing."""
        self._about.say(text)
        self._about.setToolTip(f"{text}\n{tr(ACCURACY_TIP)}" if is_accuracy else text)
        self._make.setVisible(can_make)
        self.setAccessibleName(f"{self.network.name}, {text}")
