"""A raw feature of a model, as its callers see it."""

from typing import Literal

import msgspec

Kind = Literal["number", "integer", "boolean"]


class Feature(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """One raw feature, as a caller gives it.

    Attributes:
        name: Key in a request.
        kind: What JSON values it takes.
        required: Whether it must be given; where not, a missing or null one reaches the forest as NaN.
        description: What it means.
        unit: What it is measured in.
        physical_range: Least and greatest value that can be true; one outside is refused.
        training_range: Least and greatest value seen in training; one outside is answered with a warning.
    """

    name: str
    kind: Kind = "number"
    required: bool = True
    description: str = ""
    unit: str = ""
    physical_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None
