"""Raw features of a model, joined from the MLflow signature, the feature plan and the booster."""

from typing import Any

import msgspec

from app.feature import Feature, Kind
from app.models.refusal import ModelRefused
from kernels.plan.plan import Plan

KINDS: dict[str, Kind] = {
    "double": "number",
    "float": "number",
    "long": "integer",
    "integer": "integer",
    "boolean": "boolean",
}
"""MLflow column types (mlflow/types/schema.py) that a numeric forest takes, with our kind of feature."""

INTEGER_BITS = {"integer": 32, "long": 64}


class Column(msgspec.Struct, frozen=True):
    """A named column of an MLflow signature."""

    name: str
    kind: Kind
    required: bool
    bits: int | None


def signature_columns(signature: Any) -> tuple[Column, ...] | None:
    """Read the input columns of a signature.

    Args:
        signature: Value of the `signature` key of the MLmodel file. Its `inputs` is JSON text.

    Returns:
        The columns, or None where there is no signature, or one without columns (a tensor).

    Raises:
        ModelRefused: A column is not numeric, has no name, or has the name of another.
    """
    if not signature:
        return None
    if not isinstance(signature, dict):
        raise ModelRefused("the signature is not a mapping")
    if not signature.get("inputs"):
        return None
    try:
        inputs: Any = msgspec.json.decode(signature["inputs"])
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise ModelRefused("the signature's inputs are not valid JSON") from error
    if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
        raise ModelRefused("the signature's inputs are not a list of columns")
    columns: list[Column] = []
    for item in inputs:
        if item.get("type") == "tensor":
            return None
        name, kind = item.get("name"), item.get("type")
        if not isinstance(name, str) or not name:
            raise ModelRefused("the signature has a column without a name")
        if kind not in KINDS:
            raise ModelRefused(f"the signature's column {name!r} has type {kind!r}, and only numbers can be served")
        columns.append(Column(name, KINDS[kind], bool(item.get("required", True)), INTEGER_BITS.get(kind)))
    if len({column.name for column in columns}) != len(columns):
        raise ModelRefused("the signature names a column twice")
    return tuple(columns)


def join_features(
    columns: tuple[Column, ...] | None, plan: Plan | None, booster_names: tuple[str, ...]
) -> tuple[Feature, ...]:
    """Features of the model, in the engine's order.

    Args:
        columns: Columns of the signature, where it has any.
        plan: Feature plan, where the model has one; its inputs are then the features.
        booster_names: Feature names of the forest, used where there is no plan.

    Raises:
        ModelRefused: The three do not agree.
    """
    if plan is not None:
        names = tuple(item.name for item in plan.inputs)
        if columns is not None and {column.name for column in columns} != set(names):
            raise ModelRefused(
                f"the signature's columns {_list(columns)} are not the plan's inputs {', '.join(names)}", "agreement"
            )
        by_name = {column.name: column for column in columns or ()}
        return tuple(
            Feature(
                name=item.name,
                kind=by_name[item.name].kind if by_name else "number",
                required=by_name[item.name].required if by_name else True,
                description=item.description,
                unit=item.unit,
                physical_range=_narrower(item.physical_range, _limits(by_name.get(item.name))),
                training_range=item.training_range,
            )
            for item in plan.inputs
        )
    if columns is None:
        return tuple(Feature(name=name) for name in booster_names)
    if len(columns) != len(booster_names):
        raise ModelRefused(
            f"the signature has {len(columns)} columns, the booster {len(booster_names)} features", "agreement"
        )
    # LightGBM stores names with underscores instead of blanks, and Column_N for features without a name.
    named = not all(name == f"Column_{index}" for index, name in enumerate(booster_names))
    if named and tuple("_".join(column.name.split(" ")) for column in columns) != booster_names:
        raise ModelRefused(
            f"the signature's columns {_list(columns)} are not the booster's features {', '.join(booster_names)}",
            "agreement",
        )
    return tuple(
        Feature(name=column.name, kind=column.kind, required=column.required, physical_range=_limits(column))
        for column in columns
    )


def _limits(column: Column | None) -> tuple[float, float] | None:
    if column is None or column.bits is None:
        return None
    bound = 2 ** (column.bits - 1)
    # The float below 2**63 is the upper bound of 64 bits, since 2**63 itself is no value of the type.
    return float(-bound), float(bound - 1) if column.bits == 32 else float(bound - 1024)


def _narrower(left: tuple[float, float] | None, right: tuple[float, float] | None) -> tuple[float, float] | None:
    if left is None or right is None:
        return left or right
    return max(left[0], right[0]), min(left[1], right[1])


def _list(columns: tuple[Column, ...]) -> str:
    return ", ".join(column.name for column in columns)
