"""Disjoint parts of the rows, and what each is for."""

import numpy as np
from numpy.typing import NDArray

Part = NDArray[np.intp]

SEED = 0


def random_parts(count: int, parts: int) -> list[Part]:
    """Row indices 0 to count-1 in disjoint random parts of equal size. The same count gives the same parts."""
    return np.array_split(np.random.default_rng(SEED).permutation(count), parts)
