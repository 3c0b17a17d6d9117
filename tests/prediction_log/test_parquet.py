"""Parquet files of the log: one schema for all, whole files only, and each row once."""

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from app.prediction_log import parquet
from app.prediction_log.arrow import SCHEMA
from app.prediction_log.messages import LoggedPredictions, LoggedRequest
from app.prediction_log.parquet import ParquetFiles
from app.prediction_log.spool.segments import Spool
from app.prediction_log.writer import Writer
from tests.prediction_log.spooling import append, segments, target

TIME = 1_700_000_000.25


def requests(*numbers: int, version: str = "3", names: tuple[str, ...] = ("MedInc", "année")) -> LoggedPredictions:
    made = LoggedPredictions(("houses", version), names, 1)
    for number in numbers:
        row = np.full(len(names), 0.5)
        request = LoggedRequest(f"request-{number}", "single", TIME + number, 1)
        made.add(request, row.tobytes(), np.array([float(number)]).tobytes())
    return made


def files(directory: Path) -> list[Path]:
    return sorted((directory / "parquet").glob("*.parquet"))


def read(directory: Path) -> pd.DataFrame:
    return pd.read_parquet(directory / "parquet")


def numbers_in(directory: Path) -> list[int]:
    return [int(prediction[0]) for prediction in read(directory)["prediction"]]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(target("", tmp_path, format="parquet", durable=False))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for no others."""
    monkeypatch.setattr(parquet, "ROLL_S", 0.0)


def test_columns_have_types_and_values(writer: Writer, tmp_path: Path) -> None:
    made = LoggedPredictions(("houses", "3"), ("MedInc", "color", "flag"), 2, {1: {0: "red"}, 2: {0: False, 1: True}})
    rows = np.array([[1.5, 0, 1], [math.nan, math.nan, 0]])
    made.add(LoggedRequest("request", "batch", TIME, 2), rows.tobytes(), np.array([0.25, 0.75, 0.5, 0.5]).tobytes())
    assert writer.write([made]) is None
    assert files(tmp_path) == []
    writer.close()
    (path,) = files(tmp_path)
    assert pq.read_schema(path).equals(SCHEMA)
    first, second = pq.read_table(path).to_pylist()
    assert first == {
        "created_at": datetime.fromtimestamp(TIME, UTC),
        "request_id": "request",
        "prediction_type": "batch",
        "model_name": "houses",
        "model_version": "3",
        "features": [("MedInc", 1.5)],
        "categories": [("color", "red"), ("flag", "true")],
        "prediction": [0.25, 0.75],
        "row": 0,
        **dict.fromkeys(("interval_lower", "interval_upper", "interval_level", "latency_ms", "key_id")),
    }
    assert second["row"] == 1
    assert second["features"] == [("MedInc", None)]
    assert second["categories"] == [("color", None), ("flag", "false")]
    assert oct(path.parent.stat().st_mode)[-3:] == "700"


@pytest.mark.usefixtures("at_once")
def test_models_with_other_features_are_read_together(writer: Writer, tmp_path: Path) -> None:
    for number, names in enumerate((("a", "b"), (), ("c",), ("b", "a", "d"))):
        assert writer.write([requests(number, version=str(number), names=names)]) is None
        writer.turn()
    assert len(files(tmp_path)) == 4
    frame = read(tmp_path)
    assert sorted(frame["model_version"]) == ["0", "1", "2", "3"]
    features = pd.DataFrame(map(dict, frame["features"]), index=frame["model_version"])
    assert features.loc["3", ["a", "b", "d"]].tolist() == [0.5, 0.5, 0.5]
    assert features.loc["1"].isna().all()


def test_rows_wait_for_others(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_ROWS", 3)
    for number in range(5):
        writer.write([requests(number)])
        writer.turn()
    assert numbers_in(tmp_path) == [0, 1, 2]
    monkeypatch.setattr(parquet, "ROLL_S", 0.0)
    writer.turn()
    assert numbers_in(tmp_path) == [0, 1, 2, 3, 4]
    assert len(files(tmp_path)) == 2


@pytest.mark.usefixtures("at_once")
def test_the_oldest_files_go(tmp_path: Path) -> None:
    writer = Writer(target("", tmp_path, format="parquet", durable=False, keep_rows=4))
    for first in range(0, 12, 2):
        writer.write([requests(first, first + 1)])
        writer.turn()
    assert numbers_in(tmp_path) == [8, 9, 10, 11]


@pytest.mark.usefixtures("at_once")
def test_what_cannot_be_written_is_held_and_no_more_is_taken(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "parquet").write_text("in the way")
    assert writer.write([requests(0)]) is None
    assert writer.write([requests(1)]) == "FileExistsError"
    (tmp_path / "parquet").unlink()
    assert writer.write([requests(1)]) is None
    writer.close()
    assert numbers_in(tmp_path) == [0, 1]


@pytest.mark.usefixtures("at_once")
def test_a_failed_write_leaves_no_file(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError

    with monkeypatch.context() as context:
        context.setattr(pq, "write_table", fail)
        writer.write([requests(0)])
        writer.turn()
    assert [*(tmp_path / "parquet").iterdir()] == []


class Drain:
    """A spool whose rows go to files."""

    def __init__(self, directory: Path) -> None:
        self.target = target("", directory, format="parquet")
        self.spool = Spool(self.target.spool, 2**30)
        self.spool.open()
        self.writer = Writer(self.target)

    def once(self) -> None:
        drained = self.writer.drain(self.spool.readable())
        assert drained.fault is None
        self.spool.advance(drained)


@pytest.fixture
def drain(tmp_path: Path) -> Drain:
    return Drain(tmp_path)


def test_rows_of_a_spool_wait_in_it(drain: Drain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(drain.spool, 0, 1)
    drain.once()
    assert files(tmp_path) == []
    monkeypatch.setattr(parquet, "ROLL_S", 0.0)
    drain.once()
    assert numbers_in(tmp_path) == [0, 1]


def test_a_sealed_segment_makes_a_file_and_goes(drain: Drain, tmp_path: Path) -> None:
    append(drain.spool, 0, 1)
    drain.spool.seal()
    append(drain.spool, 2)
    drain.once()
    assert numbers_in(tmp_path) == [0, 1]
    assert len(segments(drain.target.spool)) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("keep_rows", [10**6, 1])
def test_another_writer_goes_on_behind_the_last_file(drain: Drain, tmp_path: Path, keep_rows: int) -> None:
    drain.writer = Writer(target("", tmp_path, format="parquet", keep_rows=keep_rows))
    for number in range(4):
        append(drain.spool, number)
        drain.writer.drain(drain.spool.readable())  # written, and then killed before it could tell
        drain.writer.close()
        drain.writer = Writer(drain.writer._target)  # pyright: ignore[reportPrivateUsage]
    append(drain.spool, 4)
    drain.once()
    assert numbers_in(tmp_path) == ([*range(5)] if keep_rows > 1 else [4])


@pytest.mark.usefixtures("at_once")
def test_files_that_a_killed_writer_left_are_removed_when_they_are_old(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "parquet" / ".20260101T000000.000000Z-0-0-0-1.parquet"
    left.parent.mkdir()
    left.write_bytes(b"half")
    writer.write([requests(0)])
    writer.turn()
    assert left.exists()
    assert numbers_in(tmp_path) == [0]
    monkeypatch.setattr(parquet, "LEFT_OVER_S", -1.0)
    ParquetFiles(target("", tmp_path)).write_at([requests(1)], f"1-{'0' * 32}.spool", 0, 10)
    assert not left.exists()


@pytest.mark.parametrize("name", ["mine.parquet", "the-rows-of-last-week.parquet", "a-0-0-0-1.parquet"])
def test_another_file_in_the_folder_is_left_alone(tmp_path: Path, name: str) -> None:
    writer = Writer(target("", tmp_path, format="parquet", durable=False, keep_rows=1))
    other = tmp_path / "parquet" / name
    other.parent.mkdir()
    other.write_bytes(b"")
    writer.write([requests(0)])
    writer.close()
    assert other.exists()
    assert len(files(tmp_path)) == 2


def test_a_clock_that_is_set_back_does_not_take_the_position_away(tmp_path: Path) -> None:
    sink = ParquetFiles(target("", tmp_path, format="parquet", keep_rows=1))
    segment = f"1-{'0' * 32}.spool"
    for position, number in enumerate((9, 5, 1)):  # each an earlier time than the one before
        sink.write_at([requests(number)], segment, position, position + 1)
        assert sink.position(segment) == position + 1
    assert numbers_in(tmp_path) == [1]
