"""What a model takes: its raw features, joined from the MLflow signature, the feature plan and the booster."""

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
"""MLflow's column types (mlflow/types/schema.py) that a numeric forest can take."""

INTEGER_BITS = {"integer": 32, "long": 64}


class Column(msgspec.Struct, frozen=True):
    """A named column of an MLflow signature."""

    name: str
    kind: Kind
    required: bool
    bits: int | None


def signature_columns(signature: Any) -> tuple[Column, ...] | None:
    """Read the input columns of an MLmodel's signature.

    Args:
        signature: The value of MLmodel's `signature` key, whose `inputs` is JSON text.

    Returns:
        The columns, or None where there is no signature or it names none (a tensor).

    Raises:
        ModelRefused: A column has a type that is no number, or columns are unnamed or named twice.
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
    """Say what the model takes, in the order in which its engine takes it.

    Args:
        columns: From the signature, if it names any.
        plan: The feature plan, if the model has one: then its inputs are the features.
        booster_names: The forest's own feature names, used where there is no plan.

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
    # LightGBM stores names with blanks turned into underscores, and Column_N where it was given none.
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
    # For 64 bits the float below 2**63 is used, so that the bound itself is a value of the type.
    return float(-bound), float(bound - 1) if column.bits == 32 else float(bound - 1024)


def _narrower(left: tuple[float, float] | None, right: tuple[float, float] | None) -> tuple[float, float] | None:
    if left is None or right is None:
        return left or right
    return max(left[0], right[0]), min(left[1], right[1])


def _list(columns: tuple[Column, ...]) -> str:
    return ", ".join(column.name for column in columns)
