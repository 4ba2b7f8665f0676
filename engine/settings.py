"""The settings a person may choose, each declared once: its sentence, unit, range and source.

From that one declaration come validation, the flags of the command line, the run file, the help, the form of the
window and the table printed before a run. A field without a default is ``auto``: a rule of `engine.rules` fills it
from the `Facts`, and says why.
"""

import typing
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from engine.catalogue import FeedForward, ObjectiveName, Shape, Sharding, Start, Stem

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
    before: Any = None,
) -> Any:
    """Declare one field of a recipe; without a ``default`` it is settled from the facts.

    ``before`` is what a plan meant that was written when there was no such field.
    """
    told = {"unit": unit, "source": source, "before": before}
    return Field(default, ge=low, le=high, description=says, json_schema_extra=told)


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
    feed_forward: FeedForward = setting(
        says="The layer after attention: two linear maps (mlp), or a gated one (swiglu).",
        source="swiglu: DINOv2 §5, vit-giant",
        before="mlp",
    )
    layer_scale: float = setting(
        says="Start of the learnt factor on each branch; 0 for none.",
        low=0.0,
        high=1.0,
        source="dinov2 layerscale: 1e-5",
        before=0.0,
    )
    drop_path: float = setting(
        says="Share of residual branches left out of the student while it learns.",
        low=0.0,
        high=0.9,
        source="main_dino.py --drop_path_rate 0.1; dinov2 drop_path_rate 0.3 to 0.4",
    )
    drop_path_by: Literal["masking", "leaving_out"] = setting(
        says="How branches are left out: masking computes them all, growing over the depth; leaving_out computes only "
        "the pictures that are kept, the same share in every block.",
        source="masking: DINO; leaving_out: DINOv2 §5",
        before="masking",
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
    grey: float = setting(says="Share of crops turned grey.", low=0.0, high=1.0, source="main_dino.py: 0.2")
    solarize: float = setting(0.2, says="Share of second large crops solarized.", low=0.0, high=1.0)
    blur: Literal["paper", "as_released", "off"] = setting(
        says="Which crops are blurred: as the paper says, as DINOv2's released models really were, or none.",
        source="main_dino.py DataAugmentationDINO; facebookresearch/dinov3#286",
    )
    last_epochs: int = setting(
        0,
        says="Epochs at the end that learn from larger crops; 0 for none.",
        unit="epochs",
        low=0,
        high=1000,
        source="DINOv2 §5: the last 10,000 of 625,000 steps",
    )
    last_side: int = setting(
        says="Side of the large crops in those last epochs; small crops grow alike.",
        unit="px",
        low=16,
        high=2048,
        source="DINOv2 §5: 518",
        before=16,
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
    """Teacher and student."""

    dino_weight: float = setting(
        1.0, says="Weight of the term that compares whole pictures; 0 leaves patches only (iBOT).", low=0.0, high=10.0
    )
    dino_loss: Literal["cross_entropy", "mse"] = setting(
        "cross_entropy", says="How the student's answer is compared with the teacher's.", source="DINO tab. 7"
    )
    prototypes: int = setting(
        says="K, the length of the output that teacher and student compare.",
        low=16,
        high=262_144,
        source="DINO tab. 13",
    )
    head_layers: int = setting(3, says="Layers of the projection head before the last.", low=1, high=6)
    head_width: int = setting(says="Width inside the projection head.", low=16, high=8192)
    bottleneck: int = setting(
        says="Width of the projection head's bottleneck.", low=8, high=16_384, source="main_dino.py: 256"
    )
    head_norm: Literal["none", "batch"] = setting(
        says="Batch normalisation in the projection head; keeps small, uniform folders from staying at the start.",
        source="DINO tab. 14: optional",
    )
    predictor: bool = setting(
        False, says="Two more layers in the student's head alone, as in BYOL.", source="DINO tab. 7"
    )
    norm_last_layer: bool = setting(
        says="Keep the prototypes at unit length; steadier, a little less accurate on long runs.",
        source="main_dino.py --norm_last_layer",
    )
    student_temperature: float = setting(
        says="Sharpness of the student's answer; lower is sharper.",
        low=0.01,
        high=1.0,
        source="DINO §3.1: 0.1; SEED: 0.2",
        before=0.1,
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
    teacher_follows: Literal["average", "copy", "previous_iteration", "previous_epoch"] = setting(
        "average",
        says="What the teacher is: the student's moving average, or a copy of it: of now, of a step ago, or of the end "
        "of the last epoch.",
        source="DINO §5.2, fig. 6",
    )
    momentum: float = setting(
        says="How slowly the teacher follows the student at the start; its half-life is ln 2 / (1 - momentum) steps.",
        low=0.0,
        high=1.0,
        source="DINO §3.1: 0.996; main_dino.py: 0.9995 for small batches",
    )
    momentum_end: float = setting(1.0, says="The same at the end; rises along a cosine.", low=0.0, high=1.0)
    centring: Literal["ema", "sinkhorn", "batch_softmax", "none"] = setting(
        says="What keeps one prototype from taking every picture: a moving centre (ema), an equal share for each over "
        "the batch (sinkhorn), a softmax over the batch, or nothing.",
        source="DINO §3.1, tab. 7 and 13; DINOv2 §4: sinkhorn, 3 iterations",
        before="ema",
    )
    sinkhorn_iterations: int = setting(3, says="Rounds of Sinkhorn-Knopp.", low=1, high=20, source="DINOv2 §4")
    centre_momentum: float = setting(
        0.9, says="How slowly the centre follows the teacher's mean answer.", low=0.0, high=0.999, source="DINO tab. 7b"
    )
    koleo: float = setting(
        says="Weight of the term that spreads pictures apart (KoLeo); 0 is DINO as published.",
        low=0.0,
        high=1.0,
        source="DINOv2 §4: 0.1",
    )


class IbotSettings(Settings):
    """Masked patches (iBOT)."""

    ibot_weight: float = setting(
        1.0,
        says="Weight of the term that guesses the teacher's answer for masked patches; 0 switches it off.",
        low=0.0,
        high=10.0,
        source="DINOv2 §4",
    )
    mask_share: float = setting(
        0.5, says="Share of large crops with masked patches.", low=0.0, high=1.0, source="dinov2 ssl_default_config"
    )
    mask_least: float = setting(
        0.1, says="Least share of a masked crop's patches that is hidden.", low=0.0, high=0.9, source="the same"
    )
    mask_most: float = setting(
        0.5, says="Largest share of a masked crop's patches that is hidden.", low=0.05, high=0.9, source="the same"
    )
    separate_heads: bool = setting(
        says="Give patches a head of their own instead of that of whole pictures.",
        source="DINOv2 §4: untied at scale; iBOT: tied",
        before=False,
    )
    ibot_prototypes: int = setting(
        says="K of the patches' own head.", low=16, high=262_144, source="dinov2 ssl_default_config", before=16
    )
    ibot_bottleneck: int = setting(
        256, says="Width of the bottleneck of the patches' own head.", low=8, high=2048, source="the same"
    )

    @model_validator(mode="after")
    def _shares_are_ordered(self) -> Self:
        if self.mask_least > self.mask_most:
            raise ValueError(f"mask_least {self.mask_least} is above mask_most {self.mask_most}")
        return self


class DistillationSettings(Settings):
    """Learning from a teacher (distillation)."""

    teacher: str = setting(
        "",
        says="Backbone to learn from: a run, a file, a released name, or timm:NAME for other families.",
        source="DINOv2 §5",
    )
    teacher_side: int = setting(
        says="Side at which the teacher sees the large crops.", unit="px", low=8, high=2048, before=224
    )
    patch_weight: float = setting(
        1.0,
        says="Weight of the term that brings the student's patches to the teacher's; 0 compares whole pictures only.",
        low=0.0,
        high=10.0,
    )


class SupervisedSettings(Settings):
    """Learning labels (supervised)."""

    mixup: float = setting(
        0.8,
        says="How much two pictures are blended, both parameters of a beta distribution; 0 blends none.",
        low=0.0,
        high=10.0,
        source="DeiT tab. 9",
    )
    cutmix: float = setting(
        1.0,
        says="How much of a picture is pasted into another, in the same way; where both are on, half of the steps do "
        "each.",
        low=0.0,
        high=10.0,
        source="DeiT tab. 9",
    )
    label_smoothing: float = setting(
        0.1, says="Share of every label that is spread over all classes.", low=0.0, high=0.9, source="DeiT tab. 9"
    )
    erasing: float = setting(
        0.25, says="Share of pictures with a box of noise in them.", low=0.0, high=1.0, source="DeiT tab. 9"
    )
    head_features: Literal["cls", "cls+mean"] = setting(
        "cls",
        says="What the classifier takes of the backbone: its [CLS], or that and the mean of its patches.",
        source="DINO app. F; DINOv2 §7: with the mean for linear probes",
    )


class ProjectorSettings(Settings):
    """Projection head with batch normalisation."""

    projector_layers: int = setting(
        says="Linear layers of the projection head.",
        low=1,
        high=6,
        source="BYOL, SwAV: 2; MoCo-v2 in DINO app. B: 3",
        before=2,
    )
    projector_width: int = setting(
        says="Width inside the projection head.",
        low=16,
        high=8192,
        source="BYOL §3.3: 4,096; main_swav.py: 2,048",
        before=16,
    )
    projector_out: int = setting(
        says="Width of its output, in which pictures are compared.",
        low=8,
        high=2048,
        source="BYOL §3.3 and DINO app. B: 256; main_swav.py: 128",
        before=8,
    )


class FollowerSettings(Settings):
    """Momentum encoder."""

    follower_momentum: float = setting(
        says="How slowly the encoder that gives the targets or keys follows the student, at the start.",
        low=0.0,
        high=1.0,
        source="BYOL §3.3: 0.996; MoCo §4.1: 0.999",
        before=0.996,
    )
    follower_momentum_end: float = setting(
        says="The same at the end; changes along a cosine.",
        low=0.0,
        high=1.0,
        source="BYOL §3.3: 1; MoCo: as at the start",
        before=1.0,
    )


class ByolSettings(Settings):
    """Prediction of the momentum encoder (BYOL)."""

    predictor_width: int = setting(
        says="Width inside the predictor that the student alone has.",
        low=16,
        high=8192,
        source="BYOL §3.3: 4,096",
        before=16,
    )


class MocoSettings(Settings):
    """Contrast with earlier pictures (MoCo-v2)."""

    queue: int = setting(
        says="Keys of earlier pictures that a picture is told apart from.",
        unit="keys",
        low=16,
        high=262_144,
        source="MoCo §4.1: 65,536",
        before=16,
    )
    contrast_temperature: float = setting(
        0.2, says="Sharpness of the contrast; lower is sharper.", low=0.01, high=1.0, source="MoCo-v2 tab. 2"
    )


class SwavSettings(Settings):
    """Assignment to prototypes (SwAV)."""

    swav_prototypes: int = setting(
        says="Prototypes that the pictures of a batch are spread over evenly.",
        low=16,
        high=262_144,
        source="SwAV §4.1: 3,000",
        before=16,
    )
    swav_temperature: float = setting(
        0.1, says="Sharpness of the student's answer; lower is sharper.", low=0.01, high=1.0, source="SwAV §4.1"
    )
    epsilon: float = setting(
        says="Softness of the assignment; lower is harder.",
        low=0.005,
        high=1.0,
        source="SwAV §4.1: 0.05",
        before=0.05,
    )
    swav_iterations: int = setting(3, says="Rounds of Sinkhorn-Knopp.", low=1, high=20, source="SwAV §4.1")
    swav_queue: int = setting(
        0,
        says="Earlier pictures that are assigned along with a small batch; 0 for none.",
        unit="pictures",
        low=0,
        high=262_144,
        source="SwAV §4.3: 3,840 for batches of 256",
    )
    swav_queue_epoch: int = setting(
        15, says="First epoch that uses them.", unit="epochs", low=0, high=1000, source="main_swav.py"
    )


class OptimiserSettings(Settings):
    """Optimiser."""

    optimiser: Literal["adamw", "sgd", "lars"] = setting(says="Rule that turns gradients into steps.")
    learning_rate: float = setting(
        says="Peak learning rate for the batch that rate_scaling names.",
        low=1e-8,
        high=10.0,
        source="DINO app. C: 5e-4 for 256; dinov2 base_lr: 4e-3 or 2e-4 for 1,024",
    )
    rate_scaling: Literal["linear_256", "root_1024"] = setting(
        says="How the rate grows with the batch: in proportion to 256 pictures, or with the square root of 1,024.",
        source="DINO app. C; dinov2 scaling_rule sqrt_wrt_1024",
        before="linear_256",
    )
    layer_decay: float = setting(
        says="Factor on the learning rate for each block towards the first; 1 for the same everywhere.",
        low=0.3,
        high=1.0,
        source="dinov2 layerwise_decay: 0.9, large models 1",
        before=1.0,
    )
    patch_embed_rate: float = setting(
        says="Factor on the learning rate of the layer that turns pixels into tokens.",
        low=0.0,
        high=1.0,
        source="dinov2 patch_embed_lr_mult: 0.2",
        before=1.0,
    )
    learning_rate_end: float = setting(1e-6, says="Learning rate at the end of the cosine.", low=0.0, high=0.1)
    warmup_epochs: int = setting(
        says="Epochs over which the learning rate rises from 0.", unit="epochs", low=0, high=500
    )
    weight_decay: float = setting(
        says="Pull of the weights towards 0 at the start.",
        low=0.0,
        high=1.0,
        source="DINO app. C: 0.04; DeiT: 0.05",
        before=0.04,
    )
    weight_decay_end: float = setting(says="The same at the end; follows a cosine.", low=0.0, high=1.0)
    clip: float = setting(
        3.0,
        says="Largest norm of a gradient; 0 switches clipping off.",
        low=0.0,
        high=100.0,
        source="main_dino.py --clip_grad; dinov2 clip_grad",
    )
    clip_by: Literal["tensor", "network"] = setting(
        says="Whose norm is meant: each tensor's, or the backbone's and each head's as a whole.",
        source="tensor: DINO utils.py; network: dinov2",
        before="tensor",
    )
    freeze_last_layer: int = setting(
        says="Epochs in which the prototypes stay as they are; steadies the start.", unit="epochs", low=0, high=100
    )


class TuningSettings(Settings):
    """Fine-tuning."""

    heads_first_epochs: int = setting(
        says="Epochs at the start in which the weights a run starts from stay as they are and only new heads learn.",
        unit="epochs",
        low=0,
        high=10_000,
        source="facebookresearch/dinov2#204: new heads destroy what the backbone knows",
        before=0,
    )
    heads_rate: float = setting(
        says="Peak learning rate of those epochs, scaled with the batch as learning_rate is.",
        low=1e-8,
        high=10.0,
        before=5e-4,
    )
    guard: bool = setting(
        says="Measure the features beside those of the start; when they are worse, go back to the best and halve the "
        "learning rate. The best are kept, those of the start if nothing is better.",
        before=False,
    )
    guard_every: int = setting(says="Steps between two looks of the guard.", unit="steps", low=1, before=1)
    guard_rollbacks: int = setting(
        4, says="How often the guard goes back; once more ends the run with the best.", low=0, high=30
    )
    lora_rank: int = setting(
        says="Rank of the matrices that learn beside the frozen weights of each attention (LoRA); 0 lets the weights "
        "learn themselves.",
        low=0,
        high=256,
        source="Hu et al. 2021",
        before=0,
    )


class RunSettings(Settings):
    """Run."""

    objective: ObjectiveName = setting("dino", says="What the network learns by.", source="DINO; DINOv2; iBOT")
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
    packing: bool = setting(
        says="Take crops of all sizes through the network in one sequence, each attending to itself alone.",
        source="DINOv2 §5",
        before=False,
    )
    checkpointing: bool = setting(
        says="Compute the inside of each block twice instead of keeping it: less memory, a third more time.",
        source="Chen et al. 2016, Training deep nets with sublinear memory cost",
        before=False,
    )
    sharding: Sharding = setting(
        says="How several devices share the work: each holds the whole state (none), or a share of it (fsdp).",
        source="fsdp: Zhao et al. 2023, PyTorch FSDP",
        before="none",
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
    "ibot": IbotSettings,
    "projector": ProjectorSettings,
    "follower": FollowerSettings,
    "byol": ByolSettings,
    "moco": MocoSettings,
    "swav": SwavSettings,
    "distillation": DistillationSettings,
    "supervised": SupervisedSettings,
    "optimiser": OptimiserSettings,
    "tuning": TuningSettings,
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


def before_of(info: FieldInfo) -> Value | None:
    """Return what a plan meant that was written when there was no such field, None where that is its default."""
    return cast("dict[str, Value | None]", info.json_schema_extra)["before"]


def range_of(info: FieldInfo) -> tuple[float | None, float | None]:
    """Return the lowest and highest value of a field, None where it is open."""
    low = next((m.ge for m in info.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in info.metadata if hasattr(m, "le")), None)
    return low, high


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """Return the words a field may take, empty where it is not a choice."""
    return typing.get_args(info.annotation) if typing.get_origin(info.annotation) is Literal else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFacts:
    """What a plan must know of the teacher of a distillation.

    ``width`` is that of what it compares with its prototypes: its head's bottleneck, or its features. ``multiple``
    divides the sides, in px, of the pictures it takes; ``fixed_side`` is the only one, 0 where it takes any.
    ``prototypes``: K of its head, 0 where it has none; ``temperature`` and ``centring``: of its answers at the end of
    its run.
    """

    width: int
    multiple: int
    fixed_side: int = 0
    prototypes: int = 0
    temperature: float = 0.0
    centring: str = "none"


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
    classes: tuple[str, ...] = ()
    """Names of the classes to learn, where labels are learnt."""
    teacher: TeacherFacts | None = None
    """What is learnt from, where there is a frozen teacher."""
