"""From the name of a teacher to the teacher: a run, with its heads where it has such, else any backbone there is."""

import json
from pathlib import Path

from engine.catalogue import ObjectiveName
from engine.models.backbones import feature_width
from engine.models.foreign import is_foreign, load_foreign
from engine.models.weights import load_backbone
from engine.recipes import Plan
from engine.training.checkpoint import newest
from engine.training.teachers import (
    HeadAbout,
    Heads,
    Teacher,
    head_of,
    keep_backbone,
    keep_foreign,
    of_backbone,
    of_foreign,
)

WITH_HEADS: dict[ObjectiveName, str] = {
    "dino": "objective.teacher.head.",
    "dinov2": "objective.teacher.head.",
    "ibot": "objective.teacher.head.",
    "distillation": "objective.kept.head.",
}
"""Objectives whose runs leave a network with prototypes, and how the tensors of its head are called."""
CENTRE = "objective.centre_1K"


def load_teacher(name: str) -> Teacher:
    """Return the teacher of a name.

    Raises:
        BadInput, BadRecipe, BadWeights, UnsafeFile: as ``load_backbone`` and ``load_foreign``.
    """
    if is_foreign(name):
        return of_foreign(load_foreign(name))
    weights, heads = _of_run(name)
    return of_backbone(load_backbone(weights), heads)


def keep_teacher(run: Path, name: str) -> None:
    """Write a copy of the teacher of a name into a run's folder.

    Raises:
        BadInput, BadRecipe, BadWeights, UnsafeFile: as ``load_teacher``.
        DiskFull: there is no room.
    """
    if is_foreign(name):
        keep_foreign(run, load_foreign(name))
    else:
        weights, heads = _of_run(name)
        keep_backbone(run, load_backbone(weights), heads)


def _of_run(name: str) -> tuple[str, Heads | None]:
    """Return where the weights of a teacher are, and its heads: of a run's checkpoint, if that has such.

    Backbone and heads are of one moment.
    """
    checkpoint = newest(Path(name) / "checkpoints")
    if checkpoint is None:
        return name, None
    try:
        plan = Plan.model_validate(json.loads((Path(name) / "plan.json").read_bytes())["plan"])
    except (OSError, ValueError, KeyError):
        return name, None
    prefix = WITH_HEADS.get(plan.run.objective)
    if prefix is None:
        return name, None
    tensors = checkpoint.tensors()
    about = _about(plan)
    head = head_of(tensors, prefix, about, feature_width(plan.shape))
    return str(checkpoint.folder / "model.safetensors"), Heads(head, tensors[CENTRE], about)


def _about(plan: Plan) -> HeadAbout:
    dino = plan.dino
    return HeadAbout(
        prototypes=dino.prototypes,
        layers=dino.head_layers,
        hidden=dino.head_width,
        bottleneck=dino.bottleneck,
        norm=dino.head_norm,
        temperature=dino.teacher_temperature,
        centring=dino.centring,
    )
