"""A durable log: an answer comes after its rows are on the disk, or it is a refusal."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.errors import PredictionLogUnavailable
from app.main import create_app
from app.prediction_log.durable import DurableLog
from app.prediction_log.messages import Drained, Readable
from app.prediction_log.spool import segments as spool_files
from app.prediction_log.spool.segments import Spool
from app.prediction_log.writer import Writer
from app.telemetry.metrics import Metrics
from tests.prediction_log.databases import Database, FoundDatabase, rows_in
from tests.prediction_log.spooling import NAMES, append, numbers_in, segments, target
from tests.support import Client, come_true, in_process, loaded, problem, small_disk


class Durable:
    """A log that runs, with its database and the means to ask it."""

    def __init__(self, log: DurableLog, spool: Spool, metrics: Metrics, directory: Path) -> None:
        self.log, self.spool, self.metrics, self.directory = log, spool, metrics, directory

    def keep(self, number: int, rows: int = 1, names: tuple[str, ...] = NAMES) -> asyncio.Future[None]:
        features, predictions = np.zeros((rows, len(names))), np.full(rows, float(number))
        return self.log.record(f"request-{number}", "single", ("houses", "3"), names, features, predictions)

    async def outcome(self, number: int, rows: int = 1) -> str | None:
        """The reason why a request is refused; None if it is not."""
        try:
            await self.keep(number, rows)
        except PredictionLogUnavailable as error:
            return error.detail
        return None

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
async def durable(database: Database, tmp_path: Path) -> AsyncIterator[Durable]:
    place, metrics = target(database.url, tmp_path), Metrics()
    spool = Spool(place.spool, 2**20)
    log = DurableLog(Writer(place), metrics, spool)
    task = asyncio.create_task(log.run())
    await come_true(lambda: log.started)
    yield Durable(log, spool, metrics, place.spool)
    task.cancel()
    await asyncio.to_thread(log.close)


async def test_rows_are_on_the_disk_first_and_then_in_the_database(durable: Durable, database: Database) -> None:
    await durable.keep(1)
    (path,) = segments(durable.directory)
    assert b"request-1" in path.read_bytes()
    await durable.keep(2, rows=3)
    await come_true(lambda: durable.log.status.queued == 0)
    assert numbers_in(database) == [1, 2, 2, 2]
    assert durable.value("prediction_log_rows_total", outcome="written") == 4
    assert durable.value("prediction_log_flush_seconds_count") == 2


async def test_requests_that_come_during_a_flush_share_the_next_one(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, real, flushes = threading.Event(), os.write, []

    def slow(descriptor: int, content: bytes) -> int:
        flushes.append(len(content))
        go_on.wait(30)
        return real(descriptor, content)

    with monkeypatch.context() as context:
        context.setattr(os, "write", slow)
        first = durable.keep(0)
        await come_true(lambda: flushes)
        others = [durable.keep(number) for number in range(1, 9)]
        await asyncio.sleep(0)
        assert not any(future.done() for future in (first, *others))
        go_on.set()
        await asyncio.gather(first, *others)
    assert len(flushes) == 2


def test_rows_that_come_during_a_write_wait_for_the_next_one(database: Database, tmp_path: Path) -> None:
    place = target(database.url, tmp_path)
    spool = Spool(place.spool, 2**20)
    spool.open()
    written: list[list[Readable]] = []

    class Slow(Writer):
        def drain(self, segments: list[Readable]) -> Drained:
            written.append(segments)
            append(spool, 100 + len(written))  # more come than are written in the time
            return super().drain(segments)

    log = DurableLog(Slow(place), Metrics(), spool)
    append(spool, 0)
    assert log.flush()
    assert len(written) == 1
    assert numbers_in(database) == [0]
    append(spool, 1)
    spool.seal()
    assert log.flush()
    assert len(written) == 2
    assert numbers_in(database) == [0, 101, 1]
    log.close()


async def test_a_request_that_leaves_takes_no_other_with_it(durable: Durable, database: Database) -> None:
    async def ask(number: int) -> None:
        await durable.keep(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[0], tasks[2])
    assert tasks[1].cancelled()
    await come_true(lambda: durable.log.status.queued == 0)
    assert numbers_in(database) == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "the disk does not take it")]
)
async def test_what_cannot_be_written_is_refused_until_it_can(
    durable: Durable, database: Database, monkeypatch: pytest.MonkeyPatch, error: int, words: str
) -> None:
    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(error, "no room at /srv/secret")

    await durable.keep(0)
    with monkeypatch.context() as context:
        context.setattr(os, "write", fail)
        details = await asyncio.gather(*(durable.outcome(number) for number in range(1, 4)))
        (detail,) = {*details}
        assert detail is not None
        assert words in detail
        assert "/" not in detail
        assert durable.log.status.last_error == errno.errorcode[error]
    await durable.keep(4)
    assert durable.log.status.last_error is None
    await come_true(lambda: durable.log.status.queued == 0)
    assert numbers_in(database) == [0, 4]


async def test_at_the_bound_requests_are_refused_until_rows_are_written(
    absent: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_files, "SEGMENT_BYTES", 1000)
    monkeypatch.setattr("app.prediction_log.durable.LONGEST_INTERVAL_S", 0.05)
    place, metrics = target(absent.url, tmp_path), Metrics()
    log = DurableLog(Writer(place), metrics, spool := Spool(place.spool, 4000))
    task, durable = asyncio.create_task(log.run()), Durable(log, spool, metrics, place.spool)
    await come_true(lambda: log.started)
    taken = 0
    while (reason := await durable.outcome(taken)) is None:
        taken += 1
    assert "PREDICTION_LOG_SPOOL_BYTES" in reason
    assert taken > 20
    assert spool.size <= 4000
    absent.create()
    await come_true(lambda: spool.size < 2000)
    await durable.keep(taken)
    await come_true(lambda: log.status.queued == 0)
    assert numbers_in(absent) == list(range(taken + 1))
    assert log.status.last_error is None
    task.cancel()
    await asyncio.to_thread(log.close)


async def test_models_in_turn_and_more_than_are_kept(durable: Durable, database: Database) -> None:
    names = [(f"feature {number}",) for number in range(12)]
    for number in range(24):
        await durable.keep(number, names=names[number % 12])
    await come_true(lambda: durable.log.status.queued == 0)
    assert [[*row["features"]] for row in rows_in(database)] == [[f"feature {number % 12}"] for number in range(24)]


async def test_damage_is_counted_and_logged(
    durable: Durable, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(durable.spool, "readable", return_value=[]), patch.object(Spool, "waits", False):
        for number in range(3):
            await durable.keep(number)
        (path,) = segments(durable.directory)
        content = bytearray(path.read_bytes())
        content[content.index(b"request-1")] ^= 1
        path.write_bytes(content)
    await come_true(lambda: durable.value("prediction_log_damaged_bytes_total"))
    await come_true(lambda: not durable.spool.waits)
    assert numbers_in(database) == [0, 2]
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.__dict__["bytes"] == durable.value("prediction_log_damaged_bytes_total")


async def test_a_second_service_on_one_directory_is_not_ready_until_the_first_has_gone(
    durable: Durable, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.prediction_log.durable.LONGEST_INTERVAL_S", 0.02)
    place = target(database.url, tmp_path)
    second = DurableLog(Writer(place), Metrics(), Spool(place.spool, 2**20))
    task = asyncio.create_task(second.run())
    await come_true(lambda: second.status.last_error == "SpoolLocked")
    assert not second.started
    with pytest.raises(PredictionLogUnavailable):
        second.record("id", "single", ("houses", "3"), NAMES, np.zeros((1, 2)), np.zeros(1))
    await asyncio.to_thread(durable.log.close)
    await come_true(lambda: second.started)
    task.cancel()
    await asyncio.to_thread(second.close)


async def test_a_full_disk_is_refused_until_there_is_room(
    absent: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one, which the spool fills up because the database is away."""
    monkeypatch.setattr("app.prediction_log.durable.LONGEST_INTERVAL_S", 0.05)
    place, metrics = target(absent.url, tmp_path), Metrics()
    with small_disk(place.spool, "size=64k,mode=700"):
        log = DurableLog(Writer(place), metrics, spool := Spool(place.spool, 2**30))
        task, durable = asyncio.create_task(log.run()), Durable(log, spool, metrics, place.spool)
        await come_true(lambda: log.started)
        taken: list[int] = []
        for number in range(400):
            if (reason := await durable.outcome(number, rows=20)) is None:
                taken.append(number)
            else:
                assert "the disk is full" in reason
        assert 50 < len(taken) < 200
        assert sum(path.stat().st_size for path in segments(place.spool)) == spool.size
        absent.create()
        await come_true(lambda: not spool.waits)
        assert await durable.outcome(400) is None
        await come_true(lambda: log.status.queued == 0)
        assert log.status.last_error is None
        task.cancel()
        await asyncio.to_thread(log.close)
    assert numbers_in(absent) == [number for number in taken for _ in range(20)] + [400]


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:
    """A client of an app with a durable log, beside the models of the run."""
    settings = msgspec.structs.replace(settings, prediction_log="durable")
    place = msgspec.structs.replace(settings.prediction_log_target, directory=str(tmp_path))
    with patch.object(Settings, "prediction_log_target", place):
        app = create_app(settings, **in_process(settings))
    async with Client(app) as client:
        await loaded(client)
        await come_true(lambda: client.app.services.prediction_log.started)
        yield client


async def test_requests_on_both_ways_and_batches_are_logged_before_they_are_answered(
    client: Client, example: dict[str, float], tmp_path: Path
) -> None:
    asked = [
        (await client.post("/predict", json=example)).json()["request_id"],
        (await client.post("/predict/", json=example)).json()["request_id"],
        (await client.post("/predict/batch", json={"predictions": [example, {}, example]})).json()["request_id"],
    ]
    spooled = b"".join(path.read_bytes() for path in segments(tmp_path / "spool"))
    assert [spooled.count(identifier.encode()) for identifier in asked] == [1, 1, 1]
    table = ",".join(example) + "\n" + ",".join(map(str, example.values()))
    assert (await client.post("/predict/bulk", content=table, headers={"Content-Type": "text/csv"})).is_success
    await client.post("/predict/batch", json={"predictions": [{}]})
    client.app.services.prediction_log.flush()
    logged = rows_in(FoundDatabase(tmp_path / "predictions.db"))
    assert [row["request_id"] for row in logged] == [asked[0], asked[1], asked[2], asked[2]]
    assert {row["features"]["MedInc"] for row in logged} == {example["MedInc"]}


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/predict/batch"])
async def test_a_full_disk_is_answered_with_503_and_no_half_answer(
    client: Client, example: dict[str, float], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"predictions": [example]} if path == "/predict/batch" else example

    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as context:
        context.setattr("app.prediction_log.spool.segments.os.write", fail)
        response = await client.post(path, json=body)
        answer = problem(response)
        assert (answer["status"], answer["type"]) == (503, "urn:madrone:problem:prediction-log-unavailable")
        assert answer["detail"] == "The prediction could not be logged: the disk is full."
        assert response.headers["retry-after"] == "1"
        assert "predictions cannot be logged" in (await client.get("/health")).json()["problems"]
    assert (await client.post(path, json=body)).is_success
    assert (await client.get("/health")).json()["problems"] == []


async def test_a_fault_of_ours_refuses_requests_and_the_next_ones_are_taken(
    durable: Durable, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(durable.spool, "append", side_effect=ZeroDivisionError):
        assert "the disk does not take it" in (await durable.outcome(0) or "")
    assert "ZeroDivisionError" in caplog.text
    assert await durable.outcome(1) is None
    await come_true(lambda: durable.log.status.queued == 0)
    assert numbers_in(database) == [1]


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
async def test_a_disk_that_hangs_is_answered_with_504_and_no_request_is_logged_twice(
    settings: Settings, example: dict[str, float], tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(settings, prediction_log="durable", request_timeout=0.3)
    place = msgspec.structs.replace(settings.prediction_log_target, directory=str(tmp_path))
    with patch.object(Settings, "prediction_log_target", place):
        app = create_app(settings, **in_process(settings))
    go_on, real = threading.Event(), os.write

    def hang(descriptor: int, content: bytes) -> int:
        if threading.current_thread().name == "prediction-log":
            go_on.wait(30)
        return real(descriptor, content)

    async with Client(app) as client:
        await loaded(client)
        await come_true(lambda: app.services.prediction_log.started)
        with monkeypatch.context() as context:
            context.setattr(os, "write", hang)
            answer = await client.post(path, json=example, headers={"X-Request-ID": "hangs"})
            assert answer.status_code == 504
            go_on.set()
            await come_true(lambda: segments(tmp_path / "spool"))
        await come_true(lambda: app.services.prediction_log.status.queued == 0)
        app.services.prediction_log.flush()
    logged = rows_in(FoundDatabase(tmp_path / "predictions.db"))
    assert [row["request_id"] for row in logged] == ["hangs"]
