"""The CPU kernels of the reference steps: search for the nearest stored rows, and sum of covariances with all of them.

They are compiled, release the GIL and use one thread. Callers run several threads of their own: numba's
`parallel=True` aborts the process when two threads enter it on the workqueue layer.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from kernels.plan.blocks import BLOCK_ROWS
from kernels.plan.gaussian_process import FAINTEST, FARTHEST, ONE, TILE_ROWS, ZERO, decay, polynomial
from kernels.plan.nearest import NO_LABEL, describe, insert
from kernels.plan.neighbours import FARTHEST as FARTHEST_PLACE


@njit(nogil=True, cache=True, error_model="numpy")
def neighbours(places, arrays, labels, excluded, features):
    """Describe the nearest stored rows of each row.

    Args:
        places: float64[B, P].
        arrays: A `NeighbourArrays`.
        labels: int32[N], of the stored rows, in the table's order.
        excluded: int32[B], for each row the label of stored rows that are not to be found; -1 excludes none.
        features: float64[B, O], written with numbers that are rounded to float32.
    """
    n_dimensions = arrays.scales.shape[0]
    n_attributes = arrays.attributes.shape[1]
    capacity = arrays.capacity[0]
    keys = np.empty(capacity, dtype=np.float32)
    found = np.empty(capacity, dtype=np.int32)
    here = np.empty(n_dimensions)
    attributes = np.empty(n_attributes)
    matrix = np.empty(n_attributes * n_attributes)
    scratch = np.empty(max(capacity, 3 * n_attributes))
    boxes = np.empty(arrays.low.shape[1])
    distances = np.empty(BLOCK_ROWS)
    out = np.empty(arrays.columns.shape[0])
    for row in range(places.shape[0]):
        finite = True
        for index in range(n_dimensions):
            value = places[row, arrays.points[index]]
            finite = finite and math.isfinite(value)
            here[index] = min(max(value / arrays.scales[index], -FARTHEST_PLACE), FARTHEST_PLACE)
        for index in range(n_attributes):
            attributes[index] = places[row, arrays.points[n_dimensions + index]] - arrays.centres[index]
        filled = 0
        if finite:
            filled = search(here, arrays, labels, excluded[row], boxes, distances, keys, found)
        describe(
            keys, found, filled, attributes, arrays.attributes, arrays.target, arrays.counts, arrays.contrasts,
            arrays.contrast_counts, arrays.regressions, arrays.regressors, arrays.regressor_scales, arrays.numbers,
            matrix, scratch, out,
        )  # fmt: skip
        for index in range(len(out)):
            if arrays.columns[index] >= 0:
                features[row, arrays.columns[index]] = np.float32(out[index])


@njit(nogil=True, cache=True, error_model="numpy")
def search(here, arrays, labels, excluded, boxes, distances, keys, found):
    """Find a row's nearest stored rows, exactly: blocks in the order of their boxes' distance, until none can matter.

    A box's distance is computed by the same roundings as a row's, and rounding is monotone, so it is never above the
    distance of a row within; a block at the very distance of the worst neighbour is still searched, for ties.

    Args:
        here: float64[D], the row's scaled coordinates.
        arrays: A `NeighbourArrays`.
        labels: int32[N].
        excluded: int32, the label of stored rows to pass over, or -1.
        boxes: float64[blocks], to work in.
        distances: float64[64], to work in.
        keys: float32[K], written: squared distances, ascending.
        found: int32[K], written: indices in the table.

    Returns how many were found.
    """
    n_rows = arrays.order.shape[0]
    n_blocks = boxes.shape[0]
    boxes[:] = 0.0
    for index in range(here.shape[0]):
        value = here[index]
        low = arrays.low[index]
        high = arrays.high[index]
        for block in range(n_blocks):
            gap = max(max(low[block] - value, value - high[block]), 0.0)
            boxes[block] += gap * gap
    filled = np.int64(0)  # a literal has a type of its own, which `insert` is compiled for as well
    for _ in range(n_blocks):
        block = 0
        nearest = math.inf
        for index in range(n_blocks):
            if boxes[index] < nearest:
                nearest = boxes[index]
                block = index
        if filled == keys.shape[0] and np.float32(nearest) > keys[filled - 1]:
            break
        boxes[block] = math.inf
        start = block * BLOCK_ROWS
        count = min(BLOCK_ROWS, n_rows - start)
        distances[:] = 0.0
        for index in range(here.shape[0]):
            value = here[index]
            stored = arrays.coordinates[index, start : start + count]
            for near in range(count):
                gap = stored[near] - value
                distances[near] += gap * gap
        for near in range(count):
            row = arrays.order[start + near]
            if excluded == NO_LABEL or labels[row] != excluded:
                filled = insert(keys, found, filled, np.float32(distances[near]), row)
    return filled


@intrinsic
def _float32_of(typingctx, bits):
    """The float32 with these int32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_LOWEST = -FAINTEST
_LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with so few bits that its product with a whole number is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
# e^f = 1 + f + f^2 (C2 + C3 f + ... + C6 f^4), fitted by reweighted least squares to a relative error of 3.1e-9.
_C2, _C3, _C4, _C5, _C6 = map(
    np.float32, (4.99999934e-01, 1.66665206e-01, 4.16683881e-02, 8.36871690e-03, 1.38145984e-03)
)


@njit(cache=True, fastmath=True)
def exponential(x):
    """exp(x) of a float32 at most zero; below -87, exp(-87). Relative error below 4e-7.

    libm's is a call, which keeps a loop from being vectorised. This is 2^n e^f with n whole and |f| <= ln(2) / 2, after
    W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapter 6, and e^f a polynomial.
    """
    x = max(x, _LOWEST)
    n = np.rint(x * _LOG2_E)
    f = (x - n * _LN2_HIGH) - n * _LN2_LOW
    e = ONE + f * (ONE + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
    return e * _float32_of((np.int32(n) + np.int32(127)) << np.int32(23))  # pyright: ignore[reportCallIssue]


@njit(nogil=True, cache=True, fastmath=True)
def expansion(places, finite, arrays, features):
    """Sum the covariances of each row with the stored rows.

    for each row: for each tile of stored rows: for each term: weights times the term's tile into the sum. Every inner
    loop runs over the tile and is vectorised; a row's result depends on the row alone, not on its batch.

    Args:
        places: float64[B, P].
        finite: bool[B], whether all that the step reads of a row is finite; where not, nothing is written. (It is for
            the caller to say, since fast-math takes every number for finite.)
        arrays: An `ExpansionArrays`.
        features: float64[B, O], written with numbers that are rounded to float32.
    """
    n_columns, n_stored = arrays.stored.shape
    here = np.empty(n_columns, dtype=np.float32)
    squared = np.empty(TILE_ROWS, dtype=np.float32)
    exponents = np.empty(TILE_ROWS, dtype=np.float32)
    values = np.empty(TILE_ROWS, dtype=np.float32)
    for row in range(places.shape[0]):
        if not finite[row]:
            continue
        for column in range(n_columns):
            value = (places[row, arrays.points[column]] - arrays.centres[column]) * arrays.scales[column]
            here[column] = min(max(np.float32(value), -FARTHEST), FARTHEST)
        total = arrays.offset[0]
        for start in range(0, n_stored, TILE_ROWS):
            count = min(TILE_ROWS, n_stored - start)
            weights = arrays.weights[start : start + count]
            for term in range(arrays.variances.shape[0]):
                term_tile(here, arrays, term, start, count, squared, exponents, values)
                part = ZERO
                for index in range(count):
                    part += weights[index] * values[index]
                total += arrays.variances[term] * part
        features[row, arrays.columns[0]] = np.float32(total)


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def term_tile(here, arrays, term, start, count, squared, exponents, shares):
    """A covariance term, without its variance, of a row and a tile of stored rows.

    for each factor: squared distances; their shape into two more buffers; with the last one's the exponential of all.
    It is inlined, as is what it calls, since numba counts references to each array of a tuple that is passed on: that
    took longer than the arithmetic.

    Args:
        here: float32[P], the row's scaled columns.
        arrays: An `ExpansionArrays`.
        term: int, which.
        start: int, the first stored row.
        count: int, how many, at most 256.
        squared: float32[256], to work in.
        exponents: float32[256], to work in.
        shares: float32[256], written with the result.
    """
    first = arrays.terms[term]
    last = arrays.terms[term + 1] - 1
    for index in range(count):
        exponents[index] = ZERO
        shares[index] = ONE
    for factor in range(first, last):
        _squared_distances(here, arrays, factor, start, count, squared)
        shape = arrays.shapes[factor]
        for index in range(count):
            exponent = decay(shape, squared[index])
            exponents[index] += exponent
            shares[index] *= polynomial(shape, exponent)
    _squared_distances(here, arrays, last, start, count, squared)
    last_shape = arrays.shapes[last]
    for index in range(count):
        exponent = decay(last_shape, squared[index])
        share = shares[index] * polynomial(last_shape, exponent)
        exponent += exponents[index]
        # Beyond, the exponential stops shrinking while the polynomials of many factors would go on growing.
        share = share if exponent < FAINTEST else ZERO
        shares[index] = share * exponential(-exponent)


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _squared_distances(here, arrays, factor, start, count, squared):
    """Squared distances of a row to a tile of stored rows; a factor's columns in pairs, which halves the passes."""
    column = arrays.factors[factor]
    end = arrays.factors[factor + 1]
    left = arrays.stored[column, start : start + count]
    # A scalar of its own, since a load from `here` may not be moved out of a loop that stores.
    first = here[column]
    if (end - column) % 2:
        for index in range(count):
            gap = first - left[index]
            squared[index] = gap * gap
        column += 1
    else:
        right = arrays.stored[column + 1, start : start + count]
        second = here[column + 1]
        for index in range(count):
            gap = first - left[index]
            other = second - right[index]
            squared[index] = gap * gap + other * other
        column += 2
    while column < end:
        left = arrays.stored[column, start : start + count]
        right = arrays.stored[column + 1, start : start + count]
        first = here[column]
        second = here[column + 1]
        for index in range(count):
            gap = first - left[index]
            other = second - right[index]
            squared[index] += gap * gap + other * other
        column += 2
