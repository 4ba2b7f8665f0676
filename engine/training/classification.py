"""What a run that learns classes leaves: the classifier, and how well it answers for pictures held out from it.

    classifier.safetensors     weight (K, F), bias (K), and in the metadata the classes and what F features it takes
    classification.json        the figures, the matrix, what was asked
    classification.csv         a row a class
    confusion.png              the matrix, drawn

Letters after a name are its axes:
    B pictures · Y X C pixels and colours · K classes · N pictures asked about · F features
"""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import UnreadablePicture
from engine.measuring.confusion import Confusion, confusion
from engine.models.tensor_files import read_contents, write_tensors
from engine.provenance import Provenance
from engine.seeing.drawing import write_png
from engine.seeing.views import RESIZE, central
from engine.store import write_atomically
from engine.training.classes import HeldOut, held_out
from engine.training.confusion_chart import confusion_chart
from engine.training.pictures import PictureList, Pixels

CLASSIFIER = "classifier.safetensors"
FIGURES, TABLE, CHART = "classification.json", "classification.csv", "confusion.png"
DESCRIPTION = "dinoviz-classifier"
"""Key of the metadata under which the classes stand, as JSON."""
BATCH = 64
MOST_ASKED = 1024
"""Held-out pictures asked about while a run goes on: it must cost less than an epoch."""
MOST_MISTAKES = 3
SPLITS_IN_WORDS = {"val": "validation", "test": "test"}

Judge = Callable[[Tensor], Tensor]
"""From uint8 pictures (B, Y, X, C) to the scores of each class (B, K), float32, on the CPU."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a run's classifier answered at its end, about which held-out pictures, and where it is written."""

    found: Confusion
    split: str
    files: list[Path]


def examine(
    judge: Judge, folder: Path, pixels: Pixels, split: HeldOut, classes: tuple[str, ...], side: int, most: int = 0
) -> Confusion:
    """Ask a classifier about the pictures held out from a run, by the central square of each.

    Args:
        judge: the classifier.
        folder: of the run.
        pixels: of the same folder of pictures.
        split: which of the held-out ones.
        classes: names.
        side: of the square, px.
        most: pictures asked about, spread over all; 0 for all. Unreadable ones are left out.
    """
    pictures = PictureList(held_out(folder, split))
    assert pictures.labels_N is not None, "held-out pictures have labels"
    pixels = pixels.beside(pictures)
    places = np.linspace(0, len(pixels) - 1, min(most or len(pixels), len(pixels))).round().astype(int).tolist()
    scores, truth = [torch.zeros(0, len(classes))], []
    for first in range(0, len(places), BATCH):
        crops = []
        for index in places[first : first + BATCH]:
            with contextlib.suppress(UnreadablePicture):  # the scan names it
                crops.append(central(pixels.read(index, at_least=round(side * RESIZE)), side))
                truth.append(int(pictures.labels_N[index]))
        if crops:
            scores.append(judge(torch.from_numpy(np.stack(crops))))
    return confusion(torch.cat(scores), torch.tensor(truth, dtype=torch.int64), classes)


def write_figures(folder: Path, found: Confusion, split: str, about: Provenance) -> list[Path]:
    """Write how well a classifier answers, as JSON, CSV and a picture; return the files.

    Args:
        folder: of the run.
        found: what was taken for what.
        split: which held-out pictures were asked about, in words.
        about: where it comes from; kept in the JSON and the picture.
    """
    content = {
        "asked": split,
        "pictures": found.pictures,
        **found.scores(),
        "mean_recall": found.mean_recall,
        "classes": [_without_nan(asdict(figures)) for figures in found.classes()],
        "confusion": found.counts_KK.tolist(),
        "about": about,
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(folder / FIGURES, lambda file: file.write(text.encode()))
    table = io.StringIO(newline="")
    rows = csv.DictWriter(table, ["name", "pictures", "answered", "precision", "recall", "f1"])
    rows.writeheader()
    rows.writerows(_without_nan(asdict(figures)) for figures in found.classes())
    write_atomically(folder / TABLE, lambda file: file.write(table.getvalue().encode()))
    title = f"{found.accuracy:.1%} of {found.pictures:,} {split} pictures named right"
    write_png(folder / CHART, confusion_chart(found, title), about)
    return [folder / name for name in (FIGURES, TABLE, CHART)]


def _without_nan(figures: Mapping[str, object]) -> dict[str, object]:
    return {name: None if value != value else value for name, value in figures.items()}


def figures_in_words(found: Confusion, split: str) -> list[str]:
    """Return the figures as lines for a person: all classes together, the worst, the commonest mistakes."""
    scores = found.scores()
    lines = [f"accuracy on {found.pictures:,} {split} pictures: {found.accuracy:.3f}"]
    if "top5" in scores:
        lines[0] += f", {scores['top5']:.3f} among the first five answers"
    lines[0] += f" (always the largest class: {found.largest_share:.3f})"
    missed = [figures for figures in found.classes() if figures.pictures and figures.recall < 1]
    if worst := sorted(missed, key=lambda figures: figures.recall)[:MOST_MISTAKES]:
        lines.append("found least often: " + ", ".join(f"{f.name} {f.recall:.0%} of {f.pictures}" for f in worst))
    if mistakes := found.mistakes(MOST_MISTAKES):
        taken = ", ".join(f"{truth} for {answer} ({count})" for truth, answer, count in mistakes)
        lines.append(f"taken for another most often: {taken}")
    return lines


def write_classifier(path: Path, weight_KF: Tensor, bias_K: Tensor, about: Mapping[str, object]) -> None:
    """Write a linear classifier.

    Args:
        path: a .safetensors file.
        weight_KF: of each class.
        bias_K: of each class.
        about: ``classes``, names in order; ``features``, what of a backbone it takes: 'cls' or 'cls+mean'; ``side``, of
            the pictures it was trained on, px.
    """
    tensors = {"weight": weight_KF.detach().cpu().float(), "bias": bias_K.detach().cpu().float()}
    metadata = {"format": "pt", DESCRIPTION: json.dumps(dict(about))}
    write_atomically(path, lambda file: write_tensors(file, tensors, metadata))


def read_classifier(path: Path) -> tuple[Tensor, Tensor, dict[str, object]]:
    """Return weight (K, F), bias (K) and what `write_classifier` was told of them."""
    file = read_contents(path)
    tensors = file.read(("weight", "bias"))
    return tensors["weight"], tensors["bias"], json.loads(file.metadata[DESCRIPTION])
