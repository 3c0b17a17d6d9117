"""What the service says of itself, and that its metrics exist and are true."""

import asyncio
import shutil
import subprocess
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.config.settings import Settings
from app.routes.info import protocols_of
from tests.routes.support import Client, client_of, compute_with, served_by, services_of
from tests.support import problem
from tests.telemetry.test_gpu import FakeNvml

FAMILIES: dict[str, tuple[str, set[str]]] = {
    "api_requests": ("counter", {"method", "endpoint", "status_code"}),
    "api_request_duration_seconds": ("histogram", {"method", "endpoint"}),
    "predictions": ("counter", {"model_name", "model_version", "prediction_type"}),
    "predictions_not_finite": ("counter", {"model_name", "model_version", "prediction_type"}),
    "prediction_duration_seconds": ("histogram", {"model_name", "model_version"}),
    "dependency_up": ("gauge", {"dependency"}),
    "dependency_latency_seconds": ("gauge", {"dependency"}),
    "dependency_age_seconds": ("gauge", {"dependency"}),
    "service_status": ("gauge", set()),
    "request_stage_duration_seconds": ("histogram", {"stage"}),
    "request_rows": ("histogram", {"prediction_type"}),
    "requests_refused": ("counter", {"reason"}),
    "requests_in_flight": ("gauge", set()),
    "build_info": (
        "gauge",
        {"version", "python", "platform", "granian", "lightgbm", "litestar", "mlflow", "msgspec", "numba", "numpy"},
    ),
    "event_loop_lag_seconds": ("histogram", set()),
    "predictions_in_progress": ("gauge", set()),
    "predictions_wait_seconds": ("gauge", set()),
    "rows_in_flight": ("gauge", {"where"}),
    "model_status": ("gauge", {"model_name"}),
    "errors": ("counter", {"error_type", "endpoint"}),
    "model_info": ("gauge", {"model_name", "model_version", "model_stage", "run_id", "digest"}),
    "model_load_duration_seconds": ("gauge", {"model_name", "model_version"}),
    "model_refreshes": ("counter", {"model_name", "outcome"}),
    "model_lookups": ("counter", {"model_name", "rule", "outcome"}),
    "model_refusals": ("counter", {"model_name", "role", "check"}),
    "model_swaps": ("counter", {"model_name", "role"}),
    "model_stale": ("gauge", {"model_name"}),
    "model_pinned": ("gauge", {"model_name"}),
    "model_age_seconds": ("gauge", {"model_name"}),
    "model_rollout_info": ("gauge", {"model_name", "role", "model_version"}),
    "model_shadow_rows": ("counter", {"model_name", "outcome"}),
    "model_shadow_difference": ("histogram", {"model_name", "model_version", "shadow_version"}),
    "background_task_restarts": ("counter", {"task"}),
    "prediction_log_rows": ("counter", {"outcome"}),
    "prediction_log_pruned_rows": ("counter", set()),
    "prediction_log_rows_waiting": ("gauge", set()),
    "feature_rows": ("counter", {"model_name", "model_version"}),
    "feature_bin": ("counter", {"model_name", "model_version", "feature", "bin"}),
    "feature_missing": ("counter", {"model_name", "model_version", "feature"}),
    "feature_out_of_range": ("counter", {"model_name", "model_version", "feature"}),
    "feature_bin_reference_share": ("gauge", {"model_name", "model_version", "feature", "bin"}),
    "feature_missing_reference_share": ("gauge", {"model_name", "model_version", "feature"}),
    "prediction_bin": ("counter", {"model_name", "model_version", "output", "bin"}),
    "prediction_bin_reference_share": ("gauge", {"model_name", "model_version", "output", "bin"}),
    "drift_reference_info": ("gauge", {"model_name", "model_version", "source"}),
    "drift_window_rows": ("gauge", {"model_name", "model_version"}),
    **{
        f"drift_{what}{name}": ("gauge", {"model_name", "model_version", label})
        for what, label in (("", "feature"), ("prediction_", "output"))
        for name in ("psi", "js_divergence", "ks", "level")
    },
    "outcomes": ("counter", {"result"}),
    **{
        f"outcome_{figure}": ("gauge", {"model_name", "model_version"})
        for figure in ("rows", "rmse", "mae", "r2", "interval_coverage", "log_loss", "auc", "calibration_error")
    },
    "compute_backend_usable": ("gauge", {"model_name", "backend", "device"}),
    "compute_backend_out_of_memory": ("counter", {"model_name", "backend"}),
}
"""Every family of the service's own, with its type and labels."""

NAME = "california-housing-model"

Row = dict[str, float]


async def scrape(client: Client) -> dict[str, Metric]:
    response = await client.get("/metrics")
    assert response.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Samples of a family by their labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


async def traffic(client: Client, example: Row) -> None:
    await client.post("/predict", json=example)
    await client.post("/predict/", json=example)
    await client.post("/predict", json={})
    await client.post("/predict/batch", json={"predictions": [example, {}, example, example]})
    await client.get("/predict")
    await client.get("/nothing/here")
    await client.get("/health/live")


async def test_info_shows_version_model_and_limits(shared_client: Client, settings: Settings) -> None:
    response = await shared_client.get("/info")
    assert response.status_code == 200
    assert response.json() == {
        "name": "madrone",
        "version": "1.0.0",
        "model_name": "california-housing-model",
        "model_version": "1",
        "model_stage": "Production",
        "models": [NAME],
        "in_service": [
            {"name": NAME, "version": "1", "stage": "Production", "aliases": ["champion"], "canary_version": None,
             "canary_percent": 0, "shadow_version": None, "pinned": None}
        ],
        "protocols": [
            {"name": "madrone", "path": "/predict"},
            {"name": "mlflow", "path": "/invocations"},
            {"name": "kserve-v1", "path": "/v1/models/california-housing-model:predict"},
            {"name": "open-inference-v2", "path": "/v2/models/california-housing-model/infer"},
        ],
        "openapi": "/openapi.json",
        "max_batch_size": settings.max_batch_size,
        "max_bulk_rows": settings.max_bulk_rows,
        "max_body_bytes": settings.max_body_bytes,
        "request_timeout": settings.request_timeout,
    }  # fmt: skip


async def test_every_protocol_is_where_info_says(shared_client: Client, settings: Settings) -> None:
    answer = (await shared_client.get("/info")).json()
    for protocol in answer["protocols"]:
        assert (await shared_client.post(protocol["path"], content=b"{")).status_code in (400, 415)
    assert (await shared_client.get(answer["openapi"])).status_code == 200
    named = msgspec.structs.replace(settings, model_name="a b", grpc_port=8001)
    *_, v2, grpc = protocols_of(named)
    assert v2.path == "/v2/models/a%20b/infer"
    assert (grpc.name, grpc.port) == ("open-inference-v2-grpc", 8001)


async def test_info_answers_without_a_model(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, model_name="unknown", api_version="2.7")) as client:
        answer = (await client.get("/info")).json()
        assert (answer["version"], answer["model_name"], answer["model_version"]) == ("2.7", "unknown", None)


async def test_metrics_are_in_prometheus_text_format(shared_client: Client) -> None:
    response = await shared_client.get("/metrics")
    assert response.status_code == 200
    media_type, *parameters = response.headers["content-type"].split("; ")
    assert media_type == "text/plain"
    assert "charset=utf-8" in parameters
    assert any(parameter.startswith("version=") for parameter in parameters)


async def test_exactly_the_documented_metrics_exist(client: Client, example: Row) -> None:
    await traffic(client, example)
    families = await scrape(client)
    own = {name: family for name, family in families.items() if not name.startswith(("process_", "python_"))}
    assert {name: family.type for name, family in own.items()} == {name: kind for name, (kind, _) in FAMILIES.items()}
    assert all(family.documentation for family in own.values())
    for name, family in own.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == FAMILIES[name][1], sample


async def test_requests_are_counted_by_route(client: Client, example: Row) -> None:
    await traffic(client, example)
    families = await scrape(client)
    expected = {
        ("/predict", "POST", "200"): 2,
        ("/predict", "POST", "422"): 1,
        ("/predict", "GET", "405"): 1,
        ("/predict/batch", "POST", "200"): 1,
        ("unmatched", "GET", "404"): 1,
        ("/health/live", "GET", "200"): 1,
    }
    assert values(families["api_requests"], "_total") == expected
    durations = values(families["api_request_duration_seconds"], "_count")
    assert durations == {
        ("/predict", "POST"): 3, ("/predict", "GET"): 1, ("/predict/batch", "POST"): 1, ("unmatched", "GET"): 1,
        ("/health/live", "GET"): 1,
    }  # fmt: skip
    assert all(seconds > 0 for seconds in values(families["api_request_duration_seconds"], "_sum").values())
    assert values(families["errors"], "_total") == {
        ("/predict", "invalid_input"): 1,
        ("/predict", "method_not_allowed"): 1,
        ("unmatched", "not_found"): 1,
    }


async def test_predictions_are_counted_by_row_and_timed_by_request(client: Client, example: Row) -> None:
    await traffic(client, example)
    families = await scrape(client)
    assert values(families["predictions"], "_total") == {(NAME, "1", "single"): 2, (NAME, "1", "batch"): 3}
    assert values(families["prediction_duration_seconds"], "_count") == {(NAME, "1"): 3}


async def test_metrics_show_the_model_in_use(shared_client: Client) -> None:
    families = await scrape(shared_client)
    served = served_by(shared_client)
    assert values(families["model_status"]) == {("california-housing-model",): 1}
    labels = (
        served.artifact.digest, "california-housing-model", "Production", "1", served.identity.run_id,
    )  # fmt: skip
    assert values(families["model_info"]) == {labels: 1}
    assert values(families["model_load_duration_seconds"]) == {(NAME, "1"): served.load_seconds}
    assert values(families["model_refreshes"], "_total") == {(NAME, "unchanged"): 1}
    assert values(families["model_swaps"], "_total") == {(NAME, "current"): 1}
    assert values(families["model_lookups"], "_total") == {(NAME, "found", "stage Production"): 1}
    assert values(families["model_stale"]) == {(NAME,): 0}


async def test_without_a_model_its_status_is_0_and_other_series_absent(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, model_name="unknown")) as client:
        families = await scrape(client)
        assert values(families["model_status"]) == {("unknown",): 0}
        assert values(families["model_info"]) == {}
        assert values(families["model_load_duration_seconds"]) == {}


async def test_an_internal_error_is_counted(client: Client, example: Row) -> None:
    def fail(rows: object) -> Any:
        raise RuntimeError

    compute_with(client, fail)
    await client.post("/predict", json=example)
    families = await scrape(client)
    assert values(families["errors"], "_total") == {("/predict", "internal"): 1}
    assert values(families["api_requests"], "_total") == {("/predict", "POST", "500"): 1}
    assert values(families["predictions"], "_total") == {}


async def test_callers_cannot_invent_labels(client: Client) -> None:
    for number in range(5):
        await client.request(f"INVENTED{number}", "/predict")
        await client.get(f"/invented/{number}")
        await client.request(f"MADE-UP-{number}", f"/invented/{number}")
    families = await scrape(client)
    assert values(families["api_requests"], "_total") == {
        ("/predict", "OTHER", "405"): 5,
        ("unmatched", "GET", "404"): 5,
        ("unmatched", "OTHER", "404"): 5,
    }


async def test_there_are_no_gpu_series_without_a_gpu(settings: Settings) -> None:
    nvml = FakeNvml()
    nvml.failure = nvml.NVMLError(9, "Driver Not Loaded")
    async with client_of(settings, nvml=nvml) as client:
        services_of(client).gpu.poll()
        assert not [name for name in await scrape(client) if name.startswith("gpu_")]


async def test_every_gpu_has_its_series(settings: Settings) -> None:
    async with client_of(settings, nvml=FakeNvml()) as client:
        services_of(client).gpu.poll()
        families = await scrape(client)
        assert values(families["gpu_utilization_percent"]) == {("0", "GPU-0"): 37}
        assert values(families["gpu_memory_used_bytes"]) == {("0", "GPU-0"): 1000, ("1", "GPU-1"): 1001}
        assert {name for name in families if name.startswith("gpu_")} == {
            "gpu_utilization_percent", "gpu_memory_used_bytes", "gpu_memory_total_bytes", "gpu_temperature_celsius",
        }  # fmt: skip


async def test_metrics_can_be_disabled(settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(settings, enable_prometheus=False)) as client:
        response = await client.get("/metrics")
        assert response.status_code == 404
        problem(response)
        assert "metrics-server" not in services_of(client).tasks.status


async def test_metrics_have_no_port_of_their_own_inside_another_server(settings: Settings) -> None:
    async with client_of(settings, ports=False) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert "metrics-server" not in services_of(client).tasks.status


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
async def test_promtool_accepts_the_metrics(settings: Settings, example: Row) -> None:
    async with client_of(settings, nvml=FakeNvml()) as client:
        services_of(client).gpu.poll()
        await traffic(client, example)
        response: httpx.Response = await client.get("/metrics")
    check = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=response.content, capture_output=True
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
