"""How long a person waits in Find: ``python -m tests.bench.bench_find PROJECT [--set N]``.

The real view and the real services, offscreen: from a question to its results in the grid, from the mouse resting on a
result to the maps that say why, and the longest that the window stood still meanwhile.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PIL import Image
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

from dinoviz.application import Application
from dinoviz.asked import Asked
from dinoviz.choices import FindChoices
from dinoviz.desk import Desk
from dinoviz.views.find.view import FindView
from tests.dinoviz.desks import made_desk

ROUNDS = 12
TICK_MS = 5
SETTLE_S = 2.0  # the first painting of a view and the start of both services are the window's bench
SIZE = (1280, 780)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--set", type=int, default=1, help="one with patches and their index (default 1)")
    asked = parser.parse_args()
    application = Application(sys.argv[:1])
    with made_desk(SimpleNamespace(addWidget=lambda _widget: None)) as desk, tempfile.TemporaryDirectory() as folder:
        session = desk.session
        session.open(asked.project)
        session.go("find")
        until(application, lambda: len(session.state.shown) > 0)
        session.use_set(asked.set)
        session.choose(find=FindChoices())
        view = FindView(desk)
        view.resize(*SIZE)
        view.show()
        rest(application, SETTLE_S)
        pictures = [int(i) for i in np.random.default_rng(0).choice(session.state.shown, ROUNDS)]
        strangers = [str(written(session.state.table.file(one), Path(folder))) for one in pictures]
        still = watched(view)
        measure(application, view, desk, pictures, strangers)
        print(f"{'event loop':36} longest stall {max(still):3.0f} ms")
        view.hide()
    return 0


def written(file: Path, folder: Path) -> Path:
    """Write a smaller copy of a picture, and return where."""
    path = folder / f"{file.stem}.jpg"
    with Image.open(file) as opened:
        opened.convert("RGB").resize((opened.width * 3 // 4, opened.height * 3 // 4)).save(path)
    return path


def measure(application: QApplication, view: FindView, desk: Desk, pictures: list[int], strangers: list[str]) -> None:
    """Print the median and the worst of each kind of question."""
    panel, table = view._search, desk.session.state.table

    def answered(question: Asked) -> float:
        begun = time.perf_counter()
        panel._area.ask(question)
        until(application, lambda: panel.found.asked == question and len(panel.found.ids) > 0)
        return 1000 * (time.perf_counter() - begun)

    def explained(picture: int) -> float:
        until(application, lambda: panel._grid.rect_of(picture) is not None)
        begun = time.perf_counter()
        desk.session.hover(picture)
        panel._explain(picture)
        tiles = panel._why._one, panel._why._other
        until(application, lambda: all(tile.look is not None and tile.look.heat is not None for tile in tiles))
        took = 1000 * (time.perf_counter() - begun)
        desk.session.hover(None)
        until(application, lambda: not panel._why.isVisible())
        return took

    answered(Asked(pictures=(pictures[0],)))
    said("picture of the project → results", [answered(Asked(pictures=(one,))) for one in pictures[1:]])
    said("picture from elsewhere → results", [answered(Asked(pictures=(one,))) for one in strangers])
    said("hover → why", [explained(int(i)) for i in panel.found.ids[:ROUNDS]])
    boxes = []
    for one in pictures:
        row = table.row_of(one)
        high, wide = float(table.heights_N[row]), float(table.widths_N[row])
        boxes.append(Asked(pictures=(one,), box=(high / 4, wide / 4, high / 2, wide / 2)))
    said("box → results", [answered(question) for question in boxes])


def said(what: str, took_ms: list[float]) -> None:
    """Print the median and the worst."""
    print(f"{what:36} median {np.median(took_ms):6.0f} ms, worst {max(took_ms):6.0f} ms")


def watched(view: FindView) -> list[float]:
    """Return a list that the event loop's stalls are added to, ms."""
    stalls, last = [0.0], [time.perf_counter()]
    timer = QTimer(view, interval=TICK_MS)

    def tick() -> None:
        now = time.perf_counter()
        stalls.append(1000 * (now - last[0]) - TICK_MS)
        last[0] = now

    timer.timeout.connect(tick)
    timer.start()
    return stalls


def rest(application: QApplication, seconds: float) -> None:
    """Let the event loop turn for some time."""
    limit = time.perf_counter() + seconds
    until(application, lambda: time.perf_counter() > limit)


def until(application: QApplication, is_so: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so."""
    while not is_so():
        application.processEvents()
        time.sleep(0.0005)


if __name__ == "__main__":
    sys.exit(main())
