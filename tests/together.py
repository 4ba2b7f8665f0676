"""Several processes that work together, forked from this one: torch is loaded once, so that four start in a moment."""

import importlib
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable

import torch

from engine import distributed


def run_together(n: int, work: Callable[[], object], *, seconds: float = 200) -> None:
    """Run ``work`` in ``n`` processes that know of each other, as torchrun starts them; raise where one fails."""
    for module in ("torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp"):
        importlib.import_module(module)  # which each process would load by itself
    fork = multiprocessing.get_context("fork")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [fork.Process(target=_be, args=(rank, n, port, work)) for rank in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    assert codes == [0] * n, f"the processes ended with {codes}"


def _be(rank: int, n: int, port: int, work: Callable[[], object]) -> None:
    torch.set_num_threads(1)
    os.environ.pop("TORCHELASTIC_RUN_ID", None)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = 1
    try:
        work()
        distributed.leave()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # past what the tests' process would do at its end
