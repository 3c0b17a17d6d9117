"""Fits a Gaussian process: the covariance function on blocks of rows, by likelihood, and the weights on all rows.

Sections and equations are those of C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning,
MIT Press 2006. No mean is fitted: the constant of the covariance replaces it, so that a row's leave-one-out value does
not depend on its own target.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from threadpoolctl import threadpool_limits

from kernels.cpu import covariance
from kernels.plan.blocks import block_order
from kernels.plan.gaussian_process import SHAPES, pack_expansion
from kernels.plan.plan import Factor, GaussianProcess, Term

BLOCK = 256
MAX_ITERATIONS = 40
REACH = 4.0
"""Largest change of a parameter's logarithm: without a bound, one that the data does not determine drifts away."""
REFINEMENTS = 2
THREADS = os.cpu_count() or 1

LAPACK: Any = linalg.lapack
Array = NDArray[np.float64]
Columns = dict[str, Array]


class Posterior(msgspec.Struct, frozen=True):
    """A Gaussian process given N rows.

    Attributes:
        weights: float64[N], K^-1 y.
        root: float32[N, N], the inverse of K's Cholesky factor; its lower triangle counts.
        target: float64[N], y.
    """

    weights: Array
    root: NDArray[np.float32]
    target: Array

    def leave_one_out(self) -> Array:
        """float64[N]: each row's mean given all other rows, y_i - [K^-1 y]_i / [K^-1]_ii (equation 5.12)."""
        diagonal = np.zeros(len(self.target))
        for start in range(0, len(diagonal), 512):
            part = np.tril(self.root[start : start + 512], start).astype(np.float64)
            diagonal += np.einsum("ij,ij->j", part, part)
        return self.target - self.weights / diagonal

    def leave_group_out(self, groups: NDArray[np.int32]) -> Array:
        """float64[N]: each row's mean given the rows of other groups.

        The block form of the same equation: y_g - ([K^-1]_gg)^-1 [K^-1 y]_g.
        """
        means = np.empty(len(self.target))
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            columns = self.root[:, rows]
            columns[np.arange(len(means))[:, None] < rows] = 0.0
            block = (columns.T @ columns).astype(np.float64)
            means[rows] = self.target[rows] - linalg.solve(block, self.weights[rows], assume_a="pos")
        return means


def fit_covariance(step: GaussianProcess, columns: Columns, target: Array) -> GaussianProcess:
    """Maximise the likelihood over variances, lengths, constant and noise.

    It is a composite likelihood: rows are divided into blocks of 256 near rows, and the log marginal likelihoods
    (equation 2.30) of the blocks are summed as if they were independent (C. Varin, N. Reid and D. Firth, An Overview of
    Composite Likelihood Methods, Statistica Sinica 21, 2011). All rows count, at a cost that grows with their number
    and not with its cube. Blocks of near rows determine short lengths, which random rows would not. Nearness is
    measured by the columns of the first term's first factor.

    Args:
        step: Start of the search; lengths that are not given start at the columns' standard deviations.
        columns: Operands float64[N], by name.
        target: float64[N].

    Returns:
        The step with fitted parameters.
    """
    step = _with_lengths(step, columns)
    near = step.terms[0].factors[0]
    order = block_order(np.column_stack([columns[name] / (columns[name].std() or 1.0) for name in near.inputs]), BLOCK)
    blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
    start = np.log(_parameters(step))
    # A block's matrices are small: threads of BLAS below the threads of the blocks would mostly wait for each other.
    with ThreadPoolExecutor(THREADS) as pool, threadpool_limits(1, user_api="blas"):
        likelihood = _Likelihood(step, columns, target, blocks, pool)
        fit = optimize.minimize(
            likelihood,
            start,
            method="L-BFGS-B",
            jac=True,
            bounds=[(value - REACH, value + REACH) for value in start],
            options={"maxiter": MAX_ITERATIONS, "ftol": 1e-6},
        )
    return _with_parameters(step, np.exp(fit.x))


def solve(step: GaussianProcess, columns: Columns, target: Array) -> Posterior:
    """Condition on all rows: one float32 Cholesky decomposition of the N x N matrix (algorithm 2.1), and its inverse.

    It takes 4 N^2 bytes and 2/3 N^3 floating-point operations: 0.7 GB for 13,000 rows. The weights are refined beyond
    float32 with the matrix itself, which the decomposition leaves in the other triangle.

    Raises:
        ValueError: The matrix is not positive definite in float32, because the noise is too small.
    """
    zeros = {name: np.zeros(len(target)) for name in (step.target, step.weights)}
    arrays = pack_expansion(step, columns | zeros, dict.fromkeys(columns, 0), {})
    size = len(target)
    matrix = np.empty((size, size), dtype=np.float32)
    _share(lambda start, end: covariance.covariances(arrays, start, end, np.float32(step.constant), matrix), size)
    diagonal = step.constant + sum(term.variance for term in step.terms) + step.noise
    np.fill_diagonal(matrix, diagonal)
    # LAPACK's lower triangle of the transpose is the upper one here; the lower one keeps the matrix.
    factor, info = LAPACK.spotrf(matrix.T, lower=1, overwrite_a=1, clean=0)
    if info:
        raise ValueError(f"{step.title}: the covariance of the rows is not positive definite; raise the noise")

    def back(right: Array) -> Array:
        return LAPACK.spotrs(factor, right.astype(np.float32), lower=1)[0].astype(np.float64)

    weights = back(target)
    for _ in range(REFINEMENTS):
        weights += back(target - covariance.times(factor.T, weights, diagonal))
    root, _ = LAPACK.strtri(factor, lower=1, overwrite_c=1)
    return Posterior(weights, root, target)


class _Likelihood:
    """Negative composite log likelihood per row, and its gradient, as a function of the parameters' logarithms."""

    def __init__(
        self, step: GaussianProcess, columns: Columns, target: Array, blocks: list[NDArray[np.intp]], pool: Executor
    ) -> None:
        factors = [factor for term in step.terms for factor in term.factors]
        self._terms = np.cumsum([0, *(len(term.factors) for term in step.terms)])
        self._shapes = np.array([SHAPES.index(factor.shape) for factor in factors])
        self._starts = np.cumsum([0, *(len(factor.inputs) for factor in factors)])
        stored = np.stack([columns[name] for factor in factors for name in factor.inputs])
        self._blocks = [(np.ascontiguousarray(stored[:, rows]), target[rows]) for rows in blocks]
        self._size = len(target)
        self._pool = pool

    def __call__(self, logarithms: Array) -> tuple[float, Array]:
        values = np.exp(logarithms)
        parts = self._pool.map(lambda block: self._block(values, *block), self._blocks)
        value, gradient = 0.0, np.zeros_like(logarithms)
        for part, slope in parts:
            value += part
            gradient += slope
        return value / self._size, gradient / self._size

    def _block(self, values: Array, stored: Array, target: Array) -> tuple[float, Array]:
        """-log p(target) of one block, and its derivatives (equation 5.9)."""
        n_terms, size = len(self._terms) - 1, len(target)
        variances, lengths, (constant, noise) = values[:n_terms], values[n_terms:-2], values[-2:]
        layout = (self._shapes, self._terms, self._starts, variances)
        scaled = stored / lengths[:, None]
        matrix = np.empty((size, size))
        covariance.lower_triangle(scaled, *layout, constant, matrix)
        np.fill_diagonal(matrix, constant + variances.sum() + noise)
        try:
            factor = linalg.cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        except linalg.LinAlgError:
            return 1e10, np.zeros_like(values)  # too little noise: the search steps back
        weights = linalg.cho_solve((factor, True), target)
        inverse = linalg.cho_solve((factor, True), np.eye(size))
        logdet = 2 * np.log(np.diagonal(factor)).sum()
        value = 0.5 * (target @ weights + logdet + size * math.log(2 * math.pi))
        pull = inverse - np.multiply.outer(weights, weights)
        slopes = covariance.gradient(scaled, pull, *layout)
        return value, 0.5 * np.concatenate([slopes, [constant * pull.sum(), noise * np.trace(pull)]])


def _share(work: Callable[[int, int], None], size: int) -> None:
    """Call `work(start, end)` for equal parts of 0..size, one thread each; the kernels release the GIL."""
    bounds = [size * thread // THREADS for thread in range(THREADS + 1)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))


def _with_lengths(step: GaussianProcess, columns: Columns) -> GaussianProcess:
    def filled(factor: Factor) -> Factor:
        lengths = factor.lengths or tuple(float(columns[name].std()) for name in factor.inputs)
        return msgspec.structs.replace(factor, lengths=lengths)

    terms = (
        msgspec.structs.replace(term, factors=tuple(filled(factor) for factor in term.factors)) for term in step.terms
    )
    return msgspec.structs.replace(step, terms=tuple(terms))


def _parameters(step: GaussianProcess) -> Array:
    """Variances, lengths of every factor, constant, noise."""
    lengths = [length for term in step.terms for factor in term.factors for length in factor.lengths]
    return np.array([*(term.variance for term in step.terms), *lengths, step.constant, step.noise])


def _with_parameters(step: GaussianProcess, values: Array) -> GaussianProcess:
    """The step with new parameters, in the order of `_parameters`."""
    lengths = iter(values[len(step.terms) : -2].tolist())

    def replaced(factor: Factor) -> Factor:
        return msgspec.structs.replace(factor, lengths=tuple(next(lengths) for _ in factor.inputs))

    terms = tuple(
        Term(variance=variance, factors=tuple(replaced(factor) for factor in term.factors))
        for variance, term in zip(values.tolist(), step.terms, strict=False)
    )
    return msgspec.structs.replace(step, terms=terms, constant=float(values[-2]), noise=float(values[-1]))
