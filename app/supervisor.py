"""The process that supervises the worker: Granian, with a shutdown that load balancers can follow."""

import contextlib
import os
import time
from typing import Any

from granian import Granian
from granian.constants import SSLProtocols

from app.serving.shutdown import NOTICE
from app.serving.tls import Credentials

POLL_SECONDS = 0.05


class DrainingServer(Granian):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A Granian that notifies its workers some time before it stops them.

    Args:
        delay: Seconds between notice and stop, in which the workers still answer but report that they are not ready.
    """

    def __init__(self, *arguments: Any, delay: float, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._delay = delay

    def serve_tls(self, credentials: Credentials) -> None:
        """Serve over TLS. Each worker reads what is given here, since Granian takes no key with a password.

        The key stays in memory: workers read it at an address of this process, where others of its user can too.
        """
        certificates, key = _in_memory(credentials.certificates), _in_memory(credentials.key)
        client_ca = None if credentials.client_ca is None else _in_memory(credentials.client_ca)
        # As Granian's own `build_ssl_context` sets it, which takes only files that have names.
        self.ssl_ctx = (True, certificates, key, None, str(SSLProtocols.tls12), client_ca, [], client_ca is not None)

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


def _in_memory(content: bytes) -> str:
    """Path of a file in memory, which is there as long as this process is."""
    file = os.memfd_create("tls")
    os.write(file, content)
    return f"/proc/{os.getpid()}/fd/{file}"
