"""What a person asked for (Recipe) and what will run (Plan).

A field is declared once, below, with its sentence, unit, range and source. From that one declaration
come validation, the flags of the command line, the run file, the help, the form of the window and the
table printed before a run. A field without a default is ``auto``: `settle` fills it by a pure function
of the facts of the folder and the machine, and says why. An unsettled value cannot leak: a `Plan` holds
settled values only.
"""

import difflib
import math
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from engine.catalogue import ResNetShape, Shape, Start, Stem, VitShape, name_of, shape_of
from engine.errors import BadInput, BadRecipe

Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]
Value = str | int | float | bool

AUTO = "auto"


def setting(
    default: Any = ...,
    *,
    says: str,
    source: str = "",
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare one field of a recipe; without a ``default`` it is settled from the facts."""
    return Field(default, ge=low, le=high, description=says, json_schema_extra={"unit": unit, "source": source})


class Settings(BaseModel):
    """A group of fields that are settled together and shown under one heading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Settings):
    """Backbone."""

    model: str = setting(says="Architecture: SIZE/PATCH such as vit-small/16, or resnet-50.", source="DINO tab. 1")
    depth: int = setting(says="Number of transformer blocks.", low=1, high=64)
    heads: int = setting(says="Number of attention heads; must divide the width.", low=1, high=64)
    registers: int = setting(
        says="Extra tokens that keep patch maps clean in large models.", low=0, high=16, source="Darcet et al. 2023"
    )
    stem: Stem = setting(
        says="How pixels become patch tokens: one linear map (patch) or a few convolutions (conv).",
        source="patch: DINO §3.2; conv: Xiao et al. 2021, Early convolutions help transformers see better",
    )
    start: Start = setting(
        says="How new weights begin: as published, or so that small, uniform folders do not stay at the start.",
        source="published: normal of 0.02; contrasting: variance kept by each layer, sine positions",
    )
    drop_path: float = setting(
        says="Share of residual branches left out of the student while it learns, growing over the depth.",
        low=0.0,
        high=0.9,
        source="main_dino.py --drop_path_rate 0.1",
    )
    init: str = setting("", says="Weights to start from: a file, a run or a released name; empty starts from noise.")


class CropSettings(Settings):
    """Crops and colours."""

    global_side: int = setting(says="Side of the two large crops.", unit="px", low=16, high=1024)
    local_side: int = setting(says="Side of the small crops.", unit="px", low=8, high=512)
    local_crops: int = setting(
        says="Small crops of each picture; 0 switches multi-crop off.", low=0, high=20, source="DINO tab. 8"
    )
    scale_min: float = setting(
        says="Smallest share of the picture a small crop covers.", low=0.01, high=0.9, source="DINO app. E: 0.05"
    )
    scale_split: float = setting(
        says="Small crops cover at most this share of the picture, large crops at least.",
        low=0.05,
        high=0.9,
        source="DINO app. E: s = 0.4 (ViT), 0.14 (ResNet-50); 0.25 for the longest runs",
    )
    flip: float = setting(0.5, says="Share of crops mirrored left to right.", low=0.0, high=1.0)
    jitter: float = setting(0.8, says="Share of crops whose colours are jittered.", low=0.0, high=1.0)
    brightness: float = setting(
        says="Strength of the brightness jitter.", low=0.0, high=1.0, source="main_dino.py: 0.4"
    )
    contrast: float = setting(says="Strength of the contrast jitter.", low=0.0, high=1.0, source="main_dino.py: 0.4")
    saturation: float = setting(
        says="Strength of the saturation jitter.", low=0.0, high=1.0, source="main_dino.py: 0.2"
    )
    hue: float = setting(
        says="Strength of the hue jitter, in turns of the colour wheel.", low=0.0, high=0.5, source="main_dino.py: 0.1"
    )
    grey: float = setting(0.2, says="Share of crops turned grey.", low=0.0, high=1.0)
    solarize: float = setting(0.2, says="Share of second large crops solarized.", low=0.0, high=1.0)
    blur: Literal["paper", "as_released", "off"] = setting(
        "paper",
        says="Which crops are blurred: as the paper says, as DINOv2's released models really were, or none.",
        source="main_dino.py DataAugmentationDINO; facebookresearch/dinov3#286",
    )
    renderer: Literal["fast", "exact"] = setting(
        "fast",
        says="fast renders crops with OpenCV and one colour matrix; exact repeats the reference's Pillow operations.",
    )

    @model_validator(mode="after")
    def _scales_are_ordered(self) -> Self:
        if self.scale_min >= self.scale_split:
            raise ValueError(f"scale_min {self.scale_min} is not below scale_split {self.scale_split}")
        return self


class DinoSettings(Settings):
    """Objective: DINO."""

    prototypes: int = setting(
        says="K, the length of the output that teacher and student compare.",
        low=16,
        high=262_144,
        source="DINO tab. 13",
    )
    head_layers: int = setting(3, says="Layers of the projection head before the last.", low=1, high=6)
    head_width: int = setting(says="Width inside the projection head.", low=16, high=8192)
    bottleneck: int = setting(256, says="Width of the projection head's bottleneck.", low=8, high=2048)
    head_norm: Literal["none", "batch"] = setting(
        says="Batch normalisation in the projection head; keeps small, uniform folders from staying at the start.",
        source="DINO tab. 14: optional",
    )
    norm_last_layer: bool = setting(
        says="Keep the prototypes at unit length; steadier, a little less accurate on long runs.",
        source="main_dino.py --norm_last_layer",
    )
    student_temperature: float = setting(
        0.1, says="Sharpness of the student's answer; lower is sharper.", low=0.01, high=1.0, source="DINO §3.1"
    )
    teacher_temperature: float = setting(
        says="Sharpness of the teacher's answer; lower is sharper, above 0.07 is unstable.", low=0.005, high=0.2
    )
    teacher_temperature_start: float = setting(
        says="Teacher temperature in the first epoch; rises to its final value during the warm-up.", low=0.005, high=0.2
    )
    teacher_warmup_epochs: int = setting(
        says="Epochs over which the teacher temperature rises.", unit="epochs", low=0, high=1000
    )
    momentum: float = setting(
        says="How slowly the teacher follows the student at the start; its half-life is ln 2 / (1 - momentum) steps.",
        low=0.0,
        high=1.0,
        source="DINO §3.1: 0.996; main_dino.py: 0.9995 for small batches",
    )
    momentum_end: float = setting(1.0, says="The same at the end; rises along a cosine.", low=0.0, high=1.0)
    centre_momentum: float = setting(
        0.9, says="How slowly the centre follows the teacher's mean answer.", low=0.0, high=0.999, source="DINO tab. 7b"
    )
    koleo: float = setting(
        says="Weight of the term that spreads pictures apart (KoLeo); 0 is DINO as published.",
        low=0.0,
        high=1.0,
        source="DINOv2 §4: 0.1",
    )


class OptimiserSettings(Settings):
    """Optimiser."""

    optimiser: Literal["adamw", "sgd", "lars"] = setting(says="Rule that turns gradients into steps.")
    learning_rate: float = setting(
        says="Peak learning rate for 256 pictures a step; scaled linearly with the batch.",
        low=1e-8,
        high=10.0,
        source="DINO app. C: 5e-4",
    )
    learning_rate_end: float = setting(1e-6, says="Learning rate at the end of the cosine.", low=0.0, high=0.1)
    warmup_epochs: int = setting(
        says="Epochs over which the learning rate rises from 0.", unit="epochs", low=0, high=500
    )
    weight_decay: float = setting(
        0.04, says="Pull of the weights towards 0 at the start.", low=0.0, high=1.0, source="DINO app. C"
    )
    weight_decay_end: float = setting(says="The same at the end; follows a cosine.", low=0.0, high=1.0)
    clip: float = setting(
        3.0,
        says="Largest gradient norm of any one tensor; 0 switches clipping off.",
        low=0.0,
        high=100.0,
        source="main_dino.py --clip_grad",
    )
    freeze_last_layer: int = setting(
        says="Epochs in which the prototypes stay as they are; steadies the start.", unit="epochs", low=0, high=100
    )


class RunSettings(Settings):
    """Run."""

    objective: Literal["dino"] = setting("dino", says="What the network learns by.", source="DINO")
    epochs: int = setting(says="Passes over the pictures.", unit="epochs", low=1, high=100_000)
    batch: int = setting(says="Pictures a step, over all devices.", unit="pictures", low=1, high=65_536)
    accumulation: int = setting(
        says="Parts a batch is computed in, for little memory. The centre is that of the whole batch; batch norm and "
        "KoLeo see one part.",
        low=1,
        high=1024,
    )
    seed: int = setting(0, says="Start of every random draw; the same seed repeats the run.", low=0, high=2**31 - 1)
    device: Device = setting(says="Where the network is computed.")
    precision: Precision = setting(says="Arithmetic of the network; heads, softmax and loss are always fp32.")
    workers: int = setting(says="Processes that decode and crop pictures; 0 does it between the steps.", low=0, high=64)
    prepare: bool = setting(
        says="Keep a shrunken copy of every picture in the project's cache, so that each is decoded once.",
    )
    compile: bool = setting(False, says="Compile the network first; pays on GPUs for long runs only.")
    checkpoint_seconds: float = setting(
        60.0, says="Longest time between two checkpoints: what a power cut can cost.", unit="s", low=0.0, high=86_400
    )
    measure_epochs: int = setting(says="Epochs between two k-NN measurements; 0 never measures.", unit="epochs", low=0)
    probes: int = setting(12, says="Pictures whose attention and masks are kept while the run goes on.", low=0, high=64)
    tensorboard: bool = setting(False, says="Also write TensorBoard event files (needs the tensorboard extra).")


SECTIONS: dict[str, type[Settings]] = {
    "model": ModelSettings,
    "crops": CropSettings,
    "dino": DinoSettings,
    "optimiser": OptimiserSettings,
    "run": RunSettings,
}


def _fields() -> dict[str, tuple[str, FieldInfo]]:
    return {
        name: (section, info) for section, settings in SECTIONS.items() for name, info in settings.model_fields.items()
    }


FIELDS: dict[str, tuple[str, FieldInfo]] = _fields()
"""Every field by name: its section and its declaration. Names are unique over all sections."""


def unit_of(info: FieldInfo) -> str:
    """Return the unit of a field, empty where it is a bare number or a word."""
    return str(cast("dict[str, str]", info.json_schema_extra)["unit"])


def source_of(info: FieldInfo) -> str:
    """Return where a field and its default come from, empty where it is ours alone."""
    return str(cast("dict[str, str]", info.json_schema_extra)["source"])


def range_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the lowest and highest value of a field, None where it is open."""
    low = next((m.ge for m in info.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the words a field may take, empty where it is not a choice."""
    return typing.get_args(info.annotation) if typing.get_origin(info.annotation) is Literal else ()


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
        flat: dict[str, object] = {}
        for name, value in table.items():
            flat |= value if isinstance(value, dict) and name in SECTIONS else {name: value}
        return cls.of(flat)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known before a run: the folder and the machine. `settle` looks at nothing else."""

    n_pictures: int
    median_side: int = 224
    device: Device = "cpu"
    device_memory_bytes: int = 8 * 2**30
    has_bf16: bool = True
    cores: int = 2
    processes: int = 1
    disk_free_bytes: int = 2**40
    start: Shape | None = None
    """Shape of the weights the run starts from; None when it starts from noise."""


class Plan(Settings):
    """What will run: every value settled, and the reason of each that was not asked for."""

    pictures: int
    processes: int = 1
    shape: VitShape | ResNetShape
    model: ModelSettings
    crops: CropSettings
    dino: DinoSettings
    optimiser: OptimiserSettings
    run: RunSettings
    reasons: dict[str, str] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Steps a pass takes; pictures that do not fill a batch wait for the next pass (main_dino.py drop_last)."""
        return max(1, self.pictures // self.run.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.run.epochs * self.steps_per_epoch

    def values(self) -> dict[str, Value]:
        """Return every field by name, in the order of declaration."""
        return {name: getattr(getattr(self, section), name) for name, (section, _) in FIELDS.items()}


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
            reasons=reasons,
            **{section: SECTIONS[section](**group) for section, group in groups.items()},  # type: ignore[arg-type]
        )
    except ValidationError as problem:
        raise BadRecipe("These settings cannot be run together: " + problem.errors()[0]["msg"] + ".") from None
    _check(plan)
    return plan


def _shape(values: Mapping[str, Value], facts: Facts) -> Shape:
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
    )


def _check(plan: Plan) -> None:
    """Refuse what would fail later, naming the values."""
    run, crops, shape = plan.run, plan.crops, plan.shape
    if isinstance(shape, VitShape):
        for name, side in (("global_side", crops.global_side), ("local_side", crops.local_side)):
            if side % shape.patch:
                near = max(1, round(side / shape.patch)) * shape.patch
                raise BadRecipe(
                    f"{name} {side} is no multiple of the patch side {shape.patch}.", f"Take {near}, for example."
                )
        if shape.width % shape.heads:
            raise BadRecipe(f"{shape.heads} heads do not divide the width {shape.width}.", "Take a divisor of it.")
        for name in ("depth", "heads", "registers", "stem"):
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


# The rules. Each gives a value and the reason shown beside it. A rule may look at values settled above it.

Rule = Callable[[Facts, Mapping[str, Value]], tuple[Value, str]]

MIN_PICTURES = 2
SMALL_FOLDER = 20_000  # below this the paper's settings, made for 1.3 million pictures, do not learn
TINY_FOLDER = 1000
GPU_PICTURES_SEEN = 30_000_000  # 100 epochs of the paper are 128 million; small folders stop gaining earlier
CPU_PICTURES_SEEN = 300_000  # about 70 minutes of one core at 48 px
# Measured on 3,068 photos of clothing, README "Learning from few pictures".
SMALL_PEAK_RATE = 5e-4
START_PEAK_RATE = 2e-4
DEPTH_OF_SMALL_SIZES = 12
CPU_SIDE = 48
RESNET_STRIDE = 32  # pixels for one place of its last map
TINY_SIDE = 64  # below it a crop has a few dozen patches at most
# Memory of one picture with 2 x 224 and 10 x 96 px crops in half precision: DINO tab. 8, 15.4 GB for 64 (vit-small).
BYTES_PER_PICTURE_VIT_SMALL = 240 * 2**20


def _is_small(facts: Facts) -> bool:
    return facts.n_pictures < SMALL_FOLDER


def _vit(facts: Facts, values: Mapping[str, Value]) -> VitShape | None:
    """Return the transformer that the run starts from or that was named, None for a residual network."""
    shape = facts.start or shape_of(str(values["model"]))
    return shape if isinstance(shape, VitShape) else None


FROM_START = "that of the weights it starts from"
NO_TRANSFORMER = "a residual network has none"


def _model(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.start is not None:
        return name_of(facts.start), FROM_START
    if facts.device == "cpu":
        return "vit-tiny/8", "the smallest transformer, with patches that fit small crops: this runs on the CPU"
    if facts.n_pictures >= 500_000 and facts.device_memory_bytes >= 40 * 2**30:
        return "vit-base/16", "enough pictures and memory for the larger network"
    return "vit-small/16", "the paper's network for one GPU"


def _depth(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 1, NO_TRANSFORMER
    if facts.start is not None:
        return vit.depth, FROM_START
    if facts.device == "cpu" and _is_small(facts) and vit.depth == DEPTH_OF_SMALL_SIZES:
        return vit.depth // 2, "half the blocks, twice the steps in the same time"
    return vit.depth, f"{values['model']} has {vit.depth} blocks"


def _heads(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 1, NO_TRANSFORMER
    return vit.heads, FROM_START if facts.start is not None else "64 numbers a head, as in every released model"


def _registers(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is None:
        return 0, NO_TRANSFORMER
    return vit.registers, FROM_START if facts.start is not None else "small models have no need of them"


def _stem(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    if vit is not None and facts.start is not None:
        return vit.stem, FROM_START
    if vit is not None and _is_small(facts) and vit.patch & (vit.patch - 1) == 0:
        return "conv", "under 20,000 pictures one linear map learns edges too slowly"
    return "patch", "as published"


def _start(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return "contrasting", "with the published start the [CLS] of similar pictures are alike and nothing is learnt"
    return "published", "as published"


def _drop_path(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.device == "cpu":
        return 0.0, "a short run has no need of it"
    return 0.1, "as published"


def _global_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    wanted = CPU_SIDE if facts.device == "cpu" else 224
    vit = _vit(facts, values)
    patch = vit.patch if vit else RESNET_STRIDE
    side = max(2 * patch, min(wanted, facts.median_side) // patch * patch)
    if side < wanted // patch * patch:
        return side, f"half of the pictures are smaller than {wanted} px"
    return side, "steps that a CPU takes in a fraction of a second" if facts.device == "cpu" else "as published"


def _local_side(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    vit = _vit(facts, values)
    patch = vit.patch if vit else RESNET_STRIDE
    side = max(patch, round(int(values["global_side"]) * 96 / 224 / patch) * patch)
    return side, "96 / 224 of the large crops, in whole patches, as published"


def _local_crops(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.device == "cpu":
        return 4, "more would slow the CPU more than it teaches"
    return 8, "as published"


def _scale_split(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return 0.14, "the paper's value for ResNet-50"
    if int(values["global_side"]) < TINY_SIDE:
        return 0.5, "large crops this small must show enough to be recognised"
    return 0.4, "the paper's value for vision transformers"


def _scale_min(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if int(values["global_side"]) < TINY_SIDE:
        return 0.15, f"less of a picture in {values['local_side']} px shows nothing"
    return 0.05, "as published"


def _jitter(small: float, published: float) -> Rule:
    def rule(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
        if _is_small(facts):
            return small, "few pictures can be told apart by colours alone; that way out is closed"
        return published, "as published"

    return rule


def _prototypes(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    # Steps by folder size: as lightly-train scales its output; DINO tab. 13 loses 2 % from 65,536 to 1,024.
    if facts.n_pictures < TINY_FOLDER:
        return 256, f"fewer than {TINY_FOLDER:,} pictures cannot fill more prototypes"
    for limit, length in ((SMALL_FOLDER, 1024), (50_000, 2048), (100_000, 4096), (200_000, 16_384), (500_000, 32_768)):
        if facts.n_pictures <= limit:
            return length, f"few pictures cannot fill more prototypes: {length} up to {limit:,} pictures"
    return 65_536, "as published"


def _head_width(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 512, "a smaller head for fewer prototypes"
    return 2048, "as published"


def _head_norm(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return "batch", "the [CLS] of similar pictures start alike; normalising over the batch keeps them apart"
    return "none", "as published"


def _norm_last_layer(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    return True, "steadier; the reference's default"


def _teacher_temperature(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 0.02, "higher leaves the teacher unsure on few pictures"
    return 0.07, "the paper's longest and best runs"


def _teacher_temperature_start(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return min(0.04, float(values["teacher_temperature"])), "a sharper teacher at first, as published"


def _teacher_warmup_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["teacher_temperature"] == values["teacher_temperature_start"]:
        return 0, "the temperature does not change"
    return min(30, int(values["epochs"]) * 3 // 10), "30 of 100 epochs or more, as published"


def _momentum(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    # facebookresearch/dino#104 raises it for small batches; lightly-train and dino#246 lower it for small folders.
    steps = int(values["epochs"]) * max(1, facts.n_pictures // int(values["batch"]))
    if steps < 20_000:
        return 0.99, f"in {steps:,} steps the teacher must be able to follow: half-life 69 steps"
    return 0.996, "as published: half-life 173 steps"


def _koleo(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if _is_small(facts):
        return 0.2, "spreads similar pictures apart"
    return 0.0, "DINO as published"


def _learning_rate(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["optimiser"] != "adamw":
        return 0.03, "the reference's rate for SGD and LARS"
    # Linear scaling with the batch is made for large ones; AdamW takes larger steps with small ones well.
    peak = START_PEAK_RATE if facts.start is not None else SMALL_PEAK_RATE
    if facts.start is not None:
        return peak * 256 / int(values["batch"]), f"a peak of {peak}: weights that know something are moved with care"
    if _is_small(facts):
        return peak * 256 / int(values["batch"]), f"a peak of {peak} whatever the batch"
    return 5e-4, "as published"


def _optimiser(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if _vit(facts, values) is None:
        return "sgd", "the reference's choice for ResNet-50"
    return "adamw", "as published"


def _warmup_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return min(10, int(values["epochs"]) // 10), "a tenth of the run, 10 epochs at most, as published"


def _freeze_last_layer(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return min(1, int(values["epochs"]) - 1), "the first epoch, as published, unless it is the only one"


def _weight_decay_end(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return max(0.4, float(values["weight_decay"])), "as published"


def _epochs(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    seen = CPU_PICTURES_SEEN if facts.device == "cpu" else GPU_PICTURES_SEEN
    epochs = max(1 if facts.device == "cpu" else 100, min(800, seen // facts.n_pictures))
    return epochs, f"about {epochs * facts.n_pictures / 1e6:.1f} million pictures seen"


def _fitting(facts: Facts, values: Mapping[str, Value]) -> int:
    """Pictures that fit the device at once, a power of two."""
    vit = _vit(facts, values)
    tokens = (int(values["global_side"]) / 16) ** 2 * 2 + (int(values["local_side"]) / 16) ** 2 * int(
        values["local_crops"]
    )
    share = tokens / (2 * 14**2 + 10 * 6**2)
    share *= 1.0 if vit is None else vit.width / 384 * (16 / vit.patch) ** 2
    room = facts.device_memory_bytes * 0.8 / (BYTES_PER_PICTURE_VIT_SMALL * share)
    return int(2 ** max(0, int(math.log2(max(1.0, room)))))


def _batch(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    wanted = 32 if facts.device == "cpu" else 512
    batch = wanted
    while batch > facts.processes and batch * 2 > facts.n_pictures:  # at least 2 steps an epoch
        batch //= 2
    batch = max(batch - batch % facts.processes, facts.processes)
    if batch < wanted:
        return batch, f"{facts.n_pictures} pictures give few steps an epoch with more"
    return batch, "as many steps as possible in the time" if facts.device == "cpu" else "the paper: larger gains little"


def _accumulation(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    each = max(1, int(values["batch"]) // facts.processes)
    fits = each if facts.device == "cpu" else _fitting(facts, values)
    parts = 1
    while each / parts > fits and each % (2 * parts) == 0:
        parts *= 2
    if parts == 1:
        return 1, "the batch fits the memory"
    return parts, f"about {fits} pictures fit the memory at once"


def _device(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    return facts.device, {"cpu": "no GPU was found", "cuda": "a CUDA GPU was found", "mps": "an Apple GPU was found"}[
        facts.device
    ]


def _precision(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.has_bf16:
        return "bf16", "the device multiplies bf16 fastest"
    if facts.device == "cuda":
        return "fp16", "an older GPU: half precision with a scaled loss"
    return "fp32", "the device has no fast half precision"


def _workers(facts: Facts, _: Mapping[str, Value]) -> tuple[Value, str]:
    if facts.device == "cpu":
        return 1, "one process crops while the others compute"
    workers = max(1, min(16, facts.cores // facts.processes - 1))
    return workers, f"{facts.cores} cores"


def _prepare(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    if values["renderer"] == "exact":
        return False, "exact crops are cut from the pictures themselves"
    side = 2 * int(values["global_side"])
    need = facts.n_pictures * side * side * 4
    if int(values["epochs"]) > 2 and need < facts.disk_free_bytes // 10 and need < 200 * 2**30:
        return True, f"{need / 2**20:,.0f} MB of cache save decoding every picture {values['epochs']} times"
    return False, "the copies would not pay for their room"


def _measure_epochs(facts: Facts, values: Mapping[str, Value]) -> tuple[Value, str]:
    return max(1, int(values["epochs"]) // 20), "20 points on the curve"


RULES: dict[str, Rule] = {
    "device": _device,
    "model": _model,
    "depth": _depth,
    "heads": _heads,
    "registers": _registers,
    "stem": _stem,
    "start": _start,
    "drop_path": _drop_path,
    "global_side": _global_side,
    "local_side": _local_side,
    "local_crops": _local_crops,
    "scale_split": _scale_split,
    "scale_min": _scale_min,
    "brightness": _jitter(0.6, 0.4),
    "contrast": _jitter(0.6, 0.4),
    "saturation": _jitter(0.6, 0.2),
    "hue": _jitter(0.2, 0.1),
    "prototypes": _prototypes,
    "head_width": _head_width,
    "head_norm": _head_norm,
    "norm_last_layer": _norm_last_layer,
    "batch": _batch,
    "epochs": _epochs,
    "accumulation": _accumulation,
    "teacher_temperature": _teacher_temperature,
    "teacher_temperature_start": _teacher_temperature_start,
    "teacher_warmup_epochs": _teacher_warmup_epochs,
    "momentum": _momentum,
    "koleo": _koleo,
    "optimiser": _optimiser,
    "learning_rate": _learning_rate,
    "warmup_epochs": _warmup_epochs,
    "freeze_last_layer": _freeze_last_layer,
    "weight_decay_end": _weight_decay_end,
    "precision": _precision,
    "workers": _workers,
    "prepare": _prepare,
    "measure_epochs": _measure_epochs,
}
