"""Features of patches, with the place of each patch in its picture.

Letters after a name are its axes:
    R C rows and columns of patches · W width of the backbone · 4 left, top, right, bottom
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.exporting.table import Table, readable
from engine.project import Picture
from engine.provenance import KEY, Provenance
from engine.seeing.grid import Grid
from engine.seeing.views import RESIZE
from engine.sets import SetPlan
from engine.timing import Pace


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The patches of one picture: features float16 (R, C, W), boxes float32 (R, C, 4) in pixels of the picture."""

    picture: Picture
    features_RCW: NDArray[np.float16]
    boxes_RC4: NDArray[np.float32]


def patches_of(table: Table) -> Iterator[Patches]:
    """Give the patches of every picture of a table.

    Raises:
        BadInput: the set has none.
    """
    plan = table.features.plan
    for row, picture in zip(table.rows_M, table.pictures, strict=True):
        features_RCW = table.features.patches_of(int(row))
        size = (picture.rows or 1, picture.cols or 1)
        yield Patches(picture, features_RCW, boxes(plan, features_RCW.shape[:2], size))


def boxes(plan: SetPlan, grid: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return where patches lie in a picture: (R, C, 4) left, top, right, bottom, in its pixels, upright.

    Args:
        plan: how pictures were shown.
        grid: rows and columns of patches.
        size: height and width of the picture in pixels.
    """
    y_edges, x_edges = (_edges(plan, n, size, axis) for axis, n in enumerate(grid))
    left_RC, top_RC = np.meshgrid(x_edges[:-1], y_edges[:-1])
    right_RC, bottom_RC = np.meshgrid(x_edges[1:], y_edges[1:])
    return np.stack([left_RC, top_RC, right_RC, bottom_RC], axis=-1).astype(np.float32)


def _edges(plan: SetPlan, n: int, size: tuple[int, int], axis: int) -> NDArray[np.float64]:
    """Return the n + 1 edges of patches along one axis, in pixels of the picture; see ``seeing.views.shown``."""
    begin = 0
    if plan.view == "crop":
        side = plan.side // plan.patch * plan.patch
        wanted = round(side * RESIZE)
        seen = max(wanted, round(size[axis] * wanted / min(size)))
        begin = (seen - side) // 2
    else:
        whole = Grid.of(size, patch=plan.patch, side=plan.side, is_square=plan.view == "square")
        seen = whole.resized[axis]
    return np.clip((begin + np.arange(n + 1) * plan.patch) * (size[axis] / seen), 0, size[axis])


def write_npz(table: Table, folder: Path, about: Provenance, pace: Pace) -> None:
    """Write ``ID.npz`` a picture: ``features`` (R, C, W) float16, ``boxes`` (R, C, 4) float32, ``path``, ``about``.

    An index, ``pictures.jsonl``, says which file is which picture.
    """
    with (folder / "pictures.jsonl").open("w", encoding="ascii") as index:
        for patches in patches_of(table):
            name = f"{patches.picture.id:08d}.npz"
            path = readable(patches.picture.path)
            np.savez(
                folder / name,
                features=patches.features_RCW,
                boxes=patches.boxes_RC4,
                path=np.array(path),
                about=np.array(json.dumps(about)),
            )
            rows, cols = patches.features_RCW.shape[:2]
            index.write(json.dumps({"file": name, "path": path, "rows": rows, "cols": cols}) + "\n")
            pace.reached(pace.done + 1)


def write_zarr(table: Table, folder: Path, about: Provenance, pace: Pace) -> None:
    """Write a Zarr store with a group ``ID`` a picture, holding ``features`` and ``boxes``, each one chunk.

    Raises:
        UserError: zarr is not installed.
    """
    store = _zarr_group(folder)
    store.attrs[KEY] = about
    for patches in patches_of(table):
        group = store.create_group(f"{patches.picture.id:08d}")
        group.attrs.update({"path": readable(patches.picture.path), "label": patches.picture.label})
        for name, array in (("features", patches.features_RCW), ("boxes", patches.boxes_RC4)):
            group.create_array(name, data=np.ascontiguousarray(array), chunks=array.shape)
        pace.reached(pace.done + 1)


def _zarr_group(folder: Path) -> Any:
    try:
        import zarr
    except ImportError as problem:
        raise UserError(
            "Zarr stores need the package zarr, which is not installed.",
            "Install it: pip install 'dinoviz[zarr]', or choose --format npz.",
        ) from problem
    return zarr.create_group(store=folder, zarr_format=3, overwrite=False)


FOLDERS = {"npz": write_npz, "zarr": write_zarr}
