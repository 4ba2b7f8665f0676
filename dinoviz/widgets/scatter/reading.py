"""Reads maps as the engine kept them, for the Map; not on the thread that paints.

Letters after a name are its axes: N pictures, in the order of the project's table · C classes · 2 the plane
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dinoviz.table import PictureTable
from dinoviz.widgets.scatter.splat import Cloud, Layer, in_unit_square
from engine.arrays import read_npy
from engine.errors import UserError
from engine.finding.class_map_files import ClassMapAbout, kept_class_map
from engine.finding.labels import key_with_labels
from engine.finding.map_files import MapAbout, Method, read_any_map, so_far_path
from engine.finding.neighbours import TABLE
from engine.sets import FeatureSet, SetPlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureMapData:
    """A map of pictures, ready to be drawn.

    Args:
        about: how it was made; None while it is being made.
        plan: of the features.
        cloud: the points; numbers are rows of the table.
        layer: all of them.
        is_old: it is of other features than the set holds now.
        n_missing: pictures that can be read and are not on it.
    """

    about: MapAbout | None
    plan: SetPlan
    cloud: Cloud
    layer: Layer
    is_old: bool
    n_missing: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassMapData:
    """A map of classes, ready to be drawn; numbers are places in ``about.names``."""

    about: ClassMapAbout
    plan: SetPlan
    cloud: Cloud
    layer: Layer
    is_old: bool


def read_picture_map(set_folder: Path, method: Method, table: PictureTable) -> PictureMapData | None:
    """Return a map of a set, also an old one; None where there is none."""
    try:
        features = FeatureSet(set_folder)
        found = read_any_map(features, method)
    except UserError:
        return None
    unit_N2 = _at_table(found.rows["id"], found.positions_N2, table)
    cloud = Cloud.of(unit_N2)
    is_usable_N = table.problem.codes_N < 0
    return PictureMapData(
        about=found.about,
        plan=features.plan,
        cloud=cloud,
        layer=Layer(cloud).prepare(),
        is_old=found.about.made_from != features.key,
        n_missing=int((is_usable_N & np.isnan(unit_N2[:, 0])).sum()),
    )


def read_so_far(set_folder: Path, table: PictureTable) -> PictureMapData | None:
    """Return the t-SNE of a set that is being made; None where none is."""
    try:
        features = FeatureSet(set_folder)
        positions_N2 = read_npy(so_far_path(set_folder))
    except (UserError, OSError, ValueError):
        return None
    if len(positions_N2) != len(features):
        return None
    cloud = Cloud.of(_at_table(features.ids_N, positions_N2, table))
    layer = Layer(cloud).prepare()
    return PictureMapData(about=None, plan=features.plan, cloud=cloud, layer=layer, is_old=False, n_missing=0)


def _at_table(ids: NDArray[np.int64], positions_N2: NDArray[np.float32], table: PictureTable) -> NDArray[np.float32]:
    """Return positions in the unit square, in the order of the table; NaN where a picture has none."""
    unit_N2 = np.full((len(table), 2), np.nan, np.float32)
    places = table.places_of(ids)
    unit_N2[places[places >= 0]] = in_unit_square(positions_N2)[places >= 0]
    return unit_N2


def read_class_map_data(set_folder: Path, table: PictureTable) -> ClassMapData | None:
    """Return the map of classes of a set, also an old one; None where there is none."""
    try:
        features = FeatureSet(set_folder)
    except UserError:
        return None
    found = kept_class_map(features)
    if found is None:
        return None
    words = table.label.words
    labels = {int(i): words[code] for i, code in zip(table.ids_N, table.label.codes_N, strict=True) if code >= 0}
    cloud = Cloud.of(in_unit_square(found.positions_C2))
    return ClassMapData(
        about=found.about,
        plan=features.plan,
        cloud=cloud,
        layer=Layer(cloud),
        is_old=found.about.made_from != key_with_labels(features, labels),
    )


def maps_there(set_folder: Path) -> frozenset[str]:
    """Return the methods that a set has maps of; ``classes`` among them."""
    kept = ("tsne", "umap", "pca", "classes")
    return frozenset(name for name in kept if (set_folder / f"map-{name}.json").exists())


@dataclass(frozen=True, slots=True)
class MapKey:
    """What a map that was read is of: nothing is read again while this and the pictures stay the same."""

    folder: Path
    method: str
    stamps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapRead:
    """What reading found: which maps a set has, and the one that was wanted.

    Args:
        key: of what.
        there: methods that the set has maps of.
        data: the map, None where there is none.
        is_same: it is what was read before; ``data`` is None then, too.
    """

    key: MapKey
    there: frozenset[str]
    data: PictureMapData | ClassMapData | None = None
    is_same: bool = False


def read_map_again(
    folder: Path, method: str, table: PictureTable, known: tuple[MapKey, PictureTable] | None
) -> MapRead:
    """Read a map of a set, unless it is the one that is known.

    Args:
        folder: of the set.
        method: of the map, or ``classes``.
        table: the pictures.
        known: what was read last, of which pictures.
    """
    key, there = MapKey(folder, method, stamps(folder, method)), maps_there(folder)
    if method == "classes":
        return MapRead(key=key, there=there, data=read_class_map_data(folder, table))
    if known is not None and key == known[0] and (known[1] is table or np.array_equal(known[1].ids_N, table.ids_N)):
        return MapRead(key=key, there=there, is_same=True)
    return MapRead(key=key, there=there, data=read_picture_map(folder, method, table))  # type: ignore[arg-type]


def stamps(folder: Path, what: str) -> tuple[int, ...]:
    """Return when what a map, clusters or neighbours are read from was last written, 0 for never."""
    if what == "neighbours":
        return _written(folder / "rows.npy"), _written(folder / TABLE)
    if what == "clusters":
        return _written(folder / "clusters-kmeans.json"), _written(folder / "clusters-hdbscan.json")
    return _written(folder / "rows.npy"), _written(folder / f"map-{what}.json")


def so_far_stamp(folder: Path) -> int:
    """Return when the t-SNE so far was last written, 0 where none is being made."""
    return _written(so_far_path(folder))


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
