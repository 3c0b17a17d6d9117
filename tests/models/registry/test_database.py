"""A registry in somebody else's database is read without a write, or refused by its schema."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config  # pyright: ignore[reportPrivateUsage]
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from app.config.settings import Settings
from app.models.process.client import WorkerProcess
from app.models.registry import database as registry_database
from app.models.registry.database import check_schema, read_only_uris
from app.models.registry.mlflow import Registry
from app.models.registry.source import RegistrySchema, RegistryUnreachable
from tests.prediction_log.databases import PostgresDatabase, PostgresServer
from tests.routes.support import client_of
from tests.support import ROOT, free_port
from tests.training.test_dataset import COLUMNS

FIRST = "451aebb31d03"
"""Of MLflow 1.0: there is no model registry yet."""

MLFLOW_2 = "97727af70f4d"


@pytest.fixture
def database(registry_dir: Path, tmp_path: Path) -> Path:
    """A copy of the session's registry, alone in its directory, whose name has what a URI writes differently."""
    (tmp_path / "the owner's %41").mkdir()
    return Path(shutil.copy(registry_dir / "mlflow.db", tmp_path / "the owner's %41"))


def url_of(database: Path) -> str:
    return sa.URL.create("sqlite", database=str(database)).render_as_string()


def settings_of(database: Path | str, data_dir: Path | None = None) -> Settings:
    """Settings that name a database as anybody's registry."""
    uri = url_of(database) if isinstance(database, Path) else database
    return Settings(mlflow_tracking_uri=uri, data_dir=data_dir or Path("/nowhere"), prometheus_port=free_port())


def migrate(url: str, revision: str) -> None:
    """Do what MLflow does with a database of its own, as far as to one of its older schemas."""
    engine = sa.create_engine(url)
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def older(revision: str) -> Callable[[Path], None]:
    def make(database: Path) -> None:
        database.unlink()
        migrate(url_of(database), revision)

    return make


def one_before(database: Path) -> None:
    change(database, f"update alembic_version set version_num = '{one_before_the_head()}'")


def one_before_the_head() -> str:
    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    return str(scripts.get_revision("head").down_revision)


def newer(database: Path) -> None:
    change(database, "update alembic_version set version_num = 'f00dfeedbeef'")


def unversioned(database: Path) -> None:
    change(database, "drop table alembic_version")


def half_upgraded(database: Path) -> None:
    change(database, "drop table model_version_tags")


def without_default_experiment(database: Path) -> None:
    change(database, "update experiments set experiment_id = 9, name = 'other' where experiment_id = 0")


def another_program(database: Path) -> None:
    database.unlink()
    change(database, "create table bookmarks (url text)")


def empty(database: Path) -> None:
    database.write_bytes(b"")


def missing(database: Path) -> None:
    database.unlink()


def missing_with_its_directory(database: Path) -> None:
    shutil.rmtree(database.parent)


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "MLflow 1": (older(FIRST), rf"the database's schema \({FIRST}\) is older than .* `mlflow db upgrade`"),
    "MLflow 2": (older(MLFLOW_2), rf"\({MLFLOW_2}\) is older than that of MLflow {mlflow.__version__} \("),
    "MLflow before": (one_before, "is older than"),
    "unversioned": (unversioned, r"the database's schema \(none\) is older than"),
    "newer": (newer, rf"the database's schema \(f00dfeedbeef\) is newer than that of MLflow {mlflow.__version__} \("),
    "half upgraded": (half_upgraded, "the registry's database has no table model_version_tags"),
    "no experiment": (without_default_experiment, "no default experiment: start its owner's MLflow server once"),
    "another program's": (another_program, "the registry's database has no tables of MLflow"),
    "empty": (empty, "the registry's database has no tables of MLflow"),
    "missing": (missing, "the registry's SQLite file is not there"),
    "no directory": (missing_with_its_directory, "the registry's SQLite file is not there"),
}


def content(directory: Path) -> dict[str, bytes]:
    """Every file's, by its path."""
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("make", "reason"), UNFIT.values(), ids=UNFIT.keys())
def test_a_database_with_another_schema_is_refused_and_not_changed(
    make: Callable[[Path], None], reason: str, database: Path, tmp_path: Path
) -> None:
    make(database)
    before, directories = content(tmp_path), sorted(tmp_path.iterdir())
    registry = Registry(settings_of(database))
    for ask in (registry.look, lambda: registry.version("1")):
        with pytest.raises(RegistrySchema, match=reason) as caught:
            ask()
        assert str(tmp_path) not in str(caught.value)
    assert (content(tmp_path), sorted(tmp_path.iterdir())) == (before, directories)


@pytest.mark.parametrize(("mode", "is_file_uri"), [("delete", False), ("delete", True), ("wal", False)])
def test_a_database_with_this_schema_is_served_from_and_not_changed(
    mode: str, is_file_uri: bool, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)  # where MLflow would make directories out of a URI that it does not understand
    change(database, f"pragma journal_mode = {mode}")
    before = database.read_bytes()
    url = sa.URL.create("sqlite", database=database.as_uri(), query={"uri": "true", "timeout": "5"})
    settings = settings_of(url.render_as_string() if is_file_uri else database)
    registry = Registry(settings)
    identity = registry.look().candidates[0].identity
    assert identity.version == "1"
    assert registry.version("1").identity == identity
    fetched = registry.fetch(identity, tmp_path / "fetched")
    assert (fetched.directory / "MLmodel").is_file()
    assert fetched.metrics
    client = MlflowClient(*read_only_uris(settings))
    for write in (
        lambda: client.create_registered_model("another"),
        lambda: client.create_experiment("another"),
        lambda: client.set_registered_model_alias(identity.name, "another", "1"),
    ):
        with pytest.raises(mlflow.MlflowException, match="readonly database"):
            write()
    assert database.read_bytes() == before
    assert list(database.parent.iterdir()) == [database]


OWNER = """
import sqlite3, sys
owner = sqlite3.connect(sys.argv[1])
owner.execute("update registered_model_aliases set alias = ?", sys.argv[2:])
owner.commit()
print("done", flush=True)
sys.stdin.read()
owner.close()
"""


def test_a_wal_database_is_read_as_it_is_now_without_new_files(database: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(database)
    registry = Registry(settings_of(tmp_path / "link.db"))
    wal, shm = Path(f"{database}-wal"), Path(f"{database}-shm")
    change(database, "pragma journal_mode = wal")
    for alias in ("first", "second"):
        change(database, f"update registered_model_aliases set alias = '{alias}'")
        before = content(tmp_path)
        assert registry.look().candidates[0].identity.aliases == (alias,)
        assert content(tmp_path) == before
        assert not wal.exists()
    for alias in ("third", "fourth"):
        # In a process of its own, as SQLite's locks are those of a process.
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, str(database), alias], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"done\n"
            for _ in range(2):
                before = content(tmp_path)
                assert registry.look().candidates[0].identity.aliases == (alias,)
                assert {**content(tmp_path), str(shm): b""} == {**before, str(shm): b""}  # it holds the readers' locks
            owner.communicate()
        assert registry.look().candidates[0].identity.aliases == (alias,)
    shm.unlink(missing_ok=True)
    wal.touch()
    before = content(tmp_path)
    with pytest.raises(RegistrySchema, match="has a -wal file and no -shm file: its owner must open it once"):
        registry.look()
    assert content(tmp_path) == before


@pytest.mark.slow
def test_killing_a_look_leaves_an_older_database_unchanged(database: Path, tmp_path: Path) -> None:
    older(MLFLOW_2)(database)
    before = content(tmp_path)
    worker = WorkerProcess(msgspec.structs.replace(settings_of(database), model_lookup_timeout=0.3))
    with pytest.raises(RegistryUnreachable):  # be it that it was killed, or answered in time
        worker.look()
    assert content(tmp_path) == before
    worker._settings = settings_of(database)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(RegistrySchema, match="is older than"):
        worker.look()
    database.unlink()
    with pytest.raises(RegistrySchema, match="is not there") as caught:
        worker.look()
    assert caught.value.detail == str(database)
    worker.close()
    assert content(tmp_path) == {}


async def test_health_names_the_schema_that_the_database_needs(database: Path, tmp_path: Path) -> None:
    newer(database)
    before = content(database.parent)
    async with client_of(settings_of(database, tmp_path / "data")) as client:
        answer = (await client.get("/health")).json()
        assert (answer["status"], answer["problems"][0]) == ("unhealthy", "no model is loaded")
        assert answer["problems"][1].startswith("model refresh: registry_schema: the database's schema (f00dfeedbeef)")
        assert str(tmp_path) not in (await client.get("/health/detailed")).text
        assert 'outcome="registry_schema"} 1.0' in (await client.get("/metrics")).text
    assert content(database.parent) == before


@pytest.mark.slow
def test_training_publishes_into_a_new_database_and_migrates_none(database: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for name in ("new.db", "empty.db"):
        check_schema(url_of(tmp_path / name), may_be_empty=True)
    assert not (tmp_path / "new.db").exists()
    older(MLFLOW_2)(database)
    before = database.read_bytes()
    environ = {"MLFLOW_TRACKING_URI": url_of(database), "DATA_DIR": str(tmp_path / "data")}
    (tmp_path / "data.csv").write_text(f"{','.join(COLUMNS)}\n{','.join('1' * len(COLUMNS))}\n")
    done = subprocess.run(
        [sys.executable, "-m", "app", "train", "--data", str(tmp_path / "data.csv")],
        env=environ, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is older than" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_bytes() == before


def test_a_directory_that_is_no_registry_is_refused_and_not_made_one(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "mlruns"), (tmp_path / "mlruns").as_uri(), str(tmp_path)):
        with pytest.raises(RegistrySchema, match="the registry's directory is not one of MLflow's"):
            Registry(settings_of(uri)).look()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        (
            "postgresql+psycopg://me:pa%40ss@db/mlflow?options=-c%20search_path=ml",
            "postgresql+psycopg://me:pa%40ss@db/mlflow?options=-c+search_path%3Dml+-c+default_transaction_read_only%3Don",
        ),
        ("postgresql://db/mlflow", "postgresql://db/mlflow?options=-c+default_transaction_read_only%3Don"),
        (
            "mysql+pymysql://db/mlflow",
            "mysql+pymysql://db/mlflow?init_command=SET+SESSION+TRANSACTION+READ+ONLY",
        ),
        ("mssql+pyodbc://db/mlflow", "mssql+pyodbc://db/mlflow"),
    ],
)
def test_a_connection_is_read_only_where_the_driver_has_one(uri: str, opened: str) -> None:
    assert registry_database._read_only(uri) == opened  # pyright: ignore[reportPrivateUsage]


def rows(url: str) -> dict[str, list[Any]]:
    """Every table of a database, and all that is in it."""
    engine = sa.create_engine(url)
    metadata = sa.MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        found = {
            name: [
                *((column.name, str(column.type)) for column in table.columns),
                *sorted(map(repr, connection.execute(sa.select(table)))),
            ]
            for name, table in metadata.tables.items()
        }
    engine.dispose()
    return found


@pytest.mark.slow
def test_postgresql_is_not_written_to_either(postgres: PostgresServer, tmp_path: Path) -> None:
    database = PostgresDatabase(postgres, f"registry_{tmp_path.name}")
    with pytest.raises(RegistryUnreachable):
        Registry(settings_of(database.url)).look()
    database.create()
    for revision, reason in ((None, "has no tables of MLflow"), (MLFLOW_2, "`mlflow db upgrade`")):
        if revision is not None:
            migrate(database.url, revision)
        before = rows(database.url)
        with pytest.raises(RegistrySchema, match=reason):
            Registry(settings_of(database.url)).look()
        assert rows(database.url) == before
    migrate(database.url, "head")
    owner = MlflowClient(database.url, database.url)
    settings = settings_of(database.url)
    owner.create_registered_model(settings.model_name)
    owner.create_model_version(settings.model_name, source="file:///nowhere")
    owner.set_registered_model_alias(settings.model_name, "champion", "1")
    before = rows(database.url)
    registry = Registry(msgspec.structs.replace(settings, model_alias="champion"))
    assert registry.look().candidates[0].identity.version == "1"
    with pytest.raises(mlflow.MlflowException, match="read-only transaction"):
        MlflowClient(*read_only_uris(settings)).create_registered_model("another")
    assert rows(database.url) == before
