"""Answers about pictures seen exactly as those of a set were seen: what a search by them, or by a part, is asked with.

What the set keeps of a picture is taken from there as long as the file is the one that was embedded; of pictures from
elsewhere the patches of the last ones are kept, as one picture is held against many.

Letters after a name are its axes:
    R C rows and columns of patches · W width of the backbone · 3 colours, RGB · Y X pixels
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from engine import questions as q
from engine.errors import BadInput, UnreadablePicture
from engine.finding.explain import explain
from engine.images import open_rgb, upright_size
from engine.models.weights import Backbone
from engine.seeing.seers import Seer
from engine.serve.answers import AnswerFiles
from engine.sets import ROWS, FeatureSet, SetPlan

MOST_SETS = 4
"""Sets that are kept open; a window compares two."""
MOST_STRANGERS = 32
"""Pictures whose patches are kept that no set holds; 0.5 MB each for a ViT-S/16 at 480 px."""
MOST_KNOWN = 4096
"""Files of which it is kept whether they are the ones that were embedded: to know it, each is read to its end."""

K = TypeVar("K")
V = TypeVar("V")
_Stamp = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A picture of a question, as it lies on the disk."""

    path: Path
    stamp: _Stamp
    id: int | None


class SetSeeing:
    """Answers ``questions.AsInSet``.

    Args:
        files: where the arrays of answers go.
        folder: what relative paths of pictures are relative to.
        backbone: gives that of a set, as ``seers.backbone_of``.
        device: the one of now.
        stamp_of: the time of last change and the size of a file; raises BadInput where it is not there.
    """

    def __init__(
        self,
        files: AnswerFiles,
        folder: Path,
        backbone: Callable[[SetPlan], Backbone],
        device: Callable[[], torch.device],
        stamp_of: Callable[[Path], _Stamp],
    ) -> None:
        self._files = files
        self._folder = folder
        self._backbone = backbone
        self._device = device
        self._stamp_of = stamp_of
        self._seers: OrderedDict[tuple[Path, _Stamp], Seer] = OrderedDict()
        self._strangers: OrderedDict[tuple[str, Path, _Stamp], NDArray[np.floating]] = OrderedDict()
        self._rows: OrderedDict[tuple[str, int, Path, _Stamp], int | None] = OrderedDict()

    def drop(self) -> None:
        """Drop all that can be made again."""
        for kept in (self._seers, self._strangers, self._rows):
            kept.clear()

    def vectors(self, question: q.Describe) -> q.Vectors:
        """Return the vectors of pictures; raises as ``Seer.vectors``."""
        seer = self._seer(question.features)
        return q.Vectors(path=self._files.write(seer.vectors([self._folder / path for path in question.pictures])))

    def part(self, question: q.ShowPart) -> q.PartShown:
        """Return a part in its showings; raises as ``Seer.part``."""
        seer = self._seer(question.features)
        seer.check_parts()
        picture_YX3 = _opened(self._folder / question.picture)
        height, width = picture_YX3.shape[:2]
        box, _ = seer.area((height, width), question.box, question.patches)
        templates = seer.part(picture_YX3, question.box, question.patches)
        return q.PartShown(path=self._files.made(".npz", templates.write), box=box)

    def explained(self, question: q.Explain) -> q.Explained:
        """Return what two pictures have in each other.

        Raises:
            BadInput: one of them cannot be read.
            BadWeights: as ``seers.backbone_of``.
        """
        seer = self._seer(question.features)
        one = self._asked(question.picture, question.id)
        other = self._asked(question.other, question.other_id)
        shared = explain(self._patches(seer, one), self._patches(seer, other))
        return q.Explained(
            path=self._files.write(shared.one_RC),
            covers=_covers(seer, one.path),
            other_path=self._files.write(shared.other_RC),
            other_covers=_covers(seer, other.path),
        )

    def _seer(self, folder: Path) -> Seer:
        """Return who sees as a set was seen; a set that changed is opened anew.

        Raises:
            BadInput: there is no such set.
        """
        if not (folder / ROWS).is_file():
            raise BadInput(f"There is no set of features in '{folder}'.", "Make one with: engine embed PROJECT.")
        key = folder, self._stamp_of(folder / ROWS)
        if key not in self._seers:
            self._seers[key] = Seer(FeatureSet(folder), self._backbone, self._device)
        return _kept(self._seers, key, MOST_SETS)

    def _asked(self, picture: Path, picture_id: int | None) -> _Asked:
        path = self._folder / picture
        return _Asked(path, self._stamp_of(path), picture_id)

    def _patches(self, seer: Seer, asked: _Asked) -> NDArray[np.floating]:
        row = self._row(seer, asked)
        if row is not None and seer.has_whole_patches:
            return seer.features.patches_of(row)
        key = seer.features.plan.key, asked.path, asked.stamp
        if key not in self._strangers:
            self._strangers[key] = seer.patches(None, lambda: _opened(asked.path))
        return _kept(self._strangers, key, MOST_STRANGERS)

    def _row(self, seer: Seer, asked: _Asked) -> int | None:
        """Return the row of a picture that is in the set as it is on the disk now; None for any other."""
        if asked.id is None:
            return None
        key = seer.features.key, asked.id, asked.path, asked.stamp
        if key not in self._rows:
            self._rows[key] = seer.row_of(asked.id, asked.path)
        return _kept(self._rows, key, MOST_KNOWN)


def _kept(store: OrderedDict[K, V], key: K, most: int) -> V:
    """Return what is kept under a key, which is the newest now; the oldest make room for it."""
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)
    return store[key]


def _opened(path: Path) -> NDArray[np.uint8]:
    try:
        return open_rgb(path)
    except UnreadablePicture as problem:
        raise BadInput(f"The picture '{path}' cannot be read: {problem.message}.", problem.hint) from problem


def _covers(seer: Seer, path: Path) -> tuple[float, float]:
    """Return the share of the height and width of a picture that its patches cover."""
    try:
        grid = seer.grid(upright_size(path))
    except UnreadablePicture as problem:
        raise BadInput(f"The picture '{path}' cannot be read: {problem.message}.", problem.hint) from problem
    return grid.rows * grid.patch / grid.resized[0], grid.cols * grid.patch / grid.resized[1]
