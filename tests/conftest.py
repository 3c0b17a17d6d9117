"""Fixtures: one embedded registry for the whole run, apps over it in this process, and real server processes."""

import asyncio
import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

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
from tests.support import ROOT, Client, Server, free_port, in_process, loaded, server_environ

# The same examples every time: a run that fails for one commit must not pass for the next by luck. Building the table
# of Unicode characters on a new machine is slow, and no fault of a strategy.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("short", hypothesis.settings.get_profile("repeatable"), max_examples=15)
hypothesis.settings.load_profile("repeatable")


work_once()

LONGEST = (
    "tests/test_supervisor.py",
    "cuda/test_ptx.py",
    "tests/test_faults.py",
    "fleet/test_planning.py",
    "codecs/test_wide_tables.py",
    "objects/test_pickle_stream.py",
    "training/test_model.py",
    "tests/test_logged_models.py",
    "tests/test_overload.py",
    "browser/test_views.py",
    "tests/test_readme.py",
    "cpu/test_backend.py",
    "tests/test_model_outages.py",
    "registry/test_process.py",
    "tests/test_shutdown.py",
    "routes/test_docs.py",
    "routes/test_health.py",
    "registry/test_publish.py",
    "predict/test_predict.py",
    "registry/test_mlflow.py",
    "predict/test_cors.py",
    "cuda/test_forest.py",
    "registry/test_worker.py",
    "tests/test_limits.py",
    "forest/test_model_text.py",
    "registry/test_database.py",
    "disk/test_store_processes.py",
    "forest/test_synthetic.py",
)
"""Ends of the names of the modules that take longest, the longest first, so that none of them is a run's last one.

Modules that wait for servers and modules that compute take turns, since two of a kind side by side get in each other's
way. The first compiles the kernels that every app needs, and those up to the model's training need none of them, so
that nothing is compiled twice.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples where the long forms of tests are left out; before modules are imported, which take them."""
    if config.option.markexpr == "not slow":
        hypothesis.settings.load_profile("short")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test modules before collection, another in each process of a run of all tests.

    All processes collect all modules. Were they to do so side by side in the same order, each would compile every
    module itself in a checkout without bytecode, which takes longer than everything else in a collection.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    first, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for path in sorted(Path(__file__).parent.rglob("test_*.py"))[first::count]:
        with suppress(Exception, pytest.skip.Exception):  # the collection meets it again, and tells
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first; a module's tests stay together and in their order.

    Those that share a client run in their module's event loop, which is the client's.
    """
    for item in items:
        if "shared_client" in getattr(item, "fixturenames", ()) and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
    ranks: dict[Path, int] = {}
    for path in {item.path for item in items}:
        ends = (rank for rank, end in enumerate(LONGEST) if path.as_posix().endswith(f"/{end}"))
        ranks[path] = next(ends, len(LONGEST))
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection_finish() -> None:
    """Search modules and tests for garbage no more: they stay, and each search of them all takes a second.

    What an app leaves behind is searched less often as well: it took a fifth of the processor time of a run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


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
