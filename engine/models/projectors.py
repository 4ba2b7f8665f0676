"""The heads of BYOL, MoCo-v2 and SwAV: perceptrons with batch normalisation, and prototypes on a sphere.

Letters after a name are its axes: B rows · D width · K prototypes.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.heads import Prototypes


class Projector(nn.Module):
    """Linear layers with batch normalisation and ReLU between them; the last one ends bare.

    Batch normalisation sees the rows of one call: the crops of one part of a batch.

    Args:
        width_in: width of the features.
        width_out: width of the output.
        layers: number of linear layers.
        hidden: width of the layers between.

    Source: BYOL §3.3; SwAV main_swav.py projection_head; DINO appendix B for MoCo-v2.
    """

    def __init__(self, width_in: int, width_out: int, *, layers: int, hidden: int) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for width_before, width in pairwise([width_in, *[hidden] * (layers - 1)]):
            modules += [nn.Linear(width_before, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        last_hidden = hidden if layers > 1 else width_in
        self.layers = nn.Sequential(*modules, nn.Linear(last_hidden, width_out))

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the outputs, (B, width_out), float32 whatever the precision around."""
        with torch.autocast(features_BD.device.type, enabled=False):
            return self.layers(features_BD.float())


class SpherePrototypes(nn.Module):
    """A unit sphere, and unit prototypes on it.

    Unit length is part of the prototypes' product, where SwAV shortens them after each step.

    Source: SwAV §3.1, main_swav.py.
    """

    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.last_layer = Prototypes(width, prototypes, has_unit_length=True)

    def forward(self, projected_BD: Tensor) -> Tensor:
        """Return the cosines of projections with the prototypes, (B, K), float32."""
        with torch.autocast(projected_BD.device.type, enabled=False):
            return self.last_layer(F.normalize(projected_BD.float(), dim=-1))
