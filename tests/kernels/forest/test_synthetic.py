"""A forest gives LightGBM's raw scores bit for bit, for any trees that a text can hold."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.forest.forest import Forest
from kernels.forest.layout import lay_out
from kernels.forest.model_text import read_model_text
from tests.kernels.forest.boosters import (
    CATEGORICAL,
    DEFAULT_LEFT,
    HARD_NUMBERS,
    HARD_VALUES,
    KERNELS,
    MISSING,
    Split,
    assert_same_bits,
    divisions,
    hard_rows,
    model_text,
    model_texts,
    oracle,
    tree_text,
)

DECISIONS = [missing | left for missing in MISSING.values() for left in (0, DEFAULT_LEFT)]
EACH_VALUE = HARD_VALUES[:, None]
"""float64[V, 1]: a row for each hard value."""


def stump(split: Split) -> str:
    """A tree whose left leaf is -1 and whose right leaf is 2."""
    return tree_text([split], [0], [-1.0, 2.0])


def grown(leaves: int, features: int, seed: int, shape: str = "grown") -> str:
    """A tree over numbers with a threshold of its own in each node."""
    random = np.random.default_rng(seed)
    divided = divisions(shape, leaves, random)
    thresholds, decisions = random.normal(size=leaves - 1).tolist(), random.choice(DECISIONS, leaves - 1).tolist()
    splits = [Split(node % features, *asked) for node, *asked in zip(divided, thresholds, decisions, strict=True)]
    return tree_text(splits, divided, random.normal(size=leaves).tolist())


def forests_of(text: str) -> list[Forest]:
    """One forest for each of `KERNELS`. The text is read once, for that takes longer than to predict."""
    layout = lay_out(read_model_text(text))
    return [Forest(layout, kernel) for kernel in KERNELS]


def each_alone(forest: Forest, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Raw scores of the rows, each asked for by itself."""
    return np.concatenate([forest.predict(X[row : row + 1], raw_score=True) for row in range(len(X))])


@pytest.mark.parametrize("examples", [40, pytest.param(5000, marks=pytest.mark.slow)])
def test_any_forest_gives_the_same_bits_in_any_batch(examples: int) -> None:
    anything = given(text=model_texts(), seed=st.integers(0, 99), start=st.integers(0, 299), length=st.integers(1, 300))
    settings(max_examples=examples)(anything(check_any_forest))()


def check_any_forest(text: str, seed: int, start: int, length: int) -> None:
    X = hard_rows(text, 300, seed)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)
        assert_same_bits(forest.predict(X[start : start + length], raw_score=True), expected[start : start + length])
        assert_same_bits(each_alone(forest, X[seed::40]), expected[seed::40])


@settings(max_examples=40)
@given(text=model_texts(most_nodes=400), seed=st.integers(0, 99))
def test_any_forest_gives_the_same_means(text: str, seed: int) -> None:
    X = hard_rows(text, 100, seed)
    got = Forest.from_model_text(text).predict(X)
    assert_same_bits(got, oracle(text, X, raw_score=False))


@pytest.mark.parametrize("decision", DECISIONS)
def test_each_value_goes_the_right_way_at_each_threshold(decision: int) -> None:
    for threshold in (*HARD_NUMBERS, math.inf, -math.inf):
        text = model_text([stump(Split(0, threshold, decision))], 1)
        expected = oracle(text, EACH_VALUE)
        for forest in forests_of(text):
            assert_same_bits(forest.predict(EACH_VALUE, raw_score=True), expected)
            assert_same_bits(each_alone(forest, EACH_VALUE), expected)


@pytest.mark.parametrize("decision", [decision | CATEGORICAL for decision in DECISIONS])
@pytest.mark.parametrize(
    "words",
    [[], [0], [1], [0b1010], [2**31], [0, 1], [0, 0, 2**31], [2**32 - 1] * 9, [0x5555_5555] * 40],
    ids=lambda words: f"{len(words)}-words-{sum(words):x}",
)
def test_each_value_goes_the_right_way_at_each_set(decision: int, words: list[int]) -> None:
    X = np.concatenate([EACH_VALUE, np.arange(-3.0, 1400)[:, None], np.arange(-3, 1400)[:, None] + 0.75])
    text = model_text([stump(Split(0, 0, decision, words))], 1)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)
        alone = slice(len(EACH_VALUE) + 4)  # the hard values, and a whole number
        assert_same_bits(each_alone(forest, X[alone]), expected[alone])


@pytest.mark.parametrize("shape", ["grown", "left", "right"])
@pytest.mark.parametrize("leaves", [2, 16, 17, 32, 33, 63, 64, 65, 128, 129, 256, 257, 1500])
def test_trees_of_each_size_and_depth(leaves: int, shape: str) -> None:
    text = model_text([grown(leaves, 3, seed, shape) for seed in range(3)], 3)
    X = hard_rows(text, 500)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)
        assert_same_bits(each_alone(forest, X[::9]), expected[::9])


COUNTS = [1, 2, 127, 128, 129, 254, 255, 256, 257, 511]
MANY = [pytest.param(2000, missing, marks=[] if missing == "nan" else pytest.mark.slow) for missing in MISSING]


@pytest.mark.parametrize(("count", "missing"), [*itertools.product(COUNTS, MISSING), *MANY])
def test_each_number_of_distinct_thresholds_in_a_feature(count: int, missing: str) -> None:
    thresholds = np.random.default_rng(count).permutation(np.arange(count) / 8 - 5)
    splits = [Split(0, float(threshold), MISSING[missing]) for threshold in thresholds]
    trees = [stump(split) for split in splits[: count // 2]]
    rest = splits[count // 2 :]
    trees.append(tree_text(rest, [*range(len(rest))], [1.5**-index for index in range(len(rest) + 1)]))
    text = model_text(trees, 1)
    X = np.concatenate([EACH_VALUE, np.arange(-6, count / 8, 1 / 16)[:, None]])
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)


def test_more_distinct_thresholds_in_a_feature_than_two_bytes_count() -> None:
    trees = [grown(1101, 1, seed) for seed in range(60)]
    text = model_text(trees, 1)
    X = hard_rows(text, 500)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)


def test_more_features_than_lightgbm_holds_in_an_array() -> None:
    # Above 100,000 LightGBM looks the values of a mostly empty row up in a map.
    features = 100_001
    split = [Split(features - 1, 0.5, MISSING["nan"]), Split(7, -1e-36, MISSING["zero"]), Split(99_999, 0, CATEGORICAL)]
    trees = [stump(split) for split in (*split, Split(300, 0, CATEGORICAL, [1]))]
    X = np.zeros((6, features))
    X[1:, [7, 300, 99_999, features - 1]] = [[1, 1, 1, 1], [np.nan] * 4, [-1] * 4, [1e-36] * 4, [np.inf] * 4]
    text = model_text(trees, features)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)


def test_a_sum_starts_at_positive_zero_and_runs_in_the_order_of_trees() -> None:
    X = np.zeros((70, 1))
    for values in ([-0.0], [1e16, 1.0, 1.0, -1e16], [1.0, 1.0, 1e16, -1e16], [1e308, 1e308, -1e308], [math.inf, -1e9]):
        text = model_text([tree_text([], [], [value]) for value in values], 1)
        total = sum(values, start=0.0)
        assert_same_bits(oracle(text, X), np.full(70, total))
        for forest in forests_of(text):
            for count in (1, 70):
                assert_same_bits(forest.predict(X[:count], raw_score=True), np.full(count, total))


@pytest.mark.parametrize("outputs", [1, 2, 3, 5, 8, 64, 100])
def test_each_tree_adds_to_its_own_output(outputs: int) -> None:
    random = np.random.default_rng(outputs)
    trees = [grown(int(random.integers(1, 9)), 2, seed) for seed in range(3 * outputs)]
    text = model_text(trees, 2, outputs, objective="")
    X = hard_rows(text, 200)
    expected = oracle(text, X)
    assert expected.shape == ((200, outputs) if outputs > 1 else (200,))
    for forest in forests_of(text):
        for count in (1, 5, 200):
            assert_same_bits(forest.predict(X[:count], raw_score=True), expected[:count])


@pytest.mark.parametrize("average", [False, True])
def test_a_forest_without_trees_gives_what_lightgbm_gives(average: bool) -> None:
    text = model_text([], 2, average=average)
    X = np.ones((3, 2))
    for raw_score in (False, True):
        expected = oracle(text, X, raw_score)
        for forest in forests_of(text):
            assert_same_bits(forest.predict(X, raw_score), expected)


def test_a_text_of_an_older_lightgbm_lacks_lines() -> None:
    trees = [grown(20, 3, seed) for seed in range(4)]
    lines = [
        line for tree in trees for line in tree.splitlines() if not line.startswith(("is_", "leaf_w", "internal_w"))
    ]
    assert len(lines) == 4 * 13
    text = model_text(["\n".join(lines[start : start + 13]) + "\n" for start in range(0, len(lines), 13)], 3)
    X = hard_rows(text, 100)
    expected = oracle(text, X)
    for forest in forests_of(text):
        assert_same_bits(forest.predict(X, raw_score=True), expected)
