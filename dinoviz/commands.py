"""The commands of the engine that several places start, as what stands after ``engine``."""

from pathlib import Path

from engine.sets import SetPlan


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
