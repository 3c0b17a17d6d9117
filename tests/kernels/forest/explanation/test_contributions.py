"""Contributions are LightGBM's `pred_contrib`, for any trees that a text can hold, and add up to the raw score."""

import math
import threading

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest.explanation import explainer as explainer_module
from kernels.forest.explanation import tables
from kernels.forest.forest import Forest
from kernels.forest.layout import lay_out
from kernels.forest.model_text import read_model_text
from tests.kernels.forest.boosters import (
    Split,
    hard_rows,
    model_text,
    model_texts,
    oracle,
    scale_of,
    tree_text,
    without,
)
from tests.kernels.forest.explanation.by_hand import HandTree

CLOSE = 1e-9
"""Of the scale of the scores."""


def explained_by_lightgbm(text: str, X: NDArray[np.float64], outputs: int) -> NDArray[np.float64]:
    """float64[B, K, F + 1], the expected value last."""
    found = lgb.Booster(model_str=text).predict(X, pred_contrib=True, num_threads=1)
    return np.asarray(found).reshape(len(X), outputs, -1)


def check(text: str, X: NDArray[np.float64]) -> Forest:
    """Compare with LightGBM, in one batch and row by row."""
    forest, scale = Forest.from_model_text(text), max(scale_of(text), 1e-300)
    found, base = forest.explainer.contributions(X), forest.explainer.base()
    expected = explained_by_lightgbm(text, X, forest.n_outputs)
    assert np.abs(found - expected[:, :, :-1]).max(initial=0) <= CLOSE * scale
    assert np.abs(base - expected[0, :, -1]).max() <= CLOSE * scale
    raw = forest.predict(X, raw_score=True).reshape(len(X), -1)
    assert np.abs(base + found.sum(axis=-1) - raw).max(initial=0) <= CLOSE * scale
    for row in range(0, len(X), 17):
        assert np.array_equal(forest.explainer.contributions(X[row : row + 1]), found[row : row + 1])
    return forest


@pytest.mark.parametrize("examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_forest_is_explained_as_lightgbm_does(examples: int) -> None:
    anything = given(text=model_texts(most_nodes=600), seed=st.integers(0, 99))
    settings(max_examples=examples)(anything(check_any_forest))()


def check_any_forest(text: str, seed: int) -> None:
    assume(scale_of(text) < 1e100)
    X = hard_rows(text, 70, seed)
    forest = check(text, X)
    leaves = np.asarray(lgb.Booster(model_str=text).predict(X, pred_leaf=True, num_threads=1)).reshape(len(X), -1)
    assert np.array_equal(forest.explainer.leaves(X), leaves)


def wide_text(features: int, leaves: int, trees: int, *, chain: bool) -> str:
    """Trees over many features, each node's its own as long as there are some."""
    random = np.random.default_rng(features)
    made: list[str] = []
    for _ in range(trees):
        order = random.permutation(features)
        splits = [Split(int(order[node % features]), float(random.normal()), 8) for node in range(leaves - 1)]
        divided = [node if chain else int(random.integers(node + 1)) for node in range(leaves - 1)]
        counts = random.integers(1, 100, leaves).tolist()
        made.append(tree_text(splits, divided, random.normal(size=leaves).tolist(), counts))
    return model_text(made, features)


@pytest.mark.parametrize(
    ("features", "leaves", "chain"), [(300, 63, False), (9, 40, True), (24, 25, True), (24, 120, True), (33, 34, True)]
)
def test_many_features_and_deep_paths(features: int, leaves: int, chain: bool) -> None:
    text = wide_text(features, leaves, 3, chain=chain)
    check(text, np.random.default_rng(1).normal(size=(40, features)))


def test_a_path_of_more_features_than_lightgbm_adds_up_exactly() -> None:
    text = wide_text(120, 121, 1, chain=True)
    X = np.random.default_rng(1).normal(size=(20, 120)) + 1
    explainer = Forest.from_model_text(text).explainer
    total = explainer.base() + explainer.contributions(X).sum(axis=-1)
    assert np.abs(total[:, 0] - oracle(text, X)).max() <= CLOSE * scale_of(text)


def test_contributions_are_shapley_values_where_no_training_row_came() -> None:
    splits = [Split(0, 0.0, 0), Split(1, 0.0, 0), Split(0, 1.0, 0), Split(2, 0.0, 0)]
    # Node 0: leaf 0 | leaf 1; node 1 divides leaf 0 (left part stays 0, right is leaf 2); and so on.
    text = model_text([tree_text(splits, [0, 0, 1, 2], [1.0, 2.0, 4.0, 8.0, -3.0], [0, 5, 0, 3, 0])], 3)
    # By leaves: 0 | 1 -> left is node 1 (0 | node 3 (2 | 4)), right is node 2 (1 | 3).
    tree = HandTree((0, 0.0, 0.0, (1, 0.0, 0.5, 1.0, (2, 0.0, 0.5, 4.0, -3.0)), (0, 1.0, 5 / 8, 2.0, 8.0)))
    X = np.random.default_rng(0).normal(size=(50, 3)) * 2
    found = Forest.from_model_text(text).explainer.contributions(X)[:, 0]
    assert np.abs(found - [tree.contributions(row) for row in X]).max() < 1e-12


def test_a_forest_without_splits_is_all_base() -> None:
    text = model_text([tree_text([], [], [1.5]), tree_text([], [], [2.0])], 2)
    explainer = Forest.from_model_text(text).explainer
    assert explainer.base().tolist() == [3.5]
    assert not explainer.contributions(np.ones((3, 2))).any()
    assert explainer.leaves(np.ones((3, 2))).tolist() == [[0, 0]] * 3


def test_no_rows_are_explained_by_no_contributions() -> None:
    explainer = Forest.from_model_text(wide_text(4, 5, 2, chain=False)).explainer
    assert explainer.contributions(np.empty((0, 4))).shape == (0, 1, 4)
    assert explainer.leaves(np.empty((0, 4))).shape == (0, 2)


@pytest.mark.parametrize("line", ["leaf_count=", "internal_count="])
def test_a_text_without_counts_is_not_explained(line: str) -> None:
    text = without(wide_text(4, 5, 2, chain=False), line)
    assert "training rows" in str(Forest.from_model_text(text).explainer.reason)


def test_trees_that_take_too_much_memory_are_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    text = wide_text(40, 41, 1, chain=True)
    monkeypatch.setattr(explainer_module, "MOST_NUMBERS", 12 * 40 * 24)
    assert Forest.from_model_text(text).explainer.reason is None
    monkeypatch.setattr(explainer_module, "MOST_NUMBERS", 12 * 40 * 24 - 1)
    assert "memory" in str(Forest.from_model_text(text).explainer.reason)


def test_tables_that_are_not_kept_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = wide_text(12, 63, 6, chain=False)
    X = np.random.default_rng(2).normal(size=(150, 12))
    layout = lay_out(read_model_text(text))
    kept = Forest(layout).explainer.contributions(X)
    monkeypatch.setattr(tables, "MAX_BYTES", 70_000)
    forest = Forest(layout)
    assert np.array_equal(forest.explainer.contributions(X), kept)


def test_threads_share_an_explainer() -> None:
    forest = Forest.from_model_text(wide_text(12, 63, 20, chain=False))
    X = np.random.default_rng(3).normal(size=(100, 12))
    found: list[NDArray[np.float64]] = []
    gate = threading.Barrier(4)

    def explain() -> None:
        gate.wait()
        found.append(forest.explainer.contributions(X))

    threads = [threading.Thread(target=explain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, found[0]) for one in found)


def test_the_measured_time_is_of_the_whole_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    text = wide_text(12, 63, 40, chain=False)
    X = np.random.default_rng(3).normal(size=(64, 12))
    explainer = Forest.from_model_text(text).explainer
    explainer.contributions(X)
    monkeypatch.setattr(explainer_module, "MEASURED_NODES", 500)
    by_part = min(explainer.measure(X).each for _ in range(5))
    monkeypatch.setattr(explainer_module, "MEASURED_NODES", math.inf)
    by_all = min(explainer.measure(X).each for _ in range(5))
    assert by_all / 4 < by_part < by_all * 4
