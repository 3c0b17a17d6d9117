"""What a scoring writes beside the predictions, and what it does with bad rows."""

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
