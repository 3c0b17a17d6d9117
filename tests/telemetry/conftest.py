"""Fixtures: databases that a prediction log can write to."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.telemetry.databases import (
    Database,
    PostgresDatabase,
    PostgresServer,
    SqliteDatabase,
    postgres_binaries,
    unprivileged_user,
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that only this test run uses."""
    binaries, user = postgres_binaries(), unprivileged_user()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb is neither in /usr/lib/postgresql nor on PATH")
    if os.geteuid() == 0 and user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    # Not below pytest's own directories, which only this process's user may enter.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = PostgresServer(binaries, directory, user)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(directory)


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
