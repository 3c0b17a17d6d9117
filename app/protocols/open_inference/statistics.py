"""Statistics of the models in the shape of Triton's extension, from the metrics of all prediction routes."""

from collections.abc import Iterable

import msgspec
from prometheus_client.metrics_core import Metric

from app.models.served import ServedModel
from app.telemetry.metrics import Metrics

NANOSECONDS = 1_000_000_000


class Duration(msgspec.Struct, frozen=True):
    """Number of requests, and the nanoseconds that they took in all."""

    count: int = 0
    ns: int = 0


class InferenceStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of the parts of requests.

    Attributes:
        success: Requests whose rows were predicted.
        compute_infer: The same, as predicting includes the wait for a thread, and the other parts are not measured.
    """

    success: Duration
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration
    compute_output: Duration = Duration()
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()


class ModelStatistics(msgspec.Struct, frozen=True):
    """Statistics of a version of a model since the start.

    Attributes:
        inference_count: Rows predicted.
        execution_count: Requests whose rows were predicted.
        batch_stats: Statistics by size of a request, of which there are none.
    """

    name: str
    version: str
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[Duration] = []


class Statistics(msgspec.Struct, frozen=True):
    """Statistics of models."""

    model_stats: list[ModelStatistics]


def statistics_of(models: Iterable[ServedModel], metrics: Metrics) -> Statistics:
    """Statistics of models, of requests by any protocol."""
    rows, durations = [*metrics.predictions.collect()], [*metrics.prediction_duration.collect()]
    found: list[ModelStatistics] = []
    for served in models:
        name, version = served.identity.name, served.identity.version
        requests = int(_total(durations, name, version, "_count"))
        spent = Duration(requests, round(_total(durations, name, version, "_sum") * NANOSECONDS))
        stats = InferenceStatistics(success=spent, compute_infer=spent)
        predicted = int(_total(rows, name, version, "_total"))
        found.append(ModelStatistics(name, version, predicted, requests, stats))
    return Statistics(found)


def _total(families: Iterable[Metric], name: str, version: str, suffix: str) -> float:
    """Sum of the samples of a version of a model whose names have this end."""
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith(suffix)
        and (sample.labels["model_name"], sample.labels["model_version"]) == (name, version)
    )
