"""Lets other threads have the interpreter while one works at length.

A thread that computes beside an event loop shares the interpreter's lock with it. CPython takes the lock away from a
thread only every 5 ms, and from a call into C not at all: work goes piece by piece, with a real pause now and then.
"""

import time

WORK_SECONDS = 1e-3
PAUSE_SECONDS = 5e-5
"""A sleep of no length gives the lock back before a waiting thread has woken up to take it."""


class GilYield:
    """Called after every piece of work, pauses once enough has been worked."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def __call__(self) -> None:
        """Pause, if it is time to."""
        if time.perf_counter() - self._since >= WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._since = time.perf_counter()
