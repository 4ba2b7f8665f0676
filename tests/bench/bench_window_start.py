"""How long from the start of the process to the first painted window: ``python tests/bench/bench_window_start.py [N]``.

Prints the median of N starts, beside that of a bare Qt window, which is the floor. Every start is a process of its own,
with nothing open and, where a project is named, with that.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import sys, time
from PySide6.QtWidgets import QApplication, QMainWindow
from PySide6.QtCore import QEvent, QTimer
class W(QMainWindow):
    def event(self, e):
        done = super().event(e)
        if e.type() == QEvent.Type.Paint:
            print(time.time(), flush=True); QTimer.singleShot(0, app.quit)
        return done
app = QApplication([]); w = W(); w.show(); app.exec()
"""
OURS = """
import sys, time
from pathlib import Path
from dinoviz.application import Application
from PySide6.QtCore import QEvent, QTimer
app = Application([])
from dinoviz.window.window import Window
class W(Window):
    painted = False
    def event(self, e):
        done = super().event(e)
        if e.type() == QEvent.Type.Paint and not self.painted:
            self.painted = True
            print(time.time(), flush=True)
            QTimer.singleShot(1500 if len(sys.argv) > 2 else 0, self.close)
        return done
w = W([Path(p) for p in sys.argv[1:2]]); w.show(); app.exec()
wrong = [n for n in ("torch", "faiss", "cv2", "sklearn", "numba", "umap", "openTSNE") if n in sys.modules]
assert not wrong, wrong
"""


def seconds(code: str, *arguments: str, home: str) -> float:
    """Start once and return the time to the first painted window, s."""
    names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    environment = {**os.environ, **dict.fromkeys(names, home)}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    begun = time.time()
    command = [sys.executable, "-c", code, *arguments]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return float(said.split()[0]) - begun


def main() -> None:
    """Print the medians."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as home:
        rows = {"bare Qt window": (BARE,), "dinoviz, welcome": (OURS,)}
        if len(sys.argv) > 2:
            rows["dinoviz, project"] = (OURS, str(Path(sys.argv[2]).resolve()), "stay")
        medians = {}
        for name, arguments in rows.items():
            seconds(*arguments, home=home)
            times = [seconds(*arguments, home=home) for _ in range(n)]
            medians[name] = statistics.median(times)
            print(f"{name:<18} median {medians[name]:.3f} s, slowest {max(times):.3f} s of {n}")
        print(f"ratio to a bare window: {medians['dinoviz, welcome'] / medians['bare Qt window']:.1f}")


if __name__ == "__main__":
    main()
