"""Columns as Arrow holds them, to and from batches: what the Arrow, Parquet and CSV formats share."""

from typing import Any

import numpy as np
import pyarrow as pa

from app.codecs.batch_builder import BatchBuilder
from app.codecs.result import Result
from app.codecs.rules import FloatArray


def fill(builder: BatchBuilder, batch: Any, places: list[int | None]) -> None:
    """Add all rows of a record batch, whose columns are where `places` says; a null is NaN."""
    for start in range(0, batch.num_rows, builder.block_rows):
        part = batch.slice(start, builder.block_rows)
        columns = [None if place is None else _values(part.column(place)) for place in places]
        if all(column is None for column in columns):  # all were left out, and one must tell how many rows there are
            columns = [np.full(part.num_rows, np.nan), *columns[1:]]
        builder.add_columns(columns)


def schema_of(result: Result) -> Any:
    """A column of float64 for each of the answer's, and the model's version in the metadata."""
    return pa.schema([(name, pa.float64()) for name in result.names], {"model_version": result.model_version})


def record_batch(result: Result, schema: Any, start: int, stop: int) -> Any:
    """Rows of an answer."""
    return pa.record_batch([pa.array(values) for values in result.columns(start, stop).values()], schema=schema)


def _values(column: Any) -> FloatArray:
    """float64[b] of a column of numbers or booleans."""
    values = column if column.type == pa.float64() else column.cast(pa.float64(), safe=False)
    return (values if values.null_count == 0 else values.fill_null(np.nan)).to_numpy()
