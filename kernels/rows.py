"""Batches in the form that the kernels take: float64, C-contiguous; many rows read-only, few rows writable."""

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

    Read-only, because numba has different types for read-only and writable arrays: with one of them there is one
    compiled kernel, and the first batch that is an immutable buffer causes no compilation on the request path.

    Raises ValueError unless X has two dimensions and `n_inputs` columns.
    """
    check_columns(X, n_inputs)
    # Checked first: NumPy takes as long to find that nothing is to be done as a kernel to predict one row.
    rows: NDArray[Any] = X
    flags = X.flags
    if X.dtype is not FLOAT64 or not flags.c_contiguous:
        rows = np.ascontiguousarray(X, dtype=np.float64)
    elif not flags.writeable:
        return rows
    return frozen(rows.view())


def writable_rows(X: NDArray[np.floating]) -> NDArray[np.float64]:
    """`X` as float64[B, F], C-contiguous and writable; a copy only where its dtype, layout or flags demand one.

    For kernels of few rows, where time counts: numba takes 100 ns longer to know the type of a read-only array, and a
    read-only view takes 350 ns to make. They have no other type, so there is one compiled kernel here too, and a kernel
    writes into no rows.
    """
    rows: NDArray[Any] = X
    return rows if X.dtype is FLOAT64 and X.flags.carray else np.array(X, dtype=np.float64, order="C")


def frozen(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same array, made read-only."""
    rows.flags.writeable = False
    return rows
