"""Contact sheets of pictures of a project, for the commands that list some: pages of rows of pictures with captions.

A picture that cannot be read any more is grey on its page, and told of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import UnreadablePicture
from engine.images import thumbnail
from engine.protocol import Made, Tell
from engine.provenance import Provenance
from engine.seeing.drawing import HEAD_COLOURS, PALE_INK, Tile, sheet, write_png
from engine.timing import Pace

COLUMNS, SIDE_PX = 8, 190
"""Pictures in a row and the side of each: a page is 1,700 px wide, which a screen shows without shrinking it."""
CELLS_A_PAGE = 64
"""As many rows as columns."""
MOST_PAGES = 10
"""Of a sheet: more than 640 pictures nobody looks through; the lists have them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One picture of a sheet. Cells of one ``group`` have a dot of the same colour; none where it is None."""

    path: Path
    caption: str
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Cells in reading order, under a title and a line below it, on pages named ``stem``-1.png and so on."""

    stem: str
    title: str
    subtitle: str
    cells: Sequence[Cell]
    columns: int = COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFiles:
    """The pages that were written, the cells that had no place on them, and pictures that could not be read."""

    pages: list[Path]
    n_left_out: int
    unreadable: list[tuple[Path, str]]


def write_sheets(sheets: Sequence[Sheet], out: Path, about: Provenance, tell: Tell) -> SheetFiles:
    """Write sheets into a folder that is there; those without cells have no page.

    Args:
        sheets: what is on them.
        out: the folder.
        about: where they come from.
        tell: is told of each page.

    Raises:
        DiskFull: there is no room.
    """
    shown = [(one, number, cells) for one in sheets for number, cells in enumerate(_pages(one), start=1)]
    pages: list[Path] = []
    unreadable: list[tuple[Path, str]] = []
    pace = Pace("drawing", len(shown), "sheets", tell)
    for described, number, cells in shown:
        page = out / f"{described.stem}-{number}.png"
        unreadable += _draw(described, cells, page, about)
        pages.append(page)
        pace.reached(len(pages))
        tell(Made(what="sheet", path=str(page)))
    n_left_out = sum(len(one.cells) for one in sheets) - sum(len(cells) for _, _, cells in shown)
    return SheetFiles(pages=pages, n_left_out=n_left_out, unreadable=unreadable)


def _pages(described: Sheet) -> list[Sequence[Cell]]:
    a_page = CELLS_A_PAGE - CELLS_A_PAGE % described.columns
    cells = described.cells
    return [cells[start : start + a_page] for start in range(0, len(cells), a_page)][:MOST_PAGES]


def _draw(described: Sheet, cells: Sequence[Cell], page: Path, about: Provenance) -> list[tuple[Path, str]]:
    """Draw a page and return the pictures that could not be read, which are grey on it."""
    tiles, unreadable = [], []
    for cell in cells:
        try:
            picture_YX3 = thumbnail(cell.path, SIDE_PX)
        except UnreadablePicture as problem:
            picture_YX3 = np.full((SIDE_PX, SIDE_PX, 3), PALE_INK, np.uint8)
            unreadable.append((cell.path, problem.message))
        swatch = None if cell.group is None else HEAD_COLOURS[cell.group % len(HEAD_COLOURS)]
        tiles.append(Tile(picture_YX3, cell.caption, swatch))
    page_YX3 = sheet(
        tiles,
        title=described.title,
        subtitle=described.subtitle,
        columns=min(described.columns, len(tiles)),
        side_px=SIDE_PX,
        is_square=True,
    )
    write_png(page, page_YX3, about)
    return unreadable
