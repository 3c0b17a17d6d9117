"""Joining signature, plan and booster into the features that a model takes."""

import json
from typing import Any

import pytest

from app.feature import Feature
from app.models.refusal import ModelRefused
from app.models.signature import join_features, signature_columns
from kernels.plan.plan import Input, Plan


def signature(*columns: tuple[str, str] | tuple[str, str, bool]) -> dict[str, Any]:
    inputs = [
        {"name": column[0], "type": column[1], "required": column[2] if len(column) > 2 else True} for column in columns
    ]
    return {"inputs": json.dumps(inputs)}


PLAN = Plan(
    inputs=(
        Input(name="a", description="First", unit="m", physical_range=(0, 10), training_range=(1, 2)),
        Input(name="b"),
    ),
    outputs=("a", "b"),
)


def test_a_plan_describes_the_features_and_the_signature_their_types() -> None:
    columns = signature_columns(signature(("b", "integer"), ("a", "double", False)))
    assert join_features(columns, PLAN, ("a", "b")) == (
        Feature(name="a", required=False, description="First", unit="m", physical_range=(0, 10), training_range=(1, 2)),
        Feature(name="b", kind="integer", physical_range=(-(2.0**31), 2.0**31 - 1)),
    )


def test_a_plan_without_a_signature_takes_required_numbers() -> None:
    features = join_features(None, PLAN, ("a", "b"))
    assert [(feature.name, feature.kind, feature.required) for feature in features] == [
        ("a", "number", True),
        ("b", "number", True),
    ]


def test_a_signature_that_is_not_the_plans_is_refused() -> None:
    with pytest.raises(ModelRefused, match="the signature's columns a, c are not the plan's inputs a, b"):
        join_features(signature_columns(signature(("a", "double"), ("c", "double"))), PLAN, ("a", "b"))


def test_without_a_plan_the_signature_is_the_boosters_features() -> None:
    columns = signature_columns(signature(("x 1", "double"), ("y", "long")))
    features = join_features(columns, None, ("x_1", "y"))
    assert [feature.name for feature in features] == ["x 1", "y"]
    assert join_features(columns, None, ("Column_0", "Column_1")) == features


def test_columns_in_another_order_than_the_boosters_are_refused() -> None:
    columns = signature_columns(signature(("y", "double"), ("x", "double")))
    with pytest.raises(ModelRefused, match="are not the booster's features x, y"):
        join_features(columns, None, ("x", "y"))


def test_a_number_of_columns_that_is_not_the_boosters_is_refused() -> None:
    with pytest.raises(ModelRefused, match="the signature has 1 columns, the booster 2 features"):
        join_features(signature_columns(signature(("x", "double"))), None, ("x", "y"))


@pytest.mark.parametrize("given", [None, {}, {"inputs": None}, {"inputs": '[{"type": "tensor", "tensor-spec": {}}]'}])
def test_without_named_columns_the_boosters_names_are_used(given: dict[str, Any] | None) -> None:
    assert signature_columns(given) is None
    assert join_features(None, None, ("x", "y")) == (Feature(name="x"), Feature(name="y"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (signature(("x", "string")), "column 'x' has type 'string'"),
        (signature(("x", "datetime")), "column 'x' has type 'datetime'"),
        (signature(("x", "double"), ("x", "double")), "names a column twice"),
        ({"inputs": '[{"type": "double"}]'}, "a column without a name"),
        ({"inputs": "not json"}, "not valid JSON"),
        ({"inputs": "{}"}, "not a list of columns"),
    ],
)
def test_a_signature_that_cannot_be_served_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelRefused, match=reason):
        signature_columns(given)
