"""Bound on the values that a body leaves out: optional columns that it lacks, and columns of one value for all rows."""

from functools import lru_cache

from app.errors import TooLarge
from app.feature import Feature

FEW_VALUES, MOST_PER_BYTE = 2**17, 8
"""Values that a batch may have in any case, and most values for each byte of its body."""


def check_objects(body: bytes | bytearray | memoryview, features: tuple[Feature, ...]) -> None:
    """Refuse JSON whose objects lack too many optional features, before each becomes a row of all features.

    Args:
        body: JSON, or several lines of it, with an object for each row.
        features: The model's features.

    Raises:
        TooLarge: The rows would take far more memory than the body.
    """
    if _has_optional(features):
        content = bytes(body) if isinstance(body, memoryview) else body
        check_filled(content.count(b"{"), len(features), len(content))


def check_filled(rows: int, columns: int, size: int) -> None:
    """Refuse a batch of values that its body does not hold, of which a few bytes could ask for any number.

    Args:
        rows: B, rows of the batch.
        columns: F, its columns.
        size: Bytes of the body.

    Raises:
        TooLarge: The values would take far more memory than the body.
    """
    values = rows * columns
    if values > FEW_VALUES and values > MOST_PER_BYTE * size:
        raise TooLarge("The rows lack too many columns: their values would take far more memory than the body.")


@lru_cache(maxsize=16)
def _has_optional(features: tuple[Feature, ...]) -> bool:
    return not all(feature.required for feature in features)
