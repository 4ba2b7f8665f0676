"""Which pictures of a map are shown in place of their points, how large and where."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF

from dinoviz.widgets.scatter.splat import Layer, View, count_in_view, standing_for

When = Literal["near", "always", "never"]

THUMBNAIL_PX = (32, 40, 48, 64, 80, 96, 128, 160, 200)
THUMBNAIL_FILL = 1.1  # of the mean distance of points in view: some are left out then, and shown as points
THUMBNAIL_CELL = 1.12  # of a thumbnail's side: least room for each
MOST_THUMBNAILS = 300
MOST_OF_THEM = 0.6  # of the points in view that are shown as thumbnails where there are few; else smaller ones are
SAME_ZOOM = 0.1  # natural logarithm of the change of zoom below which thumbnails stay as large as they are
NEAR_PX = 40.0  # mean distance of points in view from which thumbnails are shown


class ThumbnailLayout:
    """Boxes for pictures, of which none covers another; they stay while one pans, and only join as one comes nearer."""

    def __init__(self) -> None:
        self.when: When = "near"
        self.side_px = 0
        """Side of the boxes; 0 for what the room allows."""
        self.boxes: dict[int, QRectF] = {}
        """Where the picture of each number is."""
        self._last = (1.0, 0)

    def forget_side(self) -> None:
        """Choose anew how large they are."""
        self._last = (1.0, 0)

    def at(self, place: QPointF) -> int:
        """Return the number whose picture is at a place, -1 for none."""
        return next((number for number, box in self.boxes.items() if box.contains(place)), -1)

    def lay_out(self, layer: Layer | None, view: View, size: tuple[int, int]) -> None:
        """Decide which pictures of a layer are shown in a window of this size."""
        self.boxes = {}
        if layer is None or self.when == "never":
            return
        n = max(1, count_in_view(layer, view, size))
        distance = math.sqrt(size[0] * size[1] / n)
        if self.when == "near" and distance < NEAR_PX:
            return
        cloud = layer.cloud
        for side in self._sides(view.scale, distance):
            # Of cells half as large there are enough to fill the gaps between those that stay apart.
            places = standing_for(layer, view, size, side / 2, 4 * MOST_THUMBNAILS)
            xs = (cloud.x_S[places] - np.float32(view.x)) * view.scale + size[0] / 2
            ys = (cloud.y_S[places] - np.float32(view.y)) * view.scale + size[1] / 2
            kept = apart(xs, ys, side * THUMBNAIL_CELL)[:MOST_THUMBNAILS]
            if len(kept) >= MOST_OF_THEM * min(len(places), MOST_THUMBNAILS):
                break
        self._last = (view.scale, side)
        for i in kept:
            box = QRectF(float(xs[i]) - side / 2, float(ys[i]) - side / 2, side, side)
            self.boxes[int(cloud.numbers_S[places[i]])] = box

    def _sides(self, scale: float, distance: float) -> list[int]:
        """Return the sides that there are to choose from, the best first; while one pans it stays as it is."""
        if self.side_px:
            return [self.side_px]
        last_scale, last = self._last
        if last and abs(math.log(last_scale / scale)) < SAME_ZOOM:
            return [last]
        if self.when == "always" and distance < NEAR_PX:
            return [THUMBNAIL_PX[1]]
        fitting = [px for px in THUMBNAIL_PX if px <= distance * THUMBNAIL_FILL]
        return fitting[::-1] or [THUMBNAIL_PX[0]]


def apart(xs: NDArray[np.floating], ys: NDArray[np.floating], side: float) -> list[int]:
    """Return the places of boxes of which none overlaps an earlier one."""
    taken: dict[tuple[int, int], list[int]] = {}
    kept = []
    for i in range(len(xs)):
        x, y = float(xs[i]), float(ys[i])
        col, row = math.floor(x / side), math.floor(y / side)
        near = (j for down in (-1, 0, 1) for across in (-1, 0, 1) for j in taken.get((col + across, row + down), ()))
        if all(abs(x - xs[j]) >= side or abs(y - ys[j]) >= side for j in near):
            taken.setdefault((col, row), []).append(i)
            kept.append(i)
    return kept
