"""``engine map``: all pictures of a project, or its classes, laid out in the plane."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import MAP_METHODS
from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.arguments import add_set
from engine.commands.listing import Gallery, made_folder, neighbours_of
from engine.errors import BadInput, BadRecipe, Stopped
from engine.finding import aligning, map_files, maps, placing
from engine.finding.charts import (
    Picture,
    Points,
    class_chart,
    point_chart,
    thumbnail_chart,
    thumbnail_side,
)
from engine.finding.class_map_files import ClassMap
from engine.finding.class_maps import make_class_map
from engine.finding.cluster_files import METHODS as CLUSTER_METHODS
from engine.finding.cluster_files import read_clusters
from engine.finding.labels import label_codes
from engine.machine import peak_memory_bytes, usable_cores, wait_without_spinning
from engine.project import Project
from engine.protocol import Made, Noticed, Tell
from engine.provenance import of_set
from engine.quantities import size_in_words, time_in_words
from engine.seeing.drawing import write_png
from engine.sets import FeatureSet

MOVED_MOST = 10  # pictures that are named of those that moved
STILL = 0.005  # of a map's radius: what cannot be seen to have moved


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    methods = "; ".join(f"{name}: {row.about}" for name, row in MAP_METHODS.items())
    command = new_parser(
        "map",
        "Lay all pictures of a project out in the plane, so that those that are alike lie together, and draw that: as "
        "points in the colours of their labels, and as thumbnails. Positions are kept with the set of features. "
        f"{methods}. Ctrl-C keeps the t-SNE so far; run again, it goes on.",
        [
            "engine map photos.dinoviz",
            "engine map photos.dinoviz --method umap --colour kmeans",
            "engine map photos.dinoviz --set 2 --align-to 1",
            "engine map photos.dinoviz --place",
            "engine map photos.dinoviz --classes",
        ],
    )
    command.add_argument("project", type=Path, help="a project with features")
    add_set(command)
    command.add_argument("--method", choices=tuple(MAP_METHODS), default="tsne", help="how (default tsne)")
    command.add_argument("--classes", action="store_true", help="one position a class, as in appendix H of DINO")
    command.add_argument(
        "--perplexity", type=float, help=f"of t-SNE: neighbours that count, roughly (default {maps.PERPLEXITY:g})"
    )
    command.add_argument("--steps", type=int, help="of t-SNE, or epochs of UMAP (by default by the number of pictures)")
    command.add_argument("--seed", type=int, default=0, help="of all that is drawn by lot (default 0)")
    command.add_argument("--again", action="store_true", help="begin anew, also where it is done or begun")
    command.add_argument(
        "--place", action="store_true", help="add new pictures to the map that is there; the others stay as they are"
    )
    command.add_argument(
        "--align-to",
        metavar="SET|none",
        help="turn the map to lie on that of another set (by default on the one before it of this set)",
    )
    command.add_argument(
        "--colour",
        choices=("auto", "label", *CLUSTER_METHODS, "none"),
        default="auto",
        help="what the colours mean: labels, or clusters of engine clusters (auto: labels where there are any)",
    )
    command.add_argument("--no-thumbnails", action="store_true", help="draw points only")
    command.add_argument("--out", type=Path, help="folder for the drawings (by default that of the set)")
    command.add_argument("--threads", type=int, help="to compute with (by default all cores)")
    command.set_defaults(run=run)
    return command


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Make or draw a map.

    Raises:
        BadRecipe: arguments contradict each other.
        Stopped: by Ctrl-C or the system; the t-SNE so far is kept.
    """
    _check(arguments)
    wait_without_spinning()
    with Project.at(arguments.project) as project, StopSignal() as stop:
        features = project.features(arguments.set)
        job = _Job(arguments, project, features, tell, stop)
        try:
            return _classes(job) if arguments.classes else job.pictures()
        except Stopped as stopped:
            raise stop.stopped() from stopped


def _check(arguments: argparse.Namespace) -> None:
    if arguments.place and (arguments.classes or arguments.again or arguments.align_to):
        raise BadRecipe("--place adds to the map that is there.", "Leave out --classes, --again and --align-to.")
    if arguments.perplexity is not None and arguments.method != "tsne":
        raise BadRecipe(f"--perplexity is of t-SNE, not of {MAP_METHODS[arguments.method].title}.", "Leave it out.")
    if arguments.threads is not None and arguments.threads < 1:
        raise BadRecipe(f"{arguments.threads} threads cannot compute.", "Choose 1 or more.")
    if not 0 <= arguments.seed < 2**32:
        raise BadRecipe(f"The seed {arguments.seed} cannot be used.", "Choose 0 to 4,294,967,295.")
    if arguments.out and arguments.out.exists() and not arguments.out.is_dir():
        raise BadInput(f"'{arguments.out}' is not a folder.", "Name a folder for the drawings.")


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """A map, what there is to say about its making, and the pictures that moved most, with shares of its radius."""

    map: map_files.PictureMap
    words: Sequence[str]
    moved: Sequence[tuple[int, float]] = ()


class _Job:
    """What one call of the command works with."""

    def __init__(
        self, arguments: argparse.Namespace, project: Project, features: FeatureSet, tell: Tell, stop: StopSignal
    ) -> None:
        self.arguments, self.project, self.features, self.tell, self.stop = arguments, project, features, tell, stop
        self.threads = arguments.threads or usable_cores()
        self.begun = time.monotonic()
        self.labels = project.labels()
        self.names, self.codes_N = label_codes(features, self.labels)
        self.gallery = Gallery(project, features)
        self.out: Path = arguments.out or features.folder

    def pictures(self) -> Outcome:
        """Make and draw a map of pictures."""
        made = self._placed() if self.arguments.place else self._made()
        paths, about = self._draw(made.map), made.map.about
        if about.is_stopped:
            text = f"Stopped at step {about.step:,} of {about.plan.steps:,}; the map so far is kept."
            self.tell(Noticed(level="info", text=text, hint="Run the same command again to go on."))
            raise Stopped
        return self._outcome(made, paths)

    def _placed(self) -> _Made:
        made, n = placing.place(
            self.features, self.arguments.method, threads=self.threads, labels_N=self._labels_to_measure_by()
        )
        words = f"{n:,} pictures were placed; the others did not move" if n else "no new pictures to place"
        return _Made(made, [words])

    def _made(self) -> _Made:
        arguments, features = self.arguments, self.features
        needs_table = MAP_METHODS[arguments.method].needs_neighbours
        table = neighbours_of(features, self.tell, self.stop) if needs_table else None
        plan, notices = maps.settle(
            arguments.method,
            int(features.is_seen_N.sum()),
            table.about.k if table else 0,
            seed=arguments.seed,
            perplexity=arguments.perplexity,
            steps=arguments.steps,
        )
        there = None if arguments.again or arguments.align_to else map_files.current_map(features, plan)
        if there:
            return _Made(there, ["up to date; drawn again"])
        for notice in notices:
            self.tell(notice)
        onto = self._reference()
        if arguments.method == "umap":
            self.tell(Noticed(level="info", text="UMAP is made in one go: a stop keeps nothing of it."))
        made = maps.make_map(
            features,
            table,
            plan,
            self.tell,
            self.stop.is_set,
            threads=self.threads,
            labels_N=self._labels_to_measure_by(),
            onto=onto,
            again=arguments.again,
        )
        return self._compared(onto, made)

    def _labels_to_measure_by(self) -> NDArray[np.int32] | None:
        return self.codes_N if self.names else None

    def _reference(self) -> tuple[str, map_files.PictureMap] | None:
        """Return the map to lay the new one on: that of the set named, or the one before it."""
        named, method = self.arguments.align_to, self.arguments.method
        if named == "none":
            return None
        other = self.project.features(named) if named else self.features
        try:
            found = map_files.read_any_map(other, method)
        except BadInput:
            if named:
                raise
            return None
        # One that was stopped is gone on with, and ends as if it had not been.
        is_begun = found.about.is_stopped and found.about.made_from == self.features.key
        return None if is_begun and not found.about.aligned_to else (other.folder.name, found)

    def _compared(self, onto: tuple[str, map_files.PictureMap] | None, made: map_files.PictureMap) -> _Made:
        """Say how pictures moved since the map that the new one was laid on."""
        if onto is None:
            return _Made(made, [])
        try:
            movement = aligning.compare_maps(onto[1], made)
        except BadInput as problem:
            self.tell(Noticed(level="warning", text=problem.message, hint=problem.hint))
            return _Made(made, [])
        most = zip(movement.ids[:MOVED_MOST].tolist(), movement.shares[:MOVED_MOST].tolist(), strict=True)
        words = f"lies as the map of set {onto[0]} did before"
        if movement.shares[0] >= STILL:
            words = (
                f"laid on the map of set {onto[0]}: half of {len(movement.ids):,} pictures moved by less than "
                f"{np.median(movement.shares):.0%} of its radius"
            )
        return _Made(made, [words], list(most))

    def _draw(self, made: map_files.PictureMap) -> list[Path]:
        method = made.about.plan.method
        names, groups_N = self._groups()
        rows_S = np.flatnonzero(made.is_on_N)
        points = Points(made.positions_N2[rows_S], groups_N[rows_S], names)
        title = f"{MAP_METHODS[method].title} of {len(rows_S):,} pictures"
        notes = [_set_in_words(self.features), " · ".join(_facts_in_words(made.about))]
        paths = [self.write(f"map-{method}.png", point_chart(points, title, notes))]
        if not (self.arguments.no_thumbnails or made.about.is_stopped):
            side = thumbnail_side(len(rows_S))
            chart = thumbnail_chart(points, lambda i: self.gallery.open(int(rows_S[i]), side), title, notes)
            paths.append(self.write(f"map-{method}-thumbnails.png", chart))
            self.gallery.tell_problems(self.tell)
        return paths

    def _groups(self) -> tuple[Sequence[str], NDArray[np.int32]]:
        """Return names and numbers of what the colours mean."""
        colour = self.arguments.colour
        if colour in CLUSTER_METHODS:
            found = read_clusters(self.features, colour)
            return [f"cluster {number + 1}" for number in range(len(found.about.clusters))], found.numbers_N
        if colour == "label" and not self.names:
            raise BadInput("The pictures have no labels.", "They are the names of sub-folders; see engine scan --help.")
        if colour == "none":
            return [], np.full(len(self.features), -1, np.int32)
        return self.names, self.codes_N

    def write(self, name: str, chart: Picture) -> Path:
        """Write a drawing, say so, and return its path."""
        path, what = made_folder(self.out) / name, "classes" if self.arguments.classes else self.arguments.method
        write_png(path, chart, of_set(self.features, map=what))
        self.tell(Made(what="drawing", path=str(path)))
        return path

    def _outcome(self, made: _Made, paths: Sequence[Path]) -> Outcome:
        about, n = made.map.about, int(made.map.is_on_N.sum())
        named = self.project.paths() if made.moved else {}
        moved = [{"id": number, "path": named.get(number), "share": share} for number, share in made.moved]
        data = {
            "set": self.features.folder.name,
            "map": str(self.features.folder / f"map-{about.plan.method}.npy"),
            "pictures": n,
            "about": asdict(about),
            "drawings": [str(path) for path in paths],
            "moved_most": moved,
            "seconds": round(time.monotonic() - self.begun, 2),
            "peak_memory_bytes": peak_memory_bytes(),
        }
        lines = [
            f"{self.features.folder}",
            f"  {MAP_METHODS[about.plan.method].title} of {n:,} pictures: {', '.join(_facts_in_words(about))}",
            *(f"  {line}" for line in made.words),
            f"  took {time_in_words(time.monotonic() - self.begun)} and {size_in_words(peak_memory_bytes())} of memory",
        ]
        n_unseen = len(self.features) - int(self.features.is_seen_N.sum())
        if n_unseen:
            lines.append(f"  {n_unseen:,} pictures without features are not on it")
        lines += [f"  {path}" for path in paths]
        return Outcome(data, "\n".join(lines))


def _classes(job: _Job) -> Outcome:
    """Make and draw the map of classes."""
    arguments = job.arguments
    made = make_class_map(
        job.features,
        job.labels,
        job.tell,
        job.stop.is_set,
        seed=arguments.seed,
        perplexity=arguments.perplexity,
        steps=arguments.steps,
    )
    about = made.about
    rows = [job.features.row_of(number) for number in about.nearest]
    chart = class_chart(
        made.positions_C2,
        about.names,
        about.counts,
        [job.gallery.open(row) for row in rows],
        f"{len(about.names):,} classes by t-SNE of their mean features",
        [
            _set_in_words(job.features),
            f"{about.components} principal components · perplexity {about.perplexity:.3g} · {about.step:,} steps · "
            "each shown by the picture nearest to its mean",
        ],
    )
    path = job.write("map-classes.png", chart)
    job.gallery.tell_problems(job.tell)
    if about.step < about.steps:
        job.tell(Noticed(level="info", text=f"Stopped at step {about.step:,}; the map so far is kept."))
        raise Stopped
    return _class_outcome(job.features, made, path)


def _set_in_words(features: FeatureSet) -> str:
    return f"set {features.folder.name} · {features.plan.in_words()}"


def _facts_in_words(about: map_files.MapAbout) -> list[str]:
    plan, measures = about.plan, about.measures
    facts = []
    if plan.method == "tsne":
        facts += [f"perplexity {plan.perplexity:.3g}", f"{about.step:,} steps", f"divergence {about.divergence:.2f}"]
    if plan.method == "umap":
        facts += [f"{plan.neighbours + 1} neighbours", f"{about.step:,} epochs"]
    if about.shares:
        facts += [f"{about.shares[0]:.1%} and {about.shares[1]:.1%} of the variance"]
    if measures:
        facts += [
            f"{measures.neighbours_kept:.0%} of {map_files.K} neighbours kept",
            f"trustworthiness {measures.trustworthiness:.3f}",
        ]
        if measures.label_agreement is not None:
            facts.append(f"label agreement {measures.label_agreement:.0%}")
    if about.n_placed:
        facts.append(f"{about.n_placed:,} placed later")
    return facts


def _class_outcome(features: FeatureSet, made: ClassMap, path: Path) -> Outcome:
    about = made.about
    data = {
        "set": features.folder.name,
        "map": str(features.folder / "map-classes.npy"),
        "about": asdict(about),
        "positions": made.positions_C2.tolist(),
        "drawings": [str(path)],
    }
    lines = [
        f"{features.folder}",
        f"  {len(about.names):,} classes of {sum(about.counts):,} pictures: {about.components} principal components, "
        f"perplexity {about.perplexity:.3g}, {about.step:,} steps, divergence {about.divergence:.2f}",
        f"  {path}",
    ]
    return Outcome(data, "\n".join(lines))
