"""Why is this picture found: both pictures side by side, bright where one has a likeness in the other.

A card that lies over the results while the mouse rests on one of them; it takes no mouse itself.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.asked import Box, Picture, name_of
from dinoviz.controls import label
from dinoviz.desk import Desk
from dinoviz.widgets.picture.overlays import heat_image, smoothed
from dinoviz.widgets.picture.tile import Heat, PictureTile, TileLook
from dinoviz.words import tr
from engine.arrays import read_npy
from engine.protocol import Refused
from engine.questions import Explain, Explained

SIDE_PX = 190
SMOOTH_PX = 192
"""Longer side to which a map is interpolated: about a pixel of the card each."""
OPACITY = 0.8
AWAY_PX = 12


class WhyCard(QFrame):
    """Shows what two pictures have in each other.

    Args:
        desk: asks the vision service.
        over: the widget that it lies on.
        around: a part of that widget; it lies inside of it.
    """

    def __init__(self, desk: Desk, over: QWidget, around: QWidget) -> None:
        super().__init__(over)
        self._desk = desk
        self._around = around
        self._asked: tuple[Picture, int] | None = None
        self.setProperty("kind", "card")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAccessibleName(tr("Why is this found"))
        self._one, self._other = (PictureTile(desk, SIDE_PX, 1, can_be_pressed=False) for _ in range(2))
        self._text = label("", "small")
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(self._one)
        row.addWidget(self._other)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.SPACE_S, theme.SPACE_S, theme.SPACE_S, theme.SPACE)
        column.setSpacing(0)
        column.addLayout(row)
        column.addWidget(self._text, 0, Qt.AlignmentFlag.AlignHCenter)
        self.hide()

    @property
    def asked(self) -> tuple[Picture, int] | None:
        """The two pictures it is about; None while it is away."""
        return self._asked

    def show_for(
        self, one: Picture, other: int, likeness: float, boxes: tuple[Box | None, Box | None], cell: QRect
    ) -> None:
        """Show two pictures at once, and the maps as soon as they are there.

        Args:
            one: what was looked for.
            other: what was found.
            likeness: of the two.
            boxes: part that was looked for, and where it was found, both in shares of their pictures.
            cell: of the grid that it is about, in the coordinates of the widget below; it is not covered.
        """
        state = self._desk.session.state
        if state.set_row is None or self._asked == (one, other):
            return
        self._asked = (one, other)
        self._one.set_look(TileLook(one, ((tr("looked for"), "muted"),), box=boxes[0], name=name_of(one, state.table)))
        self._other.set_look(TileLook(other, ((state.table.name(other), "muted"),), box=boxes[1]))
        self._text.setText(tr("{likeness} · looking …", likeness=f"{likeness:.2f}"))
        self._place(cell)
        self.show()
        self.raise_()
        question = Explain(
            features=state.set_row.folder,
            picture=Path(_file_of(self._desk, one)),
            other=state.table.file(other),
            id=one if isinstance(one, int) else None,
            other_id=other,
        )
        words = tr("{likeness} · bright: what one has in the other", likeness=f"{likeness:.2f}")
        self._desk.vision.ask(question, "find.why", lambda answer: self._read(answer, words), self._refused)

    def put_away(self) -> None:
        """Show nothing."""
        self._asked = None
        self.hide()

    def _read(self, answer: object, words: str) -> None:
        assert isinstance(answer, Explained)
        asked = self._asked

        def work() -> tuple[Heat, Heat]:
            pairs = ((answer.path, answer.covers), (answer.other_path, answer.other_covers))
            return tuple(Heat(_drawn(read_npy(path)), covers) for path, covers in pairs)  # type: ignore[return-value]

        def then(heats: tuple[Heat, Heat]) -> None:
            if self._asked == asked is not None:
                self._text.setText(words)
                for tile, heat in zip((self._one, self._other), heats, strict=True):
                    if tile.look is not None:
                        tile.set_look(replace(tile.look, heat=heat))

        self._desk.background.run("find.why", work, then, lambda _gone: None)

    def _refused(self, refused: Refused) -> None:
        self._text.setText(refused.message)

    def _place(self, cell: QRect) -> None:
        """Lie beside a cell, at the side where there is more room, and inside of what is below."""
        self.adjustSize()
        room = self._around.geometry().adjusted(AWAY_PX, AWAY_PX, -AWAY_PX, -AWAY_PX)
        is_right = room.right() - cell.right() >= cell.left() - room.left()
        left = cell.right() + AWAY_PX if is_right else cell.left() - AWAY_PX - self.width()
        top = cell.center().y() - self.height() // 2
        if not room.left() <= left <= room.right() - self.width():  # no room beside it: above or below
            left = cell.center().x() - self.width() // 2
            top = (
                cell.bottom() + AWAY_PX
                if cell.center().y() < room.center().y()
                else cell.top() - AWAY_PX - self.height()
            )
        left = min(max(left, room.left()), max(room.left(), room.right() - self.width()))
        top = min(max(top, room.top()), max(room.top(), room.bottom() - self.height()))
        self.move(QPoint(left, top))


def _file_of(desk: Desk, picture: Picture) -> str:
    return str(desk.session.state.table.file(picture)) if isinstance(picture, int) else picture


def _drawn(map_RC: NDArray[np.float32]) -> QImage:
    return heat_image(smoothed(map_RC, SMOOTH_PX), span=(0.0, 1.0), opacity=OPACITY, is_veiled=False)
