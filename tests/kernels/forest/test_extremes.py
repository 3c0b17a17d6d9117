"""Rows that reach the extreme leaves of a forest, where predictions may be infinite or no number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.forest import extremes
from kernels.forest.extremes import all_finite, extreme_rows
from kernels.forest.forest import Forest
from tests.kernels.forest.boosters import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING,
    Split,
    divisions,
    hard_rows,
    model_text,
    model_texts,
    tree_text,
)

LEVELS = 20


def forest_of(*trees: str, features: int = LEVELS, outputs: int = 1, objective: str = "poisson") -> Forest:
    return Forest.from_model_text(model_text(trees, features, outputs, objective), "traversal")


def chain(side: str, split: list[Split], last: float) -> str:
    """A tree whose one leaf of another value than 0 is as deep as it has splits, always to one side."""
    values = [0.0] * (len(split) + 1)
    values[-1 if side == "right" else 0] = last
    return tree_text(split, divisions(side, len(values), np.random.default_rng(0)), values)


SPLITS = {
    "numbers": [Split(feature, feature - 3.5, 0) for feature in range(LEVELS)],
    "one number": [Split(0, 0.1 * level, 0) for level in range(LEVELS)],
    "whole numbers": [Split(feature, float(feature), MISSING["nan"]) for feature in range(LEVELS)],
    "zero is missing": [Split(feature, 0.5, MISSING["zero"] | DEFAULT_LEFT) for feature in range(LEVELS)],
    "huge": [Split(feature, 1e300, 0) for feature in range(LEVELS)],
    "categories": [Split(feature, 0, CATEGORICAL, [1 << feature, 5]) for feature in range(LEVELS)],
}


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("last", [800.0, -800.0])
def test_the_deepest_leaf_is_reached(kind: str, side: str, last: float) -> None:
    forest = forest_of(chain(side, SPLITS[kind], last), objective="regression")
    scores = forest.predict(extreme_rows(forest), raw_score=True)
    assert last in scores


def test_a_leaf_for_missing_values_alone_is_reached() -> None:
    missing = Split(0, math.inf, MISSING["nan"])
    forest = forest_of(tree_text([missing], [0], [0.0, 800.0]), features=1)
    rows = extreme_rows(forest)
    assert np.isnan(rows[np.isinf(forest.predict(rows))]).all()
    assert not all_finite(forest)


def test_leaves_that_only_together_are_too_much_are_reached_together() -> None:
    trees = [tree_text([Split(index % 5, index / 7, 0)], [0], [0.0, 3.0]) for index in range(250)]
    forest = forest_of(*trees, features=5)
    assert not all_finite(forest)
    assert np.isinf(forest.predict(extreme_rows(forest))).any()


def test_leaves_that_exclude_each_other_are_not_put_together() -> None:
    low, high = (tree_text([Split(0, 0.0, 0)], [0], values) for values in ([500.0, 0.0], [0.0, 500.0]))
    forest = forest_of(low, high, features=1)
    assert not all_finite(forest)  # as far as the leaves tell
    assert np.isfinite(forest.predict(extreme_rows(forest))).all()


def test_each_class_has_its_rows() -> None:
    trees = [tree_text([Split(feature, 0.0, 0)], [0], [0.0, math.inf]) for feature in range(3)]
    forest = forest_of(*trees, features=3, outputs=3, objective="multiclass num_class:3")
    rows = extreme_rows(forest)
    assert set(np.isinf(forest.predict(rows, raw_score=True)).sum(axis=1).tolist()) == {0, 1}
    assert np.isnan(forest.predict(rows)).any()


@pytest.mark.parametrize(
    ("objective", "leaf", "finite"),
    [
        ("poisson", 709.0, True), ("poisson", 710.0, False), ("poisson", -800.0, True),
        ("gamma", 710.0, False), ("tweedie tweedie_variance_power:1.5", 710.0, False),
        ("cross_entropy_lambda", 710.0, False), ("binary sigmoid:1", 800.0, True), ("binary sigmoid:1", -800.0, True),
        ("cross_entropy", -1e300, True), ("binary sigmoid:1", math.inf, False),
        ("regression", 1e308, True), ("regression", math.inf, False),
        ("regression sqrt", 1e154, True), ("regression sqrt", 1e155, False), ("regression sqrt", -1e155, False),
    ],
)  # fmt: skip
def test_it_depends_on_the_objective(objective: str, leaf: float, finite: bool) -> None:
    assert all_finite(forest_of(tree_text([Split(0, 0.0, 0)], [0], [0.0, leaf]), objective=objective)) == finite


def test_scores_that_add_up_to_infinity_are_not_finite() -> None:
    tree = tree_text([Split(0, 0.0, 0)], [0], [0.0, 1e308])
    assert all_finite(forest_of(tree, objective="regression"))
    assert not all_finite(forest_of(tree, tree, objective="regression"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_a_chain_of_questions_two_are_left_and_its_end_is_reached(side: str) -> None:
    levels = 3000
    splits = [Split(0, level / 7 if side == "right" else -level / 7, 0) for level in range(levels)]
    forest = forest_of(chain(side, splits, 800.0), features=1)
    ((feature, asked),) = extremes._path(forest, 0, 1.0).items()
    assert (feature, len(asked)) == (0, 1)
    assert np.isinf(forest.predict(extreme_rows(forest))).any()


def test_a_search_is_given_up_when_its_time_is_over() -> None:
    forest = forest_of(tree_text([Split(0, 0.5, 0)], [0], [0.0, 800.0]), features=2)
    assert extreme_rows(forest, seconds=0.0).shape == (0, 2)


def test_more_sets_of_categories_than_are_tried_are_given_up() -> None:
    for levels, found in ((extremes.MOST_SETS, True), (extremes.MOST_SETS + 1, False)):
        splits = [Split(0, 0, CATEGORICAL, [1, 1 << level % 32, 1 << level // 32]) for level in range(levels)]
        forest = forest_of(chain("right", splits, 800.0), features=1)
        assert np.isinf(forest.predict(extreme_rows(forest))).any() == found


def test_requests_are_answered_while_values_are_tried() -> None:
    assert extremes._first.targetoptions["nogil"]


def test_a_forest_without_trees_is_finite_and_has_no_rows() -> None:
    forest = forest_of(features=2)
    assert all_finite(forest)
    assert extreme_rows(forest).shape == (0, 2)


@settings(max_examples=40)
@given(text=model_texts(most_nodes=100), seed=st.integers(0, 2**16))
def test_what_is_said_to_be_finite_is(text: str, seed: int) -> None:
    forest = Forest.from_model_text(text, "traversal")
    rows = extreme_rows(forest)
    assert np.isfinite(rows[~np.isnan(rows)]).all()
    if all_finite(forest):
        assert np.isfinite(forest.predict(np.concatenate([rows, hard_rows(text, 200, seed)]))).all()
