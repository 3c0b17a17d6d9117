"""Rows of the log as tables of Arrow.

All tables have one schema, also across models with other features, since readers of a folder of Parquet files take the
schema of its first file for all. So features are a map from name to number, and those that are categories a map from
name to text.
"""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from app.prediction_log.messages import Categories, Category, LoggedPredictions

SCHEMA = pa.schema(
    [
        pa.field("created_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("prediction_type", pa.string(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("features", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("categories", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("prediction", pa.list_(pa.float64()), nullable=False),
        pa.field("row", pa.int32()),  # from here on missing in files of the first releases
        pa.field("interval_lower", pa.float64()),
        pa.field("interval_upper", pa.float64()),
        pa.field("interval_level", pa.float64()),
        pa.field("latency_ms", pa.float64()),
        pa.field("key_id", pa.string()),
    ]
)


def table_of(predictions: LoggedPredictions) -> Any:
    """A table of the rows, with `SCHEMA`."""
    count, width = predictions.count, len(predictions.names)
    counts = [request.count for request in predictions.requests]
    rows = np.frombuffer(b"".join(predictions.rows)).reshape(count, width)
    outputs = np.frombuffer(b"".join(predictions.predictions))
    numeric = [column for column in range(width) if column not in predictions.categories]
    which = pa.array(np.repeat(np.arange(len(counts)), counts))
    seconds = np.array([request.time for request in predictions.requests])
    numbers = pa.array(rows[:, numeric].ravel(), pa.float64(), from_pandas=True)  # a missing value is null
    texts = pa.array(_category_texts(rows, predictions.categories), pa.string())
    columns = [
        pa.array((seconds * 1e6).astype("M8[us]"), pa.timestamp("us", "UTC")).take(which),
        pa.array([request.id for request in predictions.requests], pa.string()).take(which),
        pa.array([request.kind for request in predictions.requests], pa.string()).take(which),
        *(pa.array([text] * count, pa.string()) for text in predictions.model),
        _map([predictions.names[column] for column in numeric], numbers, count),
        _map([predictions.names[column] for column in predictions.categories], texts, count),
        pa.ListArray.from_arrays(_offsets(count, predictions.outputs), pa.array(outputs)),
        pa.array(predictions.places(), pa.int32()),
        *_interval(predictions),
        pa.array(predictions.latencies(), pa.float64()).take(which),
        pa.array([predictions.key_id] * count, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _interval(predictions: LoggedPredictions) -> list[Any]:
    """Lower bound, upper bound and level of each row."""
    bounds, calibration = predictions.bounds(), predictions.calibration
    if bounds is None or calibration is None:
        return [pa.nulls(predictions.count, pa.float64())] * 3
    lower, upper = bounds
    return [pa.array(lower), pa.array(upper), pa.array(np.full(predictions.count, calibration[0]))]


def _map(names: list[str], values: Any, count: int) -> Any:
    """A map of N rows, which all have the same keys.

    Args:
        names: The K keys.
        values: N x K values, row after row.
        count: N.
    """
    keys = pa.array(names, pa.string()).take(pa.array(np.tile(np.arange(len(names)), count)))
    return pa.MapArray.from_arrays(_offsets(count, len(names)), keys, values)


def _offsets(count: int, width: int) -> Any:
    return pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(width))


def _category_texts(rows: NDArray[np.float64], categories: Categories) -> list[str | None]:
    """Values of the columns of categories, row after row; None where there is none."""
    texts = {column: {code: text_of(value) for code, value in values.items()} for column, values in categories.items()}
    return [
        texts[column].get(code)
        for row in rows[:, list(categories)].tolist()
        for column, code in zip(categories, row, strict=True)
    ]


def text_of(value: Category) -> str:
    """A category as the files have it: a text as it is, others as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
