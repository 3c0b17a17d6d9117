"""Which columns have the pandas categories of a booster's text: real boosters, and the signatures MLflow infers."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from app.feature import Category, Feature
from app.models import category_columns
from app.models.refusal import ModelRefused
from app.models.signature import join_features, signature_columns
from kernels.forest.layout import ForestData, read_forest

pytestmark = pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer column")

ROWS = 400


def column(values: list[Any], *, ordered: bool = False) -> Any:
    """Category column of the values in turn."""
    return pd.Categorical([values[index % len(values)] for index in range(ROWS)], categories=values, ordered=ordered)


def frame(**columns: Any) -> pd.DataFrame:
    number = np.random.default_rng(0).normal(size=ROWS)
    return pd.DataFrame({"x": number} | columns)


def trained(data: pd.DataFrame, **options: Any) -> ForestData:
    target = np.random.default_rng(1).normal(size=ROWS)
    booster = lgb.train({"verbose": -1, "min_data_per_group": 1}, lgb.Dataset(data, target, **options), 2)
    return read_forest(booster.model_to_string())


def signature_of(data: pd.DataFrame) -> Any:
    return signature_columns({"inputs": infer_signature(data).to_dict()["inputs"]})


def categories_of(features: tuple[Feature, ...]) -> dict[str, tuple[Category, ...] | None]:
    return {feature.name: feature.categories for feature in features if feature.kind == "category"}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "values",
    [["mauve", "teal", "é: \u2028"], [3, 1, 7], [True, False], [1.5, 0.25], [2**40, -1]],
    ids=["text", "integer", "boolean", "float", "long"],
)
def test_a_category_column_has_its_categories_with_or_without_a_signature(values: list[Category], signed: bool) -> None:
    data = frame(c=column(values), y=np.arange(ROWS) / 3)
    features = join_features(signature_of(data) if signed else None, None, trained(data))
    assert categories_of(features) == {"c": tuple(values)}
    assert all(feature.takes_missing for feature in features)
    assert [feature.name for feature in features] == ["x", "c", "y"]


def test_a_column_of_missing_values_alone_has_no_categories() -> None:
    data = frame(c=column(["a", "b"]), none=pd.Categorical([None] * ROWS))
    assert categories_of(join_features(signature_of(data), None, trained(data))) == {"c": ("a", "b"), "none": ()}


def test_ordered_categories_are_told_by_the_signature_alone() -> None:
    data = frame(size=column(["lo", "mid", "hi"], ordered=True), n=np.arange(ROWS) % 3)
    text = trained(data)
    features = join_features(signature_of(data), None, text)
    assert categories_of(features) == {"size": ("lo", "mid", "hi")}
    with pytest.raises(ModelRefused, match="pandas categories of 1 columns, and it cannot be told of which: log it"):
        join_features(None, None, text)


def test_category_columns_beside_columns_of_codes_are_told_by_the_signature() -> None:
    data = frame(c=column(["a", "b"]), k=np.arange(ROWS) % 4)
    text = trained(data, categorical_feature=["c", "k"])
    features = join_features(signature_of(data), None, text)
    assert [feature.kind for feature in features] == ["number", "category", "integer"]


@pytest.mark.parametrize("chosen", [["c"], ["k"], ["n"], []], ids=str)
def test_category_columns_that_the_caller_did_not_choose_are_told_by_their_codes(chosen: list[str]) -> None:
    data = frame(c=column(["a", "b"]), n=np.arange(ROWS) % 9, k=column([30, 10, 20]))
    text = trained(data, categorical_feature=chosen)
    for signature in (signature_of(data), None):
        features = join_features(signature, None, text)
        assert categories_of(features) == {"c": ("a", "b"), "k": (30, 10, 20)}


def test_types_are_compared_with_the_lists_and_not_each_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of thousands of numbers and of categories would take minutes."""
    numbers = {f"x{index}": np.arange(ROWS) / 3 for index in range(50)}
    data = frame(**numbers, c=column(["a", "b"]), k=column([30, 10, 20]))
    fits, compared = category_columns._fits, list[object]()
    monkeypatch.setattr(category_columns, "_fits", lambda *given: (compared.append(given), fits(*given))[1])
    assert categories_of(join_features(signature_of(data), None, trained(data))) == {"c": ("a", "b"), "k": (30, 10, 20)}
    assert len(compared) < 20


def test_lists_and_features_beyond_a_bound_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame(c=column(["a", "b"]), n=np.arange(ROWS) % 9)
    text = trained(data, categorical_feature=["n"])
    monkeypatch.setattr(category_columns, "MAX_PAIRS", 2)
    with pytest.raises(ModelRefused, match="it cannot be told of which: log it with a signature"):
        join_features(None, None, text)


def test_mixed_kinds_of_categories_keep_their_order() -> None:
    data = frame(n=column([5, 6]), t=column(["a", "b"]), o=column(["lo", "hi"], ordered=True), b=column([False, True]))
    expected = {"n": (5, 6), "t": ("a", "b"), "o": ("lo", "hi"), "b": (False, True)}
    assert categories_of(join_features(signature_of(data), None, trained(data))) == expected


def test_text_that_the_booster_has_no_categories_for_is_refused() -> None:
    data = frame(c=np.arange(ROWS) % 3)
    columns = signature_of(data.assign(c=data.c.map(str)))
    with pytest.raises(ModelRefused, match="column 'c' has type 'string', and the booster has no categories for it"):
        join_features(columns, None, trained(data))


def test_a_signature_of_other_types_than_the_categories_is_refused() -> None:
    data = frame(c=column([1, 2, 3]))
    columns = signature_of(data.assign(c=data.c.map(str).astype(object)))
    with pytest.raises(ModelRefused, match="the signature's columns do not fit them"):
        join_features(columns, None, trained(data))
