"""Maps as tables and drawings.

Letters after a name are its axes: M rows of the export · 2 across and up, in the map's own units, up is positive
"""

import base64
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.catalogue import MAP_METHODS
from engine.exporting.embeddings import picture_columns, picture_fields
from engine.exporting.table import LeftOut, Table, harmless, readable
from engine.finding.charts import REST, Points, point_chart
from engine.finding.labels import numbered
from engine.finding.map_files import PictureMap
from engine.provenance import KEY, Provenance
from engine.seeing.drawing import png_text

SIDE, MARGIN, LEGEND_WIDTH = 1000, 20, 280  # px of a drawing
POINT_AREA = 60_000  # square px that all points together cover, if none lay on another
RADII = (0.8, 4.0)  # least and greatest radius of a point, px
OPACITY = 0.75
MOST_POINTS = 100_000  # drawn one by one: 14 MB; more are drawn as one picture, or a browser takes minutes
MOST_LABELS = 40  # in the legend, those of most pictures, which have a colour of their own
LINE = 22  # px from a line of the legend to the next
LONGEST_LABEL = 32  # letters that fit into the legend
NO_LABEL = "no label"
NOT_ON_MAP = "not on the map"


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The rows of a table that lie on a map; ``positions_M2`` float32."""

    table: Table
    positions_M2: NDArray[np.float32]

    @classmethod
    def of(cls, table: Table, picture_map: PictureMap) -> "Placed":
        """Leave out the rows that have no place, and say which."""
        is_on_M = picture_map.is_on_N[table.rows_M]
        out = [LeftOut(table.pictures[i].path, NOT_ON_MAP) for i in np.flatnonzero(~is_on_M).tolist()]
        on = replace(
            table,
            rows_M=table.rows_M[is_on_M],
            pictures=[table.pictures[i] for i in np.flatnonzero(is_on_M).tolist()],
            left_out=[*table.left_out, *out],
        )
        return cls(on, picture_map.positions_N2[on.rows_M])


def facts(picture_map: PictureMap) -> dict[str, Any]:
    """Return what an export says about the making of a map."""
    about = picture_map.about
    plan = asdict(about.plan)
    return {"map": plan.pop("method"), "map_settings": plan, "step": about.step, "divergence": about.divergence}


def write_csv(placed: Placed, file: BinaryIO, about: Provenance) -> None:
    """Write text with a header: the columns about pictures, then x and y; formulas are made harmless."""
    import pyarrow.csv as pa_csv

    pa_csv.write_csv(_columns(placed, harmless), file)


def write_parquet(placed: Placed, file: BinaryIO, about: Provenance) -> None:
    """Write a Parquet table with the same columns; ``about`` is in the metadata of its schema."""
    import pyarrow.parquet as pq

    table = _columns(placed, str)
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(about)}), file, compression="zstd")


def _columns(placed: Placed, clean: Callable[[str], str]) -> Any:
    import pyarrow as pa

    names = [*(name for name, _ in picture_fields()), "x", "y"]
    places = [pa.array(np.ascontiguousarray(axis)) for axis in placed.positions_M2.T]
    return pa.table([*picture_columns(placed.table.pictures, clean), *places], names=names)


def write_png(placed: Placed, file: BinaryIO, about: Provenance) -> None:
    """Write the picture that ``engine map`` draws; ``about`` is a text in it."""
    Image.fromarray(point_chart(_points(placed), _title(placed, about))).save(file, "PNG", pnginfo=png_text(about))


def write_svg(placed: Placed, file: BinaryIO, about: Provenance) -> None:
    """Write a drawing: a point a picture in the colour of its label, its path shown when pointed at, and a legend.

    Points of a label are one group. More than ``MOST_POINTS`` are drawn as one picture, without paths.
    """
    draw = _svg_of_points if len(placed.table) <= MOST_POINTS else _svg_of_picture
    for part in draw(placed, about):
        file.write(part.encode())


def _title(placed: Placed, about: Provenance) -> str:
    return f"{MAP_METHODS[about['map']].title} map of {len(placed.table):,} pictures"


def _points(placed: Placed) -> Points:
    """Return what is drawn; a label is a group, no label is none."""
    names, groups_M = numbered([picture.label or None for picture in placed.table.pictures])
    return Points(placed.positions_M2, groups_M, [readable(name) for name in names])


def _svg_of_points(placed: Placed, about: Provenance) -> Iterator[str]:
    points = _points(placed)
    counts_G, colours = points.counts(), points.colours()
    order = np.argsort(-counts_G, kind="stable").tolist()
    yield _head(_title(placed, about), about, (SIDE + LEGEND_WIDTH, SIDE))
    at_M2, radius = on_paper(placed.positions_M2), radius_of(len(placed.table))
    for group in [-1, *order]:  # those without a label below all others
        rows = np.flatnonzero(points.groups_S == group)
        name, colour = (points.names_G[group], colours[group]) if group >= 0 else (NO_LABEL, REST)
        if not len(rows):
            continue
        yield f'<g fill="{_hex(colour)}" fill-opacity="{OPACITY}"><desc>{_text(name)}</desc>\n'
        for row, (x, y) in zip(rows.tolist(), at_M2[rows].tolist(), strict=True):
            path = _text(placed.table.pictures[row].path)
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{path}</title></circle>\n'
        yield "</g>\n"
    lines = [(points.names_G[group], _hex(colours[group]), int(counts_G[group])) for group in order]
    yield from _legend(lines, int((points.groups_S < 0).sum()))
    yield "</svg>\n"


def _svg_of_picture(placed: Placed, about: Provenance) -> Iterator[str]:
    title = _title(placed, about)
    picture_YX3 = point_chart(_points(placed), title)
    rows, cols = picture_YX3.shape[:2]
    written = io.BytesIO()
    Image.fromarray(picture_YX3).save(written, "PNG")
    yield _head(title, about, (cols, rows))
    data = base64.b64encode(written.getvalue()).decode()
    yield f'<image width="{cols}" height="{rows}" href="data:image/png;base64,{data}"/>\n</svg>\n'


def _head(title: str, about: Provenance, size: tuple[int, int]) -> str:
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" \
font-family="sans-serif" font-size="14">
<title>{_text(title)}</title>
<metadata>{_text(json.dumps(about))}</metadata>
<rect width="100%" height="100%" fill="#ffffff"/>
"""


def on_paper(positions_M2: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return positions in px of a drawing, down positive; both axes have one scale, the middle is in the middle."""
    exact_M2 = positions_M2.astype(np.float64)
    low_2, high_2 = exact_M2.min(axis=0), exact_M2.max(axis=0)
    scale = (SIDE - 2 * MARGIN) / max(float((high_2 - low_2).max()), float(np.finfo(np.float32).tiny))
    return np.asarray((exact_M2 - (low_2 + high_2) / 2) * (scale, -scale) + SIDE / 2)


def radius_of(n: int) -> float:
    """Return the radius of a point where there are ``n``, px."""
    least, most = RADII
    return round(min(most, max(least, math.sqrt(POINT_AREA / (math.pi * n)))), 2)


def _legend(lines: list[tuple[str, str, int]], n_without: int) -> Iterator[str]:
    """Write the labels of most pictures, then how many more there are, and how many pictures have none."""
    left_out = lines[MOST_LABELS:]
    lines = lines[:MOST_LABELS]
    if left_out:
        lines.append((f"{len(left_out):,} more labels", _hex(REST), sum(count for *_, count in left_out)))
    if n_without:
        lines.append((NO_LABEL, _hex(REST), n_without))
    yield '<g fill="#202020">\n'
    for i, (name, colour, count) in enumerate(lines):
        y = MARGIN + LINE * (i + 0.5)
        shown = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        yield f'<circle cx="{SIDE + 8}" cy="{y}" r="6" fill="{colour}"/>'
        yield f'<text x="{SIDE + 22}" y="{y + 5}">{_text(shown)} ({count:,})</text>\n'
    yield "</g>\n"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{level:02x}" for level in colour)


def _text(text: str) -> str:
    """Return text for XML, which cannot hold control characters at all."""
    return escape("".join(letter if letter.isprintable() else " " for letter in readable(text)))


FILES = {"csv": write_csv, "parquet": write_parquet, "png": write_png, "svg": write_svg}
