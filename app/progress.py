"""Lines about a long command that goes on, where no terminal shows a bar."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

EVERY_S = 10.0
"""Seconds between the lines."""


@contextmanager
def told_every(seconds: float, tell: Callable[[], None]) -> Generator[None]:
    """Call `tell` every so many seconds, in a thread, until the context ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            tell()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
