"""Model texts: whatever LightGBM writes is read, and whatever is damaged is refused without harm to the process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest import model_text
from kernels.forest.errors import ForestError
from kernels.forest.evaluators import quickscorer
from kernels.forest.forest import Forest, load_forest
from kernels.forest.model_text import read_model_text
from tests.kernels.forest.boosters import old

QUIET = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
REAL = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
POSITIVE = ("poisson", "gamma", "tweedie")
SHARES = ("cross_entropy", "cross_entropy_lambda")
CLASSES = ("multiclass", "multiclassova")
RANKS = ("lambdarank", "rank_xendcg")
RANDOM_FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
ROWS = 240


def table(categories: int) -> NDArray[np.float64]:
    """float64[ROWS, 3]: numbers with some missing, numbers with many zeros, and categories."""
    random = np.random.default_rng(2)
    X = random.normal(size=(ROWS, 3))
    X[random.random(ROWS) < 0.1, 0] = np.nan
    X[random.random(ROWS) < 0.5, 1] = 0.0
    X[:, 2] = random.integers(0, categories or 6, ROWS)
    return X


def train(objective: str, rounds: int = 3, categories: int = 6, names: Any = "auto", **parameters: Any) -> lgb.Booster:
    X = table(categories)
    score = np.nan_to_num(X[:, 0]) + X[:, 1] + (X[:, 2] % 2)
    target = {
        **dict.fromkeys(POSITIVE, np.exp(score)),
        **dict.fromkeys(SHARES, 1 / (1 + np.exp(-score))),
        **dict.fromkeys(CLASSES, np.digitize(score, [-0.5, 1.0])),
        **dict.fromkeys(RANKS, np.digitize(score, [-0.5, 1.0])),
        "binary": (score > 0.5),
    }.get(objective, score)
    dataset = lgb.Dataset(
        X,
        target,
        feature_name=names,
        categorical_feature=[2] if categories else "auto",
        group=[ROWS // 4] * 4 if objective in RANKS else None,
        params={"min_data_per_group": 1, **QUIET},
        free_raw_data=False,
    )
    chosen = {"objective": objective, "min_data_in_leaf": 3, "num_leaves": 6, "cat_smooth": 1.0}
    if objective in CLASSES:
        chosen["num_class"] = 3
    return lgb.train({**QUIET, **chosen, **parameters}, dataset, num_boost_round=rounds)


names = st.lists(
    st.text(st.characters(categories=["L", "N", "Zs"], include_characters="_.()%°"), min_size=1, max_size=6),
    min_size=3,
    max_size=3,
    unique_by=lambda name: "_".join(name.split(" ")),
).filter(lambda drawn: all(name.strip() for name in drawn))


@given(
    objective=st.sampled_from([*REAL, *POSITIVE, *SHARES, *CLASSES, *RANKS, "binary"]),
    rounds=st.integers(1, 4),
    boosting=st.sampled_from([{}, {"boosting": "dart"}, RANDOM_FOREST]),
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "num_leaves": st.sampled_from([2, 3, 31, 130]),
            "extra_trees": st.booleans(),
            "zero_as_missing": st.booleans(),
            "use_missing": st.booleans(),
            "max_cat_to_onehot": st.sampled_from([1, 4, 64]),
            "path_smooth": st.sampled_from([0.0, 2.5]),
            "monotone_constraints": st.sampled_from([[1, -1, 0], [0, 1, 0]]),
            "max_bin": st.sampled_from([3, 255]),
            "lambda_l1": st.sampled_from([0.0, 1e6]),
            "learning_rate": st.sampled_from([1e-12, 0.1, 0.5]),
            "saved_feature_importance_type": st.sampled_from([0, 1]),
        },
    ),
    categories=st.sampled_from([2, 6, 100]),
    names=st.just("auto") | names,
    best=st.integers(0, 4),
)
def test_what_lightgbm_writes_is_read_and_predicts_the_same_bits(
    objective: str,
    rounds: int,
    boosting: dict[str, Any],
    parameters: dict[str, Any],
    categories: int,
    names: Any,
    best: int,
) -> None:
    if "monotone_constraints" in parameters and objective in ("regression_l1", "quantile", "mape"):
        del parameters["monotone_constraints"]
    booster = train(objective, rounds, categories, names, **boosting, **parameters)
    booster.best_iteration = min(best, booster.current_iteration())
    forest = Forest.from_model_text(booster.model_to_string())
    rows = np.concatenate([table(categories), [[np.nan] * 3, [np.inf, -np.inf, -1], [0, 1e-40, 1e6]]])
    assert forest.feature_names == tuple(booster.feature_name())
    for raw_score in (False, True):
        expected = booster.predict(rows, raw_score=raw_score, num_threads=1)
        np.testing.assert_array_equal(forest.predict(rows, raw_score), expected)


@pytest.mark.parametrize("objective", ["regression", "binary", "poisson"])
def test_linear_trees_are_read(objective: str) -> None:
    booster = train(objective, linear_tree=True, linear_lambda=0.1)
    rows = table(6)
    np.testing.assert_array_equal(
        load_forest(booster.model_to_string()).predict(rows), booster.predict(rows, num_threads=1)
    )


def test_a_custom_objective_is_read_without_one() -> None:
    def squared(scores: NDArray[np.float64], data: lgb.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return scores - data.get_label(), np.ones_like(scores)

    data = lgb.Dataset(table(6), table(6)[:, 1], params=QUIET)
    booster = lgb.train({**QUIET, "objective": squared}, data, num_boost_round=2)
    assert read_model_text(booster.model_to_string()).objective == ""
    np.testing.assert_array_equal(Forest.from_booster(booster).predict(table(6)), booster.predict(table(6)))


def test_a_booster_that_stopped_early_ends_at_its_best_iteration() -> None:
    X = np.random.default_rng(3).normal(size=(300, 2))
    data = lgb.Dataset(X[:200], np.random.default_rng(4).normal(size=200), params=QUIET)
    held_out = data.create_valid(X[200:], np.random.default_rng(5).normal(size=100))
    booster = lgb.train(
        {**QUIET, "objective": "regression", "learning_rate": 0.5},
        data,
        num_boost_round=50,
        valid_sets=[held_out],
        callbacks=[lgb.early_stopping(3, verbose=False)],
        keep_training_booster=True,
    )
    forest = Forest.from_booster(booster)
    assert 0 < booster.best_iteration < booster.current_iteration()
    assert forest.n_trees == booster.best_iteration
    np.testing.assert_array_equal(forest.predict(X), booster.predict(X, num_threads=1))


def test_a_saved_file_is_the_same_text(tmp_path: Path) -> None:
    booster = train("binary", names=["median income", "größe", "區"])
    booster.save_model(tmp_path / "model.txt")
    forest = Forest.from_model_text((tmp_path / "model.txt").read_text(encoding="utf-8"))
    assert forest.feature_names == ("median_income", "größe", "區")
    assert forest.objective == "binary sigmoid:1"
    np.testing.assert_array_equal(forest.predict(table(6)), booster.predict(table(6), num_threads=1))


def test_a_booster_without_trees_predicts_zero() -> None:
    booster = lgb.Booster({**QUIET, "objective": "regression"}, lgb.Dataset(table(6), table(6)[:, 1], params=QUIET))
    forest = Forest.from_booster(booster)
    assert forest.n_trees == 0
    np.testing.assert_array_equal(forest.predict(table(6)), np.zeros(ROWS))


@pytest.mark.parametrize("line", ["tree_sizes=", ""])
def test_trees_that_the_header_does_not_count_are_refused(line: str) -> None:
    text = train("regression").model_to_string()
    counted = next(line for line in text.split("\n") if line.startswith("tree_sizes="))
    with pytest.raises(ForestError, match="does not count its trees"):
        read_model_text(text.replace(counted, line))


HEADER = {
    "label_index": "0",
    "max_feature_idx": "2",
    "feature_names": "a b c",
    "feature_infos": "none none none",
    "num_tree_per_iteration": "1",
    "num_class": "1",
    "tree_sizes": "",
    "objective": "regression",
}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("num_class", "300000000", "the booster has 300000000 classes, and at most 10000 are read"),
        ("num_tree_per_iteration", "10001", "the booster has 10001 outputs, and at most 10000 are read"),
        ("max_feature_idx", "131072", "the booster has 131073 features, and at most 131072 are read"),
        ("feature_names", "a " * 131_072, "the booster has 131073 feature names, and at most 131072 are read"),
        ("tree_sizes", "9 " * 1_000_000, "the booster has 1000001 trees, and at most 1000000 are read"),
    ],
)
def test_a_header_that_counts_more_than_a_model_may_have_is_refused(key: str, value: str, reason: str) -> None:
    lines = [f"{name}={told}" for name, told in (HEADER | {key: value}).items()]
    with pytest.raises(ForestError) as caught:
        read_model_text("\n".join(["tree", *lines, "", "end of trees", ""]))
    assert str(caught.value) == reason


def test_the_most_that_a_header_may_count_is_read() -> None:
    names = " ".join(f"f{index}" for index in range(2**17))
    most = {
        "max_feature_idx": "131071",
        "feature_names": names,
        "feature_infos": " ".join(["none"] * 2**17),
        "num_tree_per_iteration": "10000",
        "num_class": "10000",
    }
    lines = [f"{name}={told}" for name, told in (HEADER | most).items()]
    model = read_model_text("\n".join(["tree", *lines, "", "end of trees", ""]))
    assert (len(model.feature_names), model.n_outputs) == (2**17, 10_000)


def test_a_forest_of_more_leaves_than_a_model_may_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = train("regression").model_to_string()
    leaves = len(read_model_text(text).trees.leaf_value)
    monkeypatch.setattr(model_text, "MAX_LEAVES", leaves)
    read_model_text(text)
    monkeypatch.setattr(model_text, "MAX_LEAVES", leaves - 1)
    with pytest.raises(ForestError, match=rf"^the booster has {leaves} leaves, and at most {leaves - 1} are read$"):
        read_model_text(text)


def test_trees_too_deep_to_be_laid_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = train("regression").model_to_string()
    nodes = len(read_model_text(text).trees.feature)  # a node of so small a tree rules out leaves of one word
    monkeypatch.setattr(quickscorer, "MAX_EXCLUSIONS", nodes)
    Forest.from_model_text(text)
    monkeypatch.setattr(quickscorer, "MAX_EXCLUSIONS", nodes - 1)
    with pytest.raises(ForestError, match=f"fill {nodes} words, and at most {nodes - 1} are laid out"):
        Forest.from_model_text(text)


@pytest.mark.parametrize("text", ["", "tree", "garbage", "tree\nversion=v4\n", "end of trees", "tree\nend of trees\n"])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ForestError, match="the booster"):
        read_model_text(text)


@given(st.text(max_size=200) | st.text(max_size=50).map(lambda text: f"tree\nversion=v4\n{text}\nTree=0\n{text}"))
def test_no_text_breaks_the_check(text: str) -> None:
    with pytest.raises(ForestError):
        read_model_text(text)


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_no_damage_ends_the_process(stride: int) -> None:
    texts = {
        "numbers": train("regression", rounds=2, categories=0),
        "categories": train("binary", rounds=2, max_cat_to_onehot=1),
        "linear": train("regression", rounds=2, linear_tree=True),
        "classes": train("multiclass", rounds=1),
        "single leaves": train("regression", rounds=2, lambda_l1=1e9),
    }
    whole = {kind: booster.model_to_string() for kind, booster in texts.items()}
    # LightGBM evaluates it, for it writes that objective by another name now.
    whole["old"] = old(train("cross_entropy", rounds=2).model_to_string(), "2.0.7").replace("cross_entropy", "xentropy")
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(here / "damage.py"), str(stride)],
        input=json.dumps(whole),
        env=os.environ | {"PYTHONPATH": str(here.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    last = [line for line in result.stdout.splitlines() if line and not line.startswith("[LightGBM]")][-1]
    assert (result.returncode, last) == (0, "done"), f"{last}: {result.stderr[-2000:]}"
