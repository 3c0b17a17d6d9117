"""The tables of earlier releases are brought to the newest version, once, with the rows that are in them."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.prediction_log.engine import MIGRATIONS, NewerSchema, open_engine
from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import METADATA, NEWEST_VERSION, VERSION_TABLE
from app.prediction_log.writer import Writer
from tests.prediction_log.databases import Database, rows_in
from tests.prediction_log.test_writer import batch
from tests.support import START_TIMEOUT_S

# What the releases without migrations made.
FIRST_TABLES = {
    "sqlite": """
        CREATE TABLE predictions (
            id INTEGER NOT NULL, created_at DATETIME NOT NULL, request_id VARCHAR(128) NOT NULL,
            prediction_type VARCHAR(16) NOT NULL, model_name VARCHAR(256) NOT NULL, model_version VARCHAR(32) NOT NULL,
            features JSON NOT NULL, prediction JSON NOT NULL, PRIMARY KEY (id)
        );
        CREATE INDEX ix_predictions_request_id ON predictions (request_id);
        CREATE TABLE prediction_log_positions (
            segment VARCHAR(80) NOT NULL, position BIGINT NOT NULL, PRIMARY KEY (segment)
        );
        INSERT INTO prediction_log_positions VALUES ('one', 100);
    """,
    "postgresql": """
        CREATE TABLE predictions (
            id BIGSERIAL NOT NULL, created_at TIMESTAMP WITH TIME ZONE NOT NULL, request_id VARCHAR(128) NOT NULL,
            prediction_type VARCHAR(16) NOT NULL, model_name VARCHAR(256) NOT NULL, model_version VARCHAR(32) NOT NULL,
            features JSON NOT NULL, prediction JSON NOT NULL, PRIMARY KEY (id)
        );
        CREATE INDEX ix_predictions_request_id ON predictions (request_id);
        CREATE INDEX ix_predictions_created_at ON predictions USING brin (created_at);
        CREATE TABLE prediction_log_positions (
            segment VARCHAR(80) NOT NULL, position BIGINT NOT NULL, PRIMARY KEY (segment)
        );
        INSERT INTO prediction_log_positions VALUES ('one', 100);
    """,
}

FIRST_ROW = (
    "INSERT INTO predictions "
    "(created_at, request_id, prediction_type, model_name, model_version, features, prediction) "
    "VALUES ('2026-01-02 03:04:05.000006', 'old', 'single', 'houses', '3', '{\"MedInc\":1.5}', '2.5')"
)


@contextmanager
def connected(database: Database) -> Iterator[sa.Connection]:
    """A connection to a database as it is."""
    engine = sa.create_engine(database.url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def make_first_tables(database: Database) -> None:
    with connected(database) as connection:
        for statement in FIRST_TABLES[connection.dialect.name].split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(FIRST_ROW)


def differences(database: Database) -> list[Any]:
    """What Alembic sees between the tables that are there and those of this release."""

    def is_ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name in METADATA.tables

    def is_here(part: Any, *_: object) -> bool:  # Alembic does not know of `ddl_if`
        return part.name != "ix_predictions_created_at" or database.url.startswith("postgresql")

    with connected(database) as connection:
        options = {"include_name": is_ours, "include_object": is_here, "version_table": VERSION_TABLE}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


OPEN = """
import os, sys
from app.prediction_log.engine import open_engine
from app.prediction_log.messages import LogTarget
import alembic.command

waiting, begin = os.pipe()
children = []
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        os.close(begin)
        os.read(waiting, 1)
        open_engine(LogTarget(sys.argv[1], 10)).dispose()
        os._exit(0)
    children.append(child)
os.close(begin)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def open_in_processes(database: Database, count: int) -> None:
    """Open the database in processes that begin at once, forked from one which has imported what they need."""
    subprocess.run([sys.executable, "-c", OPEN, database.url, str(count)], check=True, timeout=60)


def test_a_new_database_gets_the_newest_tables(database: Database) -> None:
    open_engine(LogTarget(database.url, 10)).dispose()
    assert differences(database) == []
    with connected(database) as connection:
        index = sa.inspect(connection).get_indexes("predictions")
        brin = [one["name"] for one in index if one.get("dialect_options", {}).get("postgresql_using") == "brin"]
        assert brin == (["ix_predictions_created_at"] if connection.dialect.name == "postgresql" else [])


def test_tables_of_the_releases_without_migrations_keep_their_rows(database: Database) -> None:
    make_first_tables(database)
    writer = Writer(LogTarget(database.url, 1000))
    assert writer.write(batch(1.0)) is None
    writer.close()
    assert differences(database) == []
    old, new = rows_in(database)
    assert (old["request_id"], old["features"], old["prediction"]) == ("old", {"MedInc": 1.5}, 2.5)
    assert {old[name] for name in ("row", "interval_lower", "latency_ms", "key_id")} == {None}
    assert new["prediction"] == 1.0
    with connected(database) as connection:
        assert connection.exec_driver_sql("SELECT * FROM prediction_log_positions").all() == [("one", 100)]
        connection.exec_driver_sql(FIRST_ROW)  # of a process that is not upgraded yet
    assert len(rows_in(database)) == 3


def test_processes_that_start_at_once_migrate_once(database: Database) -> None:
    make_first_tables(database)
    open_in_processes(database, 2)
    assert differences(database) == []
    with connected(database) as connection:
        assert connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").all() == [(NEWEST_VERSION,)]


def test_services_that_open_a_new_database_at_once_wait_for_each_other(tmp_path: Path) -> None:
    # SQLite does not wait by itself where two connections switch to the write-ahead log.
    first = LogTarget(f"sqlite:///{tmp_path}/first.db", 1)
    open_engine(first).dispose()
    with closing(sqlite3.connect(tmp_path / "first.db")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    targets = [LogTarget(f"sqlite:///{tmp_path}/{number}.db", 1) for number in range(40)]
    for number in range(40):
        shutil.copyfile(tmp_path / "first.db", tmp_path / f"{number}.db")
    together = Barrier(8, timeout=START_TIMEOUT_S)

    def open_next(target: LogTarget) -> None:
        together.wait()
        open_engine(target).dispose()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(open_next, [target for target in targets for _ in range(8)]))


def test_services_of_one_process_migrate_their_databases_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / str(number)}.db" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(lambda url: open_engine(LogTarget(url, 1)), urls))
    for engine in engines:
        assert sa.inspect(engine).has_table("outcomes")
        engine.dispose()


def test_a_migration_that_fails_changes_nothing_and_is_tried_again(database: Database) -> None:
    make_first_tables(database)
    with connected(database) as connection:
        connection.exec_driver_sql("CREATE TABLE outcomes (request_id INTEGER)")  # in the way of the last step
    writer = Writer(LogTarget(database.url, 1000))
    assert writer.write(batch(1.0)) is not None
    with connected(database) as connection:
        assert "row" not in {column["name"] for column in sa.inspect(connection).get_columns("predictions")}
        assert not sa.inspect(connection).has_table(VERSION_TABLE)
        connection.exec_driver_sql("DROP TABLE outcomes")
    assert writer.write(batch(1.0)) is None
    writer.close()


@pytest.mark.parametrize("version", ["3", "f00d"])
def test_tables_of_a_newer_release_are_left_alone(database: Database, version: str) -> None:
    target = LogTarget(database.url, 1000)
    open_engine(target).dispose()
    with connected(database) as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")
    with pytest.raises(NewerSchema, match=f"the version {version}, newer than {NEWEST_VERSION}"):
        open_engine(target)
    with closing(Writer(target)) as writer:
        assert writer.write(batch(1.0)) == "NewerSchema"
    assert rows_in(database) == []


def test_the_newest_version_is_that_of_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST_VERSION]
