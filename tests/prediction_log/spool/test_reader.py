"""Rows of a spool are in the database exactly once, whoever ends at whatever moment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.prediction_log import database as log_database
from app.prediction_log.messages import Drained, Readable
from app.prediction_log.spool.segments import Spool
from app.prediction_log.tables import POSITIONS
from app.prediction_log.writer import Writer
from tests.prediction_log.databases import Database, PostgresDatabase, PostgresServer, rows_in
from tests.prediction_log.spooling import MODEL, append, numbers_in, record, segments, target


class Drain:
    """A spool and its writers."""

    def __init__(self, url: str, directory: Path) -> None:
        self.target = target(url, directory)
        self.spool = Spool(self.target.spool, 2**30)
        self.spool.open()
        self.writer = Writer(self.target)

    def restart(self) -> None:
        """Go on with another writer, as after a kill of the first."""
        self.writer.close()
        self.writer = Writer(self.target)

    def reopen(self) -> None:
        """Go on with another service and writer."""
        self.close()
        self.spool.open()
        self.restart()

    def once(self) -> Drained:
        drained = self.writer.drain(self.spool.readable())
        if drained.fault is None:
            self.spool.advance(drained)
        return drained

    def all(self) -> list[Drained]:
        steps: list[Drained] = []
        while self.spool.waits:
            steps.append(self.once())
            assert steps[-1].fault is None
        return steps

    def close(self) -> None:
        self.spool.close()
        self.writer.close()


@pytest.fixture
def drain(database: Database, tmp_path: Path) -> Iterator[Drain]:
    made = Drain(database.url, tmp_path)
    yield made
    made.close()


def test_rows_are_written_with_their_values(drain: Drain, database: Database) -> None:
    drain.spool.append(record(7, rows=2), 2, {1: MODEL})
    drain.all()
    first, second = rows_in(database)
    assert (first["request_id"], first["prediction_type"], first["model_name"]) == ("request-7", "single", "houses")
    assert (first["features"], first["prediction"]) == ({"MedInc": 0.5, "année": 0.5}, 7.0)
    assert second["request_id"] == "request-7"


def test_a_growing_segment_is_written_as_far_as_it_is_flushed(drain: Drain, database: Database) -> None:
    append(drain.spool, 0, 1)
    drain.all()
    append(drain.spool, 2)
    with segments(drain.target.spool)[0].open("ab") as file:  # being written now
        file.write(record(3)[:20])
    assert [step.newly for step in drain.all()] == [1]
    assert numbers_in(database) == [0, 1, 2]


def test_another_writer_goes_on_where_the_last_one_committed(
    drain: Drain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_database.LogDatabase, "most_rows", 2)
    append(drain.spool, *range(7))
    for _ in range(3):
        drain.writer.drain(drain.spool.readable())  # committed, and then killed before it could tell
        drain.restart()
    assert sum(drain.spool.advance(step).rows for step in [drain.writer.drain(drain.spool.readable())]) == 7
    drain.all()
    assert numbers_in(database) == list(range(7))


def test_another_service_goes_on_too_and_deletes_what_is_written(drain: Drain, database: Database) -> None:
    append(drain.spool, 0, 1)
    drain.all()
    append(drain.spool, 2)
    drain.reopen()
    append(drain.spool, 3)
    steps = drain.all()
    assert [step.newly for step in steps] == [1, 1]
    assert numbers_in(database) == [0, 1, 2, 3]
    assert len(segments(drain.target.spool)) == 1


def test_two_writers_at_once_write_no_row_twice(drain: Drain, database: Database) -> None:
    """Without the lock between them, as on a file system without locks."""
    append(drain.spool, 0, 1)
    other = Writer(drain.target)
    other._claim = os.open(os.devnull, os.O_RDONLY)  # pyright: ignore[reportPrivateUsage]
    drain.once()
    append(drain.spool, 2)
    assert other.drain(drain.spool.readable()).newly == 1
    append(drain.spool, 3)
    assert drain.writer.drain(drain.spool.readable()).fault == "Moved"
    drain.all()
    assert numbers_in(database) == [0, 1, 2, 3]
    other.close()


def test_a_second_writer_waits_for_the_first(drain: Drain) -> None:
    append(drain.spool, 0)
    drain.once()
    other = Writer(drain.target)
    assert other.drain(drain.spool.readable()).fault == "SpoolLocked"
    drain.writer.close()
    assert other.drain(drain.spool.readable()).fault is None
    other.close()


def test_if_positions_are_lost_the_segments_that_are_left_are_written_again(drain: Drain, database: Database) -> None:
    append(drain.spool, 0)
    drain.spool.seal()
    drain.all()  # written and deleted
    append(drain.spool, 1, 2)
    drain.all()
    engine = sa.create_engine(database.url)
    with engine.begin() as connection:
        connection.execute(sa.delete(POSITIONS))
    engine.dispose()
    append(drain.spool, 3)
    assert drain.once().fault == "Moved"
    drain.all()
    assert numbers_in(database) == [0, 1, 2, 1, 2, 3]


def test_positions_of_segments_that_are_gone_go_too(drain: Drain, database: Database) -> None:
    for number in range(3):
        append(drain.spool, number)
        drain.spool.seal()
        drain.all()
    append(drain.spool, 3)
    drain.all()
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        left = [row.segment for row in connection.execute(sa.select(POSITIONS))]
    engine.dispose()
    assert left == [segments(drain.target.spool)[0].name]


def test_an_end_leaves_no_position_of_a_segment_that_is_gone(drain: Drain, database: Database) -> None:
    append(drain.spool, 0)
    drain.spool.seal()
    drain.all()
    assert segments(drain.target.spool) == []
    drain.writer.close()
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        left = connection.execute(sa.select(POSITIONS)).all()
    engine.dispose()
    assert left == []


def test_a_torn_record_at_the_end_is_dropped(drain: Drain, database: Database) -> None:
    append(drain.spool, 0, 1)
    drain.spool.close()
    path = segments(drain.target.spool)[0]
    path.write_bytes(path.read_bytes() + record(2)[:-3])
    drain.reopen()
    (step,) = drain.all()
    assert (step.damaged, step.torn, step.newly) == (0, len(record(2)) - 3, 2)
    assert numbers_in(database) == [0, 1]
    assert segments(drain.target.spool) == []


def test_a_flipped_bit_costs_its_record_and_the_rest_is_written(drain: Drain, database: Database) -> None:
    append(drain.spool, *range(5))
    path = segments(drain.target.spool)[0]
    content = bytearray(path.read_bytes())
    content[len(MODEL) + 2 * len(record(0)) + 9] ^= 1  # the length of the third
    path.write_bytes(content)
    (step,) = drain.all()
    assert (step.damaged, step.torn, step.newly) == (len(record(2)), 0, 4)
    assert numbers_in(database) == [0, 1, 3, 4]


def test_without_its_model_a_request_cannot_be_read(drain: Drain, database: Database) -> None:
    append(drain.spool, 0, 1)
    path = segments(drain.target.spool)[0]
    content = bytearray(path.read_bytes())
    content[len(MODEL) - 1] ^= 1
    path.write_bytes(content)
    (step,) = drain.all()
    assert step.damaged + step.torn == len(content)
    drain.spool.seal()
    append(drain.spool, 2)  # the next segment has the model again
    drain.all()
    assert numbers_in(database) == [2]


def test_a_record_larger_than_a_piece_is_read(
    drain: Drain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_database.LogDatabase, "piece_bytes", 300)
    append(drain.spool, 0, 1)
    drain.spool.append(record(2, rows=100), 100, {1: MODEL})
    append(drain.spool, 3)
    drain.all()
    assert numbers_in(database) == [0, 1, *[2] * 100, 3]


def test_while_the_database_is_away_nothing_is_lost(absent: Database, tmp_path: Path) -> None:
    drain = Drain(absent.url, tmp_path)
    append(drain.spool, 0, 1)
    assert drain.once() == Drained(segments(drain.target.spool)[0].name, fault="OperationalError")
    append(drain.spool, 2)
    absent.create()
    drain.all()
    assert numbers_in(absent) == [0, 1, 2]
    drain.close()


def test_a_server_that_restarts_loses_no_rows(postgres: PostgresServer, tmp_path: Path) -> None:
    database = PostgresDatabase(postgres, f"log_{tmp_path.name}")
    database.create()
    drain = Drain(database.url, tmp_path)
    append(drain.spool, 0)
    drain.all()
    postgres.stop()
    try:
        append(drain.spool, 1)
        assert drain.once().fault is not None
        drain.restart()
        append(drain.spool, 2)
        assert drain.once().fault is not None
    finally:
        postgres.start()
    drain.all()
    assert numbers_in(database) == [0, 1, 2]
    drain.close()


def test_a_segment_that_lost_its_end_is_passed_over(drain: Drain, database: Database) -> None:
    append(drain.spool, 0, 1)
    path = segments(drain.target.spool)[0]
    size = path.stat().st_size
    os.truncate(path, size - len(record(1)))
    assert [step.newly for step in drain.all()] == [1, 0]
    assert drain.writer.drain([Readable(path.name, size, False)]).position == size
    assert numbers_in(database) == [0]
