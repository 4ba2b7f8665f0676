"""How long the vision service takes to answer, asked over its pipes as the window asks it.

Run ``python tests/bench/bench_vision.py [model] [side] [n]``; without a model, a ViT-S/16 with random weights, whose
arithmetic is that of a trained one. Prints, in milliseconds, the median and the worst of n, and the work of one core in
each: the first answer about a picture nobody asked about before, then answers about a picture that was seen, each
different from those before it. Then how far the numbers are from those of the direct functions in plain float32.
"""

import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.catalogue import shape_of
from engine.images import open_rgb
from engine.models.vit import VisionTransformer
from engine.models.weights import load_backbone, write_backbone
from engine.seeing.attention import attention_maps
from tests.asking import Asker
from tests.makers import photo

PHOTO = (1200, 1600)
"""Rows and columns of the pictures: 2 Mpx, JPEG."""
FIRST_LIMIT_MS = 500.0
LATER_LIMIT_MS = 30.0


def main() -> None:
    model, side, n = (sys.argv[i] if len(sys.argv) > i else default for i, default in ((1, ""), (2, "480"), (3, "30")))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = model or write_random(folder / "vits16.safetensors")
        pictures = [folder / f"{i}.jpg" for i in range(int(n) + 2)]
        for i, path in enumerate(pictures):
            Image.fromarray(photo(i, *PHOTO)).save(path, quality=90)
        measure(model, pictures, int(side), int(n), folder)


def write_random(path: Path) -> str:
    shape = shape_of("vit-small/16")
    write_backbone(path, VisionTransformer(shape), shape, about={})
    return str(path)


def measure(model: str, pictures: list[Path], side: int, n: int, folder: Path) -> None:
    begun = time.perf_counter()
    with Asker("vision", "--model", model, "--device", "cpu", "--cache", str(folder / "answers")) as asker:
        about = asker.answer("status").models[0]
        print(f"{about.depth} layers, {about.heads} heads, patch {about.patch} px, pictures seen at {side} px")
        print(f"ready after {time.perf_counter() - begun:.1f} s; load average {os.getloadavg()[0]:.1f}")
        print(f"first answer of all: {1000 * seconds(asker, 'attention', picture=pictures[-1], side=side):.0f} ms")
        report(asker, "first answer", [("attention", {"picture": path}) for path in pictures[:n]], side, FIRST_LIMIT_MS)
        lattice = asker.answer("attention", picture=pictures[0], side=side).lattice
        print(f"  of {lattice.rows} x {lattice.cols} patches")
        for what, questions in later_questions(about, lattice).items():
            asked = [(kind, {"picture": pictures[0]} | fields) for kind, fields in itertools.islice(questions, n)]
            report(asker, what, asked, side, LATER_LIMIT_MS)
        report_differences(asker, model, pictures[0], side, about.depth)


def later_questions(about, lattice) -> dict[str, Iterator[tuple[str, dict]]]:
    draw = random.Random(0)

    def patch() -> tuple[int, int]:
        return draw.randrange(lattice.rows), draw.randrange(lattice.cols)

    def forever(kind: str, fields) -> Iterator[tuple[str, dict]]:
        while True:
            yield kind, fields()

    return {
        "attention, other head": forever("attention", lambda: {"heads": [draw.randrange(about.heads)]}),
        "attention, other layer": forever("attention", lambda: {"layer": draw.randrange(about.depth)}),
        "attention, other query": forever("attention", lambda: {"query": patch()}),
        "mask, other share": forever("mask", lambda: {"keep": draw.uniform(0.1, 0.9), "of": "mean"}),
        "mask, union of heads": forever("mask", lambda: {"keep": draw.uniform(0.1, 0.9), "of": "union", "smallest": 3}),
        "likeness to a patch": forever("likeness", lambda: {"patch": patch()}),
        "colours, other threshold": forever("colours", lambda: {"foreground": draw.uniform(-1, 1)}),
        "colours, other layer": forever("colours", lambda: {"layer": draw.randrange(about.depth), "foreground": "off"}),
        "colours, asked again": forever("colours", dict),
        "rollout (not a slice)": forever("attention", lambda: {"layer": "rollout", "query": patch()}),
    }


def seconds(asker: Asker, kind: str, **fields) -> float:
    begun = time.perf_counter()
    asker.answer(kind, **fields)
    return time.perf_counter() - begun


def report(asker: Asker, what: str, asked: list[tuple[str, dict]], side: int, limit_ms: float) -> None:
    before = work(asker)
    times = [seconds(asker, kind, side=side, **fields) for kind, fields in asked]
    core_ms = 1000 * (work(asker) - before) / len(asked)
    median, worst = (1000 * value for value in (statistics.median(times), max(times)))
    print(f"{what:28} median {median:6.1f}   worst {worst:6.1f}   core {core_ms:6.1f}   wanted {limit_ms:3.0f} ms")


def work(asker: Asker) -> float:
    """Seconds of a core that the service has taken until now: what it would take on one core that does nothing else."""
    times = psutil.Process(asker.process.pid).cpu_times()
    return times.user + times.system


def report_differences(asker: Asker, model: str, picture: Path, side: int, depth: int) -> None:
    backbone, pixels = load_backbone(model), open_rgb(picture)
    worst = 0.0
    for layer in range(depth):
        direct = attention_maps(backbone, pixels, side=side, layer=layer).maps_HRC
        served = np.load(asker.answer("attention", picture=picture, side=side, layer=layer).path)
        worst = max(worst, float((np.abs(served - direct) / direct).max()))
    print(f"greatest relative difference of any head, layer and patch from plain float32: {worst:.1e}")


if __name__ == "__main__":
    main()
