"""The mean of a Gaussian process is what numpy computes in float64, within what float32 allows."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.cpu.backend import CpuBackend
from kernels.cpu.references import exponential
from kernels.plan.gaussian_process import FARTHEST, SHAPES, TILE_ROWS, Shape, pack_expansion
from kernels.plan.plan import Factor, GaussianProcess, Term
from tests.kernels.plan.by_hand import step_by_hand
from tests.kernels.plan.plans import alone

Columns = dict[str, NDArray[np.float64]]

SHARE = 2e-6
"""Of the sum of all |variance * weight|: how far the mean may be from that of float64 while scaled coordinates are
below ten. A coordinate is off by 1e-6 then, a covariance by as much, and sums of 256 round by less."""


def columns(count: int, names: str = "abc", seed: int = 1) -> Columns:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=count) for name in (*names, "weights")}


def one(shape: Shape, inputs: str = "a", lengths: tuple[float, ...] = (1.0,)) -> Factor:
    return Factor(shape=shape, inputs=tuple(inputs), lengths=lengths)


def process(*factors: Factor, variance: float = 1.0, constant: float = 0.0) -> GaussianProcess:
    return GaussianProcess(output="mean", terms=(Term(variance=variance, factors=factors),), constant=constant)


def means(step: GaussianProcess, stored: Columns, rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return CpuBackend().transform(alone(step, stored), rows)[:, 0]


def assert_near(step: GaussianProcess, stored: Columns, rows: NDArray[np.float64]) -> None:
    names = step.operand_names()
    expected = np.array([step_by_hand(step, stored, dict(zip(names, row, strict=True)))["mean"] for row in rows])
    most = sum(term.variance for term in step.terms) * np.abs(stored["weights"]).sum()
    atol = SHARE * most + 1e-7 * step.constant * abs(stored["weights"].sum())
    np.testing.assert_allclose(means(step, stored, rows), expected, atol=atol, rtol=1e-6)


ROWS = np.random.default_rng(2).normal(size=(20, 3))


@pytest.mark.parametrize("count", [1, 2, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_numpy_s_whatever_the_number_of_stored_rows(shape: Shape, count: int) -> None:
    for inputs, lengths in (("a", (0.4,)), ("ab", (0.5, 2.0)), ("abc", (1.0, 0.3, 5.0))):
        step = process(one(shape, inputs, lengths), variance=0.7)
        assert_near(step, columns(count), ROWS[:, : len(inputs)])


@pytest.mark.parametrize("width", range(1, 9))
def test_a_factor_takes_any_number_of_columns(width: int) -> None:
    names = "abcdefgh"[:width]
    rows = np.random.default_rng(3).normal(size=(5, width))
    assert_near(process(one("matern32", names, (2.0,) * width)), columns(300, names), rows)


@pytest.mark.parametrize("first", SHAPES)
@pytest.mark.parametrize("second", SHAPES)
def test_a_term_is_the_product_of_its_factors(first: Shape, second: Shape) -> None:
    step = process(one(first, "ab", (1.0, 2.0)), one(second, "c", (0.5,)), one(first, "b", (3.0,)), variance=2.5)
    # Operands are in order of first use: a, b, c.
    assert_near(step, columns(600), ROWS)


@pytest.mark.parametrize("constant", [0.0, 1.0, 25.0])
def test_terms_and_the_constant_are_summed(constant: float) -> None:
    terms = (
        Term(variance=0.5, factors=(one("matern32", "ba", (1.0, 2.0)), one("exponential", "c"))),
        Term(variance=3.0, factors=(one("squared_exponential", "c"),)),
        Term(variance=0.01, factors=(one("exponential", "abc", (1.0, 1.0, 1.0)),)),
    )
    assert_near(GaussianProcess(output="mean", terms=terms, constant=constant), columns(700), ROWS)


def test_as_many_terms_and_columns_as_there_can_be() -> None:
    names = "abcdefgh"
    terms = tuple(Term(variance=1.0, factors=(one(SHAPES[place % 3], names, (4.0,) * 8),)) for place in range(8))
    rows = np.random.default_rng(3).normal(size=(5, 8))
    assert_near(GaussianProcess(output="mean", terms=terms), columns(300, names), rows)


def test_at_a_stored_row_the_covariance_is_the_variance() -> None:
    stored = {"a": np.array([3.25]), "weights": np.array([2.0])}
    for shape in SHAPES:
        assert means(process(one(shape), variance=0.75), stored, np.array([[3.25]]))[0] == 1.5


def test_coordinates_far_from_zero_lose_nothing() -> None:
    stored, rows = columns(300), ROWS[:, :1]
    moved = stored | {"a": stored["a"] + 1e6}
    step = process(one("exponential"))
    np.testing.assert_allclose(means(step, moved, rows + 1e6), means(step, stored, rows), atol=1e-4)


def test_the_exponential_of_float32_is_as_exact_as_it_says() -> None:
    x = np.concatenate(
        [
            np.linspace(-87, 0, 300_001),
            -np.geomspace(1e-30, 87, 100_001),
            [-0.0, -87],
            -np.arange(126) * math.log(2) / 2,
        ]
    ).astype(np.float32)
    got = np.array([exponential(value) for value in x])
    exact = np.exp(x.astype(np.float64))
    assert np.abs(got / exact - 1).max() < 4e-7
    assert exponential(np.float32(0.0)) == 1.0


@pytest.mark.parametrize("x", [-87.0, -87.01, -88.0, -104.0, -1e3, -1e9, -3e38])
def test_the_exponential_stays_at_its_least_below(x: float) -> None:
    assert exponential(np.float32(x)) == exponential(np.float32(-87.0)) > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_finite_gives_nan_to_its_row_alone(bad: float, place: int) -> None:
    step, stored = process(one("matern32", "ab", (1.0, 1.0)), one("exponential", "c")), columns(300)
    rows = ROWS[:3].copy()
    rows[1, place] = bad
    got = means(step, stored, rows)
    np.testing.assert_array_equal(np.isnan(got), [False, True, False])
    np.testing.assert_array_equal(got[[0, 2]], means(step, stored, ROWS[[0, 2]]))


@pytest.mark.parametrize("far", [1e3, 1e5, float(FARTHEST), 1e30, 1e300, -1e300, 1.7e308])
@pytest.mark.parametrize("factors", [1, 3, 4, 8, 40])
@pytest.mark.parametrize("shape", SHAPES)
def test_far_from_all_stored_rows_the_constant_is_left(shape: Shape, factors: int, far: float) -> None:
    stored = columns(300, "a")
    step = process(*[one(shape, "a", (0.5,))] * factors, constant=2.0)
    got = means(step, stored, np.array([[far]]))[0]
    assert got == pytest.approx(2 * stored["weights"].sum(), rel=1e-6)
    assert abs(means(process(*[one(shape)] * factors), stored, np.array([[far]]))[0]) < 1e-20


def test_a_length_can_be_so_long_that_all_rows_are_near() -> None:
    stored = columns(300, "a")
    got = means(process(one("matern32", "a", (1e300,))), stored, np.array([[5.0]]))[0]
    assert got == pytest.approx(stored["weights"].sum(), rel=1e-5)


def test_arrays_are_read_only_and_do_not_follow_the_table() -> None:
    table = np.asfortranarray(np.random.default_rng(5).normal(size=(70, 2)))
    stored = dict(zip(("a", "weights"), table.T, strict=True))
    arrays = pack_expansion(process(one("exponential")), stored, {"a": 0}, {"mean": 0})
    before = [array.copy() for array in arrays]
    table[:] = 0.0
    for array, then in zip(arrays, before, strict=True):
        assert not array.flags.writeable
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, then)
