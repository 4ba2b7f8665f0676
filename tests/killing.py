"""Kill a training process the hard way, again and again, and see that its run ends as if nothing had happened.

Each attempt is a forked process that runs the real command; a signal 9 hits it at a random moment, or it kills
itself at a chosen call inside the saving of a checkpoint. Run by `tests/engine/test_resume.py` a few times and by
`tests/bench/bench_kills.py` forty times.
"""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from engine.models.tensor_files import read_contents
from engine.terminal import run

TINY = {
    "model": "vit-tiny/8",
    "depth": "2",
    "global-side": "16",
    "local-side": "8",
    "local-crops": "2",
    "batch": "4",
    "epochs": "6",
    "prototypes": "16",
    "head-width": "16",
    "bottleneck": "8",
    "drop-path": "0.1",
    "workers": "0",
    "measure-epochs": "2",
    "probes": "2",
    "device": "cpu",
    "checkpoint-seconds": "0",
}
"""A run of 18 steps on 12 pictures that saves after each."""


def tiny_train(photos: Path, project: Path, **changed: str) -> list[str]:
    """Return the command that starts a tiny run."""
    flags = TINY | {name.replace("_", "-"): value for name, value in changed.items()}
    return ["train", str(photos), "--project", str(project), "--quiet", *(f"--{n}={v}" for n, v in flags.items())]


def state_of(run_folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of the newest checkpoint and of the finished backbone."""
    newest = sorted(run_folder.glob("checkpoints/step-*"))[-1]
    tensors: dict[str, torch.Tensor] = {"step": torch.tensor(int(newest.name[5:]))}
    for path in (newest / "train.safetensors", run_folder / "backbone.safetensors"):
        file = read_contents(path)
        tensors |= {f"{path.stem}.{name}": tensor for name, tensor in file.read(file.slots).items()}
    return tensors


def differences(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of tensors that are not equal bit for bit."""
    return [name for name in a.keys() | b.keys() if name not in a or name not in b or not torch.equal(a[name], b[name])]


class Killer:
    """Runs commands in forked processes and kills them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._fork = multiprocessing.get_context("fork")

    def finish(self, command: Sequence[str]) -> int:
        """Run a command to its end and return its exit code."""
        process = self._fork.Process(target=_child, args=(command, None))
        process.start()
        process.join()
        return process.exitcode or 0

    def kill_at_random(self, command: Sequence[str], within_s: float) -> bool:
        """Start a command and kill it at a random moment; return whether it was still running."""
        process = self._fork.Process(target=_child, args=(command, None))
        process.start()
        time.sleep(self._random.uniform(0, within_s))
        was_running = process.is_alive()
        process.kill()
        process.join()
        return was_running

    def kill_inside_a_save(self, command: Sequence[str], call: int) -> bool:
        """Run a command that kills itself at the given file operation; return whether it came to that."""
        process = self._fork.Process(target=_child, args=(command, call))
        process.start()
        process.join()
        return process.exitcode == -signal.SIGKILL


def _child(command: Sequence[str], kill_at: int | None) -> None:
    os.setsid()
    with Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
    torch.set_num_threads(1)
    if kill_at is not None:
        _die_at(kill_at)
    os._exit(run(command))


def _die_at(call: int) -> None:
    """Count syncs, renames and replacements inside this process, and kill it before the given one."""
    left = [call]

    def counted(operation: Callable) -> Callable:
        def wrapper(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return wrapper

    os.fsync = counted(os.fsync)
    Path.rename = counted(Path.rename)
    Path.replace = counted(Path.replace)
