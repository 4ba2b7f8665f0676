"""The looks a training run keeps: attention, masks and colours of a few pictures at some steps.

One compressed file a step. The colours of a step share one basis over all its pictures, turned to
agree with the step before, so that moving through the steps shows learning and not flicker.

Letters after a name are its axes:
    R C rows and columns of patches · H heads · P patches · K components · Y X pixels · 3 colours, RGB
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import BadInput
from engine.models.vit import VisionTransformer
from engine.seeing.attention import looking, maps_of_layers
from engine.seeing.grid import Grid
from engine.seeing.masks import KEEP, attention_mask
from engine.seeing.patches import COLOURS, as_colours, fit_basis
from engine.seeing.probe_files import ProbeLook, probe_files, read_probes
from engine.seeing.views import prepare
from engine.store import write_atomically

SIDE_LIMIT = 224
"""Longest shorter side, in pixels, at which a probe is seen: a look must cost less than a step."""
STEPS_KEPT = 40
PICTURES_KEPT = 12

Id = TypeVar("Id")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Probe:
    """A picture ready to be looked at again and again."""

    name: str
    image_1CYX: Tensor
    grid: Grid


def probe_steps(steps: int, n: int = STEPS_KEPT) -> list[int]:
    """Return at most ``n`` steps to look at, from 0 to the last, close together at the start where most changes."""
    if steps < 1:
        return [0]
    series = np.geomspace(1, steps, n - 1).round().astype(int)
    return [0, *np.unique(series).tolist()]


def choose_probes(ids: Sequence[Id], seed: int, n: int = PICTURES_KEPT) -> list[Id]:
    """Return up to ``n`` of the pictures, one from each equal part of the list, in its order.

    Lists are ordered by folder, so every large class is among them. The same seed chooses the same.
    """
    n = min(n, len(ids))
    edges = np.linspace(0, len(ids), n + 1).astype(int)
    random = np.random.default_rng(seed)
    return [ids[int(random.integers(first, last))] for first, last in pairwise(edges)]


def probe_side(global_side: int, patch: int) -> int:
    """Return the side at which probes are seen: twice that of the large crops, within limits, whole patches."""
    return max(patch, min(2 * global_side, SIDE_LIMIT) // patch * patch)


def prepare_probe(
    name: str,
    picture_YX3: NDArray[np.uint8],
    *,
    patch: int,
    side: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Probe:
    """Make a picture ready once for all steps; ``name`` is how the looks at it are found again."""
    grid = Grid.of(picture_YX3.shape[:2], patch=patch, side=side)
    return Probe(name=name, image_1CYX=prepare(picture_YX3, grid, mean, std), grid=grid)


def write_probes(folder: Path, step: int, vit: VisionTransformer, probes: Sequence[Probe]) -> Path:
    """Look at the probes and write what was seen; the file of a step is replaced.

    Args:
        folder: one for each run.
        step: steps taken.
        vit: left in the mode it is in; on any device.
        probes: the same at every step.

    Returns:
        The file, for ``read_probes``.
    """
    if not probes:
        raise ValueError("there are no probes to look at")
    looks = _look(vit, probes, _looks_before(folder, step))
    arrays: dict[str, NDArray] = {"names": np.array([look.name for look in looks], dtype=np.str_)}
    for i, (look, grid) in enumerate(zip(looks, (probe.grid for probe in probes), strict=True)):
        arrays[f"grid_{i}"] = np.array([grid.rows, grid.cols, grid.patch, *grid.resized])
        arrays[f"attention_{i}"] = look.attention_HRC
        arrays[f"mask_{i}"] = look.mask_HRC
        arrays[f"colours_{i}"] = look.colours_RC3
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.npz"
    write_atomically(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return path


def _looks_before(folder: Path, step: int) -> list[ProbeLook]:
    """Return the nearest earlier looks; none where their file is damaged, which must not end a run."""
    earlier = [path for of_step, path in probe_files(folder) if of_step < step]
    try:
        return read_probes(earlier[-1]) if earlier else []
    except BadInput:
        return []


def _look(vit: VisionTransformer, probes: Sequence[Probe], before: Sequence[ProbeLook]) -> list[ProbeLook]:
    attention = [maps_of_layers(vit, probe.image_1CYX, probe.grid, [-1])[0].maps_HRC for probe in probes]
    features = [_features(vit, probe) for probe in probes]
    basis = fit_basis(features)
    scores = [basis.project(features_RCD) for features_RCD in features]
    if [look.name for look in before] == [probe.name for probe in probes]:
        scores = _aligned(scores, [look.colours_RC3 for look in before])
    return [
        ProbeLook(
            name=probe.name,
            patch=probe.grid.patch,
            resized=probe.grid.resized,
            attention_HRC=maps_HRC.astype(np.float16),
            mask_HRC=attention_mask(maps_HRC, KEEP),
            colours_RC3=colours_RC3,
        )
        for probe, maps_HRC, colours_RC3 in zip(probes, attention, as_colours(scores), strict=True)
    ]


def _features(vit: VisionTransformer, probe: Probe) -> NDArray[np.float32]:
    with looking(vit):
        features = vit(probe.image_1CYX.to(vit.cls_token.device, vit.cls_token.dtype))
    return features.patches_BPD[0].float().cpu().numpy().reshape(features.rows, features.cols, -1)


def _aligned(scores: Sequence[NDArray], colours_before: Sequence[NDArray[np.uint8]]) -> list[NDArray]:
    """Order and sign the components so that each agrees best with its colour at the step before.

    Feature space itself turns while a network learns, so it is not the axes that are compared but
    what they say of the same patches.
    """
    now_PK = np.concatenate([scores_RC3.reshape(-1, COLOURS) for scores_RC3 in scores])
    before_PK = np.concatenate([colours_RC3.reshape(-1, COLOURS) for colours_RC3 in colours_before])
    if now_PK.shape != before_PK.shape:
        return list(scores)
    agreement_KK = _standardised(now_PK).T @ _standardised(before_PK)
    order = max(permutations(range(COLOURS)), key=lambda order: np.abs(agreement_KK[order, range(COLOURS)]).sum())
    signs_K = np.where(agreement_KK[order, range(COLOURS)] < 0, -1, 1)
    return [scores_RC3[..., order] * signs_K for scores_RC3 in scores]


def _standardised(values_PK: NDArray) -> NDArray[np.float64]:
    """Scale columns to mean 0 and deviation 1; constant ones to 0."""
    centred_PK = values_PK - values_PK.mean(axis=0, dtype=np.float64)
    deviation_K = centred_PK.std(axis=0)
    return centred_PK / np.where(deviation_K > 0, deviation_K, 1.0)
