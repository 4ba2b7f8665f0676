"""What the Map has the engine do, as the arguments a person would type, one after the other where one needs another."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dinoviz.commands import clusters, embed, embed_again, index, make_map, place
from dinoviz.desk import Desk
from dinoviz.jobs import Job
from dinoviz.widgets.scatter.reading import ClassMapData, PictureMapData
from dinoviz.words import tr

PREPARING = ("embed", "index", "map", "clusters")
"""Commands whose progress is of interest to the map."""


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
        steps = [(embed(project, state.model), tr("Compute features"))]
        if method in ("tsne", "umap"):
            steps.append((index(project, None), tr("Find neighbours")))
        self._desk.jobs.chain([*steps, (make_map(project, None, method), title)])

    def make_map(self, method: str, title: str, *, again: bool = False) -> None:
        """Make a map of the set in use, or go on with it where it was stopped."""
        state = self._desk.session.state
        if state.project is not None and state.set_row is not None and self.job is None:
            self._desk.jobs.start(make_map(state.project, state.set_row.number, method, again=again), title)

    def update(self, method: str, title: str, data: PictureMapData | ClassMapData | None) -> None:
        """Add new pictures to a map, computing their features first; go on with one that was stopped."""
        state = self._desk.session.state
        if state.project is None or state.set_row is None or self.job is not None:
            return
        if not isinstance(data, PictureMapData) or not (data.is_old or data.n_missing):
            self.make_map(method, title)
            return
        number = state.set_row.number
        steps = [(place(state.project, number, method), tr("Add new pictures to the map"))]
        if data.n_missing:
            steps.insert(0, (embed_again(state.project, data.plan), tr("Compute features of new pictures")))
        self._desk.jobs.chain(steps)

    def find_neighbours(self) -> None:
        """Find who is near whom in the set in use."""
        state = self._desk.session.state
        is_at_it = working(state.jobs, state.project, ("index",)) is not None
        if state.project is not None and state.set_row is not None and not is_at_it:
            self._desk.jobs.start(index(state.project, state.set_row.number), tr("Find neighbours"))

    def find_clusters(self, then: Callable[[], object]) -> None:
        """Find groups of pictures that are alike."""
        state = self._desk.session.state
        project, row = state.project, state.set_row
        if project is None or row is None or self.job is not None:
            return

        def found(_job: Job) -> None:
            if self._desk.session.state.project == project:
                then()

        self._desk.jobs.chain([(clusters(project, row.number), tr("Find clusters"))], found)

    def stop(self) -> None:
        """Stop what works on the map; what is done is kept."""
        if (job := self.job) is not None:
            self._desk.jobs.stop(job.id)
