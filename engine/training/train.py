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
from torch import Tensor, nn
from torch.optim import Optimizer

from engine import distributed
from engine.catalogue import IMAGENET_MEAN, IMAGENET_STD, VitShape
from engine.errors import BadRecipe, Diverged, OutOfMemory, UnreadablePicture
from engine.machine import make_cpu_fast
from engine.measuring.confusion import Confusion
from engine.models.adapters import adapt
from engine.models.backbones import build_backbone
from engine.models.vit import VisionTransformer
from engine.models.weights import read_backbone, write_backbone
from engine.protocol import Finished, Made, Measured, Message, Noticed, Progress, Tell, decode, encode
from engine.provenance import of_program
from engine.recipes import Plan
from engine.seeing.probes import Probe, choose_probes, prepare_probe, probe_side, probe_steps, write_probes
from engine.seeing.views import normalise
from engine.store import write_atomically
from engine.timing import Pace
from engine.training import checkpoint
from engine.training.batches import Batches, CroppedPart, load
from engine.training.classes import HeldOut, held_out
from engine.training.classification import (
    CLASSIFIER,
    MOST_ASKED,
    SPLITS_IN_WORDS,
    Asked,
    examine,
    write_classifier,
    write_figures,
)
from engine.training.gauge import Gauge, Look, features
from engine.training.guarding import Guarding
from engine.training.health import FIRST_STEP, Health
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
    asked: Asked | None = None
    tuned: str = ""
    """What fine-tuning under guard came to, in words."""


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
    guarding: Guarding | None = None

    @property
    def is_sharded(self) -> bool:
        """Tell whether each process holds a share of the state."""
        return self.plan.run.sharding == "fsdp" and self.plan.processes > 1

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
        run = _prepare(folder, plan, pixels, device, tell_all, start)
        if plan.tuning.guard and distributed.shared(gauge is not None):
            run.guarding = _guarding(run, start)
        elif plan.tuning.guard:
            tell_all(Noticed(level="warning", text="There are too few pictures to measure with: there is no guard."))
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


def _prepare(
    folder: Path, plan: Plan, pixels: Pixels, device: torch.device, tell: Tell, start: checkpoint.Checkpoint | None
) -> Run:
    rank, processes = distributed.world()
    if device.type == "cpu":
        for what in make_cpu_fast():
            tell(Noticed(level="info", text=f"CPU: {what}"))
    torch.manual_seed(plan.run.seed)
    objective = OBJECTIVES[plan.run.objective](plan)
    objective.begin(folder, pixels, device, is_new=start is None)
    if plan.model.init and start is None:
        objective.start_from(read_backbone(folder / "init.safetensors").model)
    if plan.tuning.lora_rank:
        objective.adapt(plan.tuning.lora_rank)
    is_sharded = plan.run.sharding == "fsdp" and processes > 1
    if not is_sharded:  # each network would have to fit as a whole
        objective.to(device)
    if processes > 1 and device.type == "cuda":
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(objective)
    if is_sharded:
        _shard(objective, plan, device)
    groups = objective.groups()
    optimiser = make_optimiser(plan.optimiser, groups)
    scaler = torch.amp.GradScaler(device.type, enabled=plan.run.precision == "fp16")
    if start is not None:
        checkpoint.restore(start.tensors(checkpoint.splits(objective)), objective, groups, optimiser, scaler)
    objective.freeze_backbone((start.step if start else 0) < plan.heads_first_steps)
    if plan.run.compile:
        for network in objective.networks:
            compiled(network)
    if processes > 1 and not is_sharded:
        objective.average(lambda student: distributed.averaged(student, device))
    return Run(folder, plan, objective, groups, optimiser, scaler, device, rank == 0, tell)


def _guarding(run: Run, start: checkpoint.Checkpoint | None) -> Guarding:
    """Return the guard of a run, which knows what it knew when the checkpoint was written."""

    def put_back(best: checkpoint.Checkpoint) -> None:
        tensors = best.tensors(checkpoint.splits(run.objective))
        checkpoint.restore(tensors, run.objective, run.groups, run.optimiser, run.scaler)

    guarding = Guarding(run.plan, run.folder / "checkpoints", put_back, run.tell)
    if start is not None:
        guarding.take_up(start.tensors(checkpoint.splits(run.objective)))
    return guarding


def _shard(objective: Objective, plan: Plan, device: torch.device) -> None:
    """Leave each process its share of every network, on its device; what is no parameter stays whole."""
    dtype = torch.bfloat16 if plan.run.precision == "bf16" else None
    for network in objective.networks:
        distributed.shard(network, device, dtype, learns=network is objective.student)
    objective.to(device)


def _loop(run: Run, batches: Batches, gauge: Gauge | None, first: int, should_stop: Callable[[], bool]) -> Result:
    plan, tell = run.plan, run.tell
    health = Health(plan.prototypes)
    keeper = _Keeper(run, gauge, batches.pixels)
    keeper.begin(first)
    pace = Pace("training", plan.steps * plan.run.batch, "pictures", tell, start=first * plan.run.batch)
    meter = _Meter()
    replaced: dict[str, str] = {}
    step, is_stopped = first, False
    steps = range(first, first if keeper.has_ended else plan.steps)
    for batch in load(batches, steps, workers=plan.run.workers, pin=plan.run.device == "cuda", tell=tell):
        _name_replaced(batch.replaced, replaced, tell)
        at = moment(plan, step) if run.guarding is None else run.guarding.slowed(moment(plan, step))
        is_watched = step % LOG_EVERY == 0 or step == plan.steps - 1
        if step == plan.heads_first_steps > first:
            _let_backbone_learn(run)
        parts = [_on_device(part, run.device) for part in batch.parts(plan.run.accumulation)]
        meter.add(advance(run, parts, step, at, watch=is_watched))
        step += 1
        if is_watched and not keeper.went_back(meter):
            values = meter.read() | _told_too(at, pace, run.device)
            tell(Measured(step=step, values=values))
            for notice in health.look(step, values | keeper.figures):
                tell(notice)
        pace.reached(step * plan.run.batch, note=meter.note)
        if is_watched or plan.processes == 1:  # agreeing makes a GPU wait
            is_stopped = distributed.any_of(should_stop(), run.device) and step < plan.steps
        keeper.after(step, meter, is_last=is_stopped or step == plan.steps)
        if is_stopped or keeper.has_ended:
            break
    return keeper.result(step, is_stopped, replaced)


def _let_backbone_learn(run: Run) -> None:
    """Begin the second phase of a run whose heads learnt first; processes then average more than heads."""
    run.objective.freeze_backbone(False)
    if distributed.world()[1] > 1 and not run.is_sharded:
        run.objective.average(lambda student: distributed.averaged(student, run.device))


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
        self.forget()
        del values[NOT_FINITE]
        self.note = f"loss {values['loss']:.3f}"
        return values

    def forget(self) -> None:
        """Start anew without a reading."""
        self._sums, self._counts = {}, {}

    @property
    def is_broken(self) -> bool:
        """Whether a gradient since the last reading was not finite."""
        return NOT_FINITE in self._sums and bool(self._sums[NOT_FINITE] > 0)

    def check(self) -> None:
        """Raise if a gradient since the last reading was not finite."""
        if self.is_broken:
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
    first_part = distributed.world()[0] * n_parts
    _seed_part(run.plan.run.seed, step, first_part)
    schedule(optimiser, at, is_last_layer_still=run.is_v2 and at.epoch_of_phase < settings.freeze_last_layer)
    optimiser.zero_grad(set_to_none=True)
    told: dict[str, Tensor] = {}
    with _precision(run):
        answers = objective.answers(parts, at)
    for number, (part, answer) in enumerate(zip(parts, answers, strict=True)):
        _seed_part(run.plan.run.seed, step, first_part + number)
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


def _seed_part(seed: int, step: int, part: int) -> None:
    """Start torch's generator for a part of a batch, whichever process has it: what is drawn needs no saving."""
    digest = hashlib.blake2b(f"{seed} {step} {part}".encode(), digest_size=SEED_BYTES).digest()
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
        self._pixels = pixels
        self._checkpoints = run.folder / "checkpoints"
        self._saved_at = time.monotonic()
        self._scores: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        """How classes are told since runs differ, for `health`; nothing before, or where none are learnt."""
        self._best = checkpoint.best_score(self._checkpoints)
        self._before: Look | None = None
        self._probe_steps = set(probe_steps(run.plan.steps))
        self._probes = _choose_probes(run, pixels) if run.is_first else []
        self._backbone = run.objective.backbone
        if run.is_sharded and run.is_first:
            self._backbone = build_backbone(run.plan.shape)
            if run.plan.tuning.lora_rank:
                adapt(self._backbone, run.plan.tuning.lora_rank)
            self._backbone.to(run.device)

    @property
    def has_ended(self) -> bool:
        """Whether the guard ended the run."""
        guarding = self._run.guarding
        return guarding is not None and guarding.known.has_ended

    def begin(self, step: int) -> None:
        """Look at the network as it is before the first step of this process."""
        guarding = self._run.guarding
        self._gather()
        if self._run.is_first:
            self._look(step)
        if guarding.watch if guarding else step > 0:
            return
        look = self._measure(step) if self._run.is_first else None
        if guarding:
            guarding.begin(look, step)
        if guarding and (self._run.is_first or self._run.is_sharded):
            self._keep(step, is_best=True)

    def after(self, step: int, meter: _Meter, *, is_last: bool) -> None:
        """Do what is due after a step."""
        guarding = self._run.guarding
        is_due = self._is_due(step)
        if is_due or is_last or step in self._probe_steps or self._is_measuring(step):
            self._gather()
        if self._run.is_first and step in self._probe_steps:
            self._look(step)
        if guarding is None:
            is_best = self._is_best(step)
        else:
            is_best = self._is_guarded_best(guarding, step, meter, is_last=is_last)
        if not self._run.is_first and not self._run.is_sharded:
            return
        if guarding and meter.is_broken:
            is_due = False  # the guard sees to it within a few steps
        if is_due or is_best or is_last or self.has_ended:
            meter.check()
            self._keep(step, is_best=is_best)

    def _is_best(self, step: int) -> bool:
        """Measure where it is due; tell whether labels are guessed better than ever."""
        if not self._is_measuring(step):
            return False
        is_best = self._run.is_first and self._is_measured_best(step)
        return distributed.shared(is_best) if self._run.is_sharded else is_best

    def _is_measuring(self, step: int) -> bool:
        plan = self._run.plan
        every = plan.run.measure_epochs * plan.steps_per_epoch
        return step == plan.steps or (every > 0 and step % every == 0)

    def _is_due(self, step: int) -> bool:
        """Tell whether the last checkpoint is long enough ago; processes that save together must agree."""
        run = self._run
        is_due = time.monotonic() - self._saved_at >= run.plan.run.checkpoint_seconds
        if not run.is_sharded:
            return is_due
        if run.device.type != "cpu" and step % LOG_EVERY:  # agreeing makes a GPU wait
            return False
        return distributed.any_of(is_due, run.device)

    def _gather(self) -> None:
        """Bring the first process's copy of a backbone up to date whose shares lie in all of them; all must call."""
        run = self._run
        if not run.is_sharded:
            return
        copy = self._backbone.state_dict() if run.is_first else {}
        for name, tensor in run.objective.backbone.state_dict().items():
            whole = distributed.whole(tensor)
            if run.is_first:
                copy[name].copy_(whole)

    def _is_measured_best(self, step: int) -> bool:
        self._measure(step)
        score = self._scores.get("accuracy", self._scores.get("knn", 0.0))
        if score <= self._best:
            return False
        self._best = score
        return True

    def _is_guarded_best(self, guarding: Guarding, step: int, meter: _Meter, *, is_last: bool) -> bool:
        """Let the guard look where it is due; tell whether it is these weights that it goes back to from now on."""
        have_heads_learnt = step == self._run.plan.heads_first_steps
        is_due = guarding.is_due(step)
        if not (is_due or have_heads_learnt or is_last) or self.went_back(meter):
            return False
        self._gather()
        if have_heads_learnt:
            guarding.heads_have_learnt(step)
        if not is_due:
            return have_heads_learnt
        is_best = guarding.judge(self._measure(step) if self._run.is_first else None, step)
        if not is_best:
            self._gather()  # the weights may be others now
        return is_best

    def went_back(self, meter: _Meter) -> bool:
        """Tell whether a gradient was not finite and the guard went back for that."""
        guarding = self._run.guarding
        if guarding is None or not distributed.any_of(meter.is_broken, self._run.device):
            return False
        guarding.harmed()
        meter.forget()
        self._gather()
        return True

    def _keep(self, step: int, *, is_best: bool) -> None:
        self._save(step)
        if is_best and self._run.is_first:
            guarding = self._run.guarding
            checkpoint.mark_best(self._checkpoints, step, guarding.known.best_score if guarding else self._best)

    def _look(self, step: int) -> None:
        if self._probes and isinstance(self._backbone, VisionTransformer):
            write_probes(self._run.folder / "probes", step, self._backbone, self._probes)

    def _measure(self, step: int) -> Look | None:
        """Measure the features of the backbone the run is for."""
        if self._gauge is None:
            return None
        guarding = self._run.guarding
        look = self._gauge.measure(self._see, guarding.start_Qk if guarding else None)
        self._scores = look.scores(self._before)
        if guarding:
            self._scores |= guarding.numbers(look.reading)
        if self._run.plan.classes:
            figures = self._examined("val", MOST_ASKED).scores()
            self._scores |= figures
            self.figures = figures if step >= FIRST_STEP else {}
        self._run.tell(Measured(step=step, values=self._scores))
        self._before = look
        return look

    def _examined(self, split: HeldOut, most: int = 0) -> Confusion:
        plan = self._run.plan
        return examine(
            self._judge, self._run.folder, self._pixels, split, plan.classes, plan.crops.global_side, most=most
        )

    def _judge(self, pictures_BYXC: Tensor) -> Tensor:
        pictures_BCYX = normalise(pictures_BYXC.to(self._run.device))
        with _precision(self._run):
            return self._run.objective.judge(pictures_BCYX).float().cpu()

    def _see(self, pictures_BYXC: Tensor) -> Tensor:
        with _precision(self._run):
            return features(self._backbone, pictures_BYXC, self._run.device)

    def _save(self, step: int) -> None:
        run = self._run
        save = checkpoint.save_shares if run.is_sharded else checkpoint.save
        save(
            self._checkpoints,
            step,
            checkpoint.gather(run.objective, run.groups, run.optimiser, run.scaler)
            | (run.guarding.state() if run.guarding else {}),
            lambda path: _write_backbone(path, run, self._backbone, step, self._scores),
            {"steps": run.plan.steps, **self._scores},
        )
        self._saved_at = time.monotonic()

    def result(self, step: int, is_stopped: bool, replaced: dict[str, str]) -> Result:
        """Write the backbone of a run that reached its end, and say how it ended."""
        path = self._run.folder / "backbone.safetensors"
        asked, tuned = None, ""
        if self._run.guarding and not is_stopped:
            tuned = self._run.guarding.end(step)
            self._gather()
            self._scores |= self._run.guarding.numbers(self._run.guarding.known.best)
            self._run.tell(Noticed(level="info", text=tuned))
        if self._run.is_first and not is_stopped:
            _write_backbone(path, self._run, self._backbone, step, self._scores)
            self._run.tell(Made(what="backbone", path=str(path)))
            asked = self._leave_classifier(step) if self._run.plan.classes else None
        return Result(
            step=step,
            is_stopped=is_stopped,
            backbone=path,
            scores=self._scores,
            replaced=replaced,
            asked=asked,
            tuned=tuned,
        )

    def _leave_classifier(self, step: int) -> Asked:
        """Write the classifier, and how it answers for the pictures held out for the end."""
        folder, plan, classifier = self._run.folder, self._run.plan, self._run.objective.classifier
        assert classifier is not None, "who learns classes has a classifier"
        about = {
            "classes": list(plan.classes),
            "features": plan.supervised.head_features,
            "side": plan.crops.global_side,
            "step": step,
        }
        write_classifier(folder / CLASSIFIER, classifier.weight, classifier.bias, about)
        self._run.tell(Made(what="classifier", path=str(folder / CLASSIFIER)))
        split = SPLITS_IN_WORDS[held_out(folder, "test").name]
        found = self._examined("test")
        facts = of_program(run=folder.name, architecture=plan.model.model, step=step, asked=split)
        files = write_figures(folder, found, split, facts)
        for path in files:
            self._run.tell(Made(what="classification", path=str(path)))
        return Asked(found, split, files)


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


def _write_backbone(path: Path, run: Run, backbone: nn.Module, step: int, scores: dict[str, float]) -> None:
    plan = run.plan
    about = {"recipe": plan.values(), "step": step, "steps": plan.steps, "pictures": plan.pictures, "scores": scores}
    write_backbone(path, backbone, plan.shape, about=about)
