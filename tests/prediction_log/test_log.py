"""The prediction log against SQLite files and a real PostgreSQL server."""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from app.config.settings import Settings
from app.main import create_app
from app.prediction_log import database as log_database
from app.prediction_log import log as prediction_log
from app.prediction_log import pruning
from app.prediction_log.log import PredictionLog
from app.prediction_log.messages import LoggedPredictions, LogTarget
from app.prediction_log.tables import PREDICTIONS
from app.prediction_log.writer import Writer
from app.telemetry.metrics import Metrics
from tests.prediction_log.databases import (
    PASSWORD,
    Database,
    PostgresDatabase,
    PostgresServer,
    rows_in,
)
from tests.support import Client, come_true, eventually, free_port, in_process, loaded

NAMES = ("MedInc", "année")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def open_log(metrics: Metrics) -> Iterator[Callable[..., PredictionLog]]:
    """Makes logs, and lets go of their databases after the test."""
    logs: list[PredictionLog] = []

    def make(url: str, keep_rows: int = 1000, metrics: Metrics = metrics) -> PredictionLog:
        logs.append(PredictionLog(Writer(LogTarget(url, keep_rows)), metrics, enabled=keep_rows > 0))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def prediction(number: int = 0, **changes: Any) -> dict[str, Any]:
    """What is recorded of a request."""
    features: dict[str, float] = changes.pop("features", dict(zip(NAMES, (3.5, -1.25), strict=True)))
    values: dict[str, Any] = {
        "request_id": f"request-{number}",
        "prediction_type": "single",
        "model": ("houses", "3"),
        "names": NAMES if tuple(features) == NAMES else tuple(features),
        "rows": np.array([list(features.values())]),
        "predictions": np.array([changes.pop("prediction", 2.5 + number)]),
    }
    return values | changes


def batch(first: int, count: int) -> dict[str, Any]:
    """Several rows of one request, which tell their number by their prediction."""
    return prediction(
        request_id="batch", rows=np.zeros((count, 2)), predictions=np.arange(first, first + count, dtype=np.float64)
    )


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("prediction_log_rows_total", {"outcome": outcome}) or 0


def test_rows_are_written_with_their_values(
    database: Database, open_log: Callable[..., PredictionLog], metrics: Metrics
) -> None:
    log = open_log(database.url)
    before = datetime.now(UTC)
    log.record(**prediction(1))
    after = datetime.now(UTC)
    log.record(**prediction(2, prediction_type="batch", prediction=[0.25, 0.5, 0.25]))
    assert log.status.queued == 2
    assert log.flush()
    first, second = rows_in(database)
    assert first.pop("id") < second["id"]
    # SQLite keeps no time zone: times are UTC.
    assert before <= first.pop("created_at").replace(tzinfo=UTC) <= after
    latest = ("row", "interval_lower", "interval_upper", "interval_level", "latency_ms", "key_id")
    assert {name: value for name, value in first.items() if name not in latest} == {
        "request_id": "request-1",
        "prediction_type": "single",
        "model_name": "houses",
        "model_version": "3",
        "features": {"MedInc": 3.5, "année": -1.25},
        "prediction": 3.5,
    }
    assert (second["prediction_type"], second["prediction"]) == ("batch", [0.25, 0.5, 0.25])
    assert (log.status.queued, counted(metrics, "written")) == (0, 2)


def test_a_missing_feature_is_null(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    log = open_log(database.url)
    log.record(**prediction(features={"MedInc": float("nan"), "HouseAge": 1.0}))
    assert log.flush()
    assert rows_in(database)[0]["features"] == {"MedInc": None, "HouseAge": 1.0}


def test_a_category_is_logged_by_its_value(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    names, categories = ("color", "MedInc", "flag"), {0: {0: "red", 1: "grün\n"}, 2: {0: False, 1: True}}
    log = open_log(database.url)
    rows = np.array([[0, 0, 1], [1, 0.5, np.nan], [np.nan, np.nan, 0]])
    log.record(**prediction(names=names, rows=rows, predictions=np.array([1.0, 2.0, 3.0]), categories=categories))
    log.record(**prediction(names=names, rows=rows[:1], categories=categories))
    assert log.flush()
    assert [row["features"] for row in rows_in(database)] == [
        {"color": "red", "MedInc": 0, "flag": True},
        {"color": "grün\n", "MedInc": 0.5, "flag": None},
        {"color": None, "MedInc": None, "flag": False},
        {"color": "red", "MedInc": 0, "flag": True},
    ]


def test_only_the_categories_of_the_rows_are_sent_to_the_writer(metrics: Metrics) -> None:
    sent: list[list[LoggedPredictions]] = []

    class Away(Writer):
        def write(self, batch: list[LoggedPredictions]) -> str | None:
            sent.append(msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=list[LoggedPredictions]))
            return "OperationalError" if len(sent) == 1 else None

    values: dict[int, str | int | float | bool] = {code: f"category {code}" for code in range(100_000)}
    log = PredictionLog(Away(LogTarget("sqlite://", 1)), metrics)
    log.record(**prediction(names=("c",), rows=np.array([[7.0]]), categories={0: values}))
    assert not log.flush()
    assert log.flush()  # the same rows again
    assert [[one.categories for one in batch] for batch in sent] == [[{0: {7: "category 7"}}]] * 2
    assert sent[1][0].features() == [["category 7"]]


def test_names_may_have_ends_of_lines_in_them(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    features = {"a\nb": 1.0, "c\u2028d": 2.0, "e\x85f\r": 3.0}
    log = open_log(database.url)
    log.record(**prediction(features=features))
    log.record(**prediction(features=features, prediction=4.0))
    assert log.flush()
    assert [(row["features"], row["prediction"]) for row in rows_in(database)] == [(features, 2.5), (features, 4.0)]


def test_a_row_may_have_no_features(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    log = open_log(database.url)
    log.record(**prediction(names=(), rows=np.empty((2, 0)), predictions=np.array([1.0, 2.0])))
    assert log.flush()
    assert [(row["features"], row["prediction"]) for row in rows_in(database)] == [({}, 1.0), ({}, 2.0)]


def test_more_rows_than_one_write_takes_all_arrive_in_order(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_database, "STATEMENT_ROWS", 3)
    log = open_log(database.url)
    for number in range(8):
        log.record(**prediction(number))
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == [f"request-{number}" for number in range(8)]


def test_rows_of_several_models_arrive_in_order(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    log = open_log(database.url)
    log.record(**prediction(0))
    log.record(**prediction(1))
    log.record(**prediction(2, model=("flats", "1"), features={"a": 1.0, "b": 2.0, "c": 3.0}, prediction=[0.5, 0.25]))
    log.record(**prediction(3))
    assert log.status.queued == 4
    assert log.flush()
    rows = rows_in(database)
    assert [row["request_id"] for row in rows] == [f"request-{number}" for number in range(4)]
    assert [row["model_name"] for row in rows] == ["houses", "houses", "flats", "houses"]
    assert rows[2]["features"] == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert [row["prediction"] for row in rows] == [2.5, 3.5, [0.5, 0.25], 5.5]


def test_a_log_goes_on_where_the_last_process_left_it(
    database: Database, open_log: Callable[..., PredictionLog]
) -> None:
    for number in range(2):
        log = open_log(database.url, metrics=Metrics())
        log.record(**prediction(number))
        log.close()
    assert [row["request_id"] for row in rows_in(database)] == ["request-0", "request-1"]


def test_while_the_database_is_away_rows_are_kept_and_written_later(
    absent: Database, open_log: Callable[..., PredictionLog], metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(absent.url)
    for number in range(3):
        log.record(**prediction(number))
    with caplog.at_level(logging.WARNING):
        assert not log.flush()
        assert not log.flush()
    assert (log.status.queued, log.status.last_error) == (3, "OperationalError")
    assert len(caplog.records) == 1
    log.record(**prediction(3))
    absent.create()
    assert log.flush()
    assert [row["request_id"] for row in rows_in(absent)] == [f"request-{number}" for number in range(4)]
    assert (log.status.queued, log.status.last_error) == (0, None)
    assert (counted(metrics, "written"), counted(metrics, "dropped")) == (4, 0)


def test_a_server_that_restarts_loses_no_rows(
    postgres: PostgresServer, tmp_path: Path, open_log: Callable[..., PredictionLog]
) -> None:
    database = PostgresDatabase(postgres, f"log_{tmp_path.name}")
    database.create()
    log = open_log(database.url)
    log.record(**prediction(0))
    assert log.flush()
    postgres.stop()
    try:
        log.record(**prediction(1))
        assert not log.flush()
        assert log.status.queued == 1
    finally:
        postgres.start()
    log.record(**prediction(2))
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == ["request-0", "request-1", "request-2"]


def test_a_sqlite_file_that_is_locked_is_waited_for_at_the_next_flush(
    tmp_path: Path, open_log: Callable[..., PredictionLog]
) -> None:
    log = open_log(f"sqlite:///{tmp_path / 'predictions.db'}?timeout=0")
    log.record(**prediction(0))
    assert log.flush()
    log.record(**prediction(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "predictions.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not log.flush()
        assert log.status.queued == 1
    assert log.flush()
    assert log.status.queued == 0


def test_a_directory_that_cannot_be_made_keeps_the_rows_too(
    tmp_path: Path, open_log: Callable[..., PredictionLog]
) -> None:
    (tmp_path / "file").write_text("in the way")
    log = open_log(f"sqlite:///{tmp_path / 'file' / 'predictions.db'}")
    log.record(**prediction())
    assert not log.flush()
    assert log.status.queued == 1
    assert log.status.last_error is not None
    (tmp_path / "file").unlink()
    assert log.flush()


def test_a_full_queue_drops_and_counts(
    database: Database,
    open_log: Callable[..., PredictionLog],
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prediction_log, "QUEUE_ROWS", 3)
    log = open_log(database.url)
    for number in range(5):
        log.record(**prediction(number))
    assert (log.status.queued, counted(metrics, "dropped")) == (3, 2)
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == ["request-0", "request-1", "request-2"]
    assert counted(metrics, "written") == 3


def test_neither_address_nor_password_is_reported(
    open_log: Callable[..., PredictionLog], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    log = open_log(f"postgresql+psycopg://madrone:{PASSWORD}@127.0.0.1:{port}/predictions")
    log.record(**prediction())
    with caplog.at_level(logging.DEBUG):
        assert not log.flush()
        log.close()
    told = [str(log.status), caplog.text, *(str(record.__dict__) for record in caplog.records)]
    for secret in (PASSWORD, "127.0.0.1", str(port)):
        assert not any(secret in text for text in told)


def test_a_wrong_password_is_not_reported(
    postgres: PostgresServer, open_log: Callable[..., PredictionLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(f"postgresql+psycopg://madrone:wrong-one@127.0.0.1:{postgres.port}/postgres")
    log.record(**prediction())
    with caplog.at_level(logging.DEBUG):
        assert not log.flush()
    assert log.status.last_error == "OperationalError"
    assert "wrong-one" not in caplog.text


def test_only_the_newest_rows_are_kept(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 10)
    log = open_log(database.url, keep_rows=4)
    for number in range(10):
        log.record(**prediction(number))
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == [f"request-{number}" for number in range(6, 10)]
    for number in range(10, 13):
        log.record(**prediction(number))
    assert log.flush()
    assert len(rows_in(database)) == 7


def test_ids_that_a_failed_write_used_up_cost_no_rows(
    postgres: PostgresServer,
    tmp_path: Path,
    open_log: Callable[..., PredictionLog],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 6)
    database = PostgresDatabase(postgres, f"log_{tmp_path.name}")
    database.create()
    log = open_log(database.url, keep_rows=4)
    for number in range(3):
        log.record(**prediction(number))
    assert log.flush()
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:  # another process's write, rolled back: its ids are gone
        for _ in range(5):
            connection.execute(sa.text("SELECT nextval('predictions_id_seq')"))
        connection.rollback()
    engine.dispose()
    for number in range(3, 6):
        log.record(**prediction(number))
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == [f"request-{number}" for number in range(2, 6)]


def test_a_log_of_no_rows_writes_nothing(tmp_path: Path, open_log: Callable[..., PredictionLog]) -> None:
    log = open_log(f"sqlite:///{tmp_path / 'predictions.db'}", keep_rows=0)
    log.record(**prediction())
    assert not log.enabled
    assert log.status.queued == 0
    assert log.flush()
    log.close()
    assert not (tmp_path / "predictions.db").exists()


def test_closing_writes_the_remaining_rows(
    database: Database, open_log: Callable[..., PredictionLog], metrics: Metrics
) -> None:
    log = open_log(database.url)
    log.record(**prediction())
    log.close()
    assert len(rows_in(database)) == 1
    assert counted(metrics, "written") == 1


def test_closing_while_the_database_is_away_counts_lost_rows(
    absent: Database, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    log = PredictionLog(Writer(LogTarget(absent.url, 1000)), metrics)
    log.record(**prediction(0))
    log.record(**prediction(1))
    log.close()
    assert counted(metrics, "dropped") == 2
    assert [record.__dict__["rows"] for record in caplog.records if record.levelno == logging.ERROR] == [2]


async def test_the_task_writes_beside_the_requests_and_goes_on_after_a_failure(
    absent: Database, open_log: Callable[..., PredictionLog], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "FLUSH_INTERVAL_S", 0.01)
    log = open_log(absent.url)
    log.record(**prediction())
    task = asyncio.create_task(log.run())
    await asyncio.to_thread(eventually, lambda: log.status.last_error is not None)
    absent.create()
    await asyncio.to_thread(eventually, lambda: counted(metrics, "written") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(rows_in(absent)) == 1


async def test_requests_are_logged_row_by_row_under_their_id(
    client: Client, settings: Settings, example: dict[str, float]
) -> None:
    single = (await client.post("/predict", json=example)).json()
    rows = [example, {}, example | {"MedInc": 9.0}]
    batch = (await client.post("/predict/batch", json={"predictions": rows})).json()
    await client.post("/predict", json={})
    client.app.services.prediction_log.flush()
    engine = sa.create_engine(settings.prediction_database_url)
    with engine.connect() as connection:
        logged = connection.execute(sa.select(PREDICTIONS).order_by(PREDICTIONS.c.id)).mappings().all()
    engine.dispose()
    expected = [("single", single["request_id"], example, single["prediction"])]
    expected += [
        ("batch", batch["request_id"], rows[item["index"]], item["prediction"])
        for item in batch["predictions"]
        if item["status"] == "predicted"
    ]
    assert [
        (row["prediction_type"], row["request_id"], row["features"], row["prediction"]) for row in logged
    ] == expected
    assert {(row["model_name"], row["model_version"]) for row in logged} == {("california-housing-model", "1")}


def test_a_batch_is_a_row_for_each_of_its_rows(database: Database, open_log: Callable[..., PredictionLog]) -> None:
    log = open_log(database.url)
    log.record(**batch(0, 3))
    log.record(**prediction(features={"MedInc": 1.0, "année": 2.0}, prediction=3.0))
    assert log.status.queued == 4
    assert log.flush()
    assert [(row["request_id"], row["prediction"]) for row in rows_in(database)] == [
        ("batch", 0.0), ("batch", 1.0), ("batch", 2.0), ("request-0", 3.0),
    ]  # fmt: skip


def test_a_batch_larger_than_a_statement_is_written_whole(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_database, "STATEMENT_ROWS", 3)
    log = open_log(database.url)
    log.record(**batch(0, 8))
    log.record(**batch(8, 2))
    assert log.flush()
    assert [row["prediction"] for row in rows_in(database)] == list(range(10))
    assert log.status.queued == 0


def test_of_a_batch_that_does_not_fit_the_first_rows_are_kept(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(prediction_log, "QUEUE_ROWS", 5)
    log = open_log(database.url)
    log.record(**batch(0, 3))
    log.record(**batch(3, 4))
    log.record(**batch(7, 1))
    assert (log.status.queued, counted(metrics, "dropped")) == (5, 3)
    assert log.flush()
    assert [row["prediction"] for row in rows_in(database)] == list(range(5))


def test_rows_are_not_written_twice_because_old_ones_could_not_be_deleted(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 1)
    log = open_log(database.url, keep_rows=1)
    log.record(**prediction(0))
    with monkeypatch.context() as context:
        broken = Mock(where=lambda *_: sa.text("DELETE FROM missing"))
        context.setattr(pruning.sa, "delete", lambda _: broken)
        log.record(**prediction(1))
        assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == ["request-0", "request-1"]
    log.record(**prediction(2))
    assert log.flush()
    assert [row["request_id"] for row in rows_in(database)] == ["request-2"]


def test_wide_rows_fill_the_queue_by_their_bytes(
    database: Database, open_log: Callable[..., PredictionLog], monkeypatch: pytest.MonkeyPatch, metrics: Metrics
) -> None:
    monkeypatch.setattr(prediction_log, "QUEUE_BYTES", 2 * 8 * (2 + 1))
    log = open_log(database.url)
    for number in range(4):
        log.record(**prediction(number))
    assert (log.status.queued, counted(metrics, "dropped")) == (2, 2)


class Slow(Writer):
    """A writer that starts when it is told to."""

    def __init__(self, target: LogTarget, fault: str | None = None) -> None:
        super().__init__(target)
        self.go_on = threading.Event()
        self._fault = fault

    def start(self) -> str | None:
        assert self.go_on.wait(30)
        return self._fault


@pytest.mark.parametrize("fault", [None, "ChildNotStarted"])
async def test_the_service_is_ready_when_the_writer_has_started_or_cannot_be(
    settings: Settings, fault: str | None
) -> None:
    writer = Slow(settings.prediction_log_target, fault)
    async with Client(create_app(settings, **in_process(settings) | {"log_writer": writer})) as client:
        await loaded(client)
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the prediction log is starting")
        writer.go_on.set()
        await come_true(lambda: client.app.services.prediction_log.started)
        assert (await client.get("/health/ready")).status_code == 200
        assert client.app.services.prediction_log.status.last_error == fault


@pytest.mark.parametrize("changes", [{"prediction_log": "off"}, {"prediction_log_rows": 0}])
async def test_a_log_that_is_off_starts_no_writer(settings: Settings, changes: dict[str, Any]) -> None:
    settings = msgspec.structs.replace(settings, **changes)
    writer = Slow(settings.prediction_log_target)
    async with Client(create_app(settings, **in_process(settings) | {"log_writer": writer})) as client:
        await loaded(client)
        assert (await client.get("/health/ready")).status_code == 200
        assert "prediction-log" not in client.app.services.tasks.status
        writer.go_on.set()


async def test_rows_that_a_durable_log_left_are_warned_of(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = msgspec.structs.replace(settings, data_dir=tmp_path)
    (spool := settings.prediction_log_target.spool).mkdir(parents=True)
    create_app(settings, **in_process(settings))
    assert "PREDICTION_LOG=durable" not in caplog.text
    (spool / "0000000001-0.spool").touch()
    create_app(settings, **in_process(settings))
    assert "only PREDICTION_LOG=durable writes them" in caplog.text
