"""Colours of patches: the first principal components of their features as red, green and blue.

A ``Basis`` fitted on some pictures colours any others alike, so that equal parts get equal
colours. The signs of components are arbitrary (facebookresearch/dinov2#292); a rule fixes them.

Letters after a name are its axes:
    P patches · D width · K components · R C rows and columns of patches
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from engine.errors import BadInput
from engine.store import write_atomically

COLOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Axes of feature space: ``mean_D`` and, largest variance first, unit ``components_KD``; float32."""

    mean_D: NDArray[np.float32]
    components_KD: NDArray[np.float32]

    @classmethod
    def fit(cls, features_PD: NDArray, n: int = COLOURS, is_border_P: NDArray[np.bool_] | None = None) -> Self:
        """Return the first ``n`` principal components of some features.

        The entry of largest size is positive in each component. Where the border of the pictures is
        known, the first component is negative there on average instead: what lies in the middle,
        mostly the subject, is positive.

        Args:
            features_PD: one row a patch, n <= D.
            n: components.
            is_border_P: True for patches at the edge of their picture.
        """
        mean_D = features_PD.mean(axis=0, dtype=np.float64)
        centred_PD = features_PD - mean_D
        _, vectors_DD = np.linalg.eigh(centred_PD.T @ centred_PD)
        components_KD = vectors_DD[:, ::-1][:, :n].T
        largest_K = np.abs(components_KD).argmax(axis=1)
        signs_K = np.where(components_KD[range(n), largest_K] < 0, -1.0, 1.0)
        if is_border_P is not None:
            signs_K[0] = 1.0 if (centred_PD[is_border_P] @ components_KD[0]).mean() <= 0 else -1.0
        return cls(mean_D.astype(np.float32), np.ascontiguousarray(signs_K[:, None] * components_KD, dtype=np.float32))

    def project(self, features: NDArray) -> NDArray[np.float32]:
        """Return the components of features (..., D): (..., K)."""
        return (features - self.mean_D) @ self.components_KD.T

    def write(self, path: Path) -> None:
        """Write a safetensors file with ``mean`` and ``components``."""
        data = save({"mean": self.mean_D, "components": self.components_KD})
        write_atomically(path, lambda file: file.write(data))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote.

        Raises:
            BadInput: the file cannot be read or holds something else.
        """
        try:
            tensors = load_file(path)
            return cls(tensors["mean"], tensors["components"])
        except (OSError, SafetensorError, KeyError) as problem:
            raise BadInput(f"'{path}' holds no basis of patch colours: {problem}.") from problem


def fit_basis(pictures: Sequence[NDArray], n: int = COLOURS) -> Basis:
    """Return one basis for the patches of several pictures, each (rows, cols, D)."""
    features_PD = np.concatenate([features_RCD.reshape(-1, features_RCD.shape[-1]) for features_RCD in pictures])
    is_border_P = np.concatenate([_border(*features_RCD.shape[:2]).ravel() for features_RCD in pictures])
    return Basis.fit(features_PD, n, is_border_P)


def _border(rows: int, cols: int) -> NDArray[np.bool_]:
    is_border_RC = np.ones((rows, cols), dtype=np.bool_)
    is_border_RC[1:-1, 1:-1] = False
    return is_border_RC


def patch_colours(pictures: Sequence[NDArray], basis: Basis | None = None) -> list[NDArray[np.uint8]]:
    """Return the patches of pictures in colours that can be compared among them.

    Args:
        pictures: features of patches, (rows, cols, D) each.
        basis: axes to use; fitted on these pictures where absent.

    Returns:
        uint8 RGB, (rows, cols, 3) each: the first three components, each scaled from its least to
        its greatest value over all pictures.

    Source: DINOv2 fig. 1.
    """
    basis = basis or fit_basis(pictures)
    return as_colours([basis.project(features_RCD) for features_RCD in pictures])


def as_colours(scores: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
    """Scale each of three components, (rows, cols, 3) a picture, to 0..255 over all pictures; grey if constant."""
    every_PK = np.concatenate([scores_RC3.reshape(-1, COLOURS) for scores_RC3 in scores])
    low_K, high_K = every_PK.min(axis=0), every_PK.max(axis=0)
    is_flat_K = high_K - low_K <= np.finfo(np.float32).eps * np.abs(every_PK).max(initial=1.0)
    span_K = np.where(is_flat_K, 1.0, high_K - low_K)
    return [
        np.where(is_flat_K, 127.5, (scores_RC3 - low_K) / span_K * 255).round().astype(np.uint8)
        for scores_RC3 in scores
    ]
