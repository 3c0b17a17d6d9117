"""Rows that are too many or too old are deleted with their outcomes, whether new ones come or not."""

import asyncio
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from app.prediction_log import parquet, pruning
from app.prediction_log.engine import open_engine
from app.prediction_log.log import PredictionLog
from app.prediction_log.messages import LoggedPredictions, LoggedRequest, LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS
from app.prediction_log.writer import Writer
from app.telemetry.metrics import Metrics
from tests.prediction_log.databases import Database, rows_in
from tests.prediction_log.spooling import target
from tests.support import come_true

DAY_S = 86400


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PIECE_ROWS", 2)


def aged(*days: float) -> list[LoggedPredictions]:
    """A request of two rows for each number of days that have passed since."""
    made = LoggedPredictions(("houses", "3"), ("a",), 1)
    for number, age in enumerate(days):
        rows = np.zeros(2)
        made.add(LoggedRequest(str(number), "batch", time.time() - age * DAY_S, 2), rows.tobytes(), rows.tobytes())
    return [made]


def ids(database: Database) -> list[str]:
    return [row["request_id"] for row in rows_in(database)]


def test_rows_are_deleted_by_age_and_with_their_outcomes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    place = LogTarget(database.url, 1000, keep_days=2)
    engine = open_engine(place)
    early = {  # a single row of an early release, which has no index
        "created_at": datetime.fromtimestamp(time.time() - 9 * DAY_S, UTC), "request_id": "early",
        "prediction_type": "single", "model_name": "houses", "model_version": "3", "features": {}, "prediction": 1.0,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(PREDICTIONS).values(early))
        for identifier, row in (("early", 0), ("0", 1), ("1", 1), ("3", 1), ("unknown", 1)):
            values = {"request_id": identifier, "row": row, "actual": 2.5, "received_at": datetime.now(UTC)}
            connection.execute(sa.insert(OUTCOMES).values(values))
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 8)
    writer = Writer(place)
    assert writer.write(aged(9, 2.1, 1.9, 0)) is None
    assert ids(database) == ["2", "2", "3", "3"]
    assert (writer.pruned(), writer.pruned()) == (5, 0)
    with engine.connect() as connection:
        assert sorted(connection.execute(sa.select(OUTCOMES.c.request_id)).scalars()) == ["3", "unknown"]
    engine.dispose()
    writer.close()


def test_an_outcome_stays_with_a_newer_request_of_the_same_id(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = LogTarget(database.url, 1000, keep_days=2)
    engine = open_engine(place)
    with engine.begin() as connection:
        values = {"request_id": "0", "row": 1, "actual": 2.5, "received_at": datetime.now(UTC)}
        connection.execute(sa.insert(OUTCOMES).values(values))
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 4)
    writer = Writer(place)
    assert writer.write([*aged(9), *aged(0)]) is None
    assert ids(database) == ["0", "0"]
    with engine.connect() as connection:
        assert connection.execute(sa.select(OUTCOMES.c.row)).scalars().all() == [1]
    engine.dispose()
    writer.close()


def test_a_call_deletes_no_more_than_some_pieces_and_the_next_one_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(LogTarget(database.url, 2))
    assert writer.write(aged(*range(12, 0, -1))) is None
    assert len(ids(database)) == 24
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_ROWS", 0)  # it is time, without a new row
    left: list[int] = []
    for _ in range(4):
        writer.turn()
        left.append(len(ids(database)))
    assert left == [24 - 2 * pruning.PIECES, 24 - 4 * pruning.PIECES, 2, 2]
    writer.close()


async def test_the_writer_tells_how_many_rows_it_has_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Telling(Writer):
        def pruned(self) -> int:
            return 5

    monkeypatch.setattr("app.prediction_log.status.PRUNED_INTERVAL_S", 0.01)
    monkeypatch.setattr("app.prediction_log.log.FLUSH_INTERVAL_S", 0.01)
    metrics = Metrics()
    log = PredictionLog(Telling(LogTarget(f"sqlite:///{tmp_path / 'predictions.db'}", 10)), metrics)
    task = asyncio.create_task(log.run())
    await come_true(lambda: (metrics.registry.get_sample_value("prediction_log_pruned_rows_total") or 0) >= 10)
    task.cancel()
    log.close()


def test_old_files_are_deleted_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROLL_S", 0.0)
    monkeypatch.setattr(parquet, "LOOK_S", 0.0)
    writer = Writer(target("", tmp_path, format="parquet", durable=False, keep_days=2))
    for number in range(3):
        assert writer.write(aged(number)) is None
        writer.turn()
    old, *_ = paths = sorted((tmp_path / "parquet").glob("*.parquet"))
    os.utime(old, (0, time.time() - 3 * DAY_S))
    writer.turn()
    assert sorted((tmp_path / "parquet").glob("*.parquet")) == paths[1:]
    assert (writer.pruned(), writer.pruned()) == (2, 0)
    writer.close()


def test_a_durable_log_keeps_the_file_that_holds_its_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "LOOK_S", 0.0)
    files = parquet.ParquetFiles(target("", tmp_path, format="parquet", keep_days=2))
    for number in (1, 2):
        files.write_at(aged(number), f"000000000{number}-{str(number) * 32}.spool", 0, 100)
    for age, path in enumerate(sorted((tmp_path / "parquet").glob("*.parquet"), reverse=True), 3):
        os.utime(path, (0, time.time() - age * DAY_S))
    files.turn()
    assert [files.position(f"000000000{number}-{str(number) * 32}.spool") for number in (1, 2)] == [100, 0]
    assert files.pruned() == 2
