"""Values of the log's table for many rows, a column at a time.

Text is made for all rows of a block in a few calls, since a call for each row would take most of the time of a write.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import starmap
from typing import Any

import msgspec
import numpy as np

from app.prediction_log.messages import LoggedPredictions

UNUSUAL = re.compile(r'["\\\x00-\x1f]')
"""Characters that the names of a struct's fields cannot have."""

_encode_lines = msgspec.json.Encoder().encode_lines

Column = Sequence[str | float | None]


COLUMNS = (
    "created_at", "request_id", "prediction_type", "model_name", "model_version", "features", "prediction",
    "row", "interval_lower", "interval_upper", "interval_level", "latency_ms", "key_id",
)  # fmt: skip
"""All columns of the table but the id."""


def columns(predictions: LoggedPredictions, *, zone: bool) -> tuple[Column, ...]:
    """The N values of each of `COLUMNS`.

    Args:
        predictions: N rows.
        zone: Whether times get their zone, which is UTC.
    """
    counts = [request.count for request in predictions.requests]
    moments, latencies = _moments(predictions, zone=zone), predictions.latencies()
    ids, kinds = [one.id for one in predictions.requests], [one.kind for one in predictions.requests]
    if len(counts) != predictions.count:
        moments, ids, kinds, latencies = (_repeated(column, counts) for column in (moments, ids, kinds, latencies))
    name, version, key = ([text] * predictions.count for text in (*predictions.model, predictions.key_id))
    known = moments, ids, kinds, name, version, _features(predictions), _lines(predictions.answers())
    return *known, predictions.places().tolist(), *_interval(predictions), latencies, key


def _interval(predictions: LoggedPredictions) -> tuple[Column, Column, Column]:
    """Lower bound, upper bound and level of each row."""
    bounds, calibration = predictions.bounds(), predictions.calibration
    if bounds is None or calibration is None:
        nothing = [None] * predictions.count
        return nothing, nothing, nothing
    lower, upper = bounds
    return lower.tolist(), upper.tolist(), [calibration[0]] * predictions.count


def flat(block: tuple[Column, ...], start: int, stop: int) -> list[str | float | None]:
    """The values of rows `start` to `stop`, row after row."""
    width = len(block)
    values: list[str | float | None] = [None] * (width * (stop - start))
    for number, column in enumerate(block):
        values[number::width] = column[start:stop]
    return values


def _moments(predictions: LoggedPredictions, *, zone: bool) -> list[str]:
    seconds = np.array([request.time for request in predictions.requests])
    texts = np.datetime_as_string((seconds * 1e6).astype("M8[us]")).tolist()
    end = "+00:00" if zone else ""
    return [f"{text[:10]} {text[11:]}{end}" for text in texts]


def _features(predictions: LoggedPredictions) -> list[str]:
    """Features of each row as a JSON object. A struct costs a tenth of a dict, and its keys are encoded once."""
    names = predictions.names
    if not names or any(UNUSUAL.search(name) for name in names):
        return _lines([dict(zip(names, row, strict=True)) for row in predictions.features()])
    return _lines(list(starmap(_row_type(names), predictions.features())))


@lru_cache(8)
def _row_type(names: tuple[str, ...]) -> Any:
    """A struct that is encoded as an object with these keys."""
    fields = [(f"f{number}", Any) for number in range(len(names))]
    rename = {f"f{number}": name for number, name in enumerate(names)}
    return msgspec.defstruct("Row", fields, rename=rename, gc=False)


def _repeated(values: list[Any], counts: list[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _lines(values: list[Any]) -> list[str]:
    """Each value as JSON. Only the line feed ends a line, since JSON escapes it inside a value."""
    return _encode_lines(values).decode().split("\n")[:-1]
