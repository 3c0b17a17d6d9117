"""Bounds on prediction requests in progress and on their wait, so that a crowd of small ones does not wait for seconds.

The event loop answers small requests one after the other, and to refuse one costs it about as much as to answer it. So
they are refused only when the wait is long. How long it is shows in the requests themselves: the body of a small one
has come with its head, so what passes until it is read is the wait for the event loop and the server in front of it.
Some clients are slow to send theirs. So the least wait counts, of all bodies read within a tenth of a second (as in
CoDel: K. Nichols, V. Jacobson, "Controlling queue delay", 2012).

A request that is in progress for longer than SLOW_S waits for something else: for its body, for a thread, or for a
device. It does not count as one in progress; `admission.py` bounds those.
"""

import math
import time
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import Overloaded

SLOW_S = 1.0

WINDOW_S = 0.1
"""Time of which the least wait counts, until the same time after."""

LEAST_BODIES = 20
"""Bodies read in that time; of fewer ones all may be those of slow clients."""


class Gate(Collector):
    """Counts prediction requests in progress and measures their wait, and refuses those beyond a limit.

    Args:
        limit: Most requests in progress, those left out that are so for longer than SLOW_S.
        longest_wait: Seconds that a small request may wait until it is read.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        in_progress: Number of requests in progress, slow ones included.
    """

    def __init__(self, limit: int, longest_wait: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.in_progress = 0
        self._limit = limit
        self._longest_wait = longest_wait
        self._clock = clock
        self._last = 0
        self._since: dict[int, float] = {}
        self._window_ends = -math.inf
        self._bodies = 0
        self._least = math.inf
        self._wait = 0.0

    def wait(self) -> float:
        """Seconds that small requests wait now until they are read; 0 where that is not known."""
        return self._wait if self._clock() <= self._window_ends else 0.0

    def is_full(self) -> bool:
        """Whether a further request is refused, because of the number of others."""
        since = self._since
        if len(since) < self._limit:
            return False
        oldest = next(iter(since))
        if since[oldest] > self._clock() - SLOW_S:
            return True
        del since[oldest]
        return False

    def check(self) -> None:
        """Let a further request pass, or refuse it.

        Raises:
            Overloaded: There are too many requests in progress, or they wait too long.
        """
        if self.is_full():
            raise Overloaded("The service has as many requests in progress as MAX_REQUESTS_IN_PROGRESS allows.")
        if self._wait > self._longest_wait and self.wait() > self._longest_wait:
            raise Overloaded("The service is overloaded. Try again later.", refusal="wait")

    def enter(self) -> int:
        """Begin a request.

        Returns:
            Its ticket.

        Raises:
            Overloaded: There are too many requests in progress, or they wait too long.
        """
        self.check()
        self._last += 1
        self._since[self._last] = self._clock()
        self.in_progress += 1
        return self._last

    def has_read(self, seconds: float) -> None:
        """Count a small request whose body was read so many seconds after the request began."""
        now = self._clock()
        if now > self._window_ends:
            is_known = now <= self._window_ends + WINDOW_S and self._bodies >= LEAST_BODIES
            self._wait = self._least if is_known else 0.0
            self._window_ends, self._bodies, self._least = now + WINDOW_S, 0, math.inf
        self._bodies += 1
        if seconds < self._least:
            self._least = seconds

    def leave(self, ticket: int) -> None:
        """End the request with this ticket."""
        self.in_progress -= 1
        self._since.pop(ticket, None)

    def collect(self) -> Iterable[Metric]:
        """Prometheus series of the requests in progress and of their wait, made at each scrape."""
        text = "Prediction requests that have begun and are not answered yet."
        yield GaugeMetricFamily("predictions_in_progress", text, self.in_progress)
        text = "Seconds that small prediction requests wait now until they are read; 0 if they are few."
        yield GaugeMetricFamily("predictions_wait_seconds", text, self.wait())
