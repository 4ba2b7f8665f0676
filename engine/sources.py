"""Where pictures are taken from, as a person writes it: a folder, shards by a pattern, or commands that write shards.

    photos/                                    a folder; tar shards in it are looked into as well
    "shards/train-{000..146}.tar"              some shards of a folder; * and ? too
    "pipe:aws s3 cp s3://b/{00..09}.tar -"     the output of a command, one shard each

Names are expanded as in a shell, and as webdataset does it. It reads no shard and starts no command.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadInput
from engine.shards import SUFFIX

PIPE = "pipe:"
MOST_NAMES = 1_000_000
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_BRACES = re.compile(r"\{(-?\d+\.\.-?\d+|[^{}]*,[^{}]*)\}")
_WILD = re.compile(r"[*?\[]")
_OPEN = re.compile(r"[{*?\[]")


@dataclass(frozen=True, slots=True)
class Shards:
    """Some shards.

    Args:
        folder: what their names are relative to; None where commands write them.
        pattern: names, '/' between parts, or ``pipe:`` and commands.
    """

    folder: Path | None
    pattern: str

    @property
    def is_piped(self) -> bool:
        """Whether commands write them."""
        return self.pattern.startswith(PIPE)


def source(text: str) -> Path | Shards:
    """Return what is meant by the name of a folder, a shard, a pattern of shards or ``pipe:COMMAND``."""
    if text.startswith(PIPE):
        return Shards(None, text)
    path = Path(text)
    if path.suffix.lower() != SUFFIX or path.is_dir():
        return path
    parts = path.parts
    plain = next((number for number, part in enumerate(parts) if _OPEN.search(part)), len(parts) - 1)
    return Shards(Path(*parts[:plain]), "/".join(parts[plain:]))


def shard_names(pattern: str, folder: Path) -> list[str]:
    """Return the shards that a pattern names, relative to ``folder`` and each once; those that are not there too.

    Raises:
        BadInput: the pattern stands for too many names.
    """
    names: dict[str, None] = {}
    for name in expanded(pattern):
        if _WILD.search(name) and not (folder / name).exists():
            found = sorted(path.relative_to(folder).as_posix() for path in folder.glob(name))
            names |= dict.fromkeys(found)
        else:
            names[name] = None
    return list(names)


def expanded(pattern: str) -> list[str]:
    """Return what a text with ``{a,b}`` and ``{000..146}`` stands for, in order and each once; zeros in front are kept.

    Raises:
        BadInput: that are too many.
    """
    texts: dict[str, None] = {}
    for number, text in enumerate(_expanded(pattern)):
        if number == MOST_NAMES:
            raise BadInput(f"'{pattern}' stands for more than {MOST_NAMES:,} names.", "Name fewer shards.")
        texts[text] = None
    return list(texts)


def _expanded(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, behind = pattern[: match.start()], pattern[match.end() :]
    for choice in _choices(match[1]):
        yield from _expanded(before + choice + behind)


def _choices(inside: str) -> Iterator[str]:
    ends = _RANGE.fullmatch(inside)
    if ends is None:
        yield from inside.split(",")
        return
    first, last = int(ends[1]), int(ends[2])
    is_padded = any(len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") for text in ends.groups())
    width = max(map(len, ends.groups())) if is_padded else 0
    for number in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield f"{number:0{width}d}"
