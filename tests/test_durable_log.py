"""A durable prediction log: each row of an answer is logged once, whichever process is killed under load."""

import http.client
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.prediction_log.databases import FoundDatabase, rows_in
from tests.support import HTTP, Server, eventually

Serve = Callable[..., Server]
TIMEOUT_S = 10


class Asker:
    """Threads that send rows without a pause, each under an id of its own, and remember which were answered.

    Attributes:
        answered: Ids of the requests that were answered with 200.
    """

    def __init__(self, name: str, port: int, row: dict[str, float], connections: int = 4) -> None:
        self.answered: list[str] = []
        self._port, self._body = port, json.dumps(row).encode()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(f"{name}-{one}",)) for one in range(connections)]
        for thread in self._threads:
            thread.start()

    def gets(self, count: int) -> None:
        """Wait for so many answers more."""
        most = len(self.answered) + count
        eventually(lambda: len(self.answered) >= most)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, name: str) -> None:
        number = 0
        while not self._ended.is_set():
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)) as connection:
                    while not self._ended.is_set():
                        number += 1
                        identifier = f"{name}-{number:08d}"
                        headers = {"Content-Type": "application/json", "X-Request-ID": identifier}
                        connection.request("POST", "/predict", self._body, headers)
                        response = connection.getresponse()
                        response.read()
                        if response.status == 200:
                            self.answered.append(identifier)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)


def processes(server: Server) -> tuple[psutil.Process, psutil.Process]:
    """The worker that answers, and the writer of its log."""
    for worker in psutil.Process(server.popen.pid).children():
        for child in worker.children():
            if child.cmdline()[-1:] == ["app.prediction_log.writer"]:
                return worker, child
    pytest.fail("there is no writer")


@pytest.fixture
def data_dir(private_registry_dir: Path, registry_dir: Path) -> Path:
    """A DATA_DIR with a spool of its own, and the run's compiled kernels."""
    if (registry_dir / "calibrations.json").exists():
        shutil.copy(registry_dir / "calibrations.json", private_registry_dir)
    return private_registry_dir


@pytest.fixture
def ask(example: dict[str, float]) -> Iterator[Callable[[Server], Asker]]:
    askers: list[Asker] = []

    def start(server: Server) -> Asker:
        askers.append(Asker(f"asker-{len(askers)}", server.port, example))
        return askers[-1]

    yield start
    for asker in askers:
        asker.stop()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_row_of_an_answer_is_lost_or_logged_twice(
    data_dir: Path, tmp_path: Path, serve: Serve, ask: Callable[[Server], Asker], workers: str
) -> None:
    settings: dict[str, str] = {"DATA_DIR": str(data_dir), "PREDICTION_LOG": "durable", "SHUTDOWN_DELAY": "0"}
    settings["API_WORKERS"] = workers
    server = serve(**settings).wait_ready()
    asker = ask(server)
    asker.gets(300)
    for pause in (0.0, 0.05):
        worker, writer = processes(server)
        time.sleep(pause)
        writer.kill()
        asker.gets(200)
        eventually(lambda: waiting(server) < 2000, process=server)
    worker.kill()  # another one is started, while the writer of the first may still write
    asker.gets(200)
    worker, writer = processes(server)
    others = [one for one in psutil.Process(server.popen.pid).children() if one != worker]
    for process in (psutil.Process(server.popen.pid), worker, *others, writer):
        process.kill()
    server.popen.wait()
    asker.stop()
    again = serve(**settings | {"API_WORKERS": "1"}).wait_ready()  # rows of the second worker's spool are written, too
    last = ask(again)
    last.gets(200)
    last.stop()
    assert again.terminate() == 0
    logged = Counter(row["request_id"] for row in rows_in(FoundDatabase(tmp_path / "predictions.db")))
    assert {*asker.answered, *last.answered} - logged.keys() == set()
    assert {identifier: count for identifier, count in logged.items() if count > 1} == {}
    assert [*(data_dir / "prediction-log" / "spool").rglob("*.spool")] == []


def waiting(server: Server) -> float:
    """Rows that are not in the database."""
    lines = HTTP.get(f"{server.url}/metrics").text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("prediction_log_rows_waiting ")]
    return float(value)
