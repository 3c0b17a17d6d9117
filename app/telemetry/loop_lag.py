"""Lag of the event loop, which every request waits for before any work is done for it."""

import asyncio

from app.telemetry.metrics import Metrics

INTERVAL_S = 0.02


async def watch_loop(metrics: Metrics) -> None:
    """Sleep again and again, and record how much too late each sleep ends, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
