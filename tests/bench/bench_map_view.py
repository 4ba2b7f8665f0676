"""How fast the map follows the hand: ``python -m tests.bench.bench_map_view``, without a screen.

A real widget is painted for every frame of a recorded gesture: drags over the map, the wheel in and out. Beside it, in
the same run, what pyqtgraph's ScatterPlotItem takes for 100,000 points.
"""

import argparse
import os
import time

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QPointF
from PySide6.QtGui import QImage, QPainterPath
from PySide6.QtWidgets import QApplication

from dinoviz import theme
from dinoviz.widgets.scatter.canvas import ScatterCanvas
from dinoviz.widgets.scatter.splat import Cloud, Layer, in_unit_square

WIDTH, HEIGHT = 1200, 800
GROUPS = 50


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and groups of a made-up map."""
    random = np.random.default_rng(seed)
    middles, spreads = random.normal(0, 30, (GROUPS, 2)), random.uniform(2, 6, GROUPS)
    groups = random.integers(0, GROUPS, n)
    return (middles[groups] + random.normal(size=(n, 2)) * spreads[groups, None]).astype(np.float32), groups


def gesture(canvas: ScatterCanvas):
    """Yield after each step of a drag over the whole map, coming near by the wheel, a drag there, and back."""
    for i in range(40):
        canvas.pan(12 * np.cos(i / 6), 9 * np.sin(i / 5), at_once=True)
        yield
    at = QPointF(WIDTH * 0.45, HEIGHT * 0.4)
    for _ in range(30):
        canvas.zoom(1.15, at)
        yield
    for i in range(40):
        canvas.pan(15 * np.sin(i / 4), 11 * np.cos(i / 7), at_once=True)
        yield
    for _ in range(30):
        canvas.zoom(1 / 1.15, at)
        yield


def painted(canvas: ScatterCanvas) -> list[float]:
    """Return ms a frame, painted to the widget's own window."""
    target = QImage(canvas.size() * canvas.devicePixelRatioF(), QImage.Format.Format_RGB32)
    target.setDevicePixelRatio(canvas.devicePixelRatioF())
    times = []
    for _ in gesture(canvas):
        begun = time.perf_counter()
        canvas.render(target)
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def at_rest(canvas: ScatterCanvas) -> list[float]:
    """Return ms of a frame drawn as well as it can be."""
    target = QImage(canvas.size() * canvas.devicePixelRatioF(), QImage.Format.Format_RGB32)
    times = []
    for _ in range(5):
        canvas._rest.stop()
        canvas._draw_again()
        canvas.render(target)
        times.append(canvas.frame_ms)
    return times


def report(name: str, times: list[float]) -> None:
    """Print the median, the 95th percentile and the longest."""
    median, p95 = np.percentile(times, (50, 95))
    print(
        f"{name:<44} median {median:6.1f} ms   p95 {p95:6.1f} ms   longest {max(times):6.1f} ms   {1e3 / p95:5.0f} /s"
    )


def measured(n: int, *, is_dense: bool) -> None:
    """Measure a map of n points."""
    positions, groups = blobs(n)
    begun = time.perf_counter()
    cloud = Cloud.of(in_unit_square(positions))
    layer = Layer(cloud).prepare()
    print(f"{n:>9,} points: sorted in {(time.perf_counter() - begun) * 1e3:.0f} ms, in the background")
    canvas = ScatterCanvas(is_animated=False)
    canvas.resize(WIDTH, HEIGHT)
    canvas.set_cloud(cloud, layer)
    canvas.set_colours(groups.astype(np.uint8), theme.category_colours(GROUPS))
    canvas.set_thumbnails("never")
    canvas.show()
    report("  points", painted(canvas))
    canvas.fit()
    report("  points, once the view rests", at_rest(canvas))
    canvas.set_shown(groups % 3 > 0)
    canvas.set_chosen(groups == 7)
    report("  a third outside the filter, some selected", painted(canvas))
    canvas.set_shown(None)
    canvas.set_chosen(None)
    if is_dense:
        canvas.fit()
        canvas.set_density(True)
        report("  density", painted(canvas))
        canvas.set_density(False)
    canvas.fit()
    tools(canvas)
    canvas.close()


def tools(canvas: ScatterCanvas) -> None:
    """Measure lasso, pick and what a new selection takes."""
    path = QPainterPath(QPointF(300, 200))
    for angle in np.linspace(0, 2 * np.pi, 300):
        path.lineTo(600 + 320 * np.cos(angle) * (1 + 0.2 * np.sin(9 * angle)), 400 + 300 * np.sin(angle))
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        found = canvas.numbers_in(path)
        times.append((time.perf_counter() - begun) * 1e3)
    report(f"  lasso of {len(found):,}", times)
    random = np.random.default_rng(1)
    times = []
    for x, y in random.uniform((0, 0), (WIDTH, HEIGHT), (300, 2)):
        begun = time.perf_counter()
        canvas.number_at(QPointF(x, y))
        times.append((time.perf_counter() - begun) * 1e3)
    report("  pick", times)
    is_chosen = np.zeros(len(canvas._unit_N2), np.bool_)
    is_chosen[found] = True
    target = QImage(canvas.size(), QImage.Format.Format_RGB32)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        canvas.set_chosen(is_chosen)
        canvas.render(target)
        times.append((time.perf_counter() - begun) * 1e3)
    report("  new selection until painted", times)
    canvas.set_chosen(None)


def compared(n: int) -> None:
    """Measure pyqtgraph's scatter in the same gesture."""
    import pyqtgraph as pg

    positions, groups = blobs(n)
    widget = pg.PlotWidget()
    widget.resize(WIDTH, HEIGHT)
    brushes = np.array([pg.mkBrush(*colour) for colour in theme.category_colours(GROUPS).tolist()])
    widget.addItem(pg.ScatterPlotItem(x=positions[:, 0], y=positions[:, 1], size=3, pen=None, brush=brushes[groups]))
    widget.show()
    QApplication.processEvents()
    box, times = widget.getViewBox(), []
    for i in range(30):
        if i < 15:
            box.translateBy(x=3 * np.cos(i), y=2 * np.sin(i))
        else:
            box.scaleBy((0.9, 0.9))
        begun = time.perf_counter()
        widget.grab()
        times.append((time.perf_counter() - begun) * 1e3)
    report(f"  pyqtgraph ScatterPlotItem, {n:,} points", times)
    widget.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[100_000, 1_000_000])
    asked = parser.parse_args()
    application = QApplication([])
    theme.install(application, "light")
    for n in asked.points:
        measured(n, is_dense=True)
    compared(100_000)


if __name__ == "__main__":
    main()
