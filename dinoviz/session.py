"""What the window knows, and the only place that changes it. Plain Python, no Qt.

A view draws ``session.state`` and calls methods; a method makes a new state and says which fields moved. Nothing else
passes between views. What takes long (reading a project, answering a query over a million pictures) is run by whoever
made the session, see ``Run``, and of two such pieces of work for one purpose only the newer counts.

Undo covers everything a person says of pictures (``engine.marks``) and selections made with a tool.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from dinoviz import query as queries
from dinoviz.choices import Choices, restored
from dinoviz.features import SetRow, clusters_at, likeness_to, read_sets
from dinoviz.jobs import Job
from dinoviz.query import Known, Query
from dinoviz.table import Ids, PictureTable, are_ids, no_ids
from engine.errors import BadInput, UserError
from engine.marks import MOST_STARS, Change, Marks, What
from engine.project import Project

BUNDLED = "bundled"
"""Backbone that comes with the program."""
MOST_UNDONE = 1000
"""Actions that can be undone."""
MOST_REMEMBERED = 10_000
"""Pictures of a selection or a filter that are remembered from one start to the next: 80 kB of JSON a project."""
MOST_JOBS = 200

How = Literal["replace", "add", "subtract", "toggle"]
Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run of the project: its number, folder, start (seconds since 1970), state and subject."""

    number: int
    folder: Path
    started: float
    state: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence for the person, with what to do about it.

    Args:
        level: how bad it is.
        text: what happened.
        hint: what to do about it.
        action: text of a button, and the action that it does.
        doings: texts of further buttons, and what they do.
        at: seconds since 1970.
    """

    level: Level
    text: str
    hint: str = ""
    action: tuple[str, str] | None = None
    doings: tuple[tuple[str, Callable[[], object]], ...] = ()
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Everything that is drawn.

    Args:
        project: folder of the project that is open.
        is_reading: it is being read.
        pictures_folder: where its pictures are.
        table: its pictures.
        marks: what the person said of them.
        query: which are shown.
        shown: the answer, in its order.
        current: the picture looked at.
        selected: sorted.
        hovered: the picture under the mouse.
        place: name of the view in front.
        model: backbone that looks, as ``--model`` takes it.
        set: number of the set of features in use.
        sets: those there are, the one used last first.
        runs: those there are.
        jobs: of this session, oldest first.
        choices: what each view was set to.
        undo_text: what would be undone, empty for nothing.
        redo_text: the same for redoing.
    """

    project: Path | None = None
    is_reading: bool = False
    pictures_folder: Path | None = None
    table: PictureTable = field(default_factory=PictureTable)
    marks: Marks = field(default_factory=Marks)
    query: Query = field(default_factory=Query)
    shown: Ids = field(default_factory=no_ids)
    current: int | None = None
    selected: Ids = field(default_factory=no_ids)
    hovered: int | None = None
    place: str = "welcome"
    model: str = BUNDLED
    set: int | None = None
    sets: tuple[SetRow, ...] = ()
    runs: tuple[RunRow, ...] = ()
    jobs: tuple[Job, ...] = ()
    choices: Choices = field(default_factory=Choices)
    undo_text: str = ""
    redo_text: str = ""

    @property
    def set_row(self) -> SetRow | None:
        """The set of features in use."""
        return next((row for row in self.sets if row.number == self.set), None)

    def is_selected(self, picture: int) -> bool:
        """Tell whether a picture is selected."""
        place = int(np.searchsorted(self.selected, picture))
        return place < len(self.selected) and int(self.selected[place]) == picture

    def meant(self) -> Ids:
        """Return the pictures that an action is about: the selected ones, or else the current one."""
        if len(self.selected):
            return self.selected
        return no_ids() if self.current is None else np.array([self.current], np.int64)


class Run(Protocol):
    """Runs work elsewhere and calls back where the session lives; of one slot only the newest."""

    def __call__(  # noqa: D102
        self,
        slot: str,
        work: Callable[[], Any],
        then: Callable[[Any], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None: ...


def at_once(
    slot: str,
    work: Callable[[], Any],
    then: Callable[[Any], object],
    failed: Callable[[Exception], object] | None = None,
) -> None:
    """Run work here and now: for scripts and tests."""
    try:
        result = work()
    except Exception as problem:
        if failed is None:
            raise
        failed(problem)
    else:
        then(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """One action that can be undone: a change of marks, or of the selection."""

    text: str
    change: Change | None = None
    before: Ids | None = None
    after: Ids | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A project as it was read."""

    pictures_folder: Path
    table: PictureTable
    marks: Marks
    sets: tuple[SetRow, ...]
    runs: tuple[RunRow, ...]


class Session:
    """The state of one window.

    Args:
        run: runs what takes long.
    """

    changed = Signal(frozenset)
    """Names of the fields of ``State`` that moved, and ``choices.NAME`` for each view whose choices did."""
    noticed = Signal(Notice)

    def __init__(self, run: Run = at_once) -> None:
        self.state = State()
        self._run = run
        self._done: list[_Done] = []
        self._undone: list[_Done] = []
        self._opening = 0
        """Which opening this is: what was asked during an earlier one is not answered."""
        self._kept: Mapping[str, Any] = {}
        """How the project was left; taken over once it is read."""
        self._is_at_it = False
        self._is_stale = False
        """Something was made since the project began to be read: it is read once more."""
        self._n_said = self._n_written = 0
        """Changes of marks, and those of them that were written or failed."""

    # The project.

    def open(self, folder: Path, memory: Mapping[str, Any] | None = None) -> None:
        """Open a project, as it was left where ``memory`` says how; what was open is closed."""
        self.close()
        self._kept = kept = dict(memory or {})
        self._set(
            project=folder,
            is_reading=True,
            place=kept["place"] if isinstance(kept.get("place"), str) else "library",
            query=queries.remembered(kept.get("query")),
            choices=restored(Choices, kept.get("choices")),
            model=kept["model"] if isinstance(kept.get("model"), str) else BUNDLED,
            set=kept["set"] if isinstance(kept.get("set"), int) else None,
        )
        self._read()

    def close(self) -> None:
        """Close the project."""
        self._opening += 1
        self._kept = {}
        self._is_at_it = self._is_stale = False
        self._done.clear()
        self._undone.clear()
        empty = State(jobs=self.state.jobs)
        self._set(**{part.name: getattr(empty, part.name) for part in fields(State)})

    def refresh(self) -> None:
        """Read the project again: something was made.

        A reading that goes on is never given up for it: a scan tells of new pictures faster than many can be read.
        """
        if self._is_at_it:
            self._is_stale = True
        elif self.state.project is not None:
            self._read()

    def _read(self) -> None:
        folder, opening, n_said, marks = self.state.project, self._opening, self._n_said, self.state.marks
        assert folder is not None
        is_all_written = self._n_written == n_said
        self._is_at_it, self._is_stale = True, False

        def take(read: _Reading) -> None:
            if opening != self._opening:
                return
            self._is_at_it = False
            # What was said meanwhile is not in what was read.
            self._take(read, has_marks=is_all_written and n_said == self._n_said)
            if self._is_stale and opening == self._opening:
                self._read()

        def failed(problem: Exception) -> None:
            if opening == self._opening:
                self._is_at_it = False
                self._cannot_open(problem)

        self._run("project", lambda: _read_project(folder, marks), take, failed)

    def _cannot_open(self, problem: Exception) -> None:
        if self.state.is_reading:
            self.close()
        if not isinstance(problem, UserError):
            raise problem
        self.notify("error", problem.message, problem.hint)

    def _take(self, read: _Reading, *, has_marks: bool) -> None:
        """Take over what was read; ``has_marks``: all that was said in this window is in it."""
        if self.state.is_reading and not has_marks:
            self._read_marks()
        if not self.state.is_reading and has_marks and read.marks is not self.state.marks:
            self._say_others_were_here()
        state = self.state
        marks = read.marks if state.is_reading or has_marks else state.marks
        numbers = [row.number for row in read.sets]
        current = state.current if state.current is not None and read.table.contains(state.current) else None
        self._set(
            is_reading=False,
            pictures_folder=read.pictures_folder,
            table=read.table.with_labels(marks.labels) if marks.labels else read.table,
            marks=marks,
            sets=read.sets,
            runs=read.runs,
            set=state.set if state.set in numbers else (numbers[0] if numbers else None),
            current=current,
            selected=np.sort(read.table.known(state.selected)),
        )
        self._ask()
        self._select_again()

    def _select_again(self) -> None:
        kept, self._kept = self._kept, {}
        current, selected = kept.get("current"), kept.get("selected")
        if isinstance(current, int):
            self.set_current(current)
        if are_ids(selected):
            self._set(selected=np.unique(self.state.table.known(np.array(selected, np.int64))))

    def _say_others_were_here(self) -> None:
        """Forget what could be undone, as that would undo what another window said since."""
        if self._done or self._undone:
            self._forget_actions()
            self.notify(
                "info",
                "What is said of these pictures was changed in another window, and is shown as it is now.",
                "What was done before that cannot be undone any more.",
            )

    def memory(self) -> dict[str, Any]:
        """Return what JSON can keep of the state, for ``open``."""
        state = self.state
        query = {part.name: getattr(state.query, part.name) for part in fields(Query)}  # asdict copies every id
        if state.query.among is not None and len(state.query.among) > MOST_REMEMBERED:
            query["among"] = None
        return {
            "place": state.place,
            "query": query,
            "current": state.current,
            "selected": state.selected.tolist() if len(state.selected) <= MOST_REMEMBERED else [],
            "model": state.model,
            "set": state.set,
            "choices": asdict(state.choices),
        }

    # Where one is, and what one sees.

    def go(self, place: str) -> None:
        """Bring a view to the front."""
        self._set(place=place)

    def set_query(self, query: Query) -> None:
        """Show other pictures, or in another order."""
        if query != self.state.query:
            self._set(query=query)
            self._ask()

    def _ask(self) -> None:
        """Answer the query again, elsewhere; without the features where these cannot be read."""
        state, opening = self.state, self._opening

        def work() -> tuple[Ids, UserError | None]:
            try:
                known, problem = known_of(state), None
            except UserError as raised:
                known, problem = Known(), raised
            return queries.answer(state.query, state.table, state.marks, known), problem

        def then(answer: tuple[Ids, UserError | None]) -> None:
            shown, problem = answer
            if opening == self._opening:
                self._set(shown=shown)
                if problem:
                    self.notify("error", problem.message, problem.hint)

        self._run("query", work, then)

    def set_current(self, picture: int | None) -> None:
        """Look at a picture."""
        if picture is not None and not self.state.table.contains(picture):
            return
        if picture != self.state.current:
            self._set(current=picture)

    def step(self, by: int) -> None:
        """Look at the picture ``by`` places further among those shown."""
        shown = self.state.shown
        if not len(shown):
            return
        place = np.flatnonzero(shown == self.state.current) if self.state.current is not None else no_ids()
        to = int(place[0]) + by if len(place) else (0 if by > 0 else len(shown) - 1)
        self.set_current(int(shown[min(max(to, 0), len(shown) - 1)]))

    def hover(self, picture: int | None) -> None:
        """Note which picture is under the mouse."""
        if picture != self.state.hovered:
            self._set(hovered=picture)

    def use_model(self, model: str) -> None:
        """Look through another backbone, and find with its features where there are some."""
        if model != self.state.model:
            self._set(model=model)
        number = next((row.number for row in self.state.sets if row.model == model), None)
        if number is not None:
            self.use_set(number)

    def use_set(self, number: int) -> None:
        """Find with another set of features."""
        if number != self.state.set and any(row.number == number for row in self.state.sets):
            self._set(set=number)
            self._ask()

    def choose(self, **views: Any) -> None:
        """Set what views remember: ``choose(map=replace(state.choices.map, colour="label"))``."""
        moved = {name for name, value in views.items() if getattr(self.state.choices, name) != value}
        if moved:
            self._set(choices=replace(self.state.choices, **views), also=[f"choices.{name}" for name in moved])

    def set_choices(self, view: str, /, **changes: Any) -> None:
        """Set some of what a view remembers: ``set_choices("map", by="label")``."""
        self.choose(**{view: replace(getattr(self.state.choices, view), **changes)})

    # Selecting.

    def select(self, ids: Iterable[int] | Ids, how: How = "replace") -> None:
        """Select pictures."""
        wanted = self._combined(ids, how)
        if not np.array_equal(wanted, self.state.selected):
            self._set(selected=wanted)

    def select_with_tool(self, ids: Iterable[int] | Ids, how: How, text: str) -> None:
        """Select pictures in a way that took a gesture, so that it can be undone; ``text`` names it: Lasso."""
        before, after = self.state.selected, self._combined(ids, how)
        if not np.array_equal(before, after):
            self._remember(_Done(text=text, before=before, after=after))
            self._set(selected=after)

    def _combined(self, ids: Iterable[int] | Ids, how: How) -> Ids:
        given = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64)
        is_given, is_selected = self.state.table.flags(given), self.state.table.flags(self.state.selected)
        match how:
            case "replace":
                return np.flatnonzero(is_given)
            case "add":
                return np.flatnonzero(is_selected | is_given)
            case "subtract":
                return np.flatnonzero(is_selected & ~is_given)
            case "toggle":
                return np.flatnonzero(is_selected ^ is_given)

    # What a person says of pictures.

    def rate(self, ids: Sequence[int] | Ids, stars: int) -> None:
        """Give pictures 1 to 5 stars, or none."""
        stars = min(max(stars, 0), MOST_STARS)
        self._say("rating", dict.fromkeys(_listed(ids), stars or None), f"{stars} stars" if stars else "no stars")

    def label(self, ids: Sequence[int] | Ids, label: str | None) -> None:
        """Correct the label of pictures; None goes back to that of their folder."""
        said = label.strip() if label is not None else None
        text = f"label '{said}'" if said else "label of the folder"
        self._say("label", dict.fromkeys(_listed(ids), said or None), text)

    def tag(self, ids: Sequence[int] | Ids, tag: str) -> None:
        """Tag pictures."""
        if tag.strip():
            self._say("tag", {(tag.strip(), i): True for i in _listed(ids)}, f"tag '{tag.strip()}'")

    def untag(self, ids: Sequence[int] | Ids, tag: str) -> None:
        """Take a tag off pictures."""
        self._say("tag", {(tag, i): None for i in _listed(ids)}, f"take off tag '{tag}'")

    def hide(self, ids: Sequence[int] | Ids) -> None:
        """Leave pictures out of the project; their files stay."""
        self._say("hidden", dict.fromkeys(_listed(ids), True), "leave out")

    def restore(self, ids: Sequence[int] | Ids) -> None:
        """Take pictures that were left out back in."""
        self._say("hidden", dict.fromkeys(_listed(ids)), "take back in")

    def save_selection(self, name: str) -> None:
        """Keep what is selected under a name."""
        if name.strip() and len(self.state.selected):
            ids = tuple(self.state.selected.tolist())
            self._say("selection", {name.strip(): ids}, f"keep selection '{name.strip()}'")

    def drop_selection(self, name: str) -> None:
        """Forget a selection that was kept."""
        self._say("selection", {name: None}, f"forget selection '{name}'")

    def judge(self, kind: str, subject: str, verdict: str | None) -> None:
        """Keep a verdict, as that two pictures are no duplicates; None takes it back."""
        self._say("verdict", {(kind, subject): verdict}, verdict or "take back a verdict")

    def _say(self, what: What, after: Mapping[Any, Any], text: str) -> None:
        change = self.state.marks.change(what, after)
        if change.after:
            pictures = f" · {len(change.after):,} pictures" if what != "selection" and len(change.after) > 1 else ""
            self._remember(_Done(text=f"{text}{pictures}", change=change))
            self._write(change)

    def _write(self, change: Change) -> None:
        """Take a change over at once and write it elsewhere; where that fails, go back to what is written."""
        folder, opening = self.state.project, self._opening
        if folder is None:
            return
        self._n_said += 1
        self._take_over(change)

        def work() -> None:
            with Project.at(folder) as project:
                project.write_marks(change)

        def then(_none: object) -> None:
            self._n_written += 1

        def failed(problem: Exception) -> None:
            self._n_written += 1
            if not isinstance(problem, UserError):
                raise problem
            self.notify("error", problem.message, problem.hint)
            if opening == self._opening:
                self._forget_actions()
                self._read_marks()

        self._run("", work, then, failed)

    def _read_marks(self) -> None:
        """Go back to what is written, once all that was said is."""
        folder, opening, n_said = self.state.project, self._opening, self._n_said
        assert folder is not None

        def work() -> Marks:
            with Project.at(folder) as project:
                return project.marks()

        def then(marks: Marks) -> None:
            if opening != self._opening:
                return
            if n_said != self._n_said:
                self._read_marks()
                return
            labels = {**dict.fromkeys(self.state.marks.labels), **marks.labels}
            self._set(marks=marks, table=self.state.table.with_labels(labels))
            self._ask()

        def failed(problem: Exception) -> None:
            if not isinstance(problem, UserError):
                raise problem
            self.notify("error", problem.message, "What is shown here may not be what is kept.")

        self._run("", work, then, failed)  # in the order of what is written

    def _take_over(self, change: Change) -> None:
        self._set(marks=self.state.marks.after(change), **self._with_labels(change))
        self._ask()

    def _with_labels(self, change: Change) -> dict[str, Any]:
        """Return the table after a change of labels."""
        return {"table": self.state.table.with_labels(change.after)} if change.what == "label" else {}  # type: ignore[arg-type]

    def _remember(self, done: _Done) -> None:
        self._done = [*self._done, done][-MOST_UNDONE:]
        self._undone.clear()
        self._say_what_can_be_undone()

    def _forget_actions(self) -> None:
        self._done.clear()
        self._undone.clear()
        self._say_what_can_be_undone()

    def undo(self) -> None:
        """Undo the last action."""
        if self._done:
            done = self._done.pop()
            self._undone.append(done)
            self._say_what_can_be_undone()
            self._put(done.change.inverse if done.change else None, done.before)

    def redo(self) -> None:
        """Do again what was undone last."""
        if self._undone:
            done = self._undone.pop()
            self._done.append(done)
            self._say_what_can_be_undone()
            self._put(done.change, done.after)

    def _put(self, change: Change | None, selected: Ids | None) -> None:
        if change:
            self._write(change)
        if selected is not None:
            self._set(selected=selected)

    def _say_what_can_be_undone(self) -> None:
        self._set(
            undo_text=self._done[-1].text if self._done else "",
            redo_text=self._undone[-1].text if self._undone else "",
        )

    # Jobs and notices.

    def set_job(self, job: Job) -> None:
        """Show a job as it is now, or a new one."""
        others = [other for other in self.state.jobs if other.id != job.id]
        self._set(jobs=tuple(sorted([*others, job], key=lambda one: one.id))[-MOST_JOBS:])

    def drop_job(self, number: int) -> None:
        """Take a job that ended off the list."""
        self._set(jobs=tuple(job for job in self.state.jobs if job.id != number or not job.is_over))

    def notify(
        self,
        level: Level,
        text: str,
        hint: str = "",
        action: tuple[str, str] | None = None,
        doings: Sequence[tuple[str, Callable[[], object]]] = (),
    ) -> None:
        """Tell the person something; see ``Notice``."""
        self.noticed.emit(Notice(level=level, text=text, hint=hint, action=action, doings=tuple(doings)))

    def _set(self, *, also: Sequence[str] = (), **moved: Any) -> None:
        """Take over what really moved, and say so."""
        real = {name: value for name, value in moved.items() if not _is_same(getattr(self.state, name), value)}
        if not real:
            return
        if "choices" in real and not also:
            also = [f"choices.{part.name}" for part in fields(Choices)]
        self.state = replace(self.state, **real)
        self.changed.emit(frozenset([*real, *also]))


def _listed(ids: Sequence[int] | Ids) -> list[int]:
    """Return ids as plain numbers: of a million much faster than one by one."""
    listed: list[int] = np.asarray(ids, np.int64).tolist()
    return listed


def _is_same(old: object, new: object) -> bool:
    if old is new:
        return True
    if isinstance(old, np.ndarray) or isinstance(new, np.ndarray):
        return isinstance(old, np.ndarray) and isinstance(new, np.ndarray) and np.array_equal(old, new)
    return bool(old == new)


def _read_project(folder: Path, marks: Marks) -> _Reading:
    """Read a project; ``marks`` are kept where they are what is read, so that nothing moves for nothing.

    Raises:
        UserError: it cannot be read.
    """
    try:
        read = _reading_of(folder)
    except sqlite3.Error as problem:
        raise BadInput(
            f"The project in '{folder}' is damaged: {problem}.",
            "Put a copy of it back, or move it away and open the folder of its pictures again.",
        ) from problem
    return replace(read, marks=marks) if read.marks.says_the_same(marks) else read


def _reading_of(folder: Path) -> _Reading:
    with Project.at(folder) as project:
        runs = tuple(
            RunRow(number=number, folder=project.run_folder(number), started=started, state=state, about=about)
            for number, started, state, about in project.runs()
        )
        return _Reading(
            pictures_folder=project.pictures_folder,
            table=PictureTable.read(project),
            marks=project.marks(),
            sets=read_sets(project),
            runs=runs,
        )


def known_of(state: State, *, with_clusters: bool = False) -> Known:
    """Return what a query looks at beside the table; read only where this one does, or where it is asked for."""
    likeness_N: NDArray[np.float32] | None = None
    clusters_N: NDArray[np.int32] | None = None
    query, row = state.query, state.set_row
    if query.sort == "similarity" and query.like is not None and row:
        likeness_N = likeness_to(query.like, row.folder, state.table)
    if row and (query.clusters or with_clusters):
        clusters_N = clusters_at(row.folder, state.table)
    return Known(likeness_N=likeness_N, clusters_N=clusters_N)
