"""Checkpoints that are complete or not there: temp folder, sync, manifest, rename, then the pointer.

    checkpoints/step-00001234/   train.safetensors  model.safetensors  meta.json  MANIFEST.json
    checkpoints/BEST.json        names the best so far, which is kept

``train`` holds everything a run needs to go on, ``model`` the backbone alone, which any command reads.
Source of the protocol: what other programs lost by writing in place (safetensors truncates its target).
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from engine.errors import BadWeights, DiskFull
from engine.models.downloads import sha256_of
from engine.store import is_full, replace, sync_file, sync_folder, write_atomically
from engine.training.objectives.objective import Group, Objective

KEEP_NEWEST = 3
_NAME = re.compile(r"step-(\d{8})")
_MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there and whose bytes are those that were written."""

    folder: Path
    step: int
    meta: dict[str, float | str]

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that was saved for going on."""
        return load_tensors((self.folder / "train.safetensors").read_bytes())


def gather(
    objective: Objective, groups: Sequence[Group], optimiser: Optimizer, scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """Return the state of a run as named tensors; ``groups`` are those that the optimiser was made of."""
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    names = [name for group in groups for name in group.names]
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}:{what}": value for what, value in state.items()}
    tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in scaler.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def restore(
    tensors: Mapping[str, Tensor],
    objective: Objective,
    groups: Sequence[Group],
    optimiser: Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put a gathered state back.

    Raises:
        BadWeights: the state is of another objective.
    """
    own = {name.removeprefix("objective."): t for name, t in tensors.items() if name.startswith("objective.")}
    try:
        objective.load_state_dict(own)
    except RuntimeError as problem:
        raise BadWeights(
            "The checkpoint is of another network or objective.", str(problem).splitlines()[-1]
        ) from problem
    places = {name: place for place, name in enumerate(name for group in groups for name in group.names)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _by_parameter(tensors, objective, groups).items():
        if name.startswith("optimiser."):
            parameter, what = name.removeprefix("optimiser.").rsplit(":", 1)
            state.setdefault(places[parameter], {})[what] = tensor
    if scaler.is_enabled():
        kept = {name.removeprefix("scaler."): t.item() for name, t in tensors.items() if name.startswith("scaler.")}
        scaler.load_state_dict(kept)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _by_parameter(tensors: Mapping[str, Tensor], objective: Objective, groups: Sequence[Group]) -> Mapping[str, Tensor]:
    """Name what the optimiser knows by its parameter, where an earlier version numbered them.

    It had two groups: the parameters that decay in the order of the network, then the others.
    """
    if not any(name.startswith("optimiser.0.") for name in tensors):
        return tensors
    has_decay = {name: group.has_decay for group in groups for name in group.names}
    names = [name for name, _ in objective.student.named_parameters() if name in has_decay]
    order = sorted(names, key=lambda name: not has_decay[name])
    named = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, what = name.split(".", 2)
            named[f"optimiser.{order[int(index)]}:{what}"] = tensor
        else:
            named[name] = tensor
    return named


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    write_model: Callable[[Path], None],
    meta: Mapping[str, float | str],
) -> Path:
    """Write a checkpoint of ``step`` and remove those no longer kept.

    Raises:
        DiskFull: there is no room; every earlier checkpoint is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}"
    part = folder / f".{final.name}.part-{os.getpid()}"
    _sweep(folder)
    try:
        part.mkdir()
        save_file(dict(tensors), part / "train.safetensors")
        write_model(part / "model.safetensors")
        (part / "meta.json").write_text(json.dumps({"step": step, **meta}, allow_nan=False))
        files = {path.name: sha256_of(path) for path in sorted(part.iterdir())}
        (part / _MANIFEST).write_text(json.dumps(files))
        for path in part.iterdir():
            sync_file(path)
        sync_folder(part)
        if final.exists():  # a resumed run reaches a step again: the same bytes
            shutil.rmtree(final)
        replace(part, final)
        sync_folder(folder)
    except (OSError, SafetensorError, DiskFull) as problem:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(problem, DiskFull) or is_full(problem):
            raise DiskFull(
                f"There is no room for the checkpoint of step {step} in '{folder}'.",
                "Make room, then go on with engine resume; the earlier checkpoints are intact.",
            ) from problem
        raise
    prune(folder)
    return final


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, None when there is none."""
    for step in sorted(_steps(folder), reverse=True):
        checkpoint = _whole(folder / f"step-{step:08d}", step)
        if checkpoint:
            return checkpoint
    return None


def mark_best(folder: Path, step: int, score: float) -> None:
    """Keep the checkpoint of ``step`` beyond the newest ones."""
    write_atomically(folder / "BEST.json", lambda file: file.write(json.dumps({"step": step, "score": score}).encode()))


def best_score(folder: Path) -> float:
    """Return the best score so far, 0 before any."""
    with contextlib.suppress(FileNotFoundError):
        return float(json.loads((folder / "BEST.json").read_text())["score"])
    return 0.0


def prune(folder: Path) -> None:
    """Remove checkpoints that are neither among the newest nor the best."""
    keep = set(sorted(_steps(folder))[-KEEP_NEWEST:])
    with contextlib.suppress(FileNotFoundError):
        keep.add(json.loads((folder / "BEST.json").read_text())["step"])
    for step in set(_steps(folder)) - keep:
        shutil.rmtree(folder / f"step-{step:08d}", ignore_errors=True)


def _steps(folder: Path) -> Iterator[int]:
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield int(match[1])


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half written; a run has one writer."""
    for path in folder.glob(".step-*.part-*"):
        shutil.rmtree(path, ignore_errors=True)


def _whole(folder: Path, step: int) -> Checkpoint | None:
    try:
        files = json.loads((folder / _MANIFEST).read_text())
        if any(sha256_of(folder / name) != digest for name, digest in files.items()):
            return None
        return Checkpoint(folder, step, json.loads((folder / "meta.json").read_text()))
    except (OSError, ValueError):
        return None
