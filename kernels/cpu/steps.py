"""Steps on the CPU: `kernels.plan.features.evaluate` with a loop inside, over a block of rows or over a run of steps.

The branch on the opcode is outside every loop, and a loop is over arithmetic alone, so that it is vectorised; the
logarithm's is not, which calls libm. One row is no loop, but most plans have many steps of a kind on the same operands.
"""

import math

import numpy as np
from numba import njit

from kernels.plan import features
from kernels.plan.opcodes import (
    CLIP,
    LOG,
    POINT_DISTANCE,
    POLYLINE_DISTANCE,
    PRODUCT,
    RATIO,
    ROTATION,
    STANDARDISE,
)

FEW = 4
"""Rows that fill a vector."""

BLOCK = 128
"""Rows in the workspace at once: 40 slots of 128 float64 are 40 KiB, which stays in a core's cache."""


@njit(nogil=True, cache=True, error_model="numpy")
def transform(rows, opcodes, operands, offsets, lengths, constants, outputs, columns, points, places, features):
    """Interpret a program's stateless steps over float64[B, F].

    for each block of rows: columns into the workspace; for each step: for each row: evaluate; outputs, rounded, out
    again. With steps outside and rows inside, the branch on the opcode is the same for a whole run of rows. Rows that
    are too few for that are blocks of one row each, evaluated by runs of steps.

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
def evaluate_block(op, a, b, constants, scratch, result):
    """One step on each row: bit for bit what `evaluate` gives.

    Args:
        op: int32, which function (`kernels.plan.opcodes`); an unknown one gives NaN.
        a: float64[B], the first operand.
        b: float64[B], the second.
        constants: float64, the step's own.
        scratch: float64[B], to work in.
        result: float64[B], written.
    """
    if op == POLYLINE_DISTANCE:
        _polyline_distances(a, b, constants, scratch, result)
        return
    # Scalars, since a load from an array may not be moved out of a loop that stores.
    first = constants[0] if len(constants) > 0 else math.nan
    second = constants[1] if len(constants) > 1 else math.nan
    if op == RATIO:
        for row in range(len(result)):
            result[row] = features.ratio(a[row], b[row])
    elif op == PRODUCT:
        for row in range(len(result)):
            result[row] = features.product(a[row], b[row])
    elif op == LOG:
        for row in range(len(result)):
            result[row] = features.log(a[row], first)
    elif op == CLIP:
        for row in range(len(result)):
            result[row] = features.clip(a[row], first, second)
    elif op == STANDARDISE:
        for row in range(len(result)):
            result[row] = features.standardise(a[row], first, second)
    elif op == ROTATION:
        for row in range(len(result)):
            result[row] = features.rotation(a[row], b[row], first, second)
    elif op == POINT_DISTANCE:
        for row in range(len(result)):
            result[row] = features.point_distance(a[row], b[row], first, second)
    else:
        result[:] = math.nan


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def run_length(step, opcodes, operands, offsets, lengths):
    """How many steps from this one on are of its kind, read the same, and have their constants one after the other.

    A polyline is a run of its own, since its segments are what is looped over. Arguments are a `Program`'s.
    """
    last = step
    while (
        last + 1 < len(opcodes)
        and opcodes[step] != POLYLINE_DISTANCE
        and opcodes[last + 1] == opcodes[step]
        and operands[last + 1, 0] == operands[step, 0]
        and operands[last + 1, 1] == operands[step, 1]
        and lengths[last + 1] == lengths[step]
        and offsets[last + 1] == offsets[last] + lengths[last]
    ):
        last += 1
    return last + 1 - step


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def evaluate_run(op, a, b, constants, scratch, results):
    """A run of steps on one row: bit for bit what `evaluate` gives.

    Args:
        op: int32, which function (`kernels.plan.opcodes`); an unknown one gives NaN.
        a: float64, the first operand.
        b: float64, the second.
        constants: float64, the steps' own, one step's after the other's.
        scratch: float64, to work in: at least as long as the constants.
        results: float64[S], written.
    """
    if op == POLYLINE_DISTANCE:
        results[0] = _polyline_distance(a, b, constants, scratch)
    elif op == RATIO:
        results[:] = features.ratio(a, b)
    elif op == PRODUCT:
        results[:] = features.product(a, b)
    elif op == LOG:
        for step in range(len(results)):
            results[step] = features.log(a, constants[step])
    elif op == CLIP:
        for step in range(len(results)):
            results[step] = features.clip(a, constants[2 * step], constants[2 * step + 1])
    elif op == STANDARDISE:
        for step in range(len(results)):
            results[step] = features.standardise(a, constants[2 * step], constants[2 * step + 1])
    elif op == ROTATION:
        for step in range(len(results)):
            results[step] = features.rotation(a, b, constants[2 * step], constants[2 * step + 1])
    elif op == POINT_DISTANCE:
        for step in range(len(results)):
            results[step] = features.point_distance(a, b, constants[2 * step], constants[2 * step + 1])
    else:
        results[:] = math.nan


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _polyline_distance(latitude, longitude, vertices, squared):
    """`polyline_distance`, with all segments' distances before the least of them is looked for."""
    n_segments = len(vertices) // 2 - 1
    scale = features.longitude_scale(latitude)
    for segment in range(n_segments):
        squared[segment] = features.squared_to_segment(
            latitude, longitude, scale,
            vertices[2 * segment], vertices[2 * segment + 1], vertices[2 * segment + 2], vertices[2 * segment + 3],
        )  # fmt: skip
    least = math.inf
    for segment in range(n_segments):
        least = min(least, squared[segment])
    return features.kilometres(latitude, longitude, least)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _polyline_distances(latitudes, longitudes, vertices, scales, distances):
    """`polyline_distance` with the loop over segments outside, since the one over rows is the one to be vectorised."""
    for row in range(len(distances)):
        scales[row] = features.longitude_scale(latitudes[row])
        distances[row] = math.inf
    for start in range(0, len(vertices) - 2, 2):
        latitude, longitude = vertices[start], vertices[start + 1]
        next_latitude, next_longitude = vertices[start + 2], vertices[start + 3]
        for row in range(len(distances)):
            squared = features.squared_to_segment(
                latitudes[row], longitudes[row], scales[row], latitude, longitude, next_latitude, next_longitude
            )
            distances[row] = min(distances[row], squared)
    for row in range(len(distances)):
        distances[row] = features.kilometres(latitudes[row], longitudes[row], distances[row])
