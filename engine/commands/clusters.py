"""``engine clusters``: groups of pictures that are alike, found without labels."""

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from engine.commands import Outcome, new_parser
from engine.commands.arguments import add_set
from engine.commands.listing import Gallery, made_folder, named_in_words
from engine.errors import BadRecipe
from engine.finding.charts import Strip, colours_by_size, exemplar_sheet
from engine.finding.cluster_files import METHODS, Clusters
from engine.finding.clusters import CANDIDATES, EXEMPLARS, SMALLEST, make_clusters
from engine.machine import wait_without_spinning
from engine.project import Project
from engine.protocol import Made, Tell
from engine.provenance import of_set
from engine.quantities import time_in_words
from engine.seeing.drawing import write_png
from engine.sets import FeatureSet

SHOWN = 30  # clusters on the sheet, the largest
AUTO = "auto"
TITLES = {"kmeans": "k-means", "hdbscan": "HDBSCAN"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "clusters",
        "Group pictures that are alike, without labels, and draw some of each group: the nearest to its centre and "
        "some spread over it. k-means puts every picture into a cluster; HDBSCAN leaves out those between clusters.",
        [
            "engine clusters photos.dinoviz",
            "engine clusters photos.dinoviz --number 20",
            "engine clusters photos.dinoviz --method hdbscan --smallest 30",
        ],
    )
    command.add_argument("project", type=Path, help="a project with features")
    add_set(command)
    command.add_argument("--method", choices=METHODS, default="kmeans", help="how (default kmeans)")
    command.add_argument(
        "--number",
        default=AUTO,
        metavar="K|auto",
        help=f"clusters of k-means (auto: the best mean silhouette of {CANDIDATES[0]} to {CANDIDATES[-1]})",
    )
    command.add_argument(
        "--smallest", type=int, help=f"pictures that make a cluster of HDBSCAN (default 0.5 %%, {SMALLEST} or more)"
    )
    command.add_argument("--seed", type=int, default=0, help="of all that is drawn by lot (default 0)")
    command.add_argument("--out", type=Path, help="folder for the drawing (by default that of the set)")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Find and draw clusters.

    Raises:
        BadRecipe: arguments contradict each other, or are no numbers.
    """
    number = _number(arguments)
    wait_without_spinning()
    begun = time.monotonic()
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        found = make_clusters(
            features, arguments.method, tell, number=number, smallest=arguments.smallest, seed=arguments.seed
        )
        labels, gallery = project.labels(), Gallery(project, features)
        out = made_folder(arguments.out or features.folder)
        path = out / f"clusters-{arguments.method}.png"
        write_png(path, _sheet(features, found, labels, gallery), of_set(features, clusters=arguments.method))
        tell(Made(what="drawing", path=str(path)))
        gallery.tell_problems(tell)
    return _outcome(features, found, labels, path, time.monotonic() - begun)


def _number(arguments: argparse.Namespace) -> int | None:
    if arguments.method == "hdbscan" and arguments.number != AUTO:
        raise BadRecipe("HDBSCAN itself finds how many clusters there are.", "Leave --number out, or set --smallest.")
    if arguments.method == "kmeans" and arguments.smallest is not None:
        raise BadRecipe("--smallest is of HDBSCAN.", "Leave it out, or choose --method hdbscan.")
    if not 0 <= arguments.seed < 2**31:
        raise BadRecipe(f"The seed {arguments.seed} cannot be used.", "Choose 0 to 2,147,483,647.")
    if arguments.number == AUTO:
        return None
    try:
        return int(arguments.number)
    except ValueError as problem:
        raise BadRecipe(
            f"'{arguments.number}' is no number of clusters.", "Write a whole number, or auto."
        ) from problem


def _common_labels(features: FeatureSet, found: Clusters, labels: Mapping[int, str]) -> list[str]:
    """Return the most common label of each cluster with its share, empty where none has one."""
    counts: list[Counter[str]] = [Counter() for _ in found.about.clusters]
    for number, cluster in zip(features.ids_N, found.numbers_N, strict=True):
        label = labels.get(int(number))
        if label is not None and cluster >= 0:
            counts[cluster][label] += 1
    return [_most_common(count) for count in counts]


def _most_common(count: Counter[str]) -> str:
    if not count:
        return ""
    label, n = count.most_common(1)[0]
    return f"{n / count.total():.0%} {label}"


def _sheet(features: FeatureSet, found: Clusters, labels: Mapping[int, str], gallery: Gallery) -> np.ndarray:
    about = found.about
    colours = colours_by_size(np.array([cluster.size for cluster in about.clusters], np.int64))
    strips = [
        Strip(
            name=f"cluster {place + 1}",
            words=f"{cluster.size:,} pictures\n{label}".strip(),
            colour=colours[place],
            pictures=[gallery.open(features.row_of(number)) for number in (*cluster.nearest, *cluster.spread)],
        )
        for place, (cluster, label) in enumerate(
            zip(about.clusters[:SHOWN], _common_labels(features, found, labels), strict=False)
        )
    ]
    more = f" · the {SHOWN} largest are shown" if len(about.clusters) > SHOWN else ""
    notes = [
        f"set {features.folder.name} · {features.plan.in_words()} · {about.n_left_out:,} pictures in none{more}",
        f"left: the {EXEMPLARS // 2} nearest to the centre; right: others spread over the cluster",
    ]
    return exemplar_sheet(strips, f"{len(about.clusters):,} clusters by {TITLES[about.method]}", notes)


def _outcome(features: FeatureSet, found: Clusters, labels: Mapping[int, str], path: Path, seconds: float) -> Outcome:
    about = found.about
    common = _common_labels(features, found, labels)
    data = {
        "set": features.folder.name,
        "clusters": str(features.folder / f"clusters-{about.method}.npy"),
        "about": asdict(about),
        "most_common_labels": common,
        "drawing": str(path),
        "seconds": round(seconds, 2),
    }
    n = int(features.is_seen_N.sum())
    lines = [f"{features.folder}", f"  {len(about.clusters):,} clusters of {n:,} pictures by {TITLES[about.method]}"]
    if about.scores:
        best = max(about.scores, key=lambda score: score[1])
        lines.append(f"  their number by the best silhouette, {best[1]:.3f}, of {len(about.scores)} numbers tried")
    if about.n_left_out:
        lines.append(f"  {about.n_left_out:,} pictures in no cluster")
    rows = enumerate(zip(about.clusters, common, strict=True), start=1)
    lines += named_in_words([f"{n:>2}  {cluster.size:>9,} pictures  {label}".rstrip() for n, (cluster, label) in rows])
    return Outcome(data, "\n".join([*lines, f"  took {time_in_words(seconds)}", f"  {path}"]))
