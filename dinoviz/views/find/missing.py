"""What a search lacks, said with the one thing to do: features, the patches that parts are found by, their index."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PySide6.QtWidgets import QVBoxLayout, QWidget

from dinoviz.asked import patches_bytes
from dinoviz.commands import embed, index
from dinoviz.controls import EmptyState, clear
from dinoviz.desk import Desk
from dinoviz.features import SetRow
from dinoviz.jobs import Job
from dinoviz.words import counted, tr
from engine.quantities import size_in_words
from engine.records import read_record
from engine.sets import SetPlan, short_name

PATCHES_ACROSS = 16
"""Patches along the shorter side, at least, so that a part of a quarter of it is a part of several patches."""
GO_ON = "The jobs below show how far it is. You can go on meanwhile."


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
        self._room = QVBoxLayout(self)

    def say(
        self, icon: str, title: str, text: str, action: str = "", on_press: Callable[[], object] | None = None
    ) -> None:
        """Say something, with a button where there is something to do."""
        self._desk.background.forget("find.estimate")
        clear(self._room)
        self._room.addWidget(EmptyState(icon, title, text, action, on_press))

    def features(self) -> None:
        """Say that there are no features."""
        if self._is_making("embed"):
            self.say("brain", tr("Features are being computed"), tr(GO_ON))
            return
        text = tr(
            "Pictures are compared by what the backbone sees in them. That is computed once for {pictures}; "
            "you can go on working meanwhile.",
            pictures=counted(len(self._session.state.table), tr("picture")),
        )
        self.say("brain", tr("No features yet"), text, tr("Compute features"), lambda: self._embed())

    def patches(self) -> None:
        """Say that the set in use keeps no patches: another one does, or they can be computed."""
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
            self.say("bounding-box", title, text, action, lambda: self._session.use_set(other.number))
        elif self._is_making("embed"):
            self.say("bounding-box", tr("Patches are being computed"), tr(GO_ON))
        else:
            self.say("bounding-box", title, "")
            self._estimate(title)

    def index(self, message: str) -> None:
        """Say that the index of the set is not there."""
        if self._is_making("index"):
            self.say("bounding-box", tr("The index is being made"), tr(GO_ON))
        else:
            self.say("bounding-box", tr("Almost ready"), message, tr("Make the index"), self._index)

    def _is_making(self, verb: str) -> bool:
        return any(job.argv[:1] == (verb,) and not job.is_over for job in self._session.state.jobs)

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
            self.say("bounding-box", title, text, tr("Prepare parts"), lambda: self._embed(patches_at=side))

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
        title = tr("Compute features") if patches_at is None else tr("Compute features of patches")
        self._start_chain(state.project, [(argv, title), (index(state.project, None), tr("Index features"))])
        self._search_again()

    def _index(self) -> None:
        """Make the index of the set in use."""
        state = self._session.state
        if state.project is not None and state.set is not None:
            self._start_chain(state.project, [(index(state.project, state.set), tr("Index features"))])

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
