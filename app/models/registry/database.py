"""Read-only access to a registry in somebody else's database or directory, which MLflow opens without a server.

MLflow creates missing tables and migrates an older schema on its own, after which the owner's server may not start. So
the schema is checked first, and MLflow gets a read-only connection where the driver offers one.
"""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from app.config.settings import Settings
from app.models.registry.source import RegistrySchema

if TYPE_CHECKING:
    from sqlalchemy import Connection

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""URI schemes of databases that MLflow opens without a server."""

READ_ONLY_OPTIONS = {
    ("postgresql", "psycopg2"): ("options", "-c default_transaction_read_only=on"),
    ("postgresql", "psycopg"): ("options", "-c default_transaction_read_only=on"),
    ("mysql", "mysqldb"): ("init_command", "SET SESSION TRANSACTION READ ONLY"),
    ("mysql", "pymysql"): ("init_command", "SET SESSION TRANSACTION READ ONLY"),
}
"""URI parameter that makes a connection read-only, by database and driver. Other drivers have none."""

WAL_FORMAT = b"\x02\x02"
"""Bytes 18 and 19 of an SQLite file in WAL mode (https://www.sqlite.org/fileformat.html)."""


def is_database(uri: str) -> bool:
    """Whether a URI is that of a database."""
    return urlsplit(uri).scheme.split("+")[0] in DATABASES


def read_only_uris(settings: Settings) -> tuple[str, str]:
    """Read-only URIs of the tracking store and the registry. Those of the embedded registry are unchanged.

    Raises:
        RegistrySchema: One of them has another schema than this MLflow, which would migrate it.
        Exception: A database cannot be opened; the exception is the driver's.
    """
    tracking, registry = settings.tracking_uri, settings.registry_uri
    if settings.embedded_registry:
        return tracking, registry
    for uri in dict.fromkeys((tracking, registry)):
        check_schema(uri, tracks=uri == tracking)
        if urlsplit(uri).scheme in ("file", ""):
            _check_directory(uri, tracks=uri == tracking, registers=uri == registry)
    return _read_only(tracking), _read_only(registry)


def keep_no_connections(settings: Settings) -> None:
    """Have MLflow keep no connections in this process, where the registry is somebody else's SQLite file.

    A kept immutable connection never notices that the file has changed, and one that uses the owner's `-wal` and `-shm`
    files goes on with them after the owner has deleted them.
    """
    uris = (settings.tracking_uri, settings.registry_uri)
    if settings.embedded_registry or not any(urlsplit(uri).scheme.split("+")[0] == "sqlite" for uri in uris):
        return
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    for option in ("POOL_SIZE", "MAX_OVERFLOW"):  # which NullPool does not accept
        os.environ.pop(f"MLFLOW_SQLALCHEMYSTORE_{option}", None)


def check_schema(uri: str, *, tracks: bool = False, may_be_empty: bool = False) -> None:
    """Check that a database has the schema of this MLflow, without changing anything. Any other URI passes.

    Args:
        uri: URI of a tracking store or registry.
        tracks: Whether it is used as a tracking store, in which MLflow creates a default experiment.
        may_be_empty: Whether a database without tables passes, for MLflow to fill.

    Raises:
        RegistrySchema: The schema is another one; the message says what to do.
        Exception: The database cannot be opened; the exception is the driver's.
    """
    if not is_database(uri):
        return
    from mlflow.store.db.utils import create_sqlalchemy_engine

    if (path := _sqlite_path(uri)) is not None and not path.exists():
        if may_be_empty:
            return
        raise RegistrySchema("the registry's SQLite file is not there", str(path))
    engine = create_sqlalchemy_engine(_read_only(uri))
    try:
        with engine.connect() as connection:
            _check_tables(connection, tracks=tracks, may_be_empty=may_be_empty)
    finally:
        engine.dispose()


def _check_tables(connection: "Connection", *, tracks: bool, may_be_empty: bool) -> None:
    import mlflow
    import sqlalchemy
    from alembic.migration import MigrationContext
    from mlflow.store.db.base_sql_model import Base

    tables = set(sqlalchemy.inspect(connection).get_table_names())
    if not tables and may_be_empty:
        return
    if "experiments" not in tables:
        raise RegistrySchema("the registry's database has no tables of MLflow")
    ours, (head, known) = f"MLflow {mlflow.__version__}", _revisions()
    found = MigrationContext.configure(connection).get_current_heads()
    named = ", ".join(str(revision)[:40] for revision in found) or "none"
    if not known.issuperset(found):
        raise RegistrySchema(
            f"the database's schema ({named}) is newer than that of {ours} ({head}): Madrone needs the MLflow that the "
            "database's owner uses"
        )
    if found != (head,):
        raise RegistrySchema(
            f"the database's schema ({named}) is older than that of {ours} ({head}): after a backup, let its owner run "
            f"`mlflow db upgrade` of {ours}, and use that MLflow from then on"
        )
    if missing := set(Base.metadata.tables) - tables:
        raise RegistrySchema(f"the registry's database has no table {min(missing)}")
    if tracks and connection.scalar(sqlalchemy.text("SELECT count(*) FROM experiments WHERE experiment_id = 0")) == 0:
        raise RegistrySchema("the tracking database has no default experiment: start its owner's MLflow server once")


@functools.cache
def _revisions() -> tuple[str, frozenset[str]]:
    """Newest schema revision of this MLflow, and all that it knows."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    head = scripts.get_current_head()
    return str(head), frozenset(script.revision for script in scripts.walk_revisions())


def _read_only(uri: str) -> str:
    """URI of the same database with a read-only connection, where the driver offers one."""
    if not is_database(uri):
        return uri
    from sqlalchemy import URL, make_url

    if (path := _sqlite_path(uri)) is not None:
        # The driver is named, since MLflow creates the directory of a path after a plain `sqlite:///`.
        query = {**make_url(uri).query, "mode": "ro", "uri": "true", **_wal_options(path)}
        return URL.create("sqlite+pysqlite", database=f"file:{quote(str(path))}", query=query).render_as_string()
    url = make_url(uri)
    if (option := READ_ONLY_OPTIONS.get((url.get_backend_name(), url.get_driver_name()))) is None:
        return uri
    name, value = option
    given = url.query.get(name, ())
    values = (given,) if isinstance(given, str) else given
    separator = "; " if name == "init_command" else " "
    return url.update_query_dict({name: separator.join((*values, value))}).render_as_string(hide_password=False)


def _wal_options(path: Path) -> dict[str, str]:
    """URI options that keep SQLite from creating files beside a database in WAL mode, as any reader would.

    Raises:
        RegistrySchema: The database cannot be read without creating a file.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(20)[18:] != WAL_FORMAT:
            return {}
    real = os.path.realpath(path)  # SQLite names the files after the link's target
    if not os.path.exists(f"{real}-wal"):
        return {"immutable": "1"}  # no process has it open, so the file is whole
    if not os.path.exists(f"{real}-shm"):
        raise RegistrySchema("the registry's SQLite file has a -wal file and no -shm file: its owner must open it once")
    return {}  # the owner's own files are used


def _sqlite_path(uri: str) -> Path | None:
    """File of an SQLite URI; None for other databases."""
    from sqlalchemy import make_url

    url = make_url(uri)
    if url.get_backend_name() != "sqlite":
        return None
    database = url.database or ":memory:"
    return Path(os.path.abspath(unquote(database[5:]) if database.startswith("file:") else database))


def _check_directory(uri: str, *, tracks: bool, registers: bool) -> None:
    """Check that a directory has the sub-directories that MLflow would create in it."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    root = Path(local_file_uri_to_path(uri))
    for needed, name in ((True, "."), (tracks, ".trash"), (registers, "models")):
        if needed and not (root / name).is_dir():
            raise RegistrySchema("the registry's directory is not one of MLflow's", str(root / name))
