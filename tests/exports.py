"""A small project with a set, for the tests of exports."""

from pathlib import Path

import numpy as np

from engine.commands.scanning import scan_into
from engine.project import Project
from engine.sets import Block, FeatureWriter
from tests.makers import set_plan, write_photos

PLAN = set_plan(
    model="work/photos.dinoviz/runs/0001", model_sha256="ab" * 32, view="whole", side=32, width=6, has_patches=True
)


def project_with_set(
    folder: Path, n: int = 12, *, labels: tuple[str, ...] = ("coat", "hat"), unseen: tuple[int, ...] = ()
) -> Project:
    """Return a project of ``n`` photos of 60 x 80 px and a set with made-up features; ``unseen`` are rows not read."""
    if not (folder / "photos").exists():
        write_photos(folder / "photos", n, labels=labels)
    project = Project.at(folder / "photos.dinoviz", pictures=folder / "photos")
    scan_into(project, lambda _message: None)
    pictures = project.pictures()
    random = np.random.default_rng(0)
    is_seen = ~np.isin(np.arange(len(pictures)), unseen)
    grids = np.where(is_seen[:, None], (4, 5), 0).astype(np.uint16)  # 60 x 80 px at 32 px, patches of 8
    block = Block(
        random.standard_normal((len(pictures), 6), np.float32) * is_seen[:, None],
        random.standard_normal((len(pictures), 12)).astype(np.float16),
        is_seen,
        grids,
        random.standard_normal((20 * int(is_seen.sum()), 6)).astype(np.float16),
    )
    writer = FeatureWriter.at(project.set_folder(PLAN), PLAN)
    writer.append([picture.id for picture in pictures], [picture.hash for picture in pictures], block)
    return project
