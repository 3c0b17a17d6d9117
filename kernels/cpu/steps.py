"""The CPU kernel of the stateless steps. It is compiled, releases the GIL and uses one thread."""

import numpy as np
from numba import njit

from kernels.plan.operations import ALONE, evaluate_block, evaluate_run

FEW = 4
"""Rows that fill a vector of the processor."""

BLOCK = 128
"""Rows in the workspace at once: 40 slots of 128 float64 are 40 KiB, which stays in a core's cache."""


@njit(nogil=True, cache=True, error_model="numpy")
def transform(rows, opcodes, operands, offsets, lengths, constants, outputs, columns, points, places, features):
    """Interpret a program's stateless steps over float64[B, F].

    for each block of rows: copy its columns into the workspace; for each step: for each row: evaluate; copy the
    outputs, rounded, to `features`. As the loop over steps is outside, the branch on the opcode is taken once for a
    block. Fewer than four rows are blocks of one row, each evaluated by runs of steps.

    Args:
        rows: float64[B, F].
        opcodes: The program's, as are the next seven.
        operands: int32[S, 2].
        offsets: int32[S].
        lengths: int32[S].
        constants: float64[C].
        outputs: int32, slots that are model features.
        columns: int32, where they go in `features`.
        points: int32[P], slots that reference steps read.
        places: float64[B, P], written: those slots, in that order.
        features: float64[B, O], written with numbers that are rounded to float32.
    """
    n_rows, n_inputs = rows.shape
    n_steps = opcodes.shape[0]
    block = 1 if n_rows < FEW else min(n_rows, BLOCK)
    work = np.empty((n_inputs + n_steps, block), dtype=np.float64)
    slots = work.reshape(-1)  # of the one row, if a block is one
    scratch = np.empty(max(block, constants.shape[0]), dtype=np.float64)
    for start in range(0, n_rows, block):
        count = min(block, n_rows - start)
        for column in range(n_inputs):
            for row in range(count):
                work[column, row] = rows[start + row, column]
        step = 0
        while step < n_steps:
            length = run_length(step, opcodes, operands, offsets, lengths) if block == 1 else 1
            own = constants[offsets[step] : offsets[step] + lengths[step] * length]
            slot = n_inputs + step
            if block == 1:
                one, other = slots[operands[step, 0]], slots[operands[step, 1]]
                evaluate_run(opcodes[step], one, other, own, scratch, slots[slot : slot + length])
            else:
                left, right = work[operands[step, 0], :count], work[operands[step, 1], :count]
                evaluate_block(opcodes[step], left, right, own, scratch[:count], work[slot, :count])
            step += length
        for row in range(count):
            for index in range(outputs.shape[0]):
                features[start + row, columns[index]] = np.float32(work[outputs[index], row])
            for index in range(points.shape[0]):
                places[start + row, index] = work[points[index], row]


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def run_length(step, opcodes, operands, offsets, lengths):
    """The number of steps from this one on with the same opcode and operands, and constants one after the other.

    Steps in `ALONE` are runs of one step, since they loop over their own constants. Arguments are a `Program`'s.
    """
    last = step
    while (
        last + 1 < len(opcodes)
        and opcodes[step] not in ALONE
        and opcodes[last + 1] == opcodes[step]
        and operands[last + 1, 0] == operands[step, 0]
        and operands[last + 1, 1] == operands[step, 1]
        and lengths[last + 1] == lengths[step]
        and offsets[last + 1] == offsets[last] + lengths[last]
    ):
        last += 1
    return last + 1 - step
