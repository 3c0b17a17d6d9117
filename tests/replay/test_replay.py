"""Replay of logged rows: by the same version to the last bit, by another one with the differences told."""

import asyncio
import io
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from app.models.served import ServedModel
from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LogFormat, LogTarget
from app.prediction_log.tables import OUTCOMES, PREDICTIONS, VERSION_TABLE
from app.replay.period import parse_time
from app.replay.report import Comparison, ReplayReport, describe_replay
from app.replay.rows import Selection
from app.replay.run import ReplayFailed, load_version, open_log, replay
from tests.models.colors import trained_on
from tests.models.support import NAMES, save_booster, save_referring, serve, tiny_booster, tiny_rows
from tests.predict.test_category_columns import objects
from tests.routes.support import churn_booster, client_of, save_churn, services_of
from tests.support import come_true

PAST = datetime(2000, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "houses"


class Log:
    """A log of hand-written rows."""

    def __init__(self, path: Path) -> None:
        self.target = LogTarget(f"sqlite:///{path}", 1000)
        self.engine = open_engine(self.target)
        self.source = open_log(self.target)

    def close(self) -> None:
        self.source.close()
        self.engine.dispose()

    def add(self, rows: list[dict[str, Any]], predictions: list[Any], **changes: Any) -> None:
        given = {
            "created_at": NOW, "prediction_type": "batch", "model_name": MODEL, "model_version": "1",
            "request_id": "a",
        } | changes  # fmt: skip
        with self.engine.begin() as connection:
            connection.execute(sa.insert(PREDICTIONS), [
                {**given, "row": row, "features": features, "prediction": prediction}
                for row, (features, prediction) in enumerate(zip(rows, predictions, strict=True))
            ])  # fmt: skip

    def know(self, actual: list[Any], request_id: str = "a") -> None:
        rows = [
            {"request_id": request_id, "row": row, "actual": value, "received_at": NOW}
            for row, value in enumerate(actual)
        ]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(OUTCOMES), rows)

    def replay(self, served: ServedModel, output: Any = None, **changes: Any) -> ReplayReport:
        selection = msgspec.structs.replace(Selection(MODEL, PAST, None, 100_000), **changes)
        return replay(self.source, selection, served, output)

    def compare(self, served: ServedModel, **changes: Any) -> Comparison:
        (comparison,) = self.replay(served, **changes).comparisons
        return comparison


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log.db")
    yield log
    log.close()


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return serve(save_booster(tiny_booster(), tmp_path_factory.mktemp("houses") / "model"))


def features(rows: Any = None) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, row, strict=True)) for row in (tiny_rows() if rows is None else rows).tolist()]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of a plan and intervals, of classes with columns of all kinds, and of categories."""
    path = tmp_path_factory.mktemp("models")
    return {
        "referring": save_referring(path / "referring"),
        "churn": save_churn(path / "churn", churn_booster()),
        "colors": trained_on(path / "colors").directory,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [("referring", "sql"), ("churn", "sql"), ("colors", "sql"), ("churn", "parquet"), ("colors", "parquet")],
)
def test_a_version_replays_its_own_predictions_to_the_last_bit(
    directories: dict[str, Path], name: str, kind: LogFormat, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    rows: dict[str, list[dict[str, Any]]] = {
        "referring": features(random.normal(size=(60, 3))),
        "churn": [
            {
                "tenure": number,
                "monthly charge": None if number % 7 == 0 else number * 1.37,
                "contract": number % 2 == 0,
            }
            for number in range(60)
        ],
        "colors": objects(trained_on(tmp_path / "again").asked[:60]) if name == "colors" else [],
    }
    settings = Settings(
        data_dir=tmp_path / "data", model_path=str(directories[name]), model_name=name,
        database_url=f"sqlite:///{tmp_path / 'log.db'}", prediction_log_format=kind,
    )  # fmt: skip

    async def predict() -> str:
        async with client_of(settings) as client:
            answer = await client.post("/predict/batch", json={"predictions": rows[name]})
            assert answer.json()["failed_predictions"] == 0
            await client.post("/predict", json=rows[name][0])
            await come_true(lambda: services_of(client).prediction_log.status.queued == 0)
            return answer.json()["model_version"]

    version = asyncio.run(predict())
    with closing(open_log(settings.prediction_log_target)) as source:
        (comparison,) = replay(source, Selection(name, PAST, None, 1000), serve(directories[name]), None).comparisons
    assert comparison.logged_version == version
    assert (comparison.rows, comparison.compared, comparison.identical) == (61, 61, 61)
    assert comparison.differences is not None
    assert (comparison.differences.largest, comparison.worst, comparison.outside_interval) == (0, (), 0)
    assert comparison.warnings == ()


def test_the_differences_of_another_version_are_told(log: Log, houses: ServedModel) -> None:
    replayed = houses.engine.predict(tiny_rows())
    random = np.random.default_rng(1)
    logged = replayed + random.normal(0, 0.1, len(replayed)) * (np.arange(len(replayed)) % 2)
    actual = replayed + random.normal(0, 0.2, len(replayed))
    bounds = {"interval_lower": -0.2, "interval_upper": 0.5, "interval_level": 0.9}
    log.add(features(), logged.tolist(), **bounds)
    log.know(actual[:20].tolist())
    found = log.compare(houses)
    assert (found.logged_version, found.rows, found.compared, found.identical) == ("1", 50, 50, 25)
    differences = replayed - logged
    assert found.differences is not None
    assert found.differences.mean == pytest.approx(differences.mean())
    assert found.differences.mean_absolute == pytest.approx(np.abs(differences).mean())
    assert found.differences.rms == pytest.approx(np.sqrt(np.mean(differences**2)))
    assert found.differences.largest == np.abs(differences).max()
    assert found.differences.quantiles["0.95"] == pytest.approx(np.quantile(differences, 0.95))
    worst = np.argsort(-np.abs(differences))[:10]
    assert [(row.request_id, row.row) for row in found.worst] == [("a", row) for row in worst.tolist()]
    assert [row.difference for row in found.worst] == differences[worst].tolist()
    assert found.worst[0].actual == (actual[worst[0]] if worst[0] < 20 else None)
    outside = int(((replayed < -0.2) | (replayed > 0.5)).sum())
    assert 0 < outside < 50
    assert (found.with_interval, found.outside_interval) == (50, outside)
    assert found.outcomes is not None
    assert found.outcomes.rows == 20
    for figures, predicted in ((found.outcomes.logged, logged), (found.outcomes.replayed, replayed)):
        assert figures.rmse == pytest.approx(np.sqrt(np.mean((predicted - actual)[:20] ** 2)))


def test_rows_of_several_versions_are_told_apart(log: Log, houses: ServedModel) -> None:
    log.add(features()[:5], [1.0] * 5)
    log.add(features()[:9], [1.0] * 9, model_version="2")
    log.add(features()[:3], [1.0] * 3, model_name="others")
    report = log.replay(houses)
    assert [(one.logged_version, one.rows) for one in report.comparisons] == [("2", 9), ("1", 5)]
    assert (report.rows, report.limited, report.replayed_version) == (14, False, "1")
    lines = describe_replay(report).splitlines()
    assert lines[0] == "14 logged rows of houses, replayed with houses, version 1."
    assert lines[2] == "Answered by version 2: 9 rows, 9 compared, 0 of these identical."


def test_the_newest_rows_of_a_time_are_replayed(log: Log, houses: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.replay.rows.PAGE", 10)
    for hour in range(3):
        log.add(features()[:15], [float(hour)] * 15, created_at=NOW + timedelta(hours=hour))
    assert log.compare(houses).rows == 45
    middle = {"since": NOW + timedelta(hours=1), "until": NOW + timedelta(hours=2)}
    assert {row.logged for row in log.compare(houses, **middle).worst} == {1.0}
    report = log.replay(houses, limit=15)
    assert (report.rows, report.limited) == (15, True)
    assert {row.logged for row in report.comparisons[0].worst} == {2.0}
    with pytest.raises(ReplayFailed, match="No row of houses is logged in that time"):
        log.replay(houses, since=NOW + timedelta(days=1))


def test_of_rows_with_one_id_the_newest_has_the_outcome(log: Log, houses: ServedModel) -> None:
    for version, kind in (("1", "single"), ("2", "batch"), ("3", "single")):
        log.add(features()[:1], [1.0], model_version=version, prediction_type=kind)
    log.know([1.5])
    known = {one.logged_version: one.outcomes and one.outcomes.rows for one in log.replay(houses).comparisons}
    assert known == {"1": None, "2": None, "3": 1}


def test_rows_of_early_releases_are_counted(log: Log, houses: ServedModel) -> None:
    log.add(features()[:3], [1.0] * 3)
    log.add(features()[:1], [1.0], request_id="b", prediction_type="single")
    with log.engine.begin() as connection:
        connection.execute(sa.update(PREDICTIONS).values(row=None))
    log.know([1.5])
    log.know([1.5], "b")
    report = log.replay(houses)
    (found,) = report.comparisons
    assert (found.rows, found.without_index, found.compared) == (4, 3, 4)
    assert found.outcomes is not None
    assert found.outcomes.rows == 1  # a single row is the first of its request
    assert "  3 rows of batches have no index (early releases), so no known outcome." in describe_replay(report)


def test_rows_that_another_version_does_not_take_are_counted(log: Log, directories: dict[str, Path]) -> None:
    good = {"tenure": 3.0, "monthly charge": None, "contract": 1.0, "old": 2.0}
    bad = [{"tenure": 2.5, "contract": 0.0}, {"contract": 0.0}, {"tenure": 1.0, "contract": 7.0}]
    log.add([good, *bad, good], [[0.2, 0.3, 0.5]] * 4 + [1.0])
    found = log.compare(serve(directories["churn"]))
    assert (found.rows, found.compared, found.not_taken, found.other_outputs) == (5, 1, 3, 1)
    assert found.unused_features == ("old",)
    assert {(one.field, one.rows) for one in found.reasons} == {("tenure", 1), ("tenure", 1), ("contract", 1)}
    assert {one.message for one in found.reasons if one.field == "tenure"} == {
        "is missing",
        "must be a whole number, not a fraction",
    }
    text = describe_replay(log.replay(serve(directories["churn"])))
    assert "  Features that it does not take: old." in text
    assert "    tenure: is missing (1 rows)" in text


def test_categories_that_another_version_does_not_know_are_told(log: Log, directories: dict[str, Path]) -> None:
    row = {"color": "red", "income": 0.5, "size": 30.0, "flag": True}
    log.add([row, row | {"color": "beige"}, row | {"color": "beige"}], [1.0] * 3)
    found = log.compare(serve(directories["colors"]))
    assert (found.compared, found.not_taken) == (3, 0)
    ((_, message, rows),) = [msgspec.structs.astuple(warning) for warning in found.warnings]
    assert ("beige" in message, rows) == (True, 2)


def test_a_prediction_that_is_not_finite_is_counted(log: Log, tmp_path: Path) -> None:
    booster = tiny_booster(np.exp(tiny_rows()[:, 0]), objective="poisson")
    served = serve(save_booster(booster, tmp_path / "model"))
    log.add(features()[:2], [1.0, 1.0])

    class Endless:
        def evaluate_on_cpu(self, rows: Any) -> Any:
            return served.engine.evaluate_on_cpu(rows)._replace(prediction=np.array([math.inf, 1.0]))

    found = log.compare(msgspec.structs.replace(served, engine=Endless()))
    assert (found.compared, found.not_finite, found.identical) == (1, 1, 1)


def test_each_row_is_written_to_the_file(log: Log, houses: ServedModel) -> None:
    log.add(features()[:3], [1.0, 2.0, 3.0])
    log.know([1.5])
    file = io.BytesIO()
    log.replay(houses, file)
    lines = [msgspec.json.decode(line) for line in file.getvalue().splitlines()]
    assert [line["row"] for line in lines] == [2, 1, 0]
    replayed = float(houses.engine.predict(tiny_rows()[:1])[0])
    assert lines[-1] == {
        "request_id": "a", "row": 0, "created_at": "2026-03-01T12:00:00Z", "logged_version": "1", "logged": 1.0,
        "replayed": replayed, "difference": replayed - 1.0, "actual": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("20260301", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01 12:00", NOW),
        ("2026-03-01T12:00:00Z", NOW),
        ("2026-03-01 13:00+01:00", NOW),
        (str(NOW.timestamp()), NOW),
        ("24h", NOW - timedelta(days=1)),
        ("90m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
    ],
)
def test_times_are_read_as_people_type_them(text: str, moment: datetime) -> None:
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "24", "7w", "999999999d", "2026-13-01", "20261301", "202603011200", "9" * 400]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keep_rows": 0}, "Predictions are not logged"),
        ({"format": "parquet", "directory": "/nothing/here"}, "There is no prediction log yet: its folder"),
        ({"url": "sqlite:////nothing/here.db"}, "There is no prediction log yet"),
        ({"url": "postgresql+psycopg://madrone:hunter2@127.0.0.1:1/log"}, "cannot be read: OperationalError"),
    ],
)
def test_a_log_that_cannot_be_read_is_told(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReplayFailed, match=reason) as caught:
        open_log(msgspec.structs.replace(LogTarget("sqlite://", 1), **changes))
    assert "hunter2" not in str(caught.value)


def test_tables_of_a_newer_release_cannot_be_replayed(log: Log) -> None:
    with log.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '99'")
    with pytest.raises(ReplayFailed, match="cannot be read: its tables have a newer schema than this release knows"):
        open_log(log.target)


def test_a_version_that_is_not_there_is_told(registry_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=registry_dir, model_alias="nobody")
    worker = ModelWorker(settings)
    with pytest.raises(ReplayFailed, match="alias nobody: empty; aliases that exist: champion"):
        load_version(settings, worker, None)
    with pytest.raises(ReplayFailed, match="has no version '99'"):
        load_version(settings, worker, "99")
    empty = Settings(data_dir=tmp_path, model_path=str(tmp_path))
    with pytest.raises(ReplayFailed, match="There is no version to replay with: MODEL_PATH"):
        load_version(empty, ModelWorker(empty), None)
