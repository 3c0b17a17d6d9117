"""Figures of the service as it runs, once a second, as server-sent events: `GET /console/live`.

A viewer is sent the newest figures when it has taken those before, so that nothing waits in memory for a slow one. The
figures are made once for all viewers of a model. A stream ends after a while, and browsers ask again.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client.metrics_core import Metric

from app.console.figures import figures
from app.console.page import HEADERS, MODEL, PREFIX, chosen
from app.container import Services
from app.errors import TooManyViewers
from app.serving.connection import cut
from app.workers.link import LinkLost
from app.workers.messages import AskFigures, Figures
from app.workers.team import ANSWER_S

LIVE_ROUTE = PREFIX + "/live"

PERIOD_S = 1.0
MOST_VIEWERS = 32
"""Streams at a time; a further one gets 503."""

LONGEST_S = 600.0
"""Time after which a stream ends. A viewer that reads nothing makes the system hold some 2 KB a second meanwhile."""

PATIENCE_S = 10.0
"""Time that the server may take to hand over one event, before the viewer is cut off."""

LEADERS_S = 2 * ANSWER_S
"""Time for the leader's figures, for which it waits for those of all workers itself."""

RETRY_MS = 2000
"""Time after which a browser asks again."""


class Live:
    """Streams of figures to viewers. Of several workers, the leader makes them for all.

    Args:
        services: Collaborators of the application.

    Attributes:
        viewers: Number of streams.
    """

    def __init__(self, services: Services) -> None:
        self.viewers = 0
        self._services = services
        self._started = time.time()
        self._making = asyncio.Lock()
        self._made: dict[str, tuple[float, bytes]] = {}
        if services.joint is not None:
            services.joint.team.answer(AskFigures, self._answer)

    async def content(self, services: Services) -> bytes:
        """The newest figures as JSON; made anew when those before are almost a period old.

        Args:
            services: Those that answer for the model.
        """
        async with self._making:
            made, content = self._made.get(services.name, (-PERIOD_S, b""))
            now = time.monotonic()
            if now - made >= 0.9 * PERIOD_S:
                content = await self._leaders(services) or await self._own(services)
                self._made[services.name] = now, content
            return content

    async def _leaders(self, services: Services) -> bytes | None:
        """The leader's figures; None if this worker leads or the leader does not answer."""
        if services.joint is None or services.joint.team.leads:
            return None
        with suppress(LinkLost):
            question = AskFigures(services.name)
            return (await services.joint.team.ask_leader(question, Figures, LEADERS_S)).content
        return None

    async def _own(self, services: Services) -> bytes:
        families: dict[str, Metric] | None = None
        if services.joint is not None:  # in a thread, since it waits for the other workers
            collected = await asyncio.to_thread(services.metrics.source.collect)
            families = {family.name: family for family in collected}
        return msgspec.json.encode(figures(services, self._started, families))

    async def _answer(self, question: AskFigures) -> Figures | None:
        """Answer another worker, if this one leads."""
        services = self._services
        leads = services.joint is not None and services.joint.team.leads
        return Figures(await self.content(services.of(question.model))) if leads else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one viewer until it goes, the worker is to end, or `LONGEST_S` have passed."""
        services = chosen(self._services, Request(scope).query_params.get(MODEL))
        if self.viewers >= MOST_VIEWERS:
            raise TooManyViewers(f"{MOST_VIEWERS} others watch already, which is the most.")
        self.viewers += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            async with asyncio.timeout(None) as patience:
                await self._stream(services, send, gone, patience)
        except TimeoutError:
            host, port = scope["client"] or ("", 0)  # pyright: ignore[reportGeneralTypeIssues]
            cut((host, int(port)))
        finally:
            self.viewers -= 1
            gone.cancel()

    async def _stream(
        self, services: Services, send: Send, gone: asyncio.Task[None], patience: asyncio.Timeout
    ) -> None:
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
        while not (gone.done() or self._services.shutdown.leaving or loop.time() > end):
            await sent(
                {
                    "type": "http.response.body",
                    "body": b"data: %b\n\n" % await self.content(services),
                    "more_body": True,
                }
            )
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
