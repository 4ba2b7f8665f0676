"""Contact sheets of pictures of a project, for the commands that list some.

Drawing loads torch, which may not meet faiss in one process on macOS: pages are drawn in a process of their own.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from engine.errors import UnreadablePicture
from engine.images import thumbnail
from engine.protocol import Made, Tell
from engine.timing import Pace

SIDE_PX = 190
CELLS_A_PAGE = 64
MOST_PAGES = 10
COLUMNS = 8


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


def write_sheets(sheets: Sequence[Sheet], out: Path, tell: Tell) -> SheetFiles:
    """Write sheets into a folder that is there; those without cells have no page.

    Raises:
        DiskFull: there is no room.
    """
    shown = [(sheet, number, cells) for sheet in sheets for number, cells in enumerate(_pages(sheet), start=1)]
    pages, unreadable = [], []
    pace = Pace("drawing", len(shown), "sheets", tell)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as drawer:
        for sheet, number, cells in shown:
            page = out / f"{sheet.stem}-{number}.png"
            unreadable += drawer.submit(_draw, sheet, cells, page).result()
            pages.append(page)
            pace.reached(len(pages))
            tell(Made(what="sheet", path=str(page)))
    n_left_out = sum(len(sheet.cells) for sheet in sheets) - sum(len(cells) for _, _, cells in shown)
    return SheetFiles(pages=pages, n_left_out=n_left_out, unreadable=unreadable)


def _pages(sheet: Sheet) -> list[Sequence[Cell]]:
    a_page = CELLS_A_PAGE - CELLS_A_PAGE % sheet.columns
    return [sheet.cells[start : start + a_page] for start in range(0, len(sheet.cells), a_page)][:MOST_PAGES]


def _draw(about: Sheet, cells: Sequence[Cell], page: Path) -> list[tuple[Path, str]]:
    """Draw a page, each picture in a square, and return those that could not be read, which are grey on it."""
    import numpy as np

    from engine.seeing.drawing import HEAD_COLOURS, PALE_INK, PAPER, Tile, sheet, write_png

    tiles, unreadable = [], []
    for cell in cells:
        square_YX3 = np.full((SIDE_PX, SIDE_PX, 3), PAPER, np.uint8)
        try:
            picture_YX3 = thumbnail(cell.path, SIDE_PX)
        except UnreadablePicture as problem:
            picture_YX3 = np.full((SIDE_PX, SIDE_PX, 3), PALE_INK, np.uint8)
            unreadable.append((cell.path, problem.message))
        height, width = picture_YX3.shape[:2]
        top, left = (SIDE_PX - height) // 2, (SIDE_PX - width) // 2
        square_YX3[top : top + height, left : left + width] = picture_YX3
        swatch = None if cell.group is None else HEAD_COLOURS[cell.group % len(HEAD_COLOURS)]
        tiles.append(Tile(square_YX3, cell.caption, swatch))
    columns = min(about.columns, len(tiles))
    page_YX3 = sheet(tiles, title=about.title, subtitle=about.subtitle, columns=columns, side_px=SIDE_PX)
    write_png(page, page_YX3)
    return unreadable
