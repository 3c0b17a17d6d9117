"""Orderly shutdown: first not ready, then no new connections, then the last answers.

The supervising process receives SIGTERM and notifies the worker. From then on the worker reports that it is not ready,
but still answers, since load balancers need a moment to notice. Each answer closes its connection, so that the next
request goes elsewhere: one sent as the server closes an idle connection would be lost. After SHUTDOWN_DELAY the server
stops listening, and requests in flight get SHUTDOWN_GRACE to end. A worker that is replaced ends likewise, but stays
ready, since the service is.
"""

import asyncio
import contextlib
import os
import signal

from app.telemetry.asgi_types import Message, Send

NOTICE = signal.SIGUSR1
"""Signal by which the supervising process notifies the worker that the service is about to end."""

REPLACED = signal.SIGUSR2
"""Signal by which it notifies a worker that another one takes its place."""

PARENT_INTERVAL_S = 1.0
"""Pause between two checks for the supervising process."""


class Shutdown:
    """Whether the worker is about to shut down.

    Attributes:
        announced: Whether the service is about to end.
        leaving: Whether this worker is, with the service or alone: answers close their connections, and streams end.
    """

    def __init__(self) -> None:
        self.announced = False
        self.leaving = False

    def listen(self) -> None:
        """Handle the notices from now on, while the event loop runs. Outside the main thread this does nothing."""
        with contextlib.suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(NOTICE, self.announce)
            asyncio.get_running_loop().add_signal_handler(REPLACED, self.leave)

    def announce(self) -> None:
        """Announce that the service is about to end."""
        self.announced = self.leaving = True

    def leave(self) -> None:
        """Announce that this worker is about to end, and the service goes on."""
        self.leaving = True


def closing(send: Send) -> Send:
    """`send` by which an answer closes its connection."""

    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return send_closing


async def watch_parent() -> None:
    """End the worker when its supervising process was killed; otherwise the port would stay occupied."""
    parent = os.getppid()
    while True:
        await asyncio.sleep(PARENT_INTERVAL_S)
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)
