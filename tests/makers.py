"""Small real things that several tests make."""

from pathlib import Path

import numpy as np
from PIL import Image

from engine.recipes import CropSettings

PUBLISHED_CROPS = CropSettings(
    global_side=224,
    local_side=96,
    local_crops=8,
    scale_min=0.05,
    scale_split=0.4,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
)
"""The crops of DINO's paper."""


def photo(seed: int, rows: int = 60, cols: int = 80) -> np.ndarray:
    """A picture with shapes and colours of its own: smooth noise, so that crops of it differ."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((cols, rows), Image.Resampling.BICUBIC))


def write_photos(folder: Path, n: int, *, labels: tuple[str, ...] = ()) -> None:
    """Write ``n`` JPEGs p00.jpg …, into sub-folders by turns where labels are given."""
    for i in range(n):
        place = folder / labels[i % len(labels)] if labels else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(i)).save(place / f"p{i:02d}.jpg", quality=95)
