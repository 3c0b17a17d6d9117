"""The CUDA kernel of the stateless steps.

Importing this module, or another one of kernels, imports numba.cuda; `kernels.cuda.launcher` alone does so, once it is
known that there is a GPU. A module of kernels has each one's argument types in `SIGNATURES`: the backend compiles it
for them ahead of its first launch, and a test compiles it to PTX without a driver, and fails on a kernel without types.
"""

from numba import cuda, types

from kernels.plan.operations import evaluate

_INTS = types.int32[::1]
_DOUBLES = types.float64[::1]


@cuda.jit
def transform(
    rows, n_rows, opcodes, operands, offsets, lengths, constants, outputs, columns, points, work, places, features
):  # fmt: skip
    """Interpret a program's stateless steps over float64[>= B, F], a row to a thread, threads striding over the grid.

    Arguments are those of the CPU's kernel, and n_rows: B, how many of the rows there are, and work: float64[>= S,
    >= min(B, threads)]; a thread keeps its row's steps in a column of its own, so that neighbouring threads touch
    neighbouring words. All threads run the same step at the same time: the branches on the opcode never diverge within
    a warp.
    """
    thread = cuda.grid(1)  # pyright: ignore[reportCallIssue]
    n_inputs = rows.shape[1]
    for row in range(thread, n_rows, cuda.gridsize(1)):
        for step in range(opcodes.shape[0]):
            left = operands[step, 0]
            right = operands[step, 1]
            a = rows[row, left] if left < n_inputs else work[left - n_inputs, thread]
            b = rows[row, right] if right < n_inputs else work[right - n_inputs, thread]
            work[step, thread] = evaluate(opcodes[step], a, b, constants, offsets[step], lengths[step])
        for index in range(outputs.shape[0]):
            slot = outputs[index]
            features[row, columns[index]] = rows[row, slot] if slot < n_inputs else work[slot - n_inputs, thread]
        for index in range(points.shape[0]):
            slot = points[index]
            places[row, index] = rows[row, slot] if slot < n_inputs else work[slot - n_inputs, thread]


SIGNATURES = {
    "transform": types.void(
        types.float64[:, ::1],
        types.int64,
        _INTS,
        types.int32[:, ::1],
        _INTS,
        _INTS,
        _DOUBLES,
        _INTS,
        _INTS,
        _INTS,
        types.float64[:, ::1],
        types.float64[:, ::1],
        types.float32[:, ::1],
    ),
}
"""Kernel name to the types it is launched with."""
