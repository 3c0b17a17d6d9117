"""The CUDA kernels.

Importing this module imports numba.cuda; only `kernels.cuda` does so, once it knows there is a GPU.

Every kernel of the package has its argument types in `SIGNATURES` of the module that defines it: a test compiles each
to PTX without a driver, and fails on a kernel that has none.
"""

from numba import cuda, types

from kernels.features import evaluate

_INTS = types.int32[::1]
_DOUBLES = types.float64[::1]


@cuda.jit
def transform(rows, opcodes, operands, offsets, lengths, constants, outputs, work, features):
    """Interpret a program over float64[B, F] into float32[B, O], a row to a thread, threads striding over the grid.

    work: float64[>= S, >= min(B, threads)]; a thread keeps its row's steps in a column of its own, so that neighbouring
    threads touch neighbouring words. All threads run the same step at the same time: the branches on the opcode never
    diverge within a warp.
    """
    thread = cuda.grid(1)  # pyright: ignore[reportCallIssue]
    n_inputs = rows.shape[1]
    for row in range(thread, rows.shape[0], cuda.gridsize(1)):
        for step in range(opcodes.shape[0]):
            left = operands[step, 0]
            right = operands[step, 1]
            a = rows[row, left] if left < n_inputs else work[left - n_inputs, thread]
            b = rows[row, right] if right < n_inputs else work[right - n_inputs, thread]
            work[step, thread] = evaluate(opcodes[step], a, b, constants, offsets[step], lengths[step])
        for column in range(outputs.shape[0]):
            slot = outputs[column]
            features[row, column] = rows[row, slot] if slot < n_inputs else work[slot - n_inputs, thread]


SIGNATURES = {
    "transform": types.void(
        types.float64[:, ::1],
        _INTS,
        types.int32[:, ::1],
        _INTS,
        _INTS,
        _DOUBLES,
        _INTS,
        types.float64[:, ::1],
        types.float32[:, ::1],
    ),
}
"""Kernel name to the types it is launched with."""
