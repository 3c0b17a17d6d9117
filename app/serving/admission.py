"""Admission control: bounds on the rows in flight, and on the wait for a thread.

Rows in flight: each request reserves its rows. While its body arrives, it reserves as many rows as the bytes received
so far would be as float64; once they are decoded, their real number, which can be a thousand times as large. While the
client reads the answer, it reserves what is still held of it.

Wait: the queued rows times the seconds that a queued row took lately is the time that another request would wait for a
thread. If that is too long, the request is refused at once, before its body is read. So accepted requests are answered
about as fast as ever, and refused ones can try elsewhere. Requests small enough for the event loop are never queued.
Rows of a body that has begun to arrive count as queued ones for EXPECTED_S, or else all bodies that arrive at the same
time would be let in, and most of them refused after they were read. A body that takes longer is not waited for. For the
same time it counts as one of MOST_ARRIVING.

A row that is explained counts as the rows that are predicted in the same time, or fit into the same memory.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Self

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import Overloaded

EXPECTED_S = 0.5
"""Time for which a body that arrives counts as queued, so that a slow client keeps nobody out."""

MOST_ARRIVING = 64
"""Most large bodies that arrive at once, without those that have arrived for longer than EXPECTED_S. Eight requests at
a time reach the peak throughput: 300 JSON bodies of 1,000 rows a second on two cores. On slow lines, where each takes
longer than EXPECTED_S, this many are 128 bodies a second."""

MEMORY_SHARE = 0.25
"""Share of the memory for rows in flight."""

COPIES = 3
"""Copies of a row in memory: in the body, in the matrix, and in what is computed from it."""

SMOOTHING = 0.2
"""Weight of the newest request in the average seconds per row."""


class Admission(Collector):
    """Counts rows, and refuses requests beyond the limits.

    Args:
        max_rows: Most rows in flight; None for as many as fit into MEMORY_SHARE of the memory.
        memory_bytes: Total memory of the host or container.
        longest_wait: Seconds that an accepted request may wait, unless its own work takes longer.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        in_flight: Rows reserved now.
        queued: Rows that wait for a thread or are worked on by one.
    """

    def __init__(
        self, max_rows: int | None, memory_bytes: int, longest_wait: float = 0.5,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self.in_flight = 0
        self.queued = 0
        self._max_rows = max_rows
        self._memory_bytes = memory_bytes
        self._longest_wait = longest_wait
        self._clock = clock
        self._seconds_per_row = 0.0
        self._expected: dict[Reservation, tuple[int, float]] = {}
        self._expected_rows = 0
        self._tickets: dict[Ticket, None] = {}

    def rows(self) -> dict[str, int]:
        """Numbers of rows, by the label of the metric."""
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
        """Begin a request, which has no rows reserved yet.

        Args:
            columns: F, number of features.
        """
        return Reservation(self, columns)

    def max_rows(self, columns: int) -> int:
        """Most rows in flight, if each has this many features."""
        if self._max_rows is not None:
            return self._max_rows
        return max(1, int(MEMORY_SHARE * self._memory_bytes / (COPIES * 8 * max(1, columns))))

    def check_wait(self, rows: int, *, expected: bool = True) -> None:
        """Refuse a request of about this many rows if it would wait too long.

        Args:
            rows: The request's.
            expected: Whether it waits for bodies that are arriving as well.

        Raises:
            Overloaded: The wait would be too long.
        """
        self._forget_slow()
        wait = (self.queued + self._expected_rows * expected) * self._seconds_per_row
        if wait > max(self._longest_wait, rows * self._seconds_per_row):
            raise Overloaded("The service is overloaded. Try again later.", math.ceil(wait), refusal="queue")

    def check_arrival(self, rows: int) -> None:
        """Refuse a request before its body of about this many rows is read.

        Raises:
            Overloaded: The wait would be too long, or too many bodies are arriving.
        """
        self.check_wait(rows)
        if len(self._expected) >= MOST_ARRIVING:
            text = "The service is reading as many large bodies as it can. Try again later."
            raise Overloaded(text, refusal="arriving")

    def expect(self, reservation: "Reservation", rows: int) -> None:
        """Count a body that has begun to arrive, and its rows.

        Raises:
            Overloaded: As `check_arrival` does.
        """
        self.check_arrival(rows)
        self._expected[reservation] = rows, self._clock() + EXPECTED_S
        self._expected_rows += rows

    def arrived(self, reservation: "Reservation") -> None:
        """Count the rows of a request's body no more, since it has arrived or will not."""
        if (expected := self._expected.pop(reservation, None)) is not None:
            self._expected_rows -= expected[0]

    def _forget_slow(self) -> None:
        now = self._clock()
        while self._expected:
            oldest = next(iter(self._expected))
            if self._expected[oldest][1] > now:
                return
            self.arrived(oldest)

    def enqueue(self, rows: int) -> "Ticket":
        """Add rows to the queue."""
        self.queued += rows
        ticket = Ticket(rows, self.queued, self._clock())
        self._tickets[ticket] = None
        return ticket

    def correct(self, ticket: "Ticket", rows: int) -> None:
        """Replace the rows of a ticket; they are also ahead of all tickets behind it."""
        more = rows - ticket.rows
        self.queued += more
        ticket.rows = rows
        for behind in reversed(self._tickets):
            behind.ahead += more
            if behind is ticket:
                return

    def dequeue(self, ticket: "Ticket", *, done: bool) -> None:
        """Remove rows from the queue; if they are done, update the seconds per row."""
        self.queued -= ticket.rows
        del self._tickets[ticket]
        if done and ticket.ahead:
            seconds = (self._clock() - ticket.since) / ticket.ahead
            old = self._seconds_per_row
            self._seconds_per_row = seconds if old == 0 else old + SMOOTHING * (seconds - old)


class Ticket(msgspec.Struct, eq=False):
    """Place of a request in the queue.

    Attributes:
        rows: Rows of the request.
        ahead: Rows that were ahead of the request when it joined, by what is known of them now, and its own.
        since: Time at which it joined the queue.
    """

    rows: int
    ahead: int
    since: float


class Reservation:
    """Rows reserved by one request; released on exit.

    Args:
        admission: Admission that counts them.
        columns: F, number of features.

    Attributes:
        rows: Rows of the request, as far as they are known.
    """

    __slots__ = ("_admission", "_bytes_per_row", "_held", "_max_rows", "_share", "_ticket", "_times", "rows")

    def __init__(self, admission: Admission, columns: int) -> None:
        self.rows = 0
        self._admission = admission
        self._bytes_per_row = 8 * max(1, columns)
        self._max_rows = admission.max_rows(columns)
        self._ticket: Ticket | None = None
        self._times = self._share = 1.0
        self._held = 0

    def weigh(self, times: float, values: int) -> None:
        """Say that a row takes `times` as long as a prediction, and memory for so many float64 beside one."""
        self._times = times
        self._share = 1 + 8 * values / (COPIES * self._bytes_per_row)

    def rows_of(self, count: int) -> int:
        """Number of rows that this many bytes of float64 would be."""
        return -(-count // self._bytes_per_row)

    def reserve_bytes(self, count: int) -> None:
        """Reserve rows for the bytes of a body received so far."""
        self.reserve(self.rows_of(count))

    def reserve_answer(self, count: int) -> None:
        """Reserve rows for an answer of which so many bytes are held, and nothing else any more; never refused."""
        self._share = 1.0
        self._set(-(-count // (COPIES * self._bytes_per_row)))

    def reserve(self, rows: int) -> None:
        """Reserve this many rows, instead of those reserved before.

        If the request is in the queue with fewer rows, it queues this many. If it is there with more, because its body
        has more bytes than its rows, these stay: reading them takes time too.

        A single request may reserve any number, since the size of a request has limits of its own.

        Raises:
            Overloaded: Together with the rows of other requests they are too many.
        """
        held, others = math.ceil(self._share * rows), self._admission.in_flight - self._held
        if held > self._held and others and others + held > self._max_rows:
            text = "The service has as many rows in flight as MAX_ROWS_IN_FLIGHT allows."
            raise Overloaded(text, refusal="rows_in_flight")
        self._set(rows)
        if self._ticket is not None and self._weighed(rows) > self._ticket.rows:
            self._admission.correct(self._ticket, self._weighed(rows))

    def _weighed(self, rows: int) -> int:
        return math.ceil(self._times * rows)

    def _set(self, rows: int) -> None:
        held = math.ceil(self._share * rows)
        self._admission.in_flight += held - self._held
        self.rows, self._held = rows, held

    def check_arrival(self, count: int) -> None:
        """Refuse the request before its body of this many bytes is read.

        Raises:
            Overloaded: As `Admission.check_arrival` does.
        """
        self._admission.check_arrival(self._weighed(self.rows_of(count)))

    def expect_bytes(self, count: int) -> None:
        """Count the rows that this many bytes would be as queued while the body arrives.

        Raises:
            Overloaded: The queue is too long.
        """
        self._admission.expect(self, self._weighed(self.rows_of(count)))

    def join_queue(self) -> None:
        """Queue the reserved rows for a thread, unless they are queued already.

        Raises:
            Overloaded: The queue is too long by now.
        """
        if self._ticket is not None:
            return
        self._admission.arrived(self)
        self._admission.check_wait(self._weighed(self.rows), expected=False)
        self._ticket = self._admission.enqueue(self._weighed(self.rows))

    def leave_queue(self) -> None:
        """Leave the queue, if the request is in it, since its rows are done."""
        if self._ticket is not None:
            self._admission.dequeue(self._ticket, done=True)
            self._ticket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admission.in_flight -= self._held
        self._admission.arrived(self)
        if self._ticket is not None:
            self._admission.dequeue(self._ticket, done=kind is None)
