"""The process that supervises the worker: Granian, and an end that those who route to the service can follow."""

import contextlib
import os
import time
from typing import Any

from granian import Granian

from app.serving.shutdown import NOTICE

POLL_SECONDS = 0.05


class DrainingServer(Granian):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A Granian that tells its workers some time before it stops them.

    Args:
        delay: Seconds in between, in which the workers answer, and say that they are not ready.
    """

    def __init__(self, *arguments: Any, delay: float, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._delay = delay

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Note that the service is to end.

        Once: what notes it takes a lock, and a second signal while the first one's handler holds that would wait for
        ever, since both run in the main thread.
        """
        if not self.interrupt_signal:
            super().signal_handler_interrupt(*args, **kwargs)

    def shutdown(self, exit_code: int = 0) -> None:
        """End the service."""
        for worker in self.wrks:
            worker.interrupt_by_parent = True  # it may end from now on, and that is no failure
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.inner.pid, NOTICE)  # which is the end of one that does not listen yet
        end = time.monotonic() + self._delay
        while time.monotonic() < end and any(worker.is_alive() for worker in self.wrks):
            time.sleep(POLL_SECONDS)
        super().shutdown(exit_code)
