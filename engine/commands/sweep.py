"""``engine sweep``: a list of recipes on one data set, and the table that the papers print."""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.listing import counted, made_folder, write_csv
from engine.commands.runs import add_fields, asked_in, labels_to_learn, plan_for, to_learn_from
from engine.commands.scanning import open_project, scan_into
from engine.errors import EXIT_BUG, EXIT_PARTIAL, BadRecipe, Stopped
from engine.estimates import estimate
from engine.facts import Machine
from engine.machine import find_device, usable_cores
from engine.models.weights import load_backbone
from engine.project import Picture, Project
from engine.protocol import Made, Noticed, Tell
from engine.provenance import of_program
from engine.quantities import time_in_words
from engine.recipes import Plan, Recipe
from engine.run_files import newest_speed
from engine.scoring import Division, divided
from engine.seeing.drawing import write_png
from engine.settings import AUTO
from engine.store import sole_writer, write_atomically
from engine.sweeps.conduct import Conductor, Job, Place
from engine.sweeps.curves import curve_of, figure_of
from engine.sweeps.ledger import ENDED, FOLDER, Ledger, key_of, labels_key
from engine.sweeps.lists import BUILT_IN, SweepList, built_in, checked, read_list
from engine.sweeps.tables import Line, drawn, lines_of, markdown, result_of
from engine.training.pictures import fingerprint

WIDTH_OF_NO_TERMINAL = 200
MOST_PARALLEL = 64
CSV_FIGURES = ("knn", "linear", "loss", "teacher_entropy", "ln_k", "kl", "health", "seconds", "state", "run", "problem")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "sweep",
        "Run a list of recipes on one folder of pictures, measure each by k-NN and a linear classifier where folders "
        "give labels, and print one table. The list is a TOML file: fields at the top are of every run, and each "
        "[[run]] has a name and fields of its own; flags stand between the two. A sweep that was stopped or killed "
        "goes on where it was when the same command is typed again.",
        [
            "engine sweep recipes.toml --folder photos/ --dry-run",
            "engine sweep recipes.toml --folder photos/ --seeds 0,1,2 --epochs 20",
            "engine sweep --table 7 --folder photos/",
            "engine sweep --table fig7 --folder photos/ --epochs 30",
        ],
    )
    command.add_argument("list", type=Path, nargs="?", help="list of recipes (TOML)")
    command.add_argument("--table", choices=tuple(BUILT_IN), help="a list after a table or figure of DINO's paper")
    command.add_argument("--folder", type=Path, required=True, help="folder of pictures, or a project")
    command.add_argument("--project", type=Path, help="where to keep the project; beside the folder by default")
    command.add_argument("--name", help="of the sweep in the project (by default that of the list)")
    command.add_argument("--seeds", default="0", metavar="N,N", help="run each recipe with each of these seeds")
    command.add_argument("--parallel", type=int, metavar="N", help="runs at once (by default one a device)")
    command.add_argument("--dry-run", action="store_true", help="list what would run, what it will take, and stop")
    add_fields(command)
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Run what is not done yet; exit 4 when pictures were left out, 1 when a run failed, 0 when one collapsed."""
    path = _list(arguments)
    sweep, flags, seeds = read_list(path), asked_in(arguments), _seeds(arguments.seeds)
    if "seed" in flags.asked or "seed" in sweep.common.asked or any("seed" in row.own.asked for row in sweep.rows):
        raise BadRecipe("Seeds are those of the whole sweep.", "Say --seeds 0,1,2.")
    name = _name(arguments.name or path.stem)
    machine = find_device(str(flags.over(sweep.common).asked.get("device", AUTO)))
    parallel = _parallel(arguments.parallel, machine)
    with open_project(arguments.folder, arguments.project, tell) as project:
        readable = scan_into(project, tell).readable
        jobs = _jobs(sweep, flags, seeds, readable, machine, project, tell)
        folder = project.folder / FOLDER / name

        def conductor(should_stop: Callable[[], bool]) -> Conductor:
            place = _place(project, readable, folder)
            return Conductor(place, parallel, _environment(machine, parallel), tell, should_stop)

        if arguments.dry_run:
            return _dry(conductor(lambda: False), jobs, machine)
        with sole_writer(made_folder(folder), "runs the sweep"), StopSignal() as stop:
            return _swept(conductor(stop.is_set), sweep, jobs, machine, stop)


def _list(arguments: argparse.Namespace) -> Path:
    """Return the file of the list that was named, or of the table that was."""
    if (arguments.list is None) == (arguments.table is None):
        told = "Name a list of recipes or say --table: one of them."
        raise BadRecipe(told, "For example: engine sweep --table 7 --folder photos/")
    return Path(arguments.list or built_in(arguments.table))


def _place(project: Project, readable: Sequence[Picture], folder: Path) -> Place:
    return Place(
        project=project.folder,
        pictures=project.pictures_folder,
        ledger=Ledger(folder),
        division=divided(readable),
        measured_on=labels_key(readable),
    )


def _swept(conductor: Conductor, sweep: SweepList, jobs: Sequence[Job], machine: Machine, stop: StopSignal) -> Outcome:
    """Run the jobs and return their table.

    Raises:
        Stopped: by Ctrl-C or the system; the work is kept.
    """
    _introduce(conductor, jobs, machine)
    try:
        conductor.run(jobs)
    except Stopped as stopped:
        told = Noticed(level="info", text="The sweep was stopped.", hint="Go on with the same command.")
        conductor.tell(told)
        raise stop.stopped() from stopped
    return _outcome(conductor, sweep, jobs, machine)


def _seeds(text: str) -> list[int]:
    """Return the seeds of a list with commas, each once."""
    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError as problem:
        raise BadRecipe(
            f"--seeds '{text}' is no list of whole numbers.", "Separate them by commas: 0,1,2."
        ) from problem


def _name(name: str) -> str:
    if not name or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise BadRecipe(f"A sweep cannot be named '{name}'.", "Choose a name that a folder can have.")
    return name


def _parallel(asked: int | None, machine: Machine) -> int:
    if asked is None:
        return _gpus(machine)
    if not 1 <= asked <= MOST_PARALLEL:
        raise BadRecipe(f"--parallel {asked} is not from 1 to {MOST_PARALLEL}.", "One a device is the default.")
    return asked


def _gpus(machine: Machine) -> int:
    """Return how many devices of the machine's kind there are."""
    return max(1, torch.cuda.device_count()) if machine.device == "cuda" else 1


def _environment(machine: Machine, parallel: int) -> Callable[[int], dict[str, str]]:
    """Return what a training in each of the places is given: a GPU of its own, or a share of the cores."""
    gpus = _gpus(machine)

    def of_place(place: int) -> dict[str, str]:
        if gpus > 1:
            return {"CUDA_VISIBLE_DEVICES": str(place % gpus)}
        if machine.device == "cpu" and parallel > 1 and "OMP_NUM_THREADS" not in os.environ:
            return {"OMP_NUM_THREADS": str(max(1, usable_cores() // parallel))}
        return {}

    return of_place


def _jobs(
    sweep: SweepList,
    flags: Recipe,
    seeds: Sequence[int],
    readable: Sequence[Picture],
    machine: Machine,
    project: Project,
    tell: Tell,
) -> list[Job]:
    """Settle every run with every seed, so that none is refused after others took hours.

    Raises:
        BadRecipe: fields of a run, which is named, cannot be run.
    """
    jobs = []
    for seed in seeds:
        for row in sweep.rows:
            recipe = sweep.recipe_of(row, flags, seed)
            settle = partial(_settled, recipe, readable, machine, project, tell)
            plan, data = checked(settle, f"run '{row.name}'")
            jobs.append(Job(name=row.name, seed=seed, recipe=recipe, plan=plan, key=key_of(recipe, data)))
    return jobs


def _settled(
    recipe: Recipe, readable: Sequence[Picture], machine: Machine, project: Project, tell: Tell
) -> tuple[Plan, str]:
    """Return the plan of a recipe, as ``engine train`` makes it, and a digest of what it learns from."""
    chosen = labels_to_learn(project, recipe, readable, tell)
    pictures = chosen.learnt if chosen else to_learn_from(readable)
    init = str(recipe.asked.get("init", ""))
    shape = load_backbone(init).shape if init else None
    classes = chosen.classes if chosen else ()
    plan = plan_for(recipe, pictures, machine, project.folder, shape, classes=classes)
    return plan, fingerprint(pictures) + (labels_key(pictures) if chosen else "")


def _seconds(conductor: Conductor, jobs: Sequence[Job], machine: Machine) -> list[float]:
    """Return about how long each job will take, 0 for those at their end."""
    runs = conductor.place.project / "runs"
    return [
        0.0
        if conductor.entry(job).state in ENDED
        else estimate(job.plan, cores=machine.cores, earlier=newest_speed(runs, job.plan)).seconds
        for job in jobs
    ]


def _dry(conductor: Conductor, jobs: Sequence[Job], machine: Machine) -> Outcome:
    seconds = _seconds(conductor, jobs, machine)
    rows = [
        {
            "name": job.name,
            "seed": job.seed,
            "command": ["engine", *conductor.command(job)],
            "state": conductor.entry(job).state if conductor.entry(job).run else "waiting",
            "seconds": took,
        }
        for job, took in zip(jobs, seconds, strict=True)
    ]
    whole = sum(seconds) / conductor.parallel
    lines = []
    for job, took in zip(jobs, seconds, strict=True):
        lines.append(f"{job.title}: {f'about {time_in_words(took)}' if took else 'done'}")
        if took:
            lines.append(f"  engine {' '.join(conductor.command(job))}")
    lines.append(f"All of it will take about {time_in_words(whole)}, {conductor.parallel} at a time.")
    return Outcome({"runs": rows, "seconds": whole, "parallel": conductor.parallel}, "\n".join(lines))


def _introduce(conductor: Conductor, jobs: Sequence[Job], machine: Machine) -> None:
    """Say what will run, how long it will take, and that nothing can be measured where that is so."""
    seconds = _seconds(conductor, jobs, machine)
    left = sum(took > 0 for took in seconds)
    about = time_in_words(sum(seconds) / conductor.parallel)
    text = f"{counted(len(jobs), 'run')}, {left} to do, {conductor.parallel} at a time: about {about}."
    conductor.tell(Noticed(level="info", text=text, hint="Ctrl-C keeps all work; the same command goes on."))
    if conductor.place.division is None:
        text = "Accuracies are not measured: folders give no two labels."
        conductor.tell(Noticed(level="warning", text=text, hint="Sub-folders are labels; see engine scan FOLDER."))


def _notes(jobs: Sequence[Job], division: Division | None, machine: Machine) -> list[str]:
    plan = jobs[0].plan
    notes = [f"{plan.pictures:,} pictures to learn from; {machine.device_name or machine.device}"]
    if division:
        notes.append(
            f"k-NN (20 neighbours) and linear accuracy in percent, {len(division.asked):,} pictures asked about, "
            f"{len(division.known):,} known"
        )
    seeds = sorted({job.seed for job in jobs})
    notes.append(f"seeds {', '.join(map(str, seeds))}")
    return notes


def _outcome(conductor: Conductor, sweep: SweepList, jobs: Sequence[Job], machine: Machine) -> Outcome:
    """Write the table and return it as what the command says."""
    place = conductor.place
    entries = [conductor.entry(job) for job in jobs]
    results = [result_of(job, entry, place.project, sweep.columns) for job, entry in zip(jobs, entries, strict=True)]
    lines, notes = lines_of(sweep, results), _notes(jobs, place.division, machine)
    folder = place.ledger.folder
    _write(folder, sweep, lines, notes, conductor.tell)
    width = shutil.get_terminal_size((WIDTH_OF_NO_TERMINAL, 0)).columns
    failed = [result for result in results if result.state == "failed"]
    told = [drawn(sweep, lines, width), *(f"  {note}" for note in notes)]
    told += [
        f"  {result.name}, seed {result.seed} {result.state}: {result.problem}" for result in results if result.problem
    ]
    told.append(f"  written: {folder}/table.md, table.csv, table.json")
    data = {"folder": str(folder), "title": sweep.title, "rows": _rows(sweep, lines)}
    left_out = any(entry.left_out for entry in entries)
    return Outcome(data, "\n".join(told), EXIT_BUG if failed else EXIT_PARTIAL if left_out else 0)


def _rows(sweep: SweepList, lines: Sequence[Line]) -> list[dict[str, object]]:
    """Return the table as data: means over the seeds, and every run."""
    return [
        {
            "method": line.row.name,
            "columns": line.results[0].columns,
            "paper": dict(line.row.paper),
            "knn": line.mean("knn"),
            "linear": line.mean("linear"),
            "health": line.health,
            "runs": [asdict(result) for result in line.results],
        }
        for line in lines
    ]


def _write(folder: Path, sweep: SweepList, lines: Sequence[Line], notes: Sequence[str], tell: Tell) -> None:
    """Write the table as Markdown, CSV and JSON, and the curves of entropy and KL where runs have them."""
    text = markdown(sweep, lines, notes)
    write_atomically(folder / "table.md", lambda file: file.write(text.encode()))
    header = ["method", "seed", *sweep.columns, *CSV_FIGURES]
    rows = [
        [result.name, result.seed, *result.columns.values(), *(getattr(result, figure) for figure in CSV_FIGURES)]
        for line in lines
        for result in line.results
    ]
    write_csv(folder / "table.csv", header, rows)
    content = {"title": sweep.title, "notes": list(notes), "rows": _rows(sweep, lines), **of_program()}
    write_atomically(folder / "table.json", lambda file: file.write(json.dumps(content, indent=1).encode()))
    for file in ("table.md", "table.csv", "table.json"):
        tell(Made(what="table", path=str(folder / file)))
    _draw(folder, sweep, lines, tell)


def _draw(folder: Path, sweep: SweepList, lines: Sequence[Line], tell: Tell) -> None:
    """Draw the curves of the first seed of every line that has some."""
    first = [line.results[0] for line in lines if line.results[0].ln_k is not None]
    if not first:
        return
    project = folder.parents[1]
    curves = [curve_of(result.name, project / result.run) for result in first]
    picture = figure_of(curves, sweep.title, max(result.ln_k or 0.0 for result in first))
    write_png(folder / "curves.png", picture, of_program(sweep=folder.name))
    tell(Made(what="picture", path=str(folder / "curves.png")))
