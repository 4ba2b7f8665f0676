"""Pictures of several sizes as one sequence of tokens, and residual branches computed for some of the pictures.

Both save work without changing what a picture's tokens become: in a sequence each picture attends to itself alone,
and a branch that is computed for some pictures adds nothing to the others. Knows no layers.

Letters after a name are its axes:
    B pictures of a group, all of one size · N tokens of each · D width · H heads · d width of one head
    T tokens of all groups, group after group, picture after picture · K pictures that are kept
    R rows, pictures (K) or tokens in a sequence, that a branch is computed for
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

VARLEN_CAPABILITY = (8, 0)
"""Oldest GPUs, Ampere, with the kernel of FlashAttention 2; its README, "NVIDIA CUDA Support"."""
VARLEN_DTYPES = (torch.float16, torch.bfloat16)
"""What the kernel of FlashAttention 2 computes in; its README."""
VARLEN_STEP, VARLEN_WIDEST = 8, 256
"""Heads of FlashAttention 2 are a multiple of 8 wide, and at most 256; its README and flash_api.cpp."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values to what is gathered, all (B, H, N, d)."""


class Packing(NamedTuple):
    """Where the pictures lie in a sequence.

    Args:
        sizes: B and N of each group.
        starts: int32 (pictures + 1,), the place of each picture's first token, then T; None where no kernel takes it.
    """

    sizes: tuple[tuple[int, int], ...]
    starts: Tensor | None = None

    @property
    def counts(self) -> list[int]:
        """Tokens of each group."""
        return [n_pictures * n_tokens for n_pictures, n_tokens in self.sizes]


def packing_of(sizes: Sequence[tuple[int, int]], device: torch.device) -> Packing:
    """Return the packing of groups of B pictures with N tokens each."""
    is_varlen = device.type == "cuda" and not torch.version.hip
    if is_varlen and torch.cuda.get_device_capability(device) >= VARLEN_CAPABILITY:
        return Packing(tuple(sizes), _starts(tuple(sizes), device))
    return Packing(tuple(sizes))


@lru_cache(maxsize=64)  # those of a run's crops, whole and with pictures left out
def _starts(sizes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    # Places first counted during inference must still be usable in training.
    with torch.inference_mode(False):
        lengths = torch.tensor([0, *(n_tokens for n_pictures, n_tokens in sizes for _ in range(n_pictures))])
        return lengths.cumsum(0).to(device, torch.int32)


def pack(groups_BND: Sequence[Tensor]) -> Tensor:
    """Return the tokens of all groups as a sequence, (T, D)."""
    return torch.cat([tokens_BND.flatten(0, 1) for tokens_BND in groups_BND])


def unpack(tokens_TD: Tensor, packing: Packing) -> list[Tensor]:
    """Return the tokens of each group, (B, N, ...), as views of the sequence."""
    parts = tokens_TD.split(packing.counts)
    return [part.unflatten(0, size) for part, size in zip(parts, packing.sizes, strict=True)]


def attend_apart(qkv_T3Hd: Tensor, packing: Packing, attend: Attend) -> Tensor:
    """Return what each token gathers from those of its picture, (T, H, d).

    Source: DINOv2 §5 "Sequence packing"; a kernel for pictures of several lengths in place of a block-diagonal mask.
    """
    if packing.starts is not None and _is_for_varlen(qkv_T3Hd):
        # Loaded here: it takes as long as the rest of torch, and only some GPUs have the kernel.
        from torch.nn.attention.varlen import varlen_attn

        q_THd, k_THd, v_THd = qkv_T3Hd.unbind(1)
        longest = max(n_tokens for _, n_tokens in packing.sizes)
        return varlen_attn(q_THd, k_THd, v_THd, packing.starts, packing.starts, longest, longest)
    gathered_BHNd = [attend(*qkv_BN3Hd.permute(2, 0, 3, 1, 4).unbind(0)) for qkv_BN3Hd in unpack(qkv_T3Hd, packing)]
    return pack([group_BHNd.transpose(1, 2) for group_BHNd in gathered_BHNd])


def _is_for_varlen(qkv_T3Hd: Tensor) -> bool:
    width = qkv_T3Hd.shape[-1]
    return qkv_T3Hd.dtype in VARLEN_DTYPES and width % VARLEN_STEP == 0 and width <= VARLEN_WIDEST


class Kept(NamedTuple):
    """What a residual branch is computed for, and how much it counts there.

    Args:
        rows_R: int64, along the first axis of the tokens: pictures of (B, N, D), or tokens of a sequence (T, D).
        counts: rows of each group.
        scales: what each group's branch is multiplied by, so that its mean over all pictures stays.
        packing: of the rows; None where they are pictures.
    """

    rows_R: Tensor
    counts: tuple[int, ...]
    scales: tuple[float, ...]
    packing: Packing | None = None

    def select(self, tokens: Tensor) -> Tensor:
        """Return the rows that are kept."""
        return tokens.index_select(0, self.rows_R)

    def add(self, tokens: Tensor, branch: Tensor) -> Tensor:
        """Return the tokens with the branch of the kept rows, times its scale, added to them."""
        tokens = tokens.clone()
        parts = branch.to(tokens.dtype).split(self.counts)
        for rows_R, part, scale in zip(self.rows_R.split(self.counts), parts, self.scales, strict=True):
            tokens.index_add_(0, rows_R, part, alpha=scale)
        return tokens


Drawn = tuple[list[Tensor], list[Tensor]]
"""For a block's two branches, the pictures of each group that it is computed for, int64 (K,)."""


def draw_kept(
    shares: Sequence[float], n_pictures: Sequence[int], draw: Callable[[int], Tensor], device: torch.device
) -> list[Drawn | None]:
    """Draw which pictures the branches of each block are computed for.

    All is drawn before the first block, and sent to a GPU at once; in the order of the reference (dinov2 block.py):
    block by block, attention before the feed-forward layer, group by group.

    Args:
        shares: for each block the share of the pictures that is left out; 0 draws nothing and gives None.
        n_pictures: of each group.
        draw: gives a permutation of the numbers below the one it is called with.
        device: of what is returned.
    """
    orders_2B = [
        torch.stack([torch.cat([draw(n) for n in n_pictures]) for _branch in range(2)]) for share in shares if share
    ]
    if not orders_2B:
        return [None] * len(shares)
    drawn_2B = iter(torch.stack(orders_2B).to(device, non_blocking=True))
    return [_first_of_groups(next(drawn_2B), n_pictures, share) if share else None for share in shares]


def _first_of_groups(orders_2B: Tensor, n_pictures: Sequence[int], share: float) -> Drawn:
    attention_gK, fed_gK = (
        [order[: n_kept(n, share)] for order, n in zip(order_B.split(list(n_pictures)), n_pictures, strict=True)]
        for order_B in orders_2B
    )
    return attention_gK, fed_gK


def n_kept(n_pictures: int, share: float) -> int:
    """Return how many pictures are left when a share is left out; dinov2 block.py get_branges_scales, its rounding."""
    return max(int(n_pictures * (1 - share)), 1)


def keep_pictures(pictures_K: Tensor, n_pictures: int) -> Kept:
    """Keep the pictures ``pictures_K`` of ``n_pictures``, whose tokens are (B, N, D)."""
    return Kept(pictures_K, (len(pictures_K),), (n_pictures / len(pictures_K),))


def keep_packed(pictures_gK: Sequence[Tensor], packing: Packing) -> Kept:
    """Keep the pictures ``pictures_gK[g]`` of group g in a sequence."""
    rows, first = [], 0
    for pictures_K, (n_pictures, n_tokens) in zip(pictures_gK, packing.sizes, strict=True):
        places_N = torch.arange(first, first + n_tokens, device=pictures_K.device)
        rows.append((pictures_K.unsqueeze(1) * n_tokens + places_N).flatten())
        first += n_pictures * n_tokens
    sizes = [(len(kept_K), n_tokens) for kept_K, (_, n_tokens) in zip(pictures_gK, packing.sizes, strict=True)]
    scales = tuple(n / len(kept_K) for kept_K, (n, _) in zip(pictures_gK, packing.sizes, strict=True))
    return Kept(torch.cat(rows), tuple(len(some_R) for some_R in rows), scales, packing_of(sizes, rows[0].device))
