"""/health/detailed while everything behind the service hangs."""

import asyncio
import socket
import threading
import time
from statistics import median
from typing import Any

import msgspec
import pytest

from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from tests.routes.support import Client, ask, client_of, services_of
from tests.support import come_true
from tests.telemetry.test_gpu import FakeNvml

ADMIN = {"X-API-Key": "admin"}
LIMIT_S = 0.05


def silent_server() -> socket.socket:
    """A server that takes connections and never says a word, until it is closed and drops them."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    return listener


class HungNvml(FakeNvml):
    """A driver that answers no call."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = threading.Event(), threading.Event()

    def nvmlDeviceGetCount(self) -> int:
        self.asked.set()
        self.released.wait()
        return 0


def detailed(client: Client) -> tuple[float, Any]:
    """Seconds until /health/detailed was answered, and the answer, by a coroutine that never gave up its turn."""
    started = time.perf_counter()
    answering = ask(client, [(b"host", b"test"), (b"x-api-key", b"admin")], path="/health/detailed")
    with pytest.raises(StopIteration) as ended:
        answering.send(None)
    seconds = time.perf_counter() - started
    status, _, body = ended.value.value
    assert status == (200 if services_of(client).slot.current else 503)
    return seconds, msgspec.json.decode(body)


async def occupied(client: Client, released: threading.Event) -> list["asyncio.Future[Any]"]:
    """Work that occupies every thread of both pools, and waits for one, until it is released."""
    executor = services_of(client).executor
    return [
        asyncio.ensure_future(waiting)
        for _ in range(64)
        for waiting in (asyncio.to_thread(released.wait), executor.in_thread(released.wait))
    ]


async def test_it_waits_for_no_registry_database_driver_or_thread(
    settings: Settings, example: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml, released, source, silent = HungNvml(), threading.Event(), ModelWorker(settings), silent_server()
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    away = ModelWorker(msgspec.structs.replace(settings, mlflow_tracking_uri=f"http://{address}"))
    hung = msgspec.structs.replace(
        settings,
        database_url=f"postgresql://user:password@{address}/log",
        admin_api_key="admin",
        request_timeout=0.5,
    )
    async with client_of(hung, sources=lambda _: source, nvml=nvml) as client:
        services = services_of(client)
        hanging = services.registry, services.log_database, services.gpu.calls
        for dependency in hanging:
            monkeypatch.setattr(dependency, "_patience", 0.1)
        monkeypatch.setattr(source, "look", away.look)
        assert (await client.post("/predict", json=example)).status_code == 200
        assert (await client.post("/health/model/reload", headers=ADMIN)).status_code == 202
        await come_true(lambda: all(dependency.read().up is False for dependency in hanging))
        waiting = await occupied(client, released)
        try:
            answers = [detailed(client) for _ in range(20)]
        finally:
            silent.close()
            released.set()
            nvml.released.set()
            await asyncio.gather(*waiting)
    seconds, answer = [seconds for seconds, _ in answers], answers[-1][1]
    assert median(seconds) <= LIMIT_S, seconds
    codes = {reason["code"] for reason in answer["reasons"]}
    assert "gpu_hanging" in codes
    assert codes & {"prediction_log_hanging", "prediction_log_failing"}
    assert (answer["status"], answer["model"]["version"]) == ("degraded", "1")
    for name in ("registry", "prediction_log"):
        assert answer["dependencies"][name]["up"] is False
        assert answer["dependencies"][name]["unanswered_seconds"] > 0
    assert "password" not in str(answer)
