"""Rows to try a forest with lie on both sides of all that it asks, and tell it from one that asks otherwise."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from kernels.forest import probe
from kernels.forest.forest import Forest
from kernels.forest.model_text import read_model_text
from kernels.forest.predicates import CATEGORIES, COUNT, FEATURE, FIRST, KIND, NEAR_ZERO, Predicates, collect
from kernels.forest.probe import ROWS, probe_rows
from tests.kernels.forest.boosters import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING,
    Split,
    divisions,
    model_text,
    model_texts,
    tree_text,
)

FEATURES = 3
FEW = 10
"""Thresholds of a feature of which each must be met."""


class Tree(NamedTuple):
    """Splits, the leaf that each divides, and the leaves' values."""

    splits: tuple[Split, ...]
    divided: tuple[int, ...]
    values: tuple[float, ...]


Trees = tuple[Tree, ...]


def forest_of(trees: Trees) -> Forest:
    return Forest.from_model_text(model_text([tree_text(*tree) for tree in trees], FEATURES), "traversal")


def rows_for(trees: Trees) -> NDArray[np.float64]:
    return probe_rows(forest_of(trees).predicates, FEATURES)


def score_bits(forest: Forest, rows: NDArray[np.float64]) -> NDArray[np.uint64]:
    return forest.predict(rows, raw_score=True).view(np.uint64)


def tells(rows: NDArray[np.float64], trees: Trees, others: Trees) -> bool:
    """Whether any of the rows gets another raw score, be it by its last bit."""
    return bool((score_bits(forest_of(trees), rows) != score_bits(forest_of(others), rows)).any())


def small_forest(seed: int) -> Trees:
    """Three trees of three leaves over two numbers, each with a rule for missing values, and a category."""
    random = np.random.default_rng(seed)
    rules = random.choice([*MISSING.values()], FEATURES).tolist()

    def split() -> Split:
        feature = int(random.integers(FEATURES))
        if feature == FEATURES - 1:
            return Split(feature, 0, CATEGORICAL, [int(random.integers(1, 2**8))])
        return Split(feature, float(random.normal()), rules[feature] | DEFAULT_LEFT * int(random.integers(2)))

    return tuple(
        Tree((split(), split()), tuple(divisions("grown", 3, random)), tuple(random.normal(size=3).tolist()))
        for _ in range(3)
    )


def every_row(trees: Trees) -> NDArray[np.float64]:
    """All combinations of the values among which a forest, or one that differs in a last bit, may draw a line."""
    values: list[set[float]] = [{-math.inf, 0.0, NEAR_ZERO, math.nan} for _ in range(FEATURES)]
    values[-1] |= set(range(-1, 34))
    for split in (split for tree in trees for split in tree.splits if not split.decision & CATEGORICAL):
        near = (math.nextafter(split.threshold, end) for end in (-math.inf, math.inf))
        values[split.feature] |= {split.threshold, *near}
    return np.array(list(itertools.product(*values)))


def with_split(tree: Tree, index: int, split: Split) -> Tree:
    return tree._replace(splits=(*tree.splits[:index], split, *tree.splits[index + 1 :]))


def moved_thresholds(tree: Tree) -> Iterator[Tree]:
    for index, split in enumerate(tree.splits):
        if not split.decision & CATEGORICAL:
            for end in (-math.inf, math.inf):
                yield with_split(tree, index, split._replace(threshold=math.nextafter(split.threshold, end)))


def other_missing_values(tree: Tree) -> Iterator[Tree]:
    for index, split in enumerate(tree.splits):
        if not split.decision & CATEGORICAL:
            direction = split.decision & DEFAULT_LEFT
            for rule in set(MISSING.values()) - {split.decision - direction}:
                yield with_split(tree, index, split._replace(decision=rule | direction))


def other_default_directions(tree: Tree) -> Iterator[Tree]:
    for index, split in enumerate(tree.splits):
        if not split.decision & CATEGORICAL:
            yield with_split(tree, index, split._replace(decision=split.decision ^ DEFAULT_LEFT))


def other_categories(tree: Tree) -> Iterator[Tree]:
    """A category that a set has, or the one after it, is there or not."""
    for index, split in enumerate(tree.splits):
        for word in split.words:
            for bit in (bit for bit in range(9) if (word | word << 1) >> bit & 1):
                yield with_split(tree, index, split._replace(words=[word ^ 1 << bit]))


def moved_leaves(tree: Tree) -> Iterator[Tree]:
    for index, value in enumerate(tree.values):
        for end in (-math.inf, math.inf):
            moved = (*tree.values[:index], math.nextafter(value, end), *tree.values[index + 1 :])
            yield tree._replace(values=moved)


CHANGES = (moved_thresholds, other_missing_values, other_default_directions, other_categories, moved_leaves)


@pytest.mark.parametrize("change", CHANGES)
def test_a_forest_that_differs_in_one_number_is_told_if_any_row_tells_it(
    change: Callable[[Tree], Iterator[Tree]],
) -> None:
    told = 0
    for seed in range(12):
        trees = small_forest(seed)
        probing = rows_for(trees)
        n_probing, rows = len(probing), np.concatenate([probing, every_row(trees)])
        scores = score_bits(forest_of(trees), rows)
        for place, tree in enumerate(trees):
            for changed in change(tree):
                # Each is read once, for that takes longer than to predict.
                others = forest_of((*trees[:place], changed, *trees[place + 1 :]))
                different = score_bits(others, rows) != scores
                if different[n_probing:].any():
                    assert different[:n_probing].any(), (seed, place, tree, changed)
                    told += 1
    assert told > 10


def test_each_leaf_of_a_trained_forest_is_reached() -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(600, FEATURES))
    X[random.random(600) < 0.2, 0] = np.nan
    X[:, 2] = random.integers(0, 20, 600)
    settings = {"objective": "regression", "num_leaves": 8, "verbosity": -1, "num_threads": 1, "min_data_per_group": 5}
    data = lgb.Dataset(X, np.nan_to_num(X[:, 0], nan=2) + X[:, 1] + np.sin(X[:, 2]), categorical_feature=[2])
    booster = lgb.train(settings, data, num_boost_round=10)
    assert "num_cat=1" in booster.model_to_string()
    rows = probe_rows(Forest.from_booster(booster, "traversal").predicates, FEATURES)
    reached = np.asarray(booster.predict(rows, pred_leaf=True))
    assert [len(np.unique(leaves)) for leaves in reached.T] == [
        tree["num_leaves"] for tree in booster.dump_model()["tree_info"]
    ]


def asked(predicates: Predicates) -> Iterator[tuple[int, bool, NDArray[np.float64]]]:
    """Each column's feature, whether it is of categories, and its thresholds."""
    for column in predicates.columns.tolist():
        thresholds = predicates.thresholds[column[FIRST] : column[FIRST] + column[COUNT]]
        yield column[FEATURE], column[KIND] == CATEGORIES, thresholds


@given(text=model_texts(most_nodes=200))
def test_each_of_few_thresholds_is_met_with_its_neighbours_on_both_sides(text: str) -> None:
    model = read_model_text(text)
    predicates, features = collect(model.trees), len(model.feature_names)
    rows = probe_rows(predicates, features)
    assert rows.shape == (ROWS, features)
    assert rows.dtype == np.float64
    columns = list(asked(predicates))
    for feature in range(features):
        of_feature = [(categories, thresholds) for other, categories, thresholds in columns if other == feature]
        if sum(len(thresholds) for _, thresholds in of_feature) > FEW:
            continue
        for categories, thresholds in of_feature:
            steps = (-1, 1) if categories else ()
            near = [thresholds + step for step in steps] or [np.nextafter(thresholds, end) for end in (-1e999, 1e999)]
            assert np.isin([thresholds, *near], rows[:, feature]).all()


def test_the_neighbours_of_a_threshold_are_those_in_single_precision_too() -> None:
    threshold = 0.1
    rows = rows_for((Tree((Split(0, threshold, 0),), (0,), (0.0, 1.0)),))
    single = np.float32(threshold)
    near = [np.nextafter(single, np.float32(end)) for end in (-np.inf, np.inf)]
    assert near[0] < threshold < near[1]
    assert np.isin(np.array(near, dtype=np.float64), rows[:, 0]).all()


@pytest.mark.parametrize("threshold", [1.7976931348623157e308, -1.7976931348623157e308, 1e300, 5e-324, 0.0])
def test_thresholds_at_the_ends_of_the_numbers_are_met(threshold: float) -> None:
    rows = rows_for((Tree((Split(1, threshold, 0),), (0,), (0.0, 1.0)),))
    assert threshold in rows[:, 1]
    assert set(forest_of((Tree((Split(1, threshold, 0),), (0,), (0.0, 1.0)),)).predict(rows)) == {0.0, 1.0}


CONSTANT: Trees = (Tree((), (), (2.5,)), Tree((), (), (1.0,)))


@pytest.mark.parametrize("trees", [small_forest(0), CONSTANT, ()], ids=["splits", "constant", "no trees"])
def test_odd_values_are_in_every_feature(trees: Trees) -> None:
    for values in rows_for(trees).T:
        assert np.isnan(values).any()
        assert {np.inf, -np.inf, 0.0, NEAR_ZERO, -NEAR_ZERO, 5e-324, 2.0**31, -1.0} <= set(values.tolist())
        assert set(np.signbit(values[values == 0.0]).tolist()) == {False, True}
        beyond = math.nextafter(NEAR_ZERO, 1), math.nextafter(-NEAR_ZERO, -1)
        assert set(beyond) <= set(values.tolist())


def test_a_forest_without_thresholds_has_rows_that_tell_its_leaves() -> None:
    rows = rows_for(CONSTANT)
    assert rows.shape == (ROWS, FEATURES)
    assert not tells(rows, CONSTANT, CONSTANT)
    for changed in moved_leaves(CONSTANT[0]):
        assert tells(rows, CONSTANT, (changed, CONSTANT[1]))


def test_a_set_without_categories_is_no_obstacle() -> None:
    trees: Trees = (Tree((Split(0, 0, CATEGORICAL, []),), (0,), (0.0, 1.0)),)
    assert set(forest_of(trees).predict(rows_for(trees))) == {1.0}


def test_the_rows_of_a_forest_are_always_the_same() -> None:
    np.testing.assert_array_equal(rows_for(small_forest(1)), rows_for(small_forest(1)))
    assert not np.array_equal(rows_for(small_forest(1)), rows_for(small_forest(2)), equal_nan=True)


def test_a_very_wide_model_gets_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "VALUES", 32)
    rows = rows_for(small_forest(1))
    assert rows.shape == (10, FEATURES)
