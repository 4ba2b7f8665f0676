"""What supervised training does to a batch: mixed pictures, smoothed labels, erased boxes.

Everything random is drawn first, as a pure function of the seed, the step and a picture's place in the
batch, and touches no pixel; what is done to pixels and labels draws nothing. So a resumed run does the
same, however its batches are cut in parts. Crops and colours belong to ``crops``.

Of the recipe of DeiT this leaves out repeated augmentation, which needs a batch to hold a picture three times
and gains with batches of a thousand, and RandAugment, in whose place stands the colour jitter of ``crops``.

Letters after a name are its axes:
    B pictures · C Y X channels and pixels · K classes

Sources: Touvron et al. 2021 (DeiT) tab. 9; Zhang et al. 2018 (mixup) eq. 1; Yun et al. 2019 (CutMix) §3.1;
Szegedy et al. 2016 §7 (label smoothing); Zhong et al. 2020 (random erasing) alg. 1; of what these leave open,
the boxes and the pairs, the choices of timm ``data/mixup.py`` and ``data/random_erasing.py``, which DeiT uses.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.special import betaincinv, ndtri
from torch import Tensor

from engine.training.draws import uniforms

BEYOND_PICTURES = 2**63
"""Draws are made for a sample's number; no picture has one so high, so that no crop is drawn from the same numbers."""
MIX_DRAWS = 4
SWITCH_SHARE = 0.5
"""Share of steps that paste boxes where both kinds of mixing are on; DeiT main.py --mixup-switch-prob."""
ERASED_AREA = (0.02, 1 / 3)
"""Share of a picture that an erased box covers; Zhong et al. §4: 0.02 to 0.4, timm: a third at most."""
ERASED_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))
"""Logarithm of the height of an erased box over its width; Zhong et al. §4."""
TRIES = 10
"""Boxes tried before a picture is left whole; timm."""
ERASING_DRAWS = 3 + 2 * TRIES
LEAST = 2.0**-54
"""Half of the smallest uniform number above 0; it stands for 0, whose normal number is infinite."""


class Box(NamedTuple):
    """A rectangle of a picture, in whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """Pixels in it."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Mix:
    """How each picture of a batch is mixed with its partner, and what share of itself it keeps."""

    kept: float
    box: Box | None = None
    """What is pasted from the partner; None where whole pictures are blended."""


UNMIXED = Mix(1.0)


def draw_mix(mixup: float, cutmix: float, *, rows: int, cols: int, seed: int, step: int) -> Mix:
    """Draw how the pictures of a step are mixed: one share for all, as DeiT does.

    Args:
        mixup: both parameters of the beta distribution of the share where pictures are blended; 0 blends none.
        cutmix: the same where boxes are pasted; 0 pastes none.
        rows: height of the pictures, px.
        cols: their width, px.
        seed: the run's.
        step: counts the batches.
    """
    switch, share, down, right = uniforms(1, MIX_DRAWS, seed=seed, epoch=step, sample=BEYOND_PICTURES)[0].tolist()
    pastes = cutmix > 0 and (mixup == 0 or switch < SWITCH_SHARE)
    strength = cutmix if pastes else mixup
    if strength == 0:
        return UNMIXED
    kept = float(betaincinv(strength, strength, share))
    if not pastes:
        return Mix(kept)
    box = _pasted_box(1 - kept, down, right, rows, cols)
    # The box is cut at the picture's edges; the labels follow what is really pasted.
    return Mix(1 - box.area / (rows * cols), box)


def _pasted_box(share: float, down: float, right: float, rows: int, cols: int) -> Box:
    """Return the part, within a picture, of a box of some share of it around a point anywhere in it."""
    height, width = int(rows * math.sqrt(share)), int(cols * math.sqrt(share))
    top, left = int(down * rows) - height // 2, int(right * cols) - width // 2
    first_row, first_col = max(top, 0), max(left, 0)
    return Box(first_row, first_col, min(top + height, rows) - first_row, min(left + width, cols) - first_col)


def mixed(pictures_BCYX: Tensor, mix: Mix) -> Tensor:
    """Return each picture mixed with its partner: the first with the last, the second with the last but one."""
    if mix.kept == 1:
        return pictures_BCYX
    if mix.box is None:
        return pictures_BCYX * mix.kept + pictures_BCYX.flip(0) * (1 - mix.kept)
    pasted_BCYX = pictures_BCYX.clone()
    rows, cols = _slices(mix.box)
    pasted_BCYX[:, :, rows, cols] = pictures_BCYX.flip(0)[:, :, rows, cols]
    return pasted_BCYX


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)


def targets(labels_B: Tensor, n_classes: int, *, smoothing: float = 0.0, mix: Mix = UNMIXED) -> Tensor:
    """Return what the classifier is to answer: probabilities (B, K), float32.

    Args:
        labels_B: the class of each picture, long.
        n_classes: K.
        smoothing: share of every answer that is spread evenly over all classes.
        mix: how the pictures were mixed; their labels are mixed alike.
    """
    exact_BK = F.one_hot(labels_B, n_classes).float()
    smooth_BK = exact_BK * (1 - smoothing) + smoothing / n_classes
    return smooth_BK * mix.kept + smooth_BK.flip(0) * (1 - mix.kept)


def soft_cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the mean cross-entropy of a classifier's answers with probabilities; a scalar, float32."""
    return -(targets_BK * F.log_softmax(logits_BK.float(), dim=-1)).sum(dim=-1).mean()


def draw_erasings(
    share: float, n_pictures: int, *, rows: int, cols: int, seed: int, step: int, first: int = 0
) -> list[Box | None]:
    """Draw which pictures of a step lose a box, and which one; None for those left whole.

    Args:
        share: of the pictures.
        n_pictures: B.
        rows: height of the pictures, px.
        cols: their width, px.
        seed: the run's.
        step: counts the batches.
        first: place in the whole batch of the first of these pictures.
    """
    samples = range(first, first + n_pictures)
    return [_draw_erasing(share, rows, cols, seed=seed, step=step, place=place) for place in samples]


def _draw_erasing(share: float, rows: int, cols: int, *, seed: int, step: int, place: int) -> Box | None:
    if share == 0:
        return None
    sample = _erasing_sample(place)
    loses, down, right, *tries = uniforms(1, ERASING_DRAWS, seed=seed, epoch=step, sample=sample)[0].tolist()
    if loses >= share:
        return None
    for area, aspect in zip(tries[::2], tries[1::2], strict=True):
        pixels = rows * cols * _between(ERASED_AREA, area)
        ratio = math.exp(_between(ERASED_LOG_ASPECT, aspect))
        height, width = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < height < rows and 0 < width < cols:
            return Box(int(down * (rows - height + 1)), int(right * (cols - width + 1)), height, width)
    return None


def _erasing_sample(place: int) -> int:
    """Return the number that a picture's box is drawn from; its noise is drawn from the next."""
    return BEYOND_PICTURES + 1 + 2 * place


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def erased(pictures_BCYX: Tensor, boxes: list[Box | None], *, seed: int, step: int, first: int = 0) -> Tensor:
    """Return normalised pictures with normal noise of deviation 1 in their boxes.

    Args:
        pictures_BCYX: mean and deviation of the colours taken out, so that the noise looks like any pixel.
        boxes: of ``draw_erasings``, which had the same ``seed``, ``step`` and ``first``.
        seed: the run's.
        step: counts the batches.
        first: place in the whole batch of the first of these pictures.
    """
    if not any(boxes):
        return pictures_BCYX
    erased_BCYX = pictures_BCYX.clone()
    channels = pictures_BCYX.shape[1]
    for number, box in enumerate(boxes):
        if box is not None:
            noise_CYX = _noise(channels, box, seed=seed, step=step, place=first + number)
            rows, cols = _slices(box)
            erased_BCYX[number, :, rows, cols] = noise_CYX.to(erased_BCYX)
    return erased_BCYX


def _noise(channels: int, box: Box, *, seed: int, step: int, place: int) -> Tensor:
    draws = uniforms(channels * box.height, box.width, seed=seed, epoch=step, sample=_erasing_sample(place) + 1)
    return torch.from_numpy(ndtri(draws.clip(min=LEAST))).view(channels, box.height, box.width)
