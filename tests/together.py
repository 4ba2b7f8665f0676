"""Several processes that train together, forked from this one: torch is loaded once, so that four start in a moment."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence

from engine.terminal import run


def run_together(n: int, command: Sequence[str], *, seconds: float = 120) -> list[int]:
    """Run a command as torchrun would in ``n`` processes; return their exit codes."""
    fork = multiprocessing.get_context("fork")
    port = _free_port()
    processes = [fork.Process(target=_be, args=(rank, n, port, list(command))) for rank in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in processes]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _be(rank: int, n: int, port: int, command: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.pop("TORCHELASTIC_RUN_ID", None)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.exit(run(command))
