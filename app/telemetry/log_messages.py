"""What the prediction log is told, as it goes from the service to the process that writes."""

from typing import Any

import msgspec


class LogTarget(msgspec.Struct, frozen=True):
    """Where rows go.

    Attributes:
        url: SQLAlchemy URL of a SQLite or PostgreSQL database.
        keep_rows: Newest rows that are kept.
    """

    url: str
    keep_rows: int


class LoggedRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request whose rows are logged, a row of the log for each.

    Attributes:
        id: Of the request.
        kind: How predictions were asked for.
        time: Seconds since 1970, UTC.
        count: B, its rows.
    """

    id: str
    kind: str
    time: float
    count: int


class LoggedPredictions(msgspec.Struct, array_like=True):
    """Requests that one model answered, one after the other; N rows in all.

    Attributes:
        model: Name and version.
        names: Of the F features.
        outputs: K, predictions for a row.
        requests: In their order.
        rows: float64[N, F], in pieces.
        predictions: float64[N, K], in pieces.
        count: N.
    """

    model: tuple[str, str]
    names: tuple[str, ...]
    outputs: int
    requests: list[LoggedRequest] = []
    rows: list[bytes] = []
    predictions: list[bytes] = []
    count: int = 0

    def add(self, request: LoggedRequest, rows: bytes, predictions: bytes) -> None:
        """Take one more request, with its rows."""
        self.requests.append(request)
        self.rows.append(rows)
        self.predictions.append(predictions)
        self.count += request.count

    def features(self) -> list[list[float]]:
        """The rows."""
        return _in_rows(self.rows, self.count, len(self.names))

    def answers(self) -> list[Any]:
        """For each row a number, or a list of K where K > 1."""
        rows = _in_rows(self.predictions, self.count, self.outputs)
        return [row[0] for row in rows] if self.outputs == 1 else rows


def _in_rows(pieces: list[bytes], count: int, width: int) -> Any:
    if width == 0:
        return [[] for _ in range(count)]
    return memoryview(b"".join(pieces)).cast("d", (count, width)).tolist()
