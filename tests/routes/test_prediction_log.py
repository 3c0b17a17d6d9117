"""`GET /predictions`: for the admin, in each format, with problems that name what is wrong."""

import io
import json
from typing import Any

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest

from app.config.settings import Settings
from app.main import create_app
from tests.prediction_log.databases import PASSWORD
from tests.support import Client, free_port, in_process, loaded, problem

KEY = {"X-API-Key": "the admin's"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, admin_api_key=KEY["X-API-Key"])


async def ask(client: Client, query: str = "", accept: str = "application/json", **headers: str) -> httpx.Response:
    return await client.get(f"/predictions{query}", headers=KEY | {"Accept": accept} | headers)


async def test_what_was_answered_is_read_in_each_format(client: Client, example: dict[str, float]) -> None:
    one = (await client.post("/predict", json=example)).json()
    rows = [example, {}, example | {"MedInc": 9.0}]
    many = (await client.post("/predict/batch", json={"predictions": rows})).json()
    client.app.services.prediction_log.flush()
    answer = await ask(client, "?order=oldest&limit=2")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    first = answer.json()
    second = (await ask(client, f"?cursor={first['next']}")).json()
    assert second["next"] is None
    found: list[dict[str, Any]] = first["predictions"] + second["predictions"]
    ids = [(one["request_id"], 0), (many["request_id"], 0), (many["request_id"], 2)]
    assert [(row["request_id"], row["row"]) for row in found] == ids
    assert (found[0]["features"], found[0]["prediction"]) == (example, one["prediction"])
    interval = {name: found[0][f"interval_{name}"] for name in ("lower", "upper", "level")}
    assert (interval, found[0]["key_id"]) == (one["confidence_interval"], None)
    assert all(row["latency_ms"] > 0 for row in found)

    lines = await ask(client, "?order=oldest", "application/x-ndjson")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == found
    file = await ask(client, f"?request_id={one['request_id']}", "application/vnd.apache.parquet")
    assert [row["prediction"] for row in pq.read_table(io.BytesIO(file.content)).to_pylist()] == [
        json.dumps(one["prediction"])
    ]


async def test_who_may_not_read_and_what_cannot_be_asked(client: Client) -> None:
    assert (await client.get("/predictions")).status_code == 401
    assert (await ask(client, **{"X-API-Key": "wrong"})).status_code == 401
    refused = problem(await ask(client, "?limit=0&color=red"))
    assert (refused["status"], refused["type"]) == (422, "urn:madrone:problem:invalid-input")
    assert [fault["field"] for fault in refused["errors"]] == ["limit", "color"]  # type: ignore[attr-defined]
    assert problem(await ask(client, accept="text/csv"))["status"] == 406
    assert (await client.post("/predictions", headers=KEY)).status_code == 405


async def test_without_an_admin_key_it_is_closed_and_without_a_log_a_conflict(settings: Settings) -> None:
    for changes, status in (({"admin_api_key": None}, 403), ({"prediction_log": "off"}, 409)):
        changed = msgspec.structs.replace(settings, **changes)
        async with Client(create_app(changed, **in_process(changed))) as client:
            assert problem(await ask(client))["status"] == status


async def test_a_database_that_is_away_is_503_in_every_format(settings: Settings) -> None:
    url = f"postgresql://madrone:{PASSWORD}@127.0.0.1:{free_port()}/log"
    settings = msgspec.structs.replace(settings, database_url=url)
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        for accept in ("application/json", "application/x-ndjson", "application/vnd.apache.parquet"):
            answer = await ask(client, accept=accept)
            assert problem(answer)["status"] == 503
            assert "127.0.0.1" not in answer.text
            assert int(answer.headers["retry-after"]) > 0
