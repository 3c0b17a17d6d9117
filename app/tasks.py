"""Supervision of background tasks: a task that crashes is logged, counted and restarted, with a growing delay."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal, Self

import msgspec

from app.telemetry.metrics import Metrics

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0

log = logging.getLogger(__name__)


class TaskStatus(msgspec.Struct):
    """State of one background task."""

    state: Literal["running", "waiting", "finished", "stopped"] = "running"
    restarts: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None


class BackgroundTasks:
    """Runs background tasks until its context is left.

    Args:
        metrics: Metrics of the service.
        sleep: Waits before a restart; a test passes its own.
    """

    def __init__(self, metrics: Metrics, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.status: dict[str, TaskStatus] = {}
        self._metrics = metrics
        self._sleep = sleep
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run()` now, and again after every crash, until it returns or the context is left."""
        self.status[name] = TaskStatus()
        self._metrics.task_restarts.labels(name)
        self._tasks.append(asyncio.create_task(self._supervise(name, run), name=name))

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        status = self.status[name]
        delay = FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            status.state = "running"
            started = loop.time()
            try:
                await run()
            except asyncio.CancelledError:
                status.state = "stopped"
                raise
            except Exception as error:
                if loop.time() - started > LONGEST_DELAY_S:
                    delay = FIRST_DELAY_S
                status.state = "waiting"
                status.restarts += 1
                status.last_error = type(error).__name__
                status.last_error_at = datetime.now(UTC)
                self._metrics.task_restarts.labels(name).inc()
                log.exception("background task crashed", extra={"task": name, "restart_in_s": delay})
                await self._sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_S)
            else:
                status.state = "finished"
                return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def crashed(tasks: BackgroundTasks) -> list[str]:
    """Sentences about the tasks that have crashed and wait for their restart."""
    return [
        f"background task {name} crashed and will be restarted"
        for name, task in tuple(tasks.status.items())
        if task.state == "waiting"
    ]
