"""A project whose features were made up: groups of vectors that lie apart, one label a group."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.finding.map_files import MapPlan
from engine.finding.neighbours import NeighbourTable
from engine.project import Picture, Project
from engine.sets import Block, FeatureSet, FeatureWriter
from tests.makers import set_plan

DIMENSIONS = 16

PLAN = set_plan(width=2, dimensions=DIMENSIONS)
SHORT = MapPlan(method="tsne", seed=0, steps=150, early=60, perplexity=8.0, neighbours=24)
"""A t-SNE whose early part ends inside a block."""


def blobs(n: int, groups: int, seed: int = 0, spread: float = 0.12) -> np.ndarray:
    """Vectors in groups by turns: row i is of group i % groups."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(groups, DIMENSIONS))
    return (centres[np.arange(n) % groups] + spread * random.normal(size=(n, DIMENSIONS))).astype(np.float32)


def append_to(folder: Path, vectors: np.ndarray, *, first: int = 1, unseen: Sequence[int] = ()) -> FeatureSet:
    """Add pictures with ids from ``first`` on to the set in a folder, and open it."""
    n = len(vectors)
    is_seen = ~np.isin(np.arange(n), unseen)
    block = Block(
        vectors_ND=vectors * is_seen[:, None],
        copies_ND=np.zeros((n, 2 * PLAN.width), np.float16),
        is_seen_N=is_seen,
        grids_N2=np.zeros((n, 2), np.uint16),
    )
    ids = list(range(first, first + n))
    FeatureWriter.at(folder, PLAN).append(ids, [f"{number:032x}" for number in ids], block)
    return FeatureSet(folder)


def neighbours_of(features: FeatureSet, k: int = 30) -> NeighbourTable:
    """Find the neighbours of a set."""
    from engine.finding.index import make_index

    return make_index(features, lambda _message: None, k=k)


def make_project(folder: Path, pictures: Path, vectors: np.ndarray, labels: Sequence[str | None]) -> Path:
    """Make a project with one set; pictures p00.jpg and so on are taken to be in ``pictures``."""
    with Project.at(folder, pictures=pictures) as project:
        project.record(
            Picture(path=f"p{i:02d}.jpg", size_bytes=1, mtime_ns=1, hash=f"{i + 1:032x}", rows=60, cols=80, label=label)
            for i, label in enumerate(labels)
        )
        append_to(project.set_folder(PLAN), vectors)
    return folder
