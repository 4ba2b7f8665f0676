"""All that turns features of patches into colours, kept in a file: the subject's axis, components, their ranges.

A palette is fitted on some pictures. Other pictures, the frames of a film and other checkpoints then get equal
colours for equal parts, and the colours of a picture depend on no other picture.

Letters after a name are its axes:
    P patches · D width · K components · R C rows and columns of patches · 3 colours, RGB
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from engine.errors import BadInput, BadRecipe
from engine.seeing.grid import SIDE
from engine.seeing.patches import COLOURS, Basis, Foreground, Rule, flat, levels
from engine.store import write_atomically

FEWEST = COLOURS + 1
"""Patches that three components can be fitted on."""
DESCRIPTION = "palette"
"""Key of the metadata of a file under which all that is no array stands, as JSON."""

StyleName = Literal["dinov2", "notebook", "dinov3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a published way of colouring patches fixes: the shorter side in px, how scores become colours.

    Whitened scores are divided by their deviation and go through sigmoid(2x); others go from their
    least to their greatest value. A filtered foreground is a 3 x 3 median of the first component.
    """

    side: int
    is_whitened: bool = False
    is_filtered: bool = False


STYLES: dict[StyleName, Publication] = {
    "dinov2": Publication(side=SIDE),
    "notebook": Publication(side=448),
    "dinov3": Publication(side=768, is_whitened=True, is_filtered=True),
}
"""DINOv2 §7.5 and fig. 1, which names no size; facebookresearch/dinov2 branch add-features-pca-nb;
facebookresearch/dinov3 notebooks/pca.ipynb. The last two find the foreground with weights learnt from
masks, which other backbones do not have: here it is the first component in all three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchStyle:
    """How patches are to be coloured.

    ``foreground`` is Otsu's threshold, none, or a threshold in standard deviations of the first component.
    """

    name: StyleName = "dinov2"
    foreground: Literal["auto", "off"] | float = "auto"
    is_flipped: bool = False
    is_opened: bool = False


class Coloured(NamedTuple):
    """One picture in colours: uint8 RGB, black outside the foreground; the scores behind them; the foreground.

    ``subject_RC`` is the first component in standard deviations; NaN where no foreground is told.
    """

    colours_RC3: NDArray[np.uint8]
    scores_RC3: NDArray[np.float32]
    is_foreground_RC: NDArray[np.bool_]
    subject_RC: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Palette:
    """All that turns features into colours, so that the colours of a picture depend on no other picture.

    ``low_K``, ``high_K`` and ``deviation_K`` are those of the scores it was fitted on. ``about`` is where
    the features come from; see ``engine.provenance``.
    """

    basis: Basis
    foreground: Foreground | None
    rule: Rule
    low_K: NDArray[np.float32]
    high_K: NDArray[np.float32]
    deviation_K: NDArray[np.float32]
    style: StyleName = "dinov2"
    is_opened: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, pictures: Sequence[NDArray], style: PatchStyle | None = None, about: Mapping[str, Any] | None = None
    ) -> Self:
        """Fit the foreground on all patches and three components on those of the foreground.

        Where fewer than ``FEWEST`` patches are foreground, all patches are coloured, and ``rule`` is "none".

        Args:
            pictures: features, (rows, cols, D) each; at least one.
            style: how they are to be coloured.
            about: where the features come from.

        Raises:
            BadRecipe: the features are narrower than three.
        """
        style = style or PatchStyle()
        if pictures[0].shape[-1] < COLOURS:
            raise BadRecipe(
                f"Features of width {pictures[0].shape[-1]} have no three colours.", "Choose another model."
            )
        foreground, rule, blocks = _fit_foreground(pictures, style)
        basis = Basis.fit_blocks(blocks)
        scores_PK = np.concatenate([basis.project(block_PD) for block_PD in blocks])
        return cls(
            basis=basis,
            foreground=foreground,
            rule=rule,
            low_K=scores_PK.min(axis=0),
            high_K=scores_PK.max(axis=0),
            deviation_K=scores_PK.std(axis=0, dtype=np.float64, ddof=min(1, len(scores_PK) - 1)).astype(np.float32),
            style=style.name,
            is_opened=style.is_opened,
            about=about or {},
        )

    @property
    def width(self) -> int:
        """D, the width of the features it takes."""
        return len(self.basis.mean_D)

    def colour(self, features_RCD: NDArray) -> Coloured:
        """Return a picture in colours; a score beyond the range gets the last colour.

        Raises:
            BadRecipe: the features are of another width.
        """
        if features_RCD.shape[-1] != self.width:
            raise BadRecipe(
                f"The basis is for features of width {self.width}; this model's have width {features_RCD.shape[-1]}.",
                "Choose the model that it was made with, or make another basis with --save-basis.",
            )
        is_foreground_RC = np.ones(features_RCD.shape[:2], dtype=np.bool_)
        subject_RC = np.full(features_RCD.shape[:2], np.nan, dtype=np.float32)
        if self.foreground:
            subject_RC = self.foreground.scores(features_RCD)
            is_foreground_RC = self.foreground.found(
                features_RCD, is_filtered=STYLES[self.style].is_filtered, is_opened=self.is_opened
            )
        scores_RC3 = self.basis.project(features_RCD)
        if STYLES[self.style].is_whitened:
            levels_RC3 = 1 / (1 + np.exp(-2 * scores_RC3 / np.where(self.deviation_K > 0, self.deviation_K, 1.0)))
        else:
            levels_RC3 = levels(scores_RC3, self.low_K, self.high_K)
        colours_RC3 = (levels_RC3 * 255).round().astype(np.uint8) * is_foreground_RC[..., None]
        return Coloured(colours_RC3, scores_RC3, is_foreground_RC, subject_RC)

    def write(self, path: Path) -> None:
        """Write a safetensors file.

        Raises:
            DiskFull: there is no room.
        """
        tensors = {
            "mean": self.basis.mean_D,
            "components": self.basis.components_KD,
            "low": self.low_K,
            "high": self.high_K,
            "deviation": self.deviation_K,
        }
        words: dict[str, Any] = {
            "style": self.style,
            "is_opened": self.is_opened,
            "rule": self.rule,
            "about": dict(self.about),
        }
        if self.foreground:
            tensors |= {"foreground_mean": self.foreground.mean_D, "foreground_axis": self.foreground.axis_D}
            words["threshold"] = self.foreground.threshold
        tensors = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
        data = save(tensors, metadata={DESCRIPTION: json.dumps(words)})
        write_atomically(path, lambda file: file.write(data))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote.

        Raises:
            BadInput: the file cannot be read or holds something else.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
                words = json.loads((file.metadata() or {})[DESCRIPTION])
            return cls._from(tensors, words)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as problem:
            raise BadInput(
                f"'{path}' holds no basis of patch colours: {problem}.", "Write one with --save-basis."
            ) from problem

    @classmethod
    def _from(cls, tensors: Mapping[str, NDArray], words: Mapping[str, Any]) -> Self:
        """Put together what a file holds; raises KeyError, ValueError or TypeError where it does not fit."""
        width = len(tensors["mean"])
        shapes = dict.fromkeys(("low", "high", "deviation"), (COLOURS,)) | {"components": (COLOURS, width)}
        for name, tensor in tensors.items():
            if tensor.shape != shapes.get(name, (width,)) or not np.isfinite(tensor).all():
                raise ValueError(f"its '{name}' is damaged")
        if words["style"] not in STYLES or words["rule"] not in get_args(Rule) or not isinstance(words["about"], dict):
            raise ValueError("its description is damaged")
        foreground = None
        if "foreground_axis" in tensors:
            foreground = Foreground(
                mean_D=tensors["foreground_mean"],
                axis_D=tensors["foreground_axis"],
                threshold=float(words["threshold"]),
                rule=words["rule"],
            )
        return cls(
            basis=Basis(tensors["mean"], tensors["components"]),
            foreground=foreground,
            rule=words["rule"],
            low_K=tensors["low"],
            high_K=tensors["high"],
            deviation_K=tensors["deviation"],
            style=words["style"],
            is_opened=bool(words["is_opened"]),
            about=words["about"],
        )


def _fit_foreground(pictures: Sequence[NDArray], style: PatchStyle) -> tuple[Foreground | None, Rule, list[NDArray]]:
    """Return the foreground, how it was chosen, and the patches to fit colours on: those of it, or all."""
    everything = [flat(features_RCD) for features_RCD in pictures]
    if style.foreground == "off":
        return None, "off", everything
    threshold = None if style.foreground == "auto" else style.foreground
    foreground = Foreground.fit(pictures, threshold, is_flipped=style.is_flipped)
    is_filtered = STYLES[style.name].is_filtered
    subjects = [
        features_RCD[foreground.found(features_RCD, is_filtered=is_filtered, is_opened=style.is_opened)]
        for features_RCD in pictures
    ]
    if sum(map(len, subjects)) < FEWEST:
        return None, "none", everything
    return foreground, foreground.rule, [subject_PD for subject_PD in subjects if len(subject_PD)]
