"""``engine duplicates``: copies of the same picture, and what they do to labels and splits."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.commands import Outcome, new_parser
from engine.commands.arguments import add_set
from engine.commands.contact_sheets import Cell, Sheet, SheetFiles, write_sheets
from engine.commands.copies import copies_in
from engine.commands.listing import NAMED, counted, made_folder, write_csv
from engine.finding.duplicate_files import Duplicates, Group, Member
from engine.project import Picture, Project
from engine.protocol import Made, Tell
from engine.provenance import of_set
from engine.sets import FeatureSet

MEMBERS_NAMED = 8  # of a group, on the terminal and on a sheet; the rest is counted
MORE = 0.8
"""Of the suggested threshold, the one to try for more: with it 26 of 35 planted crops and 5 of 35 mirror images were
found among clothing photos, and 6 % of the pairs were no copies; with the suggested one 4, none and 0 %."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "duplicates",
        "Find pictures that are copies of each other, whatever their size, quality or name, and those of them that lie "
        "in several splits or under several labels. Nothing is deleted or changed.",
        [
            "engine duplicates photos.dinoviz",
            "engine duplicates photos.dinoviz --threshold 0.6 --write copies/",
            "engine duplicates photos.dinoviz --across-splits --json",
        ],
    )
    command.add_argument("project", type=Path, help="a project with features")
    add_set(command)
    command.add_argument(
        "--threshold", type=float, metavar="T", help="likeness from which on pictures are copies (by default suggested)"
    )
    command.add_argument("--across-labels", action="store_true", help="list only groups under several labels")
    command.add_argument("--across-splits", action="store_true", help="list only groups in several splits")
    command.add_argument("--write", type=Path, metavar="DIR", help="also write contact sheets and a CSV there")
    command.set_defaults(run=run)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A group with what the project knows of its pictures."""

    number: int
    group: Group
    labels: list[str]
    splits: list[str]


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Find the copies, keep them with the set, and list them.

    Raises:
        Stopped: by Ctrl-C or the system; only finished blocks of the neighbours are kept.
    """
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        pictures = {picture.id: picture for picture in project.pictures()}
        root = project.pictures_folder
    found = copies_in(features, pictures, root, tell, threshold=arguments.threshold)
    told = [_told(number, group, pictures) for number, group in enumerate(found.groups, start=1)]
    shown = [
        group
        for group in told
        if (len(group.labels) > 1 or not arguments.across_labels)
        and (len(group.splits) > 1 or not arguments.across_splits)
    ]
    sheets = None
    if arguments.write:
        sheets = _write(arguments.write, features, shown, found, pictures, root, tell)
    return _outcome(features, found, told, shown, pictures, sheets)


def _told(number: int, group: Group, pictures: Mapping[int, Picture]) -> Told:
    members = [pictures[member.picture] for member in group.members]
    return Told(
        number=number,
        group=group,
        labels=sorted({picture.label for picture in members if picture.label is not None}),
        splits=sorted({picture.split for picture in members if picture.split is not None}),
    )


def _write(
    folder: Path,
    features: FeatureSet,
    groups: Sequence[Told],
    found: Duplicates,
    pictures: Mapping[int, Picture],
    root: Path,
    tell: Tell,
) -> SheetFiles:
    """Write duplicates.csv and the contact sheets."""
    table = made_folder(folder) / "duplicates.csv"
    write_csv(
        table,
        ["group", "keep", "likeness", "picture", "path", "label", "split", "rows", "cols"],
        [_csv_row(told, member, pictures[member.picture]) for told in groups for member in told.group.members],
    )
    tell(Made(what="table", path=str(table)))
    cells = [
        Cell(path=root / picture.path, caption=_caption(told, member, picture), group=told.number)
        for told in groups
        for member in told.group.members[:MEMBERS_NAMED]
        for picture in [pictures[member.picture]]
    ]
    subtitle = f"likeness {found.threshold:.3g} and up"
    title = f"{counted(len(groups), 'group')} of copies"
    sheet = Sheet(stem="duplicates", title=title, subtitle=subtitle, cells=cells)
    return write_sheets([sheet], folder, of_set(features, threshold=found.threshold), tell)


def _csv_row(told: Told, member: Member, picture: Picture) -> list[object]:
    is_kept = "yes" if member.keep == member.picture else "no"
    about = [picture.path, picture.label, picture.split, picture.rows, picture.cols]
    return [told.number, is_kept, member.likeness, member.picture, *about]


def _caption(told: Told, member: Member, picture: Picture) -> str:
    words = [str(told.number), "keep" if member.keep == member.picture else f"{member.likeness:.2f}"]
    return " ".join([*words, picture.label or "", picture.split or ""])


def _outcome(
    features: FeatureSet,
    found: Duplicates,
    told: Sequence[Told],
    shown: Sequence[Told],
    pictures: Mapping[int, Picture],
    sheets: SheetFiles | None,
) -> Outcome:
    between = Counter(" + ".join(group.splits) for group in told if len(group.splits) > 1)
    data = {
        "set": features.folder.name,
        "pictures": found.n_pictures,
        "without_features": int((~features.is_seen_N).sum()),
        "not_compared": len(features) - found.n_pictures,
        "threshold": found.threshold,
        "suggested": found.suggested,
        "reason": found.reason,
        "whitening": found.whitening,
        "groups_found": len(told),
        "pictures_in_groups": sum(len(group.group.members) for group in told),
        "could_go": _n_spare(told),
        "across_labels": sum(len(group.labels) > 1 for group in told),
        "between_splits": dict(sorted(between.items())),
        "groups": [_as_data(group, pictures) for group in shown],
        "sheets": [str(page) for page in sheets.pages] if sheets else [],
    }
    lines = [*_head(features, found, told, between), *_listed(shown, pictures)]
    if sheets:
        lines += _sheets_in_words(sheets)
    return Outcome(data, "\n".join(lines))


def _n_spare(told: Sequence[Told]) -> int:
    return sum(member.keep != member.picture for group in told for member in group.group.members)


def _head(features: FeatureSet, found: Duplicates, told: Sequence[Told], between: Counter[str]) -> list[str]:
    how = f"suggested: {found.reason}" if found.threshold == found.suggested else f"suggested: {found.suggested:.3g}"
    lines = [
        f"{features.folder}",
        f"  {counted(found.n_pictures, 'picture')} compared; copies from likeness {found.threshold:.3g} on ({how})",
    ]
    if len(features) > found.n_pictures:
        lines.append(f"  {len(features) - found.n_pictures:,} not compared: without features, or their file is gone")
    if found.threshold == found.suggested and found.whitening != "none":
        lower = MORE * found.suggested
        lines.append(f"  crops and mirror images are less alike; to see more, ask for --threshold {lower:.2g}")
    if not told:
        return [*lines, "  no copies found"]
    n_members = sum(len(group.group.members) for group in told)
    lines.append(f"  {counted(len(told), 'group')} of copies, {n_members:,} pictures; {_n_spare(told):,} could go")
    across = sum(len(group.labels) > 1 for group in told)
    lines.append(f"  under several labels: {counted(across, 'group')}")
    splits = ", ".join(f"{names} {count:,}" for names, count in between.most_common())
    lines.append(
        f"  in several splits (leaks): {counted(between.total(), 'group')}" + (f": {splits}" if splits else "")
    )
    return lines


def _listed(shown: Sequence[Told], pictures: Mapping[int, Picture]) -> list[str]:
    lines = []
    for told in shown[:NAMED]:
        lines.append(f"  {told.number}. likeness {told.group.likeness:.3f}, {len(told.group.members):,} pictures")
        for member in told.group.members[:MEMBERS_NAMED]:
            mark = "keep " if member.keep == member.picture else f"{member.likeness:.3f}"
            lines.append(f"       {mark}  {pictures[member.picture].path}")
        hidden = len(told.group.members) - MEMBERS_NAMED
        lines += [f"       … and {hidden:,} more"] if hidden > 0 else []
    if len(shown) > NAMED:
        lines.append(f"  … and {counted(len(shown) - NAMED, 'more group')}, see --json or --write")
    return lines


def _sheets_in_words(sheets: SheetFiles) -> list[str]:
    lines = [f"  {page}" for page in sheets.pages]
    if sheets.n_left_out:
        lines.append(f"  {sheets.n_left_out:,} more pictures had no place on the sheets; the CSV has all")
    return lines + [f"  grey on the sheets: {path}: {problem}" for path, problem in sheets.unreadable]


def _as_data(told: Told, pictures: Mapping[int, Picture]) -> dict[str, object]:
    return {
        "group": told.number,
        "likeness": told.group.likeness,
        "labels": told.labels,
        "splits": told.splits,
        "pictures": [
            {
                "id": member.picture,
                "path": pictures[member.picture].path,
                "keep": member.keep,
                "likeness": member.likeness,
                "label": pictures[member.picture].label,
                "split": pictures[member.picture].split,
            }
            for member in told.group.members
        ],
        "pairs": [
            {"first": pair.first, "second": pair.second, "likeness": pair.likeness, "exact": pair.is_exact}
            for pair in told.group.pairs
        ],
        "n_pairs": told.group.n_pairs,
    }
