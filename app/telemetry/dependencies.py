"""What the service depends on, as its own calls found it. No report asks a registry or a database anything."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PATIENCE_S = 30.0
"""Time without an answer after which a call under way counts as failed."""


class DependencyReading(msgspec.Struct, frozen=True, kw_only=True):
    """How the last calls of a dependency went.

    Attributes:
        up: Whether the last call was answered, and none has waited for too long; None before the first.
        age_seconds: Time since the last answer; None before the first.
        latency_seconds: Duration of the last call that ended.
        unanswered_seconds: Time since the first call after the last answer began; None if there was none. It grows
            while calls fail or hang, and not while nobody calls.
        last_error: Why the last call failed, in words that anybody may read.
        detail: Words of the dependency or of a library, for callers with ADMIN_API_KEY only.
    """

    up: bool | None
    age_seconds: float | None
    latency_seconds: float | None
    unanswered_seconds: float | None
    last_error: str | None
    detail: str | None


class _State(NamedTuple):
    """Everything known, replaced as a whole, so that a reader in another thread sees one moment.

    Attributes:
        began: Start of the call under way.
        unanswered: Start of the first call since the last answer.
        answered: End of the last call that was answered.
        latency: Duration in seconds of the last call that ended.
        error, detail: Why that failed.
    """

    began: float | None = None
    unanswered: float | None = None
    answered: float | None = None
    latency: float | None = None
    error: str | None = None
    detail: str | None = None


class Dependency:
    """Notes the calls of a registry or a database, which come one at a time; may be read in any thread.

    Args:
        name: Its name in reports.
        patience: Seconds without an answer after which a call under way counts as failed.
        clock: Monotonic seconds; a test passes its own.
    """

    def __init__(self, name: str, patience: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._patience = patience
        self._clock = clock
        self._created = clock()
        self._state = _State()

    def began(self) -> None:
        """A call begins."""
        now, before = self._clock(), self._state
        first = now if before.unanswered is None else before.unanswered
        self._state = before._replace(began=now, unanswered=first)

    def ended(self, error: str | None = None, detail: str | None = None) -> None:
        """The call under way was answered, or failed.

        Args:
            error: Why it failed, in words that anybody may read; None if it was answered.
            detail: Further words, for the operator.
        """
        now, before = self._clock(), self._state
        latency = None if before.began is None else now - before.began
        if error is None:
            self._state = _State(answered=now, latency=latency)
        else:
            self._state = before._replace(began=None, latency=latency, error=error, detail=detail)

    def read(self) -> DependencyReading:
        """How the last calls went, without waiting for one."""
        state, now = self._state, self._clock()
        unanswered = None if state.unanswered is None else now - state.unanswered
        failed = state.error is not None or (unanswered is not None and unanswered > self._patience)
        return DependencyReading(
            up=None if not failed and state.answered is None else not failed,
            age_seconds=None if state.answered is None else now - state.answered,
            latency_seconds=state.latency,
            unanswered_seconds=unanswered,
            last_error=state.error,
            detail=state.detail,
        )

    def silence(self) -> float:
        """Seconds since the last answer, or since the start of the service."""
        answered = self._state.answered
        return self._clock() - (self._created if answered is None else answered)


class DependencySeries(Collector):
    """Series of dependencies, made at each scrape.

    Args:
        dependencies: What the service depends on.
    """

    def __init__(self, *dependencies: Dependency) -> None:
        self._dependencies = dependencies

    def collect(self) -> Iterable[Metric]:
        """The families, for the registry. What is not known yet has no series."""
        up = _family("dependency_up", "1 if the last call was answered, 0 if it failed or hangs.")
        latency = _family("dependency_latency_seconds", "Duration of the last call that ended.")
        age = _family("dependency_age_seconds", "Time since the last answer.")
        for dependency in self._dependencies:
            reading = dependency.read()
            for family, value in ((up, reading.up), (latency, reading.latency_seconds), (age, reading.age_seconds)):
                if value is not None:
                    family.add_metric((dependency.name,), float(value))
        yield from (up, latency, age)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=("dependency",))
