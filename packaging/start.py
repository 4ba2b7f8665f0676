"""Set dinoviz up on a fresh machine and run it: ``python3 packaging/start.py demo|test|window|engine …``.

Standard library only. Makes ``.venv`` with the pinned versions of ``constraints.txt``, checks that what was
installed can be loaded, and names the system libraries that are missing. The second time it starts at once.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CONSTRAINTS = ROOT / "packaging" / "constraints.txt"
STAMP = VENV / "dinoviz-set-up"
OLDEST_PYTHON = (3, 11)
EXIT_INTERRUPTED = 130
EXTRAS = {"demo": "", "engine": "", "window": "", "test": "[test,heif,exports-test]"}

# What the wheels expect of the system, and the Debian package it is in.
SYSTEM_LIBRARIES = {
    "libstdc++.so.6": "libstdc++6",
    "libgomp.so.1": "libgomp1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
}
# What Qt needs besides to open a window on an X screen; it only says that its plugin could not be loaded.
SCREEN_PACKAGES = (
    "libxcb-cursor0",
    "libxcb-icccm4",
    "libxcb-keysyms1",
    "libxkbcommon-x11-0",
    "libxcb-shape0",
)
MOST_LIBRARIES = 12  # as many missing ones are asked for one after the other


def main() -> int:
    """Set up what the job needs and run it; return its exit code."""
    parser = argparse.ArgumentParser(prog="start.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "job",
        choices=EXTRAS,
        help="demo: train and look at the bundled photos, open the window; test: run all tests; window: open it",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on")
    asked = parser.parse_args()
    if sys.version_info < OLDEST_PYTHON:
        print(f"dinoviz needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer; this is {sys.version.split()[0]}.")
        return 1
    try:
        if not set_up(EXTRAS[asked.job]):
            return 1
    except KeyboardInterrupt:
        print("Stopped before it was set up; start again to go on.")
        return EXIT_INTERRUPTED
    commands = {
        "demo": [str(PYTHON), str(ROOT / "packaging" / "demo.py")],
        "engine": [str(PYTHON), "-P", "-m", "engine"],  # -P: not a folder 'engine' of the user's own
        "window": [str(PYTHON), "-P", "-m", "dinoviz"],
        "test": [str(PYTHON), "-m", "pytest"],
    }
    return run([*commands[asked.job], *asked.arguments], folder=ROOT if asked.job in ("demo", "test") else None)


def run(command: list[str], folder: Path | None) -> int:
    """Run a command to its end and return its exit code; how it ends on Ctrl-C is left to it.

    Args:
        command: what to run.
        folder: where to run it; None for where the person is.
    """
    # subprocess.run would kill the child a quarter of a second after Ctrl-C, in the middle of its checkpoint. A handler
    # that does nothing, and not SIG_IGN, which the child would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    child = subprocess.Popen(command, cwd=folder)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return 128 - code if code < 0 else code


def set_up(extras: str) -> bool:
    """Make the environment unless it is there already with all that is asked for; return whether it is usable."""
    if is_set_up(extras):
        return True
    begun = time.monotonic()
    print(
        f"Setting up {VENV.relative_to(ROOT)} with pinned versions; this takes some minutes the first time.", flush=True
    )
    if not make_environment():
        return False
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--constraint", str(CONSTRAINTS), "--editable", f"{ROOT}{extras}"]
    if subprocess.run(install, cwd=ROOT, check=False).returncode:
        print("The packages could not be installed. Check the network and the room on the disk, then start again.")
        return False
    if not can_load():
        return False
    STAMP.write_text("\n".join([fingerprint(), extras]))
    print(f"Set up in {time.monotonic() - begun:.0f} s.", flush=True)
    return True


def make_environment() -> bool:
    """Make the environment unless a whole one is there; return whether it is."""
    if has_pip():
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    except OSError as problem:
        print(f"No environment could be made in {VENV}: {problem}.")
    except (subprocess.CalledProcessError, SystemExit):  # Debian without ensurepip ends the whole program
        version = ".".join(map(str, sys.version_info[:2]))
        print("This Python makes no environments with pip in them. On Debian and Ubuntu:")
        print(f"  apt-get install -y python{version}-venv")
    else:
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    return False


def has_pip() -> bool:
    """Tell whether the environment can install; one that was broken off while it was made cannot."""
    asking = [str(PYTHON), "-m", "pip", "--version"]
    return PYTHON.exists() and subprocess.run(asking, capture_output=True, check=False).returncode == 0


def is_set_up(extras: str) -> bool:
    """Tell whether the environment was made from these files, with these extras or more."""
    if not (STAMP.exists() and PYTHON.exists()):
        return False
    known, _, had = STAMP.read_text().partition("\n")
    return known == fingerprint() and extras in ("", had)


def fingerprint() -> str:
    """Return a digest of everything that decides what is installed."""
    digest = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def can_load() -> bool:
    """Load the packages with native parts; where a system library is missing, install it or say how."""
    for _ in range(MOST_LIBRARIES):
        loading = load("import cv2, faiss, torch, PIL.Image, PySide6.QtWidgets, PySide6.QtSvg")
        if loading.returncode == 0:
            return not has_screen() or can_show()
        missing = [package for library, package in SYSTEM_LIBRARIES.items() if library in loading.stderr]
        said = loading.stderr.strip().splitlines()
        print(said[-1] if said else f"The packages cannot be loaded: Python ended with {loading.returncode}.")
        if not missing or not install_system(missing):
            return False
    return False


def load(code: str) -> subprocess.CompletedProcess[str]:
    """Run some Python of the environment."""
    return subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False)


def has_screen() -> bool:
    """Tell whether a window can be opened on an X screen; other systems bring what they need."""
    return sys.platform.startswith("linux") and bool(os.environ.get("DISPLAY"))


def can_show() -> bool:
    """Open the connection to the screen; where Qt's plugin cannot be loaded, install what it needs or say how."""
    for _ in range(2):
        if load("from PySide6.QtWidgets import QApplication; QApplication([])").returncode == 0:
            return True
        if not install_system(list(SCREEN_PACKAGES)):
            break
    print("No window can be opened on this screen; everything else works.")
    return True


def install_system(packages: list[str]) -> bool:
    """Install Debian packages where that is ours to do, else say how; return whether they are there now."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    may_install = shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0
    if may_install:
        print(f"Installing system libraries: {' '.join(packages)}", flush=True)
        for step in (["apt-get", "update", "-qq"], command):
            subprocess.run(step, capture_output=True, check=False)
        return True
    print(f"System libraries are missing. On Debian and Ubuntu: {' '.join(command)}")
    return False


if __name__ == "__main__":
    sys.exit(main())
