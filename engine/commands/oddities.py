"""``engine oddities``: pictures apart from all others, doubtful labels, and the typical pictures of each class."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.arguments import add_set
from engine.commands.contact_sheets import Cell, Sheet, SheetFiles, write_sheets
from engine.commands.copies import copies_in
from engine.commands.listing import NAMED, made_folder, named_in_words, neighbours_of, write_csv
from engine.errors import BadInput
from engine.finding.duplicate_files import Duplicates, read_duplicates
from engine.finding.oddities import find_oddities
from engine.finding.oddity_files import Oddities, Suspect, keep_oddities
from engine.project import Picture, Project
from engine.protocol import Made, Tell
from engine.provenance import of_set
from engine.sets import FeatureSet
from engine.store import sole_writer

OUTLIERS_NAMED = 5
SUSPECTS_DRAWN = 128  # two sheets; the CSV has all


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "oddities",
        "List pictures that are unlike all others, labels that the neighbours of a picture contradict, and the most "
        "typical pictures of each class. Nothing is changed.",
        ["engine oddities photos.dinoviz", "engine oddities photos.dinoviz --set 2 --write odd/ --json"],
    )
    command.add_argument("project", type=Path, help="a project with features")
    add_set(command)
    command.add_argument("--write", type=Path, metavar="DIR", help="also write contact sheets and CSVs there")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Find the oddities, keep them with the set, and list them."""
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        pictures = {picture.id: picture for picture in project.pictures()}
        root, labels = project.pictures_folder, project.labels()
    with StopSignal() as stop:
        table = neighbours_of(features, tell, stop)
    copies = _copies(features, pictures, root, tell)
    with sole_writer(features.folder, "writes the set"):
        found = find_oddities(features, table, labels, copies, tell)
        keep_oddities(features, found)
    sheets = _write(arguments.write, features, found, pictures, root, tell) if arguments.write else None
    data = {
        "set": features.folder.name,
        **{name: value for name, value in asdict(found).items() if name != "made_from"},
        "paths": {number: pictures[number].path for number in _listed(found)},
        "sheets": [str(page) for page in sheets.pages] if sheets else [],
    }
    return Outcome(data, "\n".join([str(features.folder), *_in_words(found, pictures, sheets)]))


def _copies(features: FeatureSet, pictures: Mapping[int, Picture], root: Path, tell: Tell) -> Duplicates:
    """Return the duplicates that were found last, or find them.

    Those that were found from a higher likeness than the suggested one are too few. They stay kept, as they were asked
    for.
    """
    try:
        kept = read_duplicates(features)
    except BadInput:
        return copies_in(features, pictures, root, tell)
    return kept if kept.threshold <= kept.suggested else copies_in(features, pictures, root, tell, is_kept=False)


def _listed(found: Oddities) -> list[int]:
    """Return the ids of all pictures that are named."""
    named = {outlier.picture for outlier in found.outliers} | {suspect.picture for suspect in found.suspects}
    named |= {suspect.copy for suspect in found.suspects if suspect.copy is not None}
    return sorted(named.union(*(prototypes.pictures for prototypes in found.prototypes)))


def _in_words(found: Oddities, pictures: Mapping[int, Picture], sheets: SheetFiles | None) -> list[str]:
    lines = [f"  {found.n_pictures:,} pictures, {found.n_standing_out:,} stand out as unlike all others"]
    shown = max(OUTLIERS_NAMED, min(found.n_standing_out, NAMED))
    lines += [f"    {row.score:5.1f}  {pictures[row.picture].path}" for row in found.outliers[:shown]]
    if found.n_judged:
        n_copies = sum(suspect.copy is not None for suspect in found.suspects)
        lines.append(
            f"  {len(found.suspects):,} of {found.n_judged:,} labels in doubt, {n_copies:,} of them by a copy with "
            "another label; the most doubtful first:"
        )
        lines += [f"    {_doubt(suspect)}  {pictures[suspect.picture].path}" for suspect in found.suspects[:NAMED]]
    else:
        lines.append("  no labels to judge")
    lines.append("  most typical:")
    typical = [
        f"{'all pictures' if prototypes.label is None else prototypes.label}: {pictures[prototypes.pictures[0]].path}"
        for prototypes in found.prototypes
    ]
    lines += named_in_words(typical, "classes")
    if sheets:
        lines += [f"  {page}" for page in sheets.pages]
        lines += [f"  grey on the sheets: {path}: {problem}" for path, problem in sheets.unreadable]
    return lines


def _doubt(suspect: Suspect) -> str:
    why = f"copy of {suspect.copy}" if suspect.copy is not None else f"{suspect.confidence:.0%} of votes"
    return f"{suspect.label} → {suspect.likely} ({why})"


def _brief(suspect: Suspect) -> str:
    return f"{suspect.label} > {suspect.likely} " + (
        "copy" if suspect.copy is not None else f"{suspect.confidence:.0%}"
    )


def _write(
    folder: Path, features: FeatureSet, found: Oddities, pictures: Mapping[int, Picture], root: Path, tell: Tell
) -> SheetFiles:
    """Write the lists as CSV and as contact sheets."""
    _write_tables(made_folder(folder), found, pictures, tell)
    doubts = [Cell(path=root / pictures[row.picture].path, caption=_brief(row)) for row in found.suspects]
    apart = [
        Cell(
            path=root / pictures[row.picture].path,
            caption=", ".join(filter(None, [f"{row.score:.1f}", pictures[row.picture].label])),
            group=1 if row.stands_out else None,
        )
        for row in found.outliers
    ]
    typical = [
        Cell(path=root / pictures[number].path, caption=prototypes.label or "", group=i)
        for i, prototypes in enumerate(found.prototypes)
        for number in prototypes.pictures
    ]
    columns = max((len(prototypes.pictures) for prototypes in found.prototypes), default=1)
    below = "label > what the neighbours say, the most doubtful first"
    covering = "the most central of each class, then those that cover the rest"
    sheets = [
        Sheet(stem="labels", title="Labels in doubt", subtitle=below, cells=doubts[:SUSPECTS_DRAWN]),
        Sheet(stem="outliers", title="Pictures unlike others", subtitle="the most isolated first", cells=apart),
        Sheet(stem="prototypes", title="Typical pictures", subtitle=covering, cells=typical, columns=columns),
    ]
    return write_sheets(sheets, folder, of_set(features), tell)


def _write_tables(folder: Path, found: Oddities, pictures: Mapping[int, Picture], tell: Tell) -> None:
    tables: dict[str, tuple[list[str], list[list[object]]]] = {
        "labels": (
            ["picture", "path", "label", "likely", "confidence", "own", "copy", "copy_likeness"],
            [
                [s.picture, pictures[s.picture].path, s.label, s.likely, s.confidence, s.own, s.copy, s.copy_likeness]
                for s in found.suspects
            ],
        ),
        "outliers": (
            ["picture", "path", "isolation", "score", "stands_out"],
            [[o.picture, pictures[o.picture].path, o.isolation, o.score, o.stands_out] for o in found.outliers],
        ),
        "prototypes": (
            ["label", "rank", "picture", "path"],
            [
                [prototypes.label, rank, number, pictures[number].path]
                for prototypes in found.prototypes
                for rank, number in enumerate(prototypes.pictures, start=1)
            ],
        ),
    }
    for name, (header, rows) in tables.items():
        write_csv(folder / f"{name}.csv", header, rows)
        tell(Made(what="table", path=str(folder / f"{name}.csv")))
