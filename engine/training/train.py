"""The training loop: from a plan and pictures to a trained backbone.

It knows steps, devices, precision, files and messages; what is learnt, and how, is the objective's.
A run's folder holds ``plan.json``, ``events.jsonl``, ``pictures.*``, ``checkpoints/``, ``probes/`` and, at the
end, ``backbone.safetensors``.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor
from torch.optim import Optimizer

from engine import distributed
from engine.catalogue import IMAGENET_MEAN, IMAGENET_STD, VitShape
from engine.errors import BadRecipe, Diverged, OutOfMemory, UnreadablePicture
from engine.machine import make_cpu_fast
from engine.models.vit import VisionTransformer
from engine.models.weights import read_backbone, write_backbone
from engine.protocol import Finished, Made, Measured, Message, Noticed, Progress, Tell, decode, encode
from engine.recipes import Plan
from engine.seeing.probes import Probe, choose_probes, prepare_probe, probe_side, probe_steps, write_probes
from engine.seeing.views import normalise
from engine.store import write_atomically
from engine.timing import Pace
from engine.training import checkpoint
from engine.training.batches import Batches, CroppedPart, load
from engine.training.gauge import Gauge, features
from engine.training.health import Health
from engine.training.objectives import OBJECTIVES
from engine.training.objectives.objective import Group, Objective, Part, compiled
from engine.training.optimisers import clip_by_network, clip_by_tensor, make_optimiser, schedule
from engine.training.pictures import Pixels
from engine.training.schedules import Moment, moment

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_EVERY = 10  # steps between two events; watching costs a few percent of a step
NOT_FINITE = "not_finite"
SEED_BYTES = 7  # torch takes up to 64 bits, signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended."""

    step: int
    is_stopped: bool
    backbone: Path
    scores: dict[str, float]
    replaced: dict[str, str]


@dataclass(slots=True)
class Run:
    """Everything the loop works with: networks, optimiser, and where to say and keep what happens."""

    folder: Path
    plan: Plan
    objective: Objective
    groups: list[Group]
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    is_first: bool
    tell: Tell

    @property
    def is_v2(self) -> bool:
        """Tell whether the run does as dinov2 does where the two references differ."""
        return "ibot" in self.plan.heeded


def train(
    folder: Path,
    plan: Plan,
    pixels: Pixels,
    tell: Tell,
    *,
    gauge: Gauge | None = None,
    start: checkpoint.Checkpoint | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Run a plan, from its first step or from a checkpoint, to its last or until it should stop.

    Args:
        folder: of the run; exists.
        plan: what to do.
        pixels: the pictures, as many as the plan says.
        tell: gets every message; they are also kept in ``events.jsonl``.
        gauge: measures the features every few epochs.
        start: a checkpoint of the same plan to go on from.
        should_stop: asked after every step; True ends the run with a checkpoint.

    Raises:
        Diverged: a gradient was not finite; the weights did not move.
        OutOfMemory: the device is too small for a part of the batch.
        DiskFull: a checkpoint found no room; the earlier ones are intact.
    """
    rank, _ = distributed.world()
    device = distributed.join(plan.run.device)
    first = start.step if start else 0
    with _events(folder, plan, tell, first, is_first=rank == 0) as tell_all, _room_for(plan):
        run = _prepare(folder, plan, device, tell_all, start)
        result = _loop(run, Batches(plan, pixels, rank=rank), gauge, first, should_stop)
        tell_all(Finished(stopped=result.is_stopped))
        return result


@contextlib.contextmanager
def _events(folder: Path, plan: Plan, tell: Tell, first: int, *, is_first: bool) -> Iterator[Tell]:
    """Keep what the first process says in the run's folder, but for progress; the others are silent."""
    if not is_first:
        yield lambda _message: None
        return
    path = folder / "events.jsonl"
    _forget_after(path, first)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("a", encoding="utf-8"))
        board = stack.enter_context(_tensorboard(folder)) if plan.run.tensorboard else None

        def tell_and_keep(message: Message) -> None:
            tell(message)
            if isinstance(message, Progress):
                return
            file.write(encode(message) + "\n")
            file.flush()
            if board and isinstance(message, Measured):
                for name, value in message.values.items():
                    board.add_scalar(name, value, message.step)

        yield tell_and_keep


def _forget_after(path: Path, step: int) -> None:
    """Take out of the events what was measured after the checkpoint a run goes on from; it comes again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step_of(line) <= step]
    write_atomically(path, lambda file: file.write("".join(kept).encode()))


def _step_of(line: str) -> int:
    message = decode(line)
    return message.step if isinstance(message, Measured) else 0


def _tensorboard(folder: Path) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        raise BadRecipe(
            "tensorboard was asked for but is not installed.", 'Install it with: pip install "dinoviz[tensorboard]".'
        ) from problem
    return SummaryWriter(str(folder / "tensorboard"))


@contextlib.contextmanager
def _room_for(plan: Plan) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as problem:
        part = plan.run.batch // plan.processes // plan.run.accumulation
        raise OutOfMemory(
            f"{part} pictures at once do not fit the memory of the {plan.run.device} device.",
            "Take smaller crops or a smaller model."
            if part == 1
            else f"Start again, or engine resume --fork, with --accumulation {plan.run.accumulation * 2}.",
        ) from problem


def _prepare(folder: Path, plan: Plan, device: torch.device, tell: Tell, start: checkpoint.Checkpoint | None) -> Run:
    rank, processes = distributed.world()
    if device.type == "cpu":
        for what in make_cpu_fast():
            tell(Noticed(level="info", text=f"CPU: {what}"))
    torch.manual_seed(plan.run.seed)
    objective = OBJECTIVES[plan.run.objective](plan)
    if plan.model.init and start is None:
        objective.start_from(read_backbone(folder / "init.safetensors").model)
    objective.to(device)
    if processes > 1 and device.type == "cuda":
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(objective)
    groups = objective.groups()
    optimiser = make_optimiser(plan.optimiser, groups)
    scaler = torch.amp.GradScaler(device.type, enabled=plan.run.precision == "fp16")
    if start is not None:
        checkpoint.restore(start.tensors(), objective, groups, optimiser, scaler)
    if plan.run.compile:
        for network in objective.networks:
            compiled(network)
    if processes > 1:
        objective.average(lambda student: distributed.averaged(student, device))
    return Run(folder, plan, objective, groups, optimiser, scaler, device, rank == 0, tell)


def _loop(run: Run, batches: Batches, gauge: Gauge | None, first: int, should_stop: Callable[[], bool]) -> Result:
    plan, tell = run.plan, run.tell
    health = Health(plan.prototypes)
    keeper = _Keeper(run, gauge, batches.pixels)
    keeper.begin(first)
    pace = Pace("training", plan.steps * plan.run.batch, "pictures", tell, start=first * plan.run.batch)
    meter = _Meter()
    replaced: dict[str, str] = {}
    step, is_stopped = first, False
    steps = range(first, plan.steps)
    for batch in load(batches, steps, workers=plan.run.workers, pin=plan.run.device == "cuda", tell=tell):
        _name_replaced(batch.replaced, replaced, tell)
        at = moment(plan, step)
        is_watched = step % LOG_EVERY == 0 or step == plan.steps - 1
        parts = [_on_device(part, run.device) for part in batch.parts(plan.run.accumulation)]
        meter.add(advance(run, parts, step, at, watch=is_watched))
        step += 1
        if is_watched:
            values = meter.read() | _told_too(at, pace, run.device)
            tell(Measured(step=step, values=values))
            for notice in health.look(step, values):
                tell(notice)
        pace.reached(step * plan.run.batch, note=meter.note)
        if is_watched or plan.processes == 1:  # agreeing makes a GPU wait
            is_stopped = distributed.any_of(should_stop(), run.device) and step < plan.steps
        keeper.after(step, meter, is_last=is_stopped or step == plan.steps)
        if is_stopped:
            break
    return keeper.result(step, is_stopped, replaced)


def _name_replaced(new: dict[str, str], known: dict[str, str], tell: Tell) -> None:
    for path, problem in new.items():
        if path not in known:
            tell(Noticed(level="warning", text=f"'{path}' is replaced by the next picture: {problem}."))
    known |= new


def _told_too(at: Moment, pace: Pace, device: torch.device) -> dict[str, float]:
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    return {
        "epoch": at.epoch,
        "learning_rate": at.learning_rate,
        "weight_decay": at.weight_decay,
        "momentum": at.momentum,
        "teacher_temperature": at.teacher_temperature,
        "pictures_per_s": pace.rate or 0.0,
        "memory_bytes": memory,
    }


class _Meter:
    """Means since the last reading; what is read stays on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.note = ""

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the means over steps and processes, and start anew.

        Raises:
            Diverged: a gradient of one of the steps was not finite.
        """
        self.check()
        values = distributed.mean_of({name: total / self._counts[name] for name, total in self._sums.items()})
        self._sums, self._counts = {}, {}
        del values[NOT_FINITE]
        self.note = f"loss {values['loss']:.3f}"
        return values

    def check(self) -> None:
        """Raise if a gradient since the last reading was not finite."""
        if NOT_FINITE in self._sums and self._sums[NOT_FINITE] > 0:
            raise Diverged(
                "The loss or a gradient stopped being finite; no checkpoint was written since.",
                "Lower learning_rate, or compute in fp32 (--precision fp32), and resume from the last checkpoint.",
            )


def _on_device(part: CroppedPart, device: torch.device) -> Part:
    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device, non_blocking=True)

    return Part(
        views_VBCYX=[normalise(view.to(device, non_blocking=True)) for view in part.views_VBYXC],
        masks_GBP=moved(part.masks_GBP),
        masked_M=moved(part.masked_M),
        weights_M=moved(part.weights_M),
        labels_B=moved(part.labels_B),
    )


def advance(run: Run, parts: Sequence[Part], step: int, at: Moment, *, watch: bool = False) -> dict[str, Tensor]:
    """Move what learns by one batch; return what happened, still on the device.

    Args:
        run: is changed.
        parts: the batch, in as many equal parts as the plan says.
        step: from 0; random draws of the network depend on nothing else.
        at: the scheduled values of the step.
        watch: also return what tells collapse.
    """
    objective, optimiser, scaler = run.objective, run.optimiser, run.scaler
    n_parts = len(parts)
    settings = run.plan.optimiser
    _seed_step(run.plan.run.seed, step, distributed.world()[0])
    schedule(optimiser, at, is_last_layer_still=run.is_v2 and at.epoch < settings.freeze_last_layer)
    optimiser.zero_grad(set_to_none=True)
    told: dict[str, Tensor] = {}
    with _precision(run):
        answers = objective.answers(parts, at)
    for number, (part, answer) in enumerate(zip(parts, answers, strict=True)):
        with objective.synced(is_last=number == n_parts - 1):
            with _precision(run):
                loss = objective.loss(part, answer, at, watch=watch)
            scaler.scale(loss.total / n_parts).backward()
        not_finite = (~torch.isfinite(loss.total.detach())).float()
        for name, value in {
            "loss": loss.total.detach(),
            NOT_FINITE: not_finite,
            **loss.parts,
            **loss.watched,
        }.items():
            told[name] = told[name] + value / n_parts if name in told else value / n_parts
    scaler.unscale_(optimiser)
    if settings.clip_by == "network":
        norms = clip_by_network(run.groups, settings.clip)
    else:
        norms = clip_by_tensor(objective.student.parameters(), settings.clip)
    objective.before_step(at)
    _move(optimiser, scaler, is_finite=torch.isfinite(norms).all())
    objective.after_step(at)
    if not scaler.is_enabled():  # a scaler leaves out steps whose gradients overflow, and lowers its scale
        told[NOT_FINITE] = told[NOT_FINITE] + (~torch.isfinite(norms)).any()
    return told | {"gradient_norm": norms.norm()}


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Start torch's generator for a step, so that what the network draws needs no saving."""
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=SEED_BYTES).digest()
    torch.manual_seed(int.from_bytes(digest))


def _move(optimiser: Optimizer, scaler: torch.amp.GradScaler, *, is_finite: Tensor) -> None:
    """Step unless a gradient is not finite.

    The fused optimiser takes the answer as a tensor, so that a GPU is not waited for; others need it here.
    """
    if scaler.is_enabled():
        scaler.step(optimiser)
        scaler.update()
    elif isinstance(optimiser, torch.optim.AdamW):
        optimiser.found_inf = (~is_finite).float()  # type: ignore[attr-defined] - torch's own name for it
        optimiser.grad_scale = None  # type: ignore[attr-defined]
        optimiser.step()
    elif is_finite:
        optimiser.step()


def _precision(run: Run) -> contextlib.AbstractContextManager[None]:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[run.plan.run.precision]
    return torch.autocast(run.device.type, dtype=dtype) if dtype else contextlib.nullcontext()


class _Keeper:
    """What a run leaves on the disk as it goes: checkpoints, measurements, probes, and the backbone at the end."""

    def __init__(self, run: Run, gauge: Gauge | None, pixels: Pixels) -> None:
        self._run = run
        self._gauge = gauge
        self._checkpoints = run.folder / "checkpoints"
        self._saved_at = time.monotonic()
        self._scores: dict[str, float] = {}
        self._best = checkpoint.best_score(self._checkpoints)
        self._neighbours: Tensor | None = None
        self._probe_steps = set(probe_steps(run.plan.steps))
        self._probes = _choose_probes(run, pixels) if run.is_first else []

    def begin(self, step: int) -> None:
        """Look at the network as it is before the first step of this process."""
        if self._run.is_first:
            self._look(step)
            if step == 0:
                self._measure(step)

    def after(self, step: int, meter: _Meter, *, is_last: bool) -> None:
        """Do what is due after a step."""
        if not self._run.is_first:
            return
        plan = self._run.plan
        if step in self._probe_steps:
            self._look(step)
        every = plan.run.measure_epochs * plan.steps_per_epoch
        is_best = (step == plan.steps or (every > 0 and step % every == 0)) and self._measure(step)
        is_due = time.monotonic() - self._saved_at >= plan.run.checkpoint_seconds
        if is_due or is_best or is_last:
            meter.check()
            self._save(step)
            if is_best:
                checkpoint.mark_best(self._checkpoints, step, self._best)

    def _look(self, step: int) -> None:
        backbone = self._run.objective.backbone
        if self._probes and isinstance(backbone, VisionTransformer):
            write_probes(self._run.folder / "probes", step, backbone, self._probes)

    def _measure(self, step: int) -> bool:
        """Measure the teacher's features; return whether they are the best so far."""
        if self._gauge is None:
            return False
        self._scores, self._neighbours = self._gauge.measure(self._see, self._neighbours)
        self._run.tell(Measured(step=step, values=self._scores))
        if self._scores.get("knn", 0.0) <= self._best:
            return False
        self._best = self._scores["knn"]
        return True

    def _see(self, pictures_BYXC: Tensor) -> Tensor:
        with _precision(self._run):
            return features(self._run.objective.backbone, pictures_BYXC, self._run.device)

    def _save(self, step: int) -> None:
        run = self._run
        checkpoint.save(
            self._checkpoints,
            step,
            checkpoint.gather(run.objective, run.groups, run.optimiser, run.scaler),
            lambda path: _write_backbone(path, run, step, self._scores),
            {"steps": run.plan.steps, **self._scores},
        )
        self._saved_at = time.monotonic()

    def result(self, step: int, is_stopped: bool, replaced: dict[str, str]) -> Result:
        """Write the backbone of a run that reached its end, and say how it ended."""
        path = self._run.folder / "backbone.safetensors"
        if self._run.is_first and not is_stopped:
            _write_backbone(path, self._run, step, self._scores)
            self._run.tell(Made(what="backbone", path=str(path)))
        return Result(
            step=step,
            is_stopped=is_stopped,
            backbone=path,
            scores=self._scores,
            replaced=replaced,
        )


def _choose_probes(run: Run, pixels: Pixels) -> list[Probe]:
    plan = run.plan
    patch = plan.shape.patch if isinstance(plan.shape, VitShape) else 1
    side = probe_side(plan.crops.global_side, patch)
    probes = []
    for index in choose_probes(range(len(pixels)), plan.run.seed, plan.run.probes):
        with contextlib.suppress(UnreadablePicture):
            picture = pixels.read(index, at_least=side)
            name = pixels.pictures.path(index)
            probes.append(prepare_probe(name, picture, patch=patch, side=side, mean=IMAGENET_MEAN, std=IMAGENET_STD))
    return probes


def _write_backbone(path: Path, run: Run, step: int, scores: dict[str, float]) -> None:
    plan = run.plan
    about = {"recipe": plan.values(), "step": step, "steps": plan.steps, "pictures": plan.pictures, "scores": scores}
    write_backbone(path, run.objective.backbone, plan.shape, about=about)
