"""Bringing the table of a project up to date, for every command that begins with a folder of pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import BadInput
from engine.images import Findings, Found, PassedOver, Probe, find_pictures, first_pictures, probe_many
from engine.machine import usable_cores
from engine.pipes import FOLDER, spool, spooled_names
from engine.project import GONE, SUFFIX, Picture, Project, default_folder
from engine.protocol import Progress, Tell
from engine.sources import PIPE, Shards, shard_names
from engine.timing import Pace

FILES_PER_WORKER = 50  # fewer are not worth the 0.3 s that one more process takes to start
BLOCK = 500  # rows written at once: what a kill can cost
FIRST_SCREEN = 200  # pictures that a window shows before the whole folder was gone through


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a scan found: rows of the table and what was passed over."""

    pictures: list[Picture]
    passed_over: Sequence[PassedOver]
    n_new: int
    n_gone: int
    left_out: frozenset[int] = frozenset()

    @property
    def readable(self) -> list[Picture]:
        """The pictures that can be used, but for those that a person left out of the project."""
        return [p for p in self.pictures if p.problem is None and p.id not in self.left_out]


def open_project(folder: Path | Shards, project: Path | None, tell: Tell) -> Project:
    """Open the project of a folder of pictures or of shards, or the project itself when that is what was named.

    Raises:
        BadInput: there is no such folder; or shards are fetched by commands and no project is named.
    """
    if isinstance(folder, Shards):
        return _open_for_shards(folder, project, tell)
    if folder.suffix == SUFFIX and folder.is_dir():
        return Project.at(folder)
    if not folder.is_dir():
        raise BadInput(f"There is no folder '{folder}'.", "Name a folder of pictures or a project.")
    return Project.at(project or default_folder(folder), pictures=folder)


def _open_for_shards(shards: Shards, project: Path | None, tell: Tell) -> Project:
    if shards.folder is not None:
        place = project or default_folder(shards.folder)
        return Project.at(place, pictures=shards.folder, only=shards.pattern)
    if project is None:
        raise BadInput("Nothing is beside shards that commands write.", "Say where to keep them with --project.")
    spool(shards.pattern, project / FOLDER, tell)
    opened = Project.at(project, pictures=project / FOLDER, only=shards.pattern)
    opened.move_with_pictures()
    return opened


def _found_in(project: Project) -> Findings:
    root, only = project.pictures_folder, project.only
    if only.startswith(PIPE):
        return find_pictures(root, spooled_names(only))
    return find_pictures(root, shard_names(only, root) if only else None)


def scan_into(project: Project, tell: Tell, *, again: bool = False) -> Scan:
    """Bring the table of a project up to date: what is new, changed or was unreadable is decoded, the rest is kept.

    What was never seen is listed at once, and checked then; until it is, it has no hash.
    """
    root = project.pictures_folder
    if project.count() == 0 and not project.only:
        _list_unchecked(project, first_pictures(root, FIRST_SCREEN), tell)
    findings = _found_in(project)
    if not findings.pictures and project.count():  # else the scan that opening starts would call every picture gone
        raise BadInput(f"There is no picture in '{root}' any more.", "Is its disk connected?")
    _list_unchecked(project, findings.pictures, tell)
    known = {picture.path: picture for picture in project.pictures()}
    new = [found for found in findings.pictures if again or _is_new(found, known.get(found.path))]
    kept = {found.path: found for found in findings.pictures}
    pace = Pace("checking pictures", len(new), "pictures", tell)
    for block in _blocks(_paced(_checked(root, new), pace)):
        project.record(block)
    gone = [picture for picture in known.values() if picture.path not in kept and picture.problem != GONE]
    project.record(replace(picture, problem=GONE) for picture in gone)
    checked = {found.path for found in new}
    unread = [(known[found.path], found) for found in findings.pictures if found.path not in checked]
    project.record(_kept(row, found) for row, found in unread if row.problem == GONE or _is_relabelled(row, found))
    return Scan(
        pictures=[picture for picture in project.pictures() if picture.path in kept],
        passed_over=findings.passed_over,
        n_new=len(new),
        n_gone=len(gone),
        left_out=project.marks().hidden,
    )


def _list_unchecked(project: Project, found: Sequence[Found], tell: Tell) -> None:
    """Put those that the table does not have into it, without having looked into any."""
    known = set(project.paths().values())
    new = [row for row in found if row.path not in known]
    if new:
        project.record(_row(row) for row in new)
        tell(Progress(what="looking for pictures", done=len(known) + len(new), total=0, unit="pictures"))


def _row(found: Found) -> Picture:
    return Picture(
        path=found.path, size_bytes=found.size_bytes, mtime_ns=found.mtime_ns, label=found.label, split=found.split
    )


def _is_new(found: Found, known: Picture | None) -> bool:
    return (
        known is None
        or known.hash is None  # only listed so far
        # which may have passed: a slow disk, a missing extra, a permission; a disk may be connected again as it was
        or known.problem not in (None, GONE)
        or (known.size_bytes, known.mtime_ns) != (found.size_bytes, found.mtime_ns)
    )


def _is_relabelled(known: Picture, found: Found) -> bool:
    return (known.label, known.split) != (found.label, found.split)


def _kept(known: Picture, found: Found) -> Picture:
    """Return the row of a picture that need not be read again."""
    return replace(known, label=found.label, split=found.split, problem=None)


def _checked(root: Path, found: Sequence[Found]) -> Iterator[Picture]:
    """Decode each picture once; an unreadable one becomes a row with its problem."""
    workers = min(usable_cores(), 1 + len(found) // FILES_PER_WORKER)
    outcomes = probe_many((root / row.path for row in found), workers=workers)
    for row, outcome in zip(found, outcomes, strict=True):
        probe = outcome if isinstance(outcome, Probe) else None
        yield replace(
            _row(row),
            hash=probe.content_hash if probe else None,
            rows=probe.rows if probe else None,
            cols=probe.cols if probe else None,
            problem=None if isinstance(outcome, Probe) else outcome.message,
        )


def _paced(pictures: Iterator[Picture], pace: Pace) -> Iterator[Picture]:
    for n_done, picture in enumerate(pictures, start=1):
        pace.reached(n_done)
        yield picture


def _blocks(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    block: list[Picture] = []
    for picture in pictures:
        block.append(picture)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
