"""Thumbnails per second, as the window makes them, against Pillow decoding every picture in full.

Run ``python tests/bench/bench_thumbnails.py [folder of photos]``. Without a folder it takes the bundled photos, as they
are and enlarged to 12 million pixels. Further lines: the same pictures from the disk cache, and how long the first
screenful takes in a list of 100,000. The variants take turns; medians of the rounds are printed.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2]))

import shutil
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from dinoviz.application import Application
from dinoviz.session import Session
from dinoviz.thumbnails import Thumbnails
from engine.project import Picture, Project

SIDE = 160
ROUNDS = 5
LARGE = (4000, 3000)
N_LARGE = 12
SCREENFUL = 48
BUNDLED = Path(__file__).parents[2] / "resources" / "photos"


def pillow(files: list[Path]) -> None:
    for file in files:
        with Image.open(file) as picture:
            picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def make_project(folder: Path, pictures: Path, files: list[Path], *, copies: int = 1) -> Path:
    """A project of some files; with copies, the same files under other ids, as a longer list."""
    project = folder / f"{pictures.name}-{copies}.dinoviz"
    with Project.at(project, pictures=pictures) as made:
        rows = []
        for copy in range(copies):
            up = "./" * copy  # another path to the same file
            for file in files:
                info = file.stat()
                path = up + str(file.relative_to(pictures))
                rows.append(Picture(path=path, size_bytes=info.st_size, mtime_ns=info.st_mtime_ns, rows=3, cols=4))
        made.record(rows)
    return project


def windowed(app: Application, project: Path, n: int) -> float:
    """Seconds until n thumbnails of a project are there."""
    session = Session()
    session.open(project)
    thumbnails = Thumbnails(session)
    arrived: set[int] = set()
    thumbnails.arrived.connect(arrived.add)
    started = time.perf_counter()
    thumbnails.want("bench", session.state.shown[:n].tolist(), SIDE)
    while len(arrived) < n:
        app.processEvents()
        time.sleep(0.0005)
    took = time.perf_counter() - started
    thumbnails.close()
    return took


def compare(app: Application, name: str, folder: Path, pictures: Path, files: list[Path]) -> None:
    times: dict[str, list[float]] = {"Pillow, in full": [], "the window": [], "the window, from its disk cache": []}
    project = make_project(folder, pictures, files)
    for _ in range(ROUNDS):
        shutil.rmtree(project / "cache", ignore_errors=True)
        started = time.perf_counter()
        pillow(files)
        times["Pillow, in full"].append(time.perf_counter() - started)
        times["the window"].append(windowed(app, project, len(files)))
        times["the window, from its disk cache"].append(windowed(app, project, len(files)))
    first = statistics.median(times["Pillow, in full"])
    print(f"{name}: {len(files)} pictures, side {SIDE} px")
    for what, seconds in times.items():
        took = statistics.median(seconds)
        print(f"  {what:34} {len(files) / took:8,.0f} thumbnails/s  x{first / took:.1f}")


def main() -> None:
    app = Application(["bench"])
    pictures = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else BUNDLED
    files = sorted(file for file in pictures.rglob("*.jpg"))[:1000]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        compare(app, "photos as they are", folder, pictures, files)
        large = folder / "large"
        large.mkdir()
        for i, file in enumerate(files[:: max(1, len(files) // N_LARGE)][:N_LARGE]):
            with Image.open(file) as picture:
                enlarged = picture.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC)
                enlarged.save(large / f"{i:02d}.jpg", quality=90)
        compare(app, "photos of 12 million pixels", folder, large, sorted(large.glob("*.jpg")))
        many = make_project(folder, pictures, files, copies=-(-100_000 // len(files)))
        took = [windowed(app, many, SCREENFUL) for _ in range(ROUNDS)]
        print(f"first {SCREENFUL} of 100,000 pictures: {np.median(took) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
