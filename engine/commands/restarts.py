"""Which run torchrun's processes go on with when they are started again."""

import json
from pathlib import Path

from engine import distributed
from engine.commands.runs import differences, read_run
from engine.project import Project
from engine.recipes import Plan, Recipe
from engine.training.checkpoint import newest

RECENT = 100
"""Runs that are looked at: a job is never older than so many others."""


def run_of_job(project: Project, recipe: Recipe) -> Path | None:
    """Return the run that this job began, if it is to go on with it.

    After a failure that is the job's run, whatever became of it. A job of the same name that was started by hand, or
    by a scheduler, goes on with a run that has not come to its end and was asked for with the same words.
    """
    job = distributed.job()
    if not job:
        return None
    numbers = [number for number, *_ in project.runs()][-RECENT:]
    run = next((folder for number in reversed(numbers) if _job_of(folder := project.run_folder(number)) == job), None)
    if run is None or distributed.is_restarted():
        return run
    plan, _, _ = read_run(run)
    return None if is_finished(run, plan) or differences(plan, recipe) else run


def is_finished(run: Path, plan: Plan) -> bool:
    """Tell whether a run took its last step and left its backbone."""
    last = newest(run / "checkpoints")
    return last is not None and last.step >= plan.steps and (run / "backbone.safetensors").exists()


def _job_of(run: Path) -> str:
    try:
        return str(json.loads((run / "plan.json").read_bytes()).get("job", ""))
    except (OSError, ValueError):  # a kill came between the run's folder and its plan
        return ""
