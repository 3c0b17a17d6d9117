"""Rows are read from the tables and from the files, page after page, whatever is written or deleted meanwhile."""

import io
import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from app.errors import Conflict, Overloaded, PredictionLogUnavailable
from app.outcomes.body import Outcome
from app.outcomes.store import OutcomeStore, Refused
from app.prediction_log import parquet
from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LoggedPredictions, LoggedRequest, LogTarget
from app.prediction_log.reading import export, files
from app.prediction_log.reading.page import PredictionsPage
from app.prediction_log.reading.query import query_of
from app.prediction_log.reading.reader import LogReader
from app.prediction_log.tables import OUTCOMES, PREDICTIONS
from app.prediction_log.writer import Writer
from tests.prediction_log.databases import PASSWORD, PostgresDatabase, PostgresServer
from tests.prediction_log.spooling import target
from tests.support import free_port

FRACTION = 0.38174321554792
"""Part of each prediction, whose sum with a number takes 16 digits or more."""

TIME = 1_767_225_600  # 2026-01-01


def batch(*numbers: int, version: str = "3", kind: str = "single") -> list[LoggedPredictions]:
    """Requests of one row, a second apart, whose predictions tell their numbers."""
    made = LoggedPredictions(("houses", version), ("MedInc", "color"), 1, {1: {0: "red"}}, key_id="abcd")
    made.calibration = 0.9, 2.0, 0.125
    for number in numbers:
        row = np.array([math.nan if number % 2 else 1.5, 0])
        request = LoggedRequest(f"request-{number}", kind, TIME + number, 1, 0.25)
        made.add(request, row.tobytes(), np.array([number + FRACTION]).tobytes(), np.array([0.5]).tobytes())
    return [made]


@pytest.fixture(params=["sqlite", "postgresql", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogTarget:
    """A log, whose files have few rows."""
    monkeypatch.setattr(parquet, "FILE_ROWS", 4)
    if request.param == "parquet":
        return target("", tmp_path, format="parquet", durable=False)
    if request.param == "sqlite":
        return LogTarget(f"sqlite:///{tmp_path / 'predictions.db'}", 1000)
    database = PostgresDatabase(request.getfixturevalue("postgres"), f"log_{tmp_path.name}")
    database.create()
    server: PostgresServer = request.getfixturevalue("postgres")
    server.execute(f"ALTER DATABASE \"log_{tmp_path.name}\" SET timezone = 'Asia/Tokyo'")
    return LogTarget(database.url, 1000)


@pytest.fixture
def write(place: LogTarget) -> Callable[..., None]:
    """Writes requests, so that they can be read at once."""

    def put(*numbers: int, **changes: Any) -> None:
        writer = Writer(place)
        for start in range(0, len(numbers), 4):
            assert writer.write(batch(*numbers[start : start + 4], **changes)) is None
        writer.close()

    return put


@pytest.fixture
def reader(place: LogTarget) -> Iterator[LogReader]:
    reader = LogReader(place, enabled=True)
    yield reader
    reader.close()


async def numbers(reader: LogReader, query: str = "") -> list[int]:
    page = await reader.page(query_of(query.encode(), export=False))
    return [int(json.loads(msgspec.json.encode(row.prediction))) for row in page.predictions]


async def all_pages(reader: LogReader, query: str, between: Callable[[], None] = lambda: None) -> list[list[int]]:
    """Numbers of the rows of each page; what happens between two pages is called."""
    pages: list[list[int]] = []
    cursor = ""
    while True:
        page: PredictionsPage = await reader.page(query_of(f"{query}{cursor}".encode(), export=False))
        pages.append([int(row.request_id.removeprefix("request-")) for row in page.predictions])
        if page.next is None:
            return pages
        cursor = f"&cursor={page.next}"
        between()


async def test_a_row_has_all_that_the_log_knows(reader: LogReader, write: Callable[..., None]) -> None:
    write(1)
    (row,) = json.loads(msgspec.json.encode(await reader.page(query_of(b"", export=False))))["predictions"]
    row.pop("id")
    assert row["created_at"].endswith("Z")
    assert datetime.fromisoformat(row.pop("created_at")) == datetime.fromtimestamp(TIME + 1, UTC)
    assert row == {
        "request_id": "request-1", "row": 0, "prediction_type": "single", "model_name": "houses", "model_version": "3",
        "features": {"MedInc": None, "color": "red"}, "prediction": 1 + FRACTION,
        "interval_lower": 1 + FRACTION - 1, "interval_upper": 1 + FRACTION + 1,
        "interval_level": 0.9, "latency_ms": 0.25, "key_id": "abcd", "actual": None, "received_at": None,
    }  # fmt: skip


async def test_each_filter(reader: LogReader, write: Callable[..., None]) -> None:
    assert await numbers(reader) == []
    write(*range(8))
    write(8, 9, version="4", kind="batch")
    assert await numbers(reader) == [*range(9, -1, -1)]
    assert await numbers(reader, "order=oldest&limit=3") == [0, 1, 2]
    assert await numbers(reader, f"since={TIME + 3}&until={TIME + 6}") == [5, 4, 3]
    assert await numbers(reader, "model_version=4") == [9, 8]
    assert await numbers(reader, "prediction_type=single&limit=2") == [7, 6]
    assert await numbers(reader, "request_id=request-5") == [5]
    assert await numbers(reader, "request_id=request-5&model_version=4") == []


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_hold_each_row_once_while_rows_are_added(
    reader: LogReader, write: Callable[..., None], order: str
) -> None:
    write(*range(10))
    added = iter(range(100, 200))
    pages = await all_pages(reader, f"order={order}&limit=3", lambda: write(next(added)))
    rows = [number for page in pages for number in page]
    if order == "newest":
        assert rows == [*range(9, -1, -1)]
    else:  # the new ones come as well, of which each page brings one
        assert rows[:10] == [*range(10)]
        assert rows[10:] == [*range(100, 100 + len(rows) - 10)]
    assert {len(page) for page in pages[:-1]} == {3}


async def test_rows_that_are_deleted_meanwhile_move_no_others(
    place: LogTarget, reader: LogReader, write: Callable[..., None]
) -> None:
    write(*range(12))

    def delete_oldest() -> None:
        if place.format == "parquet":
            min(place.parquet.iterdir()).unlink()
            return
        engine = open_engine(place)
        with engine.begin() as connection:
            connection.execute(
                sa.delete(PREDICTIONS).where(PREDICTIONS.c.request_id.in_([f"request-{n}" for n in range(4)]))
            )
        engine.dispose()

    deleting = iter([delete_oldest])
    pages = await all_pages(reader, "limit=5", lambda: next(deleting, lambda: None)())
    assert [number for page in pages for number in page] == [*range(11, 3, -1)]


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
async def test_an_outcome_stands_beside_its_row(
    place: LogTarget, reader: LogReader, write: Callable[..., None]
) -> None:
    write(1, 2, 3)
    engine = open_engine(place)
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with engine.begin() as connection:
        for name, row, actual in (("request-1", 0, 2.5), ("request-2", 1, 3.5), ("request-3", 0, "red")):
            values = {"request_id": name, "row": row, "actual": actual, "received_at": moment}
            connection.execute(sa.insert(OUTCOMES).values(values))
    engine.dispose()
    rows = json.loads(msgspec.json.encode(await reader.page(query_of(b"", export=False))))["predictions"]
    assert [row["actual"] for row in rows] == ["red", None, 2.5]
    times = [row["received_at"] and datetime.fromisoformat(row["received_at"]) for row in rows]
    assert times == [moment, None, moment]


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
async def test_of_rows_with_one_id_the_newest_has_the_outcome(place: LogTarget, reader: LogReader) -> None:
    """The report on errors reads the same."""
    store = OutcomeStore(place)
    engine = open_engine(place)
    for version, row in (("1", 0), ("2", 0), ("2", 1), ("3", None)):  # the last one of an early release
        values = {
            "created_at": datetime.fromtimestamp(TIME, UTC), "request_id": "a", "row": row, "model_name": "houses",
            "prediction_type": "batch" if row == 1 else "single", "model_version": version, "features": {},
            "prediction": 1.0,
        }  # fmt: skip
        with engine.begin() as connection:
            connection.execute(sa.insert(PREDICTIONS), [values])
        outcome, now = [Outcome("a", 2.5, row or 0)], datetime.now(UTC)
        assert store.add(outcome, now, lambda model, _: Refused("actual", model[1]), 10)[0][1] == version
        store.add(outcome, now, lambda *_: None, 10)
    rows = json.loads(msgspec.json.encode(await reader.page(query_of(b"", export=False))))["predictions"]
    shown = [(row["model_version"], row["row"], row["actual"]) for row in rows]
    assert shown == [("3", 0, 2.5), ("2", 1, 2.5), ("2", 0, None), ("1", 0, None)]
    counted = [(joined.model[1], joined.key[1]) for found in store.pages(None) for joined in found]
    assert sorted(counted) == [("2", 1), ("3", 0)]
    store.close()
    engine.dispose()


@pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)
async def test_a_row_of_a_batch_of_an_early_release_has_no_index(place: LogTarget, reader: LogReader) -> None:
    engine = open_engine(place)
    values = {
        "created_at": datetime.fromtimestamp(TIME, UTC), "request_id": "a", "prediction_type": "batch",
        "model_name": "houses", "model_version": "1", "features": {}, "prediction": 1.0,
    }  # fmt: skip
    outcome = {"request_id": "a", "row": 0, "actual": 2.5, "received_at": datetime.now(UTC)}
    with engine.begin() as connection:
        connection.execute(sa.insert(PREDICTIONS), [values, values])
        connection.execute(sa.insert(OUTCOMES), [outcome])
    engine.dispose()
    lines = b"".join([part async for part in reader.export(query_of(b"", export=True), export.ndjson)])
    assert [(row["row"], row["actual"]) for row in map(json.loads, lines.splitlines())] == [(None, None)] * 2


async def test_exports_hold_all_rows_in_each_format(
    reader: LogReader, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.prediction_log.reading.reader.PIECE_ROWS", 3)
    monkeypatch.setattr("app.prediction_log.reading.reader.PART_BYTES", 1)
    monkeypatch.setattr(export, "GROUP_ROWS", 4)
    write(*range(10))
    query = query_of(b"order=oldest&limit=9", export=True)
    lines = [part async for part in reader.export(query, export.ndjson)]
    assert len(lines) >= 3
    rows = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [row["prediction"] for row in rows] == [number + FRACTION for number in range(9)]
    file = b"".join([part async for part in reader.export(query, export.parquet)])
    stream = b"".join([part async for part in reader.export(query, export.arrow)])
    for table in (pq.read_table(io.BytesIO(file)), pa.ipc.open_stream(stream).read_all()):
        found = table.to_pylist()
        for row in found:
            row["created_at"] = row["created_at"].isoformat().replace("+00:00", "Z")
            row |= {name: json.loads(row[name]) for name in ("features", "prediction")}
        assert [row | {"created_at": ""} for row in found] == [row | {"created_at": ""} for row in rows]
        assert [row["created_at"][:19] for row in found] == [row["created_at"][:19] for row in rows]


async def test_an_export_of_nothing(reader: LogReader) -> None:
    query = query_of(b"", export=True)
    assert b"".join([part async for part in reader.export(query, export.ndjson)]) == b""
    file = b"".join([part async for part in reader.export(query, export.parquet)])
    assert pq.read_table(io.BytesIO(file)).num_rows == 0


async def test_a_log_that_is_away_says_so_and_nothing_of_its_place(tmp_path: Path) -> None:
    away = LogReader(
        LogTarget(f"postgresql+psycopg://madrone:{PASSWORD}@127.0.0.1:{free_port()}/log", 10), enabled=True
    )
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet" / f"20260101T000000.000000Z-{'0' * 32}-0-0-1.parquet").write_text("no table")
    damaged = LogReader(target("", tmp_path, format="parquet"), enabled=True)
    for reader, fault in ((away, "OperationalError"), (damaged, "DamagedFile")):
        with pytest.raises(PredictionLogUnavailable) as caught:
            await reader.page(query_of(b"", export=False))
        assert caught.value.detail == f"The prediction log cannot be read now: {fault}."
        reader.close()


async def test_a_log_that_is_off_and_one_that_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = query_of(b"", export=False)
    with pytest.raises(Conflict, match="PREDICTION_LOG is off"):
        await LogReader(LogTarget("", 0), enabled=False).page(query)
    reader = LogReader(LogTarget(f"sqlite:///{tmp_path / 'predictions.db'}", 10), enabled=True)
    monkeypatch.setattr("app.prediction_log.reading.reader.READERS", 0)
    with pytest.raises(Overloaded):
        await reader.page(query)


@pytest.mark.parametrize("place", ["parquet"], indirect=True)
async def test_files_of_early_releases_are_read_beside_others(
    place: LogTarget, reader: LogReader, write: Callable[..., None]
) -> None:
    write(1)
    (path,) = place.parquet.iterdir()
    table = pq.read_table(path)
    early = path.with_name(path.name.replace("20260101T", "20250101T"))
    pq.write_table(table.select(table.column_names[:8]), early)
    write(2, kind="batch")
    batch = max(place.parquet.iterdir())
    table = pq.read_table(batch)
    pq.write_table(table.select(table.column_names[:8]), batch.with_name(batch.name.replace("20260101T", "20240101T")))
    batch.unlink()
    rows = (await reader.page(query_of(b"", export=False))).predictions
    assert [(row.request_id, row.row, row.key_id) for row in rows] == [
        ("request-1", 0, "abcd"),
        ("request-1", 0, None),  # a single row is the first of its request
        ("request-2", None, None),
    ]


@pytest.mark.parametrize("place", ["parquet"], indirect=True)
async def test_files_of_another_time_are_not_read(
    place: LogTarget, reader: LogReader, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(*range(12))
    assert len(list(place.parquet.iterdir())) == 3
    read: list[int] = []
    matches = files._matches  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(files, "_matches", lambda table, query: (read.append(len(table)), matches(table, query))[1])
    assert await numbers(reader, f"since={TIME + 5}&until={TIME + 8}") == [7, 6, 5]
    assert read == [4]
