"""A step over a block of rows, on the CPU: `kernels.features.evaluate` with the loop over rows inside.

The branch on the opcode is outside every loop, and a loop is over arithmetic alone, so that it is vectorised; the
logarithm's is not, which calls libm.
"""

import math

from numba import njit

from kernels import features
from kernels.opcodes import CLIP, LOG, POINT_DISTANCE, POLYLINE_DISTANCE, PRODUCT, RATIO, ROTATION, STANDARDISE


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def evaluate_block(op, a, b, constants, scratch, result):
    """One step on each row: bit for bit what `evaluate` gives.

    Args:
        op: int32, which function (`kernels.opcodes`); an unknown one gives NaN.
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
