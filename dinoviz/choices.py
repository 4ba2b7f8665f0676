"""What each view was last set to: one frozen class a view, remembered with the project.

A field is a plain value that JSON can hold, or a tuple of such; ``Session.choose`` replaces whole classes. Defaults are
what a person finds at first.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryChoices:
    """Library.

    Args:
        side_px: of a picture in the grid.
        caption: under it: by the order (auto), name, label or none.
    """

    side_px: int = 160
    caption: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookChoices:
    """Look.

    Args:
        shows: what lies over the picture: attention, mask, colours, likeness, matches, or nothing (picture).
        layer: transformer block, from 0; -1 is the last.
        is_rollout: attention through all layers instead of one.
        heads: chosen heads; none for the mean of all.
        query: who looks: cls, or the patch under the mouse or the chosen one (patch).
        keep: share of the attention in a mask.
        smallest: connected parts of fewer patches are left out.
        is_union: the mask of several heads is the union of theirs instead of that of their mean.
        is_spotlight: a mask darkens what is outside instead of tinting what is inside.
        colours: colour map.
        opacity: of what lies over the picture.
        is_smooth: interpolate between patches.
        side: shorter side the picture is seen at, px; 0 fits the model.
        is_together: colours or likeness of all selected pictures, by one basis.
        style: as in ``questions.Colours``.
        foreground: the same.
        is_flipped: the same.
        most: matches.
        least: least cosine of a match.
        other_model: backbone of the second canvas; empty for one canvas.
        export_folder: where was saved last.
    """

    shows: str = "attention"
    layer: int = -1
    is_rollout: bool = False
    heads: tuple[int, ...] = ()
    query: str = "cls"
    keep: float = 0.6
    smallest: int = 1
    is_union: bool = False
    is_spotlight: bool = True
    colours: str = "viridis"
    opacity: float = 0.75
    is_smooth: bool = True
    side: int = 0
    is_together: bool = False
    style: str = "dinov2"
    foreground: str = "auto"
    is_flipped: bool = False
    most: int = 30
    least: float = 0.0
    other_model: str = ""
    export_folder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindChoices:
    """Find.

    Args:
        part: what is in front: search, duplicates, outliers, labels or typical.
        trail: questions asked one after the other, each as ``asked.step_of`` reads it.
        step: the one that is shown.
        most: results wanted.
        is_among_shown: only pictures that the filter lets through.
        side_px: of a result in the grid.
        likeness: from which pictures are copies; 0 for as they were looked for.
        shows_done: lists also hold what was worked through.
    """

    part: str = "search"
    trail: tuple[Any, ...] = ()
    step: int = 0
    most: int = 50
    is_among_shown: bool = False
    side_px: int = 148
    likeness: float = 0.0
    shows_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChoices:
    """Map.

    Args:
        method: tsne, umap, pca, or the map of classes.
        by: what the colours mean, as in ``colouring.By``.
        tool: of the left mouse button: pan, lasso, rectangle or brush.
        is_dense: how many points there are is drawn below them.
        has_contours: with lines.
        thumbnails: pictures in place of points: near, always or never.
        point_size: times the usual diameter of a point.
        hides_others: points outside the filter are not drawn, instead of faintly.
        has_names: groups are named on the map.
        has_legend: the panel on the right is open.
        colour_map: of numbers.
        view: middle of what is seen, in the unit square, and how many times nearer than the whole map; empty for that.
    """

    method: str = "tsne"
    by: str = "label"
    tool: str = "pan"
    is_dense: bool = False
    has_contours: bool = True
    thumbnails: str = "near"
    point_size: float = 1.0
    hides_others: bool = False
    has_names: bool = True
    has_legend: bool = True
    colour_map: str = "viridis"
    view: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChoices:
    """Train.

    Args:
        page: number of the run that is looked at; 0 for the run that is being prepared.
        texts: what was typed into the form, as (field, text).
        scope: what to train on: the folder, the selection, or what is shown.
        tab: part of a run's page: curves, pictures, settings or log.
        axis: of the curves: step, pictures or time.
        smoothing: measurements that a point of a curve is the mean of.
        compared: numbers of the runs drawn over the one that is looked at.
        probe_kind: what lies over the probe pictures: attention, mask or colours.
        is_before_after: a divider shows the first step beside the chosen one.
    """

    page: int = 0
    texts: tuple[tuple[str, str], ...] = ()
    scope: str = "folder"
    tab: str = "curves"
    axis: str = "step"
    smoothing: int = 5
    compared: tuple[int, ...] = ()
    probe_kind: str = "attention"
    is_before_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareChoices:
    """Compare.

    Args:
        models: networks side by side; none for the one in use and another one that has features.
        page: looks, neighbours or maps.
        kinds: rows of looks: attention, mask, colours.
        method: of the maps.
        tool: on the maps.
    """

    models: tuple[str, ...] = ()
    page: str = "looks"
    kinds: tuple[str, ...] = ("attention", "colours")
    method: str = "tsne"
    tool: str = "pan"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsChoices:
    """Models.

    Args:
        family: which are listed: all, here, dino or dinov2.
        text: what is searched for.
        offered: file that is offered for import; empty for none.
    """

    family: str = "all"
    text: str = ""
    offered: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """All of them."""

    library: LibraryChoices = field(default_factory=LibraryChoices)
    look: LookChoices = field(default_factory=LookChoices)
    find: FindChoices = field(default_factory=FindChoices)
    map: MapChoices = field(default_factory=MapChoices)
    train: TrainChoices = field(default_factory=TrainChoices)
    compare: CompareChoices = field(default_factory=CompareChoices)
    models: ModelsChoices = field(default_factory=ModelsChoices)


T = TypeVar("T")


def restored(kind: type[T], kept: object) -> T:
    """Return a value of a class of choices from what JSON kept of it; what is unknown or of another type is left out.

    So a file of an older or newer version, or one that was edited by hand, never stops the window from opening.
    """
    default = kind()
    if not isinstance(kept, dict):
        return default
    values: dict[str, Any] = {}
    for part in fields(kind):  # type: ignore[arg-type]
        was = getattr(default, part.name)
        if part.name in kept:
            values[part.name] = _as(was, kept[part.name])
    return kind(**{name: value for name, value in values.items() if value is not _NOTHING})


_NOTHING = object()


def _as(default: object, kept: object) -> object:
    """Return what was kept as a value of the type of a default, or ``_NOTHING``."""
    if is_dataclass(default):
        return restored(type(default), kept)
    if isinstance(default, tuple):
        return _tuples(kept) if isinstance(kept, list) else _NOTHING
    if default is None or kept is None:
        return kept if default is None and isinstance(kept, str | int | float | bool | None) else _NOTHING
    if isinstance(default, float) and isinstance(kept, int) and not isinstance(kept, bool):
        return float(kept)
    return kept if type(kept) is type(default) else _NOTHING


def _tuples(kept: object) -> object:
    return tuple(_tuples(part) for part in kept) if isinstance(kept, list) else kept
