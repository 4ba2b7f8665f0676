"""Maps and clusters as pictures to look at and to print: points, thumbnails, classes, exemplars.

Arrays in, arrays out: uint8 RGB, height before width, on white. nothing here touches a file.
It draws with NumPy, OpenCV and Pillow alone, so that a process that makes maps needs no plotting library and no torch.

Letters after a name are its axes:
    S points · G groups · M pairs · Y X pixels · 2 the plane, x before y · 3 colours, RGB
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.seeing.drawing import SUBPIXEL_BITS, Colour, Picture, printable, shortened, square, write_line

PAPER, INK, PALE_INK, REST = (255, 255, 255), (30, 30, 34), (112, 112, 118), (190, 190, 194)
"""Ground, titles, other words, and points of no group."""
OKABE_ITO: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (86, 180, 233),
    (240, 228, 66),
)
"""Okabe and Ito 2008, without black: told apart also by colour-blind people."""
MOST_COLOURS = 40  # groups that get a colour, the largest; more cannot be told apart
LEVELS, LIGHTNESS, CHROMA = 12, (70, 205), (22, 85)
"""Colours to choose further ones from: levels of each channel, OpenCV's L from 0 to 255, distance from grey."""

PANEL_PX, MARGIN_PX, LEGEND_PX, ROW_PX = 1400, 44, 330, 34
TITLE_PX, TEXT_PX, NAME_PX = 34, 21, 27
ASPECTS = (0.55, 1.1)  # height of a panel over its width, at least and at most
PAD = 0.035  # of the panel around the outermost points
CRISP = 20_000  # points that are drawn one by one; more are drawn as density
FINE = 2  # pixels drawn for each shown
ALPHA = 0.65  # opacity of a single point among many
MOST_NAMES = 30  # groups that are named on the map itself
SMALLEST_THUMBNAIL, LARGEST_THUMBNAIL = 46, 150
BORDER_PX = 3
RADIUS_PX, RADIUS_FADE, RADII_PX = 30, 0.25, (1.1, 8)
"""Radius of a point among n: ``RADIUS_PX / n**RADIUS_FADE``, within limits. By eye: with an exponent of a half points
would cover the same share of the panel whatever their number, and those of a large map would be too small to see."""
RIM, RIM_PX = 0.22, 0.3
"""White rim of a point, in shares of its radius and in pixels more: it parts points that touch, small ones too."""
NAME_SHADE = 0.62
"""Brightness of a name in shares of its group's colour: the palest, a yellow, has a contrast of 3.4 to 1 on white
then, where 1.3 cannot be read and WCAG 2.1 asks for 3 of large letters."""
CELL_PX, SMOOTHED_CELLS = 20, 2.5
"""Where a group is densest: counts in cells a little less high than a name, smoothed over two or three of them, as a
few points that happen to lie close together are no middle."""
NEAR = 1 + 1e-9  # boxes by which two may be apart and still overlap, and a little for rounding
ROUNDS, PUSH = 300, 0.3
"""Pushing boxes apart. Each of two is moved by less than half of what they overlap, as it is pushed from other sides,
too. After so many rounds boxes made up by lot overlap by 0.01 px where they are 30, 6 px where 100, 17 where 300."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What is drawn: positions, the number of each one's group, -1 for none, and the groups' names."""

    positions_S2: NDArray[np.floating]
    groups_S: NDArray[np.integer]
    names_G: Sequence[str]

    def colours_S3(self) -> NDArray[np.uint8]:
        """Return the colour of each point."""
        table_G3 = np.array([*self.colours(), REST], np.uint8)
        return table_G3[self.groups_S]

    def colours(self) -> list[Colour]:
        """Return the colour of each group: the largest have one of their own."""
        return colours_by_size(self.counts())

    def counts(self) -> NDArray[np.intp]:
        """Return the points of each group."""
        return np.bincount(self.groups_S[self.groups_S >= 0], minlength=len(self.names_G))


def colours_by_size(counts_G: NDArray[np.integer]) -> list[Colour]:
    """Return a colour for each group, from the largest on; grey where there are too many."""
    colours: list[Colour] = [REST] * len(counts_G)
    for colour, group in zip(distinct_colours(MOST_COLOURS), np.argsort(-counts_G, kind="stable"), strict=False):
        colours[group] = colour
    return colours


@functools.cache
def distinct_colours(n: int) -> tuple[Colour, ...]:
    """Return colours that differ as much as can be: Okabe and Ito's, then each farthest from all before it and white.

    Source: the greedy choice of Glasbey et al. 2007, in OpenCV's CIELAB.
    """
    steps = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(candidates)
    chroma = np.hypot(lab[:, 1] - 128, lab[:, 2] - 128)
    is_good = (lab[:, 0] > LIGHTNESS[0]) & (lab[:, 0] < LIGHTNESS[1]) & (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    candidates, lab = candidates[is_good], lab[is_good]
    chosen = list(OKABE_ITO)
    distance = np.linalg.norm(lab[:, None] - _lab(np.array([*chosen, PAPER, REST], np.uint8))[None], axis=2).min(axis=1)
    while len(chosen) < n:
        best = int(distance.argmax())
        chosen.append(tuple(int(level) for level in candidates[best]))  # type: ignore[arg-type]
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(chosen[:n])


def _lab(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(colours[None], cv2.COLOR_RGB2LAB)[0].astype(np.float32)


def point_chart(points: Points, title: str, notes: Sequence[str] = ()) -> Picture:
    """Return a map as points in the colours of their groups, with names on it and a legend beside it."""
    frame = _Frame.around(points.positions_S2)
    at_S2 = frame.pixels(points.positions_S2)
    draw = _crisp if len(at_S2) <= CRISP else _dense
    panel = Image.fromarray(draw(at_S2, points.colours_S3(), frame))
    if 1 < len(points.names_G) <= MOST_NAMES:
        _write_names(panel, points, at_S2)
    return _page(panel, points, title, notes)


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Where the plane lies on a panel."""

    low_2: NDArray[np.float64]
    scale: float
    size: tuple[int, int]  # height, width

    @classmethod
    def around(cls, positions_S2: NDArray[np.floating]) -> "_Frame":
        low_2, high_2 = positions_S2.min(axis=0).astype(np.float64), positions_S2.max(axis=0).astype(np.float64)
        span_2 = np.maximum(high_2 - low_2, 1e-9 * max(1.0, float(np.abs(high_2).max())))
        height = round(PANEL_PX * float(np.clip(span_2[1] / span_2[0], *ASPECTS)))
        room_2 = np.array([PANEL_PX, height]) * (1 - 2 * PAD)
        scale = float((room_2 / span_2).min())
        middle_2 = (low_2 + high_2) / 2
        return cls(middle_2 - np.array([PANEL_PX, height]) / 2 / scale, scale, (height, PANEL_PX))

    def pixels(self, positions_S2: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return x and y on the panel; y grows upwards on a map and downwards on a picture."""
        at_S2 = (positions_S2 - self.low_2) * self.scale
        at_S2[:, 1] = self.size[0] - at_S2[:, 1]
        return at_S2


def _radius(n: int) -> float:
    """Return the radius of ``n`` points in pixels."""
    return float(np.clip(RADIUS_PX / n**RADIUS_FADE, *RADII_PX))


def _crisp(at_S2: NDArray[np.float64], colours_S3: NDArray[np.uint8], frame: _Frame) -> Picture:
    """Draw each point with a white rim, in an order by lot so that no group covers the others."""
    canvas = np.full((frame.size[0] * FINE, frame.size[1] * FINE, 3), 255, np.uint8)
    radius = _radius(len(at_S2))
    unit = FINE * 2**SUBPIXEL_BITS
    inner, outer = round(radius * unit), round((radius + RIM * radius + RIM_PX) * unit)
    for i in np.random.default_rng(0).permutation(len(at_S2)):
        centre = (round(at_S2[i, 0] * unit), round(at_S2[i, 1] * unit))
        cv2.circle(canvas, centre, outer, PAPER, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.circle(canvas, centre, inner, colours_S3[i].tolist(), cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    return cv2.resize(canvas, frame.size[::-1], interpolation=cv2.INTER_AREA)


def _dense(at_S2: NDArray[np.float64], colours_S3: NDArray[np.uint8], frame: _Frame) -> Picture:
    """Draw very many points: their colours mixed, the more opaque the more there are."""
    height, width = frame.size
    x_S, y_S = (np.clip(at_S2[:, axis].astype(np.intp), 0, frame.size[1 - axis] - 1) for axis in (0, 1))
    place_S = y_S * width + x_S
    sigma = _radius(len(at_S2)) / 1.5
    layers = []
    for weights in (None, *colours_S3.T.astype(np.float32)):
        summed = np.bincount(place_S, weights, minlength=height * width).reshape(height, width)
        layers.append(cv2.GaussianBlur(summed.astype(np.float32), (0, 0), sigma))
    density_YX = layers[0]
    colour_YX3 = np.stack(layers[1:], axis=-1) / np.maximum(density_YX, 1e-9)[..., None]
    single = 1 / (2 * math.pi * sigma**2)  # height of one point's blur
    opacity_YX1 = 1 - np.exp(math.log(1 - ALPHA) * density_YX / single)[..., None]
    return (255 + opacity_YX1 * (colour_YX3 - 255)).round().astype(np.uint8)


def _write_names(panel: Image.Image, points: Points, at_S2: NDArray[np.float64]) -> None:
    """Write each group's name where it is densest, the large ones first; one that would cover another moves aside."""
    font, colours = ImageFont.load_default(NAME_PX), points.colours()
    draw = ImageDraw.Draw(panel)
    taken: list[tuple[float, float, float, float]] = []
    for group in np.argsort(-points.counts(), kind="stable"):
        inside_S2 = at_S2[points.groups_S == group]
        if not len(inside_S2):
            continue
        x, y = _densest(inside_S2, panel.size)
        name = printable(points.names_G[group])
        half = font.getlength(name) / 2
        x = float(np.clip(x, half + 6, panel.width - half - 6))
        for shift in (0, -1, 1, -2, 2, -3, 3, -4, 4):
            middle = float(np.clip(y + shift * NAME_PX, NAME_PX, panel.height - NAME_PX))
            box = (x - half, middle - NAME_PX / 2, x + half, middle + NAME_PX / 2)
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        ink = tuple(round(level * NAME_SHADE) for level in colours[group])
        draw.text((x, middle), name, ink, font, anchor="mm", stroke_width=4, stroke_fill=PAPER)


def _densest(at_S2: NDArray[np.float64], size: tuple[int, int]) -> tuple[float, float]:
    """Return the place, in pixels, around which most points lie."""
    counts, edges_x, edges_y = np.histogram2d(
        at_S2[:, 0], at_S2[:, 1], (size[0] // CELL_PX + 1, size[1] // CELL_PX + 1), ((0, size[0]), (0, size[1]))
    )
    smooth = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), SMOOTHED_CELLS)
    column, row = np.unravel_index(int(smooth.argmax()), smooth.shape)
    return float(edges_x[column] + CELL_PX / 2), float(edges_y[row] + CELL_PX / 2)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def thumbnail_chart(
    points: Points, load: Callable[[int], Picture | None], title: str, notes: Sequence[str] = ()
) -> Picture:
    """Return a map as thumbnails on a grid, none over another, framed in the colours of their groups.

    Args:
        points: what is drawn; of the points that fall into a cell, the one nearest to its middle is shown.
        load: gives the picture of a point by its number, None where it cannot be read: the cell is grey then.
        title: first line.
        notes: lines below it.
    """
    frame = _Frame.around(points.positions_S2)
    side = thumbnail_side(len(points.positions_S2))
    shown, corners = on_grid(frame.pixels(points.positions_S2), side)
    colours_S3 = points.colours_S3()
    corners -= corners.min(axis=0)
    panel = Image.new("RGB", tuple(int(corner) + side for corner in corners.max(axis=0)), PAPER)  # type: ignore[arg-type]
    for i, (left, top) in zip(shown, corners, strict=True):
        cell = Image.new("RGB", (side - 1, side - 1), tuple(int(level) for level in colours_S3[i]))
        picture = load(int(i))
        if picture is not None:
            border = BORDER_PX if points.groups_S[i] >= 0 else 0
            cell.paste(Image.fromarray(square(picture, side - 1 - 2 * border)), (border, border))
        panel.paste(cell, (int(left), int(top)))
    return _page(panel, points, title, notes)


def thumbnail_side(n: int) -> int:
    """Return the side of a thumbnail in pixels: smaller the more pictures there are."""
    return int(np.clip(PANEL_PX / math.sqrt(3 * n), SMALLEST_THUMBNAIL, LARGEST_THUMBNAIL))


def on_grid(at_S2: NDArray[np.float64], side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return one point of each cell of a grid, the nearest to its middle, and the cells' corners (x, y)."""
    cells_S2 = np.floor(at_S2 / side).astype(np.intp)
    off_S = np.linalg.norm(at_S2 - (cells_S2 + 0.5) * side, axis=1)
    order = np.lexsort((off_S, cells_S2[:, 0], cells_S2[:, 1]))
    _, first = np.unique(cells_S2[order], axis=0, return_index=True)
    shown = order[np.sort(first)]
    return shown, cells_S2[shown] * side


def class_chart(
    positions_G2: NDArray[np.floating],
    names_G: Sequence[str],
    counts_G: Sequence[int],
    pictures_G: Sequence[Picture | None],
    title: str,
    notes: Sequence[str] = (),
) -> Picture:
    """Return a map of classes: a picture and the name of each; those that would overlap are pushed apart.

    The colours are those of the classes on a map of ``counts_G`` pictures of each.
    """
    frame = _Frame.around(positions_G2)
    side = int(np.clip(PANEL_PX / math.sqrt(6 * len(names_G)), 40, 150))
    font = ImageFont.load_default(max(12, round(side / 6.5)))
    margin = side
    true_G2 = margin + frame.pixels(positions_G2)
    box_2 = np.array([side * 1.15, side + 1.9 * font.size])
    at_G2 = _apart(true_G2, box_2)
    at_G2 = at_G2 - at_G2.min(axis=0) + box_2 / 2 + margin / 3 if len(at_G2) else at_G2
    size = (at_G2.max(axis=0) + box_2 / 2 + margin / 3).astype(int)
    panel = Image.new("RGB", (max(int(size[0]), PANEL_PX // 2), int(size[1])), PAPER)
    draw = ImageDraw.Draw(panel)
    colours = colours_by_size(np.asarray(counts_G))
    for i, name in enumerate(names_G):
        left, top = (at_G2[i] - box_2 / 2).round().astype(int)
        left += round((box_2[0] - side) / 2)
        draw.rectangle((left - 3, top - 3, left + side + 2, top + side + 2), fill=colours[i])
        picture = pictures_G[i]
        if picture is not None:
            panel.paste(Image.fromarray(square(picture, side)), (int(left), int(top)))
        below = (float(at_G2[i, 0]), float(top + side + 0.9 * font.size))
        shown = shortened(printable(name), font, float(box_2[0]) * 1.3)
        draw.text(below, shown, INK, font, anchor="mm", stroke_width=3, stroke_fill=PAPER)
    nothing = Points(np.empty((0, 2)), np.empty(0, np.intp), ())
    return _page(panel, nothing, title, notes)


def _apart(at_G2: NDArray[np.float64], box_2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Push boxes apart, along the axis on which they overlap least, until none covers another or rounds are over.

    Only boxes that are near are compared: of 10,000 classes there are 50 million pairs.
    """
    from scipy.spatial import KDTree

    at_G2 = at_G2.copy()
    for _ in range(ROUNDS):
        firsts_M, seconds_M = KDTree(at_G2 / box_2).query_pairs(NEAR, p=np.inf, output_type="ndarray").T
        apart_M2 = at_G2[firsts_M] - at_G2[seconds_M]
        over_M2 = box_2 - np.abs(apart_M2)
        is_over_M = (over_M2 > 0).all(axis=1)
        if not is_over_M.any():
            break
        axis_M = over_M2.argmin(axis=1)
        for axis in (0, 1):
            # Of equal places the one that comes first goes to the left or up; the numbers of a pair ascend.
            sign_M = np.where(apart_M2[:, axis] > 0, 1, -1)
            push_M = np.where(is_over_M & (axis_M == axis), sign_M * over_M2[:, axis] * PUSH, 0)
            at_G2[:, axis] += np.bincount(firsts_M, push_M, len(at_G2)) - np.bincount(seconds_M, push_M, len(at_G2))
    return at_G2


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """One cluster of a sheet: its name, words below, colour and pictures, None where one cannot be read."""

    name: str
    words: str
    colour: Colour
    pictures: Sequence[Picture | None]


def exemplar_sheet(strips: Sequence[Strip], title: str, notes: Sequence[str] = (), *, side_px: int = 120) -> Picture:
    """Return a page with one row a cluster: its name and words, then its pictures."""
    aside, gap = 250, 6
    most = max((len(strip.pictures) for strip in strips), default=1)
    step = side_px + 3 * gap
    panel = Image.new("RGB", (aside + most * (side_px + gap), max(1, len(strips)) * step), PAPER)
    draw = ImageDraw.Draw(panel)
    for row, strip in enumerate(strips):
        top = row * step
        draw.rectangle((0, top, 7, top + side_px - 1), fill=strip.colour)
        write_line(panel, strip.name, (22, top + side_px // 2 - 30), TEXT_PX + 3, INK, aside - 30)
        for line, words in enumerate(strip.words.split("\n")):
            write_line(panel, words, (22, top + side_px // 2 + 2 + 23 * line), TEXT_PX - 3, PALE_INK, aside - 30)
        for column, picture in enumerate(strip.pictures):
            left = aside + column * (side_px + gap)
            if picture is None:
                draw.rectangle((left, top, left + side_px - 1, top + side_px - 1), fill=REST)
            else:
                panel.paste(Image.fromarray(square(picture, side_px)), (left, top))
    nothing = Points(np.empty((0, 2)), np.empty(0, np.intp), ())
    return _page(panel, nothing, title, notes)


def _page(panel: Image.Image, points: Points, title: str, notes: Sequence[str]) -> Picture:
    """Put a panel on a page with its title, and a legend where there are groups."""
    head = MARGIN_PX + TITLE_PX + 16 + len(notes) * (TEXT_PX + 8) + 14
    legend = LEGEND_PX if len(points.names_G) else 0
    page = Image.new("RGB", (2 * MARGIN_PX + panel.width + legend, head + panel.height + MARGIN_PX), PAPER)
    room = page.width - 2 * MARGIN_PX
    write_line(page, title, (MARGIN_PX, MARGIN_PX), TITLE_PX, INK, room)
    for line, note in enumerate(notes):
        top = MARGIN_PX + TITLE_PX + 16 + line * (TEXT_PX + 8)
        write_line(page, note, (MARGIN_PX, top), TEXT_PX, PALE_INK, room)
    page.paste(panel, (MARGIN_PX, head))
    if legend:
        _write_legend(ImageDraw.Draw(page), points, (MARGIN_PX + panel.width + 36, head + 20), panel.height - 40)
    return np.array(page)


def _write_legend(draw: ImageDraw.ImageDraw, points: Points, corner: tuple[int, int], height: int) -> None:
    """Write the groups from the largest on, with their counts; those that do not fit are counted together."""
    counts_G, colours = points.counts(), points.colours()
    order = [group for group in np.argsort(-counts_G, kind="stable") if counts_G[group]]
    lines = [(printable(points.names_G[group]), int(counts_G[group]), colours[group]) for group in order]
    n_rest = int((points.groups_S < 0).sum())
    rest = [("no label", n_rest, REST)] if n_rest else []
    fitting = max(1, min(height // ROW_PX - len(rest) - 1, MOST_COLOURS))
    if len(lines) > fitting:
        left_out = lines[fitting:]
        lines = [*lines[:fitting], (f"{len(left_out):,} more", sum(count for _, count, _ in left_out), REST)]
    left, top = corner
    right = left + LEGEND_PX - 50
    for name, count, colour in [*lines, *rest]:
        middle = top + ROW_PX // 2
        draw.ellipse((left, middle - 9, left + 18, middle + 9), fill=colour)
        number = f"{count:,}"
        font = ImageFont.load_default(TEXT_PX)
        shown = shortened(name, font, right - left - 44 - font.getlength(number))
        draw.text((left + 32, middle), shown, INK, font, anchor="lm")
        draw.text((right, middle), number, PALE_INK, font, anchor="rm")
        top += ROW_PX
