"""A registry that is away: predictions go on, it is told, and all is well again when it is back."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.faults import Fault, FaultProxy, MlflowServer
from tests.shelf import ROW, Shelf
from tests.support import HTTP, eventually, problem
from tests.watch import Sender, Watched

LOOKUP_TIMEOUT_S = 3
METRICS = {"test_rmse": 0.5}


class Scene(NamedTuple):
    """A server that serves a model from a registry behind a proxy."""

    proxy: FaultProxy
    shelf: Shelf
    server: Watched


@contextmanager
def served_from(registry: str, name: str, directory: Path) -> Generator[Scene]:
    shelf = Shelf(registry, name, directory)
    shelf.good(metrics=METRICS)
    with (
        FaultProxy(registry, pace=0.3) as proxy,
        Watched(directory, proxy.url, shelf.name, MODEL_LOOKUP_TIMEOUT=str(LOOKUP_TIMEOUT_S)) as server,
    ):
        yield Scene(proxy, shelf, server.wait_ready())


@pytest.fixture(scope="module")
def running(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with served_from(mlflow_server, "outages", tmp_path_factory.mktemp("outages")) as scene:
        yield scene


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """All is well before a test, and after it."""
    running.server.becomes(stale=False, last_refresh__outcome="unchanged")
    yield running
    running.proxy.fault = None


def live_through(scene: Scene, begin: Callable[[], None], end: Callable[[], None], reason: str) -> None:
    """Ask for predictions before, in and after an outage, which ends with another version."""
    server, before = scene.server, scene.server.model()["version"]
    looks = server.count("model_refreshes_total", outcome="registry_unreachable")
    with Sender(server) as sender:
        begin()
        try:
            told = server.becomes(stale=True, last_refresh__outcome="registry_unreachable")
            sender.goes_on()
            assert server.metric("model_stale") == 1
        finally:
            end()
        assert (told["version"], told["status"]) == (before, "degraded")
        assert re.fullmatch(reason, told["last_refresh"]["reason"])
        assert told["last_refresh"]["detail"] is None
        assert server.count("model_refreshes_total", outcome="registry_unreachable") > looks
        version = scene.shelf.good()
        server.becomes(version=version, stale=False, status="healthy", last_refresh__outcome="unchanged")
        sender.goes_on()
    assert server.metric("model_stale") == 0
    assert sender.versions(scene.shelf.predictions) == [before, version]


def test_a_real_mlflow_server_is_served_from(scene: Scene) -> None:
    scene.server.becomes(version=scene.shelf.good(metrics=METRICS))
    info = HTTP.get(f"{scene.server.url}/predict/model/info").json()
    assert (info["name"], info["aliases"], info["metrics"]) == (scene.shelf.name, ["champion"], METRICS)
    answer = HTTP.post(f"{scene.server.url}/predict", json=ROW).json()
    assert answer["prediction"] == scene.shelf.predictions[answer["model_version"]]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuse", "connection closed"),
        pytest.param("error", "HTTP 500", marks=pytest.mark.slow),
        pytest.param("drip", f"no answer within {LOOKUP_TIMEOUT_S} s", marks=pytest.mark.slow),
    ],
)
def test_an_outage_costs_no_prediction_and_the_next_version_is_served(scene: Scene, fault: Fault, reason: str) -> None:
    def now(fault: Fault | None) -> Callable[[], None]:
        return lambda: setattr(scene.proxy, "fault", fault)

    live_through(scene, now(fault), now(None), reason)


def started_again(registry: MlflowServer) -> None:
    registry.start()


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["killed", "hung"])
def test_a_registry_whose_server_is_gone_costs_no_prediction(outage: str, tmp_path: Path) -> None:
    with MlflowServer(tmp_path) as registry, served_from(registry.url, outage, tmp_path) as scene:
        scene.server.becomes(stale=False, last_refresh__outcome="unchanged")
        if outage == "killed":
            live_through(scene, registry.kill, lambda: started_again(registry), "connection closed")
        else:
            reason = f"no answer in time|no answer within {LOOKUP_TIMEOUT_S} s"
            live_through(scene, registry.hang, registry.resume, reason)


def test_a_killed_model_worker_is_replaced_and_costs_no_prediction(scene: Scene) -> None:
    server, before = scene.server, scene.server.model()["version"]

    def worker() -> psutil.Process | None:
        children = psutil.Process(server.popen.pid).children(recursive=True)
        return next((child for child in children if "app.models.process.worker" in child.cmdline()), None)

    killed: list[psutil.Process] = []

    def kill_while_it_looks() -> bool:
        process = worker()
        if process is not None and server.model()["next_look_seconds"] is None:
            process.kill()
            killed.append(process)
        return bool(killed)

    with Sender(server) as sender:
        scene.proxy.fault = "drip"
        eventually(kill_while_it_looks, process=server)
        scene.proxy.fault = None
        version = scene.shelf.good()
        server.becomes(version=version, stale=False, status="healthy")
        sender.goes_on()
    assert sender.versions(scene.shelf.predictions) == [before, version]
    now = worker()
    assert now is not None
    assert now.pid != killed[0].pid


@pytest.mark.slow
def test_a_restart_without_the_registry_serves_the_last_model(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "outages-kept", tmp_path)
    first = shelf.good()
    with FaultProxy(mlflow_server) as proxy:
        with Watched(tmp_path, proxy.url, shelf.name) as server:
            server.becomes(version=first)
        proxy.fault = "refuse"
        with Watched(tmp_path, proxy.url, shelf.name) as server, Sender(server.wait_ready()) as sender:
            said = server.becomes(version=first, stale=True, last_refresh__outcome="registry_unreachable")
            sender.goes_on()
            assert said["age_seconds"] is None
            assert said["store"]["entries"] == [first]
            assert server.metric("model_stale") == 1
            second = shelf.good()
            proxy.fault = None
            server.becomes(version=second, stale=False, status="healthy")
            sender.goes_on()
    assert sender.versions(shelf.predictions) == [first, second]


@pytest.mark.slow
def test_a_first_start_without_the_registry_waits_for_it(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "outages-nothing", tmp_path)
    version = shelf.good()
    with FaultProxy(mlflow_server) as proxy:
        proxy.fault = "refuse"
        with Watched(tmp_path, proxy.url, shelf.name) as server:
            server.becomes(version=None, status="unhealthy", last_refresh__outcome="registry_unreachable")
            with Sender(server) as sender:
                sender.goes_on()
                assert (server.status("/health/live"), server.status("/health/ready")) == (200, 503)
                refused = HTTP.post(f"{server.url}/predict", json=ROW)
                assert server.metric("model_stale") is None
                assert server.metric("model_status", model_name=shelf.name) == 0
                proxy.fault = None
                server.becomes(version=version, stale=False)
                sender.goes_on()
    assert refused.status_code == 503
    assert problem(refused)["type"] == "urn:madrone:problem:model-unavailable"
    assert int(refused.headers["retry-after"]) > 0
    statuses = [answer.status for answer in sender.answers]
    assert set(statuses) == {503, 200}
    assert statuses == sorted(statuses, reverse=True)
    assert {answer.prediction for answer in sender.answers} == {None, shelf.predictions[version]}
