"""Categories of pandas columns: LightGBM's own texts say what their codes are, and which columns they belong to."""

import datetime as dt
import decimal
import itertools
import json
from collections.abc import Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.forest import pandas_categories
from kernels.forest.errors import ForestError
from kernels.forest.forest import Forest
from kernels.forest.layout import read_forest
from kernels.forest.model_text import ModelText, read_model_text
from kernels.forest.pandas_categories import NO_CODES, only_features, pandas_features, read_pandas_categories

ROWS = 200
CODES = np.arange(ROWS) % 3
QUIET = {"verbosity": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 1, "min_data_in_leaf": 3}


def column(categories: Any, ordered: bool = False) -> pd.Categorical:
    return pd.Categorical.from_codes(CODES, categories=categories, ordered=ordered)


def train(columns: dict[str, Any], categorical_feature: Any = "auto", **parameters: Any) -> lgb.Booster:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=ROWS) if it is None else it for name, it in columns.items()})
    data = lgb.Dataset(frame, CODES + random.normal(size=ROWS), categorical_feature=categorical_feature)
    return lgb.train(QUIET | parameters, data, num_boost_round=4)


def found(model: ModelText, allowed: Sequence[int] | None = None) -> tuple[int, ...] | None:
    return pandas_features(model.pandas_categories, model.categorical, model.codes, allowed)


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (["a", "b", "ü\u2028\n\r"], ("a", "b", "ü\u2028\n\r")),
        ([3, -1, 2], (3, -1, 2)),
        (np.array([2**64 - 1, 1, 2], dtype=np.uint64), (2**64 - 1, 1, 2)),
        ([1.5, 0.1, 2.5], (1.5, 0.1, 2.5)),
        (np.array([1.5, 0.1, 2.5], dtype=np.float32), (1.5, float(np.float32(0.1)), 2.5)),
        ([np.inf, -np.inf, 0.1], (np.inf, -np.inf, 0.1)),
        ([False, True, "else"], (False, True, "else")),
        (["a", 1, 2.5], ("a", 1, 2.5)),
        (pd.array(["a", "b", "c"], dtype="string"), ("a", "b", "c")),
        (pd.array([0, 1, 2], dtype="Int64"), (0, 1, 2)),
    ],
)
def test_categories_are_those_of_the_column(categories: Any, expected: tuple[Any, ...]) -> None:
    booster = train({"x": None, "kind": column(categories), "y": None})
    model = read_model_text(booster.model_to_string())
    assert model.pandas_categories == (expected,)
    assert list(map(type, model.pandas_categories[0])) == list(map(type, expected))
    assert (model.categorical, found(model)) == ((1,), (1,))


@pytest.mark.parametrize(
    "categories",
    [
        pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
        pd.to_timedelta([1, 2, 3], "D"),
        pd.period_range("2020", periods=3),
        pd.interval_range(0, 3),
        [dt.date(2020, 1, 1), dt.date(2020, 1, 2), dt.date(2020, 1, 3)],
        [decimal.Decimal(1), decimal.Decimal(2), decimal.Decimal(3)],
        [b"a", b"b", b"c"],
    ],
)
def test_lightgbm_itself_writes_no_other_categories(categories: Any) -> None:
    with pytest.raises(ValueError, match="Circular reference"):
        train({"x": None, "kind": column(categories)}).model_to_string()


def test_predictions_of_codes_are_lightgbms_of_the_values() -> None:
    booster = train({"x": None, "kind": column(["a", "b", "c"]), "level": column([10, 20, 30])})
    kinds, levels = [*"abc", "unseen", None] * 12, [10, 30, 7] * 20
    asked = pd.DataFrame({"x": np.linspace(-2, 2, 60), "kind": pd.Categorical(kinds), "level": pd.Categorical(levels)})
    model = read_model_text(booster.model_to_string())
    assert found(model) == (1, 2)
    of_kind, of_level = ({value: code for code, value in enumerate(it)} for it in model.pandas_categories)
    columns = [asked["x"], [of_kind.get(it, np.nan) for it in kinds], [of_level.get(it, np.nan) for it in levels]]
    forest = Forest.from_model_text(booster.model_to_string())
    np.testing.assert_array_equal(forest.predict(np.column_stack(columns)), booster.predict(asked))


A, K = column(["a", "b", "c"]), pd.Categorical(["k"] * ROWS)


@pytest.mark.parametrize(
    ("columns", "chosen", "categorical", "expected"),
    [
        pytest.param({"x": None, "y": None}, "auto", (), (), id="none"),
        pytest.param({"kind": A, "x": None, "unused": K}, "auto", (0, 2), (0, 2), id="one of no use"),
        pytest.param({"x": None, "unused": pd.Categorical([None] * ROWS)}, "auto", (1,), (1,), id="no categories"),
        pytest.param({"x": None, "level": column([*"abc"], True)}, "auto", (), (1,), id="ordered"),
        pytest.param({"level": column([*"abc"], True), "x": None, "kind": A}, "auto", (2,), (0, 2), id="both"),
        pytest.param({"level": column([*"abc"], True), "n": CODES}, "auto", (), None, id="ordered or a number"),
        pytest.param({"kind": A, "x": None, "n": CODES}, ["kind", "n"], (0, 2), None, id="a code beside it"),
        pytest.param({"kind": A, "n": np.arange(ROWS) % 7}, ["n"], (1,), None, id="a code in place of it"),
        pytest.param({"kind": A, "x": None}, [], (), (0,), id="no category"),
    ],
)
def test_features_of_the_lists_are_found_or_not(
    columns: dict[str, Any], chosen: Any, categorical: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    model = read_model_text(train(columns, chosen).model_to_string())
    assert (model.categorical, found(model)) == (categorical, expected)
    true = [index for index, it in enumerate(columns.values()) if isinstance(it, pd.Categorical)]
    assert found(model, true) == tuple(true)


@pytest.mark.parametrize(
    ("possible", "expected"),
    [
        ([], ()),
        ([[3]], (3,)),
        ([[]], None),
        ([[1, 2]], None),
        ([[1, 2], [2]], (1, 2)),
        ([[1], [1, 2]], (1, 2)),
        ([[2], [1]], None),
        ([[0, 1, 2], [0, 1, 2], [0, 1, 2]], (0, 1, 2)),
        ([[0, 1, 2], [0, 1, 2]], None),
        ([[0, 5], [5, 6], [6]], (0, 5, 6)),
    ],
)
def test_features_are_told_where_there_is_one_way_to_choose_them(
    possible: list[list[int]], expected: tuple[int, ...] | None
) -> None:
    assert only_features(possible) == expected
    ways = [way for way in itertools.product(*possible) if all(a < b for a, b in itertools.pairwise(way))]
    assert expected == (ways[0] if len(ways) == 1 else None)


def test_what_the_caller_allows_must_fit_the_training_data() -> None:
    model = read_model_text(train({"kind": A, "n": np.arange(ROWS) % 7, "x": None}).model_to_string())
    assert model.codes == (3, 7, NO_CODES)
    assert [found(model, allowed) for allowed in ([0], [1], [2], [0, 1], [])] == [(0,), None, None, (0,), None]


def test_categories_are_found_without_the_parameters_of_the_training() -> None:
    text = train({"x": None, "kind": A, "unused": K}).model_to_string()
    older = text.replace("[categorical_feature: 1,2]", "[categorical_feature: ]")
    assert read_model_text(older).categorical == (1,)
    assert found(read_model_text(older)) == (1, 2)
    by_name = text.replace("[categorical_feature: 1,2]", "[categorical_feature: name:unused,other]")
    assert read_model_text(by_name).categorical == (1, 2)


def test_a_feature_of_numbers_is_none_whatever_the_parameters_say() -> None:
    text = train({"x": None, "kind": A}).model_to_string()
    assert read_model_text(text.replace("[categorical_feature: 1]", "[categorical_feature: 0,1,7,x,]")).categorical == (
        1,
    )


def test_what_the_kernels_do_not_evaluate_has_its_categories_too() -> None:
    text = train({"x": None, "kind": A}, linear_tree=True).model_to_string()
    data = read_forest(text)
    assert (data.categorical, data.pandas_categories, data.codes) == ((1,), (("a", "b", "c"),), (NO_CODES, 3))


@given(st.lists(st.lists(st.text() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False), unique=True)))
def test_every_list_of_categories_is_read(columns: list[list[Any]]) -> None:
    text = f"tree\nend of trees\n\npandas_categorical:{json.dumps(columns)}\n"
    assert read_pandas_categories(text) == tuple(map(tuple, columns))
    assert read_pandas_categories(text.removesuffix("\n")) == tuple(map(tuple, columns))


@pytest.mark.parametrize("line", ["", "categorical:null\n", "categorical:[]", "categorical: null \n\n"])
def test_a_text_without_categories_has_none(line: str) -> None:
    assert read_pandas_categories(f"tree\nend of trees\n\npandas_{line}") == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[[", "is damaged"),
        ("", "is damaged"),
        ("[" * 200_000, "is damaged"),
        (f"[[{'9' * 5000}]]", "is damaged"),
        ("{}", "is not a list of lists"),
        ('["a"]', "is not a list of lists"),
        ("[[NaN]]", "NaN is no category"),
        ("[[], [null]]", "column 1 of categories has a category that is no text, number or boolean"),
        ('[[["a", 1]]]', "has a category that is no text, number or boolean"),
        ("[[18446744073709551616]]", "has a number beyond 64 bits"),
        ("[[-9223372036854775809]]", "has a number beyond 64 bits"),
        ('[["\\ud800"]]', "has a text that is not Unicode"),
        ('[["a", "b", "a"]]', "column 0 of categories names a category twice"),
        ("[[1, 1.0]]", "names a category twice"),
        ('[["a"]]\nmore', "more text follows it"),
    ],
)
def test_a_damaged_line_is_refused(line: str, reason: str) -> None:
    with pytest.raises(ForestError, match=reason) as caught:
        read_pandas_categories(f"tree\nend of trees\n\npandas_categorical:{line}\n")
    assert str(caught.value).startswith("the booster's pandas_categorical ")
    assert len(str(caught.value)) < 200


def test_more_categories_than_a_model_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'tree\nend of trees\n\npandas_categorical:[["a", "b"], ["c"]]\n'
    monkeypatch.setattr(pandas_categories, "MAX_CATEGORIES", 3)
    monkeypatch.setattr(pandas_categories, "MAX_CHARACTERS", 19)
    assert read_pandas_categories(text) == (("a", "b"), ("c",))
    monkeypatch.setattr(pandas_categories, "MAX_CHARACTERS", 18)
    with pytest.raises(ForestError, match="has more than 18 characters"):
        read_pandas_categories(text)
    monkeypatch.setattr(pandas_categories, "MAX_CHARACTERS", 19)
    monkeypatch.setattr(pandas_categories, "MAX_CATEGORIES", 2)
    with pytest.raises(ForestError, match="has 3 pandas categories, and at most 2 are read"):
        read_pandas_categories(text)
