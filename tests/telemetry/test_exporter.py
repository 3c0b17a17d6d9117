"""The separate port of the metrics: served, taken, released."""

import asyncio
import socket

import httpx
import pytest

from app.telemetry.exporter import MetricsServer
from app.telemetry.metrics import Metrics
from tests.support import eventually, free_port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_port_serves_the_metrics_until_the_task_is_cancelled() -> None:
    metrics, port = Metrics(), free_port()
    metrics.predictions.add(("california-housing-model", "1", "single"), 3)
    task = asyncio.create_task(MetricsServer("127.0.0.1", port, metrics).run())
    await asyncio.to_thread(eventually, lambda: task.done() or listens(port))
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}/metrics")
        head = await client.head(f"http://127.0.0.1:{port}/metrics")
    assert response.status_code == 200
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) > 1000
    same = response.headers.keys() - {"date", "content-length"}
    assert {name: head.headers[name] for name in same} == {name: response.headers[name] for name in same}
    assert head.headers.keys() == response.headers.keys()
    assert (
        'predictions_total{model_name="california-housing-model",model_version="1",prediction_type="single"} 3.0'
        in response.text
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not listens(port)


async def test_an_idle_client_is_cut_off_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.telemetry.exporter.IDLE_S", 0.1)
    port = free_port()
    task = asyncio.create_task(MetricsServer("127.0.0.1", port, Metrics()).run())
    await asyncio.to_thread(eventually, lambda: task.done() or listens(port))
    for sent in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert capfd.readouterr().err == ""


async def test_a_released_port_can_be_taken_at_once() -> None:
    port = free_port()
    for _ in range(2):
        task = asyncio.create_task(MetricsServer("127.0.0.1", port, Metrics()).run())
        await asyncio.to_thread(eventually, lambda task=task: task.done() or listens(port))
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await MetricsServer("127.0.0.1", taken.getsockname()[1], Metrics()).run()
