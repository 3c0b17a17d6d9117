"""The stream of figures: what it holds, how many may watch, and when it ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from cProfile import Profile
from typing import Any

import msgspec
import pytest

from app.config.settings import Settings
from app.console import live
from app.console.figures import figures
from app.serving.shadow import Compared
from tests.routes.support import Row, client_of, services_of
from tests.support import Client, come_true

ANSWERS = 100


class Viewer:
    """A client of the stream, in this process.

    Attributes:
        sent: Messages that it was sent.
        reading: Set while it takes what it is sent.
    """

    def __init__(self, client: Client) -> None:
        self.sent: list[Any] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self._left = asyncio.Event()
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/console/live", "raw_path": b"/console/live", "query_string": b"", "root_path": "",
            "headers": [(b"host", b"test"), (b"accept-encoding", b"gzip")], "client": ("10.0.0.1", 1),
            "server": ("test", 80),
        }  # fmt: skip
        self.task = asyncio.create_task(client.app(scope, self._receive, self._send))

    def leave(self) -> None:
        self._left.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        bodies = [message.get("body", b"") for message in self.sent if message["type"] == "http.response.body"]
        return [msgspec.json.decode(body.removeprefix(b"data: ")) for body in bodies if body.startswith(b"data: ")]

    async def _receive(self) -> Any:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        self.sent.append(message)


@asynccontextmanager
async def watching(client: Client, count: int = 1) -> AsyncGenerator[list[Viewer]]:
    """Viewers that have had an event, and leave in the end."""
    viewers = [Viewer(client) for _ in range(count)]
    await come_true(lambda: all(viewer.events for viewer in viewers))
    yield viewers
    for viewer in viewers:
        viewer.leave()
    await asyncio.gather(*(viewer.task for viewer in viewers))


def live_of(client: Client) -> live.Live:
    return client.app.litestar.state["live"]


async def test_figures_come_as_events(client: Client, example: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    async with watching(client) as (viewer,):
        start, retry, *_ = viewer.sent
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"] == b"text/event-stream"
        assert b"content-encoding" not in headers
        assert headers[b"cache-control"] == b"no-cache"
        assert retry["body"].startswith(b"retry: ")
        before = viewer.events[-1]
        assert (before["status"], before["model_version"], before["requests"]) == ("healthy", "1", {})
        await client.post("/predict", json=example)
        await client.post("/predict", json={})
        await come_true(lambda: viewer.events[-1]["rows"])
        after = viewer.events[-1]
    assert after["requests"] == {"2xx": 1, "4xx": 1}
    assert after["errors"] == {"invalid_input": 1}
    assert sum(after["latency"]["counts"]) == 2
    assert len(after["latency"]["counts"]) == len(after["latency"]["bounds"]) + 1
    assert after["drift"]["rows"] == 1
    assert {shift["name"] for shift in after["drift"]["features"]} == example.keys()
    assert after["digest"] == services_of(client).slot.require().artifact.digest


async def test_figures_are_there_without_a_model(settings: Settings) -> None:
    changed = msgspec.structs.replace(settings, model_name="unknown", drift=False)
    async with client_of(changed) as client, watching(client) as (viewer,):
        event = viewer.events[0]
        assert (event["status"], event["model_version"], event["drift"]) == ("unhealthy", None, None)
        assert event["problems"]


async def test_figures_are_made_once_for_all_viewers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return figures(*arguments)

    monkeypatch.setattr(live, "figures", counted)
    async with watching(client, 20):
        assert made == 1


async def test_the_shadow_s_differences_are_those_of_its_version(client: Client) -> None:
    services = services_of(client)
    served = services.slot.require()
    identity = msgspec.structs.replace(served.identity, version="2")
    services.slot.shadow = msgspec.structs.replace(served, identity=identity)
    shown = figures(services, 0.0).shadow
    assert shown is not None
    assert (shown.version, shown.compared, shown.mean_difference, shown.mean_size) == ("2", 0, None, None)
    for compared, expected in (
        (Compared("2", 4, -2.0, 6.0), (4, -0.5, 1.5)),
        (Compared("1", 4, 1, 1), (0, None, None)),
    ):
        services.shadow.compared = compared
        shown = figures(services, 0.0).shadow
        assert shown is not None
        assert (shown.compared, shown.mean_difference, shown.mean_size) == expected


async def test_figures_take_no_longer_for_a_service_that_answered_more(client: Client, example: Row) -> None:
    def calls() -> int:
        """Functions that are called for the figures, Python's and those in C."""
        profile = Profile()
        profile.runcall(figures, services_of(client), 0.0)
        return sum(entry.callcount for entry in profile.getstats())

    await client.post("/predict", json=example)
    before = calls()
    for _ in range(ANSWERS):
        await client.post("/predict", json=example)
    assert calls() - before < ANSWERS
    assert before < 10_000


async def test_viewers_beyond_the_limit_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_VIEWERS", 3)
    async with watching(client, 3):
        refused = await client.get("/console/live")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "10"
        assert refused.json()["type"] == "urn:madrone:problem:too-many-viewers"
    assert live_of(client).viewers == 0
    async with watching(client):
        assert live_of(client).viewers == 1


async def test_a_stream_ends_with_its_worker(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    async with watching(client) as (viewer,):
        services_of(client).shutdown.leave()
        await viewer.task
        assert viewer.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_head_of_a_stream_is_answered_at_once(client: Client) -> None:
    head = await client.head("/console/live")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "text/event-stream", b"")
    assert live_of(client).viewers == 0


async def test_a_stream_ends_after_a_while(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    monkeypatch.setattr(live, "LONGEST_S", 0.05)
    async with watching(client) as (viewer,):
        await viewer.task
        assert viewer.sent[-1]["more_body"] is False


async def test_a_viewer_that_takes_nothing_is_cut_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    monkeypatch.setattr(live, "PATIENCE_S", 0.1)
    cut: list[tuple[str, int]] = []
    monkeypatch.setattr(live, "cut", cut.append)
    async with watching(client) as (viewer,):
        viewer.reading.clear()
        await viewer.task
        assert cut == [("10.0.0.1", 1)]
    assert live_of(client).viewers == 0
