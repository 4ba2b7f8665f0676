"""How good a backbone is on labelled pictures: k-NN and linear accuracy by the papers' protocol.

Test pictures (else validation pictures) are asked about and the training pictures known; where folders give no splits
every tenth is asked about. What the commands that measure have in common, on all pictures and not on a sample as the
gauge of a run has it. Labels are for measuring only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import BadInput, Stopped, UnreadablePicture
from engine.images import open_rgb
from engine.measuring.knn import knn_accuracy
from engine.measuring.linear import FOLD, FrozenFeatures, linear_accuracy, linear_features
from engine.models.weights import Backbone, load_backbone
from engine.project import Picture
from engine.run_files import plan_of
from engine.seeing.views import central, normalise, side_to_decode

DECODERS = 2
"""Threads that decode the next batch while one is seen."""
BATCH_PIXELS = 64 * 224 * 224
MOST_OF_A_BATCH = 256
LEAST_CLASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a backbone reaches, in shares from 0 to 1, and how it was measured.

    ``knn`` is of the weighted 20-NN classifier on [CLS]; ``linear`` of the best linear head, chosen on pictures that
    are not asked about; ``rate``, ``blocks`` and ``pool`` say which that was; ``by_class`` is its accuracy on each
    class that was asked about.
    """

    knn: float
    linear: float
    rate: float
    blocks: int
    pool: bool
    by_class: dict[str, float]
    known: int
    asked: int
    side: int


@dataclass(frozen=True, slots=True)
class Division:
    """Labelled pictures: to learn from, to choose a head by (none: a part of the known), and to ask about."""

    known: list[Picture]
    validation: list[Picture]
    asked: list[Picture]


def divided(pictures: Sequence[Picture], seed: int = 0) -> Division | None:
    """Return who is known and who is asked about; None where labels or pictures do not suffice.

    Args:
        pictures: those without a label are left out.
        seed: of the choice of every tenth, where there are no splits.
    """
    labelled = [picture for picture in pictures if picture.label is not None]
    by_split = {split: [p for p in labelled if p.split == split] for split in ("train", "val", "test", None)}
    known, validation, asked = by_split["train"] + by_split[None], by_split["val"], by_split["test"]
    if not asked:
        validation, asked = [], validation
    if not asked:
        order = np.random.default_rng(seed).permutation(len(labelled))
        is_asked = np.isin(np.arange(len(labelled)), order[::FOLD])
        asked = [picture for picture, is_one in zip(labelled, is_asked, strict=True) if is_one]
        known = [picture for picture, is_one in zip(labelled, is_asked, strict=True) if not is_one]
    if len({picture.label for picture in known}) < LEAST_CLASSES or not asked:
        return None
    return Division(known, validation, asked)


def score_run(run: Path, root: Path, division: Division, device: str, should_stop: Callable[[], bool]) -> Scores:
    """Return how good a run's teacher is, at the side of the run's large crops.

    Args:
        run: its folder.
        root: folder of the pictures.
        division: of the labelled pictures.
        device: where to compute.
        should_stop: asked between batches.

    Raises:
        BadInput, BadWeights: the run's backbone or too many of the pictures cannot be read.
        Stopped: it should stop.
    """
    plan = plan_of(run)
    return score(load_backbone(str(run)), plan.crops.global_side, root, division, device, should_stop)


def score(
    backbone: Backbone,
    side: int,
    root: Path,
    division: Division,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    seed: int = 0,
) -> Scores:
    """Return how good a backbone is; as ``score_run``, with the side in pixels and the seed of the linear heads."""

    def seen(pictures: Sequence[Picture]) -> tuple[FrozenFeatures, Tensor]:
        features, read = frozen_features(backbone, side, root, pictures, device, should_stop)
        return features, torch.tensor([places.get(picture.label or "", -1) for picture in read], device=device)

    classes = sorted({picture.label or "" for picture in division.known})
    places = {label: place for place, label in enumerate(classes)}
    known, known_labels_N = seen(division.known)
    asked, asked_labels_Q = seen(division.asked)
    chosen_by = [picture for picture in division.validation if picture.label in places]
    found = linear_accuracy(
        known, known_labels_N, asked, asked_labels_Q, validation=seen(chosen_by) if chosen_by else None, seed=seed
    )
    return Scores(
        knn=knn_accuracy(asked.cls_NLD[:, -1], asked_labels_Q, known.cls_NLD[:, -1], known_labels_N),
        linear=found.accuracy,
        rate=found.rate,
        blocks=found.blocks,
        pool=found.pool,
        by_class={
            label: share
            for label, share in zip(classes, found.by_class_C.tolist(), strict=False)  # the last may not be readable
            if not math.isnan(share)
        },
        known=len(known),
        asked=len(asked),
        side=side,
    )


def frozen_features(
    backbone: Backbone,
    side: int,
    root: Path,
    pictures: Sequence[Picture],
    device: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[FrozenFeatures, list[Picture]]:
    """Return what linear heads see of pictures by the papers' protocol, and which of them could be read.

    The shorter side is brought to 256 / 224 of ``side`` and the central square of ``side`` px seen, in float32.

    Raises:
        BadInput: none of them can be read.
        Stopped: it should stop.
    """
    backbone.model.to(device).eval()
    parts: list[FrozenFeatures] = []
    read: list[Picture] = []
    for batch in _decoded(root, pictures, side):
        if should_stop():
            raise Stopped
        if batch:
            pictures_BYXC = torch.from_numpy(np.stack([pixels for _, pixels in batch])).to(device)
            parts.append(linear_features(backbone.model, normalise(pictures_BYXC, backbone.mean, backbone.std)))
            read += [picture for picture, _ in batch]
    if not parts:
        raise BadInput(f"None of the {len(pictures):,} labelled pictures can be read.", "See engine scan FOLDER.")
    return FrozenFeatures.joined(parts), read


def _decoded(root: Path, pictures: Sequence[Picture], side: int) -> Iterator[list[tuple[Picture, NDArray[np.uint8]]]]:
    """Yield central squares, (side, side, 3), in batches; the next batch is decoded while one is looked at."""

    def decode(picture: Picture) -> tuple[Picture, NDArray[np.uint8]] | None:
        try:
            return picture, central(open_rgb(root / picture.path, at_least=side_to_decode("crop", side)), side)
        except UnreadablePicture:
            return None  # the scan names it

    length = max(1, min(MOST_OF_A_BATCH, BATCH_PIXELS // side**2))
    with ThreadPoolExecutor(DECODERS, "decode") as threads:

        def submitted(first: int) -> list[Future[tuple[Picture, NDArray[np.uint8]] | None]]:
            return [threads.submit(decode, picture) for picture in pictures[first : first + length]]

        coming = submitted(0)
        for first in range(length, len(pictures) + length, length):
            waiting, coming = coming, submitted(first)
            yield [one for future in waiting if (one := future.result()) is not None]
