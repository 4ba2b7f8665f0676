"""How good the features are while a run goes on: k-NN where folders give labels, steadiness of neighbours where not.

Labels are for measuring only; nothing learns from them.

Letters after a name are its axes:
    N pictures · Q those asked about · K those with known labels · k neighbours · D width · Y X C pixels and channels
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import UnreadablePicture
from engine.images import open_rgb
from engine.measuring.knn import NEIGHBOURS, knn_accuracy, leave_one_out_accuracy, nearest
from engine.project import Picture
from engine.seeing.views import RESIZE, central, normalise
from engine.training.guard import Reading
from engine.training.losses import effective_rank

MOST_KNOWN, MOST_ASKED = 4096, 1024  # a measurement must cost less than an epoch
BATCH = 64
FOLD = 10  # of many pictures without a test split every tenth is asked about
MOST_NEAR = 4  # a neighbour is among the nearest quarter of all


See = Callable[[Tensor], Tensor]
"""From uint8 pictures (B, Y, X, 3) to float32 features (B, D)."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a measurement saw: numbers to tell, and what later ones are compared with.

    Attributes:
        reading: of the features as a whole, beside those of step 0.
        neighbours_Qk: int64, places of the nearest known pictures of each asked one, nearest first.
    """

    reading: Reading
    neighbours_Qk: Tensor

    def scores(self, before: "Look | None") -> dict[str, float]:
        """Return what is told of a measurement.

        ``knn`` is the accuracy of the weighted 20-NN classifier on [CLS]; ``neighbours_kept`` the share of each asked
        picture's neighbours that it also had in the measurement before.
        """
        scores = {"knn": self.reading.knn} if self.reading.n_asked else {}
        if before is not None:
            scores["neighbours_kept"] = _kept(self.neighbours_Qk, before.neighbours_Qk)
        return scores


@dataclass(frozen=True, slots=True)
class Gauge:
    """Pictures to measure with, cropped and in memory: those with known labels, and those asked about.

    Attributes:
        pictures_NYXC: uint8.
        known_K: places of those that others are compared with.
        asked_Q: places of those asked about; all known ones where the pictures are few and none is set aside for tests,
            and then each is compared with the others.
        labels_N: int64, -1 for a label that no known picture has: it is never right; None without labels.
    """

    pictures_NYXC: Tensor
    known_K: Tensor
    asked_Q: Tensor
    labels_N: Tensor | None

    def measure(self, see: See, start_Qk: Tensor | None = None) -> Look:
        """Measure what ``see`` makes of the pictures; ``start_Qk`` are the neighbours of step 0, None at that step."""
        features_ND = see(self.pictures_NYXC)
        neighbours_Qk = self._neighbours(features_ND)
        reading = Reading(
            n_pictures=len(features_ND),
            n_asked=0 if self.labels_N is None else len(self.asked_Q),
            knn=self._accuracy(features_ND),
            effective_rank=effective_rank(F.normalize(features_ND, dim=-1)).item(),
            neighbours_of_start=1.0 if start_Qk is None else self._beyond_chance(_kept(neighbours_Qk, start_Qk)),
        )
        return Look(reading, neighbours_Qk)

    @property
    def _is_among_known(self) -> bool:
        return torch.equal(self.asked_Q, self.known_K)

    @property
    def _others(self) -> int:
        """How many known pictures an asked one is compared with."""
        return len(self.known_K) - self._is_among_known

    @property
    def _near(self) -> int:
        return min(NEIGHBOURS, math.ceil(self._others / MOST_NEAR))

    def _neighbours(self, features_ND: Tensor) -> Tensor:
        asked_QD, known_KD = features_ND[self.asked_Q], features_ND[self.known_K]
        if not self._is_among_known:
            return nearest(asked_QD, known_KD, self._near)[1]
        _, index_Qk = nearest(asked_QD, known_KD, self._near + 1)
        # Without the picture itself, wherever copies put it; the farthest goes where it is not found.
        is_itself_Qk = index_Qk == torch.arange(len(index_Qk)).unsqueeze(1)
        return index_Qk.gather(1, is_itself_Qk.int().argsort(dim=1, stable=True))[:, :-1]

    def _accuracy(self, features_ND: Tensor) -> float:
        if self.labels_N is None:
            return 0.0
        known_KD, labels_K = features_ND[self.known_K], self.labels_N[self.known_K]
        if self._is_among_known:
            return leave_one_out_accuracy(known_KD, labels_K, torch.arange(len(known_KD)))
        return knn_accuracy(features_ND[self.asked_Q], self.labels_N[self.asked_Q], known_KD, labels_K)

    def _beyond_chance(self, kept: float) -> float:
        """Return a share of kept neighbours with 0 for as many as two random choices have in common."""
        by_chance = self._near / self._others
        return max(0.0, (kept - by_chance) / (1.0 - by_chance)) if by_chance < 1.0 else kept


def _kept(neighbours_Qk: Tensor, before_Qk: Tensor) -> float:
    """Return the share of neighbours that are also among those before."""
    return (neighbours_Qk.unsqueeze(2) == before_Qk.unsqueeze(1)).any(dim=2).float().mean().item()


@torch.no_grad()
def features(backbone: nn.Module, pictures_BYXC: Tensor, device: torch.device) -> Tensor:
    """Return the [CLS] of uint8 pictures, (B, D), float32, on the CPU; the backbone keeps its mode."""
    was_training = backbone.training
    backbone.eval()
    found = [backbone(normalise(part.to(device))).cls_BD.float().cpu() for part in pictures_BYXC.split(BATCH)]
    backbone.train(was_training)
    return torch.cat(found)


def make_gauge(root: Path, pictures: Sequence[Picture], side: int, seed: int) -> Gauge | None:
    """Choose and read the pictures to measure with; None when there are too few.

    With a test (or validation) split, its pictures are asked about and those of the train split are known. Without,
    each is asked about beside all others, or every tenth of more than `MOST_ASKED`.
    """
    labelled = [p for p in pictures if p.label is not None] or list(pictures)
    known, asked = _roles(labelled, seed)
    known_NYXC, known = _read(root, _some(known, MOST_KNOWN, seed), side)
    if not asked:
        if len(known) < MOST_NEAR:
            return None
        places = torch.arange(len(known))
        return Gauge(known_NYXC, places, places, _labels(known, known))
    asked_NYXC, asked = _read(root, _some(asked, MOST_ASKED, seed), side)
    if len(known) < 2 or not asked:
        return None
    return Gauge(
        torch.cat([known_NYXC, asked_NYXC]),
        torch.arange(len(known)),
        torch.arange(len(known), len(known) + len(asked)),
        _labels(known, [*known, *asked]),
    )


def _roles(pictures: list[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Return the known pictures and those asked about; none of these where the known are asked about themselves."""
    asked = [p for p in pictures if p.split == "test"] or [p for p in pictures if p.split == "val"]
    if asked:
        return [p for p in pictures if p.split in ("train", None)], asked
    if len(pictures) <= MOST_ASKED:
        return pictures, []
    order = np.random.default_rng(seed).permutation(len(pictures))
    chosen = set(order[::FOLD].tolist())
    return (
        [p for i, p in enumerate(pictures) if i not in chosen],
        [p for i, p in enumerate(pictures) if i in chosen],
    )


def _some(pictures: list[Picture], most: int, seed: int) -> list[Picture]:
    if len(pictures) <= most:
        return pictures
    return [pictures[i] for i in sorted(np.random.default_rng(seed).permutation(len(pictures))[:most])]


def _labels(known: Sequence[Picture], pictures: Sequence[Picture]) -> Tensor | None:
    """Return the place of each picture's label among the classes of the known, -1 for one that is not there."""
    classes = sorted({p.label for p in known if p.label is not None})
    if not classes:
        return None
    places = {label: i for i, label in enumerate(classes)}
    return torch.tensor([places.get(p.label or "", -1) for p in pictures])


def _read(root: Path, pictures: Sequence[Picture], side: int) -> tuple[Tensor, list[Picture]]:
    crops, read = [], []
    for picture in pictures:
        try:
            crops.append(central(open_rgb(root / picture.path, at_least=round(side * RESIZE)), side))
        except UnreadablePicture:
            continue  # the scan or the run names it
        read.append(picture)
    stacked = np.stack(crops) if crops else np.zeros((0, side, side, 3), np.uint8)
    return torch.from_numpy(stacked), read
