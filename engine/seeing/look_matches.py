"""Alike patches of a list of files, written as pictures and arrays: what ``look likeness`` and ``look matches`` call.

Letters after a name are its axes:
    R C rows and columns of patches · D width · M matches · Y X pixels · 3 colours, RGB
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe, UnreadablePicture
from engine.images import open_rgb
from engine.models.weights import Backbone
from engine.seeing.drawing import Colour, ColourMap, Picture, Tile, fitted, heatmap, overlay, sheet, within, write_png
from engine.seeing.files import (
    DRAWN_PX,
    Files,
    Listener,
    Looked,
    each_picture,
    file_stems,
    names_of,
    prepare_folder,
    write_json,
)
from engine.seeing.grid import Grid, box_in_pixels
from engine.seeing.links import add_scale, calm, draw_links, grey, line_colours, mark_place, pair
from engine.seeing.look_patches import SHEET_PICTURES
from engine.seeing.masks import Area
from engine.seeing.matches import Correspondence, Matches, correspondence, likeness_maps, mutual_matches, spread_out
from engine.seeing.patch_features import PatchFeatures, PatchGaze
from engine.seeing.patches import Foreground, flat
from engine.store import write_atomically

Place = tuple[Literal["patch", "pixel"], int, int]
"""A patch by row and column, or the patch under a pixel by x and y."""

LIKENESS_COLOURS: ColourMap = "inferno"
ASKED: Colour = (90, 255, 240)
BEST: Colour = (255, 255, 255)
"""Frames of the patch that was asked for and of the one most alike in each other picture."""
HEAT = 0.72
"""Opacity of the likeness over its picture."""
TILE_PX = 380
MOST = 30
"""Lines that can still be followed by eye."""


def look_likeness(
    backbone: Backbone,
    paths: Sequence[Path],
    out: Path,
    gaze: PatchGaze,
    place: Place,
    *,
    seen: Callable[[int], object] | None = None,
    after_each: Listener | None = None,
) -> list[Looked]:
    """Write how alike all patches of some pictures are to one patch of the first, on one scale of colours.

    For a picture ``horse.jpg``: ``horse-likeness.png`` and ``horse-likeness.npz`` with ``cosine`` float16 (rows, cols)
    and ``about``, a JSON string. For all: ``likeness-sheet.png``, and ``likeness.json`` with the best patch of each.

    Args:
        backbone: with its normalisation.
        paths: pictures; the patch is one of the first.
        out: folder for the files; made where absent.
        gaze: how pictures are seen.
        place: the patch.
        seen: is told how many pictures have been seen; they are drawn after that.
        after_each: is told of each picture.

    Raises:
        BadInput: the first picture cannot be read, or ``out`` holds one of the pictures.
        BadRecipe: no such patch, pixel or layer.
        DiskFull: there is no room.
    """
    prepare_folder(out, paths)
    picture_YX3 = _opened(paths[0])
    first = gaze.see(backbone, picture_YX3)
    row, col = _patch(place, first.grid, picture_YX3.shape[:2])
    query_D = first.features_RCD[row, col]
    names = list(file_stems(paths))
    maps = {names[0]: likeness_maps(query_D, [first.features_RCD])[0]}
    for n, (path, stem) in enumerate(zip(paths, names, strict=True), start=1):
        # A picture that cannot be read is told of when its turn to be drawn comes.
        with contextlib.suppress(UnreadablePicture):
            if stem not in maps:
                maps[stem] = likeness_maps(query_D, [gaze.see(backbone, open_rgb(path)).features_RCD])[0]
        if seen:
            seen(n)
    query = {"picture": paths[0].name, "row": row, "col": col}
    about = backbone.provenance(**gaze.facts(backbone), query=query)
    work = _Likeness(maps=maps, asked=(names[0], row, col), patch=first.grid.patch, gaze=gaze, about=about)
    rows = []
    for looked in each_picture(paths, out, work.draw):
        rows.append(looked)
        if after_each:
            after_each(looked)
    work.write_all(out, rows)
    return rows


class _Likeness:
    """Draws the maps of all pictures on one scale, and remembers where each is most alike."""

    def __init__(
        self,
        maps: Mapping[str, NDArray[np.float32]],
        asked: tuple[str, int, int],
        patch: int,
        gaze: PatchGaze,
        about: Mapping[str, object],
    ) -> None:
        self._maps, self._patch, self._gaze = maps, patch, gaze
        self._stem, *place = asked
        self._place = (place[0], place[1])
        self._span = self._common_span()
        self._about = {**about, "span": self._span}
        self._found: dict[str, dict[str, object]] = {}
        self._tiles: list[Tile] = []

    def _common_span(self) -> tuple[float, float]:
        """Return the least and the greatest cosine of all pictures, but for that of the patch with itself."""
        others = {stem: map_RC.copy() for stem, map_RC in self._maps.items()}
        others[self._stem][self._place] = np.nan
        values_P = np.concatenate([map_RC.ravel() for map_RC in others.values()])
        values_P = values_P[np.isfinite(values_P)]
        return (float(values_P.min()), float(values_P.max())) if len(values_P) else (0.0, 1.0)

    def draw(self, picture_YX3: Picture, files: Files) -> Mapping[str, Area]:
        map_RC = self._maps[files.stem]
        grid = Grid.of(picture_YX3.shape[:2], patch=self._patch, side=self._gaze.side, is_square=self._gaze.is_square)
        is_asked = files.stem == self._stem
        best = self._place if is_asked else np.unravel_index(int(map_RC.argmax()), map_RC.shape)
        row, col = int(best[0]), int(best[1])
        y, x = _middle(grid, row, col, picture_YX3.shape[:2])
        self._found[files.stem] = {"row": row, "col": col, "y": y, "x": x, "cosine": float(map_RC[row, col])}
        canvas_YX3 = within(picture_YX3, DRAWN_PX)
        drawn_YX3 = self._heat(canvas_YX3, map_RC, grid)
        framed_YX3 = mark_place(drawn_YX3, _box(grid, row, col, canvas_YX3.shape[:2]), ASKED if is_asked else BEST)
        files.png("likeness", framed_YX3, self._about)
        files.npz("likeness", {"cosine": map_RC.astype(np.float16), "about": np.array(json.dumps(self._about))})
        if len(self._tiles) < SHEET_PICTURES:
            # Drawn again at the size of the sheet: a frame that is shrunk with its picture is hardly seen.
            small_YX3 = fitted(picture_YX3, TILE_PX, TILE_PX)
            heat_YX3 = self._heat(small_YX3, map_RC, grid)
            frame = _box(grid, row, col, small_YX3.shape[:2])
            caption = f"{files.stem}: {'the patch asked for' if is_asked else f'best {map_RC[row, col]:.2f}'}"
            self._tiles.append(Tile(mark_place(heat_YX3, frame, ASKED if is_asked else BEST), caption))
        return {}

    def _heat(self, picture_YX3: Picture, map_RC: NDArray, grid: Grid) -> Picture:
        heat_YX3 = heatmap(map_RC, grid, picture_YX3.shape[:2], colours=LIKENESS_COLOURS, span=self._span)
        return overlay(grey(picture_YX3), heat_YX3, HEAT)

    def write_all(self, out: Path, rows: Sequence[Looked]) -> None:
        """Write the sheet of all pictures and the list of the best places."""
        paths = [row.path for row in rows]
        pictures = [
            {"picture": name, "size": row.size, "best": self._found.get(stem), "problem": row.problem}
            for name, stem, row in zip(names_of(paths), file_stems(paths), rows, strict=True)
        ]
        write_json(out / "likeness.json", {"about": self._about, "pictures": pictures})
        title = f"likeness to patch {self._place[0]}, {self._place[1]} of {self._stem}"
        page_YX3 = sheet(self._tiles, title=title, subtitle=_subtitle(self._about), side_px=TILE_PX)
        page_YX3 = add_scale(page_YX3, LIKENESS_COLOURS, *self._span, name="cosine")
        write_png(out / "likeness-sheet.png", page_YX3, self._about)


def _subtitle(about: Mapping[str, object]) -> str:
    return f"layer {about['layer']} · {about['side_px']} px · {about['model']}"


def _patch(place: Place, grid: Grid, size: tuple[int, int]) -> tuple[int, int]:
    """Return row and column of a place.

    Raises:
        BadRecipe: it lies outside the picture.
    """
    kind, first, second = place
    if kind == "pixel":
        if not (0 <= first < size[1] and 0 <= second < size[0]):
            raise BadRecipe(
                f"There is no pixel at x {first}, y {second}.", f"The picture is {size[1]} wide and {size[0]} high."
            )
        return grid.patch_at(second, first, size)
    grid.check_patch(first, second)
    return first, second


def _middle(grid: Grid, row: int, col: int, size: tuple[int, int]) -> tuple[float, float]:
    """Return the middle of a patch in pixels of a picture of this size, y and x."""
    y, x, _, _ = box_in_pixels((row + 0.5, col + 0.5, row + 0.5, col + 0.5), grid, size)
    return round(y, 2), round(x, 2)


def _box(grid: Grid, row: int, col: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of a patch in whole pixels of a picture of this size; at least one pixel."""
    top, left, bottom, right = map(round, box_in_pixels((row, col, row + 1, col + 1), grid, size))
    return top, left, max(top + 1, bottom), max(left + 1, right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which matches are drawn: at most so many, of at least this cosine, both ends in the foreground or anywhere."""

    most: int = MOST
    least: float = -1.0
    is_foreground: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """What became of two pictures: files, patches that match each other, how many of them are drawn."""

    files: tuple[Path, ...]
    n_mutual: int
    n_fit: int
    n_drawn: int
    cosines: tuple[float, ...]


def look_matches(
    backbone: Backbone, paths: tuple[Path, Path], out: Path, gaze: PatchGaze, choice: Choice | None = None
) -> Matched:
    """Write which patches of two pictures are each other's best match.

    ``matches.png`` has the pictures side by side and a line for each match that is drawn; ``matches.json`` lists these;
    ``matches.npz`` has the whole: ``of_first`` (rows, cols, 2), row and column of the best match in the second picture,
    ``cosine_of_first``, ``mutual``, ``foreground_of_first``, the same of the second, and ``about``, a JSON string.

    Args:
        backbone: with its normalisation.
        paths: the two pictures.
        out: folder for the files; made where absent.
        gaze: how they are seen.
        choice: which matches are drawn.

    Raises:
        BadInput: a picture cannot be read, or ``out`` holds one of them.
        BadRecipe: a value of the choice is out of range, or there is no such layer.
        DiskFull: there is no room.
    """
    choice = choice or Choice()
    _check(choice)
    prepare_folder(out, paths)
    pictures = [_opened(path) for path in paths]
    seen = [gaze.see(backbone, picture_YX3) for picture_YX3 in pictures]
    between = matches_between(seen[0].features_RCD, seen[1].features_RCD, choice)
    every, fit, drawn = between.every, between.fit, between.drawn
    chosen = {"most": choice.most, "least": choice.least, "foreground": "auto" if choice.is_foreground else "off"}
    about = backbone.provenance(**gaze.facts(backbone), **chosen)
    sizes = [picture_YX3.shape[:2] for picture_YX3 in pictures]
    listed = _listed(drawn, seen, sizes)
    files = tuple(out / f"matches.{ending}" for ending in ("png", "json", "npz"))
    title = f"{len(listed)} of {len(every.cosine_M):,} mutual best matches · {paths[0].stem} and {paths[1].stem}"
    write_png(files[0], _drawing(pictures, listed, title, about), about)
    counts = {"mutual": len(every.cosine_M), "fit": len(fit.cosine_M), "drawn": len(listed)}
    described = [
        {"picture": name, "size": size, "rows": one.grid.rows, "cols": one.grid.cols}
        for name, size, one in zip(names_of(paths), sizes, seen, strict=True)
    ]
    write_json(files[1], {"about": about, "pictures": described, **counts, "matches": listed})
    arrays = _arrays(between.found, seen, between.is_subject)
    write_atomically(
        files[2],
        lambda file: np.savez_compressed(file, allow_pickle=False, **arrays, about=np.array(json.dumps(about))),
    )
    return Matched(
        files=files,
        n_mutual=counts["mutual"],
        n_fit=counts["fit"],
        n_drawn=counts["drawn"],
        cosines=tuple(drawn.cosine_M.tolist()),
    )


class Between(NamedTuple):
    """What was found between two pictures: best matches, mutual ones, those that fit a choice, those to be drawn.

    ``is_subject`` says which patches of each may be matched.
    """

    found: Correspondence
    every: Matches
    fit: Matches
    drawn: Matches
    is_subject: list[NDArray[np.bool_]]


def matches_between(first_RCD: NDArray[np.float32], second_RCD: NDArray[np.float32], choice: Choice) -> Between:
    """Return the matches between the patches of two pictures, as ``look_matches`` writes them."""
    is_subject = _foregrounds([first_RCD, second_RCD], choice)
    found = correspondence(flat(first_RCD), flat(second_RCD))
    every = mutual_matches(found, first_RCD.shape[1], second_RCD.shape[1])
    is_inside_M = is_subject[0][tuple(every.first_M2.T)] & is_subject[1][tuple(every.second_M2.T)]
    fit = every.chosen(is_inside_M & (every.cosine_M >= choice.least))
    return Between(found, every, fit, spread_out(fit, choice.most), is_subject)


def _check(choice: Choice) -> None:
    if choice.most < 1:
        raise BadRecipe(f"{choice.most} matches cannot be drawn.", "Choose 1 or more.")
    if not -1 <= choice.least <= 1:
        raise BadRecipe(f"No cosine is {choice.least:g}.", "Choose a least cosine between -1 and 1.")


def _opened(path: Path) -> Picture:
    try:
        return open_rgb(path)
    except UnreadablePicture as problem:
        raise BadInput(f"'{path}' cannot be read: {problem.message}.") from problem


def _foregrounds(features: Sequence[NDArray[np.float32]], choice: Choice) -> list[NDArray[np.bool_]]:
    """Return the patches of each picture that may be matched; of two pictures the axis is one."""
    if not choice.is_foreground:
        return [np.ones(features_RCD.shape[:2], dtype=np.bool_) for features_RCD in features]
    foreground = Foreground.fit(features)
    return [foreground.found(features_RCD, is_opened=True) for features_RCD in features]


def _listed(matches: Matches, seen: Sequence[PatchFeatures], sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return matches as rows for JSON, most alike first: the patch and its middle in either picture, the cosine."""
    rows = []
    for first_2, second_2, cosine in zip(matches.first_M2, matches.second_M2, matches.cosine_M, strict=True):
        ends = {}
        for name, (row, col), one, size in zip(("first", "second"), (first_2, second_2), seen, sizes, strict=True):
            y, x = _middle(one.grid, int(row), int(col), size)
            ends[name] = {"row": int(row), "col": int(col), "y": y, "x": x}
        rows.append({**ends, "cosine": round(float(cosine), 4)})
    return rows


def _drawing(pictures: Sequence[Picture], listed: Sequence[Mapping[str, Any]], title: str, about: Mapping) -> Picture:
    canvas_YX3, places = pair(*(calm(within(picture_YX3, DRAWN_PX)) for picture_YX3 in pictures))
    ends = []
    for name, picture_YX3, (left, top, width) in zip(("first", "second"), pictures, places, strict=True):
        scale = width / picture_YX3.shape[1]
        ends.append(np.array([(top + row[name]["y"] * scale, left + row[name]["x"] * scale) for row in listed]))
    drawn_YX3 = draw_links(canvas_YX3, ends[0], ends[1], line_colours(len(listed)))
    span = f" · cosine {listed[-1]['cosine']:.2f} to {listed[0]['cosine']:.2f}" if listed else ""
    subtitle = f"{_subtitle(about)}{span}"
    return sheet([Tile(drawn_YX3, "")], title=title, subtitle=subtitle, side_px=max(drawn_YX3.shape[:2]))


def _arrays(
    found: Correspondence, seen: Sequence[PatchFeatures], is_subject: Sequence[NDArray[np.bool_]]
) -> dict[str, NDArray]:
    (rows, cols), (other_rows, other_cols) = ((one.grid.rows, one.grid.cols) for one in seen)
    places_of_first_P2 = np.stack(np.divmod(found.of_first_P, other_cols), axis=1)
    places_of_second_Q2 = np.stack(np.divmod(found.of_second_Q, cols), axis=1)
    return {
        "of_first": places_of_first_P2.reshape(rows, cols, 2).astype(np.int32),
        "cosine_of_first": found.cosine_of_first_P.reshape(rows, cols),
        "of_second": places_of_second_Q2.reshape(other_rows, other_cols, 2).astype(np.int32),
        "cosine_of_second": found.cosine_of_second_Q.reshape(other_rows, other_cols),
        "mutual": found.is_mutual_P.reshape(rows, cols),
        "foreground_of_first": is_subject[0],
        "foreground_of_second": is_subject[1],
    }
