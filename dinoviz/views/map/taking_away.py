"""Copies and saves the map that is seen, with its title and legend."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtGui import QImage

from dinoviz.desk import Desk
from dinoviz.saving import copy_image, save_image
from dinoviz.views.map import sheet as map_sheet
from dinoviz.widgets.scatter.canvas import ScatterCanvas
from dinoviz.widgets.scatter.colouring import Colouring
from dinoviz.words import tr
from dinoviz.written import tell_written
from engine.errors import UserError
from engine.store import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A map as it is seen: its canvas, what is written around it, and how a number of the canvas is called."""

    canvas: ScatterCanvas
    sheet: map_sheet.Sheet
    name: Callable[[int], str]

    def picture(self) -> Callable[[], QImage]:
        """Return what makes the whole picture; it may be called in another thread."""
        sheet, drawn = self.sheet, self.canvas.renderer(map_sheet.MAP_SIZE, map_sheet.RATIO)
        return lambda: map_sheet.picture(sheet, drawn())


def legend_keys(colouring: Colouring | None, colours_K3: NDArray[np.uint8]) -> list[map_sheet.Key]:
    """Return the rows of a legend."""
    if colouring is None:
        return []
    keys = []
    for group in colouring.groups:
        red, green, blue = colours_K3[group.code].tolist()
        keys.append(map_sheet.Key((red, green, blue), group.text, f"{group.count:,}"))
    return keys


def copy(desk: Desk, seen: Seen) -> None:
    """Put a map on the clipboard."""
    copy_image(desk, seen.picture())


def save(desk: Desk, seen: Seen, path: Path) -> None:
    """Write a map, as a drawing where the path ends in ``.svg``, else as a picture; say so, or why not."""
    if path.suffix != ".svg":
        save_image(desk, path, seen.picture())
        return
    points, groups = seen.canvas.points_in(map_sheet.MAP_SIZE), seen.canvas.names_in(map_sheet.MAP_SIZE)
    drawn = seen.canvas.renderer(map_sheet.MAP_SIZE, map_sheet.RATIO)

    def work() -> None:
        x_P, y_P, numbers_P, colours_P, diameter = points
        names = [seen.name(number) for number in numbers_P[: map_sheet.MOST_CIRCLES].tolist()]
        circles = map_sheet.Circles(
            x_P=x_P, y_P=y_P, colours_P=colours_P, names=names, diameter=diameter, groups=groups
        )
        text = map_sheet.drawing(seen.sheet, circles, drawn)
        write_atomically(path, lambda file: file.write(text.encode()))

    def failed(problem: Exception) -> None:
        hint = problem.hint if isinstance(problem, UserError) else tr("Choose another folder.")
        desk.session.notify("error", tr("'{name}' was not saved: {problem}", name=path.name, problem=problem), hint)

    desk.background("", work, lambda _: tell_written(desk, path), failed)
