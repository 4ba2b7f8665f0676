"""The search service: the vectors and patches of one set are kept, and what is like something is found in them.

Knows no torch: pictures outside of the project, and parts of pictures, come as features that somebody else has seen.
A set that grows is opened anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from engine import questions as q
from engine.errors import BadInput
from engine.finding.parts import PartFound, PartSearcher
from engine.finding.searching import Searcher, open_searcher
from engine.finding.vectors import normalised
from engine.project import Project
from engine.seeing.grid import Grid, box_in_pixels
from engine.sets import ROWS, FeatureSet
from engine.templates import Templates


@dataclass(slots=True)
class _Opened:
    """A set and what was opened of it, each when it is first asked for."""

    features: FeatureSet
    pictures: Searcher | None = None
    parts: PartSearcher | None = field(default=None)


class Search:
    """Answers what is like something; a ``Service``.

    Args:
        project: is kept open.
        name: of a set, as ``Project.features`` takes it.

    Raises:
        BadInput: there is no such set.
    """

    def __init__(self, project: Project, name: str | None) -> None:
        self._project = project
        self._name = name
        self._opened_at = self._stamp()
        self._opened = _Opened(project.features(name))

    def answer(self, question: object) -> object:
        """Return the answer to one of ``questions.SEARCH``; raises as ``Service.answer``."""
        assert isinstance(question, q.SearchQuestion)
        self._follow()
        match question:
            case q.Similar():
                return self._similar(question)
            case q.Part():
                return self._part(question)
            case q.Ping():
                return q.Done()
            case _:
                assert_never(question)

    def make_room(self) -> None:
        """Close what was opened."""
        self._opened = _Opened(self._opened.features)

    def check(self) -> None:
        """Nothing here breaks for good."""

    def _follow(self) -> None:
        """Open the set anew where it has changed since, or another one is meant."""
        stamp = self._stamp()
        if stamp != self._opened_at:
            self._opened, self._opened_at = _Opened(self._project.features(self._name)), stamp

    def _stamp(self) -> tuple[Path, int, int]:
        """Return which set is meant, and when its rows were written; reading them would take longer than a search."""
        folder = self._project.folder_of_set(self._name)
        rows = (folder / ROWS).stat()
        return folder, rows.st_mtime_ns, rows.st_size

    def _similar(self, question: q.Similar) -> q.Hits:
        features = self._opened.features
        rows = [features.row_of(number) for number in question.pictures]
        for row, number in zip(rows, question.pictures, strict=True):
            if not features.is_seen_N[row]:
                raise BadInput(f"Picture {number} could not be seen.", "See engine scan for the reason.")
        queries_QD = normalised(np.concatenate([features.vectors_ND[rows], *_vectors(question.vectors, features)]))
        if not len(queries_QD):
            raise BadInput("Nothing was asked for.", "Name a picture, or give vectors.")
        if question.how == "mean":
            queries_QD = queries_QD.mean(axis=0, keepdims=True)
        if self._opened.pictures is None:
            self._opened.pictures = open_searcher(features)
        likeness_Qk, rows_Qk = self._opened.pictures.search(queries_QD, question.most + len(rows))
        best: dict[int, float] = {}
        for likeness, row in zip(likeness_Qk.ravel().tolist(), rows_Qk.ravel().tolist(), strict=True):
            if row >= 0 and row not in rows:
                best[row] = max(likeness, best.get(row, -1.0))
        ranked = sorted(best, key=lambda row: (-best[row], row))[: question.most]
        pictures = self._project.pictures_of(features.ids_N[ranked].tolist())
        return q.Hits(
            hits=tuple(
                q.Hit(
                    id=picture.id,
                    picture=picture.path,
                    likeness=best[row],
                    is_changed=not features.is_of(row, picture.hash),
                )
                for row, picture in zip(ranked, pictures, strict=True)
            )
        )

    def _part(self, question: q.Part) -> q.PartHits:
        features = self._opened.features
        if self._opened.parts is None:
            self._opened.parts = PartSearcher(features)
        found = self._opened.parts.search(Templates.read(question.templates), question.most)
        pictures = self._project.pictures_of(features.ids_N[[part.row for part in found]].tolist())
        return q.PartHits(
            hits=tuple(
                q.PartHit(
                    id=picture.id,
                    picture=picture.path,
                    likeness=part.likeness,
                    box=self._in_pixels(part, (picture.rows or 1, picture.cols or 1)),
                    is_mirrored=part.is_mirrored,
                    is_changed=not features.is_of(part.row, picture.hash),
                )
                for part, picture in zip(found, pictures, strict=True)
            )
        )

    def _in_pixels(self, part: PartFound, size: tuple[int, int]) -> tuple[float, float, float, float]:
        plan = self._opened.features.plan
        return box_in_pixels(part.box, Grid.of(size, patch=plan.patch, side=plan.side), size)


def _vectors(path: Path | None, features: FeatureSet) -> Sequence[NDArray[np.float32]]:
    """Return the vectors of a file.

    Raises:
        BadInput: there are none of the width of the set.
    """
    if path is None:
        return []
    try:
        with path.open("rb") as file:  # np.load would open a ZIP file, too: .npz, and checkpoints
            vectors_QD = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as problem:
        raise BadInput(f"'{path}' holds no vectors: {problem}.", "They are read from a .npy file.") from problem
    wanted = features.plan.dimensions
    if vectors_QD.ndim != 2 or vectors_QD.shape[1] != wanted or vectors_QD.dtype.kind != "f":
        raise BadInput(f"'{path}' holds no vectors of {wanted} numbers.", "See the picture with the set's backbone.")
    with np.errstate(over="ignore"):
        vectors_QD = vectors_QD.astype(np.float32)
    if not np.isfinite(vectors_QD).all():
        raise BadInput(f"The vectors in '{path}' are not all finite numbers.", "See the pictures again.")
    return [vectors_QD]
