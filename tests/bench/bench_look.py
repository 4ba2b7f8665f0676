"""How fast Look answers a person: the real view and vision service, the bundled network, the photos that come along.

Run ``python tests/bench/bench_look.py [side]``. Prints, in milliseconds, the median and the worst of many, and what the
window's thread worked meanwhile: from a click on a picture nobody looked at to its attention on the screen; the same of
the next picture, which was asked for ahead; from the mouse over a patch to what that patch looks at; from a move of the
threshold to the mask with its outline and area, also for the largest lattice that can be chosen; a stroke of the brush;
frames of zooming and panning at 12 Mpx.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PySide6.QtCore import QEventLoop, QPoint, QPointF, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMainWindow

from dinoviz.actions import Actions
from dinoviz.application import Application
from dinoviz.background import Background
from dinoviz.choices import LookChoices
from dinoviz.desk import Desk
from dinoviz.engine_process import Jobs, Service
from dinoviz.looking import AttentionSeen, lattice_of
from dinoviz.session import Session
from dinoviz.thumbnails import Thumbnails
from dinoviz.views.look.view import LookView
from dinoviz.widgets.picture.canvas import PictureCanvas
from dinoviz.widgets.picture.layers import Pyramid
from dinoviz.widgets.picture.looks import mask_layers, mask_seen
from engine.commands.scanning import scan_into
from engine.project import Project

PHOTOS = Path(__file__).parents[2] / "resources" / "photos"
SIZE = (1280, 800)
LIMIT_S = 30.0
PICTURES = 12
LARGEST_SIDE = 1024
LIMITS_MS = {"slider to mask": 16.0}


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    application = Application(sys.argv[:1])
    print(f"load average {os.getloadavg()[0]:.1f}; window of {SIZE[0]} x {SIZE[1]}")
    with tempfile.TemporaryDirectory() as place:
        project = Path(place) / "photos.dinoviz"
        with Project.at(project, pictures=PHOTOS) as made:
            scan_into(made, lambda _message: None)
        with opened(project, application) as (desk, view, spin):
            desk.session.choose(look=replace(desk.session.state.choices.look, side=side))
            looking(desk, view, spin)
    largest_mask()
    frames()


@contextmanager
def opened(project: Path, application: Application) -> Iterator[tuple[Desk, LookView, Callable]]:
    window, background = QMainWindow(), Background()
    session = Session(background)
    arguments = ["--model", "bundled", "--project", str(project)]
    desk = Desk(
        session=session,
        jobs=Jobs(session),
        vision=Service("vision", lambda: arguments),
        search=Service("search", lambda: None),
        thumbnails=Thumbnails(session),
        background=background,
        actions=Actions(session, window),
    )
    view = LookView(desk)
    window.setCentralWidget(view)
    window.resize(*SIZE)
    window.show()

    def spin(until: Callable[[], bool]) -> None:
        limit = time.perf_counter() + LIMIT_S
        while not until() and time.perf_counter() < limit:
            application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 1)
        assert until(), "it took too long"

    session.open(project)
    spin(lambda: len(session.state.shown) > 0)
    session.go("look")
    yield desk, view, spin
    window.close()
    desk.vision.close()
    background.finish()
    desk.thumbnails.close()


def looking(desk: Desk, view: LookView, spin: Callable) -> None:
    session, looker, canvas = desk.session, view._looker, view._canvas
    shown = [int(picture) for picture in session.state.shown]

    def seen() -> bool:
        return (
            looker.is_seen()
            and looker.picture == session.state.current
            and looker.looks.kept(looker.wanted) is not None
        )

    def rest(seconds: float) -> None:
        limit = time.perf_counter() + seconds
        spin(lambda: time.perf_counter() > limit)

    def go_to(picture: int) -> None:
        session.set_current(picture)
        spin(seen)
        canvas.repaint()

    begun = time.perf_counter()
    go_to(shown[0])
    print(f"first attention of all, with the start of the service: {1000 * (time.perf_counter() - begun):.0f} ms")
    report("click to attention", timed(go_to, shown[4 :: len(shown) // PICTURES], lambda: rest(0.6)), waits=True)
    go_to(shown[0])
    stepped = timed(lambda _: (session.step(1), spin(seen)), range(8), lambda: rest(1.0))
    report("next picture, asked for ahead", stepped, waits=True)

    def point(at: QPoint) -> None:
        QTest.mouseMove(canvas, at)
        spin(lambda: looker.hovered is not None and looker.wanted.query == looker.hovered and seen())

    session.choose(look=replace(session.state.choices.look, query="patch"))
    rest(0.5)
    middle = canvas.rect().center()
    report(
        "mouse over a patch to its attention",
        timed(point, [middle + QPoint(30 * i - 150, 20 * i - 100) for i in range(10)], lambda: rest(0.1)),
        waits=True,
    )

    masks = [view._mask]

    def move(keep: float) -> None:
        view._panel._keep._slider.setValue(round(100 * keep) - 1)
        spin(lambda: view._mask is not None and view._mask is not masks[-1])
        masks.append(view._mask)
        canvas.repaint()

    session.choose(look=replace(session.state.choices.look, query="cls", shows="mask"))
    rest(0.5)
    report("slider to mask", timed(move, [round(k, 2) for k in np.linspace(0.1, 0.95, 60)], lambda: None))
    view._press("brush")

    def brush(at: QPoint) -> None:
        QTest.mouseMove(canvas, at)
        canvas.repaint()

    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    report("brush", timed(brush, [middle + QPoint(2 * i, i) for i in range(60)], lambda: None))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle)
    rest(0.3)


def largest_mask() -> None:
    """A mask of 12 heads at the largest side, on a picture of 3 : 2, patch 14: arithmetic and drawing."""
    lattice = lattice_of((3000, 4500), 14, LARGEST_SIDE)
    maps_HRC = np.random.default_rng(0).random((12, lattice.rows, lattice.cols)).astype(np.float32) ** 8
    coarse_HRC = (
        maps_HRC + 4 * np.repeat(np.repeat(maps_HRC[:, ::8, ::8], 8, 1), 8, 2)[:, : lattice.rows, : lattice.cols]
    )
    seen = AttentionSeen(coarse_HRC.astype(np.float32), lattice, 11)
    canvas = shown_canvas()

    def move(keep: float) -> None:
        choices = LookChoices(shows="mask", keep=keep)
        canvas.set_layers(mask_layers(mask_seen(seen, choices, None), choices))
        canvas.repaint()

    report(
        f"slider to mask, {lattice.rows} x {lattice.cols} patches, 12 heads",
        timed(move, np.linspace(0.1, 0.9, 30), lambda: None),
    )


def frames() -> None:
    canvas = shown_canvas()

    def zoom(step: int) -> None:
        canvas.zoom_at(QPointF(400, 300), 1.15 if step % 40 < 20 else 1 / 1.15)
        canvas.repaint()

    def pan(step: int) -> None:
        canvas.pan(QPointF(17 if step % 40 < 20 else -17, 9))
        canvas.repaint()

    report("frame of zooming, 12 Mpx", timed(zoom, range(80), lambda: None))
    canvas.view.look(4, 0.5, 0.5)
    report("frame of panning, 12 Mpx", timed(pan, range(80), lambda: None))


def shown_canvas() -> PictureCanvas:
    canvas = PictureCanvas()
    canvas.resize(*SIZE)
    noise = np.random.default_rng(0).integers(0, 255, (3000, 4500, 3), dtype=np.uint8)
    begun = time.perf_counter()
    pyramid = Pyramid.of(QImage(noise.data, 4500, 3000, 3 * 4500, QImage.Format.Format_RGB888))
    print(f"  halved copies of 13.5 Mpx, beside the window's thread: {1000 * (time.perf_counter() - begun):.0f} ms")
    canvas.set_picture(pyramid)
    canvas.show()
    QTest.qWaitForWindowExposed(canvas)
    return canvas


def timed(act: Callable, values: Iterable, between: Callable[[], object]) -> list[tuple[float, float]]:
    """Return, of each, the milliseconds it took and those that this thread worked."""
    taken = []
    for value in values:
        between()
        begun, worked = time.perf_counter(), time.thread_time()
        act(value)
        taken.append((1000 * (time.perf_counter() - begun), 1000 * (time.thread_time() - worked)))
    return taken


def report(what: str, taken: list[tuple[float, float]], *, waits: bool = False) -> None:
    passed, worked = ([row[i] for row in taken] for i in (0, 1))
    limit = f"  (limit {LIMITS_MS[what]:.0f})" if what in LIMITS_MS else ""
    told = f"median {statistics.median(passed):.1f} ms, worst {max(passed):.1f} ms of {len(taken)}{limit}"
    print(f"{what}: {told}" + ("" if waits else f"; the window's thread works {statistics.median(worked):.1f} ms"))


if __name__ == "__main__":
    main()
