"""Time that the grid of pictures takes to paint while one scrolls through 1,000,000 pictures, in ms.

Run ``python tests/bench/bench_grid.py [number of pictures]``. Thumbnails are there already or not wanted: decoding
happens in other threads. ``smooth`` moves by 40 px, as a wheel does, and draws what comes into sight; ``whole`` draws
everything that is seen anew; ``select`` is the time from selecting all to the painted frame.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2]))

import time
from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from dinoviz.application import Application
from dinoviz.session import Session
from dinoviz.table import PictureTable, Words
from dinoviz.widgets.picture.grid import PictureGrid

SIZE = (1400, 900)
FRAMES = 200


class Ready(QObject):
    """Thumbnails that are all in memory."""

    arrived = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._images: dict[int, QImage] = {}

    def in_memory(self, _picture: int, side: int) -> QImage:
        if side not in self._images:
            image = QImage(side, side * 3 // 4, QImage.Format.Format_RGB32)
            image.fill(0x6A8CAF)
            self._images[side] = image
        return self._images[side]

    def want(self, *_: object) -> None:
        pass

    def problem(self, _picture: int) -> str:
        return ""


def table(n: int) -> PictureTable:
    rng = np.random.default_rng(0)
    names = [f"folder {i % 100:03d}/picture {i:07d}.jpg".encode() for i in range(n)]
    return PictureTable(
        ids_N=np.arange(1, n + 1, dtype=np.int64),
        sizes_N=rng.integers(10_000, 1_000_000, n),
        mtimes_N=rng.integers(1 << 60, 1 << 61, n),
        heights_N=np.full(n, 300, np.int32),
        widths_N=np.full(n, 400, np.int32),
        label=Words(rng.integers(0, 10, n).astype(np.int32), tuple("abcdefghij")),
        split=Words(np.full(n, -1, np.int32), ()),
        sub_folder=Words(np.zeros(n, np.int32), ("",)),
        problem=Words(np.full(n, -1, np.int32), ()),
        names=b"".join(names),
        starts_N=np.concatenate([[0], np.cumsum([len(name) for name in names])]),
    )


def timed(app: Application, do: Callable[[], object], frames: int = FRAMES) -> str:
    times = []
    for _ in range(frames):
        started = time.perf_counter()
        do()
        app.processEvents()
        times.append((time.perf_counter() - started) * 1e3)
    return f"median {np.median(times):5.2f}  p95 {np.percentile(times, 95):5.2f}  longest {max(times):5.2f} ms"


def main() -> None:
    app = Application(["bench"])
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    session = Session()
    session._set(table=table(n), shown=np.arange(1, n + 1, dtype=np.int64))
    print(f"{n:,} pictures, {SIZE[0]} x {SIZE[1]} px")
    for side in (256, 160, 96, 48):
        grid = PictureGrid(SimpleNamespace(session=session, thumbnails=Ready()))
        grid.resize(*SIZE)
        grid.set_side(side)
        grid.set_captions(session.state.table.name)
        grid.set_ids(session.state.shown)
        grid.show()
        app.processEvents()
        bar = grid.verticalScrollBar()
        seen = len(grid._seen_positions())
        print(f"  side {side:3} px, {seen:3} pictures seen")
        print("    smooth  ", timed(app, lambda bar=bar: bar.setValue(bar.value() + 40)))
        print("    whole   ", timed(app, lambda bar=bar, grid=grid: _jump(bar, grid)))
        grid.close()
        grid.deleteLater()
    everything = session.state.shown
    grid.show()
    print("  select  ", timed(app, lambda: (session.select(everything), session.select([])), 10))


def _jump(bar: object, grid: PictureGrid) -> None:
    bar.setValue(bar.value() + 5000)
    grid.viewport().repaint()


if __name__ == "__main__":
    main()
