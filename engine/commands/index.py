"""``engine index``: the nearest neighbours of all pictures of a project."""

import argparse
import time
from pathlib import Path

from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.arguments import add_set
from engine.errors import Stopped
from engine.finding.index import EXACT_UP_TO, FEW, MANY, is_done, make_index
from engine.finding.neighbours import NeighbourTable, read_neighbours
from engine.finding.parts import PartsAbout, current_parts, make_part_index
from engine.machine import peak_memory_bytes
from engine.project import Project
from engine.protocol import Noticed, Tell
from engine.quantities import size_in_words, time_in_words
from engine.sets import FeatureSet

BRIEF_S = 10  # below it tenths of a second are told


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "index",
        "Find the nearest neighbours of every picture by its features, and keep them with the set: maps, duplicates, "
        "oddities and search use them; where patches were kept, index these too. Ctrl-C keeps what is done.",
        ["engine index photos.dinoviz", "engine index photos.dinoviz --set 2 --neighbours 150 --json"],
    )
    command.add_argument("project", type=Path, help="a project with features")
    add_set(command)
    command.add_argument(
        "--method",
        choices=("auto", "exact", "hnsw"),
        default="auto",
        help=f"compare all pictures, or search a graph (auto: exact up to {EXACT_UP_TO:,} pictures)",
    )
    command.add_argument(
        "--neighbours",
        type=int,
        metavar="K",
        help=f"of each picture (by default {MANY} up to {EXACT_UP_TO:,} pictures, else {FEW})",
    )
    command.add_argument("--again", action="store_true", help="begin anew, also where it is done")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Make the table of neighbours, or say that it is there.

    Raises:
        Stopped: by Ctrl-C or the system; what is done is kept.
    """
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
    asked = {"method": arguments.method, "k": arguments.neighbours}
    has_parts = features.plan.has_patches and features.is_seen_N.any()
    if not arguments.again and is_done(features, **asked) and (not has_parts or current_parts(features)):
        return _outcome(features, read_neighbours(features), current_parts(features), None)
    begun = time.monotonic()
    with StopSignal() as stop:
        try:
            table = make_index(features, tell, stop.is_set, **asked, again=arguments.again)
            parts = make_part_index(features, tell, stop.is_set, again=arguments.again) if has_parts else None
        except Stopped as stopped:
            text = "Stopped; what is done is kept."
            tell(Noticed(level="info", text=text, hint=f"Go on with: engine index {arguments.project}"))
            raise stop.stopped() from stopped
    return _outcome(features, table, parts, time.monotonic() - begun)


def _outcome(features: FeatureSet, table: NeighbourTable, parts: PartsAbout | None, seconds: float | None) -> Outcome:
    about, n_seen = table.about, int(features.is_seen_N.sum())
    data = {
        "set": features.folder.name,
        "pictures": len(features),
        "seen": n_seen,
        "method": about.method,
        "k": about.k,
        "recall": about.recall,
        "patches": parts.patches if parts else 0,
        "was_there": seconds is None,
        "seconds": None if seconds is None else round(seconds, 2),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    how = "exactly" if about.method == "exact" else f"by a graph, {about.recall:.1%} of the true ones"
    lines = [f"{features.folder}", f"  {about.k} nearest neighbours of {n_seen:,} pictures, {how}"]
    if parts:
        lines.append(f"  {parts.patches:,} patches, to search by parts")
    if seconds is None:
        lines.append("  up to date; nothing was done")
    else:
        took = f"{seconds:.1f} s" if seconds < BRIEF_S else time_in_words(seconds)
        lines.append(f"  took {took} and {size_in_words(peak_memory_bytes())} of memory")
    if n_seen < len(features):
        lines.append(f"  {len(features) - n_seen:,} pictures without features have none")
    return Outcome(data, "\n".join(lines))
