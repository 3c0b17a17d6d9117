"""What MLflow takes for a model's columns: its schema enforcement, as far as it makes sense.

MLflow converts a value to the type of its column, by pandas or NumPy, and compares the columns with the signature
(`mlflow/models/utils.py`, `mlflow/utils/proto_json_utils.py`). A value that cannot be converted is BAD_REQUEST, and a
column that is missing INVALID_PARAMETER_VALUE.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any

from msgspec import Meta

from app.codecs.json.types import json_type
from app.codecs.rules import BODY, LARGEST_WHOLE, MAX_ERRORS, MISSING, REPEATED, WRONG_COLUMNS, limits_of
from app.errors import BadRequest, FieldError, InvalidInput, ServiceError
from app.feature import Feature
from app.models.signature import Layout

Places = list[int | None]
"""Position of each feature's column in a body; None for one that is not there."""

WHOLE: Any = Annotated[int, Meta(ge=-int(LARGEST_WHOLE), le=int(LARGEST_WHOLE))]


def limits_in_mlflow(feature: Feature) -> tuple[float, float]:
    """Least and greatest value accepted: those of all formats, but a number may be infinite, as it may be missing."""
    if feature.kind == "number" and feature.nullable and feature.physical_range is None:
        return -math.inf, math.inf
    return limits_of(feature)


def type_in_mlflow(feature: Feature) -> Any:
    """The type by which msgspec decodes a value that needs no conversion."""
    if feature.kind == "number" and feature.nullable and feature.physical_range is None:
        # A whole number that float64 rounds becomes a float32 in one step or in two, which the second reading knows.
        return WHOLE | float | bool | None if feature.single else float | bool | None
    return json_type(feature, ranged=feature.kind != "category")


def places_by_name(names: Sequence[object], features: tuple[Feature, ...]) -> Places:
    """Position of the column of each feature's name; columns named by numbers are known by the text of these.

    Raises:
        InvalidInput: A feature has more than one column.
    """
    known = {feature.name for feature in features}
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if (text := str(name)) in known:
            found.setdefault(text, []).append(place)
    repeated = tuple(FieldError(name, REPEATED) for name, places in found.items() if len(places) > 1)
    if repeated:
        raise InvalidInput(WRONG_COLUMNS, repeated[:MAX_ERRORS])
    return [found[feature.name][0] if feature.name in found else None for feature in features]


def places_of(names: Sequence[object], features: tuple[Feature, ...], layout: Layout) -> Places:
    """Position of each feature's column in a body.

    Where the signature names no columns, MLflow takes them by their places. A body that names all of the booster's
    features, in whatever order, is taken by these names.

    Args:
        names: Names of the body's columns, or their places.
        features: The model's features.
        layout: How the signature tells columns apart.

    Raises:
        InvalidInput: A feature has several columns, or the number of columns is not the signature's.
        BadRequest: The number of columns is not that of a model without a signature.
    """
    if layout == "named" or (len(names) == len(features) and set(map(str, names)) == _names(features)):
        return places_by_name(names, features)
    width = len(features)
    if len(names) < width or (layout != "positional" and len(names) > width):
        fault = FieldError(BODY, f"must have {width} columns, and has {len(names)}")
        raise unfit(layout, WRONG_COLUMNS, fault)
    return list(range(width))


def unfit(layout: Layout, detail: str, fault: FieldError) -> ServiceError:
    """Error for values of a shape that the signature rules out; without one, LightGBM does, which is BadRequest."""
    return BadRequest(detail, (fault,)) if layout == "unsigned" else InvalidInput(detail, (fault,))


def check_required(places: Places, features: tuple[Feature, ...]) -> None:
    """Raise InvalidInput if a required column is not there."""
    missing = tuple(
        FieldError(feature.name, MISSING)
        for place, feature in zip(places, features, strict=True)
        if place is None and feature.required
    )
    if missing:
        raise InvalidInput(WRONG_COLUMNS, missing[:MAX_ERRORS])


def check_some(rows: int) -> None:
    """Raise BadRequest if there are no rows, which LightGBM does not take."""
    if rows == 0:
        raise BadRequest("The body is not valid.", (FieldError(BODY, "must hold at least one row"),))


@contextmanager
def values_as_bad_request() -> Generator[None]:
    """Raise BadRequest for values that the model does not take."""
    try:
        yield
    except InvalidInput as error:
        raise BadRequest(error.detail, error.errors) from None


@lru_cache(maxsize=16)
def _names(features: tuple[Feature, ...]) -> set[str]:
    return {feature.name for feature in features}
