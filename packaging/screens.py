"""Pictures of the real window on the sample, one a place, light and dark: ``python packaging/screens.py FOLDER``.

The window is the one a person opens, with the real engine behind it; it is only drawn without a screen. ``--scale 2``
draws it as on a screen of twice the density.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

SIZE_PX = (1440, 900)
LONGEST_WAIT_S = 60.0
QUIET_S = 1.0  # so long nothing may be asked of the engine or decoded before a picture is taken


def main() -> int:
    """Draw every place and say where."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--project", type=Path, help="another project than the sample")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--places", default="", help="some of them, with commas")
    asked = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["QT_SCALE_FACTOR"] = str(asked.scale)
    asked.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    return _draw(asked.out, asked.project, asked.scale, [name for name in asked.places.split(",") if name])


def _draw(out: Path, project: Path | None, scale: float, places: list[str]) -> int:
    from dinoviz import theme
    from dinoviz.application import Application
    from dinoviz.views import VIEWS
    from dinoviz.window.window import Window

    application = Application(sys.argv[:1])
    window = Window([project] if project else [], wants_sample=project is None)
    window.resize(*SIZE_PX)
    window.show()
    session = window.desk.session
    _wait(application, lambda: len(session.state.shown) > 0)
    session.set_current(int(session.state.shown[0]))
    for view in VIEWS:
        if places and view.name not in places:
            continue
        session.go(view.name)
        if view.name == "find":
            window.desk.actions.trigger("picture.similar")
        _settle(application, window)
        for mode in ("light", "dark"):
            theme.use(mode)
            _pause(application, 0.3)
            name = f"{view.name}-{mode}{'' if scale == 1 else f'-{scale:g}x'}.png"
            window.grab().save(str(out / name))
            sys.stdout.write(f"  {out / name}\n")
    window.close()
    return 0


def _settle(application: object, window: object) -> None:
    """Wait until the engine has answered and nothing more is being drawn."""
    desk = window.desk  # type: ignore[attr-defined]
    _pause(application, QUIET_S)
    _wait(application, lambda: not (desk.vision.is_busy or desk.search.is_busy or desk.jobs.unfinished))
    _pause(application, QUIET_S)


def _wait(application: object, is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + LONGEST_WAIT_S
    while not is_so() and time.monotonic() < limit:
        _pause(application, 0.05)


def _pause(application: object, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        application.processEvents()  # type: ignore[attr-defined]
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())
