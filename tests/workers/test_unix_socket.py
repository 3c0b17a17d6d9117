"""Several workers at a Unix socket: they take connections from one queue, so one that hangs keeps none waiting."""

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support import BY_PATH, Server, eventually


@pytest.mark.slow
def test_a_worker_that_hangs_keeps_no_connection_waiting(serve: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(**BY_PATH, API_UNIX_SOCKET=str(path), API_WORKERS="2", PREDICTION_LOG="off")

    def get(route: str) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://test", timeout=5) as client:
            return client.get(route)

    def has_stopped(worker: psutil.Process) -> bool:
        return worker.status() == psutil.STATUS_STOPPED

    eventually(lambda: all(f"Started worker-{number}" in server.log() for number in (1, 2)), process=server)
    for worker in psutil.Process(server.popen.pid).children():
        worker.send_signal(signal.SIGSTOP)
        try:
            eventually(partial(has_stopped, worker))
            assert [get("/health/live").status_code for _ in range(10)] == [200] * 10
        finally:
            worker.send_signal(signal.SIGCONT)
