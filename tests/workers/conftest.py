"""A service of two workers over a real registry, which the tests of a module share."""

import contextlib
import signal
from collections.abc import Generator, Iterator

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shelf import ALIAS, ROW, Shelf
from tests.support import HTTP, eventually
from tests.watch import Watched


class Pair(Watched):
    """A service of two workers.

    Attributes:
        shelf: Its registered model, which has versions 1 and 2.
    """

    shelf: Shelf

    def workers(self) -> list[psutil.Process]:
        """Its two workers, the leader first."""
        workers = psutil.Process(self.popen.pid).children()
        return sorted(workers, key=lambda worker: not self.leads(worker))

    @staticmethod
    def leads(worker: psutil.Process) -> bool:
        """Whether others have their links to it."""
        with contextlib.suppress(psutil.Error):
            return any(str(one.laddr).endswith("leader.sock") for one in worker.net_connections("unix"))
        return False

    def wait_whole(self) -> "Pair":
        """Wait until both workers answer and serve the same."""
        eventually(lambda: self.metric("workers", state="answering") == 2, process=self)
        eventually(lambda: len(self.workers()) == 2 and self.leads(self.workers()[0]), process=self)
        eventually(lambda: HTTP.get(f"{self.url}/health", timeout=5).json()["status"] == "healthy", process=self)
        return self

    @contextlib.contextmanager
    def via(self, worker: psutil.Process) -> Generator[httpx.Client]:
        """A client whose one connection is to this worker."""
        while True:
            limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
            with httpx.Client(base_url=self.url, limits=limits, trust_env=False, verify=False, timeout=20) as client:
                stream = client.get("/health/live").extensions["network_stream"]
                ours = stream.get_extra_info("client_addr")[1]
                if any(one.raddr and one.raddr.port == ours for one in worker.net_connections()):
                    yield client
                    return

    @contextlib.contextmanager
    def hanging(self, worker: psutil.Process) -> Generator[None]:
        """Have a worker hang."""
        worker.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: worker.status() == psutil.STATUS_STOPPED, timeout=10)
            yield
        finally:
            worker.send_signal(signal.SIGCONT)

    def answers_of_each(self) -> list[tuple[str, float]]:
        """Version and prediction of each worker's answer, the leader's first."""
        found: list[tuple[str, float]] = []
        for worker in self.workers():
            with self.via(worker) as client:
                found.append(answer(client))
        return found


def answer(client: httpx.Client) -> tuple[str, float]:
    """Version and prediction of an answer."""
    body = client.post("/predict", json=ROW).json()
    return body["model_version"], body["prediction"]


def sample(client: httpx.Client, name: str, **labels: str) -> float:
    """A sample of a scrape; 0 where there is none."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = (one for family in families for one in family.samples if (one.name, one.labels) == (name, labels))
    return next((one.value for one in found), 0.0)


@pytest.fixture(scope="module")
def pair_of_module(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The service of a module; tests take `pair`."""
    directory = tmp_path_factory.mktemp("pair")
    shelf = Shelf(mlflow_server, "pair", directory)
    shelf.good()
    shelf.good(alias=None)
    settings = {"MODEL_CACHE_TTL": "3600", "MODEL_CANARY_ALIAS": "next", "MODEL_CANARY_PERCENT": "0"}
    with Pair(
        directory, mlflow_server, shelf.name, API_WORKERS="2", SHUTDOWN_DELAY="0.1", RATE_LIMIT="100000", **settings
    ) as server:
        server.shelf = shelf
        server.wait_ready()
        yield server


@pytest.fixture
def pair(pair_of_module: Pair) -> Pair:
    """The service, whole, with version 1 in service."""
    pair = pair_of_module.wait_whole()
    assert pair.shelf.client.get_model_version_by_alias(pair.shelf.name, ALIAS).version == "1"
    return pair
