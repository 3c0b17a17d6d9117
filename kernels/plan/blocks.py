"""Blocks of stored rows that are close together."""

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 64
"""Stored rows to a block: few enough that a search sees little more than it needs, enough that their distances are
computed by whole vectors."""


def block_order(coordinates: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """An order of float64[N, D] in which each run of `size` rows, from the first on, is close together.

    As in a k-d tree (J. L. Bentley, Multidimensional Binary Search Trees, CACM 18, 1975), halves along the widest
    dimension until a part fits a block; parts begin at whole blocks.
    """
    order = np.arange(len(coordinates))

    def split(start: int, end: int) -> None:
        n_blocks = -(-(end - start) // size)
        if n_blocks < 2:
            return
        part = coordinates[order[start:end]]
        widest = int(np.argmax(part.max(axis=0) - part.min(axis=0)))
        order[start:end] = order[start:end][np.argsort(part[:, widest], kind="stable")]
        middle = start + n_blocks // 2 * size
        split(start, middle)
        split(middle, end)

    split(0, len(order))
    return order
