"""What is known before a run, put together in one way: by ``engine train``, and by the window before it is started.

Knows no torch: the machine is found by ``engine.machine``, and told to others by ``engine doctor --json``.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engine.catalogue import BUNDLED, WEIGHTS, ResNetShape, Shape, VitShape
from engine.recipes import Plan
from engine.settings import Device, Facts, TeacherFacts

BUNDLED_FILE = Path(__file__).parents[1] / "resources" / "backbone.safetensors"
DESCRIPTION = "dinoviz"
"""Key of the metadata of a safetensors file under which our description of the backbone stands."""
MOST_HEADER_BYTES = 16 << 20
LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, little-endian."""
TRAIN = "train"
"""The split that is learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A device and what is around it."""

    device: Device
    device_name: str
    device_memory_bytes: int
    has_bf16: bool
    cores: int
    memory_bytes: int


def to_train_on(is_train_N: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the places of the pictures that a run learns from: the train split where there is one, else all."""
    return np.flatnonzero(is_train_N) if is_train_N.any() else np.arange(len(is_train_N))


def facts_of(
    shorter_sides: Sequence[int] | NDArray[np.integer],
    machine: Machine,
    project: Path,
    *,
    start: Shape | None = None,
    processes: int = 1,
    classes: tuple[str, ...] = (),
    teacher: TeacherFacts | None = None,
) -> Facts:
    """Return the facts of a run on a machine.

    Args:
        shorter_sides: of the pictures it learns from, px.
        machine: what it runs on.
        project: folder on whose disk the run will lie; need not exist.
        start: shape of the weights it starts from; None where it starts from noise.
        processes: how many train together.
        classes: to learn, where labels are learnt.
        teacher: what is learnt from, where it is frozen.
    """
    n_pictures = len(shorter_sides)
    return Facts(
        n_pictures=n_pictures,
        median_side=int(np.sort(np.asarray(shorter_sides))[n_pictures // 2]) if n_pictures else 0,
        device=machine.device,
        device_memory_bytes=machine.device_memory_bytes,
        has_bf16=machine.has_bf16,
        cores=machine.cores,
        processes=processes,
        disk_free_bytes=free_bytes(project),
        start=start,
        classes=classes,
        teacher=teacher,
    )


def free_bytes(folder: Path) -> int:
    """Return the room left on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def start_shape(model: str, models: Path) -> Shape | None:
    """Return the shape of the weights that a name stands for, read from their description alone.

    Args:
        model: as ``--init`` takes it.
        models: the folder of fetched and imported weights.

    Returns:
        None where nothing here describes it: a file of another program, which must be imported first.
    """
    if model in WEIGHTS:
        return WEIGHTS[model].shape
    path = BUNDLED_FILE if model == BUNDLED else Path(model)
    if path.is_dir():
        return _shape_of_run(path)
    if not path.is_file() and path.name == model:
        path = models / f"{model}.safetensors"
    return _described_shape(path) if path.suffix == ".safetensors" else None


def _shape_of_run(folder: Path) -> Shape | None:
    try:
        return Plan.model_validate(json.loads((folder / "plan.json").read_bytes())["plan"]).shape
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _described_shape(path: Path) -> Shape | None:
    """Return the shape that a safetensors file of ours names in its header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(length)) if length <= MOST_HEADER_BYTES else {}
        content = json.loads(header["__metadata__"][DESCRIPTION])
        family: type[VitShape] | type[ResNetShape] = {"vit": VitShape, "resnet": ResNetShape}[content["family"]]
        if set(content["shape"]) - {field.name for field in fields(family)}:
            return None  # of a newer version, which the engine says in words
        shape: Shape = TypeAdapter(family).validate_python(content["shape"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    return shape


def models_folder(cache: str) -> Path:
    """Return the folder of fetched weights: ``DINOVIZ_CACHE``/models, or that in the user's ``cache``."""
    return Path(os.environ.get("DINOVIZ_CACHE") or cache) / "models"
