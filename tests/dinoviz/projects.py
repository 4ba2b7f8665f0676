"""Small projects for the tests of the window."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.errors import UnreadablePicture
from engine.images import Found, find_pictures, probe
from engine.project import Picture, Project
from engine.sets import Block, FeatureWriter, SetPlan
from tests.makers import set_plan, write_photos


def scanned(tmp_path: Path, n: int = 12, labels: tuple[str, ...] = ("cat", "dog"), *, broken: int = 0) -> Path:
    """Write photos, make their project as a scan leaves it, and return its folder."""
    photos = tmp_path / "photos"
    write_photos(photos, n, labels=labels)
    for i in range(broken):
        (photos / f"zz{i}.jpg").write_bytes(b"\xff\xd8 no picture")
    folder = tmp_path / "photos.dinoviz"
    with Project.at(folder, pictures=photos) as project:
        project.record(row_of(found, photos) for found in find_pictures(photos).pictures)
    return folder


def row_of(found: Found, photos: Path) -> Picture:
    """Return the row of a picture as a scan makes it, without a process of its own for decoding."""
    row = Picture(
        path=found.path, size_bytes=found.size_bytes, mtime_ns=found.mtime_ns, label=found.label, split=found.split
    )
    try:
        seen = probe(photos / found.path)
    except UnreadablePicture as problem:
        return replace(row, problem=problem.message)
    return replace(row, hash=seen.content_hash, rows=seen.rows, cols=seen.cols)


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
