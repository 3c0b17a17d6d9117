"""Background tasks: crashes are logged, counted and answered with a later restart."""

import asyncio
import logging

import pytest

from app.tasks import BackgroundTasks
from app.telemetry.metrics import Metrics


class Clock:
    """Records the delays asked for instead of waiting them out."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await asyncio.sleep(0)


async def test_a_crashing_task_is_restarted_with_backoff_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    metrics, clock = Metrics(), Clock()
    runs = 0
    done = asyncio.Event()

    async def crash() -> None:
        nonlocal runs
        runs += 1
        if runs > 9:
            done.set()
            await asyncio.Event().wait()
        raise RuntimeError("secret detail")

    with caplog.at_level(logging.ERROR):
        async with BackgroundTasks(metrics, clock.sleep) as tasks:
            tasks.start("poller", crash)
            await done.wait()
            status = tasks.status["poller"]
            assert (status.state, status.restarts, status.last_error) == ("running", 9, "RuntimeError")
            assert status.last_error_at is not None
    assert clock.delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert tasks.status["poller"].state == "stopped"
    assert metrics.registry.get_sample_value("background_task_restarts_total", {"task": "poller"}) == 9
    assert len([record for record in caplog.records if record.exc_info]) == 9


async def test_a_crash_does_not_affect_other_tasks() -> None:
    others = 0
    done = asyncio.Event()

    async def crash() -> None:
        raise RuntimeError

    async def work() -> None:
        nonlocal others
        while others < 5:
            others += 1
            await asyncio.sleep(0)
        done.set()

    async with BackgroundTasks(Metrics(), Clock().sleep) as tasks:
        tasks.start("bad", crash)
        tasks.start("good", work)
        await done.wait()
        await asyncio.sleep(0)
        assert tasks.status["good"].state == "finished"
        assert tasks.status["good"].restarts == 0


async def test_tasks_end_with_the_context() -> None:
    ended = False

    async def wait() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async with BackgroundTasks(Metrics()) as tasks:
        tasks.start("waiter", wait)
        await asyncio.sleep(0)
    assert ended
