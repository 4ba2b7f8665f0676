"""Outlines of masks as polygons that other programs turn back into the same pixels.

Coordinates are in pixels with the corner of the picture at (0, 0), so that pixel (row 0, column 0) reaches from 0 to
1 and its middle is at 0.5. Outlines run ``INSET`` inside the edges of the pixels: a quarter of a pixel is what makes
the readers agree. pycocotools and those like it take the pixels whose middle is inside; OpenCV's ``fillPoly`` and
Pillow's ``polygon``, as labelme and Ultralytics call them, cut the coordinates to whole pixels and paint the outline
too. All three give back the mask, pixel by pixel, where the outline was not simplified.

A ring cannot say that it has a hole. ``cut`` says it all the same: a ring runs along a line of no width to the hole,
around it and back, which changes no pixel; ``fill`` gives the hole up.

Letters after a name are its axes:
    Y X pixels · V vertices · 2 coordinates, x and y
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

Ring = NDArray[np.float64]
"""(V, 2) vertices of a closed line, the first not repeated at the end."""
Holes = Literal["cut", "fill"]
HOLES: tuple[Holes, ...] = get_args(Holes)

FINER = 2
"""Each pixel is drawn as FINER x FINER before it is traced."""
INSET = 0.5 / FINER
"""How far inside its pixels an outline runs: half a fine pixel, as outlines go through the middles of those."""
STEP_PX = 1.0
"""Length of a step in the stairs that a slanted outline is made of."""
LEAST_VERTICES = 3
"""A polygon with fewer is refused by every reader."""


class Outline(NamedTuple):
    """One connected part of a mask, corners connecting: its outer ring, and how many holes it has."""

    ring_V2: Ring
    n_holes: int


def outlines(mask_YX: NDArray[np.bool_], *, holes: Holes = "cut", tolerance: float = 0.0) -> list[Outline]:
    """Return the outlines of the connected parts of a mask.

    Args:
        mask_YX: may be empty.
        holes: what becomes of holes.
        tolerance: how far, in pixels, an outline may be from the edges of the pixels, to need fewer vertices; at 0
            it follows every edge.
    """
    corner, box_YX = _cropped(mask_YX)
    lines, parents = _traced(box_YX)
    rings = [_simpler(line_V2 + corner, tolerance) for line_V2 in lines]
    holes_of: dict[int, list[Ring]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for ring_V2, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            holes_of[parent].append(ring_V2)
    return [
        Outline(_cut(rings[i], within) if holes == "cut" else rings[i], len(within)) for i, within in holes_of.items()
    ]


def _cropped(mask_YX: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the part of a mask that is not empty, and the (x, y) where it begins."""
    rows, cols = np.flatnonzero(mask_YX.any(axis=1)), np.flatnonzero(mask_YX.any(axis=0))
    if not len(rows):
        return np.zeros(2, dtype=np.intp), mask_YX[:0, :0]
    return np.array([cols[0], rows[0]]), mask_YX[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _traced(mask_YX: NDArray[np.bool_]) -> tuple[list[Ring], list[int]]:
    """Return the outer rings and the holes of a mask, and for each hole the number of its outer ring, else -1."""
    if not mask_YX.size:
        return [], []
    fine_YX = mask_YX.astype(np.uint8).repeat(FINER, axis=0).repeat(FINER, axis=1)
    found, hierarchy_1L4 = cv2.findContours(fine_YX, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    lines = [(_with_corners(line[:, 0], fine_YX) + 0.5) / FINER for line in found]
    return lines, hierarchy_1L4[0, :, 3].tolist()


def _with_corners(line_V2: NDArray[np.int32], fine_YX: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Put back the corners that OpenCV's outlines cut off, where they are in the mask.

    Where an outline turns inwards OpenCV goes from pixel to pixel by the diagonal. Only where two pixels touch by
    their corners is that the way the outline has to go.
    """
    steps_V2 = np.roll(line_V2, -1, axis=0) - line_V2
    before_V2 = np.sign(np.roll(steps_V2, 1, axis=0))
    is_diagonal_V = (np.abs(steps_V2) == 1).all(axis=1) & (np.abs(before_V2).sum(axis=1) == 1)
    corners_V2 = line_V2 + before_V2
    height, width = fine_YX.shape
    is_within_V = ((corners_V2 >= 0) & (corners_V2 < (width, height))).all(axis=1)
    is_cut_V = is_diagonal_V & is_within_V
    x_V, y_V = corners_V2[is_cut_V].T
    is_cut_V[is_cut_V] = fine_YX[y_V, x_V] > 0
    return _without_midway(np.insert(line_V2, np.flatnonzero(is_cut_V) + 1, corners_V2[is_cut_V], axis=0))


def _without_midway(line_V2: NDArray[np.int32]) -> NDArray[np.int32]:
    """Leave out vertices where the line goes straight on; its steps are upright, level or diagonal."""
    ways_V2 = np.sign(np.roll(line_V2, -1, axis=0) - line_V2)
    return line_V2[(ways_V2 != np.roll(ways_V2, 1, axis=0)).any(axis=1)]


def _simpler(ring_V2: Ring, tolerance: float) -> Ring:
    """Leave out vertices, staying within the tolerance (Douglas-Peucker); a ring of too few stays as it is.

    It starts from a line through the stairs of the pixels, half of them inside and half outside, which halves the
    vertices for the same likeness. A quarter of a pixel inside would make small masks smaller.
    """
    if tolerance <= 0:
        return ring_V2
    line_V2 = _without_stairs(_at_edges(ring_V2))
    corner_2 = line_V2[0]  # float32 is exact near zero only
    simple_V2 = cv2.approxPolyDP((line_V2 - corner_2).astype(np.float32), tolerance, closed=True)[:, 0] + corner_2
    return simple_V2 if len(simple_V2) >= LEAST_VERTICES else ring_V2


def _at_edges(ring_V2: Ring) -> Ring:
    """Move an outline outwards, from a quarter of a pixel inside to the edges; the mask is on its left."""
    steps_V2 = np.roll(ring_V2, -1, axis=0) - ring_V2
    is_level_V1 = (steps_V2 == 0).any(axis=1, keepdims=True)  # or upright; not so where pixels touch by corners
    outwards_V2 = np.where(is_level_V1, np.sign(steps_V2[:, ::-1]) * (-1, 1), 0)
    return ring_V2 + INSET * (outwards_V2 + np.roll(outwards_V2, 1, axis=0))


def _without_stairs(ring_V2: Ring) -> Ring:
    """Cut the corners off, half a pixel from each: of steps of one pixel the middles remain."""
    ends_V2 = np.roll(ring_V2, -1, axis=0)
    lengths_V1 = np.abs(ends_V2 - ring_V2).max(axis=1, keepdims=True)
    reach_V2 = (ends_V2 - ring_V2) * np.minimum(0.5, STEP_PX / 2 / lengths_V1)
    line_V2 = np.stack([ring_V2 + reach_V2, ends_V2 - reach_V2], axis=1).reshape(-1, 2)
    return line_V2[(line_V2 != np.roll(line_V2, 1, axis=0)).any(axis=1)]


def _cut(outer_V2: Ring, holes: Sequence[Ring]) -> Ring:
    """Join holes to the ring around them, from left to right, each by a line to what lies left of it.

    What lies left of a hole's leftmost vertex is the outer ring or a hole that is joined already.
    """
    for hole_V2 in sorted(holes, key=lambda hole_V2: hole_V2[:, 0].min()):
        leftmost = int(hole_V2[:, 0].argmin())
        around_V2 = np.roll(hole_V2, -leftmost, axis=0)
        edge, meeting_2 = _left_of(around_V2[0], outer_V2)
        if edge >= 0:
            detour_V2 = np.concatenate([meeting_2[None], around_V2, around_V2[:1], meeting_2[None]])
            outer_V2 = np.insert(outer_V2, edge + 1, detour_V2, axis=0)
    return outer_V2


def _left_of(point_2: NDArray[np.float64], ring_V2: Ring) -> tuple[int, NDArray[np.float64]]:
    """Return the edge that is met first on the way left from a point, and where; edge -1 where there is none.

    There is one unless simplifying moved the outer ring across the point.
    """
    x, y = point_2
    ends_V2 = np.roll(ring_V2, -1, axis=0)
    crossing_V = np.flatnonzero((ring_V2[:, 1] <= y) != (ends_V2[:, 1] <= y))
    (x0_V, y0_V), (x1_V, y1_V) = ring_V2[crossing_V].T, ends_V2[crossing_V].T
    met_V = x0_V + (y - y0_V) / (y1_V - y0_V) * (x1_V - x0_V)
    is_left_V = met_V <= x
    if not is_left_V.any():
        return -1, point_2
    nearest = int(np.where(is_left_V, met_V, -np.inf).argmax())
    return int(crossing_V[nearest]), np.array([met_V[nearest], y])


RunLengths = dict[str, Any]
"""A mask as pycocotools has it: ``size`` [height, width] and ``counts``, compressed, as bytes."""


def run_lengths(mask_YX: NDArray[np.bool_]) -> RunLengths:
    """Return a mask in COCO's run lengths, which go down the columns."""
    return coco_masks.encode(np.asfortranarray(mask_YX, dtype=np.uint8))


def likeness(mask: RunLengths, rings: Sequence[Ring]) -> float:
    """Return the intersection over union of a mask and of the polygons that stand for it, as pycocotools fills them.

    Args:
        mask: its run lengths.
        rings: of all its parts.
    """
    if not rings:
        return 1.0 if not coco_masks.area(mask) else 0.0
    filled = coco_masks.merge(coco_masks.frPyObjects([ring_V2.ravel().tolist() for ring_V2 in rings], *mask["size"]))
    return float(coco_masks.iou([filled], [mask], [0])[0, 0])
