"""Fixtures: databases that a prediction log can write to."""

from pathlib import Path

import pytest

from tests.prediction_log.databases import Database, PostgresDatabase, SqliteDatabase


@pytest.fixture(params=["sqlite", "postgresql"])
def absent(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database that is not there yet."""
    if request.param == "sqlite":
        return SqliteDatabase(tmp_path / "predictions.db")
    return PostgresDatabase(request.getfixturevalue("postgres"), f"log_{tmp_path.name}")


@pytest.fixture
def database(absent: Database) -> Database:
    absent.create()
    return absent


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    """A database for tests to which its kind makes no difference."""
    database = SqliteDatabase(tmp_path / "predictions.db")
    database.create()
    return database
