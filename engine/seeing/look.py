"""Attention and masks of a list of files, written as pictures and arrays: what the command line calls.

Every picture gets a stem of its own in one folder and files named after it. A picture that cannot
be read becomes a row with its problem, and the others go on.

Letters after a name are its axes:
    H heads · L layers · R C rows and columns of patches · Y X pixels · 3 colours, RGB
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.models.weights import Backbone
from engine.seeing.attention import AttentionMaps, Query, attention_maps, check_head, every_layer, rollout, vit_of
from engine.seeing.drawing import (
    HEAD_COLOURS,
    ColourMap,
    Picture,
    Tile,
    composite,
    heatmap,
    mask_overlay,
    overlay,
    sheet,
    within,
)
from engine.seeing.files import DRAWN_PX, Files, Listener, Looked, each_picture, names_of, write_json
from engine.seeing.masks import KEEP, Area, area, attention_mask, without_specks
from engine.seeing.patch_features import PatchGaze

LAYER_TILE_PX = 140
"""Longest side of a head in the sheet of all layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaze(PatchGaze):
    """How pictures are looked at, and by which token; see ``attention_maps``."""

    query: Query = "cls"

    def facts(self, backbone: Backbone) -> dict[str, Any]:
        """Return how pictures were looked at, for those who are given what was made of it.

        Raises:
            BadRecipe: there is no such layer, or the backbone has no attention.
        """
        vit_of(backbone)
        query = self.query if self.query == "cls" else list(self.query)
        return {**PatchGaze.facts(self, backbone), "query": query}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How attention is drawn.

    ``heads`` are those of the composite, in the order of its colours; the first six where absent.
    ``has_rollout`` and ``has_layers`` add rollout, and a sheet of every head of every layer.
    """

    colours: ColourMap = "viridis"
    is_smooth: bool = False
    heads: tuple[int, ...] | None = None
    has_rollout: bool = True
    has_layers: bool = False


def look_attention(
    backbone: Backbone,
    paths: Sequence[Path],
    out: Path,
    gaze: Gaze | None = None,
    style: Style | None = None,
    after_each: Listener | None = None,
) -> list[Looked]:
    """Write what a backbone attends to in each picture.

    For a picture ``horse.jpg``: ``horse-head0.png`` and so on, ``-mean``, ``-rollout``, ``-composite``
    and ``-overlay`` (of the mean) in the size of the picture, at most ``DRAWN_PX``; ``-sheet`` with
    all of them; ``-layers`` where asked; ``-attention.npz`` with ``attention`` float16 (heads, rows,
    cols), ``rollout`` and ``layers`` where asked, and ``about``, a JSON string.

    Raises:
        BadInput: ``out`` holds one of the pictures: a drawing could take its place.
        BadRecipe: no such layer, patch or head, or a backbone without attention.
        DiskFull: there is no room.
    """
    draw = partial(_draw_attention, backbone, gaze or Gaze(), style or Style())
    rows = []
    for row in each_picture(paths, out, draw):
        rows.append(row)
        if after_each:
            after_each(row)
    return rows


def look_masks(
    backbone: Backbone,
    paths: Sequence[Path],
    out: Path,
    gaze: Gaze | None = None,
    keep: float = KEEP,
    smallest: int = 1,
    after_each: Listener | None = None,
) -> list[Looked]:
    """Write the masks that hold ``keep`` of the attention in each picture.

    For a picture ``horse.jpg``: ``horse-mask-head0.png`` and so on, ``-mask-union`` (of all heads) and
    ``-mask-mean`` (of the mean over the heads): 8 bits, 255 inside, in the size of the upright
    picture; and ``horse-contours.png``, the last drawn over it. ``masks.json`` holds all areas.

    Args:
        backbone: a Vision Transformer.
        paths: pictures.
        out: folder for the files; made where absent.
        gaze: how pictures are looked at.
        keep: share of the attention that a mask holds, 0 < keep <= 1.
        smallest: connected parts of fewer patches are left out.
        after_each: is told of each picture.

    Raises:
        BadInput: ``out`` holds one of the pictures: a mask could take its place.
        BadRecipe: ``keep`` out of range, no such layer or patch, or a backbone without attention.
        DiskFull: there is no room.
    """
    gaze = gaze or Gaze()
    about = backbone.provenance(**gaze.facts(backbone), keep=keep, smallest=smallest)
    draw = partial(_draw_masks, backbone, gaze, keep, smallest, about)
    rows: list[Looked] = []
    try:
        for row in each_picture(paths, out, draw):
            rows.append(row)
            if after_each:
                after_each(row)
    finally:
        if rows:
            write_json(out / "masks.json", {"about": about, "pictures": _areas(paths, rows)})
    return rows


def _draw_attention(
    backbone: Backbone, gaze: Gaze, style: Style, picture_YX3: Picture, files: Files
) -> Mapping[str, Area]:
    maps = _maps(backbone, gaze, picture_YX3)
    heads = _composite_heads(style, len(maps.maps_HRC))
    canvas_YX3 = within(picture_YX3, DRAWN_PX)
    seen = {"picture": picture_YX3.shape[:2], "resized": maps.grid.resized}
    about = backbone.provenance(**gaze.facts(backbone), **seen)
    subtitle = f"{_looked_from(maps)} · {gaze.side} px · {about['model']}"
    arrays: dict[str, NDArray] = {"attention": maps.maps_HRC}
    named = {f"head{i}": map_RC for i, map_RC in enumerate(maps.maps_HRC)} | {"mean": maps.mean}
    if style.has_rollout:
        rolled = rollout(backbone, picture_YX3, side=gaze.side, query=gaze.query, is_square=gaze.is_square)
        arrays["rollout"] = rolled.maps_HRC
        named["rollout"] = rolled.mean
    drawn = {name: _heat(map_RC, maps, canvas_YX3, style) for name, map_RC in named.items()}
    drawn["overlay"] = overlay(canvas_YX3, drawn["mean"])
    drawn["composite"] = composite(canvas_YX3, maps.maps_HRC, maps.grid, heads)
    for name, drawing_YX3 in drawn.items():
        files.png(name, drawing_YX3, about)
    files.png("sheet", sheet(_tiles(canvas_YX3, drawn, heads), title=files.stem, subtitle=subtitle), about)
    if style.has_layers:
        layers = every_layer(backbone, picture_YX3, side=gaze.side, query=gaze.query, is_square=gaze.is_square)
        arrays["layers"] = np.stack([of_layer.maps_HRC for of_layer in layers])
        files.png("layers", _layers_sheet(layers, canvas_YX3, style, files.stem, subtitle), about)
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    files.npz("attention", {**half, "about": np.array(json.dumps(about))})
    return {}


def _maps(backbone: Backbone, gaze: Gaze, picture_YX3: Picture) -> AttentionMaps:
    return attention_maps(
        backbone, picture_YX3, side=gaze.side, layer=gaze.layer, query=gaze.query, is_square=gaze.is_square
    )


def _composite_heads(style: Style, n_heads: int) -> Sequence[int]:
    if style.heads is None:
        return range(min(n_heads, len(HEAD_COLOURS)))
    for head in style.heads:
        check_head(head, n_heads)
    return style.heads


def _heat(map_RC: NDArray, maps: AttentionMaps, canvas_YX3: Picture, style: Style) -> Picture:
    return heatmap(map_RC, maps.grid, canvas_YX3.shape[:2], colours=style.colours, is_smooth=style.is_smooth)


def _tiles(canvas_YX3: Picture, drawn: Mapping[str, Picture], heads: Sequence[int]) -> list[Tile]:
    """Lay out the summary: the picture, the drawings of all heads together, then each head with its colour."""
    together = [name for name in drawn if not name.startswith("head")]
    swatches = {f"head{head}": HEAD_COLOURS[i % len(HEAD_COLOURS)] for i, head in enumerate(heads)}
    apart = [name for name in drawn if name.startswith("head")]
    return [
        Tile(canvas_YX3, "picture"),
        *[Tile(drawn[name], name) for name in together],
        *[Tile(drawn[name], f"head {name.removeprefix('head')}", swatches.get(name)) for name in apart],
    ]


def _layers_sheet(
    layers: Sequence[AttentionMaps], canvas_YX3: Picture, style: Style, title: str, subtitle: str
) -> Picture:
    """Lay out one row a layer, one column a head."""
    tiles = [
        Tile(_heat(map_RC, of_layer, canvas_YX3, style), f"layer {of_layer.layer}, head {head}")
        for of_layer in layers
        for head, map_RC in enumerate(of_layer.maps_HRC)
    ]
    return sheet(tiles, title=title, subtitle=subtitle, columns=len(layers[0].maps_HRC), side_px=LAYER_TILE_PX)


def _looked_from(maps: AttentionMaps) -> str:
    token = "CLS" if maps.query == "cls" else f"patch {maps.query[0]}, {maps.query[1]}"
    return f"layer {maps.layer} · {token}"


def _draw_masks(
    backbone: Backbone,
    gaze: Gaze,
    keep: float,
    smallest: int,
    about: Mapping[str, object],
    picture_YX3: Picture,
    files: Files,
) -> Mapping[str, Area]:
    maps = _maps(backbone, gaze, picture_YX3)
    named = masks_of(maps, keep, smallest)
    areas = {}
    for name, mask_RC in named.items():
        mask_YX = maps.grid.spread(mask_RC, picture_YX3.shape[:2])
        files.png(f"mask-{name}", mask_YX.astype(np.uint8) * 255, about)
        areas[name] = area(mask_YX)
    canvas_YX3 = within(picture_YX3, DRAWN_PX)
    files.png("contours", mask_overlay(canvas_YX3, maps.grid.spread(named["mean"], canvas_YX3.shape[:2])), about)
    return areas


def masks_of(maps: AttentionMaps, keep: float, smallest: int) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of the heads, ``head0`` and so on, their ``union``, and the mask of the ``mean``, in patches."""
    masks_HRC = np.stack([without_specks(mask_RC, smallest) for mask_RC in attention_mask(maps.maps_HRC, keep)])
    named = {f"head{i}": mask_RC for i, mask_RC in enumerate(masks_HRC)}
    named["union"] = masks_HRC.any(axis=0)
    named["mean"] = without_specks(attention_mask(maps.mean[None], keep)[0], smallest)
    return named


def _areas(paths: Sequence[Path], rows: Sequence[Looked]) -> list[dict[str, object]]:
    """Return what is listed of each picture that was looked at."""
    return [
        {
            "picture": name,
            "size": row.size,
            "masks": {mask: found._asdict() for mask, found in row.areas.items()},
            "problem": row.problem,
        }
        for name, row in zip(names_of(paths), rows, strict=False)  # fewer rows where the work was stopped
    ]
