"""Small projects for the tests of the window."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.commands.scanning import scan_into
from engine.project import Project
from engine.sets import Block, FeatureWriter, SetPlan
from tests.makers import set_plan, write_photos


def scanned(tmp_path: Path, n: int = 12, labels: tuple[str, ...] = ("cat", "dog"), *, broken: int = 0) -> Path:
    """Write photos, make their project, look what is in it, and return its folder."""
    photos = tmp_path / "photos"
    write_photos(photos, n, labels=labels)
    for i in range(broken):
        (photos / f"zz{i}.jpg").write_bytes(b"\xff\xd8 no picture")
    folder = tmp_path / "photos.dinoviz"
    with Project.at(folder, pictures=photos) as project:
        scan_into(project, lambda _message: None)
    return folder


def with_features(folder: Path, dimensions: int = 6, **plan: object) -> SetPlan:
    """Give every picture of a project a made-up vector, and return the plan of the set."""
    made = replace(set_plan(dimensions=dimensions, width=dimensions), **plan)
    with Project.at(folder) as project:
        pictures = project.pictures()
        place = project.set_folder(made)
        place.mkdir(parents=True, exist_ok=True)
        writer = FeatureWriter.at(place, made)
        random = np.random.default_rng(0)
        vectors = random.normal(size=(len(pictures), dimensions)).astype(np.float32)
        seen = np.array([picture.problem is None for picture in pictures])
        block = Block(
            vectors_ND=vectors,
            copies_ND=np.zeros((len(pictures), 2 * made.width), np.float16),
            is_seen_N=seen,
            grids_N2=np.zeros((len(pictures), 2), np.uint16),
        )
        writer.append([p.id for p in pictures], [p.hash for p in pictures], block)
        project.use_set(made)
    return made
