"""``engine resume``: go on with a run exactly where its newest checkpoint is."""

import argparse
from pathlib import Path

from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.scan import scan_into
from engine.commands.train import add_fields, asked_in, follow, lead, new_run, plan_in_words, read_run, to_learn_from
from engine.errors import BadInput, BadRecipe
from engine.machine import find_device
from engine.project import Project
from engine.protocol import Noticed, Tell
from engine.recipes import Facts, Plan, Recipe, settle
from engine.training import distributed
from engine.training.checkpoint import Checkpoint, newest
from engine.training.pictures import PictureList, fingerprint

# What may change without changing a single weight of the run.
FREE = {"workers", "checkpoint_seconds", "tensorboard"}


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
    stop = StopSignal()
    folder: Path = arguments.folder.resolve()
    plan, data, _ = read_run(folder)
    start = newest(folder / "checkpoints")
    distributed.join(find_device(plan.run.device).device)
    rank, _ = distributed.world()
    if rank > 0:
        return follow(Path(distributed.agreed("")), stop, start)
    with Project.at(folder.parents[1]) as project:
        pictures = to_learn_from(scan_into(project, tell).readable)
        recipe = asked_in(arguments)
        differences = _differences(plan, recipe)
        if fingerprint(pictures) != data:
            differences.append(f"pictures: {PictureList(folder).difference(pictures) or 'other contents'}")
        if arguments.fork:
            start = _needed(start, folder)
            plan = _forked(plan, recipe, len(pictures))
            folder = new_run(project, plan, pictures)
            tell(Noticed(level="info", text=f"New run {folder} from step {start.step:,}.\n{plan_in_words(plan, {})}"))
        elif differences:
            raise BadRecipe(
                "The run cannot go on as it was: " + "; ".join(differences) + ".",
                "Undo the change, or start a new run from the checkpoint with --fork.",
            )
        else:
            plan = _with_free(plan, recipe)
        if start is None:
            tell(Noticed(level="info", text="There is no checkpoint yet: starting from the beginning."))
        elif start.step >= plan.steps:
            return Outcome({"run": str(folder), "step": start.step}, f"{folder} is finished: {start.step:,} steps.")
        distributed.agreed(str(folder))
        return lead(project, folder, plan, tell, stop, start)


def _needed(start: Checkpoint | None, folder: Path) -> Checkpoint:
    if start is None:
        raise BadInput(f"The run '{folder}' has no checkpoint to start from.", "Train anew with: engine train FOLDER.")
    return start


def _differences(plan: Plan, recipe: Recipe) -> list[str]:
    values = plan.values()
    return [
        f"{name} was {values[name]}, now {value}"
        for name, value in recipe.asked.items()
        if name not in FREE and value != values[name]
    ]


def _with_free(plan: Plan, recipe: Recipe) -> Plan:
    changed = {name: value for name, value in recipe.asked.items() if name in FREE}
    return plan.model_copy(update={"run": plan.run.model_copy(update=changed)})


def _forked(plan: Plan, recipe: Recipe, n_pictures: int) -> Plan:
    """Settle the old values with the new ones over them."""
    facts = Facts(n_pictures=n_pictures, device=plan.run.device, processes=distributed.world()[1], start=plan.shape)
    return settle(recipe.over(Recipe(plan.values())), facts)
