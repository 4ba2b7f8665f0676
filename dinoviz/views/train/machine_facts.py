"""What this machine is, told once by ``engine doctor`` and remembered: the window itself may not load torch to look."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from pydantic import TypeAdapter, ValidationError

from dinoviz.engine_process import Jobs
from dinoviz.jobs import Job
from dinoviz.words import tr
from engine import __version__
from engine.facts import Machine

OLD_S = 24 * 3600
"""Age after which the machine is looked at again: memory or a GPU may have been changed."""

_MACHINES = TypeAdapter(tuple[Machine, ...])
Machines = tuple[Machine, ...]


def _file() -> Path:
    return user_cache_path("dinoviz") / "machine.json"


class MachineFacts:
    """The devices of this machine.

    Args:
        jobs: runs ``engine doctor`` where nothing is remembered, or what is remembered is old.
        then: called with the devices, that of ``auto`` first; at once where they are remembered.
    """

    def __init__(self, jobs: Jobs, then: Callable[[Machines], object]) -> None:
        self._then = then
        kept, is_old = _remembered()
        if kept:
            then(kept)
        if is_old:
            jobs.start(["doctor"], tr("Check this computer"), self._take)

    def _take(self, job: Job) -> None:
        machines = _machines_in(job.outcome)
        if machines:
            _remember(job.outcome)
            self._then(machines)


def _remembered() -> tuple[Machines, bool]:
    try:
        kept = json.loads(_file().read_bytes())
        if kept["engine"] != __version__:
            return (), True
        return _machines_in(kept), time.time() - kept["at"] > OLD_S
    except (OSError, ValueError, KeyError, TypeError):
        return (), True


def _remember(told: Mapping[str, Any]) -> None:
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"engine": __version__, "at": time.time(), "devices": told["devices"]}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def _machines_in(told: Mapping[str, Any]) -> Machines:
    try:
        return _MACHINES.validate_python(list(told["devices"]))
    except (ValidationError, KeyError, TypeError):
        return ()
