"""What each saving of a DINOv2 step is worth, in time and memory, against the plain way.

Run ``python tests/bench/bench_efficiency.py [--batch N] [--rounds N] [--precision bf16|fp32] [--compile] [--shared]``.
The step is DINOv2's: 2 x 224 and 8 x 96 px, half of the large crops with 30 % of their patches hidden, DINO and iBOT
through one head, stochastic depth of 0.3, AdamW, moving average; ViT-S/16 on a CPU, ViT-L/16 on a CUDA device.

The plain way has explicit attention, one size of crops after the other, branches computed for all pictures and set to
0, head and loss on every patch. Every row differs from it by what it says, in a process of its own; the two take turns
step by step, and ratios are of medians. On a machine that does other things too, ``--shared`` counts the time that one
thread computes. Memory is the most that the process held (CPU) or that tensors took (CUDA).
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from engine.catalogue import VIT_SIZES, VitShape
from engine.machine import make_cpu_fast, peak_memory_bytes
from engine.models import vit
from engine.models.heads import ProjectionHead
from engine.models.vit import DropPathBy, VisionTransformer
from engine.training.losses import dino_loss, ibot_loss, teacher_answer

GLOBAL_SIDE, LOCAL_SIDE, LOCALS, PATCH = 224, 96, 8, 16
HIDDEN_SHARE = 0.3  # of the patches of a masked crop: the middle of dinov2's 0.1 to 0.5
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, MOMENTUM = 0.1, 0.05, 0.996
ON_CPU = {"model": "vit-small", "batch": 5, "prototypes": 8_192, "rounds": 2}  # 5: shares of 0.3 and 0.4 come out even
ON_CUDA = {"model": "vit-large", "batch": 50, "prototypes": 65_536, "rounds": 10}
LAYER_SCALE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a step is computed."""

    name: str
    attention: Literal["explicit", "fused", "ours"] = "explicit"
    packing: bool = False
    drop_path: float = 0.3
    drop_path_by: DropPathBy = "masking"
    is_all_patches: bool = True
    checkpointing: bool = False
    compile: bool = False


PLAIN = Way(name="plain")
ALL_ON = replace(PLAIN, name="all on", attention="ours", packing=True, drop_path_by="leaving_out", is_all_patches=False)


def ways(*, has_compile: bool) -> Iterator[Way]:
    yield replace(PLAIN, name="fused attention", attention="fused")
    yield replace(PLAIN, name="packing", packing=True)
    yield replace(PLAIN, name="left out, 0.3", drop_path_by="leaving_out")
    yield replace(PLAIN, name="left out, 0.4", drop_path_by="leaving_out", drop_path=0.4)
    yield replace(PLAIN, name="masked patches only", is_all_patches=False)
    yield replace(PLAIN, name="checkpointing", checkpointing=True)
    if has_compile:
        yield replace(PLAIN, name="compile", compile=True)
        yield replace(ALL_ON, name="all on, compiled", compile=True)
    yield ALL_ON
    yield replace(ALL_ON, name="all on, apart", packing=False)
    yield replace(ALL_ON, name="all on, checkpointing", checkpointing=True)


class Step:
    """One step of training on pictures of noise."""

    def __init__(self, way: Way, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.way, self.device = way, torch.device(args.device)
        self.dtype = torch.bfloat16 if args.precision == "bf16" else None
        width, depth, heads, feed_forward = VIT_SIZES[args.model]
        shape = VitShape(
            width=width, depth=depth, heads=heads, feed_forward=feed_forward, patch=PATCH, layer_scale=LAYER_SCALE,
            has_mask_token=True,
        )  # fmt: skip
        self.student = VisionTransformer(
            shape, drop_path=way.drop_path, drop_path_is_uniform=True, drop_path_by=way.drop_path_by,
            packing=way.packing, checkpointing=way.checkpointing,
        ).to(self.device)  # fmt: skip
        self.teacher = VisionTransformer(shape).to(self.device).requires_grad_(False)
        self.head = ProjectionHead(width, args.prototypes).to(self.device)
        self.teacher_head = ProjectionHead(width, args.prototypes).to(self.device).requires_grad_(False)
        learning = [p for m in (self.student, self.head) for p in m.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, lr=1e-6, fused=True)
        self.centre_1K = torch.zeros(1, args.prototypes, device=self.device)
        self._make_batch(args.batch)
        if way.compile:
            for block in [*self.student.blocks, *self.teacher.blocks]:
                block.compile(dynamic=False)

    def _make_batch(self, n_pictures: int) -> None:
        sides = ((2 * n_pictures, GLOBAL_SIDE), (LOCALS * n_pictures, LOCAL_SIDE))
        self.views = [torch.randn(n, 3, side, side, device=self.device) for n, side in sides]
        n_patches = (GLOBAL_SIDE // PATCH) ** 2
        n_hidden = int(HIDDEN_SHARE * n_patches)
        mask_BP = torch.zeros(2 * n_pictures, n_patches, dtype=torch.bool)
        mask_BP[:n_pictures, torch.randperm(n_patches)[:n_hidden]] = True
        self.mask_BP = mask_BP.to(self.device)
        rows = torch.arange(mask_BP.numel()) if self.way.is_all_patches else mask_BP.flatten().nonzero()[:, 0]
        self.rows_M = rows.to(self.device)
        self.weights_M = (self.mask_BP.flatten()[self.rows_M] / n_hidden).float()

    def __call__(self) -> float:
        """Return the loss."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            loss = self._loss()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            for leader, follower in ((self.student, self.teacher), (self.head, self.teacher_head)):
                theirs = [p.data for p in follower.parameters()]
                torch._foreach_lerp_(theirs, [p.data for p in leader.parameters()], 1 - MOMENTUM)
        return loss.item()

    def _loss(self) -> Tensor:
        with torch.no_grad():
            seen = self.teacher(self.views[0])
            answers, patch_answers_MK = self._said(self.teacher_head, [seen.cls_BD], seen.patches_BPD)
            answers = [teacher_answer(view, self.centre_1K, TEACHER_TEMPERATURE) for view in answers]
            patch_answers_MK = teacher_answer(patch_answers_MK, self.centre_1K, TEACHER_TEMPERATURE)
        large, small = self.student.forward_views(self.views, [self.mask_BP, None])
        logits, patch_logits_MK = self._said(self.head, [large.cls_BD, small.cls_BD], large.patches_BPD)
        between_views = dino_loss(logits, answers, STUDENT_TEMPERATURE)
        return between_views + ibot_loss(
            patch_logits_MK, patch_answers_MK, self.weights_M, len(self.views[0]), STUDENT_TEMPERATURE
        )

    def _said(self, head: ProjectionHead, cls_: list[Tensor], patches_BPD: Tensor) -> tuple[list[Tensor], Tensor]:
        per_view = len(self.views[0]) // 2
        return list(head(torch.cat(cls_)).split(per_view)), head(patches_BPD.flatten(0, 1).index_select(0, self.rows_M))

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else peak_memory_bytes()


def serve(way: Way, args: argparse.Namespace, pipe: Connection) -> None:
    """Take a step for each request; send back how long it took, the loss and the peak of memory."""
    if args.device == "cpu":
        make_cpu_fast()
    clock = time.perf_counter
    if args.shared:
        torch.set_num_threads(1)
        clock = time.process_time
    if way.attention != "ours":
        vit._fused_is_slower = lambda _q: way.attention == "explicit"
    step = Step(way, args)
    while pipe.recv():
        begun = clock()
        loss = step()  # reading the loss waits for the device
        pipe.send((clock() - begun, loss, step.peak_bytes()))


class Worker:
    """A way in a process of its own."""

    def __init__(self, way: Way, args: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=serve, args=(way, args, far_end), daemon=True)
        self.process.start()
        self.seconds: list[float] = []
        self.peak, self.loss = 0, 0.0
        self.step(is_warm_up=True)

    def step(self, *, is_warm_up: bool = False) -> None:
        self.pipe.send(True)
        seconds, self.loss, self.peak = self.pipe.recv()
        if not is_warm_up:
            self.seconds.append(seconds)

    def end(self) -> None:
        self.pipe.send(False)
        self.process.join()


def main() -> None:
    args = parsed()
    print(
        f"{args.model}/{PATCH}, {args.batch} pictures, {args.precision}, K = {args.prototypes}, {args.device}, "
        f"{1 if args.shared else torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'':<23}{'ms/step':>9}{'pictures/s':>12}{'GB':>7}{'faster':>9}{'of memory':>11}")
    plain = Worker(PLAIN, args)
    for way in ways(has_compile=args.compile):
        before = len(plain.seconds)
        worker = Worker(way, args)
        for _ in range(args.rounds):
            plain.step()
            worker.step()
        worker.end()
        beside = statistics.median(plain.seconds[before:])
        tell(way.name, worker, args, beside / statistics.median(worker.seconds), worker.peak / plain.peak)
    tell("plain", plain, args, 1.0, 1.0)
    plain.end()


def tell(name: str, worker: Worker, args: argparse.Namespace, faster: float, of_memory: float) -> None:
    seconds = statistics.median(worker.seconds)
    rate, memory = args.batch / seconds, worker.peak / 1e9
    print(f"{name:<23}{1000 * seconds:9.0f}{rate:12.2f}{memory:7.2f}{faster:8.2f}x{of_memory:10.0%}", flush=True)


def parsed() -> argparse.Namespace:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    defaults = ON_CUDA if device == "cuda" else ON_CPU
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default=device)
    parser.add_argument("--model", default=defaults["model"], choices=list(VIT_SIZES))
    for name in ("batch", "prototypes", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=defaults[name])
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--compile", action="store_true", default=device == "cuda")
    parser.add_argument("--shared", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
