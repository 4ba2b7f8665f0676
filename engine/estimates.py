"""What a run will take, before it is started: memory, disk and time, each with where the figure is from.

A pure function of the plan. It counts multiplications, numbers kept for the backward pass and numbers in files, and
knows how fast a device was measured to be; so it is about right (within a factor of 2 where it was checked) and says
"about". Where a run was made on this machine before, its own speed replaces the general one.

Letters: P parameters · D width · N tokens of a crop.
"""

from dataclasses import dataclass
from itertools import pairwise

from engine.catalogue import ResNetShape, VitShape
from engine.recipes import Plan

GLOBALS = 2
BACKWARD = 2
"""A backward pass multiplies twice as much as its forward pass: once for the inputs, once for the weights."""
GIGA = 1e9

FLOPS_PER_S = {
    ("cpu", "bf16"): 230 * GIGA,
    ("cpu", "fp16"): 3 * GIGA,
    ("cpu", "fp32"): 100 * GIGA,
    ("mps", "bf16"): 2000 * GIGA,
    ("mps", "fp16"): 2000 * GIGA,
    ("mps", "fp32"): 1500 * GIGA,
    ("cuda", "bf16"): 40_000 * GIGA,
    ("cuda", "fp16"): 25_000 * GIGA,
    ("cuda", "fp32"): 10_000 * GIGA,
}
"""Speed of a training step, on a CPU that of one core.

CPU: measured, README "Figures": 86 - 100 pictures/s on one core at 48 px, 16 at 224 px on two. GPUs: a third of what
the data sheets of an RTX 3080, and of an M1, promise; nothing was measured, until a run was made on this machine.
"""
CORES_PAY = 0.6
"""Speed grows with the cores to this power: two cores gave 1.35 to 1.5 times one (README, "Figures")."""
CROPS_PER_S = 381
"""Pictures decoded and cropped ten times by one core, 500 x 375 px (README, "Figures")."""
COPY_GAIN = 2
"""Crops from shrunken copies need no decoding, which is half of the work (bench_crops.py)."""
STEP_OVERHEAD_S = {"cpu": 0.004, "mps": 0.02, "cuda": 0.02}
"""What a step costs however small: calls, optimiser, averages."""
SHRINKING_PER_S = 250
"""Pictures a second that become shrunken copies, one process."""
START_S = 6
"""Imports, scan, first checkpoint."""
CHECKPOINT_BYTES_PER_S = 300e6
PROBE_STEPS, PROBE_SIDE = 40, 224
GAUGE_KNOWN, GAUGE_ASKED = 4096, 1024
"""Pictures of a measurement at most; training/gauge.py."""

PROCESS_BYTES = 450e6
"""A process of torch that trains, before it has anything to train: measured."""
WORKER_BYTES = 350e6
"""A process that crops."""
STATE_BYTES_PER_PARAMETER = 20
"""Student, teacher, gradient and the two averages of AdamW, float32."""
SAVED_BYTES_PER_PARAMETER = 16
"""The same without the gradient, in a checkpoint."""
KEPT_PER_TOKEN = {"bf16": 52, "fp16": 52, "fp32": 88}
"""Bytes kept for the backward pass, per token, block and unit of width.

Inputs of two norms, q, k, v, the attention's output, and the two wide inputs of the MLP: 34 bytes in 16 bits
(Korthikanti et al. 2022, eq. 1), and half as much again that is alive beside: measured, a step of ViT-Ti/16 at 224 px.
"""
LOGIT_COPIES = 12
"""Arrays of a crop's scores alive at once, float32: scores, softmax, their gradients, the teacher's."""
KEPT_CHECKPOINTS = 4
"""The three newest and the best."""
PROBE_BYTES = 4e3
"""One look at one picture, compressed: measured at 96 px."""
RESNET_PARAMETERS, RESNET_FLOPS, RESNET_NATIVE = 23.5e6, 8.2e9, 224
RESNET_KEPT_BYTES = 90e6
"""ResNet-50: parameters and products of a pass (He et al. 2015), and what a pass of a 224 px crop keeps, 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a run on this machine was: pictures a second of a plan."""

    plan: Plan
    pictures_per_s: float
    of: str
    """Which run, for people: "run 3"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will take, about; ``source`` says where the speed is from."""

    memory_bytes: float
    disk_bytes: float
    seconds: float
    pictures_per_s: float
    source: str


def estimate(plan: Plan, *, cores: int, earlier: Speed | None = None) -> Estimate:
    """Return what a plan will take.

    Args:
        plan: what to do.
        cores: of the machine.
        earlier: a run on the same machine; used where it had the same device and precision.
    """
    speed, source = _speed(plan, cores, earlier)
    per_step = _step_seconds(plan, speed)
    return Estimate(
        memory_bytes=memory_bytes(plan),
        disk_bytes=disk_bytes(plan),
        seconds=START_S + plan.steps * per_step + _beside_seconds(plan, speed),
        pictures_per_s=plan.run.batch / per_step,
        source=source,
    )


def _speed(plan: Plan, cores: int, earlier: Speed | None) -> tuple[float, str]:
    """Return products and sums a second, and where that is from."""
    run = plan.run
    if earlier and (earlier.plan.run.device, earlier.plan.run.precision) == (run.device, run.precision):
        measured = earlier.plan
        overhead = STEP_OVERHEAD_S[run.device] / measured.run.batch
        crops = _crop_seconds(measured) if not measured.run.workers else 0.0
        computing = max(1 / earlier.pictures_per_s - overhead - crops, 0.3 / earlier.pictures_per_s)
        return flops_per_picture(measured) / computing, f"as fast as {earlier.of} was on this machine"
    speed = FLOPS_PER_S[run.device, run.precision]
    if run.device == "cpu":
        return speed * cores**CORES_PAY, f"measured on other CPUs, for {cores} cores"
    return speed * plan.processes, "a third of what the maker of a common GPU promises"


def _step_seconds(plan: Plan, speed: float) -> float:
    computing = plan.run.batch * flops_per_picture(plan) / speed + STEP_OVERHEAD_S[plan.run.device]
    cropping = plan.run.batch * _crop_seconds(plan)
    if not plan.run.workers:
        return computing + cropping
    return max(computing, cropping / plan.run.workers / plan.processes)


def _crop_seconds(plan: Plan) -> float:
    """Seconds one core needs for the crops of a picture."""
    views = (plan.large_crops + plan.crops.local_crops) / 10
    return views / CROPS_PER_S / (COPY_GAIN if plan.run.prepare else 1)


def _beside_seconds(plan: Plan, speed: float) -> float:
    """Seconds for what a run does beside its steps: copies, measurements, probes, checkpoints."""
    run = plan.run
    asked = min(GAUGE_ASKED, plan.pictures / 9)
    seen = min(GAUGE_KNOWN, plan.pictures) + asked
    measurements = (1 + run.epochs // run.measure_epochs) if run.measure_epochs or plan.tuning.guard else 0
    measuring = measurements * seen * forward_flops(plan, plan.crops.global_side) / speed + seen / SHRINKING_PER_S
    looks = min(PROBE_STEPS, plan.steps) * run.probes
    probing = looks * forward_flops(plan, min(PROBE_SIDE, 2 * plan.crops.global_side)) / speed
    copying = plan.pictures / SHRINKING_PER_S / max(1, run.workers) if run.prepare else 0.0
    saved = max(measurements, 1) * parameters(plan) * SAVED_BYTES_PER_PARAMETER / CHECKPOINT_BYTES_PER_S
    return measuring + probing + copying + saved


def flops_per_picture(plan: Plan) -> float:
    """Return the products and sums of one step, for each picture: student there and back, teacher there."""
    crops = plan.crops
    large = forward_flops(plan, crops.global_side)
    small = forward_flops(plan, crops.local_side)
    head = 2 * _head_parameters(plan)
    student = plan.large_crops * (large + head) + crops.local_crops * (small + head)
    teacher = 0.0 if plan.classes else GLOBALS * (large + head)
    return (1 + BACKWARD) * student + teacher


def forward_flops(plan: Plan, side: int) -> float:
    """Return the products and sums of the backbone over one crop of ``side`` px."""
    shape = plan.shape
    if isinstance(shape, ResNetShape):
        return RESNET_FLOPS * (side / RESNET_NATIVE) ** 2
    tokens = _tokens(shape, side)
    block = 2 * tokens * _block_parameters(shape) + 4 * tokens * tokens * shape.width
    stem = 2 * 3 * shape.patch**2 * shape.width * (side / shape.patch) ** 2
    if shape.stem == "conv":
        # Halvings up to the patch, each doubling the width up to D; the last ones hold most of it: as much as a block.
        stem += 2 * 9 * shape.width**2 / 2 * (side / shape.patch) ** 2 * 2
    return shape.depth * block + stem


def parameters(plan: Plan) -> float:
    """Return the parameters of backbone and head."""
    shape = plan.shape
    if isinstance(shape, ResNetShape):
        return RESNET_PARAMETERS + _head_parameters(plan)
    stem = 3 * shape.patch**2 * shape.width + (9 * shape.width**2 * 0.7 if shape.stem == "conv" else 0)
    return shape.depth * _block_parameters(shape) + stem + shape.native_grid**2 * shape.width + _head_parameters(plan)


def _block_parameters(shape: VitShape) -> float:
    """Return those of queries, keys, values, projection and feed-forward."""
    matrices = 3 if shape.feed_forward == "swiglu" else 2
    return 4 * shape.width**2 + matrices * shape.width * shape.hidden


def _head_parameters(plan: Plan) -> float:
    if plan.classes:
        return float(plan.shape.width * len(plan.classes))
    if "projector" in plan.heeded:
        projector = plan.projector
        hidden = [projector.projector_width] * (projector.projector_layers - 1)
        widths = [plan.shape.width, *hidden, projector.projector_out, *([plan.prototypes] if plan.prototypes else [])]
    else:
        dino = plan.dino
        widths = [plan.shape.width, *[dino.head_width] * (dino.head_layers - 1), dino.bottleneck, dino.prototypes]
    return float(sum(a * b for a, b in pairwise(widths)))


def _answer_width(plan: Plan) -> int:
    """Return how many numbers a crop is compared by."""
    match plan.run.objective:
        case "byol":
            return plan.projector.projector_out
        case "moco":
            return plan.moco.queue
        case "swav":
            return plan.swav.swav_prototypes
        case "supervised":
            return len(plan.classes)
        case _:
            return plan.dino.prototypes


def _tokens(shape: VitShape, side: int) -> int:
    return (side // shape.patch) ** 2 + 1 + shape.registers


def memory_bytes(plan: Plan) -> float:
    """Return what the device must hold: of the CPU, all processes together; of a GPU, its own memory."""
    run = plan.run
    together = run.batch / run.accumulation / plan.processes
    state = parameters(plan) * STATE_BYTES_PER_PARAMETER / (plan.processes if run.sharding == "fsdp" else 1)
    kept = together * _kept_bytes(plan)
    if run.device != "cpu":
        return PROCESS_BYTES + state + kept
    is_measured = run.measure_epochs or plan.tuning.guard
    seen = min(GAUGE_KNOWN, plan.pictures) + min(GAUGE_ASKED, plan.pictures / 9) if is_measured else 0
    gauge = seen * 3 * plan.crops.global_side**2
    return PROCESS_BYTES + run.workers * WORKER_BYTES + state + kept + gauge


def _kept_bytes(plan: Plan) -> float:
    """Return what the passes over one picture keep for the way back."""
    crops, shape = plan.crops, plan.shape
    logits = LOGIT_COPIES * (plan.large_crops + crops.local_crops) * _answer_width(plan) * 4
    if isinstance(shape, ResNetShape):
        areas = plan.large_crops * crops.global_side**2 + crops.local_crops * crops.local_side**2
        return RESNET_KEPT_BYTES * areas / RESNET_NATIVE**2 + logits
    kept = logits
    for side, n in ((crops.global_side, plan.large_crops), (crops.local_side, crops.local_crops)):
        tokens = _tokens(shape, side)
        attention = 2 * shape.heads * tokens * tokens * 2 if plan.run.device == "cpu" else 0
        kept += n * shape.depth * (tokens * shape.width * KEPT_PER_TOKEN[plan.run.precision] + attention)
    return kept


def disk_bytes(plan: Plan) -> float:
    """Return what the run's folder and its shrunken copies take."""
    checkpoint = parameters(plan) * (SAVED_BYTES_PER_PARAMETER + 4)
    # Photographs are 4 : 3 on the mean, and a shrunken copy has a shorter side of two large crops, RGB.
    copies = plan.pictures * (2 * plan.crops.global_side) ** 2 * 4 if plan.run.prepare else 0
    probes = min(PROBE_STEPS, plan.steps) * plan.run.probes * PROBE_BYTES
    return KEPT_CHECKPOINTS * checkpoint + parameters(plan) * 4 + copies + probes
