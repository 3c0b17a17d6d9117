"""Fixtures: one embedded registry for the whole run, apps over it in this process, and real server processes."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

# Before numba is imported anywhere: its CUDA simulator stands in for a GPU in this process.
os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
# Before NumPy and LightGBM are, here and in the processes that tests start. With several tests at once, the threads of
# OpenBLAS and OpenMP wait for processors that others have, and they do so in busy loops: training takes seven times the
# processor time.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from kernels.cache import cache_kernels

cache_kernels(Path(__file__).parents[1] / ".pytest_cache" / "kernels")

import hypothesis
import pytest

from app.main import create_app
from app.models.artifact import read_artifact
from app.models.registry.embedded import BUNDLED
from app.settings import Settings
from tests.faults import MlflowServer
from tests.models.keeping import keep
from tests.support import Client, Server, free_port, in_process, loaded, server_environ
from tests.telemetry.databases import PostgresServer, postgres_binaries, unprivileged_user

# The same examples every time: a run that fails for one commit must not pass for the next by luck. Building the table
# of Unicode characters on a new machine is slow, and no fault of a strategy.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def registry_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA_DIR of an embedded registry that holds the bundled model, which was served before; not to be changed."""
    directory = tmp_path_factory.mktemp("registry")
    kept = keep(Settings(data_dir=directory))
    assert asyncio.run(kept.keeper.refresh()).outcome == "swapped"
    kept.keeper.close()
    return directory


@pytest.fixture
def private_registry_dir(registry_dir: Path, tmp_path: Path) -> Path:
    """A copy of the embedded registry's database that a test may change.

    Artifact locations in it still point to the session's files, which are only read.
    """
    directory = tmp_path / "registry"
    directory.mkdir()
    shutil.copy(registry_dir / "mlflow.db", directory)
    return directory


@pytest.fixture
def settings(registry_dir: Path, tmp_path: Path) -> Settings:
    """Settings of an app over the session's registry, with a prediction log of its own."""
    return Settings(
        data_dir=registry_dir, database_url=f"sqlite:///{tmp_path / 'predictions.db'}", prometheus_port=free_port()
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of an app that serves the bundled model."""
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        yield client


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
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real `mlflow server` with an empty SQLite store and proxied artifacts."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow-server")) as server:
        yield server.url


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
