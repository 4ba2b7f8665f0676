"""``engine doctor``: what this machine is, and what may be wrong with it."""

import argparse
import importlib.metadata
import platform
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from engine import __version__
from engine.commands import Outcome, new_parser
from engine.facts import free_bytes
from engine.machine import find_devices
from engine.models.weights import cache_dir
from engine.protocol import Tell

PACKAGES = ("torch", "numpy", "pillow", "opencv-python-headless", "safetensors", "pydantic")
OPTIONAL = {"pillow-heif": "HEIC pictures", "tensorboard": "TensorBoard event files"}
CLASHING = {"opencv-python": "it carries a Qt of its own and shares the folder of opencv-python-headless"}
GIB = 2**30
LITTLE_MEMORY_BYTES = 4 * GIB
LITTLE_DISK_BYTES = 2 * GIB
LITTLE_SHARED_BYTES = GIB // 4  # loader processes hand over batches through it


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "doctor",
        "Say what this machine is, which versions are here, and what may be wrong. Changes nothing.",
        ["engine doctor", "engine doctor --json"],
    )
    command.set_defaults(run=run)
    return command


def run(_arguments: argparse.Namespace, _tell: Tell) -> Outcome:
    """Look at the machine; exit 0 also when something may be wrong."""
    devices = find_devices()
    machine = devices[0]
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    extras = {name: _version(name) for name in OPTIONAL}
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None
    room = {
        "models": free_bytes(cache_dir()),
        "here": free_bytes(Path.cwd()),
        "temporary": free_bytes(Path(tempfile.gettempdir())),
    }
    problems = [f"{name} is installed: {why}" for name, why in CLASHING.items() if _version(name)]
    if machine.memory_bytes < LITTLE_MEMORY_BYTES:
        problems.append(f"only {machine.memory_bytes / GIB:.1f} GB of memory: take small batches and crops")
    problems += [
        f"only {free / GIB:.1f} GB free on the disk of '{where}'"
        for where, free in room.items()
        if free < LITTLE_DISK_BYTES
    ]
    if shared is not None and shared < LITTLE_SHARED_BYTES:
        problems.append(
            f"only {shared / 2**20:.0f} MB of shared memory in /dev/shm: use --workers 0, or make it larger"
        )
    data = {
        "engine": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": asdict(machine),
        "devices": [asdict(device) for device in devices],
        "packages": versions,
        "extras": extras,
        "free_bytes": room,
        "shared_memory_bytes": shared,
        "problems": problems,
    }
    precision = "bf16" if machine.has_bf16 else "no fast bf16"
    lines = [
        f"engine {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"  device   {machine.device}: {machine.device_name}, {machine.device_memory_bytes / GIB:.1f} GB, {precision}",
        f"  machine  {machine.cores} cores, {machine.memory_bytes / GIB:.1f} GB of memory",
        "  packages " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        *(f"  extra    {name} {version or 'is not installed'}: {OPTIONAL[name]}" for name, version in extras.items()),
        "  free     " + ", ".join(f"{where} {free / GIB:.0f} GB" for where, free in room.items()),
        *(f"  PROBLEM  {problem}" for problem in problems),
    ]
    return Outcome(data, "\n".join(lines if problems else [*lines, "  nothing is wrong"]))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
