"""Maps as they are kept beside the features.

    sets/0001/
      map-tsne.npy         (N, 2) float32, one row a picture; NaN where it was not seen
      map-tsne.rows.npy    which picture of what contents each row was when the map was made
      map-tsne.json        how it was made, and digests of the two others
      map-tsne.part.npy    while it is being made: the positions so far, for those who watch

The first three are the old ones or the new ones, whatever cuts the writing off: see `engine.records.write_together`.
Nothing here loads what makes maps, so that the window can read them.

Letters after a name are its axes:
    N rows of the set · S rows that are on the map · 2 the plane
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import MAP_METHODS
from engine.errors import BadInput, Diverged
from engine.records import read_together, write_together
from engine.sets import FeatureSet

Method = Literal["tsne", "umap", "pca"]

K = 10  # neighbours that count in the measures of a map
MAP_ROW = np.dtype([("id", "<i8"), ("hash", "<u8", (2,))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """What a map keeps, each of 0 to 1.

    Args:
        neighbours_kept: share of the ``K`` nearest by features that are among the ``K`` nearest on the map.
        trustworthiness: 1 where no neighbour on the map is a stranger by features; Venna and Kaski 2001.
        label_agreement: share of pictures whose label is that of most of their ``K`` nearest on the map; None without
            labels.
        n: pictures measured.
    """

    neighbours_kept: float
    trustworthiness: float
    label_agreement: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPlan:
    """What determines a map of given features.

    Args:
        method: a row of ``catalogue.MAP_METHODS``.
        seed: of all that is drawn.
        steps: of t-SNE, or epochs of UMAP; 0 for principal components.
        early: steps with exaggeration.
        perplexity: of t-SNE, 0 elsewhere.
        neighbours: of each picture that count.
    """

    method: Method
    seed: int
    steps: int = 0
    early: int = 0
    perplexity: float = 0.0
    neighbours: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MapAbout:
    """How a map was made.

    Args:
        made_from: key of the set.
        plan: what was asked.
        step: the one it was stopped at, or the last.
        divergence: Kullback-Leibler, of t-SNE.
        shares: of the variance along the two axes, of principal components.
        measures: what it keeps of the features' neighbourhoods; None where there are too few pictures.
        aligned_to: set whose map it was turned to, empty for none.
        n_placed: pictures placed after it was made.
    """

    made_from: str
    plan: MapPlan
    step: int
    divergence: float | None = None
    shares: tuple[float, float] | None = None
    measures: Faithfulness | None = None
    aligned_to: str = ""
    n_placed: int = 0

    @property
    def is_stopped(self) -> bool:
        """It was stopped before the last step."""
        return self.step < self.plan.steps


@dataclass(frozen=True, slots=True, eq=False)
class PictureMap:
    """A map as it is kept; ``rows`` of ``MAP_ROW`` say which picture each position is of."""

    about: MapAbout
    positions_N2: NDArray[np.float32]
    rows: NDArray[np.void]

    @property
    def is_on_N(self) -> NDArray[np.bool_]:
        """True where a picture lies on the map."""
        return ~np.isnan(self.positions_N2[:, 0])


def so_far_path(folder: Path) -> Path:
    """Return where the positions of a t-SNE so far are while it is being made, one row a picture of the set.

    The file is always whole; it is replaced about once a second, and gone when the map is kept.
    """
    return folder / "map-tsne.part.npy"


def read_map(features: FeatureSet, method: Method) -> PictureMap:
    """Open the map of a set.

    Raises:
        BadInput: there is none, or it is of other features than the set holds now.
    """
    what, remake = _named(method)
    mend = f"; or add the new ones to it: {remake} --place"
    features.made(f"map-{method}.json", MapAbout, what, remake, mend=mend)
    return read_any_map(features, method)


def read_any_map(features: FeatureSet, method: Method) -> PictureMap:
    """Open the map of a set even if it is out of date.

    Raises:
        BadInput: there is none, or not all of it.
    """
    found = read_together(features.folder / f"map-{method}.json", MapAbout, _arrays(features, method))
    if found is None or len({len(array) for array in found[1]}) > 1:
        raise features.lacking(*_named(method))
    return PictureMap(found[0], *found[1])


def _arrays(features: FeatureSet, method: Method) -> tuple[Path, Path]:
    """Return where positions and rows are."""
    return features.folder / f"map-{method}.npy", features.folder / f"map-{method}.rows.npy"


def _named(method: Method) -> tuple[str, str]:
    """Return what a map is called and what makes it."""
    return f"{MAP_METHODS[method].title} map", f"engine map PROJECT --method {method}"


def current_map(features: FeatureSet, plan: MapPlan) -> PictureMap | None:
    """Return the finished map of these features by this plan, None where it is not there."""
    about = features.current(f"map-{plan.method}.json", MapAbout)
    if about is None or about.plan != plan or about.is_stopped:
        return None
    with contextlib.suppress(BadInput):  # a part of it is damaged
        return read_any_map(features, plan.method)
    return None


def keep_map(features: FeatureSet, about: MapAbout, positions_N2: NDArray[np.float32]) -> PictureMap:
    """Write a map into the folder of its set, whose lock is held, in the place of the one before.

    Raises:
        DiskFull: there is no room; the one before is intact.
    """
    method = about.plan.method
    rows = np.empty(len(features), MAP_ROW)
    rows["id"], rows["hash"] = features.rows["id"], features.rows["hash"]
    arrays = dict(zip(_arrays(features, method), (positions_N2, rows), strict=True))
    write_together(features.folder / f"map-{method}.json", about, arrays)
    return PictureMap(about, positions_N2, rows)


def check_finite(positions_S2: NDArray[np.float32], method: Method) -> None:
    """Refuse positions that nobody could draw, before they take the place of good ones.

    Raises:
        Diverged: some are not finite.
    """
    n = int((~np.isfinite(positions_S2).all(axis=1)).sum())
    if n:
        text = f"The {MAP_METHODS[method].title} map went wrong: {n:,} positions are not finite; it is not kept."
        raise Diverged(text, "Try another --seed.")


def spread(features: FeatureSet, rows_S: NDArray[np.intp], positions_S2: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one row a picture of the set, NaN where it was not seen."""
    positions_N2 = np.full((len(features), 2), np.nan, np.float32)
    positions_N2[rows_S] = positions_S2
    return positions_N2
