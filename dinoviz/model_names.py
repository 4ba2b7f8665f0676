"""The networks that can be chosen in a project, as ``--model`` takes them, and what they are called."""

from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_dir

from dinoviz.session import BUNDLED, RunRow, State
from dinoviz.words import run_name, tr
from engine.facts import models_folder
from engine.weight_files import kept_weights


def weights_folder() -> Path:
    """Return the folder of fetched and imported weights."""
    return models_folder(user_cache_dir("dinoviz"))


def kept_models() -> tuple[str, ...]:
    """Return the names of the weights on this computer; reads the disk."""
    return tuple(weights.name for weights in kept_weights(weights_folder()) if weights.is_whole)


def known_models(state: State, kept: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return value and text of every network: the own runs, the newest first, the bundled one, those kept by name."""
    values = [str(run.folder) for run in reversed(state.runs)]
    values += [BUNDLED, *kept]
    if state.model not in values:
        values.insert(0, state.model)
    return [(value, model_text(value, state.runs)) for value in dict.fromkeys(values)]


def model_text(value: str, runs: Sequence[RunRow] = ()) -> str:
    """Return what a network is called: that of a run by its number."""
    if value == BUNDLED:
        return tr("Bundled network")
    for run in runs:
        if str(run.folder) == value:
            return run_name(run.number)
    return Path(value).stem if Path(value).suffix else value
