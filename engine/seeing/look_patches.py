"""Patches of a list of files in colours, written as pictures and arrays: what ``engine look patches`` calls.

Pictures are coloured one by one. Where they share a palette it is fitted on whole pictures drawn by a seed,
as many as fit in memory; their features are kept, the others are computed when they are coloured.

Letters after a name are its axes:
    R C rows and columns of patches · D width · Y X pixels · 3 colours, RGB
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.errors import UnreadablePicture
from engine.images import open_rgb
from engine.models.weights import Backbone
from engine.seeing.drawing import PAPER, Picture, Tile, fitted, sheet, within, write_png
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
from engine.seeing.grid import Grid
from engine.seeing.masks import Area, area
from engine.seeing.palette import Coloured, Palette, PatchStyle
from engine.seeing.patch_features import PatchFeatures, PatchGaze
from engine.seeing.patches import Rule

FIT_PATCHES = 200_000
"""Patches that a palette is fitted on: components of 768 numbers are settled long before."""
FIT_BYTES = 512 * 2**20
"""Features kept in memory for it; wide ones give fewer patches."""
SHEET_PICTURES = 60
SHEET_PX = 1500
"""Pictures on the sheet, and about how wide it is where they are few."""
TILE_LEAST_PX, TILE_MOST_PX = 260, 900
PAIR_GAP_PX = 6

RULES: dict[Rule, str] = {
    "otsu": "Otsu's threshold",
    "mean": "the mean, as Otsu's threshold parts off hardly anything",
    "given": "given",
    "off": "no foreground asked for",
    "none": "hardly a patch lies above the threshold: all patches are coloured",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How pictures share a palette.

    ``palette`` is one that exists; otherwise, where ``is_together``, one is fitted on all pictures, and
    else one on each. ``seed`` draws the pictures to fit on, where all are too many.
    """

    palette: Palette | None = None
    is_together: bool = False
    seed: int = 0


def _ignore(_told: object) -> None:
    """Hear nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Who is told what: a sentence for the person, the number of pictures seen to fit on, the palette, each picture."""

    say: Callable[[str], object] = _ignore
    seen: Callable[[int], object] = _ignore
    fitted: Callable[[Palette], object] = _ignore
    done: Listener = _ignore


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is needed for each picture and what comes of it."""

    backbone: Backbone
    gaze: PatchGaze
    style: PatchStyle
    palette: Palette | None
    is_smooth: bool
    kept: dict[str, PatchFeatures]
    about: dict[str, object]
    reports: Reports
    tile_px: int
    rules: Counter[Rule] = field(default_factory=Counter)
    cuts: dict[str, float | None] = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)


def look_patches(
    backbone: Backbone,
    paths: Sequence[Path],
    out: Path,
    gaze: PatchGaze,
    style: PatchStyle | None = None,
    share: Share | None = None,
    *,
    is_smooth: bool = False,
    reports: Reports | None = None,
) -> list[Looked]:
    """Write the patches of each picture in colours.

    For a picture ``horse.jpg``: ``horse-patches.png`` in the size of the picture, at most ``DRAWN_PX``;
    ``horse-patches-grid.png`` with a pixel a patch; ``horse-patches.npz`` with ``scores`` float16 (rows, cols, 3),
    ``foreground`` bool, ``subject`` float16, the first component in standard deviations (NaN where none is told),
    ``colours`` uint8, and ``about``, a JSON string. For all: ``patches.json`` and ``patches-sheet.png``.

    Args:
        backbone: with its normalisation.
        paths: pictures.
        out: folder for the files; made where absent.
        gaze: how pictures are seen.
        style: how patches are coloured; that of ``share.palette`` where there is one.
        share: how pictures share a palette.
        is_smooth: interpolate between patches.
        reports: who is told what meanwhile; what is raised there ends the work.

    Raises:
        BadInput: ``out`` holds one of the pictures.
        BadRecipe: no such layer, or a palette for other features.
        DiskFull: there is no room.
    """
    share, style, reports = share or Share(), style or PatchStyle(), reports or Reports()
    prepare_folder(out, paths)
    palette, kept = share.palette, {}
    if palette:
        style = PatchStyle(name=palette.style, is_opened=palette.is_opened)
    elif share.is_together:
        kept = _to_fit_on(backbone, gaze, paths, share.seed, reports)
        about = backbone.provenance(**gaze.facts(backbone), pictures=len(kept))
        palette = _fit_together(kept, style, about, len(paths), reports) if kept else None
    n_tiles = min(len(paths), SHEET_PICTURES)
    work = _Work(
        backbone=backbone,
        gaze=gaze,
        style=style,
        palette=palette,
        is_smooth=is_smooth,
        kept=kept,
        about=backbone.provenance(**gaze.facts(backbone)),
        reports=reports,
        tile_px=int(np.clip(SHEET_PX / np.sqrt(n_tiles), TILE_LEAST_PX, TILE_MOST_PX)),
    )
    rows: list[Looked] = []
    try:
        for row in each_picture(paths, out, lambda picture_YX3, files: _draw(work, picture_YX3, files)):
            rows.append(row)
            reports.done(row)
    finally:
        if rows:
            _write_list(out / "patches.json", work, paths, rows)
            _write_sheet(out / "patches-sheet.png", work, rows)
    if palette is None:
        _say_rules(work, reports)
    return rows


def _to_fit_on(
    backbone: Backbone, gaze: PatchGaze, paths: Sequence[Path], seed: int, reports: Reports
) -> dict[str, PatchFeatures]:
    """Return the features of pictures drawn at random until memory is full, in the order of the pictures."""
    names = list(file_stems(paths))
    found: dict[int, PatchFeatures] = {}
    room = FIT_PATCHES
    for i in np.random.default_rng(seed).permutation(len(paths)).tolist():
        if room <= 0:
            break
        try:
            seen = gaze.see(backbone, open_rgb(paths[i]))
        except UnreadablePicture:
            continue  # it is told of when its turn to be coloured comes
        found[i] = seen
        room = min(room, FIT_BYTES // seen.features_RCD[0, 0].nbytes) if len(found) == 1 else room
        room -= seen.grid.rows * seen.grid.cols
        reports.seen(len(found))
    return {names[i]: found[i] for i in sorted(found)}


def _fit_together(
    kept: Mapping[str, PatchFeatures], style: PatchStyle, about: Mapping[str, object], n_pictures: int, reports: Reports
) -> Palette:
    palette = Palette.fit([seen.features_RCD for seen in kept.values()], style, about)
    if len(kept) < n_pictures:
        reports.say(f"The colours are fitted on {len(kept):,} of {n_pictures:,} pictures.")
    if palette.foreground is None:
        reports.say(f"Foreground: {RULES[palette.rule]}.")
    else:
        threshold = palette.foreground.threshold
        is_above = [(palette.foreground.scores(seen.features_RCD) > threshold).ravel() for seen in kept.values()]
        reports.say(
            f"Foreground: {np.concatenate(is_above).mean():.0%} of the patches, above {threshold:.2f} standard "
            f"deviations of the first component ({RULES[palette.rule]}). If it is the ground, add --flip-foreground."
        )
    reports.fitted(palette)
    return palette


def _say_rules(work: _Work, reports: Reports) -> None:
    counted = "; ".join(f"{RULES[rule]}: {n:,}" for rule, n in work.rules.most_common())
    if counted and set(work.rules) != {"off"}:
        reports.say(f"Foreground, pictures by rule: {counted}. Where it is the ground, add --flip-foreground.")


def _draw(work: _Work, picture_YX3: Picture, files: Files) -> Mapping[str, Area]:
    seen = work.kept.pop(files.stem, None) or work.gaze.see(work.backbone, picture_YX3)
    palette = work.palette or Palette.fit([seen.features_RCD], work.style, work.about)
    coloured, grid = palette.colour(seen.features_RCD), seen.grid
    threshold = palette.foreground.threshold if palette.foreground else None
    if work.palette is None:
        work.reports.fitted(palette)
    work.rules[palette.rule] += 1
    work.cuts[files.stem] = threshold
    fitted = {"fitted_on": dict(palette.about)} if work.palette else {}
    about = {
        **work.about,
        "style": palette.style,
        "foreground": palette.rule,
        "threshold": threshold,
        "is_opened": palette.is_opened,
        **fitted,
        "picture": picture_YX3.shape[:2],
        "resized": grid.resized,
    }
    canvas_YX3 = within(picture_YX3, DRAWN_PX)
    drawn_YX3 = spread_colours(coloured, grid, canvas_YX3.shape[:2], is_smooth=work.is_smooth)
    files.png("patches", drawn_YX3, about)
    files.png("patches-grid", coloured.colours_RC3, about)
    arrays = {
        "scores": coloured.scores_RC3.astype(np.float16),
        "foreground": coloured.is_foreground_RC,
        "subject": coloured.subject_RC.astype(np.float16),
        "colours": coloured.colours_RC3,
    }
    files.npz("patches", {**arrays, "about": np.array(json.dumps(about))})
    if len(work.tiles) < SHEET_PICTURES:
        work.tiles.append(Tile(_pair(canvas_YX3, coloured, grid, work), files.stem))
    return {"foreground": area(grid.spread(coloured.is_foreground_RC, picture_YX3.shape[:2]))}


def spread_colours(coloured: Coloured, grid: Grid, size: tuple[int, int], *, is_smooth: bool = False) -> Picture:
    """Return patches in colours as pixels of a picture, squares or interpolated.

    Args:
        coloured: from ``Palette.colour``.
        grid: where the patches lie.
        size: height and width of the picture, or of any copy of it.
        is_smooth: interpolate colours and the outline of the foreground, which no black bleeds into.
    """
    if not is_smooth:
        return grid.spread(coloured.colours_RC3, size)
    inside_RC = coloured.is_foreground_RC.astype(np.float32)
    inside_YX = grid.spread_smoothly(inside_RC, size)
    weight_YX = np.maximum(inside_YX, 0.5)
    channels = [
        grid.spread_smoothly(coloured.colours_RC3[..., i] * inside_RC, size) / weight_YX
        for i in range(coloured.colours_RC3.shape[-1])
    ]
    levels_YX3 = np.stack(channels, axis=-1) * (inside_YX > 0.5)[..., None]
    return levels_YX3.clip(0, 255).round().astype(np.uint8)


def _pair(picture_YX3: Picture, coloured: Coloured, grid: Grid, work: _Work) -> Picture:
    """Put a picture and its colours side by side, at the size they have on the sheet."""
    side_px = work.tile_px // 2
    picture_YX3 = fitted(picture_YX3, side_px, side_px)
    size = (picture_YX3.shape[0], picture_YX3.shape[1])
    gap_YX3 = np.full((size[0], PAIR_GAP_PX, 3), PAPER, dtype=np.uint8)
    colours_YX3 = spread_colours(coloured, grid, size, is_smooth=work.is_smooth)
    return np.hstack([picture_YX3, gap_YX3, colours_YX3])


def _write_sheet(path: Path, work: _Work, rows: Sequence[Looked]) -> None:
    if not work.tiles:
        return
    n_drawn = sum(not row.problem for row in rows)
    title = f"patches · {work.style.name}" if work.palette is None else f"patches · {work.palette.style} · one basis"
    shown = f" · the first {len(work.tiles)} of {n_drawn:,} pictures" if n_drawn > len(work.tiles) else ""
    subtitle = f"layer {work.about['layer']} · {work.gaze.side} px · {work.about['model']}{shown}"
    write_png(path, sheet(work.tiles, title=title, subtitle=subtitle, side_px=work.tile_px), work.about)


def _write_list(path: Path, work: _Work, paths: Sequence[Path], rows: Sequence[Looked]) -> None:
    palette = work.palette
    style = palette.style if palette else work.style.name
    thresholds = iter(work.cuts.values())
    pictures = [
        {
            "picture": name,
            "size": row.size,
            "foreground": None if row.problem else row.areas["foreground"]._asdict(),
            "threshold": None if row.problem else next(thresholds),
            "problem": row.problem,
        }
        for name, row in zip(names_of(paths), rows, strict=False)  # fewer rows where the work was stopped
    ]
    about = {**work.about, "style": style, **({"fitted_on": dict(palette.about)} if palette else {})}
    write_json(path, {"about": about, "pictures": pictures})
