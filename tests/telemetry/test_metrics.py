"""The metrics of one app: complete, and separate from those of another."""

import itertools

from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.metrics import LATENCY_BUCKETS_S, Metrics


def test_two_apps_have_series_of_their_own() -> None:
    one, other = Metrics(), Metrics()
    one.predictions.add(("houses", "1", "single"))
    labels = {"model_name": "houses", "model_version": "1", "prediction_type": "single"}
    assert one.registry.get_sample_value("predictions_total", labels) == 1
    assert other.registry.get_sample_value("predictions_total", labels) is None


def test_the_exposition_can_be_parsed_and_has_no_created_series() -> None:
    metrics = Metrics()
    metrics.requests.add(("GET", "/health", "200"))
    metrics.request_duration.observe(("GET", "/health"), 0.001)
    text = metrics.exposition.text().decode()
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert {"api_requests_total", "api_request_duration_seconds_bucket", "process_cpu_seconds_total"} <= names
    assert not [name for name in names if name.endswith("_created")]


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    name = 'house "prices"\n\\'
    metrics.task_restarts.labels(name).inc()
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition.text().decode())}
    (sample,) = families["background_task_restarts"].samples
    assert sample.labels == {"task": name}


def test_buckets_rise_and_reach_from_a_prediction_to_a_timeout() -> None:
    assert list(LATENCY_BUCKETS_S) == sorted(set(LATENCY_BUCKETS_S))
    assert LATENCY_BUCKETS_S[0] <= 0.0001
    assert LATENCY_BUCKETS_S[-1] >= 10
    assert max(high / low for low, high in itertools.pairwise(LATENCY_BUCKETS_S)) <= 2.5
