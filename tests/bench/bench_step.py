"""One DINO training step on the CPU, pictures per second, against plain ways of writing it.

Run ``python tests/bench/bench_step.py [rounds]``. The step is that of the paper: ViT-Ti/16, 16 pictures, 2 x 224 and
8 x 96 px, K = 65,536, AdamW, clipping by tensor, moving average. Three variants take turns of three steps, every one
in a process of its own with all cores; ratios are of medians. ``plain`` is the shape of the reference in float32
(explicit attention, a loss over pairs, a loop over tensors for clipping and average); ``plain bf16`` the same under
CPU autocast; ``ours`` is `engine.training.train.advance` with the plan's own settings. The machine's bf16 matmul peak
is measured in the same run.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.catalogue import Shape, VitShape
from engine.machine import make_cpu_fast
from engine.recipes import Plan, Recipe, settle
from engine.settings import Facts
from engine.training.objectives.objective import Part
from engine.training.objectives.self_distillation import SelfDistillation
from engine.training.schedules import moment
from engine.training.train import advance
from tests.makers import run_with

BATCH, PROTOTYPES = 16, 65_536
SIDES = [224] * 2 + [96] * 8
PEAK_SIDE = 2048  # of the matrices whose product measures the peak
WARM_UP = 1  # steps of a turn that do not count: caches and threads wake up
TURNS = 3


def plan() -> Plan:
    asked = {
        "model": "vit-tiny/16", "depth": 12, "stem": "patch", "start": "published", "drop_path": 0.1,
        "global_side": 224, "local_side": 96, "local_crops": 8, "prototypes": PROTOTYPES, "head_width": 2048,
        "head_norm": "none", "koleo": 0, "batch": BATCH, "epochs": 100, "weight_decay_end": 0.4,
        "learning_rate": 5e-4, "precision": "bf16",
    }  # fmt: skip
    return settle(Recipe.of(asked), Facts(n_pictures=1000))


class PlainBlock(nn.Module):
    """A transformer block as the reference writes it, with the attention matrix in memory."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.heads, self.drop = heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attention = ((q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(dim=-1)
        x = x + self._dropped(self.proj((attention @ v).transpose(1, 2).reshape(n, tokens, width)))
        return x + self._dropped(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def _dropped(self, x: Tensor) -> Tensor:
        if not self.drop:
            return x
        keep = 1 - self.drop
        return x / keep * (keep + torch.rand(len(x), 1, 1, dtype=x.dtype)).floor_()


class PlainNetwork(nn.Module):
    """Backbone and head over crops of two sizes, one forward for each size."""

    def __init__(self, shape: VitShape, drop_path: float) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.cls = nn.Parameter(torch.randn(1, 1, shape.width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 1 + shape.native_grid**2, shape.width) * 0.02)
        rates = torch.linspace(0, drop_path, shape.depth).tolist()
        self.blocks = nn.Sequential(*(PlainBlock(shape.width, shape.heads, rate) for rate in rates))
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(shape.width, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 256)
        )
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, PROTOTYPES, bias=False))
        self.last.parametrizations.weight.original0.data.fill_(1)
        self.last.parametrizations.weight.original0.requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        x = self.embed(images).flatten(2).transpose(1, 2)
        grid, side = images.shape[-1] // self.shape.patch, self.shape.native_grid
        places = self.positions[:, 1:]
        if grid != side:
            places = places.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            places = F.interpolate(places, scale_factor=(grid + 0.1) / side, mode="bicubic")
            places = places.permute(0, 2, 3, 1).flatten(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + torch.cat([self.positions[:, :1], places], 1)
        return self.norm(self.blocks(x))[:, 0]

    def forward(self, crops: list[Tensor]) -> Tensor:
        sizes = sorted({crop.shape[-1] for crop in crops}, reverse=True)
        found = [self.features(torch.cat([crop for crop in crops if crop.shape[-1] == size])) for size in sizes]
        return self.last(F.normalize(self.mlp(torch.cat(found)), dim=-1))


class PlainStep:
    """The step as the reference's loop takes it."""

    def __init__(self, of: Plan, *, has_autocast: bool) -> None:
        assert isinstance(of.shape, VitShape)
        self.student, self.teacher = PlainNetwork(of.shape, 0.1), PlainNetwork(of.shape, 0.0)
        self.teacher.load_state_dict(self.student.state_dict())
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False
        self.optimiser = torch.optim.AdamW([p for p in self.student.parameters() if p.requires_grad], lr=1e-6)
        self.centre = torch.zeros(1, PROTOTYPES)
        self.has_autocast = has_autocast

    def __call__(self, crops: list[Tensor]) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.has_autocast):
            teacher_out = self.teacher(crops[:2])
            student_out = self.student(crops)
            loss = self.loss(student_out, teacher_out)
        self.optimiser.zero_grad()
        loss.backward()
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                share = 3.0 / (parameter.grad.data.norm(2) + 1e-6)
                if share < 1:
                    parameter.grad.data.mul_(share)
        self.optimiser.step()
        with torch.no_grad():
            for mine, theirs in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                theirs.data.mul_(0.996).add_(0.004 * mine.detach().data)
        return loss.item()

    def loss(self, student_out: Tensor, teacher_out: Tensor) -> Tensor:
        student = (student_out / 0.1).chunk(len(SIDES))
        teacher = F.softmax((teacher_out - self.centre) / 0.04, dim=-1).detach().chunk(2)
        pairs = [
            torch.sum(-t * F.log_softmax(s, dim=-1), dim=-1).mean()
            for i, t in enumerate(teacher)
            for j, s in enumerate(student)
            if i != j
        ]
        self.centre = self.centre * 0.9 + teacher_out.float().mean(0, keepdim=True) * 0.1
        return sum(pairs[1:], pairs[0]) / len(pairs)


class OurStep:
    """The step of the engine."""

    def __init__(self, of: Plan) -> None:
        objective = SelfDistillation(of)
        self.plan, self.step = of, 0
        self.run = run_with(objective, Path())

    def __call__(self, crops: list[Tensor]) -> float:
        told = advance(self.run, [Part(crops)], self.step, moment(self.plan, self.step))
        self.step += 1
        return told["loss"].item()


def gflop_of_a_picture(shape: Shape) -> float:
    """Return the multiplications and additions of one picture's step: the teacher forward, the student three times."""
    assert isinstance(shape, VitShape)
    per_token = 12 * shape.width**2 * shape.depth * 2

    def forward(side: int) -> float:
        tokens = (side // shape.patch) ** 2 + 1
        return (
            tokens * per_token
            + 4 * tokens**2 * shape.width * shape.depth
            + tokens * 3 * shape.patch**2 * shape.width * 2
        )

    head = 2 * (shape.width * 2048 + 2048**2 + 2048 * 256 + 256 * PROTOTYPES)
    return (2 * (forward(224) + head) + 3 * sum(forward(side) + head for side in SIDES)) / 1e9


def bf16_peak_gflop_per_s() -> float:
    a = torch.randn(PEAK_SIDE, PEAK_SIDE, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begun)
    return 2 * PEAK_SIDE**3 / best / 1e9


def serve(name: str, pipe: Connection) -> None:
    """Take one step for each request and send back how long it took; with a memory allocator of its own."""
    torch.manual_seed(0)
    of = plan()
    crops = [torch.randn(BATCH, 3, side, side) for side in SIDES]
    if name == "ours":
        make_cpu_fast()
        step: Callable[[list[Tensor]], float] = OurStep(of)
    else:
        step = PlainStep(of, has_autocast=name == "plain bf16")
    while pipe.recv():
        begun = time.perf_counter()
        step(crops)
        pipe.send(time.perf_counter() - begun)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    peak = bf16_peak_gflop_per_s()
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in ("plain", "plain bf16", "ours"):
        pipes[name], far_end = context.Pipe()
        context.Process(target=serve, args=(name, far_end), daemon=True).start()
    seconds: dict[str, list[float]] = {name: [] for name in pipes}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            for turn in range(WARM_UP + TURNS):
                pipe.send(True)
                taken = pipe.recv()
                if turn >= WARM_UP:
                    seconds[name].append(taken)
    for pipe in pipes.values():
        pipe.send(False)
    rates = {name: BATCH / statistics.median(times) for name, times in seconds.items()}
    work = gflop_of_a_picture(plan().shape)
    print(
        f"{torch.get_num_threads()} threads, {rounds} rounds, {work:.1f} GFLOP a picture, bf16 peak {peak:.0f} GFLOP/s"
    )
    for name, rate in rates.items():
        ratios = " ".join(f"{rate / rates[other]:5.2f} x {other}" for other in ("plain", "plain bf16"))
        speed = rate * work
        print(f"{name:<11}{rate:6.2f} pictures/s {ratios}   {speed:4.0f} GFLOP/s, {speed / peak:.0%} of the peak")


if __name__ == "__main__":
    main()
