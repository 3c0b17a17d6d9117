"""Tables of the kinds that people have, as bodies of requests, and the answers in the same kind.

A matrix of NumPy goes as npy, and whatever has columns as an Arrow stream: each is nearly a copy of its memory. Without
pyarrow, a dict of columns goes as JSON.
"""

import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import msgspec

from madrone.client.rows import encode_json, is_infinite

ARROW = "application/vnd.apache.arrow.stream"
NPY = "application/x-npy"
JSON = "application/json"

KINDS = (
    "a pandas or polars DataFrame, a pyarrow Table or RecordBatch, a NumPy matrix, a dict of columns, or what has "
    "__arrow_c_stream__"
)

NAMING = ("Conversion failed for column ", "Duplicate column names found: ", "Sparse pandas data (column ")
"""How those errors of pyarrow begin that name a column and show no value."""


class Table(Protocol):
    """A table to be sent in parts.

    Attributes:
        rows: Number of rows.
        nbytes: Approximate size of a body with all of them.
        media_type: Format of the bodies and of the answers.
    """

    rows: int
    nbytes: int
    media_type: str

    def body(self, start: int, stop: int) -> bytes:
        """A body with the rows from `start` to before `stop`."""
        ...

    def answer(self, bodies: Sequence[bytes]) -> Any:
        """The answers to all parts, in their order, as one table of the kind that was given.

        Raises:
            ValueError: A body is not in the format.
        """
        ...


def table_of(given: Any) -> Table:
    """The table that a user gave.

    Raises:
        TypeError: It is of none of the kinds.
        ValueError: Its columns are not of one length, or of no type that Arrow has.
        ImportError: It goes by Arrow, and pyarrow is not installed.
    """
    numpy, pandas, polars = (sys.modules.get(name) for name in ("numpy", "pandas", "polars"))  # what is given is there
    if numpy is not None and isinstance(given, numpy.ndarray):
        return _Matrix(given)
    if isinstance(given, Mapping):
        return _columns(cast(Mapping[str, Any], given))
    if pandas is not None and isinstance(given, pandas.DataFrame):
        index = given.index
        table = _arrow("table", lambda: _pa().Table.from_pandas(given, preserve_index=False))
        return _Arrow(table, lambda table: _framed(table, index))
    if polars is not None and isinstance(given, polars.DataFrame):
        return _Arrow(_arrow("table", lambda: _pa().table(given)), polars.DataFrame)
    if hasattr(given, "to_batches") and hasattr(given, "slice"):
        return _Arrow(given)
    if hasattr(given, "__arrow_c_array__"):
        batch = _arrow("table", lambda: _pa().record_batch(given))
        return _Arrow(_pa().Table.from_batches([batch]), _batch)
    if hasattr(given, "__arrow_c_stream__"):
        return _Arrow(_arrow("table", lambda: _pa().table(given)))
    raise TypeError(f"The table must be {KINDS}, not {type(given).__name__}.")


class _Matrix:
    """A matrix of NumPy, whose columns are the features in the model's order."""

    media_type = NPY

    def __init__(self, matrix: Any) -> None:
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
            found = f"{matrix.ndim} dimensions of {matrix.dtype}"
            raise ValueError(f"A matrix must have two dimensions, rows and features, of numbers. It has {found}.")
        if hasattr(matrix, "mask") or matrix.itemsize > 8:
            matrix = matrix.astype(float)  # which the service has, and a masked array needs to have NaN
        if hasattr(matrix, "mask"):
            matrix = matrix.filled(math.nan)  # a missing value
        self._matrix, self.rows, self.nbytes = matrix, len(matrix), matrix.nbytes

    def body(self, start: int, stop: int) -> bytes:
        import numpy as np

        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(self._matrix[start:stop]), allow_pickle=False)
        return file.getvalue()

    def answer(self, bodies: Sequence[bytes]) -> Any:
        import numpy as np

        parts = [np.load(io.BytesIO(body), allow_pickle=False) for body in bodies]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Arrow:
    """A table of Arrow.

    Args:
        table: The table.
        restore: Makes what is answered of a table of Arrow, if that is something else.
    """

    media_type = ARROW

    def __init__(self, table: Any, restore: Callable[[Any], Any] = lambda table: table) -> None:
        self._table, self._restore = table, restore
        self.rows, self.nbytes = table.num_rows, table.nbytes

    def body(self, start: int, stop: int) -> bytes:
        pa = _pa()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._table.schema) as writer:
            writer.write_table(self._table.slice(start, stop - start))
        return sink.getvalue().to_pybytes()

    def answer(self, bodies: Sequence[bytes]) -> Any:
        pa = _pa()
        return self._restore(pa.concat_tables([pa.ipc.open_stream(body).read_all() for body in bodies]))


class _Json:
    """Columns as JSON, where pyarrow is not installed.

    Args:
        columns: Values by name, as many of each.
    """

    media_type = JSON

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        lengths = {name: len(values) for name, values in columns.items()}
        if len({*lengths.values()}) > 1:
            raise ValueError(f"The columns have different lengths: {lengths}.")
        for name, values in columns.items():
            if any(map(is_infinite, values)):  # which JSON makes null: a missing value
                raise ValueError(f"The column {name} holds an infinite value, which no model takes.")
        self._columns = columns
        self.rows = next(iter(lengths.values()), 0)
        self.nbytes = 16 * self.rows * len(columns)

    def body(self, start: int, stop: int) -> bytes:
        return encode_json({"columns": {name: values[start:stop] for name, values in self._columns.items()}})

    def answer(self, bodies: Sequence[bytes]) -> dict[str, list[Any]]:
        parts = [msgspec.json.decode(body, type=dict[str, Any])["columns"] for body in bodies]
        return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _columns(given: Mapping[str, Any]) -> Table:
    """A dict of columns: lists, arrays or whatever Arrow takes for a column; the answer's are lists."""
    try:
        pa = _pa()
    except ImportError:
        return _Json({str(name): list(values) for name, values in given.items()})
    columns = {str(name): _arrow(f"column {name}", partial(_column, values)) for name, values in given.items()}
    try:
        return _Arrow(pa.table(columns), lambda table: table.to_pydict())
    except pa.ArrowException as error:
        raise ValueError(f"The columns cannot be sent: {error}") from None


def _column(values: Any) -> Any:
    """A column of Arrow."""
    pa = _pa()
    return pa.chunked_array(values) if hasattr(values, "__arrow_c_stream__") else pa.array(values, from_pandas=True)


def _arrow(what: str, make: Callable[[], Any]) -> Any:
    """What is made of Arrow, whose own errors would show values."""
    pa = _pa()
    try:
        return make()
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        whys = [text for text in error.args if str(text).startswith(NAMING)]
        raise ValueError(
            f"The {what} cannot be sent: {whys[0] if whys else 'Arrow does not take its values'}."
        ) from None


def _framed(table: Any, index: Any) -> Any:
    """A DataFrame of pandas with the index of the one that was given."""
    return table.to_pandas().set_index(index)


def _batch(table: Any) -> Any:
    """One RecordBatch."""
    return _pa().RecordBatch.from_struct_array(table.to_struct_array().combine_chunks())


def _pa() -> Any:
    """The library of Arrow, which is imported only for tables of columns."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ImportError("Tables of columns are sent by Arrow, which needs pyarrow: pip install pyarrow") from error
    return pa
