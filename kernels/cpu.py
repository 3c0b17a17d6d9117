"""Feature transforms on the CPU: one compiled, GIL-free, single-threaded kernel.

Parallelism is the caller's, by threads of its own: numba's `parallel=True` aborts the process when two threads enter it
on the workqueue layer.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.backend import as_rows
from kernels.features import evaluate
from kernels.program import Program, pack

BLOCK_ROWS = 128
"""Rows in the workspace at once: 40 slots of 128 float64 are 40 KiB, which stays in a core's cache."""


class CpuBackend:
    """Transforms features on the calling thread. Has no state; safe from any number of threads."""

    name = "cpu"

    def transform(self, program: Program, X: NDArray[np.floating]) -> NDArray[np.float32]:
        """Raw features float[B, F] of any float dtype and layout to model features float32[B, O].

        Raises ValueError when X is not of shape (B, program.n_inputs).
        """
        rows = as_rows(X, program.n_inputs)
        features = np.empty((len(rows), program.n_outputs), dtype=np.float32)
        _transform(rows, *program.arrays(), features)  # pyright: ignore[reportCallIssue]
        return features

    def warm_up(self) -> None:
        """Compile the kernel or load it from numba's cache, by a call that types its arguments as every call does."""
        self.transform(pack(("x",), (), ("x",)), np.zeros((1, 1)))


@njit(nogil=True, cache=True, error_model="numpy")
def _transform(rows, opcodes, operands, offsets, lengths, constants, outputs, features):
    """Interpret a program over float64[B, F] into float32[B, O].

    for each block of rows: columns into the workspace; for each step: for each row: evaluate; outputs, rounded, out
    again. With steps outside and rows inside, the branch on the opcode is the same for a whole run of rows.
    """
    n_rows, n_inputs = rows.shape
    n_steps = opcodes.shape[0]
    work = np.empty((n_inputs + n_steps, min(n_rows, BLOCK_ROWS)), dtype=np.float64)
    for start in range(0, n_rows, BLOCK_ROWS):
        count = min(BLOCK_ROWS, n_rows - start)
        for column in range(n_inputs):
            for row in range(count):
                work[column, row] = rows[start + row, column]
        for step in range(n_steps):
            op = opcodes[step]
            offset = offsets[step]
            length = lengths[step]
            left = work[operands[step, 0]]
            right = work[operands[step, 1]]
            result = work[n_inputs + step]
            for row in range(count):
                result[row] = evaluate(op, left[row], right[row], constants, offset, length)
        for row in range(count):
            for column in range(outputs.shape[0]):
                features[start + row, column] = np.float32(work[outputs[column], row])
