"""Bound on the values that a body leaves out: optional columns that it lacks, and columns of one value for all rows."""

from app.errors import TooLarge

FEW_VALUES, MOST_PER_BYTE = 2**17, 8
"""Values that a batch may have in any case, and most values for each byte of its body."""


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
