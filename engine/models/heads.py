"""The projection head of DINO: features to scores for each prototype.

Names and shapes of the tensors are those of facebookresearch/dino ``DINOHead``, which DINOv2
shares. Letters after a name are its axes: B rows · D width · K prototypes.
"""

from itertools import pairwise
from typing import Any, Literal

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
        has_predictor: two more layers with batch norm before the sphere, BYOL's (DINO tab. 7).
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
        has_predictor: bool = False,
    ) -> None:
        super().__init__()
        self.mlp = _perceptron([width_in, *[hidden] * (layers - 1), bottleneck], has_norm=norm == "batch")
        self.predictor = _perceptron([bottleneck, hidden, bottleneck], has_norm=True) if has_predictor else None
        self.last_layer = Prototypes(bottleneck, prototypes, has_unit_length=norm_last_layer)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the scores of the prototypes, (B, K), float32.

        In float32 whatever the precision around it: sharpened by a temperature of 0.04, the rounding of 16 bits
        would decide between prototypes; and it costs no more, since its weights need no conversion.
        """
        with torch.autocast(features_BD.device.type, enabled=False):
            points_BD = self.mlp(features_BD.float())
            if self.predictor is not None:
                points_BD = self.predictor(points_BD)
            points_BD = F.normalize(points_BD, dim=-1)
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

    Directions start as ``nn.Linear`` does, lengths at 1 (DINOHead).
    """

    def __init__(self, width_in: int, prototypes: int, *, has_unit_length: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1), requires_grad=not has_unit_length)
        self.weight_v = nn.Parameter(nn.Linear(width_in, prototypes, bias=False).weight.detach())

    def forward(self, points_BD: Tensor) -> Tensor:
        """Return the scores, (B, K)."""
        return _ScaledProducts.apply(points_BD, self.weight_v, self.weight_g)


class _ScaledProducts(torch.autograd.Function):
    """Products with the rows of ``v``, each divided by the row's length and multiplied by ``g``.

    The same as a product with the weight-normed matrix, but that matrix, 64 MB at K = 65,536, is never made, neither
    here nor in the backward, where autograd would make it twice.
    """

    @staticmethod
    def forward(ctx: Any, points_BD: Tensor, v_KD: Tensor, g_K1: Tensor) -> Tensor:
        length_K = torch.linalg.vector_norm(v_KD, dim=1)
        scores_BK = (points_BD @ v_KD.T).mul_(g_K1[:, 0] / length_K)
        ctx.save_for_backward(points_BD, v_KD, g_K1, length_K, scores_BK)
        return scores_BK

    @staticmethod
    def backward(ctx: Any, grad_BK: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        points_BD, v_KD, g_K1, length_K, scores_BK = ctx.saved_tensors
        along_K = (grad_BK * scores_BK).sum(dim=0)  # what a longer row would gain
        scaled_BK = grad_BK * (g_K1[:, 0] / length_K)
        grad_v_KD = (scaled_BK.T @ points_BD).addcmul_(v_KD, (along_K / length_K.square()).unsqueeze(1), value=-1)
        grad_g_K1 = (along_K / g_K1[:, 0]).unsqueeze(1) if ctx.needs_input_grad[2] else None
        return scaled_BK @ v_KD, grad_v_KD, grad_g_K1
