"""``engine resume``: go on with a run exactly where its newest checkpoint is."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from engine import distributed
from engine.commands import Outcome, new_parser
from engine.commands.runs import (
    FREE,
    add_fields,
    asked_in,
    differences,
    follow,
    is_part,
    lead,
    new_run,
    of_run,
    on_these_processes,
    plan_for,
    plan_in_words,
    read_run,
)
from engine.commands.scanning import scan_into
from engine.errors import BadInput, BadRecipe
from engine.facts import Machine
from engine.machine import find_device
from engine.project import Picture, Project
from engine.protocol import Made, Noticed, Tell
from engine.recipes import Plan, Recipe
from engine.training.checkpoint import newest
from engine.training.classes import kept_lesson
from engine.training.pictures import PictureList, fingerprint
from engine.training.teachers import kept_teacher


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "resume",
        "Go on with a run that was stopped, killed or cut off. The result is that of a run that was never interrupted. "
        "If the pictures or the settings changed, say --fork to start a new run from the checkpoint.",
        ["engine resume photos.dinoviz/runs/0001", "engine resume photos.dinoviz/runs/0001 --fork --epochs 200"],
    )
    command.add_argument("folder", metavar="RUN", type=Path, help="folder of the run")
    command.add_argument("--fork", action="store_true", help="start a new run from the checkpoint, with what changed")
    add_fields(command)
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Check that nothing changed, and train on."""
    folder: Path = arguments.folder.resolve()
    plan, _, _ = read_run(folder)
    recipe = asked_in(arguments)
    wanted = recipe.asked.get("device", plan.run.device) if arguments.fork else plan.run.device
    machine = find_device(str(wanted))
    distributed.join(machine.device)
    rank, _ = distributed.world()
    if rank > 0:
        return follow(distributed.agreed())
    with distributed.deciding() as decide, Project.at(folder.parents[1]) as project:
        pictures = of_run(folder, scan_into(project, tell).readable)
        if arguments.fork:
            folder, plan = _fork(project, folder, recipe, pictures, machine)
            tell(Made(what="run", path=str(folder)))
            tell(Noticed(level="info", text=f"New run {folder}\n{plan_in_words(plan, recipe.asked)}"))
        else:
            _refuse_changes(folder, recipe, pictures)
            plan = on_these_processes(_with_free(plan, recipe), tell)
        start = newest(folder / "checkpoints")
        if start is None:
            tell(Noticed(level="info", text="There is no checkpoint yet: starting from the beginning."))
        elif start.step >= plan.steps:
            return Outcome({"run": str(folder), "step": start.step}, f"{folder} is finished: {start.step:,} steps.")
        decide(str(folder))
        return lead(project, folder, plan, tell, start)


def _refuse_changes(folder: Path, recipe: Recipe, pictures: Sequence[Picture]) -> None:
    plan, data, _ = read_run(folder)
    found = differences(plan, recipe)
    if fingerprint(pictures) != data:
        found.append(f"pictures: {PictureList(folder).difference(pictures) or 'other contents'}")
    if found:
        raise BadRecipe(
            "The run cannot go on as it was: " + "; ".join(found) + ".",
            "Undo the change, or start a new run from the checkpoint with --fork.",
        )


def _fork(
    project: Project, folder: Path, recipe: Recipe, pictures: Sequence[Picture], machine: Machine
) -> tuple[Path, Plan]:
    """Make a new run that begins with the checkpoint of another: its settings, with the new ones over them."""
    old, _, _ = read_run(folder)
    start = newest(folder / "checkpoints")
    if start is None:
        raise BadInput(f"The run '{folder}' has no checkpoint to start from.", "Train anew with: engine train FOLDER.")
    kept = Recipe({name: value for name, value in old.values().items() if name not in ("device", "precision", "init")})
    if recipe.asked.get("teacher", old.distillation.teacher) != old.distillation.teacher:
        raise BadRecipe(
            f"The student learns from '{old.distillation.teacher}', and its checkpoint knows no other teacher.",
            "Start a new run from the student's weights: engine train FOLDER --init RUN.",
        )
    chosen = kept_lesson(folder, old.classes, pictures) if old.classes else None
    pictures = chosen.learnt if chosen else pictures
    teacher = kept_teacher(folder).facts() if old.run.objective == "distillation" else None
    plan = plan_for(
        recipe.over(kept), pictures, machine, project.folder, old.shape, classes=old.classes, teacher=teacher
    )
    if start.step >= plan.steps:
        raise BadRecipe(
            f"The checkpoint has taken {start.step:,} steps already, and the new run has {plan.steps:,}.",
            "Ask for more epochs.",
        )
    reasons = old.reasons | plan.reasons
    plan = plan.model_copy(update={"reasons": {name: why for name, why in reasons.items() if name not in recipe.asked}})
    new = new_run(project, plan, pictures, is_part=is_part(folder), chosen=chosen, before=folder)
    shutil.copytree(start.folder, new / "checkpoints" / start.folder.name)
    return new, plan


def _with_free(plan: Plan, recipe: Recipe) -> Plan:
    changed = {name: value for name, value in recipe.asked.items() if name in FREE}
    return plan.model_copy(update={"run": plan.run.model_copy(update=changed)})
