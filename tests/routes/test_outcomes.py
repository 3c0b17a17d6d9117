"""The routes of outcomes: what is taken, what is refused, and the report, over a log that is really written."""

import gzip
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from sqlalchemy import exc

from app.config.settings import Settings
from app.outcomes import intake
from app.outcomes.report import FLOOR
from app.outcomes.store import OutcomeStore
from app.prediction_log.engine import open_engine
from app.prediction_log.tables import VERSION_TABLE
from tests.prediction_log.databases import PostgresServer
from tests.routes.support import Client, Row, client_of, fields, services_of
from tests.support import come_true, problem

KEY = "k" * 8


@pytest.fixture
async def keyed(settings: Settings) -> AsyncIterator[Client]:
    """A client of an app that asks for a key."""
    async with client_of(msgspec.structs.replace(settings, api_key=KEY)) as client:
        yield client


async def report(client: Client, *outcomes: dict[str, object], status: int = 200, **headers: str) -> httpx.Response:
    response = await client.post("/outcomes", json={"outcomes": outcomes}, headers=headers)
    assert response.status_code == status, response.text
    return response


async def logged(client: Client) -> None:
    """Wait until all rows are in the table."""
    log = services_of(client).prediction_log
    await come_true(lambda: log.status.queued == 0)


async def test_outcomes_of_a_batch_give_its_error(client: Client, example: Row) -> None:
    await client.post("/predict/batch", json={"predictions": [example] * FLOOR}, headers={"X-Request-ID": "batch"})
    one = (await client.post("/predict", json=example, headers={"X-Request-ID": "one"})).json()
    await logged(client)
    lines = b"\n".join(msgspec.json.encode({"request_id": "batch", "row": row, "actual": 2}) for row in range(FLOOR))
    answer = await client.post("/outcomes", content=lines, headers={"Content-Type": "application/x-ndjson"})
    none = {"waiting": 0, "duplicate": 0, "corrected": 0, "refused": 0, "errors": []}
    assert answer.json() == {"total": FLOOR, "matched": FLOOR, **none}
    services_of(client).outcomes.tracker.refresh()  # type: ignore[union-attr]
    body = (await client.get("/outcomes")).json()
    assert (body["state"], body["reason"], body["waiting"]) == ("ready", None, 0)
    (version,) = body["versions"]
    assert (version["model_version"], version["state"], version["rows"]) == ("1", "measured", FLOOR)
    assert version["figures"]["rmse"] == pytest.approx(abs(one["prediction"] - 2))
    interval = one["confidence_interval"]
    assert version["figures"]["interval_coverage"] == (interval["lower"] <= 2 <= interval["upper"])
    assert version["figures"]["interval_level"] == interval["level"]
    assert (await report(client, {"request_id": "one", "actual": "x"})).json()["errors"] == [
        {"index": 0, "errors": [{"field": "actual", "message": "must be a finite number"}]}
    ]


async def test_what_became_of_outcomes_is_counted(client: Client, example: Row) -> None:
    await client.post("/predict", json=example, headers={"X-Request-ID": "a"})
    await logged(client)
    bad, early = {"request_id": "", "actual": 1}, {"request_id": "b", "row": 2, "actual": 1}
    answer = (await report(client, {"request_id": "a", "actual": 1}, bad, early, early)).json()
    assert {name: count for name, count in answer.items() if name != "errors"} == {
        "total": 4, "matched": 1, "waiting": 1, "duplicate": 1, "corrected": 0, "refused": 1,
    }  # fmt: skip
    assert [error["index"] for error in answer["errors"]] == [1]
    text = (await client.get("/metrics")).text
    assert 'outcomes_total{result="matched"} 1.0' in text
    assert 'outcomes_total{result="refused"} 1.0' in text


async def test_a_body_may_be_compressed_or_one_outcome(client: Client) -> None:
    body = gzip.compress(b'{"request_id": "a", "actual": true}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await client.post("/outcomes", content=body, headers=headers)).json()["waiting"] == 1
    assert problem(await client.post("/outcomes", content=body[:-9], headers=headers))["status"] == 400


async def test_bad_bodies_are_problems(client: Client) -> None:
    assert problem(await client.post("/outcomes", content=b"{"))["status"] == 415
    json = {"Content-Type": "application/json"}
    assert problem(await client.post("/outcomes", content=b"{", headers=json))["status"] == 400
    assert fields(await report(client, status=422)) == {"outcomes": "must be 1 to 10000"}
    assert fields(await client.post("/outcomes", json={"request_id": "a"})) == {"actual": "is missing"}
    large = problem(await client.post("/outcomes", content=b" " * 2**20 + b"{}", headers=json))
    assert (large["status"], large["detail"]) == (413, "The body is larger than MAX_JSON_BYTES.")
    bomb = gzip.compress(b" " * (2**20 + 1))
    headers = json | {"Content-Encoding": "gzip"}
    assert problem(await client.post("/outcomes", content=bomb, headers=headers))["status"] == 413
    assert fields(await report(client, *[{}] * 10_001, status=422)) == {"outcomes": "must be 1 to 10000"}


async def test_both_methods_are_allowed(client: Client) -> None:
    assert (await client.options("/outcomes")).headers["allow"] == "GET, HEAD, OPTIONS, POST"
    wrong = await client.delete("/outcomes")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


async def test_both_routes_need_the_key(keyed: Client) -> None:
    outcome = {"request_id": "a", "actual": 1}
    assert problem(await report(keyed, outcome, status=401))["status"] == 401
    assert problem(await keyed.get("/outcomes"))["status"] == 401
    await report(keyed, outcome, **{"X-API-Key": KEY})
    assert (await keyed.get("/outcomes", headers={"Authorization": f"Bearer {KEY}"})).status_code == 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"prediction_log": "off"}, "PREDICTION_LOG"), ({"prediction_log_format": "parquet"}, "Parquet")],
)
async def test_without_a_table_there_are_no_outcomes(settings: Settings, changes: dict[str, str], reason: str) -> None:
    async with client_of(msgspec.structs.replace(settings, **changes)) as client:
        answer = problem(await report(client, {"request_id": "a", "actual": 1}, status=409))
        assert reason in str(answer["detail"])
        body = (await client.get("/outcomes")).json()
        assert (body["state"], body["versions"]) == ("off", [])
        assert reason in body["reason"]
        assert "outcomes" not in services_of(client).tasks.status


async def test_a_database_that_is_away_is_told_and_nothing_is_written(
    settings: Settings, postgres: PostgresServer
) -> None:
    url = f"postgresql+psycopg://madrone:wrong@127.0.0.1:{postgres.port}/nothing"
    async with client_of(msgspec.structs.replace(settings, database_url=url)) as client:
        answer = problem(await report(client, {"request_id": "a", "actual": 1}, status=503))
        assert answer["type"] == "urn:madrone:problem:prediction-log-unavailable"
        assert "wrong" not in str(answer)


async def test_tables_of_a_newer_release_are_told(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, admin_api_key=KEY)
    engine = open_engine(settings.prediction_log_target)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '99'")
    engine.dispose()
    async with client_of(settings) as client:
        answer = problem(await report(client, {"request_id": "a", "actual": 1}, status=503))
        assert answer["type"] == "urn:madrone:problem:prediction-log-unavailable"
        read = problem(await client.get("/predictions", headers={"X-API-Key": KEY}))
        assert read["type"] == answer["type"]
        for told in (answer, read):
            assert "have a newer schema than this release knows" in str(told["detail"])
            assert "predictions.db" not in str(told)


async def test_a_database_that_hangs_is_waited_for_in_bounded_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(self: OutcomeStore, *_: object) -> None:
        time.sleep(0.5)
        raise exc.TimeoutError

    monkeypatch.setattr(OutcomeStore, "add", hang)
    monkeypatch.setattr(intake, "ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(intake, "MOST_PENDING", 1)
    outcome = {"request_id": "a", "actual": 1}
    answer = await report(client, outcome, status=503)
    assert problem(answer)["type"] == "urn:madrone:problem:prediction-log-unavailable"
    refused = await report(client, outcome, status=503)  # the first still has its thread
    assert problem(refused)["type"] == "urn:madrone:problem:overloaded"
    assert refused.headers["retry-after"] == "1"


async def test_the_tables_are_read_soon_after_an_outcome(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LEAST_PAUSE_S", 0.01)
    async with client_of(settings) as client:
        outcomes = services_of(client).outcomes
        await come_true(lambda: outcomes.report.state == "ready")
        await report(client, {"request_id": "a", "actual": 1})
        await come_true(lambda: outcomes.report.waiting == 1)
