"""What ``engine train`` and ``engine resume`` share: the flags of a recipe, a run's folder, and the training itself."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine import distributed
from engine.catalogue import Shape
from engine.commands import Outcome, StopSignal
from engine.commands.listing import named_in_words
from engine.elsewhere import Elsewhere, Taken, most_of
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe
from engine.estimates import CROPS_PER_S, Estimate
from engine.facts import TRAIN, Machine, facts_of, to_train_on
from engine.models.weights import load_backbone, write_backbone
from engine.project import Picture, Project, pictures_folder_of
from engine.protocol import Noticed, Tell
from engine.quantities import size_in_words, time_in_words
from engine.recipes import Plan, Recipe, settle
from engine.scaling import cores_to_crop
from engine.settings import FIELDS, SECTIONS, TeacherFacts, Value, choices_of, range_of, source_of, unit_of
from engine.store import sole_writer, write_atomically
from engine.training.checkpoint import Checkpoint, newest
from engine.training.classes import Lesson, keep_lesson, lesson, to_measure_with
from engine.training.classification import figures_in_words
from engine.training.gauge import make_gauge
from engine.training.named_teachers import keep_teacher, load_teacher
from engine.training.pictures import Copies, PictureList, Pixels, fingerprint
from engine.training.teachers import copy_teacher
from engine.training.train import Result, train

SHRUNK_TO = 2  # shorter side of the shrunken copies, in sides of the large crops: enough for crops of a quarter


def add_fields(command: argparse.ArgumentParser) -> None:
    """Add a flag for every field of a recipe, under its section's heading."""
    groups = {
        section: command.add_argument_group((settings.__doc__ or section).rstrip(".").lower())
        for section, settings in SECTIONS.items()
    }
    for name, (section, info) in FIELDS.items():
        low, high = range_of(info)
        limits = [str(low) if low is not None else "", str(high) if high is not None else ""]
        details = [
            ", ".join(choices_of(info)),
            " to ".join(limits) if all(limits) else "",
            unit_of(info),
            source_of(info),
            f"default {info.default}" if not info.is_required() and info.default != "" else "",
        ]
        help_ = f"{info.description} [{'; '.join(d for d in details if d)}]".replace("[]", "").replace("%", "%%")
        is_switch = info.annotation is bool
        groups[section].add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"field_{name}",
            help=help_,
            metavar="YES|NO" if is_switch else name.rpartition("_")[2].upper(),
            nargs="?" if is_switch else None,
            const="yes" if is_switch else None,
        )


def asked_in(arguments: argparse.Namespace) -> Recipe:
    """Return what the flags ask for."""
    given = {name: getattr(arguments, f"field_{name}") for name in FIELDS}
    return Recipe.of({name: value for name, value in given.items() if value is not None})


def to_learn_from(readable: Sequence[Picture]) -> list[Picture]:
    """Return the pictures a run learns from: the train split where there is one, else all.

    Raises:
        BadInput: there is none.
    """
    if not readable:
        raise BadInput("There are no readable pictures in the folder.", "See what was found with: engine scan FOLDER.")
    is_train = np.array([picture.split == TRAIN for picture in readable])
    return [readable[place] for place in to_train_on(is_train)]


def named_in(file: Path, readable: Sequence[Picture]) -> list[Picture]:
    """Return the pictures that a text file names, one path or id a line, in the order of the project.

    Raises:
        BadInput: the file cannot be read, names a picture that is not there, or none.
    """
    try:
        names = set(file.read_bytes().splitlines()) - {b""}
    except OSError as problem:
        raise BadInput(f"Cannot read the list '{file}': {problem.strerror}.") from problem
    by_name = {str(picture.id).encode(): picture for picture in readable}
    by_name |= {os.fsencode(picture.path): picture for picture in readable}
    missing = sorted(names - by_name.keys())
    if missing:
        others = f" nor are {len(missing) - 1:,} more of '{file}'" if len(missing) > 1 else ""
        raise BadInput(
            f"'{os.fsdecode(missing[0])}' is no readable picture of this project{others}.",
            "Paths are relative to the folder of pictures; ids are those of the project.",
        )
    chosen = {by_name[name].id for name in names}
    if not chosen:
        raise BadInput(f"The list '{file}' names no picture.", "Write one path or id a line.")
    return [picture for picture in readable if picture.id in chosen]


def is_part(run: Path) -> bool:
    """Tell whether the pictures of a run were chosen one by one."""
    return bool(json.loads((run / "plan.json").read_bytes()).get("is_part", False))


def of_run(run: Path, readable: Sequence[Picture]) -> list[Picture]:
    """Return what a run learns from now: what the folder holds, or the pictures that were chosen for it."""
    if not is_part(run):
        return to_learn_from(readable)
    listed = PictureList(run)
    chosen = {listed.path(i) for i in range(len(listed))}
    return [picture for picture in readable if picture.path in chosen]


def labels_to_learn(project: Project, recipe: Recipe, pictures: Sequence[Picture], tell: Tell) -> Lesson | None:
    """Choose the labelled pictures to learn from and those held out, and say so; None where no labels are learnt.

    Raises:
        BadInput: there are too few classes or pictures.
    """
    if recipe.asked.get("objective") != "supervised":
        return None
    labels = project.labels()
    labelled = [replace(picture, label=labels.get(picture.id)) for picture in pictures]
    chosen = lesson(labelled, int(recipe.asked.get("seed", 0)))
    for line in chosen.in_words():
        tell(Noticed(level="info", text=line))
    return chosen


def plan_for(
    recipe: Recipe,
    pictures: Sequence[Picture],
    machine: Machine,
    project: Path,
    shape: Shape | None,
    *,
    classes: tuple[str, ...] = (),
    teacher: TeacherFacts | None = None,
    processes: int | None = None,
) -> Plan:
    """Settle a recipe for some pictures on this machine.

    Args:
        recipe: what was asked.
        pictures: to learn from.
        machine: to learn on.
        project: folder on whose disk the run will lie.
        shape: of the weights it starts from.
        classes: to learn, where labels are learnt.
        teacher: what is learnt from, where it is frozen; found by its name where it is not given.
        processes: how many will train together; as many as there are, where it is not said.
    """
    name = str(recipe.asked.get("teacher", ""))
    if recipe.asked.get("objective") == "distillation" and name and teacher is None:
        teacher = load_teacher(name).facts()
    facts = facts_of(
        [min(picture.rows or 1, picture.cols or 1) for picture in pictures],
        replace(machine, cores=machine.cores * distributed.machines()),
        project,
        start=shape,
        processes=processes or distributed.world()[1],
        classes=classes,
        teacher=teacher,
    )
    return settle(recipe, facts)


def new_run(
    project: Project,
    plan: Plan,
    pictures: Sequence[Picture],
    *,
    is_part: bool = False,
    chosen: Lesson | None = None,
    before: Path | None = None,
) -> Path:
    """Make a run's folder with everything that determines it.

    ``is_part`` where its pictures were chosen one by one; ``chosen`` where it learns labels; ``before`` is the run that
    it goes on from, if any.
    """
    folder = project.new_run(f"{plan.model.model}, {plan.run.epochs} epochs")
    PictureList.write(folder, pictures, plan.classes)
    if chosen is not None:
        keep_lesson(folder, chosen)
    if plan.run.objective == "distillation" and before is not None:
        copy_teacher(folder, before)
    elif plan.run.objective == "distillation":
        keep_teacher(folder, plan.distillation.teacher)
    if plan.model.init:
        start = load_backbone(plan.model.init)
        write_backbone(folder / "init.safetensors", start.model, start.shape, about={"source": start.source})
    content = {
        "plan": plan.model_dump(),
        "pictures": fingerprint(pictures),
        "folder": project.kept_pictures_folder,
        "is_part": is_part,
        "job": distributed.job(),
    }
    write_atomically(folder / "plan.json", lambda file: file.write(json.dumps(content, indent=1).encode()))
    return folder


# What may change without changing a single weight of the run.
FREE = {"workers", "checkpoint_seconds", "measure_epochs", "probes", "tensorboard"}


def differences(plan: Plan, recipe: Recipe) -> list[str]:
    """Return in words what is asked for that would change what a plan learns."""
    values = plan.values()
    return [
        f"{name} was {values.get(name, 'not looked at')}, now {value}"
        for name, value in recipe.asked.items()
        if name not in FREE and value != values.get(name)
    ]


def read_run(folder: Path) -> tuple[Plan, str, Path]:
    """Return a run's plan, the fingerprint of its pictures and their folder.

    Raises:
        BadInput: it is no run.
    """
    try:
        content = json.loads((folder / "plan.json").read_bytes())
        root = pictures_folder_of(folder.resolve().parents[1], content["folder"])
        return Plan.model_validate(content["plan"]), content["pictures"], root
    except (OSError, ValueError, KeyError) as problem:
        raise BadInput(
            f"'{folder}' is no run that can be read.", "Name a folder such as photos.dinoviz/runs/0001."
        ) from problem


def on_these_processes(plan: Plan, tell: Tell = lambda _message: None) -> Plan:
    """Return a plan for as many processes as there are now.

    The batch is cut into the same parts where they can be dealt out evenly: then the same is learnt, but for the order
    of sums. Else the parts become smaller, which batch norm and KoLeo see, and which is told.

    Raises:
        BadRecipe: the batch cannot be dealt out evenly.
    """
    processes, batch = distributed.world()[1], plan.run.batch
    if processes == plan.processes:
        return plan
    if batch % processes:
        raise BadRecipe(
            f"A batch of {batch} pictures does not split into {processes} processes.",
            f"Go on with a number of processes that divides {batch}; it was {plan.processes}.",
        )
    part, each = batch // (plan.processes * plan.run.accumulation), batch // processes
    accumulation = next(n for n in range(1, each + 1) if each % n == 0 and each // n <= part)
    if each // accumulation < part:
        text = f"Batch norm and KoLeo see {each // accumulation} pictures at once, not {part} as before."
        tell(Noticed(level="warning", text=text, hint=f"{plan.processes} processes keep it as it was."))
    changed = plan.run.model_copy(update={"accumulation": accumulation})
    return plan.model_copy(update={"processes": processes, "run": changed})


def lead(project: Project, folder: Path, plan: Plan, tell: Tell, start: Checkpoint | None = None) -> Outcome:
    """Train as the first process, which alone writes, and record how the run ended.

    Raises:
        Busy: another process trains this run.
        Stopped: it was asked to stop; the work is kept.
    """
    with sole_writer(folder, "trains the run"):
        return _lead(project, folder, plan, tell, start)


def _lead(project: Project, folder: Path, plan: Plan, tell: Tell, start: Checkpoint | None) -> Outcome:
    pixels = Pixels(PictureList(folder), project.pictures_folder)
    if plan.run.prepare:
        side = max(SHRUNK_TO * plan.crops.global_side, plan.largest_side)
        copies = folder.parents[1] / "cache" / f"copies-{side}-{read_run(folder)[1]}"
        pixels = Pixels(
            pixels.pictures, project.pictures_folder, Copies.make(copies, pixels, side, plan.run.workers, tell)
        )
        distributed.agreed(str(copies))
    gauge = None
    if plan.run.measure_epochs or plan.tuning.guard:
        # Who learned a label must not be asked for it: what was held out from this run, not what the folder says now.
        to_measure = to_measure_with(folder, plan.classes) if plan.classes else project.pictures(readable=True)
        gauge = make_gauge(project.pictures_folder, to_measure, plan.crops.global_side, plan.run.seed)
    state = "failed"
    try:
        with StopSignal() as stop:
            result = train(folder, plan, pixels, tell, gauge=gauge, start=start, should_stop=stop.is_set)
        state = "stopped" if result.is_stopped else "finished"
    finally:
        project.set_run_state(folder, state)
        distributed.leave()
    if result.is_stopped:
        tell(
            Noticed(level="info", text=f"Stopped at step {result.step:,}.", hint=f"Go on with: engine resume {folder}")
        )
        raise stop.stopped()
    return _outcome(folder, result)


def follow(run: str) -> Outcome:
    """Train as any other process than the first, if that one decided on a run."""
    if not run:
        distributed.leave()
        return Outcome({}, "")
    folder = Path(run)
    start = newest(folder / "checkpoints")
    plan, _, root = read_run(folder)
    plan = on_these_processes(plan)
    pixels = Pixels(PictureList(folder), root)
    if plan.run.prepare:
        pixels = Pixels(pixels.pictures, root, Copies(Path(distributed.agreed())))
    with StopSignal() as stop:
        train(folder, plan, pixels, lambda _message: None, start=start, should_stop=stop.is_set)
    distributed.leave()
    return Outcome({}, "")


def _outcome(folder: Path, result: Result) -> Outcome:
    data = {
        "run": str(folder),
        "backbone": str(result.backbone),
        "step": result.step,
        "scores": result.scores,
        "replaced": result.replaced,
    }
    if result.asked is not None:
        about = {"asked": result.asked.split, "pictures": result.asked.found.pictures, **result.asked.found.scores()}
        data["classification"] = about | {"files": [str(path) for path in result.asked.files]}
    lines = [f"{folder}", f"  {result.step:,} steps, backbone: {result.backbone}"]
    if result.tuned:
        data["tuned"] = result.tuned
        lines.append(f"  {result.tuned}")
    lines += [f"  {name}: {score:.3f}" for name, score in result.scores.items()]
    if result.asked is not None:
        lines += [f"  {line}" for line in figures_in_words(result.asked.found, result.asked.split)]
        lines += [f"  {path}" for path in result.asked.files]
    if result.replaced:
        lines.append(f"  {len(result.replaced)} pictures could not be read any more and were replaced:")
        lines += named_in_words([f"{path}: {problem}" for path, problem in result.replaced.items()])
    lines.append(f"  look: engine look attention PICTURE --model {folder} --out DIR")
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if result.replaced else 0)


def estimate_in_words(took: Estimate) -> str:
    """Return what a run will take, as lines under its plan."""
    return "\n".join(
        (
            "It will take about",
            f"  {time_in_words(took.seconds)} at {took.pictures_per_s:,.0f} pictures/s ({took.source})",
            f"  {size_in_words(took.memory_bytes)} of memory, {size_in_words(took.disk_bytes)} of disk",
        )
    )


def taken_in_words(took: Taken, there: Elsewhere) -> str:
    """Return what a run would take of GPUs that are not here, as lines under its plan."""
    memory, pace = took.memory, took.pace
    talking = pace.communicating_s / pace.step_s
    cores = cores_to_crop(pace.pictures_per_s, CROPS_PER_S)
    parts = ", ".join(f"{name} {size_in_words(size)}" for name, size in most_of(memory))
    lines = [
        f"On {there.gpus} x {there.gpu.name} it would take about",
        f"  {size_in_words(memory.total)} of memory each: {parts}",
        f"  {time_in_words(took.seconds)} at {pace.pictures_per_s:,.0f} pictures/s, {talking:.0%} of it to communicate",
        f"  {cores:,} cores to crop, of all machines together",
    ]
    if memory.total > there.gpu.memory_bytes:
        lines.append(f"  which is more than a {there.gpu.name} has: take more accumulation, or --checkpointing")
    return "\n".join(lines)


def plan_in_words(plan: Plan, asked: Mapping[str, Value]) -> str:
    """Return the settled plan as a table: value, unit, and where it comes from."""
    lines = [f"Plan for {plan.pictures:,} pictures: {plan.steps:,} steps of {plan.run.batch}"]
    values = plan.values()
    width = max(map(len, values))
    for section, settings in SECTIONS.items():
        if section not in plan.heeded:
            continue
        lines.append((settings.__doc__ or section).rstrip("."))
        for name in settings.model_fields:
            origin = "asked for" if name in asked else plan.reasons.get(name, "default")
            value = f"{values[name]} {unit_of(FIELDS[name][1])}".strip() or "-"
            lines.append(f"  {name:<{width}}  {value:<16}  {origin}")
    return "\n".join(lines)
