"""Why is this a neighbour: which parts of two pictures have a likeness in each other.

A vector of a whole picture says that two pictures are alike and not where. Its patches do: each patch of one picture is
held against all of the other, and what it finds there is its share in the explanation. For [CLS] this shows what is
common and does not add up to the likeness, since [CLS] is no sum of patches.

Letters after a name are its axes:
    R C rows and columns of patches · P patches of one picture · Q of the other · W width of the backbone
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.finding.vectors import centred


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What each patch of two pictures finds in the other one, float32: its best cosine there, 0 where below 0."""

    one_RC: NDArray[np.float32]
    other_RC: NDArray[np.float32]


def explain(
    one_RCW: NDArray[np.floating], other_RCW: NDArray[np.floating], mean_W: NDArray[np.float32] | None = None
) -> Explanation:
    """Return which parts of two pictures have a likeness in each other.

    Args:
        one_RCW: features of the patches of a picture.
        other_RCW: of another one, of any size.
        mean_W: what all patches share and is taken out; the mean of these two where absent.
    """
    width = one_RCW.shape[-1]
    one_PW, other_QW = (picture.reshape(-1, width).astype(np.float32) for picture in (one_RCW, other_RCW))
    if mean_W is None:
        mean_W = np.concatenate([one_PW, other_QW]).mean(axis=0)
    cosines_PQ = centred(one_PW, mean_W) @ centred(other_QW, mean_W).T
    return Explanation(
        one_RC=cosines_PQ.max(axis=1).clip(0, 1).reshape(one_RCW.shape[:2]),
        other_RC=cosines_PQ.max(axis=0).clip(0, 1).reshape(other_RCW.shape[:2]),
    )
