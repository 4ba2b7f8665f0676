"""``engine map``: all pictures of a project, or its classes, laid out in the plane."""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.catalogue import MAP_METHODS
from engine.commands import Outcome, StopSignal, new_parser, size_in_words, time_in_words
from engine.commands.index import peak_memory_bytes
from engine.errors import BadInput, BadRecipe, Stopped, UnreadablePicture
from engine.finding import maps
from engine.finding.charts import (
    Picture,
    Points,
    class_chart,
    point_chart,
    thumbnail_chart,
    thumbnail_side,
    write_chart,
)
from engine.finding.class_maps import ClassMap, label_codes, make_class_map
from engine.finding.clusters import METHODS as CLUSTER_METHODS
from engine.finding.clusters import read_clusters
from engine.finding.faithfulness import K
from engine.finding.index import make_index
from engine.finding.neighbours import NeighbourTable, read_neighbours
from engine.images import open_rgb
from engine.machine import usable_cores
from engine.project import Project
from engine.protocol import Made, Noticed, Tell
from engine.sets import FeatureSet

NAMED = 10  # pictures named on the terminal
STILL = 0.005  # of a map's radius: what cannot be seen to have moved
THUMBNAIL_PX = 160  # shorter side that pictures are decoded at, at least


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
    command.add_argument("--set", help="number or model of the set of features (by default the one used last)")
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
    # Threads that wait for each other would otherwise spin, which costs four times the time where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with Project.at(arguments.project) as project, StopSignal() as stop:
        features = project.features(arguments.set)
        job = _Job(arguments, project, features, tell, stop)
        try:
            return job.classes() if arguments.classes else job.pictures()
        except Stopped as stopped:
            raise Stopped(stop.number or 2) from stopped


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

    def classes(self) -> Outcome:
        """Make and draw the map of classes."""
        arguments = self.arguments
        made = make_class_map(
            self.features,
            self.labels,
            self.tell,
            self.stop.is_set,
            seed=arguments.seed,
            perplexity=arguments.perplexity,
            steps=arguments.steps,
        )
        about = made.about
        rows = [self.features.row_of(number) for number in about.nearest]
        chart = class_chart(
            made.positions_C2,
            about.names,
            about.counts,
            [self.gallery.open(row) for row in rows],
            f"{len(about.names):,} classes by t-SNE of their mean features",
            [
                self._set_in_words(),
                f"{about.components} principal components · perplexity {about.perplexity:.3g} · {about.step:,} steps · "
                "each shown by the picture nearest to its mean",
            ],
        )
        path = self._write("map-classes.png", chart)
        self.gallery.tell_problems(self.tell)
        if about.step < about.steps:
            self.tell(Noticed(level="info", text=f"Stopped at step {about.step:,}; the map so far is kept."))
            raise Stopped
        return _class_outcome(self.features, made, path)

    def pictures(self) -> Outcome:
        """Make and draw a map of pictures."""
        made, words = self._placed() if self.arguments.place else self._made()
        paths = self._draw(made)
        if made.about.is_stopped:
            text = f"Stopped at step {made.about.step:,} of {made.about.plan.steps:,}; the map so far is kept."
            self.tell(Noticed(level="info", text=text, hint="Run the same command again to go on."))
            raise Stopped
        return self._outcome(made, paths, words)

    def _placed(self) -> tuple[maps.PictureMap, list[str]]:
        made, n = maps.place(
            self.features, self.arguments.method, threads=self.threads, labels_N=self._labels_to_measure_by()
        )
        return made, [f"{n:,} pictures were placed; the others did not move" if n else "no new pictures to place"]

    def _made(self) -> tuple[maps.PictureMap, list[str]]:
        arguments, features = self.arguments, self.features
        table = self._table() if MAP_METHODS[arguments.method].needs_neighbours else None
        plan, notices = maps.settle(
            arguments.method,
            int(features.is_seen_N.sum()),
            table.about.k if table else 0,
            seed=arguments.seed,
            perplexity=arguments.perplexity,
            steps=arguments.steps,
        )
        there = None if arguments.again or arguments.align_to else maps.current_map(features, plan)
        if there:
            return there, ["up to date; drawn again"]
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
        return made, self._movement_in_words(onto, made)

    def _table(self) -> NeighbourTable:
        try:
            return read_neighbours(self.features)
        except BadInput as problem:
            self.tell(Noticed(level="info", text=problem.message, hint="They are found first, as engine index does."))
            return make_index(self.features, self.tell, self.stop.is_set)

    def _labels_to_measure_by(self) -> NDArray[np.int32] | None:
        return self.codes_N if self.names else None

    def _reference(self) -> tuple[str, maps.PictureMap] | None:
        """Return the map to lay the new one on: that of the set named, or the one before it."""
        named, method = self.arguments.align_to, self.arguments.method
        if named == "none":
            return None
        other = self.project.features(named) if named else self.features
        try:
            found = maps.read_any_map(other, method)
        except BadInput:
            if named:
                raise
            return None
        # One that was stopped is gone on with, and ends as if it had not been.
        is_begun = found.about.is_stopped and found.about.made_from == self.features.key
        return None if is_begun and not found.about.aligned_to else (other.folder.name, found)

    def _movement_in_words(self, onto: tuple[str, maps.PictureMap] | None, made: maps.PictureMap) -> list[str]:
        if onto is None:
            return []
        try:
            movement = maps.compare_maps(onto[1], made)
        except BadInput as problem:
            self.tell(Noticed(level="warning", text=problem.message, hint=problem.hint))
            return []
        self.moved = [(int(number), float(share)) for number, share in zip(movement.ids, movement.shares, strict=True)]
        if movement.shares[0] < STILL:
            return [f"lies as the map of set {onto[0]} did before"]
        return [
            f"laid on the map of set {onto[0]}: half of {len(movement.ids):,} pictures moved by less than "
            f"{np.median(movement.shares):.0%} of its radius"
        ]

    moved: Sequence[tuple[int, float]] = ()

    def _draw(self, made: maps.PictureMap) -> list[Path]:
        method = made.about.plan.method
        names, groups_N = self._groups()
        rows_S = np.flatnonzero(made.is_on_N)
        points = Points(made.positions_N2[rows_S], groups_N[rows_S], names)
        title = f"{MAP_METHODS[method].title} of {len(rows_S):,} pictures"
        notes = [self._set_in_words(), " · ".join(_facts_in_words(made.about))]
        paths = [self._write(f"map-{method}.png", point_chart(points, title, notes))]
        if not (self.arguments.no_thumbnails or made.about.is_stopped):
            side = thumbnail_side(len(rows_S))
            chart = thumbnail_chart(points, lambda i: self.gallery.open(int(rows_S[i]), side), title, notes)
            paths.append(self._write(f"map-{method}-thumbnails.png", chart))
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

    def _set_in_words(self) -> str:
        plan = self.features.plan
        words = (Path(plan.model).name, plan.architecture, plan.kind, f"{plan.side} px")
        return " · ".join((f"set {self.features.folder.name}", *words))

    def _write(self, name: str, chart: Picture) -> Path:
        self.out.mkdir(parents=True, exist_ok=True)
        write_chart(self.out / name, chart)
        self.tell(Made(what="drawing", path=str(self.out / name)))
        return self.out / name

    def _outcome(self, made: maps.PictureMap, paths: Sequence[Path], words: Sequence[str]) -> Outcome:
        about, n = made.about, int(made.is_on_N.sum())
        named = self.project.paths()
        moved = [{"id": number, "path": named.get(number), "share": share} for number, share in self.moved[:NAMED]]
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
            *(f"  {line}" for line in words),
            f"  took {time_in_words(time.monotonic() - self.begun)} and {size_in_words(peak_memory_bytes())} of memory",
        ]
        n_unseen = len(self.features) - int(self.features.is_seen_N.sum())
        if n_unseen:
            lines.append(f"  {n_unseen:,} pictures without features are not on it")
        lines += [f"  {path}" for path in paths]
        return Outcome(data, "\n".join(lines))


class Gallery:
    """Pictures of a set by their row, for drawings; remembers which could not be shown."""

    def __init__(self, project: Project, features: FeatureSet) -> None:
        self._root, self._paths, self._features = project.pictures_folder, project.paths(), features
        self.problems: list[str] = []

    def open(self, row: int, side: int = THUMBNAIL_PX) -> Picture | None:
        """Return a picture of at least ``side`` px if it has as many, None where it cannot be read."""
        path = self._paths.get(int(self._features.ids_N[row]))
        if path is None:
            self.problems.append(f"row {row}")
            return None
        try:
            return open_rgb(self._root / path, at_least=side)
        except UnreadablePicture:
            self.problems.append(path)
            return None

    def tell_problems(self, tell: Tell) -> None:
        """Say which pictures are grey on the drawings."""
        if self.problems:
            named = ", ".join(self.problems[:NAMED]) + (", …" if len(self.problems) > NAMED else "")
            text = f"{len(self.problems):,} pictures could not be read and are grey on the drawing: {named}."
            tell(Noticed(level="warning", text=text, hint="Look for them: engine scan FOLDER."))


def _facts_in_words(about: maps.MapAbout) -> list[str]:
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
            f"{measures.neighbours_kept:.0%} of {K} neighbours kept",
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
