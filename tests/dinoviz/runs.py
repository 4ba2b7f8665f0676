"""Runs as they lie on the disk, made by hand: a plan, events and probe pictures, without training."""

import json
from pathlib import Path

import numpy as np

from engine.project import Project
from engine.protocol import Measured, Noticed, encode
from engine.recipes import Plan, Recipe, settle
from engine.settings import Facts

STEPS_A_LOOK = (0, 1, 4, 16)


def made_run(project: Path, *, state: str = "finished", events: int = 16, **asked: object) -> Path:
    """Make a run of a project of 12 pictures with some measurements, and return its folder."""
    plan = settle(Recipe.of({"batch": 4, "epochs": 16, **asked}), Facts(n_pictures=12))
    with Project.at(project) as opened:
        run = opened.new_run(f"{plan.model.model}, {plan.run.epochs} epochs")
        if state != "started":
            opened.set_run_state(run, state)
    write_plan(run, plan)
    tell(run, *(measured(step, loss=5 - step / 20) for step in range(1, events + 1)))
    return run


def write_plan(run: Path, plan: Plan) -> None:
    """Write the plan of a run."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "plan.json").write_text(json.dumps({"plan": plan.model_dump()}))


def measured(step: int, *, loss: float = 4.0, ln_k_share: float = 0.4, **more: float) -> Measured:
    """What a healthy run measures at a step, of 256 prototypes."""
    ln_k = float(np.log(256))
    values = {
        "loss": loss,
        "teacher_entropy": ln_k_share * ln_k,
        "marginal_entropy": 0.8 * ln_k,
        "feature_std": 0.9,
        "effective_rank": 20.0,
        "pictures_per_s": 40.0,
        "learning_rate": 1e-3,
    }
    return Measured(step=step, values=values | more)


def tell(run: Path, *messages: Measured | Noticed) -> None:
    """Add to the events of a run."""
    with (run / "events.jsonl").open("a") as file:
        file.writelines(encode(message) + "\n" for message in messages)


def write_looks(run: Path, names: list[str]) -> None:
    """Write what a run saw in some pictures at a few steps."""
    folder = run / "probes"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for step in STEPS_A_LOOK:
        arrays: dict[str, np.ndarray] = {"names": np.array(names)}
        for i in range(len(names)):
            arrays[f"grid_{i}"] = np.array([6, 8, 8, 48, 64])
            arrays[f"attention_{i}"] = random.random((3, 6, 8)).astype(np.float16) / 48
            arrays[f"mask_{i}"] = random.random((3, 6, 8)) > 0.5
            arrays[f"colours_{i}"] = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        np.savez_compressed(folder / f"step-{step:08d}.npz", **arrays)
