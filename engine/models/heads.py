"""The projection head of DINO: features to scores for each prototype.

Names and shapes of the tensors are those of facebookresearch/dino ``DINOHead``, which DINOv2
shares. Letters after a name are its axes: B rows · D width · K prototypes.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT_STD = 0.02
"""Standard deviation of the starting weights of the hidden layers; DINOHead."""


class ProjectionHead(nn.Module):
    """A multi-layer perceptron, a unit sphere, and one unit prototype per answer.

    Args:
        width_in: width of the features.
        prototypes: number of answers, K.
        layers: linear layers before the prototypes.
        hidden: width of the layers between.
        bottleneck: width of the sphere.
        norm: BatchNorm after each hidden layer ('batch'), which DINO uses with ResNets.
        norm_last_layer: keep the prototypes at length 1 instead of learning their lengths.
    """

    def __init__(
        self,
        width_in: int,
        prototypes: int,
        *,
        layers: int = 3,
        hidden: int = 2048,
        bottleneck: int = 256,
        norm: Literal["none", "batch"] = "none",
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        self.mlp = _perceptron([width_in, *[hidden] * (layers - 1), bottleneck], has_norm=norm == "batch")
        self.last_layer = Prototypes(bottleneck, prototypes, has_unit_length=norm_last_layer)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the scores of the prototypes, (B, K)."""
        points_BD = self.mlp(features_BD)
        # In float32: in 16 bits the squares of a long vector overflow or lose the short entries.
        points_BD = F.normalize(points_BD.float(), dim=-1).to(points_BD.dtype)
        return self.last_layer(points_BD)


def _perceptron(widths: list[int], *, has_norm: bool) -> nn.Module:
    modules: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        linear = nn.Linear(width_in, width_out)
        nn.init.trunc_normal_(linear.weight, std=INIT_STD)
        nn.init.zeros_(linear.bias)
        modules += [linear, *([nn.BatchNorm1d(width_out)] if has_norm else []), nn.GELU()]
    modules = modules[: -2 if has_norm else -1]  # the last layer ends bare
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are a length ``weight_g`` times a direction ``weight_v``.

    The fused ``torch._weight_norm`` saves about 50 ms of backward at K = 65536 over normalising
    by hand. Directions start as ``nn.Linear`` does, lengths at 1 (DINOHead).
    """

    def __init__(self, width_in: int, prototypes: int, *, has_unit_length: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1), requires_grad=not has_unit_length)
        self.weight_v = nn.Parameter(nn.Linear(width_in, prototypes, bias=False).weight.detach())

    def forward(self, points_BD: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        return F.linear(points_BD, torch._weight_norm(self.weight_v, self.weight_g, 0))
