"""The networks that are compared: which, what of the project was made with each, and what each still lacks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dinoviz.choices import CompareChoices
from dinoviz.commands import embed
from dinoviz.features import SetRow
from dinoviz.jobs import Job
from dinoviz.model_names import known_models, model_text
from dinoviz.session import BUNDLED, State
from dinoviz.words import tr

MOST = 4
"""Networks side by side: more are too small to see anything in."""
WORK = frozenset({"embed", "index", "map"})
"""Commands that make what a network lacks."""


SET = "set "
"""Begins the key of a certain set of features of a network that has several; the key of a network is its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One of those compared.

    Args:
        key: as it is remembered: a network, or ``set 2``.
        model: as ``--model`` takes it.
        name: for people.
        set: its features of this project, those used last where it has several.
    """

    key: str
    model: str
    name: str
    set: SetRow | None


def network_of(key: str, state: State) -> Network:
    """Return a network by its key."""
    number = key.removeprefix(SET)
    if key.startswith(SET) and number.isdecimal():
        row = next((row for row in state.sets if row.number == int(number)), None)
        if row is not None:
            name = tr("{network}, set {number}", network=_name(row.model, state), number=row.number)
            return Network(key=key, model=row.model, name=name, set=row)
    row = next((row for row in state.sets if row.model == key), None)
    return Network(key=key, model=key, name=_name(key, state), set=row)


def _name(model: str, state: State) -> str:
    """Return what a network is called; a run of another project with the name of that."""
    text, path = model_text(model, state.runs), Path(model)
    if not path.is_absolute() or text != model:
        return text
    return tr("{project}, run {number}", project=path.parents[1].stem, number=path.name)


def choosable(state: State, kept: Sequence[str]) -> list[tuple[str, str]]:
    """Return key and name of all that can be compared: networks, and the sets of those that have several."""
    made = Counter(row.model for row in state.sets)
    several = [f"{SET}{row.number}" for row in sorted(state.sets, key=lambda row: row.number) if made[row.model] > 1]
    return [*known_models(state, kept), *((key, network_of(key, state).name) for key in several)]


def compared(state: State, choices: CompareChoices) -> list[Network]:
    """Return what is compared: what was chosen, or at first the network in use and another one that has features."""
    keys = [key for key in choices.models if _is_there(key, state)] or _at_first(state)
    return [network_of(key, state) for key in keys[:MOST]]


def _is_there(key: str, state: State) -> bool:
    """Tell whether what is remembered is neither a run nor a set that was deleted."""
    if key.startswith(SET):
        return any(key == f"{SET}{row.number}" for row in state.sets)
    return not Path(key).is_absolute() or any(str(run.folder) == key for run in state.runs) or Path(key).exists()


def _at_first(state: State) -> list[str]:
    finished = [str(run.folder) for run in reversed(state.runs) if run.state in ("finished", "stopped")]
    others = [BUNDLED, *(row.model for row in state.sets), *finished]
    keys = list(dict.fromkeys([state.model, *others]))
    sets = [f"{SET}{row.number}" for row in sorted(state.sets, key=lambda row: row.number)]
    return keys[:2] if len(keys) > 1 or len(sets) < 2 else sets[:2]


def lacking_job(jobs: Sequence[Job], project: Path | None, network: Network) -> Job | None:
    """Return the job that makes what a network lacks, None where none does."""
    wanted = {("--model", network.model), ("--set", _set_of(network)), ("--set", network.model)}
    for job in jobs:
        if job.is_over or job.argv[0] not in WORK or job.argv[1:2] != (str(project),):
            continue
        if wanted & set(pairwise(job.argv)):
            return job
    return None


def commands_for(project: Path, network: Network) -> list[list[str]]:
    """Return the commands that make the features of a network and find who is near whom."""
    find_neighbours = ["index", str(project), "--set", _set_of(network)]
    return [find_neighbours] if network.set else [embed(project, network.model), find_neighbours]


def map_command(project: Path, network: Network, method: str, onto: Network) -> list[str]:
    """Return the command that lays out the features of a network, turned to lie on the map of another where it can."""
    is_first = onto.set is None or onto.key == network.key
    aligned = [] if is_first or not _has_map(onto, method) else ["--align-to", _set_of(onto)]
    return ["map", str(project), "--set", _set_of(network), "--method", method, *aligned, "--no-thumbnails"]


def _set_of(network: Network) -> str:
    return str(network.set.number) if network.set else network.model


def _has_map(network: Network, method: str) -> bool:
    return network.set is not None and (network.set.folder / f"map-{method}.json").exists()
