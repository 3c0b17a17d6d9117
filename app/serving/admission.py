"""How much the service takes on at once.

Two things are bounded. What is held: a request counts the rows that it holds, and while its body comes, the rows that
as many bytes of float64 would be. And the wait: the rows that stand in line for a thread, times what a row of the line
took lately, is how long another request would stand there; beyond a limit it is refused at once, before its body is
read, so that those who were let in are answered about as fast as ever, and the rest can try elsewhere. Requests that
are small enough for the event loop stand in no line.
"""

import math
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import Overloaded

LONGEST_WAIT_S = 0.5
"""Seconds in line that are put up with, unless the request itself takes longer."""

MEMORY_SHARE = 0.25
COPIES = 3
"""Of a row's bytes: its part of the body, the matrix, and what is made of it."""

SMOOTHING = 0.2
"""Weight of the newest request in the seconds a row takes."""


class Admission(Collector):
    """Counts rows, and refuses more than there can be.

    Args:
        max_rows: That may be held at once; None for as many as a quarter of the memory holds.
        memory_bytes: There are.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        held: Rows held now.
        queued: Rows that stand in line for a thread or are worked on by one.
    """

    def __init__(self, max_rows: int | None, memory_bytes: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.in_flight = 0
        self.queued = 0
        self._max_rows = max_rows
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._seconds_per_row = 0.0

    def rows(self) -> dict[str, int]:
        """Rows by where they are, for the metrics."""
        return {"held": self.in_flight, "queued": self.queued}

    def collect(self) -> Iterable[Metric]:
        """Prometheus series of the rows in flight, made at each scrape."""
        family = GaugeMetricFamily(
            "rows_in_flight", "Rows of requests that are being answered, held in all and in line.", labels=("where",)
        )
        for where, count in self.rows().items():
            family.add_metric((where,), count)
        yield family

    def enter(self, columns: int) -> "Reservation":
        """Let a request in that holds nothing yet.

        Args:
            columns: F, numbers in a row.
        """
        return Reservation(self, columns)

    def max_rows(self, columns: int) -> int:
        """Rows of so many numbers that may be held at once."""
        if self._max_rows is not None:
            return self._max_rows
        return max(1, int(MEMORY_SHARE * self._memory_bytes / (COPIES * 8 * max(1, columns))))

    def check_wait(self, rows: int) -> None:
        """Refuse a request of about so many rows if it would stand in line for too long.

        Raises:
            Overloaded: It would.
        """
        wait = self.queued * self._seconds_per_row
        if wait > max(LONGEST_WAIT_S, rows * self._seconds_per_row):
            raise Overloaded("The service has too much to do just now.", math.ceil(wait))

    def enqueue(self, rows: int) -> "Ticket":
        """Put rows in line."""
        self.queued += rows
        return Ticket(rows, self.queued, self._clock())

    def dequeue(self, ticket: "Ticket", *, done: bool) -> None:
        """Take rows out of the line; those that are done tell how long a row takes."""
        self.queued -= ticket.rows
        if done and ticket.ahead:
            seconds = (self._clock() - ticket.since) / ticket.ahead
            old = self._seconds_per_row
            self._seconds_per_row = seconds if old == 0 else old + SMOOTHING * (seconds - old)


class Ticket(NamedTuple):
    """A request's place in line.

    Attributes:
        rows: Its own.
        ahead: Those ahead of it, and its own.
        since: When it lined up.
    """

    rows: int
    ahead: int
    since: float


class Reservation:
    """What one request holds; given back when it is left.

    Args:
        admission: Keeps the count.
        columns: F, numbers in a row.
    """

    __slots__ = ("_admission", "_bytes_per_row", "_max_rows", "_ticket", "rows")

    def __init__(self, admission: Admission, columns: int) -> None:
        self.rows = 0
        self._admission = admission
        self._bytes_per_row = 8 * max(1, columns)
        self._max_rows = admission.max_rows(columns)
        self._ticket: Ticket | None = None

    def rows_of(self, count: int) -> int:
        """Rows that so many bytes of float64 would be."""
        return -(-count // self._bytes_per_row)

    def reserve_bytes(self, count: int) -> None:
        """Hold a body of so many bytes, of which more may come."""
        self.reserve(self.rows_of(count))

    def reserve(self, rows: int) -> None:
        """Hold so many rows, in the place of what was held before.

        A request that is the only one may hold any number: its own size has limits of its own.

        Raises:
            Overloaded: They are too many together with those of others.
        """
        held = self._admission.in_flight - self.rows
        if held and held + rows > self._max_rows:
            raise Overloaded("The service holds as many rows as MAX_ROWS_IN_FLIGHT allows.")
        self._admission.in_flight = held + rows
        self.rows = rows

    def join_queue(self) -> None:
        """Stand in line for a thread with the rows that are held.

        Raises:
            Overloaded: The line is too long by now.
        """
        self._admission.check_wait(self.rows)
        self._ticket = self._admission.enqueue(self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._admission.in_flight -= self.rows
        if self._ticket is not None:
            self._admission.dequeue(self._ticket, done=kind is None)
