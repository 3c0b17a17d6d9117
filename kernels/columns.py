"""Columns as rows: columns that lie anywhere in memory, copied, with a look whether their values are within limits."""

from collections.abc import Sequence

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from kernels.addresses import ARRAY_WORDS, AddressTable, array_at

TILE_VALUES = 2**11
"""Values that are copied at a time, of all columns: their rows stay in a CPU's L1 cache until they are whole."""

TILE_ROWS = 8
"""Least rows that are copied at a time."""

_float64s = array_at(types.float64, 1)


class Columns:
    """Columns of a table, ready to be copied into rows in half of NumPy's time or less, and without the GIL.

    Args:
        columns: F arrays of float64[B], which are kept; those that are not contiguous are copied.

    Raises:
        ValueError: They differ in length.
    """

    def __init__(self, columns: Sequence[NDArray[np.float64]]) -> None:
        self._count = len(columns[0])
        if any(len(column) != self._count for column in columns):
            raise ValueError("columns of one table have as many rows")
        self._addresses = AddressTable()
        self._addresses.add(*columns)
        self._words = self._addresses.words()

    def fill(self, rows: NDArray[np.float64], start: int, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
        """Copy values into rows, and tell whether all of them are within their column's limits. NaN is not.

        Args:
            rows: float64[b, F], C-contiguous; written.
            start: Row of the columns that the first of them is.
            low: float64[F], least values.
            high: float64[F], greatest values.

        Raises:
            ValueError: The columns have not these rows.
        """
        if not 0 <= start <= self._count - len(rows):
            raise ValueError(f"of {self._count} rows, {len(rows)} from row {start} on are asked for")
        return _fill(self._words, start, rows, low, high)


def warm_up() -> None:
    """Have the kernel compiled, or loaded, before a request needs it."""
    one = np.zeros(1)
    Columns([one]).fill(np.empty((1, 1)), 0, one, one)


@njit(nogil=True, cache=True)
def _fill(table, start, rows, low, high):
    count, width = rows.shape
    tile = max(TILE_ROWS, TILE_VALUES // max(1, width))
    good = True
    for first in range(0, count, tile):
        stop = min(first + tile, count)
        for column in range(width):
            values = _float64s(table, column * ARRAY_WORDS)
            least, greatest = low[column], high[column]
            for row in range(first, stop):
                value = values[start + row]
                rows[row, column] = value
                good &= (value >= least) & (value <= greatest)
    return good
