"""The one thread that calls a GPU's driver."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class DeviceThread(Executor):
    """Runs work one after the other, in a thread that starts with the first of it and ends with the process.

    A thread needs the device's context to free memory of the device, and numba loses what a thread without one frees.
    `later` may be called from finalizers, which interrupt a thread anywhere: it takes no lock, unlike what the
    executors of the standard library do.

    Attributes:
        lost: Error that killed the device's context; None while it lives. No later context of the process works either.
    """

    def __init__(self) -> None:
        self.lost: str | None = None
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Run a function after all work that came before."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        with self._starting:
            if self._thread is None:
                # A daemon: a device that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="device", daemon=True)
                self._thread.start()
        self._work.put(work)
        return future

    def run(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run work and wait for it; at once, where this is the thread.

        Raises:
            TimeoutError: It took more seconds than given. It goes on.
            Exception: What the work raises.
        """
        if threading.current_thread() is self._thread:
            return work()
        return self.submit(work).result(timeout)

    def later(self, work: Callable[[], None]) -> None:
        """Run work that frees memory, without waiting for it. Until the thread has started there is none to free."""
        self._work.put(work)

    def _run(self) -> None:
        while True:
            try:
                self._work.get()()
            except Exception:
                log.exception("the device's memory cannot be freed")


DEVICE = DeviceThread()
