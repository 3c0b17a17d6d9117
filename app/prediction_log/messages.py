"""Messages of the prediction log, from the service to the process that writes it, and back."""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

LogFormat = Literal["sql", "parquet"]
Category = str | int | float | bool
Categories = dict[int, dict[int, Category]]
"""Value of each code, of each column of categories."""


class LogTarget(msgspec.Struct, frozen=True):
    """Place of the log.

    Attributes:
        url: SQLAlchemy URL of a SQLite or PostgreSQL database, for the format sql.
        keep_rows: Number of rows to keep, the newest ones.
        directory: Directory of the log's own files: spool and Parquet files.
        format: Rows of a table, or Parquet files.
        durable: Whether rows come from a spool, and must be on the disk when they are written.
    """

    url: str
    keep_rows: int
    directory: str = ""
    format: LogFormat = "sql"
    durable: bool = False

    @property
    def spool(self) -> Path:
        """Directory of the spool."""
        return Path(self.directory) / "spool"

    @property
    def parquet(self) -> Path:
        """Directory of the Parquet files."""
        return Path(self.directory) / "parquet"


class LoggedRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request; each of its rows becomes a row of the log.

    Attributes:
        id: Id of the request.
        kind: Kind of prediction, such as `single` or `batch`.
        time: Seconds since 1970, UTC.
        count: B, number of rows.
    """

    id: str
    kind: str
    time: float
    count: int


class LoggedPredictions(msgspec.Struct, array_like=True):
    """Consecutive requests that one model answered, N rows in all.

    Attributes:
        model: Name and version of the model.
        names: Names of the F features.
        outputs: K, predictions for each row.
        categories: Value of each code, of each column of categories.
        requests: The requests, in order.
        rows: Bytes of float64[N, F], a piece for each request.
        predictions: Bytes of float64[N, K], a piece for each request.
        count: N, number of rows.
    """

    model: tuple[str, str]
    names: tuple[str, ...]
    outputs: int
    categories: Categories = {}
    requests: list[LoggedRequest] = []
    rows: list[bytes] = []
    predictions: list[bytes] = []
    count: int = 0

    def add(self, request: LoggedRequest, rows: bytes, predictions: bytes) -> None:
        """Append a request with its rows and predictions."""
        self.requests.append(request)
        self.rows.append(rows)
        self.predictions.append(predictions)
        self.count += request.count

    def drop_unused_categories(self) -> None:
        """Keep the categories that some row has. A column may have a hundred thousand, and a message takes them all."""
        rows = np.frombuffer(b"".join(self.rows)).reshape(self.count, len(self.names))
        kept: Categories = {}
        for column, values in self.categories.items():
            codes = np.unique(rows[:, column])
            used = codes[np.isfinite(codes)].astype(np.int64).tolist()
            kept[column] = {code: values[code] for code in used if code in values}
        self.categories = kept

    def features(self) -> list[list[Any]]:
        """Features of each row: numbers, and of columns of categories their values; null where there is none."""
        rows = _in_rows(self.rows, self.count, len(self.names))
        for column, values in self.categories.items():
            for row in rows:
                row[column] = values.get(row[column])
        return rows

    def answers(self) -> list[Any]:
        """Prediction for each row: a number, or a list of K where K > 1."""
        rows = _in_rows(self.predictions, self.count, self.outputs)
        return [row[0] for row in rows] if self.outputs == 1 else rows


class Readable(msgspec.Struct, frozen=True, array_like=True):
    """A segment of the spool that has rows to write.

    Attributes:
        name: Name of its file.
        size: Number of bytes that are on the disk.
        sealed: Whether it grows no more.
    """

    name: str
    size: int
    sealed: bool


class Drained(msgspec.Struct, frozen=True, array_like=True):
    """How far a segment of the spool is written.

    Attributes:
        name: Name of its file.
        position: Number of bytes whose rows are written.
        rows: Number of rows in these bytes.
        newly: Number of them that this call wrote.
        damaged: Bytes passed over by this call because they hold no whole record.
        torn: The same, at the end of the segment.
        fault: Class of the error that prevented a write.
    """

    name: str
    position: int = 0
    rows: int = 0
    newly: int = 0
    damaged: int = 0
    torn: int = 0
    fault: str | None = None


def _in_rows(pieces: list[bytes], count: int, width: int) -> Any:
    if width == 0:
        return [[] for _ in range(count)]
    return memoryview(b"".join(pieces)).cast("d", (count, width)).tolist()
