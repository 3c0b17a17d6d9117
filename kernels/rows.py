"""Batches as the kernels take them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT64 = np.dtype(np.float64)


def check_columns(X: NDArray[Any], n_inputs: int) -> None:
    """Raise ValueError unless X has two dimensions and `n_inputs` columns."""
    if X.ndim != 2 or X.shape[1] != n_inputs:
        raise ValueError(f"expected an array of shape (rows, {n_inputs}), got {X.shape}")


def as_rows(X: NDArray[np.floating], n_inputs: int) -> NDArray[np.float64]:
    """`X` as float64[B, F], C-contiguous and read-only; a copy only where its dtype or layout demands one.

    Read-only because numba types read-only and writable arrays apart: a view of the one kind means one compiled kernel,
    and no compilation on the request path for the first batch that came as an immutable buffer.
    Raises ValueError unless X has two dimensions and `n_inputs` columns.
    """
    check_columns(X, n_inputs)
    # Asked first, because one row is predicted in the time that NumPy takes to find out that nothing is to be done.
    rows: NDArray[Any] = X
    flags = X.flags
    if X.dtype is not FLOAT64 or not flags.c_contiguous:
        rows = np.ascontiguousarray(X, dtype=np.float64)
    elif not flags.writeable:
        return rows
    return frozen(rows.view())


def frozen(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The very array, read-only from now on."""
    rows.flags.writeable = False
    return rows
