"""A service of two workers over a real registry, which the tests of a module share."""

import contextlib
import signal
from collections.abc import Generator, Iterator

import psutil
import pytest

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
        """Its two workers, the leader first: that one has the process that writes the log."""
        workers = psutil.Process(self.popen.pid).children()
        return sorted(workers, key=lambda worker: not self.leads(worker))

    @staticmethod
    def leads(worker: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return any("app.prediction_log.writer" in child.cmdline() for child in worker.children())
        return False

    def wait_whole(self) -> "Pair":
        """Wait until both workers answer and serve the same."""
        eventually(lambda: self.metric("workers", state="answering") == 2, process=self)
        eventually(lambda: len(self.workers()) == 2 and self.leads(self.workers()[0]), process=self)
        eventually(lambda: HTTP.get(f"{self.url}/health", timeout=5).json()["status"] == "healthy", process=self)
        return self

    @contextlib.contextmanager
    def only(self, worker: psutil.Process) -> Generator[None]:
        """Have one worker take all requests, since the other one hangs."""
        (other,) = (process for process in self.workers() if process != worker)
        other.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: other.status() == psutil.STATUS_STOPPED, timeout=10)
            yield
        finally:
            other.send_signal(signal.SIGCONT)

    def answers(self) -> tuple[str, float]:
        """Version and prediction of an answer."""
        body = HTTP.post(f"{self.url}/predict", json=ROW, timeout=20).json()
        return body["model_version"], body["prediction"]

    def answers_of_each(self) -> list[tuple[str, float]]:
        """The same of each worker, the leader first."""
        found: list[tuple[str, float]] = []
        for worker in self.workers():
            with self.only(worker):
                found.append(self.answers())
        return found


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
