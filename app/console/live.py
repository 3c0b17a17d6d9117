"""Figures of the service as it runs, once a second, as server-sent events: `GET /console/live`.

A viewer is sent the newest figures when it has taken those before, so that nothing waits in memory for a slow one. The
figures are made once for all viewers. A stream ends after a while, and browsers ask again.
"""

import asyncio
import time
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp, Receive, Scope, Send

from app.console.figures import figures
from app.console.page import HEADERS, PREFIX
from app.container import Services
from app.errors import TooManyViewers
from app.serving.connection import cut

LIVE_ROUTE = PREFIX + "/live"

PERIOD_S = 1.0
MOST_VIEWERS = 32
"""Streams at a time; a further one gets 503."""

LONGEST_S = 600.0
"""Time after which a stream ends. A viewer that reads nothing makes the system hold some 2 KB a second meanwhile."""

PATIENCE_S = 10.0
"""Time that the server may take to hand over one event, before the viewer is cut off."""

RETRY_MS = 2000
"""Time after which a browser asks again."""


class Live:
    """Streams of figures to viewers.

    Args:
        services: Collaborators of the application.

    Attributes:
        viewers: Number of streams.
    """

    def __init__(self, services: Services) -> None:
        self.viewers = 0
        self._services = services
        self._started = time.time()
        self._event = b""
        self._made = -PERIOD_S

    def event(self) -> bytes:
        """The newest figures as an event; made anew when those before are almost a period old."""
        now = time.monotonic()
        if now - self._made >= 0.9 * PERIOD_S:
            self._made = now
            self._event = b"data: " + msgspec.json.encode(figures(self._services, self._started)) + b"\n\n"
        return self._event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one viewer until it goes, the service ends, or `LONGEST_S` have passed."""
        if self.viewers >= MOST_VIEWERS:
            raise TooManyViewers(f"{MOST_VIEWERS} others watch already, which is the most.")
        self.viewers += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            async with asyncio.timeout(None) as patience:
                await self._stream(send, gone, patience)
        except TimeoutError:
            host, port = scope["client"] or ("", 0)  # pyright: ignore[reportGeneralTypeIssues]
            cut((host, int(port)))
        finally:
            self.viewers -= 1
            gone.cancel()

    async def _stream(self, send: Send, gone: asyncio.Task[None], patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()

        async def sent(message: Any) -> None:
            patience.reschedule(loop.time() + PATIENCE_S)
            await send(message)
            patience.reschedule(None)

        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        # A proxy such as nginx would hold events back until it has many.
        headers += [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await sent({"type": "http.response.start", "status": 200, "headers": headers})
        await sent({"type": "http.response.body", "body": b"retry: %d\n\n" % RETRY_MS, "more_body": True})
        end = loop.time() + LONGEST_S
        while not (gone.done() or self._services.shutdown.announced or loop.time() > end):
            await sent({"type": "http.response.body", "body": self.event(), "more_body": True})
            await asyncio.wait((gone,), timeout=PERIOD_S)
        await sent({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    """Wait until the viewer has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


@get(LIVE_ROUTE, include_in_schema=False)
async def live(request: Request[Any, Any, Any]) -> ASGIApp:
    """Figures once a second, for whoever may open the page."""
    return request.app.state.live
