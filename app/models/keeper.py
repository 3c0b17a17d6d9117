"""Keeps the best model that the registry offers in service, from a background task: when to look, and in which turn."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec

from app.models.outcome import Refresh
from app.models.refresher import Refresher
from app.models.registry.source import ModelSource
from app.models.slot import ModelSlot

T = TypeVar("T")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

FAILURES = ("registry_unreachable", "registry_schema", "failed")
"""Outcomes of a look after which the next one comes sooner."""


class ModelKeeper:
    """Has a slot refreshed, in turns and in time.

    Args:
        slot: Holds the models in service.
        source: Where models come from.
        refresher: Looks, and swaps.
        ttl: Seconds between looks while all is well.
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        last_refresh: What came of the last look, or of the last version that was pinned.
    """

    def __init__(
        self,
        slot: ModelSlot,
        source: ModelSource,
        refresher: Refresher,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last_refresh: Refresh | None = None
        self._slot = slot
        self._source = source
        self._refresher = refresher
        self._ttl = ttl
        self._clock = clock
        self._next_look: float | None = None
        self._lock = asyncio.Lock()
        self._awaited: asyncio.Task[Refresh] | None = None
        self._orders: set[asyncio.Task[Refresh]] = set()
        # A thread of its own: loading a model must not hold one that predictions need.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model-keeper")

    async def run(self) -> None:
        """Serve the last known good, then refresh for ever.

        Looks come every `ttl` seconds while the registry answers and a model is in service, else sooner, with
        jittered backoff.
        """
        async with self._lock:
            await self._in_thread(self._refresher.start)
        delay = FIRST_RETRY_S
        while True:
            self._next_look = None
            refresh = await self.refresh()
            if self._slot.current is not None and refresh.outcome not in FAILURES:
                delay, pause = FIRST_RETRY_S, self._ttl
            else:
                pause = min(self._ttl, delay * random.uniform(0.8, 1.2))
                delay = min(2 * delay, LONGEST_RETRY_S)
            self._next_look = self._clock() + pause
            await asyncio.sleep(pause)

    async def refresh(self, *, retry_refused: bool = False) -> Refresh:
        """Look once, and swap if the registry offers another model that can be served. Looks never overlap.

        Args:
            retry_refused: Look again at versions that were refused before, instead of waiting for others.
        """
        async with self._lock:
            return await self._look(retry_refused=retry_refused)

    async def reload(self, version: str | msgspec.UnsetType | None = msgspec.UNSET) -> Refresh:
        """Do what an operator orders; it goes on when its caller is cancelled.

        Args:
            version: Serve this one from now on, whatever the registry prefers; or, for None, what it prefers again.
                Unset: look now, at refused versions too; those who order it while a look is under way share the one
                after it. A version that is refused is not pinned. While the registry is down, one that is kept on
                disk can be.
        """
        if version is not msgspec.UNSET:
            order = self._order(self._pin_to(version))
        elif (order := self._awaited) is None:
            order = self._awaited = self._order(self._reload())
        return await asyncio.shield(order)

    def next_look(self) -> float | None:
        """Seconds until the next planned look; None while it is under way."""
        return None if self._next_look is None else max(0.0, self._next_look - self._clock())

    def close(self) -> None:
        """Let go of the thread; what is under way is given up."""
        self._source.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _order(self, work: Coroutine[None, None, Refresh]) -> "asyncio.Task[Refresh]":
        task = asyncio.create_task(work, name="model-reload")
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return task

    async def _reload(self) -> Refresh:
        async with self._lock:
            self._awaited = None  # who asks from now on may have changed what this look no longer sees
            return await self._look(retry_refused=True)

    async def _pin_to(self, version: str | None) -> Refresh:
        async with self._lock:
            if version is None:
                self.last_refresh = await self._in_thread(self._refresher.unpin)
                return self.last_refresh
            refresh = await self._in_thread(partial(self._refresher.pin, version))
            if self._slot.pinned == version:  # an order that came to nothing leaves what is known of the last look
                self.last_refresh = refresh
            return refresh

    async def _look(self, *, retry_refused: bool) -> Refresh:
        self.last_refresh = await self._in_thread(partial(self._refresher.look, retry_refused=retry_refused))
        return self.last_refresh

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
