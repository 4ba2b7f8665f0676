"""Vectors brought to length 1, by which everything here compares pictures and patches, and rows without themselves.

Letters after a name are its axes:
    N rows of the set · S rows that are looked at · B rows of a block · Q rows asked about · D width of a vector
    P patches, of any shape · W width of the backbone · k neighbours
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 32 << 20  # of features held at once beside the memory map
LEAST_LENGTH, MOST_LENGTH = 1e-15, 1e15  # of vectors whose squares float32 can add up

Nearness = TypeVar("Nearness", bound=np.floating)
Row = TypeVar("Row", bound=np.integer)


def normalised(vectors_BD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return vectors brought to length 1, as a copy; those of zeros, or with a number that is not finite, are zero."""
    return _brought_to_length_1(np.array(vectors_BD, np.float32, order="C"))


def centred(patches_PW: NDArray[np.float32], mean_W: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features of patches less the mean of all, brought to length 1 as in `normalised`."""
    less_PW = np.ascontiguousarray(patches_PW - mean_W, np.float32)
    return _brought_to_length_1(less_PW.reshape(-1, less_PW.shape[-1])).reshape(less_PW.shape)


def _brought_to_length_1(vectors_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change vectors in place and return them."""
    with np.errstate(over="ignore", invalid="ignore"):
        length_B = np.sqrt(np.einsum("bd,bd->b", vectors_BD, vectors_BD))
    odd_B = np.flatnonzero(~((length_B > LEAST_LENGTH) & (length_B < MOST_LENGTH)))
    odd_BD = vectors_BD[odd_B].astype(np.float64)
    odd_BD[~np.isfinite(odd_BD).all(axis=1)] = 0
    odd_length_B = np.linalg.norm(odd_BD, axis=1, keepdims=True)
    length_B[odd_B] = 1
    vectors_BD[odd_B] = odd_BD / np.where(odd_length_B > 0, odd_length_B, 1)
    vectors_BD /= length_B[:, None]
    return vectors_BD


def unit_blocks(
    vectors_ND: NDArray[np.float32], rows_S: NDArray[np.intp]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the features of rows block by block, each vector of length 1, with the places of the block in ``rows_S``.

    A vector of zeros stays one.
    """
    step = max(1, BLOCK_BYTES // (4 * vectors_ND.shape[1]))
    for first in range(0, len(rows_S), step):
        place = slice(first, min(first + step, len(rows_S)))
        yield place, normalised(vectors_ND[rows_S[place]])


def without_self(
    nearness_Qk: NDArray[Nearness], rows_Qk: NDArray[Row], own_Q: NDArray[np.integer]
) -> tuple[NDArray[Nearness], NDArray[Row]]:
    """Return what was found for some rows less one column: themselves, or the last where equals hid them.

    Args:
        nearness_Qk: likeness to those found, or distance from them.
        rows_Qk: that were found, nearest first.
        own_Q: the rows for which they were.
    """
    is_self_Qk = rows_Qk == own_Q[:, None]
    is_self_Qk[~is_self_Qk.any(axis=1), -1] = True
    shape = (len(rows_Qk), rows_Qk.shape[1] - 1)
    return nearness_Qk[~is_self_Qk].reshape(shape), rows_Qk[~is_self_Qk].reshape(shape)
