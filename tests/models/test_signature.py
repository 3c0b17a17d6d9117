"""Joining signature, plan and booster into the features that a model takes."""

import json
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from app.feature import Feature
from app.models.refusal import ModelRefused
from app.models.signature import join_features, signature_columns
from kernels.forest.layout import BoosterText, read_forest
from kernels.plan.plan import Input, Plan


def signature(*columns: tuple[str, str] | tuple[str, str, bool]) -> dict[str, Any]:
    inputs = [
        {"name": column[0], "type": column[1], "required": column[2] if len(column) > 2 else True} for column in columns
    ]
    return {"inputs": json.dumps(inputs)}


def booster(*names: str) -> BoosterText:
    """A booster without categories that has features of these names."""
    return BoosterText(
        feature_names=names, n_outputs=1, n_trees=1, objective="regression", categorical=(), pandas_categories=(),
        codes=(), text="", reason="",
    )  # fmt: skip


PLAN = Plan(
    inputs=(
        Input(name="a", description="First", unit="m", physical_range=(0, 10), training_range=(1, 2)),
        Input(name="b"),
    ),
    outputs=("a", "b"),
)


def test_a_plan_describes_the_features_and_the_signature_their_types() -> None:
    columns = signature_columns(signature(("b", "integer"), ("a", "double", False)))
    assert join_features(columns, PLAN, booster("a", "b")) == (
        Feature(name="a", required=False, description="First", unit="m", physical_range=(0, 10), training_range=(1, 2)),
        Feature(name="b", kind="integer", physical_range=(-(2.0**31), 2.0**31 - 1)),
    )


def test_a_plan_without_a_signature_takes_required_numbers() -> None:
    features = join_features(None, PLAN, booster("a", "b"))
    assert [(feature.name, feature.kind, feature.required) for feature in features] == [
        ("a", "number", True),
        ("b", "number", True),
    ]


def test_a_signature_that_is_not_the_plans_is_refused() -> None:
    with pytest.raises(ModelRefused, match="the signature's columns a, c are not the plan's inputs a, b"):
        join_features(signature_columns(signature(("a", "double"), ("c", "double"))), PLAN, booster("a", "b"))


def test_without_a_plan_the_signature_is_the_boosters_features() -> None:
    columns = signature_columns(signature(("x 1", "double"), ("y", "long")))
    features = join_features(columns, None, booster("x_1", "y"))
    assert [feature.name for feature in features] == ["x 1", "y"]
    assert join_features(columns, None, booster("Column_0", "Column_1")) == features


def test_columns_in_another_order_than_the_boosters_are_refused() -> None:
    columns = signature_columns(signature(("y", "double"), ("x", "double")))
    with pytest.raises(ModelRefused, match="are not the booster's features x, y"):
        join_features(columns, None, booster("x", "y"))


def test_names_that_lack_what_lightgbm_refuses_are_those_of_the_signature() -> None:
    columns = signature_columns(signature(("Price [EUR]", "double"), ("size: m²", "double"), ("id", "long")))
    features = join_features(columns, None, booster("price_EUR_", "size_m²", "id"))
    assert [feature.name for feature in features] == ["Price [EUR]", "size: m²", "id"]


@pytest.mark.parametrize(
    ("given", "names"),
    [(("b[0]", "a[0]"), ("a_0", "b_0")), (("a+", "a-"), ("a_1", "a_2")), (("a+", "a-"), ("a", "a_"))],
)
def test_names_of_other_letters_or_of_the_same_ones_are_refused(given: tuple[str, ...], names: tuple[str, ...]) -> None:
    columns = signature_columns(signature(*[(name, "double") for name in given]))
    with pytest.raises(ModelRefused, match="are not the booster's features"):
        join_features(columns, None, booster(*names))


def test_a_number_of_columns_that_is_not_the_boosters_is_refused() -> None:
    with pytest.raises(ModelRefused, match="the signature has 1 columns, the booster 2 features"):
        join_features(signature_columns(signature(("x", "double"))), None, booster("x", "y"))


@pytest.mark.parametrize("given", [None, {}, {"inputs": None}, {"inputs": '[{"type": "tensor", "tensor-spec": {}}]'}])
def test_without_named_columns_the_boosters_names_are_used(given: dict[str, Any] | None) -> None:
    assert signature_columns(given) is None
    assert join_features(None, None, booster("x", "y")) == (
        Feature(name="x", nullable=True),
        Feature(name="y", nullable=True),
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (signature(("x", "datetime")), "column 'x' has type 'datetime'"),
        (signature(("x", "double"), ("x", "double")), "names a column twice"),
        (signature(("x", "binary")), "column 'x' has type 'binary', and LightGBM takes numbers"),
        (
            {"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1, 2]}}]'},
            "tensor has dtype 'str'",
        ),
        ({"inputs": "not json"}, "not valid JSON"),
        ({"inputs": "{}"}, "not a list of columns"),
    ],
)
def test_a_signature_that_cannot_be_served_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        signature_columns(given)


def of(data: Any) -> tuple[Any, ...] | None:
    """Columns of the signature that MLflow infers."""
    return signature_columns({"inputs": infer_signature(data).to_dict()["inputs"]})


def test_columns_that_pandas_names_by_numbers_have_their_text_as_name() -> None:
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 3)))
    trained = lgb.train({"verbose": -1}, lgb.Dataset(data, data[0]), 1)
    text = read_forest(trained.model_to_string())
    features = join_features(of(data), None, text)
    assert [feature.name for feature in features] == list(text.feature_names) == ["0", "1", "2"]
    assert all(feature.required and feature.nullable for feature in features)


def test_columns_without_names_have_the_boosters() -> None:
    old = signature_columns({"inputs": '[{"type": "double"}, {"type": "float"}, {"type": "long"}]'})
    features = join_features(old, None, booster("a", "b", "c"))
    assert [(feature.name, feature.kind, feature.single) for feature in features] == [
        ("a", "number", False),
        ("b", "number", True),
        ("c", "integer", False),
    ]
    planned = join_features(
        signature_columns({"inputs": '[{"type": "double"}, {"type": "long"}]'}), PLAN, booster("a", "b")
    )
    assert [(feature.name, feature.kind) for feature in planned] == [("a", "number"), ("b", "integer")]
    with pytest.raises(ModelRefused, match="the signature has 3 columns, the booster 2 features"):
        join_features(old, None, booster("a", "b"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float64", Feature(name="a", nullable=True)),
        ("float32", Feature(name="a", nullable=True, single=True)),
        ("int64", Feature(name="a", kind="integer", single=True, physical_range=(-(2.0**53), 2.0**53))),
        ("int32", Feature(name="a", kind="integer", single=True, physical_range=(-(2.0**31), 2.0**31 - 1))),
        ("uint8", Feature(name="a", kind="integer", single=True, physical_range=(0, 255))),
        ("bool", Feature(name="a", kind="boolean")),
    ],
)
def test_a_tensor_is_columns_of_its_dtype(dtype: str, expected: Feature) -> None:
    features = join_features(of(np.zeros((3, 2), dtype)), None, booster("a", "b"))
    assert features[0] == expected
    assert [feature.name for feature in features] == ["a", "b"]


@pytest.mark.parametrize("data", [{"a": np.zeros(3), "b": np.zeros(3)}, [[1.0, 2.0]], np.zeros((3, 2, 2))])
def test_a_signature_that_tells_of_no_columns_is_none(data: Any) -> None:
    assert of(data) is None


def test_a_signature_of_any_type_is_none() -> None:
    assert signature_columns({"inputs": '[{"type": "any", "required": true}]'}) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "a\tb", "é", "\u2028", "\x00", '"', "a:b", "x" * 5000, "{}[],"])
def test_any_text_is_a_name(name: str) -> None:
    columns = signature_columns(signature((name, "double"), ("b", "double")))
    for names in ((name.replace(" ", "_"), "b"), (name, "b"), ("Column_0", "Column_1")):
        assert [feature.name for feature in join_features(columns, None, booster(*names))] == [name, "b"]


def test_a_long_list_of_names_is_cut() -> None:
    columns = signature_columns(signature(*((f"x{index}", "double") for index in range(100))))
    with pytest.raises(ModelRefused, match=r"x19 and 80 more are not the booster's features y0, .* and 80 more"):
        join_features(columns, None, booster(*(f"y{index}" for index in range(100))))


def test_text_for_a_plan_is_refused() -> None:
    with pytest.raises(ModelRefused, match="columns a are of text, and a feature plan takes numbers"):
        join_features(signature_columns(signature(("a", "string"), ("b", "double"))), PLAN, booster("a", "b"))


@pytest.mark.parametrize("name", ["a b", " a", "a\x00b", "=1+1", "=x=", "a=b", "\x01", "\\n", "é", "\u2028"], ids=ascii)
def test_names_are_compared_as_lightgbm_keeps_them(name: str) -> None:
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=[name, "b"])
    kept = lgb.train({"verbose": -1}, lgb.Dataset(data, data[name]), 1).feature_name()
    assert [feature.name for feature in join_features(of(data), None, booster(*kept))] == [name, "b"]


def test_mlflow_2_wrote_that_a_column_is_optional() -> None:
    columns = signature_columns({"inputs": '[{"name": "a", "type": "double", "optional": true}]'})
    assert columns is not None
    assert not columns[0].required
