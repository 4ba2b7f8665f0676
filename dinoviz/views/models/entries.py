"""The backbones there are: the bundled one, released ones, imported ones, those of the project's own runs. No Qt.

Reads headers of files, so it is called off the thread that paints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dinoviz.features import SetRow
from dinoviz.model_names import weights_folder
from dinoviz.run_states import run_state, state_in_words
from dinoviz.session import RunRow
from dinoviz.words import counted, run_name, tr
from engine.catalogue import BUNDLED, WEIGHTS, ReleasedWeights, Shape, name_of
from engine.facts import BUNDLED_FILE, start_shape
from engine.run_files import BACKBONE
from engine.weight_files import (
    HalfHere,
    KeptWeights,
    bytes_to_look,
    half_downloads,
    kept_weights,
    n_parameters,
    shape_in_words,
)

Family = Literal["bundled", "dino", "dinov2", "imported", "run"]
Presence = Literal["here", "remote", "partial", "broken"]
"""``partial``: a download was broken off; ``broken``: the file is not as long as it was."""

MODEL_WEIGHTS = "model.safetensors"
"""Of a checkpoint; see ``training.checkpoint``."""
OUR_LICENCE = "Apache-2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One backbone.

    Args:
        model: as ``--model`` takes it.
        name: for people.
        family: where it comes from.
        about: what it is, in a line.
        presence: whether it is on this computer.
        shape: of its network; None where nothing says it.
        parameters: how many numbers it has learnt.
        path: of its file, where it is here or was begun.
        size_bytes: of the file, or of what has to be fetched.
        here_bytes: of a download that was broken off.
        memory_bytes: about what looking at a picture takes; 0 where the shape is not known.
        licence: as it is published; empty where nobody said.
        source: address or file that it came from.
        knn: published k-NN accuracy on ImageNet, per cent.
    """

    model: str
    name: str
    family: Family
    about: str
    presence: Presence
    shape: Shape | None
    parameters: int
    path: Path | None = None
    size_bytes: int = 0
    here_bytes: int = 0
    memory_bytes: int = 0
    licence: str = ""
    source: str = ""
    knn: float | None = None

    @property
    def is_here(self) -> bool:
        """It can be used now."""
        return self.presence == "here"

    @property
    def can_be_deleted(self) -> bool:
        """Its file is a copy of ours; a run's is its own, and is deleted with the run."""
        return self.family in ("dino", "dinov2", "imported") and self.presence != "remote"

    @property
    def architecture(self) -> str:
        """Name of its shape, as vit-small/16; empty where it is not known."""
        return name_of(self.shape) if self.shape else ""

    def matches(self, text: str) -> bool:
        """Tell whether every word of a search is in what is said of it."""
        said = f"{self.name} {self.about} {self.architecture} {self.family} {self.licence} {self.source}".casefold()
        return all(word in said for word in text.casefold().split())


def read_models(runs: Sequence[RunRow], folder: Path | None = None) -> tuple[ModelEntry, ...]:
    """Return all backbones: of runs, the newest first; the bundled one; imported ones; released ones."""
    folder = folder or weights_folder()
    kept = {one.name: one for one in kept_weights(folder)}
    begun = {one.name: one for one in half_downloads(folder)}
    own = [entry for run in sorted(runs, key=lambda run: -run.number) if (entry := _of_run(run))]
    imported = [_imported(one) for name, one in kept.items() if name not in WEIGHTS]
    released = [_released(row, kept.get(name), begun.get(name)) for name, row in WEIGHTS.items()]
    return (*own, *_bundled(), *imported, *released)


def _memory(shape: Shape | None, parameters: int) -> int:
    return bytes_to_look(shape, parameters) if shape else 0


def _bundled() -> list[ModelEntry]:
    if not BUNDLED_FILE.is_file():
        return []
    shape, parameters = start_shape(BUNDLED, Path()), n_parameters(BUNDLED_FILE)
    return [
        ModelEntry(
            model=BUNDLED,
            name=tr("Bundled network"),
            family="bundled",
            about=tr("Small and quick; learnt from 3,068 photos of clothes. A good start for a folder of your own."),
            presence="here",
            shape=shape,
            parameters=parameters,
            path=BUNDLED_FILE,
            size_bytes=BUNDLED_FILE.stat().st_size,
            memory_bytes=_memory(shape, parameters),
            licence=OUR_LICENCE,
            source=tr("comes with dinoviz"),
        )
    ]


def _of_run(run: RunRow) -> ModelEntry | None:
    """Return the backbone of a run: what it exported, or else its newest checkpoint; None where it saved nothing."""
    exported = run.folder / BACKBONE
    checkpoints = sorted(run.folder.glob(f"checkpoints/step-*/{MODEL_WEIGHTS}"), reverse=True)
    path = next((path for path in [exported, *checkpoints] if path.is_file()), None)
    if path is None:
        return None
    shape, parameters = start_shape(str(run.folder), Path()), n_parameters(path)
    state, _process = run_state(run.folder, run.state)
    return ModelEntry(
        model=str(run.folder),
        name=run_name(run.number),
        family="run",
        about=f"{run.about} · {state_in_words(state)}",
        presence="here",
        shape=shape,
        parameters=parameters,
        path=path,
        size_bytes=path.stat().st_size,
        memory_bytes=_memory(shape, parameters),
        source=tr("trained in this project"),
    )


def _imported(kept: KeptWeights) -> ModelEntry:
    parameters = n_parameters(kept.path)
    described = shape_in_words(kept.shape) if kept.shape else tr("converted when it is first used")
    return ModelEntry(
        model=kept.name,
        name=kept.name,
        family="imported",
        about=described,
        presence="here" if kept.is_whole else "broken",
        shape=kept.shape,
        parameters=parameters,
        path=kept.path,
        size_bytes=kept.size_bytes,
        memory_bytes=_memory(kept.shape, parameters),
        source=kept.origin,
    )


def _released(row: ReleasedWeights, kept: KeptWeights | None, begun: HalfHere | None) -> ModelEntry:
    presence: Presence = "remote"
    if kept:
        presence = "here" if kept.is_whole else "broken"
    elif begun:
        presence = "partial"
    return ModelEntry(
        model=row.name,
        name=row.name,
        family="dinov2" if row.name.startswith("dinov2") else "dino",
        about=row.about,
        presence=presence,
        shape=row.shape,
        parameters=row.n_parameters,
        path=kept.path if kept else begun.path if begun else None,
        size_bytes=kept.size_bytes if kept else row.size_bytes,
        here_bytes=begun.here_bytes if begun else 0,
        memory_bytes=_memory(row.shape, row.n_parameters),
        licence=row.licence,
        source=row.address,
        knn=row.knn,
    )


def depending(entry: ModelEntry, sets: Sequence[SetRow]) -> str:
    """Return in words what of the open project was made with a backbone; empty for nothing."""
    made = [row.number for row in sets if row.model == entry.model]
    if not made:
        return ""
    numbers = ", ".join(map(str, made))
    return tr(
        "{features} of this project made with it stay (set {numbers}), but new pictures cannot be added to them.",
        features=counted(len(made), tr("set of features"), tr("sets of features")),
        numbers=numbers,
    )


def parameters_in_words(n: int) -> str:
    """Return how many numbers a network has learnt: 21.7 M."""
    return f"{n / 1e9:.1f} B" if n >= 1e9 else f"{n / 1e6:.1f} M"
