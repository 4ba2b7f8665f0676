"""State that is split among processes, on the disk: a safetensors file of each process, read by any number of them.

    shard-00001-model-00001-of-00001.safetensors …   the names and the offsets are torch.distributed.checkpoint's

Its own format holds a pickle, which can run code when it is read; this is the one that it shares with Hugging Face.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from engine import distributed
from engine.errors import BadWeights, DiskFull
from engine.models.downloads import sha256_of
from engine.store import is_full, sync_folder


def write(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the shares of all processes; each calls this with the same names.

    Args:
        folder: on a disk that all processes see; made if it is not there.
        tensors: split ones, and whole ones that are alike in every process.

    Returns:
        The digest of every file by its name, in the first process; nothing in the others.

    Raises:
        DiskFull: there was no room for the share of one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        dcp.save(dict(tensors), storage_writer=HuggingFaceStorageWriter(path=str(folder), save_distributed=True))
    except CheckpointException as problem:
        if any(is_full(failure[0]) for failure in problem.failures.values()):
            raise DiskFull(f"No room left to write '{folder}'.", "Free some space and try again.") from problem
        raise
    own = f"shard-{distributed.world()[0] + 1:05d}-"
    digests = distributed.gathered({path.name: sha256_of(path) for path in folder.glob(f"{own}*")})
    sync_folder(folder)
    return {name: digest for of_process in digests for name, digest in of_process.items()}


def read(folder: Path, like: Callable[[str], Tensor | None]) -> dict[str, Tensor]:
    """Read what was written, by the same number of processes or another.

    Args:
        folder: with the files of all processes.
        like: gives by name a tensor that is split as the one that is read should be; None for a whole one.

    Raises:
        BadWeights: a tensor is not of the size of the one that it should be split like.
    """
    reader = HuggingFaceStorageReader(str(folder))
    tensors: dict[str, Tensor] = {}
    for name, about in reader.read_metadata().state_dict_metadata.items():
        model, stored = like(name), cast("TensorStorageMetadata", about)
        if model is not None and model.shape != stored.size:
            raise BadWeights("The checkpoint is of another network or objective.", f"{name} is {tuple(stored.size)}.")
        tensors[name] = (
            torch.empty(stored.size, dtype=stored.properties.dtype)
            if model is None
            else torch.empty_like(model, dtype=stored.properties.dtype, requires_grad=False)
        )
    together = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
    apart = {name: tensor for name, tensor in tensors.items() if name not in together}
    if together:
        dcp.load(together, storage_reader=HuggingFaceStorageReader(str(folder)))
    if apart:
        _read_alone(folder, apart)
    return tensors


def _read_alone(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill whole tensors in this process, whatever the others do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
