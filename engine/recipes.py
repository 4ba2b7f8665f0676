"""What a person asked for (Recipe) and what will run (Plan).

`engine.settings` declares every field, `engine.rules` fills those that were not asked for, each by a pure function of
the facts of the folder and the machine, with its reason. An unsettled value cannot leak: a `Plan` holds settled
values only.
"""

import difflib
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from engine.catalogue import (
    OBJECTIVES,
    RESNET_STRIDE,
    SELF_DISTILLED,
    FeedForward,
    ResNetShape,
    Shape,
    Stem,
    VitShape,
    heeded,
    name_of,
    shape_of,
)
from engine.errors import BadInput, BadRecipe
from engine.presets import PRESETS
from engine.rules import RULES
from engine.settings import (
    AUTO,
    FIELDS,
    SECTIONS,
    ByolSettings,
    CropSettings,
    DinoSettings,
    DistillationSettings,
    Facts,
    FollowerSettings,
    IbotSettings,
    MocoSettings,
    ModelSettings,
    OptimiserSettings,
    ProjectorSettings,
    RunSettings,
    Settings,
    SupervisedSettings,
    SwavSettings,
    TeacherFacts,
    TuningSettings,
    Value,
    before_of,
)

MIN_PICTURES = 2
LEAST_GRID = 3  # patches along a side: a block that is hidden must be smaller than the picture
MIN_CLASSES = 2
OF_A_MOVING_TEACHER = ("dino_weight", "dino_loss", "predictor", "teacher_follows")
"""Settings of teacher and student that say nothing of a frozen teacher."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was asked: some fields by name. Every other field is settled or keeps its default."""

    asked: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, asked: Mapping[str, object]) -> "Recipe":
        """Check names, types and ranges of what was asked; the word ``auto`` leaves a field open.

        Raises:
            BadRecipe: an unknown name (with the nearest one) or a value outside its range.
        """
        return cls({name: _checked(name, value) for name, value in asked.items() if value != AUTO})

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read a run file: TOML with fields at the top or under their section's heading.

        ``preset = "NAME"`` at the top puts a published recipe below them.

        Raises:
            BadInput: the file cannot be read.
            BadRecipe: it is no TOML, or holds an unknown or impossible value.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as problem:
            raise BadInput(f"Cannot read the run file '{path}': {problem.strerror}.") from problem
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise BadRecipe(f"'{path}' is no TOML file: {problem}.") from problem
        preset = table.pop("preset", None)
        flat: dict[str, object] = {}
        for name, value in table.items():
            flat |= value if isinstance(value, dict) and name in SECTIONS else {name: value}
        return cls.of(flat) if preset is None else cls.of(flat).over(cls.preset(str(preset)))

    @classmethod
    def preset(cls, name: str) -> "Recipe":
        """Return a published recipe.

        Raises:
            BadRecipe: there is none of that name.
        """
        if name not in PRESETS:
            near = difflib.get_close_matches(name, PRESETS, n=1)
            raise BadRecipe(
                f"There is no preset '{name}'.",
                f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(PRESETS)}.",
            )
        return cls.of(PRESETS[name].asked)

    def over(self, other: "Recipe") -> "Recipe":
        """Return this recipe with ``other`` below it: what both ask for is taken from this one."""
        return Recipe({**other.asked, **self.asked})


def _checked(name: str, value: object) -> Value:
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        raise BadRecipe(
            f"There is no setting '{name}'.", f"Did you mean '{near[0]}'?" if near else "See engine train --help."
        )
    info = FIELDS[name][1]
    adapter: TypeAdapter[Value] = TypeAdapter(typing.Annotated[info.annotation, info])  # type: ignore[arg-type]
    try:
        return adapter.validate_python(value)
    except ValidationError as problem:
        wrong = problem.errors()[0]["msg"]
        raise BadRecipe(f"'{value}' is no value for {name}: {wrong.lower()}.", info.description or "") from None


class Plan(Settings):
    """What will run: every value settled, and the reason of each that was not asked for."""

    pictures: int
    processes: int = 1
    shape: VitShape | ResNetShape
    model: ModelSettings
    crops: CropSettings
    dino: DinoSettings
    ibot: IbotSettings
    projector: ProjectorSettings
    follower: FollowerSettings
    byol: ByolSettings
    moco: MocoSettings
    swav: SwavSettings
    distillation: DistillationSettings
    supervised: SupervisedSettings = Field(default_factory=SupervisedSettings)
    optimiser: OptimiserSettings
    tuning: TuningSettings
    run: RunSettings
    classes: tuple[str, ...] = ()
    """Names of the classes to learn, in the order of their numbers; none where no labels are learnt."""
    reasons: dict[str, str] = Field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Steps a pass takes; pictures that do not fill a batch wait for the next pass (main_dino.py drop_last)."""
        return max(1, self.pictures // self.run.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.run.epochs * self.steps_per_epoch

    @property
    def heads_first_steps(self) -> int:
        """Steps at the start in which the backbone stays as it is."""
        return self.tuning.heads_first_epochs * self.steps_per_epoch

    @property
    def heeded(self) -> tuple[str, ...]:
        """Sections of settings that the objective heeds."""
        return heeded(self.run.objective)

    @property
    def large_crops(self) -> int:
        """Large crops of each picture: labels need no second one to be compared with."""
        return 1 if self.run.objective == "supervised" else 2

    @property
    def prototypes(self) -> int:
        """K, the answers that teacher and student choose among; 0 where the objective has none."""
        if "swav" in self.heeded:
            return self.swav.swav_prototypes
        if "swav" in self.heeded:
            return self.swav.swav_prototypes
        return self.dino.prototypes if "dino" in self.heeded else 0

    def crops_at(self, epoch: int) -> CropSettings:
        """Return how pictures are cropped in an epoch: larger in the last ones, if there are such."""
        crops = self.crops
        if epoch < self.run.epochs - crops.last_epochs:
            return crops
        patch = self.shape.patch if isinstance(self.shape, VitShape) else RESNET_STRIDE
        local_side = round(crops.local_side * crops.last_side / crops.global_side / patch) * patch
        return crops.model_copy(update={"global_side": crops.last_side, "local_side": max(patch, local_side)})

    @property
    def largest_side(self) -> int:
        """Side of the largest crops of the run, px."""
        return max(self.crops.global_side, self.crops_at(self.run.epochs - 1).global_side)

    def values(self) -> dict[str, Value]:
        """Return every field by name that the objective heeds, in the order of declaration."""
        return {
            name: getattr(getattr(self, section), name)
            for name, (section, _) in FIELDS.items()
            if section in self.heeded
        }

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, content: Any) -> Any:
        """Fill in what a plan cannot say that an earlier version wrote: what was done then."""
        if not isinstance(content, dict):
            return content
        filled = dict(content)
        for name, (section, info) in FIELDS.items():
            group = filled.get(section, {})
            if isinstance(group, dict) and name not in group and before_of(info) is not None:
                filled[section] = {**group, name: before_of(info)}
        return filled


def settle(recipe: Recipe, facts: Facts) -> Plan:
    """Fill every field that was not asked for, each with its reason; a pure function.

    Raises:
        BadRecipe: no pictures, or values that cannot be run together.
    """
    if facts.n_pictures < MIN_PICTURES:
        raise BadRecipe(
            f"There are {facts.n_pictures} readable pictures; training needs at least {MIN_PICTURES}.",
            "Add pictures, or look at these with a released backbone: engine look attention.",
        )
    values: dict[str, Value] = dict(recipe.asked)
    reasons: dict[str, str] = {}
    _check_heeded(recipe)
    for name, (_, info) in FIELDS.items():
        if not info.is_required():
            values.setdefault(name, info.default)
    for name, rule in RULES.items():
        if name not in values:
            values[name], reasons[name] = rule(facts, values)
    groups: dict[str, dict[str, Value]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        groups[FIELDS[name][0]][name] = value
    try:
        plan = Plan(
            pictures=facts.n_pictures,
            processes=facts.processes,
            shape=_shape(values, facts),
            classes=facts.classes if values["objective"] == "supervised" else (),
            reasons=reasons,
            **{section: SECTIONS[section](**group) for section, group in groups.items()},  # type: ignore[arg-type]
        )
    except ValidationError as problem:
        raise BadRecipe("These settings cannot be run together: " + problem.errors()[0]["msg"] + ".") from None
    _check(plan)
    _check_lesson(plan, facts)
    _check_tuning(plan, facts)
    return plan


def _shape(values: Mapping[str, Value], facts: Facts) -> Shape:
    has_mask_token = "ibot" in heeded(str(values["objective"]))
    if isinstance(facts.start, VitShape):
        return replace(facts.start, has_mask_token=facts.start.has_mask_token or has_mask_token)
    if facts.start is not None:
        return facts.start
    shape = shape_of(str(values["model"]))
    if isinstance(shape, ResNetShape):
        return shape
    return replace(
        shape,
        depth=int(values["depth"]),
        heads=int(values["heads"]),
        registers=int(values["registers"]),
        native_side=int(values["global_side"]),
        stem=cast("Stem", values["stem"]),
        feed_forward=cast("FeedForward", values["feed_forward"]),
        layer_scale=float(values["layer_scale"]) or None,
        has_mask_token=has_mask_token,
    )


def _check_heeded(recipe: Recipe) -> None:
    """Refuse settings that the objective does not look at: whoever asks for one means something by it."""
    objective = str(recipe.asked.get("objective", FIELDS["objective"][1].default))
    sections = heeded(objective)
    for name in recipe.asked:
        if FIELDS[name][0] not in sections:
            others = [row.name for row in OBJECTIVES.values() if FIELDS[name][0] in row.sections]
            raise BadRecipe(
                f"{name} means nothing to the objective {objective}.",
                f"Leave it out, or choose another objective: {', '.join(others)}.",
            )


def _check(plan: Plan) -> None:
    """Refuse what would fail later, naming the values."""
    run, crops, shape = plan.run, plan.crops, plan.shape
    _check_sharding(plan)
    if isinstance(shape, VitShape):
        sides = {"global_side": crops.global_side, "local_side": crops.local_side}
        if crops.last_epochs:
            sides["last_side"] = crops.last_side
        for name, side in sides.items():
            if side % shape.patch:
                near = max(1, round(side / shape.patch)) * shape.patch
                raise BadRecipe(
                    f"{name} {side} is no multiple of the patch side {shape.patch}.", f"Take {near}, for example."
                )
        if "ibot" in plan.heeded and plan.ibot.ibot_weight and crops.global_side < LEAST_GRID * shape.patch:
            raise BadRecipe(
                f"Crops of global_side {crops.global_side} px have too few patches to hide some.",
                f"Take {LEAST_GRID * shape.patch} px or more, a smaller patch, or ibot_weight 0.",
            )
        if shape.width % shape.heads:
            raise BadRecipe(f"{shape.heads} heads do not divide the width {shape.width}.", "Take a divisor of it.")
        for name in ("depth", "heads", "registers", "stem", "feed_forward"):
            asked, real = getattr(plan.model, name), getattr(shape, name)
            if asked != real:
                raise BadRecipe(
                    f"{name} {asked} is not that of the weights it starts from, {real}.",
                    f"Leave {name} out, or start from other weights.",
                )
    if plan.model.model != name_of(shape) and plan.model.init:
        raise BadRecipe(
            f"model {plan.model.model} is not that of the weights it starts from, {name_of(shape)}.",
            "Leave the model out, or start from other weights.",
        )
    if crops.renderer == "exact" and run.prepare:
        raise BadRecipe("Exact crops cannot be cut from shrunken copies.", "Leave prepare out, or say --prepare no.")
    if run.batch > plan.pictures:
        raise BadRecipe(
            f"batch {run.batch} is more than the {plan.pictures} pictures there are.",
            "Lower the batch, or leave it to auto.",
        )
    parts = run.accumulation * plan.processes
    if run.batch % parts:
        raise BadRecipe(
            f"batch {run.batch} does not split into {plan.processes} processes x {run.accumulation} parts.",
            f"Take a multiple of {parts}.",
        )


def _check_tuning(plan: Plan, facts: Facts) -> None:
    """Refuse to take care of weights where there are none, or never to let them learn."""
    tuning = plan.tuning
    for name, is_asked in (
        ("heads_first_epochs", tuning.heads_first_epochs > 0),
        ("guard", tuning.guard),
        ("lora_rank", tuning.lora_rank > 0),
    ):
        if is_asked and facts.start is None:
            raise BadRecipe(
                f"{name} {getattr(tuning, name)} needs weights that know something; this run starts from noise.",
                f"Name them with --init, or leave {name} out.",
            )
    if tuning.heads_first_epochs >= plan.run.epochs:
        raise BadRecipe(
            f"heads_first_epochs {tuning.heads_first_epochs} leaves none of {plan.run.epochs} epochs for the backbone.",
            f"Take {max(0, plan.run.epochs - 1)} at most, or more epochs.",
        )
    if tuning.lora_rank and not isinstance(plan.shape, VitShape):
        raise BadRecipe(f"lora_rank {tuning.lora_rank} needs a transformer.", "A residual network has no attention.")
    if tuning.lora_rank > plan.shape.width:
        raise BadRecipe(
            f"lora_rank {tuning.lora_rank} is more than the width {plan.shape.width}.", "8 is common, 1 to 64 useful."
        )


def _check_sharding(plan: Plan) -> None:
    """Refuse to split what nobody has tried to split."""
    if plan.run.sharding == "none":
        return
    for name, value, is_fine in (
        ("objective", plan.run.objective, plan.run.objective in SELF_DISTILLED),
        ("model", plan.model.model, isinstance(plan.shape, VitShape)),
        ("optimiser", plan.optimiser.optimiser, plan.optimiser.optimiser == "adamw"),
        ("precision", plan.run.precision, plan.run.precision != "fp16"),
        ("guard", plan.tuning.guard, not plan.tuning.guard),
        ("lora_rank", plan.tuning.lora_rank, not plan.tuning.lora_rank),
        ("heads_first_epochs", plan.tuning.heads_first_epochs, not plan.tuning.heads_first_epochs),
    ):
        if not is_fine:
            raise BadRecipe(f"{name} {value} cannot be split with --sharding fsdp.", "Take --sharding none.")


def _check_lesson(plan: Plan, facts: Facts) -> None:
    """Refuse to learn labels or from a teacher where there is none."""
    if plan.run.objective == "supervised" and len(plan.classes) < MIN_CLASSES:
        raise BadRecipe(
            f"To learn from labels takes {MIN_CLASSES} classes at least; the folder has {len(plan.classes)}.",
            "Put the pictures of each class into a folder of its own, or learn without labels: --objective dino.",
        )
    if plan.run.objective == "distillation" and not plan.distillation.teacher:
        raise BadRecipe(
            "Distillation needs a teacher, and none was named.",
            "Name a run, a file, a released backbone or timm:NAME with --teacher.",
        )
    if plan.run.objective == "distillation":
        for name in OF_A_MOVING_TEACHER:
            if getattr(plan.dino, name) != FIELDS[name][1].default:
                raise BadRecipe(f"{name} means nothing where the teacher is frozen.", f"Leave {name} out.")
        _check_teacher(plan, facts.teacher)


def _check_teacher(plan: Plan, teacher: TeacherFacts | None) -> None:
    if teacher is None:
        return
    k, side = plan.dino.prototypes, plan.distillation.teacher_side
    if teacher.prototypes and k != teacher.prototypes:
        raise BadRecipe(f"prototypes {k} is not the {teacher.prototypes} of the teacher's head.", "Leave it out.")
    if side % teacher.multiple or teacher.fixed_side not in (0, side):
        fitting = teacher.fixed_side or max(1, round(side / teacher.multiple)) * teacher.multiple
        raise BadRecipe(f"teacher_side {side} is not a side that the teacher takes.", f"Take {fitting}, for example.")
