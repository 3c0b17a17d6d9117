"""Lets other threads have the interpreter while one works at length.

A thread that computes beside an event loop shares the interpreter's lock with it. CPython takes the lock away from a
thread only every 5 ms, and from a call into C not at all: work goes piece by piece, with a real pause now and then.
"""

import time

WORK_SECONDS = 1e-3
PAUSE_SECONDS = 5e-5
"""A sleep of no length gives the lock back before a waiting thread has woken up to take it."""


class Pace:
    """Called after every piece of work, pauses once enough has been worked.

    Args:
        work: Seconds of work.
        pause: Seconds of each pause. The default lets one waiting thread have its turn; a long one leaves most of the
            processor to others.
    """

    def __init__(self, work: float = WORK_SECONDS, pause: float = PAUSE_SECONDS) -> None:
        self._work = work
        self._pause = pause
        self._since = time.perf_counter()

    def __call__(self) -> None:
        """Pause, if it is time to."""
        if time.perf_counter() - self._since >= self._work:
            time.sleep(self._pause)
            self._since = time.perf_counter()
