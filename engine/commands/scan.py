"""``engine scan``: the table of a folder's pictures."""

import argparse
from collections import Counter
from pathlib import Path

from engine.commands import Outcome, new_parser
from engine.commands.listing import NAMED, named_in_words
from engine.commands.scanning import Scan, open_project, scan_into
from engine.errors import EXIT_PARTIAL
from engine.project import Project
from engine.protocol import Tell
from engine.sources import source


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "scan",
        "Find the pictures in a folder, check that each can be read, and keep the result as a project beside it. "
        "Pictures are never changed. Sub-folders give the labels; train, val and test folders the splits.",
        ["engine scan photos/", "engine scan photos/ --project work/photos.dinoviz --json"],
    )
    command.add_argument(
        "folder",
        type=source,
        help="folder of pictures, at any depth; or tar shards: a folder, 'a-{00..99}.tar', 'pipe:COMMAND'",
    )
    command.add_argument("--project", type=Path, help="where to keep the project; beside the folder by default")
    command.add_argument(
        "--again", action="store_true", help="check every picture again, also those that did not change"
    )
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Scan and say what was found; exit 4 when something cannot be read."""
    with open_project(arguments.folder, arguments.project, tell) as project:
        scan = scan_into(project, tell, again=arguments.again)
        return _outcome(project, scan)


def _outcome(project: Project, scan: Scan) -> Outcome:
    broken = [picture for picture in scan.pictures if picture.problem is not None]
    labels = Counter(picture.label for picture in scan.readable if picture.label is not None)
    splits = Counter(picture.split for picture in scan.readable if picture.split is not None)
    passed = Counter(row.reason for row in scan.passed_over)
    data = {
        "project": str(project.folder),
        "found": len(scan.pictures),
        "readable": len(scan.readable),
        "checked": scan.n_new,
        "gone": scan.n_gone,
        "labelled": sum(labels.values()),
        "labels": dict(sorted(labels.items())),
        "splits": dict(sorted(splits.items())),
        "unreadable": [{"path": p.path, "problem": p.problem} for p in broken],
        "passed_over": [{"path": row.path, "reason": row.reason} for row in scan.passed_over],
    }
    lines = [f"{project.folder}", f"  {len(scan.pictures):,} pictures found, {len(scan.readable):,} readable"]
    if labels:
        lines.append(f"  {sum(labels.values()):,} labelled by folder, {len(labels)} classes: " + _counts(labels))
    if splits:
        lines.append("  splits: " + _counts(splits))
    if scan.n_gone:
        lines.append(f"  {scan.n_gone:,} gone since the last scan")
    if broken:
        lines.append(f"  {len(broken):,} unreadable:")
        lines += named_in_words([f"{p.path}: {p.problem}" for p in broken])
    if passed:
        lines.append("  passed over: " + ", ".join(f"{count:,} {reason}" for reason, count in passed.most_common()))
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if broken else 0)


def _counts(counts: Counter[str]) -> str:
    named = [f"{name} {count:,}" for name, count in counts.most_common(NAMED)]
    return ", ".join(named) + (", …" if len(counts) > NAMED else "")
