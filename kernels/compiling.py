"""A log of compilations: a kernel that is not in the cache takes seconds to compile."""

import gc
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
            gc.freeze()
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
    """Log the first compilation within the block, and at the end how many there were and how long they took.

    Numba makes and drops so many objects that the garbage collector searches all of the process again and again, for up
    to 0.8 s in which no thread answers. So what is there before is left out of its search from the first compilation
    on, and what is there at the end from then on (`gc.freeze`).
    """
    compilations = _Compilations()
    try:
        with install_listener("numba:compile", compilations):
            yield
    finally:
        if compilations.functions:
            gc.freeze()
            extra = {"functions": compilations.functions, "seconds": round(compilations.seconds, 1)}
            log.info("kernels compiled", extra=extra)
