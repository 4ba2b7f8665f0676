"""Labelled pictures for supervised training: which are learnt from, which are held out, and their classes.

A run's folder keeps them beside its pictures, fixed when the run starts:

    pictures.labels.npy    the class of each picture of the run, int32, in their order
    held-out/val/          pictures.* of those that are measured on while it learns
    held-out/test/         of those that are asked about at the end

Names of classes are those of folders, or what a person corrected them to; their order is that of the plan.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from engine.errors import BadInput
from engine.project import Picture
from engine.training.pictures import PictureList

HeldOut = Literal["val", "test"]
HELD_OUT: tuple[HeldOut, ...] = ("val", "test")
FEWEST_CLASSES = 2
FEW_PICTURES = 10
"""Pictures of a class below which little is learnt of it, and less is known of how well."""
FOLD = 10
"""Where folders hold out nothing, every so many pictures of a class are."""
FEWEST_TO_HOLD_OUT = 5
"""Pictures a class must have to lose one: with fewer, learning needs them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learnt and what is asked afterwards.

    ``held_out`` has pictures under 'val', 'test' or both. ``n_unlabelled`` pictures have no label, ``n_unknown`` of
    those held out have one that nothing is learnt of.
    """

    classes: tuple[str, ...]
    learnt: list[Picture]
    held_out: dict[HeldOut, list[Picture]]
    is_ours: bool
    """Whether the held-out pictures were chosen here, since the folders hold out none."""
    n_unlabelled: int = 0
    n_unknown: int = 0
    few: dict[str, int] = field(default_factory=dict)
    """Classes with few pictures to learn from, and how many."""

    def in_words(self) -> list[str]:
        """Return what a person should know of it before it is learnt."""
        held = " and ".join(f"{len(some):,} ({split})" for split, some in self.held_out.items())
        lines = [f"{len(self.learnt):,} pictures of {len(self.classes)} classes to learn from; held out: {held}."]
        if self.is_ours:
            lines.append(f"Folders named val or test hold out none, so every {FOLD}th picture of a class is.")
        if self.n_unlabelled:
            lines.append(f"{self.n_unlabelled:,} pictures without a label are left out.")
        if self.n_unknown:
            lines.append(f"{self.n_unknown:,} held-out pictures of classes that nothing is learnt of are left out.")
        if self.few:
            some = ", ".join(f"{name} ({count})" for name, count in list(self.few.items())[:5])
            lines.append(f"Few pictures: {some}{' …' if len(self.few) > 5 else ''}; with so few a class is a guess.")
        return lines


def lesson(pictures: Sequence[Picture], seed: int) -> Lesson:
    """Choose what is learnt from and what is held out.

    The train split is learnt from where there is one, else all that is not in another; val and test splits are held
    out. Without either, a tenth of each class is, drawn by the seed.

    Raises:
        BadInput: there are fewer than two classes, or no picture is left to ask about.
    """
    labelled = [picture for picture in pictures if picture.label is not None]
    has_train = any(picture.split == "train" for picture in labelled)
    learnt = [p for p in labelled if p.split == "train" or (p.split is None and not has_train)]
    held: dict[HeldOut, list[Picture]] = {split: [p for p in labelled if p.split == split] for split in HELD_OUT}
    classes = tuple(sorted({str(picture.label) for picture in learnt}))
    _refuse_few_classes(classes, len(pictures))
    n_held = sum(map(len, held.values()))
    held = {split: known for split, some in held.items() if (known := [p for p in some if p.label in classes])}
    n_unknown = n_held - sum(map(len, held.values()))
    is_ours = not held
    if is_ours:
        learnt, held["val"] = _tenth_held_out(learnt, seed)
    if not learnt or not any(held.values()):
        raise BadInput(
            f"{len(learnt):,} labelled pictures are too few to learn from some and ask about others.",
            f"A class should have {FEWEST_TO_HOLD_OUT} pictures at least.",
        )
    counts = Counter(str(picture.label) for picture in learnt)
    return Lesson(
        classes=classes,
        learnt=learnt,
        held_out=held,
        is_ours=is_ours,
        n_unlabelled=len(pictures) - len(labelled),
        n_unknown=n_unknown,
        few={name: counts[name] for name in classes if counts[name] < FEW_PICTURES},
    )


def _refuse_few_classes(classes: Sequence[str], n_pictures: int) -> None:
    if len(classes) >= FEWEST_CLASSES:
        return
    found = f"all labelled pictures are of one class, '{classes[0]}'" if classes else "none has a label"
    raise BadInput(
        f"To learn from labels takes {FEWEST_CLASSES} classes at least; of {n_pictures:,} pictures {found}.",
        "Put the pictures of each class into a folder of its own, or learn without labels: --objective dino.",
    )


def _tenth_held_out(pictures: Sequence[Picture], seed: int) -> tuple[list[Picture], list[Picture]]:
    """Return those to learn from and those held out, both in the order they were in."""
    by_class: dict[str, list[int]] = {}
    for place, picture in enumerate(pictures):
        by_class.setdefault(str(picture.label), []).append(place)
    random = np.random.default_rng(seed)
    out: set[int] = set()
    for name in sorted(by_class):
        places = random.permutation(by_class[name])
        if len(places) >= FEWEST_TO_HOLD_OUT:
            out |= set(places[: max(1, round(len(places) / FOLD))].tolist())
    return [p for i, p in enumerate(pictures) if i not in out], [p for i, p in enumerate(pictures) if i in out]


def keep_lesson(folder: Path, chosen: Lesson) -> None:
    """Write the held-out pictures of a new run, with their classes, into its folder."""
    for split, pictures in chosen.held_out.items():
        place = folder / "held-out" / split
        place.mkdir(parents=True)
        PictureList.write(place, pictures, chosen.classes)


def kept_lesson(folder: Path, classes: tuple[str, ...], pictures: Sequence[Picture]) -> Lesson:
    """Return what a run learns and asks, from its folder.

    Args:
        folder: of the run.
        classes: of its plan.
        pictures: those of its list that are still there.
    """
    labels = {p.path: p.label for p in _listed(folder, classes)}
    held: dict[HeldOut, list[Picture]] = {}
    for split in HELD_OUT:
        if (place := folder / "held-out" / split).is_dir():
            held[split] = _listed(place, classes)
    learnt = [replace(picture, label=labels[picture.path]) for picture in pictures]
    return Lesson(classes=classes, learnt=learnt, held_out=held, is_ours=False)


def _listed(place: Path, classes: Sequence[str]) -> list[Picture]:
    """Return the pictures of a list with their classes and sizes."""
    pictures = PictureList(place)
    assert pictures.labels_N is not None, "the run learns labels"
    found = []
    for i, number in enumerate(pictures.labels_N.tolist()):
        rows, cols = pictures.size(i)
        found.append(
            Picture(path=pictures.path(i), size_bytes=0, mtime_ns=0, rows=rows, cols=cols, label=classes[number])
        )
    return found


def held_out(folder: Path, split: HeldOut) -> Path:
    """Return the folder of a run's list of held-out pictures: of the split, or of the other where it has none."""
    place = folder / "held-out" / split
    other = folder / "held-out" / ("val" if split == "test" else "test")
    return place if place.is_dir() else other


def to_measure_with(folder: Path, classes: Sequence[str]) -> list[Picture]:
    """Return what a run measures with while it learns: learnt pictures as of split 'train', held-out ones as 'test'."""
    places = ((folder, "train"), (held_out(folder, "val"), "test"))
    return [replace(picture, split=split) for place, split in places for picture in _listed(place, classes)]
