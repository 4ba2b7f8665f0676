"""What a person prefers, in a file of theirs; and what the window remembers by itself, in another.

    preferences.toml    in the folder for settings: plain text to be edited by hand; unknown lines are kept
    memory.json         in the folder for state: recent projects, and how each was left

A file that cannot be read is put aside under the name ``….bad-DATE`` and the defaults are used: nothing that stands in
it is lost, and the window opens.
"""

import json
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from platformdirs import user_config_dir, user_state_dir

from dinoviz.choices import restored
from dinoviz.theme import Mode
from engine.store import write_atomically

MOST_RECENT = 20
WIDEST_PX = 16_384
"""More than any screen has; Qt takes no number beyond 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """What a person prefers; the sentence of a field is what its control says."""

    theme: Mode = field(default="system", metadata={"text": "Colours", "says": "Light, dark, or as the system is."})
    opens_last: bool = field(
        default=True,
        metadata={"text": "Open where I left off", "says": "Opens the project that was open last, as it was."},
    )
    tells_when_done: bool = field(
        default=True,
        metadata={"text": "Tell me when a long job ends", "says": "By a message of the system while I am elsewhere."},
    )
    watches_folder: bool = field(
        default=True,
        metadata={
            "text": "Look for new pictures when a project opens",
            "says": "Reads the list of files of its folder; pictures that did not change are not read again.",
        },
    )
    keys: dict[str, str] = field(default_factory=dict, metadata={"text": "Keys", "says": "Shortcuts that differ."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """A project that was opened: its folder, when (seconds since 1970), and how many pictures it had then."""

    folder: str = ""
    opened: float = 0.0
    pictures: int = 0
    is_pinned: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    """As ``Session.memory`` gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the window remembers.

    Args:
        recent: newest first.
        open_folder: project that is open now; empty when it was closed.
        geometry: of the window, as Qt encodes it, in base64.
        has_inspector: the panel on the right is shown.
        inspector_px: its width.
    """

    recent: tuple[Recent, ...] = ()
    open_folder: str = ""
    geometry: str = ""
    has_inspector: bool = True
    inspector_px: int = 300

    def of(self, folder: Path) -> Mapping[str, Any]:
        """Return how a project was left."""
        return next((row.memory for row in self.recent if row.folder == str(folder)), {})

    def opened(self, folder: Path, pictures: int, memory: dict[str, Any]) -> "Memory":
        """Return the memory with a project that is open now as it is now."""
        old = next((row for row in self.recent if row.folder == str(folder)), Recent(folder=str(folder)))
        row = replace(old, opened=time.time(), pictures=pictures, memory=memory)
        others = [other for other in self.recent if other.folder != str(folder)]
        pinned = [other for other in others if other.is_pinned]
        rest = [other for other in others if not other.is_pinned][: max(0, MOST_RECENT - 1 - len(pinned))]
        kept = sorted([*pinned, *rest], key=lambda one: -one.opened)
        return replace(self, recent=(row, *kept), open_folder=str(folder))

    def without(self, folder: str) -> "Memory":
        """Return the memory without a project."""
        return replace(self, recent=tuple(row for row in self.recent if row.folder != folder))

    def pinned(self, folder: str, *, is_pinned: bool) -> "Memory":
        """Return the memory with a project pinned or not."""
        rows = tuple(replace(row, is_pinned=is_pinned) if row.folder == folder else row for row in self.recent)
        return replace(self, recent=rows)


def preferences_file() -> Path:
    """Return where preferences are kept."""
    return Path(user_config_dir("dinoviz")) / "preferences.toml"


def memory_file() -> Path:
    """Return where the window remembers."""
    return Path(user_state_dir("dinoviz")) / "memory.json"


def read_preferences(path: Path | None = None) -> tuple[Preferences, str]:
    """Return the preferences, and a sentence where the file could not be read; empty where all is well."""
    path = path or preferences_file()
    try:
        kept = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Preferences(), ""
    except (OSError, ValueError, RecursionError) as problem:
        return Preferences(), _put_aside(path, problem)
    made = restored(Preferences, {name: value for name, value in kept.items() if name != "keys"})
    said = kept.get("keys")
    keys = {name: keys for name, keys in said.items() if isinstance(keys, str)} if isinstance(said, dict) else {}
    theme = made.theme if made.theme in ("system", "light", "dark") else "system"
    return replace(made, keys=keys, theme=theme), ""


def write_preferences(preferences: Preferences, path: Path | None = None) -> None:
    """Write the preferences; what the file holds beside them stays.

    Raises:
        OSError: it cannot be written.
    """
    path = path or preferences_file()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        table = {}
    table |= {name: value for name, value in asdict(preferences).items() if name != "keys"}
    table["keys"] = preferences.keys
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(_toml(table).encode()))


def _toml(table: Mapping[str, Any], heading: str = "") -> str:
    """Return a table as TOML; JSON's strings, numbers, booleans and lists are TOML's too, but for null."""
    plain = {name: value for name, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{heading}]"] if heading else []
    lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in plain.items() if value is not None]
    parts = ["\n".join(lines)]
    for name, value in table.items():
        if isinstance(value, dict):
            inner = f"{heading}.{json.dumps(name)}" if heading else json.dumps(name)
            parts.append(_toml(value, inner))
    return "\n\n".join(part for part in parts if part) + "\n"


def read_memory(path: Path | None = None) -> tuple[Memory, str]:
    """Return what was remembered, and a sentence where the file could not be read."""
    path = path or memory_file()
    try:
        kept = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Memory(), ""
    except (OSError, ValueError, RecursionError) as problem:
        return Memory(), _put_aside(path, problem)
    if not isinstance(kept, dict):
        return Memory(), _put_aside(path, ValueError("it is no table"))
    rows = kept.get("recent")
    recent = tuple(
        _recent(row)
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("folder"), str)
    )
    made = restored(Memory, {name: value for name, value in kept.items() if name != "recent"})
    return replace(made, recent=recent, inspector_px=min(max(made.inspector_px, 0), WIDEST_PX)), ""


def _recent(row: dict[str, Any]) -> Recent:
    made = restored(Recent, {name: value for name, value in row.items() if name != "memory"})
    memory = row.get("memory")
    return replace(made, memory=memory if isinstance(memory, dict) else {})


def write_memory(memory: Memory, path: Path | None = None) -> None:
    """Write what is remembered.

    Raises:
        OSError: it cannot be written.
    """
    path = path or memory_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({part.name: getattr(memory, part.name) for part in fields(memory)}, default=_plain)
    write_atomically(path, lambda file: file.write(content.encode()))


def _plain(value: object) -> object:
    return asdict(value)  # type: ignore[call-overload]


def _put_aside(path: Path, problem: Exception) -> str:
    aside = path.with_name(f"{path.name}.bad-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        path.replace(aside)
    except OSError:
        return f"'{path}' could not be read: {problem}."
    return f"'{path.name}' could not be read ({problem}). It was put aside as '{aside.name}'; the defaults are used."
