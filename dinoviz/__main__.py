"""``dinoviz [FOLDER|PROJECT]``: the window."""

import argparse
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Open the window and leave with the application's exit code."""
    parser = argparse.ArgumentParser(prog="dinoviz", description="See, find, map and train on a folder of pictures.")
    parser.add_argument("open", nargs="*", type=Path, help="a folder of pictures, or a project")
    parser.add_argument("--sample", action="store_true", help="open the sample project")
    asked = parser.parse_args()
    sys.exit(_run(asked.open, wants_sample=asked.sample))


def _run(paths: list[Path], *, wants_sample: bool) -> int:
    from dinoviz import crash_log
    from dinoviz.application import Application

    log = crash_log.CrashLog()
    log.open()
    application = Application(sys.argv[:1])

    from dinoviz.window.window import Window

    window = Window(paths, wants_sample=wants_sample)
    crash_log.install(window.went_wrong.emit)
    signal.signal(signal.SIGINT, lambda *_: application.quit())
    application.aboutToQuit.connect(window.end)
    window.show()
    code = application.exec()
    log.close()
    if any(job.stays and not job.is_over for job in window.desk.session.state.jobs):
        os._exit(code)  # Qt kills the processes it started when it takes their objects down, and this one was to stay
    return code


if __name__ == "__main__":
    main()
