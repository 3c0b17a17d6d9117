"""Messages of the prediction log, from the service to the process that writes them to a database."""

from typing import Any

import msgspec
import numpy as np


class LogTarget(msgspec.Struct, frozen=True):
    """Database of the log.

    Attributes:
        url: SQLAlchemy URL of a SQLite or PostgreSQL database.
        keep_rows: Number of rows to keep, the newest ones.
    """

    url: str
    keep_rows: int


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
    categories: dict[int, dict[int, str | int | float | bool]] = {}
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
        kept: dict[int, dict[int, str | int | float | bool]] = {}
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


def _in_rows(pieces: list[bytes], count: int, width: int) -> Any:
    if width == 0:
        return [[] for _ in range(count)]
    return memoryview(b"".join(pieces)).cast("d", (count, width)).tolist()
