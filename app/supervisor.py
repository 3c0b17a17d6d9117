"""The process that supervises the worker: Granian, with a shutdown that load balancers can follow."""

import contextlib
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import SSLProtocols

from app.config.settings import Settings, SettingsError
from app.serving.shutdown import NOTICE, REPLACED
from app.serving.tls import BadTls, Credentials, read_credentials
from app.workers.place import VARIABLE, forget_ready, ready_file

if TYPE_CHECKING:
    from app.main import Application

POLL_SECONDS = 0.05
STDERR = 2

READY_S = 300.0
"""Time for a worker to be ready in the place of another one. Many models take a minute or more on a busy machine."""

log = logging.getLogger(__name__)


class DrainingServer(Granian):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A Granian that notifies its workers some time before it stops them, for SHUTDOWN_DELAY.

    Workers that are started later get the settings that were read at first, whatever has become of the files with
    secrets: else two workers could want different keys. SIGHUP has the files read anew, and then all workers replaced.

    Args:
        settings: Settings of the service.
    """

    def __init__(self, *arguments: Any, settings: Settings, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._settings = settings
        self._on_terminal = os.isatty(STDERR)
        self._waking = False
        self._in_memory: list[int] = []

    def serve_tls(self, credentials: Credentials) -> None:
        """Serve over TLS. Each worker reads what is given here, since Granian takes no key with a password.

        The key stays in memory: workers read it at an address of this process, where others of its user can too.
        """
        certificates, key = self._kept(credentials.certificates), self._kept(credentials.key)
        client_ca = None if credentials.client_ca is None else self._kept(credentials.client_ca)
        # As Granian's own `build_ssl_context` sets it, which takes only files that have names.
        self.ssl_ctx = (True, certificates, key, None, str(SSLProtocols.tls12), client_ca, [], client_ca is not None)

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Handle a signal to end the service."""
        self.interrupt_signal = True
        self._wake()

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """Handle SIGHUP, which also comes when the terminal is closed in which the service was started."""
        if self._on_terminal and not os.isatty(STDERR):
            self.interrupt_signal = True
        self.reload_signal = True
        self._wake()

    def _wake(self) -> None:
        """Have the main thread look at the signals.

        This takes a lock. A second signal during the first one's handler would wait for that lock forever, since both
        run in the main thread.
        """
        if not self._waking:
            self._waking = True
            self.main_loop_interrupt.set()
            self._waking = False

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> Any:
        return super()._spawn_worker(idx, target, partial(_application, self._settings))

    def _reload(self, spawn_target: Any, target_loader: Any) -> None:
        self.reload_signal = False
        self._renew(spawn_target)
        self.main_loop_interrupt.clear()
        if self.interrupt_signal or self.interrupt_children or self.reload_signal:  # what came meanwhile
            self.main_loop_interrupt.set()

    def _renew(self, spawn_target: Any) -> None:
        """Read the files of TLS and of secrets anew, and replace the workers, one after the other."""
        if self.workers == 1:
            log.warning("SIGHUP is ignored: without a second worker nobody answers while one is replaced")
            return
        try:
            settings = Settings.from_environ(os.environ)
            credentials = read_credentials(settings)
        except (SettingsError, BadTls) as error:
            log.error("SIGHUP is ignored: some files cannot be read anew", extra={"problems": str(error)})
            return
        self._settings, before = settings, self._in_memory
        if credentials is not None:
            self._in_memory = []
            self.serve_tls(credentials)
        if all(self._replace(idx, spawn_target) for idx in range(self.workers)):
            log.info("all workers were replaced")
        if credentials is not None:
            for file in before:
                os.close(file)

    def _replace(self, idx: int, spawn_target: Any) -> bool:
        """Start a worker, and end the one in whose place it is once it is ready; whether it was."""
        old, new = self.wrks[idx], self._spawn_worker(idx, spawn_target, None)
        new.interrupt_by_parent = True  # until it is ready, its end is no failure of the service
        self.wrks.append(new)  # to be ended with the others
        place = Path(os.environ[VARIABLE])
        forget_ready(place)  # the new process may get the number of one that has ended
        new.start()
        ready = ready_file(place, new.inner.pid)
        self._wait_or_end(lambda: ready.exists() or not new.is_alive(), READY_S)
        if self.interrupt_signal:
            return False
        if not ready.exists() or not new.is_alive():
            log.error("a new worker is not ready, and the old ones stay; to try again, send SIGHUP")
            self._end(new)
            return False
        self.wrks[idx] = new
        self.wrks[-1] = old
        new.interrupt_by_parent = False
        self._notify(old, REPLACED)
        with contextlib.suppress(ValueError):
            self.interrupt_children.remove(idx)  # if it has failed meanwhile: its place is taken
        self._wait_or_end(lambda: not old.is_alive(), self._settings.shutdown_delay)
        old.terminate()
        self._wait_or_end(lambda: not old.is_alive(), self._settings.shutdown_grace)
        if not self.interrupt_signal:
            self._end(old)
        return not self.interrupt_signal

    def _wait_or_end(self, happened: Callable[[], bool], seconds: float) -> None:
        """Wait until something has happened, the time is over, or the service is to end."""
        _wait(lambda: self.interrupt_signal or happened(), seconds)

    def _notify(self, worker: Any, notice: int) -> None:
        """Tell a worker that it is about to end, which is no failure from now on."""
        worker.interrupt_by_parent = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.inner.pid, notice)  # ends a worker that does not handle it yet

    def _end(self, worker: Any) -> None:
        worker.kill()
        worker.join()
        self.wrks.remove(worker)

    def _kept(self, content: bytes) -> str:
        """Path of a file in memory, which is there as long as this process is, or until it is closed."""
        file = os.memfd_create("tls")
        os.write(file, content)
        self._in_memory.append(file)
        return f"/proc/{os.getpid()}/fd/{file}"

    def shutdown(self, exit_code: int = 0) -> None:
        """End the service."""
        for worker in self.wrks:
            self._notify(worker, NOTICE)
        _wait(lambda: not any(worker.is_alive() for worker in self.wrks), self._settings.shutdown_delay)
        if self.interrupt_signal:
            self.interrupt_children.clear()  # a worker that was told as well, as by Ctrl-C, may have ended first
        super().shutdown(exit_code)


def _wait(happened: Callable[[], bool], seconds: float) -> None:
    """Wait until something has happened, or the time is over."""
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


def _application(settings: Settings) -> "Application":
    """The application of a worker, in whose process it is imported."""
    from app.main import serve_app

    return serve_app(settings)
