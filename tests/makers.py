"""Small real things that several tests make."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine.catalogue import Shape, VitShape
from engine.sets import SetPlan
from engine.settings import CropSettings

if TYPE_CHECKING:
    from torch import nn

    from engine.models.weights import Backbone
    from engine.training.objectives.objective import Objective
    from engine.training.train import Run

PUBLISHED_CROPS = CropSettings(
    global_side=224,
    local_side=96,
    local_crops=8,
    scale_min=0.05,
    scale_split=0.4,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grey=0.2,
    blur="paper",
    last_side=518,
)
"""The crops of DINO's paper."""


def photo(seed: int, rows: int = 60, cols: int = 80) -> np.ndarray:
    """A picture with shapes and colours of its own: smooth noise, so that crops of it differ."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((cols, rows), Image.Resampling.BICUBIC))


def write_photos(folder: Path, n: int, *, labels: tuple[str, ...] = ()) -> None:
    """Write ``n`` JPEGs p00.jpg …, into sub-folders by turns where labels are given."""
    for i in range(n):
        place = folder / labels[i % len(labels)] if labels else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(i)).save(place / f"p{i:02d}.jpg", quality=95)


def set_plan(**changes: Any) -> SetPlan:
    """The plan of a made-up set; vectors are as wide as the backbone unless it is said."""
    plan = SetPlan(
        model="made-up",
        model_sha256="0" * 64,
        architecture="vit-tiny/8",
        kind="cls",
        view="crop",
        side=48,
        patch=8,
        width=changes.get("dimensions", 6),
        dimensions=changes.get("width", 6),
        has_patches=False,
        precision="fp32",
    )
    return replace(plan, **changes)


TINY = VitShape(width=32, depth=2, heads=2, patch=8, native_side=32)


def tiny_backbone(*, source: str = "tiny", sha256: str = "ab" * 32, **shape: Any) -> "Backbone":
    """A ViT of two blocks with random weights, the same ones every time; ``shape`` changes ``TINY``."""
    import torch

    from engine.models import build_backbone

    torch.manual_seed(0)
    changed = replace(TINY, **shape)
    model = build_backbone(changed).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return backbone_of(model, changed, source=source, sha256=sha256)


def backbone_of(model: "nn.Module", shape: Shape, *, source: str = "tiny", sha256: str = "ab" * 32) -> "Backbone":
    """A network as if it had been read from a file."""
    from engine.models.weights import Backbone

    return Backbone(
        model=model,
        shape=shape,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        source=source,
        sha256=sha256,
        layout="dino",
        recipe=None,
        about={},
        notices=(),
    )


def run_with(objective: "Objective", folder: Path) -> "Run":
    """A run of an objective on the CPU in full precision, ready for `advance`; nothing that it tells is kept."""
    import torch

    from engine.training.optimisers import make_optimiser
    from engine.training.train import Run

    groups = objective.groups()
    return Run(
        folder=folder,
        plan=objective.plan,
        objective=objective,
        groups=groups,
        optimiser=make_optimiser(objective.plan.optimiser, groups),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        device=torch.device("cpu"),
        is_first=True,
        tell=lambda _message: None,
    )
