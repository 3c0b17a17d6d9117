"""Pauses by which a working thread yields the GIL, so that the event loop is not held up.

CPython takes the GIL from a thread only every 5 ms, and not at all during a call into C. So long work is done in
pieces, with a pause after each millisecond.
"""

import time

WORK_SECONDS = 1e-3
PAUSE_SECONDS = 5e-5
"""Not 0: the thread would take the GIL again before a waiting one has woken up."""


class GilYield:
    """Pauses once a millisecond of work has passed; to be called after each piece of work."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def __call__(self) -> None:
        """Pause if a pause is due."""
        if time.perf_counter() - self._since >= WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._since = time.perf_counter()
