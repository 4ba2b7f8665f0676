"""Attention of any number of pictures: arrays for programs, or drawn over the pictures for people.

Letters after a name are its axes:
    H heads · R C rows and columns of patches · Y X pixels · 3 colours, RGB
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.exporting.masks import UPRIGHT, check_gaze, counted, look_at
from engine.exporting.pictures import Account, Opened, Source, export_each
from engine.exporting.targets import whole_folder
from engine.models.weights import Backbone
from engine.provenance import Provenance
from engine.seeing.attention import AttentionMaps, check_head, vit_of
from engine.seeing.drawing import heatmap, overlay, png_text, within
from engine.seeing.files import DRAWN_PX, check_apart
from engine.seeing.look import Gaze

AttentionFormat = Literal["npz", "overlay"]
Heads = Literal["all", "mean"] | tuple[int, ...]
"""Which maps are written: those of all heads, their mean, or those of some heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """Which maps are written, and whether drawings of them are interpolated between patches."""

    heads: Heads = "all"
    is_smooth: bool = False


def export_attention(
    backbone: Backbone,
    sources: Sequence[Source],
    out: Path,
    form: AttentionFormat,
    plan: AttentionPlan | None = None,
    gaze: Gaze | None = None,
    *,
    overwrite: bool = False,
    after_each: Callable[[], object] | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> tuple[Account, Provenance]:
    """Write the attention of pictures, and return what was done and what stands in ``about.json``.

    ``npz``: for ``horse.jpg``, ``horse.npz`` with ``attention`` float16 (heads, rows, cols), ``heads`` their names,
    ``about`` a JSON string, and what leads from patches to pixels: ``resized`` and ``picture``, both (height,
    width), and ``patch``. The patch at (row, col) covers the rows ``row * patch`` to ``(row + 1) * patch`` of the
    picture resized to ``resized``. Attention paid to [CLS] and registers is left out, so a head sums to at most 1.

    ``overlay``: ``horse.png``, the map over the picture, at most ``DRAWN_PX`` long; with several maps
    ``horse-head0.png`` and so on.

    Args: as ``export_masks``.

    Raises:
        BadInput: ``out`` is there already, or holds the pictures.
        BadRecipe: no such layer or head, or a backbone without attention.
        DiskFull: there is no room; nothing is left of the export.
    """
    plan, gaze = plan or AttentionPlan(), gaze or Gaze()
    check_gaze(backbone, gaze)
    for head in plan.heads if isinstance(plan.heads, tuple) else ():
        check_head(head, vit_of(backbone).shape.heads)
    check_apart(out, (source.path for source in sources), is_replaced=True)
    about = backbone.provenance(**gaze.facts(backbone), heads=plan.heads, format=form, upright=UPRIGHT)
    with whole_folder(out, about, overwrite=overwrite) as folder:

        def handle(row: Opened) -> tuple[Sequence[Path], Mapping[str, Any]]:
            maps = look_at(backbone, gaze, row)
            named = _chosen(maps, plan.heads)
            files = _write_arrays(folder, row, maps, named, about) if form == "npz" else []
            if form == "overlay":
                files = _write_overlays(folder, row, maps, named, about, plan)
            return files, {"rows": maps.grid.rows, "cols": maps.grid.cols, "resized": list(maps.grid.resized)}

        account = export_each(sources, folder, handle, after_each=after_each, is_stopped=is_stopped)
        about.update(counted(account))
    return account, about


def _chosen(maps: AttentionMaps, heads: Heads) -> dict[str, NDArray[np.float32]]:
    if heads == "mean":
        return {"mean": maps.mean}
    numbers = range(len(maps.maps_HRC)) if heads == "all" else heads
    return {f"head{i}": maps.maps_HRC[int(i)] for i in numbers}


def _write_arrays(
    folder: Path, row: Opened, maps: AttentionMaps, named: Mapping[str, NDArray[np.float32]], about: Provenance
) -> list[Path]:
    path = folder / f"{row.stem}.npz"
    np.savez_compressed(
        path,
        allow_pickle=False,
        attention=np.stack(list(named.values())).astype(np.float16),
        heads=np.array(list(named), dtype="U"),
        patch=np.array(maps.grid.patch),
        resized=np.array(maps.grid.resized),
        picture=np.array(row.size),
        about=np.array(json.dumps(about)),
    )
    return [path]


def _write_overlays(
    folder: Path,
    row: Opened,
    maps: AttentionMaps,
    named: Mapping[str, NDArray[np.float32]],
    about: Provenance,
    plan: AttentionPlan,
) -> list[Path]:
    canvas_YX3 = within(row.picture_YX3, DRAWN_PX)
    text = png_text(about)
    files = []
    for name, map_RC in named.items():
        drawn_YX3 = overlay(canvas_YX3, heatmap(map_RC, maps.grid, canvas_YX3.shape[:2], is_smooth=plan.is_smooth))
        files.append(folder / (f"{row.stem}-{name}.png" if len(named) > 1 else f"{row.stem}.png"))
        Image.fromarray(drawn_YX3).save(files[-1], pnginfo=text)
    return files
