"""What a run saw in its probe pictures over its steps, read and made ready for painting.

A film is read in the background, all at once: some forty small files. The overlay of a picture at a step is made when
it is first painted, and kept.

Letters after a name are its axes:
    R C rows and columns of patches · Y X pixels · 3 colours, RGB
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PySide6.QtGui import QImage

from dinoviz.widgets.picture.overlays import attention_mask, heat_image, image_of_rgb, rgb_image, shade_image, smoothed
from engine.errors import BadInput, UnreadablePicture
from engine.images import open_rgb
from engine.seeing.probe_files import ProbeLook, probe_files, read_probes

Kind = Literal["attention", "mask", "colours"]

PICTURE_PX = 320
"""Shorter side of the pictures kept, for tiles at twice the pixels."""
SMOOTH_PX = 112
HEAT_OPACITY, MASK_OPACITY, COLOURS_OPACITY = 0.9, 0.62, 1.0
KEEP = 0.6
"""Share of the attention that a mask holds; DINO fig. 4."""


@dataclass(eq=False, slots=True)
class ProbeFilm:
    """The looks of one run.

    Args:
        run: its folder.
        number: of the run.
        steps: that were looked at, first to last.
        looks: of each step, in the order of the probes.
        pictures: by name; one that is gone is not there.
    """

    run: Path
    number: int
    steps: list[int]
    looks: dict[int, list[ProbeLook]]
    pictures: Mapping[str, QImage]
    _overlays: dict[tuple[Kind, int, int], QImage] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the probes, which are paths of pictures."""
        return [look.name for look in self.looks[self.steps[0]]] if self.steps else []

    @property
    def n_heads(self) -> int:
        """Heads of the last layer."""
        return len(self.looks[self.steps[0]][0].attention_HRC) if self.steps else 0

    def step_at(self, share: float) -> int:
        """Return the looked-at step at a share of the film; they are dense at the start, where most changes."""
        return self.steps[round(share * (len(self.steps) - 1))]

    def overlay(self, kind: Kind, step: int, probe: int) -> QImage:
        """Return what lies over a picture at a step."""
        key = (kind, step, probe)
        if key not in self._overlays:
            self._overlays[key] = _drawn(kind, self.looks[step][probe])
        return self._overlays[key]


def _drawn(kind: Kind, look: ProbeLook) -> QImage:
    match kind:
        case "attention":
            return heat_image(smoothed(look.mean, SMOOTH_PX), opacity=HEAT_OPACITY, is_veiled=False)
        case "mask":
            mask_RC = attention_mask(look.mean.reshape(1, -1), KEEP).reshape(look.mean.shape)
            return shade_image(mask_RC, MASK_OPACITY)
        case "colours":
            return rgb_image(look.colours_RC3, opacity=COLOURS_OPACITY, blank_is_clear=False)


def read_film(run: Path, number: int, pictures_folder: Path, known: "ProbeFilm | None" = None) -> ProbeFilm:
    """Return the film of a run as far as it is; what ``known`` has read already is not read again."""
    same = known is not None and known.run == run
    looks = dict(known.looks) if known is not None and same else {}
    steps = []
    for step, path in probe_files(run / "probes"):
        if step not in looks:
            try:
                looks[step] = read_probes(path)
            except BadInput:  # being replaced, or damaged: the others are shown
                continue
        steps.append(step)
    first = looks[steps[0]] if steps else []
    steps = [step for step in steps if [look.name for look in looks[step]] == [look.name for look in first]]
    pictures = dict(known.pictures) if known is not None and same else {}
    for look in first:
        if look.name not in pictures and (image := _picture(pictures_folder / look.name)) is not None:
            pictures[look.name] = image
    made = ProbeFilm(run=run, number=number, steps=steps, looks=looks, pictures=pictures)
    if known is not None and same:
        made._overlays = known._overlays
    return made


def _picture(path: Path) -> QImage | None:
    """Return a picture as small as it is shown; None where it cannot be read any more."""
    try:
        picture_YX3 = open_rgb(path, at_least=PICTURE_PX)
    except UnreadablePicture:
        return None
    rows, cols = picture_YX3.shape[:2]
    scale = min(1.0, PICTURE_PX / min(rows, cols))
    size = max(1, round(cols * scale)), max(1, round(rows * scale))
    return image_of_rgb(np.asarray(Image.fromarray(picture_YX3).resize(size, Image.Resampling.BOX)))
