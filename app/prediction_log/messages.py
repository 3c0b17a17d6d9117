"""Messages of the prediction log, from the service to the process that writes it, and back."""

from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

LogFormat = Literal["sql", "parquet"]
Category = str | int | float | bool
Categories = dict[int, dict[int, Category]]
"""Value of each code, of each column of categories."""

Calibration = tuple[float, float, float]
"""Level, score q and least difficulty d of intervals, which are prediction ± q * max(difficulty, d)."""


class Intervals(Protocol):
    """Intervals of a model, of which the log takes those of the default level."""

    @property
    def default(self) -> Calibration:
        """Calibration of the default level."""
        ...


PRUNED = msgspec.msgpack.encode([])
"""Message that asks for the number of old rows that were deleted."""


class LogTarget(msgspec.Struct, frozen=True):
    """Place of the log.

    Attributes:
        url: SQLAlchemy URL of a SQLite or PostgreSQL database, for the format sql.
        keep_rows: Number of rows to keep, the newest ones.
        directory: Directory of the log's own files: spool and Parquet files.
        format: Rows of a table, or Parquet files.
        durable: Whether rows come from a spool, and must be on the disk when they are written.
        keep_days: Age in days up to which rows are kept; 0 for any.
    """

    url: str
    keep_rows: int
    directory: str = ""
    format: LogFormat = "sql"
    durable: bool = False
    keep_days: float = 0.0

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
        latency_ms: Time from the request's start until it was logged; None where unknown.
        places: Index of each row within the request; None for 0 to B - 1.
    """

    id: str
    kind: str
    time: float
    count: int
    latency_ms: float | None = None
    places: tuple[int, ...] | None = None


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
        calibration: Intervals of the model; None for a model without.
        difficulties: Bytes of float64[N], a piece for each request; empty pieces for a model without intervals.
        key_id: Id of the key that the requests gave; None where none was needed.
    """

    model: tuple[str, str]
    names: tuple[str, ...]
    outputs: int
    categories: Categories = {}
    requests: list[LoggedRequest] = []
    rows: list[bytes] = []
    predictions: list[bytes] = []
    count: int = 0
    calibration: Calibration | None = None
    difficulties: list[bytes] = []
    key_id: str | None = None

    def add(self, request: LoggedRequest, rows: bytes, predictions: bytes, difficulty: bytes = b"") -> None:
        """Append a request with its rows, their predictions and their difficulties."""
        self.requests.append(request)
        self.rows.append(rows)
        self.predictions.append(predictions)
        self.difficulties.append(difficulty)
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

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Lower and upper bound of each row at the model's default level, as the answer has them; None without."""
        difficulty = np.frombuffer(b"".join(self.difficulties))
        if self.calibration is None or self.outputs != 1 or len(difficulty) != self.count:
            return None
        _, score, least = self.calibration
        half_width = score * np.maximum(difficulty, least)
        prediction = np.frombuffer(b"".join(self.predictions))
        return prediction - half_width, prediction + half_width

    def places(self) -> NDArray[np.int64]:
        """Index of each row within its request."""
        counts = np.array([request.count for request in self.requests])
        starts = np.cumsum(counts) - counts
        places = np.arange(self.count) - np.repeat(starts, counts)
        for start, request in zip(starts.tolist(), self.requests, strict=True):
            if request.places is not None:
                places[start : start + request.count] = request.places
        return places

    def latencies(self) -> list[float | None]:
        """Latency of each request in milliseconds, to the microsecond."""
        return [None if one.latency_ms is None else round(one.latency_ms, 3) for one in self.requests]


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
