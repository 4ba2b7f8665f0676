"""How good the features are while a run goes on: k-NN where folders give labels, steadiness of neighbours where not.

Labels are for measuring only; nothing learns from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import UnreadablePicture
from engine.images import open_rgb
from engine.measuring.knn import NEIGHBOURS, knn_accuracy, nearest
from engine.project import Picture
from engine.seeing.views import RESIZE, central, normalise

MOST_KNOWN, MOST_ASKED = 4096, 1024  # a measurement must cost less than an epoch
BATCH = 64
FOLD = 10  # without a test split every tenth picture is asked about


See = Callable[[Tensor], Tensor]
"""From uint8 pictures (B, Y, X, 3) to float32 features (B, D)."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """Pictures to measure with, cropped and in memory: those with known labels, and those asked about."""

    known_BYXC: Tensor
    asked_BYXC: Tensor
    known_labels: Tensor | None
    asked_labels: Tensor | None

    def measure(self, see: See, before: Tensor | None) -> tuple[dict[str, float], Tensor]:
        """Return the scores of what ``see`` makes of pictures, and the neighbours to compare the next ones with.

        ``knn`` is the accuracy of the weighted 20-NN classifier on [CLS]; ``neighbours_kept`` the share of each
        asked picture's neighbours that it also had in the measurement before.
        """
        known_ND, asked_QD = see(self.known_BYXC), see(self.asked_BYXC)
        _, neighbours_Qk = nearest(asked_QD, known_ND, NEIGHBOURS)
        scores = {}
        if self.known_labels is not None and self.asked_labels is not None:
            scores["knn"] = knn_accuracy(asked_QD, self.asked_labels, known_ND, self.known_labels)
        if before is not None:
            kept = (neighbours_Qk.unsqueeze(2) == before.unsqueeze(1)).any(dim=2)
            scores["neighbours_kept"] = kept.float().mean().item()
        return scores, neighbours_Qk


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

    With a test (or validation) split, its pictures are asked about and those of the train split are known;
    without, every tenth is asked about.
    """
    labelled = [p for p in pictures if p.label is not None] or list(pictures)
    tests = [p for p in labelled if p.split == "test"] or [p for p in labelled if p.split == "val"]
    if tests:
        known = [p for p in labelled if p.split in ("train", None)]
    else:
        order = np.random.default_rng(seed).permutation(len(labelled))
        tests = [labelled[i] for i in sorted(order[::FOLD])]
        chosen = {p.path for p in tests}
        known = [p for p in labelled if p.path not in chosen]
    known, tests = _some(known, MOST_KNOWN, seed), _some(tests, MOST_ASKED, seed)
    known_pictures, known = _read(root, known, side)
    asked_pictures, tests = _read(root, tests, side)
    if len(known) < 2 or not tests:
        return None
    classes = tuple(sorted({p.label for p in known if p.label is not None}))
    return Gauge(known_pictures, asked_pictures, _labels(known, classes), _labels(tests, classes))


def _some(pictures: list[Picture], most: int, seed: int) -> list[Picture]:
    if len(pictures) <= most:
        return pictures
    return [pictures[i] for i in sorted(np.random.default_rng(seed).permutation(len(pictures))[:most])]


def _labels(pictures: Sequence[Picture], classes: Sequence[str]) -> Tensor | None:
    """Return the place of each picture's label among the classes, -1 for one that is not known: it is never right."""
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
