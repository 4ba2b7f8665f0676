"""A first-time user's whole tour at the real window, with the real engine behind it.

    python -m tests.tour --pictures FOLDER --out FOLDER [--train-seconds 120] [--shots]

Drops the folder on the empty window, trains, makes features and a map, lassoes, looks, masks, searches by a part,
exports masks and features, is killed, and opens again as it was. Every step is done by what is visible: names of
buttons, the mouse, the keyboard. Prints how long each step took, how many actions it needed, and the longest stalls.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PySide6.QtCore import QPoint
    from PySide6.QtWidgets import QWidget

ROOT = Path(__file__).resolve().parents[1]
SIZE_PX = (1440, 900)
PREPARES_S = 400.0


class Tour:
    """The tour, step by step.

    Args:
        pictures: folder that is dropped.
        out: where exports and pictures of the window go.
        train_s: how long to train before Stop.
        has_shots: keep pictures of the window.
    """

    def __init__(self, pictures: Path, out: Path, train_s: float, *, has_shots: bool) -> None:
        from dinoviz.window.window import Window
        from tests.person import Person

        self.pictures, self.out, self.train_s, self.has_shots = pictures, out, train_s, has_shots
        self.window = Window()
        self.window.resize(*SIZE_PX)
        self.window.show()
        self.person = Person(self.window)
        self.person.wait(lambda: self.window.is_ready, "the window", 20)
        self.person.pause(0.3)
        self.state = lambda: self.window.desk.session.state
        self.facts: dict[str, object] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, count its actions, and keep a picture of how it ended."""
        self.person.does(name)
        begun, actions = time.monotonic(), self.person.actions
        yield
        self.facts[name] = {"s": round(time.monotonic() - begun, 1), "actions": self.person.actions - actions}
        if self.has_shots:
            self.person.pause(0.6)
            self.person.shot(self.out / "shots" / f"{len(self.facts):02d}-{name.replace(' ', '-')}.png")
        sys.stderr.write(f"{name}: {self.facts[name]}\n")

    def all(self) -> dict[str, object]:
        """Do everything, and return what was measured."""
        self.drop()
        self.train()
        self.map()
        self.lasso()
        self.look()
        self.mask()
        self.search_by_part()
        self.export_masks()
        self.export_features()
        stalls = self.person.stalls.longest_ms
        self.facts["stalls_ms"] = {name: round(ms) for name, ms in stalls.items()}
        return self.facts

    def drop(self) -> None:
        """Drop the folder; its pictures appear."""
        with self.step("drop the folder"):
            said = self.person.drop([self.pictures])
            self.facts["said before letting go"] = said
            begun = time.monotonic()
            self.person.wait(lambda: len(self.state().shown) > 0, "the first pictures", 60)
            self.facts["first pictures after s"] = round(time.monotonic() - begun, 2)
            self.person.wait(lambda: not self.window.desk.jobs.unfinished, "the end of the scan", 300)

    def train(self) -> None:
        """Train for some time, watch it, stop."""
        person = self.person
        with self.step("train"):
            person.press("Train")
            person.press("Start training", 60)
            jobs = self.window.desk.jobs
            person.wait(lambda: any(j.argv[0] == "train" and j.measured for j in jobs.unfinished), "a first step", 300)
            person.pause(self.train_s)
            if self.has_shots:
                person.shot(self.out / "shots" / "00-while-training.png")
            person.press("Stop")
            person.wait(lambda: not jobs.unfinished, "the end of training", 60)
            person.wait(lambda: self.state().runs[-1].state == "stopped", "a run that was stopped", 10)
        with self.step("what it learnt"):
            person.press("Probe pictures")
            person.pause(1.0)
            person.press("Use this backbone")

    def map(self) -> None:
        """Make features and a map with the backbone that was trained."""
        with self.step("make the map"):
            self.person.press("Map")
            self.person.press("Make the features and the map")
            self.person.wait(self._has_map, "the map", PREPARES_S)

    def _canvas(self) -> "QWidget | None":
        """Return the map that is shown."""
        from dinoviz.widgets.scatter.canvas import ScatterCanvas

        return next((one for one in self.window.findChildren(ScatterCanvas) if one.isVisible()), None)

    def _has_map(self) -> bool:
        return self._canvas() is not None and not self.window.desk.jobs.unfinished

    def lasso(self) -> None:
        """Draw around some of the points."""
        from tests.person import circle

        with self.step("lasso"):
            canvas = self._canvas()
            assert canvas is not None
            self.person.pause(0.5)
            self.person.press("Lasso")
            self.person.drag(canvas, circle(canvas.size(), 0.22))
            self.person.wait(lambda: len(self.state().selected) > 0, "a selection", 10)
            self.facts["selected"] = len(self.state().selected)

    def look(self) -> None:
        """See what the network looks at in a picture of the selection, head by head."""
        from dinoviz.widgets.picture.canvas import PictureCanvas

        with self.step("look"):
            self.window.desk.session.set_current(int(self.state().selected[0]))
            self.person.press("Look")
            canvas = self.person.find("Picture", PictureCanvas)
            self.person.wait(lambda: not self.window.desk.vision.is_busy, "attention", 60)
            self.person.pause(1.0)
            self.person.press("Patch under the mouse")
            for i in range(12):
                self.person.hover(canvas, canvas.rect().center() + _at(14 * i - 80, 6 * i - 30))
            self.person.wait(lambda: not self.window.desk.vision.is_busy, "attention of a patch", 60)
            self.person.press("[CLS]")
            self.person.wait(lambda: not self.window.desk.vision.is_busy, "attention", 60)

    def mask(self) -> None:
        """Mask the object by the threshold."""
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest
        from PySide6.QtWidgets import QSlider

        with self.step("mask"):
            self.person.press("Mask")
            slider = self.person.find("Attention kept", QSlider)
            slider.setFocus()
            for _ in range(20):
                QTest.keyClick(slider, Qt.Key.Key_Left)
                self.person.pause(0.01)
            self.person.actions += 1
            self.facts["keep"] = round(self.state().choices.look.keep, 2)

    def search_by_part(self) -> None:
        """Draw a box on a picture, and find what it shows in others."""
        from dinoviz.widgets.picture.canvas import PictureCanvas

        person = self.person
        with self.step("search by part"):
            person.press("Find")
            person.press("Look for the current picture")
            canvas = person.find("Picture that is looked for", PictureCanvas)
            person.pause(1.0)
            middle = canvas.rect().center()
            person.drag(canvas, [middle + _at(-28 + 7 * i, -28 + 7 * i) for i in range(9)])
            person.pause(0.5)
            person.wait(self._is_found_or_offered, "results or what is lacking", 30)
            while not self._has_results():
                person.press(self._offered())
                person.pause(1.0)
                person.wait(lambda: not self.window.desk.jobs.unfinished, "what was lacking", PREPARES_S)
                person.wait(self._is_found_or_offered, "results", 60)

    def _is_found_or_offered(self) -> bool:
        return self._has_results() or bool(self._offered())

    def _offered(self) -> str:
        from PySide6.QtWidgets import QPushButton

        shown = [b for b in self.window.stack.currentWidget().findChildren(QPushButton) if b.isVisible()]
        return next((b.text() for b in shown if b.property("kind") == "primary"), "")

    def _has_results(self) -> bool:
        from dinoviz.widgets.picture.grid import PictureGrid

        grids = self.window.stack.currentWidget().findChildren(PictureGrid)
        return any(grid.isVisible() and len(grid.ids) for grid in grids)

    def export_masks(self) -> None:
        """Write the masks of the selection."""
        with self.step("export masks"):
            self.person.actions += 1
            self.window.desk.actions.trigger("export.masks")
            self.person.write("Folder to make", str(self.out / "masks"))
            self.person.press(f"Export {len(self.state().selected)}")
            self._exported(self.out / "masks")

    def export_features(self) -> None:
        """Write the features of all pictures."""
        with self.step("export features"):
            self.person.actions += 1
            self.window.desk.actions.trigger("export.embeddings")
            self.person.write("Write to", str(self.out / "features"))
            self.person.press("Export")
            self._exported(self.out / "features")

    def _exported(self, to: Path) -> None:
        self.person.wait(lambda: not self.window.desk.jobs.unfinished, "the export", PREPARES_S)
        assert self.state().jobs[-1].state in ("done", "partial"), self.state().jobs[-1]
        assert to.exists()


def _at(x: int, y: int) -> "QPoint":
    from PySide6.QtCore import QPoint

    return QPoint(x, y)


def reopen(out: Path, *, has_shots: bool) -> dict[str, object]:
    """Open the window again after it was killed, and return what it shows."""
    from dinoviz.window.window import Window
    from tests.person import Person

    begun = time.monotonic()
    window = Window()
    window.resize(*SIZE_PX)
    window.show()
    person = Person(window)
    state = lambda: window.desk.session.state  # noqa: E731
    person.wait(lambda: len(state().shown) > 0 and not state().is_reading, "the project", 30)
    took = time.monotonic() - begun
    person.pause(2.0)
    if has_shots:
        person.shot(out / "shots" / "99-reopened.png")
    found = {
        "opened again after s": round(took, 2),
        "place": state().place,
        "selected": len(state().selected),
        "current": state().current,
        "model": state().model,
        "keep": round(state().choices.look.keep, 2),
        "runs": len(state().runs),
        "sets": len(state().sets),
    }
    window.close()
    return found


def run_all(pictures: Path, out: Path, home: Path, train_s: float, *, has_shots: bool = False) -> dict[str, dict]:
    """Do the tour in a window that is killed at its end, open it again, and return what both found."""
    names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    environment = {**os.environ, **dict.fromkeys(names, str(home))}
    command = [sys.executable, "-m", "tests.tour", "--pictures", str(pictures), "--out", str(out)]
    command += ["--train-seconds", str(train_s), *(["--shots"] if has_shots else [])]
    found = {}
    for part, code in (("tour", -signal.SIGKILL), ("reopen", 0)):
        done = subprocess.run(
            [*command, "--part", part], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == code, f"{part} ended with {done.returncode}"
        found[part] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Do one part, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train-seconds", type=float, default=120.0)
    parser.add_argument("--shots", action="store_true")
    parser.add_argument("--part", choices=["all", "tour", "reopen"], default="all")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.part == "all":
        home = asked.out / "home"
        home.mkdir(exist_ok=True)
        found = run_all(asked.pictures, asked.out, home, asked.train_seconds, has_shots=asked.shots)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    from dinoviz.application import Application

    Application(sys.argv[:1])
    if asked.part == "reopen":
        sys.stdout.write(json.dumps(reopen(asked.out, has_shots=asked.shots)) + "\n")
        return
    tour = Tour(asked.pictures, asked.out, asked.train_seconds, has_shots=asked.shots)
    sys.stdout.write(json.dumps(tour.all()) + "\n")
    sys.stdout.flush()
    tour.person.pause(2.5)  # two seconds may be lost
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
