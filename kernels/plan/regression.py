"""Local regression: a ridge regression among a row's nearest stored rows. Row-level functions for both targets."""

import math

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def bisquare(key, last, softening):
    """Weight of a neighbour by its squared distance and the last one's: (1 - (d / (last + softening))^2)^2.

    The softening keeps the last neighbour's weight, and that of many at the very same place, above zero.
    """
    distance = math.sqrt(np.float64(key))
    farthest = math.sqrt(np.float64(last))
    reach = farthest + softening
    # 1 - (distance / reach)^2 by its factors: from far away the square rounds to one, and all weights to zero.
    rest = (farthest - distance + softening) / reach * ((reach + distance) / reach)
    return rest * rest


@njit(cache=True, error_model="numpy")
def regress(
    keys, rows, count, here, attributes, target, regressors, scales, first, size, softening, ridge, matrix, scratch,
    out, place,
):  # fmt: skip
    """Weighted ridge regression of the target on attributes among the nearest rows.

    Solves (C + ridge I) b = c by Cholesky's method, C the weighted covariance of the scaled attributes and c theirs
    with the target: ridge > 0 makes the matrix positive definite.

    Args:
        keys: float32[count], squared distances, ascending.
        rows: int32[count], indices in the table.
        count: int, at least 1.
        here: float64[Z], the row's own attributes.
        attributes: float64[N, Z].
        target: float64[N].
        regressors: int32, columns of `attributes`; those from `first` on are this regression's.
        scales: float64, what they are divided by.
        first: int.
        size: int, how many they are.
        softening: float64, for the weights.
        ridge: float64, above zero.
        matrix: float64[size * size] or longer, to work in.
        scratch: float64[3 * size] or longer, to work in.
        out: float64, written from `place` on: mean target + b (here - means), the same with `here` all zeros, b, all
            in units of scaled attributes.
        place: int.
    """
    last = keys[count - 1]
    weights = 0.0
    middle = 0.0
    for column in range(size):
        scratch[column] = 0.0
        scratch[size + column] = 0.0
        for other in range(column + 1):
            matrix[column * size + other] = 0.0
    for near in range(count):
        weight = bisquare(keys[near], last, softening)
        weights += weight
        middle += weight * target[rows[near]]
        for column in range(size):
            scratch[column] += weight * attributes[rows[near], regressors[first + column]]
    middle /= weights
    for column in range(size):
        scratch[column] /= weights
    for near in range(count):
        row = rows[near]
        weight = bisquare(keys[near], last, softening) / weights
        residual = weight * (target[row] - middle)
        for column in range(size):
            value = (attributes[row, regressors[first + column]] - scratch[column]) / scales[first + column]
            scratch[2 * size + column] = value
            scratch[size + column] += value * residual
            for other in range(column + 1):
                matrix[column * size + other] += weight * value * scratch[2 * size + other]
    for column in range(size):
        for other in range(column + 1):
            total = matrix[column * size + other]
            if column == other:
                total += ridge
            for inner in range(other):
                total -= matrix[column * size + inner] * matrix[other * size + inner]
            if column == other:
                # Not below the ridge but for rounding, where attributes depend on one another.
                matrix[column * size + column] = math.sqrt(max(total, ridge))
            else:
                matrix[column * size + other] = total / matrix[other * size + other]
    for column in range(size):
        total = scratch[size + column]
        for inner in range(column):
            total -= matrix[column * size + inner] * scratch[size + inner]
        scratch[size + column] = total / matrix[column * size + column]
    intercept = middle
    local = middle
    for back in range(size):
        column = size - 1 - back
        slope = scratch[size + column]
        for inner in range(column + 1, size):
            slope -= matrix[inner * size + column] * scratch[size + inner]
        slope /= matrix[column * size + column]
        scratch[size + column] = slope
        out[place + 2 + column] = slope
        intercept -= slope * scratch[column] / scales[first + column]
        local += slope * (here[regressors[first + column]] - scratch[column]) / scales[first + column]
    out[place] = local
    out[place + 1] = intercept
