"""A raw feature of a model, as callers send it."""

from typing import Literal

import msgspec

Kind = Literal["number", "integer", "boolean"]


class Feature(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """One raw feature, as callers send it.

    Attributes:
        name: Name in a request.
        kind: Kind of its values.
        required: Whether every row must have a value; for an optional feature, the forest gets NaN in place of none.
        description: Meaning.
        unit: Unit of measurement.
        physical_range: Least and greatest value possible; a value outside is refused.
        training_range: Least and greatest value seen in training; a value outside is answered with a warning.
    """

    name: str
    kind: Kind = "number"
    required: bool = True
    description: str = ""
    unit: str = ""
    physical_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None
