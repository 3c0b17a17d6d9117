"""Limit on the requests of one client in a minute (RATE_LIMIT).

Litestar's own limit works on Litestar's routes alone, and reads and writes a list of all the client's requests at each
one. Here a request costs one counter.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.errors import RateLimited
from app.headers import adding_headers
from app.predict.body import drain
from app.problems import send_error

WINDOW_S = 60

Headers = list[tuple[bytes, bytes]]


class RateLimit:
    """Counts requests by client, together for all routes that it is put around.

    A client is known by its address, since headers can be invented. Its minute begins with its first request.

    Args:
        limit: Requests a client may make in a minute.
        clock: Seconds that never go back; a test passes its own.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._windows: dict[str, tuple[int, int]] = {}  # client → end of its minute and requests, oldest minute first

    def around(self, app: ASGIApp) -> "LimitedRoute":
        """Limit the requests that reach an application."""
        return LimitedRoute(app, self)

    def count(self, client: str) -> tuple[int, int]:
        """Count a request.

        Returns:
            Requests of the client in its minute, this one included, and seconds until that minute ends.
        """
        now = int(self._clock())
        end, requests = self._windows.get(client, (0, 0))
        if end <= now:
            self._forget(now)
            end, requests = now + WINDOW_S, 0
        self._windows[client] = end, requests + 1
        return requests + 1, end - now

    def _forget(self, now: int) -> None:
        """Drop the minutes that have ended; they begin in order, so they are the first ones."""
        while self._windows:
            client = next(iter(self._windows))
            if self._windows[client][0] > now:
                return
            del self._windows[client]


class LimitedRoute:
    """ASGI application that refuses the requests beyond a limit with 429.

    Args:
        app: Answers the requests within the limit.
        limit: Counts them.
    """

    def __init__(self, app: ASGIApp, limit: RateLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        requests, seconds = self._limit.count(_client(scope))  # pyright: ignore[reportArgumentType]
        headers = self._headers(requests, seconds)
        if requests > self._limit.limit:
            await send_error(scope, send, RateLimited(seconds), headers)  # pyright: ignore[reportArgumentType]
            with suppress(TimeoutError):
                await drain(receive)
            return
        await self._app(scope, receive, adding_headers(send, headers))

    def _headers(self, requests: int, seconds: int) -> Headers:
        """The state of the limit, as a draft of the IETF names it (draft-ietf-httpapi-ratelimit-headers)."""
        limit = self._limit.limit
        return [
            (b"ratelimit-policy", b"%d; w=%d" % (limit, WINDOW_S)),
            (b"ratelimit-limit", b"%d" % limit),
            (b"ratelimit-remaining", b"%d" % max(0, limit - requests)),
            (b"ratelimit-reset", b"%d" % seconds),
        ]


def _client(scope: HTTPScope) -> str:
    client = scope["client"]
    return client[0] if client else "unknown"
