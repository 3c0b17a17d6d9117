"""Reads the log beside the requests: in threads, and with a bound on the time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.codecs.gil_yield import GilYield
from app.errors import Conflict, Overloaded, PredictionLogUnavailable
from app.prediction_log.messages import LogTarget
from app.prediction_log.reading.export import PIECE_ROWS
from app.prediction_log.reading.page import LoggedRow, Page, PredictionsPage, Source
from app.prediction_log.reading.query import Query, cursor_of

T = TypeVar("T")

READ_TIMEOUT_S = 20.0
"""Time for a page, after which the log counts as away."""

STATEMENT_TIMEOUT_S = 10.0

READERS = 2
"""Requests that read at a time."""

PART_BYTES = 128 * 1024
"""Least size of a part of an export."""

Encode = Callable[[Iterable[list[LoggedRow]]], Iterator[bytes]]


class LogReader:
    """Reads the log.

    Args:
        target: Place of the log.
        enabled: Whether predictions are logged.
    """

    def __init__(self, target: LogTarget, *, enabled: bool) -> None:
        self._target = target
        self._enabled = enabled
        self._source: Source | None = None
        self._opening = threading.Lock()
        self._readers = 0
        self._threads = ThreadPoolExecutor(READERS, "log-reader")

    async def page(self, query: Query) -> PredictionsPage:
        """The rows of a query, and where to go on.

        Raises:
            Conflict: Predictions are not logged.
            Overloaded: Others are reading.
            PredictionLogUnavailable: The log cannot be read now.
        """
        self._enter()
        try:
            return await self._in_thread(lambda: self._page(query))
        finally:
            self._readers -= 1

    async def export(self, query: Query, encode: Encode) -> AsyncIterator[bytes]:
        """The rows of a query in parts of a body; raises as `page` does.

        Args:
            query: The query.
            encode: Makes the body of pages of rows.
        """
        self._enter()
        try:
            parts = encode(self._pages(query))
            part: bytes | None = await self._in_thread(lambda: _collected(parts))
            while part is not None:
                yield part
                part = await self._in_thread(lambda: _collected(parts))
        finally:
            self._readers -= 1

    def close(self) -> None:
        """Close the place of the log, and end the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._source is not None:
            self._source.close()

    def _enter(self) -> None:
        if not self._enabled:
            raise Conflict("Predictions are not logged: PREDICTION_LOG is off, or PREDICTION_LOG_ROWS is 0.")
        if self._readers >= READERS:
            raise Overloaded(f"The prediction log is read by {READERS} others. Try again later.", retry_after=5)
        self._readers += 1

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise PredictionLogUnavailable("The prediction log does not answer.") from None

    def _page(self, query: Query) -> PredictionsPage:
        """In a thread: one row more than wanted tells whether there is another page."""
        rows: list[LoggedRow] = []
        position = None
        for page in self._guarded(query, query.limit + 1):
            for row, place in zip(*page, strict=True):
                if len(rows) == query.limit:
                    assert position is not None
                    return PredictionsPage(rows, cursor_of(query.order, position))
                rows.append(row)
                position = place
        return PredictionsPage(rows, None)

    def _pages(self, query: Query) -> Iterator[list[LoggedRow]]:
        """In a thread."""
        yield_gil = GilYield()
        for page in self._guarded(query, query.limit):
            yield page.rows
            yield_gil()

    def _guarded(self, query: Query, limit: int) -> Iterator[Page]:
        """Pages, whose faults have no text of the database in them: it can hold hosts and names."""
        from sqlalchemy import exc  # nearly half a second, which a service has only once it is asked

        from app.prediction_log.sink import explained

        try:
            with self._opening:
                if self._source is None:
                    self._source = open_source(self._target, STATEMENT_TIMEOUT_S)
            yield from self._source.pages(query, limit, PIECE_ROWS)
        except (exc.SQLAlchemyError, OSError) as error:
            raise PredictionLogUnavailable(f"The prediction log cannot be read now: {explained(error)}.") from None


def open_source(target: LogTarget, statement_timeout_s: float) -> Source:
    """Open the place of a log.

    Args:
        target: The place.
        statement_timeout_s: Time limit of each statement of a database.

    Raises:
        SQLAlchemyError, OSError: It cannot be opened.
    """
    if target.format == "sql":
        from app.prediction_log.reading.database import TableRows

        return TableRows(target, statement_timeout_s)
    from app.prediction_log.reading.files import FileRows  # pyarrow takes a second and 40 MB

    return FileRows(target.parquet)


def _collected(parts: Iterator[bytes]) -> bytes | None:
    """The next parts together, until they are enough to be sent; None behind the last."""
    found, size = [], 0
    for part in parts:
        found.append(part)
        size += len(part)
        if size >= PART_BYTES:
            break
    return b"".join(found) if found else None
