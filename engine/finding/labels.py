"""Labels as numbers, by which everything that counts or colours works.

Letters after a name are its axes: N rows of the set
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.sets import FeatureSet


def numbered(labels: Sequence[str | None]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the names of labels, sorted, and the number of each label among them, int32, -1 for none."""
    names = sorted({label for label in labels if label is not None})
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([-1 if label is None else numbers[label] for label in labels], np.int32)


def key_with_labels(features: FeatureSet, labels: Mapping[int, str]) -> str:
    """Return a digest of what is in a set and of all labels: what was made from others is out of date."""
    return hashlib.blake2b(repr((features.key, sorted(labels.items()))).encode(), digest_size=8).hexdigest()


def label_codes(features: FeatureSet, labels: Mapping[int, str]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the names of the labels, sorted, and the number of each row's label, (N,) int32, -1 for none.

    Only rows that were seen have one.
    """
    of_rows = zip(features.ids_N.tolist(), features.is_seen_N.tolist(), strict=True)
    return numbered([labels.get(number) if is_seen else None for number, is_seen in of_rows])
