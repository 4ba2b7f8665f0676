"""How a run of a project is now, from what was kept of it and the lock of its folder. No Qt.

The process that trains a run holds the lock for as long as it lives, so a run is found again after the window was
closed. One that was cut off holds no lock and never said how it ended: it is interrupted.
"""

import os
import signal
from pathlib import Path
from typing import Literal

from dinoviz.words import tr
from engine.store import writer_of

RunState = Literal["running", "finished", "stopped", "failed", "interrupted"]


def run_state(folder: Path, kept: str) -> tuple[RunState, int | None]:
    """Return how a run is, and the process that trains it, None where nobody does; reads the disk.

    Args:
        folder: of the run.
        kept: how the project says it is.
    """
    process = writer_of(folder)
    if process is not None:
        return "running", process
    match kept:
        case "finished" | "stopped" | "failed":
            return kept, None
    return "interrupted", None


def state_in_words(state: RunState) -> str:
    """Return how a run is."""
    return {
        "running": tr("running"),
        "finished": tr("finished"),
        "stopped": tr("stopped"),
        "failed": tr("failed"),
        "interrupted": tr("interrupted"),
    }[state]


def ask_to_stop(process: int) -> None:
    """Ask a run that another window started to stop, as Ctrl-C does: it ends with a checkpoint.

    Raises:
        ProcessLookupError: it has ended.
        PermissionError: it belongs to somebody else.
    """
    os.kill(process, signal.SIGINT)
