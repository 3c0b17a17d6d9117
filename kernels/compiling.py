"""A log of compilations: a kernel that is not in the cache takes seconds to compile."""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener

log = logging.getLogger(__name__)


class _Compilations(Listener):
    """Counts compilations and logs the first. They nest, since a function is compiled with those that it calls."""

    def __init__(self) -> None:
        self.functions = 0
        self.seconds = 0.0
        self._nested = 0
        self._started = 0.0

    def on_start(self, event: Event) -> None:
        """Count a compilation that starts."""
        if self.functions == 0:
            log.info("compiling kernels, which are kept for later starts")
        self.functions += 1
        if self._nested == 0:
            self._started = time.perf_counter()
        self._nested += 1

    def on_end(self, event: Event) -> None:
        """Add the time of the outermost compilation that ends."""
        self._nested -= 1
        if self._nested == 0:
            self.seconds += time.perf_counter() - self._started


@contextmanager
def compiling_logged() -> Generator[None, None, None]:
    """Log the first compilation within the block, and at the end how many there were and how long they took."""
    compilations = _Compilations()
    try:
        with install_listener("numba:compile", compilations):
            yield
    finally:
        if compilations.functions:
            extra = {"functions": compilations.functions, "seconds": round(compilations.seconds, 1)}
            log.info("kernels compiled", extra=extra)
