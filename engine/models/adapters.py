"""Adapters of low rank: a backbone learns by small matrices beside its frozen ones, and they can be folded in.

For sets too small to move all weights without harm. Source: Hu et al. 2021, "LoRA: low-rank adaptation of large
language models".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import BadRecipe
from engine.models.vit import Block, VisionTransformer


class AdaptedLinear(nn.Module):
    """A linear layer whose weight stays, plus ``scale * up @ down``, which starts at 0 and learns.

    Args:
        linear: the layer; its tensors are taken over.
        rank: of what is learnt.
        alpha: what is learnt counts ``alpha / rank`` times (§4.1), so that the rank can change at one learning rate.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen = linear.weight.requires_grad_(False)
        self.bias = linear.bias
        # Gaussian and zero (§4.1); the deviation keeps the variance of the input.
        self.down = nn.Parameter(
            linear.weight.new_empty(rank, linear.in_features).normal_(std=linear.in_features**-0.5)
        )
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        self.scale = alpha / rank

    @property
    def weight(self) -> Tensor:
        """The weight an ordinary layer would have, for those who read it instead of calling the layer: (O, I)."""
        return self.frozen + self.scale * (self.up @ self.down)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what the layer makes of tokens, (..., O); no gradient of the size of the weight is made."""
        return F.linear(tokens, self.frozen, self.bias) + F.linear(F.linear(tokens, self.down), self.scale * self.up)


def adapt(backbone: nn.Module, rank: int, *, alpha: float | None = None, has_learning_norms: bool = False) -> None:
    """Freeze a backbone and give queries, keys and values of every block an adapter that learns.

    Args:
        backbone: is changed; what it computes is not, until the adapters have learnt.
        rank: 1 to 8 were enough for language models (tab. 6).
        alpha: see ``AdaptedLinear``; None is the rank, so that what is learnt counts once.
        has_learning_norms: LayerNorms learn as well.

    Raises:
        BadRecipe: it has no attention or is adapted already, or the rank is outside 1 to the width.
    """
    if not isinstance(backbone, VisionTransformer):
        raise BadRecipe("A residual network has no attention to adapt.", "Choose a Vision Transformer, or no adapters.")
    width = backbone.shape.width
    if not 1 <= rank <= width:
        raise BadRecipe(f"Adapters of rank {rank} do not fit a width of {width}.", f"Choose 1 to {width}; 8 is common.")
    backbone.requires_grad_(False)
    for block in backbone.blocks:
        assert isinstance(block, Block)
        if not isinstance(block.attn.qkv, nn.Linear):
            raise BadRecipe("This backbone has adapters already.", "Fold them in first.")
        adapted = AdaptedLinear(block.attn.qkv, rank, rank if alpha is None else alpha)
        block.attn.qkv = adapted  # type: ignore[assignment] - it stands in for the layer
    if has_learning_norms:
        for module in backbone.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(True)


@torch.no_grad()
def merged(backbone: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of an ordinary backbone that computes the same: adapters are folded into their weights."""
    state = backbone.state_dict()
    for name, module in backbone.named_modules():
        if isinstance(module, AdaptedLinear):
            for part in ("frozen", "down", "up"):
                del state[f"{name}.{part}"]
            state[f"{name}.weight"] = module.weight
    return state
