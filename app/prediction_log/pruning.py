"""Deletes the rows of the log's tables that are too many or too old, a small transaction at a time."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import exc

from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS, place_of, rows_of

PRUNE_INTERVAL_ROWS = 10_000
PRUNE_INTERVAL_S = 60.0
"""Rows written, or time passed, after which rows are deleted."""

PIECE_ROWS = 5_000
PIECES = 4
"""Rows of one transaction, and transactions of one call, between which other processes and waiting rows go first."""


class Pruning:
    """Deletes the oldest rows, and their outcomes.

    Args:
        target: Number of rows and of days to keep.
        pause: Called after each transaction.
    """

    def __init__(self, target: LogTarget, pause: Callable[[], None]) -> None:
        self._keep_rows = target.keep_rows
        self._keep_days = target.keep_days
        self._pause = pause
        self._since = 0
        self._next = time.monotonic() + PRUNE_INTERVAL_S
        self._deleted = 0

    def told(self) -> int:
        """Number of rows that were deleted since the last call."""
        deleted, self._deleted = self._deleted, 0
        return deleted

    def run(self, connected: Callable[[], sa.Engine], written: int = 0) -> None:
        """Delete rows if it is time to. What fails is tried again.

        Args:
            connected: Opens the database.
            written: Number of rows that were written since the last call.
        """
        self._since += written
        now = time.monotonic()
        if self._since < PRUNE_INTERVAL_ROWS and now < self._next:
            return
        self._next = now + PRUNE_INTERVAL_S
        with suppress(exc.SQLAlchemyError, OSError):
            if self._prune(connected()):
                self._since = 0
            else:
                self._next = now

    def _prune(self, engine: sa.Engine) -> bool:
        """Delete rows; whether that was all."""
        with engine.connect() as connection:
            # By position, not by arithmetic, since a rolled-back write leaves a gap in the ids.
            surplus = sa.select(PREDICTIONS.c.id).order_by(PREDICTIONS.c.id.desc()).offset(self._keep_rows).limit(1)
            last = connection.execute(surplus).scalar()
        conditions: list[sa.ColumnElement[bool]] = [] if last is None else [PREDICTIONS.c.id <= last]
        if self._keep_days:
            conditions.append(PREDICTIONS.c.created_at < datetime.now(UTC) - timedelta(days=self._keep_days))
        left = PIECES
        for condition in conditions:
            while left and self._delete(engine, condition):
                left -= 1
                self._pause()
        return left > 0

    def _delete(self, engine: sa.Engine, condition: sa.ColumnElement[bool]) -> int:
        """Delete what a condition holds for among the oldest rows. The ids grow with the time, and have an index."""
        oldest = sa.select(PREDICTIONS.c.id).order_by(PREDICTIONS.c.id).limit(PIECE_ROWS).subquery()
        with engine.begin() as connection:
            newest = connection.execute(sa.select(sa.func.max(oldest.c.id))).scalar()
            if newest is None:
                return 0
            gone = sa.and_(PREDICTIONS.c.id <= newest, condition)
            rows = sa.select(PREDICTIONS.c.request_id, place_of(PREDICTIONS)).where(gone)
            # Callers may give several requests one id, whose outcome is of the newest of them.
            named = rows_of(OUTCOMES)
            stays = named.where(named.selected_columns.id.not_in(sa.select(PREDICTIONS.c.id).where(gone))).exists()
            of_rows = sa.tuple_(OUTCOMES.c.request_id, OUTCOMES.c.row).in_(rows)
            connection.execute(sa.delete(OUTCOMES).where(of_rows, ~stays))
            deleted = connection.execute(sa.delete(PREDICTIONS).where(gone)).rowcount
        self._deleted += deleted
        return deleted
