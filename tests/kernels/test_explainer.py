"""The engine explains its raw scores by raw features or by the forest's, and says what that costs."""

import math

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.engine import Engine, FeatureGroup
from kernels.forest.explanation.explainer import ExplanationCost, KernelExplainer
from kernels.forest.forest import Forest, load_forest
from kernels.plan.plan import Input, Plan, Product, Ratio
from tests.kernels.forest.boosters import without
from tests.kernels.plan.plans import EVERY_STEP, california

PLAN = Plan(
    inputs=(Input(name="a"), Input(name="b")),
    steps=(Ratio(output="a per b", numerator="a", denominator="b"), Product(output="area", left="a", right="b")),
    outputs=("a", "a per b", "area"),
)
ROWS = np.random.default_rng(5).uniform(1, 9, (40, 2))


def booster(columns: int, **changes: object) -> lgb.Booster:
    random = np.random.default_rng(6)
    X = random.uniform(0, 9, (300, columns))
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, **changes}
    target = X.sum(axis=1) + X[:, 0] * X[:, -1]
    if "num_class" in changes:
        target = random.integers(0, 3, 300)
    return lgb.train(settings, lgb.Dataset(X, target, params=settings), 5)


def contributions(booster: lgb.Booster, X: NDArray[np.floating]) -> NDArray[np.float64]:
    """LightGBM's: float64[B, K, F + 1]."""
    found = np.asarray(booster.predict(X, pred_contrib=True, num_threads=1))
    return found.reshape(len(X), booster.num_model_per_iteration(), -1)


@pytest.fixture(scope="module")
def trained() -> lgb.Booster:
    return booster(3)


@pytest.fixture(scope="module")
def engine(trained: lgb.Booster) -> Engine:
    return Engine(Forest.from_booster(trained), PLAN, device="cpu")


def test_model_space_is_the_forest_s_features(engine: Engine, trained: lgb.Booster) -> None:
    found = engine.explain(ROWS, "model")
    expected = contributions(trained, engine.transform(ROWS))
    np.testing.assert_allclose(found.contributions, expected[:, :, :-1], atol=1e-9)
    np.testing.assert_allclose(found.base, expected[0, :, -1], atol=1e-9)
    assert found.groups == tuple(FeatureGroup(name, (name,)) for name in ("a", "a per b", "area"))


def test_raw_space_is_the_plan_s_inputs_with_the_same_sum(engine: Engine) -> None:
    found, model = engine.explain(ROWS), engine.explain(ROWS, "model")
    own, *derived = model.contributions[:, 0].T
    assert found.groups == (FeatureGroup("a", ("a",)), FeatureGroup("b", ("b",)))
    np.testing.assert_allclose(found.contributions[:, 0, 0], own + sum(derived) / 2, atol=1e-12)
    np.testing.assert_allclose(found.contributions[:, 0, 1], sum(derived) / 2, atol=1e-12)
    raw = engine.predict(ROWS, raw_score=True)
    np.testing.assert_allclose(found.base + found.contributions.sum(axis=-1)[:, 0], raw, rtol=0, atol=1e-9)


def test_coordinates_are_one_group() -> None:
    engine = Engine(Forest.from_booster(booster(len(EVERY_STEP.outputs))), EVERY_STEP, device="cpu")
    rows = california(30)
    found = engine.explain(rows)
    assert [group.name for group in found.groups] == ["place", "rooms", "people"]
    assert found.groups[0].features == ("lat", "lon")
    total = found.base + found.contributions.sum(axis=-1)
    np.testing.assert_allclose(total[:, 0], engine.predict(rows, raw_score=True), rtol=0, atol=1e-9)


def test_without_a_plan_both_spaces_are_the_forest_s(trained: lgb.Booster) -> None:
    engine = Engine(Forest.from_booster(trained), device="cpu")
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    raw, model = engine.explain(X), engine.explain(X, "model")
    np.testing.assert_array_equal(raw.contributions, model.contributions)
    assert raw.groups == model.groups
    assert [group.name for group in raw.groups] == ["Column_0", "Column_1", "Column_2"]


def test_each_class_is_explained() -> None:
    trained = booster(4, objective="multiclass", num_class=3)
    engine = Engine(Forest.from_booster(trained), device="cpu")
    X = np.random.default_rng(1).uniform(0, 9, (20, 4))
    found, expected = engine.explain(X), contributions(trained, X)
    assert found.contributions.shape == (20, 3, 4)
    np.testing.assert_allclose(found.contributions, expected[:, :, :-1], atol=1e-9)
    np.testing.assert_allclose(found.base, expected[0, :, -1], atol=1e-9)


def test_only_iterations_up_to_the_best_are_explained(trained: lgb.Booster) -> None:
    trained.best_iteration = 3
    try:
        engine = Engine(Forest.from_booster(trained), device="cpu")
        X = np.random.default_rng(1).uniform(0, 9, (20, 3))
        expected = contributions(trained, X)
        np.testing.assert_allclose(engine.explain(X).contributions, expected[:, :, :-1], atol=1e-9)
        assert engine.leaves(X).shape == (20, 3)
    finally:
        trained.best_iteration = 0


def test_leaves_have_lightgbm_s_numbers(engine: Engine, trained: lgb.Booster) -> None:
    found = engine.leaves(ROWS)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, trained.predict(engine.transform(ROWS), pred_leaf=True, num_threads=1))


@pytest.mark.parametrize("call", ["explain", "leaves"])
def test_another_number_of_columns_is_refused(engine: Engine, trained: lgb.Booster, call: str) -> None:
    for one in (engine, Engine(Forest.from_booster(trained), device="cpu")):
        with pytest.raises(ValueError, match="expected an array of shape"):
            getattr(one, call)(np.zeros((2, 7)))


def test_a_random_forest_is_explained_by_sums_as_its_raw_score_is() -> None:
    trained = booster(3, boosting="rf", bagging_freq=1, bagging_fraction=0.7)
    engine = Engine(Forest.from_booster(trained), device="cpu")
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    np.testing.assert_allclose(engine.explain(X).contributions, contributions(trained, X)[:, :, :-1], atol=1e-9)


def test_the_cost_is_infinite_until_it_is_measured(trained: lgb.Booster) -> None:
    engine = Engine(Forest.from_booster(trained), device="cpu")
    assert engine.explain_cost(1) == math.inf
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    engine.warm_up(X)
    assert 0 < engine.explain_cost(1) < engine.explain_cost(1000) < math.inf


def test_the_first_explanation_costs_what_it_prepares(trained: lgb.Booster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelExplainer, "measure", lambda *_: ExplanationCost(alone=1e-9, each=1e-9, first=1000.0))
    engine = Engine(Forest.from_booster(trained), device="cpu")
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    engine.warm_up(X)
    assert engine.explain_cost(1) > 1000
    engine.explain(X)
    # The single row is measured again, now that all trees are prepared.
    assert 1e-6 < engine.explain_cost(1) < 1000


def test_long_batches_are_divided_by_the_time_that_rows_take(trained: lgb.Booster) -> None:
    engine = Engine(Forest.from_booster(trained), device="cpu")
    assert engine.explain_chunk(100, 0.001) == 100
    engine.warm_up(np.ones((4, 3)))
    engine.explain(np.ones((1, 3)))
    assert engine.explain_chunk(10**9, engine.explain_cost(100)) == pytest.approx(100, abs=1)
    assert engine.explain_chunk(7, engine.explain_cost(100)) == 7
    assert engine.explain_chunk(7, 0) == 1


def test_a_model_without_counts_says_so(trained: lgb.Booster) -> None:
    engine = Engine(Forest.from_model_text(without(trained.model_to_string(), "leaf_count=")), device="cpu")
    assert "training rows" in str(engine.explainable)
    with pytest.raises(ValueError, match="training rows"):
        engine.explain(np.ones((1, 3)))
    engine.warm_up(np.ones((4, 3)))
    assert engine.explain_cost(1) == math.inf


def test_linear_trees_are_not_explained_but_have_leaves() -> None:
    trained = booster(3, linear_tree=True)
    engine = Engine(load_forest(trained.model_to_string()), device="cpu")
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    np.testing.assert_array_equal(engine.leaves(X), trained.predict(X, pred_leaf=True, num_threads=1))
    assert "linear trees" in str(engine.explainable)
    engine.warm_up(X)
    assert engine.explain_cost(1) == math.inf


def test_other_models_that_lightgbm_evaluates_it_explains() -> None:
    trained = booster(3, objective="multiclass", num_class=3)
    text = trained.model_to_string().replace("\nend of parameters", "[pred_early_stop: 1]\n\nend of parameters")
    engine = Engine(load_forest(text), device="cpu")
    assert engine.status().forest.evaluator == "lightgbm"
    X = np.random.default_rng(1).uniform(0, 9, (20, 3))
    found, expected = engine.explain(X), contributions(trained, X)
    np.testing.assert_allclose(found.contributions, expected[:, :, :-1], atol=1e-12)
    np.testing.assert_allclose(found.base, expected[0, :, -1], atol=1e-12)
    assert engine.explain(X[:0]).contributions.shape == (0, 3, 3)
    engine.warm_up(X)
    assert 0 < engine.explain_cost(1) < engine.explain_cost(100) < math.inf
