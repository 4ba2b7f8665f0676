"""Where a person begins: open a folder, try the sample, go on with what was open before."""

import time
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from dinoviz import theme
from dinoviz.controls import Hint, button, clear, label, pixmap
from dinoviz.desk import Desk
from dinoviz.preferences import Recent
from dinoviz.views.welcome.cards import CARD_WIDTH_PX, Found, Glances, RecentCard, name_of
from dinoviz.watching import follow
from dinoviz.words import tr

MOST_COLUMNS = 3
LOGO_PX = 64
ICON_PX = 28
MOST_CARDS = 12
PLACES = (
    ("eye", "Look", "What the network attends to in a picture, head by head; the masks and colours that follow."),
    (
        "magnifying-glass",
        "Find",
        "Pictures like others, or with the same part; copies, oddities, doubtful labels.",
    ),
    ("chart-scatter", "Map", "All pictures at once: those that are alike lie together. Lasso them, colour them."),
    ("graduation-cap", "Train", "A network on your own pictures, without a label, and see what it learns meanwhile."),
)
"""What there is to do, for who has done nothing yet: icon, name, sentence."""


class WelcomeView(QWidget):
    """The page that is in front while no project is open.

    Signals:
        open_wanted(Path): a project or a folder of pictures is to be opened.
        pin_wanted(folder, is_pinned): a project is to stay at the top of the list, or no more.
        remove_wanted(folder): a project is to be forgotten; its files stay.
        moved(folder, Path): a project lies elsewhere now.
        reveal_wanted(Path): is to be shown in the file manager.
    """

    open_wanted = Signal(Path)
    pin_wanted = Signal(str, bool)
    remove_wanted = Signal(str)
    moved = Signal(str, Path)
    reveal_wanted = Signal(Path)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._recent: tuple[Recent, ...] = ()
        self._cards: list[RecentCard] = []
        self._found: dict[str, Found] = {}
        self._glances = Glances(self)
        self._glances.found.connect(self._take_found)
        self._build()
        follow(self, theme.changed, self._draw_icons)

    def _build(self) -> None:
        inside = QWidget()
        inside.setProperty("kind", "plain")
        self._column = QVBoxLayout()
        self._column.setSpacing(theme.SPACE_L)
        self._column.addLayout(self._head())
        self._column.addLayout(self._beginnings())
        self._column.addSpacing(theme.SPACE_L)
        self._heading = label(tr("Recent projects"), "heading")
        self._column.addWidget(self._heading)
        self._cards_at = QGridLayout()
        self._cards_at.setSpacing(theme.SPACE_L)
        self._column.addLayout(self._cards_at)
        self._places = self._what_there_is()
        self._column.addWidget(self._places)
        centred = QHBoxLayout()
        centred.addStretch()
        centred.addLayout(self._column)
        centred.addStretch()
        page = QVBoxLayout(inside)
        page.setContentsMargins(*[theme.SPACE_XL] * 4)
        page.addStretch(2)
        page.addLayout(centred)
        page.addStretch(3)
        scrolled = QScrollArea()
        scrolled.setWidgetResizable(True)
        scrolled.setFrameShape(QFrame.Shape.NoFrame)
        scrolled.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scrolled.setWidget(inside)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(scrolled)
        self._lay_out()

    def _head(self) -> QHBoxLayout:
        self._logo = QLabel()
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addStretch()
        words.addWidget(label("dinoviz", "title"))
        words.addWidget(label(tr("See your pictures through a network that learnt without labels."), "muted"))
        words.addStretch()
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE_L)
        row.addWidget(self._logo)
        row.addLayout(words)
        row.addStretch()
        return row

    def _beginnings(self) -> QVBoxLayout:
        trigger = self._desk.actions.trigger
        folder = button(
            tr("Open folder…"),
            lambda: trigger("file.open"),
            kind="primary",
            icon="folder-open",
            tip=tr("A folder of pictures; folders inside are read too. Nothing in it is changed."),
        )
        sample = button(
            tr("Try the sample"),
            lambda: trigger("file.sample"),
            icon="flask",
            tip=tr("59 photos with everything made already: maps, attention, a finished training run"),
        )
        project = button(
            tr("Open project…"), lambda: trigger("file.open_project"), kind="quiet", tip=tr("A folder NAME.dinoviz")
        )
        row = QHBoxLayout()
        row.setSpacing(theme.SPACE)
        self._first = folder
        for part in (folder, sample, project):
            row.addWidget(part)
        row.addStretch()
        column = QVBoxLayout()
        column.setSpacing(theme.SPACE)
        column.addLayout(row)
        hint = Hint(tr("Or drop a folder anywhere in this window. All stays on this computer; nothing is sent."))
        hint.setWordWrap(False)
        column.addWidget(hint)
        return column

    def _what_there_is(self) -> QWidget:
        """Return what can be done, as long as there is no project to go on with."""
        whole = QWidget()
        grid = QGridLayout(whole)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(theme.SPACE_L)
        self._place_icons: list[tuple[QLabel, str]] = []
        for place, (icon, name, says) in enumerate(PLACES):
            card = QFrame()
            card.setProperty("kind", "card")
            shown = QLabel()
            self._place_icons.append((shown, icon))
            words = QVBoxLayout()
            words.setSpacing(theme.SPACE_S)
            words.addWidget(label(tr(name), "strong"))
            words.addWidget(label(tr(says), "small", wraps=True))
            row = QHBoxLayout(card)
            row.setContentsMargins(*[theme.SPACE_L] * 4)
            row.setSpacing(theme.SPACE_L)
            row.addWidget(shown, 0, Qt.AlignmentFlag.AlignTop)
            row.addLayout(words, 1)
            card.setFixedWidth(round(1.5 * CARD_WIDTH_PX))
            grid.addWidget(card, place // 2, place % 2)
        return whole

    def _draw_icons(self) -> None:
        logo = QIcon(str(theme.RESOURCES / "icons" / "dinoviz.svg"))
        self._logo.setPixmap(pixmap(logo, LOGO_PX, self))
        for shown, icon in self._place_icons:
            shown.setPixmap(pixmap(theme.icon(icon, "accent"), ICON_PX, self))

    def set_recent(self, recent: Sequence[Recent]) -> None:
        """Show other projects, pinned ones first, then the newest."""
        kept = [row for row in recent if row.folder]
        self._recent = tuple(sorted(kept, key=lambda row: (not row.is_pinned, -row.opened))[:MOST_CARDS])
        focused = next(((place, card) for place, card in enumerate(self._cards) if card.hasFocus()), None)
        self._lay_out()
        if focused:
            self._focus(focused[1].recent.folder, focused[0])
        if self.isVisible():
            self._look_again()

    def _focus(self, folder: str, place: int) -> None:
        """Give the focus to the card of a project, or to that in its place where it went."""
        nearby = self._cards[max(0, place - 1) : place + 1][-1:]
        for card in [card for card in self._cards if card.recent.folder == folder] or nearby:
            card.setFocus()

    def _look_again(self) -> None:
        self._glances.ask([row.folder for row in self._recent])

    def _lay_out(self) -> None:
        """Make the cards anew; there are a dozen at most."""
        clear(self._cards_at)
        now = time.time()
        self._cards = [self._card(row, now) for row in self._recent]
        self._place_cards()
        has_any = bool(self._cards)
        self._heading.setVisible(has_any)
        self._places.setVisible(not has_any)

    def _card(self, row: Recent, now: float) -> RecentCard:
        card = RecentCard(row, self._desk.thumbnails, now)
        card.opened.connect(lambda folder: self.open_wanted.emit(Path(folder)))
        card.located.connect(self._locate)
        card.pinned.connect(self.pin_wanted)
        card.removed.connect(self.remove_wanted)
        card.revealed.connect(lambda folder: self.reveal_wanted.emit(Path(folder)))
        card.stepped.connect(lambda key: self._step(card, key))
        if found := self._found.get(row.folder):
            card.show_found(found, now)
        return card

    @property
    def _columns(self) -> int:
        room = self.width() - 2 * theme.SPACE_XL + theme.SPACE_L
        return max(1, min(MOST_COLUMNS, room // (CARD_WIDTH_PX + theme.SPACE_L)))

    def _place_cards(self) -> None:
        columns = self._columns
        for place, card in enumerate(self._cards):
            self._cards_at.addWidget(card, place // columns, place % columns)
            card.show()  # now, and not with the next event, so that it can have the focus
        self._cards_at.setColumnStretch(columns, 1)

    def _take_found(self, found: Found) -> None:
        self._found[found.folder] = found
        for card in self._cards:
            if card.recent.folder == found.folder:
                card.show_found(found, time.time())

    def _step(self, card: RecentCard, key: Qt.Key) -> None:
        """Go to the card in the direction of an arrow."""
        columns = self._columns
        by = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -columns, Qt.Key.Key_Down: columns}[key]
        to = self._cards.index(card) + by
        if 0 <= to < len(self._cards):
            self._cards[to].setFocus(Qt.FocusReason.TabFocusReason)

    def _locate(self, folder: str) -> None:
        """Ask where a project is now, and open it there."""
        title = tr("Where is {name} now?", name=name_of(folder))
        found = QFileDialog.getExistingDirectory(self, title, str(Path(folder).parent))
        if found:
            self.moved.emit(folder, Path(found))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put as many cards side by side as there is room for."""
        super().resizeEvent(event)
        if self._cards and self._cards_at.columnCount() != self._columns + 1:
            self._cards_at.setColumnStretch(self._cards_at.columnCount() - 1, 0)
            self._place_cards()

    def showEvent(self, event: QShowEvent) -> None:
        """Look again whether the projects are there."""
        super().showEvent(event)
        self._draw_icons()
        self._look_again()
        self._first.setFocus(Qt.FocusReason.OtherFocusReason)
