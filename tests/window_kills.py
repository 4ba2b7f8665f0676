"""A window that works until it is killed, and what must hold afterwards.

Run as a program it opens a project, looks, trains, and says of pictures what comes to its mind, each time writing a
line to standard output first; ``kill_once`` kills it at some moment, or one of its children, and checks that nothing
that was said two seconds before is lost, that no process is left after five, and that the project opens as it was.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

ENDS_WITHIN_S = 5.0
LOST_AT_MOST_S = 2.0
ROOT = Path(__file__).resolve().parents[1]


def kill_once(project: Path, home: Path, after_s: float, victim: str, seed: int) -> list[str]:
    """Start a window, kill it or a child after some time, and return what does not hold; nothing where all is well.

    Args:
        project: to work in.
        home: for what the window remembers.
        after_s: since its first word.
        victim: window, or the word by which a child's command line is known: vision, train.
        seed: of what it does.
    """
    names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    environment = {
        **os.environ,
        **dict.fromkeys(names, str(home)),
        "QT_QPA_PLATFORM": "offscreen",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.window_kills", str(project), str(seed)]
    with (home / f"said-{seed}.txt").open("wb") as said:
        window = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.DEVNULL)
        _wait_for_words(Path(said.name), window)
        time.sleep(after_s)
        family = psutil.Process(window.pid).children(recursive=True)
        wrong = []
        if victim == "window":
            window.kill()
        else:
            wrong += _kill_child(window, family, victim)
        window.kill()
        killed_at = time.time()
        window.wait()
    _, alive = psutil.wait_procs(family, timeout=ENDS_WITHIN_S)
    wrong += [f"left after {ENDS_WITHIN_S:.0f} s: {' '.join(process.cmdline()[:8])}" for process in alive]
    for process in alive:
        process.kill()
    return wrong + _lost(project, home, Path(said.name), killed_at)


def _wait_for_words(path: Path, window: subprocess.Popen) -> None:
    limit = time.monotonic() + 60
    while not path.stat().st_size:
        assert window.poll() is None, "the window ended by itself"
        assert time.monotonic() < limit, "the window did not begin"
        time.sleep(0.02)


def _kill_child(window: subprocess.Popen, family: list[psutil.Process], victim: str) -> list[str]:
    """Kill a child; the window goes on, and has said something since."""
    for process in family:
        try:
            if victim in process.cmdline():
                process.kill()
        except psutil.NoSuchProcess:
            continue
    time.sleep(1.0)
    return [] if window.poll() is None else [f"the window ended when {victim} was killed"]


def _lost(project: Path, home: Path, said: Path, killed_at: float) -> list[str]:
    """Return what was said in time and is not there."""
    from engine.project import Project

    with Project.at(project) as opened:
        marks = opened.marks()
    wanted: dict[int, int] = {}
    tags: set[tuple[str, int]] = set()
    current = None
    for line in said.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the last line was cut
            continue
        if row["at"] > killed_at - LOST_AT_MOST_S:
            break
        if row["what"] == "rate":
            wanted[row["id"]] = row["stars"]
        elif row["what"] == "tag":
            tags.add((row["tag"], row["id"]))
        elif row["what"] == "current":
            current = row["id"]
    later = _said_later(said, killed_at)
    wrong = [
        f"rating of {picture} is {marks.ratings.get(picture)}, not {stars}"
        for picture, stars in wanted.items()
        if marks.ratings.get(picture) != stars and picture not in later
    ]
    wrong += [f"tag {tag} of {picture} is lost" for tag, picture in tags if picture not in marks.tags.get(tag, ())]
    memory = json.loads((home / "dinoviz" / "memory.json").read_bytes()) if current is not None else {}
    if current is not None and memory.get("open_folder") != str(project):
        wrong.append("the open project is not remembered")
    return wrong


def _said_later(said: Path, killed_at: float) -> set[int]:
    """Return the pictures that something was said of in the last two seconds, which may be lost or not."""
    found = set()
    for line in said.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["at"] > killed_at - LOST_AT_MOST_S:
            found.add(row["id"])
    return found


def work() -> None:
    """Open the project and work in it until killed."""
    project, seed = Path(sys.argv[1]), int(sys.argv[2])
    from dinoviz.application import Application
    from dinoviz.window.window import Window
    from tests.dinoviz.windows import turn, wait

    Application([])
    window = Window([project])
    window.show()
    session = window.desk.session
    wait(lambda: len(session.state.shown) > 0 and not session.state.is_reading)
    session.go("look")
    train = ["train", str(project), "--epochs", "2000", "--device", "cpu", "--workers", "0", "--batch", "8"]
    window.desk.jobs.start(train, "Train")
    draw = random.Random(seed)
    while True:
        picture = draw.choice(session.state.table.ids_N.tolist())
        what = draw.choice(["rate", "tag", "current"])
        row = {"what": what, "id": picture, "stars": draw.randint(1, 5), "tag": draw.choice("abc"), "at": time.time()}
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
        match what:
            case "rate":
                session.rate([picture], row["stars"])
            case "tag":
                session.tag([picture], row["tag"])
            case "current":
                session.set_current(picture)
        turn(draw.uniform(0.0, 0.3))


if __name__ == "__main__":
    work()
