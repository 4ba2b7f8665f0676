"""Lists of recipes: TOML with fields that all runs share, and one ``[[run]]`` for each.

    title = "Does multi-crop pay?"
    epochs = 50                       # of every run
    [[run]]
    name = "two large crops"
    local_crops = 0
    [[run]]
    name = "as settled"
    paper = { knn = 72.8, linear = 76.1 }

Fields stand at the top or under their section's heading, as in a run file. What a run says itself wins over the flags
of the command line, and those over what all share: a flag never makes two runs the same. Fields that all share mean
nothing to a run whose objective does not heed them, and are left out there.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from engine.catalogue import heeded
from engine.errors import BadInput, BadRecipe
from engine.recipes import Recipe
from engine.settings import FIELDS, SECTIONS
from engine.sweeps.marks import MARKS

T = TypeVar("T")

BUILT_IN_FOLDER = Path(__file__).parents[2] / "resources" / "sweeps"
BUILT_IN = {
    "7": "table-7",
    "13": "table-13",
    "14": "table-14",
    "15": "table-15",
    "fig6": "figure-6",
    "fig7": "figure-7",
}
"""Files of the lists after DINO's tables and figures, by what ``--table`` takes."""
WORDS = ("title", "columns")
"""What a list says beside fields and runs."""
PUBLISHED = ("knn", "linear")
"""What ``paper`` of a run may hold: percentages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of a list: what it says itself, and what was published of it, in percent."""

    name: str
    own: Recipe
    paper: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepList:
    """A list of recipes; ``columns`` are those of its table, by marks or names of fields."""

    title: str
    common: Recipe
    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    def recipe_of(self, row: Row, flags: Recipe, seed: int) -> Recipe:
        """Return what one run asks for."""
        objective = str(row.own.over(flags).over(self.common).asked.get("objective", FIELDS["objective"][1].default))
        sections = heeded(objective)
        shared = flags.over(self.common).asked
        kept = {name: value for name, value in shared.items() if FIELDS[name][0] in sections}
        return Recipe.of({"seed": seed}).over(row.own).over(Recipe(kept))


def built_in(table: str) -> Path:
    """Return the file of a list after one of the paper's tables or figures."""
    return BUILT_IN_FOLDER / f"{BUILT_IN[table]}.toml"


def read_list(path: Path) -> SweepList:
    """Read a list and check every field of every run.

    Raises:
        BadInput: the file cannot be read.
        BadRecipe: it is no list, or a field of a run, which is named, is unknown or impossible.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadInput(f"Cannot read the list '{path}': {problem.strerror}.") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise BadRecipe(f"'{path}' is no TOML file: {problem}.") from problem
    runs = content.pop("run", None)
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs) or not runs:
        raise BadRecipe(f"The list '{path}' has no runs.", "Write [[run]], and below it name and fields, for each.")
    words = {word: content.pop(word) for word in WORDS if word in content}
    rows = tuple(_row(number, run) for number, run in enumerate(runs, start=1))
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise BadRecipe(f"Two runs of the list '{path}' have the name '{name}'.", "Give each its own.")
    return SweepList(
        title=str(words.get("title", path.stem)),
        common=_recipe_in(content, "what all runs share"),
        rows=rows,
        columns=_columns(words.get("columns", _differing(rows))),
    )


def _row(number: int, content: dict[str, Any]) -> Row:
    name = content.pop("name", None)
    if not isinstance(name, str) or not name.strip():
        raise BadRecipe(f"Run {number} of the list has no name.", 'Write name = "…" under its [[run]].')
    paper = content.pop("paper", {})
    if not isinstance(paper, dict) or not all(
        key in PUBLISHED and isinstance(value, int | float) for key, value in paper.items()
    ):
        raise BadRecipe(f"Run '{name}': paper is {paper}.", "Write it so: paper = { knn = 72.8, linear = 76.1 }.")
    return Row(name=name, own=_recipe_in(content, f"run '{name}'"), paper=paper)


def _recipe_in(content: Mapping[str, Any], whose: str) -> Recipe:
    flat: dict[str, object] = {}
    for name, value in content.items():
        flat |= value if isinstance(value, dict) and name in SECTIONS else {name: value}
    return checked(lambda: Recipe.of(flat), whose)


def checked(make: Callable[[], T], whose: str) -> T:
    """Return what ``make`` returns; a refusal names whose field it is about."""
    try:
        return make()
    except BadRecipe as problem:
        raise BadRecipe(f"{whose[0].upper()}{whose[1:]}: {problem.message}", problem.hint) from problem


def _differing(rows: tuple[Row, ...]) -> list[str]:
    """Return the fields that some run says and not all say alike, in the order of declaration."""
    return [name for name in FIELDS if len({row.own.asked.get(name) for row in rows}) > 1]


def _columns(names: Any) -> tuple[str, ...]:
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or (name not in MARKS and name not in FIELDS):
            raise BadRecipe(
                f"There is no column '{name}'.", f"Take the name of a field, or one of: {', '.join(MARKS)}."
            )
    return tuple(names)
