"""``engine train``: from a folder of pictures to a trained backbone."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine import distributed
from engine.commands import Outcome, new_parser
from engine.commands.restarts import is_finished, run_of_job
from engine.commands.runs import (
    add_fields,
    asked_in,
    estimate_in_words,
    follow,
    labels_to_learn,
    lead,
    named_in,
    new_run,
    on_these_processes,
    plan_for,
    plan_in_words,
    read_run,
    taken_in_words,
    to_learn_from,
)
from engine.commands.scanning import open_project, scan_into
from engine.elsewhere import Elsewhere, elsewhere, taken
from engine.errors import BadRecipe
from engine.estimates import estimate
from engine.facts import Machine
from engine.machine import find_device
from engine.models.weights import load_backbone
from engine.presets import PRESETS
from engine.project import Project
from engine.protocol import Made, Noticed, Tell
from engine.recipes import Plan, Recipe
from engine.run_files import newest_speed
from engine.scaling import GPUS
from engine.settings import AUTO
from engine.sources import source
from engine.training.checkpoint import newest


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command: every field of a recipe is a flag."""
    command = new_parser(
        "train",
        "Train a backbone on a folder of pictures. Every setting left open is settled from the folder and the machine, "
        "with its reason, and printed before the start. Ctrl-C stops with a checkpoint; go on with engine resume.",
        [
            "engine train photos/",
            "engine train photos/ --model vit-tiny/16 --epochs 100 --device cpu",
            "engine train photos/ --config run.toml --dry-run",
            "engine train photos/ --only shoes.txt",
            "engine train photos/ --dry-run --for 64xh100 --model vit-giant/14 --objective dinov2",
            "engine train photos/ --objective supervised --init bundled",
            "engine train photos/ --objective distillation --teacher dino_vits8 --model vit-tiny/8",
            "torchrun --nproc-per-node 2 -m engine train photos/ --batch 128",
        ],
    )
    command.add_argument(
        "folder",
        type=source,
        help="folder of pictures or of tar shards, a project, 'shards/a-{00..99}.tar' or 'pipe:COMMAND'",
    )
    command.add_argument("--project", type=Path, help="where to keep the project; beside the folder by default")
    command.add_argument("--config", type=Path, action="append", default=[], help="run file (TOML); later ones win")
    command.add_argument(
        "--preset",
        metavar="NAME",
        help=f"begin with a published recipe, under all else: {', '.join(PRESETS)}",
    )
    command.add_argument(
        "--only", type=Path, metavar="FILE", help="learn from some pictures only: a text file, one path or id a line"
    )
    command.add_argument("--dry-run", action="store_true", help="print the settled plan, what it will take, and stop")
    command.add_argument(
        "--for",
        dest="elsewhere",
        metavar="NxGPU",
        help=f"with --dry-run: settle it for GPUs that are not here, as 64xh100; kinds: {', '.join(GPUS)}",
    )
    add_fields(command)
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Settle the plan, make the run and train; exit 4 when pictures had to be replaced."""
    recipe = asked_in(arguments)
    for path in reversed(arguments.config):
        recipe = recipe.over(Recipe.read(path))
    if arguments.preset:
        recipe = recipe.over(Recipe.preset(arguments.preset))
    there = _there(arguments)
    machine = there.machine if there else find_device(str(recipe.asked.get("device", AUTO)))
    distributed.join("cpu" if there else machine.device)
    rank, _ = distributed.world()
    if rank > 0:
        return follow(distributed.agreed())
    with distributed.deciding() as decide, open_project(arguments.folder, arguments.project, tell) as project:
        if begun := None if arguments.dry_run else run_of_job(project, recipe):
            return _go_on(project, begun, decide, tell)
        readable = scan_into(project, tell).readable
        named = named_in(arguments.only, readable) if arguments.only else None
        chosen = labels_to_learn(project, recipe, readable if named is None else named, tell)
        pictures = chosen.learnt if chosen else named or to_learn_from(readable)
        init = str(recipe.asked.get("init", ""))
        shape = load_backbone(init).shape if init else None
        classes = chosen.classes if chosen else ()
        processes = there.gpus if there else distributed.world()[1]
        plan = plan_for(recipe, pictures, machine, project.folder, shape, classes=classes, processes=processes)
        if arguments.dry_run:
            return _settled(plan, recipe, machine, project, there)
        tell(Noticed(level="info", text=plan_in_words(plan, recipe.asked)))
        is_part = arguments.only is not None or chosen is not None
        folder = new_run(project, plan, pictures, is_part=is_part, chosen=chosen)
        tell(Made(what="run", path=str(folder)))
        decide(str(folder))
        return lead(project, folder, plan, tell)


def _there(arguments: argparse.Namespace) -> Elsewhere | None:
    """Return the GPUs that a plan is settled for that are not here, None where it is for this machine."""
    if not arguments.elsewhere:
        return None
    if not arguments.dry_run:
        raise BadRecipe(f"Nothing can run on {arguments.elsewhere}, which is not here.", "Say --dry-run with --for.")
    return elsewhere(arguments.elsewhere)


def _settled(plan: Plan, recipe: Recipe, machine: Machine, project: Project, there: Elsewhere | None) -> Outcome:
    """Return the plan and what it will take, here or there."""
    words = plan_in_words(plan, recipe.asked)
    if there:
        taken_there = taken(plan, there)
        data = {"plan": plan.model_dump(), "elsewhere": asdict(taken_there)}
        return Outcome(data, f"{words}\n{taken_in_words(taken_there, there)}")
    took = estimate(plan, cores=machine.cores, earlier=newest_speed(project.folder / "runs", plan))
    return Outcome({"plan": plan.model_dump(), "estimate": asdict(took)}, f"{words}\n{estimate_in_words(took)}")


def _go_on(project: Project, folder: Path, decide: Callable[[str], None], tell: Tell) -> Outcome:
    """Train on with the run that the same job began before its processes were started again."""
    plan = on_these_processes(read_run(folder)[0], tell)
    if is_finished(folder, plan):
        return Outcome({"run": str(folder), "step": plan.steps}, f"{folder} is finished: {plan.steps:,} steps.")
    start = newest(folder / "checkpoints")
    where = f"step {start.step:,}" if start else "the beginning"
    tell(Noticed(level="info", text=f"Goes on with {folder} from {where}."))
    decide(str(folder))
    return lead(project, folder, plan, tell, start)
