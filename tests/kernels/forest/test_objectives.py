"""Each objective's transformation of the raw scores is LightGBM's, for ordinary scores and where it overflows."""

import itertools
import math

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest.forest import Forest, ForestError, UnsupportedForestError, load_forest
from tests.kernels.forest.boosters import Split, assert_same_bits, model_text, oracle, tree_text

_POSITIVE = (
    *(0.0, 5e-324, 1e-300, 1e-17, 2.0**-53, 1e-8, 0.1, 0.7, 1.0, 3.0, 17.5, 36.0, 36.7, 37.5, 40.0, 88.7, 89.0, 350.0),
    *(700.0, 709.0, 709.7, 709.9, 745.0, 745.2, 746.0, 800.0, 1e4, 1e16, 1e154, 1.4e154, 1e200, 1e308, math.inf),
)
SCORES = (*_POSITIVE, *(-score for score in _POSITIVE))
"""Raw scores about each place where an exponential, a logarithm or a square runs out of digits or of range."""

IDENTITIES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "")
ROOTS = ("regression sqrt", "regression_l1 sqrt", "huber sqrt", "fair sqrt", "quantile sqrt", "mape sqrt")
EXPONENTIALS = ("poisson", "gamma", "tweedie", "poisson sqrt", "gamma sqrt", "tweedie sqrt")
SIGMOIDS = tuple(f"binary sigmoid:{sigmoid}" for sigmoid in ("1", "0.7", "2.5", "1e-05", "1e+06", "3.14159"))
SINGLE = (*IDENTITIES, *ROOTS, *EXPONENTIALS, *SIGMOIDS, "cross_entropy", "cross_entropy_lambda")
MULTIPLE = ("multiclass num_class:3", *(f"multiclassova num_class:3 sigmoid:{sigmoid}" for sigmoid in ("1", "0.4")), "")


def table(scores: tuple[float, ...], feature: int) -> str:
    """A tree that answers `scores[i]` where the feature is i."""
    splits = [Split(feature, index + 0.5, 0) for index in range(len(scores) - 1)]
    return tree_text(splits, [*range(len(splits))], scores)


def check(text: str, X: NDArray[np.float64]) -> None:
    """Compare raw scores and converted ones by their bits."""
    forest = Forest.from_model_text(text)
    raw, expected = oracle(text, X), oracle(text, X, raw_score=False)
    for count in (1, 3, len(X)):
        assert_same_bits(forest.predict(X[:count], raw_score=True), raw[:count])
        got = forest.predict(X[:count])
        assert got.dtype == np.float64
        assert_same_bits(got, expected[:count])


@pytest.mark.parametrize("objective", SINGLE)
def test_scores_of_one_output(objective: str) -> None:
    check(model_text([table(SCORES, 0)], 1, objective=objective), np.arange(float(len(SCORES)))[:, None])


@pytest.mark.parametrize("objective", MULTIPLE)
def test_scores_of_three_outputs_together(objective: str) -> None:
    few = (0.0, 0.25, -1.0, 30.0, -40.0, 709.0, -745.5, 1e5, -1e308, math.inf, -math.inf)
    X = np.array([*itertools.product(range(len(few)), repeat=3)], dtype=np.float64)
    check(model_text([table(few, feature) for feature in range(3)], 3, 3, objective), X)


@pytest.mark.parametrize("objective", ["multiclass num_class:{}", "multiclassova num_class:{} sigmoid:1.5"])
@pytest.mark.parametrize("outputs", [2, 4, 17, 100])
def test_scores_of_many_outputs(objective: str, outputs: int) -> None:
    random = np.random.default_rng(outputs)
    trees = [table(tuple(random.normal(0, 20, 7)), 0) for _ in range(2 * outputs)]
    check(model_text(trees, 1, outputs, objective.format(outputs)), np.arange(7.0)[:, None])


@pytest.mark.parametrize("objective", SINGLE)
def test_a_random_forest_is_averaged_before_the_transformation(objective: str) -> None:
    scores = (0.3, -2.0, 40.0, 300.0, -1e308)
    trees = [table(scores[shift:] + scores[:shift], 0) for shift in (0, 1, 3)]
    check(model_text(trees, 1, objective=objective, average=True), np.arange(5.0)[:, None])


@pytest.mark.parametrize("objective", MULTIPLE)
def test_a_random_forest_of_three_outputs_is_averaged_by_its_iterations(objective: str) -> None:
    random = np.random.default_rng(5)
    trees = [table(tuple(random.normal(0, 9, 6)), 0) for _ in range(7 * 3)]
    check(model_text(trees, 1, 3, objective, average=True), np.arange(6.0)[:, None])


def test_the_mean_is_a_quotient() -> None:
    # 3 * (1 / 5) is not 3 / 5: a mean is divided by the number of trees, not multiplied by its reciprocal.
    for count in (5, 10, 17, 103):
        text = model_text([table((1.0,), 0)] * 3 + [table((0.0,), 0)] * (count - 3), 1, average=True)
        assert_same_bits(Forest.from_model_text(text).predict(np.ones((2, 1))), np.full(2, 3 / count))
        assert_same_bits(oracle(text, np.ones((2, 1)), raw_score=False), np.full(2, 3 / count))


@given(
    objective=st.sampled_from(SINGLE)
    | st.floats(1e-6, 1e6).map(lambda sigmoid: f"binary sigmoid:{sigmoid:.6g}")
    | st.floats(1e-3, 1e3).map(lambda sigmoid: f"binary sigmoid:{sigmoid!r}"),
    scores=st.lists(st.floats(-800, 800) | st.floats(allow_nan=False), min_size=1, max_size=20),
    average=st.booleans(),
)
def test_any_score(objective: str, scores: list[float], average: bool) -> None:
    trees = [table(tuple(scores), 0), table((-0.25, 0.75), 0)]
    check(model_text(trees, 1, objective=objective, average=average), np.arange(float(len(scores)))[:, None])


@given(
    objective=st.sampled_from(["multiclass num_class:4", "multiclassova num_class:4 sigmoid:0.8"]),
    scores=st.lists(st.floats(-50, 50) | st.floats(-800, 800), min_size=4, max_size=4),
)
def test_any_scores_of_four_outputs(objective: str, scores: list[float]) -> None:
    check(model_text([table((score,), 0) for score in scores], 1, 4, objective), np.ones((3, 1)))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        *(("mse", "regression"), ("mean_absolute_error", "regression_l1"), ("l2_root", "regression")),
        *(("xentropy", "cross_entropy"), ("xentlambda", "cross_entropy_lambda"), ("xendcg", "rank_xendcg")),
    ],
)
def test_an_objective_by_another_name_is_left_to_lightgbm(alias: str, name: str) -> None:
    # LightGBM understands them, and writes none.
    X = np.arange(float(len(SCORES)))[:, None]
    other, own = (model_text([table(SCORES, 0)], 1, objective=objective) for objective in (alias, name))
    with pytest.raises(UnsupportedForestError, match=alias):
        Forest.from_model_text(other)
    assert_same_bits(load_forest(other).predict(X), oracle(own, X, raw_score=False))


@pytest.mark.parametrize("objective", ["custom", "none", "null", "na", ""])
@pytest.mark.parametrize("outputs", [1, 3])
def test_scores_of_a_custom_objective_are_raw(objective: str, outputs: int) -> None:
    X = np.arange(float(len(SCORES)))[:, None]
    text = model_text([table(SCORES, 0)] * outputs, 1, outputs, objective)
    forest = Forest.from_model_text(text)
    assert forest.objective == ""
    assert_same_bits(forest.predict(X), oracle(text, X, raw_score=False))
    assert_same_bits(forest.predict(X), forest.predict(X, raw_score=True))


@pytest.mark.parametrize("objective", ["unheard_of", "binary", "binary sigmoid:0", "binary sigmoid:-1", "multiclass"])
def test_an_objective_that_lightgbm_refuses_is_refused(objective: str) -> None:
    text = model_text([table((1.0, 2.0), 0)], 1, objective=objective)
    with pytest.raises(lgb.basic.LightGBMError):
        lgb.Booster(model_str=text)
    with pytest.raises(ForestError):
        load_forest(text)
