"""What training would see of some pictures: the boxes of the crops on each, and the crops as the network gets them.

The crops are drawn and rendered by the engine, by the functions that training draws them by; here they are painted.

Letters after a name are its axes: V crops · Y X pixels · 3 colours, RGB
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, QTimer
from PySide6.QtGui import QColor, QImage, QPainter, QPainterPath, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from dinoviz import theme
from dinoviz.controls import IconButton, label
from dinoviz.desk import Desk
from dinoviz.views.train.run_plan import crop_fields
from dinoviz.watching import follow
from dinoviz.widgets.picture.overlays import image_of_rgb
from dinoviz.words import tr
from engine.arrays import read_npy
from engine.errors import UnreadablePicture
from engine.images import open_rgb
from engine.protocol import Refused
from engine.questions import CropDrawn, Cropped, Crops
from engine.recipes import Plan

PICTURES = 3
PICTURE_PX = 176
"""Height of a picture in the preview; its crops have the same beside it."""
LEAST_SIDE_PX = 40
WAITING_MS = 200
"""After the last change of the form, before crops are asked for."""
LINE_PX = 1.6
SMALL = 1
"""Colour of small crops among those of Okabe and Ito: orange."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CropsShown:
    """One picture with its crops; ``large_VYX3`` and ``small_VYX3`` are uint8, ``drawn`` is in their order."""

    picture: QImage
    drawn: tuple[CropDrawn, ...]
    size: tuple[int, int]
    large: tuple[QImage, ...]
    small: tuple[QImage, ...]


def _images(crops_VYX3: NDArray[np.uint8]) -> tuple[QImage, ...]:
    return tuple(image_of_rgb(crop_YX3) for crop_YX3 in crops_VYX3)


def read_crops(file: Path, answer: Cropped) -> CropsShown | None:
    """Return what an answer says of a picture, ready for painting; None where the picture or the answer is gone."""
    try:
        picture_YX3 = open_rgb(file, at_least=2 * PICTURE_PX)
        large, small = (_images(read_npy(path)) for path in (answer.large, answer.small))
    except (UnreadablePicture, OSError, ValueError):
        return None
    picture = _images(picture_YX3[None])[0].scaledToHeight(2 * PICTURE_PX, Qt.TransformationMode.SmoothTransformation)
    return CropsShown(picture=picture, drawn=answer.drawn, size=answer.size, large=large, small=small)


def done_to(crop: CropDrawn) -> str:
    """Return what was done to the pixels of a crop, in words."""
    parts = [
        (crop.is_flipped, tr("mirrored")),
        (crop.is_jittered, tr("colours jittered")),
        (crop.is_grey, tr("grey")),
        (crop.is_blurred, tr("blurred")),
        (crop.is_solarized, tr("solarized")),
    ]
    return ", ".join(text for is_done, text in parts if is_done) or tr("as it is")


class CropSheet(QWidget):
    """One picture with boxes, and its crops beside it; the box of the crop under the mouse is drawn strong."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: CropsShown | None = None
        self._rooms: list[tuple[QRectF, int]] = []
        self._under: int | None = None
        self.setMouseTracking(True)
        self.setFixedHeight(PICTURE_PX)
        self.setMinimumWidth(360)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Crops of a picture"))
        follow(self, theme.changed, self.update)

    def sizeHint(self) -> QSize:
        """Ask for the picture and two rows of crops."""
        return QSize(560, PICTURE_PX)

    def show_crops(self, shown: CropsShown | None) -> None:
        """Show a picture and its crops, or nothing."""
        self.shown = shown
        if shown:
            told = [f"{crop.width} x {crop.height} px, {done_to(crop)}" for crop in shown.drawn]
            self.setAccessibleDescription("; ".join(told))
        self._lay_out()
        self.update()

    def _picture_room(self) -> QRectF:
        assert self.shown is not None
        rows, cols = self.shown.size
        width = min(PICTURE_PX * cols / rows, self.width() * 0.45)
        height = width * rows / cols
        return QRectF(0, (PICTURE_PX - height) / 2, width, height)

    def _lay_out(self) -> None:
        """Find a room for every crop: the large ones above, the small ones below, all of one scale."""
        self._rooms = []
        if self.shown is None:
            return
        left = self._picture_room().right() + theme.SPACE_L
        n_large, n_small = len(self.shown.large), len(self.shown.small)
        ratio = self.shown.small[0].width() / self.shown.large[0].width() if n_small else 0.0
        large = (PICTURE_PX - theme.SPACE_S) / (1 + max(ratio, 0.3)) if n_small else PICTURE_PX * 0.6
        width = self.width() - left
        large = min(large, (width - theme.SPACE_S) / n_large)
        small = max(LEAST_SIDE_PX, large * ratio)
        if n_small:
            small = min(small, (width - (n_small - 1) * theme.SPACE_S) / n_small, PICTURE_PX - large - theme.SPACE_S)
        for i in range(n_large):
            self._rooms.append((QRectF(left + i * (large + theme.SPACE_S), 0, large, large), i))
        for i in range(n_small):
            top = large + theme.SPACE_S
            self._rooms.append((QRectF(left + i * (small + theme.SPACE_S), top, small, small), n_large + i))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Use the room there is."""
        self._lay_out()

    def _colour(self, crop: CropDrawn) -> QColor:
        return theme.colours().accent if crop.is_large else QColor(theme.OKABE_ITO[SMALL])

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the picture, the boxes and the crops."""
        if self.shown is None:
            return
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        room = self._picture_room()
        _draw_rounded(painter, self.shown.picture, room)
        rows, cols = self.shown.size
        for i, crop in enumerate(self.shown.drawn):
            box = QRectF(
                room.left() + crop.left / cols * room.width(),
                room.top() + crop.top / rows * room.height(),
                crop.width / cols * room.width(),
                crop.height / rows * room.height(),
            )
            colour = QColor(self._colour(crop))
            if self._under is not None and i != self._under:
                colour.setAlphaF(0.35)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(0, 0, 0, 90), LINE_PX + 1.4))
            painter.drawRect(box)
            painter.setPen(QPen(colour, LINE_PX + 1.2 * (i == self._under)))
            painter.drawRect(box)
        for place, i in self._rooms:
            crop = self.shown.drawn[i]
            image = [*self.shown.large, *self.shown.small][i]
            _draw_rounded(painter, image, place)
            painter.setPen(QPen(self._colour(crop), LINE_PX + 1.2 * (i == self._under)))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(place.adjusted(0.8, 0.8, -0.8, -0.8), 4, 4)

    def mouseMoveEvent(self, event: object) -> None:
        """Show which box the crop under the mouse is, and say what was done to it."""
        position = event.position()  # type: ignore[attr-defined]
        under = next((i for room, i in self._rooms if room.contains(QPointF(position))), None)
        if under != self._under:
            self._under = under
            if under is not None and self.shown:
                crop = self.shown.drawn[under]
                size = tr("{width} x {height} px of the picture", width=crop.width, height=crop.height)
                self.setToolTip(f"{size}: {done_to(crop)}")
            else:
                self.setToolTip("")
            self.update()

    def leaveEvent(self, event: object) -> None:
        """Draw all boxes alike again."""
        self._under = None
        self.update()


def _draw_rounded(painter: QPainter, image: QImage, room: QRectF) -> None:
    corner = QPainterPath()
    corner.addRoundedRect(room, 4, 4)
    painter.save()
    painter.setClipPath(corner)
    painter.drawImage(room, image)
    painter.restore()


class CropPreview(QWidget):
    """The crops of a few pictures for the settings of a plan, and another draw of them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._plan: Plan | None = None
        self._pictures: list[tuple[Path, int]] = []
        self._draw = 0
        self._asked: object = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAITING_MS)
        self._timer.timeout.connect(self._ask)
        self._sheets = [CropSheet() for _ in range(PICTURES)]
        self._said = label(tr("The crops appear as soon as the engine has started."), "small", wraps=True)
        self._again = IconButton("arrow-clockwise", tr("Another draw"), self.draw_again, text=tr("Another draw"))
        head = QHBoxLayout()
        head.addWidget(label(tr("What it will be shown"), "heading"))
        head.addStretch()
        head.addWidget(self._again)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.SPACE)
        column.addLayout(head)
        column.addWidget(
            label(
                tr(
                    "Of every picture two large crops (blue) and several small ones (orange). The teacher sees the "
                    "large ones, the student all; it must answer alike for all of them."
                ),
                "small",
                wraps=True,
            )
        )
        column.addWidget(self._said)
        for sheet in self._sheets:
            column.addWidget(sheet)
            sheet.hide()
        column.addStretch()

    def show_plan(self, plan: Plan | None, pictures: Sequence[tuple[Path, int]]) -> None:
        """Show the crops of a plan.

        Args:
            plan: whose crops; None where there is none.
            pictures: files, each with its place among those of the run.
        """
        self._plan, self._pictures = plan, list(pictures)[:PICTURES]
        if plan is not None and self._question() != self._asked:
            self._timer.start()

    def draw_again(self) -> None:
        """Draw other crops of the same pictures."""
        self._draw += 1
        self._ask()

    def _question(self) -> object:
        assert self._plan is not None
        return self._plan.crops, self._plan.run.seed, tuple(self._pictures), self._draw

    def _ask(self) -> None:
        if self._plan is None or not self.isVisible():
            return
        self._asked = self._question()
        settings = crop_fields(self._plan)
        for place, sheet in enumerate(self._sheets):
            sheet.setVisible(place < len(self._pictures) and sheet.shown is not None)
        for place, (file, sample) in enumerate(self._pictures):
            question = Crops(picture=file, settings=settings, seed=self._plan.run.seed, epoch=self._draw, sample=sample)
            self._desk.vision.ask(question, f"train.crops.{place}", partial(self._take, place, file), self._refused)

    def showEvent(self, event: object) -> None:
        """Ask for what was not asked while nobody saw it."""
        if self._plan is not None and self._question() != self._asked:
            self._timer.start()

    def _take(self, place: int, file: Path, answer: object) -> None:
        if isinstance(answer, Cropped):
            slot = f"train.crops.{place}"
            self._desk.background.run(slot, lambda: read_crops(file, answer), lambda shown: self._show(place, shown))

    def _show(self, place: int, shown: CropsShown | None) -> None:
        self._said.hide()
        self._sheets[place].show_crops(shown)
        self._sheets[place].setVisible(shown is not None)

    def _refused(self, refusal: Refused) -> None:
        self._said.setText(tr("No crops to show: {why}", why=f"{refusal.message} {refusal.hint}".strip()))
        self._said.show()
