"""A blocked event loop is seen in its lag."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.telemetry.loop_lag import INTERVAL_S, watch_loop
from app.telemetry.metrics import LAG_BUCKETS_S, Metrics
from tests.support import come_true

BLOCKED_S = 0.2


@pytest.fixture
async def watched() -> AsyncIterator[Metrics]:
    """Metrics of the loop that the test runs in."""
    metrics = Metrics()
    task = asyncio.create_task(watch_loop(metrics))
    yield metrics
    task.cancel()
    await asyncio.wait([task])


def lag(metrics: Metrics, part: str, **labels: str) -> float:
    value: Any = metrics.registry.get_sample_value(f"event_loop_lag_seconds_{part}", labels)
    return value


async def test_a_blocked_loop_is_seen(watched: Metrics) -> None:
    await come_true(lambda: lag(watched, "count") >= 1)
    before = lag(watched, "sum")
    await asyncio.sleep(0)
    time.sleep(BLOCKED_S)  # noqa: ASYNC251 - so that nobody else has a turn
    counted = lag(watched, "count")
    await come_true(lambda: lag(watched, "count") > counted)
    assert lag(watched, "sum") - before >= BLOCKED_S - INTERVAL_S
    least = max(bound for bound in LAG_BUCKETS_S if bound < BLOCKED_S - INTERVAL_S)
    assert lag(watched, "count") - lag(watched, "bucket", le=str(least)) >= 1


async def test_turns_are_asked_for_again_and_again(watched: Metrics) -> None:
    await come_true(lambda: lag(watched, "count") >= 3)
