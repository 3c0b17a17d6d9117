"""Covariances of stored rows with each other: numpy's, and a gradient that is the function's own."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.cpu.backend import CpuBackend
from kernels.cpu.covariance import covariances, gradient, lower_triangle, times
from kernels.plan.gaussian_process import SHAPES, TILE_ROWS, Shape, pack_expansion
from kernels.plan.plan import Factor, GaussianProcess, Term
from tests.kernels.plan.by_hand import COVARIANCES
from tests.kernels.plan.plans import alone, processes_of

Array = NDArray[np.float64]
Columns = dict[str, Array]


def rows(count: int, seed: int = 1) -> Columns:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=count) for name in ("a", "b", "c", "target", "weights")}


def process(*terms: tuple[float, list[tuple[Shape, str, tuple[float, ...]]]], constant: float = 0.0) -> GaussianProcess:
    """Of terms (variance, factors), a factor (shape, inputs, lengths)."""
    return GaussianProcess(
        output="mean",
        terms=tuple(
            Term(
                variance=variance,
                factors=tuple(
                    Factor(shape=shape, inputs=tuple(inputs), lengths=lengths) for shape, inputs, lengths in factors
                ),
            )
            for variance, factors in terms
        ),
        constant=constant,
    )


EVERY_SHAPE = process(
    (0.7, [("matern32", "ab", (1.5, 0.8)), ("exponential", "c", (2.0,))]),
    (2.0, [("squared_exponential", "abc", (1.0, 2.0, 3.0))]),
    (0.3, [("exponential", "ba", (0.6, 4.0)), ("squared_exponential", "b", (1.1,)), ("matern32", "c", (0.9,))]),
    constant=0.25,
)


def by_numpy(step: GaussianProcess, columns: Columns) -> Array:
    """float64[N, N]."""
    matrix = np.full((len(columns["weights"]),) * 2, step.constant)
    for term in step.terms:
        part = np.full_like(matrix, term.variance)
        for factor in term.factors:
            scaled = np.stack(
                [columns[name] / length for name, length in zip(factor.inputs, factor.lengths, strict=True)]
            )
            part *= COVARIANCES[factor.shape](np.linalg.norm(scaled[:, :, None] - scaled[:, None], axis=0))
        matrix += part
    return matrix


def by_tiles(step: GaussianProcess, columns: Columns, bounds: list[int] | None = None) -> NDArray[np.float32]:
    """By `covariances`, the rows from one bound to the next at a time."""
    arrays = pack_expansion(step, columns, dict.fromkeys(columns, 0), {})
    size = len(columns["weights"])
    matrix = np.full((size, size), np.nan, dtype=np.float32)
    bounds = bounds or [0, size]
    for start, end in itertools.pairwise(bounds):
        covariances(arrays, start, end, np.float32(step.constant), matrix)
    return matrix


class Layout(NamedTuple):
    """A step as `lower_triangle` and `gradient` take it."""

    scaled: Array
    shapes: NDArray[np.int64]
    terms: NDArray[np.int64]
    starts: NDArray[np.int64]
    variances: Array

    @classmethod
    def of(cls, step: GaussianProcess, columns: Columns) -> "Layout":
        factors = [factor for term in step.terms for factor in term.factors]
        pairs = [pair for factor in factors for pair in zip(factor.inputs, factor.lengths, strict=True)]
        return cls(
            scaled=np.stack([columns[name] / length for name, length in pairs]),
            shapes=np.array([SHAPES.index(factor.shape) for factor in factors]),
            terms=np.cumsum([0, *(len(term.factors) for term in step.terms)]),
            starts=np.cumsum([0, *(len(factor.inputs) for factor in factors)]),
            variances=np.array([term.variance for term in step.terms]),
        )

    def moved(self, logarithms: Array) -> "Layout":
        """With these added to the logarithms of the variances, and of the lengths of each factor in turn."""
        variances, lengths = np.split(np.exp(logarithms), [len(self.variances)])
        return self._replace(scaled=self.scaled / lengths[:, None], variances=self.variances * variances)


def triangle(layout: Layout, constant: float = 0.0, fill: float = 0.0) -> Array:
    size = layout.scaled.shape[1]
    matrix = np.full((size, size), fill)
    scaled, shapes, terms, starts, variances = layout
    lower_triangle(scaled, shapes, terms, starts, variances, constant, matrix)
    return matrix


@pytest.mark.parametrize("count", [1, 2, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 600])
def test_covariances_are_numpy_s_to_a_float32_whatever_the_number_of_rows(count: int) -> None:
    columns = rows(count)
    got = by_tiles(EVERY_SHAPE, columns)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_numpy(EVERY_SHAPE, columns), rtol=2e-6, atol=2e-6)


@given(processes_of("mean", list("abc")), st.integers(0, 2**32))
def test_covariances_of_any_process_are_numpy_s(step: GaussianProcess, seed: int) -> None:
    columns = rows(40, seed) | {" target": np.zeros(40), " weights": np.zeros(40)}
    expected = by_numpy(step, columns)
    # Scaled coordinates go up to 80 where lengths are short, and their float32 is off by as many times 6e-8.
    np.testing.assert_allclose(by_tiles(step, columns), expected, atol=2e-5 * expected.max(), rtol=0)


@pytest.mark.parametrize("constant", [0.0, 4.0])
def test_on_the_diagonal_is_the_sum_of_the_variances_and_the_constant(constant: float) -> None:
    step = process((0.5, [("matern32", "a", (1.0,))]), (0.25, [("exponential", "b", (1.0,))]), constant=constant)
    np.testing.assert_array_equal(np.diagonal(by_tiles(step, rows(300))), np.full(300, 0.75 + constant))


def test_covariances_are_symmetric() -> None:
    got = by_tiles(EVERY_SHAPE, rows(300))
    np.testing.assert_allclose(got, got.T, rtol=1e-6)


def test_parts_of_the_rows_together_make_the_whole_and_touch_no_other() -> None:
    columns = rows(300)
    whole = by_tiles(EVERY_SHAPE, columns)
    np.testing.assert_array_equal(by_tiles(EVERY_SHAPE, columns, [0, 0, 1, 130, 299, 300]), whole)
    part = by_tiles(EVERY_SHAPE, columns, [100, 110])
    np.testing.assert_array_equal(part[100:110], whole[100:110])
    assert np.isnan(part[:100]).all()
    assert np.isnan(part[110:]).all()


def test_covariances_are_those_that_serving_sums() -> None:
    columns = rows(600)
    served = CpuBackend().transform(alone(EVERY_SHAPE, columns), np.stack([columns[name] for name in "abc"], axis=1))
    expected = by_tiles(EVERY_SHAPE, columns).astype(np.float64) @ columns["weights"]
    np.testing.assert_allclose(served[:, 0], expected, atol=1e-6 * np.abs(columns["weights"]).sum())


def test_of_rows_far_apart_the_constant_is_left() -> None:
    step = process((1.0, [("matern32", "a", (0.5,))] * 8), constant=0.25)
    got = by_tiles(step, rows(4) | {"a": np.array([0.0, 1e300, -1e300, 1e5])})
    np.testing.assert_array_equal(got, np.full((4, 4), 0.25) + np.eye(4))


@pytest.mark.parametrize("size", [0, 1, 2, 57])
def test_times_is_the_product_with_the_whole_symmetric_matrix(size: int) -> None:
    random = np.random.default_rng(size)
    matrix = random.normal(size=(size, size)).astype(np.float32)
    vector = random.normal(size=size)
    below = np.tril(matrix, -1).astype(np.float64)
    dense = below + below.T + 2.5 * np.eye(size)
    # What is on and above the diagonal is something else's.
    matrix[np.triu_indices(size)] = np.nan
    before = vector.copy()
    np.testing.assert_allclose(times(matrix, vector, 2.5), dense @ vector, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(vector, before)


def test_times_sums_in_float64() -> None:
    # In float32 each of the small ones would vanish beside the large one.
    matrix = np.zeros((2001, 2001), dtype=np.float32)
    matrix[-1, :-1] = 1e-5
    matrix[-1, 0] = 1e3
    assert times(matrix, np.ones(2001), 0.0)[-1] == pytest.approx(1e3 + 1999 * float(np.float32(1e-5)), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 90])
def test_the_lower_triangle_is_numpy_s_and_the_rest_is_left(count: int) -> None:
    columns = rows(count)
    got = triangle(Layout.of(EVERY_SHAPE, columns), EVERY_SHAPE.constant, fill=-7.0)
    below = np.tril_indices(count, -1)
    np.testing.assert_allclose(got[below], by_numpy(EVERY_SHAPE, columns)[below], rtol=1e-12)
    np.testing.assert_array_equal(got[np.triu_indices(count)], -7.0)


@given(processes_of("mean", list("abc")), st.integers(0, 2**32))
def test_the_lower_triangle_of_any_process_is_numpy_s(step: GaussianProcess, seed: int) -> None:
    columns = rows(20, seed) | {"weights": np.zeros(20)}
    below = np.tril_indices(20, -1)
    got = triangle(Layout.of(step, columns), step.constant)
    np.testing.assert_allclose(got[below], by_numpy(step, columns)[below], rtol=1e-9, atol=1e-300)


def scalar(layout: Layout, pull: Array) -> float:
    """The sum of `pull` times the covariance over all pairs, which `gradient` is the derivative of."""
    below = triangle(layout)
    return float((pull * (below + below.T)).sum() + np.trace(pull) * layout.variances.sum())


def central_differences(layout: Layout, pull: Array, step: float = 1e-5) -> Array:
    steps = step * np.eye(len(layout.variances) + len(layout.scaled))
    values = [[scalar(layout.moved(sign * along), pull) for sign in (1, -1)] for along in steps]
    return np.array([(ahead - behind) / (2 * step) for ahead, behind in values])


def symmetric(size: int, seed: int = 3) -> Array:
    half = np.random.default_rng(seed).normal(size=(size, size))
    return half + half.T


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_each_shape_is_that_of_central_differences(shape: Shape) -> None:
    layout, pull = Layout.of(process((1.7, [(shape, "abc", (0.7, 1.3, 4.0))])), rows(40)), symmetric(40)
    np.testing.assert_allclose(gradient(layout.scaled, pull, *layout[1:]), central_differences(layout, pull), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_gradient_of_products_and_sums_is_that_of_central_differences(count: int) -> None:
    layout, pull = Layout.of(EVERY_SHAPE, rows(count)), symmetric(count)
    got = gradient(layout.scaled, pull, *layout[1:])
    assert got.shape == (3 + 10,)
    np.testing.assert_allclose(got, central_differences(layout, pull), rtol=1e-6, atol=1e-8)


@given(processes_of("mean", list("abc")), st.integers(0, 2**32))
def test_the_gradient_of_any_process_is_that_of_central_differences(step: GaussianProcess, seed: int) -> None:
    layout, pull = Layout.of(step, rows(15, seed)), symmetric(15, seed)
    size = np.abs(pull).sum() * layout.variances.sum()
    got = gradient(layout.scaled, pull, *layout[1:])
    np.testing.assert_allclose(got, central_differences(layout, pull), atol=1e-8 * size, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_at_one_place_have_no_slope_by_a_length(shape: Shape) -> None:
    columns = {name: np.full(4, 0.3) for name in "abc"}
    layout = Layout.of(process((2.0, [(shape, "ab", (0.5, 2.0))])), columns)
    np.testing.assert_array_equal(gradient(layout.scaled, np.ones((4, 4)), *layout[1:]), [2.0 * 16, 0, 0])


def test_the_slopes_are_those_of_the_docstring_s_formulas() -> None:
    pull, gap, length = np.array([[0.0, 0.5], [0.5, 0.0]]), 3.0, 2.0  # of the pair, counted once
    r = gap / length
    slopes: dict[Shape, float] = {
        "exponential": r**2 * math.exp(-r) / r,
        "matern32": r**2 * 3 * math.exp(-math.sqrt(3) * r),
        "squared_exponential": r**2 * math.exp(-(r**2) / 2),
    }
    for shape, slope in slopes.items():
        layout = Layout.of(process((1.5, [(shape, "a", (length,))])), {"a": np.array([1.0, 1.0 + gap])})
        assert gradient(layout.scaled, pull, *layout[1:])[1] == pytest.approx(1.5 * slope, rel=1e-12)
