"""A rank answers every predicate of its column as LightGBM's rules do, spelt out here in Python."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.forest.model_text import read_model_text
from kernels.forest.predicates import (
    CATEGORIES,
    COUNT,
    KIND,
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    NEAR_ZERO,
    PREDICATE,
    PREDICATES,
    SET,
    SET_WORDS,
    Predicates,
    collect,
    rank,
)
from tests.kernels.forest.boosters import CATEGORICAL, DEFAULT_LEFT, HARD_VALUES, MISSING, Split, model_text, tree_text

VALUES = st.sampled_from(HARD_VALUES.tolist()) | st.floats()


def predicates(*splits: Split) -> Predicates:
    """Of stumps, a tree for each split."""
    features = 1 + max(split.feature for split in splits)
    return collect(
        read_model_text(model_text([tree_text([split], [0], [0.0, 1.0]) for split in splits], features)).trees
    )


def goes_left(value: float, threshold: float, kind: int, missing_left: bool) -> bool:
    """NumericalDecision of LightGBM, after what is near zero has become zero."""
    value = 0.0 if abs(value) <= NEAR_ZERO else value
    if kind == MISSING_NAN and math.isnan(value):
        return missing_left
    value = 0.0 if math.isnan(value) else value
    if kind == MISSING_ZERO and value == 0.0:
        return missing_left
    return value <= threshold


@given(
    value=VALUES,
    thresholds=st.lists(st.floats(allow_nan=False), min_size=1, max_size=40),
    kind=st.sampled_from([MISSING_NONE, MISSING_ZERO, MISSING_NAN]),
    missing_left=st.booleans(),
)
def test_a_rank_answers_each_threshold(value: float, thresholds: list[float], kind: int, missing_left: bool) -> None:
    decision = kind << 2 | (DEFAULT_LEFT if missing_left else 0)
    found = predicates(*(Split(0, threshold, decision) for threshold in thresholds))
    (column,) = found.columns
    place = rank(value, found.thresholds, column)
    for threshold, predicate in zip(thresholds, found.of_node, strict=True):
        assert (place <= found.rank[predicate]) == goes_left(value, threshold, kind, missing_left)


@given(value=VALUES, bitmaps=st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=3), min_size=1, max_size=5))
def test_a_rank_answers_each_set_of_categories(value: float, bitmaps: list[list[int]]) -> None:
    found = predicates(*(Split(0, 0, CATEGORICAL, bitmap) for bitmap in bitmaps))
    (column,) = found.columns
    assert column[KIND] == CATEGORIES
    place = int(rank(value, found.thresholds, column))
    # Towards zero, and nothing that an int32 does not hold.
    category = int(value) if -1 < value < 2**31 else None
    for bitmap, predicate in zip(bitmaps, found.of_node, strict=True):
        member = category is not None and category < 32 * len(bitmap) and bitmap[category // 32] >> category % 32 & 1
        assert found.sets[found.rank[predicate] + place // 32] >> place % 32 & 1 == bool(member)


def test_sets_of_many_categories_take_what_their_text_takes() -> None:
    words = np.random.default_rng(0).integers(2**31, 2**32, (30, 3125)).tolist()
    splits = [Split(0, 0, CATEGORICAL, bitmap) for bitmap in words]
    text = model_text([tree_text(splits, range(30), range(31))], 1)
    tracemalloc.start()
    try:
        found = collect(read_model_text(text).trees)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)  # as numbers of categories, 128 times
    finally:
        tracemalloc.stop()
    assert found.sets.reshape(30, -1).shape == (30, 3126)


def test_equal_questions_are_one_predicate() -> None:
    nan = MISSING["nan"]
    found = predicates(
        *(Split(0, 1.0, nan), Split(0, 2.0, nan), Split(0, 1.0, nan), Split(0, 1.0, nan | DEFAULT_LEFT)),
        *(
            Split(1, 1.0, nan),
            Split(0, 0, CATEGORICAL, [6]),
            Split(0, 0, CATEGORICAL, [6]),
            Split(0, 0, CATEGORICAL, [1]),
        ),
    )
    own = found.of_node.tolist()
    assert own[0] == own[2]
    assert own[5] == own[6]
    assert len(set(own)) == len(found.column) == 6
    # A feature has a column for each way in which it is read.
    assert len(found.columns) == 4
    assert [found.column[predicate] for predicate in own] == [0, 0, 0, 1, 3, 2, 2, 2]
    assert found.columns[:, PREDICATES].tolist() == [2, 1, 2, 1]
    assert found.columns[:, COUNT].tolist() == [2, 1, 3, 1]  # categories 0, 1 and 2 are in some set
    assert found.columns[:, PREDICATE].tolist() == [0, 2, 3, 5]
    assert found.columns[2, [SET, SET_WORDS]].tolist() == [0, 1]


def test_where_missing_goes_is_no_question_if_nothing_is_missing() -> None:
    assert len(predicates(Split(0, 1.0, 0), Split(0, 1.0, DEFAULT_LEFT)).columns) == 1


@pytest.mark.parametrize("threshold", [0.0, -0.0])
def test_both_zeros_are_one_threshold(threshold: float) -> None:
    found = predicates(Split(0, 0.0, 0), Split(0, -0.0, 0), Split(0, 1.0, 0))
    assert found.columns[0, COUNT] == 2
    assert rank(threshold, found.thresholds, found.columns[0]) == 0
    assert rank(np.nextafter(NEAR_ZERO, 1), found.thresholds, found.columns[0]) == 1
