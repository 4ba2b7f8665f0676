"""What the Map has the engine do, as the arguments a person would type, one after the other where one needs another."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.map_reading import ClassMapData, PictureMapData
from dinoviz.words import tr
from engine.sets import SetPlan

PREPARING = ("embed", "index", "map", "clusters")
"""Commands whose progress is of interest to the map."""


def embed(project: Path, model: str) -> list[str]:
    """Compute the features of all pictures by a backbone."""
    return ["embed", str(project), "--model", model]


def embed_again(project: Path, plan: SetPlan) -> list[str]:
    """Compute the features of new and changed pictures for a set that is there."""
    shown = ["--features", plan.kind, "--view", plan.view, "--side", str(plan.side), "--precision", plan.precision]
    patches = ["--patches"] if plan.has_patches else []
    return ["embed", str(project), "--model", plan.model, *shown, *patches, "--role", plan.role]


def index(project: Path, number: int | None) -> list[str]:
    """Find the neighbours of every picture."""
    return ["index", str(project), *_of(number)]


def make_map(project: Path, number: int | None, method: str, *, again: bool = False) -> list[str]:
    """Lay the pictures out, or their classes."""
    how = ["--classes"] if method == "classes" else ["--method", method]
    return ["map", str(project), *_of(number), *how, "--no-thumbnails", *(["--again"] if again else [])]


def place(project: Path, number: int, method: str) -> list[str]:
    """Add new pictures to a map; the others stay where they are."""
    return ["map", str(project), *_of(number), "--method", method, "--no-thumbnails", "--place"]


def clusters(project: Path, number: int) -> list[str]:
    """Find groups of pictures that are alike."""
    return ["clusters", str(project), *_of(number)]


def _of(number: int | None) -> list[str]:
    return [] if number is None else ["--set", str(number)]


def working(jobs: Sequence[Job], project: Path | None, commands: Sequence[str] = PREPARING) -> Job | None:
    """Return the job of a project that works on what the map shows, the running one first; None for none."""
    found = [
        job
        for job in jobs
        if not job.is_over and job.argv[0] in commands and len(job.argv) > 1 and job.argv[1] == str(project)
    ]
    return min(found, key=lambda job: (job.state == "waiting", job.id), default=None)


def sentence(text: str) -> str:
    """Return what a job says it does with its first letter large."""
    return text[:1].upper() + text[1:]


def is_tsne(job: Job) -> bool:
    """Tell whether a job makes a t-SNE of pictures, step by step."""
    is_other = {"--classes", "--place", "umap", "pca"} & set(job.argv)
    return job.argv[0] == "map" and job.state in ("running", "stopping") and not is_other


class MapWork:
    """Starts the jobs of the map of the project that is open; at most one chain of them at a time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def job(self) -> Job | None:
        """What works on the map now."""
        state = self._desk.session.state
        return working(state.jobs, state.project)

    def make(self, method: str, title: str) -> None:
        """Make what is lacking: features, their neighbours, the map."""
        state = self._desk.session.state
        if state.project is None or self.job is not None:
            return
        if state.set_row is not None:
            self.make_map(method, title)
            return
        project = state.project
        lay_out = partial(self._start, make_map(project, None, method), title)
        if method in ("tsne", "umap"):
            then = partial(self._start, index(project, None), tr("Find neighbours"), lay_out)
        else:
            then = lay_out
        self._start(embed(project, state.model), tr("Compute features"), then)

    def make_map(self, method: str, title: str, *, again: bool = False) -> None:
        """Make a map of the set in use, or go on with it where it was stopped."""
        state = self._desk.session.state
        if state.project is not None and state.set_row is not None and self.job is None:
            self._start(make_map(state.project, state.set_row.number, method, again=again), title)

    def update(self, method: str, title: str, data: PictureMapData | ClassMapData | None) -> None:
        """Add new pictures to a map, computing their features first; go on with one that was stopped."""
        state = self._desk.session.state
        if state.project is None or state.set_row is None or self.job is not None:
            return
        if not isinstance(data, PictureMapData) or not (data.is_old or data.n_missing):
            self.make_map(method, title)
            return
        number = state.set_row.number
        put = partial(self._start, place(state.project, number, method), tr("Add new pictures to the map"))
        if data.n_missing:
            self._start(embed_again(state.project, data.plan), tr("Compute features of new pictures"), put)
        else:
            put()

    def find_clusters(self, then: Callable[[], object]) -> None:
        """Find groups of pictures that are alike."""
        state = self._desk.session.state
        if state.project is not None and state.set_row is not None and self.job is None:
            self._start(clusters(state.project, state.set_row.number), tr("Find clusters"), then)

    def stop(self) -> None:
        """Stop what works on the map; what is done is kept."""
        if (job := self.job) is not None:
            self._desk.jobs.stop(job.id)

    def _start(self, argv: Sequence[str], title: str, then: Callable[[], object] | None = None) -> None:
        def heard(job: Job) -> None:
            if then is not None and job.state in ("done", "partial"):
                then()

        self._desk.jobs.start(argv, title, heard)
