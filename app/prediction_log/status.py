"""State of the prediction log, and its series."""

from collections.abc import Callable, Iterable

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


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
