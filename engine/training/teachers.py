"""A frozen teacher: any backbone, with the heads of its own run where there are such, and how it is kept with a run.

    teacher/backbone.safetensors     a backbone of ours …
    teacher/config.json              … or one of timm, with model.safetensors beside it
    teacher/heads.safetensors        head and centre, of the run that it comes from

The copy makes a run complete: it goes on where the teacher's own folder or the cache is gone.

Letters after a name are its axes:
    B pictures · C Y X channels and pixels · K prototypes · D width
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.catalogue import IMAGENET_MEAN, IMAGENET_STD
from engine.errors import BadWeights
from engine.models.backbones import feature_width, patch_of
from engine.models.foreign import Foreign, load_foreign, write_foreign
from engine.models.heads import ProjectionHead
from engine.models.layouts import Colour
from engine.models.tensor_files import read_contents, write_tensors
from engine.models.vit import Features
from engine.models.weights import Backbone, load_backbone, write_backbone
from engine.settings import TeacherFacts
from engine.store import write_atomically

FOLDER, BACKBONE, HEADS = "teacher", "backbone.safetensors", "heads.safetensors"
HEAD, CENTRE = "head.", "centre"
DESCRIPTION = "dinoviz-heads"
"""Key of the metadata under which the settings of the head stand, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAbout:
    """What determines the tensors of a head, and how its answers are sharpened and kept apart."""

    prototypes: int
    layers: int
    hidden: int
    bottleneck: int
    norm: Literal["none", "batch"]
    temperature: float
    centring: str


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What a teacher of a run with prototypes answers by: its head, where the centre was, and how both were made."""

    head: ProjectionHead
    centre_1K: Tensor
    about: HeadAbout


class Teacher(nn.Module):
    """A frozen backbone that takes pictures as the student does: normalised by ImageNet's colours, of any side.

    ``multiple`` divides the sides, px, of the pictures it takes; ``fixed_side`` is the only one, None where it takes
    any. ``patch_width`` is the width of its patches' features, ``width`` that of its vector of a picture.
    """

    to_own: Tensor
    shift: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        width: int,
        patch_width: int,
        multiple: int,
        fixed_side: int | None,
        mean: Colour,
        std: Colour,
        heads: Heads | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.head if heads else None
        self.heads = heads
        self.width, self.patch_width = width, patch_width
        self.multiple, self.fixed_side = multiple, fixed_side
        # (x * std' + mean' - mean) / std, as one product and one sum.
        ours, theirs = (torch.tensor([m, s]).view(2, 3, 1, 1) for m, s in _pairs(mean, std))
        self.register_buffer("to_own", ours[1] / theirs[1], persistent=False)
        self.register_buffer("shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, pictures_BCYX: Tensor, side: int) -> Features:
        """Return the features of pictures, shown at ``side`` px, a multiple of ``multiple``.

        Args:
            pictures_BCYX: square, normalised by ImageNet's colours.
            side: of the pictures as the teacher sees them.
        """
        if pictures_BCYX.shape[-1] != side:
            pictures_BCYX = F.interpolate(
                pictures_BCYX, size=(side, side), mode="bicubic", antialias=True, align_corners=False
            )
        features: Features = self.backbone(pictures_BCYX * self.to_own + self.shift)
        return features

    def facts(self) -> TeacherFacts:
        """Return what a plan must know of it."""
        facts = TeacherFacts(width=self.width, multiple=self.multiple, fixed_side=self.fixed_side or 0)
        if self.heads is None:
            return facts
        about = self.heads.about
        facts = replace(facts, width=about.bottleneck)
        return replace(facts, prototypes=about.prototypes, temperature=about.temperature, centring=about.centring)


def _pairs(mean: Colour, std: Colour) -> Iterator[tuple[Colour, Colour]]:
    yield IMAGENET_MEAN, IMAGENET_STD
    yield mean, std


def keep_foreign(run: Path, found: Foreign) -> None:
    """Write a copy of a teacher of timm into a run's folder."""
    folder = run / FOLDER
    folder.mkdir()
    write_foreign(folder, found)


def keep_backbone(run: Path, found: Backbone, heads: Heads | None) -> None:
    """Write a copy of a teacher of ours, with its heads, into a run's folder."""
    folder = run / FOLDER
    folder.mkdir()
    about = {"source": found.source, "sha256": found.sha256}
    write_backbone(folder / BACKBONE, found.model, found.shape, about=about, mean=found.mean, std=found.std)
    if heads is not None:
        tensors = {HEAD + n: tensor for n, tensor in heads.head.state_dict().items()} | {CENTRE: heads.centre_1K}
        metadata = {"format": "pt", DESCRIPTION: json.dumps(asdict(heads.about))}
        write_atomically(folder / HEADS, lambda file: write_tensors(file, tensors, metadata))


def copy_teacher(run: Path, before: Path) -> None:
    """Give a run the teacher of another, which it goes on from."""
    shutil.copytree(before / FOLDER, run / FOLDER)


def kept_teacher(run: Path) -> Teacher:
    """Return the teacher that a run's folder holds."""
    folder = run / FOLDER
    if not (folder / BACKBONE).is_file():
        return of_foreign(load_foreign(f"timm:{folder}"))
    found = load_backbone(str(folder / BACKBONE))
    heads = None
    if (folder / HEADS).is_file():
        file = read_contents(folder / HEADS)
        about = HeadAbout(**json.loads(file.metadata[DESCRIPTION]))
        tensors = file.read(file.slots)
        heads = Heads(head_of(tensors, HEAD, about, feature_width(found.shape)), tensors[CENTRE], about)
    return of_backbone(found, heads)


def head_of(tensors: Mapping[str, Tensor], prefix: str, about: HeadAbout, width: int) -> ProjectionHead:
    """Return a teacher's head; predictors have only students.

    Raises:
        BadWeights: the tensors are not those of the head they are said to be.
    """
    head = ProjectionHead(
        width,
        about.prototypes,
        layers=about.layers,
        hidden=about.hidden,
        bottleneck=about.bottleneck,
        norm=about.norm,
    )
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        head.load_state_dict(own)
    except RuntimeError as problem:
        raise BadWeights("The head of the teacher's run is damaged.", str(problem).splitlines()[-1]) from problem
    return head


def of_foreign(found: Foreign) -> Teacher:
    """Return a teacher that is a backbone of timm."""
    return Teacher(
        found.model,
        width=found.width,
        patch_width=found.patch_width,
        multiple=found.multiple,
        fixed_side=found.fixed_side,
        mean=found.mean,
        std=found.std,
    )


def of_backbone(found: Backbone, heads: Heads | None) -> Teacher:
    """Return a teacher that is a backbone of ours."""
    width = feature_width(found.shape)
    return Teacher(
        found.model,
        width=width,
        patch_width=width,
        multiple=patch_of(found.shape),
        fixed_side=None,
        mean=found.mean,
        std=found.std,
        heads=heads,
    )
