"""What a self-distilled ViT takes on 1 to 64 GPUs: memory of each, time of a step, and which of the two shardings fits.

Arithmetic alone, so that a plan for machines that are not here can be settled here. Checked against what others
published and what a CPU can tell (tests/engine/test_scaling.py); the figures of a machine are its maker's.

Letters: P parameters · D width · N tokens of a crop · G GPUs.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from engine.catalogue import Sharding, VitShape

GIGA, TERA = 1e9, 1e12
GLOBALS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU by its maker's data sheet: memory in bytes, dense 16-bit operations a second, bytes a second to its peers.

    ``peer_bytes_per_s`` is one direction within a machine; ``network_bytes_per_s`` is its share of its machine's
    network, one direction.
    """

    name: str
    memory_bytes: float
    flops_per_s: float
    peer_bytes_per_s: float
    network_bytes_per_s: float
    per_machine: int = 8


A100_40 = Gpu(
    name="A100 40 GB",
    memory_bytes=40 * 2**30,
    flops_per_s=312 * TERA,
    peer_bytes_per_s=300 * GIGA,
    network_bytes_per_s=25 * GIGA,
)
"""NVIDIA A100 data sheet: 312 TFLOPS, NVLink 600 GB/s both ways; DGX A100: one 200 Gb/s HDR adapter for each GPU."""
H100 = Gpu(
    name="H100 80 GB",
    memory_bytes=80 * 2**30,
    flops_per_s=989 * TERA,
    peer_bytes_per_s=450 * GIGA,
    network_bytes_per_s=50 * GIGA,
)
"""NVIDIA H100 SXM data sheet: 989 TFLOPS dense, NVLink 900 GB/s both ways; DGX H100: a 400 Gb/s NDR adapter each."""
H200 = replace(H100, name="H200 141 GB", memory_bytes=141e9)
"""NVIDIA H200 data sheet: as the H100, with 141 GB."""
A100_80 = replace(A100_40, name="A100 80 GB", memory_bytes=80 * 2**30)
GPUS = {"a100-40": A100_40, "a100": A100_80, "h100": H100, "h200": H200}
"""Those that can be named."""

USED = 0.34
"""Share of the promised operations that a step does.

Three runs that DINOv2 published (README and paper), by the operations counted here: ViT-L/16 short, 256 million
pictures on 32 A100 in about a day, 0.34; ViT-L/14, 1.92 billion on 96 A100 in 3.3 days, 0.31; ViT-g/14, as many in
22,016 A100 hours, 0.39. An H100, three times as quick, is taken to use as much, which nobody here measured.
"""
BUS_SHARE = 0.8
"""Share of a link's figure that a ring of all GPUs gets; NCCL's own tests report 75 to 85 % on both machines."""
OVERLAPPED = 0.9
"""Share of communication that computing hides where it can: the first gather and the last reduction stand alone."""
LATENCY_S = 20e-6
"""Start of one collective operation between machines; assumed."""
STEP_S = 0.02
"""Calls, optimiser and averages of a step, on any GPU; as in ``estimates``."""

KEPT_BYTES = 52
"""Bytes kept for the way back for each token, block and unit of width, 16 bits; as in ``estimates``.

What autograd keeps of real networks here: 46 with a plain feed-forward layer, 55 with SwiGLU and LayerScale.
"""
KEPT_BETWEEN_BYTES = 2
"""The same where every block is computed again on the way back: its input alone, in 16 bits."""
SCORE_BYTES = 28
"""Of each score: the student's in 16 bits, over the temperature, its log softmax and that one's gradient in float32,
the gradient in 16 bits, and the teacher's in 16 bits and twice in float32."""
CONTEXT_BYTES = 1.5e9
"""CUDA, its libraries, NCCL's buffers and what the allocator cannot use; assumed."""

STUDENT_BYTES, GRADIENT_BYTES, AVERAGES_BYTES, TEACHER_BYTES = 4, 4, 8, 4
"""Of each parameter, float32: itself, its gradient, Adam's two averages, the teacher's."""
CAST_BYTES = 2
"""Of each parameter once more while it computes, 16 bits."""
MASKED_SHARE = 0.15
"""Patches of the large crops that iBOT's head sees: half the pictures, 0.1 to 0.5 of each (ssl_default_config.yaml)."""


@dataclass(frozen=True, slots=True)
class Head:
    """A projection head: hidden layers of ``width``, a bottleneck, and prototypes."""

    prototypes: int = 65_536
    bottleneck: int = 256
    width: int = 2048
    layers: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What is computed for one picture.

    Args:
        shape: of student and teacher.
        global_side, local_side: of the crops, px.
        local_crops: small crops of a picture; large ones are two.
        head: for [CLS].
        patch_head: for masked patches; None for DINO, the same as ``head`` where they share one.
        drop_path: share of the student's branches that is not computed.
        checkpointing: blocks are computed again on the way back instead of kept.
    """

    shape: VitShape
    global_side: int = 224
    local_side: int = 96
    local_crops: int = 8
    head: Head = Head()
    patch_head: Head | None = None
    drop_path: float = 0.0
    checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one GPU holds, in bytes, by what it is for."""

    weights: float
    gradients: float
    optimiser: float
    teacher: float
    gathered: float
    kept: float
    scores: float
    context: float = CONTEXT_BYTES

    @property
    def state(self) -> float:
        """What is there between two steps."""
        return self.weights + self.optimiser + self.teacher

    @property
    def total(self) -> float:
        """The most that is there at once."""
        return (
            self.weights
            + self.gradients
            + self.optimiser
            + self.teacher
            + self.gathered
            + self.kept
            + self.scores
            + self.context
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a step takes: seconds of computing and of communication, and both together as far as one hides the other."""

    computing_s: float
    communicating_s: float
    step_s: float
    pictures_per_s: float


def block_parameters(shape: VitShape) -> int:
    """Return the parameters of one transformer block, biases, norms and LayerScale included."""
    width, hidden = shape.width, shape.hidden
    attention = 4 * width**2 + 4 * width
    gates = 2 if shape.feed_forward == "swiglu" else 1
    feed_forward = width * hidden * (gates + 1) + gates * hidden + width
    return attention + feed_forward + 4 * width + (2 * width if shape.layer_scale is not None else 0)


def backbone_parameters(shape: VitShape) -> int:
    """Return the parameters of a backbone with a patch stem."""
    width = shape.width
    stem = 3 * shape.patch**2 * width + width
    tokens = (1 + shape.native_grid**2 + 1 + shape.registers + shape.has_mask_token) * width
    return shape.depth * block_parameters(shape) + stem + tokens + 2 * width


def head_parameters(shape: VitShape, head: Head) -> int:
    """Return the parameters of a head on a backbone."""
    widths = [shape.width, *[head.width] * (head.layers - 1), head.bottleneck]
    return sum(a * b + b for a, b in pairwise(widths)) + head.bottleneck * head.prototypes


def parameters(learning: Learning) -> int:
    """Return the parameters of the student."""
    return backbone_parameters(learning.shape) + sum(
        head_parameters(learning.shape, head) for head in _separate_heads(learning)
    )


def _separate_heads(learning: Learning) -> list[Head]:
    own = learning.patch_head is not None and learning.patch_head is not learning.head
    return [learning.head, learning.patch_head] if own and learning.patch_head else [learning.head]


def _tokens(shape: VitShape, side: int) -> int:
    return (side // shape.patch) ** 2 + 1 + shape.registers


def state_bytes(learning: Learning) -> float:
    """Return what student, teacher, gradients and Adam's averages take, all of them on one device."""
    return parameters(learning) * (STUDENT_BYTES + GRADIENT_BYTES + AVERAGES_BYTES + TEACHER_BYTES)


def forward_flops(shape: VitShape, side: int) -> float:
    """Return the multiplications and additions of the backbone over one crop."""
    tokens = _tokens(shape, side)
    block = 2 * tokens * block_parameters(shape) + 4 * tokens**2 * shape.width
    return shape.depth * block + 2 * 3 * shape.patch**2 * shape.width * (side // shape.patch) ** 2


def flops_per_picture(learning: Learning) -> float:
    """Return the multiplications and additions of a step for one picture: student there and back, teacher there."""
    large, small = (forward_flops(learning.shape, side) for side in (learning.global_side, learning.local_side))
    student = GLOBALS * large + learning.local_crops * small
    there_and_back = 4 if learning.checkpointing else 3
    heads = 2 * head_parameters(learning.shape, learning.head) * (3 * (GLOBALS + learning.local_crops) + GLOBALS)
    if learning.patch_head is not None:
        masked = MASKED_SHARE * GLOBALS * _tokens(learning.shape, learning.global_side)
        heads += 2 * head_parameters(learning.shape, learning.patch_head) * 4 * masked
    return there_and_back * (1 - learning.drop_path) * student + GLOBALS * large + heads


def kept_bytes_per_picture(learning: Learning) -> float:
    """Return what the passes of the backbone over one picture keep for the way back; attention is fused."""
    shape = learning.shape
    sides = [learning.global_side] * GLOBALS + [learning.local_side] * learning.local_crops
    places = sum(_tokens(shape, side) for side in sides) * shape.width
    if learning.checkpointing:
        return places * (shape.depth * KEPT_BETWEEN_BYTES + KEPT_BYTES)
    return places * shape.depth * KEPT_BYTES * (1 - learning.drop_path)


def score_bytes_per_picture(learning: Learning) -> float:
    """Return what the scores of one picture take."""
    rows = (GLOBALS + learning.local_crops) * learning.head.prototypes
    if learning.patch_head is not None:
        masked = MASKED_SHARE * GLOBALS * _tokens(learning.shape, learning.global_side)
        rows += masked * learning.patch_head.prototypes
    return rows * SCORE_BYTES


def memory(learning: Learning, *, gpus: int, sharding: Sharding, pictures: int) -> Memory:
    """Return what one GPU holds.

    Args:
        learning: what is computed.
        gpus: how many share the state with ``fsdp``; without, each holds all of it.
        sharding: ``none`` for copies averaged by DDP, ``fsdp`` for FSDP2 with 16-bit parameters gathered block by block
            and gradients reduced in float32.
        pictures: of one pass on one GPU.
    """
    number = parameters(learning)
    share = 1 / gpus if sharding == "fsdp" else 1.0
    return Memory(
        weights=number * STUDENT_BYTES * share,
        gradients=number * GRADIENT_BYTES * share,
        optimiser=number * AVERAGES_BYTES * share,
        teacher=number * TEACHER_BYTES * share,
        gathered=_gathered_bytes(learning) if sharding == "fsdp" else number * CAST_BYTES,
        kept=pictures * kept_bytes_per_picture(learning),
        scores=pictures * score_bytes_per_picture(learning),
    )


def _gathered_bytes(learning: Learning) -> float:
    """Return what FSDP2 holds whole: two blocks and the root, as computed with, and the gradients of one and the root.

    Gradients are in 16 bits until they are reduced, for which they are copied to float32.
    """
    block = block_parameters(learning.shape)
    root = parameters(learning) - learning.shape.depth * block
    return (2 * block + root) * CAST_BYTES + (block + root) * (CAST_BYTES + GRADIENT_BYTES)


def bus_bytes_per_s(gpu: Gpu, gpus: int) -> float:
    """Return what a ring of all GPUs moves, bytes a second: within a machine, or through its adapters together."""
    if gpus <= gpu.per_machine:
        return gpu.peer_bytes_per_s * BUS_SHARE
    return min(gpu.peer_bytes_per_s, gpu.network_bytes_per_s * gpu.per_machine) * BUS_SHARE


def pace(learning: Learning, gpu: Gpu, *, gpus: int, sharding: Sharding, pictures: int, accumulation: int = 1) -> Pace:
    """Return how fast a step is; cropping keeps up, see ``cores_to_crop``.

    Communication, for each parameter: DDP moves its float32 gradient twice, once a step. FSDP2 gathers 16 bits of the
    student for each way and of the teacher once, in every pass, and scatters float32 gradients once a pass.
    """
    computing = accumulation * pictures * flops_per_picture(learning) / (gpu.flops_per_s * USED) + STEP_S
    number, moved = parameters(learning), 0.0
    if sharding == "none":
        moved, operations = 2 * GRADIENT_BYTES * number, 2 * learning.shape.depth
    else:
        moved = accumulation * (3 * CAST_BYTES + GRADIENT_BYTES) * number
        operations = accumulation * 4 * (learning.shape.depth + 1)
    ring = (gpus - 1) / gpus
    communicating = ring * moved / bus_bytes_per_s(gpu, gpus) + operations * LATENCY_S * (gpus > 1)
    hidden = min(OVERLAPPED * communicating, computing)
    step = computing + communicating - hidden
    return Pace(
        computing_s=computing,
        communicating_s=communicating,
        step_s=step,
        pictures_per_s=gpus * pictures * accumulation / step,
    )


def cores_to_crop(pictures_per_s: float, crops_per_s: float) -> int:
    """Return how many cores keep GPUs busy: ``crops_per_s`` is what one core decodes and crops, whole pictures."""
    return math.ceil(pictures_per_s / crops_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a batch goes onto GPUs: the sharding, pictures of a pass, passes of a step, and what that takes."""

    sharding: Sharding
    checkpointing: bool
    pictures: int
    accumulation: int
    memory: Memory
    pace: Pace


def fit(learning: Learning, gpu: Gpu, *, gpus: int, batch: int, margin: float = 0.9) -> Fit | None:
    """Return the fastest way to train with a batch; of those about as fast, the plainest.

    Args:
        learning: what is computed; its own ``checkpointing`` is not looked at.
        gpu: of which kind.
        gpus: how many.
        batch: pictures of a step, of all GPUs; a multiple of their number.
        margin: share of the memory that may be filled.

    Returns:
        None where not even one picture at a time fits.
    """
    best: Fit | None = None
    for sharding, checkpointing in _WAYS[: None if gpus > 1 else 2]:
        changed = replace(learning, checkpointing=checkpointing)
        for accumulation in (number for number in range(1, batch // gpus + 1) if batch // gpus % number == 0):
            pictures = batch // gpus // accumulation
            taken = memory(changed, gpus=gpus, sharding=sharding, pictures=pictures)
            if taken.total > margin * gpu.memory_bytes:
                continue
            speed = pace(changed, gpu, gpus=gpus, sharding=sharding, pictures=pictures, accumulation=accumulation)
            if best is None or speed.step_s < ABOUT * best.pace.step_s:
                best = Fit(
                    sharding=sharding,
                    checkpointing=checkpointing,
                    pictures=pictures,
                    accumulation=accumulation,
                    memory=taken,
                    pace=speed,
                )
            break
    return best


ABOUT = 0.97
"""A way that is more to go wrong is taken where it saves more than 3 % of the time."""
_WAYS: tuple[tuple[Sharding, bool], ...] = (("none", False), ("none", True), ("fsdp", False), ("fsdp", True))
