"""The places of the window, in the order of the rail; each is loaded when it is first shown.

To add one: a module here with a widget that takes a ``Desk``, and its row.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from dinoviz.desk import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One place: its name, text and icon on the rail, and the class in the module of its name."""

    name: str
    text: str
    icon: str
    kind: str
    is_on_rail: bool = True
    needs_project: bool = True
    has_inspector: bool = False

    def load(self) -> "Callable[[Desk], QWidget]":
        """Return the class of its widget."""
        kind: Callable[[Desk], QWidget] = getattr(importlib.import_module(f"dinoviz.views.{self.name}.view"), self.kind)
        return kind


VIEWS: tuple[View, ...] = (
    View(name="welcome", text="Welcome", icon="folder-open", kind="WelcomeView", is_on_rail=False, needs_project=False),
    View(name="library", text="Library", icon="images", kind="LibraryView", has_inspector=True),
    View(name="look", text="Look", icon="eye", kind="LookView"),
    View(name="find", text="Find", icon="magnifying-glass", kind="FindView"),
    View(name="map", text="Map", icon="chart-scatter", kind="MapView", has_inspector=True),
    View(name="train", text="Train", icon="graduation-cap", kind="TrainView"),
    View(name="compare", text="Compare", icon="scales", kind="CompareView"),
    View(name="models", text="Models", icon="cube", kind="ModelsView", needs_project=False),
)
