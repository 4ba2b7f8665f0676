"""A run that is being prepared: what a person typed, the plan it settles to on this folder and machine, what is wrong.

Plain Python. A field of the form is a text as it was typed; no text leaves the field to be settled. What cannot be is
told at its field and left out of the recipe, so that the rest can still be settled and nothing typed is lost. The plan
is the one that ``engine train --dry-run`` settles, by the same functions of the same facts.
"""

import json
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic.fields import FieldInfo

from dinoviz.table import NONE, Ids, PictureTable
from engine.catalogue import BUNDLED, VIT_SIZES, WEIGHTS, ObjectiveName, Shape, heeded
from engine.errors import BadRecipe
from engine.estimates import Estimate, Speed, estimate
from engine.facts import TRAIN, Machine, facts_of, to_train_on
from engine.recipes import Plan, Recipe, settle
from engine.settings import FIELDS, SECTIONS, Value, choices_of, range_of, source_of, unit_of

Texts = Mapping[str, str]
"""What was typed, by field; a field that is not there is to be settled."""
Kind = Literal["choice", "switch", "whole", "number", "text"]

BASIC = ("objective", "teacher", "model", "epochs", "batch", "global_side", "local_side", "local_crops", "device")
"""Fields that are shown first; the others are folded under their section's heading. ``init`` has a place of its own."""
START = "init"
PATCHES = (8, 14, 16)
"""Patch sides of the released backbones, suggested for each size."""
YES, NO = "yes", "no"
LABELS = {
    "init": "Start from",
    "batch": "Pictures a step",
    "clip": "Clip gradients at",
    "flip": "Mirrored",
    "grey": "Turned grey",
    "jitter": "Colours jittered",
    "solarize": "Solarized",
    "blur": "Blur",
    "hue": "Hue jitter",
    "brightness": "Brightness jitter",
    "contrast": "Contrast jitter",
    "saturation": "Saturation jitter",
    "global_side": "Side of large crops",
    "local_side": "Side of small crops",
    "local_crops": "Small crops a picture",
    "scale_min": "Smallest share of a picture",
    "scale_split": "Share between small and large",
    "koleo": "Spread apart (KoLeo)",
    "prototypes": "Prototypes K",
    "registers": "Register tokens",
    "stem": "Stem",
    "start": "New weights",
    "prepare": "Keep shrunken copies",
    "measure_epochs": "Measure every",
    "checkpoint_seconds": "Checkpoint every",
    "probes": "Probe pictures",
    "tensorboard": "TensorBoard files",
    "norm_last_layer": "Unit prototypes",
    "workers": "Loading processes",
}
"""Where the name of a field, its words apart, says too little; every other field is named by itself."""


def label_of(name: str) -> str:
    """Return a field's name in words."""
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def heading_of(section: str) -> str:
    """Return the heading of a section."""
    return (SECTIONS[section].__doc__ or section).splitlines()[0].rstrip(".")


def kind_of(info: FieldInfo) -> Kind:
    """Return which control a field needs."""
    if choices_of(info):
        return "choice"
    kinds: dict[object, Kind] = {bool: "switch", int: "whole", float: "number"}
    return kinds.get(info.annotation, "text")


def suggestions_of(name: str) -> tuple[str, ...]:
    """Return values that a text may well have."""
    if name == "teacher":
        return (BUNDLED, *WEIGHTS)
    if name != "model":
        return ()
    return (*(f"{size}/{patch}" for size in VIT_SIZES for patch in PATCHES), "resnet-50")


def limits_in_words(info: FieldInfo) -> str:
    """Return the range and unit of a field, empty where it is open."""
    low, high = range_of(info)
    unit = unit_of(info)
    if low is None and high is None:
        return unit
    limits = f"{low:g} to {high:g}" if low is not None and high is not None else f"from {low:g}"
    return f"{limits} {unit}".strip()


def help_of(name: str) -> str:
    """Return what a field is: its sentence, range and source."""
    info = FIELDS[name][1]
    parts = [info.description or "", limits_in_words(info), ", ".join(choices_of(info)), source_of(info)]
    titles = ("", "Range: ", "One of: ", "Source: ")
    lines = [f"{title}{part}" for title, part in zip(titles, parts, strict=True) if part]
    return "\n".join([*lines, f"In run files and on the command line: {name}"])


def said(value: Value) -> str:
    """Return a value as a person types it."""
    if isinstance(value, bool):
        return YES if value else NO
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def matches(name: str, wanted: str) -> bool:
    """Tell whether all words of a search are somewhere in what is said of a field."""
    section, info = FIELDS[name]
    text = " ".join((name, label_of(name), info.description or "", heading_of(section))).lower()
    return all(word in text for word in wanted.lower().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a run would stand on: its pictures, the machine, the weights it starts from, how fast earlier ones were.

    ``machines`` is this one with each of its devices, that of ``auto`` first. ``shorter_sides`` are those of the
    pictures, px, ``classes`` their labels. ``shape_of`` and ``speed_of`` are asked at every change, so they remember
    what they read.
    """

    shorter_sides: NDArray[np.int32]
    machines: tuple[Machine, ...]
    project: Path
    classes: tuple[str, ...] = ()
    shape_of: Callable[[str], Shape | None]
    speed_of: Callable[[Plan], Speed | None] = field(default=lambda _plan: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the form comes to. ``plan`` is None where nothing can be settled; ``problems`` are told at their fields."""

    recipe: Recipe
    plan: Plan | None
    problems: Mapping[str, str]
    problem: str
    took: Estimate | None

    @property
    def objective(self) -> ObjectiveName:
        """What the network is to learn by."""
        return _objective(self.recipe.asked)

    @property
    def can_start(self) -> bool:
        """Nothing stands in the way."""
        return self.plan is not None and not self.problems and not self.problem


def sides_to_learn_from(table: PictureTable, hidden: Collection[int], only: Ids | None) -> NDArray[np.int32]:
    """Return the shorter sides of the pictures a run would learn from, px, in order of size.

    Args:
        table: all pictures.
        hidden: ids of those that were left out of the project.
        only: the ones that were chosen; by the rule of ``engine train`` where None.
    """
    rows = _rows_to_learn_from(table, hidden, only)
    return np.sort(np.maximum(1, np.minimum(table.heights_N[rows], table.widths_N[rows])))


def classes_to_learn(table: PictureTable, hidden: Collection[int], only: Ids | None) -> tuple[str, ...]:
    """Return the labels of the pictures a run would learn from, sorted; the arguments are those of their sides."""
    codes = np.unique(table.label.codes_N[_rows_to_learn_from(table, hidden, only)])
    return tuple(sorted(table.label.words[code] for code in codes.tolist() if code != NONE))


def _rows_to_learn_from(table: PictureTable, hidden: Collection[int], only: Ids | None) -> NDArray[np.intp]:
    rows = np.arange(len(table)) if only is None else np.sort(table.rows_of(only))
    is_used = table.problem.codes_N[rows] == NONE
    if hidden:
        is_used &= ~np.isin(table.ids_N[rows], np.fromiter(hidden, np.int64, len(hidden)))
    rows = rows[is_used]
    if only is None:
        rows = rows[to_train_on(table.split.is_one_of([TRAIN])[rows])]
    return rows


def prepared(texts: Texts, ground: Ground) -> Prepared:
    """Return what the form comes to; takes a millisecond, so it is asked at every key."""
    recipe, problems = _read(texts)
    machine = _machine(recipe, ground.machines)
    shape, wrong_start = _start(recipe, ground)
    if wrong_start:
        problems[START] = wrong_start
        recipe = without(recipe, START)
    facts = facts_of(ground.shorter_sides, machine, ground.project, start=shape, classes=ground.classes)
    plan, problem = None, ""
    while plan is None and not problem:
        try:
            plan = settle(recipe, facts)
        except BadRecipe as refusal:
            name = _field_meant(refusal.message, recipe)
            if name:  # the rest is settled without it, so that one wrong field does not empty the others
                problems[name] = as_the_form_says(str(refusal))
                recipe = without(recipe, name)
            else:
                problem = as_the_form_says(str(refusal))
    took = estimate(plan, cores=machine.cores, earlier=ground.speed_of(plan)) if plan else None
    return Prepared(recipe=recipe, plan=plan, problems=problems, problem=problem, took=took)


def _read(texts: Texts) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe of the texts that can be read, and what is wrong with the others.

    What the objective does not heed waits, in its field, for one that does.
    """
    asked: dict[str, Value] = {}
    problems: dict[str, str] = {}
    for name, text in texts.items():
        if name not in FIELDS or not text.strip():
            continue
        try:
            asked |= Recipe.of({name: text.strip()}).asked
        except BadRecipe:
            problems[name] = _refusal(name, text.strip())
    sections = heeded(_objective(asked))
    return Recipe({name: value for name, value in asked.items() if FIELDS[name][0] in sections}), problems


def _objective(asked: Mapping[str, Value]) -> ObjectiveName:
    return cast("ObjectiveName", asked.get("objective", FIELDS["objective"][1].default))


def _refusal(name: str, text: str) -> str:
    """Return why a text is no value of a field, in words."""
    info = FIELDS[name][1]
    limits = limits_in_words(info)
    match kind_of(info):
        case "whole":
            return f"'{text}' does not fit: a whole number{f', {limits}' if limits else ''}."
        case "number":
            return f"'{text}' does not fit: a number{f', {limits}' if limits else ''}."
        case "choice":
            return f"'{text}' does not fit: one of {', '.join(choices_of(info))}."
        case "switch":
            return f"'{text}' does not fit: {YES} or {NO}."
    return f"'{text}' does not fit."


def _machine(recipe: Recipe, machines: Sequence[Machine]) -> Machine:
    wanted = recipe.asked.get("device")
    return next((machine for machine in machines if machine.device == wanted), machines[0])


def _start(recipe: Recipe, ground: Ground) -> tuple[Shape | None, str]:
    """Return the shape of the weights that are asked for, and what is wrong with them."""
    wanted = str(recipe.asked.get(START, ""))
    if not wanted:
        return None, ""
    shape = ground.shape_of(wanted)
    if shape is None:
        return None, f"What '{Path(wanted).name}' holds is not known here. Import the file in Models first."
    return shape, ""


def _field_meant(message: str, recipe: Recipe) -> str:
    """Return the field that a refusal is about: the first that it names, or whose asked value it quotes."""
    named: list[str] = re.findall(r"[a-z_]+", message)
    for word in named:
        if word in FIELDS and word in recipe.asked:
            return word
    quoted = re.findall(r"'([^']*)'", message)
    return next((name for name, value in recipe.asked.items() if str(value) in quoted), "")


def as_the_form_says(text: str) -> str:
    """Return a sentence of the engine with the fields it names as the form names them."""

    def named(found: re.Match[str]) -> str:
        name = found[0].lstrip("-").replace("-", "_")
        return f"'{label_of(name)}'" if name in FIELDS else found[0]

    told = re.sub(r"--[a-z]+(?:-[a-z]+)*|[a-z]+(?:_[a-z]+)+|\bkoleo\b", named, text)
    return told[:1].upper() + told[1:]


def without(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe that leaves a field open."""
    return Recipe({key: value for key, value in recipe.asked.items() if key != name})


def asked_of(plan: Plan) -> Recipe:
    """Return what a plan was asked for: what was neither settled nor is the usual value."""
    asked = {}
    for name, value in plan.values().items():
        info = FIELDS[name][1]
        is_usual = not info.is_required() and value == info.default
        if name not in plan.reasons and not is_usual:
            asked[name] = value
    return Recipe(asked)


def asked_texts(recipe: Recipe) -> dict[str, str]:
    """Return the texts of a form that asks for a recipe."""
    return {name: said(value) for name, value in recipe.asked.items()}


def run_file(recipe: Recipe) -> str:
    """Return a recipe as a run file, TOML that ``engine train --config`` reads."""
    lines = ["# A run of dinoviz: what is not here is settled from the folder and the machine.", ""]
    for section in SECTIONS:
        names = [name for name in SECTIONS[section].model_fields if name in recipe.asked]
        if names:
            lines += [f"[{section}]", *(f"{name} = {json.dumps(recipe.asked[name])}" for name in names), ""]
    return "\n".join(lines)


def train_arguments(project: Path, recipe: Recipe, only: Path | None = None) -> list[str]:
    """Return what stands after ``engine`` to start a run."""
    flags = [f"--{name.replace('_', '-')}={said(value)}" for name, value in recipe.asked.items()]
    return ["train", str(project), *(["--only", str(only)] if only else []), *flags]


def as_command(arguments: Sequence[str]) -> str:
    """Return a command as a person types it."""
    return shlex.join(["engine", *arguments])


def crop_fields(plan: Plan) -> dict[str, Value]:
    """Return the settings of a plan's crops, as the question about them takes them."""
    return dict(plan.crops.model_dump())


def with_text(texts: Texts, name: str, text: str) -> dict[str, str]:
    """Return texts with one changed; an empty one leaves its field to be settled."""
    changed = {**texts, name: text}
    if not text:
        del changed[name]
    return changed
