"""Where the time of a prediction request goes: the stages that it passes through.

A request costs one tuple in a list, which is sorted into buckets at a scrape or when it is long.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.telemetry.tracing.current import current_trace

Stage = Literal["read", "decode", "queue", "evaluate", "explain", "encode", "send"]
STAGES: tuple[Stage, ...] = get_args(Stage)

Stages = list[tuple[Stage, float, float]]
"""Stages of a request, each with its start and end by `time.perf_counter`. A stage may be there more than once."""

NaN = math.nan

PENDING = 1024
"""Length at which a list of times is sorted into buckets: half a millisecond of work."""

STAGE_BUCKETS_S = (
    *(1e-06, 2e-06, 4e-06, 1e-05, 2e-05, 4e-05, 0.0001, 0.0002, 0.0004, 0.001),
    *(0.002, 0.004, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
"""Bounds in seconds, from 1 µs, which is what a stage of a small request takes."""


Times = tuple[float, float, float, float, float, float, float]
"""Times of a request on the straight way by `time.perf_counter`: when it began, was read, decoded, evaluated, encoded,
began to be sent, and was sent."""


def stages_of(times: Times) -> Stages:
    """The stages between the times of a request on the straight way."""
    started, read, decoded, evaluated, encoded, sending, sent = times
    return [
        ("read", started, read), ("decode", read, decoded), ("evaluate", decoded, evaluated),
        ("encode", evaluated, encoded), ("send", sending, sent),
    ]  # fmt: skip


class StageTimes(Collector):
    """Histogram of the seconds that requests spend in each stage.

    Args:
        registry: Registry that exports the family.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        shape = len(STAGES), len(STAGE_BUCKETS_S) + 1
        self._state = _State(np.zeros(shape, dtype=np.int64), np.zeros(len(STAGES)), [])
        registry.register(self)

    def add_times(self, times: Times) -> None:
        """Count a request of the straight way, and give its stages to its trace."""
        if (trace := current_trace.get()) is not None:
            trace.set_stages(stages_of(times))
        started, read, decoded, evaluated, encoded, sending, sent = times
        self._add((read - started, decoded - read, NaN, evaluated - decoded, NaN, encoded - evaluated, sent - sending))

    def add(self, stages: Stages) -> None:
        """Count the stages of a request, and give them to its trace."""
        if (trace := current_trace.get()) is not None:
            trace.set_stages(stages)
        seconds: dict[Stage, float] = {}
        for stage, start, end in stages:
            seconds[stage] = seconds.get(stage, 0.0) + end - start
        self._add(tuple([seconds.get(stage, NaN) for stage in STAGES]))

    def _add(self, seconds: tuple[float, ...]) -> None:
        state = self._state
        state.pending.append(seconds)
        if len(state.pending) >= PENDING:
            self._state = _State(*state.sorted(), [])

    def collect(self) -> Iterable[Metric]:
        """The family, for the registry."""
        family = HistogramMetricFamily(
            "request_stage_duration_seconds", "Time that a prediction request spent in a stage.", labels=("stage",)
        )
        bounds = [floatToGoString(bound) for bound in (*STAGE_BUCKETS_S, math.inf)]
        counts, totals = self._state.sorted()
        for stage, cumulated, total in zip(STAGES, np.cumsum(counts, axis=1).tolist(), totals.tolist(), strict=True):
            family.add_metric((stage,), list(zip(bounds, cumulated, strict=True)), total)
        yield family


class _State(NamedTuple):
    """Times of all requests, replaced as a whole so that a scrape in a thread sees none twice.

    Attributes:
        counts: int64[stages, buckets].
        totals: float64[stages], sums in seconds of the times in buckets.
        pending: Seconds of each stage, NaN where a request had none, for each request that is in no bucket yet.
    """

    counts: NDArray[np.int64]
    totals: NDArray[np.float64]
    pending: list[tuple[float, ...]]

    def sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts and sums including pending times. A time equal to a bound belongs to its bucket."""
        pending = self.pending[:]  # a request may be added meanwhile
        size = len(STAGES) * len(pending)
        seconds = np.fromiter(chain.from_iterable(pending), np.float64, size).reshape(-1, len(STAGES))
        width = self.counts.shape[1]
        places = np.searchsorted(STAGE_BUCKETS_S, seconds, side="left") + width * np.arange(len(STAGES))
        counts = np.bincount(places[~np.isnan(seconds)], minlength=self.counts.size).reshape(self.counts.shape)
        return self.counts + counts, self.totals + np.nansum(seconds, axis=0)
