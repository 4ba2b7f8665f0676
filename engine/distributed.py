"""Several processes, one run: started by torchrun, one process for each device.

Each holds all of the networks and averages gradients with the others, or a share of every tensor (FSDP2): then blocks
are gathered one after the other while they compute, and whoever looks at a whole tensor asks all processes for it.
"""

import contextlib
import hashlib
import os
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.settings import Device

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Thing = TypeVar("Thing")
UNNAMED = "none"
"""What torchrun calls a job that was given no name."""
MEETING_PAUSE_S = 0.02
PATIENCE = timedelta(days=1)  # the first process may scan and shrink a large folder while the others wait


def world() -> tuple[int, int]:
    """Return this process's rank and the number of processes, as torchrun says; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def machines() -> int:
    """Return on how many machines the processes are, as torchrun says."""
    processes = world()[1]
    return max(1, processes // int(os.environ.get("LOCAL_WORLD_SIZE", processes)))


def join(device: Device) -> torch.device:
    """Join the other processes, if there are any, and return the device that is this one's."""
    _, processes = world()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    if processes > 1 and not dist.is_initialized():
        store, rank, processes = next(dist.rendezvous("env://", timeout=PATIENCE))
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
            store = dist.PrefixStore(meeting(store, rank, processes), store)
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=PATIENCE)
    return torch.device(device, local) if device == "cuda" else torch.device(device)


def meeting(store: dist.Store, rank: int, processes: int) -> str:
    """Return a name for what these processes tell each other, once all of them are there.

    torchrun's store outlives the processes that it starts again, and with it the addresses of dead ones, to which the
    living would connect (torch 2.13, elastic/rendezvous/dynamic_rendezvous.py). So each process says who it is, the
    first one who it sees, until all have found themselves in that; under a name that is made of all of them nothing
    was ever written.
    """
    own = uuid.uuid4().hex
    members = [f"member {number}" for number in range(processes)]
    store.set(members[rank], own)
    while True:
        if rank == 0 and store.check(members):
            store.set("seen", " ".join(store.get(member).decode() for member in members))
        seen = store.get("seen").decode() if store.check(["seen"]) else ""
        if own in seen:
            name = hashlib.blake2b(seen.encode(), digest_size=8).hexdigest()
            store.set(f"agrees {rank}", name)
            if rank == 0 and _all_say(store, "agrees", processes, name):
                store.set("met", name)
            if store.check(["met"]) and store.get("met").decode() == name:
                return name
        time.sleep(MEETING_PAUSE_S)


def _all_say(store: dist.Store, what: str, processes: int, name: str) -> bool:
    keys = [f"{what} {number}" for number in range(processes)]
    return store.check(keys) and all(store.get(key).decode() == name for key in keys)


def leave() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def job() -> str:
    """Return what tells the job that torchrun was started for from every other one, empty without torchrun.

    It is the same after torchrun has started the processes again: the id given to it (``--rdzv-id``), or else the
    torchrun that started this one.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if name != UNNAMED:
        return name
    parent = psutil.Process(os.getppid())
    return f"{socket.gethostname()} {parent.pid} {parent.create_time()}"


def is_restarted() -> bool:
    """Tell whether torchrun has started these processes again after one of them failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def averaged(student: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Return the module with its gradients averaged over the processes."""
    return DistributedDataParallel(
        student, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def shard(network: nn.Module, device: torch.device, dtype: torch.dtype | None, *, learns: bool) -> None:
    """Split the parameters of a network with a backbone among the processes, in place.

    Blocks compute with parameters in ``dtype``; what is around them and the heads with float32 ones, as heads do in
    any precision. Gradients are averaged in float32.

    Args:
        network: all alike in every process.
        device: of this process; the shares go there.
        dtype: that blocks are gathered in; None for float32.
        learns: False where no backward pass follows, after which shares would be all that is kept.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # a second, which one process need not wait

    warnings.filterwarnings("ignore", message=_VIEWS, category=UserWarning)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    halves = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for block in cast("Sequence[nn.Module]", cast("nn.Module", network.backbone).blocks):
        fully_shard(block, mesh=mesh, mp_policy=halves)
    for name, part in network.named_children():
        if name != "backbone":
            fully_shard(part, mesh=mesh, mp_policy=whole)
    fully_shard(network, mesh=mesh, mp_policy=whole, reshard_after_forward=None if learns else True)


_VIEWS = "FSDP2-wrapped module"
"""Begins a warning that a network returns views of tensors, which are to be changed in place by nobody; nobody does."""


def is_split(tensor: Tensor) -> bool:
    """Tell whether each process holds a share of the tensor: whether it is a DTensor, without loading what that is."""
    return hasattr(tensor, "full_tensor")


def share(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: all of it, unless it is split."""
    return cast("DTensor", tensor).to_local() if is_split(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be split; every process must ask."""
    return cast("DTensor", tensor).full_tensor() if is_split(tensor) else tensor


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor that every process has split as another one is, or as it is where that one is whole."""
    if not is_split(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    like = cast("DTensor", like)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def norms_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the norm of each tensor, also where they are split; then every process must ask."""
    norms = list(torch._foreach_norm([share(tensor) for tensor in tensors]))
    if not any(is_split(tensor) for tensor in tensors):
        return norms
    squares = torch.stack(norms).square()
    dist.all_reduce(squares)
    return list(squares.sqrt().unbind())


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
