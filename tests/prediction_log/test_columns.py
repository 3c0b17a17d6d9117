"""What the log tells of a row beside its features and its prediction, in a table and in Parquet files."""

from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from app.config.settings import Settings
from app.main import create_app
from app.models.predictions.interval import Intervals, Quantile
from app.prediction_log.log import PredictionLog
from app.prediction_log.messages import LogTarget, Readable
from app.prediction_log.spool.segments import Spool
from app.prediction_log.writer import Writer
from app.telemetry.metrics import Metrics
from tests.prediction_log.databases import Database, FoundDatabase, rows_in
from tests.prediction_log.spooling import target
from tests.support import Client, come_true, in_process, loaded

INTERVALS = Intervals(
    quantiles=(Quantile(level=0.5, score=0.7), Quantile(level=0.9, score=1.9)),
    default_level=0.9,
    least_difficulty=0.05,
    calibration_rows=100,
)

# A model and a request of two rows, as a release without these columns wrote them.
OLD_SPOOL = bytes.fromhex(
    "f54d500117ae88a9250000000000000096a16d0192a6686f75736573a13392a64d6564496e63a5636f6c6f720181018100a3726564f54d5001"
    "18f80c814c0000000200000098a17201a36f6c64a56261746368cb41da55cd6950000002c420000000000000f83f0000000000000000000000"
    "0000000440000000000000f87fc41000000000000004400000000000000c40"
)


KEY = {b"x-api-key": b"secret"}


def read_files(directory: Path) -> list[dict[str, Any]]:
    return pq.read_table(directory / "parquet").to_pylist()


def logged(place: LogTarget, key: str | None = None) -> PredictionLog:
    """A log with three rows of a request whose second row was not valid, and one of a model without intervals."""
    log = PredictionLog(Writer(place), Metrics(), key_id_of=lambda headers: key if headers == KEY else None)
    difficulty = np.array([0.1, 0.01, 0.3])
    predictions = np.array([1.25, 2.5, 1 / 3])
    log.record(
        "many", "batch", ("houses", "3"), ("a",), np.zeros((3, 1)), predictions, None, INTERVALS, difficulty.tobytes(),
        12.34567, (0, 2, 3), KEY,
    )  # fmt: skip
    log.record("one", "single", ("flats", "1"), ("b",), np.zeros((1, 1)), np.array([5.0]), headers=KEY)
    return log


def expected() -> list[tuple[Any, ...]]:
    widths = INTERVALS.half_width(np.array([0.1, 0.01, 0.3]), 0.9)
    bounds = np.array([1.25, 2.5, 1 / 3])[:, None] + widths[:, None] * [-1, 1]
    rows = [(row, *bound, 0.9, 12.346, "abcd") for row, bound in zip((0, 2, 3), bounds.tolist(), strict=True)]
    return [*rows, (0, None, None, None, None, "abcd")]


COLUMNS = ("row", "interval_lower", "interval_upper", "interval_level", "latency_ms", "key_id")


def test_a_row_has_its_place_interval_latency_and_key(database: Database) -> None:
    logged(LogTarget(database.url, 100), "abcd").close()
    assert [tuple(row[name] for name in COLUMNS) for row in rows_in(database)] == expected()


def test_files_have_them_too(tmp_path: Path) -> None:
    logged(target("", tmp_path, format="parquet", durable=False), "abcd").close()
    assert [tuple(row[name] for name in COLUMNS) for row in read_files(tmp_path)] == expected()


def test_of_rows_that_do_not_fit_the_first_keep_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.prediction_log.log.QUEUE_ROWS", 2)
    database = FoundDatabase(tmp_path / "predictions.db")
    logged(LogTarget(database.url, 100), "abcd").close()
    assert [tuple(row[name] for name in COLUMNS) for row in rows_in(database)] == expected()[:2]


@pytest.mark.parametrize("format", ["sql", "parquet"])
def test_a_spool_of_an_earlier_release_is_written(tmp_path: Path, format: str) -> None:
    database = FoundDatabase(tmp_path / "predictions.db")
    place = target(database.url, tmp_path, format=format)
    place.spool.mkdir()
    (place.spool / f"0000000001-{'0' * 32}.spool").write_bytes(OLD_SPOOL)
    spool = Spool(place.spool, 2**20)
    spool.open()
    writer = Writer(place)
    (segment,) = spool.readable()
    assert writer.drain([Readable(segment.name, segment.size, segment.sealed)]).newly == 2
    writer.close()
    spool.close()
    rows = rows_in(database) if format == "sql" else read_files(tmp_path)
    assert [row["row"] for row in rows] == [0, 1]
    assert {row[name] for row in rows for name in COLUMNS[1:]} == {None}
    assert [row["prediction"] for row in rows] == ([2.5, 3.5] if format == "sql" else [[2.5], [3.5]])


async def test_requests_are_logged_with_what_their_answers_say(
    settings: Settings, example: dict[str, float], tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, prediction_log="durable", api_key="secret", api_key_second="older")
    place = msgspec.structs.replace(settings.prediction_log_target, directory=str(tmp_path))
    with patch.object(Settings, "prediction_log_target", place):
        app = create_app(settings, **in_process(settings))
    async with Client(app) as client:
        client.headers["X-API-Key"] = "secret"
        await loaded(client)
        await come_true(lambda: client.app.services.prediction_log.started)
        one = (await client.post("/predict", json=example)).json()
        body = {"predictions": [example, {}, example | {"MedInc": 9.0}]}
        many = (await client.post("/predict/batch?interval=0.5", json=body)).json()
        client.headers["X-API-Key"] = "older"
        third = (await client.post("/predict", json=body["predictions"][2])).json()
    rows = rows_in(FoundDatabase(Path(settings.prediction_database_url.removeprefix("sqlite:///"))))
    ids = [(one["request_id"], 0), (many["request_id"], 0), (many["request_id"], 2), (third["request_id"], 0)]
    assert [(row["request_id"], row["row"]) for row in rows] == ids
    intervals = [answer["confidence_interval"] for answer in (one, one, third, third)]
    assert [{name: row[f"interval_{name}"] for name in ("lower", "upper", "level")} for row in rows] == intervals
    newer, older = (sha256(key).hexdigest()[:8] for key in (b"secret", b"older"))
    assert [row["key_id"] for row in rows] == [newer, newer, newer, older]
    assert all(0 < row["latency_ms"] < 60_000 for row in rows)
