"""Work that may hang, in a thread of its own."""

import asyncio
import threading

import pytest

from app.telemetry.own_thread import in_own_thread
from tests.support import come_true


async def test_the_result_comes_back() -> None:
    assert await in_own_thread(threading.current_thread) is not threading.main_thread()


async def test_an_error_comes_back() -> None:
    def fail() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await in_own_thread(fail)


async def test_one_that_hangs_can_be_left_and_holds_nothing_up() -> None:
    began, released = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        released.wait()

    task = asyncio.create_task(in_own_thread(hang))
    await come_true(began.is_set)
    hanging = [thread for thread in threading.enumerate() if thread.name == "own-thread"]
    assert all(thread.daemon for thread in hanging)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    for thread in hanging:
        thread.join(60)
