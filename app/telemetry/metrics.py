"""The Prometheus metrics of one app, in a registry of its own."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.telemetry.counters import FastCounter, FastHistogram
from app.telemetry.exposition import Exposition, Families, Prefixed
from app.telemetry.stages import StageTimes

LATENCY_BUCKETS_S = (
    *(0.0001, 0.00015, 0.00025, 0.0004, 0.0006, 0.001, 0.0015, 0.0025, 0.004, 0.006),
    *(0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds in seconds: four or five a decade from 100 µs to 100 ms, where predictions are, and fewer above."""

LAG_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

DIFFERENCE_BUCKETS = tuple(
    sorted(float(f"{sign * step}e{decade}") for sign in (-1, 1) for step in (1, 3) for decade in range(-6, 7))
)
"""Bounds of either sign, in the target's unit: two a decade from a millionth to millions."""

ROW_BUCKETS = tuple(float(step * 10**decade) for decade in range(7) for step in (1, 2, 5))
"""Bounds in rows: three a decade, from one row to millions."""

BUILT_WITH = ("granian", "lightgbm", "litestar", "mlflow", "msgspec", "numba", "numpy")
"""Packages whose versions say most when an answer or a speed is in question."""

# The _created series, the time of the first use of each label, would double the number of counters.
disable_created_metrics()


class Metrics:
    """The series of requests, predictions and background tasks, and the registry that exports all series.

    Owners of other series are collectors, which `register` takes: `models/watch/series.py` (models in use, backends),
    `serving/admission.py` (rows in flight) and `gpu.py`.

    Args:
        prefix: METRICS_PREFIX.

    Attributes:
        registry: All series, under names without the prefix.
        source: The series of the service: those of the registry, or of all workers.
        families: The same under the names of a scrape.
        exposition: Writes these.
    """

    def __init__(self, prefix: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        self._prefix = prefix
        self.source: Families = registry
        self.families = Prefixed(registry, prefix)
        self.exposition = Exposition(self.families)
        _build(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = FastCounter(
            "api_requests", "Requests answered.", ("method", "endpoint", "status_code"), registry
        )
        self.request_duration = FastHistogram(
            "api_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "endpoint"),
            LATENCY_BUCKETS_S,
            registry,
        )
        self.predictions = FastCounter(
            "predictions", "Rows predicted.", ("model_name", "model_version", "prediction_type"), registry
        )
        self.predictions_not_finite = FastCounter(
            "predictions_not_finite",
            "Rows predicted that got an error for an answer, since a prediction or a bound was not a finite number.",
            ("model_name", "model_version", "prediction_type"),
            registry,
        )
        self.prediction_duration = FastHistogram(
            "prediction_duration_seconds",
            "Time that transforms and forest took for one batch, waiting for a thread included.",
            ("model_name", "model_version"),
            LATENCY_BUCKETS_S,
            registry,
        )
        self.stages = StageTimes(registry)
        self.rows = FastHistogram(
            "request_rows",
            "Rows of a prediction request.",
            ("prediction_type",),
            ROW_BUCKETS,
            registry,
        )
        self.refusals = FastCounter(
            "requests_refused",
            "Requests refused by a limit, for a key, or for want of a model or log.",
            ("reason",),
            registry,
        )
        self.in_flight = InFlight(registry)
        self.event_loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How much later than asked for the event loop gave a turn, 50 times a second.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self.errors = Counter(
            "errors_total", "Requests answered with a status of 400 or more, 499 for clients that left.",
            ("error_type", "endpoint"), registry=registry,
        )  # fmt: skip
        self.shadow_rows = Counter(
            "model_shadow_rows_total", "Rows sampled for the shadow, by what became of them.",
            ("model_name", "outcome"), registry=registry,
        )  # fmt: skip
        self.shadow_difference = Histogram(
            "model_shadow_difference",
            "The shadow's prediction minus the one that was answered, in the target's unit.",
            ("model_name", "model_version", "shadow_version"),
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )
        self.task_restarts = Counter(
            "background_task_restarts_total", "Restarts of background tasks after a crash.", ("task",),
            registry=registry,
        )  # fmt: skip
        self.logged_predictions = Counter(
            "prediction_log_rows_total", "Predictions, by what became of their log row.", ("outcome",),
            registry=registry,
        )  # fmt: skip

    def share(self, source: Families) -> None:
        """Export the series of all workers of the service instead of this one's."""
        self.source = source
        self.families = Prefixed(source, self._prefix)
        self.exposition = Exposition(self.families)

    def register(self, *owners: Collector) -> None:
        """Export the series of others, which they make at each scrape."""
        for owner in owners:
            self.registry.register(owner)


class InFlight(Collector):
    """Gauge of the requests in flight.

    Args:
        registry: Registry that exports the gauge.

    Attributes:
        count: Number of them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.count = 0
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The family, for the registry."""
        text = "HTTP and gRPC requests that are not answered yet, but for scrapes and the console's stream."
        yield GaugeMetricFamily("requests_in_flight", text, self.count)


def _build(registry: CollectorRegistry) -> None:
    """Export the versions of what computes and serves."""
    labels = _versions()
    build = Gauge("build_info", "1, with the versions of the service and its libraries.", labels, registry=registry)
    build.labels(**labels).set(1)


@cache
def _versions() -> dict[str, str]:
    labels = {name: version(name) for name in ("madrone", *BUILT_WITH)} | {
        "python": platform.python_version(), "platform": f"{platform.system()}-{platform.machine()}".lower(),
    }  # fmt: skip
    labels["version"] = labels.pop("madrone")
    return labels
