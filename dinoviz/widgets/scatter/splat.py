"""Points of a map as pixels: a million of them in a few milliseconds, with NumPy alone.

Points are kept in the order of a space-filling curve, so that those in a rectangle are a few slices. From far off only
one point of each pixel-sized cell is drawn; which one is decided once by lot, so that colours are mixed fairly and
points only join, never change, as one comes nearer. Few points are drawn as smooth discs, many as pixels that are
grown to discs.

The map lies in the unit square, y downwards, whatever its own coordinates are.

Letters after a name are its axes:
    N pictures · S points, pictures that are on the map, in the order of the curve · P some of these points ·
    K colours · G groups · Y X pixels · 2 the plane, x before y
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

CURVE_BITS = 16  # of each coordinate on the curve: two fill a 32-bit number
ALL_FROM_LEVEL = 13
"""Level of cells from which on all points are drawn: so near, at most a 64th of the map is in view."""
BUILT_LEVELS = (9, 10, 11)  # that are looked at first: the whole map on screens of 600 to 2,400 pixels
CELLS = 16  # across a rectangle, by which it is cut into slices of the curve
PRIORITY_BITS, CODE_BITS = 22, 8
FAINT, PLAIN, CHOSEN = 1, 2, 3
"""A pixel is 32 bits: what kind of point it shows, 0 for none; the lot it drew, the higher lies on top; its colour."""
SMOOTH_WRITES = 300_000  # pixels written one by one up to which discs are smooth while the view moves: 6 ms
SMOOTH_WRITES_AT_REST = 700_000
BLOCK_PIXELS = 32_768  # coloured at once
PHASES = 4  # places within a pixel, along each side, for which a disc is drawn beforehand
CHOSEN_GROWTH = 1.2  # of a chosen point's diameter
RIM_PX = 0.8  # of a chosen point, at one device pixel a point
LATTICE = 40  # cells a side in which the densest place of a group is looked for
BLUR_PASSES = 3  # of a box, which come near to a Gaussian; Wells 1986

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class View:
    """What is seen: the point of the unit square in the middle, and how many pixels the square is wide."""

    x: float = 0.5
    y: float = 0.5
    scale: float = 1.0

    def to_screen(self, x: float, y: float, width: float, height: float) -> tuple[float, float]:
        """Return where a point of the unit square lies in a window of this size."""
        return (x - self.x) * self.scale + width / 2, (y - self.y) * self.scale + height / 2

    def to_map(self, x: float, y: float, width: float, height: float) -> tuple[float, float]:
        """Return the point of the unit square at a place in a window of this size."""
        return (x - width / 2) / self.scale + self.x, (y - height / 2) / self.scale + self.y

    def rectangle(self, width: float, height: float, margin: float = 0.0) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of what a window of this size shows, with a margin in pixels."""
        half_x, half_y = (width / 2 + margin) / self.scale, (height / 2 + margin) / self.scale
        return self.x - half_x, self.y - half_y, self.x + half_x, self.y + half_y


def between(start: View, end: View, share: float) -> View:
    """Return a view on the way: as near in equal factors, what stays in place all the way stays in place."""
    scale = start.scale * (end.scale / start.scale) ** share
    if abs(end.scale / start.scale - 1) > 1e-6:
        share = (1 / scale - 1 / start.scale) / (1 / end.scale - 1 / start.scale)
    return View(start.x + (end.x - start.x) * share, start.y + (end.y - start.y) * share, scale)


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """The points of a map along the curve; made once for each map, in 0.3 s for a million.

    Args:
        n: pictures, N, also those that are not on the map.
        numbers_S: which picture each point is.
        x_S: float32 in the unit square, as is ``y_S``.
        y_S: downwards.
        curve_S: place along the curve, uint32, ascending.
        lot_S: a number of its own for each point, by chance; the lowest of a cell stands for it.
        place_of_lot_S: the point that drew each number.
    """

    n: int
    numbers_S: NDArray[np.intp]
    x_S: NDArray[np.float32]
    y_S: NDArray[np.float32]
    curve_S: NDArray[np.uint32]
    lot_S: NDArray[np.uint32]
    place_of_lot_S: NDArray[np.int32]
    priority_S: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.numbers_S)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the points, in the unit square."""
        if not len(self):
            return 0.0, 0.0, 1.0, 1.0
        return float(self.x_S.min()), float(self.y_S.min()), float(self.x_S.max()), float(self.y_S.max())

    @classmethod
    def of(cls, unit_N2: NDArray[np.float32], seed: int = 0) -> Self:
        """Return the cloud of positions in the unit square (see `in_unit_square`); NaN is not on the map."""
        numbers = np.flatnonzero(np.isfinite(unit_N2[:, 0]))
        x, y = unit_N2[numbers, 0], unit_N2[numbers, 1]
        cells = 1 << CURVE_BITS
        curve = along_curve(
            np.clip(x * np.float32(cells), 0, cells - 1).astype(np.uint32),
            np.clip(y * np.float32(cells), 0, cells - 1).astype(np.uint32),
        )
        order = np.argsort(curve)
        n = len(order)
        lot_of_number = np.random.default_rng(seed).permutation(n).astype(np.uint32)
        lot = lot_of_number[order]
        place_of_lot = np.empty(n, np.int32)
        place_of_lot[lot] = np.arange(n, dtype=np.int32)
        spare = max(0, int(n).bit_length() - PRIORITY_BITS)
        priority = ((np.uint32(n) - lot) >> np.uint32(spare)) << np.uint32(CODE_BITS)
        return cls(len(unit_N2), numbers[order], x[order], y[order], curve[order], lot, place_of_lot, priority)


def in_unit_square(positions_N2: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return positions of a map in the unit square, in its proportions, y downwards; NaN where there is none."""
    unit_N2 = np.full(positions_N2.shape, np.nan, np.float32)
    is_on = np.isfinite(positions_N2).all(axis=1)
    if not is_on.any():
        return unit_N2
    on = positions_N2[is_on].astype(np.float64)
    low, high = on.min(axis=0), on.max(axis=0)
    span = max(float((high - low).max()), np.finfo(np.float32).tiny)
    unit = (on - (low + high) / 2) / span
    unit_N2[is_on] = np.stack([unit[:, 0] + 0.5, 0.5 - unit[:, 1]], axis=1)
    return unit_N2


def along_curve(x: NDArray[np.uint32], y: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the place of cells along Morton's curve: the bits of both coordinates in turn."""
    return _spread_bits(x) | (_spread_bits(y) << np.uint32(1))


def _spread_bits(value: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Put a zero before each of 16 bits."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        value = (value | (value << np.uint32(shift))) & np.uint32(mask)
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Points that are drawn from one distance; ``places_P`` of the cloud, ascending; each stands for ``counts_P``."""

    places_P: NDArray[np.int32]
    x_P: NDArray[np.float32]
    y_P: NDArray[np.float32]
    curve_P: NDArray[np.uint32]
    counts_P: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.places_P)


class Layer:
    """Some points of a cloud that look alike in one respect: all, the filtered, the chosen."""

    def __init__(self, cloud: Cloud, is_in_S: NDArray[np.bool_] | None = None) -> None:
        """Take the points where ``is_in_S`` is True, all where it is None."""
        self.cloud = cloud
        places = np.arange(len(cloud)) if is_in_S is None else np.flatnonzero(is_in_S)
        self._places_P = places.astype(np.int32)
        self._is_all = is_in_S is None or len(places) == len(cloud)
        self._levels: dict[int, Level] = {}

    def __len__(self) -> int:
        return len(self._places_P)

    @cached_property
    def all(self) -> Level:
        """All points of the layer."""
        return self._level(self._places_P, None)

    def level(self, number: int) -> Level:
        """Return one point for each cell of ``2 ** number`` a side; all points where cells are very small."""
        if number >= ALL_FROM_LEVEL or not len(self):
            return self.all
        number = max(0, number)
        if number not in self._levels:
            places, counts = self._of_cells(number)
            # Where most points stand for themselves, the others cost nothing.
            self._levels[number] = self._level(places, counts)
        return self._levels[number]

    def prepare(self) -> Self:
        """Work out what is looked at first."""
        for number in BUILT_LEVELS:
            self.level(number)
        return self

    def _of_cells(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the point of each cell that drew the lowest lot, and how many it stands for."""
        cloud, places = self.cloud, self._places_P
        curve = cloud.curve_S if self._is_all else cloud.curve_S[places]
        lots = cloud.lot_S if self._is_all else cloud.lot_S[places]
        cells = curve >> np.uint32(2 * (CURVE_BITS - number))
        starts = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        best = np.minimum.reduceat(lots, starts)
        return cloud.place_of_lot_S[best], np.diff(starts, append=len(cells)).astype(np.float32)

    def _level(self, places: NDArray[np.int32], counts: NDArray[np.float32] | None) -> Level:
        cloud = self.cloud
        return Level(places, cloud.x_S[places], cloud.y_S[places], cloud.curve_S[places], counts)


def slices_in(curve_P: NDArray[np.uint32], rectangle: tuple[float, float, float, float]) -> list[slice]:
    """Return slices of points, ascending along the curve, that hold all those in a rectangle, and some around it."""
    left, top, right, bottom = rectangle
    if right <= 0 or bottom <= 0 or left >= 1 or top >= 1:
        # Points on the far edges lie in the last cells.
        left, top, right, bottom = (min(max(edge, 0), 1) for edge in rectangle)
    if left <= 0 and top <= 0 and right >= 1 and bottom >= 1:
        return [slice(0, len(curve_P))]
    span = max(min(right, 1) - max(left, 0), min(bottom, 1) - max(top, 0), 2.0**-CURVE_BITS)
    level = max(0, min(CURVE_BITS, math.floor(math.log2(CELLS / span))))
    cells = 1 << level
    cols = _cells_between(left, right, cells)
    rows = _cells_between(top, bottom, cells)
    across, down = along_curve(cols, np.zeros_like(cols)), along_curve(np.zeros_like(rows), rows)
    found = np.sort((across[None] | down[:, None]).ravel())
    is_gap = np.flatnonzero(np.diff(found) > 1)
    first = found[np.concatenate(([0], is_gap + 1))]
    last = found[np.concatenate((is_gap, [len(found) - 1]))]
    shift = np.uint32(2 * (CURVE_BITS - level))
    below = (np.uint32(1) << shift) - np.uint32(1) if shift < 32 else np.uint32(0xFFFFFFFF)
    begins = np.searchsorted(curve_P, (first << shift) if shift < 32 else np.zeros_like(first), side="left")
    ends = np.searchsorted(curve_P, ((last << shift) if shift < 32 else np.zeros_like(last)) | below, side="right")
    return [slice(int(a), int(b)) for a, b in zip(begins, ends, strict=True) if b > a]


def _cells_between(low: float, high: float, cells: int) -> NDArray[np.uint32]:
    first = max(0, min(cells - 1, math.floor(low * cells)))
    last = max(0, min(cells - 1, math.floor(high * cells)))
    return np.arange(first, last + 1, dtype=np.uint32)


def _gathered(array: NDArray[Scalar], slices: list[slice]) -> NDArray[Scalar]:
    """Return the parts of an array, without a copy where it is one part."""
    if len(slices) == 1:
        return array[slices[0]]
    return np.concatenate([array[part] for part in slices]) if slices else array[:0]


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """How points look.

    Args:
        codes_S: number of the colour of each point of the cloud, uint8.
        table_4K: 0xffRRGGBB of each kind (none, faint, plain, chosen) and colour; that of none is the ground.
        rim: colour around chosen points, 0xffRRGGBB.
    """

    codes_S: NDArray[np.uint8]
    table_4K: NDArray[np.uint32]
    rim: int


@dataclass(slots=True, eq=False)
class Scene:
    """All that is drawn of a map: points outside the filter, those in it, and chosen ones, on top."""

    faint: Layer | None
    plain: Layer
    chosen: Layer | None
    looks: Looks
    buffers: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = field(default_factory=dict)

    def buffer(self, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        """Return memory that is used again in the next frame; what is in it is left over from the last.

        Two shapes are kept: frames are drawn smaller while the view moves, and new memory costs more than drawing.
        """
        key = (name, shape)
        if key not in self.buffers:
            for old in [old for old in self.buffers if old[0] == name][:-1]:
                del self.buffers[old]
            self.buffers[key] = np.empty(shape, dtype)
        return self.buffers[key]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Points of one layer that are in view: where, on the padded picture, and what is written there."""

    kind: int
    x_P: NDArray[np.float32]
    y_P: NDArray[np.float32]
    places_P: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.x_P)


def draw(
    scene: Scene,
    view: View,
    size: tuple[int, int],
    diameter: float,
    *,
    is_fine: bool = True,
    ground_YX: NDArray[np.uint32] | None = None,
) -> tuple[NDArray[np.uint32], int]:
    """Return a picture of the points, with padding around it.

    Args:
        scene: what there is.
        view: what is seen of it, in device pixels.
        size: width and height in device pixels.
        diameter: of a point, in device pixels.
        is_fine: discs may be smooth whatever the time; else only where that is quick.
        ground_YX: what the points are drawn on; of one colour where absent.

    Returns:
        (Y, X) 0xffRRGGBB, memory of the scene and good until it is drawn again; and the pixels of padding on each side.
    """
    width, height = size
    pad = math.ceil(diameter * 1.5) + 4
    shape = (height + 2 * pad, width + 2 * pad)
    parts = [
        _in_view(layer, kind, view, size, pad, diameter)
        for layer, kind in ((scene.faint, FAINT), (scene.plain, PLAIN), (scene.chosen, CHOSEN))
        if layer is not None and len(layer)
    ]
    writes = sum(len(part) for part in parts) * (diameter + 2) ** 2
    if diameter > 1 and writes <= (SMOOTH_WRITES_AT_REST if is_fine else SMOOTH_WRITES):
        _smooth(scene, parts, _ground(scene, shape, pad, ground_YX), diameter)
    else:
        _grown(scene, parts, _ground(scene, shape, pad, ground_YX), max(1, round(diameter)))
    return scene.buffer("picture", shape, np.uint32), pad


def _ground(scene: Scene, shape: tuple[int, int], pad: int, ground_YX: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    """Return the picture before there are points on it."""
    picture = scene.buffer("picture", shape, np.uint32)
    if ground_YX is None:
        picture.fill(scene.looks.table_4K[0, 0])
    else:
        picture[pad : pad + ground_YX.shape[0], pad : pad + ground_YX.shape[1]] = ground_YX
    return picture


def _in_view(layer: Layer, kind: int, view: View, size: tuple[int, int], pad: int, diameter: float) -> _Part:
    width, height = size
    # Cells of a pixel, or of a third of a disc: what they hide could hardly be seen.
    level = layer.level(math.ceil(math.log2(max(2.0, view.scale / max(1.0, diameter / 3)))))
    slices = slices_in(level.curve_P, view.rectangle(width, height, pad))
    x = _gathered(level.x_P, slices) - np.float32(view.x)
    y = _gathered(level.y_P, slices) - np.float32(view.y)
    x *= np.float32(view.scale)
    y *= np.float32(view.scale)
    x += np.float32(width / 2 + pad)
    y += np.float32(height / 2 + pad)
    # What lies outside ends up in the outermost pixels of the padding, from where no disc reaches the picture.
    np.clip(x, 0, width + 2 * pad - 1, out=x)
    np.clip(y, 0, height + 2 * pad - 1, out=y)
    return _Part(kind, x, y, _gathered(level.places_P, slices))


def _grown(scene: Scene, parts: list[_Part], picture: NDArray[np.uint32], diameter: int) -> None:
    """Draw points as pixels, and grow these to discs; the cost hardly depends on their number."""
    cloud = scene.plain.cloud
    plain = [part for part in parts if part.kind != CHOSEN]
    chosen = [part for part in parts if part.kind == CHOSEN]
    table = scene.looks.table_4K.ravel()
    pixels = scene.buffer("pixels", picture.shape, np.uint32)
    if plain:
        _put(pixels, plain, cloud, scene.looks.codes_S)
        _colour(picture, _discs(scene, pixels, diameter), table)
    if chosen:
        _put(pixels, chosen, cloud, scene.looks.codes_S)
        discs = _discs(scene, pixels, diameter + 1)
        rim = _plus(discs, scene.buffer("rim", picture.shape, np.uint32))
        np.copyto(picture, np.uint32(scene.looks.rim), where=rim != 0)
        _colour(picture, discs, table)


def _put(pixels: NDArray[np.uint32], parts: list[_Part], cloud: Cloud, codes_S: NDArray[np.uint8]) -> None:
    pixels.fill(0)
    flat, width = pixels.reshape(-1), pixels.shape[1]
    for part in parts:
        at = part.y_P.astype(np.int32)
        at *= width
        at += part.x_P.astype(np.int32)
        values = cloud.priority_S[part.places_P]
        values |= codes_S[part.places_P]
        values |= np.uint32(part.kind << (PRIORITY_BITS + CODE_BITS))
        flat[at] = values


def _colour(picture: NDArray[np.uint32], discs: NDArray[np.uint32], table: NDArray[np.uint32]) -> None:
    """Lay the colours of what pixels show on a picture; rows at a time, so that all of it stays in the cache."""
    step = max(1, BLOCK_PIXELS // picture.shape[1])
    for first in range(0, len(picture), step):
        part = discs[first : first + step]
        code = part & np.uint32((1 << CODE_BITS) - 1)
        kind = part >> np.uint32(PRIORITY_BITS + CODE_BITS)
        code |= kind << np.uint32(CODE_BITS)
        np.copyto(picture[first : first + step], table.take(code, mode="clip"), where=kind != 0)


def _discs(scene: Scene, pixels: NDArray[np.uint32], diameter: int) -> NDArray[np.uint32]:
    """Grow pixels to discs: of what would cover a pixel, the highest does.

    Discs are made of squares of two, crosses and squares of three, one after the other.
    """
    steps = ([_square] if diameter % 2 == 0 else []) + [(_plus, _box)[i % 2] for i in range((diameter - 1) // 2)]
    for i, step in enumerate(steps):
        pixels = step(pixels, scene.buffer(f"grown {i % 2}", pixels.shape, np.uint32))
    return pixels


def _square(source: NDArray[np.uint32], target: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Take the highest of two by two."""
    across = source.copy()
    np.maximum(source[:, 1:], source[:, :-1], out=across[:, 1:])
    np.copyto(target, across)
    np.maximum(across[1:], across[:-1], out=target[1:])
    return target


def _plus(source: NDArray[np.uint32], target: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Take the highest of a pixel and the four beside it."""
    np.copyto(target, source)
    np.maximum(target[1:], source[:-1], out=target[1:])
    np.maximum(target[:-1], source[1:], out=target[:-1])
    np.maximum(target[:, 1:], source[:, :-1], out=target[:, 1:])
    np.maximum(target[:, :-1], source[:, 1:], out=target[:, :-1])
    return target


def _box(source: NDArray[np.uint32], target: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Take the highest of three by three."""
    across = source.copy()
    np.maximum(across[:, 1:], source[:, :-1], out=across[:, 1:])
    np.maximum(across[:, :-1], source[:, 1:], out=across[:, :-1])
    np.copyto(target, across)
    np.maximum(target[1:], across[:-1], out=target[1:])
    np.maximum(target[:-1], across[1:], out=target[:-1])
    return target


def _smooth(scene: Scene, parts: list[_Part], picture: NDArray[np.uint32], diameter: float) -> None:
    """Draw points as discs with smooth edges; of two that overlap, each keeps what is nearer to its middle."""
    table, codes_S = scene.looks.table_4K, scene.looks.codes_S
    for part in parts:
        colours = table[part.kind][codes_S[part.places_P]]
        if part.kind == CHOSEN:
            rim = np.full(len(part), scene.looks.rim, np.uint32)
            _stamp(picture, part, rim, diameter * CHOSEN_GROWTH + 2 * RIM_PX)
        _stamp(picture, part, colours, diameter * (CHOSEN_GROWTH if part.kind == CHOSEN else 1))


def _stamp(picture: NDArray[np.uint32], part: _Part, colours_P: NDArray[np.uint32], diameter: float) -> None:
    flat, width = picture.reshape(-1), picture.shape[1]
    column, row = np.floor(part.x_P), np.floor(part.y_P)
    phase_P = ((part.y_P - row) * PHASES).astype(np.int32) * PHASES + ((part.x_P - column) * PHASES).astype(np.int32)
    reach = math.ceil(diameter / 2)
    margin = reach + 1
    is_inside = (column >= margin) & (column < width - margin) & (row >= margin) & (row < picture.shape[0] - margin)
    if not is_inside.all():
        column, row, phase_P, colours_P = column[is_inside], row[is_inside], phase_P[is_inside], colours_P[is_inside]
    at_P = row.astype(np.int32) * width + column.astype(np.int32)
    for down, across, cover_16 in _disc(diameter):
        pixels_P = at_P + (down * width + across)
        if cover_16.min() == 255:
            flat[pixels_P] = colours_P
        else:
            flat[pixels_P] = blended(flat[pixels_P], colours_P, cover_16[phase_P])


def _disc(diameter: float) -> list[tuple[int, int, NDArray[np.uint32]]]:
    """Return the pixels of a disc from the rim to the middle, and how much of each it covers from each phase."""
    reach, radius = math.ceil(diameter / 2), diameter / 2
    phases = (np.arange(PHASES) + 0.5) / PHASES
    middle_y, middle_x = (axis.ravel() for axis in np.meshgrid(phases, phases, indexing="ij"))
    pixels = []
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            off = np.hypot(down + 0.5 - middle_y, across + 0.5 - middle_x)
            cover = np.clip(radius + 0.5 - off, 0, 1)
            if cover.max() > 0:
                pixels.append((float(off.mean()), down, across, np.round(cover * 255).astype(np.uint32)))
    return [(down, across, cover) for _, down, across, cover in sorted(pixels, key=lambda pixel: -pixel[0])]


def blended(below: NDArray[np.uint32], above: NDArray[np.uint32], cover: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return colours 0xffRRGGBB laid over others; ``cover`` is 0 to 255. Two channels at a time, in one number."""
    pair = np.uint32(0x00FF00FF)
    cover = cover + (cover >> np.uint32(7))  # to 256, so that full is full
    below_rb, below_g = below & pair, (below >> np.uint32(8)) & pair
    rb = (below_rb + ((((above & pair) - below_rb) * cover) >> np.uint32(8))) & pair
    g = (below_g + (((((above >> np.uint32(8)) & pair) - below_g) * cover) >> np.uint32(8))) & pair
    return rb | (g << np.uint32(8)) | np.uint32(0xFF000000)


def density(layer: Layer, view: View, size: tuple[int, int], bin_px: int, blur_px: float) -> NDArray[np.float32]:
    """Return how many points lie where, smoothed, per bin.

    Args:
        layer: the points.
        view: what is seen.
        size: width and height in pixels.
        bin_px: side of a bin.
        blur_px: standard deviation of the smoothing.

    Returns:
        Float32, one number for each bin, from the top left; bins at the far edges may lie partly outside.
    """
    cols, rows = -(-size[0] // bin_px), -(-size[1] // bin_px)
    margin = math.ceil(BLUR_PASSES * blur_px / bin_px)
    level = layer.level(math.ceil(math.log2(max(2.0, view.scale / bin_px))))
    slices = slices_in(level.curve_P, view.rectangle(*size, margin * bin_px))
    x = (_gathered(level.x_P, slices) - np.float32(view.x)) * np.float32(view.scale / bin_px)
    y = (_gathered(level.y_P, slices) - np.float32(view.y)) * np.float32(view.scale / bin_px)
    x += np.float32(size[0] / 2 / bin_px + margin)
    y += np.float32(size[1] / 2 / bin_px + margin)
    shape = (rows + 2 * margin, cols + 2 * margin)
    is_in = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    at = y[is_in].astype(np.intp) * shape[1] + x[is_in].astype(np.intp)
    weights = None if level.counts_P is None else _gathered(level.counts_P, slices)[is_in]
    counts = np.bincount(at, weights, shape[0] * shape[1]).reshape(shape).astype(np.float32)
    for _ in range(BLUR_PASSES):
        # Three boxes of this reach have the variance that was asked for.
        reach = max(1, round((math.sqrt(4 * (blur_px / bin_px) ** 2 + 1) - 1) / 2))
        counts = _box_mean(_box_mean(counts, reach).T, reach).T
    return np.ascontiguousarray(counts[margin : margin + rows, margin : margin + cols])


def _box_mean(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Return the mean over ``2 * reach + 1`` rows; nothing lies beyond the edges."""
    sums = np.zeros((values.shape[0] + 2 * reach + 1, values.shape[1]), np.float32)
    np.cumsum(values, axis=0, out=sums[reach + 1 : reach + 1 + len(values)])
    sums[reach + 1 + len(values) :] = sums[reach + len(values)]
    return np.asarray((sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1), np.float32)


def nearest(layer: Layer, x: float, y: float, reach: float) -> int:
    """Return the place in the cloud of the point nearest to a point of the unit square, -1 if none is in reach."""
    level = layer.all
    slices = slices_in(level.curve_P, (x - reach, y - reach, x + reach, y + reach))
    if not slices:
        return -1
    off = (_gathered(level.x_P, slices) - np.float32(x)) ** 2 + (_gathered(level.y_P, slices) - np.float32(y)) ** 2
    best = int(off.argmin())
    return int(_gathered(level.places_P, slices)[best]) if off[best] <= reach * reach else -1


def inside(
    layer: Layer, is_inside_YX: NDArray[np.bool_], rectangle: tuple[float, float, float, float]
) -> NDArray[np.int32]:
    """Return the places in the cloud of points where a picture that covers a rectangle of the map is True."""
    left, top, right, bottom = rectangle
    level = layer.all
    slices = slices_in(level.curve_P, rectangle)
    rows, cols = is_inside_YX.shape
    x = (_gathered(level.x_P, slices) - np.float32(left)) * np.float32(cols / max(right - left, 1e-12))
    y = (_gathered(level.y_P, slices) - np.float32(top)) * np.float32(rows / max(bottom - top, 1e-12))
    is_in = (x >= 0) & (y >= 0) & (x < cols) & (y < rows)
    places = _gathered(level.places_P, slices)[is_in]
    at = y[is_in].astype(np.intp) * cols + x[is_in].astype(np.intp)
    return np.asarray(places[is_inside_YX.ravel()[at]])


def count_in_view(layer: Layer, view: View, size: tuple[float, float]) -> int:
    """Return about how many points of a layer are in view, never fewer."""
    return sum(part.stop - part.start for part in slices_in(layer.all.curve_P, view.rectangle(*size)))


def standing_for(layer: Layer, view: View, size: tuple[float, float], cell_px: float, most: int) -> NDArray[np.int32]:
    """Return places of points to show as pictures: one for each cell of a lattice that stays when the view moves.

    Args:
        layer: the points.
        view: what is seen.
        size: width and height in pixels.
        cell_px: least side of a cell.
        most: that may be returned; cells are larger where there would be more.
    """
    number = math.floor(math.log2(max(1.0, view.scale / cell_px)))
    left, top, right, bottom = view.rectangle(*size)
    while True:
        level = layer.level(number) if number < ALL_FROM_LEVEL else layer.all
        slices = slices_in(level.curve_P, (left, top, right, bottom))
        x, y = _gathered(level.x_P, slices), _gathered(level.y_P, slices)
        places = _gathered(level.places_P, slices)
        found = places[(x >= left) & (x <= right) & (y >= top) & (y <= bottom)]
        if len(found) <= most or number <= 0:
            return found[np.argsort(layer.cloud.lot_S[found])][:most]
        number = min(number, ALL_FROM_LEVEL) - 1


def densest_places(
    cloud: Cloud, codes_S: NDArray[np.integer], n_groups: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return where each group is densest, (G, 2) in the unit square, and how many points it has.

    A group's mean or median may lie where none of it is. The densest place is that of its counts in cells of a
    coarse lattice, smoothed as a few points that happen to lie close together are no middle.
    """
    counts_G = np.bincount(codes_S[codes_S >= 0], minlength=n_groups)[:n_groups]
    middles_G2 = np.full((n_groups, 2), np.nan, np.float32)
    col, row = (np.minimum(axis * LATTICE, LATTICE - 1).astype(np.intp) for axis in (cloud.x_S, cloud.y_S))
    order = np.argsort(codes_S, kind="stable")
    bounds = np.searchsorted(codes_S[order], np.arange(n_groups + 1))
    for group in np.flatnonzero(counts_G):
        members = order[bounds[group] : bounds[group + 1]]
        cells = np.bincount(row[members] * LATTICE + col[members], minlength=LATTICE**2).astype(np.float32)
        smooth = cells.reshape(LATTICE, LATTICE)
        for _ in range(BLUR_PASSES):
            smooth = _box_mean(_box_mean(smooth, 1).T, 1).T
        y, x = divmod(int(smooth.argmax()), LATTICE)
        is_near = (abs(col[members] - x) <= 1) & (abs(row[members] - y) <= 1)
        near = members[is_near] if is_near.any() else members
        middles_G2[group] = np.median(cloud.x_S[near]), np.median(cloud.y_S[near])
    return middles_G2, counts_G
