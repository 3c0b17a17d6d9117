"""A check of a batch against bounds."""

from numba import njit


@njit(cache=True, error_model="numpy")
def outside(rows, low, high):
    """Whether any value of float64[B, F] is below float64[F] `low` or above `high`; NaN is neither.

    It keeps the GIL: it takes microseconds, and a thread that releases the GIL may wait milliseconds to get it back.
    """
    found = False
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            found |= rows[row, column] < low[column] or rows[row, column] > high[column]
    return found
