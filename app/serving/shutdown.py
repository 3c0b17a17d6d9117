"""The end of the service, in order: not ready at once, then no new connection, then the last answer.

SIGTERM reaches the process that supervises the worker. It tells the worker, which from then on says that it is not
ready and answers all the same, for those who route to it need a moment to see that; after SHUTDOWN_DELAY the server
stops listening and the requests in flight get SHUTDOWN_GRACE.
"""

import asyncio
import contextlib
import os
import signal

NOTICE = signal.SIGUSR1


PARENT_INTERVAL_S = 1.0


class Shutdown:
    """What a worker knows of it.

    Attributes:
        announced: Whether the service is about to end.
    """

    def __init__(self) -> None:
        self.announced = False

    def listen(self) -> None:
        """Take the notice from now on, while the event loop turns. Only a process's main thread can."""
        with contextlib.suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(NOTICE, self.announce)

    def announce(self) -> None:
        """Note that the service is about to end."""
        self.announced = True


async def watch_parent() -> None:
    """End the worker when its supervisor was killed: nobody else would, and the port would stay taken."""
    parent = os.getppid()
    while True:
        await asyncio.sleep(PARENT_INTERVAL_S)
        if os.getppid() != parent:
            signal.raise_signal(signal.SIGTERM)
