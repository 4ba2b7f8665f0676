"""What a person says of pictures: ratings, labels, tags, what is left out, named selections, verdicts.

Kept in tables of the project's catalogue that only the window writes. A ``Change`` is what one action did, with what
was there before it; written backwards it undoes the action. The labels here win over those of the folders wherever
labels are read; nothing is learnt from pictures that are left out, nor measured on them; their features are kept.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MOST_STARS = 5

SCHEMA = """
CREATE TABLE ratings(id INTEGER PRIMARY KEY, stars INTEGER NOT NULL);
CREATE TABLE corrections(id INTEGER PRIMARY KEY, label TEXT NOT NULL);
CREATE TABLE left_out(id INTEGER PRIMARY KEY);
CREATE TABLE tags(tag TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(tag, id)) WITHOUT ROWID;
CREATE TABLE selections(name TEXT PRIMARY KEY, ids BLOB NOT NULL);
CREATE TABLE verdicts(kind TEXT NOT NULL, subject TEXT NOT NULL, verdict TEXT NOT NULL, PRIMARY KEY(kind, subject));
"""
"""Since 1.2. ``left_out`` holds pictures that were removed from the project; their files stay where they are."""

What = Literal["rating", "label", "hidden", "tag", "selection", "verdict"]
Key = int | str | tuple[str, int] | tuple[str, str]
Said = int | str | bool | tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one action did: of every key, what was said before and after; None where nothing was.

    Keys and values by ``what``: rating, id to stars · label, id to label · hidden, id to True · tag, (tag, id) to
    True · selection, name to ids · verdict, (kind, subject) to verdict.
    """

    what: What
    before: Mapping[Key, Said]
    after: Mapping[Key, Said]

    @property
    def inverse(self) -> "Change":
        """The change that undoes this one."""
        return Change(what=self.what, before=self.after, after=self.before)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """All that was said, by id."""

    ratings: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()
    tags: Mapping[str, frozenset[int]] = field(default_factory=dict)
    selections: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    verdicts: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def tags_of(self, picture: int) -> tuple[str, ...]:
        """Return the tags of a picture, in order."""
        return tuple(sorted(tag for tag, ids in self.tags.items() if picture in ids))

    def said(self, what: What, key: Key) -> Said:
        """Return what is said under a key; None where nothing is."""
        match what, key:
            case "rating", int():
                return self.ratings.get(key)
            case "label", int():
                return self.labels.get(key)
            case "hidden", int():
                return True if key in self.hidden else None
            case "tag", (str(tag), int(picture)):
                return True if picture in self.tags.get(tag, ()) else None
            case "selection", str():
                return self.selections.get(key)
            case "verdict", (str(kind), str(subject)):
                return self.verdicts.get((kind, subject))
        raise TypeError(f"{key!r} is no key of {what}")

    def _said_of(self, what: What, keys: Iterable[Key]) -> dict[Key, Said]:
        """Return what is said under some keys; of the kinds that are said of a million at once, without a call each."""
        match what:
            case "rating":
                return {key: self.ratings.get(key) for key in keys}  # type: ignore[arg-type]
            case "label":
                return {key: self.labels.get(key) for key in keys}  # type: ignore[arg-type]
            case "hidden":
                return {key: True if key in self.hidden else None for key in keys}
        return {key: self.said(what, key) for key in keys}

    def says_the_same(self, other: "Marks") -> bool:
        """Tell whether the same was said."""
        return all(getattr(self, name) == getattr(other, name) for name in self.__dataclass_fields__)

    def change(self, what: What, after: Mapping[Key, Said]) -> Change:
        """Return the change that makes all of ``after`` true; without what is so already."""
        before = self._said_of(what, after)
        moved = [key for key, said in after.items() if said != before[key]]
        if len(moved) == len(after):
            return Change(what=what, before=before, after=after)
        return Change(what=what, before={key: before[key] for key in moved}, after={key: after[key] for key in moved})

    def after(self, change: Change) -> "Marks":
        """Return what is said after a change."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        match change.what:
            case "rating":
                parts["ratings"] = _updated(self.ratings, change.after)
            case "label":
                parts["labels"] = _updated(self.labels, change.after)
            case "hidden":
                parts["hidden"] = _with(self.hidden, change.after.items())
            case "tag":
                parts["tags"] = _retagged(self.tags, change.after)
            case "selection":
                parts["selections"] = _updated(self.selections, change.after)
            case "verdict":
                parts["verdicts"] = _updated(self.verdicts, change.after)
        return Marks(**parts)


def _updated(old: Mapping, after: Mapping[Key, Said]) -> dict:
    new = {**old, **after}
    for key in [key for key, value in after.items() if value is None]:
        del new[key]
    return new


def _with(old: frozenset[int], moved: Iterable[tuple[Key, Said]]) -> frozenset[int]:
    moved = list(moved)
    gone = {key for key, is_in in moved if not is_in}
    new = old.union(key for key, is_in in moved if is_in)  # type: ignore[arg-type]
    return new - gone if gone else new  # a copy of a million takes as long as all the rest


def _retagged(old: Mapping[str, frozenset[int]], after: Mapping[Key, Said]) -> dict[str, frozenset[int]]:
    moved: dict[str, list[tuple[Key, Said]]] = {}
    for (tag, picture), is_in in after.items():  # type: ignore[misc]
        moved.setdefault(tag, []).append((picture, is_in))
    new = dict(old)
    for tag, pictures in moved.items():
        new[tag] = _with(old.get(tag, frozenset()), pictures)
    return {tag: ids for tag, ids in new.items() if ids}


def read_marks(database: sqlite3.Connection) -> Marks:
    """Return all that was said in a project."""
    tags: dict[str, set[int]] = {}
    for tag, picture in database.execute("SELECT tag, id FROM tags"):
        tags.setdefault(tag, set()).add(picture)
    return Marks(
        ratings=dict(database.execute("SELECT id, stars FROM ratings")),
        labels=dict(database.execute("SELECT id, label FROM corrections")),
        hidden=frozenset(picture for (picture,) in database.execute("SELECT id FROM left_out")),
        tags={tag: frozenset(ids) for tag, ids in tags.items()},
        selections={name: _ids(blob) for name, blob in database.execute("SELECT name, ids FROM selections")},
        verdicts={(k, s): v for k, s, v in database.execute("SELECT kind, subject, verdict FROM verdicts")},
    )


def _ids(blob: bytes) -> tuple[int, ...]:
    ids: NDArray[np.int64] = np.frombuffer(blob, "<i8")
    return tuple(ids.tolist())


_INSERT: Mapping[What, str] = {
    "rating": "INSERT OR REPLACE INTO ratings VALUES(?, ?)",
    "label": "INSERT OR REPLACE INTO corrections VALUES(?, ?)",
    "hidden": "INSERT OR REPLACE INTO left_out VALUES(?)",
    "tag": "INSERT OR REPLACE INTO tags VALUES(?, ?)",
    "selection": "INSERT OR REPLACE INTO selections VALUES(?, ?)",
    "verdict": "INSERT OR REPLACE INTO verdicts VALUES(?, ?, ?)",
}
_DELETE: Mapping[What, str] = {
    "rating": "DELETE FROM ratings WHERE id = ?",
    "label": "DELETE FROM corrections WHERE id = ?",
    "hidden": "DELETE FROM left_out WHERE id = ?",
    "tag": "DELETE FROM tags WHERE tag = ? AND id = ?",
    "selection": "DELETE FROM selections WHERE name = ?",
    "verdict": "DELETE FROM verdicts WHERE kind = ? AND subject = ?",
}


def write_change(database: sqlite3.Connection, change: Change) -> None:
    """Write what a change says; to be called within a transaction."""
    database.executemany(_INSERT[change.what], _rows(change))
    gone = (_flat(key) for key, value in change.after.items() if value is None)
    database.executemany(_DELETE[change.what], gone)


def _rows(change: Change) -> Iterator[tuple[object, ...]]:
    for key, value in change.after.items():
        if value is None:
            continue
        if change.what in ("hidden", "tag"):
            yield _flat(key)
        elif isinstance(value, tuple):
            yield (*_flat(key), np.array(value, "<i8").tobytes())
        else:
            yield (*_flat(key), value)


def _flat(key: Key) -> tuple[object, ...]:
    return key if isinstance(key, tuple) else (key,)


def digest_of(marks: Marks) -> str:
    """Return a text that is equal for equal marks, whatever order they came in; for tests and undo."""
    return json.dumps(
        {
            "ratings": sorted(marks.ratings.items()),
            "labels": sorted(marks.labels.items()),
            "hidden": sorted(marks.hidden),
            "tags": sorted((tag, sorted(ids)) for tag, ids in marks.tags.items()),
            "selections": sorted(marks.selections.items()),
            "verdicts": sorted((*key, verdict) for key, verdict in marks.verdicts.items()),
        }
    )
