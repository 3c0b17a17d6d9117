"""The metrics of one app: complete, apart from any other app's, and silent on what cannot be known."""

import itertools

from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.gpu import GpuReading
from app.telemetry.metrics import CONTENT_TYPE, LATENCY_BUCKETS_S, Metrics
from kernels.engine import BackendStatus, EngineStatus
from kernels.forest.status import ForestStatus


def computing(
    *names: str, out_of_memory: int = 0, disabled: str | None = None, device: str | None = "H100"
) -> EngineStatus:
    """The status of an engine that uses backends of these names."""
    return EngineStatus(
        backends={name: BackendStatus(f"a {name}", None, None, None, out_of_memory) for name in names},
        disabled=disabled,
        disabled_device=disabled and device,
        disabled_reason=disabled and "it is lost",
        forest=ForestStatus(evaluator="kernels"),
        difficulty=None,
    )


def backend_series(metrics: Metrics) -> dict[tuple[str, str, str | None], float]:
    """Values by name, backend and device."""
    return {
        (sample.name, sample.labels["backend"], sample.labels.get("device")): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith("compute_backend_")
    }


def test_two_apps_have_series_of_their_own() -> None:
    one, other = Metrics(), Metrics()
    one.predictions.add(("1", "single"))
    labels = {"model_version": "1", "prediction_type": "single"}
    assert one.registry.get_sample_value("predictions_total", labels) == 1
    assert other.registry.get_sample_value("predictions_total", labels) is None


def test_the_exposition_can_be_parsed_and_has_no_created_series() -> None:
    metrics = Metrics()
    metrics.requests.add(("GET", "/health", "200"))
    metrics.request_duration.observe(("GET", "/health"), 0.001)
    text = metrics.exposition().decode()
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert {"api_requests_total", "api_request_duration_seconds_bucket", "process_cpu_seconds_total"} <= names
    assert not [name for name in names if name.endswith("_created")]
    assert CONTENT_TYPE.startswith("text/plain")


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    name = 'house "prices"\n\\'
    metrics.model_status.labels(name).set(1)
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    (sample,) = families["model_status"].samples
    assert sample.labels == {"model_name": name}


def test_buckets_rise_and_reach_from_a_prediction_to_a_timeout() -> None:
    assert list(LATENCY_BUCKETS_S) == sorted(set(LATENCY_BUCKETS_S))
    assert LATENCY_BUCKETS_S[0] <= 0.0001
    assert LATENCY_BUCKETS_S[-1] >= 10
    assert max(high / low for low, high in itertools.pairwise(LATENCY_BUCKETS_S)) <= 2.5


def test_gpu_readings_are_taken_at_each_scrape() -> None:
    readings: list[GpuReading] = []
    metrics = Metrics(lambda: readings)
    assert b"gpu_" not in metrics.exposition()
    readings.append(
        GpuReading(
            index=0, name="H100", uuid="GPU-a", utilization_percent=None, memory_used_bytes=5, memory_total_bytes=9,
            temperature_celsius=None,
        )
    )  # fmt: skip
    labels = {"gpu": "0", "uuid": "GPU-a"}
    assert metrics.registry.get_sample_value("gpu_memory_used_bytes", labels) == 5
    text = metrics.exposition()
    assert b"gpu_utilization_percent" not in text
    assert b"gpu_temperature_celsius" not in text
    readings.clear()
    assert b"gpu_" not in metrics.exposition()


def test_backends_are_told_at_each_scrape_and_only_with_a_model() -> None:
    status: list[EngineStatus | None] = [None]
    metrics = Metrics(engine_status=lambda: status[-1])
    assert backend_series(metrics) == {}
    status.append(computing("cuda", "cpu", out_of_memory=2))
    assert backend_series(metrics) == {
        ("compute_backend_usable", "cuda", "a cuda"): 1,
        ("compute_backend_usable", "cpu", "a cpu"): 1,
        ("compute_backend_out_of_memory_total", "cuda", None): 2,
        ("compute_backend_out_of_memory_total", "cpu", None): 2,
    }
    remaining = {
        ("compute_backend_usable", "cpu", "a cpu"): 1,
        ("compute_backend_out_of_memory_total", "cpu", None): 0,
    }
    status.append(computing("cpu", disabled="cuda"))
    assert backend_series(metrics) == {**remaining, ("compute_backend_usable", "cuda", "H100"): 0}
    status.append(computing("cpu", disabled="cuda", device=None))
    assert backend_series(metrics) == {**remaining, ("compute_backend_usable", "cuda", ""): 0}
