"""Several processes, one run: started by torchrun, one process for each device."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.settings import Device

Thing = TypeVar("Thing")
PATIENCE = timedelta(days=1)  # the first process may scan and shrink a large folder while the others wait


def world() -> tuple[int, int]:
    """Return this process's rank and the number of processes, as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join(device: Device) -> torch.device:
    """Join the other processes, if there are any, and return the device that is this one's."""
    _, processes = world()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    if processes > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    return torch.device(device, local) if device == "cuda" else torch.device(device)


def leave() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def averaged(student: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Return the module with its gradients averaged over the processes."""
    return DistributedDataParallel(student, device_ids=[device.index] if device.type == "cuda" else None)


def agreed(value: str = "") -> str:
    """Return what the first process says, in all of them."""
    return shared(value)


def shared(value: Thing) -> Thing:
    """Return the first process's value in all of them; what the others give is not looked at."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(value: Thing) -> list[Thing]:
    """Return the values of all processes, by rank, in the first one; nothing in the others."""
    if not dist.is_initialized():
        return [value]
    values = [value] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


@contextlib.contextmanager
def deciding() -> Iterator[Callable[[str], None]]:
    """Let the first process tell the others which run to follow; leaving without a word sends them home.

    The others ask with `agreed` and get the run, or nothing.
    """
    told = []

    def decide(run: str) -> None:
        told.append(run)
        agreed(run)

    try:
        yield decide
    finally:
        if not told:
            agreed("")
            leave()


def any_of(is_true: bool, device: torch.device) -> bool:
    """Tell whether it is true in any process."""
    if not dist.is_initialized():
        return is_true
    flag = torch.tensor(float(is_true), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def mean_of(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return numbers as floats, each the mean over the processes."""
    if not values:
        return {}
    stacked = torch.stack([value.detach().float() for value in values.values()])
    if dist.is_initialized():
        dist.all_reduce(stacked)
        stacked /= dist.get_world_size()
    return dict(zip(values, stacked.tolist(), strict=True))
