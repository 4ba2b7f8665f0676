"""Rows of earlier batches, the oldest of which make room for the newest.

Every process holds the whole queue, so that a checkpoint of one is that of all.

Letters after a name are its axes:
    G large views · B pictures · Q queue · D width
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Queue(nn.Module):
    """A queue of unit vectors for each large view.

    Args:
        views: G.
        length: Q, rows for each view.
        width: D.

    Attributes:
        rows_GQD: float32; random directions until they are overwritten (MoCo builder.py).
        n_put: how many rows each view has been given, int64.
    """

    rows_GQD: Tensor
    n_put: Tensor

    def __init__(self, views: int, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows_GQD", nn.functional.normalize(torch.randn(views, length, width), dim=-1))
        self.register_buffer("n_put", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def put(self, rows_GBD: Tensor) -> None:
        """Write this process's rows of a batch, and those of the other processes after one another by rank.

        Of a batch longer than the queue its last rows stay.
        """
        rows_GND = _of_all_processes(rows_GBD)
        length = self.rows_GQD.shape[1]
        places = (self.n_put + torch.arange(rows_GND.shape[1], device=rows_GND.device)) % length
        self.rows_GQD[:, places[-length:]] = rows_GND[:, -length:].to(self.rows_GQD.dtype)
        self.n_put += rows_GND.shape[1]


def _of_all_processes(rows_GBD: Tensor) -> Tensor:
    if not dist.is_initialized():
        return rows_GBD
    of_ranks = [torch.empty_like(rows_GBD) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, rows_GBD.contiguous())
    return torch.cat(of_ranks, dim=1)
