"""Covariances of stored rows with each other, for fitting a Gaussian process to them; on the CPU alone.

`covariances` is what serving computes, float32 by tiles; the other two are float64, for a search that needs gradients.
"""

import math

import numpy as np
from numba import njit

from kernels.cpu.references import term_tile
from kernels.plan.gaussian_process import EXPONENTIAL, MATERN32, SCALES, TILE_ROWS, decay, polynomial

SCALES_SQUARED = tuple(SCALES[shape] ** 2 for shape in range(len(SCALES)))


@njit(nogil=True, cache=True, fastmath=True)
def covariances(arrays, start, end, constant, matrix):
    """Write rows start..end of the float32[N, N] of covariances of an `ExpansionArrays`'s N stored rows."""
    n_columns = arrays.stored.shape[0]
    here = np.empty(n_columns, dtype=np.float32)
    squared = np.empty(TILE_ROWS, dtype=np.float32)
    exponents = np.empty(TILE_ROWS, dtype=np.float32)
    values = np.empty(TILE_ROWS, dtype=np.float32)
    for row in range(start, end):
        for column in range(n_columns):
            here[column] = arrays.stored[column, row]
        for first in range(0, matrix.shape[1], TILE_ROWS):
            count = min(TILE_ROWS, matrix.shape[1] - first)
            tile = matrix[row, first : first + count]
            tile[:] = constant
            for term in range(arrays.variances.shape[0]):
                term_tile(here, arrays, term, first, count, squared, exponents, values)
                variance = np.float32(arrays.variances[term])
                for index in range(count):
                    tile[index] += variance * values[index]


@njit(nogil=True, cache=True)
def times(matrix, vector, diagonal):
    """Product of a vector and the symmetric matrix whose strict lower triangle this is, summed in float64."""
    product = diagonal * vector
    for row in range(len(vector)):
        total = 0.0
        for column in range(row):
            value = float(matrix[row, column])
            total += value * vector[column]
            product[column] += value * vector[row]
        product[row] += total
    return product


@njit(nogil=True, cache=True, fastmath=True)
def lower_triangle(scaled, shapes, terms, starts, variances, constant, matrix):
    """Write the strict lower triangle of the float64[N, N] of covariances of N rows.

    Args:
        scaled: float64[P, N], columns of each factor in turn, divided by their lengths.
        shapes: int[F], of the factors.
        terms: int[T + 1], the first factor of each term.
        starts: int[F + 1], the first column of each factor.
        variances: float64[T].
        constant: float64.
        matrix: float64[N, N], written.
    """
    for row in range(matrix.shape[0]):
        for column in range(row):
            total = constant
            for term in range(len(variances)):
                exponent = 0.0
                share = 1.0
                for factor in range(terms[term], terms[term + 1]):
                    part = _exponent(scaled, shapes[factor], starts[factor], starts[factor + 1], row, column)
                    exponent += part
                    share *= polynomial(shapes[factor], part)
                total += variances[term] * share * math.exp(-exponent)
            matrix[row, column] = total


@njit(nogil=True, cache=True, fastmath=True)
def gradient(scaled, pull, shapes, terms, starts, variances):
    """Sum `pull` times the derivative of the covariance over all pairs, for the logarithm of each parameter.

    By a length of a factor with scaled distance r, gap being its column's part of r, the derivative is the term times
    gap^2 times: exponential 1 / r, matern32 3 / (1 + sqrt(3) r), squared_exponential 1.

    Args:
        scaled: As all but the next, of `lower_triangle`.
        pull: float64[N, N], symmetric.
        shapes: int[F].
        terms: int[T + 1].
        starts: int[F + 1].
        variances: float64[T].

    Returns float64[T + P], for the variances and the lengths.
    """
    n_terms = len(variances)
    out = np.zeros(n_terms + scaled.shape[0])
    slopes = np.empty(len(shapes))
    for row in range(scaled.shape[1]):
        # On the diagonal every shape is one and every slope zero; pairs off it count twice.
        for term in range(n_terms):
            out[term] += variances[term] * pull[row, row]
        for column in range(row):
            for term in range(n_terms):
                exponent = 0.0
                share = 1.0
                for factor in range(terms[term], terms[term + 1]):
                    shape = shapes[factor]
                    part = _exponent(scaled, shape, starts[factor], starts[factor + 1], row, column)
                    exponent += part
                    share *= polynomial(shape, part)
                    slopes[factor] = 1.0
                    if shape == EXPONENTIAL:
                        slopes[factor] = 1.0 / max(part, 1e-12)
                    elif shape == MATERN32:
                        slopes[factor] = 3.0 / (1.0 + part)
                value = 2.0 * pull[row, column] * variances[term] * share * math.exp(-exponent)
                out[term] += value
                for factor in range(terms[term], terms[term + 1]):
                    slope = value * slopes[factor]
                    for index in range(starts[factor], starts[factor + 1]):
                        gap = scaled[index, row] - scaled[index, column]
                        out[n_terms + index] += slope * gap * gap
    return out


@njit(nogil=True, cache=True, fastmath=True)
def _exponent(scaled, shape, start, end, row, column):
    """A factor's exponent x for two rows, whose covariance is polynomial(x) · exp(-x)."""
    squared = 0.0
    for index in range(start, end):
        gap = scaled[index, row] - scaled[index, column]
        squared += gap * gap
    return decay(shape, squared * SCALES_SQUARED[shape])
