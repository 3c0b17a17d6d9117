"""How late the event loop is: what every request waits for before anything is done for it."""

import asyncio

from app.telemetry.metrics import Metrics

INTERVAL_S = 0.02


async def watch_loop(metrics: Metrics) -> None:
    """Ask for a turn again and again, and record how much later than asked it comes, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
