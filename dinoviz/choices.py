"""What each view was last set to: one frozen class a view, remembered with the project.

A field is a plain value that JSON can hold, or a tuple of such; ``Session.choose`` replaces whole classes. Defaults are
what a person finds at first.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryChoices:
    """Library: size of a picture in the grid, px."""

    side_px: int = 148


@dataclass(frozen=True, slots=True, kw_only=True)
class LookChoices:
    """Look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindChoices:
    """Find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChoices:
    """Map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChoices:
    """Train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareChoices:
    """Compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsChoices:
    """Models."""


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
