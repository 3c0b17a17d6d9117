"""The prediction log as a table of a SQLite or PostgreSQL database."""

import time

import sqlalchemy as sa

from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LoggedPredictions, LogTarget
from app.prediction_log.pruning import Pruning
from app.prediction_log.sink import Moved
from app.prediction_log.tables import POSITIONS, PREDICTIONS
from app.prediction_log.values import COLUMNS, columns, flat

STATEMENT_ROWS = 100
"""Rows of one statement: with many rows, drivers take longer for each."""

TRANSACTION_ROWS = 5_000

NAMES = ", ".join(f'"{name}"' for name in COLUMNS)


class LogDatabase:
    """Writes rows to the database of the log.

    Args:
        target: The database.
        rest: Seconds to sleep for each second of CPU time.

    Attributes:
        most_rows: Rows of one transaction.
        piece_bytes: Bytes of a spool that are read for it.
    """

    most_rows = TRANSACTION_ROWS
    piece_bytes = 2**20

    def __init__(self, target: LogTarget, rest: float = 0.0) -> None:
        self._target = target
        self._rest = rest
        self._engine: sa.Engine | None = None
        self._worked = time.thread_time()
        self._pruning = Pruning(target, self._pause)

    def write(self, batch: list[LoggedPredictions]) -> None:
        """Write the rows of a batch, all or none.

        Raises:
            SQLAlchemyError, OSError: Nothing was written.
        """
        try:
            with self._connected().begin() as connection:
                self._insert(connection, batch)
            self._written(batch)
        finally:
            self._pause()

    def position(self, segment: str) -> int:
        """Number of bytes of a segment whose rows are in the table; 0 for a segment that it does not know."""
        with self._connected().connect() as connection:
            found = connection.execute(sa.select(POSITIONS.c.position).where(POSITIONS.c.segment == segment)).scalar()
        return found or 0

    def is_due(self, size: int, seconds: float) -> bool:
        """Whether waiting rows should be written now: always."""
        return True

    def write_at(self, batch: list[LoggedPredictions], segment: str, start: int, end: int) -> None:
        """Write the rows between two positions of a segment and move its position, all in one transaction.

        Raises:
            Moved: Another process has moved the position.
            SQLAlchemyError, OSError: Nothing was written.
        """
        try:
            with self._connected().begin() as connection:
                of_segment = POSITIONS.c.segment == segment
                move = sa.update(POSITIONS).where(of_segment, POSITIONS.c.position == start).values(position=end)
                if connection.execute(move).rowcount == 0:
                    if start:
                        raise Moved
                    connection.execute(sa.insert(POSITIONS).values(segment=segment, position=end))
                self._insert(connection, batch)
            self._written(batch)
        finally:
            self._pause()

    def forget(self, segment: str) -> None:
        """Remove the position of a segment that is no more."""
        with self._connected().begin() as connection:
            connection.execute(sa.delete(POSITIONS).where(POSITIONS.c.segment == segment))

    def turn(self) -> None:
        """Delete rows if it is time to."""
        self._pruning.run(self._connected)

    def pruned(self) -> int:
        """Number of rows that were deleted since the last call."""
        return self._pruning.told()

    def close(self) -> None:
        """Close the database."""
        if self._engine is not None:
            self._engine.dispose()

    def _insert(self, connection: sa.Connection, batch: list[LoggedPredictions]) -> None:
        sqlite = connection.dialect.name == "sqlite"
        values = f"({', '.join(['?' if sqlite else '%s'] * len(COLUMNS))})"
        for predictions in batch:
            block = columns(predictions, zone=not sqlite)  # SQLite keeps no zone, and times are UTC
            for start in range(0, predictions.count, STATEMENT_ROWS):
                stop = min(start + STATEMENT_ROWS, predictions.count)
                rows = ", ".join([values] * (stop - start))
                statement = f"INSERT INTO {PREDICTIONS.name} ({NAMES}) VALUES {rows}"
                connection.exec_driver_sql(statement, tuple(flat(block, start, stop)))
                self._pause()

    def _pause(self) -> None:
        """Sleep in proportion to the CPU time since the last pause, the decoding of requests included."""
        time.sleep(self._rest * (time.thread_time() - self._worked))
        self._worked = time.thread_time()

    def _written(self, batch: list[LoggedPredictions]) -> None:
        self._pruning.run(self._connected, sum(predictions.count for predictions in batch))

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            self._engine = open_engine(self._target)
        return self._engine
