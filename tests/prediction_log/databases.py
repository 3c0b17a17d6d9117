"""Databases for the prediction log: SQLite files, and a PostgreSQL server started by the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa

from app.prediction_log.tables import PREDICTIONS
from tests.support import eventually, free_port

PASSWORD = "hunter2"


class Database(Protocol):
    """A place for a log that is not there until `create`."""

    url: str

    def create(self) -> None: ...


def rows_in(database: Database) -> list[dict[str, Any]]:
    """What has been logged, in its order."""
    engine = sa.create_engine(database.url)
    try:
        with engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(sa.select(PREDICTIONS).order_by(PREDICTIONS.c.id)).mappings()
            ]
    finally:
        engine.dispose()


class SqliteDatabase:
    """A file whose name is held by a directory until `create`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite:///{path}"
        path.mkdir()

    def create(self) -> None:
        self._path.rmdir()


class FoundDatabase:
    """A SQLite file that a service has made."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"

    def create(self) -> None: ...


class PostgresDatabase:
    """A database of its own on the test run's server."""

    def __init__(self, server: "PostgresServer", name: str) -> None:
        self._server, self._name = server, name
        self.url = f"postgresql+psycopg://madrone:{PASSWORD}@127.0.0.1:{server.port}/{name}"

    def create(self) -> None:
        self._server.execute(f'CREATE DATABASE "{self._name}"')


class PostgresServer:
    """A PostgreSQL server in a directory of its own. It refuses to run as root, so root runs it as another user."""

    def __init__(self, binaries: Path, directory: Path, user: str | None) -> None:
        self.port = free_port()
        self._binaries, self._directory = binaries, directory
        self._as_user: dict[str, Any] = (
            {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
        )
        self._process: subprocess.Popen[bytes] | None = None
        password = directory / "password"
        password.write_text(PASSWORD)
        if user:
            for path in (directory, password):
                shutil.chown(path, user)
        subprocess.run(
            [
                *(str(binaries / "initdb"), "--pgdata", str(directory / "data"), "--username", "madrone"),
                *("--auth", "scram-sha-256", "--pwfile", str(password), "--encoding", "UTF8", "--locale", "C"),
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=directory,
            **self._as_user,
        )

    def start(self) -> None:
        log = self._directory / "server.log"
        with log.open("ab") as output:
            self._process = process = subprocess.Popen(
                [
                    *(str(self._binaries / "postgres"), "-D", str(self._directory / "data"), "-p", str(self.port)),
                    *("-h", "127.0.0.1", "-k", str(self._directory), "-F"),
                ],
                stdout=output,
                stderr=output,
                cwd=self._directory,
                **self._as_user,
            )

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return True
            return False

        eventually(answers)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # a fast shutdown: sessions are ended, not waited for
        self._process.wait(30)

    def execute(self, statement: str) -> None:
        url = f"postgresql://madrone:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


def postgres_binaries() -> Path | None:
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path))
    return next((path.parent for path in found if (path.parent / "postgres").exists()), None)


def unprivileged_user() -> str | None:
    """Who may run PostgreSQL instead of root; None where this process is not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)
