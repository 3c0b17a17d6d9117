"""The Prometheus metrics, all in one registry that belongs to one app."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.models.slot import Freshness
from app.telemetry.counters import FastCounter, FastHistogram
from app.telemetry.gpu import GpuReading
from kernels.engine import EngineStatus

LATENCY_BUCKETS_S = (
    *(0.0001, 0.00015, 0.00025, 0.0004, 0.0006, 0.001, 0.0015, 0.0025, 0.004, 0.006),
    *(0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds. About four to five a decade from 100 µs to 100 ms, where predictions are, and coarser above."""

LAG_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

DIFFERENCE_BUCKETS = tuple(
    sorted(float(f"{sign * step}e{decade}") for sign in (-1, 1) for step in (1, 3) for decade in range(-6, 7))
)
"""Of either sign and any unit: two a decade from a millionth to millions."""

CONTENT_TYPE = CONTENT_TYPE_LATEST

# The _created series double the number of counters and tell when a label was first used, which nobody asks.
disable_created_metrics()


class Metrics:
    """Every series that the service exports.

    Args:
        gpu_readings: Gives the newest readings at each scrape; no reading means no series.
        engine_status: Tells at each scrape what the model in use computes with; None means no series.
        freshness: Tells at each scrape how much the registry has to do with it; None means no series.
        alias_missing: Tells at each scrape whether the alias to serve names no version; None means no series.
        rows: Tells at each scrape how many rows are in flight, by where they are.
    """

    def __init__(
        self,
        gpu_readings: Callable[[], Iterable[GpuReading]] = tuple,
        engine_status: Callable[[], EngineStatus | None] = lambda: None,
        freshness: Callable[[], Freshness | None] = lambda: None,
        alias_missing: Callable[[], bool | None] = lambda: None,
        rows: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_GpuCollector(gpu_readings))
        registry.register(_BackendCollector(engine_status))
        registry.register(_FreshnessCollector(freshness))
        registry.register(_AliasCollector(alias_missing))
        registry.register(_RowsCollector(rows))

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
        self.predictions = FastCounter("predictions", "Rows predicted.", ("model_version", "prediction_type"), registry)
        self.predictions_not_finite = FastCounter(
            "predictions_not_finite",
            "Rows predicted that got an error for an answer, since a prediction or a bound was not a finite number.",
            ("model_version", "prediction_type"),
            registry,
        )
        self.prediction_duration = FastHistogram(
            "prediction_duration_seconds",
            "Time that transforms and forest took for one batch, waiting for a thread included.",
            ("model_version",),
            LATENCY_BUCKETS_S,
            registry,
        )
        self.event_loop_lag = Histogram(
            "event_loop_lag_seconds",
            "How much later than asked for the event loop gave a turn, 50 times a second.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self.errors = Counter(
            "errors_total", "Requests answered with a status of 400 or more.", ("error_type", "endpoint"),
            registry=registry,
        )  # fmt: skip
        self.model_status = Gauge(
            "model_status", "1 while a model is loaded and answers, else 0.", ("model_name",), registry=registry
        )
        self.model_info = Gauge(
            "model_info",
            "1 for the model in use.",
            ("model_name", "model_version", "model_stage", "run_id", "digest"),
            registry=registry,
        )
        self.model_load_duration = Gauge(
            "model_load_duration_seconds",
            "Time from look-up to swap of the model in use.",
            ("model_version",),
            registry=registry,
        )
        self.model_refreshes = Counter(
            "model_refreshes_total", "Looks into the registry, by what came of them.", ("outcome",), registry=registry
        )
        self.model_lookups = Counter(
            "model_lookups_total", "Places that a model was looked for in, by what was found.", ("rule", "outcome"),
            registry=registry,
        )  # fmt: skip
        self.model_refusals = Counter(
            "model_refusals_total", "Versions that were fetched and not taken, by the check that they failed.",
            ("role", "check"), registry=registry,
        )  # fmt: skip
        self.model_swaps = Counter("model_swaps_total", "Models put in service.", ("role",), registry=registry)
        self.model_rollout = Gauge(
            "model_rollout_info", "1 for the canary and the shadow in service.", ("role", "model_version"),
            registry=registry,
        )  # fmt: skip
        self.shadow_rows = Counter(
            "model_shadow_rows_total", "Rows sampled for the shadow, by what became of them.", ("outcome",),
            registry=registry,
        )  # fmt: skip
        self.shadow_difference = Histogram(
            "model_shadow_difference",
            "The shadow's prediction minus the one that was answered, in the target's unit.",
            ("model_version", "shadow_version"),
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

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class _GpuCollector(Collector):
    """Yields GPU gauges for the devices that have a reading. Without one there is no series, rather than a zero."""

    def __init__(self, readings: Callable[[], Iterable[GpuReading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        readings = tuple(self._readings())
        if not readings:
            return
        for name, help_text, attribute in (
            (
                "gpu_utilization_percent",
                "Share of the last sample period in which a kernel ran.",
                "utilization_percent",
            ),
            ("gpu_memory_used_bytes", "Device memory in use.", "memory_used_bytes"),
            ("gpu_memory_total_bytes", "Device memory installed.", "memory_total_bytes"),
            ("gpu_temperature_celsius", "Temperature of the device.", "temperature_celsius"),
        ):
            family = GaugeMetricFamily(name, help_text, labels=("gpu", "uuid"))
            for reading in readings:
                value: float | None = getattr(reading, attribute)
                if value is not None:
                    family.add_metric((str(reading.index), reading.uuid), value)
            if family.samples:
                yield family


class _BackendCollector(Collector):
    """Yields what the model in use computes with. Counts are its engine's, and begin anew with another model."""

    def __init__(self, engine_status: Callable[[], EngineStatus | None]) -> None:
        self._engine_status = engine_status

    def collect(self) -> Iterable[Metric]:
        status = self._engine_status()
        if status is None:
            return
        usable = GaugeMetricFamily(
            "compute_backend_usable", "1 for a backend in use, 0 for one that failed.", labels=("backend", "device")
        )
        out_of_memory = CounterMetricFamily(
            "compute_backend_out_of_memory", "Times that a batch did not fit into a device's memory.",
            labels=("backend",),
        )  # fmt: skip
        for name, backend in status.backends.items():
            usable.add_metric((name, backend.device), 1)
            out_of_memory.add_metric((name,), backend.out_of_memory)
        if status.disabled is not None:
            usable.add_metric((status.disabled, status.disabled_device or ""), 0)
        yield usable
        yield out_of_memory


class _FreshnessCollector(Collector):
    """Yields how much the registry has to do with the model in use."""

    def __init__(self, freshness: Callable[[], Freshness | None]) -> None:
        self._freshness = freshness

    def collect(self) -> Iterable[Metric]:
        freshness = self._freshness()
        if freshness is None:
            return
        yield GaugeMetricFamily(
            "model_stale",
            "1 while the registry has not answered, so that the model in use may not be the one that it prefers.",
            float(freshness.stale),
        )
        yield GaugeMetricFamily("model_pinned", "1 while an operator has pinned a version.", float(freshness.pinned))
        if freshness.age is not None:
            yield GaugeMetricFamily(
                "model_age_seconds", "Time since the registry last answered what it prefers.", freshness.age
            )


class _AliasCollector(Collector):
    """Yields whether the alias to serve is missing, also while there is no model."""

    def __init__(self, alias_missing: Callable[[], bool | None]) -> None:
        self._alias_missing = alias_missing

    def collect(self) -> Iterable[Metric]:
        missing = self._alias_missing()
        if missing is not None:
            help_text = "1 while MODEL_ALIAS names no version of the registry, so that no other takes its place."
            yield GaugeMetricFamily("model_alias_missing", help_text, float(missing))


class _RowsCollector(Collector):
    """Yields the rows in flight."""

    def __init__(self, rows: Callable[[], Mapping[str, int]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "rows_in_flight", "Rows of requests that are being answered, held in all and in line.", labels=("where",)
        )
        for where, count in self._rows().items():
            family.add_metric((where,), count)
        yield family
