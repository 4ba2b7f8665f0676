"""Shards that commands write: kept once, whole, and then read like any other shard.

A command is run because a person typed it, never because a project names it: a project may come from anyone.

    cache/shards/   train-0000.tar …   spooled.json, which command wrote which shard and of how many bytes
"""

import json
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from engine.errors import BadInput, DiskFull
from engine.protocol import Noticed, Tell
from engine.shards import SUFFIX
from engine.sources import PIPE, expanded
from engine.store import clear_temporaries, replace, sync_file, sync_folder, temporary_beside, write_atomically
from engine.timing import Pace

FOLDER = Path("cache") / "shards"
"""Where they lie in a project; may be deleted, as everything in ``cache``."""
AT_ONCE = 4
"""Commands that run side by side: most of them wait for a network."""
LEAST_ROOM_BYTES = 1 << 20
_LIST = "spooled.json"


def spool(source: str, folder: Path, tell: Tell) -> None:
    """Run the commands whose shards are not there in full, and keep what they write.

    A command that fails is told and left out; it is run again the next time.

    Args:
        source: ``pipe:`` and commands, in a shell's words; braces stand for several.
        folder: where the shards go; made if it is not there.
        tell: gets progress and warnings.

    Raises:
        BadInput: no command wrote anything, now or before.
        DiskFull: there is no room; shards that are whole are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spooled = _Spooled(folder)
    commands = _commands(source)
    missing = [(command, name) for command, name in _named(commands) if not spooled.has(command, name)]
    pace = Pace("fetching shards", len(missing), "shards", tell)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for problem in threads.map(lambda job: spooled.fetch(*job), missing):
            pace.reached(pace.done + 1)
            if problem:
                tell(Noticed(level="warning", text=problem))
    if not any(spooled.has(command, name) for command, name in _named(commands)):
        raise BadInput("No shard could be fetched.", "Try the command behind pipe: by itself.")


def spooled_names(source: str) -> list[str]:
    """Return the names of the shards of a source, whether they are there or not."""
    return [name for _, name in _named(_commands(source))]


def _commands(source: str) -> list[str]:
    return expanded(source.removeprefix(PIPE).strip())


def _named(commands: list[str]) -> list[tuple[str, str]]:
    """Return each command with the name of its shard: that of the first .tar it speaks of, or its number."""
    named, taken = [], set()
    for number, command in enumerate(commands):
        words = (word.strip("'\"<>|;()").rpartition("/")[2] for word in command.split())
        name = next((word for word in words if word.endswith(SUFFIX) and word != SUFFIX), "")
        if not name or name.startswith(".") or name in taken:
            name = f"shard-{number:06d}{SUFFIX}"
        taken.add(name)
        named.append((command, name))
    return named


class _Spooled:
    """The shards of a folder that are whole, by the command that wrote them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        self._known: dict[str, list[str | int]] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads((folder / _LIST).read_bytes())

    def has(self, command: str, name: str) -> bool:
        """Tell whether the shard is there with as many bytes as the command wrote."""
        with suppress(OSError):
            return self._known.get(command) == [name, (self._folder / name).stat().st_size]
        return False

    def fetch(self, command: str, name: str) -> str:
        """Run a command and keep its shard; return what went wrong, in words."""
        path = self._folder / name
        clear_temporaries(path)
        part = temporary_beside(path)
        try:
            problem = _run(command, part)
            if problem:
                return f"'{command}' {problem}."
            sync_file(part)
            replace(part, path)
            sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)
        with self._writing:
            self._known[command] = [name, path.stat().st_size]
            content = json.dumps(self._known, indent=0).encode()
            write_atomically(self._folder / _LIST, lambda file: file.write(content))
        return ""


def _run(command: str, path: Path) -> str:
    """Run a command with ``path`` as its output; return why it gave no shard, in words.

    Raises:
        DiskFull: there was no room for it.
    """
    with path.open("xb") as file, tempfile.TemporaryFile() as told:
        done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=file, stderr=told, check=False)
        told.seek(0)
        last = (told.read().decode(errors="replace").strip().splitlines() or [""])[-1]
    if done.returncode and shutil.disk_usage(path.parent).free < LEAST_ROOM_BYTES:
        raise DiskFull(f"No room left to write '{path.parent}'.", "Free some space and try again.")
    if done.returncode:
        return f"failed with code {done.returncode}{': ' * bool(last)}{last}"
    return "" if path.stat().st_size else "wrote nothing"
