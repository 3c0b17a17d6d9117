"""The process that supervises the worker: Granian, and an end that those who route to the service can follow."""

import contextlib
import multiprocessing
import os
import time
from typing import Any

from granian import Granian

from app.serving.shutdown import NOTICE


class DrainingServer(Granian):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A Granian that tells its workers some time before it stops them.

    Args:
        delay: Seconds in between, in which the workers answer, and say that they are not ready.
    """

    def __init__(self, *arguments: Any, delay: float, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._delay = delay

    def shutdown(self, exit_code: int = 0) -> None:
        """End the service."""
        workers = [worker.pid for worker in multiprocessing.active_children() if worker.pid is not None]
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, NOTICE)
        if workers:
            time.sleep(self._delay)
        super().shutdown(exit_code)
