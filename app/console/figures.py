"""The figures of the service that a viewer of the console watches."""

import re
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise

import msgspec
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.container import Services
from app.drift.report import ColumnDrift, Level, State, report
from app.ops.rules import PREDICTION_ENDPOINTS
from app.routes.reasons import Status, reasons_of, status_of
from app.telemetry.gpu import GpuReading

IS_PREDICTION = re.compile(PREDICTION_ENDPOINTS)


class Latency(msgspec.Struct, frozen=True):
    """Histogram of the time from a prediction request's head to the end of its answer, since the start.

    Attributes:
        bounds: Upper bounds in seconds of all buckets but the last, which has none.
        counts: Requests in each bucket.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]


class Shift(msgspec.Struct, frozen=True):
    """Drift of a feature or an output; see `app.drift.report.ColumnDrift`."""

    name: str
    psi: float | None
    level: Level | None


class Drift(msgspec.Struct, frozen=True):
    """Drift of the rows in the window; see `app.drift.report.ModelDrift`."""

    state: State
    rows: int
    window_seconds: float
    features: tuple[Shift, ...]
    prediction: tuple[Shift, ...]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What the predictions of a version were worth; see `app.outcomes.report.Performance`."""

    model_version: str
    state: str
    rows: int
    interval_coverage: float | None
    interval_level: float | None
    rmse: float | None


class ShadowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Differences of the shadow's predictions from those that were answered.

    Attributes:
        version: Version of the shadow.
        rows: Rows sampled, by what became of them.
        compared: Predictions that were compared.
        mean_difference: Their mean difference, the shadow's less the other's; None before the first.
        mean_size: Mean size of the differences, without their signs; likewise.
    """

    version: str
    rows: dict[str, float]
    compared: int
    mean_difference: float | None
    mean_size: float | None


class LiveFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one moment. Counts are since the start; rates are for the page to compute.

    Requests, rows, waits and errors are those of all models; versions, drift, coverage and shadow of one.

    Attributes:
        time: Seconds since 1970.
        started: When the process started, so that a page sees a restart.
        model_name: Name of the model.
        digest: Digest of the model in use, so that a page sees a swap.
        requests: Prediction requests answered, by status class such as `2xx`.
        rows: Rows predicted.
        errors: Requests of all routes answered with an error, by kind.
        refused: Requests refused, by reason.
        in_progress: Prediction requests begun and not answered.
        rows_held: Rows of requests that are being answered.
        rows_queued: Those of them that wait for a thread.
        wait_seconds: Wait of small requests until they are read.
        gpu_reason: Why no GPU is read; None where one is.
        drift: None where drift is not watched, or no model is loaded.
    """

    time: float
    started: float
    status: Status
    problems: tuple[str, ...]
    model_name: str
    model_version: str | None
    digest: str | None
    canary_version: str | None
    requests: dict[str, float]
    rows: float
    latency: Latency
    errors: dict[str, float]
    refused: dict[str, float]
    in_progress: int
    rows_held: int
    rows_queued: int
    wait_seconds: float
    gpus: tuple[GpuReading, ...]
    gpu_reason: str | None
    drift: Drift | None
    coverage: tuple[Coverage, ...]
    shadow: ShadowFigures | None


def figures(services: Services, started: float, joint: Mapping[str, Metric] | None = None) -> LiveFigures:
    """The figures now. Nothing is asked or waited for; it takes one to two milliseconds.

    Args:
        services: Collaborators of the application that answer for a model.
        started: When the process started.
        joint: Families of metrics of all workers by name; None where there is one worker.
    """
    metrics, slot = services.metrics, services.slot
    reasons = reasons_of(services)
    current, canary = slot.current, slot.canary

    def of_all(owner: Collector) -> list[Metric]:
        return [family if joint is None else joint.get(family.name, family) for family in owner.collect()]

    (in_progress, wait), (rows,) = of_all(services.gate), of_all(services.admission)
    held = {sample.labels["where"]: int(sample.value) for sample in rows.samples}
    return LiveFigures(
        time=time.time(),
        started=started,
        status=status_of(reasons),
        problems=tuple(reason.message for reason in reasons),
        model_name=services.name,
        model_version=current and current.identity.version,
        digest=current and current.artifact.digest,
        canary_version=canary and canary.identity.version,
        requests=_by_class(of_all(metrics.requests)),
        rows=sum(value for _, value in _samples(of_all(metrics.predictions), "_total")),
        latency=_latency(of_all(metrics.request_duration)),
        errors=_summed((labels["error_type"], value) for labels, value in _samples(of_all(metrics.errors), "_total")),
        refused=_summed((labels["reason"], value) for labels, value in _samples(of_all(metrics.refusals), "_total")),
        in_progress=int(in_progress.samples[0].value),
        rows_held=held["held"],
        rows_queued=held["queued"],
        wait_seconds=wait.samples[0].value,
        gpus=services.gpu.status.devices,
        gpu_reason=services.gpu.status.reason,
        drift=_drift(services),
        coverage=tuple(
            Coverage(
                model_version=one.model_version,
                state=one.state,
                rows=one.rows - one.unusable,
                interval_coverage=one.figures and one.figures.interval_coverage,
                interval_level=one.figures and one.figures.interval_level,
                rmse=one.figures and one.figures.rmse,
            )
            for one in services.outcomes.report.versions
            if one.model_name == services.name
        ),
        shadow=_shadow(services),
    )


def _samples(families: Iterable[Metric], suffix: str) -> Iterable[tuple[dict[str, str], float]]:
    """Labels and values of the samples whose names end so."""
    for family in families:
        for sample in family.samples:
            if sample.name.endswith(suffix):
                yield sample.labels, sample.value


def _summed(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0.0) + value
    return sums


def _by_class(requests: Iterable[Metric]) -> dict[str, float]:
    """Prediction requests by the class of their status."""
    return _summed(
        (labels["status_code"][0] + "xx", value)
        for labels, value in _samples(requests, "_total")
        if IS_PREDICTION.fullmatch(labels["endpoint"])
    )


def _latency(durations: Iterable[Metric]) -> Latency:
    """Histogram of all prediction routes together."""
    upwards = _summed(
        (labels["le"], value)
        for labels, value in _samples(durations, "_bucket")
        if IS_PREDICTION.fullmatch(labels["endpoint"])
    )
    totals = [0.0, *upwards.values()]
    bounds = tuple(float(bound) for bound in upwards)[:-1]
    return Latency(bounds, tuple(now - before for before, now in pairwise(totals)))


def _drift(services: Services) -> Drift | None:
    monitor = services.drift
    if not monitor.enabled or services.slot.current is None:
        return None
    tracker = next(iter(monitor.trackers()), None)
    if tracker is None:
        return None
    found = report(tracker, monitor.window)
    return Drift(found.state, found.rows, found.window_seconds, _shifts(found.features), _shifts(found.prediction))


def _shifts(columns: Iterable[ColumnDrift]) -> tuple[Shift, ...]:
    return tuple(Shift(column.name, column.psi, column.level) for column in columns)


def _shadow(services: Services) -> ShadowFigures | None:
    shadow, metrics = services.slot.shadow, services.metrics
    if shadow is None:
        return None
    version, known = shadow.identity.version, services.shadow.compared
    compared = known if known is not None and known.version == version and known.predictions else None
    return ShadowFigures(
        version=version,
        rows=_summed(
            (labels["outcome"], value)
            for labels, value in _samples(metrics.shadow_rows.collect(), "_total")
            if labels["model_name"] == shadow.identity.name
        ),
        compared=compared.predictions if compared else 0,
        mean_difference=compared and compared.total / compared.predictions,
        mean_size=compared and compared.size / compared.predictions,
    )
