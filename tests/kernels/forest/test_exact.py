"""A forest gives the raw scores of the booster it was taken from bit for bit, however that was trained."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.forest.forest import Forest, ForestError
from kernels.forest.layout import lay_out
from kernels.forest.model_text import read_model_text
from kernels.forest.status import Kernel
from tests.kernels.forest.boosters import KERNELS, ZERO, assert_same_bits, hard_rows, oracle

ROWS = 500
QUIET = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 7}
RANDOM_FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
SPARSE = {"min_data_in_bin": 1, "min_data_in_leaf": 1, "max_bin": 500, "min_data_per_group": 1, "cat_smooth": 0.1}
MANY_CATEGORIES = {**SPARSE, "max_cat_to_onehot": 1, "max_cat_threshold": 200, "cat_l2": 0.0}
CLASSES = {"objective": "multiclass", "num_class": 3}

KINDS: dict[str, dict[str, Any]] = {
    **{name: {"objective": name} for name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape")},
    **{name: {"objective": name} for name in ("poisson", "gamma", "tweedie", "cross_entropy", "cross_entropy_lambda")},
    **{name: {"objective": name, "num_class": 3} for name in ("multiclass", "multiclassova")},
    **{name: {"objective": name} for name in ("lambdarank", "rank_xendcg", "binary")},
    "square roots": {"reg_sqrt": True},
    "steep sigmoid": {"objective": "binary", "sigmoid": 2.5},
    "steep sigmoids": {"objective": "multiclassova", "num_class": 3, "sigmoid": 0.3},
    "a class that never occurs": {"objective": "multiclass", "num_class": 5},
    "one of one that never occurs": {"objective": "multiclassova", "num_class": 5},
    "dart": {"boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.0},
    "random forest": RANDOM_FOREST,
    "random forest of classes": {**RANDOM_FOREST, **CLASSES},
    "random forest of probabilities": {**RANDOM_FOREST, "objective": "binary"},
    "goss": {"data_sample_strategy": "goss", "learning_rate": 0.5},
    "goss of old": {"boosting": "goss", "learning_rate": 0.5},
    "extra trees": {"extra_trees": True},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 0, 0], "monotone_constraints_method": "advanced"},
    "smoothed": {"path_smooth": 3.0},
    "quantised gradients": {"use_quantized_grad": True},
    "zero as missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "few bins": {"max_bin": 4},
    "many bins": {"max_bin": 5000, "min_data_in_bin": 1, "num_leaves": 200, "learning_rate": 0.9},
    "stumps": {"num_leaves": 2},
    "deep": {"num_leaves": 400, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0},
    "single leaves": {"lambda_l1": 1e9},
    "no average": {"boost_from_average": False},
    "one against the rest": {**SPARSE, "max_cat_to_onehot": 400},
    "many categories": MANY_CATEGORIES,
    "many categories, no missing": {**MANY_CATEGORIES, "use_missing": False},
    "many categories, zero as missing": {**MANY_CATEGORIES, "zero_as_missing": True},
    "categories of classes": {**MANY_CATEGORIES, **CLASSES},
}


def table(rows: int = ROWS) -> NDArray[np.float64]:
    """float64[rows, 6]: numbers, some of them missing; many zeros; near zero; 300 categories; 3; one number only."""
    random = np.random.default_rng(5)
    X = random.normal(size=(rows, 6))
    X[random.random(rows) < 0.2, 0] = np.nan
    X[random.random(rows) < 0.6, 1] = 0.0
    X[:, 2] = random.choice([0.0, -0.0, 1e-36, -1e-36, ZERO, -ZERO, 2e-35, -2e-35, 1.0, -1.0], rows)
    X[:, 3] = random.permutation(np.arange(rows) % 300)
    X[:, 4] = random.integers(0, 3, rows)
    X[random.random(rows) < 0.1, 4] = np.nan
    X[:, 5] = 4.0
    return X


def dataset(objective: Any = "regression", rows: int = ROWS, **parameters: Any) -> lgb.Dataset:
    X = table(rows)
    score = np.nan_to_num(X[:, 0]) + X[:, 1] + np.sign(X[:, 2]) + np.sin(X[:, 3]) + np.nan_to_num(X[:, 4])
    graded = np.digitize(score, [-0.5, 1.0])
    target = {
        **dict.fromkeys(("poisson", "gamma", "tweedie"), np.exp(score)),
        **dict.fromkeys(("cross_entropy", "cross_entropy_lambda"), 1 / (1 + np.exp(-score))),
        **dict.fromkeys(("multiclass", "multiclassova", "lambdarank", "rank_xendcg"), graded),
        "binary": score > 0.5,
    }.get(objective, score)
    group = [rows // 5] * 5 if objective in ("lambdarank", "rank_xendcg") else None
    settings = {"min_data_per_group": 1, **QUIET, **parameters}
    return lgb.Dataset(X, target, group=group, categorical_feature=[3, 4], params=settings, free_raw_data=False)


def train(rounds: int = 10, rows: int = ROWS, **parameters: Any) -> lgb.Booster:
    settings = {"objective": "regression", "min_data_in_leaf": 3, "num_leaves": 15, **QUIET, **parameters}
    return lgb.train(settings, dataset(rows=rows, **settings), num_boost_round=rounds)


def check(booster: lgb.Booster) -> Forest:
    text = booster.model_to_string()
    forest = Forest.from_booster(booster)
    rows = np.concatenate([table(200), hard_rows(text, 400)])
    raw, converted = (booster.predict(rows, raw_score=raw_score, num_threads=1) for raw_score in (True, False))
    for count in (1, 2, 70, len(rows)):
        assert_same_bits(forest.predict(rows[-count:], raw_score=True), np.asarray(raw)[-count:])
        assert_same_bits(forest.predict(rows[-count:]), np.asarray(converted)[-count:])
    layout = lay_out(read_model_text(text))
    for kernel in KERNELS:
        assert_same_bits(Forest(layout, kernel).predict(rows, raw_score=True), np.asarray(raw))
    return forest


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_booster(kind: str) -> None:
    check(train(**KINDS[kind]))


def decisions(booster: lgb.Booster) -> set[int]:
    lines = booster.model_to_string().split("\n")
    return {int(bits) for line in lines if line.startswith("decision_type=") for bits in line.split("=")[1].split()}


@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        ("regression", {0b1000, 0b1010, 0b0010, 0b1001}),
        ("zero as missing", {0b0100, 0b0110, 0b0001}),
        ("no missing", {0b0010, 0b0001}),
    ],
)
def test_the_kinds_have_the_decisions_that_they_are_here_for(kind: str, bits: set[int]) -> None:
    assert bits <= decisions(train(**KINDS[kind]))


def words(booster: lgb.Booster) -> list[int]:
    """The words of each set of categories."""
    lines = booster.model_to_string().split("\n")
    bounds = [[int(bound) for bound in line.split("=")[1].split()] for line in lines if line.startswith("cat_bound")]
    return [int(length) for of_tree in bounds for length in np.diff(of_tree)]


@pytest.mark.parametrize("kind", ["one against the rest", "many categories"])
def test_the_kinds_have_categories_beyond_a_byte(kind: str) -> None:
    assert max(words(train(**KINDS[kind]))) > 8


@pytest.mark.parametrize(("leaves", "rounds"), [(3, 30), (64, 8), (65, 8), (1000, 3), (1500, 2)])
def test_trees_of_each_size(leaves: int, rounds: int) -> None:
    booster = train(rounds, rows=2000, num_leaves=leaves, min_data_in_leaf=1, min_sum_hessian_in_leaf=0.0)
    assert max(tree["num_leaves"] for tree in booster.dump_model()["tree_info"]) == leaves
    check(booster)


@pytest.mark.parametrize("kernel", KERNELS)
def test_thousands_of_thresholds_in_one_feature(kernel: Kernel | None) -> None:
    X = np.random.default_rng(8).normal(size=(3000, 1))
    settings = {**QUIET, "max_bin": 10_000, "min_data_in_bin": 1, "min_data_in_leaf": 1, "num_leaves": 1500}
    data = lgb.Dataset(X, np.random.default_rng(9).normal(size=3000), params=settings)
    booster = lgb.train({**settings, "objective": "regression"}, data, num_boost_round=3)
    text = booster.model_to_string()
    thresholds = {value for line in text.split("\n") if line.startswith("threshold=") for value in line[10:].split()}
    assert len(thresholds) > 1500
    rows = np.concatenate([hard_rows(text, 1000), X])
    assert_same_bits(Forest.from_booster(booster, kernel).predict(rows, raw_score=True), oracle(text, rows))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_custom_objective(outputs: int) -> None:
    def squared(scores: NDArray[np.float64], data: lgb.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        label = np.asarray(data.get_label())
        return scores - (label if outputs == 1 else np.stack([label, -label, label**2], axis=1)), np.ones_like(scores)

    settings = {**QUIET, "objective": squared, "num_class": outputs, "min_data_in_leaf": 3}
    forest = check(lgb.train(settings, dataset(), num_boost_round=6))
    assert (forest.objective, forest.n_outputs) == ("", outputs)


@pytest.mark.parametrize("best", [1, 4, 10])
@pytest.mark.parametrize("kind", ["regression", "multiclass", "random forest", "dart"])
def test_trees_after_the_best_iteration_are_left_out(kind: str, best: int) -> None:
    booster = train(**KINDS[kind])
    booster.best_iteration = best
    forest = check(booster)
    assert forest.n_trees == best * forest.n_outputs


def test_training_that_went_on_with_other_settings() -> None:
    # The same feature is then split by number and by category, and its missing values are of several types.
    booster = train(rounds=4)
    for parameters in ({"zero_as_missing": True}, {"use_missing": False}, {"num_leaves": 90, "min_data_in_leaf": 1}):
        settings = {**QUIET, "objective": "regression", **parameters}
        categories = [2, 4] if "use_missing" in parameters else [3]
        X = np.where(table() < 0, 0, table()) if 2 in categories else table()
        data = lgb.Dataset(X, np.cos(X[:, 3]) + X[:, 1], categorical_feature=categories, params=settings)
        booster = lgb.train(settings, data, num_boost_round=4, init_model=booster)
    assert {0b0001, 0b0010, 0b0100, 0b0110, 0b1000, 0b1010} <= decisions(booster)
    check(booster)


@pytest.mark.parametrize("target", [0.0, 2.5, -3e38, 1e-40])
def test_a_constant_model(target: float) -> None:
    data = lgb.Dataset(table(), np.full(ROWS, target), params=QUIET)
    check(lgb.train({**QUIET, "objective": "regression"}, data, num_boost_round=3))


def refusal() -> type[Exception]:
    from kernels.forest.forest import UnsupportedForestError

    assert issubclass(UnsupportedForestError, ForestError)
    return UnsupportedForestError


def test_linear_trees_are_refused() -> None:
    X = np.random.default_rng(1).normal(size=(200, 2))
    data = lgb.Dataset(X, X[:, 0], params={**QUIET, "linear_tree": True})
    booster = lgb.train({**QUIET, "objective": "regression", "linear_tree": True}, data, num_boost_round=2)
    with pytest.raises(refusal(), match="linear"):
        Forest.from_booster(booster)
    with pytest.raises(refusal(), match="linear"):
        Forest.from_model_text(booster.model_to_string())


def stopping_early(flag: int) -> str:
    """A model as LightGBM 2 wrote it, whose text says whether its predictions are to stop early."""
    text = train(objective="binary").model_to_string()
    return text.replace(
        "\nend of parameters", f"[pred_early_stop: {flag}]\n[pred_early_stop_freq: 2]\n\nend of parameters"
    )


def test_a_model_that_stops_predicting_early_is_refused() -> None:
    assert "[pred_early_stop: 1]" in stopping_early(1)
    with pytest.raises(refusal(), match="pred_early_stop"):
        Forest.from_model_text(stopping_early(1))


def test_a_model_that_does_not_stop_predicting_early_is_read() -> None:
    rows = hard_rows(stopping_early(0), 100)
    got = Forest.from_model_text(stopping_early(0)).predict(rows, raw_score=True)
    assert_same_bits(got, oracle(stopping_early(0), rows))
