"""Sees pictures exactly as those of a set were seen, so that what comes of it can be held against the set.

What asks a set about a picture from elsewhere, a part of one, or the reason of a likeness goes through here: the
command that searches, and the vision service.

Letters after a name are its axes:
    N pictures · D width of a vector · Y X pixels · R C rows and columns of patches · W width of the backbone
    3 colours, RGB
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import BadInput, BadRecipe, BadWeights, UnreadablePicture
from engine.images import content_hash
from engine.models.weights import Backbone, load_backbone
from engine.seeing.embed import Embedder
from engine.seeing.grid import Box, Grid
from engine.seeing.showings import part_of_patches, patches_of, show_part
from engine.sets import FeatureSet, SetPlan
from engine.templates import Templates


def backbone_of(plan: SetPlan) -> Backbone:
    """Load the backbone that a set was made with.

    Raises:
        BadInput: it is not there any more.
        BadWeights: it is another one by now, or cannot be used.
    """
    backbone = load_backbone(plan.model, role=plan.role)
    if backbone.sha256 != plan.model_sha256:
        raise BadWeights(
            f"'{plan.model}' is not the backbone any more that this set was made with.",
            f"Make a set with the one of now: engine embed PROJECT --model {plan.model}.",
        )
    return backbone


class Seer:
    """Sees as the pictures of a set were seen; its backbone is loaded when something is not in the set.

    Args:
        features: the set.
        load: gives its backbone, as ``backbone_of``.
        device: where to compute, asked for when the backbone is loaded.
    """

    def __init__(
        self, features: FeatureSet, load: Callable[[SetPlan], Backbone], device: Callable[[], torch.device]
    ) -> None:
        self.features = features
        self._load = load
        self._device = device
        self._embedder: Embedder | None = None

    @property
    def embedder(self) -> Embedder:
        """What sees; raises as ``backbone_of``."""
        if self._embedder is None:
            plan = self.features.plan
            backbone = self._load(plan)
            self._embedder = Embedder(backbone, plan, self._device())
        return self._embedder

    def row_of(self, picture_id: int, path: Path) -> int | None:
        """Return the row of a picture that is in the set as it is on the disk now; None for any other."""
        try:
            row = self.features.row_of(picture_id)
            return row if self.features.is_of(row, content_hash(path)) else None
        except (BadInput, UnreadablePicture):  # scanned, and not embedded yet; or not there
            return None

    def vectors(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Return the features of some pictures, (N, D), as the set would hold them.

        Raises:
            BadInput: one of them cannot be read.
            BadWeights: as ``backbone_of``.
        """
        seen = next(self.embedder.blocks([paths], workers=1))
        for place, problem in seen.problems.items():
            raise BadInput(f"'{paths[place]}' cannot be read: {problem}.", "Check the path.")
        return seen.block.vectors_ND

    def patches(self, row: int | None, picture_YX3: Callable[[], NDArray[np.uint8]]) -> NDArray[np.floating]:
        """Return the features of the patches of a whole picture, (R, C, W), as kept where they are.

        Args:
            row: of the picture, None where it is not in the set.
            picture_YX3: reads its pixels, uint8 RGB; is called where they must be seen.
        """
        if row is not None and self.has_whole_patches:
            return self.features.patches_of(row)
        return patches_of(self.embedder, picture_YX3())

    @property
    def has_whole_patches(self) -> bool:
        """The set holds the patches of whole pictures, so that parts can be looked for in it."""
        return self.features.plan.has_patches and self.features.plan.view == "whole"

    def grid(self, size: tuple[int, int]) -> Grid:
        """Return the patches of a whole picture of some height and width."""
        return Grid.of(size, patch=self.features.plan.patch, side=self.features.plan.side)

    def area(
        self, size: tuple[int, int], box: Box | None, patches: Sequence[tuple[int, int]]
    ) -> tuple[Box, NDArray[np.bool_] | None]:
        """Return the box around a part of a picture, and its pixels, (Y, X), where it is not all of the box.

        Args:
            size: height and width of the picture.
            box: top, left, bottom and right in pixels.
            patches: or rows and columns of patches.

        Raises:
            BadRecipe: there is no such patch, or not one of both.
        """
        if (box is None) == (not patches):
            raise BadRecipe("A part is a box or some patches, not both.", "Name one of them.")
        if box is not None:
            return box, None
        return part_of_patches(patches, self.grid(size), size)

    def part(self, picture_YX3: NDArray[np.uint8], box: Box | None, patches: Sequence[tuple[int, int]]) -> Templates:
        """Return what to look for to find a part of a picture; the part as in ``area``.

        Raises:
            BadInput: the set cannot be searched by parts.
            BadRecipe: there is no such part.
            BadWeights: as ``backbone_of``.
        """
        self.check_parts()
        height, width = picture_YX3.shape[:2]
        return show_part(self.embedder, picture_YX3, *self.area((height, width), box, patches))

    def check_parts(self) -> None:
        """Refuse a set in which no part can be looked for; raises as ``part``."""
        if not self.has_whole_patches:
            raise BadInput(
                f"The set {self.features.folder.name} holds no patches of whole pictures.",
                "Make one that does: engine embed PROJECT --patches; then engine index PROJECT.",
            )
