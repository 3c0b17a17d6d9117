"""Fixtures: one embedded registry for the whole run, apps over it in this process, and real server processes."""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio

from app.config.settings import Settings
from app.main import create_app
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from tests.faults import MlflowServer
from tests.models.keeping import keep
from tests.monitoring import Prometheus
from tests.once import work_once
from tests.prediction_log.databases import PostgresServer, postgres_binaries, unprivileged_user
from tests.support import Client, Server, free_port, in_process, loaded, server_environ

# The same examples every time: a run that fails for one commit must not pass for the next by luck. Building the table
# of Unicode characters on a new machine is slow, and no fault of a strategy.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("short", hypothesis.settings.get_profile("repeatable"), max_examples=15)
hypothesis.settings.load_profile("repeatable")

work_once()


@pytest.fixture(autouse=True)
def environment_is_restored() -> Iterator[None]:
    """What a command sets in the environment of its process, when run in this one, is not there for the next test."""
    before = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    for name in os.environ.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
    # To set a variable costs as much as to read ten, and hardly any test changes one.
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def shared_directory(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run that all of its processes have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(config, "workerinput") else own


@pytest.fixture(scope="session")
def registry_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_DIR of an embedded registry that holds the bundled model, which was served before; not to be changed.

    The first process that needs it makes it, and compiles the kernels that every app needs; the others wait for it.
    """
    shared = shared_directory(request.config, tmp_path_factory)
    directory, finished = shared / "shared-registry", shared / "shared-registry-is-finished"
    with (shared / "shared-registry-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(directory, ignore_errors=True)  # left by a process that failed
            directory.mkdir()
            kept = keep(Settings(data_dir=directory))
            assert asyncio.run(kept.keeper.refresh()).outcome == "swapped"
            kept.keeper.close()
            finished.touch()
    return directory


@pytest.fixture
def private_registry_dir(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the embedded registry's database that a test may change.

    It has the same path in each test of this process, since MLflow takes a quarter of a second to open a database and
    to make up its queries, and does so once for a path. Artifact locations in it still point to the session's files,
    which are only read.
    """
    directory = tmp_path_factory.getbasetemp() / "private-registry"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    shutil.copy(registry_dir / "mlflow.db", directory)
    _close_connections()  # a thread of the last test may have opened one to the file that was deleted
    yield directory
    _close_connections()


def _close_connections() -> None:
    """Close MLflow's connections to databases of this process."""
    # Imported here: the process that hands out the work needs none of it.
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    for store in (TrackingStore, RegistryStore):
        for engine in store._engine_map.values():
            engine.dispose()


@pytest.fixture
def settings(registry_dir: Path, tmp_path: Path) -> Settings:
    """Settings of an app over the session's registry, with a prediction log of its own."""
    return Settings(
        data_dir=registry_dir, database_url=f"sqlite:///{tmp_path / 'predictions.db'}", prometheus_port=free_port()
    )


@pytest.fixture
async def own_client(settings: Settings) -> AsyncIterator[Client]:
    """A client of an app that serves the bundled model, and that has counted and logged nothing yet."""
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        yield client


@pytest.fixture
def client(own_client: Client) -> Client:
    """The client of an app of its own; in modules that say so, `shared_client`."""
    return own_client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_client(registry_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The app behind `shared_client`."""
    log = tmp_path_factory.mktemp("shared") / "predictions.db"
    settings = Settings(data_dir=registry_dir, database_url=f"sqlite:///{log}", prometheus_port=free_port())
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        yield client


@pytest.fixture
def shared_client(module_client: Client) -> Iterator[Client]:
    """A client of one app for all tests of a module.

    It serves the bundled model again after each test. What tests count and log adds up.
    """
    slot = module_client.app.services.slot
    served = slot.current
    yield module_client
    slot.current = served


@pytest.fixture(scope="session")
def example(registry_dir: Path) -> dict[str, float]:
    """The bundled model's input example."""
    example = read_artifact(BUNDLED / "model").example
    assert example is not None
    return {name: float(value or 0) for name, value in example.items()}


@pytest.fixture
def serve(registry_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts `madrone serve` processes over the session's registry, and ends them after the test."""
    servers: list[Server] = []

    def start(*arguments: str, **environ: str | None) -> Server:
        servers.append(Server(server_environ(registry_dir, tmp_path) | environ, tmp_path, arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def mlflow_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real `mlflow server` with an SQLite store and proxied artifacts; each test names models of its own.

    The run's processes share it, since it takes twenty seconds of processor time to start. The one that started it ends
    it, once the others use it no more.
    """
    shared = shared_directory(request.config, tmp_path_factory)
    address = shared / "mlflow-server-url"
    with (shared / "mlflow-server-lock").open("w") as lock, (shared / "mlflow-server-users").open("w") as users:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if address.exists():
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield address.read_text()
            return
        directory = shared / "mlflow-server"
        directory.mkdir()
        with MlflowServer(directory) as server:
            address.write_text(server.url)
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield server.url
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_EX)
            address.unlink()
        shutil.rmtree(directory)


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


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts `prometheus` processes that scrape the ports given to them, and ends them after the test."""
    started: list[Prometheus] = []

    def start(ports: Sequence[int], **more: Any) -> Prometheus:
        started.append(Prometheus(tmp_path / f"prometheus-{len(started)}", ports, **more))
        return started[-1].wait_ready()

    yield start
    for one in started:
        one.close()
