"""Requests as a server would hand them over, to the straight way of an app and to its general way."""

import asyncio
import json
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

from prometheus_client.parser import text_string_to_metric_families

from app.config.settings import Settings
from app.predict.straight import StraightWay
from tests.routes.support import Client, client_of, services_of

T = TypeVar("T")

ID = b"of-a-test"
VOLATILE = {"processing_time_ms"}


class Answer(NamedTuple):
    """What an application sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: dict[str, Any]


class Ways:
    """An app, and requests to it as a server would hand them over."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = client_of(settings)
        self.client: Client = self.run(self._context.__aenter__())
        straight = self.client.app.entrance
        assert isinstance(straight, StraightWay)
        self.straight, self.general = straight, straight.general

    def close(self) -> None:
        self.run(self._context.__aexit__(None, None, None))
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def ask(self, app: Any, body: bytes, *pieces: int, **changes: Any) -> Answer:
        """The answer of an application to a request whose body arrives in pieces that end at these places."""
        edges = [0, *sorted(piece % (len(body) + 1) for piece in pieces), len(body)]
        messages = [
            {"type": "http.request", "body": body[start:end], "more_body": end < len(body)}
            for start, end in pairwise(edges)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
            "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}, "state": {},
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "headers": headers(body),
        } | changes  # fmt: skip
        self.run(app(scope, receive, send))
        start, *rest = sent
        content = json.loads(b"".join(part["body"] for part in rest))
        steady = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        return Answer(start["status"], steady, {key: content[key] for key in content.keys() - VOLATILE})

    def recorded(self, app: Any, body: bytes, **changes: Any) -> tuple[dict[str, float], list[Any]]:
        """What a request adds to the counters, and what it gives to the prediction log."""
        services, before = services_of(self.client), self._counts()
        with patch.object(services.prediction_log, "record") as record:
            self.ask(app, body, **changes)
        after = self._counts()
        return {name: after[name] - before.get(name, 0) for name in after}, [
            list(call.args) for call in record.mock_calls
        ]

    def _counts(self) -> dict[str, float]:
        families = text_string_to_metric_families(services_of(self.client).metrics.exposition.text().decode())
        samples = [sample for family in families for sample in family.samples]
        return {
            f"{sample.name} {sample.labels}": sample.value
            for sample in samples
            if sample.name.startswith(("api_", "predictions_", "prediction_duration", "errors_"))
            and sample.name.endswith(("_total", "_count"))
        }


def headers(body: bytes, **changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """Headers of a common request; None leaves one out."""
    usual: dict[str, bytes | None] = {
        "host": b"127.0.0.1", "content-type": b"application/json", "content-length": b"%d" % len(body),
        "x-request-id": ID,
    }  # fmt: skip
    named = usual | {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name.encode(), value) for name, value in named.items() if value is not None]
