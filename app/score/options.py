"""What a scoring writes beside the predictions, and what it does with bad rows."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

Format = Literal["parquet", "csv", "ndjson", "arrow"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Formats of files that are read and written."""

OnError = Literal["fail", "null", "skip"]
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
"""What happens to a bad row: the run fails, the row has no prediction, or it is left out."""


class ScoreRefused(Exception):
    """The input cannot be scored so; the message says why, in one sentence."""


class ScoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a scoring.

    Attributes:
        keep: Columns of the input that the output has as well; None for all that are no features.
        renamed: The model's feature of each column of the input whose name is another one.
        level: Level of the intervals; None for an output without bounds.
        labels: Whether the output has the label of each row.
        explain: Whether the output has what each feature adds.
        top: Features of an explanation; None for all of them.
        on_error: What happens to bad rows.
    """

    keep: tuple[str, ...] | None = None
    renamed: dict[str, str] = {}
    level: float | None = None
    labels: bool = False
    explain: bool = False
    top: int | None = None
    on_error: OnError = "fail"


def options_of(
    *, interval: float | None, explain: bool | int | None, labels: bool, on_error: str,
    keep: Sequence[str] | None = None, renamed: Mapping[str, str] | None = None,
) -> ScoreOptions:  # fmt: skip
    """Options of a function, as callers write them.

    Args:
        interval: Level of the intervals, if any.
        explain: True for all features, a number for the largest ones.
        labels: Whether the output has the label of each row.
        on_error: One of `ON_ERROR`.
        keep: Columns that the output has as well; None for all that are no features.
        renamed: The model's feature of each column whose name is another one.

    Raises:
        ValueError: One has none of its values.
    """
    top = None if explain is None or isinstance(explain, bool) else explain
    if top is not None and not (isinstance(top, int) and top > 0):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError("explain must be True, False or a number above 0")
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}")
    return ScoreOptions(
        keep=None if keep is None else tuple(keep), renamed=dict(renamed or {}), level=interval, labels=labels,
        explain=bool(explain), top=top, on_error=on_error,
    )  # fmt: skip
