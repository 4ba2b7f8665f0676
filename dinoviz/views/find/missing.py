"""What a search lacks, said with the one thing to do: features, the patches that parts are found by, their index."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PySide6.QtWidgets import QVBoxLayout, QWidget

from dinoviz.asked import patches_bytes
from dinoviz.commands import embed, index
from dinoviz.controls import EmptyState, clear
from dinoviz.desk import Desk
from dinoviz.features import SetRow
from dinoviz.job_words import pace
from dinoviz.jobs import Job
from dinoviz.watching import watch
from dinoviz.words import counted, tr
from engine.quantities import size_in_words
from engine.records import read_record
from engine.sets import SetPlan, short_name

PATCHES_ACROSS = 16
"""Patches along the shorter side, at least, so that a part of a quarter of it is a part of several patches."""
GO_ON = "You can go on meanwhile; the search follows by itself."
Need = Literal["features", "patches", "index"]


class Missing(QWidget):
    """Says what is missing, and starts what makes it.

    Args:
        desk: of the window.
        search_again: called when something was made, or could not be.
        wants_parts: tells whether a part is looked for, so that a set with patches is used once there is one.
    """

    def __init__(self, desk: Desk, search_again: Callable[[], object], wants_parts: Callable[[], bool]) -> None:
        super().__init__()
        self._desk = desk
        self._session = desk.session
        self._search_again = search_again
        self._wants_parts = wants_parts
        self._lacks: Need | None = None
        self._message = ""
        self._told: tuple[object, ...] = ()
        """What is said, so that it is said anew only where it has changed."""
        self._page: EmptyState
        self._room = QVBoxLayout(self)
        watch(self, self._session, ("jobs", "sets", "set", "table"), self._draw)

    def say(
        self, icon: str, title: str, text: str, action: str = "", on_press: Callable[[], object] | None = None
    ) -> None:
        """Say something that lacks nothing, with a button where there is something to do."""
        self._lacks = None
        self._show(icon, title, text, action, on_press)

    def features(self) -> None:
        """Say that there are no features."""
        self._need("features")

    def patches(self) -> None:
        """Say that the set in use keeps no patches: another one does, or they can be computed."""
        self._need("patches")

    def index(self, message: str) -> None:
        """Say that the index of the set is not there."""
        self._message = message
        self._need("index")

    def _need(self, what: Need) -> None:
        self._lacks, self._told = what, ()
        self._draw()

    def _draw(self) -> None:
        """Say how far what prepares it is, or else what there is to do; only where that has changed."""
        if self._lacks is None:
            return
        job, state = self._preparing(), self._session.state
        if job is not None:
            self._show_progress(job)
        elif self._told != (told := (self._lacks, state.sets, state.set, len(state.table))):
            self._told = told
            {"features": self._offer_features, "patches": self._offer_patches, "index": self._offer_index}[
                self._lacks
            ]()

    def _preparing(self) -> Job | None:
        """Return the job of this project that makes what is lacking, None where none does."""
        state = self._session.state
        going = [job for job in state.jobs if not job.is_over and job.argv[1:2] == (str(state.project),)]
        with_patches = [job for job in going if job.argv[0] == "embed" and "--patches" in job.argv]
        indexing = [job for job in going if job.argv[0] == "index"]
        match self._lacks:
            case "features":
                making = [job for job in going if job.argv[0] == "embed"]
            case "patches":
                is_kept = any(row.has_patches for row in state.sets)
                making = with_patches or (indexing if is_kept else [])
            case _:
                making = with_patches or indexing
        return min(making, key=lambda job: (job.state == "waiting", job.id), default=None)

    def _show_progress(self, job: Job) -> None:
        title = {
            "features": tr("The pictures are being prepared for the search"),
            "patches": tr("Parts are being prepared for the search"),
            "index": tr("The search is being prepared"),
        }[self._lacks or "index"]
        going = (self._lacks, job.id)
        if self._told != going:
            self._told = going
            self._page = self._show("magnifying-glass", title, "")
        said = pace(job)
        self._page.say(title, f"{said[:1].upper()}{said[1:]}\n{tr(GO_ON)}")
        self._page.show_share(job.share)

    def _show(
        self, icon: str, title: str, text: str, action: str = "", on_press: Callable[[], object] | None = None
    ) -> EmptyState:
        self._desk.background.forget("find.estimate")
        clear(self._room)
        page = EmptyState(icon, title, text, action, on_press)
        self._room.addWidget(page)
        return page

    def _offer_features(self) -> None:
        text = tr(
            "Pictures are compared by what the backbone sees in them. That is computed once for {pictures}; "
            "you can go on working meanwhile.",
            pictures=counted(len(self._session.state.table), tr("picture")),
        )
        self._show("brain", tr("No features yet"), text, tr("Compute features"), lambda: self._embed())

    def _offer_patches(self) -> None:
        state = self._session.state
        other = next((row for row in state.sets if row.has_patches), None)
        title = tr("Parts are not prepared yet")
        if other is not None:
            text = tr(
                "Parts are found by the features of patches, which set {number} keeps ({model}).",
                number=other.number,
                model=short_name(other.model),
            )
            action = tr("Use set {number}", number=other.number)
            title = tr("This set cannot be searched by parts")
            self._show("bounding-box", title, text, action, lambda: self._session.use_set(other.number))
        else:
            self._show("bounding-box", title, "")
            self._estimate(title)

    def _offer_index(self) -> None:
        self._show("bounding-box", tr("Almost ready"), self._message, tr("Prepare the search"), self._index)

    def _estimate(self, title: str) -> None:
        """Offer to compute patches, and say what they take, by how the pictures of the set in use were shown."""
        state = self._session.state
        row, table = state.set_row, state.table
        if row is None:
            return
        found: SetRow = row

        def work() -> tuple[int, int]:
            plan = read_record(found.folder / "plan.json", SetPlan)
            if plan is None:
                return 0, 0
            side = max(plan.side, PATCHES_ACROSS * plan.patch)
            sizes = np.stack([table.heights_N, table.widths_N], axis=1)[table.heights_N > 0]
            return side, patches_bytes(sizes, side, plan.patch, plan.width)

        def offer(estimate: tuple[int, int]) -> None:
            side, n_bytes = estimate
            text = tr(
                "To find a part in other pictures, the features of all their patches are kept, too: about {size} for "
                "{pictures}. It runs as a job; you can go on working.",
                size=size_in_words(n_bytes),
                pictures=counted(len(table), tr("picture")),
            )
            self._show("bounding-box", title, text, tr("Prepare parts"), lambda: self._embed(patches_at=side))

        self._desk.background.run("find.estimate", work, offer)

    def _embed(self, patches_at: int | None = None) -> None:
        """Compute features, with those of patches where a side to see pictures at is said; 0 is the backbone's own."""
        state = self._session.state
        if state.project is None:
            return
        model = state.set_row.model if state.set_row is not None else state.model
        argv = embed(state.project, model)
        argv += ["--patches"] if patches_at is not None else []
        argv += ["--side", str(patches_at)] if patches_at else []
        title = tr("Compute features") if patches_at is None else tr("Compute features of parts")
        self._start_chain(state.project, [(argv, title), (index(state.project, None), tr("Prepare the search"))])
        self._search_again()

    def _index(self) -> None:
        """Make the index of the set in use."""
        state = self._session.state
        if state.project is not None and state.set is not None:
            self._start_chain(state.project, [(index(state.project, state.set), tr("Prepare the search"))])

    def _start_chain(self, project: Path, steps: Sequence[tuple[Sequence[str], str]]) -> None:
        """Start jobs one after the other, and search when all are done, if their project is still open then."""

        def done(_job: Job) -> None:
            if self._session.state.project == project:
                self._indexed()

        self._desk.jobs.chain(steps, done)

    def _indexed(self) -> None:
        state = self._session.state
        with_patches = [row.number for row in state.sets if row.has_patches]
        if self._wants_parts() and with_patches and state.set not in with_patches:
            self._session.use_set(with_patches[0])
        self._search_again()
