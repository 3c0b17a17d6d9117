"""A raw feature of a model, as callers send it."""

from typing import Literal

import msgspec

Kind = Literal["number", "integer", "boolean", "category"]

Category = str | int | float | bool
"""A category's own value, as callers send it."""


class Feature(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True, rename={"kind": "type"}):
    """One raw feature, as callers send it.

    Attributes:
        name: Name in a request.
        kind: Kind of its values.
        required: Whether every row must name the feature.
        nullable: Whether a value may be missing although the feature is required; see `takes_missing`.
        single: Whether a value is rounded to float32, as MLflow does for a column of type float.
        categories: Values of a category in the order of their codes: the forest gets a value's index. None for other
            kinds.
        unseen: What happens to a value that is none of the categories: it counts as missing, as in LightGBM, or is
            refused.
        description: Meaning.
        unit: Unit of measurement.
        physical_range: Least and greatest value possible; a value outside is refused.
        training_range: Least and greatest value seen in training; a value outside is answered with a warning.
    """

    name: str
    kind: Kind = "number"
    required: bool = True
    nullable: bool = False
    single: bool = False
    categories: tuple[Category, ...] | None = None
    unseen: Literal["missing", "refuse"] = "missing"
    description: str = ""
    unit: str = ""
    physical_range: tuple[float, float] | None = None
    training_range: tuple[float, float] | None = None

    @property
    def takes_missing(self) -> bool:
        """Whether a row may lack a value: null, NaN, or an empty cell. The forest then gets NaN."""
        return self.nullable or not self.required or self.kind == "category"
