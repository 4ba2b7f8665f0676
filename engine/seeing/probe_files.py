"""The looks a training run keeps, as files: what they hold and how to read them. Knows no torch; see ``probes``.

Letters after a name are its axes:
    R C rows and columns of patches · H heads · 3 colours, RGB
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadInput
from engine.store import PARSING


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ProbeLook:
    """What a network saw in one picture at one step.

    ``attention_HRC`` is float16, CLS to patches in the last layer; ``mask_HRC`` bool, the patches
    that hold 60 % of it; ``colours_RC3`` uint8 RGB. The picture was resized to ``resized`` pixels
    (height, width), and its patches of ``patch`` pixels begin at the top left.
    """

    name: str
    patch: int
    resized: tuple[int, int]
    attention_HRC: NDArray[np.float16]
    mask_HRC: NDArray[np.bool_]
    colours_RC3: NDArray[np.uint8]

    @property
    def mean(self) -> NDArray[np.float32]:
        """Attention, mean over the heads."""
        return np.asarray(self.attention_HRC.mean(axis=0, dtype=np.float32))

    @property
    def seen(self) -> tuple[float, float]:
        """Share of the picture's height and width that its whole patches cover."""
        rows, cols = self.colours_RC3.shape[:2]
        return rows * self.patch / self.resized[0], cols * self.patch / self.resized[1]


def probe_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the steps looked at so far with their files, first to last."""
    steps = {path.stem.removeprefix("step-"): path for path in folder.glob("step-*.npz")}
    return sorted((int(step), path) for step, path in steps.items() if step.isdecimal())


def read_probes(path: Path) -> list[ProbeLook]:
    """Return what was seen at one step, in the order of the probes.

    Raises:
        BadInput: the file cannot be read or holds something else.
    """
    try:
        with PARSING, path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [_read_look(arrays, i, str(name)) for i, name in enumerate(arrays["names"])]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        raise BadInput(
            f"'{path}' holds no probes: {problem}.", "Delete the file; the next look writes a new one."
        ) from problem


def _read_look(arrays: np.lib.npyio.NpzFile, i: int, name: str) -> ProbeLook:
    _rows, _cols, patch, height, width = arrays[f"grid_{i}"].tolist()
    return ProbeLook(
        name=name,
        patch=patch,
        resized=(height, width),
        attention_HRC=arrays[f"attention_{i}"],
        mask_HRC=arrays[f"mask_{i}"],
        colours_RC3=arrays[f"colours_{i}"],
    )
