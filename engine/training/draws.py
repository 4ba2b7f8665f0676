"""Random numbers that are a function of where they are used, not of what was drawn before.

Philox is counter-based: its key and counter are chosen here from the run's seed, the epoch and the
sample, so a resumed run and any number of workers draw the same numbers, with no state to save.
Knows nothing of what the numbers are for.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3; ``numpy.random.Philox``.
"""

import numpy as np
from numpy.typing import NDArray

WORD = 2**64
"""Key and counter are words of 64 bits; anything larger wraps."""


def stream(number: int, *, seed: int, step: int) -> np.random.Generator:
    """Return a generator whose numbers depend on the arguments only, apart from those of `uniforms`."""
    key = np.array([seed % WORD, step % WORD], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, number % WORD, 2], np.uint64)))


def uniforms(rows: int, cols: int, *, seed: int, epoch: int, sample: int) -> NDArray[np.float64]:
    """Return a table (rows, cols), uniform in [0, 1), that depends on the arguments only.

    A table of more rows starts with the rows of a smaller one.
    """
    key = np.array([seed % WORD, epoch % WORD], np.uint64)
    # Philox counts in the lowest word, so streams that differ in a higher one cannot overlap. The 1 keeps them apart
    # from a generator of the same key that starts at zero, as the order of an epoch does.
    counter = np.array([0, 0, sample % WORD, 1], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random((rows, cols))
