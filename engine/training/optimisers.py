"""The optimiser of a run: AdamW, SGD or LARS over an objective's groups, and clipping by tensor."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from engine.distributed import norms_of, share
from engine.settings import OptimiserSettings
from engine.training.objectives.objective import Group
from engine.training.schedules import Moment

SGD_MOMENTUM = 0.9  # main_dino.py
LARS_TRUST = 0.001  # utils.py LARS eta
CLIP_EPS = 1e-6  # utils.py clip_gradients


def make_optimiser(settings: OptimiserSettings, groups: Sequence[Group]) -> Optimizer:
    """Return the optimiser; learning rate and decay are set before each step by `schedule`."""
    parameters: list[dict[str, Any]] = [
        {"params": g.parameters, "has_decay": g.has_decay, "rate": g.rate, "is_last_layer": g.is_last_layer}
        for g in groups
    ]
    match settings.optimiser:
        case "adamw":
            return AdamW(parameters, lr=0.0, weight_decay=0.0, fused=True)
        case "sgd":
            return SGD(parameters, lr=0.0, momentum=SGD_MOMENTUM, foreach=True)
        case "lars":
            return Lars(parameters)


def schedule(optimiser: Optimizer, at: Moment, *, is_last_layer_still: bool = False) -> None:
    """Give every group the learning rate and, where it decays, the weight decay of a step.

    ``is_last_layer_still``: prototypes do not move, but what the optimiser knows of their gradients grows (dinov2
    train.py: last_layer_lr 0).
    """
    for group in optimiser.param_groups:
        is_still = is_last_layer_still and group["is_last_layer"]
        group["lr"] = 0.0 if is_still else at.learning_rate * group["rate"]
        group["weight_decay"] = at.weight_decay if group["has_decay"] else 0.0


@torch.no_grad()
def clip_by_tensor(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale each gradient whose own norm is above ``largest`` down to it; 0 leaves them.

    Returns:
        The norms before, one for each gradient, on their device.

    Source: utils.py clip_gradients: by tensor, not over all of them.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = norms_of(gradients)
    if largest:
        shares = torch._foreach_add(norms, CLIP_EPS)
        torch._foreach_reciprocal_(shares)
        torch._foreach_mul_(shares, largest)
        torch._foreach_clamp_max_(shares, 1.0)
        torch._foreach_mul_([share(gradient) for gradient in gradients], shares)
    return torch.stack(norms)


@torch.no_grad()
def clip_by_network(groups: Sequence[Group], largest: float) -> Tensor:
    """Scale the gradients of each part of the student down so that their common norm is at most ``largest``.

    Returns:
        The norms before, one for each tensor that has a gradient, on their device.

    Source: dinov2 train.py: clip_grad_norm_ of the backbone and of each head by itself.
    """
    by_network: dict[str, list[Tensor]] = {}
    for group in groups:
        gradients = [p.grad for p in group.parameters if p.grad is not None]
        by_network.setdefault(group.network, []).extend(gradients)
    norms: list[Tensor] = []
    for gradients in by_network.values():
        if gradients:
            of_each = norms_of(gradients)
            norms += of_each
            if largest:
                kept = (largest / (torch.stack(of_each).norm() + CLIP_EPS)).clamp(max=1.0)
                torch._foreach_mul_([share(gradient) for gradient in gradients], kept)
    return torch.stack(norms)


class Lars(Optimizer):
    """SGD with momentum whose step is scaled, tensor by tensor, to the size of the weights.

    Source: You et al. 2017; utils.py LARS (trust ratio and decay for tensors of two or more axes only).
    """

    def __init__(self, parameters: list[dict[str, Any]], *, lr: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, lr: float, weight_decay: float) -> None:
        step = parameter.grad
        assert step is not None
        if parameter.ndim != 1:
            step = step.add(parameter, alpha=weight_decay)
            weight, size = parameter.norm(), step.norm()
            trust = torch.where((weight > 0) & (size > 0), LARS_TRUST * weight / size, torch.ones_like(weight))
            step = step.mul(trust)
        state = self.state[parameter]
        momentum = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
        momentum.mul_(SGD_MOMENTUM).add_(step)
        parameter.add_(momentum, alpha=-lr)
