"""State of the prediction log, and its series."""

import time
from collections.abc import Callable, Iterable

import msgspec
from prometheus_client import Counter
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.prediction_log.process import LogWriter
from app.telemetry.metrics import Metrics

PRUNED_INTERVAL_S = 10.0
"""Time after which the writer is asked again how many old rows it has deleted."""


class PredictionLogStatus(msgspec.Struct, frozen=True):
    """State of the log: rows waiting, and the last fault."""

    enabled: bool
    queued: int
    last_error: str | None


class Waiting(Collector):
    """Series of what waits to be written.

    Args:
        rows: Number of rows.
        size: Bytes of the spool; None for a log without one.
    """

    def __init__(self, rows: Callable[[], int], size: Callable[[], int] | None = None) -> None:
        self._rows = rows
        self._size = size

    def collect(self) -> Iterable[Metric]:
        """The families, for the registry."""
        yield GaugeMetricFamily(
            "prediction_log_rows_waiting", "Rows of answered requests that are not written yet.", self._rows()
        )
        if self._size is not None:
            yield GaugeMetricFamily("prediction_log_spool_bytes", "Bytes of the spool on the disk.", self._size())


class PrunedRows:
    """Count of the old rows that the writer deletes.

    Args:
        writer: The writer.
        metrics: Metrics that have the count.
    """

    def __init__(self, writer: LogWriter, metrics: Metrics) -> None:
        self._writer = writer
        self._next = 0.0
        self._count = Counter(
            "prediction_log_pruned_rows",
            "Old rows that were deleted from the prediction log.",
            registry=metrics.registry,
        )

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask the writer."""
        return time.monotonic() >= self._next

    def ask(self) -> None:
        """Ask the writer, which may be busy, and count what it has deleted."""
        self._next = time.monotonic() + PRUNED_INTERVAL_S
        self._count.inc(self._writer.pruned())
