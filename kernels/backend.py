"""What the engine needs of a target that transforms features."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernels.program import Program


@runtime_checkable
class Backend(Protocol):
    """A target: the CPU, a GPU, or a test's double of one. Must be safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Such as `cpu`, by which costs and failures are reported."""
        ...

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw features float[B, F] to model features float32[B, O]."""
        ...

    def warm_up(self) -> None:
        """Compile or load what every `transform` runs, so that no request waits for it."""
        ...


def as_rows(X: NDArray[np.floating], n_inputs: int) -> NDArray[np.float64]:
    """`X` as float64[B, F], C-contiguous and read-only; a copy only where its dtype or layout demands one.

    Read-only because numba types read-only and writable arrays apart: a view of the one kind means one compiled kernel,
    and no compilation on the request path for the first batch that came as an immutable buffer.
    Raises ValueError unless X has two dimensions and `n_inputs` columns.
    """
    rows = np.ascontiguousarray(X, dtype=np.float64).view()
    if np.ndim(X) != 2 or rows.shape[1] != n_inputs:
        raise ValueError(f"expected an array of shape (rows, {n_inputs}), got {np.shape(X)}")
    rows.flags.writeable = False
    return rows
