"""Codes of categories by value, and the codes of one model as those of another."""

import json

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.categories import code, codes, codes_of_numbers, longest_text, recoded, values_of
from app.feature import Category, Feature

NAN = float("nan")

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), unique=True, min_size=1, max_size=8)
numbers = st.lists(
    st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False), unique=True, min_size=1, max_size=8
)


def category(*values: Category, **changes: object) -> Feature:
    return msgspec.structs.replace(Feature(name="c", kind="category", categories=values), **changes)


@given(texts, st.lists(st.text(max_size=5) | st.none(), max_size=8))
def test_texts_have_the_codes_of_pandas(known: list[str], others: list[str | None]) -> None:
    values = [*known, *(value for value in others if value is None or value.isascii())]
    found = codes(category(*known), pa.array(values, pa.string()))
    expected = pd.Index(known, dtype=object).get_indexer(pd.Index(values, dtype=object)).astype(float)
    np.testing.assert_array_equal(found.values, np.where(expected < 0, NAN, expected))
    assert found.unseen.tolist() == [value is not None and value not in known for value in values]


@given(numbers, st.lists(st.floats(), max_size=8))
def test_numbers_have_the_code_that_one_look_up_gives(known: list[int | float], others: list[float]) -> None:
    feature = category(*known)
    values = [*map(float, known), *others]
    found = codes_of_numbers(feature, np.array(values))
    expected = [code(feature, value) for value in values]
    kept = [
        value if np.isinf(value) and np.isnan(wanted) else wanted
        for value, wanted in zip(values, expected, strict=True)
    ]
    np.testing.assert_array_equal(found.values, kept)
    assert found.unseen.tolist() == [
        bool(np.isnan(code) and value == value) for code, value in zip(expected, values, strict=True)
    ]


def test_zero_of_either_sign_is_one_category() -> None:
    np.testing.assert_array_equal(codes(category(0, 5), pa.array([-0.0, 0.0])).values, [0, 0])
    np.testing.assert_array_equal(codes_of_numbers(category(0.5, -0.0), np.array([0, 1])).values, [1, NAN])


def test_no_text_equals_a_category_that_utf_8_cannot_hold() -> None:
    feature = category("\ud800", "b")
    np.testing.assert_array_equal(codes(feature, pa.array(["b", "?", "\ufffd"])).values, [1, NAN, NAN])
    assert values_of(feature) == {0: "?", 1: "b"}


def test_values_of_a_code_fit_into_json_and_messagepack() -> None:
    feature = category(2**63, -(2**70), True, "a", 2.5)
    values = values_of(feature)
    assert values == {0: 2.0**63, 1: -(2.0**70), 2: True, 3: "a", 4: 2.5}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(values)) == values
    assert json.loads(msgspec.json.encode(values)) == {str(code): value for code, value in values.items()}


def test_the_longest_text_counts_bytes() -> None:
    assert longest_text(category("grün", "a"), 1) == 4 + 5
    assert longest_text(category("a"), 64) == 4 + 64
    assert (longest_text(category(1, 2), 64), longest_text(Feature(name="x"), 64)) == (0, 0)


@pytest.mark.parametrize(
    ("have", "want", "values", "expected"),
    [
        (category("a", "b", "c"), category("c", "a"), [0, 1, 2, NAN], [1, NAN, 0, NAN]),
        (category(1, 2), category(2.0, True), [0, 1, NAN], [1, 0, NAN]),
        (category(10, 20), Feature(name="c"), [0, 1, NAN], [10, 20, NAN]),
        (category(0.1), Feature(name="c", single=True), [0, NAN], [float(np.float32(0.1)), NAN]),
        (Feature(name="c", kind="integer"), category(20, 10), [10, 20, 30, NAN], [1, 0, NAN, NAN]),
        (Feature(name="c"), Feature(name="c", single=True), [0.1, NAN], [float(np.float32(0.1)), NAN]),
        (category(), category("a"), [NAN], [NAN]),
    ],
)
def test_values_are_those_that_the_other_model_takes(
    have: Feature, want: Feature, values: list[float], expected: list[float]
) -> None:
    np.testing.assert_array_equal(recoded(np.array(values), have, want), expected)


def test_a_text_is_no_number_for_another_model() -> None:
    with pytest.raises(ValueError, match="'c' has texts as categories, and the other model takes numbers for it"):
        recoded(np.zeros(2), category("a", 1), Feature(name="c"))
