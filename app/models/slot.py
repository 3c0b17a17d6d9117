"""The models in service: a request reads the slot, and a swap replaces one reference."""

import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.drift.tracker import WatchedModel
from app.errors import ModelUnavailable
from app.models.served import ServedModel
from kernels.engine import EngineStatus

Role = Literal["current", "canary", "shadow"]


class Freshness(NamedTuple):
    """Whether the model in service is known to be the one that the registry prefers.

    Attributes:
        stale: Whether the registry failed to answer the last look, or was not asked yet.
        pinned: Whether an operator chose the model.
        age: Seconds since the registry last answered; None if it never did.
    """

    stale: bool
    pinned: bool
    age: float | None


class ModelSlot(Collector):
    """The snapshots that requests are answered with, and the metrics about them.

    Args:
        clock: Monotonic seconds; a test passes its own.

    Attributes:
        current: The model in service; None until there is one.
        canary: Answers a share of the requests, where there is one.
        shadow: Scores a share of the rows for comparison, where there is one.
        pinned: The version that an operator asked for, instead of the one that the registry prefers.
        stale: Whether the registry failed to answer the last look, or was not asked yet.
        alias_missing: Whether MODEL_ALIAS names no version, as of the last look; None where the registry did not
            answer, or no alias is set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.current: ServedModel | None = None
        self.canary: ServedModel | None = None
        self.shadow: ServedModel | None = None
        self.pinned: str | None = None
        self.stale = True
        self.alias_missing: bool | None = None
        self._clock = clock
        self._answered_at: float | None = None

    def get(self, role: Role) -> ServedModel | None:
        """The model in a role; None while there is none."""
        return {"current": self.current, "canary": self.canary, "shadow": self.shadow}[role]

    def put(self, role: Role, model: ServedModel | None) -> None:
        """Put a model in a role, or take it out with None. Requests under way keep the snapshot that they took."""
        match role:
            case "current":
                self.current = model
            case "canary":
                self.canary = model
            case "shadow":
                self.shadow = model

    def answering(self) -> tuple[WatchedModel, ...]:
        """The models that answer requests, for drift detection."""
        return tuple(served.watched for served in (self.current, self.canary) if served is not None)

    def require(self) -> ServedModel:
        """The model in service.

        Raises:
            ModelUnavailable: There is none yet.
        """
        if self.current is None:
            raise ModelUnavailable("No model is loaded yet. /health/model says why.")
        return self.current

    def registry_answered(self, *, answered: bool, alias_missing: bool | None = None) -> None:
        """Note whether the registry answered the look that just ended, and what it said of the alias."""
        self.stale = not answered
        self.alias_missing = alias_missing
        if answered:
            self._answered_at = self._clock()

    def freshness(self) -> Freshness | None:
        """Freshness of the model in service; None while there is none."""
        if self.current is None:
            return None
        age = None if self._answered_at is None else self._clock() - self._answered_at
        return Freshness(self.stale, self.pinned is not None, age)

    def engine_status(self) -> EngineStatus | None:
        """Compute backends of the model in service; None while there is none."""
        return self.current and self.current.engine.status()

    def close(self) -> None:
        """Free device memory of all models when the service ends. Requests under way are answered by the CPU."""
        for served in (self.current, self.canary, self.shadow):
            if served is not None:
                served.engine.close()

    def collect(self) -> Iterable[Metric]:
        """Prometheus series of the models in service, made at each scrape."""
        if (status := self.engine_status()) is not None:
            yield from _backend_series(status)
        if (freshness := self.freshness()) is not None:
            yield from _freshness_series(freshness)
        if self.alias_missing is not None:
            help_text = "1 while MODEL_ALIAS names no version of the registry, so that no other takes its place."
            yield GaugeMetricFamily("model_alias_missing", help_text, float(self.alias_missing))


def _backend_series(status: EngineStatus) -> Iterable[Metric]:
    """Compute backends of the model in service. Counts belong to its engine, and restart with another model."""
    usable = GaugeMetricFamily(
        "compute_backend_usable", "1 for a backend in use, 0 for one that failed.", labels=("backend", "device")
    )
    out_of_memory = CounterMetricFamily(
        "compute_backend_out_of_memory", "Times that a batch did not fit into a device's memory.", labels=("backend",)
    )
    for name, backend in status.backends.items():
        usable.add_metric((name, backend.device), 1)
        out_of_memory.add_metric((name,), backend.out_of_memory)
    if status.disabled is not None:
        usable.add_metric((status.disabled, status.disabled_device or ""), 0)
    yield usable
    yield out_of_memory


def _freshness_series(freshness: Freshness) -> Iterable[Metric]:
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
