"""What the place of training costs the thread that paints: ``python tests/bench/bench_train_view.py``.

Milliseconds of a key in the form until all is settled and painted, of curves of 100,000 measurements, of the
cross-hair, and of a step of the probe pictures; the median and the worst of some tries.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PySide6.QtGui import QImage

from dinoviz.application import Application
from dinoviz.views.train.curves import CurvesPanel
from dinoviz.views.train.film import ProbeFilm
from dinoviz.views.train.forms import RecipeForm
from dinoviz.views.train.log import RunLog
from dinoviz.views.train.probe_sheet import ProbeSheet
from dinoviz.views.train.run_plan import Ground, prepared
from engine.facts import Machine
from engine.recipes import Recipe, settle
from engine.seeing.probe_files import ProbeLook
from engine.settings import Facts
from tests.dinoviz.runs import measured, write_plan

MEASUREMENTS = 100_000
RUNS = 3
TRIES = 25


def timed(what: str, do: Callable[[int], object], application: Application) -> None:
    taken = []
    for i in range(TRIES):
        begun = time.perf_counter()
        do(i)
        application.processEvents()
        taken.append(1000 * (time.perf_counter() - begun))
    print(f"{what:<58} {np.median(taken):6.1f} ms, worst {max(taken):6.1f} ms")


def long_log(folder: Path, number: int) -> RunLog:
    write_plan(folder, settle(Recipe.of({"epochs": 1000}), Facts(n_pictures=32_000)))
    log = RunLog(folder, number)
    random = np.random.default_rng(number)
    for step in range(MEASUREMENTS):
        log._take(measured(10 * step, loss=5 + random.normal(), kl=random.random(), knn=random.random()))
    return log


def bench_form(application: Application) -> None:
    cpu = Machine(
        device="cpu", device_name="", device_memory_bytes=1 << 34, has_bf16=True, cores=2, memory_bytes=1 << 34
    )
    ground = Ground(
        shorter_sides=np.full(100_000, 224, np.int32),
        machines=(cpu,),
        project=Path.cwd(),
        shape_of=lambda _model: None,
    )
    form = RecipeForm(lambda *_: None)
    form.resize(640, 900)
    form.show()
    while len(form.rows) < 50:
        application.processEvents()
    for section, _ in form._sections:
        section.set_open(True)
    application.processEvents()

    def key(i: int) -> None:
        texts = {"epochs": str(i + 10)}
        form.show_prepared(texts, prepared(texts, ground))

    timed("a key in the form, settled and painted, 100,000 pictures", key, application)


def bench_curves(application: Application) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logs = [long_log(Path(folder) / str(n), n) for n in range(1, RUNS + 1)]
    panel = CurvesPanel(lambda _axis: None, lambda _over: None)
    panel.resize(1100, 800)
    panel.show()
    panel.show_runs(logs[:1])
    timed(f"curves of a run, {MEASUREMENTS:,} measurements, drawn anew", lambda _i: panel.draw(), application)
    panel.show_runs(logs)
    timed(f"the same of {RUNS} runs", lambda _i: panel.draw(), application)
    timed("the same, smoothed", lambda i: panel.set_smoothing(20 + i % 2), application)
    timed("zooming into it", lambda _i: panel.lens.zoom(300_000, 1.1), application)
    timed("moving the cross-hair", lambda i: panel.lens.point(300_000 + 10.0 * i), application)


def bench_probes(application: Application) -> None:
    random = np.random.default_rng(0)
    looks = {
        step: [
            ProbeLook(
                name=str(i),
                patch=8,
                resized=(96, 128),
                attention_HRC=random.random((3, 12, 16)).astype(np.float16),
                mask_HRC=random.random((3, 12, 16)) > 0.5,
                colours_RC3=random.integers(0, 256, (12, 16, 3), dtype=np.uint8),
            )
            for i in range(12)
        ]
        for step in range(TRIES)
    }
    pictures = {str(i): QImage(426, 320, QImage.Format.Format_RGB888) for i in range(12)}
    film = ProbeFilm(run=Path(), number=1, steps=list(looks), looks=looks, pictures=pictures)
    sheet = ProbeSheet("")
    sheet.resize(1000, 600)
    sheet.show()
    timed("a step of 12 probe pictures seen first", lambda i: sheet.show_film(film, "attention", i, None), application)
    timed("the same seen again, with a divider", lambda i: sheet.show_film(film, "attention", i, 0.4), application)


def main() -> None:
    """Print the figures."""
    application = Application([])
    bench_form(application)
    bench_curves(application)
    bench_probes(application)


if __name__ == "__main__":
    main()
