"""RATE_LIMIT counts each client's requests to the prediction routes by the minute."""

from typing import Any, cast

from litestar.types import Message

from app.config.settings import Settings
from app.predict.rate_limit import WINDOW_S, RateLimit
from tests.clock import Clock
from tests.routes.support import Client, Row, client_of, problem, settings_with


async def test_answers_carry_the_state_of_the_limit(settings: Settings, example: Row) -> None:
    async with client_of(settings_with(settings, rate_limit=2)) as client:
        remaining: list[str] = []
        for path, body in (("/predict", example), ("/predict/batch", {"predictions": [example]})):
            response = await client.post(path, json=body)
            assert response.headers["ratelimit-policy"] == "2; w=60"
            assert response.headers["ratelimit-limit"] == "2"
            assert 0 < int(response.headers["ratelimit-reset"]) <= 60
            remaining.append(response.headers["ratelimit-remaining"])
        assert remaining == ["1", "0"]
        refused = await client.post("/predict/", json=example)
        assert problem(refused) == {
            "type": "urn:madrone:problem:too-many-requests",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "The client made more requests in this minute than RATE_LIMIT allows.",
            "request_id": refused.headers["x-request-id"],
        }
        assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
        assert refused.headers["ratelimit-remaining"] == "0"
        text = (await client.get("/metrics")).text
        assert 'errors_total{endpoint="/predict",error_type="too_many_requests"} 1.0' in text


def test_a_minute_begins_with_the_first_request() -> None:
    clock = Clock(1000.5)
    limit = RateLimit(5, clock)
    assert limit.count("a") == (1, WINDOW_S)
    clock.now += 59
    assert limit.count("a") == (2, 1)
    assert limit.count("b") == (1, WINDOW_S)
    clock.now += 1
    assert limit.count("a") == (1, WINDOW_S)
    assert limit.count("b") == (2, WINDOW_S - 1)


def test_ended_minutes_are_forgotten() -> None:
    clock = Clock(1000.5)
    limit = RateLimit(5, clock)
    for number in range(100):
        limit.count(str(number))
        clock.now += 1
    limit.count("last")
    assert len(limit._windows) <= WINDOW_S + 1


async def test_the_rest_of_a_refused_body_is_read(client: Client) -> None:
    """A client that is still sending would miss the answer."""
    limit = RateLimit(0)
    parts = [{"type": "http.request", "body": bytes(1000), "more_body": more} for more in (True, True, False)]
    sent: list[Message] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "client": ("test", 1),
        "headers": [],
        "state": {},
    }
    route = limit.around(cast(Any, None))
    await route(scope, receive, send)
    assert [cast(Any, message).get("status") for message in sent] == [429, None]
    assert parts == []
