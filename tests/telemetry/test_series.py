"""What callers do to the series: every request is counted where it belongs, and none can add a label of its own."""

import asyncio
import json
import logging
import random
import uuid
from typing import Any, get_args

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from app import errors
from app.config.settings import Settings
from tests.routes.support import Client, client_of, services_of
from tests.support import ROOT

Row = dict[str, float]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Values of the service's own series by name and labels; OpenMetrics is parsed strictly."""
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if not family.name.startswith(("process", "python"))
        for sample in family.samples
    }


async def scraped(client: Client) -> dict[tuple[str, ...], float]:
    return samples((await client.get("/metrics", headers=OPENMETRICS)).text)


async def flood(client: Client, example: Row, seed: int) -> None:
    """Requests with what a caller can invent; what is random about them is so for each seed."""
    made = random.Random(seed)

    def name() -> str:
        return str(uuid.UUID(int=made.getrandbits(128)))

    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/{name()}", {}), ("POST", f"/predict/{name()}", {"json": example}),
        (f"M{made.randrange(10**6)}", "/predict", {}), (f"M{made.randrange(10**6)}", f"/{name()}", {}),
        ("POST", "/predict", {"json": example, "headers": {"X-Request-ID": name(), "X-API-Key": name()}}),
        ("POST", f"/predict?{name()}=1", {"json": example}), ("POST", "/predict", {"json": {name(): 1}}),
        ("POST", "/predict", {"content": b"x", "headers": {"Content-Type": f"text/{name()}"}}),
        ("POST", f"/v2/models/{name()}/infer", {"json": {}}), ("GET", f"/v2/models/{name()}", {}),
        ("GET", f"/v2/models/{name()}/versions/{name()}/ready", {}), ("GET", f"/v2/models/{name()}/stats", {}),
        ("POST", f"/v2/models/california-housing-model/versions/{name()}/infer", {"json": {}}),
        ("POST", f"/v1/models/{name()}:predict", {"json": {}}), ("GET", f"/v1/models/{name()}", {}),
        ("POST", "/health/model/reload", {"json": {"version": name()}}),
        ("GET", "/metrics", {"params": {"name[]": name()}}),
        ("POST", "/invocations", {"json": {name(): []}}),
    ]  # fmt: skip
    for method, path, more in requests:
        await client.request(method, path, **more)


async def test_a_flood_of_invented_names_adds_no_series(client: Client, example: Row) -> None:
    await flood(client, example, 0)
    await asyncio.to_thread(services_of(client).prediction_log.flush)  # which has a series from its first row on
    before = await scraped(client)
    for seed in range(1, 13):
        await flood(client, example, seed)
    after = await scraped(client)
    assert after.keys() == before.keys()
    assert sum(after.values()) > sum(before.values())


async def test_stages_rows_and_overload_are_counted_on_every_way(client: Client, example: Row) -> None:
    for path in ("/predict", "/predict/"):
        await client.post(path, json=example)
    await client.post("/predict/batch", json={"predictions": [example] * 3})
    await client.post("/invocations", json={"dataframe_records": [example] * 2})
    found = await scraped(client)
    count = "request_stage_duration_seconds_count"
    assert {stage: found[count, f"stage={stage}"] for stage in ("read", "decode", "evaluate", "encode", "send")} == {
        "read": 4, "decode": 4, "evaluate": 4, "encode": 4, "send": 4,
    }  # fmt: skip
    assert found["request_rows_count", "prediction_type=single"] == 2
    assert found["request_rows_sum", "prediction_type=batch"] == 5
    assert found["requests_in_flight",] == 0  # the scrape does not count itself
    total = sum(found["request_stage_duration_seconds_sum", f"stage={stage}"] for stage in ("evaluate", "encode"))
    services = services_of(client)
    tickets = [services.gate.enter() for _ in range(services.settings.max_requests_in_progress)]
    assert (await client.post("/predict", json=example)).status_code == 503
    for ticket in tickets:
        services.gate.leave(ticket)
    assert (await scraped(client))["requests_refused_total", "reason=in_progress"] == 1
    assert 0 < total < sum(value for key, value in found.items() if key[0] == "api_request_duration_seconds_sum")


async def test_refusals_are_counted_by_their_reason(settings: Settings, example: Row) -> None:
    changed = msgspec.structs.replace(settings, api_key="sesame", max_json_bytes=1024, rate_limit=4)
    async with client_of(changed) as client:
        key = {"X-API-Key": "sesame"}
        await client.post("/predict", json=example)
        await client.post("/predict", json={"nothing": 1}, headers=key)
        await client.post("/predict", content=b" " * 2000, headers=key | {"Content-Type": "application/json"})
        await client.post("/health/model/reload", json={"version": "1"})
        services = services_of(client)
        services.slot.current, served = None, services.slot.current
        await client.post("/predict", json=example, headers=key)
        services.slot.current = served
        await client.post("/predict", json=example, headers=key)
        found = await scraped(client)
    refused = {key[1]: value for key, value in found.items() if key[0] == "requests_refused_total"}
    assert refused == dict.fromkeys(
        ("reason=key", "reason=too_large", "reason=closed", "reason=not_ready", "reason=rate_limit"), 1.0
    )
    errors_counted = sum(value for key, value in found.items() if key[0] == "errors_total")
    assert errors_counted == len(refused) + 1  # and the body that did not fit the model


def test_every_reason_is_documented() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.ServiceError)]
    reasons = {one.refusal for one in kinds if one.refusal is not None} | set(get_args(errors.Overload))
    (line,) = [line for line in (ROOT / "app/README.md").read_text().splitlines() if "`requests_refused_total{" in line]
    assert [reason for reason in reasons if f"`{reason}`" not in line] == []


async def test_probes_that_succeed_are_for_debugging_only(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    paths = ("/health", "/health/live", "/health/ready", "/metrics", "/ping", "/v2/health/live")

    async def lines(level: int) -> dict[str, str]:
        caplog.clear()
        with caplog.at_level(level, "madrone.request"):
            for path in (*paths, "/info"):
                assert (await client.get(path)).status_code == 200
            services_of(client).slot.current, served = None, services_of(client).slot.current
            assert (await client.get("/health/ready")).status_code == 503
            services_of(client).slot.current = served
            services_of(client).request_log.flush()
        told = [json.loads(line) for record in caplog.records for line in record.getMessage().splitlines()]
        return {f"{line['endpoint']} {line['status']}": line["level"] for line in told if "endpoint" in line}

    failed = {"/info 200": "INFO", "/health/ready 503": "INFO"}
    assert await lines(logging.INFO) == failed
    assert await lines(logging.DEBUG) == {f"{path} 200": "DEBUG" for path in paths} | failed
