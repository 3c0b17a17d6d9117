"""A Gaussian process fitted in float32, against the textbook in float64, and scikit-learn."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from app.training import gaussian_process
from app.training.gaussian_process import Posterior, fit_covariance, solve
from kernels.plan.plan import Factor, GaussianProcess, Term

Array = NDArray[np.float64]
ROWS = 400


@pytest.fixture(scope="module")
def columns() -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {
        "x": random.uniform(0, 5, ROWS),
        "y": np.round(random.uniform(0, 5, ROWS), 1),
        "z": random.normal(size=ROWS),
    }


@pytest.fixture(scope="module")
def target(columns: dict[str, Array]) -> Array:
    noise = np.random.default_rng(4).normal(0, 0.3, ROWS)
    return 3 + np.sin(columns["x"]) * np.cos(columns["y"]) + 0.5 * columns["z"] + noise


STEP = GaussianProcess(
    output="g",
    terms=(
        Term(variance=1.2, factors=(Factor(shape="matern32", inputs=("x", "y"), lengths=(1.5, 1.1)),)),
        Term(
            variance=0.4,
            factors=(
                Factor(shape="squared_exponential", inputs=("z",), lengths=(2.0,)),
                Factor(shape="exponential", inputs=("x", "z"), lengths=(3.0, 1.0)),
            ),
        ),
    ),
    constant=4.0,
    noise=0.09,
)


def covariance(step: GaussianProcess, columns: dict[str, Array]) -> Array:
    """float64[N, N] by the definitions alone, noise included."""
    total = np.full((ROWS, ROWS), step.constant) + step.noise * np.eye(ROWS)
    for term in step.terms:
        product = np.full((ROWS, ROWS), term.variance)
        for factor in term.factors:
            r = np.sqrt(
                sum(
                    (np.subtract.outer(columns[name], columns[name]) / length) ** 2
                    for name, length in zip(factor.inputs, factor.lengths, strict=True)
                )
            )
            product *= {
                "exponential": np.exp(-r),
                "matern32": (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r),
                "squared_exponential": np.exp(-(r**2) / 2),
            }[factor.shape]
        total += product
    return total


@pytest.fixture(scope="module")
def posterior(columns: dict[str, Array], target: Array) -> Posterior:
    return solve(STEP, columns, target)


def test_the_weights_solve_the_system(posterior: Posterior, columns: dict[str, Array], target: Array) -> None:
    np.testing.assert_allclose(covariance(STEP, columns) @ posterior.weights, target, rtol=0, atol=1e-4)


def test_leave_one_out_is_what_is_predicted_without_the_row(
    posterior: Posterior, columns: dict[str, Array], target: Array
) -> None:
    K = covariance(STEP, columns)
    got = posterior.leave_one_out()
    for row in range(0, ROWS, 37):
        rest = np.delete(np.arange(ROWS), row)
        expected = K[row, rest] @ np.linalg.solve(K[np.ix_(rest, rest)], target[rest])
        assert got[row] == pytest.approx(expected, abs=2e-4)


def test_leave_group_out_is_what_is_predicted_without_the_group(
    posterior: Posterior, columns: dict[str, Array], target: Array
) -> None:
    K = covariance(STEP, columns)
    groups = (columns["x"] * 2).astype(np.int32)
    got = posterior.leave_group_out(groups)
    for group in np.unique(groups):
        inside, rest = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
        expected = K[np.ix_(inside, rest)] @ np.linalg.solve(K[np.ix_(rest, rest)], target[rest])
        np.testing.assert_allclose(got[inside], expected, rtol=0, atol=1e-3)


def test_groups_of_one_are_leaving_one_out(posterior: Posterior) -> None:
    groups = np.arange(ROWS, dtype=np.int32)
    np.testing.assert_allclose(posterior.leave_group_out(groups), posterior.leave_one_out(), rtol=0, atol=1e-4)


def test_the_likelihood_and_its_gradient_are_the_textbooks(columns: dict[str, Array], target: Array) -> None:
    blocks = [np.arange(start, min(start + 150, ROWS)) for start in range(0, ROWS, 150)]
    logarithms = np.log(gaussian_process._parameters(STEP))
    with ThreadPoolExecutor(2) as pool:
        likelihood = gaussian_process._Likelihood(STEP, columns, target, blocks, pool)
        value, gradient = likelihood(logarithms)
        differences = np.array(
            [
                (likelihood(logarithms + shift)[0] - likelihood(logarithms - shift)[0]) / 2e-5
                for shift in 1e-5 * np.eye(len(logarithms))
            ]
        )
    expected = 0.0
    for rows in blocks:
        K = covariance(STEP, columns)[np.ix_(rows, rows)]
        expected += 0.5 * target[rows] @ np.linalg.solve(K, target[rows])
        expected += 0.5 * np.linalg.slogdet(2 * np.pi * K)[1]
    assert value == pytest.approx(expected / ROWS, rel=1e-12)
    np.testing.assert_allclose(gradient, differences, rtol=0, atol=1e-8)


def test_one_block_finds_what_scikit_learn_finds(columns: dict[str, Array], target: Array) -> None:
    rows = slice(0, gaussian_process.BLOCK)
    part, y = {name: values[rows] for name, values in columns.items()}, target[rows]
    factor = Factor(shape="matern32", inputs=("x", "y"), lengths=(1.0, 1.0))
    step = GaussianProcess(output="g", terms=(Term(variance=1.0, factors=(factor,)),), constant=1.0, noise=0.1)
    ours = fit_covariance(step, part, y)
    kernel = ConstantKernel(1.0) + ConstantKernel(1.0) * Matern([1.0, 1.0], nu=1.5) + WhiteKernel(0.1)
    other = GaussianProcessRegressor(kernel).fit(np.column_stack([part["x"], part["y"]]), y)
    theirs = np.exp(other.kernel_.theta)
    variance, lengths = ours.terms[0].variance, ours.terms[0].factors[0].lengths
    np.testing.assert_allclose([variance, *lengths, ours.noise], [theirs[1], *theirs[2:4], theirs[4]], rtol=0.05)


def test_lengths_that_are_not_given_start_at_the_standard_deviations(columns: dict[str, Array], target: Array) -> None:
    open_step = GaussianProcess(
        output="g", terms=(Term(variance=1.0, factors=(Factor(shape="exponential", inputs=("x", "z")),)),)
    )
    given = (float(columns["x"].std()), float(columns["z"].std()))
    factor = Factor(shape="exponential", inputs=("x", "z"), lengths=given)
    stated = msgspec.structs.replace(open_step, terms=(Term(variance=1.0, factors=(factor,)),))
    assert fit_covariance(open_step, columns, target) == fit_covariance(stated, columns, target)


def test_fitting_twice_gives_the_same(columns: dict[str, Array], target: Array) -> None:
    assert fit_covariance(STEP, columns, target) == fit_covariance(STEP, columns, target)
    np.testing.assert_array_equal(solve(STEP, columns, target).weights, solve(STEP, columns, target).weights)


def test_a_constant_column_and_a_constant_target_can_be_fitted(columns: dict[str, Array]) -> None:
    flat = columns | {"z": np.ones(ROWS)}
    fitted = fit_covariance(STEP, flat, np.full(ROWS, 2.0))
    assert np.isfinite(solve(fitted, flat, np.full(ROWS, 2.0)).leave_one_out()).all()


def test_too_little_noise_for_float32_says_what_to_do() -> None:
    same = {"x": np.zeros(50)}
    factor = Factor(shape="squared_exponential", inputs=("x",), lengths=(1.0,))
    step = GaussianProcess(output="g", terms=(Term(variance=1.0, factors=(factor,)),), noise=0.0)
    with pytest.raises(ValueError, match=r"'g'.*raise the noise"):
        solve(step, same, np.arange(50.0))
