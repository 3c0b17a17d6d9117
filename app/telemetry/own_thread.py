"""Work that may hang for good, in a thread of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_thread(work: Callable[[], T]) -> T:
    """Run work in a new daemon thread.

    Work that hangs, such as a call of a dead driver or a look at a network disk, takes no thread that others need, and
    does not hold up the end of the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():
            settle(outcome)

    def run() -> None:
        settle: Callable[[Any], None] = done.set_result
        try:
            outcome: Any = work()
        except BaseException as error:
            settle, outcome = done.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, settle, outcome)

    threading.Thread(target=run, name="own-thread", daemon=True).start()
    return await done
