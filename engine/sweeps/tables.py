"""What came of a sweep, as the papers print it: one line a method, accuracies in percent, published ones beside.

With several seeds a figure is the mean, ± the standard deviation over them. Everything that is not in the line of the
paper stands behind: loss, the teacher's entropy beside ln K, and what `training.health` says of the end of the run.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.protocol import Noticed
from engine.quantities import time_in_words
from engine.run_files import EventReader, state_of
from engine.sweeps.conduct import Job
from engine.sweeps.ledger import Entry
from engine.sweeps.lists import PUBLISHED, Row, SweepList
from engine.sweeps.marks import NOTHING, cell
from engine.training.health import Health

HEALTHY = "well"
UNFINISHED = "not finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of one run; figures are None where there are none, accuracies in shares."""

    name: str
    seed: int
    state: str
    run: str
    columns: dict[str, str]
    knn: float | None
    linear: float | None
    loss: float | None
    teacher_entropy: float | None
    ln_k: float | None
    kl: float | None
    health: str
    said: list[str]
    seconds: float
    problem: str


def result_of(job: Job, entry: Entry, project: Path, columns: Sequence[str]) -> RunResult:
    """Return what came of a job, read from its run."""
    run = project / entry.run
    state = state_of(run) if entry.run else None
    values = state.values if state else {}
    said = _warnings(run) if entry.run else []
    return RunResult(
        name=job.name,
        seed=job.seed,
        state=entry.state,
        run=entry.run,
        columns={column: cell(column, job.plan.values()) for column in columns},
        knn=entry.scores.knn if entry.scores else None,
        linear=entry.scores.linear if entry.scores else None,
        loss=values.get("loss"),
        teacher_entropy=values.get("teacher_entropy"),
        ln_k=math.log(job.plan.prototypes) if "teacher_entropy" in values else None,
        kl=values.get("kl"),
        health=_health(job, entry, values),
        said=said,
        seconds=entry.seconds,
        problem=entry.problem,
    )


def _health(job: Job, entry: Entry, values: Mapping[str, float]) -> str:
    """Return what is wrong at the end of a run, by the names of the ailments."""
    if entry.state in ("diverged", "failed"):
        return entry.state
    if entry.state == "started" or not values:
        return UNFINISHED
    notices = Health(job.plan.prototypes).look(job.plan.steps, values)
    return ", ".join(notice.text.partition(":")[0] for notice in notices) or HEALTHY


def _warnings(run: Path) -> list[str]:
    """Return everything that the run was warned of while it went on, each once."""
    reader, found = EventReader(run), []
    while messages := reader.read()[0]:
        found += [m.text for m in messages if isinstance(m, Noticed) and m.level == "warning"]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table."""

    row: Row
    results: tuple[RunResult, ...]

    def mean(self, figure: str) -> float | None:
        """Return the mean of a figure over the seeds that have it."""
        values = self._values(figure)
        return statistics.fmean(values) if values else None

    def written(self, figure: str, scale: float = 1.0, digits: int = 2) -> str:
        """Return the mean of a figure for people, with its deviation where there are several seeds."""
        values = [scale * value for value in self._values(figure)]
        if not values:
            return NOTHING
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.{digits}f}{spread}"

    def _values(self, figure: str) -> list[float]:
        return [value for result in self.results if (value := getattr(result, figure)) is not None]

    @property
    def health(self) -> str:
        """What is said of the runs, each once; how many where they differ."""
        said = [result.health for result in self.results]
        each = list(dict.fromkeys(said))
        if len(each) == 1:
            return each[0]
        return "; ".join(f"{said.count(words)} {words}" for words in each)


def lines_of(sweep: SweepList, results: Sequence[RunResult]) -> list[Line]:
    """Return the lines of the table, in the order of the list."""
    return [Line(row=row, results=tuple(r for r in results if r.name == row.name)) for row in sweep.rows]


def header_of(sweep: SweepList) -> list[str]:
    """Return the headings of the table."""
    paper = ["paper (k-NN / Lin.)"] if any(row.paper for row in sweep.rows) else []
    return ["Method", *sweep.columns, "k-NN", "Lin.", *paper, "train loss", "entropy / ln K", "KL", "health", "time"]


def cells_of(sweep: SweepList, line: Line) -> list[str]:
    """Return the cells of one line, as many as there are headings."""
    first = line.results[0]
    published = [str(line.row.paper.get(figure, NOTHING)) for figure in PUBLISHED]
    paper = [" / ".join(published)] if any(row.paper for row in sweep.rows) else []
    entropy = NOTHING if first.ln_k is None else f"{line.written('teacher_entropy')} / {first.ln_k:.2f}"
    return [
        line.row.name,
        *first.columns.values(),
        line.written("knn", 100, 1),
        line.written("linear", 100, 1),
        *paper,
        line.written("loss", digits=3),
        entropy,
        line.written("kl", digits=3),
        line.health,
        time_in_words(sum(result.seconds for result in line.results)),
    ]


def markdown(sweep: SweepList, lines: Sequence[Line], notes: Sequence[str]) -> str:
    """Return the table as Markdown, with its title and what is to be known about it."""
    header = header_of(sweep)
    rows = [header, ["---"] * len(header), *(cells_of(sweep, line) for line in lines)]
    table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
    return f"# {sweep.title}\n\n{table}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def drawn(sweep: SweepList, lines: Sequence[Line], width: int) -> str:
    """Return the table as text for a terminal of some letters a line."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(sweep.title), box=box.SIMPLE_HEAD, title_justify="left")
    for heading in header_of(sweep):
        table.add_column(Text(heading))
    for line in lines:
        table.add_row(*(Text(text) for text in cells_of(sweep, line)))
    page = StringIO()
    Console(file=page, width=width, color_system=None).print(table)
    return page.getvalue().rstrip()
