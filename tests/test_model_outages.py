"""A registry that is away: predictions go on, it is told, and all is well again when it is back."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.faults import Fault, FaultProxy, MlflowServer
from tests.shelf import ROW, Shelf
from tests.support import HTTP, eventually, problem
from tests.watch import Sender, Watched

LOOKUP_TIMEOUT_S = 3


class Scene(NamedTuple):
    """A server that serves a model from a registry behind a proxy."""

    registry: MlflowServer
    proxy: FaultProxy
    shelf: Shelf
    server: Watched


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A registry of this module's own, to be killed and hung; every test leaves it running."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def running(registry: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("outages")
    shelf = Shelf(registry.url, "outages", directory)
    shelf.good()
    with (
        FaultProxy(registry.url, pace=0.3) as proxy,
        Watched(directory, proxy.url, shelf.name, MODEL_LOOKUP_TIMEOUT=str(LOOKUP_TIMEOUT_S)) as server,
    ):
        yield Scene(registry, proxy, shelf, server.wait_ready())


@pytest.fixture
def scene(running: Scene) -> Iterator[Scene]:
    """All is well before a test, and after it."""
    running.server.becomes(stale=False, last_refresh__outcome="unchanged")
    yield running
    running.proxy.fault = None


def kill(scene: Scene) -> None:
    scene.registry.kill()


def restart(scene: Scene) -> None:
    scene.registry.start()


def hang(scene: Scene) -> None:
    scene.registry.hang()


def resume(scene: Scene) -> None:
    scene.registry.resume()


def spoil(fault: Fault) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        scene.proxy.fault = fault

    return begin


def mend(scene: Scene) -> None:
    scene.proxy.fault = None


OUTAGES = {
    "killed": (kill, restart, "connection closed"),
    "hung": (hang, resume, f"no answer in time|no answer within {LOOKUP_TIMEOUT_S} s"),
    "errors": (spoil("error"), mend, "HTTP 500"),
    "a byte at a time": (spoil("drip"), mend, f"no answer within {LOOKUP_TIMEOUT_S} s"),
}


@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [
        pytest.param(*outage, id=name, marks=[] if name == "killed" else pytest.mark.slow)
        for name, outage in OUTAGES.items()
    ],
)
def test_an_outage_costs_no_prediction_and_the_next_version_is_served(
    scene: Scene, begin: Callable[[Scene], None], end: Callable[[Scene], None], reason: str
) -> None:
    server, before = scene.server, scene.server.model()["version"]
    looks = server.count("model_refreshes_total", outcome="registry_unreachable")
    with Sender(server) as sender:
        begin(scene)
        try:
            told = server.becomes(stale=True, last_refresh__outcome="registry_unreachable")
            sender.goes_on()
            assert server.metric("model_stale") == 1
        finally:
            end(scene)
        assert (told["version"], told["status"]) == (before, "degraded")
        assert re.fullmatch(reason, told["last_refresh"]["reason"])
        assert told["last_refresh"]["detail"] is None
        assert server.count("model_refreshes_total", outcome="registry_unreachable") > looks
        version = scene.shelf.good()
        server.becomes(version=version, stale=False, status="healthy", last_refresh__outcome="unchanged")
        sender.goes_on()
    assert server.metric("model_stale") == 0
    assert sender.versions(scene.shelf.predictions) == [before, version]


def test_a_killed_model_worker_is_replaced_and_costs_no_prediction(scene: Scene) -> None:
    server, before = scene.server, scene.server.model()["version"]

    def worker() -> psutil.Process | None:
        children = psutil.Process(server.popen.pid).children(recursive=True)
        return next((child for child in children if "app.models.registry.worker" in child.cmdline()), None)

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
def test_a_restart_without_the_registry_serves_the_last_model(registry: MlflowServer, tmp_path: Path) -> None:
    shelf = Shelf(registry.url, "kept", tmp_path)
    first = shelf.good()
    with FaultProxy(registry.url) as proxy:
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
def test_a_first_start_without_the_registry_waits_for_it(registry: MlflowServer, tmp_path: Path) -> None:
    shelf = Shelf(registry.url, "nothing", tmp_path)
    version = shelf.good()
    with FaultProxy(registry.url) as proxy:
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
