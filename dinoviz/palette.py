"""Colours for categories that are told apart as well as can be, however many there are.

Letters after a name are its axes: C candidates · K colours · 3 channels, RGB or OKLab
"""

import functools

import numpy as np
from numpy.typing import NDArray

FIRST = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
"""Told apart by colour-blind people too; black and grey, which are ground and "none" here, are left out.
Source: Okabe and Ito 2008, Color Universal Design."""
LEVELS = 14  # of each channel, of the colours there are to choose from
LIGHTNESS = {False: (0.42, 0.80), True: (0.52, 0.90)}  # OKLab's L on a light and on a dark ground
CHROMA = (0.07, 0.19)  # distance from grey, in OKLab; beyond are neon colours
FROM_GROUND = {False: 0.94, True: 0.18}  # L of the ground, which every colour must differ from, too

# Source of the matrices: Ottosson 2020, "A perceptual color space for image processing".
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(colours_K3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return colours in OKLab, in which distances are those that are seen."""
    share = colours_K3.astype(np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T)


@functools.cache
def distinct_colours(n: int, *, on_dark: bool) -> NDArray[np.uint8]:
    """Return n colours, uint8 (n, 3): those of Okabe and Ito, then each the farthest from all before it.

    Source: the greedy choice of Glasbey et al. 2007, in OKLab.
    """
    chosen = [tuple(bytes.fromhex(name[1:])) for name in FIRST[:n]]
    steps = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    candidates_C3 = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab_C3 = oklab(candidates_C3)
    low, high = LIGHTNESS[on_dark]
    chroma_C = np.hypot(lab_C3[:, 1], lab_C3[:, 2])
    is_good_C = (lab_C3[:, 0] > low) & (lab_C3[:, 0] < high) & (chroma_C > CHROMA[0]) & (chroma_C < CHROMA[1])
    candidates_C3, lab_C3 = candidates_C3[is_good_C], lab_C3[is_good_C]
    ground_3 = np.array([FROM_GROUND[on_dark], 0.0, 0.0])
    known_K3 = np.vstack([oklab(np.array(chosen, np.uint8).reshape(-1, 3)), ground_3])
    off_C = np.linalg.norm(lab_C3[:, None] - known_K3[None], axis=2).min(axis=1)
    while len(chosen) < n:
        best = int(off_C.argmax())
        chosen.append(tuple(candidates_C3[best].tolist()))
        off_C = np.minimum(off_C, np.linalg.norm(lab_C3 - lab_C3[best], axis=1))
    return np.array(chosen, np.uint8).reshape(n, 3)
