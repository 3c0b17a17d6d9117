"""Writes the prediction log to its database, in a separate process.

    python -m app.prediction_log.writer

Making and writing a row takes as much CPU time as a prediction, half of it with the GIL held, for which every request
would wait in the service's own process. When the service ends, however it does, its end of the connection closes; this
process then writes all rows that it was given, and ends too. Its messages (`child_process`) are MessagePack:
`LogTarget`, then lists of `LoggedPredictions`, each answered by a fault or None.
"""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, exc

from app.child_process import parent
from app.prediction_log.messages import LoggedPredictions, LogTarget

NICENESS = 5
"""Niceness of the process: requests go first on a busy machine, but the log must keep up with them."""

STATEMENT_ROWS = 100
"""Rows of one statement: with many rows, drivers take longer for each."""

REST = 4.0
"""Seconds of sleep for each second of work, so that the process takes at most a fifth of a core. Without sleep it could
take a whole one, since batches are predicted faster than a database takes rows."""

PRUNE_INTERVAL_ROWS = 10_000
CONNECT_TIMEOUT_S = 5

MOMENT_LENGTH = len("2026-01-02 03:04:05.000006")

_encode_lines = msgspec.json.Encoder().encode_lines

TABLE = sa.Table(
    "predictions",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("request_id", sa.String(128), nullable=False, index=True),
    sa.Column("prediction_type", sa.String(16), nullable=False),
    sa.Column("model_name", sa.String(256), nullable=False),
    sa.Column("model_version", sa.String(32), nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
    sa.Column("prediction", sa.JSON, nullable=False),
)


COLUMNS = tuple(column.name for column in TABLE.columns if not column.primary_key)


class LogDatabase:
    """Writes rows to the database of the log.

    Args:
        target: The database.
        rest: Seconds to sleep for each second of CPU time.
    """

    def __init__(self, target: LogTarget, rest: float = 0.0) -> None:
        self._target = target
        self._rest = rest
        self._engine: sa.Engine | None = None
        self._since_prune = 0
        self._worked = time.thread_time()

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """Write the rows of a batch, all or none.

        Returns:
            None, or the fault: only the class of the error, since its text can hold the URL with its password.
        """
        try:
            self._write(batch)
        except (exc.SQLAlchemyError, OSError) as error:
            return type(error.orig if isinstance(error, exc.DBAPIError) and error.orig else error).__name__
        finally:
            self._pause()
        return None

    def close(self) -> None:
        """Close the database."""
        if self._engine is not None:
            self._engine.dispose()

    def _write(self, batch: list[LoggedPredictions]) -> None:
        engine = self._connected()
        sqlite = engine.dialect.name == "sqlite"
        values = f"({', '.join(['?' if sqlite else '%s'] * len(COLUMNS))})"
        rows = chain.from_iterable(_values(predictions, sqlite=sqlite) for predictions in batch)
        count = 0
        with engine.begin() as connection:
            while part := list(islice(rows, STATEMENT_ROWS)):
                statement = f"INSERT INTO {TABLE.name} ({', '.join(COLUMNS)}) VALUES {', '.join([values] * len(part))}"
                connection.exec_driver_sql(statement, tuple(chain.from_iterable(part)))
                count += len(part)
                self._pause()
        self._since_prune += count
        if self._since_prune >= PRUNE_INTERVAL_ROWS:
            self._prune()

    def _pause(self) -> None:
        """Sleep in proportion to the CPU time since the last pause, the decoding of requests included."""
        time.sleep(self._rest * (time.thread_time() - self._worked))
        self._worked = time.thread_time()

    def _prune(self) -> None:
        with self._connected().begin() as connection:
            # By position, not by arithmetic, since a rolled-back write leaves a gap in the ids.
            surplus = sa.select(TABLE.c.id).order_by(TABLE.c.id.desc()).offset(self._target.keep_rows).limit(1)
            if (last := connection.execute(surplus).scalar()) is not None:
                connection.execute(sa.delete(TABLE).where(TABLE.c.id <= last))
        self._since_prune = 0

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            url = sa.make_url(self._target.url)
            arguments: dict[str, Any] = {}
            if url.drivername.startswith("postgresql"):
                arguments["connect_timeout"] = CONNECT_TIMEOUT_S
            elif url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = sa.create_engine(url, connect_args=arguments, pool_size=1, max_overflow=1, pool_pre_ping=True)
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _write_ahead)
            TABLE.metadata.create_all(engine)
            self._engine = engine
        return self._engine


def _values(predictions: LoggedPredictions, *, sqlite: bool) -> Iterator[tuple[str, ...]]:
    """Values of the table's `COLUMNS` for each row, as text that either database reads."""
    requests: list[tuple[str, ...]] = []
    length = MOMENT_LENGTH if sqlite else None  # without a time zone: SQLite keeps none, and times are UTC
    for request in predictions.requests:
        moment = datetime.fromtimestamp(request.time, UTC).isoformat(" ", "microseconds")[:length]
        requests += [(moment, request.id, request.kind, *predictions.model)] * request.count
    names = predictions.names
    features = _lines([dict(zip(names, row, strict=True)) for row in predictions.features()])
    for request, row, output in zip(requests, features, _lines(predictions.answers()), strict=True):
        yield (*request, row, output)


def _lines(values: list[Any]) -> list[str]:
    """Each value as JSON. Only the line feed ends a line, since JSON escapes it inside a value."""
    return _encode_lines(values).decode().split("\n")[:-1]


def _write_ahead(connection: Any, _: object) -> None:
    """Use SQLite's write-ahead log, so that readers are not locked out and a commit waits for no disk.

    A crash of the machine may lose the last commits, which is acceptable for a log of predictions.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def main() -> None:
    """Write what is asked until the parent has gone."""
    connection = parent()
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may reach all processes before the service's last rows do
    database = LogDatabase(msgspec.msgpack.decode(connection.recv_bytes(), type=LogTarget), REST)
    decoder = msgspec.msgpack.Decoder(list[LoggedPredictions])
    try:
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(msgspec.msgpack.encode(database.write(decoder.decode(connection.recv_bytes()))))
    except (EOFError, OSError):
        database.close()


if __name__ == "__main__":
    main()
