"""Is a part of a photo found again, and at its place? ``python tests/bench/bench_parts.py PROJECT [boxes]``

The project must be embedded with --patches and indexed. Each box is drawn at random on a photo of the test split (of
all photos where there is none); the photo is then cut to 70 to 100 % of its sides around the box, mirrored half of the
time, and made 30 % darker to 30 % brighter. Found is the photo being first and the box it reports covering the true one
with a Jaccard index of 0.5 or more.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from engine.finding.parts import PartSearcher
from engine.images import open_rgb
from engine.machine import find_device, make_cpu_fast
from engine.models.weights import load_backbone
from engine.project import Project
from engine.seeing.embed import Embedder
from engine.seeing.grid import Box, Grid, box_in_pixels
from engine.seeing.showings import show_part

BOX_SIDES = (0.2, 0.5)  # in sides of the photo
CUT_TO = (0.7, 1.0)
BRIGHTNESS = (0.7, 1.3)


def main() -> int:
    make_cpu_fast()
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    random = np.random.default_rng(0)
    with Project.at(Path(sys.argv[1])) as project:
        features = next(f for number in range(1, 100) if (f := project.features(str(number))).plan.has_patches)
        pictures = {picture.id: picture for picture in project.pictures(readable=True)}
        photos = [p for p in pictures.values() if p.split == "test"] or list(pictures.values())
        root = project.pictures_folder
    embedder = Embedder(load_backbone(features.plan.model), features.plan, torch.device(find_device().device))
    searcher = PartSearcher(features)
    first, overlaps, seeing_s, searching_s = 0, [], [], []
    for _ in range(n):
        photo = photos[int(random.integers(len(photos)))]
        picture = open_rgb(root / photo.path)
        truth = drawn_box(random, picture.shape[:2])
        query, box = changed(random, picture, truth)
        begun = time.perf_counter()
        templates = show_part(embedder, query, box)
        seen = time.perf_counter()
        best = searcher.search(templates, 20)[0]
        searching_s.append(time.perf_counter() - seen)
        seeing_s.append(seen - begun)
        found = pictures[int(features.ids_N[best.row])]
        is_it = found.id == photo.id
        grid = Grid.of(picture.shape[:2], patch=features.plan.patch, side=features.plan.side)
        overlaps.append(jaccard(box_in_pixels(best.box, grid, picture.shape[:2]), truth) if is_it else 0.0)
        first += is_it
    good = np.mean(np.array(overlaps) >= 0.5)
    print(f"{len(features):,} photos at {features.plan.side} px, {n} boxes, {features.plan.model}")
    print(f"right photo first {first / n:.1%}; and its box at Jaccard 0.5 or more {good:.1%}")
    print(f"median Jaccard index {np.median(overlaps):.2f}")
    print(f"seeing {np.median(seeing_s):.2f} s, searching {np.median(searching_s):.2f} s a box (median)")
    return 0


def drawn_box(random: np.random.Generator, size: tuple[int, int]) -> Box:
    high, wide = (random.uniform(*BOX_SIDES) * length for length in size)
    top, left = random.uniform(0, size[0] - high), random.uniform(0, size[1] - wide)
    return top, left, top + high, left + wide


def changed(random: np.random.Generator, picture: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """Cut a picture around a box, mirror it or not, and change its brightness; return it and where the box is then."""
    height, width = picture.shape[:2]
    top, bottom = cut(random, box[0], box[2], height)
    left, right = cut(random, box[1], box[3], width)
    query = picture[top:bottom, left:right]
    there = (max(0.0, box[0] - top), max(0.0, box[1] - left), min(bottom, box[2]) - top, min(right, box[3]) - left)
    if random.random() < 0.5:
        query = query[:, ::-1]
        there = (there[0], right - left - there[3], there[2], right - left - there[1])
    bright = np.clip(query * random.uniform(*BRIGHTNESS), 0, 255).astype(np.uint8)
    return bright, there


def cut(random: np.random.Generator, begin: float, end: float, length: int) -> tuple[int, int]:
    kept = max(random.uniform(*CUT_TO) * length, end - begin + 1)
    first = int(random.uniform(max(0.0, end - kept), min(begin, length - kept)))
    return first, min(length, int(np.ceil(first + kept)))


def jaccard(a: Box, b: Box) -> float:
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if high <= 0 or wide <= 0:
        return 0.0
    both = high * wide
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


if __name__ == "__main__":
    sys.exit(main())
