"""Decides when the registry is asked: planned looks of a background task, and orders of an operator, one at a time.

The looks and orders of all models run in one thread. Planned ones wait for each other first, so that at most one of
them is in front of an order that does not run yet.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec

from app.models.refresh.outcome import Refresh, unloaded
from app.models.refresh.refresher import Refresher
from app.models.registry.source import ModelSource
from app.models.slot import ModelSlot

T = TypeVar("T")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

SOONER = 0.1
"""Largest share of the pause by which a planned look comes sooner, at random. Without it, services that start together
would ask the registry together for ever."""

FAILURES = ("registry_unreachable", "registry_schema", "place_unreachable", "failed")
"""Outcomes that are followed by a retry with backoff, sooner than a planned look."""


class Turns:
    """One thread for the looks and orders of all models, and whose turn it is."""

    def __init__(self) -> None:
        self._keepers: list[ModelKeeper] = []
        self._planned = asyncio.Lock()
        self._turn = asyncio.Lock()
        # Its own thread: loading a model must not occupy one that predictions need.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model-keeper")

    def add(self, keeper: "ModelKeeper") -> None:
        """Make the planned looks of a keeper go together with the others'."""
        self._keepers.append(keeper)

    @contextlib.asynccontextmanager
    async def planned(self) -> AsyncGenerator[None]:
        """The turn of a planned look, which comes after the orders that wait."""
        async with self._planned, self._turn:
            yield

    def ordered(self) -> asyncio.Lock:
        """The turn of an order."""
        return self._turn

    def take_along(self, first: "ModelKeeper", within: float) -> None:
        """Have other keepers look now that would do so soon: they share the process that asks the registry."""
        for keeper in self._keepers:
            if keeper is not first and (left := keeper.next_look()) is not None and left <= within:
                keeper.look_soon()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in the thread; for whose turn it is."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        """Release the thread, and begin nothing more in it."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class ModelKeeper:
    """Schedules the refresher of a model, whose looks and orders run one after the other in a thread.

    Args:
        slot: Models in service.
        source: The registry.
        refresher: Looks into the registry, and swaps models.
        ttl: Most seconds between looks while all is well.
        clock: Monotonic seconds; a test passes its own.
        turns: The thread, which other models' keepers may share.

    Attributes:
        last_refresh: Outcome of the last look, or of the last order to pin a version.
        spread: Awaited before an order is answered, so that other workers serve its outcome; may add to it.
    """

    def __init__(
        self,
        slot: ModelSlot,
        source: ModelSource,
        refresher: Refresher,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
        turns: Turns | None = None,
    ) -> None:
        self.last_refresh: Refresh | None = None
        self.spread: Callable[[Refresh], Awaitable[Refresh]] | None = None
        self._slot = slot
        self._source = source
        self._refresher = refresher
        self._ttl = ttl
        self._clock = clock
        self._next_look: float | None = None
        self._turns = turns or Turns()
        self._turns.add(self)
        self._wanted = asyncio.Event()
        self._awaited: asyncio.Task[Refresh] | None = None
        self._orders: set[asyncio.Task[Refresh]] = set()

    async def run(self) -> None:
        """Serve the last known good model, then refresh for ever.

        A look follows every `ttl` seconds, or up to a tenth sooner, while the registry answers and a model is in
        service, otherwise sooner still, with jittered backoff.
        """
        async with self._turns.planned():
            await self._turns.in_thread(self._refresher.start)
        delay = FIRST_RETRY_S
        while True:
            self._next_look = None
            refresh = await self.refresh()
            if self._slot.current is not None and refresh.outcome not in FAILURES:
                delay, pause = FIRST_RETRY_S, self._ttl * random.uniform(1 - SOONER, 1.0)
            else:
                pause = min(self._ttl, delay * random.uniform(0.8, 1.2))
                delay = min(2 * delay, LONGEST_RETRY_S)
            self._next_look = self._clock() + pause
            try:
                await asyncio.wait_for(self._wanted.wait(), pause)
            except TimeoutError:
                self._turns.take_along(self, SOONER * self._ttl)
            self._wanted.clear()  # a wish during the next look is for one after it

    async def refresh(self, *, retry_refused: bool = False) -> Refresh:
        """Look once, and swap if the registry prefers another model that can be served. Looks never overlap.

        Args:
            retry_refused: Fetch versions again that were refused before.
        """
        async with self._turns.planned():
            return await self._look(retry_refused=retry_refused)

    def look_soon(self) -> None:
        """Have the next planned look at once, or after the look under way."""
        self._wanted.set()

    async def reload(self, version: str | msgspec.UnsetType | None = msgspec.UNSET) -> Refresh:
        """Carry out an order of an operator, which continues if its caller is cancelled.

        Args:
            version: Version to pin, whatever the registry prefers; None to unpin; unset to look now, at refused
                versions too. A refused version is not pinned. While the registry is down, a version stored on disk
                can be pinned. All orders to look that arrive during a look share the next one.
        """
        if version is not msgspec.UNSET:
            order = self._order(self._pin_to(version))
        elif (order := self._awaited) is None:
            order = self._awaited = self._order(self._reload())
        return await self._spread(await asyncio.shield(order))

    async def load(self) -> Refresh:
        """Serve the model again and look now: an order that continues if its caller is cancelled."""
        self._slot.unloaded = False
        return await self.reload()

    async def unload(self) -> Refresh:
        """Serve the model no more until `load` or a start of the service; the same kind of order."""
        return await self._spread(await asyncio.shield(self._order(self._unload())))

    def next_look(self) -> float | None:
        """Seconds until the next planned look; None during a look."""
        return None if self._next_look is None else max(0.0, self._next_look - self._clock())

    def close(self) -> None:
        """Release the thread, and abandon a look or order under way."""
        self._source.close()
        self._turns.close()

    async def _spread(self, refresh: Refresh) -> Refresh:
        return refresh if self.spread is None else await self.spread(refresh)

    def _order(self, work: Coroutine[None, None, Refresh]) -> "asyncio.Task[Refresh]":
        task = asyncio.create_task(work, name="model-reload")
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return task

    async def _reload(self) -> Refresh:
        async with self._turns.ordered():
            self._awaited = None  # a later order may follow a change that this look no longer sees
            return await self._look(retry_refused=True)

    async def _pin_to(self, version: str | None) -> Refresh:
        async with self._turns.ordered():
            if self._slot.unloaded:
                return unloaded(version)
            work = self._refresher.unpin if version is None else partial(self._refresher.pin, version)
            refresh = await self._turns.in_thread(work)
            if self._slot.pinned == version:  # a failed order does not replace the outcome of the last look
                self.last_refresh = refresh
            return refresh

    async def _unload(self) -> Refresh:
        async with self._turns.ordered():
            self._slot.unloaded = True
            self.last_refresh = await self._turns.in_thread(self._refresher.unload)
            return self.last_refresh

    async def _look(self, *, retry_refused: bool) -> Refresh:
        if self._slot.unloaded:
            return unloaded()
        look = partial(self._refresher.look, retry_refused=retry_refused)
        self.last_refresh = await self._turns.in_thread(look)
        return self.last_refresh
