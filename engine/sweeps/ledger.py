"""What a sweep has done so far, kept in the project: ``sweeps/NAME/sweep.json``.

A run of a sweep is known again by its name, its seed, what it asks for and the pictures it learns from. Where one of
them changed it is another run, and the old one stays where it is among the runs of the project.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import BadInput
from engine.project import Picture
from engine.recipes import Recipe
from engine.records import read_record, write_record
from engine.scoring import Scores

FOLDER = "sweeps"
FILE = "sweep.json"
DIGEST_BYTES = 8

State = Literal["started", "trained", "measured", "diverged", "failed"]
"""Started: not at its end; trained: at its end, and nobody measured it, or nobody can, as there are no labels."""
ENDED: tuple[State, ...] = ("trained", "measured", "diverged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of a sweep.

    ``key`` is of what it asks for and learns from; ``run`` its folder in the project, empty before there is one;
    ``problem`` why it failed or diverged; ``seconds`` what it took, all attempts together; ``measured_on`` the digest
    of the labelled pictures that ``scores`` are of.
    """

    name: str
    seed: int
    key: str
    state: State = "started"
    run: str = ""
    problem: str = ""
    seconds: float = 0.0
    left_out: int = 0
    scores: Scores | None = None
    measured_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    entries: list[Entry] = field(default_factory=list)


class Ledger:
    """The entries of a sweep, on the disk after every change.

    Args:
        folder: of the sweep; exists, and the caller holds its lock.

    Raises:
        BadInput: there is a file of entries that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / FILE
        kept = read_record(path, _Kept)
        if kept is None and path.exists():
            raise BadInput(f"'{path}' cannot be read.", "It was changed by hand; choose another --name, or delete it.")
        self._entries = {(entry.name, entry.seed, entry.key): entry for entry in kept.entries} if kept else {}

    def entry(self, name: str, seed: int, key: str) -> Entry:
        """Return what was done of a run; a new entry where nothing was."""
        return self._entries.get((name, seed, key), Entry(name=name, seed=seed, key=key))

    def change(self, entry: Entry, **changes: Any) -> Entry:
        """Keep an entry with what changed of it, and return it."""
        changed = replace(entry, **changes)
        self._entries[changed.name, changed.seed, changed.key] = changed
        write_record(self.folder / FILE, _Kept(entries=list(self._entries.values())))
        return changed


def key_of(recipe: Recipe, pictures: str) -> str:
    """Return a digest of what a run asks for and the fingerprint of what it learns from."""
    return _digest(json.dumps([dict(sorted(recipe.asked.items())), pictures]).encode())


def labels_key(pictures: Sequence[Picture]) -> str:
    """Return a digest of what accuracies are measured on: contents, labels and splits of the labelled pictures."""
    rows = [repr((p.path, p.hash, p.label, p.split)) for p in pictures if p.label is not None]
    return _digest("\n".join(rows).encode(errors="surrogateescape"))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
