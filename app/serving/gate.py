"""A bound on prediction requests in progress, so that a crowd of small ones does not wait for seconds.

The event loop answers small requests one after the other. Those that have come and are not answered yet are its queue,
and every further one waits for all of them. So beyond a number of them a request is refused at once. A request that is
in progress for longer than SLOW_S waits for something else: for its body, for a thread, or for a device. It is no part
of that queue, and counts no more; `admission.py` bounds those.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.errors import Overloaded

SLOW_S = 0.25


class Gate(Collector):
    """Counts prediction requests in progress, and refuses those beyond a limit.

    Args:
        limit: Most requests in progress, those left out that are so for longer than SLOW_S.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        in_progress: Number of requests in progress, slow ones included.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.in_progress = 0
        self._limit = limit
        self._clock = clock
        self._last = 0
        self._since: dict[int, float] = {}

    def is_full(self) -> bool:
        """Whether a further request is refused."""
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
            Overloaded: There are too many requests in progress.
        """
        if self.is_full():
            raise Overloaded("The service has as many requests in progress as MAX_REQUESTS_IN_PROGRESS allows.")

    def enter(self) -> int:
        """Begin a request.

        Returns:
            Its ticket.

        Raises:
            Overloaded: There are too many requests in progress.
        """
        self.check()
        self._last += 1
        self._since[self._last] = self._clock()
        self.in_progress += 1
        return self._last

    def leave(self, ticket: int) -> None:
        """End the request with this ticket."""
        self.in_progress -= 1
        self._since.pop(ticket, None)

    def collect(self) -> Iterable[Metric]:
        """Prometheus series of the requests in progress, made at each scrape."""
        text = "Prediction requests that have begun and are not answered yet."
        yield GaugeMetricFamily("predictions_in_progress", text, self.in_progress)
