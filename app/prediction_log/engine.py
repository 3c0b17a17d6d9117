"""Connections to the log's database, whose tables are brought to the newest version first."""

import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from app.prediction_log.messages import LogTarget
from app.prediction_log.tables import NEWEST_VERSION, VERSION_TABLE

CONNECT_TIMEOUT_S = 5

LOCK_TIMEOUT_S = 5
"""Time for which a migration waits for the others that use its tables, and are kept waiting by it meanwhile."""

MIGRATION_LOCK = 0x6D616472  # any number that other users of the database do not take
MIGRATIONS = Path(__file__).parent / "migrations"


class NewerSchema(exc.SQLAlchemyError):
    """The tables are of a newer release, which alone knows what they mean."""


MIGRATING = threading.Lock()
"""Taken for a migration: what Alembic migrates is global to the process, and two services may live in one."""


def open_engine(target: LogTarget, statement_timeout_s: float | None = None) -> sa.Engine:
    """Open the database of the log, and migrate it if it is of an earlier version.

    Processes that do so at once wait for the one that comes first.

    Args:
        target: The database.
        statement_timeout_s: Time limit of each statement, and of a network that drops packets; PostgreSQL only.

    Raises:
        NewerSchema: The tables are of a newer version.
        SQLAlchemyError, OSError: The database cannot be opened, or is locked for too long. Nothing was changed.
    """
    url = sa.make_url(target.url)
    arguments: dict[str, Any] = {}
    if url.drivername.startswith("postgresql"):
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
        if statement_timeout_s is not None:
            arguments["tcp_user_timeout"] = int(statement_timeout_s * 1e3)
    elif url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(url, connect_args=arguments, pool_size=1, max_overflow=1, pool_pre_ping=True)
    try:
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _flushed if target.durable else _write_ahead)
        elif statement_timeout_s is not None:
            event.listen(engine, "connect", partial(_limited, int(statement_timeout_s * 1e3)))
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _migrate(engine: sa.Engine) -> None:
    """Bring the tables to the newest version, all or nothing."""
    with engine.connect() as connection:
        if _version(connection) == NEWEST_VERSION:
            return
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        if _version(connection) != NEWEST_VERSION:
            _upgrade(connection)
        connection.commit()


def _version(connection: sa.Connection) -> str | None:
    """Version of the tables; None where there are none, or those of a release without migrations.

    Raises:
        NewerSchema: It is none that this release knows.
    """
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
    if version is not None and not (version.isdecimal() and int(version) <= int(NEWEST_VERSION)):
        raise NewerSchema(f"the prediction log's tables have the version {version}, newer than {NEWEST_VERSION}")
    return version


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # a third of a second, which most starts do without
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with MIGRATING:
        command.upgrade(config, "head")


def _limited(milliseconds: int, connection: Any, _: object) -> None:
    """Limit the time of statements, and have times told in UTC. A pooler may refuse both as options of a connection."""
    connection.execute(f"SET statement_timeout = {milliseconds}")
    connection.execute("SET timezone = 'UTC'")
    connection.commit()


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Use SQLite's write-ahead log, so that readers are not locked out and a commit waits for no disk.

    A crash of the machine may lose the last commits, which is acceptable for a log by best effort.
    """
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")


def _flushed(connection: sqlite3.Connection, _: object) -> None:
    """Use the write-ahead log, and have a commit wait for the disk, since the spool's segments are deleted after it."""
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite refuses it at once, and does not wait, while another connection does so."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
