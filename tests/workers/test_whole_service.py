"""What a service of two workers does as a whole: it ends without a loss, and asks its registry as one worker does."""

import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults import FaultProxy
from tests.prediction_log.databases import FoundDatabase, rows_in
from tests.shelf import ALIAS, Shelf
from tests.support import Server, eventually
from tests.workers.conftest import Pair

Serve = Callable[..., Server]


class Asker(threading.Thread):
    """Sends rows over one connection until it is refused, and remembers what was answered."""

    def __init__(self, server: Server, row: dict[str, float]) -> None:
        super().__init__()
        self.answered: list[tuple[int, str]] = []
        self._server = server
        self._row = row

    def run(self) -> None:
        while self._server.popen.poll() is None:
            try:
                with httpx.Client(base_url=self._server.url, trust_env=False, verify=False, timeout=20) as client:
                    while True:
                        answer = client.post("/predict", json=self._row)
                        self.answered.append((answer.status_code, answer.headers["x-request-id"]))
            except httpx.TransportError:
                continue


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["best_effort", "durable"])
def test_told_to_end_under_load_it_loses_no_answer_and_no_row(
    serve: Serve, tmp_path: Path, private_registry_dir: Path, example: dict[str, float], mode: str
) -> None:
    server = serve(
        DATA_DIR=str(private_registry_dir), API_WORKERS="2", PREDICTION_LOG=mode, SHUTDOWN_DELAY="0.5"
    ).wait_ready()
    askers = [Asker(server, example) for _ in range(6)]
    for asker in askers:
        asker.start()
    eventually(lambda: all(len(asker.answered) > 50 for asker in askers), process=server)
    assert server.terminate() == 0
    for asker in askers:
        asker.join()
    answered = [one for asker in askers for one in asker.answered]
    assert {status for status, _ in answered} == {200}
    logged = {row["request_id"] for row in rows_in(FoundDatabase(tmp_path / "predictions.db"))}
    assert {identifier for _, identifier in answered} - logged == set()
    assert [*(private_registry_dir / "prediction-log").rglob("*.spool")] == []


@pytest.mark.slow
def test_the_registry_is_asked_once_in_each_pause_for_all_workers(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "asked", tmp_path)
    shelf.good()
    with (
        FaultProxy(mlflow_server) as proxy,
        Pair(tmp_path, proxy.url, shelf.name, API_WORKERS="2", MODEL_CACHE_TTL="2") as server,
    ):
        server.wait_ready()
        server.wait_whole()

        def looks() -> int:
            return sum(count for path, count in proxy.requests.items() if "registered-models/get" in path)

        asked, looked = looks(), server.count("model_refreshes_total", model_name="asked", outcome="unchanged")
        eventually(
            lambda: server.count("model_refreshes_total", model_name="asked", outcome="unchanged") >= looked + 4,
            process=server,
        )
        since = server.count("model_refreshes_total", model_name="asked", outcome="unchanged") - looked
        assert 4 <= looks() - asked <= since + 1
        shelf.point(ALIAS, shelf.good(alias=None))
        server.becomes(version="2")
