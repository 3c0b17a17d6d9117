"""The process that supervises the worker: Granian, with a shutdown that load balancers can follow."""

import contextlib
import os
import time
from typing import Any

from granian import Granian

from app.serving.shutdown import NOTICE

POLL_SECONDS = 0.05


class DrainingServer(Granian):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A Granian that notifies its workers some time before it stops them.

    Args:
        delay: Seconds between notice and stop, in which the workers still answer but report that they are not ready.
    """

    def __init__(self, *arguments: Any, delay: float, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._delay = delay

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Handle the first signal to end the service, and ignore the others.

        Granian's handler takes a lock. A second signal during the first one's handler would wait for that lock forever,
        since both run in the main thread.
        """
        if not self.interrupt_signal:
            super().signal_handler_interrupt(*args, **kwargs)

    def shutdown(self, exit_code: int = 0) -> None:
        """End the service."""
        for worker in self.wrks:
            worker.interrupt_by_parent = True  # from now on its end is no failure
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.inner.pid, NOTICE)  # ends a worker that does not handle it yet
        end = time.monotonic() + self._delay
        while time.monotonic() < end and any(worker.is_alive() for worker in self.wrks):
            time.sleep(POLL_SECONDS)
        super().shutdown(exit_code)
