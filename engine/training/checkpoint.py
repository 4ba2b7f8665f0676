"""Checkpoints that are complete or not there: temp folder, sync, manifest, rename, then the pointer.

    checkpoints/step-00001234/   train.safetensors  model.safetensors  meta.json  MANIFEST.json
    checkpoints/BEST.json        names the best so far, which is kept

``train`` holds everything a run needs to go on, ``model`` the backbone alone, which any command reads. Where processes
hold shares of the state, ``train/`` is a folder with a file of each (see `sharded_files`). Either kind is read by any
number of processes, which hold shares or all of it.
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

from engine import distributed
from engine.distributed import is_split, split_like
from engine.errors import BadWeights, DiskFull
from engine.models.downloads import sha256_of
from engine.store import is_full, replace, sync_file, sync_folder, write_atomically
from engine.training.objectives.objective import Group, Objective

KEEP_NEWEST = 3
_NAME = re.compile(r"step-(\d{8})")
_MANIFEST = "MANIFEST.json"
_TRAIN, _SHARES = "train.safetensors", "train"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there and whose bytes are those that were written."""

    folder: Path
    step: int
    meta: dict[str, float | str]

    def tensors(self, like: Callable[[str], Tensor | None] = lambda _name: None) -> dict[str, Tensor]:
        """Return everything that was saved for going on.

        Args:
            like: gives by name a tensor that is split among the processes, as the one that is read should be; None
                for one that is to be whole. Every process must ask alike.
        """
        if (self.folder / _SHARES).is_dir():
            from engine.training import sharded_files  # a second, which a state in one file need not wait

            return sharded_files.read(self.folder / _SHARES, like)
        whole = load_tensors((self.folder / _TRAIN).read_bytes())
        models = {name: like(name) for name in whole}
        return {
            name: tensor if (model := models[name]) is None else split_like(tensor, model)
            for name, tensor in whole.items()
        }


def gather(
    objective: Objective, groups: Sequence[Group], optimiser: Optimizer, scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """Return the state of a run as named tensors; ``groups`` are those that the optimiser was made of.

    What is split among processes stays where it is; the rest is copied to the CPU.
    """
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    names = [name for group in groups for name in group.names]
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}:{what}": value for what, value in state.items()}
    tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in scaler.state_dict().items()}
    return {
        name: tensor.detach() if is_split(tensor) else tensor.detach().cpu().contiguous()
        for name, tensor in tensors.items()
    }


def splits(objective: Objective) -> Callable[[str], Tensor | None]:
    """Return how a run's state is split, by the names of `gather`: as a tensor of it is, None for what is whole."""
    split = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    split |= {f"optimiser.{name}": tensor for name, tensor in objective.student.named_parameters()}
    split = {name: tensor for name, tensor in split.items() if is_split(tensor)}
    return lambda name: None if name.endswith(":step") else split.get(name.partition(":")[0])


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
    with _part_of(folder, step) as part:
        save_file(dict(tensors), part / _TRAIN)
        _finish(part, step, write_model, meta, {})
    return folder / part_name(step)


def save_shares(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    write_model: Callable[[Path], None],
    meta: Mapping[str, float | str],
) -> None:
    """Write a checkpoint whose state is split among the processes, each of which calls this.

    The first one writes what is not split, and makes the checkpoint whole.

    Raises:
        DiskFull: as `save`.
    """
    from engine.training import sharded_files

    is_first = distributed.world()[0] == 0
    with _part_of(folder, step) if is_first else contextlib.nullcontext() as own:
        part = Path(distributed.shared(str(own)))
        digests = sharded_files.write(part / _SHARES, tensors)
        if is_first:
            _finish(part, step, write_model, meta, {f"{_SHARES}/{name}": digest for name, digest in digests.items()})
    distributed.shared(None)  # nobody goes on before it is there


def part_name(step: int) -> str:
    """Return the name of a checkpoint's folder."""
    return f"step-{step:08d}"


@contextlib.contextmanager
def _part_of(folder: Path, step: int) -> Iterator[Path]:
    """Give a folder to fill, which becomes the checkpoint of a step; where that fails it goes away."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / part_name(step)
    part = folder / f".{final.name}.part-{os.getpid()}"
    _sweep(folder)
    try:
        part.mkdir()
        yield part
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


def _finish(
    part: Path,
    step: int,
    write_model: Callable[[Path], None],
    meta: Mapping[str, float | str],
    digests: Mapping[str, str],
) -> None:
    """Add what every checkpoint has: the backbone, what it is of, and the list of all files with their digests."""
    write_model(part / "model.safetensors")
    (part / "meta.json").write_text(json.dumps({"step": step, **meta}, allow_nan=False))
    files = {path.name: sha256_of(path) for path in sorted(part.iterdir()) if path.is_file()}
    (part / _MANIFEST).write_text(json.dumps(files | dict(digests)))
    for path in part.iterdir():
        if path.is_file():
            sync_file(path)
    sync_folder(part)


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, None when there is none."""
    for step in sorted(_steps(folder), reverse=True):
        checkpoint = _whole(folder / part_name(step), step)
        if checkpoint:
            return checkpoint
    return None


def of_step(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step that is kept.

    Raises:
        BadWeights: it is not there, or not whole.
    """
    checkpoint = _whole(folder / f"step-{step:08d}", step)
    if checkpoint is None:
        raise BadWeights(
            f"The checkpoint of step {step} in '{folder}' is gone or damaged.",
            "Start the run anew: engine train FOLDER.",
        )
    return checkpoint


def mark_best(folder: Path, step: int, score: float) -> None:
    """Keep the checkpoint of ``step`` beyond the newest ones."""
    write_atomically(folder / "BEST.json", lambda file: file.write(json.dumps({"step": step, "score": score}).encode()))


def best_score(folder: Path) -> float:
    """Return the best score so far, 0 before any."""
    with contextlib.suppress(FileNotFoundError):
        return float(json.loads((folder / "BEST.json").read_text())["score"])
    return 0.0


def best_step(folder: Path) -> int | None:
    """Return the step of the best checkpoint so far, None before any."""
    with contextlib.suppress(FileNotFoundError):
        return int(json.loads((folder / "BEST.json").read_text())["step"])
    return None


def prune(folder: Path) -> None:
    """Remove checkpoints that are neither among the newest nor the best."""
    keep = {*sorted(_steps(folder))[-KEEP_NEWEST:], best_step(folder)}
    for step in set(_steps(folder)) - keep:
        shutil.rmtree(folder / part_name(step), ignore_errors=True)


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
