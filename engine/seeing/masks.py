"""Masks from attention: the fewest patches that hold a share of it, and what can be told of them.

Letters after a name are its axes:
    H heads · P patches · R C rows and columns of patches · Y X pixels
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRecipe

KEEP = 0.6
"""Share of the attention that a mask keeps; DINO fig. 4."""
ROUNDING = 1e-9
"""Slack of the sum, in float64, so that 6 of 10 equal patches hold 0.6."""


def attention_mask(attention_HP: NDArray, keep: float = KEEP) -> NDArray[np.bool_]:
    """Return, per head, the smallest set of most-attended patches holding ``keep`` of the attention.

    Of equally attended patches the earlier in reading order is taken first. ``keep = 1`` takes all.

    Args:
        attention_HP: attention to patches, not negative; scaled here to sum to 1. Patches may also
            lie on two axes, (H, rows, cols).
        keep: share of the attention, 0 < keep <= 1.

    Returns:
        Bool, same shape; True where the patch is kept.

    Raises:
        BadRecipe: ``keep`` is outside its range.

    Source: DINO fig. 4; visualize_attention.py ``--threshold``.
    """
    if not 0 < keep <= 1:
        raise BadRecipe(f"A mask cannot keep {keep:g} of the attention.", "Choose a share above 0 and up to 1.")
    if keep == 1:
        return np.ones(attention_HP.shape, dtype=np.bool_)
    shares_HP = _shares(attention_HP.reshape(len(attention_HP), -1))
    order_HP = np.argsort(-shares_HP, axis=1, kind="stable")
    sorted_HP = np.take_along_axis(shares_HP, order_HP, axis=1)
    held_before_HP = sorted_HP.cumsum(axis=1) - sorted_HP
    kept_HP = np.empty(shares_HP.shape, dtype=np.bool_)
    np.put_along_axis(kept_HP, order_HP, held_before_HP < keep - ROUNDING, axis=1)
    return kept_HP.reshape(attention_HP.shape)


def _shares(attention_HP: NDArray) -> NDArray[np.float64]:
    """Scale each head to sum to 1; a head that looks at no patch looks at all alike."""
    attention_HP = attention_HP.astype(np.float64)
    total_H1 = attention_HP.sum(axis=1, keepdims=True)
    even = 1 / attention_HP.shape[1]
    return np.divide(attention_HP, total_H1, out=np.full_like(attention_HP, even), where=total_H1 > 0)


def without_specks(mask_RC: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """Return the mask without its connected parts of fewer than ``smallest`` patches, corners connecting."""
    _, labels_RC, statistics, _ = cv2.connectedComponentsWithStats(mask_RC.astype(np.uint8), connectivity=8)
    is_large = statistics[:, cv2.CC_STAT_AREA] >= smallest
    return mask_RC & is_large[labels_RC]


def contours(mask_YX: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Return the outlines of a mask, holes included, as closed lines of (x, y) pixels."""
    found, _ = cv2.findContours(mask_YX.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [line[:, 0] for line in found]


class Area(NamedTuple):
    """Size of a mask: its pixels and their share of the picture."""

    pixels: int
    share: float


def area(mask_YX: NDArray[np.bool_]) -> Area:
    """Return how much of a picture a mask covers."""
    pixels = int(mask_YX.sum())
    return Area(pixels, pixels / mask_YX.size)
