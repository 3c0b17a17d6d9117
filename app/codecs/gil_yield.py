"""Pauses and turns by which working threads yield the GIL, so that the event loop is not held up.

CPython takes the GIL from a thread only every 5 ms, and not at all during a call into C. So long work is done in
pieces, with a pause after each millisecond. And threads that hold the GIL take turns: the event loop then waits for one
of them, and not for as many as there are.
"""

import threading
import time
from types import TracebackType

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


class GilTurns:
    """Turns of threads whose work holds the GIL: one of them works, and pauses first if it had to wait for its turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def __enter__(self) -> None:
        if not self._turn.acquire(blocking=False):
            self._turn.acquire()
            time.sleep(PAUSE_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._turn.release()
