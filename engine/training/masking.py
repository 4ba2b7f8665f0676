"""Which patches of which global crops the student does not see.

Half of the crops of a batch lose 10 to 50 % of their patches, in blocks. The masks of a batch are a pure
function of (seed, step) for the batch of all processes and parts together; each process makes only those
of its own pictures, so any number of processes sees the same masks.

Letters after a name are its axes:
    G global views · B pictures · N crops = G * B, crop-major · P patches = rows * cols · M masked patches
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.training.draws import stream

LEAST_AREA = 4  # patches: dinov2 masking.py min_num_patches
LEAST_LOG_ASPECT = math.log(0.3)  # dinov2 masking.py min_aspect
MOST_LOG_ASPECT = math.log(1 / 0.3)
TRIES = 10  # for each block: dinov2 masking.py _mask
DRAWS_AT_ONCE = 64  # a mask of half of 16 x 16 patches takes 30 to 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """How a batch is masked (dinov2 collate.py; ssl_default_config.yaml ibot)."""

    rows: int
    cols: int
    share: float = 0.5
    """of all global crops that get a mask (mask_sample_probability)."""
    ratios: tuple[float, float] = (0.1, 0.5)
    """of a masked crop's patches (mask_ratio_min_max)."""


def block_mask(rows: int, cols: int, n_masked: int, draws: Iterator[float]) -> NDArray[np.bool_]:
    """Return a mask of blocks: bool (rows, cols), True where a patch is masked.

    Blocks are added until ``n_masked`` patches are masked, never more; where ten tries find no block that
    fits, fewer are (3-11 % of masks, by one or two patches).

    Args:
        rows: of the grid.
        cols: of the grid.
        n_masked: the number of patches asked for.
        draws: uniform numbers in [0, 1); four for a try, two for one whose block is larger than the grid.

    Source: BEiT, Bao et al. 2021, alg. 1; dinov2 masking.py MaskingGenerator.
    """
    # The trainer writes 0.5 * side // patch * side // patch, which rounds an odd grid down: 7 x 7 gives 21.
    most_area = rows // 2 * cols
    mask, remaining = 0, n_masked
    while remaining > 0:
        block = _block(rows, cols, mask, min(remaining, most_area), draws)
        if not block:
            break
        remaining -= (block & ~mask).bit_count()
        mask |= block
    return _unpacked(mask, rows, cols)


def _block(rows: int, cols: int, mask: int, most_new: int, draws: Iterator[float]) -> int:
    """Return a block that adds 1 to ``most_new`` patches to the mask, one bit a patch, or 0 if none was found."""
    for _ in range(TRIES):
        # With fewer than four patches left this runs downwards, as in the source.
        area = LEAST_AREA + (most_new - LEAST_AREA) * next(draws)
        aspect = math.exp(LEAST_LOG_ASPECT + (MOST_LOG_ASPECT - LEAST_LOG_ASPECT) * next(draws))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if width >= cols or height >= rows:
            continue
        top, left = int(next(draws) * (rows - height + 1)), int(next(draws) * (cols - width + 1))
        block = _column(height, cols) * ((1 << width) - 1) << (top * cols + left)
        if 0 < (block & ~mask).bit_count() <= most_new:
            return block
    return 0


@cache
def _column(height: int, cols: int) -> int:
    """Return one bit in each of ``height`` rows, all in the first column."""
    return sum(1 << row * cols for row in range(height))


def _unpacked(mask: int, rows: int, cols: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(mask.to_bytes(-(-rows * cols // 8), "little"), np.uint8)
    return np.unpackbits(packed, count=rows * cols, bitorder="little").view(np.bool_).reshape(rows, cols)


def crop_masks(
    masking: Masking,
    order_N: NDArray[np.int64],
    draws_of: Callable[[int], Iterator[float]],
    is_wanted_N: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return the masks of a batch's global crops: bool (N, P); crops that are not wanted are left empty.

    Args:
        masking: how.
        order_N: a permutation; the first share of its numbers are masks, the others crops without one.
            Crop n gets number ``order_N[n]``.
        draws_of: the uniform numbers of one mask: its place in its step of the ladder, then its blocks'.
        is_wanted_N: the crops to make masks for.

    The ratios climb in equal steps, one for each mask, so that every batch has all of them.

    Source: dinov2 collate.py collate_data_and_cast.
    """
    n_patches = masking.rows * masking.cols
    masks_NP = np.zeros((len(order_N), n_patches), np.bool_)
    n_masks = int(len(order_N) * masking.share)
    ladder = np.linspace(*masking.ratios, n_masks + 1, dtype=np.float32)
    for number, crop in enumerate(np.argsort(order_N)[:n_masks]):
        if is_wanted_N[crop]:
            draws = draws_of(number)
            ratio = ladder[number] + (ladder[number + 1] - ladder[number]) * np.float32(next(draws))
            n_masked = int(n_patches * ratio)
            masks_NP[crop] = block_mask(masking.rows, masking.cols, n_masked, draws).ravel()
    return masks_NP


def batch_masks(
    masking: Masking, n_views: int, n_pictures: int, *, seed: int, step: int, mine: slice = slice(None)
) -> NDArray[np.bool_]:
    """Return the masks of some pictures' global crops, bool (G, pictures of ``mine``, P).

    Args:
        masking: how.
        n_views: global views of a picture.
        n_pictures: of the whole batch, over all processes and parts.
        seed: of the run.
        step: of the run, from 0.
        mine: the pictures of this process.
    """
    is_mine_GB = np.zeros((n_views, n_pictures), np.bool_)
    is_mine_GB[:, mine] = True
    masks_NP = crop_masks(
        masking,
        stream(0, seed=seed, step=step).permutation(n_views * n_pictures),
        lambda number: _floats(stream(1 + number, seed=seed, step=step)),
        is_mine_GB.ravel(),
    )
    return masks_NP.reshape(n_views, n_pictures, -1)[:, mine]


def _floats(generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from generator.random(DRAWS_AT_ONCE).tolist()


def masked_patches(masks_NP: Tensor) -> tuple[Tensor, Tensor]:
    """Return where patches are masked, as indices into all N * P, and one over the number of its crop's.

    Args:
        masks_NP: bool; any leading axes.

    Returns:
        indices_M, int64, ascending, and weights_M, float32: the weights of a masked crop sum to 1.

    Source: dinov2 collate.py mask_indices_list, masks_weight.
    """
    masks_NP = masks_NP.flatten(0, -2)
    weights_N1 = 1 / masks_NP.sum(dim=1, keepdim=True).clamp_min(1)
    return masks_NP.flatten().nonzero().flatten(), weights_N1.expand_as(masks_NP)[masks_NP]
